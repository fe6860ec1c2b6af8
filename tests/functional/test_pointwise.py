"""Element by element: values, dtypes and shapes as NumPy has them."""

import itertools
import math

import numpy as np
import pytest

import minicomp as mc
from minicomp.errors import DTypeError, ShapeError, TraceError, UnsupportedError

DTYPES = ["bool", "int32", "int64", "float32", "float64"]
FLOATS = ["float32", "float64"]


def sample(dtype, shape=(2, 3), seed=0):
    numbers = np.random.default_rng(seed).uniform(-3, 3, shape)
    if dtype == "bool":
        return numbers > 0
    if "int" in dtype:  # away from 0, which integers cannot be divided by
        numbers = np.copysign(np.ceil(np.abs(numbers)), numbers)
    return numbers.astype(dtype)


# --- promotion ---


@pytest.mark.parametrize(("a", "b"), list(itertools.product(DTYPES, DTYPES)))
@pytest.mark.parametrize("name", ["add", "multiply", "maximum", "minimum", "true_divide", "less"])
def test_two_arrays_promote_as_in_numpy(agree, name, a, b):
    x, y = sample(a), sample(b, seed=1)
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(x, y)
    agree(getattr(mc, name), expected, x, y)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("number", [True, 3, -2, 0.5])
@pytest.mark.parametrize("name", ["add", "multiply", "maximum", "true_divide", "greater_equal"])
def test_python_numbers_are_weak_as_in_numpy(agree, name, number, dtype):
    x = sample(dtype)
    ours, numpys = getattr(mc, name), getattr(np, name)
    agree(lambda x: ours(x, number), numpys(x, number), x)
    with np.errstate(all="ignore"):
        expected = numpys(number, x)
    agree(lambda x: ours(number, x), expected, x)


@pytest.mark.parametrize("scalar", [np.float64(0.5), np.float32(0.5), np.int64(2), np.bool_(True)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_scalars_count_with_their_dtype(agree, scalar, dtype):
    x = sample(dtype)
    agree(lambda x: mc.add(x, scalar), np.add(x, scalar), x)
    agree(lambda x: mc.add(x, np.asarray(scalar)), np.add(x, np.asarray(scalar)), x)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("float16", "bfloat16", "float32"),
        ("float16", "float32", "float32"),
        ("bfloat16", "float64", "float64"),
        ("bfloat16", "bool", "bfloat16"),
        ("bfloat16", "int32", "float64"),
        ("float16", "int64", "float64"),
    ],
)
def test_two_byte_floats_promote(a, b, expected):
    types = [mc.TensorType((2,), a), mc.TensorType((2,), b)]
    assert mc.trace(mc.add, *types).outputs[0].dtype == expected
    assert mc.trace(mc.add, *types[::-1]).outputs[0].dtype == expected


@pytest.mark.parametrize(
    ("a", "b"),
    [((), ()), ((3,), ()), ((2, 3), (3,)), ((2, 1), (1, 3)), ((0, 3), (1, 3)), ((4, 1, 2), (3, 1))],
)
@pytest.mark.parametrize("name", ["subtract", "equal", "maximum"])
def test_shapes_broadcast_as_in_numpy(agree, name, a, b):
    x, y = sample("float32", a), sample("float32", b, seed=1)
    agree(getattr(mc, name), getattr(np, name)(x, y), x, y)


def test_two_python_numbers_give_an_array_without_axes():
    assert mc.add(1, 2).dtype == np.int64
    assert mc.add(1, 2.5) == 3.5
    assert mc.power(2, 3) == 8


def test_lists_of_numbers_become_constants(agree):
    graph = agree(lambda x: mc.add(x, [1.0, 2.0]), np.array([2.0, 4.0]), np.array([1.0, 2.0]))
    assert "constant" in [value.op for value in graph]


def test_a_number_is_recorded_at_the_shape_and_dtype_of_what_it_meets():
    graph = mc.trace(lambda x: x * 2, np.zeros((2, 3), np.float32))
    assert [value.op for value in graph] == ["input", "full", "mul"]
    assert graph.values[1].attributes == {"shape": (2, 3), "value": 2.0, "dtype": "float32"}
    assert isinstance(graph.values[1].attributes["value"], float)


def test_shapes_that_do_not_broadcast_are_named():
    with pytest.raises(ShapeError, match=r"add at .*: shapes \(2, 3\) and \(4,\) do not broadcast"):
        mc.add(np.zeros((2, 3)), np.zeros(4))


