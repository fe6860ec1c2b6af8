"""The CPU's convolutions: every schedule computes them, and touches nothing else."""

from __future__ import annotations

import ctypes
import mmap
import os
from dataclasses import replace

import numpy as np
import pytest
from convolution_kernels import convolution, convolutions
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_meaning import run_kernel

from minicomp.codegen.convolution_plan import ConvolutionPlan, ConvolutionSchedule
from minicomp.codegen.convolution_schedules import convolution_schedules
from minicomp.codegen.llvm_convolution import emit_convolution
from minicomp.kernels import Apply, Argument, Literal, Load
from minicomp.kernels.convolution import WindowAxis
from minicomp.kernels.indexing import Index
from minicomp.runtime.jit import assembly, compile_ir
from minicomp.runtime.target import Target, host_target

SMALL = ConvolutionSchedule(
    "windows", vector_width=4, tile_pixels=3, tile_filters=8, block_filters=16
)


def random_buffers(kernel):
    """Small integers, whose sums are exact, and an output of NaN."""
    random = np.random.default_rng(0)
    return [
        np.full(argument.size, np.nan, argument.dtype)
        if argument.written
        else random.integers(-9, 10, argument.size).astype(argument.dtype)
        for argument in kernel.arguments
    ]


def address(array):
    return array.__array_interface__["data"][0]


