"""Reduction of large angles by multiples of pi/2, exactly, in integers (Payne and Hanek, 1983).

In: a float, larger than those that `math_trigonometry` reduces by subtraction. Out: the quadrant,
and what remains to full relative accuracy. It is slow, and meant for `Basics.rare`.

    a = X * 2**(32*j), X an integer of two or three 32-bit limbs
    a / (pi/2) mod 4 = X * (the words of 2/pi from number j on) mod 4

The words of 2/pi before number j make multiples of 4, and words far behind it next to nothing.
"""

from __future__ import annotations

from minicomp.codegen.emitter import Handle
from minicomp.codegen.math_basics import Basics, FloatFormat

# 2 / pi in words of 32 bits, the first with weight 2**-32.
# fmt: off
TWO_OVER_PI = (
    0xA2F9836E, 0x4E441529, 0xFC2757D1, 0xF534DDC0, 0xDB629599, 0x3C439041, 0xFE5163AB,
    0xDEBBC561, 0xB7246E3A, 0x424DD2E0, 0x06492EEA, 0x09D1921C, 0xFE1DEB1C, 0xB129A73E,
    0xE88235F5, 0x2EBB4484, 0xE99C7026, 0xB45F7E41, 0x3991D639, 0x835339F4, 0x9C845F8B,
    0xBDF9283B, 0x1FF897FF, 0xDE05980F, 0xEF2F118B, 0x5A0A6D1F, 0x6D367ECF, 0x27CB09B7,
    0x4F463F66, 0x9E5FEA2D, 0x7527BAC7, 0xEBE5F17B, 0x3D0739F7, 0x8A5292EA, 0x6BFB5FB1,
    0x1F8D5D08, 0x56033046, 0xFC7B6BAB,
)
# fmt: on
HALF_PI = (1.5707963267948966, 6.123233995736766e-17)  # the sum of two float64
WORD = 0xFFFFFFFF