@pytest.mark.parametrize("dtype", ["uint8", "complex64", "int16"])
def test_dtypes_that_the_ir_lacks_are_refused(dtype):
    with pytest.raises(DTypeError, match=f"dtype {dtype} is not supported"):
        mc.add(np.zeros(3, dtype), 1)


@pytest.mark.parametrize("thing", ["text", None, object(), {1}, 1j])
def test_what_is_no_tensor_is_refused(thing):
    with pytest.raises(TraceError, match=f"got a {type(thing).__name__}, wanted a tensor"):
        mc.add(np.zeros(3), thing)


def test_a_number_out_of_the_dtypes_range_is_refused_where_numpy_does():
    with pytest.raises(DTypeError, match="out of range for int32"):
        mc.add(np.zeros(3, np.int32), 2**40)
    with pytest.raises(DTypeError, match="out of range for any float dtype"):
        mc.add(np.zeros(3), 10**400)


def test_comparison_with_a_number_out_of_range_is_exact(agree):
    x = np.array([0, 2**31 - 1], np.int32)
    agree(lambda x: mc.less(x, 2**40), x < 2**40, x)


# --- arithmetic ---


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32", "float64"])
@pytest.mark.parametrize("name", ["floor_divide", "remainder", "subtract"])
def test_arithmetic_of_numbers(agree, name, dtype):
    x, y = sample(dtype, (50,)), sample(dtype, (50,), seed=1)
    agree(getattr(mc, name), getattr(np, name)(x, y), x, y)


@pytest.mark.parametrize("name", ["subtract", "floor_divide", "remainder"])
def test_arithmetic_that_bool_lacks_is_refused(name):
    with pytest.raises(DTypeError, match="got dtype bool"):
        getattr(mc, name)(np.array([True]), np.array([False]))


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 7, 12])
@pytest.mark.parametrize("dtype", ["int32", "int64", "float32"])
def test_whole_powers(agree, exponent, dtype):
    x = sample(dtype, (5,))
    graph = agree(lambda x: x**exponent, x**exponent, x)
    products = [value.op for value in graph].count("mul")
    assert dtype == "float32" or products <= 2 * max(exponent, 1).bit_length() - 2


def test_powers_of_floats(agree):
    x = np.array([0.5, 2.0, 3.0, np.inf, 0.0])
    with np.errstate(all="ignore"):
        for exponent in (0.5, -1, 2, 1.5, -0.25):
            agree(lambda x, e=exponent: mc.power(x, e), np.power(x, exponent), x)
        agree(lambda x: 2.0**x, 2.0**x, x)
        agree(mc.power, x**x, x, x)
    ints = np.array([1, 2, 3])
    agree(lambda x: x**0.5, ints**0.5, ints)
    agree(mc.power, ints ** np.array([0.5, 1.5, 2.5]), ints, np.array([0.5, 1.5, 2.5]))


@pytest.mark.parametrize(
    "function",
    [lambda x: x**x, lambda x: x**-1, lambda x: 2**x, lambda x: mc.power(x, np.int64(2))],
)
def test_integer_powers_by_data_or_below_zero_are_refused(function):
    with pytest.raises(UnsupportedError, match="needs a Python int of 0 or more as the exponent"):
        mc.trace(function, np.array([1, 2]))


def test_clip(agree):
    x = sample("float32", (20,))
    agree(lambda x: mc.clip(x, -1, 1), np.clip(x, -1, 1), x)
    agree(lambda x: mc.clamp(x, max=0.5), np.minimum(x, np.float32(0.5)), x)
    agree(lambda x: mc.clip(x, a_min=0, a_max=None), np.maximum(x, 0), x)
    ints = sample("int32", (20,))
    agree(lambda x: mc.clip(x, 0, 1.5), np.clip(ints, 0, 1.5), ints)


@pytest.mark.parametrize("dtype", DTYPES)
def test_signs_and_absolute_values(agree, dtype):
    x = sample(dtype)
    agree(mc.abs, np.abs(x), x)
    agree(mc.positive, x, x)
    if dtype != "bool":
        agree(mc.negative, -x, x)
        agree(mc.sign, np.sign(x), x)
        agree(mc.square, x * x, x)
    with np.errstate(all="ignore"):
        agree(mc.reciprocal, 1 / (x if dtype in FLOATS else x.astype(np.float64)), x)


def test_results_are_never_the_callers_own_array():
    x = np.arange(3)
    for function in (mc.positive, mc.floor, mc.round, mc.clip, lambda x: mc.astype(x, x.dtype)):
        result = function(x)
        result[0] = 9
    assert x[0] == 0


# --- comparisons, logic, bits ---


