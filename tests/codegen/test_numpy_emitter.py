"""What the measurements of the elementary functions rest on: an exact fma, checked contracts."""

from fractions import Fraction

import numpy as np
import pytest

from minicomp.codegen.emitter import Arithmetic
from minicomp.codegen.exact_fma import fma
from minicomp.codegen.math_basics import Basics
from minicomp.codegen.numpy_emitter import NumpyEmitter

emitter = NumpyEmitter()


def test_the_whole_protocol_is_implemented():
    methods = [name for name in vars(Arithmetic) if not name.startswith("_")]
    assert "fma" in methods
    for name in methods:
        assert getattr(NumpyEmitter, name) is not getattr(Arithmetic, name), name


def is_correctly_rounded(result, exact):
    """Whether no neighbour is nearer to the exact value, and a tie went to the even one."""
    dtype = type(result)
    if np.isinf(result):
        info = np.finfo(dtype)
        halfway = Fraction(float(info.max)) + Fraction(2) ** (info.maxexp - info.nmant - 2)
        return abs(exact) >= halfway and (exact > 0) == (result > 0)
    distance = abs(Fraction(float(result)) - exact)
    integer = np.int32 if dtype == np.float32 else np.int64
    for direction in (-np.inf, np.inf):
        other = np.nextafter(result, dtype(direction))
        if np.isfinite(other):
            other_distance = abs(Fraction(float(other)) - exact)
            odd = bool(np.array(result).view(integer) & 1)
            if other_distance < distance or (other_distance == distance and odd):
                return False
    return True


def operands(dtype, kind):
    generator = np.random.default_rng(8)
    if kind == "any":
        integer = np.int32 if dtype == np.float32 else np.int64
        info = np.iinfo(integer)
        return generator.integers(info.min, info.max, (3, 1500), integer).view(dtype)
    a, b, c = generator.standard_normal((3, 1500)).astype(dtype)
    if kind == "cancelling":
        c = -(a * b) * (1 + np.finfo(dtype).eps * generator.integers(-2, 3, 1500)).astype(dtype)
    if kind == "subnormal":
        small = dtype(2.0 ** (-66 if dtype == np.float32 else -527))
        a, b, c = a * small, b * small, c * small * small
    if kind == "ties":
        # The product is half an ulp of c, less or more by a part too small for the sum in float64.
        eps = np.finfo(dtype).eps
        i, j, k = generator.integers(-1, 2, (3, 1500)).astype(dtype)
        a, b, c = (1 + eps * i) * eps / 2, 1 + eps * j, 1 + eps * np.abs(k)
    return a, b, c


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["any", "normal", "cancelling", "subnormal", "ties"])
def test_fma_rounds_once(dtype, kind):
    a, b, c = operands(dtype, kind)
    result = fma(a, b, c)
    assert result.dtype == dtype
    for x, y, z, got in zip(a, b, c, result, strict=True):
        if np.isfinite([x, y, z]).all():
            exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
            assert is_correctly_rounded(got, exact), (x, y, z)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fma_of_infinities_and_zeros(dtype):
    cases = [
        (np.inf, 2, 1, np.inf),
        (np.inf, 0, 1, np.nan),
        (np.inf, 1, -np.inf, np.nan),
        (np.finfo(dtype).max, 2, -np.inf, -np.inf),
        (np.finfo(dtype).max, 2, -np.finfo(dtype).max, np.finfo(dtype).max),
        (np.nan, 0, 0, np.nan),
        (-0.0, 1, -0.0, -0.0),
        (2, 3, -6, 0.0),
    ]
    a, b, c, expected = (np.array(column, dtype) for column in zip(*cases, strict=True))
    result = fma(a, b, c)
    np.testing.assert_array_equal(result, expected)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(result[numbers]), np.signbit(expected[numbers]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fma_takes_scalars(dtype):
    two = emitter.constant(dtype, 2)
    assert emitter.fma(two, two, two) == 6
    tiny = emitter.constant(dtype, np.finfo(dtype).tiny)
    assert emitter.fma(tiny, emitter.constant(dtype, 0.5), tiny) == tiny * 1.5


def test_integer_division_truncates():
    a, b = np.array([7, -7, 7, -7, -8]), np.array([2, 2, -2, -2, 2])
    assert emitter.int_div(a, b).tolist() == [3, -3, -3, 3, -4]
    assert emitter.int_rem(a, b).tolist() == [1, -1, 1, -1, 0]
    least = np.array([np.iinfo(np.int64).min])
    assert emitter.int_div(least, np.array([3]))[0] == -3074457345618258602


def test_what_would_trap_or_be_undefined_on_hardware_raises():
    least = np.array([np.iinfo(np.int32).min], np.int32)
    with pytest.raises(ZeroDivisionError):
        emitter.int_div(least, np.zeros(1, np.int32))
    with pytest.raises(OverflowError, match="-1"):
        emitter.int_div(least, -np.ones(1, np.int32))
    for value in (np.nan, np.inf, 2.0**31):
        with pytest.raises(OverflowError, match="int32"):
            emitter.convert(np.array([value]), "int32")


def test_logical_shift_brings_zeros_in_and_arithmetic_shift_the_sign():
    x = np.array([-8], np.int32)
    assert emitter.shift_right(x, 1)[0] == -4
    assert emitter.shift_right_logical(x, 1)[0] == 2**31 - 4
    assert emitter.shift_left(x, 29)[0] == 0


def test_rare_lanes_are_computed_only_where_there_are_some():
    usual = np.array([1.0, 2.0])
    calls = []

    def compute():
        calls.append(1)
        return np.array([10.0, 20.0])

    assert emitter.rare(np.array([False, False]), usual, compute).tolist() == [1, 2]
    assert not calls
    assert emitter.rare(np.array([False, True]), usual, compute).tolist() == [1, 20]


def test_without_branches_rare_evaluates_both_and_selects():
    usual = np.array([1.0, 2.0])
    result = Basics.rare(emitter, np.array([False, True]), usual, lambda: -usual)
    assert result.tolist() == [1, -2]


@pytest.mark.parametrize("n, expected", [(-1074, 2.0**-1074), (-1080, 0), (1023, 2.0**1023),
                                         (1024, np.inf), (0, 1)])  # fmt: skip
def test_scale_by_any_power_of_two(n, expected):
    assert emitter.scale(np.array(1.0), np.array(float(n))) == expected
