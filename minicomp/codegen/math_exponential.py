"""exp and what is made of it: expm1, sigmoid and tanh.

In: a handle of float32 or float64. Out: a handle of the same dtype; nothing traps, and NaN,
infinities and zeros give what NumPy's functions give.

    x = n*log(2) + r, |r| <= log(2)/2          exp(x) = 2**n * exp(r)
    exp(r) = 1 + r + r**2 * EXP(r)             a polynomial that `expm1` shares
"""

from __future__ import annotations

from minicomp.codegen.emitter import Handle
from minicomp.codegen.math_basics import Basics

# The coefficients are fits of this project's, by tests/benchmarks/fit_polynomials.py, constant
# term first. An error is in ulp of the function's value, before rounding errors.

#: (exp(r) - 1 - r) / r**2 for |r| <= log(2)/2. Errors 0.052 ulp (float32), 0.033 ulp (float64).
EXP = {
    "float32": (0.49999994, 0.166665211, 0.0416682623, 0.00836867187, 0.00138209038),
    "float64": (
        0.50000000000000111,
        0.16666666666666458,
        0.041666666666528261,
        0.0083333333334732872,
        0.0013888888943897647,
        0.00019841269542230882,
        2.4801492936436588e-5,
        2.7557560574516969e-6,
        2.7630285436730073e-7,
        2.5006887719955884e-8,
    ),
}

#: (tanh(x) - x) / x**3 in x**2 for |x| <= TANH_SPLIT. Errors 0.047 ulp and 0.037 ulp.
TANH = {
    "float32": (-0.333332986, 0.133319363, -0.0537847169, 0.0207986236, -0.00589796109),
    "float64": (
        -0.33333333333333126,
        0.13333333333299763,
        -0.053968253949332544,
        0.021869488003276826,
        -0.0088632267856823457,
        0.0035920374392218444,
        -0.0014552156460036908,
        0.00058718926978821651,
        -0.00023039845775319368,
        7.9315730974914247e-5,
        -1.7179559190017251e-5,
    ),
}
TANH_SPLIT = 0.6
TANH_IS_ONE = {"float32": 10.0, "float64": 20.0}  # from there on 1 - tanh(x) is below half an ulp

LOG2_E = 1.4426950408889634
#: log(2) as the sum of two numbers of the format (Cody and Waite): n * log(2) to twice its digits.
LOG_2 = {
    "float32": (0.693147182, -1.90465421e-9),
    "float64": (0.69314718055994529, 2.3190468138462996e-17),
}
#: exp is below half the least subnormal at the first, and overflows at the second.
EXP_RANGE = {"float32": (-104.0, 89.0), "float64": (-746.0, 710.0)}
#: expm1 is -1 at the first, and overflows at the second.
EXPM1_RANGE = {"float32": (-40.0, 89.0), "float64": (-40.0, 710.0)}


class Exponential(Basics):
    """exp, expm1, sigmoid, tanh."""

    def reduce_by_log_2(self, x: Handle) -> tuple[Handle, Handle]:
        """(n, r) with x = n*log(2) + r, n integral and |r| at most a little over log(2)/2."""
        magic = self.like(x, self.format(x).round_magic)
        n = self.sub(self.fma(x, self.like(x, LOG2_E), magic), magic)
        high, low = LOG_2[self.dtype(x)]
        r = self.fma(n, self.like(x, -high), x)
        return n, self.fma(n, self.like(x, -low), r)

    def exp_near_zero(self, r: Handle) -> Handle:
        """exp(r) for |r| <= log(2)/2."""
        return self.polynomial(r, (1.0, 1.0, *EXP[self.dtype(r)]))

    def exp(self, x: Handle) -> Handle:
        low, high = EXP_RANGE[self.dtype(x)]
        n, r = self.reduce_by_log_2(self.at_least(self.at_most(x, high), low))
        return self.scale(self.exp_near_zero(r), n)

    def expm1(self, x: Handle) -> Handle:
        """2**n * expm1(r) + (2**n - 1), all in half size so that 2**n itself may overflow."""
        low, high = EXPM1_RANGE[self.dtype(x)]
        n, r = self.reduce_by_log_2(self.at_least(self.at_most(x, high), low))
        near_zero = self.fma(self.mul(r, r), self.polynomial(r, EXP[self.dtype(x)]), r)
        half = self.power_of_two(n, -1)
        result = self.fma(near_zero, half, self.sub(half, self.like(x, 0.5)))
        # There expm1(x) rounds to x; halving would have lost the sign of 0 and subnormals' digits.
        tiny = self.lt(self.abs(x), self.like(x, 2.0 ** -self.format(x).precision))
        return self.where(tiny, x, self.add(result, result))

    def sigmoid(self, x: Handle) -> Handle:
        """1 / (1 + e) or e / (1 + e) where e = exp(-|x|), which cannot overflow."""
        lowest = EXP_RANGE[self.dtype(x)][0]
        n, r = self.reduce_by_log_2(self.at_least(self.neg(self.abs(x)), lowest))
        e = self.scale_down(self.exp_near_zero(r), n)
        one = self.like(x, 1.0)
        ratio = self.quotient(e, self.add(one, e))
        # 1 - ratio, or e - e*ratio, which is the ratio again with less error.
        larger = self.where(self.lt(x, self.like(x, 0.0)), e, one)
        return self.fma(self.neg(larger), ratio, larger)

    def tanh(self, x: Handle) -> Handle:
        """A polynomial near zero; 1 - 2 / (exp(2|x|) + 1), which is over one half, elsewhere."""
        dtype = self.dtype(x)
        magnitude = self.at_most(self.abs(x), TANH_IS_ONE[dtype])
        square = self.mul(magnitude, magnitude)
        cube = self.mul(square, magnitude)
        small = self.fma(cube, self.polynomial(square, TANH[dtype]), magnitude)
        n, r = self.reduce_by_log_2(self.add(magnitude, magnitude))
        one = self.like(x, 1.0)
        denominator = self.fma(self.exp_near_zero(r), self.power_of_two(n), one)
        large = self.sub(one, self.div(self.like(x, 2.0), denominator))
        split = self.lt(magnitude, self.like(x, TANH_SPLIT))
        return self.copysign(self.where(split, small, large), x)
