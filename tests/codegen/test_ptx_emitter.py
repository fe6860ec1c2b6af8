"""Every op of the table in PTX, run by the simulator or a GPU, against the interpreter."""

import numpy as np
import pytest
from op_graphs import OpGraph, dtypes_of, plain_array
from ptx_runs import check, run_on_simulator
from special_values import assert_same_bits, special_array
from test_ops_compiled import CASES, NOT_TO_THE_BIT
from ulp_error import REFERENCES, ulp_error

from minicomp.codegen.ptx_lanes import rounded_literal
from minicomp.ir.interpreter import interpret_flat
from minicomp.ir.ops import OPS

pytestmark = pytest.mark.cuda

#: matmul is not for loop kernels
LOOP_OPS = [op for op in OPS if op != "matmul"]


@pytest.mark.parametrize(
    ("op", "dtype"),
    [(op, dtype) for op in LOOP_OPS for dtype in dtypes_of(op) if (op, dtype) != ("iota", "bool")],
)
def test_an_op_computes_what_it_means(op, dtype):
    graph = OpGraph()
    CASES[op](graph, dtype)
    check(graph, exact=OPS[op].kind == "pointwise" and op not in NOT_TO_THE_BIT)


# --- accuracy, with the approximations of the hardware taken as exact ---

#: Exhaustive runs on an H100 found 1.93, 1.81 and less than 2 ulp.
RANGES = {"exp": (-105, 90), "tanh": (-11, 11), "sigmoid": (-105, 20)}


@pytest.mark.parametrize("op", RANGES)
def test_functions_of_our_own_are_within_two_ulp(op):
    low, high = RANGES[op]
    random = np.random.default_rng(0)
    x = np.concatenate([
        random.uniform(low, high, 20000),
        random.normal(0, 1, 20000),
        np.geomspace(1e-45, 100, 5000),
        -np.geomspace(1e-45, 100, 5000),
    ]).astype(np.float32)  # fmt: skip
    graph = OpGraph()
    graph.output(op, graph.input(x))
    (result,) = run_on_simulator(graph.graph, graph.arrays)
    exact = REFERENCES[op](x.astype(np.float64))
    assert ulp_error(result, exact).max() <= 2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_angles_and_quotients_take_the_rare_way(dtype):
    """In some threads and lanes only, so that those beside them keep their usual result."""
    graph = OpGraph()
    x = plain_array((70,), dtype)
    x[[3, 33, 34, 68]] = [1e30, -1e25, np.inf, 3e37]
    value = graph.input(x)
    for op in ("sin", "cos"):
        graph.output(op, value)
    graph.output("mod", value, graph.input(plain_array((70,), dtype, seed=1)))
    check(graph)


# --- two-byte floats ---


def half(name):
    if name == "float16":
        return np.dtype(np.float16)
    return np.dtype(pytest.importorskip("ml_dtypes").bfloat16)


def assert_same_values(result, expected):
    """Equal, and NaN where that is expected: NumPy's functions of testing do not know bfloat16."""
    assert result.dtype == expected.dtype
    assert ((result == expected) | ((result != result) & (expected != expected))).all()


HALVES = ["float16", "bfloat16"]
EXACT = ["add", "sub", "mul", "div", "sqrt", "neg", "abs", "floor", "round", "copy", "lt", "ne",
         "minimum"]  # fmt: skip


@pytest.mark.parametrize("name", HALVES)
@pytest.mark.parametrize("op", EXACT)
def test_two_byte_floats_are_computed_in_float32_and_rounded_once(op, name):
    graph = OpGraph()
    dtype = half(name)
    for shape in ((14, 14), (8, 32), (3, 5)):  # by accesses of 4, 16 and 2 bytes
        arrays = [special_array(shape, dtype, phase) for phase in range(OPS[op].arity)]
        graph.output(op, *map(graph.input, arrays))
        arrays = [plain_array(shape, dtype, seed) for seed in range(OPS[op].arity)]
        graph.output(op, *map(graph.input, arrays))
    results = run_on_simulator(graph.graph, graph.arrays)
    for result, expected in zip(results, interpret_flat(graph.graph, graph.arrays), strict=True):
        assert_same_values(result, expected)


