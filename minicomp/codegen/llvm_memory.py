"""Loads and stores at symbolic indices: the half of the LLVM emitter that knows the loop nest.

What an access costs is read off its index: the coefficient of the vector loop is 1 for one
contiguous vector load, 0 for a scalar load that is splat where needed, -1 for a reversed vector,
anything else for a gather. Alignment is only that of an element, since users' arrays are sliced.

A buffer that is `streamed` is written past the caches, which saves reading each line before it is
written over: a third of the traffic of a copy. It takes an alignment that is known, see
`stream_alignment`.
"""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING, Any

from llvmlite import ir

from minicomp.codegen.llvm_intrinsics import NEAREST, call_intrinsic, fetch
from minicomp.codegen.llvm_types import (
    MEMORY,
    i1,
    i8,
    i32,
    i64,
    lanes_of,
    literal,
    pointer,
    poison,
    void,
    widen,
)
from minicomp.ir import ITEMSIZE
from minicomp.kernels import Argument, Store
from minicomp.kernels.indexing import (
    Atom,
    Element,
    Index,
    LoopVariable,
    Quotient,
    Remainder,
    entries_of,
)

#: Bytes of the narrowest store that goes past the caches.
STREAM_ALIGNMENT = 16


def stream_alignment(index: Index, argument: Argument, vector: LoopVariable, width: int) -> int:
    """What the address of each vector of a store is a multiple of, in bytes: vectors begin at
    multiples of `width` along the `vector` loop. Less than `STREAM_ALIGNMENT`, or a store that is
    not contiguous: 0."""
    if index.coefficient(vector) != 1:
        return 0
    steps = [index.constant, *(c for atom, c in index.terms if atom != vector), width]
    known = gcd(argument.alignment, *(step * ITEMSIZE[argument.dtype] for step in steps))
    return known if known >= STREAM_ALIGNMENT else 0


