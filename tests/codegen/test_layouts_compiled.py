"""Kernels at every size around the vector widths, and on arrays in every kind of layout."""

import numpy as np
import pytest
from op_graphs import DTYPES, OpGraph, graph_of_size, layouts, plain_array

import minicomp
from minicomp.errors import IndexOutOfRangeError

SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 23, 31, 32, 33, 47, 63, 64, 65]


@pytest.mark.parametrize("size", SIZES)
def test_every_size_around_the_vector_widths(size):
    graph_of_size(size).check()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", list(layouts(np.zeros((1, 1)))))
def test_operands_in_every_layout(layout, dtype):
    """A pointwise op, a row and a column fold, a scan, a gather, a product, parts of a whole."""
    graph = OpGraph()
    x = graph.input(layouts(plain_array((5, 19), dtype))[layout])
    y = graph.input(plain_array((5, 19), dtype, seed=1))
    parameter = graph.parameter(layouts(plain_array((5, 19), dtype, seed=2))[layout])
    graph.output("eq", x, y)
    graph.output("where", graph.add("eq", parameter, x), x, y)
    for axis in (0, 1):
        graph.output("argmax", x, axes=(axis,), keepdims=False)
        if dtype != "bool":
            graph.output("sum", x, axes=(axis,), keepdims=False)
            graph.output("cumsum", x, axis=axis)
        graph.output("concatenate", x, parameter, axis=axis)
    graph.output("take", x, graph.input(np.array([3, -5, 0, 3])), axis=0)
    graph.output("matmul", x, graph.add("transpose", parameter, permutation=(1, 0)))
    merged = graph.add("reshape", graph.add("transpose", x, permutation=(1, 0)), shape=(95,))
    graph.output("copy", merged)
    graph.check()


@pytest.mark.parametrize("layout", ["sliced", "reversed", "transposed", "offset"])
def test_views_of_four_axes(layout):
    graph = OpGraph()
    x = graph.input(layouts(plain_array((2, 3, 5, 7), "float32"))[layout])
    graph.output("neg", x)
    for axes in ((1, 3), (0, 2), (3,), (0, 1, 2, 3)):
        graph.output("sum", x, axes=axes, keepdims=False)
    graph.output("max", graph.add("reshape", x, shape=(6, 35)), axes=(1,), keepdims=False)
    swapped = graph.add("transpose", x, permutation=(0, 1, 3, 2))
    graph.output("matmul", x, swapped)
    graph.check()


def test_operands_that_broadcast():
    graph = OpGraph()
    x = graph.input(plain_array((3, 5, 7), "float32"))
    for shape in ((7,), (5, 1), (3, 1, 7), (1, 5, 7), (1, 1, 1), ()):
        small = graph.input(plain_array(shape, "float32", seed=1))
        wide = graph.add("broadcast", small, shape=(3, 5, 7))
        graph.output("sub", wide, x)
        graph.output("sum", graph.add("mul", x, wide), axes=(0, 2), keepdims=False)
    graph.check()


def test_what_lies_beside_an_array_does_not_count():
    memory = np.full(64, np.nan, np.float32)
    for start in range(3):
        for size in (1, 7, 16, 33):
            graph = OpGraph()
            x = memory[20 + start : 20 + start + size]
            x[:] = np.arange(size)
            value = graph.input(x)
            graph.output("max", value, axes=(0,), keepdims=False)
            graph.output("neg", value)
            graph.check(exact=True)
            x[:] = np.nan


@pytest.mark.parametrize("op", ["take", "take_along_axis"])
@pytest.mark.parametrize("bad", [4, -5, 2**31 - 1, -(2**31)])
def test_an_index_out_of_range_is_an_error_and_the_next_call_works(op, bad):
    graph = OpGraph()
    x = graph.input(plain_array((4, 19), "float32"))
    indices = np.zeros((19,) if op == "take" else (2, 19), np.int32)
    graph.output(op, x, graph.input(indices), axis=0)
    compiled = minicomp.compile(graph.graph)
    right = compiled(*graph.arrays)
    for place in (0, 7, 18):
        wrong = indices.copy()
        wrong[..., place] = bad
        with pytest.raises(IndexOutOfRangeError, match=f"{op}.*axis 0 of size 4"):
            compiled(graph.arrays[0], wrong)
    np.testing.assert_array_equal(compiled(*graph.arrays), right)


def test_bools_may_be_any_byte():
    """A view of other bytes as bool has more trues than 1."""
    x = np.array([0, 1, 2, 128, 255, 0, 7], np.uint8).view(bool)
    graph = OpGraph()
    value = graph.input(x)
    graph.output("logical_not", value)
    graph.output("cast", value, dtype="int32")
    graph.output("logical_xor", value, graph.input(np.ones(7, bool)))
    compiled = minicomp.compile(graph.graph)
    inverse, numbers, other = compiled(*graph.arrays)
    assert inverse.tolist() == other.tolist() == [True, False, False, False, False, True, False]
    assert numbers.tolist() == [0, 1, 1, 1, 1, 0, 1]
