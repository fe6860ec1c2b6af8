"""The elementary functions, measured in ulp on NumPy arrays: nothing is compiled here."""

import decimal
import math
from decimal import Decimal

import numpy as np
import pytest
from ulp_error import FLOAT32_REFERENCES, REFERENCES, ulp_error

from minicomp.codegen.math_erf import PIECE_SCALE, PIECES_END
from minicomp.codegen.math_large_angles import TWO_OVER_PI
from minicomp.codegen.numpy_emitter import NumpyEmitter
from minicomp.ir.ops import OPS

FUNCTIONS = list(REFERENCES)
FLOATS = [np.float32, np.float64]
# What is promised for float64 is 4 ulp for any argument; these samples stay below half of that.
FLOAT64_LIMIT = 2
emitter = NumpyEmitter()

# The x87 format and binary128 are wider than float64; elsewhere long double is float64 itself.
needs_long_double = pytest.mark.skipif(
    np.finfo(np.longdouble).nmant < 63, reason="no format wider than float64 to measure against"
)


def special_values(dtype):
    info = np.finfo(dtype)
    magnitudes = [0, info.smallest_subnormal, info.tiny, info.eps, 0.5, 1, 2, 1e10, info.max]
    with np.errstate(over="ignore"):
        neighbours = [np.nextafter(dtype(m), dtype(t)) for m in magnitudes for t in (0, np.inf)]
    positive = np.array([*magnitudes, *neighbours, np.inf, np.nan], dtype)
    return np.concatenate([positive, -positive])


def around(points, dtype, steps=8):
    """The numbers nearest to each point and `steps` neighbours on both sides, of both signs."""
    nearest = np.asarray(points, dtype)
    bits = nearest.view(np.int32 if dtype == np.float32 else np.int64)
    shifts = np.arange(-steps, steps + 1, dtype=bits.dtype)
    near = (bits[:, None] + shifts).view(dtype).ravel()
    return np.concatenate([near, -near])


def boundaries(dtype):
    """Where some function changes its way: binades, quadrants, pieces, over- and underflow."""
    k = np.arange(1, 300)
    powers = 2.0 ** np.arange(0, 100 if dtype == np.float32 else 1000)
    single = [0.25, 0.6, 1.2, 1.25, 3.95, 5.93, 9.0, 10.0, 20.0, 17.5, 37.5, 2.0**17, 2.0**30]
    limits = [87.33, 88.72284, 103.97208, 708.3964, 709.782712893384, 745.1332191019412]
    return around(
        np.concatenate([
            k * math.log(2) / 2, k * math.pi / 4, powers, powers * math.sqrt(0.5),
            powers * math.pi, 1 + 1 / powers, np.array(single), np.array(limits),
            (np.arange(16) + 0.5) / PIECE_SCALE, np.array([PIECES_END]),
        ]), dtype)  # fmt: skip


def representations(dtype, count, seed=0):
    """Numbers whose bits are random, which takes in all exponents alike."""
    integer = np.int32 if dtype == np.float32 else np.int64
    info = np.iinfo(integer)
    generator = np.random.default_rng(seed)
    return generator.integers(info.min, info.max, count, integer, endpoint=True).view(dtype)


def worst(name, x, *more):
    """The largest error and its arguments, against the next wider format."""
    wider = np.float64 if x.dtype == np.float32 else np.longdouble
    reference = np.power if name == "pow" else FLOAT32_REFERENCES[name]
    with np.errstate(all="ignore"):
        truth = reference(*(operand.astype(wider) for operand in (x, *more)))
    errors = ulp_error(getattr(emitter, name)(x, *more), truth)
    index = errors.argmax()
    return errors[index], [operand[index] for operand in (x, *more)]


def test_every_pointwise_op_of_the_table_has_a_method():
    names = [op.name for op in OPS.values() if op.kind == "pointwise"]
    assert "tanh" in names
    missing = [name for name in names if not hasattr(NumpyEmitter, name)]
    assert missing == ["copy"]  # a load and a store