class Memory:
    """Mixed into `llvm_emitter.LLVMEmitter`, which holds the builder and the current point."""

    builder: ir.IRBuilder
    buffers: list[tuple[ir.Value, str]]
    values: dict[LoopVariable, ir.Value]
    vector: LoopVariable | None
    width: int
    status: ir.Value | None
    streamed: dict[int, int]  # buffer -> alignment of stores that go past the caches
    visitor: Any  # the ScalarVisitor at work: it evaluates indices that are data

    if TYPE_CHECKING:

        def splat(self, x: ir.Value, lanes: int) -> ir.Value: ...
        def any_lane(self, condition: ir.Value) -> ir.Value: ...
        def convert(self, a: ir.Value, dtype: str) -> ir.Value: ...

    # --- indices as values ---

    def step_of(self, index: Index) -> int | None:
        """The distance between lanes, in elements; 0 without a vector loop, None if irregular."""
        if not self.vector or self.width == 1:
            return 0
        # Where lanes are rows, an entry may be one that each row has found for itself (argmax).
        if any(lanes_of(self.visitor(entry.scalar)) > 1 for entry in entries_of(index)):
            return None
        return index.coefficient(self.vector)

    def index_value(self, index: Index) -> ir.Value:
        """An i64: the index in the first lane."""
        return self._sum(index, 1)

    def index_lanes(self, index: Index) -> ir.Value:
        """A vector of i64: the index in every lane; a scalar where all lanes agree."""
        step = self.step_of(index)
        if step == 0:
            return self.index_value(index)
        if step is None:
            return self._sum(index, self.width)
        start = self.splat(self.index_value(index), self.width)
        return self.builder.add(start, self._lane_offsets(step))

    def _lane_offsets(self, step: int) -> ir.Constant:
        return ir.Constant(ir.VectorType(i64, self.width), [k * step for k in range(self.width)])

    def _sum(self, index: Index, lanes: int) -> ir.Value:
        total: ir.Value | None = None
        for atom, coefficient in index.terms:
            term = self._atom(atom, lanes)
            if coefficient != 1:
                term = self.builder.mul(term, literal(i64, coefficient, lanes_of(term)))
            total = term if total is None else self._add(total, term)
        if total is None:
            return literal(i64, index.constant)
        if index.constant:
            total = self._add(total, literal(i64, index.constant))
        return total

    def _add(self, a: ir.Value, b: ir.Value) -> ir.Value:
        lanes = max(lanes_of(a), lanes_of(b))
        return self.builder.add(self.splat(a, lanes), self.splat(b, lanes))

    def _atom(self, atom: Atom, lanes: int) -> ir.Value:
        """An i64 per lane (or one for all): the value of an atom at the current point."""
        if isinstance(atom, LoopVariable):
            if lanes > 1 and atom == self.vector:
                return self.builder.add(self.splat(self.values[atom], lanes), self._lane_offsets(1))
            return self.values[atom]
        if isinstance(atom, Element):
            entry = self.convert(self.visitor(atom.scalar), "int64")
            return entry if atom.is_in_range else self._checked_element(atom, entry)
        assert isinstance(atom, Quotient | Remainder)
        # Unsigned division wants a non-negative numerator: add a multiple of the divisor.
        low = atom.numerator.bounds[0]
        lift = -(low // atom.divisor) if low < 0 else 0
        numerator = self._sum(atom.numerator + lift * atom.divisor, lanes)
        divisor = literal(i64, atom.divisor, lanes_of(numerator))
        if isinstance(atom, Remainder):
            return self.builder.urem(numerator, divisor)
        quotient = self.builder.udiv(numerator, divisor)
        return self._add(quotient, literal(i64, -lift)) if lift else quotient

    def _checked_element(self, atom: Element, entry: ir.Value) -> ir.Value:
        """An entry of an index tensor, wrapped, checked and clamped: it can not leave its axis.

        An entry out of range sets the status word, from which the runtime raises after the
        kernel is done; until then the entry counts as 0.
        """
        builder = self.builder
        lanes = lanes_of(entry)
        extent, zero = literal(i64, atom.extent, lanes), literal(i64, 0, lanes)
        negative = builder.icmp_signed("<", entry, zero)
        wrapped = builder.select(negative, builder.add(entry, extent), entry)
        # One unsigned comparison tells both ends: a negative number is a huge unsigned one.
        bad = builder.icmp_unsigned(">=", wrapped, extent)
        assert self.status is not None, "a kernel that gathers has a status argument"
        with builder.if_then(self.any_lane(bad), likely=False):
            builder.store(literal(i32, 1), self.status)
        return builder.select(bad, zero, wrapped)

    # --- loads and stores ---

    def address(self, buffer: int, index: ir.Value) -> ir.Value:
        """Where element `index` (an i64, or a vector of them) of a buffer lies."""
        base, dtype = self.buffers[buffer]
        return self.builder.gep(base, [index], inbounds=False, source_etype=MEMORY[dtype])

    def load(self, buffer: int, index: Index) -> ir.Value:
        """The elements of the current lanes: a vector, or a scalar where all lanes agree."""
        dtype = self.buffers[buffer][1]
        step = self.step_of(index)
        if step == 0:
            return self.from_memory(self._load(buffer, index, 1), dtype)
        if step == 1:
            return self.from_memory(self._load(buffer, index, self.width), dtype)
        if step == -1:
            ascending = self._load(buffer, index - (self.width - 1), self.width)
            return self.from_memory(self._reversed(ascending), dtype)
        return self.from_memory(self._gather(buffer, index), dtype)

    def _load(self, buffer: int, index: Index, lanes: int) -> ir.Value:
        dtype = self.buffers[buffer][1]
        address = self.address(buffer, self.index_value(index))
        kind = widen(MEMORY[dtype], lanes)
        return self.builder.load(address, align=ITEMSIZE[dtype], typ=kind)

    def _reversed(self, x: ir.Value) -> ir.Value:
        order = ir.Constant(ir.VectorType(i32, self.width), list(range(self.width))[::-1])
        return self.builder.shuffle_vector(x, poison(x.type), order)

    def _gather(self, buffer: int, index: Index) -> ir.Value:
        dtype = self.buffers[buffer][1]
        kind = widen(MEMORY[dtype], self.width)
        addresses = self.address(buffer, self.index_lanes(index))
        addresses.type = ir.VectorType(pointer, self.width)
        mask = literal(i1, True, self.width)
        return self._masked(
            "gather", kind, [addresses, literal(i32, ITEMSIZE[dtype]), mask,
                             poison(kind)]
        )  # fmt: skip

    def store(self, buffer: int, index: Index, value: ir.Value) -> None:
        """Store the lanes of `value` (a scalar is splat) at the current point."""
        dtype = self.buffers[buffer][1]
        step = self.step_of(index)
        value = self.splat(value, self.width if self.vector else 1)
        value = self.to_memory(value)
        if lanes_of(value) == 1 or step == 1:
            address = self.address(buffer, self.index_value(index))
            stored = self.builder.store(value, address, align=ITEMSIZE[dtype])
            if buffer in self.streamed:
                stored.align = self.streamed[buffer]
                stored.set_metadata(
                    "nontemporal", self.builder.module.add_metadata([ir.Constant(i32, 1)])
                )
            return
        addresses = self.address(buffer, self.index_lanes(index))
        addresses.type = ir.VectorType(pointer, self.width)
        mask = literal(i1, True, self.width)
        self._masked("scatter", value.type, [value, addresses, literal(i32, ITEMSIZE[dtype]), mask])

    def prefetch(self, buffer: int, index: Index, is_written: bool) -> None:
        """Ask for the cache line of an element, to be near at once and read or written: a hint,
        which may as well point beyond the buffer."""
        address = self.address(buffer, self.index_value(index))
        fetch(self.builder, address, NEAREST, is_written)

    def next_aligned(self, store: Store, width: int) -> ir.Value:
        """How many elements after the current point a store's address is next a multiple of `width`
        elements: from 1 to `width`."""
        address = self.address(store.buffer, self.index_value(store.index))
        size = literal(i64, ITEMSIZE[self.buffers[store.buffer][1]])
        position = self.builder.udiv(self.builder.ptrtoint(address, i64), size)
        beyond = self.builder.urem(position, literal(i64, width))
        return self.builder.sub(literal(i64, width), beyond, name="aligned")

    def _masked(self, name: str, kind: ir.Type, operands: list[ir.Value]) -> ir.Value:
        """llvm.masked.gather or .scatter of vectors of `kind`."""
        element = {"float": "f32", "double": "f64"}.get(str(kind.element), str(kind.element))
        full = f"llvm.masked.{name}.v{self.width}{element}.v{self.width}p0"
        result = kind if name == "gather" else void
        return call_intrinsic(self.builder, full, result, operands)

    def to_memory(self, value: ir.Value) -> ir.Value:
        """As it is stored: a bool is a byte."""
        if value.type not in (i1, widen(i1, lanes_of(value))):
            return value
        return self.builder.zext(value, widen(i8, lanes_of(value)))

    def from_memory(self, value: ir.Value, dtype: str) -> ir.Value:
        if dtype != "bool":
            return value
        # Any non-zero byte is true: a view of another dtype as bool may hold more than 1.
        return self.builder.icmp_unsigned("!=", value, literal(i8, 0, lanes_of(value)))

    # --- indices as data ---

    def position(self, index: Index, dtype: str) -> ir.Value:
        """The index itself as a number of `dtype`."""
        return self.convert(self.index_lanes(index), dtype)
