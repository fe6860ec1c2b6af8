"""Composite ops in terms of simpler ones."""

import numpy as np
import pytest

from minicomp.ir.interpreter import interpret
from minicomp.ir.text import parse
from minicomp.ir.verifier import verify
from minicomp.passes.decompose import decompose


def test_a_mean_is_a_sum_divided_by_the_count():
    graph = parse(
        "graph f(%x: f32[8,16]) {  %0 = mean(%x) {axes=[1], keepdims=false} : f32[8]  return %0 }"
    )
    assert str(verify(decompose(graph))) == (
        "graph f(%x: f32[8,16]) {\n"
        "  %0 = sum(%x) {axes=[1], keepdims=false} : f32[8]\n"
        "  %1 = full() {shape=[8], value=16.0, dtype=f32} : f32[8]\n"
        "  %2 = div(%0, %1) : f32[8]\n"
        "  return %2\n"
        "}"
    )


@pytest.mark.filterwarnings("ignore:Mean of empty slice")  # NumPy's, of its own mean
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (7, 9), (1, 1), (100, 33)])
@pytest.mark.parametrize("dtype", ["f16", "f32", "f64"])
@pytest.mark.parametrize("axes", ["0", "1", "0,1", ""])
def test_a_mean_keeps_its_bits(shape, dtype, axes):
    text = ",".join(map(str, shape))
    kept = ",".join("1" if str(i) in axes else str(n) for i, n in enumerate(shape))
    graph = parse(
        f"graph f(%x: {dtype}[{text}]) {{ %0 = mean(%x) {{axes=[{axes}], keepdims=true}} : "
        f"{dtype}[{kept}] return %0 }}"
    )
    x = np.random.default_rng(0).normal(0, 100, shape).astype(f"float{dtype[1:]}")
    before, after = interpret(graph, x), interpret(verify(decompose(graph)), x)
    assert before.dtype == after.dtype
    assert np.array_equal(before, after, equal_nan=True)


def test_an_integer_matmul_is_a_sum_of_products():
    graph = parse(
        "graph f(%a: i32[2,3], %b: i32[3,4]) { %0 = matmul(%a, %b) : i32[2,4] return %0 }"
    )
    assert str(verify(decompose(graph))) == (
        "graph f(%a: i32[2,3], %b: i32[3,4]) {\n"
        "  %0 = reshape(%a) {shape=[2,3,1]} : i32[2,3,1]\n"
        "  %1 = broadcast(%0) {shape=[2,3,4]} : i32[2,3,4]\n"
        "  %2 = reshape(%b) {shape=[1,3,4]} : i32[1,3,4]\n"
        "  %3 = broadcast(%2) {shape=[2,3,4]} : i32[2,3,4]\n"
        "  %4 = mul(%1, %3) : i32[2,3,4]\n"
        "  %5 = sum(%4) {axes=[1], keepdims=false} : i64[2,4]\n"
        "  %6 = cast(%5) {dtype=i32} : i32[2,4]\n"
        "  return %6\n"
        "}"
    )


@pytest.mark.parametrize("dtype", ["i32", "i64", "bool"])
@pytest.mark.parametrize(
    ("a", "b", "out"),
    [
        ((2, 3), (3, 4), (2, 4)),
        ((2, 0), (0, 4), (2, 4)),
        ((5, 1, 2, 3), (4, 3, 2), (5, 4, 2, 2)),
    ],
)
def test_exact_matmuls_mean_the_same_and_wrap_alike(dtype, a, b, out):
    def declared(shape):
        return f"{dtype}[{','.join(map(str, shape))}]"

    graph = parse(
        f"graph f(%a: {declared(a)}, %b: {declared(b)}) "
        f"{{ %0 = matmul(%a, %b) : {declared(out)} return %0 }}"
    )
    random = np.random.default_rng(0)
    limit, numpy_dtype = (2, bool) if dtype == "bool" else (2**30, f"int{dtype[1:]}")
    arrays = [random.integers(0, limit, shape).astype(numpy_dtype) for shape in (a, b)]
    decomposed = verify(decompose(graph))
    assert all(value.op != "matmul" for value in decomposed)
    before, after = interpret(graph, *arrays), interpret(decomposed, *arrays)
    assert before.dtype == after.dtype
    assert np.array_equal(before, after)


def test_a_float_matmul_stays():
    graph = parse(
        "graph f(%a: f32[2,3], %b: f32[3,4]) { %0 = matmul(%a, %b) : f32[2,4] return %0 }"
    )
    assert decompose(graph) == graph


def test_patches_are_padded_windows_laid_out():
    graph = parse(
        "graph f(%x: f32[2,3,5,6]) { %0 = patches(%x) {sizes=[3,2], strides=[1,2],"
        " dilations=[1,1], low=[1,0], high=[0,2]} : f32[32,18] return %0 }"
    )
    after = verify(decompose(graph))
    assert [value.op for value in after] == ["input", "pad", "windows", "transpose", "reshape"]
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 6)).astype(np.float32)
    assert np.array_equal(interpret(graph, x), interpret(after, x))
