"""Which schedules are worth trying for a convolution on the CPU, the best guess first.

In: a `ConvolutionKernel`, the target, the number of threads. Out: a handful of
`ConvolutionSchedule`s. Without autotuning the first is used; with it, all are timed.

>>> [s.label for s in convolution_schedules(kernel, host_target())]    # 64 channels, 56 x 56
['windows_8x32_64', 'windows_8x48_96', 'windows_14x16_64']
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod
from typing import Any

from minicomp.codegen.convolution_plan import ConvolutionSchedule
from minicomp.codegen.matmul_schedules import (
    FLOPS,
    WORTH_A_THREAD,
    ceil_div,
    dividing,
    has_many_registers,
    power_of_two,
    whole_tiles,
)
from minicomp.ir import ITEMSIZE
from minicomp.kernels.convolution import ConvolutionKernel

#: Pixels that a unit must have for packing the same filters in each of them not to matter.
MANY_PIXELS = 4096


def convolution_schedules(
    kernel: ConvolutionKernel, target: Any, num_threads: int = 1
) -> tuple[ConvolutionSchedule, ...]:
    """The candidates of a call site. All fit the kernel; no two are the same."""
    found = dict.fromkeys(_tilings(kernel, target))
    return tuple(_shared_out(kernel, schedule, num_threads) for schedule in found)


def _tilings(kernel: ConvolutionKernel, target: Any) -> Iterator[ConvolutionSchedule]:
    """Tiles of at most so many pixels and vectors of filters.

    For each k a tile takes pixels + vectors loads. Few sums do where they are enough for an
    addition not to wait for the one before; then more of them only make longer tails.
    """
    itemsize = ITEMSIZE[kernel.accumulate]
    filters = kernel.filter.extent
    width = min(target.vector_bits // 8 // itemsize, power_of_two(filters))
    many = has_many_registers(target)
    for most, vectors in ((8, 2), (8, 3), (14, 1)) if many else ((6, 2), (4, 3), (8, 1)):
        pixels = min(dividing(kernel.x.extent, most), width)
        tile = width * min(vectors, ceil_div(filters, width))
        fits = target.l2_bytes // 2 // (kernel.depth * itemsize)
        yield ConvolutionSchedule(
            "windows",
            vector_width=width,
            tile_pixels=pixels,
            tile_filters=tile,
            block_filters=whole_tiles(filters, fits, tile),
        )


def _shared_out(
    kernel: ConvolutionKernel, schedule: ConvolutionSchedule, num_threads: int
) -> ConvolutionSchedule:
    """The schedule cut into units for the threads: by lines, where each of them packs all the
    filters, or by filters, where each of them reads all the images."""
    pieces = min(num_threads, int(kernel.flops / FLOPS / WORTH_A_THREAD))
    if pieces < 2:
        return schedule
    lines = kernel.image.extent * kernel.y.extent
    tiles = ceil_div(kernel.filter.extent, schedule.tile_filters)
    pixels = prod((kernel.image.extent, kernel.y.extent, kernel.x.extent)) // pieces
    is_even = tiles % pieces == 0 or tiles >= 4 * pieces
    if is_even and (pixels < MANY_PIXELS or lines < pieces):
        return replace(schedule, filter_pieces=pieces)
    return replace(schedule, line_pieces=min(pieces, lines))
