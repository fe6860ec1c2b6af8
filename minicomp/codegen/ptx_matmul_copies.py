"""Copies of an operand's tiles from global to shared memory.

In: an `OperandTile`, where the matrix begins, and the first lane of the block's tile. Out: for each
tile of the depth, the instructions of one thread that copy its share.

Copies are asynchronous (`cp.async`) where the elements go as they are, 4 to 16 bytes at a time.
Otherwise (a conversion, an odd number of 16-bit elements in a row) they go through registers:
`start` loads, and `finish` stores, after the multiplications that hide the wait.

Every tile but the first is full along the depth: the first takes what is left over, so that the
loop over the others has nothing to check. What lies beyond the operand's edge is zero in shared
memory, and is never read from global memory.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from minicomp.codegen.ptx_addresses import address, is_immediate
from minicomp.codegen.ptx_builder import PTXBuilder
from minicomp.codegen.ptx_half import widen
from minicomp.codegen.ptx_matmul_tiles import OperandTile, SharedLayout
from minicomp.codegen.ptx_types import MEMORY, REGISTER, Register
from minicomp.ir import ITEMSIZE


class SharedPlace:
    """A thread's place in a tile in shared memory, and others at fixed distances from it.

    Without swizzling all are an immediate away from one register. With it, those are that are a
    whole period of the pattern away; the others get registers of their own.
    """

    def __init__(self, builder: PTXBuilder, layout: SharedLayout, outer: Register, inner: Register):
        self.builder, self.layout, self.outer, self.inner = builder, layout, outer, inner
        self.offsets: dict[tuple[int, int], Register] = {}

    def offset(self, outer: int, inner: int) -> tuple[Register, int]:
        """The place `outer` rows and `inner` elements on: a register of bytes from the tile's
        start, and an immediate."""
        layout = self.layout
        rest = outer % layout.outer_period, inner % layout.inner_period
        if rest not in self.offsets:
            self.offsets[rest] = self._emit(*rest)
        whole = outer - rest[0], inner - rest[1]
        return self.offsets[rest], whole[0] * layout.pitch + whole[1] * layout.itemsize

    def _emit(self, outer_step: int, inner_step: int) -> Register:
        builder, layout = self.builder, self.layout
        outer = builder.add(self.outer, outer_step) if outer_step else self.outer
        inner = builder.add(self.inner, inner_step) if inner_step else self.inner
        within = builder.mul(inner, layout.itemsize)
        if layout.swizzle_mask:
            line = builder.shr(outer, layout.rows_per_line.bit_length() - 1)
            pattern = builder.and_(line, layout.swizzle_mask)
            within = builder.xor(within, builder.shl(pattern, 4))
        return builder.mad(outer, layout.pitch, within)


@dataclass(frozen=True)
class Share:
    """One of a thread's accesses: how far it lies from the thread's first, per axis."""

    lane: int
    depth: int


class TileCopy:
    """A thread's share of copying one operand's tiles.

    `matrix` is the address of the operand's first element, `first_lane` the first of the block's
    lanes, `thread` the number in the block of `threads`. The operand's part of a stage begins
    `stage_offset` bytes behind the stage.
    """

    def __init__(
        self,
        builder: PTXBuilder,
        tile: OperandTile,
        matrix: Register,
        first_lane: Register,
        thread: Register,
        threads: int,
        stage_offset: int,
    ):
        self.builder, self.tile, self.stage_offset = builder, tile, stage_offset
        builder.comment(f"this thread's share of copying {tile.name}")
        near = builder.mul(builder.rem(thread, tile.near_threads), tile.vector)
        far = builder.div(thread, tile.near_threads)
        lane, self.depth = (near, far) if tile.near == "lanes" else (far, near)
        self.lane = builder.add(first_lane, lane)
        outer, inner = (self.depth, lane) if tile.inner == "lanes" else (lane, self.depth)
        self.place = SharedPlace(builder, tile.shared, outer, inner)
        self.source = self._source(matrix)
        self.shares = self._shares(max(1, threads // tile.near_threads))
        #: with more threads than there is to copy, those that take part
        accesses = tile.near_threads * tile.far_extent
        self.takes_part = builder.setp("lt", thread, accesses) if accesses < threads else None
        self.loaded: list[list[Register]] = []

    def _source(self, matrix: Register) -> Register:
        """The address of the thread's first element in the tile that is next."""
        tile, builder = self.tile, self.builder
        places = [(self.lane, tile.lane_stride), (self.depth, tile.depth_stride)]
        first = address(builder, matrix, [(at, stride * tile.itemsize) for at, stride in places])
        source = builder.register("u64", f"{tile.name}_source")
        builder.assign(source, first)
        return source

    def _shares(self, far_threads: int) -> list[Share]:
        """The block passes over the tile as often as it takes."""
        tile = self.tile
        steps = [
            (near, far)
            for near in range(0, tile.near_extent, tile.near_threads * tile.vector)
            for far in range(0, tile.far_extent, far_threads)
        ]
        return [Share(*step) if tile.near == "lanes" else Share(*reversed(step)) for step in steps]

    # --- one tile ---

    def start(self, stage: Register, more: Register | None, *, is_first: bool = False) -> None:
        """Begin to copy the tile at hand to the stage, where `more` holds. The first tile may be
        shorter than the others."""
        valid = _Validity(self, is_first)
        self.loaded = []
        for share in self.shares:
            source, offset = self._global(share)
            if self.tile.is_asynchronous:
                self._copy(stage, share, source, offset, more, valid(share))
            else:
                self._load(source, offset, _both(self.builder, more, valid(share)))

    def _copy(
        self,
        stage: Register,
        share: Share,
        source: Register,
        offset: int,
        more: Register | None,
        valid: Register | None,
    ) -> None:
        builder, nbytes = self.builder, self.tile.vector * self.tile.itemsize
        place, place_offset = self._shared(stage, share)
        size = None
        guard = self.takes_part
        if valid is None:
            guard = _both(builder, guard, more)
        else:
            # Filling an unused stage with zeros does no harm, and needs no second predicate.
            size = builder.selp(nbytes, 0, _always(_both(builder, valid, more)))
        with self._guarded(guard):
            builder.cp_async(
                place, source, nbytes, size, shared_offset=place_offset, source_offset=offset
            )

    def _load(self, source: Register, offset: int, needed: Register | None) -> None:
        builder, tile = self.builder, self.tile
        kind = MEMORY[tile.dtype]
        values = [builder.register(kind) for _ in range(tile.vector)]
        needed = _both(builder, needed, self.takes_part)
        if needed is not None:
            for value in values:
                builder.assign(value, 0 if kind[0] in "bsu" else 0.0)
        with self._guarded(needed):
            builder.load_into(values, "global", kind, source, offset, cache="nc")
        self.loaded.append(values)

    def finish(self, stage: Register, more: Register | None) -> None:
        """Store what `start` loaded; asynchronous copies need nothing more."""
        if not self.loaded:
            return
        builder, tile = self.builder, self.tile
        kind = MEMORY[tile.element] if tile.element == tile.dtype else REGISTER[tile.element]
        needed = _both(builder, more, self.takes_part)
        at_once = min(tile.vector, 16 // ITEMSIZE[tile.element])
        for share, values in zip(self.shares, self.loaded, strict=True):
            place, offset = self._shared(stage, share)
            converted = [self._converted(value) for value in values]
            with self._guarded(needed):
                for start in range(0, tile.vector, at_once):
                    here = offset + start * ITEMSIZE[tile.element]
                    group = converted[start : start + at_once]
                    builder.store("shared", kind, place, group, here)
        self.loaded = []

    def advance(self, depth: int) -> None:
        """Go on to the tile `depth` further down."""
        step = depth * self.tile.depth_stride * self.tile.itemsize
        if step:
            self.builder.emit(f"add.s64 {self.source}, {self.source}, {step}")

    # --- where, and whether ---

    def _global(self, share: Share) -> tuple[Register, int]:
        tile = self.tile
        step = (share.lane * tile.lane_stride + share.depth * tile.depth_stride) * tile.itemsize
        if is_immediate(step):
            return self.source, step
        return self.builder.add(self.source.as_type("s64"), step), 0

    def _shared(self, stage: Register, share: Share) -> tuple[Register, int]:
        outer_inner = (share.depth, share.lane) if self.tile.inner == "lanes" else (
            share.lane, share.depth)  # fmt: skip
        register, immediate = self.place.offset(*outer_inner)
        return self.builder.add(stage, register), immediate + self.stage_offset

    def _converted(self, value: Register) -> Register:
        tile = self.tile
        if tile.dtype == tile.element:
            return value
        wide, kind = widen(self.builder, value, tile.dtype), REGISTER[tile.element]
        return wide if wide.type == kind else self.builder.cvt(wide, kind)

    def _guarded(self, condition: Register | None) -> AbstractContextManager[None]:
        return nullcontext() if condition is None else self.builder.when(condition)


class _Validity:
    """Which of a thread's shares of one tile lie within the operand: predicates, each made once."""

    def __init__(self, copy: TileCopy, is_first: bool):
        self.copy = copy
        tile = copy.tile
        self.is_cut_short = is_first and tile.first_depth < tile.depth
        self.known: dict[tuple[str, int], Register] = {}

    def __call__(self, share: Share) -> Register | None:
        """None where all are."""
        copy, tile = self.copy, self.copy.tile
        lane = depth = None
        if tile.has_lane_tail:
            lane = self._below("lane", copy.lane, tile.lane_count, share.lane)
        if self.is_cut_short:
            depth = self._below("depth", copy.depth, tile.first_depth, share.depth)
        return _both(copy.builder, lane, depth)

    def _below(self, axis: str, position: Register, count: int, step: int) -> Register:
        if (axis, step) not in self.known:
            signed = position.as_type("s32")
            self.known[axis, step] = self.copy.builder.setp("lt", signed, count - step)
        return self.known[axis, step]


def _both(builder: PTXBuilder, a: Register | None, b: Register | None) -> Register | None:
    """The conjunction of two conditions, of which None always holds."""
    if a is None or b is None:
        return a or b
    return builder.and_(a, b)


def _always(condition: Register | None) -> Register:
    assert condition is not None
    return condition
