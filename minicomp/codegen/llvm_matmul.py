"""Matrix products in LLVM IR: the loops around the micro-kernel.

In: a `kernels.MatmulKernel` and a `CpuMatmulSchedule`. Out: the text of a module defining
`void @name(ptr args, i64 begin, i64 end)`, which does the parallel units [begin, end). `args`
holds the kernel's arguments and then, where `workspace` is not 0, a pointer to that many bytes,
aligned to 64; the units of one call share the slice that belongs to the first of them.

The loops are those of `matmul_plan`; `llvm_packing` and `llvm_microkernel` define what they call.
No call overlaps another's output: units may run in any order, and in parallel.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from llvmlite import ir

from minicomp.codegen.llvm_control import (
    Size,
    add,
    element,
    for_range,
    minimum,
    multiply,
    quotient,
    remainder,
    subtract,
    value,
)
from minicomp.codegen.llvm_function import kernel_function
from minicomp.codegen.llvm_microkernel import Tile, emit_tile
from minicomp.codegen.llvm_packing import emit_packer
from minicomp.codegen.llvm_types import MEMORY, i8
from minicomp.codegen.matmul_plan import CpuMatmulSchedule, Operand, Plan
from minicomp.indexing import row_major_strides
from minicomp.kernels import MatmulKernel, View


def emit_matmul(kernel: MatmulKernel, schedule: CpuMatmulSchedule, target: Any) -> str:
    """The kernel's LLVM IR as text. ValueError where the schedule does not fit the kernel."""
    return _MatmulEmission(Plan(kernel, schedule), target).text()


def units(kernel: MatmulKernel, schedule: CpuMatmulSchedule) -> int:
    """How many independent units of work there are; 0 where the output is empty."""
    return Plan(kernel, schedule).units


def workspace(kernel: MatmulKernel, schedule: CpuMatmulSchedule) -> int:
    """Bytes of workspace, for all units together."""
    plan = Plan(kernel, schedule)
    return plan.units * plan.workspace


