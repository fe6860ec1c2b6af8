"""The micro-kernel of convolutions: one tile of the output, its sums in registers throughout.

In: a `ConvolutionPlan`, some neighbouring pixels of a line and a number of filters. Out: an
internal LLVM function, to which the loops in `llvm_convolution` pass a pointer to what the first
tap of the first pixel reads, and one to the packed panel of filters. For 2 pixels, 16 filters and
3 x 3 taps, at the left end of a line with padding:

    define internal void @tile(ptr %pixels, ptr %packed, i64 %tap_y, i64 %taps_y, ...) {
      for channel in 64:
        for y in tap_y .. tap_y + taps_y:      ; those that are within the image
          sums[1] = fma(splat(pixels[1]), packed[0:16], sums[1])   ; pixel 0 would read padding
          sums[0] = fma(splat(pixels[1]), packed[16:32], sums[0])
          sums[1] = fma(splat(pixels[2]), packed[16:32], sums[1]) ...
      transpose the sums; out[filter, x:x+2] = epilogue(..) for each filter
    }

Every sum takes its products in the order of k, each with one rounding (a fused multiply-add).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from minicomp.codegen.convolution_plan import ConvolutionPlan, LineTile
from minicomp.codegen.llvm_control import carried_loop, element, multiply
from minicomp.codegen.llvm_emitter import LLVMEmitter
from minicomp.codegen.llvm_epilogue import Epilogue
from minicomp.codegen.llvm_function import symbol
from minicomp.codegen.llvm_microkernel import Tile
from minicomp.codegen.llvm_types import MEMORY, i64, literal, pointer, void
from minicomp.codegen.llvm_vectors import (
    broadcast_element,
    lane_range,
    load_lanes,
    register_lanes,
    transpose,
)

Sums = Sequence[ir.Value]


def emit_window_tile(
    module: ir.Module, name: str, plan: ConvolutionPlan, tile: LineTile, filters: int, target: Any
) -> Tile:
    """Define the function for such tiles."""
    return _WindowTileEmission(module, name, plan, tile, filters, target).emit()


class _WindowTileEmission:
    """The emission of one function. Sums are listed pixel by pixel, a pixel's vectors in turn."""

    def __init__(
        self,
        module: ir.Module,
        name: str,
        plan: ConvolutionPlan,
        tile: LineTile,
        filters: int,
        target: Any,
    ):
        self.plan, self.tile, self.filters = plan, tile, filters
        self.width = plan.schedule.vector_width
        self.vectors = plan.panel_width(filters) // self.width
        self.number = MEMORY[plan.kernel.accumulate]
        kernel = plan.kernel
        kinds = {"pixels": pointer, "packed": pointer, "tap_y": i64, "taps_y": i64}
        kinds |= {f"buffer{number}": pointer for number in range(len(kernel.arguments))}
        kinds |= {"image": i64, "y": i64, "x": i64, "filter": i64}
        function = ir.Function(module, ir.FunctionType(void, list(kinds.values())), name)
        function.linkage = "internal"
        self.given: dict[str, ir.Value] = dict(zip(kinds, function.args, strict=True))
        names = {f"buffer{n}": symbol(a.name) for n, a in enumerate(kernel.arguments)}
        for key, argument in self.given.items():
            argument.name = names.get(key, key)
        self.function = function
        self.builder = ir.IRBuilder(function.append_basic_block("entry"))
        buffers = [
            (self.given[f"buffer{n}"], argument.dtype)
            for n, argument in enumerate(kernel.arguments)
        ]
        self.emitter = LLVMEmitter(self.builder, buffers, target=target)

    def emit(self) -> Tile:
        self.builder.comment(f"{self.tile.pixels} pixels x {self.filters} filters")
        zero = literal(self.number, 0.0, self.width)
        sums = self._channels([zero] * (self.tile.pixels * self.vectors))
        self._epilogue(self._by_filter(sums))
        self.builder.ret_void()
        return Tile(self.function, tuple(self.given))

    # --- the product ---

    def _channels(self, sums: Sums) -> Sums:
        """The sums over all channels."""
        plan, builder, images = self.plan, self.builder, self.plan.kernel.images
        panel = plan.panel_width(self.filters)
        first = self.given["tap_y"]
        row = multiply(builder, first, plan.y.dilation * plan.y.stride)
        pixels = element(builder, self.given["pixels"], row, self.number)
        line = multiply(builder, first, plan.x.taps * panel)
        packed = element(builder, self.given["packed"], line, self.number)

        def channel(state: Sums) -> Sums:
            pixels, packed, *_ = state
            taps = plan.y.taps * plan.x.taps
            following = [
                element(builder, pixels, images.channel_stride, self.number, "pixels.next"),
                element(builder, packed, taps * panel, self.number, "packed.next"),
            ]
            names = ["row", "filters", "sum"]
            rows = self.given["taps_y"]
            state = carried_loop(builder, rows, state, self._row_of_taps, "tap_y", names)
            return [*following, *state[2:]]

        names = ["pixels", "packed", "sum"]
        state = [pixels, packed, *sums]
        return carried_loop(builder, images.channels, state, channel, "channel", names)[2:]

    def _row_of_taps(self, state: Sums) -> Sums:
        """Add the products with one row of taps, of one channel."""
        plan, builder = self.plan, self.builder
        row, filters, *sums = state
        panel = plan.packed_filters(self.filters)
        for tap, served in enumerate(self.tile.served):
            start = element(builder, filters, tap * panel.depth_stride, self.number)
            vectors = [
                load_lanes(
                    self.emitter, panel, element(builder, start, v * self.width, self.number),
                    self.width, self.width,
                )
                for v in range(self.vectors)
            ]  # fmt: skip
            for pixel in served:
                across = pixel * plan.x.step + tap * plan.x.dilation
                address = element(builder, row, across * plan.x.stride, self.number)
                entry = broadcast_element(self.emitter, plan.pixels, address, self.width)
                for number, vector in enumerate(vectors, pixel * self.vectors):
                    sums[number] = self.emitter.fma(entry, vector, sums[number])
        row = element(builder, row, plan.y.dilation * plan.y.stride, self.number, "row.next")
        length = plan.x.taps * panel.depth_stride
        filters = element(builder, filters, length, self.number, "filters.next")
        return [row, filters, *sums]

    # --- the epilogue ---

    def _by_filter(self, sums: Sums) -> Sums:
        """For each filter a vector of the tile's pixels."""
        builder, pixels = self.builder, self.tile.pixels
        lanes = register_lanes(pixels)
        zero = literal(self.number, 0.0, self.width)
        by_filter: list[ir.Value] = []
        for vector in range(self.vectors):
            rows = [*sums[vector :: self.vectors], *[zero] * (lanes - pixels)]
            turned = transpose(builder, rows)
            # Filters that many apart are side by side.
            for filter in range(self.width):
                start = filter // lanes * lanes
                by_filter.append(lane_range(builder, turned[filter % lanes], start, lanes))
        return by_filter[: self.filters]

    def _epilogue(self, sums: Sums) -> None:
        kernel = self.plan.kernel
        point = {
            kernel.image: self.given["image"], kernel.y: self.given["y"],
            kernel.x: self.given["x"], kernel.filter: self.given["filter"],
        }  # fmt: skip
        epilogue = Epilogue(self.emitter, self.plan, point, [self.tile.pixels])
        epilogue.store_tile(self.filters, sums)
