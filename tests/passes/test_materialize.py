"""What becomes memory: copies where somebody else reads, and nowhere else."""

import numpy as np
import pytest
from error_bounds import assert_computes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_graphs import arrays_for, graphs

import minicomp
from minicomp.ir.interpreter import interpret_flat
from minicomp.ir.ops import kind
from minicomp.ir.text import parse
from minicomp.ir.verifier import verify
from minicomp.passes.materialize import is_strided_view, materialize


def lines_of(text):
    return [line.strip() for line in str(materialize(parse(text))).splitlines()[1:-1]]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "a movement that is returned",
            "graph f(%x: f32[2,3]) { %0 = transpose(%x) {permutation=[1,0]} : f32[3,2] return %0 }",
            ["%0 = transpose(%x) {permutation=[1,0]} : f32[3,2]", "%1 = copy(%0) : f32[3,2]",
             "return %1"],
        ),
        (
            "an input that is returned",
            "graph f(%x: f32[2]) { return %x }",
            ["%0 = copy(%x) : f32[2]", "return %0"],
        ),
        (
            "a value that is returned twice",
            "graph f(%x: f32[2]) { %0 = neg(%x) : f32[2] return %0, %0 }",
            ["%0 = neg(%x) : f32[2]", "%1 = copy(%0) : f32[2]", "return %0, %1"],
        ),
        (
            "a computed value that is returned",
            "graph f(%x: f32[2]) { %0 = neg(%x) : f32[2] return %0 }",
            ["%0 = neg(%x) : f32[2]", "return %0"],
        ),
        (
            "parts of a whole",
            "graph f(%x: f32[2]) { %0 = concatenate(%x, %x) {axis=0} : f32[4] return %0 }",
            ["%0 = copy(%x) : f32[2]", "%1 = copy(%x) : f32[2]",
             "%2 = concatenate(%0, %1) {axis=0} : f32[4]", "return %2"],
        ),
        (
            "the inside of a padding",
            """graph f(%x: f32[2]) {
              %0 = pad(%x) {low=[1], high=[0], value=0.0} : f32[3]
              return %0 }""",
            ["%0 = copy(%x) : f32[2]", "%1 = pad(%0) {low=[1], high=[0], value=0.0} : f32[3]",
             "return %1"],
        ),
        (
            "a transposed operand of a matmul",
            """graph f(%x: f32[2,3], %w: f32[4,3]) {
              %0 = transpose(%w) {permutation=[1,0]} : f32[3,4]
              %1 = matmul(%x, %0) : f32[2,4]
              return %1 }""",
            ["%0 = transpose(%w) {permutation=[1,0]} : f32[3,4]",
             "%1 = matmul(%x, %0) : f32[2,4]", "return %1"],
        ),
        (
            "an operand that is no view",
            """graph f(%x: f32[4,2], %w: f32[4,3]) {
              %0 = transpose(%x) {permutation=[1,0]} : f32[2,4]
              %1 = reshape(%0) {shape=[2,2,2]} : f32[2,2,2]
              %2 = transpose(%1) {permutation=[0,2,1]} : f32[2,2,2]
              %3 = reshape(%2) {shape=[2,4]} : f32[2,4]
              %4 = matmul(%3, %w) : f32[2,3]
              return %4 }""",
            ["%0 = transpose(%x) {permutation=[1,0]} : f32[2,4]",
             "%1 = reshape(%0) {shape=[2,2,2]} : f32[2,2,2]",
             "%2 = transpose(%1) {permutation=[0,2,1]} : f32[2,2,2]",
             "%3 = reshape(%2) {shape=[2,4]} : f32[2,4]", "%4 = copy(%3) : f32[2,4]",
             "%5 = matmul(%4, %w) : f32[2,3]", "return %5"],
        ),
        (
            "an operand that is no memory at all",
            """graph f(%x: f32[2,2]) {
              %0 = full() {shape=[2,2], value=2.0, dtype=f32} : f32[2,2]
              %1 = matmul(%x, %0) : f32[2,2]
              return %1 }""",
            ["%0 = full() {shape=[2,2], value=2.0, dtype=f32} : f32[2,2]",
             "%1 = copy(%0) : f32[2,2]", "%2 = matmul(%x, %1) : f32[2,2]", "return %2"],
        ),
    ],
)  # fmt: skip
def test_copies_by_print(name, text, expected):
    assert lines_of(text) == expected


