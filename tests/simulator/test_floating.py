"""Float arithmetic against NumPy, and against rationals where NumPy rounds twice."""

from fractions import Fraction

import numpy as np
import pytest
from ptx_kernels import floats, pairs, result_of, same

from minicomp.simulator.formats import decode

CANONICAL = {"f32": 0x7FFFFFFF, "f16": 0x7FFF, "bf16": 0x7FFF}
DTYPES = {"f32": np.float32, "f64": np.float64}
BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div.rn": np.divide,
    "add.rn": np.add,
    "mul.rn": np.multiply,
}


def quiet(function, *operands):
    with np.errstate(all="ignore"):
        return function(*operands)


@pytest.mark.parametrize("type", DTYPES)
@pytest.mark.parametrize("name", BINARY)
def test_binary_operations_round_to_nearest(name, type):
    a, b = pairs(floats(DTYPES[type]))
    got = result_of(f"{name}.{type}", DTYPES[type], a, b)
    assert same(got, quiet(BINARY[name], a, b))


def test_float32_results_have_the_canonical_nan():
    a = np.array([np.nan, np.inf, 0.0, -1.0], np.float32)
    b = np.array([1.0, -np.inf, np.inf, np.nan], np.float32)
    for name in ("add.f32", "mul.f32", "div.rn.f32", "fma.rn.f32"):
        operands = [a, b, b] if name.startswith("fma") else [a, b]
        got = result_of(name, np.float32, *operands)
        assert set(got[np.isnan(got)].view(np.uint32)) == {CANONICAL["f32"]}, name


@pytest.mark.parametrize("type", DTYPES)
@pytest.mark.parametrize("name", ["fma.rn", "mad.rn"])
def test_fma_rounds_once(name, type):
    dtype = DTYPES[type]
    random = np.random.default_rng(0)
    a, b = random.standard_normal((2, 500)).astype(dtype)
    c = -(a * b) * random.choice([0, 1, 1, 1 + np.finfo(dtype).eps, 1e-3], 500).astype(dtype)
    got = result_of(f"{name}.{type}", dtype, a, b, c)
    for x, y, z, result in zip(a, b, c, got):
        exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        error = abs(Fraction(float(result)) - exact)
        for neighbour in np.nextafter(result, dtype([-np.inf, np.inf])):
            assert error <= abs(Fraction(float(neighbour)) - exact)


def test_fma_passes_infinities_and_nan_on():
    a = np.array([np.inf, np.inf, 0.0, 1.0, np.nan], np.float32)
    b = np.array([1.0, 1.0, np.inf, 1.0, 1.0], np.float32)
    c = np.array([1.0, -np.inf, 1.0, np.inf, 1.0], np.float32)
    expected = np.array([np.inf, np.nan, np.nan, np.inf, np.nan], np.float32)
    assert same(result_of("fma.rn.f32", np.float32, a, b, c), expected)


@pytest.mark.parametrize("type", DTYPES)
def test_min_and_max_prefer_numbers_to_nan_and_order_zeros(type):
    a = np.array([np.nan, 1.0, np.nan, 0.0, -0.0, -np.inf, 2.0], DTYPES[type])
    b = np.array([1.0, np.nan, np.nan, -0.0, 0.0, 5.0, 3.0], DTYPES[type])
    least = np.array([1.0, 1.0, np.nan, -0.0, -0.0, -np.inf, 2.0], DTYPES[type])
    greatest = np.array([1.0, 1.0, np.nan, 0.0, 0.0, 5.0, 3.0], DTYPES[type])
    assert same(result_of(f"min.{type}", DTYPES[type], a, b), least)
    assert same(result_of(f"max.{type}", DTYPES[type], a, b), greatest)


