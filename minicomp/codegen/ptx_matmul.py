"""Matrix products in PTX: one block of threads for each tile of the output.

In: a `kernels.MatmulKernel` and a `GpuMatmulSchedule`. Out: a `PTXKernel`. Where the output is
empty its grid has no blocks, and there is nothing to launch. Where blocks share the depth of a tile
it stores their parts to a workspace, one more argument, and `sum_of_parts` has to follow it.

What is here finds the block's tile and puts everything together. Read `ptx_matmul_plan` for the
loops and sizes; `ptx_matmul_pipeline` for the loop down the depth, `ptx_matmul_copies` for how
operands come to shared memory; then a family of what is done with them: `ptx_matmul_naive`,
`ptx_matmul_simt`, `ptx_matmul_mma`; and `ptx_matmul_epilogue`. `ptx_matmul_parts` is about blocks
that share the depth.
"""

from __future__ import annotations

from minicomp.codegen.ptx_builder import PTXBuilder
from minicomp.codegen.ptx_emitter import PTXEmitter
from minicomp.codegen.ptx_index import IndexRegisters
from minicomp.codegen.ptx_kernel import GpuTarget, PTXKernel
from minicomp.codegen.ptx_loops import emit_loop_kernel
from minicomp.codegen.ptx_matmul_copies import Source, TileCopy
from minicomp.codegen.ptx_matmul_epilogue import Epilogue
from minicomp.codegen.ptx_matmul_fragments import Fragments, WarpPlace
from minicomp.codegen.ptx_matmul_mma import MmaFragments
from minicomp.codegen.ptx_matmul_naive import emit_naive
from minicomp.codegen.ptx_matmul_parts import part_variable, partial_product, tiles_of_part
from minicomp.codegen.ptx_matmul_pipeline import Pipeline
from minicomp.codegen.ptx_matmul_plan import GpuMatmulPlan, GpuMatmulSchedule
from minicomp.codegen.ptx_matmul_reduction import reduction_kernel
from minicomp.codegen.ptx_matmul_simt import SimtFragments
from minicomp.codegen.ptx_memory import GlobalBuffer
from minicomp.codegen.ptx_schedule import schedule_loops
from minicomp.codegen.ptx_types import Operand, Register
from minicomp.ir import ITEMSIZE
from minicomp.kernels import MatmulKernel, View
from minicomp.kernels.indexing import Index, LoopVariable, unravel


def emit_matmul(kernel: MatmulKernel, schedule: GpuMatmulSchedule, target: GpuTarget) -> PTXKernel:
    """The kernel in PTX. ValueError where the schedule does not fit the kernel or the target."""
    if schedule.depth_blocks > 1:
        kernel = partial_product(kernel, schedule.depth_blocks)
    plan = GpuMatmulPlan(kernel, schedule)
    if plan.shared_bytes > target.shared_bytes:
        raise ValueError(
            f"{schedule} does not fit {target.name}: kernel {kernel.name} needs {plan.shared_bytes}"
            f" bytes of shared memory, a block has at most {target.shared_bytes}"
        )
    if schedule.family == "reduction" and plan.blocks:
        loops = reduction_kernel(kernel)
        return emit_loop_kernel(loops, schedule_loops(loops, target), target)
    return _MatmulEmission(plan).emitted()


