"""Running graphs with NumPy: binding, outputs and errors. What ops compute is in test_ops."""

import warnings

import numpy as np
import pytest

from minicomp import tree
from minicomp.errors import IndexOutOfRangeError, InputError
from minicomp.ir import Graph
from minicomp.ir.interpreter import interpret, interpret_flat
from minicomp.ir.text import parse

GRAPH = parse(
    "graph f(%x: f32[2], %w: f32[2] parameter, %y: f32[2]) {"
    " %0 = mul(%x, %w) : f32[2] %1 = add(%0, %y) : f32[2] return %1 }"
)
X, W, Y = (np.array(pair, np.float32) for pair in [(1, 2), (10, 20), (0.5, 0.25)])


def bound(graph, **bindings):
    return Graph(graph.name, graph.values, graph.outputs, bindings, graph.output_tree)


def test_inputs_bind_in_order_and_parameters_by_name():
    assert interpret(GRAPH, X, Y, parameters={"w": W}).tolist() == [10.5, 40.25]


def test_parameters_default_to_the_bindings():
    assert interpret(bound(GRAPH, w=W), X, Y).tolist() == [10.5, 40.25]
    assert interpret(bound(GRAPH, w=W), X, Y, parameters={"w": X}).tolist() == [1.5, 4.25]


@pytest.mark.parametrize(
    ("inputs", "parameters", "message"),
    [
        ([X], {"w": W}, "f takes 2 inputs, got 1"),
        ([X, Y, Y], {"w": W}, "f takes 2 inputs, got 3"),
        ([X, Y], {}, "no array for parameter 'w'"),
        ([X, Y[:1]], {"w": W}, r"input 'y' is f32\[1\], the graph wants f32\[2\]"),
        ([X.astype(np.float64), Y], {"w": W}, r"input 'x' is f64\[2\], the graph wants f32"),
        ([X, Y], {"w": W[:, None]}, r"parameter 'w' is f32\[2,1\], the graph wants f32\[2\]"),
    ],
)
def test_arrays_that_do_not_fit_are_errors(inputs, parameters, message):
    with pytest.raises(InputError, match=message):
        interpret(GRAPH, *inputs, parameters=parameters)


def test_one_output_comes_alone_and_several_as_a_tuple():
    two = parse("graph f(%x: f32[2]) { %0 = neg(%x) : f32[2] return %0, %x }")
    first, second = interpret(two, X)
    assert first.tolist() == [-1, -2]
    assert second.tolist() == [1, 2]
    assert interpret(parse("graph f() { return }")) == ()


def test_outputs_nest_as_the_output_tree_says():
    two = parse("graph f(%x: f32[2]) { %0 = neg(%x) : f32[2] return %0, %x }")
    _, structure = tree.flatten({"a": 0, "b": [0]})
    nested = interpret(Graph(two.name, two.values, two.outputs, {}, structure), X)
    assert nested["a"].tolist() == [-1, -2]
    assert nested["b"][0].tolist() == [1, 2]


def test_outputs_are_arrays_of_their_own():
    graph = parse(
        "graph f(%x: f32[2], %y: f32[]) {"
        " %0 = broadcast(%x) {shape=[3,2]} : f32[3,2] return %x, %0, %y }"
    )
    x = X.copy()
    outputs = interpret_flat(graph, [x, np.float32(3)])
    for output in outputs:
        assert isinstance(output, np.ndarray)
        output[...] = 9
    assert x.tolist() == [1, 2]


def test_strided_inputs_are_read_as_they_are():
    wide = np.arange(8, dtype=np.float32)
    assert interpret(GRAPH, wide[::-4], Y, parameters={"w": W}).tolist() == [70.5, 60.25]


def test_an_index_out_of_range_is_an_error():
    graph = parse("graph f(%x: f32[2], %i: i64[]) { %0 = take(%x, %i) {axis=0} : f32[] return %0 }")
    assert interpret(graph, X, np.array(-1)) == 2
    with pytest.raises(IndexOutOfRangeError):
        interpret(graph, X, np.array(2))


def test_floating_point_exceptions_are_quiet():
    graph = parse("graph f(%x: f32[2]) { %0 = log(%x) : f32[2] return %0 }")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert interpret(graph, np.array([0, -1], np.float32)).tolist()[0] == -np.inf