# --- functions of one argument ---


@pytest.mark.parametrize("name", FLOAT32_REFERENCES)
def test_float32_error_over_all_exponents(name):
    x = np.arange(0, 1 << 32, 2053, dtype=np.uint64).astype(np.uint32).view(np.float32)
    for part in np.array_split(x, 32):  # parts stay in the caches
        error, argument = worst(name, part)
        assert error <= 2, argument


@pytest.mark.parametrize("name", FLOAT32_REFERENCES)
def test_float32_error_where_the_method_changes(name):
    x = np.concatenate([special_values(np.float32), boundaries(np.float32)])
    error, argument = worst(name, x)
    assert error <= 2, argument


@needs_long_double
@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "erf"])
def test_float64_error(name):
    generator = np.random.default_rng(1)
    x = np.concatenate([
        special_values(np.float64),
        boundaries(np.float64),
        representations(np.float64, 10_000),
        *(generator.uniform(-scale, scale, 5_000) for scale in (0.1, 1, 5, 50, 800, 1e6, 1e20)),
    ])  # fmt: skip
    error, argument = worst(name, x)
    assert error <= FLOAT64_LIMIT, argument


def precise_erf(x):
    """erf(x) to 40 digits, by a series of positive terms (Abramowitz and Stegun, 7.1.6)."""
    with decimal.localcontext(prec=60):
        exact = Decimal(x)
        term = total = exact
        n = 0
        while abs(term) > abs(total) * Decimal("1e-45"):
            n += 1
            term *= 2 * exact * exact / (2 * n + 1)
            total += term
        # pi by Machin's formula
        pi = 4 * (4 * arc_tangent_of_inverse(5) - arc_tangent_of_inverse(239))
        return 2 / pi.sqrt() * (-exact * exact).exp() * total


def arc_tangent_of_inverse(n):
    """atan(1 / n) by its series, in the current decimal context."""
    power = total = Decimal(1) / n
    for k in range(1, decimal.getcontext().prec):
        power /= -n * n
        total += power / (2 * k + 1)
    return total


def test_float64_error_of_erf():
    generator = np.random.default_rng(2)
    x = np.concatenate([generator.uniform(0, 6.2, 150), 10.0 ** generator.uniform(-300, 0, 50),
                        around([1.25, 5.93], np.float64, 3)])  # fmt: skip
    for argument, result in zip(x, emitter.erf(x), strict=True):
        truth = precise_erf(float(argument))
        ulp = Decimal(math.ulp(float(truth)))
        assert abs(Decimal(float(result)) - truth) <= FLOAT64_LIMIT * ulp, argument


@pytest.mark.parametrize(
    ("name", "dtype"), [("erf", np.float32), ("erf", np.float64), ("erf_by_pieces", np.float32)]
)
def test_erf_at_special_values_is_that_of_the_c_library(name, dtype):
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 30.0, -30.0, 5e-324], dtype)
    expected = REFERENCES["erf"](x.astype(np.float64)).astype(dtype)
    assert ulp_error(getattr(emitter, name)(x), expected.astype(np.longdouble)).max() == 0


def test_lookup_reads_the_lowest_bits_of_the_index():
    index = np.array([0, 1, 6, 7, 8 + 3, -1, -8], np.int32)
    table = (0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0)
    assert emitter.lookup(table, index).tolist() == [0, 10, 60, 70, 30, 70, 0]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "name", ["exp", "expm1", "log", "log1p", "sin", "cos", "tanh"]
)  # those that NumPy has
def test_special_values_are_those_of_numpy(name, dtype):
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -1.0, -2.0], dtype)
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(x)
    result = getattr(emitter, name)(x)
    exact = ~np.isfinite(expected) | (expected == 0) | (expected == 1)
    np.testing.assert_array_equal(result[exact], expected[exact])
    numbers = exact & ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(result[numbers]), np.signbit(expected[numbers]))