class _MatmulEmission:
    """The emission of one kernel; methods are named after the loops they emit, outermost first."""

    def __init__(self, plan: Plan, target: Any):
        self.plan, self.schedule = plan, plan.schedule
        kernel = plan.kernel
        comment = f"{plan.schedule}\n{kernel}"
        extra = ["workspace"] if plan.workspace else []
        self.function = kernel_function(kernel.name, kernel.arguments, target, comment, extra)
        self.builder = self.function.builder
        self.module = self.function.module
        self.number = MEMORY[kernel.accumulate]
        self.tiles: dict[tuple[int, int], Tile] = {}
        self.packers: dict[str, ir.Function] = {}
        #: what every tile is given: buffers, batch and workspace positions
        self.given: dict[str, ir.Value] = {
            f"buffer{n}": pointer
            for n, pointer in enumerate(self.function.pointers[: len(kernel.arguments)])
        }

    def text(self) -> str:
        if self.plan.units:
            if self.plan.workspace:
                self._divide_workspace()
            for_range(self.builder, self.function.begin, self.function.end, 1, "unit", self._unit)
        self.builder.ret_void()
        return str(self.module)

    def _divide_workspace(self) -> None:
        plan, builder = self.plan, self.builder
        own = multiply(builder, self.function.begin, plan.workspace)
        self.packed_a = element(builder, self.function.pointers[-1], own, i8, "packed_a")
        self.packed_b = element(builder, self.packed_a, plan.packed_a_bytes, i8, "packed_b")
        self.sums = element(builder, self.packed_b, plan.packed_b_bytes, i8, "sums")

    # --- the loops ---

    def _unit(self, unit: Size) -> None:
        """One unit: a range of the batch, and a piece of the rows or of the columns."""
        plan, builder = self.plan, self.builder
        piece = remainder(builder, unit, plan.row_pieces * plan.column_pieces, "piece")
        chunk = quotient(builder, unit, plan.row_pieces * plan.column_pieces, "chunk")
        rows, columns = plan.rows.extent, plan.columns.extent
        self.row_begin, self.row_end = self._piece(piece, plan.row_pieces, plan.unit_rows, rows)
        self.column_begin, self.column_end = self._piece(
            piece, plan.column_pieces, plan.unit_columns, columns
        )
        begin, end = self._piece(chunk, plan.batch_pieces, plan.unit_batches, plan.batch_size)
        for_range(builder, begin, end, 1, "batch", self._matrix)

    def _piece(self, number: Size, pieces: int, size: int, extent: int) -> tuple[Size, Size]:
        """Where piece `number` of an axis begins and ends."""
        if pieces == 1:
            return 0, extent
        begin = multiply(self.builder, number, size, "begin")
        return begin, minimum(self.builder, add(self.builder, begin, size), extent, "end")

    def _matrix(self, batch: Size) -> None:
        """One product of the batch, block by block."""
        plan, builder = self.plan, self.builder
        extents = [variable.extent for variable in plan.kernel.batch]
        positions: list[Size] = []
        for extent, stride in zip(extents, row_major_strides(extents), strict=True):
            whole = quotient(builder, batch, stride)
            positions.append(0 if extent == 1 else remainder(builder, whole, extent, "batch_index"))
        self.given |= {f"batch{n}": value(position) for n, position in enumerate(positions)}
        self.a = self._matrix_start(plan.a, positions, "a")
        self.b = self._matrix_start(plan.b, positions, "b")
        for_range(
            builder, self.column_begin, self.column_end, self.schedule.block_columns,
            "column_block", self._column_block,
        )  # fmt: skip

    def _matrix_start(self, view: View, positions: list[Size], name: str) -> ir.Value:
        start: Size = view.offset
        for position, stride in zip(positions, view.batch_strides, strict=True):
            start = add(self.builder, start, multiply(self.builder, position, stride))
        dtype = self.plan.kernel.arguments[view.buffer].dtype
        return element(self.builder, self.given[f"buffer{view.buffer}"], start, MEMORY[dtype], name)

    def _column_block(self, column_begin: Size) -> None:
        plan, builder = self.plan, self.builder
        block_end = add(builder, column_begin, self.schedule.block_columns)
        column_end = minimum(builder, block_end, self.column_end, "block_end")

        def depth_block(k: Size) -> None:
            depth = minimum(builder, subtract(builder, plan.depth, k), self.schedule.block_depth)
            self.given |= {
                "depth": value(depth),
                "is_first": builder.icmp_signed("==", value(k), value(0), "is_first"),
                "is_last": builder.icmp_signed(
                    ">=", value(add(builder, k, depth)), value(plan.depth), "is_last"),
            }  # fmt: skip
            self._block(column_begin, column_end, k, depth)

        if plan.depth_blocks == 1:
            self._block(column_begin, column_end, 0, plan.depth)
        else:
            step = self.schedule.block_depth
            for_range(builder, 0, plan.depth, step, "depth_block", depth_block)

    def _block(self, column_begin: Size, column_end: Size, k: Size, depth: Size) -> None:
        """Pack a block of b; then row panel by row panel, pack a and run the micro-kernels."""
        columns = partial(
            self._tiles, column_begin, column_end, self.plan.columns.extent,
            self.schedule.tile_columns, "column",
        )  # fmt: skip

        def pack_b(column: Size, width: int) -> None:
            self._pack("b", column, k, depth, width, self._panel_b(column_begin, column))

        def row_panel(row: Size, height: int) -> None:
            if self.schedule.pack_a:
                self._pack("a", row, k, depth, height, self.packed_a)

            def tile(column: Size, width: int) -> None:
                self._tile(row, height, column, width, k, column_begin)

            columns(tile)

        if self.schedule.pack_b:
            columns(pack_b)
        rows = self.plan.rows.extent
        self._tiles(self.row_begin, self.row_end, rows, self.schedule.tile_rows, "row", row_panel)

    def _tiles(
        self,
        begin: Size,
        end: Size,
        extent: int,
        step: int,
        name: str,
        body: Callable[[Size, int], None],
    ) -> None:
        """body(start, size) for the full tiles of an axis in [begin, end), then for what is left.

        `begin` is the start of a tile, so that only the end of the axis can cut one short.
        """
        builder, tail = self.builder, extent % step
        if not tail:
            for_range(builder, begin, end, step, name, lambda start: body(start, step))
            return
        left = remainder(builder, subtract(builder, end, begin), step)
        full = subtract(builder, end, left, f"full_{name}s")
        for_range(builder, begin, full, step, name, lambda start: body(start, step))
        if isinstance(full, int) and isinstance(end, int):
            body(full, tail)
            return
        with builder.if_then(builder.icmp_signed("<", value(full), value(end))):
            body(full, tail)

    # --- what the loops call ---

    def _panel_b(self, column_begin: Size, column: Size) -> ir.Value:
        """Where the packed panel of b that begins at `column` lies."""
        offset = subtract(self.builder, column, column_begin)
        offset = multiply(self.builder, offset, self.schedule.block_depth)
        return element(self.builder, self.packed_b, offset, self.number)

    def _pack(
        self, which: str, lane: Size, k: Size, depth: Size, lanes: int, panel: ir.Value
    ) -> None:
        plan = self.plan
        if which == "a":
            source, packed, start = plan.source_a, plan.operand_a(lanes), self.a
        else:
            source, packed, start = plan.source_b, plan.operand_b(lanes), self.b
        name = f"pack_{which}_{lanes}"
        if name not in self.packers:
            width = self.schedule.vector_width
            self.packers[name] = emit_packer(self.module, name, source, packed, lanes, width)
        first = self._element(source, start, lane, k)
        self.builder.call(self.packers[name], [first, panel, value(depth)])

    def _tile(
        self, row: Size, height: int, column: Size, width: int, k: Size, column_begin: Size
    ) -> None:
        """Call the micro-kernel for one tile."""
        plan, builder = self.plan, self.builder
        if (height, width) not in self.tiles:
            self.tiles[height, width] = emit_tile(self.module, plan, height, width)
        if self.schedule.pack_a:
            a = self.packed_a
        else:
            a = self._element(plan.source_a, self.a, row, k)
        if self.schedule.pack_b:
            b = self._panel_b(column_begin, column)
        else:
            b = self._element(plan.source_b, self.b, column, k)
        given = {**self.given, "a": a, "b": b, "row": value(row), "column": value(column)}
        if plan.depth_blocks > 1:
            given["sums"] = self._sums(row, height, column, column_begin)
        self.tiles[height, width].call(builder, given)

    def _sums(self, row: Size, height: int, column: Size, column_begin: Size) -> ir.Value:
        """Where a tile's sums are kept between depth blocks: tile after tile, panel after panel."""
        builder, plan = self.builder, self.plan
        rows_before = subtract(builder, row, self.row_begin)
        columns_before = subtract(builder, column, column_begin)
        panels = multiply(builder, rows_before, plan.kept_columns)
        offset = add(builder, panels, multiply(builder, columns_before, height))
        return element(builder, self.sums, offset, self.number, "sums")

    def _element(self, operand: Operand, start: ir.Value, lane: Size, k: Size) -> ir.Value:
        """Where an operand's element of that row of a (or column of b) and that k lies."""
        builder = self.builder
        across = multiply(builder, lane, operand.lane_stride)
        along = multiply(builder, k, operand.depth_stride)
        return element(builder, start, add(builder, across, along), MEMORY[operand.dtype])
