"""The error of a floating point result in ulp, and references to measure it against.

In: results of float32 or float64, and the true values in a wider format. Out: for each the error
in units in the last place.

An ulp is the distance between neighbouring numbers of the format in the binade of the *true*
value, and below the least normal number that of the subnormals. An infinite result, and a true
value beyond the format, count as the power of two that comes after the largest number. Where a
NaN, an infinity that is exact, or a sign (of zero as well) is wrong the error is infinite.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Array = np.ndarray


def ulp_error(result: Array, truth: Array) -> Array:
    """The errors of `result` (float32 or float64) against `truth` (wider)."""
    with np.errstate(all="ignore"):
        info = np.finfo(result.dtype)
        exponent = np.clip(np.frexp(truth)[1] - 1, info.minexp, info.maxexp - 1)
        unit = np.ldexp(np.ones_like(truth), exponent - info.nmant)
        beyond = np.ldexp(np.ones_like(truth), np.full(truth.shape, info.maxexp))
        value = np.clip(result.astype(truth.dtype), -beyond, beyond)
        error = np.abs(value - np.clip(truth, -beyond, beyond)) / unit
    error = np.where(np.isinf(truth), np.where(result == truth, 0.0, np.inf), error)
    error = np.where(np.signbit(result) != np.signbit(truth), np.inf, error)
    is_nan, should_be = np.isnan(result), np.isnan(truth)
    error = np.where(is_nan | should_be, np.where(is_nan & should_be, 0.0, np.inf), error)
    return np.asarray(error, np.float64)


def _erf(x: Array) -> Array:
    """The C library's, which is within 1 ulp of float64; where it is easily told, without it."""
    size = np.abs(x)
    small = x * (2 / math.sqrt(math.pi)) * (1 - x * x / 3)  # to 1e-17 where it is used
    known = np.where(size < 1e-4, small, np.copysign(1.0, x))
    hard = ~((size < 1e-4) | (size > 6.0))  # NaN among them
    known[hard] = np.frompyfunc(math.erf, 1, 1)(x[hard])
    return np.asarray(known, np.float64)


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, x.dtype.type(1)) / (1 + e)


def _rsqrt(x: Array) -> Array:
    return 1 / np.sqrt(x)


#: function name -> the function on a wider format than the one that is measured
REFERENCES: dict[str, Callable[[Array], Array]] = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "rsqrt": _rsqrt,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
    "erf": _erf,
    "sigmoid": _sigmoid,
}

#: the same for what is made for float32 alone
FLOAT32_REFERENCES = {**REFERENCES, "erf_by_pieces": _erf}
