"""Loads and stores at symbolic indices: the half of the PTX emitter that knows the loop nest.

In: an access `buffer[index]` at a `Point` of the loops. Out: as few instructions as its lanes
allow. Lanes that are neighbours in memory share accesses of up to 16 bytes, as wide as the index
and the buffer are known to be aligned; other lanes have one each. All of an address but a
constant is shared by all accesses that step alike.

    point: o0 = 4*thread, four lanes         x[o0]    ->  ld.global.nc.v4.f32 {...}, [%rd5]
                                             x[2*o0]  ->  four ld.global.nc.f32, at +0, +8, +16, +24
                                             y[7]     ->  one ld.global.nc.f32 for all lanes

Two-byte floats are widened to float32 when loaded and rounded to nearest even when stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from math import gcd
from typing import TYPE_CHECKING, Any

from minicomp.codegen.ptx_builder import PTXBuilder
from minicomp.codegen.ptx_index import IndexRegisters
from minicomp.codegen.ptx_lanes import COMPUTED, Lanes
from minicomp.codegen.ptx_packing import MEMORY_ACCESS, pack, unpack
from minicomp.codegen.ptx_types import Register
from minicomp.ir import ITEMSIZE
from minicomp.kernels.indexing import Atom, Element, Index, LoopVariable, entries_of

#: The widest access, in bytes.
WIDEST = 16


@dataclass(frozen=True)
class GlobalBuffer:
    """A kernel's argument. `alignment` in bytes; `written` if this kernel stores to it."""

    pointer: Register
    dtype: str
    alignment: int
    written: bool


@dataclass(frozen=True)
class Point:
    """Where in the loop nest a thread is: each loop variable in terms of the launch's variables,
    that of `vector` in the first of `width` lanes. There is something at the point where `guard`
    holds, and the thread may store it where `store_guard` does; None is everywhere."""

    values: Mapping[LoopVariable, Index]
    vector: LoopVariable | None = None
    width: int = 1
    guard: Register | None = None
    store_guard: Register | None = None

    def at_lane(self, lane: int) -> Mapping[LoopVariable, Index]:
        """The loop variables in one of the lanes."""
        if self.vector is None or lane == 0:
            return self.values
        return {**self.values, self.vector: self.values[self.vector] + lane}


@dataclass
class Run:
    """Lanes that lie one behind the other: `lanes[k]` are those at the k-th place from `index`."""

    index: Index
    lanes: list[list[int]] = field(default_factory=list)


