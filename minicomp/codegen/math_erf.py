"""The error function, in two polynomials and no division or exponential.

In: a handle of float32 or float64. Out: a handle of the same dtype; erf(+-inf) is +-1.

    |x| <= split:  erf(x) = x + x * ERF(x**2)
    |x| >  split:  erf(x) = 1 - ERFC(|x| - middle), up to where it rounds to 1
"""

from __future__ import annotations

from minicomp.codegen.emitter import Handle
from minicomp.codegen.math_basics import Basics

# Fitted by tests/benchmarks/fit_polynomials.py. Errors in ulp of erf(x), before rounding errors.

#: Where ERFC takes over, and where erf(x) has become 1.
SPLIT = {"float32": 1.2, "float64": 1.25}
END = {"float32": 3.95, "float64": 5.93}

#: erf(x) / x - 1 in x**2 for |x| <= SPLIT. Errors 0.24 ulp (float32) and 0.10 ulp (float64).
ERF = {
    "float32": (
        0.128379151,
        -0.376125365,
        0.112826869,
        -0.026820356,
        0.00513161998,
        -0.000756465888,
        6.53353927e-5,
    ),
    "float64": (
        0.12837916709551259,
        -0.37612638903184004,
        0.11283791670963596,
        -0.026866170646256193,
        0.0052239776331988712,
        -0.00085483273404191279,
        0.00012055341222716447,
        -1.4925791607888867e-5,
        1.6463721940855158e-6,
        -1.6377649528078281e-7,
        1.48571492637286e-8,
        -1.2352930932994205e-9,
        8.9588187015434949e-11,
        -4.2568402876455026e-12,
    ),
}

#: 1 - erf(x) in x - (SPLIT + END) / 2 for SPLIT <= x <= END. Errors 0.10 ulp and 0.49 ulp.
ERFC = {
    "float32": (
        0.000270945166,
        -0.00148866314,
        0.00383363641,
        -0.00608540094,
        0.00655430462,
        -0.00492258463,
        0.00248615351,
        -0.000663165352,
        -0.000118995798,
        0.000204157448,
        -7.38204035e-5,
        -3.33234129e-6,
        8.72003056e-6,
        -1.53159942e-6,
    ),
    "float64": (
        3.8338703692492291e-7,
        -2.8524914222278119e-6,
        1.0240444199627727e-5,
        -2.3557965986368493e-5,
        3.8873067653321203e-5,
        -4.87543352544045e-5,
        4.797653573625295e-5,
        -3.7602043525599713e-5,
        2.3467150541592021e-5,
        -1.1410061299884433e-5,
        4.0204801639492258e-6,
        -7.5717876768808942e-7,
        -1.5610966509918411e-7,
        1.9300550979850873e-7,
        -7.8407171007495997e-8,
        1.3632026324334727e-8,
        3.0365455293130153e-9,
        -2.7841043182872801e-9,
        7.8956545549475886e-10,
        -2.252258163094085e-11,
        -6.5345210489758041e-11,
        2.4719825166601609e-11,
        -2.8184947269262439e-12,
        -1.2655925969519323e-12,
        6.9388028466080416e-13,
        -8.2953580702563979e-14,
        -4.3063012347866886e-14,
        1.4425479341560043e-14,
        9.6738652602129834e-16,
        -8.7970866696820204e-16,
        1.5438239877673559e-17,
        2.7808802639151208e-17,
        -9.2463435868368314e-19,
        -3.8486495237427045e-19,
    ),
}


class ErrorFunction(Basics):
    """erf."""

    def erf(self, x: Handle) -> Handle:
        dtype = self.dtype(x)
        magnitude = self.at_most(self.abs(x), END[dtype])
        square = self.mul(magnitude, magnitude)
        small = self.fma(magnitude, self.polynomial(square, ERF[dtype]), magnitude)
        middle = self.like(x, (SPLIT[dtype] + END[dtype]) / 2)
        complement = self.polynomial(self.sub(magnitude, middle), ERFC[dtype])
        large = self.sub(self.like(x, 1.0), complement)
        near = self.le(magnitude, self.like(x, SPLIT[dtype]))
        return self.copysign(self.where(near, small, large), x)
