"""mod and floor_divide, of floats and of integers, as NumPy has them.

In: two handles of one dtype. Out: a handle of the same dtype. A modulus has the divisor's sign;
the float remainder is exact however large the quotient, as C's fmod. An integer divided by zero
gives 0, both ways; the least integer divided by -1 wraps to itself. Nothing traps.

    mod(-7, 3) = 2      floor_divide(-7, 3) = -3      mod(1e30, 3.0) = 1.0
"""

from __future__ import annotations

from math import ceil

from minicomp.codegen.emitter import Handle
from minicomp.codegen.math_basics import FORMATS, Basics


class Division(Basics):
    """mod, floor_divide."""

    def mod(self, a: Handle, b: Handle) -> Handle:
        if self.dtype(a) not in FORMATS:
            return self.int_floor_divide(a, b)[1]
        remainder = self.remainder(a, b)
        moved = self.where(self.opposite(remainder, b), self.add(remainder, b), remainder)
        zero = self.like(a, 0.0)
        return self.where(self.eq(remainder, zero), self.copysign(zero, b), moved)

    def floor_divide(self, a: Handle, b: Handle) -> Handle:
        if self.dtype(a) not in FORMATS:
            return self.int_floor_divide(a, b)[0]
        zero, one = self.like(a, 0.0), self.like(a, 1.0)
        remainder = self.remainder(a, b)
        # All but an integer, of which the division's rounding error is taken next.
        quotient = self.div(self.sub(a, remainder), b)
        quotient = self.where(self.opposite(remainder, b), self.sub(quotient, one), quotient)
        floor = self.floor(quotient)
        above = self.gt(self.sub(quotient, floor), self.like(a, 0.5))
        nearest = self.where(above, self.add(floor, one), floor)
        plain = self.div(a, b)
        signed = self.where(self.eq(quotient, zero), self.copysign(zero, plain), nearest)
        return self.where(self.eq(b, zero), plain, signed)

    def opposite(self, remainder: Handle, b: Handle) -> Handle:
        """Whether the remainder is not zero and its sign is not that of b."""
        zero = self.like(b, 0.0)
        differ = self.logical_xor(self.lt(remainder, zero), self.lt(b, zero))
        return self.logical_and(differ, self.ne(remainder, zero))

    def remainder(self, a: Handle, b: Handle) -> Handle:
        """a - trunc(a / b) * b, exactly, with the sign of a: C's fmod."""
        dividend, divisor = self.abs(a), self.abs(b)
        usual = self.remainder_step(dividend, divisor)
        large = self.ge(self.div(dividend, divisor), self.like(a, 2.0 ** self.format(a).precision))
        result = self.rare(large, usual, lambda: self.long_remainder(dividend, divisor))
        return self.copysign(result, a)

    def remainder_step(self, a: Handle, b: Handle) -> Handle:
        """a mod b for a, b >= 0 with a / b < 2**precision. NaN where b is 0 or a infinite."""
        quotient = self.trunc(self.div(a, b))
        # The division may have rounded up to an integer. Either way the difference is exact, since
        # it is a multiple of b's last bit and not larger than b.
        rest = self.fma(self.neg(quotient), b, a)
        rest = self.where(self.lt(rest, self.like(a, 0.0)), self.add(rest, b), rest)
        return self.where(self.lt(a, b), a, rest)

    def long_remainder(self, a: Handle, b: Handle) -> Handle:
        """a mod b for any a, b >= 0: long division, by b * 2**(precision*i) for i down to 0."""
        float_format = self.format(a)
        # From the least subnormal to the largest number.
        binades = 2 * float_format.bias + float_format.precision
        factor = self.like(b, 2.0**float_format.precision)
        divisors = [b]
        for _ in range(1, ceil(binades / float_format.precision)):
            divisors.append(self.mul(divisors[-1], factor))  # exact, or infinite
        for divisor in reversed(divisors):
            a = self.remainder_step(a, divisor)
        return a

    def int_floor_divide(self, a: Handle, b: Handle) -> tuple[Handle, Handle]:
        """(quotient, modulus) of integers; division by 0 gives (0, 0)."""
        zero, one = self.like(a, 0), self.like(a, 1)
        by_zero = self.eq(b, zero)
        by_minus_one = self.eq(b, self.like(b, -1))
        # Hardware traps on division by 0 and on the least integer by -1: never divide by those.
        divisor = self.where(self.logical_or(by_zero, by_minus_one), one, b)
        quotient = self.int_div(a, divisor)
        rest = self.sub(a, self.mul(quotient, divisor))
        opposite = self.lt(self.bit_xor(rest, divisor), zero)
        down = self.logical_and(self.ne(rest, zero), opposite)
        quotient = self.where(down, self.sub(quotient, one), quotient)
        modulus = self.where(down, self.add(rest, divisor), rest)
        quotient = self.where(by_minus_one, self.neg(a), quotient)
        return self.where(by_zero, zero, quotient), self.where(by_zero, zero, modulus)
