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
from dataclasses import dataclass
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
from minicomp.codegen.llvm_packing import ROWS_AT_A_TIME, emit_packer
from minicomp.codegen.llvm_types import MEMORY, i8
from minicomp.codegen.matmul_plan import CpuMatmulSchedule, Operand, Plan
from minicomp.kernels import MatmulKernel, View
from minicomp.kernels.indexing import row_major_strides


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


@dataclass(frozen=True)
class Range:
    """Part of an axis: from `begin` up to `end`."""

    begin: Size
    end: Size


@dataclass(frozen=True)
class Block:
    """What is worked on at a time: a part of the output, and `depth` values of k from `k` on."""

    rows: Range
    columns: Range
    k: Size
    depth: Size


class _MatmulEmission:
    """The emission of one kernel; methods are named after the loops they emit, outermost first."""

    def __init__(self, plan: Plan, target: Any):
        self.plan, self.schedule, self.target = plan, plan.schedule, target
        kernel = plan.kernel
        comment = f"{plan.schedule}\n{kernel}"
        extra = ["workspace"] if plan.workspace else []
        self.function = kernel_function(kernel.name, kernel.arguments, target, comment, extra)
        self.builder = self.function.builder
        self.module = self.function.module
        self.number = MEMORY[kernel.accumulate]
        if self.schedule.prepacked_b:
            panels = f"panels of {self.schedule.tile_columns} columns, {plan.depth} deep"
            self.builder.comment(f"{kernel.arguments[plan.b.buffer].name} comes packed: {panels}")
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
        pieces = plan.row_pieces * plan.column_pieces
        piece = remainder(builder, unit, pieces, "piece")
        chunk = quotient(builder, unit, pieces, "chunk")
        batches = self._piece(chunk, plan.batch_pieces, plan.unit_batches, plan.batch_size)
        rows = self._piece(piece, plan.row_pieces, plan.unit_rows, plan.rows.extent)
        columns = self._piece(piece, plan.column_pieces, plan.unit_columns, plan.columns.extent)
        for_range(
            builder, batches.begin, batches.end, 1, "batch",
            lambda batch: self._matrix(batch, rows, columns),
        )  # fmt: skip

    def _piece(self, number: Size, pieces: int, size: int, extent: int) -> Range:
        """Where piece `number` of an axis begins and ends."""
        if pieces == 1:
            return Range(0, extent)
        begin = multiply(self.builder, number, size, "begin")
        return self._part(Range(0, extent), begin, size)

    def _part(self, whole: Range, begin: Size, size: int) -> Range:
        """`size` of a range from `begin` on, or what there is."""
        end = add(self.builder, begin, size)
        return Range(begin, minimum(self.builder, end, whole.end, "end"))

    def _matrix(self, batch: Size, rows: Range, columns: Range) -> None:
        """The unit's part of one product of the batch."""
        self._find_matrices(batch)
        self.all_columns = columns
        schedule, builder = self.schedule, self.builder

        def row_block(row: Size) -> None:
            block_rows = self._part(rows, row, schedule.block_rows)

            def column_block(column: Size) -> None:
                block_columns = self._part(columns, column, schedule.block_columns)
                self._depth_blocks(block_rows, block_columns)

            step = schedule.block_columns
            for_range(builder, columns.begin, columns.end, step, "column_block", column_block)

        for_range(builder, rows.begin, rows.end, schedule.block_rows, "row_block", row_block)

    def _find_matrices(self, batch: Size) -> None:
        """Where the operands of this product of the batch begin."""
        plan, builder = self.plan, self.builder
        extents = [variable.extent for variable in plan.kernel.batch]
        positions: list[Size] = []
        for extent, stride in zip(extents, row_major_strides(extents), strict=True):
            whole = quotient(builder, batch, stride)
            positions.append(0 if extent == 1 else remainder(builder, whole, extent, "batch_index"))
        self.given |= {f"batch{n}": value(position) for n, position in enumerate(positions)}
        self.a = self._matrix_start(plan.a, positions, "a")
        self.b = self._matrix_start(plan.b, positions, "b")

    def _matrix_start(self, view: View, positions: list[Size], name: str) -> ir.Value:
        start: Size = view.offset
        for position, stride in zip(positions, view.batch_strides, strict=True):
            start = add(self.builder, start, multiply(self.builder, position, stride))
        dtype = self.plan.kernel.arguments[view.buffer].dtype
        return element(self.builder, self.given[f"buffer{view.buffer}"], start, MEMORY[dtype], name)

    def _depth_blocks(self, rows: Range, columns: Range) -> None:
        plan, builder = self.plan, self.builder

        def depth_block(k: Size) -> None:
            left = subtract(builder, plan.depth, k)
            depth = minimum(builder, left, self.schedule.block_depth, "depth")
            end = value(add(builder, k, depth))
            self.given |= {
                "depth": value(depth),
                "is_first": builder.icmp_signed("==", value(k), value(0), "is_first"),
                "is_last": builder.icmp_signed("==", end, value(plan.depth), "is_last"),
            }
            self._block(Block(rows, columns, k, depth))

        if plan.depth_blocks == 1:
            self._block(Block(rows, columns, 0, plan.depth))
        else:
            step = self.schedule.block_depth
            for_range(builder, 0, plan.depth, step, "depth_block", depth_block)

    def _block(self, block: Block) -> None:
        """Pack a block of b; then, some rows after the others, pack a and run the micro-kernels."""
        schedule = self.schedule

        def columns(body: Callable[[Size, int], None]) -> None:
            extent = self.plan.columns.extent
            self._tiles(block.columns, extent, schedule.tile_columns, "column", body)

        def row_panel(row: Size, height: int) -> None:
            self.builder.comment("one micro-kernel call per tile")
            columns(lambda column, width: self._tile(block, row, height, column, width))

        def packed_rows(first: Size) -> None:
            part = self._part(block.rows, first, self.plan.packed_rows)
            self.first_packed = block.rows.begin if self.schedule.keep_a else part.begin
            self._pack_a_once(block, part)
            self._row_panels(part, row_panel)

        if schedule.pack_b:
            self._pack_b(block, columns)
        if schedule.pack_a:
            step = self.plan.packed_rows
            for_range(self.builder, block.rows.begin, block.rows.end, step, "rows", packed_rows)
        else:
            self._row_panels(block.rows, row_panel)

    def _row_panels(self, part: Range, body: Callable[[Size, int], None]) -> None:
        self._tiles(part, self.plan.rows.extent, self.schedule.tile_rows, "row", body)

    def _tiles(
        self, part: Range, extent: int, step: int, name: str, body: Callable[[Size, int], None]
    ) -> None:
        """body(start, size) for the full tiles of part of an axis, then for what is left.

        The part begins with a whole tile, so that only the end of the axis can cut one short.
        """
        builder, tail = self.builder, extent % step

        def full_tile(start: Size) -> None:
            body(start, step)

        if not tail:
            for_range(builder, part.begin, part.end, step, name, full_tile)
            return
        left = remainder(builder, subtract(builder, part.end, part.begin), step)
        full = subtract(builder, part.end, left, f"full_{name}s")
        for_range(builder, part.begin, full, step, name, full_tile)
        if isinstance(full, int) and isinstance(part.end, int):
            body(full, tail)
            return
        with builder.if_then(builder.icmp_signed("<", value(full), value(part.end))):
            body(full, tail)

    # --- what the loops call ---

    def _pack_a_once(self, block: Block, part: Range) -> None:
        """Pack these rows of a, unless the first column block has done so."""
        if not self.schedule.keep_a:
            self._pack_a(block, part)
            return
        begin, first = value(block.columns.begin), value(self.all_columns.begin)
        with self.builder.if_then(self.builder.icmp_signed("==", begin, first, "is_unpacked")):
            self._pack_a(block, part)

    def _pack_a(self, block: Block, part: Range) -> None:
        """Pack these rows of a."""
        source = self.plan.source_a

        def pack(row: Size, height: int, k: Size, depth: Size) -> None:
            first = self._element(source, self.a, row, add(self.builder, block.k, k))
            packed = self.plan.operand_a(height)
            packer = self._packer(f"pack_a_{height}", source, packed, height)
            place = self._element(packed, self._panel_a(block, row), 0, k)
            self.builder.call(packer, [first, place, value(depth)])

        self.builder.comment("pack these rows of a")
        self._pack(block, source, lambda body: self._row_panels(part, body), pack)

    def _pack_b(self, block: Block, panels: Callable[[Callable[[Size, int], None]], None]) -> None:
        """Pack a block of b."""
        source = self.plan.source_b

        def pack(column: Size, width: int, k: Size, depth: Size) -> None:
            first = self._element(source, self.b, column, add(self.builder, block.k, k))
            packed = self.plan.operand_b(width)
            packer = self._packer(f"pack_b_{width}", source, packed, width)
            place = self._element(packed, self._panel_b(block, column), 0, k)
            self.builder.call(packer, [first, place, value(depth)])

        self.builder.comment("pack a block of b")
        self._pack(block, source, panels, pack)

    def _pack(
        self,
        block: Block,
        source: Operand,
        panels: Callable[[Callable[[Size, int], None]], None],
        pack: Callable[[Size, int, Size, Size], None],
    ) -> None:
        """Pack panels: a few values of k at a time across all of them, or one panel at a time."""
        builder = self.builder
        step = ROWS_AT_A_TIME if source.lane_stride == 1 else self.schedule.block_depth

        def few(k: Size) -> None:
            depth = minimum(builder, subtract(builder, block.depth, k), step, "few")
            panels(lambda lane, lanes: pack(lane, lanes, k, depth))

        for_range(builder, 0, block.depth, step, "first_k", few)

    def _packer(self, name: str, source: Operand, packed: Operand, lanes: int) -> ir.Function:
        if name not in self.packers:
            width = self.schedule.vector_width
            self.packers[name] = emit_packer(self.module, name, source, packed, lanes, width)
        return self.packers[name]

    def _panel_a(self, block: Block, row: Size) -> ir.Value:
        """Where the packed panel of a that begins at `row` lies."""
        builder = self.builder
        offset = subtract(builder, row, self.first_packed)
        offset = multiply(builder, offset, self.schedule.block_depth)
        if self.schedule.keep_a:  # depth block after depth block
            offset = add(builder, offset, multiply(builder, block.k, self.plan.kept_rows))
        return element(builder, self.packed_a, offset, self.number)

    def _panel_b(self, block: Block, column: Size) -> ir.Value:
        """Where the packed panel of b that begins at `column` lies."""
        offset = subtract(self.builder, column, block.columns.begin)
        offset = multiply(self.builder, offset, self.schedule.block_depth)
        return element(self.builder, self.packed_b, offset, self.number)

    def _prepacked_panel(self, block: Block, column: Size, width: int) -> ir.Value:
        """The same where b came packed: panels of the whole depth, column after column."""
        packed = self.plan.operand_b(width)
        panel = element(
            self.builder,
            self.given[f"buffer{self.plan.b.buffer}"],
            multiply(self.builder, column, self.plan.depth),
            self.number,
        )
        return self._element(packed, panel, 0, block.k)

    def _tile(self, block: Block, row: Size, height: int, column: Size, width: int) -> None:
        """Call the micro-kernel for one tile."""
        plan, schedule = self.plan, self.schedule
        if (height, width) not in self.tiles:
            self.tiles[height, width] = emit_tile(self.module, plan, height, width, self.target)
        if schedule.pack_a:
            a = self._panel_a(block, row)
        else:
            a = self._element(plan.source_a, self.a, row, block.k)
        if schedule.prepacked_b:
            b = self._prepacked_panel(block, column, width)
        elif schedule.pack_b:
            b = self._panel_b(block, column)
        else:
            b = self._element(plan.source_b, self.b, column, block.k)
        given = {**self.given, "a": a, "b": b, "row": value(row), "column": value(column)}
        if plan.depth_blocks > 1:
            given["sums"] = self._sums(block, row, height, column)
        self.tiles[height, width].call(self.builder, given)

    def _sums(self, block: Block, row: Size, height: int, column: Size) -> ir.Value:
        """Where a tile's sums are kept between depth blocks: tile after tile, panel after panel."""
        builder = self.builder
        rows_before = subtract(builder, row, block.rows.begin)
        columns_before = subtract(builder, column, block.columns.begin)
        panels = multiply(builder, rows_before, self.plan.kept_columns)
        offset = add(builder, panels, multiply(builder, columns_before, height))
        return element(builder, self.sums, offset, self.number, "sums")

    def _element(self, operand: Operand, start: ir.Value, lane: Size, k: Size) -> ir.Value:
        """Where an operand's element of that row of a (or column of b) and that k lies."""
        builder = self.builder
        across = multiply(builder, lane, operand.lane_stride)
        along = multiply(builder, k, operand.depth_stride)
        return element(builder, start, add(builder, across, along), MEMORY[operand.dtype])
