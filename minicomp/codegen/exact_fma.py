"""a * b + c with one rounding, on NumPy arrays of float32 and float64.

In: three arrays of one dtype. Out: an array of that dtype, correctly rounded for all operands;
`numpy_emitter` needs it because NumPy has no fused multiply-add.

    fma(x, x, -(x * x))         # the rounding error of x * x

Rounding a sum first to a wider format and then to the narrow one can go wrong where the first
rounding lands on a tie. Rounding the first time to odd (an inexact sum to the neighbour of which
the last bit is 1) cannot (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums",
2008).
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

Array = np.ndarray


def fma(a: Array, b: Array, c: Array) -> Array:
    """See the module's docstring. The operands broadcast."""
    with np.errstate(all="ignore"):
        if np.result_type(a, b, c) == np.float32:
            return _fma_float32(a, b, c)
        return _fma_float64(*np.broadcast_arrays(a, b, c))


def _fma_float32(a: Array, b: Array, c: Array) -> Array:
    product = np.multiply(a, b, dtype=np.float64)  # exact: 24 + 24 bits, and no underflow
    return add_to_odd(product, np.asarray(c, np.float64)).astype(np.float32)


def _two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """(s, e) with s + e = a + b exactly and s = a + b rounded (Knuth)."""
    s = a + b
    b_part = s - a
    return s, (a - (s - b_part)) + (b - b_part)


def add_to_odd(a: Array, b: Array) -> Array:
    """a + b rounded to odd."""
    s, e = _two_sum(a, b)
    bits = np.asarray(s).view(np.int64)
    # s was rounded to an even neighbour: step to the odd one, on the side where the sum lies.
    step = np.where((e > 0) == (s > 0), 1, -1)
    wrong = np.isfinite(s) & (e != 0) & (bits & 1 == 0)
    return (bits + np.where(wrong, step, 0)).view(np.float64)


def _two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """(p, e) with p + e = a * b exactly (Dekker), short of overflow and underflow."""
    p = a * b
    a_high, a_low = _halves(a)
    b_high, b_low = _halves(b)
    return p, a_low * b_low - (((p - a_high * b_high) - a_low * b_high) - a_high * b_low)


def _halves(x: Array) -> tuple[Array, Array]:
    """x as the sum of two numbers of 26 bits (Veltkamp)."""
    big = x * 134217729.0  # 2**27 + 1
    high = big - (big - x)
    return high, x - high


def _fma_float64(a: Array, b: Array, c: Array) -> Array:
    high, low = _two_product(a, b)
    sum_high, sum_low = _two_sum(c, low)
    total, rest = _two_sum(high, sum_high)
    result = total + add_to_odd(sum_low, rest)
    # Where an intermediate may have overflowed or underflowed, use rationals.
    exponents = [np.frexp(x)[1] for x in (a, b, c, result)]
    fits = (np.abs(exponents[0] + exponents[1]) < 900) & (np.abs(exponents) < 900).all(axis=0)
    exact = (a == 0) | (b == 0)
    finite = np.isfinite(a) & np.isfinite(b) & np.isfinite(c)
    result = np.where(exact | ~finite, a * b + c, result)
    result = np.where(np.isinf(c) & np.isfinite(a) & np.isfinite(b), c, result)
    slow = finite & ~exact & ~fits
    if slow.any():
        result[slow] = [
            _fma_rational(*operands) for operands in zip(a[slow], b[slow], c[slow], strict=True)
        ]
    return result


def _fma_rational(a: float, b: float, c: float) -> float:
    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    if exact == 0:
        return a * b + c  # for the sign of zero
    try:
        return float(exact)
    except OverflowError:
        return np.inf if exact > 0 else -np.inf