class LargeAngles(Basics):
    """`large_angle`, for `math_trigonometry`."""

    def large_angle(self, a: Handle, quarters: int) -> tuple[Handle, Handle]:
        """(n + quarters, r) with a = n*(pi/2) + r, |r| <= pi/4, for a >= 2**20; n mod 4 alone.

        For a smaller a the result means nothing; for infinity and NaN r is NaN.
        """
        float_format = self.format(a)
        narrow = float_format.dtype == "float32"
        wide = self.convert(a, "float64")
        index, scaled = self.limb_position(wide, float_format)
        limbs = self.split_limbs(scaled, 2 if narrow else 3)
        # The fraction of a / (pi/2) may be as small as 2**-31 (float32) or 2**-61 (float64).
        fraction_words = 2 if narrow else 4
        largest = (float_format.bias - float_format.fraction_bits) // 32 + 1
        words = self.window(index, largest, len(limbs) + fraction_words + 1)
        columns = self.multiply_words(limbs, words, fraction_words)
        half_up = self.shift_right_logical(columns[1], 31)
        n = self.add(self.add(columns[0], half_up), self.like(index, quarters))
        n = self.bit_and(n, self.like(index, 3))
        fraction = self.bit_or(self.shift_left(columns[1], 32), columns[2])
        if narrow:
            unit = self.like(wide, HALF_PI[0] * 2.0**-64)
            r = self.convert(self.mul(self.convert(fraction, "float64"), unit), "float32")
        else:
            low = self.bit_or(self.shift_left(columns[3], 32), columns[4])
            r = self.times_half_pi(fraction, low)
        # a - a is 0, but NaN for infinity and NaN.
        return self.convert(n, float_format.integer), self.add(r, self.sub(a, a))

    def limb_position(self, a: Handle, float_format: FloatFormat) -> tuple[Handle, Handle]:
        """(index, X) with a = X * 2**(32 * (index - 1)), X an integer of up to 31 more bits."""
        # Only the exponent field is looked at and changed: X is in range whatever a is.
        bits = self.bitcast(a, "int64")
        exponent = self.shift_right_logical(bits, 52)
        # That of the last bit of a's significand is floored to a multiple of 32.
        above = self.sub(exponent, self.like(bits, 1023 + float_format.precision - 1 - 32))
        index = self.shift_right(above, 5)
        rescaled = self.sub(bits, self.shift_left(index, 5 + 52))
        return index, self.bitcast(self.add(rescaled, self.like(bits, 32 << 52)), "float64")

    def split_limbs(self, x: Handle, count: int) -> list[Handle]:
        """The integer x as 32-bit limbs in int64, the least significant first."""
        limbs = []
        for position in reversed(range(count)):
            limb = self.trunc(self.mul(x, self.like(x, 2.0 ** (-32 * position))))
            x = self.fma(limb, self.like(x, -(2.0 ** (32 * position))), x)
            limbs.append(self.convert(limb, "int64"))
        return limbs[::-1]

    def multiply_words(
        self, limbs: list[Handle], words: list[Handle], fraction_words: int
    ) -> list[Handle]:
        """The product's integer part (modulo 2**32 and more) and words of its fraction."""
        # Limb number c times word number q counts 2**(32 * (c - q)).
        mask = self.like(limbs[0], WORD)
        columns = [self.like(limbs[0], 0) for _ in range(fraction_words + 1)]
        for c, limb in enumerate(limbs):
            for column in range(fraction_words + 2):
                product = self.mul(limb, words[c + column])  # of 64 bits, unsigned
                if column > 0:
                    high = self.shift_right_logical(product, 32)
                    columns[column - 1] = self.add(columns[column - 1], high)
                if column <= fraction_words:
                    low = self.bit_and(product, mask)
                    columns[column] = self.add(columns[column], low)
        for column in reversed(range(1, fraction_words + 1)):
            carry = self.shift_right_logical(columns[column], 32)
            columns[column - 1] = self.add(columns[column - 1], carry)
            columns[column] = self.bit_and(columns[column], mask)
        return columns

    def window(self, index: Handle, largest: int, count: int) -> list[Handle]:
        """`count` words of (0, 0, *TWO_OVER_PI) from `index` <= `largest` on, lane by lane.

        Without a gather: each bit of the index, the highest first, keeps one half of the words.
        """
        words = [self.like(index, word) for word in (0, 0, *TWO_OVER_PI)]
        for bit in (1 << place for place in reversed(range(largest.bit_length()))):
            chosen = self.ne(self.bit_and(index, self.like(index, bit)), self.like(index, 0))
            needed = range(min(count + bit - 1, len(words) - bit))
            words = [self.where(chosen, words[i + bit], words[i]) for i in needed]
        return words

    def times_half_pi(self, high: Handle, low: Handle) -> Handle:
        """pi/2 * (high + low * 2**-64) * 2**-64, where `high` is signed and `low` is not."""
        # Three parts that float64 holds exactly, and that overlap in no bit.
        top = self.bit_and(high, self.like(high, ~0x7FF))
        rest = self.shift_left(self.bit_and(high, self.like(high, 0x7FF)), 42)
        middle = self.bit_or(rest, self.shift_right_logical(low, 22))
        bottom = self.bit_and(low, self.like(low, (1 << 22) - 1))
        first, second, third = (
            self.mul(self.convert(part, "float64"), self.constant("float64", weight))
            for part, weight in ((top, 2.0**-64), (middle, 2.0**-106), (bottom, 2.0**-128))
        )
        total = self.add(first, second)
        error = self.add(self.sub(second, self.sub(total, first)), third)
        half_pi, half_pi_low = (self.like(total, part) for part in HALF_PI)
        product = self.mul(total, half_pi)
        residue = self.fma(total, half_pi, self.neg(product))
        small = self.fma(total, half_pi_low, self.mul(error, half_pi))
        return self.add(product, self.add(residue, small))
