"""Convolutions in LLVM IR: windows read in place, against packed filters.

In: a `ConvolutionKernel` and a `ConvolutionSchedule`. Out: the text of a module defining
`void @name(ptr args, i64 begin, i64 end)`, as `llvm_matmul` does. The loops are those of
`convolution_plan`; this file has them, `llvm_window_tile` the micro-kernel that they call.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from minicomp.codegen.convolution_plan import ConvolutionPlan, ConvolutionSchedule, LineTile
from minicomp.codegen.llvm_control import (
    Size,
    add,
    element,
    for_range,
    maximum,
    minimum,
    multiply,
    quotient,
    remainder,
    subtract,
    value,
)
from minicomp.codegen.llvm_function import kernel_function
from minicomp.codegen.llvm_microkernel import Tile
from minicomp.codegen.llvm_packing import emit_packer
from minicomp.codegen.llvm_types import MEMORY, i8
from minicomp.codegen.llvm_window_tile import emit_window_tile
from minicomp.kernels.convolution import ConvolutionKernel, WindowAxis


def emit_convolution(kernel: ConvolutionKernel, schedule: ConvolutionSchedule, target: Any) -> str:
    """The kernel's LLVM IR as text. ValueError where the schedule does not fit the kernel."""
    return _ConvolutionEmission(ConvolutionPlan(kernel, schedule), target).text()


