"""What a schedule means for one convolution on the CPU: tiles, blocks, units, workspace.

In: a `ConvolutionKernel` and a `ConvolutionSchedule`. Out: a `ConvolutionPlan`, whose numbers are
all that `llvm_convolution` needs to emit the loops. Nothing here knows LLVM.

    for unit:                                  # parallel: a piece of the filters and of the lines
      for filter block:                        # block_filters: as many as stay in the L2 cache
        pack the block's filters, panel by panel
        for line:                              # a line is an (image, output y)
          for panel:                           # tile_filters
            for tile of the line:              # tile_pixels
              micro-kernel                     # the tile's sums stay in registers

The micro-kernel's lanes are filters, and an entry of the image is spread over all of them. So the
windows need not be laid out anywhere, whatever their step and dilation, and what they read of the
padding is known before: these products, of zeros, are left out. Along y that is a shorter loop;
along x, other code for the tiles at the ends of a line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from minicomp.codegen.matmul_plan import CACHE_LINE, Operand
from minicomp.ir import ITEMSIZE
from minicomp.kernels import MatmulSchedule
from minicomp.kernels.convolution import ConvolutionKernel, WindowAxis
from minicomp.kernels.indexing import LoopVariable


@dataclass(frozen=True)
class ConvolutionSchedule(MatmulSchedule):
    """How a convolution runs on the CPU. Sizes are numbers of filters and of output pixels.

    A tile is tile_pixels x tile_filters of the output. `filter_pieces` and `line_pieces` cut the
    filters and the lines into parallel units.
    """

    vector_width: int = 16
    tile_pixels: int = 14
    tile_filters: int = 32
    block_filters: int = 256
    filter_pieces: int = 1
    line_pieces: int = 1

    @property
    def label(self) -> str:
        """What a candidate with this schedule is called. `windows_14x32_256_2f`: tiles of 14
        pixels by 32 filters, 256 filters packed at a time; the filters in two pieces."""
        parts = [
            self.family,
            f"{self.tile_pixels}x{self.tile_filters}",
            f"{self.block_filters}",
            f"{self.filter_pieces}f" if self.filter_pieces > 1 else "",
            f"{self.line_pieces}l" if self.line_pieces > 1 else "",
        ]
        return "_".join(filter(None, parts))


@dataclass(frozen=True)
class LineTile:
    """Neighbouring pixels of a line: how many, and for each tap of x which of them it serves, as
    the others would read padding."""

    pixels: int
    served: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class TileRun:
    """`count` tiles of a line, one after the other from pixel `start` on, that are alike."""

    tile: LineTile
    start: int
    count: int


@dataclass(frozen=True)
class ConvolutionPlan:
    """A kernel together with a schedule, and the numbers that follow from them."""

    kernel: ConvolutionKernel
    schedule: ConvolutionSchedule

    def __post_init__(self) -> None:
        schedule = self.schedule
        sizes = [size for size in schedule.to_dict().values() if type(size) is int]
        complaint = ""
        if min(sizes) < 1:
            complaint = "every size must be at least 1"
        elif schedule.tile_filters % schedule.vector_width:
            complaint = "tile_filters must be a multiple of vector_width"
        elif schedule.block_filters % schedule.tile_filters:
            complaint = "block_filters must be a multiple of tile_filters"
        elif schedule.tile_pixels > schedule.vector_width:
            complaint = "tile_pixels must not exceed vector_width"
        if complaint:
            raise ValueError(f"{schedule} does not fit kernel {self.kernel.name}: {complaint}")

    # The output as `llvm_epilogue` stores it: rows are filters, whose pixels are neighbours.

    @property
    def rows(self) -> LoopVariable:
        return self.kernel.filter

    @property
    def columns(self) -> LoopVariable:
        return self.kernel.x

    @property
    def x(self) -> WindowAxis:
        return self.kernel.images.x

    @property
    def y(self) -> WindowAxis:
        return self.kernel.images.y

    # Tiles.

    def tile_runs(self) -> list[TileRun]:
        """The tiles of a line."""
        runs, start = [], 0
        for tile, alike in groupby(self._tiles()):
            count = len(list(alike))
            runs.append(TileRun(tile, start, count))
            start += count * tile.pixels
        return runs

    def _tiles(self) -> Iterator[LineTile]:
        step, extent = self.schedule.tile_pixels, self.columns.extent
        for start in range(0, extent, step):
            within = [self.x.taps_within(x) for x in range(start, min(start + step, extent))]
            served = (
                tuple(pixel for pixel, taps in enumerate(within) if tap in taps)
                for tap in range(self.x.taps)
            )
            yield LineTile(len(within), tuple(served))

    def panel_width(self, filters: int) -> int:
        """Filters of a packed panel: padded to whole vectors."""
        width = self.schedule.vector_width
        return _ceil_div(filters, width) * width

    @property
    def filter_tail(self) -> int:
        """Filters that are left over after the full tiles."""
        return self.rows.extent % self.schedule.tile_filters

    # Operands.

    @property
    def source_filters(self) -> Operand:
        """The filters as they lie in their buffer."""
        view, dtype = self.kernel.filters, self.kernel.accumulate
        return Operand(dtype, dtype, view.column_stride, view.row_stride, self.itemsize)

    def packed_filters(self, filters: int) -> Operand:
        """A panel of that many filters."""
        dtype, width = self.kernel.accumulate, self.panel_width(filters)
        return Operand(dtype, dtype, 1, width, self.vector_alignment, padded=True)

    @property
    def pixels(self) -> Operand:
        """Entries of the images, one at a time."""
        dtype = self.kernel.accumulate
        return Operand(dtype, dtype, self.x.stride, self.x.stride, self.itemsize)

    @property
    def itemsize(self) -> int:
        return ITEMSIZE[self.kernel.accumulate]

    @property
    def vector_alignment(self) -> int:
        """Of the workspace's vectors, in bytes."""
        return min(CACHE_LINE, self.schedule.vector_width * self.itemsize)

    # Parallel units, and the workspace: one block of packed filters for each.

    @property
    def lines(self) -> int:
        return self.kernel.image.extent * self.kernel.y.extent

    @property
    def unit_lines(self) -> int:
        return max(1, _ceil_div(self.lines, self.schedule.line_pieces))

    @property
    def unit_filters(self) -> int:
        """Whole tiles, so that only the last unit has a tail."""
        tile = self.schedule.tile_filters
        tiles = _ceil_div(self.rows.extent, tile)
        return max(1, _ceil_div(tiles, self.schedule.filter_pieces)) * tile

    @property
    def line_pieces(self) -> int:
        return _ceil_div(self.lines, self.unit_lines)

    @property
    def filter_pieces(self) -> int:
        return _ceil_div(self.rows.extent, self.unit_filters)

    @property
    def units(self) -> int:
        """Independent pieces of work; 0 where the output is empty."""
        return self.line_pieces * self.filter_pieces if self.columns.extent else 0

    @property
    def workspace(self) -> int:
        """Bytes that a unit needs."""
        filters = min(self.schedule.block_filters, self.unit_filters)
        nbytes = filters * self.kernel.depth * self.itemsize
        return _ceil_div(nbytes, CACHE_LINE) * CACHE_LINE


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)
