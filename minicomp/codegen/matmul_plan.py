"""What a schedule means for one matrix product on the CPU: tiles, blocks, units, workspace.

In: a `MatmulKernel` and a `CpuMatmulSchedule`. Out: a `Plan`, whose numbers are all that
`llvm_matmul` needs to emit the loops. Nothing here knows LLVM.

>>> plan = Plan(kernel, schedule)             # 1000 x 1000 x 1000, tiles of 12 x 32
>>> plan.row_tail, plan.column_tail, plan.depth_blocks, plan.units
(4, 8, 1, 2)

The loops that a plan describes are Goto's (Goto and van de Geijn, "Anatomy of high-performance
matrix multiplication", 2008), with two changes: a row panel of `a` is packed just before its first
use, or some together where `a` is transposed; and it may be kept for the column blocks to come.

    for unit:                                  # parallel: a piece of the columns (or rows)
      for batch:
        for row block:                         # block_rows: bounds the sums and rows that are kept
          for column block:                    # block_columns
            for depth block:                   # block_depth
              pack the block of b              # stays in the L2 cache; not if it is prepacked
              for packed rows:
                pack these rows of a           # with keep_a: in the first column block
                for row panel:                 # tile_rows: comes from the L1 or L2 cache
                  for column tile:             # tile_columns
                    micro-kernel               # the tile's sums stay in registers
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

from minicomp.ir import ITEMSIZE
from minicomp.kernels import Load, MatmulKernel, MatmulSchedule, View
from minicomp.kernels.indexing import LoopVariable
from minicomp.kernels.walk import walk

#: workspace parts start on a cache line, so that no vector straddles two
CACHE_LINE = 64
#: Rows of a transposed a that are packed together, at least: whole panels, a power of two of them.
#: One panel of 12 rows is less than a cache line of each column of a; 16 of them are twelve lines,
#: which the CPU reads ahead of. (16 panels of 8 rows are too few, 32 are 3% faster on an Intel.)
ROWS_PACKED_TOGETHER = 192


@dataclass(frozen=True)
class CpuMatmulSchedule(MatmulSchedule):
    """How a matrix product runs on the CPU. Sizes are in elements.

    `family` is the micro-kernel: "outer" broadcasts an element of `a` against a vector of `b`
    (lanes are columns of the output), "dot" multiplies vectors along the depth and adds up their
    lanes at the end. `lanes` is "columns", or "rows" to compute the transpose instead, which
    swaps the operands. With `keep_a` packed rows of a stay in the workspace for all column blocks.
    `prepacked_b` says that b, a constant, is handed over packed (see `prepacking`). Where b is not
    packed, the micro-kernel asks for it `ahead` rows before it multiplies. `split` says which axis
    is cut into `pieces` parallel units; `batch_pieces` cuts the batch.
    """

    lanes: str = "columns"
    vector_width: int = 16
    tile_rows: int = 12
    tile_columns: int = 32
    unroll: int = 2
    block_rows: int = 2040
    block_depth: int = 1024
    block_columns: int = 256
    pack_a: bool = False
    keep_a: bool = False
    pack_b: bool = False
    prepacked_b: bool = False
    split: str = "columns"
    pieces: int = 1
    batch_pieces: int = 1
    ahead: int = 0

    @property
    def label(self) -> str:
        """What a candidate with this schedule is called. `outer_12x32x2_ab_512x256_2c`: tiles of
        12x32, unrolled twice; both operands packed (`A`: and rows of a kept; `B`: b packed when
        the kernel is made), in blocks 512 deep and 256 wide; the columns in two pieces."""
        packed = ("A" if self.keep_a else "a") * self.pack_a
        packed += "b" * self.pack_b + "B" * self.prepacked_b
        parts = [
            self.family + ("_t" if self.lanes == "rows" else ""),
            f"{self.tile_rows}x{self.tile_columns}x{self.unroll}",
            f"{packed}_{self.block_depth}x{self.block_columns}"
            if packed
            else f"k{self.block_depth}",
            f"a{self.ahead}" if self.ahead else "",
            f"{self.pieces}{self.split[0]}" if self.pieces > 1 else "",
            f"{self.batch_pieces}b" if self.batch_pieces > 1 else "",
        ]
        return "_".join(filter(None, parts))


@dataclass(frozen=True)
class Operand:
    """How a micro-kernel walks an operand, from a pointer to the tile's first element on.

    `lane_stride` leads to the next row of `a` (column of `b`), `depth_stride` to the next k.
    Elements are converted from `dtype` to `accumulate`. `padded` operands may be read in whole
    vectors, whatever the tile's width. `alignment` is in bytes.
    """

    dtype: str
    accumulate: str
    lane_stride: int
    depth_stride: int
    alignment: int
    padded: bool = False


@dataclass(frozen=True)
class Plan:
    """A kernel together with a schedule, and the numbers that follow from them."""

    kernel: MatmulKernel
    schedule: CpuMatmulSchedule

    def __post_init__(self) -> None:
        complaint = self._complaint()
        if complaint:
            raise ValueError(f"{self.schedule} does not fit kernel {self.kernel.name}: {complaint}")

    def _complaint(self) -> str:
        """What is wrong with the schedule; empty where it fits."""
        schedule = self.schedule
        sizes = {name: n for name, n in schedule.to_dict().items() if type(n) is int}
        if sizes.pop("ahead") < 0:
            return "ahead must not be negative"
        if min(sizes.values()) < 1:
            return "every size must be at least 1"
        if schedule.vector_width & (schedule.vector_width - 1):
            return "vector_width must be a power of two"
        if schedule.keep_a and not schedule.pack_a:
            return "keep_a needs pack_a"
        if schedule.prepacked_b and schedule.pack_b:
            return "what is prepacked is not packed again"
        if schedule.prepacked_b and not self.can_prepack:
            return "only a constant that nothing else reads can be prepacked"
        if schedule.block_columns % schedule.tile_columns:
            return "block_columns must be a multiple of tile_columns"
        if schedule.block_rows % schedule.tile_rows:
            return "block_rows must be a multiple of tile_rows"
        if schedule.family == "outer":
            return self._outer_complaint()
        return self._dot_complaint() if schedule.family == "dot" else "family must be outer or dot"

    def _outer_complaint(self) -> str:
        schedule = self.schedule
        if schedule.tile_columns % schedule.vector_width:
            return "tile_columns must be a multiple of vector_width"
        if self.depth_blocks > 1 and schedule.block_depth % schedule.unroll:
            return "block_depth must be a multiple of unroll"
        if not self.reads_panels and self.columns.extent > 1 and self.b.column_stride != 1:
            return "b must be packed where its columns are not contiguous"
        return ""

    def _dot_complaint(self) -> str:
        schedule = self.schedule
        if schedule.pack_a or self.reads_panels or self.depth_blocks > 1:
            return "the dot family neither packs nor blocks the depth"
        if schedule.tile_columns > schedule.vector_width:
            return "tile_columns of the dot family must not exceed vector_width"
        if self.depth > 1 and (self.a.column_stride, self.b.row_stride) != (1, 1):
            return "the dot family needs both operands contiguous along the depth"
        return ""

    # The product as the micro-kernel sees it: lanes along columns. Computing the transpose of the
    # output is multiplying the transposes of the operands in reverse order.

    @property
    def transposed(self) -> bool:
        return self.schedule.lanes == "rows"

    @property
    def rows(self) -> LoopVariable:
        return self.kernel.column if self.transposed else self.kernel.row

    @property
    def columns(self) -> LoopVariable:
        return self.kernel.row if self.transposed else self.kernel.column

    @cached_property
    def a(self) -> View:
        return _transpose(self.kernel.b) if self.transposed else self.kernel.a

    @cached_property
    def b(self) -> View:
        return _transpose(self.kernel.a) if self.transposed else self.kernel.b

    @property
    def depth(self) -> int:
        return self.kernel.depth

    @property
    def reads_panels(self) -> bool:
        """Whether the micro-kernel finds b packed."""
        return self.schedule.pack_b or self.schedule.prepacked_b

    @property
    def can_prepack(self) -> bool:
        """Whether b is one matrix that is known when the kernel is made, and in a buffer of which
        nothing else is read, so that the kernel may be given another in its place. A row or column
        that is repeated would take much more memory packed."""
        number, matrix = self.b.buffer, (self.b.row_stride, self.b.column_stride)
        extents = (self.depth, self.columns.extent)
        epilogue = walk([self.kernel.store.scalar])
        return (
            self.kernel.arguments[number].constant
            and number != self.a.buffer
            and not any(self.b.batch_strides)
            and all(stride or extent <= 1 for stride, extent in zip(matrix, extents, strict=True))
            and not any(isinstance(part, Load) and part.buffer == number for part in epilogue)
        )

    @cached_property
    def batch_size(self) -> int:
        return prod(variable.extent for variable in self.kernel.batch)

    # Tiles and blocks.

    @property
    def row_tail(self) -> int:
        """Rows that are left over after the full tiles."""
        return self.rows.extent % self.schedule.tile_rows

    @property
    def column_tail(self) -> int:
        return self.columns.extent % self.schedule.tile_columns

    @property
    def depth_blocks(self) -> int:
        """At least one, since the epilogue is due even where the depth is 0."""
        return max(1, _ceil_div(self.depth, self.schedule.block_depth))

    def vector_lanes(self, columns: int) -> list[int]:
        """The lanes in use of each vector of a row of a tile that is `columns` wide."""
        width = self.schedule.vector_width
        return [min(width, columns - start) for start in range(0, columns, width)]

    def panel_width(self, columns: int) -> int:
        """Columns of a packed panel of b: padded to whole vectors."""
        return _round_up(columns, self.schedule.vector_width)

    def source(self, view: View, lane_stride: int, depth_stride: int) -> Operand:
        """An operand as it lies in its argument buffer."""
        dtype = self.kernel.arguments[view.buffer].dtype
        return Operand(dtype, self.kernel.accumulate, lane_stride, depth_stride, ITEMSIZE[dtype])

    @property
    def source_a(self) -> Operand:
        return self.source(self.a, self.a.row_stride, self.a.column_stride)

    @property
    def source_b(self) -> Operand:
        return self.source(self.b, self.b.column_stride, self.b.row_stride)

    def operand_a(self, rows: int) -> Operand:
        """a as the micro-kernel for tiles of `rows` rows sees it: packed, or in its buffer."""
        if not self.schedule.pack_a:
            return self.source_a
        dtype = self.kernel.accumulate
        return Operand(dtype, dtype, 1, rows, self.itemsize)

    @property
    def packed_rows(self) -> int:
        """Rows of a that are packed at a time: those of one tile, but of many where rows are
        neighbours in memory."""
        tile = self.schedule.tile_rows
        wanted = ROWS_PACKED_TOGETHER // tile if self.a.row_stride == 1 else 1
        together = 1 << max(wanted - 1, 0).bit_length()
        return tile * min(together, _ceil_div(self.kept_rows, tile))

    def operand_b(self, columns: int) -> Operand:
        """b as the micro-kernel for tiles of `columns` columns sees it."""
        dtype, width = self.kernel.accumulate, self.panel_width(columns)
        packed = Operand(dtype, dtype, 1, width, self.vector_alignment, padded=True)
        return packed if self.reads_panels else self.source_b

    @property
    def vector_alignment(self) -> int:
        """Of the workspace's vectors, in bytes."""
        return min(CACHE_LINE, self.schedule.vector_width * self.itemsize)

    # Parallel units.

    @property
    def unit_rows(self) -> int:
        """Rows of a unit: whole tiles, so that only the last unit has a tail."""
        pieces = self.schedule.pieces if self.schedule.split == "rows" else 1
        return _piece(self.rows.extent, self.schedule.tile_rows, pieces)

    @property
    def unit_columns(self) -> int:
        pieces = self.schedule.pieces if self.schedule.split == "columns" else 1
        return _piece(self.columns.extent, self.schedule.tile_columns, pieces)

    @property
    def row_pieces(self) -> int:
        return _ceil_div(self.rows.extent, self.unit_rows)

    @property
    def column_pieces(self) -> int:
        return _ceil_div(self.columns.extent, self.unit_columns)

    @property
    def unit_batches(self) -> int:
        return max(1, _ceil_div(self.batch_size, self.schedule.batch_pieces))

    @property
    def batch_pieces(self) -> int:
        return _ceil_div(self.batch_size, self.unit_batches)

    @property
    def units(self) -> int:
        """Independent pieces of work; 0 where the output is empty."""
        return self.batch_pieces * self.row_pieces * self.column_pieces

    # Workspace: [packed rows of a] [packed block of b] [sums kept between depth blocks].

    @property
    def itemsize(self) -> int:
        return ITEMSIZE[self.kernel.accumulate]

    @property
    def packed_a_bytes(self) -> int:
        """The rows that are packed at a time, or all of a row block, whatever their depth."""
        if not self.schedule.pack_a:
            return 0
        rows = self.kept_rows * self.depth_blocks if self.schedule.keep_a else self.packed_rows
        return _lines(rows * self.schedule.block_depth * self.itemsize)

    @property
    def kept_rows(self) -> int:
        """Rows of the largest block of a unit."""
        return min(self.schedule.block_rows, self.unit_rows)

    @property
    def kept_columns(self) -> int:
        """Columns of the largest block of a unit."""
        return min(self.schedule.block_columns, self.unit_columns)

    @property
    def packed_b_bytes(self) -> int:
        """One block."""
        if not self.schedule.pack_b:
            return 0
        return _lines(self.kept_columns * self.schedule.block_depth * self.itemsize)

    @property
    def kept_sums_bytes(self) -> int:
        """One block of the output."""
        if self.depth_blocks == 1:
            return 0
        return _lines(self.kept_rows * self.kept_columns * self.itemsize)

    @property
    def workspace(self) -> int:
        """Bytes that a unit needs."""
        return self.packed_a_bytes + self.packed_b_bytes + self.kept_sums_bytes


def _transpose(view: View) -> View:
    return View(view.buffer, view.offset, view.batch_strides, view.column_stride, view.row_stride)


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def _lines(size: int) -> int:
    return _round_up(size, CACHE_LINE)


def _round_up(a: int, multiple: int) -> int:
    return _ceil_div(a, multiple) * multiple


def _piece(extent: int, tile: int, pieces: int) -> int:
    """The size of a piece when an extent is cut into at most `pieces` of whole tiles."""
    return max(1, _ceil_div(_ceil_div(extent, tile), pieces)) * tile