@pytest.mark.parametrize("name", HALVES)
def test_casts_to_and_from_two_byte_floats(name):
    dtype = half(name)
    graph = OpGraph()
    with np.errstate(over="ignore"):
        near_ties = np.float32(1) + np.arange(64, dtype=np.float32) * np.float32(2.0**-11)
        wide = np.concatenate([near_ties, special_array((32,), "float32"), [65519, 65520, 1e-8]])
    x = graph.input(wide.astype(np.float32))
    narrow = graph.output("cast", x, dtype=name)
    graph.output("cast", narrow, dtype="float32")  # through the narrow format, rounded there
    graph.output("cast", graph.input(plain_array((33,), "float64")), dtype=name)
    numbers = graph.input(np.arange(-2100, 2100, 7, dtype=np.int32))
    graph.output("cast", numbers, dtype=name)
    halves = graph.input(plain_array((19,), dtype))
    for target in ("float32", "float64", "int32", "int64", "bool"):
        graph.output("cast", halves, dtype=target)
    results = run_on_simulator(graph.graph, graph.arrays)
    for result, expected in zip(results, interpret_flat(graph.graph, graph.arrays), strict=True):
        assert_same_values(result, expected)


@pytest.mark.parametrize("name", HALVES)
def test_positions_as_two_byte_floats_are_rounded(name):
    half(name)
    graph = OpGraph()
    counted = graph.output("iota", shape=(4100,), axis=0, dtype=name)  # exact up to 2048 or 256
    graph.output("neg", counted)
    graph.output("cast", counted, dtype="float32")
    results = run_on_simulator(graph.graph, graph.arrays)
    for result, expected in zip(results, interpret_flat(graph.graph, graph.arrays), strict=True):
        assert_same_values(result, expected)


@pytest.mark.parametrize("name", HALVES)
@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
def test_sums_of_two_byte_floats_are_accumulated_in_float32(axes, name):
    graph = OpGraph()
    array = plain_array((33, 40), half(name))
    x = graph.input(array)
    for op in ("sum", "max", "argmin"):
        graph.output(op, x, axes=axes, keepdims=False)
    total, highest, lowest = run_on_simulator(graph.graph, graph.arrays)
    exact = np.sum(array.astype(np.float64), axis=axes)
    # Half a unit in the last place of the result, and float32's errors on the way.
    unit = {"float16": 2.0**-11, "bfloat16": 2.0**-8}[name]
    bound = unit * np.abs(exact) + 1e-5 * np.sum(np.abs(array.astype(np.float64)), axis=axes)
    assert (np.abs(total.astype(np.float64) - exact) <= bound).all()
    for result, expected in zip((highest, lowest), interpret_flat(graph.graph, [array])[1:]):
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("value", [0.1, 1.0, -3.14159, 65504.0, 1e-7, 3.4e38, 0.0, -0.0])
@pytest.mark.parametrize("name", HALVES)
def test_literals_are_rounded_as_arrays_are(value, name):
    with np.errstate(over="ignore"):
        expected = np.array(value, half(name)).astype(np.float64)
    assert_same_bits(np.array(rounded_literal(value, name)), expected)


# --- bools ---


def test_bools_may_be_any_byte():
    """A view of other bytes as bool has more trues than 1."""
    for count in (7, 8, 64):
        bytes_ = np.resize(np.array([0, 1, 2, 128, 255, 0, 7], np.uint8), count)
        graph = OpGraph()
        value = graph.input(bytes_.view(bool))
        graph.output("logical_not", value)
        graph.output("cast", value, dtype="int32")
        inverse, numbers = run_on_simulator(graph.graph, graph.arrays)
        assert inverse.view(np.uint8).tolist() == (bytes_ == 0).astype(int).tolist()
        assert numbers.tolist() == (bytes_ != 0).astype(int).tolist()
