"""The tests' own tools: random graphs are valid and varied, and the bounds are bounds."""

import numpy as np
import pytest
from error_bounds import assert_close, assert_computes, bounded_outputs
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from random_graphs import DTYPES, arrays_for, graphs

from minicomp.ir import numpy_dtype
from minicomp.ir.interpreter import interpret_flat
from minicomp.ir.ops import OPS
from minicomp.ir.text import parse
from minicomp.ir.verifier import verify

SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def collected():
    """A thousand random graphs."""
    found = []

    # The same ones each time: what is said of most of them below should not be a matter of luck.
    @settings(
        max_examples=1000,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        derandomize=True,
    )
    @given(graphs())
    def collect(graph):
        found.append(graph)

    collect()
    return found


def test_random_graphs_have_every_op_and_dtype(collected):
    values = [value for graph in collected for value in graph]
    assert {value.op for value in values} == set(OPS)
    assert {value.dtype for value in values} == set(DTYPES)
    assert any(value.shape == () for value in values)
    assert any(value.size == 0 for value in values)
    assert any(len(graph.outputs) > 1 for graph in collected)
    assert any(graph.parameters for graph in collected)


@SETTINGS
@given(graphs(), st.integers(0, 99))
def test_random_graphs_are_valid_and_run(graph, seed):
    verify(graph)
    inputs, parameters = arrays_for(graph, seed)
    outputs = interpret_flat(graph, inputs, parameters)
    assert_computes(graph, outputs, inputs, parameters)
    for array, value in zip(outputs, graph.outputs, strict=True):
        assert array.shape == value.shape
        assert array.dtype == numpy_dtype(value.dtype)


def computed_in_float64(graph, inputs, parameters):
    """Another right implementation: each op on float32 is computed in float64 and rounded."""
    results, remaining = {}, iter(inputs)
    with np.errstate(all="ignore"):
        for value in graph:
            if value.op == "input":
                results[value] = next(remaining)
            elif value.op == "parameter":
                results[value] = parameters[value.attributes["name"]]
            else:
                operands = [results[x] for x in value.operands]
                wide = [x.astype(np.float64) if x.dtype == np.float32 else x for x in operands]
                result = OPS[value.op].compute(*wide, **value.attributes)
                results[value] = np.asarray(result, numpy_dtype(value.dtype))
    return [results[value] for value in graph.outputs]


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
@SETTINGS
@given(graphs(), st.integers(0, 99))
def test_another_right_implementation_is_within_the_bounds(graph, seed):
    inputs, parameters = arrays_for(graph, seed)
    outputs = computed_in_float64(graph, inputs, parameters)
    assert_computes(graph, outputs, inputs, parameters)


@pytest.mark.parametrize(
    "line",
    [
        "%1 = exp(%0) : f32[5]",
        "%1 = mul(%0, %0) : f32[5]",
        "%1 = div(%x, %0) : f32[5]",
        "%1 = log(%0) : f32[5]",
        "%1 = sub(%0, %x) : f32[5]",
        "%1 = sqrt(%0) : f32[5]",
        "%1 = maximum(%0, %x) : f32[5]",
        "%1 = sin(%0) : f32[5]",
        "%1 = pow(%0, %x) : f32[5]",
        "%1 = sum(%0) {axes=[0], keepdims=true} : f32[1]",
        "%1 = cumsum(%0) {axis=0} : f32[5]",
        "%1 = prod(%0) {axes=[0], keepdims=true} : f32[1]",
    ],
)
@pytest.mark.parametrize(("ulps", "close"), [(4, True), (-4, True), (20000, False)])
def test_bounds_cover_an_error_carried_on_and_not_much_more(line, ulps, close):
    """exp(x) off by 4 ulps has to pass as the operand of the next op, off by 20000 ulps not."""
    graph = parse(f"graph f(%x: f32[5]) {{ %0 = exp(%x) : f32[5] {line} return %1 }}")
    rest = parse(f"graph g(%0: f32[5], %x: f32[5]) {{ {line} return %1 }}")
    x = np.array([0.5, 3, -2, 2.5, 1], np.float32)
    ((wanted, bound),) = bounded_outputs(graph, [x])
    assert np.isfinite(bound).all()
    (got,) = interpret_flat(rest, [np.exp(x) * np.float32(1 + ulps * 2.0**-23), x])
    if close:
        assert_close(got, wanted, bound)
    else:
        with pytest.raises(AssertionError):
            assert_close(got, wanted, bound)


def test_most_elements_of_random_graphs_have_a_small_bound(collected):
    """Else comparisons would pass whatever is computed."""
    loose = total = 0
    for graph in collected[:400]:
        for array, bound in bounded_outputs(graph, *arrays_for(graph)):
            size = np.where(np.isfinite(array), np.abs(array.astype(float)), 0)
            loose += np.count_nonzero(bound > 1e-2 * size + 1e-4)
            total += array.size
    assert loose < 0.05 * total


@settings(SETTINGS, max_examples=60)
@given(graphs(exact=True), st.integers(0, 99))
def test_exact_graphs_have_no_error(graph, seed):
    for _, bound in bounded_outputs(graph, *arrays_for(graph, seed)):
        assert not bound.any()


@pytest.mark.parametrize(
    ("actual", "expected", "bound", "close"),
    [
        ([1.0, np.nan], [1.0, np.nan], 0, True),
        ([1.0, 0.0], [1.0, np.nan], 0, False),
        ([np.inf], [np.inf], 0, True),
        ([-np.inf], [np.inf], 5, False),
        ([1.1], [1.0], 0.2, True),
        ([1.3], [1.0], 0.2, False),
        ([np.nan], [1.0], 0.2, False),
        ([np.nan], [1.0], np.inf, True),
        ([0.0], [-0.0], 0, True),
        ([1.0 + 2e-16], [1.0], None, True),
        ([1.0 + 1e-9], [1.0], None, False),
        (np.array([1]), np.array([1]), None, True),
        (np.array([1]), np.array([2]), None, False),
        (np.array([1]), np.array([1.0]), None, False),
        (np.zeros(2), np.zeros(3), None, False),
    ],
)
def test_close_means_within_the_bound_and_nan_for_nan(actual, expected, bound, close):
    try:
        assert_close(np.array(actual), np.array(expected), bound)
    except AssertionError:
        assert not close
    else:
        assert close


def test_a_wrong_element_is_shown_with_its_place_and_bound():
    graph = parse("graph f(%x: f32[2,2]) { %0 = exp(%x) : f32[2,2] return %0 }")
    wrong = np.exp(np.zeros((2, 2), np.float32))
    wrong[1, 0] = 2
    with pytest.raises(AssertionError, match=r"output 0 of\ngraph f(.|\n)*at \(1, 0\): got .*2\.0"):
        assert_computes(graph, [wrong], [np.zeros((2, 2), np.float32)])