@pytest.mark.parametrize(
    ("line", "is_view"),
    [
        ("%0 = transpose(%x) {permutation=[1,0]} : f32[6,4]", True),
        ("%0 = slice(%x) {starts=[3,0], sizes=[2,3], steps=[-1,2]} : f32[2,3]", True),
        ("%0 = reshape(%x) {shape=[2,2,6]} : f32[2,2,6]", True),
        ("%0 = broadcast(%x) {shape=[3,4,6]} : f32[3,4,6]", True),
        ("%0 = reshape(%x) {shape=[3,8]} : f32[3,8]", True),
        ("%0 = windows(%x) {axes=[1], sizes=[2], strides=[1], dilations=[1]} : f32[4,5,2]", True),
        ("%0 = neg(%x) : f32[4,6]", True),
        ("%0 = iota() {shape=[4], axis=0, dtype=f32} : f32[4]", False),
    ],
)
def test_what_is_a_view_with_constant_strides(line, is_view):
    graph = parse(f"graph f(%x: f32[4,6]) {{ {line} return %0 }}")
    assert is_strided_view(graph.outputs[0], {}) == is_view


@pytest.mark.parametrize(
    ("shape", "strides", "is_view"),
    [
        ((24,), (6, 1), True),
        ((24,), (1, 4), False),
        ((24,), (12, 1), False),
        ((2, 2, 6), (7, 2), True),
    ],
)
def test_whether_a_reshape_is_a_view_depends_on_the_arrays_strides(shape, strides, is_view):
    sizes = ",".join(map(str, shape))
    line = f"%0 = reshape(%x) {{shape=[{sizes}]}} : f32[{sizes}]"
    graph = parse(f"graph f(%x: f32[4,6]) {{ {line} return %0 }}")
    assert is_strided_view(graph.outputs[0], {graph.inputs[0]: strides}) == is_view


def chain(count, lines):
    """A value through `count` rounds of movement lines; the shape is what it was."""
    text, number = "", 0
    for _ in range(count):
        for line in lines:
            source = f"%{number - 1}" if number else "%x"
            text += f"%{number} = {line.replace('%', source)}\n"
            number += 1
    return parse(f"graph f(%x: f32[4,6]) {{ {text} %y = neg(%{number - 1}) : f32[4,6] return %y }}")


TANGLE = [
    "transpose(%) {permutation=[1,0]} : f32[6,4]",
    "reshape(%) {shape=[4,6]} : f32[4,6]",
]
FLIPS = [
    "slice(%) {starts=[3,0], sizes=[4,6], steps=[-1,1]} : f32[4,6]",
    "transpose(%) {permutation=[1,0]} : f32[6,4]",
    "slice(%) {starts=[5,0], sizes=[6,4], steps=[-1,1]} : f32[6,4]",
    "transpose(%) {permutation=[1,0]} : f32[4,6]",
]


@pytest.mark.parametrize(("lines", "rounds"), [(TANGLE, 40), (FLIPS, 100)])
def test_a_long_chain_of_movement_has_copies_halfway(lines, rounds):
    graph = chain(rounds, lines)
    result = verify(materialize(graph))
    copies = [value for value in result if value.op == "copy"]
    assert 0 < len(copies) < len(graph) / 2
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    assert_computes(graph, [minicomp.compile(graph)(x)], [x])


def test_a_short_chain_is_seen_through():
    assert all(value.op != "copy" for value in materialize(chain(2, TANGLE)))
    assert all(value.op != "copy" for value in materialize(chain(10, FLIPS)))


def test_rows_are_not_merged_through_a_long_chain():
    """A product of tangled rows: as many reshapes as a user likes."""

    def product(x, w):
        for _ in range(20):
            x = x.T.reshape(4, 6)
        return x.reshape(2, 2, 6) @ w

    x, w = np.ones((4, 6), np.float32), np.ones((6, 3), np.float32)
    np.testing.assert_allclose(minicomp.compile(product)(x, w), product(x, w))


RELAXED = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@RELAXED
@given(graphs(), st.integers(0, 99))
def test_materialized_graphs_mean_the_same_and_what_is_read_is_in_memory(graph, seed):
    result = verify(materialize(graph))
    assert len(set(result.outputs)) == len(result.outputs)
    assert all(kind(value) not in ("leaf", "movement") for value in result.outputs)
    for value in result:
        if kind(value) == "assembly":
            assert all(part.op == "copy" for part in value.operands)
        if value.op == "matmul":
            assert all(is_strided_view(operand, {}) for operand in value.operands)
    inputs, parameters = arrays_for(graph, seed)
    assert_computes(graph, interpret_flat(result, inputs, parameters), inputs, parameters)
