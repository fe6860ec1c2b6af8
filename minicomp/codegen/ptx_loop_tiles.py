"""Pointwise kernels in PTX that read along one loop and write along another: tile by tile.

In: a kernel such as `out[4096*o0 + o1] = x[4096*o1 + o0] + y[4096*o0 + o1]`, and a schedule whose
`tile` is `o0`, along which x lies. Out: the instructions of a block, which does a square of both
loops. Neighbouring threads should read neighbours and write neighbours, and here these are not the
same elements. So the threads hand them to each other through shared memory:

    a warp reads 32 elements of y along o1, which are not needed yet but on their way
    it reads 32 elements of x along o0, and writes them to a column of the tile
    barrier                                 now the tile holds x as the output lies
    a warp reads a row of the tile, adds its y, and writes 32 elements of out along o1

A column's words lie a row apart. Shared memory has 32 banks of a word each, and rows of 32 words
would put a column into one bank, whose words come one after the other. With a word of padding the
column goes through all banks, as a row does, and no two words wait for each other.

    word of row r, column c                 bank: (33*r + c) % 32 = (r + c) % 32

Elements of less than 4 bytes go in vectors, as many as make a word where rows allow: of `vector`
vectors of x below each other a thread makes `vector` words that lie along the output, each for a
row of its own. First come the words of all threads' first rows, then those of the second; to the
banks these are tiles of 32 rows each. Where a word is less than a bank's, the padding is a bank's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from minicomp.codegen.ptx_emitter import PTXEmitter
from minicomp.codegen.ptx_lanes import Lanes
from minicomp.codegen.ptx_memory import Point
from minicomp.codegen.ptx_packing import MEMORY_ACCESS, pack, unpack
from minicomp.codegen.ptx_schedule import (
    MOST_IN_FLIGHT,
    WARP,
    GpuLoopSchedule,
    tile_pitch,
    words_of,
)
from minicomp.codegen.ptx_team import WARP_BITS
from minicomp.codegen.ptx_types import Register
from minicomp.codegen.scalar import ScalarVisitor
from minicomp.ir import ITEMSIZE
from minicomp.kernels import Load, LoopKernel
from minicomp.kernels.indexing import LoopVariable, unravel
from minicomp.kernels.walk import kernel_roots, loads_across, walk

#: A thread's vectors beside each other, which make a square.
Square = list[ScalarVisitor]


@dataclass(frozen=True)
class Tile:
    """Where a load's elements are kept: the addresses of the word that a thread writes first, in a
    column, and of the one that it reads first, in a row."""

    dtype: str
    column: Register
    row: Register


class LoopTiles:
    """See the module's docstring."""

    def __init__(self, kernel: LoopKernel, schedule: GpuLoopSchedule, emitter: PTXEmitter):
        self.kernel, self.emitter, self.vector = kernel, emitter, schedule.vector
        self.builder, self.indices = emitter.builder, emitter.indices
        *rest, self.last = kernel.outer
        (self.across,) = (variable for variable in rest if variable.name == schedule.tile)
        self.rest = [variable for variable in rest if variable is not self.across]
        self.loads = loads_across(kernel, self.across)
        self.warps = schedule.threads // WARP
        self.steps = WARP // self.warps  # rows of words that a warp has, and columns

    def emit(self) -> int:
        """The kernel's instructions. Gives the number of blocks."""
        side = WARP * self.vector
        self.builder.comment(
            f"a block does {side} x {side} of ({self.across}, {self.last}): "
            f"each of its {self.warps} warps {self.steps} rows of {WARP} words"
        )
        blocks = self._place(side)
        tiles = {load: self._tile(load) for load in self.loads}
        squares = [self._square(step, self.last, self.across) for step in range(self.steps)]
        self._load_others(squares)
        self._fill(tiles)
        self.builder.comment("wait for the other warps: each has read a part of every row")
        self.builder.barrier()
        for step, square in enumerate(squares):
            self._store_row(tiles, square, step)
        return blocks

    def _place(self, side: int) -> int:
        """Find out which tile is the block's, and which words are the thread's."""
        builder, indices = self.builder, self.indices
        thread = builder.special("tid.x")
        self.lane = indices.bind(LoopVariable("lane", WARP), builder.and_(thread, WARP - 1))
        self.warp = indices.bind(LoopVariable("warp", self.warps), builder.shr(thread, WARP_BITS))
        extents = [variable.extent for variable in self.rest]
        extents += [-(-variable.extent // side) for variable in (self.across, self.last)]
        blocks = prod(extents)
        block = indices.bind(LoopVariable("block", blocks), builder.special("ctaid.x"))
        *others, down, right = unravel(block, extents)
        self.start = dict(zip(self.rest, others, strict=True))
        self.start |= {self.across: down * side, self.last: right * side}
        return blocks

    def _tile(self, load: Load) -> Tile:
        """Shared memory for what one load reads."""
        builder, argument = self.builder, self.kernel.arguments[load.buffer]
        word = ITEMSIZE[argument.dtype] * self.vector
        pitch = tile_pitch(word)
        builder.comment(
            f"a tile for {load}: rows of {WARP} words of {word} bytes,\n"
            f"and {pitch - WARP * word} of padding, so that a column goes through all banks"
        )
        name = f"tile_{builder.arguments[load.buffer]}"
        array = builder.mov(builder.shared_array(name, self.vector * WARP * pitch), "s32")
        column = self.indices.value(self.lane * pitch + self.warp * word)
        row = self.indices.value(self.warp * pitch + self.lane * word)
        return Tile(argument.dtype, builder.add(array, column), builder.add(array, row))

    def _square(self, step: int, along: LoopVariable, beside: LoopVariable) -> Square:
        """Where a thread reads or writes elements of row (or column) number `step` of its warp:
        vectors along one loop, in lanes, beside each other in the other."""
        first = {
            along: self.start[along] + self.lane * self.vector,
            beside: self.start[beside] + (self.warp + step * self.warps) * self.vector,
        }
        # Vectors divide both loops: all of a square is there, or nothing.
        inside = [self.indices.less(index, loop.extent) for loop, index in first.items()]
        guard = self.builder.both(*inside)
        square = []
        for number in range(self.vector):
            values = {**self.start, **first, beside: first[beside] + number}
            emitter = self.emitter.at(Point(values, along, self.vector, guard, guard))
            emitter.visitor = ScalarVisitor(emitter, {})
            square.append(emitter.visitor)
        return square

    # --- from memory, and to the tiles ---

    def _load_others(self, squares: Sequence[Square]) -> None:
        """Load what lies as the output does, so that it is in flight together with the rest."""
        loads = [
            scalar for scalar in walk(kernel_roots(self.kernel))
            if isinstance(scalar, Load) and scalar not in self.loads
        ]  # fmt: skip
        words = sum(words_of(load.dtype) for load in loads) * self.steps * self.vector**2
        if not loads or words > MOST_IN_FLIGHT:
            return
        self.builder.comment(f"read along {self.last} what lies so")
        for square in squares:
            for visitor in square:
                for load in loads:
                    visitor(load)

    def _fill(self, tiles: dict[Load, Tile]) -> None:
        """Read what the tiles are for, along the loop along which it lies."""
        squares = [self._square(step, self.across, self.last) for step in range(self.steps)]
        for group in self._groups():
            self.builder.comment(f"read {', '.join(map(str, group))} along {self.across}")
            for square in squares:
                for visitor in square:
                    for load in group:
                        visitor(load)
            self.builder.comment("write columns of the tiles")
            for load in group:
                for step, square in enumerate(squares):
                    self._write_column(tiles[load], [visitor(load) for visitor in square], step)

    def _groups(self) -> Iterator[Sequence[Load]]:
        """Loads of which a thread has all elements in flight at once."""
        words = max(words_of(load.dtype) for load in self.loads) * self.steps * self.vector**2
        size = max(MOST_IN_FLIGHT // words, 1)
        for start in range(0, len(self.loads), size):
            yield self.loads[start : start + size]

    def _write_column(self, tile: Tile, vectors: Sequence[Lanes], step: int) -> None:
        """Turn a square, in registers, and write its words to a column."""
        kind, _ = MEMORY_ACCESS[tile.dtype][self.vector]
        for number in range(self.vector):
            words = pack(self.builder, tile.dtype, [vector.lane(number) for vector in vectors])
            offset = self._offset(tile, number, column=step)
            self.builder.store("shared", kind, tile.column, words, offset)

    def _offset(self, tile: Tile, number: int, *, row: int = 0, column: int = 0) -> int:
        """The bytes from a thread's first word to that of a row or column of its warp, in those of
        its vectors' elements `number`."""
        word = ITEMSIZE[tile.dtype] * self.vector
        return (number * WARP + row * self.warps) * tile_pitch(word) + column * self.warps * word

    # --- from the tiles to memory ---

    def _store_row(self, tiles: dict[Load, Tile], square: Square, step: int) -> None:
        """Read rows of the tiles, compute, and write along the output."""
        self.builder.comment(f"row {step} of the warp's: from the tiles to the output")
        for number, visitor in enumerate(square):
            for load, tile in tiles.items():
                kind, count = MEMORY_ACCESS[tile.dtype][self.vector]
                offset = self._offset(tile, number, row=step)
                words = self.builder.load_vector("shared", kind, count, tile.row, offset)
                elements = tuple(unpack(self.builder, tile.dtype, words, self.vector))
                visitor.done[id(load)] = Lanes.of_dtype(tile.dtype, elements)
            for store in self.kernel.row_stores:
                visitor.emitter.store(store.buffer, store.index, visitor(store.scalar))
