"""Elementary functions of float32 by the GPU's special function unit.

In: a handle of float32. Out: one of float32, with the same accuracy, range and special values as
the functions of `codegen.math`, which do float64, in about half as many instructions. The unit
computes 2**x and 1/x to about an ulp (PTX ISA, "ex2.approx", "rcp.approx"); what it is given
here is such that no more is lost.

    exp(x) = 2**n * ex2(x*log2(e) - n)        n the integer below x*log2(e), at most 126 in size

The integer below, not the nearest: ex2 gives numbers from 1 to 2 then, on which its error, which
has one size, is one ulp rather than two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minicomp.codegen.emitter import Handle
from minicomp.codegen.math_exponential import LOG2_E, TANH, TANH_IS_ONE, TANH_SPLIT
from minicomp.codegen.math_power import Power
from minicomp.codegen.ptx_lanes import Lanes

#: log2(e) as the sum of two float32.
LOG2_E_PARTS = (1.44269502, 1.92596299e-8)
#: 2**126 is the largest power of two of which the reciprocal is a normal number too.
LARGEST_EXPONENT = 126
#: Around it the floats are the integers: adding it rounds to one, which is then in the low bits.
ROUND_MAGIC = 1.5 * 2.0**23


class ApproximateFunctions(Power):
    """exp, tanh, and the quotient in sigmoid; float64 is passed on."""

    if TYPE_CHECKING:

        def _instruction(self, opcode: str, a: Lanes, *others: Lanes) -> Lanes: ...

    def exp(self, x: Handle) -> Handle:
        if self.dtype(x) != "float32":
            return super().exp(x)
        # x*log2(e) - 1/2 from -126 ... 126 to 0 ... 1; what is beyond, or NaN, saturates.
        share = self._instruction(
            "fma.rn.sat",
            x,
            self.like(x, LOG2_E / (2 * LARGEST_EXPONENT)),
            self.like(x, 0.5 - 0.5 / (2 * LARGEST_EXPONENT)),
        )
        # n + 127, in the low bits too: rounded to nearest, less the half, is rounded down.
        biased = self.fma(
            share,
            self.like(x, 2.0 * LARGEST_EXPONENT),
            self.like(x, ROUND_MAGIC + 127 - LARGEST_EXPONENT),
        )
        n = self.sub(biased, self.like(x, ROUND_MAGIC + 127))
        high, low = (self.like(x, part) for part in LOG2_E_PARTS)
        rest = self.fma(x, low, self.fma(x, high, self.neg(n)))
        # Where n has come to its end, the rest goes on: this overflows, or underflows gradually.
        power = self.bitcast(self.shift_left(self.bitcast(biased, "int32"), 23), "float32")
        return self.mul(self._instruction("ex2.approx.ftz", rest), power)

    def quotient(self, a: Handle, b: Handle) -> Handle:
        """By a reciprocal and a step of Newton's method, which leaves little but the rounding."""
        if self.dtype(a) != "float32":
            return super().quotient(a, b)
        inverse = self._instruction("rcp.approx.ftz", b)
        ratio = self.mul(a, inverse)
        return self.fma(self.fma(self.neg(b), ratio, a), inverse, ratio)

    def tanh(self, x: Handle) -> Handle:
        """A polynomial near zero; 1 - 2 / (exp(2|x|) + 1), which is over one half, elsewhere."""
        if self.dtype(x) != "float32":
            return super().tanh(x)
        magnitude = self.at_most(self.abs(x), TANH_IS_ONE["float32"])
        square = self.mul(magnitude, magnitude)
        cube = self.mul(square, magnitude)
        small = self.fma(cube, self.polynomial(square, TANH["float32"]), magnitude)
        e = self._instruction("ex2.approx.ftz", self.mul(magnitude, self.like(x, 2 * LOG2_E)))
        inverse = self._instruction("rcp.approx.ftz", self.add(e, self.like(x, 1.0)))
        large = self.fma(inverse, self.like(x, -2.0), self.like(x, 1.0))
        split = self.lt(magnitude, self.like(x, TANH_SPLIT))
        return self.copysign(self.where(split, small, large), x)