def test_a_nan_with_any_payload_stays_nan():
    bits = np.array([0x7F800001, 0x7FC00000, 0x7FFFFFFF, 0xFF800001, 0xFFC12345], np.uint32)
    for name in FLOAT32_REFERENCES:
        assert np.isnan(getattr(emitter, name)(bits.view(np.float32))).all(), name


@pytest.mark.parametrize("dtype", FLOATS)
def test_exp_underflows_gradually_and_overflows_to_infinity(dtype):
    info = np.finfo(dtype)
    least, most = math.log(float(info.smallest_subnormal)), math.log(float(info.max))
    x = np.array([least - 0.8, least + 0.01, least + 5, most + 0.01], dtype)
    below, first, subnormal, above = emitter.exp(x)
    assert below == 0 and above == np.inf
    assert first == info.smallest_subnormal
    assert 0 < subnormal < info.tiny


def test_sine_and_cosine_never_leave_minus_one_to_one():
    x = around(np.arange(1, 2000) * math.pi / 2, np.float32)
    assert np.abs(emitter.sin(x)).max() == 1
    assert np.abs(emitter.cos(x)).max() == 1


# --- large angles ---


def test_the_words_of_two_over_pi():
    with decimal.localcontext(prec=400):
        pi = 4 * (4 * arc_tangent_of_inverse(5) - arc_tangent_of_inverse(239))
        expected = int(2 / pi * (1 << (32 * len(TWO_OVER_PI))))
    got = 0
    for word in TWO_OVER_PI:
        got = (got << 32) | word
    assert got == expected


def test_sine_of_the_float64_that_is_nearest_to_a_multiple_of_half_pi():
    # 6381956970095103 * 2**797 (Muller, "Elementary Functions", on the range reduction).
    x = np.array([math.ldexp(6381956970095103, 797)])
    assert abs(emitter.cos(x)[0]) == pytest.approx(4.6871659242546276e-19, rel=1e-15, abs=0)
    assert abs(emitter.sin(x)[0]) == 1


# --- pow ---


@pytest.mark.parametrize("dtype", FLOATS)
def test_pow_special_cases_are_those_of_numpy(dtype):
    values = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 1e30, np.inf]
    values += [2.0**24 - 1, 2.0**24 + 2, 2.0**53 - 1, float(np.finfo(dtype).smallest_subnormal)]
    values = np.array([*values, *(-value for value in values), np.nan], dtype)
    x, y = (grid.ravel() for grid in np.meshgrid(values, values))
    with np.errstate(all="ignore"):
        expected = np.power(x, y)
    result = emitter.pow(x, y)
    np.testing.assert_array_equal(np.isnan(result), np.isnan(expected))
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(result[numbers]), np.signbit(expected[numbers]))
    exact = numbers & (np.isinf(expected) | (expected == 0) | (np.abs(expected) == 1))
    np.testing.assert_array_equal(result[exact], expected[exact])


def powers(dtype):
    """Bases and exponents: at random, and such that the results cover the format's exponents."""
    generator = np.random.default_rng(3)
    base = np.abs(representations(dtype, 30_000, 4))
    base = base[np.isfinite(base) & (base > 0) & (base != 1)]
    reach = 1.05 * math.log(float(np.finfo(dtype).max))
    near_one = (1 + generator.uniform(-0.5, 0.5, 10_000)).astype(dtype)
    base = np.concatenate([base, near_one])
    exponent = (generator.uniform(-reach, reach, base.size) / np.log(base)).astype(dtype)
    whole = np.round(exponent[:5_000])
    signed = np.where(generator.random(5_000) < 0.5, base[:5_000], -base[:5_000])
    small = generator.uniform(0.1, 10, 10_000).astype(dtype)
    return (
        np.concatenate([base, signed, small]),
        np.concatenate([exponent, whole, small[::-1]]),
    )


def test_float32_error_of_pow():
    error, arguments = worst("pow", *powers(np.float32))
    assert error <= 2, arguments


@needs_long_double
def test_float64_error_of_pow():
    error, arguments = worst("pow", *powers(np.float64))
    assert error <= FLOAT64_LIMIT, arguments


