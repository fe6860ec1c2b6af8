"""log and log1p, without a division.

In: a handle of float32 or float64. Out: a handle of the same dtype; log(0) is -inf, log of a
negative number NaN.

    x = 2**k * (1 + f), sqrt(1/2) <= 1 + f < sqrt(2)
    log(x) = k*log(2) + f - f**2/2 + f**3 * LOG1P(f)
"""

from __future__ import annotations

from math import inf, nan

from minicomp.codegen.emitter import Handle
from minicomp.codegen.math_basics import Basics, FloatFormat
from minicomp.codegen.math_exponential import LOG_2

#: (log1p(f) - f + f**2/2) / f**3 for sqrt(1/2) <= 1 + f <= sqrt(2), fitted by
#: tests/benchmarks/fit_polynomials.py. Errors 0.098 ulp (float32) and 0.082 ulp (float64).
LOG1P = {
    "float32": (
        0.333333313,
        -0.250008196,
        0.200012416,
        -0.166234076,
        0.142015785,
        -0.131596327,
        0.12762247,
        -0.0763640627,
    ),
    "float64": (
        0.33333333333333143,
        -0.24999999999987996,
        0.20000000000066756,
        -0.16666666669822527,
        0.14285714280082801,
        -0.12499999691664734,
        0.11111111147968084,
        -0.10000015198735544,
        0.090909239151303847,
        -0.08332913682955953,
        0.076915301726389343,
        -0.071494380301411087,
        0.066845847125750021,
        -0.061966857355251891,
        0.056684070882541349,
        -0.056777787448006482,
        0.065034082275627528,
        -0.059816470607988725,
        0.026151088685560264,
    ),
}
#: The representations of 1 and of sqrt(1/2).
ONE_BITS = {"float32": 0x3F800000, "float64": 0x3FF0000000000000}
SQRT_HALF_BITS = {"float32": 0x3F3504F3, "float64": 0x3FE6A09E667F3BCD}


def binade_origin(float_format: FloatFormat) -> float:
    """What `binade_number` takes from the number it makes."""
    return 2.0**float_format.fraction_bits + float_format.bias


class Logarithm(Basics):
    """log, log1p."""

    def log(self, x: Handle) -> Handle:
        k, m = self.split_binade(x)
        f = self.sub(m, self.like(x, 1.0))  # exact
        return self.log_or_special(x, self.log_of_parts(k, f))

    def log1p(self, x: Handle) -> Handle:
        """k is that of 1 + x, but f is x / 2**k + (1 / 2**k - 1), so that x loses no digits to
        the rounding of 1 + x."""
        float_format = self.format(x)
        total = self.add(x, self.like(x, 1.0))
        raised = self.raise_binade(total)
        one = self.like(raised, ONE_BITS[float_format.dtype])
        field = self.like(raised, -1 << float_format.fraction_bits)
        # k in the place of the exponent: taking it from a number's bits divides it by 2**k.
        exponent = self.sub(self.bit_and(raised, field), one)
        bits = self.bitcast(x, float_format.integer)
        scaled = self.bitcast(self.sub(bits, exponent), float_format.dtype)
        # 4 / 2**k, because 1 / 2**k may be subnormal.
        four = self.like(raised, ONE_BITS[float_format.dtype] + (2 << float_format.fraction_bits))
        inverse = self.bitcast(self.sub(four, exponent), float_format.dtype)
        rest = self.fma(inverse, self.like(x, 0.25), self.like(x, -1.0))
        origin = self.like(x, binade_origin(float_format))
        k = self.binade_number(raised, origin, float_format)
        result = self.log_of_parts(k, self.add(scaled, rest))
        return self.copysign(self.log_or_special(total, result), x)

    def split_binade(self, x: Handle) -> tuple[Handle, Handle]:
        """(k, m) with x = 2**k * m and sqrt(1/2) <= m < sqrt(2), for a positive finite x."""
        dtype, float_format = self.dtype(x), self.format(x)
        precision, origin = float_format.precision, binade_origin(float_format)
        subnormal = self.lt(x, self.like(x, 2.0 ** (1 - float_format.bias)))
        normal = self.where(subnormal, self.mul(x, self.like(x, 2.0**precision)), x)
        from_here = self.where(subnormal, self.like(x, origin + precision), self.like(x, origin))
        raised = self.raise_binade(normal)
        k = self.binade_number(raised, from_here, float_format)
        fraction = self.bit_and(raised, self.like(raised, (1 << float_format.fraction_bits) - 1))
        m = self.add(fraction, self.like(fraction, SQRT_HALF_BITS[dtype]))
        return k, self.bitcast(m, dtype)

    def raise_binade(self, x: Handle) -> Handle:
        """x's bits, raised such that sqrt(1/2) * 2**k becomes the first number of a binade: the
        exponent field is k + bias, and the fraction field how far x is from there."""
        dtype = self.dtype(x)
        bits = self.bitcast(x, self.format(x).integer)
        return self.add(bits, self.like(bits, ONE_BITS[dtype] - SQRT_HALF_BITS[dtype]))

    def binade_number(self, raised: Handle, origin: Handle, float_format: FloatFormat) -> Handle:
        """k as a float, from what `raise_binade` gives.

        Not by a conversion, which AVX2 lacks for int64: the exponent field becomes the low bits
        of a float whose last bit counts one, and which is `origin` for k = 0.
        """
        fraction_bits = float_format.fraction_bits
        unit = (float_format.bias + fraction_bits) << fraction_bits  # the bits of 2**fraction_bits
        field = self.shift_right_logical(raised, fraction_bits)
        number = self.bitcast(self.bit_or(field, self.like(field, unit)), float_format.dtype)
        return self.sub(number, origin)

    def log_of_parts(self, k: Handle, f: Handle) -> Handle:
        """k*log(2) + log(1 + f)."""
        high, low = LOG_2[self.dtype(f)]
        # f**2 * (-1/2 + f*P) + f, with the small parts added first.
        curve = self.polynomial(f, (-0.5, *LOG1P[self.dtype(f)]))
        small = self.fma(self.mul(f, f), curve, self.mul(k, self.like(k, low)))
        return self.fma(k, self.like(k, high), self.add(f, small))

    def log_or_special(self, x: Handle, result: Handle) -> Handle:
        """`result` where x is positive and finite; elsewhere what log(x) is there."""
        zero, infinity = self.like(x, 0.0), self.like(x, inf)
        finite = self.logical_and(self.gt(x, zero), self.lt(x, infinity))
        # x itself is right for inf and NaN.
        negative = self.where(self.lt(x, zero), self.like(x, nan), x)
        special = self.where(self.eq(x, zero), self.like(x, -inf), negative)
        return self.where(finite, result, special)