@pytest.mark.parametrize("name", ["logical_and", "logical_or", "logical_xor"])
@pytest.mark.parametrize(("a", "b"), [("bool", "bool"), ("int32", "float32"), ("float64", "bool")])
def test_logic_takes_numbers_for_their_truth(agree, name, a, b):
    x, y = sample(a, (8,)), sample(b, (8,), seed=1)
    x[0] = y[1] = 0
    agree(getattr(mc, name), getattr(np, name)(x, y), x, y)
    agree(mc.logical_not, np.logical_not(x), x)


@pytest.mark.parametrize("dtype", ["bool", "int32", "int64"])
def test_bits(agree, dtype):
    x, y = sample(dtype, (8,)), sample(dtype, (8,), seed=1)
    for name in ("bitwise_and", "bitwise_or", "bitwise_xor"):
        agree(getattr(mc, name), getattr(np, name)(x, y), x, y)
    agree(mc.bitwise_not, ~x, x)


def test_bits_of_floats_are_refused():
    with pytest.raises(DTypeError, match="got dtype float64, wanted one of int32, int64"):
        mc.bitwise_not(np.zeros(2))


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values_are_told_apart(agree, dtype):
    x = sample(dtype, (5,))
    if dtype in FLOATS:
        x[:3] = np.nan, np.inf, -np.inf
    for name in ("isnan", "isinf", "isfinite"):
        agree(getattr(mc, name), getattr(np, name)(x), x)


@pytest.mark.parametrize(
    ("a", "b"), [("float32", "int32"), ("bool", "int64"), ("float32", "float64")]
)
def test_where_promotes_and_broadcasts(agree, a, b):
    condition, x, y = sample("bool", (4, 1)), sample(a, (3,)), sample(b, (4, 3))
    agree(mc.where, np.where(condition, x, y), condition, x, y)
    agree(lambda c, x: mc.where(c, x, 0), np.where(condition, x, 0), condition, x)
    agree(lambda c: mc.where(c, 1, 0.5), np.where(condition, 1, 0.5), condition)


def test_where_takes_numbers_as_a_condition(agree):
    x = np.array([0.0, 2.0, np.nan])
    agree(lambda x: mc.where(x, x, -1), np.where(x, x, -1), x)


def test_where_with_one_argument_is_refused():
    with pytest.raises(UnsupportedError, match="shape depends on the data"):
        mc.where(np.array([True]))


@pytest.mark.parametrize(("a", "b"), list(itertools.product(DTYPES, DTYPES)))
def test_astype(agree, a, b):
    x = sample(a)
    agree(lambda x: mc.astype(x, b), x.astype(b), x)


# --- mathematics ---


@pytest.mark.parametrize("dtype", [*DTYPES, "float16"])
@pytest.mark.parametrize(
    "name",
    ["exp", "expm1", "log1p", "sin", "cos", "tanh", "log", "sqrt", "exp2", "log2", "log10", "tan"],
)
def test_mathematics_is_float64_for_integers(agree, name, dtype):
    x = np.abs(sample(dtype, (7,)))
    exact = x if x.dtype.kind == "f" else x.astype(np.float64)
    with np.errstate(all="ignore"):
        agree(getattr(mc, name), getattr(np, name)(exact), x)


@pytest.mark.parametrize("dtype", FLOATS)
def test_functions_that_numpy_lacks(agree, dtype):
    x = sample(dtype, (9,))
    wide = x.astype(np.float64)
    agree(mc.erf, np.array([math.erf(v) for v in wide], dtype), x)
    agree(mc.sigmoid, (1 / (1 + np.exp(-wide))).astype(dtype), x)
    agree(mc.rsqrt, (1 / np.sqrt(np.abs(wide))).astype(dtype), np.abs(x))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["floor", "ceil", "trunc"])
def test_rounding_leaves_integers(agree, name, dtype):
    x = sample(dtype, (9,))
    agree(getattr(mc, name), getattr(np, name)(x).astype(dtype), x)


def test_round_goes_to_the_even_side_and_to_decimals(agree):
    x = np.array([0.5, 1.5, -2.5, 2.345, 1234.5])
    for decimals in (0, 1, 2, -2):
        agree(lambda x, d=decimals: mc.round(x, d), np.round(x, decimals), x)
    with pytest.raises(UnsupportedError, match="no tens"):
        mc.round(np.array([15]), -1)


def test_division_by_zero_gives_infinity_without_a_warning(agree, recwarn):
    expected = np.array([np.inf, -np.inf, np.nan])
    agree(lambda x: mc.divide(x, 0.0), expected, np.array([1.0, -1.0, 0.0]))
    assert not recwarn.list
