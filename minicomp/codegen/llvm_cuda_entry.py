"""The native entry point of a program on CUDA: called by Python, written in LLVM IR.

In: a `CudaEntryPlan`: which arrays a call brings, what is launched, what comes out. Out: the text
of `PyObject *entry(PyObject *self, PyObject **args, Py_ssize_t n)`, a METH_FASTCALL function that
looks at the arguments and calls cuLaunchKernel.

    which stream is in use, and for which epoch is this armed?
    for each argument:
      an array of the driver's own?                                     no: ask `address0(array)`
      of this shape, these strides, this dtype?                         no: return None
    new arrays for the outputs, and one for temporaries: `maker0(stream)`
    arguments and parameters in order on the stream in use?             no: `order(arguments)`
    is the epoch still the one that parameters were looked at in?       no: return None
    cuLaunchKernel(function0, ...)                                      refused: call `other`

`other` is a function of Python's that does the same and says what is wrong. None means that the
call has to take the slow way. Arrays are asked by Python's C API alone, so that how pycuda keeps
its attributes is pycuda's affair.

Where Python runs (`address0`, `order`, makers; in the simulator launches too), anything may
happen: the stream is left, a parameter is changed, this code is entered again. So the stream, the
new arrays and the parameters' memory are held on to, and each way out lets go of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from minicomp.codegen.llvm_dispatch import vectorcall_type
from minicomp.codegen.llvm_objects import TYPE, ObjectFunction, literal_null
from minicomp.codegen.llvm_types import i32, i64, literal, pointer, void

#: Slots of the context, the entry point's own memory (int64 each); addresses of parameters follow.
#: ALWAYS_ORDER says that some parameter is not in order on the default stream either; MEMORY is
#: the object that keeps parameters' memory.
EPOCH, OTHER, ORDER, ALWAYS_ORDER, MEMORY, FIRST_PARAMETER = 0, 1, 2, 3, 4, 5
EQUAL = 2  # Py_EQ

get_attribute = ir.FunctionType(pointer, [pointer, pointer])
call_with_one = ir.FunctionType(pointer, [pointer, pointer])
launch_type = ir.FunctionType(i32, [pointer, *[i32] * 7, *[pointer] * 3])


@dataclass(frozen=True)
class EntryInput:
    """An argument: the buffer that it is, and bits of its address: `address & mask == bits`."""

    buffer: int
    mask: int
    bits: int


@dataclass(frozen=True)
class EntryLaunch:
    """A kernel: the buffers that its arguments point to, and the shape of its launch."""

    buffers: tuple[int, ...]
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_bytes: int


@dataclass(frozen=True)
class CudaEntryPlan:
    """What the entry point does. `buffers` counts them, the rest are buffers' numbers; those of
    `parameters` have their addresses in the context, those of `arena` are pairs with offsets."""

    buffers: int
    inputs: tuple[EntryInput, ...]
    parameters: tuple[int, ...]
    outputs: tuple[int, ...]
    arena: tuple[tuple[int, int], ...]
    launches: tuple[EntryLaunch, ...]

    @property
    def slots(self) -> int:
        """How many int64 the context has."""
        return FIRST_PARAMETER + len(self.parameters)


def emit_cuda_entry(plan: CudaEntryPlan) -> str:
    """The text of the entry point's module.

    It refers to the objects `own_type` and `memory_type` (the driver's arrays, the pool's
    addresses), `stream_variable` and `default_stream`, `launched` (told of each launch), `none`;
    by number to `shape0`, `strides0`, `dtype0` and `address0` of inputs, `maker0` of outputs,
    `function0` (the handle) and `kernel0` (the description) of launches; and to `maker_arena`.
    """
    return _CudaEntry(plan).text()


class _CudaEntry(ObjectFunction):
    def __init__(self, plan: CudaEntryPlan):
        super().__init__("entry", {"self": pointer, "args": pointer, "count": i64})
        self.plan = plan
        self.table = self._array(plan.buffers, "table")
        self.must_order = self._array(1, "must_order")
        most = max((len(launch.buffers) for launch in plan.launches), default=0)
        self.pointers = self._array(most, "pointers")
        self.miss = ir.Block(self.function, name="miss")  # all but the stream has been let go of
        self.other = ir.Block(self.function, name="other_way")

    def _array(self, length: int, name: str) -> ir.Value:
        """Words on the stack."""
        array = self.builder.alloca(ir.ArrayType(i64, max(length, 1)), name=name)
        array.type = pointer
        return array

    def text(self) -> str:
        builder, plan = self.builder, self.plan
        _, args, count = self.function.args
        self.stream = self._stream_in_use()
        self.require(builder.icmp_signed("==", count, literal(i64, len(plan.inputs))), self.miss)
        # Python may run below, and parameters be looked at anew: that has another epoch.
        self.epoch = self._context(EPOCH, i64)
        self._find_out_whether_to_order()
        for position, wanted in enumerate(plan.inputs):
            builder.comment(f"argument {position}")
            self._accept(position, wanted, self.load_slot(args, position, pointer))
        made = self._make_arrays()
        self._order(made)
        self._fetch_parameters(made)
        self._launch(made)
        outputs, temporary = made[: len(plan.outputs)], made[len(plan.outputs) :]
        self._drop([*temporary, self.stream])
        builder.ret(self.results(outputs))
        self._finish_miss()
        self._finish_other()
        return str(self.module)

    def _stream_in_use(self) -> ir.Value:
        """The handle object: a reference, as Python that runs meanwhile may use another stream."""
        builder = self.builder
        place = self._array(1, "stream_now")
        kind = ir.FunctionType(i32, [pointer, pointer, pointer])
        variable = self.symbol("stream_variable")
        failed = self.call("PyContextVar_Get", kind, variable, literal_null(), place)
        with builder.if_then(builder.icmp_signed("<", failed, literal(i32, 0)), likely=False):
            builder.ret(literal_null())  # the exception is set
        return builder.load(place, typ=pointer, name="stream")

    # --- arguments ---

    def _accept(self, position: int, wanted: EntryInput, array: ir.Value) -> None:
        """Check one array object, and put its address into the table."""
        builder = self.builder
        foreign, accepted = (
            builder.append_basic_block(f"{name}_{position}") for name in ("foreign", "accepted")
        )
        self.require(self._is_a(array, "own_type"), foreign)
        memory = self._attribute(array, "gpudata")
        within = self._is_a(memory, "memory_type")
        self.call("Py_DecRef", self.on_object, memory)  # the array holds on to it
        self.require(within, foreign)  # a view
        self._number_into(self.slot(self.table, wanted.buffer), memory)
        in_order = self._attribute_equals(memory, "stream", self.stream)
        with builder.if_then(builder.not_(in_order)):
            builder.store(literal(i64, 1), self.must_order)
        for name in ("shape", "strides", "dtype"):
            expected = self.symbol(f"{name}{position}")
            self.require(self._attribute_equals(array, name, expected), self.miss)
        address = self.load_slot(self.table, wanted.buffer, i64)
        bits = builder.and_(address, literal(i64, wanted.mask))
        aligned = builder.icmp_signed("==", bits, literal(i64, wanted.bits))
        builder.cbranch(aligned, accepted, self.miss)
        builder.position_at_end(foreign)
        self._ask_for_address(position, wanted, array)
        builder.branch(accepted)
        builder.position_at_end(accepted)

    def _is_a(self, thing: ir.Value, type_name: str) -> ir.Value:
        return self.same(self.field(thing, TYPE, pointer), self.symbol(type_name))

    def _attribute(self, thing: ir.Value, name: str) -> ir.Value:
        """A new reference to an attribute; a miss where there is none."""
        value = self.call("PyObject_GetAttr", get_attribute, thing, self.symbol(f"name_{name}"))
        self.require(self.builder.not_(self.same(value, literal_null())), self.miss)
        return value

    def _attribute_equals(self, thing: ir.Value, name: str, expected: ir.Value) -> ir.Value:
        kind = ir.FunctionType(i32, [pointer, pointer, i32])
        value = self._attribute(thing, name)
        equal = self.call("PyObject_RichCompareBool", kind, value, expected, literal(i32, EQUAL))
        self.call("Py_DecRef", self.on_object, value)
        return self.builder.icmp_signed("==", equal, literal(i32, 1))

    def _number_into(self, place: ir.Value, number: ir.Value) -> None:
        """Store the value of an int."""
        kind = ir.FunctionType(i64, [pointer])
        self.builder.store(self.call("PyLong_AsUnsignedLongLong", kind, number), place)

    def _ask_for_address(self, position: int, wanted: EntryInput, array: ir.Value) -> None:
        """Let Python look at the array: the address, or None."""
        ask = self.symbol(f"address{position}")
        address = self.call("PyObject_CallOneArg", call_with_one, ask, array)
        self._return_on_exception(address, [])
        # Of None this makes -1 and an exception, which the way of a miss clears.
        self._number_into(self.slot(self.table, wanted.buffer), address)
        is_none = self.same(address, self.symbol("none"))
        self.call("Py_DecRef", self.on_object, address)
        self.require(self.builder.not_(is_none), self.miss)

    # --- the work ---

    def _make_arrays(self) -> list[ir.Value]:
        """New arrays: the outputs and, if there are temporaries, one for them."""
        builder, made = self.builder, list[ir.Value]()
        makers = [*map(str, range(len(self.plan.outputs))), *["_arena"] * bool(self.plan.arena)]
        for name in makers:
            builder.comment(f"memory: {name}")
            maker = self.symbol(f"maker{name}")
            array = self.call("PyObject_CallOneArg", call_with_one, maker, self.stream)
            self._return_on_exception(array, made)
            made.append(array)
        for array, buffer in zip(made, self.plan.outputs):
            self._store_memory(array, buffer)
        if self.plan.arena:
            first, _ = self.plan.arena[0]
            self._store_memory(made[-1], first)
            start = self.load_slot(self.table, first, i64)
            for number, offset in self.plan.arena:
                place = builder.add(start, literal(i64, offset))
                builder.store(place, self.slot(self.table, number))
        return made

    def _store_memory(self, array: ir.Value, buffer: int) -> None:
        """The address of an array of the driver's own, which has one."""
        name = self.symbol("name_gpudata")
        memory = self.call("PyObject_GetAttr", get_attribute, array, name)
        self._number_into(self.slot(self.table, buffer), memory)
        self.call("Py_DecRef", self.on_object, memory)

    def _find_out_whether_to_order(self) -> None:
        """Whether the stream in use has to wait for parameters; arguments are still to come."""
        builder = self.builder
        is_other = builder.not_(self.same(self.stream, self.symbol("default_stream")))
        always = self._context(ALWAYS_ORDER, i64)
        builder.store(builder.or_(builder.zext(is_other, i64), always), self.must_order)

    def _order(self, made: Sequence[ir.Value]) -> None:
        """The stream in use waits for those that arguments and parameters were written on."""
        builder = self.builder
        _, args, count = self.function.args
        must = builder.icmp_signed("!=", builder.load(self.must_order, typ=i64), literal(i64, 0))
        with builder.if_then(must):
            operands = (self._context(ORDER, pointer), args, count, literal_null())
            done = self.call("PyObject_Vectorcall", vectorcall_type, *operands)
            self._return_on_exception(done, made)
            self.call("Py_DecRef", self.on_object, done)

    def _fetch_parameters(self, made: list[ir.Value]) -> None:
        """Parameters' addresses, and a reference to what keeps their memory: the simulator's
        launches run Python, in which somebody may give a parameter another array."""
        builder = self.builder
        builder.comment("has any module or parameter changed?")
        now = builder.load(self.symbol("epoch"), typ=i64)
        moved = builder.icmp_signed("!=", now, self.epoch)
        rearmed = builder.icmp_signed("!=", self._context(EPOCH, i64), self.epoch)
        with builder.if_then(builder.or_(moved, rearmed), likely=False):
            self._drop(made)
            builder.branch(self.miss)
        for position, number in enumerate(self.plan.parameters):
            address = self._context(FIRST_PARAMETER + position, i64)
            builder.store(address, self.slot(self.table, number))
        memory = self._context(MEMORY, pointer)
        self.call("Py_IncRef", self.on_object, memory)
        made.append(memory)

    def _launch(self, made: Sequence[ir.Value]) -> None:
        builder = self.builder
        place = self._array(1, "stream_handle")
        self._number_into(place, self.stream)
        stream = builder.load(place, typ=pointer)
        for position, launch in enumerate(self.plan.launches):
            builder.comment(f"launch {position}: buffers {', '.join(map(str, launch.buffers))}")
            for place, number in enumerate(launch.buffers):
                builder.store(self.slot(self.table, number), self.slot(self.pointers, place))
            shape = (*launch.grid, *launch.block, launch.shared_bytes)
            numbers = [literal(i32, number) for number in shape]
            code = self.call(
                "launch", launch_type, self.symbol(f"function{position}"), *numbers,
                stream, self.pointers, literal_null(),
            )  # fmt: skip
            refused = builder.icmp_signed("!=", code, literal(i32, 0))
            with builder.if_then(refused, likely=False):
                self._drop(made)
                builder.branch(self.other)
        for position in range(len(self.plan.launches)):
            operands = (self.symbol("launched"), self.symbol(f"kernel{position}"))
            told = self.call("PyObject_CallOneArg", call_with_one, *operands)
            self._return_on_exception(told, made)
            self.call("Py_DecRef", self.on_object, told)

    def _drop(self, made: Sequence[ir.Value]) -> None:
        for array in made:
            self.call("Py_DecRef", self.on_object, array)

    def _return_on_exception(self, result: ir.Value, made: Sequence[ir.Value]) -> None:
        with self.builder.if_then(self.same(result, literal_null()), likely=False):
            self._drop([*made, self.stream])
            self.builder.ret(literal_null())

    def _finish_miss(self) -> None:
        self.function.blocks.append(self.miss)
        self.builder.position_at_end(self.miss)
        self.call("PyErr_Clear", ir.FunctionType(void, []))
        self._drop([self.stream])
        none = self.symbol("none")
        self.call("Py_IncRef", self.on_object, none)
        self.builder.ret(none)

    def _finish_other(self) -> None:
        self.function.blocks.append(self.other)
        self.builder.position_at_end(self.other)
        self._drop([self.stream])
        _, args, count = self.function.args
        operands = (self._context(OTHER, pointer), args, count, literal_null())
        self.builder.ret(self.call("PyObject_Vectorcall", vectorcall_type, *operands))

    def _context(self, slot: int, kind: ir.Type) -> ir.Value:
        return self.load_slot(self.symbol("context"), slot, kind)
