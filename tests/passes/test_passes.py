"""The pipeline, and every pass by meaning on random graphs against the interpreter."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_graphs import arrays_for, assert_computes, graphs
from special_values import assert_same_bits

from minicomp.errors import GraphError
from minicomp.ir import FLOATS, Graph, TensorType, Value
from minicomp.ir.interpreter import interpret_flat
from minicomp.ir.text import parse
from minicomp.ir.verifier import verify
from minicomp.passes import PASSES, freeze, optimize, unchanged

SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
MEAN_OF_NOTHING = pytest.mark.filterwarnings("ignore:Mean of empty slice")  # NumPy's


@MEAN_OF_NOTHING
@pytest.mark.parametrize("run", PASSES, ids=lambda run: run.__name__)
@SETTINGS
@given(graphs(), st.integers(0, 99))
def test_a_pass_keeps_the_meaning(run, graph, seed):
    changed = verify(run(verify(graph)), run.__name__)
    inputs, parameters = arrays_for(graph, seed)
    assert_computes(graph, interpret_flat(changed, inputs, parameters), inputs, parameters)


@settings(SETTINGS, max_examples=150)
@given(graphs(exact=True), st.integers(0, 99))
def test_all_passes_together_keep_every_bit_of_exact_graphs(graph, seed):
    inputs, parameters = arrays_for(graph, seed)
    before = interpret_flat(graph, inputs, parameters)
    after = interpret_flat(optimize(graph), inputs, parameters)
    for actual, expected in zip(after, before, strict=True):
        assert_same_bits(actual, expected)


@MEAN_OF_NOTHING
@settings(SETTINGS, max_examples=150)
@given(graphs(), st.integers(0, 99))
def test_all_passes_together_keep_the_meaning_and_reach_a_fixed_point(graph, seed):
    optimized = optimize(graph)
    assert unchanged(optimize(optimized), optimized)
    assert parse(str(optimized)) == optimized
    assert all(value.op != "mean" for value in optimized)
    assert all(value.dtype in FLOATS for value in optimized if value.op == "matmul")
    inputs, parameters = arrays_for(graph, seed)
    assert_computes(graph, interpret_flat(optimized, inputs, parameters), inputs, parameters)


@MEAN_OF_NOTHING
@SETTINGS
@given(graphs(), st.integers(0, 99))
def test_a_frozen_and_folded_graph_keeps_the_meaning(graph, seed):
    inputs, parameters = arrays_for(graph, seed)
    frozen = optimize(freeze(graph, parameters))
    assert not frozen.parameters
    assert_computes(graph, interpret_flat(frozen, inputs), inputs, parameters)


GRAPH = parse(
    "graph f(%x: f32[8,16]) { %0 = neg(%x) : f32[8,16] %1 = neg(%0) : f32[8,16]"
    " %2 = mean(%1) {axes=[1], keepdims=false} : f32[8] return %2 }"
)


def test_the_trace_sees_every_pass_with_its_result():
    seen = []
    optimized = optimize(GRAPH, trace=lambda name, graph: seen.append((name, graph)))
    names = [run.__name__ for run in PASSES]
    assert [name for name, _ in seen] == names * (len(seen) // len(names))
    assert len(seen) >= 2 * len(names)
    assert seen[-1][1] is optimized
    assert str(optimized) == (
        "graph f(%x: f32[8,16]) {\n"
        "  %0 = sum(%x) {axes=[1], keepdims=false} : f32[8]\n"
        "  %1 = full() {shape=[8], value=0.0625, dtype=f32} : f32[8]\n"
        "  %2 = mul(%0, %1) : f32[8]\n"
        "  return %2\n"
        "}"
    )


def test_a_pass_that_breaks_a_rule_is_named(monkeypatch):
    def breaking(graph):
        (x,) = graph.inputs
        wrong = Value("neg", (x,), {}, TensorType((3,), "float32"))
        return Graph(graph.name, (x, wrong), (wrong,))

    monkeypatch.setattr("minicomp.passes.PASSES", [breaking])
    with pytest.raises(GraphError, match="after breaking: %0 = neg"):
        optimize(GRAPH)


def test_rounds_are_bounded_where_two_rules_undo_each_other(monkeypatch):
    def restless(graph):
        (x,) = graph.inputs
        y = Value("neg", (x,), {}, x.type)
        return Graph(graph.name, (x, y), (y,))

    rounds = []
    monkeypatch.setattr("minicomp.passes.PASSES", [restless])
    optimize(GRAPH, trace=lambda name, graph: rounds.append(name))
    assert 2 < len(rounds) < 100


def test_bindings_and_the_output_tree_go_through_every_pass():
    bound = Graph(GRAPH.name, GRAPH.values, GRAPH.outputs, {"w": 1}, "tree")
    assert optimize(bound).bindings == {"w": 1}
    assert optimize(bound).output_tree == "tree"


def test_softmax_is_left_as_few_ops():
    graph = parse(
        "graph softmax(%x: f32[64,1000]) {"
        " %0 = max(%x) {axes=[1], keepdims=true} : f32[64,1]"
        " %1 = broadcast(%0) {shape=[64,1000]} : f32[64,1000]"
        " %2 = sub(%x, %1) : f32[64,1000]"
        " %3 = exp(%2) : f32[64,1000]"
        " %4 = sum(%3) {axes=[1], keepdims=true} : f32[64,1]"
        " %5 = broadcast(%4) {shape=[64,1000]} : f32[64,1000]"
        " %6 = div(%3, %5) : f32[64,1000]"
        " return %6 }"
    )
    assert optimize(graph) == graph
    x = np.random.default_rng(0).normal(size=(64, 1000)).astype(np.float32)
    assert_computes(graph, interpret_flat(optimize(graph), [x]), [x])
