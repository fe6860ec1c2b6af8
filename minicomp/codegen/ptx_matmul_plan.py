"""What a schedule means for one matrix product on a GPU: blocks, warps, tiles, shared memory.

In: a `MatmulKernel` and a `GpuMatmulSchedule`. Out: a `GpuMatmulPlan`, whose numbers are all that
the emission needs. Nothing here knows PTX.

>>> plan = GpuMatmulPlan(kernel, schedule)      # 4096 x 4096 x 4096, blocks of 128 x 128 x 8
>>> plan.threads, plan.blocks, plan.depth_tiles, plan.shared_bytes
(128, 1024, 512, 24960)

The output is cut into tiles, one for each block of threads; a block's tile into those of its
warps, and those into the elements that a thread keeps in registers. All run down the depth:

    for tile of the output:                  # one block each, in parallel
      for tile of the depth:                 # block_depth
        copy both operands' tiles            # global to shared memory, some stages ahead
        for step of the depth:               # 1 (simt) or what an mma instruction takes
          load fragments                     # shared memory to registers
          multiply and accumulate            # on registers
      epilogue, store

Where the depth is shared among blocks (`depth_blocks`), the outermost loop is over its parts, and
what is stored are partial sums: see `ptx_matmul_parts`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

from minicomp.codegen.expression_cost import count_operations
from minicomp.codegen.ptx_matmul_tiles import (
    CHUNK,
    OperandTile,
    SharedLayout,
    near_axis,
    widest_vector,
)
from minicomp.ir import ITEMSIZE
from minicomp.kernels import MatmulKernel, MatmulSchedule, View

FAMILIES = ("naive", "reduction", "simt", "mma")
#: Operations of an epilogue, over all sums of a thread, that may be emitted in line.
INLINE_OPERATIONS = 2000
#: What the tensor cores multiply -> their name for it, and how deep one instruction goes.
MMA_OPERANDS = {"float16": ("f16", 16), "bfloat16": ("bf16", 16), "float32": ("tf32", 8)}


@dataclass(frozen=True)
class GpuMatmulSchedule(MatmulSchedule):
    """How a matrix product runs on a GPU. Sizes are in elements.

    `family` is one of

    - "naive": a thread for each element of the output, in blocks of `block_rows` x `block_columns`;
      operands are read from global memory.
    - "reduction": for a product with a vector. A reduction kernel does it, with the schedule that
      `ptx_schedule` chooses; nothing else here has a meaning then.
    - "simt" and "mma": tiles of `block_depth` are copied to a ring of `stages` in shared memory;
      each warp computes a tile of `warp_rows` x `warp_columns`, by multiplying single numbers, or
      by the tensor cores (float32 is then rounded to TF32). `lane_rows` of a warp's 32 threads are
      along the rows ("simt"). Copies of the next tile are started in `copy_parts`, one a step.
      With several `depth_groups`, so many warps have the same tile of the output: each multiplies
      its part of each tile of the depth, and in the end their sums are added up. Small outputs
      then keep as many warps busy as large ones, with tiles as large for each thread.

    With several `depth_blocks` so many blocks have the same tile of the output, each a part of the
    depth. A second kernel adds their sums up and does the epilogue. Outputs of few tiles then keep
    all multiprocessors busy.

    Blocks start in an order that visits `group_rows` tiles down before it goes on to the right, so
    that those at work at a time share operands in the L2 cache.
    """

    block_rows: int = 128
    block_columns: int = 128
    block_depth: int = 8
    warp_rows: int = 64
    warp_columns: int = 64
    lane_rows: int = 4
    stages: int = 3
    copy_parts: int = 2
    group_rows: int = 8
    depth_groups: int = 1
    depth_blocks: int = 1

    @property
    def label(self) -> str:
        """What a candidate with this schedule is called. `simt_128x128x8_64x64_3`: blocks of
        128x128, 8 deep, warps of 64x64, three stages; `simt_64x32x64_64x32_3_by8_parts33`: eight
        warps share the depth, and in 33 parts so many blocks."""
        if self.family in ("naive", "reduction"):
            return self.family
        block = f"{self.block_rows}x{self.block_columns}x{self.block_depth}"
        shared = f"_by{self.depth_groups}" if self.depth_groups > 1 else ""
        shared += f"_parts{self.depth_blocks}" if self.depth_blocks > 1 else ""
        return f"{self.family}_{block}_{self.warp_rows}x{self.warp_columns}_{self.stages}{shared}"


@dataclass(frozen=True)
class GpuMatmulPlan:
    """A kernel together with a schedule, and the numbers that follow from them."""

    kernel: MatmulKernel
    schedule: GpuMatmulSchedule

    def __post_init__(self) -> None:
        complaint = self._complaint()
        if complaint:
            raise ValueError(f"{self.schedule} does not fit kernel {self.kernel.name}: {complaint}")

    def _complaint(self) -> str:
        """What is wrong with the schedule; empty where it fits."""
        schedule = self.schedule
        if schedule.family not in FAMILIES:
            return f"family must be one of {', '.join(FAMILIES)}"
        sizes = [size for size in schedule.to_dict().values() if type(size) is int]
        if any(size < 1 for size in sizes):
            return "every size must be at least 1"
        if schedule.depth_blocks > 1 and schedule.family in ("naive", "reduction"):
            return "only tiles share their depth among blocks"
        if schedule.family == "reduction":
            return "" if 1 in (self.rows, self.columns) else "neither operand is a vector"
        if schedule.family == "naive":
            return "a block has at most 1024 threads" if self.threads > 1024 else ""
        powers = [schedule.block_rows, schedule.block_columns, schedule.block_depth,
                  schedule.warp_rows, schedule.warp_columns, schedule.lane_rows,
                  schedule.depth_groups]  # fmt: skip
        if any(size & (size - 1) for size in powers):
            return "sizes of tiles must be powers of two"
        if schedule.block_rows < schedule.warp_rows:
            return "block_rows must not be less than warp_rows"
        if schedule.block_columns < schedule.warp_columns:
            return "block_columns must not be less than warp_columns"
        if self.threads > 1024:
            return "a block has at most 1024 threads"
        if schedule.stages < 2:
            return "copies need two stages at least"
        if schedule.block_depth < 2 * self.step_depth * schedule.depth_groups:
            least = 2 * self.step_depth * schedule.depth_groups
            return f"block_depth must be at least {least}, for two steps"
        if schedule.depth_groups > 1 and self.thread_sums < schedule.depth_groups * self.vector:
            return f"a thread must have {schedule.depth_groups * self.vector} sums to share"
        if schedule.depth_blocks > max(1, self.depth_tiles):
            return f"the depth has {self.depth_tiles} tiles, not one for each of depth_blocks"
        return self._simt_complaint() if schedule.family == "simt" else self._mma_complaint()

    def _simt_complaint(self) -> str:
        schedule = self.schedule
        if schedule.lane_rows > 32:
            return "a warp has 32 lanes"
        if schedule.warp_rows < schedule.lane_rows:
            return "warp_rows must not be less than lane_rows"
        if schedule.warp_columns < self.lane_columns:
            return "warp_columns must not be less than the lanes along them"
        return ""

    def _mma_complaint(self) -> str:
        schedule = self.schedule
        kernel = self.kernel
        kinds = {kernel.arguments[view.buffer].dtype for view in (kernel.a, kernel.b)}
        if len(kinds) != 1 or not kinds < MMA_OPERANDS.keys():
            return "tensor cores take two operands of float16, of bfloat16 or of float32"
        if self.kernel.accumulate != "float32":
            return "tensor cores accumulate in float32"
        if schedule.warp_rows % 16 or schedule.warp_columns % 16:
            return "a warp's tile must be a multiple of 16 x 16"
        return ""

    # The product.

    @property
    def rows(self) -> int:
        return self.kernel.row.extent

    @property
    def columns(self) -> int:
        return self.kernel.column.extent

    @property
    def depth(self) -> int:
        return self.kernel.depth

    @cached_property
    def batch_size(self) -> int:
        return prod(variable.extent for variable in self.kernel.batch)

    # Blocks and warps.

    @property
    def warps_down(self) -> int:
        return self.schedule.block_rows // self.schedule.warp_rows

    @property
    def warps_across(self) -> int:
        return self.schedule.block_columns // self.schedule.warp_columns

    @property
    def threads(self) -> int:
        if self.schedule.family == "naive":
            return self.schedule.block_rows * self.schedule.block_columns
        return 32 * self.tile_warps * self.schedule.depth_groups

    @property
    def tile_warps(self) -> int:
        """Warps that the tile of the output is cut into."""
        return self.warps_down * self.warps_across

    @property
    def thread_sums(self) -> int:
        """How many sums a thread has."""
        return self.schedule.warp_rows * self.schedule.warp_columns // 32

    @property
    def vector(self) -> int:
        """Sums that one access of shared memory moves."""
        return CHUNK // ITEMSIZE[self.kernel.accumulate]

    @property
    def tiles_down(self) -> int:
        return -(-self.rows // self.schedule.block_rows)

    @property
    def tiles_across(self) -> int:
        return -(-self.columns // self.schedule.block_columns)

    @property
    def blocks(self) -> int:
        """0 where the output is empty."""
        tiles = self.batch_size * self.tiles_down * self.tiles_across
        return tiles * self.schedule.depth_blocks

    @property
    def depth_tiles(self) -> int:
        return -(-self.depth // self.schedule.block_depth)

    @property
    def part_tiles(self) -> int:
        """Tiles of the depth that a block has at most."""
        return -(-self.depth_tiles // self.schedule.depth_blocks)

    @property
    def step_depth(self) -> int:
        """How much of the depth is in registers at a time."""
        if self.schedule.family == "simt":
            return 1
        dtype = self.kernel.arguments[self.kernel.a.buffer].dtype
        return MMA_OPERANDS[dtype][1] if dtype in MMA_OPERANDS else 1

    @property
    def steps(self) -> int:
        """Steps of one tile of the depth, or of each group's part of it."""
        return self.group_depth // self.step_depth

    @property
    def group_depth(self) -> int:
        """How much of a tile's depth each group of warps does."""
        return self.schedule.block_depth // self.schedule.depth_groups

    @property
    def lane_columns(self) -> int:
        return 32 // self.schedule.lane_rows

    # Operands.

    @cached_property
    def a(self) -> OperandTile:
        view, schedule = self.kernel.a, self.schedule
        return self._operand(
            "a", view, schedule.block_rows, self.rows, view.row_stride, view.column_stride
        )

    @cached_property
    def b(self) -> OperandTile:
        view, schedule = self.kernel.b, self.schedule
        return self._operand(
            "b", view, schedule.block_columns, self.columns, view.column_stride, view.row_stride
        )

    def _operand(
        self, name: str, view: View, lanes: int, count: int, lane_stride: int, depth_stride: int
    ) -> OperandTile:
        """`lanes` of `count` are the block's; see `ptx_matmul_tiles`."""
        argument, depth = self.kernel.arguments[view.buffer], self.schedule.block_depth
        is_simt = self.schedule.family == "simt"
        element = self.kernel.accumulate if is_simt else argument.dtype
        preferred = "lanes" if is_simt else "depth"
        near = near_axis(lane_stride, depth_stride, count, self.depth, preferred)
        inner = "lanes" if is_simt else near
        tile = OperandTile(
            name, view.buffer, view.offset, view.batch_strides, argument.dtype, element, lanes,
            depth, count, self.depth, lane_stride, depth_stride, near,
            self._shared_layout(near, inner, element, lanes, depth), inner,
        )  # fmt: skip
        return tile if tile.transposes else replace(tile, vector=self._vector(tile))

    def _vector(self, tile: OperandTile) -> int:
        """How many elements of a tile one access may move."""
        far_count = tile.depth_count if tile.near == "lanes" else tile.lane_count
        far_stride = tile.far_stride if far_count > 1 else 0
        batches = zip(self.kernel.batch, tile.batch_strides, strict=True)
        strides = (stride for variable, stride in batches if variable.extent > 1)
        narrow = min(CHUNK, self.kernel.arguments[tile.buffer].alignment)
        most = narrow * tile.itemsize // max(tile.itemsize, ITEMSIZE[tile.element])
        others = (tile.near_extent, far_stride, tile.offset, *strides)
        return widest_vector(most, tile.itemsize, tile.near_stride, tile.near_count, others)

    def _shared_layout(
        self, near: str, inner: str, element: str, lanes: int, depth: int
    ) -> SharedLayout:
        size = ITEMSIZE[element]
        outer_extent, inner_extent = (depth, lanes) if inner == "lanes" else (lanes, depth)
        if self.schedule.family == "simt":
            # Rows of a transposed tile are written down a column: padding moves it across banks.
            padding = CHUNK if near != inner else 0
            return SharedLayout(outer_extent, inner_extent, size, padding)
        if size == 4 and inner == "lanes":
            # No ldmatrix transposes 32-bit elements. A warp reads 8 elements of 4 rows at a time.
            return SharedLayout(outer_extent, inner_extent, size, 8 * size)
        return SharedLayout(outer_extent, inner_extent, size, swizzled=True)

    # Shared memory: a ring of stages, each [tile of a] [tile of b].

    @property
    def stage_bytes(self) -> int:
        return self.a.shared.nbytes + self.b.shared.nbytes

    @property
    def shared_bytes(self) -> int:
        """What a block needs: the ring, and later, in its place, the sums if they are staged."""
        if self.schedule.family not in ("simt", "mma"):
            return 0
        staged = self.schedule.depth_groups * self.staged_bytes if self.is_staged else 0
        return max(self.schedule.stages * self.stage_bytes, staged)

    # The epilogue.

    @property
    def is_staged(self) -> bool:
        """Whether sums go through shared memory: to be added up, or to a loop that has a long
        epilogue only once."""
        operations = self.thread_sums * count_operations(self.kernel.store.scalar)
        return self.schedule.depth_groups > 1 or operations > INLINE_OPERATIONS

    @property
    def staged_bytes(self) -> int:
        """What the staged sums of one group take."""
        return self.schedule.block_rows * self.staged_pitch

    @property
    def staged_pitch(self) -> int:
        """Bytes from row to row of the staged sums. The padding spreads the rows that the threads
        of a warp write at a time over the banks."""
        return self.schedule.block_columns * ITEMSIZE[self.kernel.accumulate] + 2 * CHUNK