# --- division ---


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name, meaning", [("mod", np.mod), ("floor_divide", np.floor_divide)])
def test_float_division_is_that_of_numpy_to_the_bit(name, meaning, dtype):
    generator = np.random.default_rng(5)
    values = np.concatenate([special_values(dtype), np.array([3, -3, 0.1, 7.5, 1e30], dtype)])
    x, y = (grid.ravel() for grid in np.meshgrid(values, values))
    small = generator.uniform(-9, 9, (2, 4_000)).astype(dtype)
    whole = np.round(small * 3)
    a = np.concatenate([x, representations(dtype, 4_000, 6), small[0], whole[0]])
    b = np.concatenate([y, representations(dtype, 4_000, 7), small[1], whole[1]])
    with np.errstate(all="ignore"):
        expected = meaning(a, b)
    result = getattr(emitter, name)(a, b)
    np.testing.assert_array_equal(result, expected)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(result[numbers]), np.signbit(expected[numbers]))


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("name, meaning", [("mod", np.mod), ("floor_divide", np.floor_divide)])
def test_integer_division_is_that_of_numpy_and_never_traps(name, meaning, dtype):
    info = np.iinfo(dtype)
    values = [0, 1, 2, 3, 7, 1000, info.max, info.max - 1]
    values = np.array([*values, *(-value for value in values), info.min, info.min + 1], dtype)
    a, b = (grid.ravel() for grid in np.meshgrid(values, values))
    with np.errstate(all="ignore"):
        expected = meaning(a, b)
    # The emitter raises where the hardware's division would trap.
    result = getattr(emitter, name)(a, b)
    np.testing.assert_array_equal(result, expected)
    assert (result[b == 0] == 0).all()
    if name == "floor_divide":
        assert (result[(a == info.min) & (b == -1)] == info.min).all()


# --- the rest ---


@pytest.mark.parametrize("dtype", [*FLOATS, np.int32, np.int64])
def test_sign_is_that_of_numpy(dtype):
    x = np.array([0, 1, -1, 5, -7], dtype)
    if dtype in FLOATS:
        x = special_values(dtype)
    result = emitter.sign(x)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, np.sign(x))
    np.testing.assert_array_equal(
        np.signbit(result[~np.isnan(x)]), np.signbit(np.sign(x))[~np.isnan(x)]
    )


def test_reciprocal_is_rounded_once():
    x = np.array([2, -0.0, np.inf, 3], np.float32)
    expected = np.array([0.5, -np.inf, 0, 1 / 3], np.float32)
    np.testing.assert_array_equal(emitter.reciprocal(x), expected)


@pytest.mark.parametrize("source", FLOATS)
@pytest.mark.parametrize("target", ["int32", "int64"])
def test_cast_truncates_and_gives_the_least_integer_for_what_does_not_fit(source, target):
    least = np.iinfo(target).min
    edge = -float(least)
    inside = [0.0, -0.0, 0.9, -0.9, 2.5, -2.5, 1e9, -edge, np.nextafter(source(edge), source(0))]
    outside = [np.nan, np.inf, -np.inf, edge, 1e30, -1e30]
    result = emitter.cast(np.array([*inside, *outside], source), target)
    assert result.dtype == target
    truncated = [int(source(value)) for value in inside]
    assert result.tolist() == truncated + [least] * len(outside)


def test_cast_to_bool_is_whether_a_number_is_not_zero():
    x = np.array([0.0, -0.0, 1e-45, np.nan, -np.inf, 0.5], np.float32)
    assert emitter.cast(x, "bool").tolist() == [False, False, True, True, True, True]


def test_cast_between_integers_wraps_and_between_floats_rounds():
    assert emitter.cast(np.array([2**32 + 5, -1]), "int32").tolist() == [5, -1]
    assert emitter.cast(np.array([0.1]), "float32")[0] == np.float32(0.1)
    assert emitter.cast(np.array([True, False]), "float64").tolist() == [1.0, 0.0]
