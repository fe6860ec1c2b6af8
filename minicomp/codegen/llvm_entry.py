"""The native entry point of a specialization: called by Python, written in LLVM IR.

In: an `EntryPlan`: which arrays a call brings, where temporaries lie, what comes out. Out: the
text of `PyObject *entry(PyObject *self, PyObject **args, Py_ssize_t n)`, a METH_FASTCALL function.
It checks that each argument is the very kind of array that the code was compiled for, reads the
data pointers out of the array objects, makes the outputs, and calls the program's `main`.

    is every argument an ndarray of this dtype, shape and strides?      no: return None
    is the epoch the one that parameters were looked at in?             no: return None
    is every parameter still such an ndarray?                           no: return None
    is the arena free?                                                  no: return None
    fill the buffer table; make outputs; main(table, threads)
    did a gather meet an index out of range?                           yes: return None

None means that the slower way through Python has to be gone, which finds out why. All this takes
some tens of nanoseconds, where ctypes alone takes 400.

The offsets into arrays are those of NumPy's `PyArrayObject_fields`
(numpy/_core/include/numpy/ndarraytypes.h), which are part of its ABI since 1.7.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from minicomp.codegen.llvm_objects import TYPE
from minicomp.codegen.llvm_outputs import DATA, OutputArrays
from minicomp.codegen.llvm_types import i1, i8, i32, i64, literal, pointer, void
from minicomp.codegen.native_plan import ARENA, BUSY, EPOCH, ArrayKind, EntryPlan
from minicomp.ir import ITEMSIZE

#: Byte offsets into a PyArrayObject on a 64-bit machine; `DATA` is at 16.
NDIM, DIMENSIONS, STRIDES, DESCR = 24, 32, 40, 56


def emit_entry(plan: EntryPlan) -> str:
    """The text of the entry point's module."""
    return _Entry(plan).text()


