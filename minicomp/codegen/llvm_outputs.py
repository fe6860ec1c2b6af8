"""How a native entry point makes its outputs: part of `llvm_entry`, in LLVM IR.

In: the kind of array that is wanted. Out: a new reference to one. Small outputs are what NumPy
allocates. A large one (`kernels.memory.LARGE_BYTES`) is a view of an array of bytes, so that it
can begin on a cache line; and that array is used again once nobody but this specialization holds
it, since fresh memory costs more than many a kernel: the system has to clear it, page by page.

    context[slot]      -> bytes A, reference count 2: the last result is still in use
    context[slot + 1]  -> bytes B, reference count 1: the next output goes here

Two slots are enough for `y = f(x)` in a loop, where one result lives until the next is there.
Memory that would be much to hold on to (`MOST_KEPT_BYTES`) is made anew each time, and a module
that is called with many shapes keeps that of the latest few (`compiler.MOST_FAST_CALLS`).
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from minicomp.codegen.llvm_objects import ObjectFunction, literal_null
from minicomp.codegen.llvm_types import i32, i64, literal, pointer
from minicomp.codegen.native_plan import ArrayKind
from minicomp.kernels.memory import ALIGNMENT, LARGE_BYTES

#: NPY_ARRAY_ALIGNED | NPY_ARRAY_WRITEABLE; NumPy finds out about contiguity by itself.
FLAGS = 0x0100 | 0x0400
#: Byte offsets: a PyObject's reference count, in the low half of which it is on every CPython; a
#: PyArrayObject's data pointer.
REFERENCES, DATA = 0, 16


class OutputArrays(ObjectFunction):
    """The part of an entry point that makes outputs. It has a context, and may have to give up."""

    null = literal_null()

    def context(self, slot: int) -> ir.Value:
        """Where a word of the specialization's own memory is."""
        return self.slot(self.symbol("context"), slot)

    def drop(self, outputs: Sequence[ir.Value]) -> None:
        """Undo what has been taken."""
        for output in outputs:
            self.call("Py_DecRef", self.on_object, output)

    def new_output(
        self, position: int, kind: ArrayKind, slot: int, made: Sequence[ir.Value]
    ) -> ir.Value:
        """A new array; where that fails the function gives NULL, the exception being set.
        `made` are the outputs so far, `slot` the first of this one's."""
        if kind.nbytes < LARGE_BYTES:
            return self._empty(f"shape{position}", kind.dtype, kind.shape, made)
        memory = self._memory(f"bytes{position}", kind, slot, made)
        bits = self.builder.ptrtoint(self.field(memory, DATA, pointer), i64)
        lifted = self.builder.add(bits, literal(i64, ALIGNMENT - 1))
        aligned = self.builder.and_(lifted, literal(i64, -ALIGNMENT))
        data = self.builder.inttoptr(aligned, pointer, name="aligned")
        return self._view(position, kind, data, memory, made)

    def _empty(
        self, name: str, dtype: str, shape: Sequence[int], made: Sequence[ir.Value]
    ) -> ir.Value:
        """`PyArray_Empty`, which takes over a reference to the dtype."""
        descr = self.symbol(f"dtype_{dtype}")
        self.call("Py_IncRef", self.on_object, descr)
        kind = ir.FunctionType(pointer, [i32, pointer, pointer, i32])
        dimensions = self.constant_array(name, shape)
        rank, fortran = literal(i32, len(shape)), literal(i32, 0)
        array = self.call("PyArray_Empty", kind, rank, dimensions, descr, fortran)
        self._give_up_if(self.same(array, self.null), made)
        return array

    def _memory(self, name: str, kind: ArrayKind, slot: int, made: Sequence[ir.Value]) -> ir.Value:
        """A reference to an array of bytes that nobody else uses: of a slot, or a new one."""
        builder, size = self.builder, kind.nbytes + ALIGNMENT
        if not kind.slots:
            return self._empty(name, "uint8", [size], made)
        found = ir.Block(builder.function, name=f"{name}.found")
        candidates: list[tuple[ir.Value, ir.Block]] = []
        for number in range(slot, slot + kind.slots):
            kept = builder.load(self.context(number), typ=pointer, name=f"{name}.kept")
            present = builder.append_basic_block(f"{name}.present")
            following = builder.append_basic_block(f"{name}.next")
            builder.cbranch(self.same(kept, self.null), following, present)
            builder.position_at_end(present)
            count = self.field(kept, REFERENCES, i32)
            alone = builder.icmp_unsigned("==", count, literal(i32, 1))
            builder.cbranch(alone, found, following)
            candidates.append((kept, builder.block))
            builder.position_at_end(following)
        builder.comment("all in use: the oldest makes place for a new one")
        fresh = self._empty(name, "uint8", [size], made)
        oldest = builder.load(self.context(slot), typ=pointer)
        for number in range(slot, slot + kind.slots - 1):
            younger = builder.load(self.context(number + 1), typ=pointer)
            builder.store(younger, self.context(number))
        builder.store(fresh, self.context(slot + kind.slots - 1))
        with builder.if_then(builder.not_(self.same(oldest, self.null))):
            self.call("Py_DecRef", self.on_object, oldest)
        candidates.append((fresh, builder.block))
        builder.branch(found)
        builder.function.blocks.append(found)
        builder.position_at_end(found)
        memory = builder.phi(pointer, name=name)
        for value, block in candidates:
            memory.add_incoming(value, block)
        self.call("Py_IncRef", self.on_object, memory)
        return memory

    def _view(
        self,
        position: int,
        kind: ArrayKind,
        data: ir.Value,
        memory: ir.Value,
        made: Sequence[ir.Value],
    ) -> ir.Value:
        """An array at an address within `memory`, the reference to which it takes over."""
        descr = self.symbol(f"dtype_{kind.dtype}")
        self.call("Py_IncRef", self.on_object, descr)
        new = ir.FunctionType(
            pointer, [pointer, pointer, i32, pointer, pointer, pointer, i32, pointer]
        )
        array = self.call(
            "PyArray_NewFromDescr", new, self.symbol("ndarray_type"), descr,
            literal(i32, len(kind.shape)), self.constant_array(f"shape{position}", kind.shape),
            self.null, data, literal(i32, FLAGS), self.null,
        )  # fmt: skip
        self._give_up_if(self.same(array, self.null), [*made, memory])
        based = ir.FunctionType(i32, [pointer, pointer])
        status = self.call("PyArray_SetBaseObject", based, array, memory)
        self._give_up_if(self.builder.icmp_signed("<", status, literal(i32, 0)), [*made, array])
        return array

    def _give_up_if(self, failed: ir.Value, taken: Sequence[ir.Value]) -> None:
        with self.builder.if_then(failed, likely=False):
            self.drop(taken)
            self.builder.ret(self.null)

    def constant_array(self, name: str, numbers: Sequence[int]) -> ir.Value:
        """The address of an array of int64."""
        kind = ir.ArrayType(i64, max(len(numbers), 1))
        array = ir.GlobalVariable(self.module, kind, name)
        array.linkage, array.global_constant = "private", True
        array.initializer = ir.Constant(kind, list(numbers) or [0])
        array.type = pointer
        return array
