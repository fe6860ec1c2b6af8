"""Matrix products in PTX: one block of threads per tile of the output.

In: a `kernels.MatmulKernel` and a `GpuMatmulSchedule`. Out: a `PTXKernel`. Where the output is
empty its grid has no blocks, and there is nothing to launch.

What is here finds the block's tile; the family does the product; `ptx_matmul_epilogue` stores it.
"""

from __future__ import annotations

from minicomp.codegen.ptx_addresses import address, split
from minicomp.codegen.ptx_builder import PTXBuilder
from minicomp.codegen.ptx_kernel import GpuTarget, PTXKernel
from minicomp.codegen.ptx_matmul_copies import TileCopy
from minicomp.codegen.ptx_matmul_epilogue import Epilogue
from minicomp.codegen.ptx_matmul_mma import MmaFragments
from minicomp.codegen.ptx_matmul_naive import emit_naive
from minicomp.codegen.ptx_matmul_pipeline import Pipeline
from minicomp.codegen.ptx_matmul_plan import GpuMatmulPlan, GpuMatmulSchedule
from minicomp.codegen.ptx_matmul_simt import Run, SimtFragments
from minicomp.codegen.ptx_types import Register
from minicomp.ir import ITEMSIZE
from minicomp.kernels import MatmulKernel, View


def emit_matmul(kernel: MatmulKernel, schedule: GpuMatmulSchedule, target: GpuTarget) -> PTXKernel:
    """The kernel in PTX. ValueError where the schedule does not fit the kernel or the target."""
    plan = GpuMatmulPlan(kernel, schedule)
    return _MatmulEmission(plan).kernel()


class _MatmulEmission:
    def __init__(self, plan: GpuMatmulPlan):
        self.plan = plan
        names = [argument.name for argument in plan.kernel.arguments]
        self.builder = PTXBuilder(
            plan.kernel.name, names, (plan.threads, 1, 1), comment=f"{plan.schedule}\n{plan.kernel}"
        )

    def kernel(self) -> PTXKernel:
        plan = self.plan
        if plan.blocks:
            self._block()
            if plan.schedule.family == "naive":
                self._naive()
            else:
                self._tiled()
        return PTXKernel(
            self.builder.text(), plan.kernel.name, (plan.blocks, 1, 1), (plan.threads, 1, 1),
            plan.shared_bytes,
        )  # fmt: skip

    def _block(self) -> None:
        """Which product of the batch this block works on, and on which tile of it."""
        builder, plan, schedule = self.builder, self.plan, self.plan.schedule
        builder.comment("which tile of the output is this block's")
        block = builder.special("ctaid.x")
        tiles = plan.tiles_down * plan.tiles_across
        product, tile = block, block
        if plan.batch_size > 1:
            product, tile = builder.div(block, tiles), builder.rem(block, tiles)
        group = min(schedule.group_rows, plan.tiles_down)
        per_group = group * plan.tiles_across
        first = builder.mul(builder.div(tile, per_group), group)
        within = builder.rem(tile, per_group)
        height = group
        if plan.tiles_down % group:  # the last group has fewer rows of tiles
            height = builder.min(builder.sub(builder.mov(plan.tiles_down, "u32"), first), group)
        tile_row = builder.add(first, builder.rem(within, height))
        tile_column = builder.div(within, height)
        self.row = builder.mul(tile_row, schedule.block_rows, "tile_row")
        self.column = builder.mul(tile_column, schedule.block_columns, "tile_column")
        self.batch = split(builder, product, tuple(v.extent for v in plan.kernel.batch))
        self.a = self._matrix(plan.kernel.a, "a_matrix")
        self.b = self._matrix(plan.kernel.b, "b_matrix")
        self.thread = builder.special("tid.x")

    def _matrix(self, view: View, name: str) -> Register:
        """The address of an operand's first element in this block's product."""
        size = ITEMSIZE[self.plan.kernel.arguments[view.buffer].dtype]
        strides = [stride * size for stride in view.batch_strides]
        terms = zip(self.batch, strides, strict=True)
        return address(self.builder, self.builder.pointers[view.buffer], terms, view.offset * size)

    def _naive(self) -> None:
        builder, plan = self.builder, self.plan
        across = plan.schedule.block_columns
        row = builder.add(self.row, builder.div(self.thread, across))
        column = builder.add(self.column, builder.rem(self.thread, across))
        outside = builder.or_(
            builder.setp("ge", row, plan.rows), builder.setp("ge", column, plan.columns)
        )
        with builder.if_then(outside, unless=True):
            total = emit_naive(builder, plan, self.a, self.b, row, column)
            Epilogue(builder, plan, self.batch, row, column).store([Run(0, 0, (total,))])

    def _tiled(self) -> None:
        builder, plan = self.builder, self.plan
        warp, lane = builder.div(self.thread, 32), builder.rem(self.thread, 32)
        warp_row, warp_column = (
            builder.div(warp, plan.warps_across),
            builder.rem(warp, plan.warps_across),
        )
        copies = [
            TileCopy(builder, plan.a, self.a, self.row, self.thread, plan.threads, 0),
            TileCopy(
                builder,
                plan.b,
                self.b,
                self.column,
                self.thread,
                plan.threads,
                plan.a.shared.nbytes,
            ),
        ]
        family = SimtFragments if plan.schedule.family == "simt" else MmaFragments
        fragments = family(builder, plan, warp_row, warp_column, lane)
        Pipeline(builder, plan, copies, fragments).run()
        row = builder.add(self.row, fragments.first_row, "row")
        column = builder.add(self.column, fragments.first_column, "column")
        Epilogue(builder, plan, self.batch, row, column).store(fragments.runs())