class _MatmulEmission:
    """The emission of one kernel, block by block, warp by warp."""

    def __init__(self, plan: GpuMatmulPlan):
        self.plan = plan
        kernel = plan.kernel
        self.builder = PTXBuilder(
            kernel.name,
            [argument.name for argument in kernel.arguments],
            block=(plan.threads, 1, 1),
            # Without this the assembler spills a few registers of small tiles for more blocks.
            blocks_per_multiprocessor=1,
            comment=f"{plan.schedule}\n{kernel}",
        )
        self.indices = IndexRegisters(self.builder)
        #: the batch's variables, and which part of the depth it is, in terms of the launch's
        self.batch: dict[LoopVariable, Index] = {}

    def emitted(self) -> PTXKernel:
        plan = self.plan
        if plan.blocks:
            self._find_tile()
            epilogue = Epilogue(self._emitter(), plan, self.batch, self.row, self.column)
            if plan.schedule.family == "naive":
                self._naive(epilogue)
            else:
                self._tiled(epilogue)
        return PTXKernel(
            self.builder.text(), plan.kernel.name, (plan.blocks, 1, 1), (plan.threads, 1, 1),
            plan.shared_bytes,
        )  # fmt: skip

    def _emitter(self) -> PTXEmitter:
        kernel, buffers, status = self.plan.kernel, [], None
        for number, (pointer, argument) in enumerate(zip(self.builder.pointers, kernel.arguments)):
            alignment = max(argument.alignment, ITEMSIZE[argument.dtype])
            written = number == kernel.store.buffer
            buffers.append(GlobalBuffer(pointer, argument.dtype, alignment, written))
            if argument.name == "status":
                status = pointer
        return PTXEmitter(self.builder, self.indices, buffers, status)

    # --- the block ---

    def _find_tile(self) -> None:
        """Which product of the batch the block works on, and which tile of it. Tiles are numbered
        down `group_rows` of them, then to the right, then on to the next group."""
        builder, plan, schedule = self.builder, self.plan, self.plan.schedule
        block = builder.special("ctaid.x")
        tiles = plan.tiles_down * plan.tiles_across
        if schedule.depth_blocks > 1:
            block = self._find_part(block, plan.batch_size * tiles)
        builder.comment("which tile of the output is this block's")
        number = self.indices.bind(LoopVariable("product", plan.batch_size), block)
        if plan.batch_size > 1:
            product = builder.div(block, tiles, "product")
            number = self.indices.bind(LoopVariable("product", plan.batch_size), product)
            block = builder.rem(block, tiles)
        positions = unravel(number, [variable.extent for variable in plan.kernel.batch])
        self.batch |= zip(plan.kernel.batch, positions, strict=True)
        group = min(schedule.group_rows, plan.tiles_down)
        height: Operand = group
        first = builder.mul(builder.div(block, group * plan.tiles_across), group)
        within = builder.rem(block, group * plan.tiles_across)
        if plan.tiles_down % group:  # the last group is less high
            height = builder.min(builder.sub(builder.mov(plan.tiles_down, "u32"), first), group)
        tile_row = builder.add(first, builder.rem(within, height), "tile_row")
        tile_column = builder.div(within, height, "tile_column")
        bind = self.indices.bind
        self.row = bind(LoopVariable("tile_row", plan.tiles_down), tile_row) * schedule.block_rows
        self.column = (
            bind(LoopVariable("tile_column", plan.tiles_across), tile_column)
            * schedule.block_columns
        )
        thread = builder.special("tid.x")
        self.thread = bind(LoopVariable("thread", plan.threads), thread)

    def _find_part(self, block: Register, blocks: int) -> Register:
        """Which part of the depth is the block's: of `blocks` each, one after the other. Gives the
        block's number among those of its part."""
        self.builder.comment("which part of the depth is this block's: it sums over that alone")
        variable = part_variable(self.plan.schedule.depth_blocks)
        number = self.builder.div(block, blocks, "part")
        self.batch[variable] = self.indices.bind(variable, number)
        return self.builder.rem(block, blocks)

    def _naive(self, epilogue: Epilogue) -> None:
        across = self.plan.schedule.block_columns
        emitter = epilogue.emitter_at(self.thread // across, self.thread % across)
        epilogue.store_at(emitter, (emit_naive(emitter, self.plan.kernel),))

    # --- the warps ---

    def _tiled(self, epilogue: Epilogue) -> None:
        builder, plan = self.builder, self.plan
        ring = builder.mov(builder.dynamic_shared(), "u32", "ring")
        tiles = tiles_of_part(builder, self.indices, plan.depth_tiles, plan.schedule.depth_blocks)
        copies = self._copies(tiles.first)
        fragments = self._fragments()
        Pipeline(builder, plan, ring, copies, fragments, tiles).run()
        epilogue.store(fragments, self.thread, ring)

    def _copies(self, first_tile: Index) -> list[TileCopy]:
        """One for each operand; in a stage, b's tile follows a's."""
        plan, kernel = self.plan, self.plan.kernel
        return [
            TileCopy(
                self.builder, self.indices, tile, self._source(view, lane, first_tile),
                self.thread, plan.threads, stage_offset,
            )
            for tile, view, lane, stage_offset in (
                (plan.a, kernel.a, self.row, 0),
                (plan.b, kernel.b, self.column, plan.a.shared.nbytes),
            )
        ]  # fmt: skip

    def _source(self, view: View, first_lane: Index, first_tile: Index) -> Source:
        """An operand, at this block's product of the batch."""
        index = Index((), view.offset)
        for variable, stride in zip(self.plan.kernel.batch, view.batch_strides, strict=True):
            index = index + self.batch[variable] * stride
        return Source(self.builder.pointers[view.buffer], index, first_lane, first_tile)

    def _fragments(self) -> Fragments:
        plan = self.plan
        warp, lane = self.thread // 32, self.thread % 32
        of_tile = warp % plan.tile_warps
        place = WarpPlace(
            of_tile // plan.warps_across * plan.schedule.warp_rows,
            of_tile % plan.warps_across * plan.schedule.warp_columns,
            warp // plan.tile_warps * plan.group_depth,
            lane,
        )
        family = SimtFragments if plan.schedule.family == "simt" else MmaFragments
        return family(self.builder, self.indices, plan, place)