class _Entry(OutputArrays):
    def __init__(self, plan: EntryPlan):
        super().__init__("entry", {"self": pointer, "args": pointer, "count": i64})
        self.plan = plan
        self.table = self.builder.alloca(ir.ArrayType(pointer, max(plan.buffers, 1)), name="table")
        self.table.type = pointer
        self.miss = ir.Block(self.function, name="miss")  # nothing taken yet: just return None
        self.parameters: list[ir.Value] = []  # the array objects

    def text(self) -> str:
        builder, plan = self.builder, self.plan
        _, args, count = self.function.args
        self.require(builder.icmp_signed("==", count, literal(i64, len(plan.inputs))), self.miss)
        for position, (number, kind) in enumerate(plan.inputs):
            builder.comment(f"argument {position}: {kind}")
            self._accept(number, kind, self.load_slot(args, position, pointer))
        builder.comment("has any module or parameter changed? (-1: none is known yet)")
        epoch = builder.load(self.symbol("epoch"), typ=i64)
        self.require(builder.icmp_signed("==", epoch, self.load_context(EPOCH)), self.miss)
        for position, (number, kind) in enumerate(plan.parameters):
            builder.comment(f"parameter {position}: {kind}")
            slot = self.context(plan.parameter_slot(position))
            self.parameters.append(builder.load(slot, typ=pointer))
            self._accept(number, kind, self.parameters[-1])
        self._take_arena()
        outputs = self._make_outputs()
        self._run()
        self._check_status(outputs)
        self._release_arena()
        builder.ret(self.results(outputs))
        self._finish_miss()
        return str(self.module)

    # --- checks ---

    def _accept(self, number: int, kind: ArrayKind, array: ir.Value) -> None:
        """Check one array object, and put its data pointer into the table."""
        builder = self.builder
        is_array = self.same(self.field(array, TYPE, pointer), self.symbol("ndarray_type"))
        self.require(is_array, self.miss)
        # An ndarray it is, so that the fields below are there to be read.
        descr = self.same(self.field(array, DESCR, pointer), self.symbol(f"dtype_{kind.dtype}"))
        rank = builder.icmp_signed(
            "==", self.field(array, NDIM, i32), literal(i32, len(kind.shape))
        )
        self.require(builder.and_(descr, rank), self.miss)
        matches: ir.Value = literal(i1, True)
        for name, offset, wanted in (
            ("shape", DIMENSIONS, kind.shape), ("strides", STRIDES, kind.strides),
        ):  # fmt: skip
            values = self.field(array, offset, pointer, name=name) if wanted else None
            for axis, size in enumerate(wanted):
                if name == "strides" and kind.shape[axis] == 1:
                    continue  # never stepped along
                found = self.load_slot(values, axis, i64)
                equal = builder.icmp_signed("==", found, literal(i64, size))
                matches = builder.and_(matches, equal)
        data = self.field(array, DATA, pointer, name="data")
        odd = builder.and_(builder.ptrtoint(data, i64), literal(i64, ITEMSIZE[kind.dtype] - 1))
        aligned = builder.icmp_signed("==", odd, literal(i64, 0))
        self.require(builder.and_(matches, aligned), self.miss)
        builder.store(data, self.slot(self.table, number))

    # --- the work ---

    def _take_arena(self) -> None:
        builder, plan = self.builder, self.plan
        if plan.arena:
            # The interpreter lock is held here and where it is given back: plain memory will do.
            builder.comment("the arena, unless another call is using it")
            free = builder.icmp_signed("==", self.load_context(BUSY), literal(i64, 0))
            self.require(free, self.miss)
            builder.store(literal(i64, 1), self.context(BUSY))
            base = builder.load(self.context(ARENA), typ=pointer, name="arena")
            for number, offset in plan.arena:
                place = builder.gep(base, [literal(i64, offset)], source_etype=i8)
                builder.store(place, self.slot(self.table, number))
        for position, number in enumerate(plan.constants):
            constant = builder.load(self.context(plan.constant_slot(position)), typ=pointer)
            builder.store(constant, self.slot(self.table, number))
        for number in plan.status:
            word = builder.load(self.slot(self.table, number), typ=pointer)
            builder.store(literal(i32, 0), word)

    def _release_arena(self) -> None:
        if self.plan.arena:
            self.builder.store(literal(i64, 0), self.context(BUSY))

    def _make_outputs(self) -> list[ir.Value]:
        """New arrays, and their data pointers into the table."""
        made: list[ir.Value] = []
        slot = self.plan.first_kept
        for position, (number, wanted) in enumerate(self.plan.outputs):
            self.builder.comment(f"output {position}: {wanted}")
            array = self.new_output(position, wanted, slot, made)
            data = self.field(array, DATA, pointer)
            self.builder.store(data, self.slot(self.table, number))
            made.append(array)
            slot += wanted.slots
        return made

    def _run(self) -> None:
        builder, plan = self.builder, self.plan
        main = ir.FunctionType(void, [pointer, i64])
        operands = (self.table, literal(i64, plan.threads))
        if not plan.releases_lock:
            self.call("main", main, *operands)
            return
        builder.comment("long work: other Python threads may run meanwhile, and may give")
        builder.comment("parameters new arrays, so hold on to these")
        for parameter in self.parameters:
            self.call("Py_IncRef", self.on_object, parameter)
        state = self.call("PyEval_SaveThread", ir.FunctionType(pointer, []))
        self.call("main", main, *operands)
        self.call("PyEval_RestoreThread", self.on_object, state)
        for parameter in self.parameters:
            self.call("Py_DecRef", self.on_object, parameter)

    def _check_status(self, outputs: Sequence[ir.Value]) -> None:
        builder = self.builder
        bad: ir.Value = literal(i32, 0)
        for number in self.plan.status:
            word = builder.load(self.slot(self.table, number), typ=pointer)
            bad = builder.or_(bad, builder.load(word, typ=i32))
        if self.plan.status:
            failed = builder.icmp_signed("!=", bad, literal(i32, 0))
            with builder.if_then(failed, likely=False):
                self.drop(outputs)
                builder.branch(self.miss)

    def drop(self, outputs: Sequence[ir.Value]) -> None:
        super().drop(outputs)
        self._release_arena()

    def _finish_miss(self) -> None:
        self.function.blocks.append(self.miss)
        self.builder.position_at_end(self.miss)
        none = self.symbol("none")
        self.call("Py_IncRef", self.on_object, none)
        self.builder.ret(none)

    def load_context(self, slot: int) -> ir.Value:
        return self.builder.load(self.context(slot), typ=i64)
