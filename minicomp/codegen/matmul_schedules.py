"""Which schedules are worth trying for a matrix product on the CPU, the best guess first.

In: a `MatmulKernel`, the target, the number of threads. Out: a handful of `CpuMatmulSchedule`s.
Without autotuning the first is used; with it, all are timed. What is a good guess depends on the
shape and on which way the operands are contiguous:

    one row or column     the matrix is read once, at memory speed: `stream`, or `dot` if transposed
    few rows              the same, for a few rows at a time
    tens of rows, large b blocks of a few long rows of b, read in place
    small                 everything stays in the caches: no packing
    b contiguous along k  `dot` needs no packing; or packing, which transposes
    large                 blocks packed for the caches
    b a constant          packed when the kernel is made, whatever the shape

>>> [str(s) for s in schedules(kernel, host_target(), num_threads=1)][0]    # 1024 x 1024 x 1024
'CpuMatmulSchedule(family=outer lanes=columns vector_width=16 tile_rows=12 tile_columns=32 ...)'
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

from minicomp.codegen.matmul_plan import CpuMatmulSchedule, Plan
from minicomp.ir import ITEMSIZE
from minicomp.kernels import MatmulKernel, View

#: More are never offered, besides those for a constant that is packed already: each costs tens of
#: milliseconds to compile and time.
MOST = 10

#: Depth of a packed block, in bytes of one row. Every tile loads and stores its sums, which takes
#: less time the deeper it is. 12 such rows are more than an L1 cache of 32 kB holds, but they are
#: read front to back, 48 bytes for every 24 multiplications of vectors; so are 256 such columns of
#: b, which may take all of the L2 cache, 128 bytes for as many. Half as deep and twice as wide is
#: 1 to 2% slower on a Zen 4.
DEPTH_BYTES = 4096
BLOCK_COLUMNS = 256
#: Packing a block of b is paid for by the rows of a row block. But between depth blocks their sums
#: are kept: 2 MB of them in float32, in an L3 cache, or as many as the L2 cache holds beside the
#: block of b, where these are not too few. 171 tiles of 12: 2048 rows are one block, 4096 two.
BLOCK_ROWS, FEWEST_BLOCK_ROWS = 2052, 768
#: Packed rows of a that are kept from one column block to the next: no more bytes for one unit,
#: nor for all, which run at the same time. Where fewer rows fit, b would be packed so often that
#: packing a anew costs less.
KEPT_BYTES, ALL_KEPT_BYTES = 64 << 20, 256 << 20
FEWEST_KEPT_ROWS = 512

#: An operand of this size is read from memory, at least from an L3 cache's far end: 16 MB and
#: more gain by asking ahead, 8 MB lose, on a Zen 4 with 32 MB.
FAR_BYTES = 12 << 20

#: What a core does in a second, in its caches.
FLOPS, BYTES = 100e9, 60e9
#: How long a thread's share of the work must last. A worker that spins answers in 1.3 us, so that
#: from the first figure on a thread is worth it in calls that follow each other closely; one that
#: sleeps costs its caller 8 us, which from the second on is no great loss. In between, both ways
#: are offered.
PERHAPS_WORTH_A_THREAD, WORTH_A_THREAD = 2.5e-6, 5e-6


def schedules(
    kernel: MatmulKernel, target: Any, num_threads: int = 1
) -> tuple[CpuMatmulSchedule, ...]:
    """The candidates of a call site. All fit the kernel; no two are the same."""
    chooser = _Chooser(kernel, target, num_threads)
    # Ordered sets. What is offered for any operands is offered for constants too.
    ahead: dict[CpuMatmulSchedule, None] = {}
    others: dict[CpuMatmulSchedule, None] = {}
    for schedule in chooser.candidates():
        for pieces in chooser.pieces:
            shared = chooser.keep_rows(chooser.share_out(schedule, pieces))
            chosen = ahead if schedule.prepacked_b else others
            besides = () if chosen else tuple(chooser.other_way(shared))
            chosen.update(dict.fromkeys((shared, *besides)))
    return (*ahead, *list(others)[:MOST])


@dataclass(frozen=True)
class _Chooser:
    kernel: MatmulKernel
    target: Any
    num_threads: int

    @cached_property
    def lanes(self) -> str:
        """The axis with the longer vectors: where columns fill none, the transpose is computed,
        if that leaves contiguous vectors to load."""
        m, n = self.kernel.row.extent, self.kernel.column.extent
        narrow = n < self.width <= m and self.kernel.a.row_stride == 1
        return "rows" if n == 1 != m or narrow else "columns"

    @cached_property
    def plan(self) -> Plan:
        """The product as the micro-kernel sees it, in a schedule that fits any."""
        return Plan(self.kernel, CpuMatmulSchedule("outer", self.lanes, pack_b=True))

    @cached_property
    def oriented(self) -> tuple[int, int, View, View]:
        """Rows, columns and operands as the micro-kernel sees them."""
        return self.plan.rows.extent, self.plan.columns.extent, self.plan.a, self.plan.b

    @property
    def depth(self) -> int:
        return self.kernel.depth

    @property
    def itemsize(self) -> int:
        return ITEMSIZE[self.kernel.accumulate]

    @property
    def width(self) -> int:
        """Lanes of the widest vector."""
        return self.target.vector_bits // 8 // self.itemsize

    @property
    def many_registers(self) -> bool:
        return has_many_registers(self.target)

    @property
    def sums(self) -> int:
        """Vector registers for sums, those for operands left out."""
        return 24 if self.many_registers else 12

    @property
    def tiles(self) -> tuple[tuple[int, int], ...]:
        """(rows, vectors) of the best register tiles. Each k takes rows + vectors loads for
        rows * vectors multiplications, so nearly square ones keep the load ports free."""
        return ((12, 2), (8, 3), (6, 4)) if self.many_registers else ((6, 2), (4, 3))

    @property
    def is_hungry(self) -> bool:
        """Whether a core is likely to multiply two vectors of 512 bits in a cycle, and so to want
        operands twice as fast. Nobody tells; but of those that were measured the one that does, a
        Granite Rapids, has an L1 cache of 48 kB, the one that does not, a Zen 4, of 32 kB. So have
        other Intel servers from Ice Lake on, and Zen 5. Where the guess is wrong (Skylake servers:
        two units, 32 kB; Rocket Lake: one unit, 48 kB) other candidates come first."""
        return self.target.vector_bits == 512 and self.target.l1_bytes >= 48 << 10

    @property
    def packed_tiles(self) -> tuple[tuple[int, int], ...]:
        """The tiles as they come up where operands are packed. 8 rows of a packed block stay in an
        L1 cache of 48 kB while the columns of b go by, 12 do not: 5 to 10% on an Intel."""
        first, *others = self.tiles
        return (*others, first) if self.is_hungry else self.tiles

    @property
    def block_rows(self) -> int:
        """Rows whose sums are kept between depth blocks."""
        width = BLOCK_COLUMNS * self.itemsize
        beside_b = (self.target.l2_bytes - BLOCK_COLUMNS * DEPTH_BYTES) // width
        return min(BLOCK_ROWS, beside_b) if beside_b >= FEWEST_BLOCK_ROWS else BLOCK_ROWS

    # --- the shape classes ---

    def candidates(self) -> Iterator[CpuMatmulSchedule]:
        rows, columns, a, b = self.oriented
        if self.plan.can_prepack:
            yield from self.prepacked()
        if b.column_stride == 1 or columns == 1:
            if rows <= self.sums // 2:
                yield from self.few_rows()
            elif rows <= 128 and self.bytes > FAR_BYTES:
                yield from self.shallow()
                yield from self.packed()
                yield from self.direct()
            elif rows <= 32 or (self.is_near and not (self.a_collides or self.b_collides)):
                yield from self.direct()
                yield from self.packed()
            else:
                yield from self.packed()
                yield from self.direct()
        elif self.depth >= self.width and (a.column_stride, b.row_stride) == (1, 1):
            # Adding up the lanes costs less the deeper, packing costs less the more rows.
            if rows <= 4:
                yield from self.dots()
            elif self.depth >= 16 * self.width and rows <= (16 if self.is_hungry else 256):
                yield from self.dots()
                yield from self.packed()
            else:
                yield from self.packed()
                yield from self.dots()
        else:
            yield from self.packed()

    @property
    def bytes(self) -> int:
        """The size of b."""
        return self.depth * self.oriented[1] * self.itemsize

    @property
    def is_near(self) -> bool:
        """Whether b is read in place at little cost: from the L2 cache, or from an L3 cache by so
        few rows that packing b would cost more. Long rows of b come in no order that a cache
        expects: a hungry core waits for them earlier."""
        rows, l2_bytes = self.oriented[0], self.target.l2_bytes
        if self.is_hungry:
            return self.bytes <= l2_bytes // (2 if rows <= 128 else 4)
        return self.bytes <= l2_bytes * (4 if rows <= 256 else 1)

    @property
    def a_collides(self) -> bool:
        """Whether rows of a, so far apart, fall into the same few sets of the L1 cache: more of
        them than a set has lines. One of 48 kB has 12, enough for the tiles of 8 rows."""
        a = self.oriented[2]
        is_far_apart = a.column_stride == 1 and a.row_stride * self.itemsize % 2048 == 0
        return is_far_apart and not self.is_hungry

    @property
    def a_lies_badly(self) -> bool:
        """Whether the rows of a are better packed first."""
        transposed = self.oriented[2].column_stride != 1  # each k lies in other cache lines
        return self.a_collides or transposed

    @property
    def b_collides(self) -> bool:
        return self.oriented[3].row_stride * self.itemsize % 2048 == 0

    def few_rows(self) -> Iterator[CpuMatmulSchedule]:
        """Every element of b is used by few rows, so reading b is what takes the time.

        A wide tile reads a stripe of b from top to bottom, with all sums in registers, but in a
        wide matrix touches a page for every row. Shallow depth blocks read b in the order it
        lies in, but keep sums in memory in between; and of a b that comes from memory, the next
        block can be asked for meanwhile. From the L3 cache that costs more than it gains.
        """
        rows, columns, _, _ = self.oriented
        most = self.sums // max(rows, 1)
        wide = [self.outer(rows, min(most, vectors), unroll=4) for vectors in (16, 8, 4)]
        far = self.bytes > FAR_BYTES
        shallow = [(8, 4), (8, 8), (16, 4)] if far or rows <= 3 else [(16, 4), (16, 2), (8, 4)]
        streams = [
            self.outer(
                rows,
                min(most, vectors),
                depth=depth,
                unroll=8 if rows <= 3 else 4,
                ahead=depth if far else 0,
            )
            for depth, vectors in shallow
        ]
        near = self.bytes <= 4 * self.target.l2_bytes
        narrow = columns <= 512 if rows == 1 else rows >= 4 and near
        yield from (*wide, *streams) if narrow else (*streams, *wide)

    def shallow(self) -> Iterator[CpuMatmulSchedule]:
        """Some tens of rows times a b that comes from memory: packing it would take as long as a
        third of the products. But a few long rows of b fit into the L2 cache as they are, beside
        the next ones, which are asked for meanwhile, and the sums so far."""
        for depth in (64, 32):
            for tile in self.tiles[1:]:
                yield self.outer(*tile, depth=depth, ahead=depth)

    def direct(self) -> Iterator[CpuMatmulSchedule]:
        """No packing: tiles that read b in long rows first."""
        first, *others = self.tiles
        for rows, vectors in (*others, first, (2 * first[0], 1)):
            yield self.outer(rows, vectors)

    def packed(self) -> Iterator[CpuMatmulSchedule]:
        """Blocks of b packed; panels of a too, unless its elements lie well as they are, or one
        tile is as wide as the output and so needs them only once."""
        depth = DEPTH_BYTES // self.itemsize
        first, *others = self.packed_tiles
        for rows, vectors in self.packed_tiles:
            if self.oriented[1] <= vectors * self.width:
                yield self.outer(rows, vectors, depth=depth, pack_b=True)
                break
        for pack_a in (self.a_lies_badly, not self.a_lies_badly):
            yield self.outer(*first, depth=depth, pack_a=pack_a, pack_b=True)
        for tile in others:
            yield self.outer(*tile, depth=depth, pack_a=True, pack_b=True)
        wide, depth = 2 * BLOCK_COLUMNS, depth // 2
        yield self.outer(*first, depth=depth, width=wide, pack_a=True, pack_b=True)

    def prepacked(self) -> Iterator[CpuMatmulSchedule]:
        """Panels of b cost nothing, and are read front to back by however few rows."""
        rows = self.oriented[0]
        if rows <= self.sums // 2:
            most = self.sums // max(rows, 1)
            for vectors in (8, 16, 4):
                yield self.outer(rows, min(most, vectors), unroll=4, prepacked=True)
            return
        depth = DEPTH_BYTES // self.itemsize
        for tile in self.packed_tiles:
            yield self.outer(*tile, depth=depth, pack_a=self.a_lies_badly, prepacked=True)
        pack_a = not self.a_lies_badly
        yield self.outer(*self.packed_tiles[0], depth=depth, pack_a=pack_a, prepacked=True)

    def dots(self) -> Iterator[CpuMatmulSchedule]:
        """Lanes along the depth."""
        if self.oriented[0] == 1:
            near = self.bytes <= 4 * self.target.l2_bytes
            tiles = [(1, 4), (1, 8)] if near else [(1, 8), (1, 4)]
            tiles.append((1, 16))
        else:
            tiles = [(6, 4), (4, 4), (2, 8)] if self.many_registers else [(3, 3), (2, 4), (4, 2)]
        for rows, columns in tiles:
            yield self.dot(rows, columns)

    # --- schedules that fit the kernel ---

    def outer(
        self,
        rows: int,
        vectors: int,
        *,
        depth: int = 0,
        width: int = BLOCK_COLUMNS,
        unroll: int = 2,
        ahead: int = 0,
        pack_a: bool = False,
        pack_b: bool = False,
        prepacked: bool = False,
    ) -> CpuMatmulSchedule:
        """A register tile of at most rows x vectors; blocks of at most depth x width."""
        all_rows, columns, _, b = self.oriented
        lanes = min(self.width, power_of_two(columns))
        tile_columns = lanes * min(vectors, max(1, ceil_div(columns, lanes)))
        block_depth = max(1, self.depth)
        if depth and depth < block_depth:
            block_depth = _even(block_depth, depth)
            block_depth = ceil_div(block_depth, unroll) * unroll
        pack_b = not prepacked and (pack_b or (b.column_stride != 1 and columns > 1))
        in_place = not (pack_b or prepacked)
        if in_place:
            # What all rows use is to stay in the L2 cache; twice as much, if the next is asked for.
            fits = self.target.l2_bytes // (4 if ahead else 2) // (block_depth * self.itemsize)
            width = fits if all_rows > rows else columns
        tile_rows = dividing(all_rows, rows) if in_place else _even(all_rows, rows)
        block_rows = self.block_rows if block_depth < self.depth else all_rows
        return CpuMatmulSchedule(
            "outer",
            self.lanes,
            vector_width=lanes,
            tile_rows=tile_rows,
            tile_columns=tile_columns,
            unroll=unroll,
            block_rows=whole_tiles(all_rows, block_rows, tile_rows),
            block_depth=block_depth,
            block_columns=whole_tiles(columns, width, tile_columns),
            pack_a=pack_a,
            pack_b=pack_b,
            prepacked_b=prepacked,
            ahead=ahead,
        )

    def dot(self, rows: int, tile_columns: int) -> CpuMatmulSchedule:
        all_rows, columns, _, _ = self.oriented
        tile_columns = min(tile_columns, self.width, _even(columns, tile_columns))
        tile_rows = _even(all_rows, rows)
        fits = self.target.l2_bytes // 2 // (self.depth * self.itemsize)
        return CpuMatmulSchedule(
            "dot",
            self.lanes,
            vector_width=self.width,
            tile_rows=tile_rows,
            tile_columns=tile_columns,
            unroll=2 if tile_rows * tile_columns <= 8 else 1,
            block_rows=whole_tiles(all_rows, all_rows, tile_rows),
            block_depth=max(1, self.depth),
            block_columns=whole_tiles(columns, fits, tile_columns),
        )

    # --- threads ---

    @cached_property
    def batch(self) -> int:
        return prod(variable.extent for variable in self.kernel.batch)

    @cached_property
    def pieces(self) -> list[int]:
        """Into how many pieces the work may be cut."""
        rows, columns, _, _ = self.oriented
        elements = rows * self.depth + self.depth * columns + rows * columns
        seconds = max(self.kernel.flops / FLOPS, self.batch * elements * self.itemsize / BYTES)
        for share in (WORTH_A_THREAD, PERHAPS_WORTH_A_THREAD):
            pieces = min(self.num_threads, int(seconds / share))
            if pieces >= 2:
                return [pieces] if share == WORTH_A_THREAD else [1, pieces]
        return [1]

    def share_out(self, schedule: CpuMatmulSchedule, pieces: int) -> CpuMatmulSchedule:
        """The schedule cut into units for the threads."""
        rows, columns, _, _ = self.oriented
        batch = self.batch
        if pieces < 2:
            return schedule
        workspace = Plan(self.kernel, schedule).workspace
        if batch >= pieces:
            return replace(schedule, batch_pieces=pieces)
        pieces = ceil_div(pieces, max(batch, 1))
        across = ceil_div(columns, schedule.tile_columns)
        down = ceil_div(rows, schedule.tile_rows)
        # Threads that share the columns pack no block of b twice. Without a workspace, which
        # each unit would have for itself, they take a block at a time.
        by_columns = across >= 2 * pieces or across >= down
        if by_columns and not workspace:
            blocks = ceil_div(columns, schedule.block_columns)
            pieces *= ceil_div(min(blocks, 8 * pieces), pieces)
        split = "columns" if by_columns else "rows"
        return replace(schedule, batch_pieces=max(batch, 1), split=split, pieces=pieces)

    def other_way(self, schedule: CpuMatmulSchedule) -> Iterator[CpuMatmulSchedule]:
        """The schedule by rows where it is by columns: each thread packs all of b, but of a its own
        rows only. And tiles have fewer rows than columns, so that all threads get as many: of 512
        columns two threads get 6 and 5 tiles of 48."""
        has_rows = self.oriented[0] >= 8 * schedule.tile_rows * schedule.pieces
        is_by_columns = schedule.split == "columns" and schedule.pieces > 1
        if schedule.pack_b and has_rows and is_by_columns:
            yield self.keep_rows(replace(schedule, split="rows", keep_a=False))

    def keep_rows(self, schedule: CpuMatmulSchedule) -> CpuMatmulSchedule:
        """The schedule with packed rows of a kept from one column block of a unit to the next,
        where there are several and enough rows fit."""
        plan = Plan(self.kernel, schedule)
        if not schedule.pack_a or plan.unit_columns <= schedule.block_columns:
            return schedule
        row_bytes = plan.depth_blocks * schedule.block_depth * self.itemsize
        most = min(KEPT_BYTES, ALL_KEPT_BYTES // max(1, plan.units)) // row_bytes
        if most < min(FEWEST_KEPT_ROWS, plan.unit_rows):
            return schedule
        most = min(most, schedule.block_rows)
        block_rows = whole_tiles(plan.unit_rows, most, schedule.tile_rows)
        return replace(schedule, keep_a=True, block_rows=block_rows)


def has_many_registers(target: Any) -> bool:
    """32 vector registers (AVX-512, NEON) or 16 (AVX2 and before)."""
    return target.vector_bits == 512 or not target.triple.startswith(("x86", "i"))


def power_of_two(size: int) -> int:
    """The next power of two."""
    return 1 << (max(size, 1) - 1).bit_length()


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def _even(extent: int, most: int) -> int:
    """The size of pieces of at most `most` that are as even as can be."""
    most = max(1, most)
    return max(1, ceil_div(extent, max(1, ceil_div(extent, most))))


def dividing(extent: int, most: int) -> int:
    """A size a little below `most` that leaves no tail, if there is one, else even pieces."""
    fitting = (size for size in range(most, most * 4 // 5, -1) if extent % size == 0)
    return next(fitting, _even(extent, most)) if extent else 1


def whole_tiles(extent: int, most: int, tile: int) -> int:
    """The size of blocks of whole tiles, at most `most` where one tile is not more already."""
    tiles = max(1, ceil_div(extent, tile))
    return tile * _even(tiles, most // tile)
