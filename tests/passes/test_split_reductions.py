"""Long reductions with few results are done in parts; all others are left as they are."""

import numpy as np
import pytest
from error_bounds import assert_computes
from special_values import assert_same_bits

import minicomp
from minicomp.ir import Graph, TensorType
from minicomp.ir.interpreter import interpret_flat
from minicomp.ir.ops import make
from minicomp.ir.text import parse
from minicomp.ir.verifier import verify
from minicomp.passes.split_reductions import CPU, SPLITTABLE, split_reductions

LONG = CPU.long


def reducing(shape, axes, result, op="sum", kind="f32", keepdims="false", result_kind=None):
    lists = [f"[{','.join(map(str, numbers))}]" for numbers in (shape, axes, result)]
    result_type = f"{result_kind or kind}{lists[2]}"
    return parse(
        f"graph f(%x: {kind}{lists[0]}) {{\n"
        f"%0 = {op}(%x) {{axes={lists[1]}, keepdims={keepdims}}} : {result_type}\nreturn %0 }}"
    )


def test_a_full_sum_by_print():
    graph = split_reductions(reducing((1000, 1000), (0, 1), ()))
    assert [line.strip() for line in str(graph).splitlines()[1:-1]] == [
        "%0 = reshape(%x) {shape=[125,8000]} : f32[125,8000]",
        "%1 = sum(%0) {axes=[1], keepdims=false} : f32[125]",
        "%2 = sum(%1) {axes=[0], keepdims=false} : f32[]",
        "%3 = reshape(%2) {shape=[]} : f32[]",
        "return %3",
    ]


@pytest.mark.parametrize(
    ("why", "shape", "axes", "result"),
    [
        ("short", (LONG - 1,), (0,), ()),
        ("enough results", (8, LONG), (1,), (8,)),
        ("axes that are not adjacent", (300, 2, 300), (0, 2), (2,)),
        ("a prime length", (65537,), (0,), ()),
        ("nothing is folded", (4,), (), (4,)),
    ],
)
def test_others_are_left_alone(why, shape, axes, result):
    graph = reducing(shape, axes, result)
    assert split_reductions(graph) == graph


def test_columns_of_a_large_array_are_folded_in_bands_of_rows():
    graph = split_reductions(reducing((2, 4096, 300), (1,), (2, 300)))
    assert [line.strip() for line in str(graph).splitlines()[1:-1]] == [
        "%0 = reshape(%x) {shape=[2,64,64,300]} : f32[2,64,64,300]",
        "%1 = sum(%0) {axes=[2], keepdims=false} : f32[2,64,300]",
        "%2 = sum(%1) {axes=[1], keepdims=false} : f32[2,300]",
        "%3 = reshape(%2) {shape=[2,300]} : f32[2,300]",
        "return %3",
    ]


@pytest.mark.parametrize(
    ("why", "shape", "op"),
    [
        ("in the cache", (4096, 500), "sum"),
        ("narrow", (1 << 16, 63), "sum"),
        ("few rows", (1000, 5000), "sum"),
        ("a prime length", (4099, 1000), "sum"),
        ("a position", (4096, 1000), "argmax"),
    ],
)
def test_other_columns_are_left_alone(why, shape, op):
    result_kind = "i64" if op == "argmax" else "f32"
    graph = reducing(shape, (0,), shape[1:], op=op, result_kind=result_kind)
    assert split_reductions(graph) == graph


def test_columns_that_are_read_again_are_left_alone():
    graph = parse(
        "graph f(%x: f32[4096,1000]) { %0 = max(%x) {axes=[0], keepdims=true} : f32[1,1000]"
        " %1 = broadcast(%0) {shape=[4096,1000]} : f32[4096,1000]"
        " %2 = sub(%x, %1) : f32[4096,1000] return %2 }"
    )
    assert split_reductions(graph) == graph


def test_a_position_by_print():
    graph = split_reductions(reducing((LONG,), (0,), (), op="argmax", result_kind="i64"))
    assert [line.strip() for line in str(graph).splitlines()[1:-1]] == [
        "%0 = reshape(%x) {shape=[8,8192]} : f32[8,8192]",
        "%1 = max(%0) {axes=[1], keepdims=false} : f32[8]",
        "%2 = argmax(%1) {axes=[0], keepdims=false} : i64[]",
        "%3 = full() {shape=[], value=8192, dtype=i64} : i64[]",
        "%4 = mul(%2, %3) : i64[]",
        "%5 = reshape(%2) {shape=[1,1]} : i64[1,1]",
        "%6 = broadcast(%5) {shape=[1,8192]} : i64[1,8192]",
        "%7 = take_along_axis(%0, %6) {axis=0} : f32[1,8192]",
        "%8 = argmax(%7) {axes=[0,1], keepdims=false} : i64[]",
        "%9 = add(%4, %8) : i64[]",
        "%10 = reshape(%9) {shape=[]} : i64[]",
        "return %10",
    ]


