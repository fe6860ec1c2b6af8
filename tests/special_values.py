"""Arrays of values that a wrong rewrite or kernel gets wrong: NaN, both zeros, infinities ..."""

from math import prod

import numpy as np

FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.0, np.inf, -np.inf, np.nan, 1e-45, -1e-39, 3e38, 0.1]
INTEGERS = [0, 1, -1, 2, -3, 7, 100]


def special_array(shape, dtype, phase=0):
    """Special values of a dtype, repeated over a shape.

    Arrays of phases 0 and 1 and equal shape pair each value with each other one.
    """
    dtype = np.dtype(dtype)
    if dtype == np.bool_:
        line = np.array([False, True])
    elif dtype.kind == "i":
        limits = np.iinfo(dtype)
        line = np.array([*INTEGERS, limits.min, limits.max], dtype)
    else:
        with np.errstate(all="ignore"):
            line = np.array(FLOATS).astype(dtype)
    repeated = np.repeat(line, len(line) ** phase)
    return np.resize(repeated, prod(shape)).reshape(shape)


def assert_same_bits(actual, expected):
    """Equal to the bit; NaNs are equal whatever their sign and payload."""
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    if expected.dtype.kind != "f":
        assert np.array_equal(actual, expected)
        return
    same = actual.view(f"u{actual.itemsize}") == expected.view(f"u{actual.itemsize}")
    same |= np.isnan(actual) & np.isnan(expected)
    assert same.all(), f"{actual[~same][:5]} instead of {expected[~same][:5]}"
