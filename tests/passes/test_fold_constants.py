"""Constants computed at compile time."""

import numpy as np
import pytest

from minicomp.errors import IndexOutOfRangeError
from minicomp.ir.interpreter import interpret
from minicomp.ir.text import parse
from minicomp.ir.verifier import verify
from minicomp.passes import freeze
from minicomp.passes.dead_code import dead_code
from minicomp.passes.fold_constants import fold_constants


def folded(*lines):
    """The lines of a graph after folding, without those that nothing uses."""
    graph = parse(f"graph f(%x: f32[4], %i: i32[2]) {{ {' '.join(lines)} return %out }}")
    text = str(verify(dead_code(fold_constants(graph))))
    return [line.strip() for line in text.splitlines()[1:-2]]


FULL = "%a = full() {shape=[4], value=2.0, dtype=f32} : f32[4]"
LINE = "%b = constant() {value=[1.0,2.0,3.0,4.0]} : f32[4]"


@pytest.mark.parametrize(
    ("lines", "result"),
    [
        (
            [FULL, LINE, "%out = mul(%a, %b) : f32[4]"],
            "constant() {value=[2.0,4.0,6.0,8.0]} : f32[4]",
        ),
        (
            [FULL, "%out = sqrt(%a) : f32[4]"],
            "full() {shape=[4], value=1.4142135381698608, dtype=f32} : f32[4]",
        ),
        (
            [FULL, "%out = add(%a, %a) : f32[4]"],
            "full() {shape=[4], value=4.0, dtype=f32} : f32[4]",
        ),
        (
            [FULL, "%out = lt(%a, %a) : bool[4]"],
            "full() {shape=[4], value=false, dtype=bool} : bool[4]",
        ),
        (
            [FULL, "%out = broadcast(%a) {shape=[90000,4]} : f32[90000,4]"],
            "full() {shape=[90000,4], value=2.0, dtype=f32} : f32[90000,4]",
        ),
        (
            [FULL, "%out = sum(%a) {axes=[0], keepdims=false} : f32[]"],
            "full() {shape=[], value=8.0, dtype=f32} : f32[]",
        ),
        (
            [FULL, "%out = pad(%a) {low=[1], high=[1], value=2.0} : f32[6]"],
            "full() {shape=[6], value=2.0, dtype=f32} : f32[6]",
        ),
        (
            [FULL, "%out = pad(%a) {low=[1], high=[1], value=0.0} : f32[6]"],
            "constant() {value=[0.0,2.0,2.0,2.0,2.0,0.0]} : f32[6]",
        ),
        (
            [FULL, LINE, "%out = concatenate(%a, %a) {axis=0} : f32[8]"],
            "full() {shape=[8], value=2.0, dtype=f32} : f32[8]",
        ),
        (
            [LINE, "%out = sub(%b, %b) : f32[4]"],
            "full() {shape=[4], value=0.0, dtype=f32} : f32[4]",
        ),
        (
            ["%out = constant() {value=[7,7,7]} : i64[3]"],
            "full() {shape=[3], value=7, dtype=i64} : i64[3]",
        ),
        (
            ["%out = constant() {value=[0.0,-0.0]} : f32[2]"],
            "constant() {value=[0.0,-0.0]} : f32[2]",
        ),
        (
            ["%i0 = iota() {shape=[3], axis=0, dtype=i32} : i32[3]", "%out = neg(%i0) : i32[3]"],
            "constant() {value=[0,-1,-2]} : i32[3]",
        ),
        (
            [LINE, "%out = slice(%b) {starts=[3], sizes=[2], steps=[-2]} : f32[2]"],
            "constant() {value=[4.0,2.0]} : f32[2]",
        ),
        (
            [LINE, "%out = slice(%b) {starts=[0], sizes=[0], steps=[1]} : f32[0]"],
            "full() {shape=[0], value=0.0, dtype=f32} : f32[0]",
        ),
    ],
)
def test_what_depends_on_no_input_becomes_a_constant(lines, result):
    (line,) = folded(*lines)
    assert line == f"%0 = {result}"


@pytest.mark.parametrize(
    "lines",
    [
        ["%out = neg(%x) : f32[4]"],
        [LINE, "%out = broadcast(%b) {shape=[3,4]} : f32[3,4]"],
        ["%out = iota() {shape=[3], axis=0, dtype=i32} : i32[3]"],
        [
            "%i0 = iota() {shape=[70000], axis=0, dtype=i32} : i32[70000]",
            "%out = neg(%i0) : i32[70000]",
        ],
        [
            "%f = full() {shape=[1000000,1000000], value=1.5, dtype=f32} : f32[1000000,1000000]",
            "%out = sum(%f) {axes=[0,1], keepdims=false} : f32[]",
        ],
    ],
)
def test_inputs_broadcasts_and_what_is_big_stay(lines):
    assert len(folded(*lines)) == len(lines)


def test_a_bad_constant_index_stays_and_raises_when_it_runs():
    graph = parse(
        "graph f() { %b = constant() {value=[1.0,2.0]} : f32[2]"
        " %i = full() {shape=[], value=5, dtype=i64} : i64[]"
        " %out = take(%b, %i) {axis=0} : f32[] return %out }"
    )
    with pytest.raises(IndexOutOfRangeError):
        interpret(verify(fold_constants(graph)))


def test_big_constants_fold_where_the_result_is_no_larger():
    big = parse("graph f(%w: f32[300,300] parameter) { %0 = neg(%w) : f32[300,300] return %0 }")
    weights = np.arange(90000, dtype=np.float32).reshape(300, 300)
    (value,) = dead_code(fold_constants(freeze(big, {"w": weights}))).values
    assert np.array_equal(value.attributes["value"], -weights)


def test_constants_keep_their_device():
    graph = parse(
        "graph f() { %0 = constant() {value=[1.0,2.0], device=cuda} : f32[2]@cuda"
        " %1 = neg(%0) : f32[2]@cuda return %1 }"
    )
    assert str(verify(dead_code(fold_constants(graph)))) == (
        "graph f() {\n"
        "  %0 = constant() {value=[-1.0,-2.0], device=cuda} : f32[2]@cuda\n"
        "  return %0\n"
        "}"
    )
