"""pow, by a logarithm with twice the format's digits.

In: two handles of float32 or of float64. Out: a handle of the same dtype, with the special cases
of C99's Annex F, which are NumPy's: pow(x, 0) = pow(1, y) = 1 whatever x and y are, NaN included.

    |x| = 2**k * m, s = (m - 1) / (m + 1)
    log|x| = k*log(2) + 2*s + (2/3)*s**3 + s**5 * POW(s**2)     as high + low
    pow(x, y) = +-exp(y*high + y*low)

An error e in log|x| becomes y*e in the exponent and so a relative error y*e in the result: y*e may
be 2**10 times a relative error of log|x|, which is why a logarithm of one float does not do. `high
+ low` are "double-double" arithmetic (Dekker, 1971), with an fma giving a product's rounding error.
"""

from __future__ import annotations

from math import inf, nan

from minicomp.codegen.emitter import Handle
from minicomp.codegen.math_exponential import EXP_RANGE, LOG_2, Exponential
from minicomp.codegen.math_logarithm import Logarithm

#: (2*atanh(s) - 2*s - (2/3)*s**3) / s**5 in s**2 for |s| <= (sqrt(2) - 1) / (sqrt(2) + 1), fitted
#: by tests/benchmarks/fit_polynomials.py. Errors 1.4e-4 ulp (float32) and 1.0e-4 ulp (float64).
POW = {
    "float32": (0.400001526, 0.285470843, 0.234199062),
    "float64": (
        0.4000000000000225,
        0.28571428570102186,
        0.22222222519475132,
        0.18181784404495505,
        0.15386755695454304,
        0.13256853866115428,
        0.13196011082416587,
    ),
}
#: 2/3 as the sum of two numbers of the format.
TWO_THIRDS = {
    "float32": (0.666666687, -1.98682155e-8),
    "float64": (0.66666666666666663, 3.7007434154171883e-17),
}
#: A power at least that large is 0, 1 or infinite for every base.
LARGE_POWER = {"float32": 2.0**40, "float64": 2.0**80}


class Power(Exponential, Logarithm):
    """pow."""

    def pow(self, x: Handle, y: Handle) -> Handle:
        zero, one = self.like(x, 0.0), self.like(x, 1.0)
        magnitude = self.abs_pow(self.abs(x), y)
        # An odd integer is one of which the half is not an integer.
        half = self.mul(y, self.like(y, 0.5))
        integral = self.eq(self.trunc(y), y)
        odd = self.logical_and(integral, self.ne(self.trunc(half), half))
        result = self.where(odd, self.copysign(magnitude, x), magnitude)
        negative = self.logical_and(self.lt(x, zero), self.gt(x, self.like(x, -inf)))
        undefined = self.logical_and(negative, self.logical_not(integral))
        result = self.where(undefined, self.like(x, nan), result)
        return self.where(self.logical_or(self.eq(y, zero), self.eq(x, one)), one, result)

    def abs_pow(self, a: Handle, y: Handle) -> Handle:
        """pow(a, y) for a >= 0; where either is 0, infinite or NaN too, but for pow(NaN, 0),
        pow(1, NaN) and the like."""
        dtype = self.dtype(a)
        bound = LARGE_POWER[dtype]
        y = self.at_least(self.at_most(y, bound), -bound)
        high, low = self.precise_log(a)
        product = self.mul(y, high)
        residue = self.fma(y, low, self.fma(y, high, self.neg(product)))
        least, most = EXP_RANGE[dtype]
        exponent = self.at_least(self.at_most(product, most), least)
        # What is out of range is beyond mending, and has a residue that is large or NaN.
        residue = self.where(self.eq(exponent, product), residue, self.like(a, 0.0))
        n, r = self.reduce_by_log_2(exponent)
        return self.scale(self.exp_near_zero(self.add(r, residue)), n)

    def precise_log(self, a: Handle) -> tuple[Handle, Handle]:
        """log(a) as high + low for a >= 0; where `high` is infinite or NaN `low` means nothing."""
        k, m = self.split_binade(a)
        high, low = self.precise_log_near_one(m)
        log_2_high, log_2_low = LOG_2[self.dtype(a)]
        whole = self.mul(k, self.like(k, log_2_high))
        whole_error = self.fma(k, self.like(k, log_2_high), self.neg(whole))
        total = self.add(whole, high)
        # Exact, since `whole` is the larger, or 0.
        error = self.add(self.sub(whole, total), high)
        small = self.add(self.fma(k, self.like(k, log_2_low), whole_error), low)
        return self.log_or_special(a, total), self.add(error, small)

    def precise_log_near_one(self, m: Handle) -> tuple[Handle, Handle]:
        """log(m) as high + low for sqrt(1/2) <= m <= sqrt(2)."""
        dtype = self.dtype(m)
        one = self.like(m, 1.0)
        # s = (m - 1) / (m + 1); the numerator is exact, the denominator's error is kept.
        numerator, denominator = self.sub(m, one), self.add(m, one)
        lost = self.sub(m, self.sub(denominator, one))
        inverse = self.div(one, denominator)
        s = self.mul(numerator, inverse)
        rest = self.fma(self.neg(s), denominator, numerator)
        s_low = self.mul(self.fma(self.neg(s), lost, rest), inverse)
        # s**2 and s**3
        square = self.mul(s, s)
        square_low = self.fma(s, self.add(s_low, s_low), self.fma(s, s, self.neg(square)))
        cube = self.mul(square, s)
        cube_low = self.fma(square, s, self.neg(cube))
        cube_low = self.fma(square, s_low, self.fma(square_low, s, cube_low))
        # c = 2/3 + s**2 * POW(s**2)
        two_thirds, two_thirds_low = (self.like(m, part) for part in TWO_THIRDS[dtype])
        curve = self.mul(square, self.polynomial(square, POW[dtype]))
        c = self.add(two_thirds, curve)
        c_low = self.add(self.add(self.sub(two_thirds, c), curve), two_thirds_low)
        # 2*s + c * s**3
        term = self.mul(c, cube)
        term_low = self.fma(c, cube, self.neg(term))
        term_low = self.fma(c, cube_low, self.fma(c_low, cube, term_low))
        twice = self.add(s, s)
        high = self.add(twice, term)
        error = self.add(self.sub(twice, high), term)
        return high, self.add(error, self.fma(self.like(m, 2.0), s_low, term_low))
