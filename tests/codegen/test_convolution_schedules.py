"""Which schedules a convolution is offered."""

import pytest
from convolution_kernels import convolution

from minicomp.codegen.convolution_plan import ConvolutionPlan
from minicomp.codegen.convolution_schedules import convolution_schedules
from minicomp.kernels.convolution import WindowAxis
from minicomp.runtime.target import Target


def same_size(n, channels, size, dtype="float32"):
    axes = [WindowAxis(size, stride, 3, 1, 1, 1) for stride in (size, 1)]
    return convolution(n, channels, (size, size), channels, axes, (size, size), dtype)


def labels(kernel, cpu="znver4", threads=1):
    return [s.label for s in convolution_schedules(kernel, Target.for_cpu(cpu), threads)]


def test_tiles_divide_a_line_and_blocks_stay_in_the_cache():
    assert labels(same_size(1, 64, 56))[:2] == ["windows_8x32_64", "windows_8x48_96"]
    assert labels(same_size(1, 128, 28))[0] == "windows_7x32_64"
    assert labels(same_size(1, 512, 7))[0] == "windows_7x32_32"
    assert labels(same_size(1, 64, 55))[0] == "windows_8x32_64"


@pytest.mark.parametrize("cpu", ["znver4", "haswell", "neoverse-n1", "x86-64-v2"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kernel_size", [(1, 8, 4), (3, 65, 9), (1, 24, 200)])
def test_all_fit_and_no_two_are_the_same(kernel_size, dtype, cpu):
    kernel = same_size(*kernel_size, dtype)
    found = convolution_schedules(kernel, Target.for_cpu(cpu), num_threads=3)
    assert len(set(found)) == len(found) > 0
    for schedule in found:
        plan = ConvolutionPlan(kernel, schedule)
        registers = 32 if cpu in ("znver4", "neoverse-n1") else 16
        vectors = schedule.tile_filters // schedule.vector_width
        assert schedule.tile_pixels * vectors + vectors + 1 <= registers
        assert plan.units >= 1


def test_threads_share_lines_of_many_pixels_and_filters_of_few():
    assert labels(same_size(16, 64, 56), threads=2)[0].endswith("_2l")
    assert labels(same_size(1, 512, 7), threads=2)[0].endswith("_2f")
    assert labels(same_size(1, 8, 4), threads=2) == labels(same_size(1, 8, 4))