def test_min_and_max_with_nan_pass_it_on():
    a = np.array([np.nan, 1.0, 2.0], np.float32)
    b = np.array([1.0, np.nan, 3.0], np.float32)
    expected = np.array([np.nan, np.nan, 2.0], np.float32)
    assert same(result_of("min.NaN.f32", np.float32, a, b), expected)
    expected[2] = 3.0
    assert same(result_of("max.NaN.f32", np.float32, a, b), expected)


@pytest.mark.parametrize("type", DTYPES)
def test_signs(type):
    a, b = pairs(floats(DTYPES[type]))
    assert same(result_of(f"neg.{type}", a.dtype, a), -a)
    assert same(result_of(f"abs.{type}", a.dtype, a), np.abs(a))
    # the sign of the first, the size of the second
    assert same(result_of(f"copysign.{type}", a.dtype, a, b), np.copysign(b, a))


@pytest.mark.parametrize("type", DTYPES)
def test_roots_and_reciprocals_round_to_nearest(type):
    a = floats(DTYPES[type])
    assert same(result_of(f"sqrt.rn.{type}", a.dtype, a), quiet(np.sqrt, a))
    assert same(result_of(f"rcp.rn.{type}", a.dtype, a), quiet(np.divide, a.dtype.type(1), a))


def test_flushing_makes_zeros_of_subnormal_operands_and_results():
    tiny = np.finfo(np.float32).tiny
    a = np.array([tiny / 2, -tiny / 2, tiny, tiny], np.float32)
    b = np.array([1.0, 1.0, 0.5, 1.0], np.float32)
    expected = np.array([0.0, -0.0, 0.0, tiny], np.float32)
    assert same(result_of("mul.ftz.f32", np.float32, a, b), expected)
    assert same(result_of("mul.f32", np.float32, a, b), a * b)


def test_saturation_clamps_to_one_and_makes_zero_of_nan():
    a = np.array([-1.0, -0.0, 0.25, 1.5, np.inf, -np.inf, np.nan], np.float32)
    zero = np.zeros_like(a)
    expected = np.array([0.0, 0.0, 0.25, 1.0, 1.0, 0.0, 0.0], np.float32)
    assert same(result_of("add.sat.f32", np.float32, a, zero), expected)


@pytest.mark.parametrize("type", DTYPES)
def test_properties(type):
    info = np.finfo(DTYPES[type])
    values = [0.0, -0.0, 1.0, info.tiny, info.smallest_subnormal, np.inf, -np.inf, np.nan]
    a = np.array(values, DTYPES[type])
    expected = {
        "finite": [1, 1, 1, 1, 1, 0, 0, 0],
        "infinite": [0, 0, 0, 0, 0, 1, 1, 0],
        "number": [1, 1, 1, 1, 1, 1, 1, 0],
        "notanumber": [0, 0, 0, 0, 0, 0, 0, 1],
        "normal": [1, 1, 1, 1, 0, 0, 0, 0],
        "subnormal": [0, 0, 0, 0, 1, 0, 0, 0],
    }
    for name, answer in expected.items():
        got = result_of(f"testp.{name}.{type}", bool, a)
        np.testing.assert_array_equal(got, np.array(answer, bool), err_msg=name)


def rounded(exact, form):
    """A rational rounded to nearest even in float16 or bfloat16, as a float."""
    precision, least = {"f16": (11, -24), "bf16": (8, -133)}[form]
    if exact == 0:
        return 0.0
    exponent = max(_exponent(abs(exact)) - precision + 1, least)
    value = round(exact / Fraction(2) ** exponent) * Fraction(2) ** exponent
    largest = 65504 if form == "f16" else (2 - 2**-7) * 2**127
    return float(value) if abs(value) <= largest else np.copysign(np.inf, float(exact > 0) - 0.5)


def _exponent(value):
    exponent = 0
    while value >= 2:
        value, exponent = value / 2, exponent + 1
    while value < 1:
        value, exponent = value * 2, exponent - 1
    return exponent