class Memory:
    """Mixed into `ptx_emitter.PTXEmitter`, which holds the builder."""

    builder: PTXBuilder
    indices: IndexRegisters
    buffers: Sequence[GlobalBuffer]
    status: Register | None
    point: Point
    visitor: Any  # the ScalarVisitor at work: it evaluates indices that are data
    elements: dict[tuple[int, int], list[Index]]

    if TYPE_CHECKING:

        def convert(self, a: Lanes, dtype: str) -> Lanes: ...

        def cast(self, x: Lanes, dtype: str) -> Lanes: ...

    # --- indices ---

    def places(self, index: Index) -> list[Index]:
        """The index in each lane, in terms of the launch; one for all where they agree."""
        entries = {atom: self._entry(atom) for atom in entries_of(index)}
        step = index.coefficient(self.point.vector) if self.point.vector is not None else 0
        per_lane = any(len(entry) > 1 for entry in entries.values())
        if step is not None and not per_lane:
            first = self._place(index, 0, entries)
            width = self.point.width if step else 1
            return [first + lane * step for lane in range(width)]
        return [self._place(index, lane, entries) for lane in range(self.point.width)]

    def _place(self, index: Index, lane: int, entries: Mapping[Element, list[Index]]) -> Index:
        values = self.point.at_lane(lane)

        def replaced(atom: Atom) -> Index | None:
            if isinstance(atom, LoopVariable):
                return values.get(atom)
            if isinstance(atom, Element):
                entry = entries[atom]
                return entry[lane if len(entry) > 1 else 0]
            return None

        return index.substitute(replaced)

    def _entry(self, atom: Element) -> list[Index]:
        """An entry of an index tensor per lane: wrapped, checked and clamped, so that it can not
        leave its axis. One out of range sets the status word, from which the runtime raises after
        the kernel is done; until then it counts as 0."""
        key = (id(atom.scalar), atom.extent)
        if key not in self.elements:
            entry = self.convert(self.visitor(atom.scalar), "int64")
            self.elements[key] = [self._checked(lane, atom) for lane in entry.values]
        return self.elements[key]

    def _checked(self, value: Any, atom: Element) -> Index:
        builder = self.builder
        entry = builder.mov(value, "s64")
        if atom.is_in_range:
            return self._bound(entry.as_type("u64"), atom)
        wrapped = builder.selp(
            builder.add(entry, atom.extent), entry, builder.setp("lt", entry, 0)
        ).as_type("u64")
        # One unsigned comparison tells both ends: a negative number is a huge unsigned one.
        bad = builder.setp("ge", wrapped, atom.extent)
        assert self.status is not None, "a kernel that gathers has a status argument"
        report = bad if self.point.guard is None else builder.and_(bad, self.point.guard)
        with builder.when(report):
            builder.store("global", "s32", self.status, 1)
        return self._bound(builder.selp(0, wrapped, bad), atom)

    def _bound(self, entry: Register, atom: Element) -> Index:
        """An entry in range as a variable of the index arithmetic."""
        if atom.extent <= 2**31:
            entry = self.builder.cvt(entry, "u32")
        return self.indices.bind(LoopVariable(f"entry {entry}", atom.extent), entry)

    def position(self, index: Index, dtype: str) -> Lanes:
        """The index itself as a number of `dtype`."""
        registers = [self.indices.value(place) for place in self.places(index)]
        wide = any(register.bits == 64 for register in registers)
        kind = "int64" if wide else "int32"
        values = [self.builder.cvt(r, "s64") if r.bits == 32 and wide else r for r in registers]
        numbers = Lanes(kind, tuple(values))
        return self.cast(numbers, dtype) if dtype in COMPUTED else self.convert(numbers, dtype)

    # --- accesses ---

    def load(self, number: int, index: Index) -> Lanes:
        """The elements of the current lanes; one where all lanes agree."""
        buffer, places = self.buffers[number], self.places(index)
        key = ("load", number, tuple(places), self.point.guard)
        loaded = self.indices.done
        if buffer.written or key not in loaded:
            values: dict[int, Any] = {}
            for run in _runs(places):
                for lanes, value in zip(run.lanes, self._load_run(buffer, run), strict=True):
                    values.update(dict.fromkeys(lanes, value))
            ordered = tuple(values[lane] for lane in range(len(places)))
            loaded[key] = Lanes.of_dtype(buffer.dtype, ordered)
        return loaded[key]

    def _load_run(self, buffer: GlobalBuffer, run: Run) -> Iterator[Any]:
        """The elements of a run, in order."""
        itemsize = ITEMSIZE[buffer.dtype]
        # What nobody writes meanwhile may be loaded early, and through the read-only path.
        cache = "" if buffer.written else "nc"
        for first, count in accesses(run.index, len(run.lanes), itemsize, buffer.alignment):
            base, offset = self.indices.address(buffer.pointer, itemsize, run.index + first)
            kind, words = MEMORY_ACCESS[buffer.dtype][count]
            register_kind = "u16" if kind == "u8" else kind
            registers = [self.builder.register(register_kind) for _ in range(words)]
            if self.point.guard is not None:  # lanes that are not there hold zeros
                for register in registers:
                    self.builder.assign(register, 0)
            with self._under(self.point.guard):
                self.builder.load_into(registers, "global", kind, base, offset, cache=cache)
            yield from unpack(self.builder, buffer.dtype, registers, count)

    def store(self, number: int, index: Index, value: Lanes) -> None:
        """Store the lanes of `value` (one stands for all) at the current point."""
        buffer, places = self.buffers[number], self.places(index)
        itemsize = ITEMSIZE[buffer.dtype]
        for run in _runs(places):
            values = [value.lane(lanes[-1]) for lanes in run.lanes]
            for first, count in accesses(run.index, len(values), itemsize, buffer.alignment):
                base, offset = self.indices.address(buffer.pointer, itemsize, run.index + first)
                kind, _ = MEMORY_ACCESS[buffer.dtype][count]
                words = pack(self.builder, buffer.dtype, values[first : first + count])
                with self._under(self.point.store_guard):
                    self.builder.store("global", kind, base, words, offset)

    def _under(self, guard: Register | None) -> AbstractContextManager[None]:
        return nullcontext() if guard is None else self.builder.when(guard)


def alignment_of(index: Index, itemsize: int, buffer: int) -> int:
    """The bytes that the element at `index` is aligned to, in a buffer that is itself."""
    step = gcd(index.constant, *(coefficient for _, coefficient in index.terms))
    return gcd(step * itemsize, buffer)


def accesses(index: Index, count: int, itemsize: int, alignment: int) -> Iterator[tuple[int, int]]:
    """(first, elements) of each access to `count` adjacent elements from `index` on."""
    first = 0
    while first < count:
        elements = min(WIDEST // itemsize, 1 << ((count - first).bit_length() - 1))
        while alignment_of(index + first, itemsize, alignment) % (elements * itemsize):
            elements //= 2
        yield first, elements
        first += elements


def _runs(places: Sequence[Index]) -> list[Run]:
    """The lanes in runs of neighbours in memory, whatever their order."""
    by_terms: dict[Any, dict[int, list[int]]] = {}
    for lane, place in enumerate(places):
        by_terms.setdefault(place.terms, {}).setdefault(place.constant, []).append(lane)
    runs: list[Run] = []
    for terms, constants in by_terms.items():
        previous: int | None = None
        for constant in sorted(constants):
            if previous is None or constant != previous + 1:
                runs.append(Run(Index(terms, constant)))
            runs[-1].lanes.append(constants[constant])
            previous = constant
    return runs
