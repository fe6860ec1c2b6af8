"""Convolution kernels: how windows move, what kernels print, and windows laid out in memory."""

import numpy as np
import pytest
from convolution_kernels import convolution, convolutions
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_meaning import run_kernel

from minicomp.ir.text import parse
from minicomp.kernels import ConvolutionKernel, LoopKernel
from minicomp.kernels.convolution import WindowAxis
from minicomp.kernels.laid_out import laid_out
from minicomp.kernels.program import build_program
from minicomp.passes import optimize
from minicomp.passes.fuse import fuse
from minicomp.passes.materialize import materialize
from minicomp.passes.read_windows import read_windows

axes = st.builds(
    WindowAxis,
    size=st.integers(1, 6), stride=st.just(1), taps=st.integers(1, 4), step=st.integers(1, 3),
    dilation=st.integers(1, 3), padding=st.integers(0, 7),
)  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(axes, st.integers(0, 9))
def test_the_taps_within_are_those_that_read_an_entry(axis, output):
    entries = [axis.step * output + axis.dilation * tap - axis.padding for tap in range(axis.taps)]
    within = [tap for tap, entry in enumerate(entries) if 0 <= entry < axis.size]
    assert list(axis.taps_within(output)) == within


@settings(deadline=None, max_examples=300)
@given(axes, st.integers(1, 9))
def test_windows_are_within_where_every_tap_of_every_output_is(axis, outputs):
    wanted = all(len(axis.taps_within(output)) == axis.taps for output in range(outputs))
    assert axis.is_within(outputs) is wanted


def kernels_of(text):
    graph = read_windows(optimize(parse(text)))
    graph = materialize(graph)
    return [call.kernel for call in build_program(graph, fuse(graph)).calls]


CONVOLUTION = """graph f(%x: f32[2,3,6,7], %w: f32[8,3,3,2], %bias: f32[8]) {
  %0 = pad(%x) {low=[0,0,1,0], high=[0,0,1,1], value=0.0} : f32[2,3,8,8]
  %1 = windows(%0) {axes=[2,3], sizes=[3,2], strides=[1,1], dilations=[2,1]} : f32[2,3,4,7,3,2]
  %2 = transpose(%1) {permutation=[0,2,3,1,4,5]} : f32[2,4,7,3,3,2]
  %3 = reshape(%2) {shape=[56,18]} : f32[56,18]
  %4 = reshape(%w) {shape=[8,18]} : f32[8,18]
  %5 = transpose(%4) {permutation=[1,0]} : f32[18,8]
  %6 = matmul(%3, %5) : f32[56,8]
  %7 = reshape(%6) {shape=[2,4,7,8]} : f32[2,4,7,8]
  %8 = broadcast(%bias) {shape=[2,4,7,8]} : f32[2,4,7,8]
  %9 = add(%7, %8) : f32[2,4,7,8]
  %10 = transpose(%9) {permutation=[0,3,1,2]} : f32[2,8,4,7]
  return %10
}"""


def test_a_convolution_is_one_kernel_and_prints_what_it_does():
    (kernel,) = kernels_of(CONVOLUTION)
    assert str(kernel) == (
        "kernel matmul_add(x: f32[252], w: f32[144], bias: f32[8], copy: f32[448] written)\n"
        "  for image in 2, y in 4, x in 7, filter in 8:  # parallel\n"
        "    a = x from 0: windows of 3 channels, images 126 and channels 42 apart\n"
        "      y 6 by 7: 3 taps, step 1, dilation 2, padding 1\n"
        "      x 7 by 1: 2 taps, step 1, dilation 1, padding 0\n"
        "    b = w from 0, strides (1, 18)\n"
        "    product = sum over k in 18 of a[.., k] * b[k, ..]  # f32\n"
        "    copy[224*image + 28*filter + 7*y + x] = add(product, bias[filter])"
    )
    assert kernel.depth == 18
    assert kernel.flops == 2 * 448 * 18


def test_a_result_in_the_order_of_the_product_is_one_kernel_too():
    lines = CONVOLUTION.splitlines()
    (kernel,) = kernels_of("\n".join([*lines[:8], "  return %6", "}"]))
    assert isinstance(kernel, ConvolutionKernel)
    assert str(kernel.store.index) == "224*image + 56*y + 8*x + filter"


@settings(deadline=None, max_examples=200)
@given(convolutions())
def test_windows_laid_out_and_multiplied_are_the_convolution(kernel):
    random = np.random.default_rng(0)
    buffers = [random.integers(-9, 10, a.size).astype(np.float64) for a in kernel.arguments]
    wanted = [buffer.copy() for buffer in buffers]
    run_kernel(kernel, wanted)
    split = laid_out(kernel)
    assert all(isinstance(copy, LoopKernel) for copy in split.copies)
    got = [*buffers, *(np.full(a.size, np.nan) for a in split.added)]
    for part in (*split.copies, split.product):
        assert part.arguments[: len(buffers)] == kernel.arguments
        run_kernel(part, got)
    np.testing.assert_array_equal(got[2], wanted[2])
    for before, after in zip(buffers[:2], got[:2], strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(("padding", "names"), [(0, ["windows"]), (1, ["fill", "pad", "windows"])])
def test_images_are_padded_only_where_windows_read_padding(padding, names):
    axes = (WindowAxis(5, 6, 2, 1, 1, padding), WindowAxis(6, 1, 2, 1, 1, padding))
    kernel = convolution(1, 2, (5, 6), 8, axes, (4, 5))
    assert [copy.name for copy in laid_out(kernel).copies] == [f"conv_{name}" for name in names]