@pytest.mark.parametrize("form", ["f16", "bf16"])
def test_half_precision_fma_rounds_once(form):
    random = np.random.default_rng(0)
    # exponents near each other, so that sums end on ties, and some far off
    bias = 15 if form == "f16" else 127
    mantissa = 10 if form == "f16" else 7
    exponents = random.integers(bias - 6, bias + 6, (3, 600))
    bits = (exponents << mantissa) | random.integers(0, 1 << mantissa, (3, 600))
    bits |= random.integers(0, 2, (3, 600)) << 15
    bits[2, ::3] = random.integers(1, 200, 200)  # subnormal or tiny
    a, b, c = bits.astype(np.uint16)
    got = decode(result_of(f"fma.rn.{form}", np.uint16, a, b, c), form)
    for x, y, z, result in zip(*(decode(v, form) for v in (a, b, c)), got):
        exact = Fraction(x) * Fraction(y) + Fraction(z)
        assert result == rounded(exact, form), (x, y, z)


@pytest.mark.parametrize("form", ["f16", "bf16"])
def test_packed_operations_are_those_of_both_halves(form):
    random = np.random.default_rng(1)
    low, high = random.integers(0, 1 << 16, (2, 3, 200)).astype(np.uint16)
    packed = (high.astype(np.uint32) << 16) | low
    names = ["fma.rn", "neg", "abs", "min", "max"] + (["add", "sub", "mul"] * (form == "f16"))
    for name in names:
        count = {"fma.rn": 3, "neg": 1, "abs": 1}.get(name, 2)
        both = result_of(f"{name}.{form}x2", np.uint32, *packed[:count])
        for part, operands in ((both & 0xFFFF, low), (both >> 16, high)):
            one = result_of(f"{name}.{form}", np.uint16, *operands[:count])
            np.testing.assert_array_equal(part, one, err_msg=name)


@pytest.mark.parametrize("form", ["f16", "bf16"])
def test_half_precision_results_have_the_canonical_nan(form):
    nan = np.array([0x7FFF - 1, 0xFFFF], np.uint16)
    one = np.full(2, {"f16": 0x3C00, "bf16": 0x3F80}[form], np.uint16)
    got = result_of(f"fma.rn.{form}", np.uint16, nan, one, one)
    np.testing.assert_array_equal(got, CANONICAL[form])


APPROXIMATIONS = {
    "rcp.approx.f32": lambda x: 1 / x,
    "sqrt.approx.f32": np.sqrt,
    "rsqrt.approx.f32": lambda x: 1 / np.sqrt(x),
    "ex2.approx.f32": np.exp2,
    "lg2.approx.f32": np.log2,
    "sin.approx.f32": np.sin,
    "cos.approx.f32": np.cos,
    "tanh.approx.f32": np.tanh,
}


@pytest.mark.parametrize("name", APPROXIMATIONS)
def test_approximations_are_the_function_rounded(name):
    x = floats(np.float32)
    x = x[np.isnan(x) | np.isinf(x) | (np.abs(x) < 1000)]
    exact = quiet(APPROXIMATIONS[name], x.astype(np.float64))
    got = result_of(name, np.float32, x)
    assert same(got, quiet(np.ndarray.astype, exact, np.float32))


def test_flushing_approximations_take_subnormals_for_zeros():
    x = np.array([1e-40, -1e-40], np.float32)
    got = result_of("rcp.approx.ftz.f32", np.float32, x)
    assert same(got, np.array([np.inf, -np.inf], np.float32))


def test_full_range_division_divides_large_numbers_and_approximate_division_gives_zero():
    a = np.array([3.0, 2.0**127, np.inf, 1.0], np.float32)
    b = np.array([4.0, 2.0**127, 2.0**127, np.inf], np.float32)
    full = np.array([0.75, 1.0, np.inf, 0.0], np.float32)
    approximate = np.array([0.75, 0.0, np.nan, 0.0], np.float32)
    assert same(result_of("div.full.f32", np.float32, a, b), full)
    assert same(result_of("div.approx.f32", np.float32, a, b), approximate)
