"""Convolutions are products with patches of images, where that pays."""

import numpy as np
import pytest

import minicomp as mc
from minicomp.ir.interpreter import interpret
from minicomp.ir.text import parse
from minicomp.ir.verifier import verify
from minicomp.passes import optimize
from minicomp.passes.read_windows import read_windows
from minicomp.tracing.tracer import trace


def graph_of(x, weight, **arguments):
    arrays = [np.zeros(shape, np.float32) for shape in (x, weight)]
    return optimize(trace(lambda x, w: mc.conv2d(x, w, **arguments), *arrays))


def ops(graph):
    return [value.op for value in graph]


def test_padding_windows_and_layout_become_one_op():
    graph = verify(read_windows(graph_of((2, 3, 6, 7), (8, 3, 3, 3), padding=1, stride=(2, 1))))
    assert "pad" not in ops(graph)
    assert "windows" not in ops(graph)
    (patches,) = (value for value in graph if value.op == "patches")
    assert patches.attributes == {
        "sizes": (3, 3), "strides": (2, 1), "dilations": (1, 1), "low": (1, 1), "high": (1, 1),
    }  # fmt: skip
    assert patches.operands == graph.inputs[:1]
    assert patches.shape == (2 * 3 * 7, 27)


@pytest.mark.parametrize(
    ("x", "weight", "arguments"),
    [
        ((1, 3, 8, 6), (8, 3, 2, 3), {"padding": "same"}),
        ((3, 1, 8, 6), (9, 1, 3, 3), {"dilation": (2, 1)}),
        ((1, 1, 5, 6), (8, 1, 2, 2), {}),
        ((2, 4, 3, 9), (16, 4, 3, 2), {"padding": (0, 2), "stride": (1, 2)}),
    ],
)
def test_the_meaning_stays(x, weight, arguments):
    graph = graph_of(x, weight, **arguments)
    after = verify(read_windows(graph))
    assert "patches" in ops(after)
    random = np.random.default_rng(0)
    arrays = [random.integers(-4, 5, shape).astype(np.float32) for shape in (x, weight)]
    np.testing.assert_array_equal(interpret(graph, *arrays), interpret(after, *arrays))


@pytest.mark.parametrize(
    ("x", "weight", "arguments"),
    [
        ((2, 3, 6, 6), (7, 3, 3, 3), {}),  # few filters
        ((2, 3, 6, 5), (8, 3, 3, 3), {}),  # three columns
        ((2, 3, 6, 24), (8, 3, 3, 17), {}),  # wide windows
        ((2, 4, 6, 6), (8, 2, 3, 3), {"groups": 2}),
        ((2, 3, 6, 6), (8, 3, 1, 1), {}),  # a plain product
        ((0, 3, 6, 6), (8, 3, 3, 3), {}),
        ((2, 0, 6, 6), (8, 0, 3, 3), {}),
    ],
)
def test_where_it_does_not_pay_nothing_changes(x, weight, arguments):
    graph = graph_of(x, weight, **arguments)
    assert read_windows(graph) == graph


PADDED = """graph f(%x: f32[2,3,6,7], %w: f32[12,8]) {{
  %0 = pad(%x) {{low={low}, high=[0,0,0,0], value={value}}} : f32[{shape}]
  %1 = windows(%0) {{axes=[2,3], sizes=[2,2], strides=[1,1], dilations=[1,1]}} : f32[{windows}]
  %2 = transpose(%1) {{permutation={permutation}}} : f32[{moved}]
  %3 = reshape(%2) {{shape=[{rows},12]}} : f32[{rows},12]
  %4 = matmul(%3, %w) : f32[{rows},8]
  return %4
}}"""
IMAGES = {
    "low": "[0,0,1,0]", "value": "0.0", "shape": "2,3,7,7", "windows": "2,3,6,6,2,2",
    "permutation": "[0,2,3,1,4,5]", "moved": "2,6,6,3,2,2", "rows": 72,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "source"),
    [
        ({}, "input"),
        ({"value": "1.0"}, "pad"),
        ({"low": "[1,0,0,0]", "shape": "3,3,6,7", "windows": "3,3,5,6,2,2",
          "moved": "3,5,6,3,2,2", "rows": 90}, "pad"),
    ],
)  # fmt: skip
def test_only_zeros_around_each_image_are_left_out(changed, source):
    graph = read_windows(parse(PADDED.format(**(IMAGES | changed))))
    (patches,) = (value for value in graph if value.op == "patches")
    assert patches.operands[0].op == source


@pytest.mark.parametrize("permutation", ["[0,2,3,1,5,4]", "[0,3,2,1,4,5]"])
def test_windows_laid_out_otherwise_are_left_alone(permutation):
    graph = parse(PADDED.format(**(IMAGES | {"permutation": permutation})))
    assert read_windows(graph) == graph
