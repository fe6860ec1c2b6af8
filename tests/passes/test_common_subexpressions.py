"""Values that compute the same become one."""

import pytest

from minicomp.ir.text import parse
from minicomp.ir.verifier import verify
from minicomp.passes.common_subexpressions import common_subexpressions


def test_equal_expressions_become_one_and_so_do_those_made_of_them():
    graph = parse(
        "graph f(%x: f32[8]) {"
        "  %0 = exp(%x) : f32[8]"
        "  %1 = exp(%x) : f32[8]"
        "  %2 = neg(%0) : f32[8]"
        "  %3 = neg(%1) : f32[8]"
        "  %4 = add(%2, %3) : f32[8]"
        "  return %4, %3 }"
    )
    assert str(verify(common_subexpressions(graph))) == (
        "graph f(%x: f32[8]) {\n"
        "  %0 = exp(%x) : f32[8]\n"
        "  %1 = neg(%0) : f32[8]\n"
        "  %2 = add(%1, %1) : f32[8]\n"
        "  return %2, %1\n"
        "}"
    )


@pytest.mark.parametrize(
    ("first", "second", "merged"),
    [
        ("sum(%x) {axes=[0], keepdims=true} : f32[1]", None, True),
        ("constant() {value=[1.0,2.0]} : f32[2]", None, True),
        ("full() {shape=[2], value=nan, dtype=f32} : f32[2]", None, True),
        (
            "sum(%x) {axes=[0], keepdims=true} : f32[1]",
            "max(%x) {axes=[0], keepdims=true} : f32[1]",
            False,
        ),
        (
            "full() {shape=[2], value=0.0, dtype=f32} : f32[2]",
            "full() {shape=[2], value=-0.0, dtype=f32} : f32[2]",
            False,
        ),
        (
            "full() {shape=[2], value=0.0, dtype=f32} : f32[2]",
            "full() {shape=[2], value=0.0, dtype=f64} : f64[2]",
            False,
        ),
        (
            "constant() {value=[0.0,1.0]} : f32[2]",
            "constant() {value=[-0.0,1.0]} : f32[2]",
            False,
        ),
        (
            "constant() {value=[0.0]} : f32[1]",
            "constant() {value=[0]} : i32[1]",
            False,
        ),
        (
            "pad(%x) {low=[1], high=[0], value=0.0} : f32[3]",
            "pad(%x) {low=[0], high=[1], value=0.0} : f32[3]",
            False,
        ),
        ("sub(%x, %y) : f32[2]", "sub(%y, %x) : f32[2]", False),
    ],
)
def test_only_the_same_op_operands_attributes_and_type_merge(first, second, merged):
    graph = parse(
        f"graph f(%x: f32[2], %y: f32[2]) {{ %0 = {first} %1 = {second or first} return %0, %1 }}"
    )
    outputs = verify(common_subexpressions(graph)).outputs
    assert (outputs[0] is outputs[1]) == merged


def test_inputs_and_parameters_never_merge():
    graph = parse("graph f(%x: f32[], %y: f32[], %v: f32[] parameter) { return %x, %y, %v }")
    assert common_subexpressions(graph) == graph
