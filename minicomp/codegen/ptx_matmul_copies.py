"""Copies of an operand's tiles from global to shared memory.

In: an `OperandTile`, where the matrix begins, and the first lane of the block's tile. Out: for each
tile of the depth, the instructions of one thread that copy its share.

Copies are asynchronous (`cp.async`) where the elements go as they are, 4 to 16 bytes at a time.
Otherwise (a conversion, 16-bit elements one by one) they go through registers: `start` loads, and
`finish` stores, after the multiplications that hide the wait.

Every tile but the first is full along the depth: the first begins before the operand does, if the
depth is no multiple of a tile's, so that the loop over the others has nothing to check. What lies
beyond the operand's edges is zero in shared memory, and is never read from global memory.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from minicomp.codegen.ptx_builder import PTXBuilder
from minicomp.codegen.ptx_index import OFFSETS, IndexRegisters
from minicomp.codegen.ptx_matmul_shared import SharedPlace
from minicomp.codegen.ptx_matmul_tiles import CHUNK, OperandTile
from minicomp.codegen.ptx_packing import widen_bfloat16, widen_float16
from minicomp.codegen.ptx_types import MEMORY, REGISTER, Register
from minicomp.ir import ITEMSIZE
from minicomp.kernels.indexing import Index


@dataclass(frozen=True)
class Share:
    """One of a thread's accesses: how far it lies from the thread's first, per axis."""

    lane: int
    depth: int


@dataclass(frozen=True)
class Source:
    """What is copied: the operand whose first element in this block's product is at `matrix` (in
    elements behind `pointer`), from lane `first_lane` on, and from tile `first_tile` of the depth.
    """

    pointer: Register
    matrix: Index
    first_lane: Index
    first_tile: Index


class TileCopy:
    """A thread's share of copying one operand's tiles. `thread` is its number among the block's
    `threads`; the operand's part of a stage begins `stage_offset` bytes behind the stage."""

    def __init__(
        self,
        builder: PTXBuilder,
        indices: IndexRegisters,
        tile: OperandTile,
        source: Source,
        thread: Index,
        threads: int,
        stage_offset: int,
    ):
        self.builder, self.indices = builder, indices
        self.tile, self.stage_offset = tile, stage_offset
        builder.comment(f"this thread's share of copying {tile.name}")
        near_threads = min(tile.near_threads, threads)
        near, far = thread % near_threads * tile.vector, thread // near_threads
        lane, self.depth = (near, far) if tile.near == "lanes" else (far, near)
        self.lane = source.first_lane + lane
        #: the thread's place in the first tile, counted from where the operand begins
        self.first_depth = source.first_tile * tile.depth + self.depth - tile.missing_depth
        outer, inner = (self.depth, lane) if tile.inner == "lanes" else (lane, self.depth)
        self.place = SharedPlace(builder, indices, tile.shared, outer, inner)
        self.next = self._first_address(source)
        self.shares = self._shares(near_threads, threads // near_threads)
        #: with more threads than there is to copy, those that take part
        accesses = near_threads * tile.far_extent
        self.takes_part = self._below(thread, accesses) if accesses < threads else None
        self.loaded: list[list[Register]] = []

    def _first_address(self, source: Source) -> Register:
        """A register that holds the address of the thread's first element in the tile that is
        next."""
        tile, builder = self.tile, self.builder
        index = source.matrix + self.lane * tile.lane_stride
        index = index + self.first_depth * tile.depth_stride
        register = builder.register("s64", f"{tile.name}_next")
        base, constant = self.indices.address(source.pointer, tile.itemsize, index)
        builder.emit(f"add.s64 {register}, {base}, {constant}")
        return register

    def _shares(self, near_threads: int, far_threads: int) -> list[Share]:
        """The block passes over the tile as often as it takes."""
        tile = self.tile
        steps = [
            (near, far)
            for near in range(0, tile.near_extent, near_threads * tile.vector)
            for far in range(0, tile.far_extent, far_threads)
        ]
        return [Share(*step) if tile.near == "lanes" else Share(*reversed(step)) for step in steps]

    # --- one tile ---

    def start(
        self,
        stage: Register,
        more: Register | None,
        *,
        is_first: bool = False,
        part: int = 0,
        parts: int = 1,
    ) -> None:
        """Begin to copy a part of the tile that is next to the stage, where `more` holds; with the
        last part go on to the tile after it. `is_first`: it may begin before the operand."""
        valid = _Validity(self, is_first)
        count = len(self.shares)
        for share in self.shares[part * count // parts : (part + 1) * count // parts]:
            if self.tile.is_asynchronous:
                self._copy(stage, share, more, valid(share))
            else:
                self._load(share, self._both(more, valid(share)))
        if part < parts - 1:
            return
        tile = self.tile
        step = tile.depth * tile.depth_stride * tile.itemsize
        self.builder.emit(f"add.s64 {self.next}, {self.next}, {step}")

    def _copy(
        self, stage: Register, share: Share, more: Register | None, valid: Register | None
    ) -> None:
        builder, nbytes = self.builder, self.tile.vector * self.tile.itemsize
        place, place_offset = self._shared(stage, share)
        address, address_offset = self._global(share)
        size, guard = None, self.takes_part
        if valid is None:
            guard = self._both(guard, more)
        else:
            # Filling an unused stage with zeros does no harm, and needs no second predicate.
            filled = valid if more is None else builder.and_(valid, more)
            size = builder.selp(nbytes, 0, filled)
        with self._guarded(guard):
            builder.cp_async(
                place, address, nbytes, size,
                shared_offset=place_offset, source_offset=address_offset,
            )  # fmt: skip

    def _load(self, share: Share, needed: Register | None) -> None:
        builder, kind = self.builder, MEMORY[self.tile.dtype]
        values = [builder.register(kind) for _ in range(self.tile.vector)]
        needed = self._both(needed, self.takes_part)
        if needed is not None:
            for value in values:
                builder.assign(value, 0)
        address, offset = self._global(share)
        with self._guarded(needed):
            builder.load_into(values, "global", kind, address, offset, cache="nc")
        self.loaded.append(values)

    def finish(self, stage: Register, more: Register | None) -> None:
        """Store what `start` loaded; asynchronous copies need nothing more."""
        tile, size = self.tile, ITEMSIZE[self.tile.element]
        needed = self._both(more, self.takes_part) if self.loaded else None
        at_once = min(tile.vector, CHUNK // size)
        for share, values in zip(self.shares, self.loaded):
            place, offset = self._shared(stage, share)
            converted = [self._converted(value) for value in values]
            with self._guarded(needed):
                for start in range(0, tile.vector, at_once):
                    group = converted[start : start + at_once]
                    kind = group[0].type
                    self.builder.store("shared", kind, place, group, offset + start * size)
        self.loaded = []

    def _converted(self, value: Register) -> Register:
        """An element as it is kept in shared memory."""
        tile, builder = self.tile, self.builder
        if tile.dtype == tile.element:
            return value
        if tile.dtype == "float16":
            (value,) = widen_float16(builder, value)
        elif tile.dtype == "bfloat16":
            (value,) = widen_bfloat16(builder, value)
        kind = REGISTER[tile.element]
        return value if value.type == kind else builder.cvt(value, kind)

    # --- where, and whether ---

    def _global(self, share: Share) -> tuple[Register, int]:
        tile = self.tile
        step = (share.lane * tile.lane_stride + share.depth * tile.depth_stride) * tile.itemsize
        if OFFSETS[0] <= step <= OFFSETS[1]:
            return self.next, step
        return self.builder.add(self.next, step), 0

    def _shared(self, stage: Register, share: Share) -> tuple[Register, int]:
        by_lanes = self.tile.inner == "lanes"
        step = (share.depth, share.lane) if by_lanes else (share.lane, share.depth)
        register, immediate = self.place.offset(*step)
        return self.builder.add(stage, register), immediate + self.stage_offset

    def _below(self, index: Index, limit: int) -> Register:
        return self.builder.setp("lt", self.indices.value(index), limit)

    def _both(self, a: Register | None, b: Register | None) -> Register | None:
        """The conjunction of two conditions, of which None always holds."""
        return a or b if a is None or b is None else self.builder.and_(a, b)

    def _guarded(self, condition: Register | None) -> AbstractContextManager[None]:
        return nullcontext() if condition is None else self.builder.when(condition)


class _Validity:
    """Which of a thread's shares of one tile lie within the operand: predicates, each made once."""

    def __init__(self, copy: TileCopy, is_first: bool):
        self.copy = copy
        self.begins_before = is_first and copy.tile.missing_depth > 0
        self.known: dict[tuple[str, int], Register] = {}

    def __call__(self, share: Share) -> Register | None:
        """None where all are."""
        copy, tile = self.copy, self.copy.tile
        lane = depth = None
        if tile.has_lane_tail:
            lane = self._is("lt", copy.lane, tile.lane_count - share.lane)
        if self.begins_before:
            depth = self._is("ge", copy.first_depth, -share.depth)
        return copy._both(lane, depth)

    def _is(self, comparison: str, index: Index, limit: int) -> Register:
        limit -= index.constant
        if (comparison, limit) not in self.known:
            place = self.copy.indices.value(Index(index.terms))
            self.known[comparison, limit] = self.copy.builder.setp(comparison, place, limit)
        return self.known[comparison, limit]