class _ConvolutionEmission:
    """The emission of one kernel; methods are named after the loops they emit, outermost first."""

    def __init__(self, plan: ConvolutionPlan, target: Any):
        self.plan, self.schedule, self.target = plan, plan.schedule, target
        kernel = self.kernel = plan.kernel
        comment = f"{plan.schedule}\n{kernel}"
        function = kernel_function(kernel.name, kernel.arguments, target, comment, ["workspace"])
        self.function, self.builder, self.module = function, function.builder, function.module
        self.number = MEMORY[kernel.accumulate]
        self.tiles: dict[tuple[LineTile, int], Tile] = {}
        self.packers: dict[int, ir.Function] = {}
        #: what every tile is given: buffers, and where in the output it lies
        self.given: dict[str, ir.Value] = {
            f"buffer{n}": pointer
            for n, pointer in enumerate(function.pointers[: len(kernel.arguments)])
        }

    def text(self) -> str:
        plan, builder = self.plan, self.builder
        if plan.units:
            own = multiply(builder, self.function.begin, plan.workspace)
            self.packed = element(builder, self.function.pointers[-1], own, i8, "packed")
            for_range(builder, self.function.begin, self.function.end, 1, "unit", self._unit)
        builder.ret_void()
        return str(self.module)

    # --- the loops ---

    def _unit(self, unit: Size) -> None:
        """One unit: a piece of the filters and a piece of the lines."""
        plan, builder = self.plan, self.builder
        piece = remainder(builder, unit, plan.filter_pieces, "piece")
        chunk = quotient(builder, unit, plan.filter_pieces, "chunk")
        lines = self._piece(chunk, plan.line_pieces, plan.unit_lines, plan.lines)
        filters = self._piece(piece, plan.filter_pieces, plan.unit_filters, plan.rows.extent)

        def filter_block(first: Size) -> None:
            end = add(builder, first, self.schedule.block_filters)
            end = minimum(builder, end, filters[1], "end")
            builder.comment("pack a block of filters, panel by panel")
            self._panels(first, end, lambda panel, width: self._pack(first, panel, width))
            for_range(
                builder, *lines, 1, "line", lambda line: self._line(line, first, end)
            )  # fmt: skip

        for_range(builder, *filters, self.schedule.block_filters, "filter_block", filter_block)

    def _piece(self, number: Size, pieces: int, size: int, extent: int) -> tuple[Size, Size]:
        """Where piece `number` of an axis begins and ends."""
        if pieces == 1:
            return 0, extent
        begin = multiply(self.builder, number, size, "begin")
        return begin, minimum(self.builder, add(self.builder, begin, size), extent, "end")

    def _panels(self, begin: Size, end: Size, body: Any) -> None:
        """body(first filter, how many) for the panels of a block, which begins with a whole one:
        only the end of the filters can cut one short."""
        builder, step, tail = self.builder, self.schedule.tile_filters, self.plan.filter_tail
        left = remainder(builder, subtract(builder, end, begin), step) if tail else 0
        full = subtract(builder, end, left, "full_panels")
        for_range(builder, begin, full, step, "panel", lambda first: body(first, step))
        if isinstance(full, int) and isinstance(end, int):
            if full < end:
                body(full, tail)
        elif tail:
            with builder.if_then(builder.icmp_signed("<", value(full), value(end))):
                body(full, tail)

    def _line(self, line: Size, first: Size, end: Size) -> None:
        """One line of one image, for a block of filters."""
        plan, builder, images = self.plan, self.builder, self.kernel.images
        image = quotient(builder, line, self.kernel.y.extent, "image")
        y = remainder(builder, line, self.kernel.y.extent, "y")
        start = subtract(builder, multiply(builder, y, plan.y.step), plan.y.padding, "start")
        whole = plan.y.is_within(self.kernel.y.extent)
        begin, count = (0, plan.y.taps) if whole else self._taps(plan.y, start)
        offset: Size = add(builder, images.offset, multiply(builder, image, images.image_stride))
        offset = add(builder, offset, multiply(builder, start, plan.y.stride))
        source = element(builder, self.given[f"buffer{images.buffer}"], offset, self.number, "row")
        self.given |= {
            "image": value(image), "y": value(y),
            "tap_y": value(begin), "taps_y": value(count),
        }  # fmt: skip
        self._panels(first, end, lambda panel, width: self._tiles(source, first, panel, width))

    def _taps(self, axis: WindowAxis, start: Size) -> tuple[Size, Size]:
        """The first tap that reads an entry of the image, and how many do, for the output whose
        first tap is at `start`; as `WindowAxis.taps_within` has it."""
        builder, gap = self.builder, axis.dilation
        before = maximum(builder, subtract(builder, 0, start), 0)
        first = minimum(builder, quotient(builder, add(builder, before, gap - 1), gap), axis.taps)
        room = maximum(builder, subtract(builder, axis.size + gap - 1, start), 0)
        end = minimum(builder, quotient(builder, room, gap), axis.taps)
        return first, maximum(builder, subtract(builder, end, first), 0, "taps")

    def _tiles(self, source: ir.Value, first: Size, panel: Size, filters: int) -> None:
        """The tiles of a line, for one panel of filters."""
        plan, builder, x = self.plan, self.builder, self.plan.x
        packed = self._panel(first, panel)
        for run in plan.tile_runs():

            def tile(start: Size, line_tile: LineTile = run.tile) -> None:
                key = (line_tile, filters)
                if key not in self.tiles:
                    name = f"tile{len(self.tiles)}_{line_tile.pixels}x{filters}"
                    self.tiles[key] = emit_window_tile(self.module, name, plan, *key, self.target)
                column = subtract(builder, multiply(builder, start, x.step), x.padding)
                pixels = element(
                    builder, source, multiply(builder, column, x.stride), self.number, "pixels"
                )
                given = {**self.given, "pixels": pixels, "packed": packed}
                given |= {"x": value(start), "filter": value(panel)}
                self.tiles[key].call(builder, given)

            pixels = run.tile.pixels
            for_range(builder, run.start, run.start + run.count * pixels, pixels, "x", tile)

    # --- packing ---

    def _pack(self, first: Size, panel: Size, filters: int) -> None:
        plan, builder, view = self.plan, self.builder, self.kernel.filters
        source = plan.source_filters
        if filters not in self.packers:
            self.packers[filters] = emit_packer(
                self.module, f"pack_{filters}", source, plan.packed_filters(filters), filters,
                self.schedule.vector_width,
            )  # fmt: skip
        offset = add(builder, view.offset, multiply(builder, panel, source.lane_stride))
        start = element(builder, self.given[f"buffer{view.buffer}"], offset, self.number)
        depth = value(self.kernel.depth)
        builder.call(self.packers[filters], [start, self._panel(first, panel), depth])

    def _panel(self, first: Size, panel: Size) -> ir.Value:
        """Where the packed panel that begins with filter `panel` lies."""
        builder = self.builder
        offset = multiply(builder, subtract(builder, panel, first), self.kernel.depth)
        return element(builder, self.packed, offset, self.number, "packed")