def run(kernel, schedule, buffers, target=None, ranges=None):
    """Compile and call the kernel on these buffers, over `ranges` of units (all by default)."""
    target, plan = target or host_target(), ConvolutionPlan(kernel, schedule)
    text = emit_convolution(kernel, schedule, target)
    library = compile_ir(text, [kernel.name], target, use_disk_cache=False)
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(
        library.address(kernel.name)
    )
    size = plan.units * plan.workspace
    scratch = np.full(size + 64, 0xFF, np.uint8)  # 0xFFFFFFFF is a NaN: no use of stale scratch
    aligned = -(-address(scratch) // 64) * 64
    arguments = (ctypes.c_void_p * (len(buffers) + 1))(*map(address, buffers), aligned)
    for begin, end in ranges or [(0, plan.units)]:
        call(ctypes.addressof(arguments), begin, end)
    assert (scratch[aligned - address(scratch) + size :] == 0xFF).all(), "wrote past the workspace"


def check(kernel, schedule, target=None):
    got = random_buffers(kernel)
    wanted = [buffer.copy() for buffer in got]
    run_kernel(kernel, wanted)
    run(kernel, schedule, got, target)
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def same_size(n, c, size, filters, taps=3, dtype="float32"):
    """An odd number of taps, stride 1, and padding that keeps the size."""
    axes = [WindowAxis(size, stride, taps, 1, 1, taps // 2) for stride in (size, 1)]
    return convolution(n, c, (size, size), filters, axes, (size, size), dtype)


# --- the convolution ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("n", "c", "size", "filters"),
    [(1, 1, 4, 8), (2, 5, 7, 33), (3, 2, 14, 16), (1, 3, 17, 70), (1, 9, 29, 49)],
)
def test_every_candidate_computes_the_convolution(n, c, size, filters, dtype):
    kernel = same_size(n, c, size, filters, dtype=dtype)
    found = convolution_schedules(kernel, host_target())
    assert found
    for schedule in found:
        check(kernel, schedule)


@settings(deadline=None, max_examples=40)
@given(
    convolutions(most_filters=40),
    st.sampled_from([1, 2, 4, 8]),
    st.integers(1, 8),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_any_schedule_and_any_windows(kernel, width, pixels, vectors, blocks, pieces):
    schedule = ConvolutionSchedule(
        "windows", vector_width=width, tile_pixels=min(pixels, width),
        tile_filters=width * vectors, block_filters=width * vectors * blocks,
        filter_pieces=pieces, line_pieces=4 - pieces,
    )  # fmt: skip
    check(kernel, schedule)


@pytest.mark.parametrize("high", [1, 2])
def test_padding_after_the_images_alone(high):
    axes = [WindowAxis(5, stride, 3, 1, 1, 0) for stride in (5, 1)]
    check(convolution(2, 2, (5, 5), 9, axes, (3 + high, 3 + high)), SMALL)


def test_outputs_of_nothing_but_padding_are_zero():
    axes = [WindowAxis(2, stride, 2, 1, 1, 5) for stride in (2, 1)]
    kernel = convolution(1, 2, (2, 2), 9, axes, (11, 11))
    buffers = random_buffers(kernel)
    run(kernel, SMALL, buffers)
    assert not buffers[2].reshape(9, 11, 11)[:, :4].any()
    check(kernel, SMALL)


def test_units_are_independent_of_each_other():
    kernel = same_size(3, 2, 6, 40)
    schedule = replace(SMALL, filter_pieces=2, line_pieces=3)
    assert ConvolutionPlan(kernel, schedule).units == 6
    together, apart = random_buffers(kernel), random_buffers(kernel)
    run(kernel, schedule, together)
    run(kernel, schedule, apart, ranges=[(4, 6), (0, 1), (3, 4), (1, 3)])
    np.testing.assert_array_equal(together[2], apart[2])
    check(kernel, schedule)


@pytest.mark.parametrize("long", [False, True])
def test_an_epilogue_reads_at_the_pixel_and_the_filter(long):
    kernel = same_size(2, 3, 7, 20)
    shape = kernel.store.index
    bias = Load("float32", 3, Index.of(kernel.filter), "bias")
    residual = Load("float32", 4, shape, "residual")
    scalar = Apply("float32", "add", (kernel.store.scalar, bias))
    for _ in range(30 if long else 1):  # more than is done on registers
        scalar = Apply("float32", "maximum", (scalar, Literal("float32", -50.0)))
    scalar = Apply("float32", "mul", (scalar, residual))
    size = kernel.arguments[2].size
    arguments = (*kernel.arguments, Argument("bias", "float32", 20))
    kernel = replace(
        kernel,
        arguments=(*arguments, Argument("residual", "float32", size)),
        store=replace(kernel.store, scalar=scalar),
    )
    assert kernel.has_epilogue
    for schedule in (SMALL, *convolution_schedules(kernel, host_target())):
        check(kernel, schedule)


def test_images_and_filters_of_any_strides():
    """Of every third channel, from below, and columns of filters that are contiguous."""
    kernel = same_size(2, 3, 6, 9)
    images = replace(
        kernel.images, offset=2 * 36 * 9 - 36, image_stride=-9 * 36, channel_stride=-3 * 36,
        y=replace(kernel.images.y, stride=1), x=replace(kernel.images.x, stride=6),
    )  # fmt: skip
    filters = replace(kernel.filters, row_stride=9, column_stride=1)
    arguments = (replace(kernel.arguments[0], size=2 * 9 * 36), *kernel.arguments[1:])
    check(replace(kernel, images=images, filters=filters, arguments=arguments), SMALL)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize("at_end", [False, True])
def test_nothing_outside_the_operands_is_touched(at_end):
    """Operands begin (or end) where an unreadable page ends (or begins)."""
    kernel = same_size(2, 3, 7, 33)
    tried = convolution_schedules(kernel, host_target())
    libc = ctypes.CDLL(None, use_errno=True)
    buffers, kept = [], []
    for argument in kernel.arguments:
        nbytes = argument.size * 4
        pages = -(-nbytes // mmap.PAGESIZE)
        memory = mmap.mmap(-1, (pages + 2) * mmap.PAGESIZE)
        kept.append(memory)
        raw = np.frombuffer(memory, np.uint8)
        start = (pages + 1) * mmap.PAGESIZE - nbytes if at_end else mmap.PAGESIZE
        buffers.append(raw[start : start + nbytes].view(np.float32))
        for page in (0, pages + 1):
            begin = ctypes.c_void_p(address(raw) + page * mmap.PAGESIZE)
            assert libc.mprotect(begin, ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    child = os.fork()
    if child == 0:
        survived = 0
        try:
            for schedule in tried:
                run(kernel, schedule, buffers)
                survived += 1
        finally:
            os._exit(0 if survived == len(tried) else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0, f"one of {tried} left its operands (status {status})"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"tile_filters": 6}, "tile_filters must be a multiple of vector_width"),
        ({"block_filters": 12}, "block_filters must be a multiple of tile_filters"),
        ({"tile_pixels": 5}, "tile_pixels must not exceed vector_width"),
        ({"line_pieces": 0}, "every size must be at least 1"),
    ],
)
def test_a_schedule_that_does_not_fit_is_named(changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        ConvolutionPlan(same_size(1, 1, 4, 8), replace(SMALL, **changes))


# --- targets and text -----------------------------------------------------------------------------


@pytest.mark.skipif(
    host_target().vector_bits < 256 or host_target().architecture != "x86_64",
    reason="runs AVX2 code",
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_avx2(dtype):
    target = Target.for_cpu("haswell")
    kernel = same_size(2, 5, 13, 21, dtype=dtype)
    for schedule in convolution_schedules(kernel, target):
        check(kernel, schedule, target)


@pytest.mark.parametrize(
    ("cpu", "fused"),
    [("neoverse-n1", "fmla"), ("haswell", "vfmadd"), ("znver4", "vfmadd")],
)
def test_other_targets_get_fused_multiply_adds_of_whole_vectors(cpu, fused):
    target = Target.for_cpu(cpu)
    axes = [WindowAxis(64, stride, 3, 1, 1, 0) for stride in (64, 1)]
    kernel = convolution(1, 64, (64, 64), 64, axes, (62, 62), "float32")
    schedule = replace(convolution_schedules(kernel, target)[0], tile_pixels=2)
    body = assembly(emit_convolution(kernel, schedule, target), target)
    whole = {128: ".4s", 256: "%ymm", 512: "%zmm"}[target.vector_bits]
    lines = [line for line in body.splitlines() if fused in line]
    assert len(lines) == 3 * 2 * schedule.tile_filters // schedule.vector_width
    assert all(whole in line for line in lines)


def test_products_with_padding_are_left_out():
    """Of 3 x 4 taps and pixels at the left end, one is of padding, and one at the right."""
    kernel = same_size(1, 2, 8, 8)
    schedule = ConvolutionSchedule(
        "windows", vector_width=8, tile_pixels=4, tile_filters=8, block_filters=8
    )
    text = emit_convolution(kernel, schedule, host_target())
    tiles = text.split("define internal")[1:]
    counts = [tile.count('call <8 x float> @"llvm.fma') for tile in tiles if "tile" in tile[:20]]
    assert [count for count in counts if count] == [11, 11]


def test_the_ir_says_what_it_does():
    kernel = same_size(1, 64, 56, 64)
    text = emit_convolution(kernel, convolution_schedules(kernel, host_target())[0], host_target())
    assert "ConvolutionSchedule(family=windows" in text
    assert "windows of 64 channels" in text
    assert "pack a block of filters" in text
    assert "alloca" not in text