@pytest.mark.parametrize("op", ["argmax", "argmin"])
@pytest.mark.parametrize("values", ["few", "one", "nan", "last", "integers"])
@pytest.mark.parametrize(
    ("shape", "axes", "result"),
    [
        ((LONG,), (0,), ()),
        ((300, 300), (0, 1), ()),
        ((3, LONG), (1,), (3,)),
        ((LONG, 2), (0,), (2,)),
    ],
)
def test_split_positions_are_the_first_ones(op, values, shape, axes, result):
    random = np.random.default_rng(0)
    x = random.integers(0, 5, shape).astype(np.float32)  # each value comes many times
    if values == "one":
        x[...] = 1
    elif values == "nan":
        x[random.random(shape) < 1e-4] = np.nan
    elif values == "last":
        x.reshape(-1)[-1] = 9 if op == "argmax" else -9
    elif values == "integers":
        x = random.integers(-(2**31), 2**31, shape, np.int32)
    kind = "i32" if values == "integers" else "f32"
    graph = reducing(shape, axes, result, op=op, kind=kind, result_kind="i64")
    split = verify(split_reductions(graph))
    assert split != graph
    expected = interpret_flat(graph, [x])[0]
    assert_same_bits(interpret_flat(split, [x])[0], expected)
    assert_same_bits(minicomp.compile(graph)(x), expected)


def test_positions_in_what_is_computed_are_not_split():
    """To look at one part again all would have to be kept."""
    graph = parse(
        f"graph f(%x: f32[{LONG}]) {{ %0 = neg(%x) : f32[{LONG}]"
        " %1 = argmax(%0) {axes=[0], keepdims=false} : i64[] return %1 }"
    )
    assert split_reductions(graph) == graph


CASES = [
    ((LONG,), (0,), (), "false"),
    ((300, 300), (0, 1), (1, 1), "true"),
    ((2, LONG), (1,), (2,), "false"),
    ((LONG, 7), (0,), (1, 7), "true"),
    ((2048, 1024), (0,), (1024,), "false"),
]


@pytest.mark.parametrize("op", SPLITTABLE)
@pytest.mark.parametrize(("shape", "axes", "result", "keepdims"), CASES)
def test_split_reductions_mean_the_same(op, shape, axes, result, keepdims):
    kind = "bool" if op in ("any", "all") else "f64"
    graph = reducing(shape, axes, result, op, kind, keepdims)
    split = verify(split_reductions(graph))
    assert split != graph
    random = np.random.default_rng(0)
    x = random.random(shape) < 1e-5 if kind == "bool" else 1 + random.normal(0, 1e-5, shape)
    x = ~x if op == "all" else x
    assert_computes(graph, interpret_flat(split, [x]), [x])


@pytest.mark.parametrize("op", ["sum", "prod", "max", "min"])
def test_integers_wrap_alike(op):
    wide = "i64" if op in ("sum", "prod") else "i32"
    graph = reducing((LONG,), (0,), (), op, "i32", result_kind=wide)
    limits = np.iinfo(np.int32)
    x = np.random.default_rng(0).integers(limits.min, limits.max, LONG, np.int32)
    (result,) = interpret_flat(split_reductions(graph), [x])
    assert_same_bits(result, interpret_flat(graph, [x])[0])


@pytest.mark.parametrize("place", [0, 1, LONG // 2, LONG - 1])
def test_special_values_come_through(place):
    x = np.ones(LONG, np.float32)
    for op, value in (("max", np.nan), ("min", -np.inf), ("sum", np.inf), ("prod", np.nan)):
        graph = reducing((LONG,), (0,), (), op)
        x[place] = value
        expected = interpret_flat(graph, [x])[0]
        assert_same_bits(minicomp.compile(graph)(x), expected)
        x[place] = 1


def test_the_sum_of_many_parts_is_accurate():
    """One float32 after the other, the sum of 16 million ones would stop at 2**24."""
    x = np.full(2**24 + 2**20, 1.0, np.float32)
    graph = reducing(x.shape, (0,), ())
    assert minicomp.compile(graph)(x) == len(x)


def test_parts_are_of_a_good_size():
    for length in (LONG, 100000, 10**6, 3 * 2**20):
        graph = split_reductions(reducing((length,), (0,), ()))
        assert CPU.shortest <= graph.values[1].shape[1] <= CPU.longest


@pytest.mark.parametrize(
    ("shape", "axes", "partial"),
    [
        ((2**26,), (0,), (8192, 8192)),  # rows: two and more for each multiprocessor
        ((100, 2**20), (1,), (100, 128, 8192)),
        ((256, 2**20), (1,), None),  # there are enough as it is
        ((65536, 1024), (0,), (64, 1024, 1024)),  # columns: as many as fill the threads
        ((16384, 4096), (0,), None),
        ((1000, 64), (0,), None),  # too short
    ],
)
def test_a_gpu_wants_more_results_at_once(shape, axes, partial):
    x = make("input", [], {"name": "x", "type": TensorType(shape, "float32", "cuda")})
    result = make("sum", [x], {"axes": axes, "keepdims": False})
    graph = Graph("f", (x, result), (result,))
    split = verify(split_reductions(graph))
    assert (split == graph) if partial is None else (split.values[1].shape == partial)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_partial_sums_of_two_byte_floats_are_float32(dtype):
    x = make("input", [], {"name": "x", "type": TensorType((LONG,), dtype, "cuda")})
    result = make("sum", [x], {"axes": (0,), "keepdims": False})
    split = verify(split_reductions(Graph("f", (x, result), (result,))))
    assert [value.dtype for value in split if value.op == "sum"] == ["float32", "float32"]
    assert split.outputs[0].dtype == dtype
