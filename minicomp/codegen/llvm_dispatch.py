"""`CompiledModule.__call__` in LLVM IR: tries the entry points of a module's specializations.

In: nothing; it is the same for all modules. Out: the text of a METH_FASTCALL | METH_KEYWORDS
function, which has the compiled module as its first argument:

    PyObject *dispatch(PyObject *, PyObject **args, Py_ssize_t count, PyObject *names)

    keyword arguments?  within a trace?                     the way through Python
    for each of the module's fast calls:
      result = fast_call(*args[1:]);  result is not None?   return it
    otherwise                                               the way through Python

What it does is `CompiledModule._call_in_python`, to which it leaves the rest; a frame of the Python
interpreter for these few lines would take longer than a small kernel does.
"""

from __future__ import annotations

from llvmlite import ir

from minicomp.codegen.llvm_control import for_range
from minicomp.codegen.llvm_objects import ITEMS, LENGTH, ObjectFunction, literal_null
from minicomp.codegen.llvm_types import i32, i64, literal, pointer

vectorcall_type = ir.FunctionType(pointer, [pointer, pointer, i64, pointer])


def emit_dispatch() -> str:
    """The function's module. It refers to the objects `call_in_python` (what else to call),
    `fast_calls` (the name of the module's attribute), `recorder` (the context variable that is
    None outside traces) and `none`."""
    return _Dispatch().text()


class _Dispatch(ObjectFunction):
    def __init__(self) -> None:
        parameters = {"self": pointer, "args": pointer, "count": i64, "names": pointer}
        super().__init__("dispatch", parameters)
        self.slow = ir.Block(self.function, name="through_python")

    def text(self) -> str:
        builder = self.builder
        _, args, _, names = self.function.args
        self.require(self.same(names, literal_null()), self.slow)
        self.require(self._is_outside_traces(), self.slow)
        lookup = ir.FunctionType(pointer, [pointer, pointer])
        module = self.load_slot(args, 0, pointer)
        calls = self.call("PyObject_GenericGetAttr", lookup, module, self.symbol("fast_calls"))
        with builder.if_then(self.same(calls, literal_null()), likely=False):
            builder.ret(literal_null())  # the exception is set
        length = self.field(calls, LENGTH, i64, "length")
        for_range(builder, 0, length, 1, "position", lambda position: self._try(calls, position))
        self.call("Py_DecRef", self.on_object, calls)
        builder.branch(self.slow)
        self._through_python()
        return str(self.module)

    def _is_outside_traces(self) -> ir.Value:
        """The context variable's value, which belongs to this thread or task, is None."""
        builder = self.builder
        place = builder.alloca(pointer, name="recorder_now")
        place.type = pointer
        kind = ir.FunctionType(i32, [pointer, pointer, pointer])
        operands = (self.symbol("recorder"), literal_null(), place)
        failed = self.call("PyContextVar_Get", kind, *operands)
        with builder.if_then(builder.icmp_signed("<", failed, literal(i32, 0)), likely=False):
            builder.ret(literal_null())  # the exception is set
        recorder = builder.load(place, typ=pointer)
        self.call("Py_DecRef", self.on_object, recorder)  # what it belongs to holds on to it
        return self.same(recorder, self.symbol("none"))

    def _try(self, calls: ir.Value, position: ir.Value) -> None:
        """Call one of the fast calls; return what it gives, unless that is None."""
        builder = self.builder
        _, args, count, _ = self.function.args
        item = builder.gep(calls, [literal(i64, ITEMS // 8)], source_etype=pointer)
        item = builder.load(builder.gep(item, [position], source_etype=pointer), typ=pointer)
        rest = self.slot(args, 1)
        others = builder.sub(count, literal(i64, 1))
        operands = (item, rest, others, literal_null())
        result = self.call("PyObject_Vectorcall", vectorcall_type, *operands)
        with builder.if_then(builder.not_(self.same(result, self.symbol("none")))):
            self.call("Py_DecRef", self.on_object, calls)
            builder.ret(result)  # an array, or null with the exception set
        self.call("Py_DecRef", self.on_object, result)

    def _through_python(self) -> None:
        self.function.blocks.append(self.slow)
        self.builder.position_at_end(self.slow)
        _, args, count, names = self.function.args
        operands = (self.symbol("call_in_python"), args, count, names)
        self.builder.ret(self.call("PyObject_Vectorcall", vectorcall_type, *operands))
