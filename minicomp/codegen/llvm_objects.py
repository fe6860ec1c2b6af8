"""A function on Python objects under construction, as LLVM IR.

In: the name and parameters of a C function that Python calls. Out: its module, and the few things
that such functions do: read a field of an object, call a function of Python's, refer to something
by a name that linking fills in.

    function = ObjectFunction("entry", {"self": pointer, "args": pointer, "count": i64})
    function.field(array, 16, pointer)        # what lies 16 bytes behind the object's beginning

The offsets into objects are those of CPython's `PyObject` and `PyVarObject` on a 64-bit machine.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from minicomp.codegen.llvm_types import i8, i32, i64, literal, pointer, void

#: Byte offsets: an object's type; a tuple's length and its first item.
TYPE, LENGTH, ITEMS = 8, 16, 24


class ObjectFunction:
    """A module with one function, which gives an object; `builder` stands at its beginning."""

    on_object = ir.FunctionType(void, [pointer])

    def __init__(self, name: str, parameters: dict[str, ir.Type]):
        self.module = ir.Module(name=name, context=ir.Context())
        kind = ir.FunctionType(pointer, list(parameters.values()))
        self.function = ir.Function(self.module, kind, name)
        for argument, argument_name in zip(self.function.args, parameters):
            argument.name = argument_name
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))

    def symbol(self, name: str) -> ir.Value:
        """The address of something outside, which linking fills in."""
        found = self.module.globals.get(name)
        if found is None:
            found = ir.GlobalVariable(self.module, i64, name)
            found.linkage = "external"
            found.type = pointer
        return found

    def slot(self, array: ir.Value, position: int) -> ir.Value:
        """Where word number `position` of an array is."""
        return self.builder.gep(array, [literal(i64, position)], source_etype=pointer)

    def load_slot(self, array: ir.Value, position: int, kind: ir.Type) -> ir.Value:
        return self.builder.load(self.slot(array, position), typ=kind)

    def field(self, thing: ir.Value, offset: int, kind: ir.Type, name: str = "") -> ir.Value:
        """What lies `offset` bytes behind the beginning of an object."""
        place = self.builder.gep(thing, [literal(i64, offset)], source_etype=i8)
        return self.builder.load(place, typ=kind, name=name)

    def same(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.icmp_unsigned("==", a, b)

    def call(self, name: str, kind: ir.FunctionType, *operands: ir.Value) -> ir.Value:
        """Call a function from outside."""
        function = self.module.globals.get(name)
        if function is None:
            function = ir.Function(self.module, kind, name)
        return self.builder.call(function, operands)

    def require(self, condition: ir.Value, otherwise: ir.Block) -> None:
        """Go on only where the condition holds."""
        following = self.builder.append_basic_block("checked")
        self.builder.cbranch(condition, following, otherwise)
        self.builder.position_at_end(following)

    def results(self, outputs: Sequence[ir.Value]) -> ir.Value:
        """What a call gives: the only output itself, or a tuple of them."""
        if len(outputs) == 1:
            return outputs[0]
        new = ir.FunctionType(pointer, [i64])
        result = self.call("PyTuple_New", new, literal(i64, len(outputs)))
        fill = ir.FunctionType(i32, [pointer, i64, pointer])
        for position, output in enumerate(outputs):
            self.call("PyTuple_SetItem", fill, result, literal(i64, position), output)
        return result


def literal_null() -> ir.Constant:
    """The null pointer."""
    return ir.Constant(pointer, None)
