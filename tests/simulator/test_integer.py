"""Integer arithmetic against Python's integers, cut to the width."""

import numpy as np
import pytest
from ptx_kernels import integers, pairs, result_of

TYPES = {f"{k}{w}": np.dtype(f"{'iu'[k == 'u']}{w // 8}") for k in "us" for w in (16, 32, 64)}


def wrapped(values, dtype):
    bits = np.dtype(dtype).itemsize * 8
    low = [int(value) % 2**bits for value in values]
    return np.array(low, f"u{bits // 8}").view(dtype)


def python(function, *arrays):
    return [function(*[int(value) for value in values]) for values in zip(*arrays)]


def truncated(a, b):
    """The quotient rounded to zero; all ones for b = 0."""
    if b == 0:
        return -1
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


BINARY = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "min": min,
    "max": max,
    "mul.lo": lambda a, b: a * b,
    "div": truncated,
    "rem": lambda a, b: a if b == 0 else a - truncated(a, b) * b,
}


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("name", BINARY)
def test_binary_operations_wrap_at_the_width(name, type):
    a, b = pairs(integers(TYPES[type]))
    got = result_of(f"{name}.{type}", TYPES[type], a, b)
    np.testing.assert_array_equal(got, wrapped(python(BINARY[name], a, b), TYPES[type]))


@pytest.mark.parametrize("type", TYPES)
def test_the_high_half_of_a_product(type):
    a, b = pairs(integers(TYPES[type]))
    bits = TYPES[type].itemsize * 8
    got = result_of(f"mul.hi.{type}", TYPES[type], a, b)
    np.testing.assert_array_equal(got, wrapped(python(lambda x, y: x * y >> bits, a, b), got.dtype))


@pytest.mark.parametrize("type", ["u16", "s16", "u32", "s32"])
def test_wide_products_and_sums_are_exact(type):
    a, b = pairs(integers(TYPES[type]))
    wide = np.dtype(f"{TYPES[type].kind}{2 * TYPES[type].itemsize}")
    got = result_of(f"mul.wide.{type}", wide, a, b)
    np.testing.assert_array_equal(got, wrapped(python(lambda x, y: x * y, a, b), wide))
    c = np.resize(integers(wide), len(a))
    got = result_of(f"mad.wide.{type}", wide, a, b, c)
    expected = wrapped(python(lambda x, y, z: x * y + z, a, b, c), wide)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("type", TYPES)
def test_multiply_add(type):
    a, b = pairs(integers(TYPES[type]))
    c = np.resize(integers(TYPES[type], seed=1), len(a))
    bits = TYPES[type].itemsize * 8
    low = result_of(f"mad.lo.{type}", TYPES[type], a, b, c)
    np.testing.assert_array_equal(
        low, wrapped(python(lambda x, y, z: x * y + z, a, b, c), low.dtype)
    )
    high = result_of(f"mad.hi.{type}", TYPES[type], a, b, c)
    expected = wrapped(python(lambda x, y, z: (x * y >> bits) + z, a, b, c), high.dtype)
    np.testing.assert_array_equal(high, expected)


@pytest.mark.parametrize("type", ["s16", "s32", "s64"])
def test_negation_and_size_wrap_at_the_least_integer(type):
    a = integers(TYPES[type])
    got = result_of(f"neg.{type}", TYPES[type], a)
    np.testing.assert_array_equal(got, wrapped(python(lambda x: -x, a), a.dtype))
    got = result_of(f"abs.{type}", TYPES[type], a)
    np.testing.assert_array_equal(got, wrapped(python(abs, a), a.dtype))


@pytest.mark.parametrize(("name", "function"), [("add", int.__add__), ("sub", int.__sub__)])
def test_saturating_sums_stop_at_the_limits(name, function):
    a, b = pairs(integers(np.int32))
    got = result_of(f"{name}.sat.s32", np.int32, a, b)
    exact = python(function, a, b)
    np.testing.assert_array_equal(got, np.clip(exact, -(2**31), 2**31 - 1).astype(np.int32))


def test_sum_of_absolute_difference():
    a, b = pairs(integers(np.uint32))
    c = np.resize(integers(np.uint32, seed=1), len(a))
    got = result_of("sad.u32", np.uint32, a, b, c)
    expected = wrapped(python(lambda x, y, z: abs(x - y) + z, a, b, c), got.dtype)
    np.testing.assert_array_equal(got, expected)


def test_immediates_of_either_sign():
    a = integers(np.int32)
    np.testing.assert_array_equal(result_of("add.s32", np.int32, a, "-5"), a - 5)
    np.testing.assert_array_equal(
        result_of("add.u32", np.uint32, a.view(np.uint32), "0xFFFFFFFB"), (a - 5).view(np.uint32)
    )
