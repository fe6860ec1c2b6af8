"""Values without elements, and folds of nothing, become literals."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_graphs import arrays_for, assert_computes, graphs

from minicomp.ir.interpreter import interpret_flat
from minicomp.ir.ops import kind
from minicomp.ir.text import parse
from minicomp.ir.verifier import verify
from minicomp.passes.fill_empty import IDENTITY, fill_empty


def filled(text):
    return [line.strip() for line in str(fill_empty(parse(text))).splitlines()[1:-1]]


def test_values_without_elements_by_print():
    assert filled(
        """graph f(%x: f32[3,0], %b: bool[0]) {
          %0 = exp(%x) : f32[3,0]
          %1 = prod(%0) {axes=[1], keepdims=false} : f32[3]
          %2 = logical_not(%b) : bool[0]
          %3 = neg(%1) : f32[3]
          return %0, %1, %2, %3 }"""
    ) == [
        "%0 = full() {shape=[3,0], value=0.0, dtype=f32} : f32[3,0]",
        "%1 = full() {shape=[3], value=1.0, dtype=f32} : f32[3]",
        "%2 = full() {shape=[0], value=false, dtype=bool} : bool[0]",
        "%3 = neg(%1) : f32[3]",
        "return %0, %1, %2, %3",
    ]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("%0 = sum(%x) {axes=[1], keepdims=true} : f32[3,1]", "0.0"),
        ("%0 = prod(%x) {axes=[0,1], keepdims=false} : f32[]", "1.0"),
        ("%0 = any(%b) {axes=[1], keepdims=false} : bool[3]", "false"),
        ("%0 = all(%b) {axes=[1], keepdims=false} : bool[3]", "true"),
        ("%0 = sum(%i) {axes=[1], keepdims=false} : i64[3]", "0"),
        ("%0 = matmul(%x, %y) : f32[3,5]", "0.0"),
    ],
)
def test_folds_of_nothing(line, value):
    arguments = "%x: f32[3,0], %y: f32[0,5], %b: bool[3,0], %i: i32[3,0]"
    (filling, _) = filled(f"graph f({arguments}) {{ {line} return %0 }}")
    assert filling.startswith("%0 = full() {")
    assert f"value={value}," in filling


def test_what_has_elements_is_left_alone():
    graph = parse("graph f(%x: f32[3,1]) { %0 = neg(%x) : f32[3,1] return %0, %x }")
    assert fill_empty(graph).values == graph.values


RELAXED = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@RELAXED
@given(graphs(), st.integers(0, 99))
def test_no_computation_on_nothing_is_left_and_the_meaning_is_the_same(graph, seed):
    result = verify(fill_empty(graph))
    for value in result:
        assert value.size or kind(value) == "leaf"
        assert value.op not in IDENTITY or value.operands[0].size
    inputs, parameters = arrays_for(graph, seed)
    assert_computes(graph, interpret_flat(result, inputs, parameters), inputs, parameters)
