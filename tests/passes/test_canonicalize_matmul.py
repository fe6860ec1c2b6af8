"""Matrix products in canonical form."""

import numpy as np
import pytest

from minicomp.ir.interpreter import interpret_flat
from minicomp.ir.text import parse
from minicomp.ir.verifier import verify
from minicomp.passes import optimize
from minicomp.passes.canonicalize_matmul import canonicalize_matmul


def is_canonical(value):
    a, b = (operand.shape[:-2] for operand in value.operands)
    return len(a) == len(b) and all(
        (x, y) != (1, 1) and (x == y or 1 in (x, y)) for x, y in zip(a, b)
    )


def body(graph):
    return [line.strip() for line in str(graph).splitlines()[1:-2]]


CASES = {
    "many rows times one matrix": (
        "%x: f32[8,16,32], %w: f32[32,64]",
        ["%0 = matmul(%x, %w) : f32[8,16,64]"],
        [
            "%0 = reshape(%x) {shape=[128,32]} : f32[128,32]",
            "%1 = matmul(%0, %w) : f32[128,64]",
            "%2 = reshape(%1) {shape=[8,16,64]} : f32[8,16,64]",
        ],
    ),
    "a transpose stays a view": (
        "%x: f32[8,32], %w: f32[64,32]",
        [
            "%0 = transpose(%w) {permutation=[1,0]} : f32[32,64]",
            "%1 = matmul(%x, %0) : f32[8,64]",
        ],
        [
            "%0 = transpose(%w) {permutation=[1,0]} : f32[32,64]",
            "%1 = matmul(%x, %0) : f32[8,64]",
        ],
    ),
    "a broadcast weight is one matrix": (
        "%x: f32[8,16,32], %w: f32[32,64]",
        [
            "%0 = broadcast(%w) {shape=[8,32,64]} : f32[8,32,64]",
            "%1 = matmul(%x, %0) : f32[8,16,64]",
        ],
        [
            "%0 = reshape(%x) {shape=[128,32]} : f32[128,32]",
            "%1 = matmul(%0, %w) : f32[128,64]",
            "%2 = reshape(%1) {shape=[8,16,64]} : f32[8,16,64]",
        ],
    ),
    "batch axes of size 1 go": (
        "%x: f32[1,4,3,2], %w: f32[4,2,5]",
        ["%0 = matmul(%x, %w) : f32[1,4,3,5]"],
        [
            "%0 = reshape(%x) {shape=[4,3,2]} : f32[4,3,2]",
            "%1 = matmul(%0, %w) : f32[4,3,5]",
            "%2 = reshape(%1) {shape=[1,4,3,5]} : f32[1,4,3,5]",
        ],
    ),
    "the last batch axis alone becomes rows": (
        "%q: f32[2,4,8,16], %k: f32[2,1,16,8]",
        ["%0 = matmul(%q, %k) : f32[2,4,8,8]"],
        [
            "%0 = reshape(%q) {shape=[2,32,16]} : f32[2,32,16]",
            "%1 = reshape(%k) {shape=[2,16,8]} : f32[2,16,8]",
            "%2 = matmul(%0, %1) : f32[2,32,8]",
            "%3 = reshape(%2) {shape=[2,4,8,8]} : f32[2,4,8,8]",
        ],
    ),
    "one matrix times many stays a batch": (
        "%x: f32[3,2], %w: f32[4,2,5]",
        ["%0 = matmul(%x, %w) : f32[4,3,5]"],
        [
            "%0 = reshape(%x) {shape=[1,3,2]} : f32[1,3,2]",
            "%1 = matmul(%0, %w) : f32[4,3,5]",
        ],
    ),
    "rows in another order are reordered in the result": (
        "%x: f32[8,16,32], %w: f32[32,64]",
        [
            "%0 = transpose(%x) {permutation=[1,0,2]} : f32[16,8,32]",
            "%1 = matmul(%0, %w) : f32[16,8,64]",
        ],
        [
            "%0 = reshape(%x) {shape=[128,32]} : f32[128,32]",
            "%1 = matmul(%0, %w) : f32[128,64]",
            "%2 = reshape(%1) {shape=[8,16,64]} : f32[8,16,64]",
            "%3 = transpose(%2) {permutation=[1,0,2]} : f32[16,8,64]",
        ],
    ),
    "rows that are no view of memory stay a batch": (
        "%x: f32[8,16,32], %w: f32[16,64]",
        [
            "%0 = transpose(%x) {permutation=[0,2,1]} : f32[8,32,16]",
            "%1 = matmul(%0, %w) : f32[8,32,64]",
        ],
        [
            "%0 = transpose(%x) {permutation=[0,2,1]} : f32[8,32,16]",
            "%1 = reshape(%w) {shape=[1,16,64]} : f32[1,16,64]",
            "%2 = matmul(%0, %1) : f32[8,32,64]",
        ],
    ),
    "sliced rows stay a batch, whole slices become rows": (
        "%x: f32[8,16,32], %w: f32[32,64]",
        [
            "%0 = slice(%x) {starts=[0,0,0], sizes=[8,10,32], steps=[1,1,1]} : f32[8,10,32]",
            "%1 = matmul(%0, %w) : f32[8,10,64]",
            "%2 = slice(%x) {starts=[2,0,0], sizes=[4,16,32], steps=[1,1,1]} : f32[4,16,32]",
            "%3 = matmul(%2, %w) : f32[4,16,64]",
        ],
        [
            "%0 = slice(%x) {starts=[0,0,0], sizes=[8,10,32], steps=[1,1,1]} : f32[8,10,32]",
            "%1 = reshape(%w) {shape=[1,32,64]} : f32[1,32,64]",
            "%2 = matmul(%0, %1) : f32[8,10,64]",
            "%3 = slice(%x) {starts=[2,0,0], sizes=[4,16,32], steps=[1,1,1]} : f32[4,16,32]",
            "%4 = reshape(%3) {shape=[64,32]} : f32[64,32]",
            "%5 = matmul(%4, %w) : f32[64,64]",
            "%6 = reshape(%5) {shape=[4,16,64]} : f32[4,16,64]",
        ],
    ),
    "what repeats on both sides is multiplied once": (
        "%x: f32[3,2], %w: f32[2,5]",
        [
            "%0 = broadcast(%x) {shape=[7,3,2]} : f32[7,3,2]",
            "%1 = broadcast(%w) {shape=[7,2,5]} : f32[7,2,5]",
            "%2 = matmul(%0, %1) : f32[7,3,5]",
        ],
        ["%0 = matmul(%x, %w) : f32[3,5]", "%1 = broadcast(%0) {shape=[7,3,5]} : f32[7,3,5]"],
    ),
    "rows that repeat are left repeated": (
        "%x: f32[2], %w: f32[4,2,5]",
        [
            "%0 = broadcast(%x) {shape=[4,3,2]} : f32[4,3,2]",
            "%1 = matmul(%0, %w) : f32[4,3,5]",
        ],
        [
            "%0 = broadcast(%x) {shape=[1,3,2]} : f32[1,3,2]",
            "%1 = matmul(%0, %w) : f32[4,3,5]",
        ],
    ),
    "empty batches and sums": (
        "%x: f32[0,3,2], %w: f32[2,5], %y: f32[4,3,0], %v: f32[0,5]",
        ["%0 = matmul(%x, %w) : f32[0,3,5]", "%1 = matmul(%y, %v) : f32[4,3,5]"],
        None,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_product_is_canonical_and_means_the_same(name):
    inputs, lines, expected = CASES[name]
    returned = ", ".join(line.split()[0] for line in lines if "matmul" in line)
    graph = parse(f"graph f({inputs}) {{ {' '.join(lines)} return {returned} }}")
    once, optimized = verify(canonicalize_matmul(graph)), optimize(graph)
    for canonical in (once, optimized):
        assert all(is_canonical(value) for value in canonical if value.op == "matmul")
        random = np.random.default_rng(0)
        arrays = [random.integers(-9, 9, x.shape).astype(np.float32) for x in graph.inputs]
        before, after = interpret_flat(graph, arrays), interpret_flat(canonical, arrays)
        for actual, wanted in zip(after, before, strict=True):
            assert np.array_equal(actual, wanted)  # exact, since the products are small integers
    if expected is not None:
        assert body(optimized) == expected


def test_a_canonical_product_stays_itself():
    graph = parse(
        "graph f(%a: f32[2,3], %b: f32[3,4], %c: f32[6,1,2,3], %d: f32[6,5,3,2]) {"
        " %0 = matmul(%a, %b) : f32[2,4] %1 = matmul(%c, %d) : f32[6,5,2,2] return %0, %1 }"
    )
    assert canonicalize_matmul(graph).values == graph.values
