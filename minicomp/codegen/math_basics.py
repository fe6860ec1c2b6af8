"""What the elementary functions are built from: formats, polynomials, powers of two, rare lanes.

In: handles and the operations of `codegen.emitter.Arithmetic`. Out: handles. Nothing here is an
op of the op table; the mixins `math_exponential`, `math_logarithm`, ... inherit it and define
those.

    r = x - n * log(2)
    exp(x) = self.scale(self.polynomial(r, EXP), n)        # times 2**n
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from minicomp.codegen.emitter import Arithmetic, Handle
from minicomp.ir import ITEMSIZE


@dataclass(frozen=True)
class FloatFormat:
    """An IEEE binary format: `precision` counts the significand's bits, the hidden one included."""

    dtype: str
    integer: str  # the integer dtype of the same width
    precision: int
    bias: int  # of the exponent

    @property
    def fraction_bits(self) -> int:
        """The width of the fraction field, below the exponent's."""
        return self.precision - 1

    @property
    def width(self) -> int:
        """The number of bits."""
        return 8 * ITEMSIZE[self.dtype]

    @property
    def round_magic(self) -> float:
        """1.5 * 2**fraction_bits: the integers around it are the floats around it.

        So adding it to a small x rounds x to an integer (to nearest, ties to even), which then
        stands, in two's complement, in the low bits of the sum's representation.
        """
        return 1.5 * 2.0**self.fraction_bits


FORMATS = {
    "float32": FloatFormat("float32", "int32", 24, 127),
    "float64": FloatFormat("float64", "int64", 53, 1023),
}


class Basics(Arithmetic):
    """Helpers over the protocol, and hooks that a back end may override where its hardware has
    better: `rare`, `lookup`, `scale`, `scale_down`, `power_of_two` and `quotient`."""

    def format(self, x: Handle) -> FloatFormat:
        return FORMATS[self.dtype(x)]

    def like(self, x: Handle, value: bool | int | float) -> Handle:
        """A constant of x's dtype."""
        return self.constant(self.dtype(x), value)

    def polynomial(self, x: Handle, coefficients: Sequence[float]) -> Handle:
        """c[0] + c[1]*x + c[2]*x**2 + ..., by Horner's rule.

        Horner's rule has the fewest instructions; its latency hides behind the other vectors
        that an unrolled loop has in flight.
        """
        total = self.like(x, coefficients[-1])
        for coefficient in reversed(coefficients[:-1]):
            total = self.fma(total, x, self.like(x, coefficient))
        return total

    def at_most(self, x: Handle, limit: float) -> Handle:
        """The smaller of the two, or NaN: one instruction on x86, where `minimum` takes three."""
        bound = self.like(x, limit)
        return self.where(self.gt(x, bound), bound, x)

    def at_least(self, x: Handle, limit: float) -> Handle:
        """The larger of the two, or NaN."""
        bound = self.like(x, limit)
        return self.where(self.lt(x, bound), bound, x)

    def flip(self, x: Handle, signs: Handle) -> Handle:
        """x, negated where the integer `signs`, of x's width, is negative."""
        float_format = self.format(x)
        bits = self.bitcast(x, float_format.integer)
        sign = self.bit_and(signs, self.like(signs, -1 << (float_format.width - 1)))
        return self.bitcast(self.bit_xor(bits, sign), float_format.dtype)

    def power_of_two(self, n: Handle, offset: int = 0) -> Handle:
        """2**(n + offset) for an integral float n; the result must be a normal number."""
        float_format = self.format(n)
        # The sum's low bits are n + offset + bias: the exponent field, once shifted into place.
        magic = float_format.round_magic + float_format.bias + offset
        biased = self.bitcast(self.add(n, self.like(n, magic)), float_format.integer)
        shifted = self.shift_left(biased, float_format.fraction_bits)
        return self.bitcast(shifted, float_format.dtype)

    def scale(self, x: Handle, n: Handle) -> Handle:
        """x * 2**n, rounded once, for x around 1 and an integral float n such that the result may
        overflow to infinity or underflow gradually (AVX-512 has an instruction for it).

        2**n alone may be out of range, so it is split in two factors, of which the first brings x
        to the result's side of 1 and the second, a constant, does the overflow or underflow.
        """
        float_format = self.format(x)
        step = (float_format.bias + 1) // 2
        magic = float_format.round_magic + float_format.bias
        small = self.lt(n, self.like(n, 0.0))
        offset = self.where(small, self.like(n, magic + step), self.like(n, magic - step))
        biased = self.bitcast(self.add(n, offset), float_format.integer)
        shifted = self.shift_left(biased, float_format.fraction_bits)
        first = self.bitcast(shifted, float_format.dtype)
        second = self.where(small, self.like(x, 2.0**-step), self.like(x, 2.0**step))
        return self.mul(self.mul(x, first), second)

    def quotient(self, a: Handle, b: Handle) -> Handle:
        """a / b for 1 <= b <= 2 and 0 <= a <= 1; an error of an ulp does no harm where this is
        used, so that it need not be as slow as a division for any operands."""
        return self.div(a, b)

    def scale_down(self, x: Handle, n: Handle) -> Handle:
        """`scale` for an n that is not positive: half the work."""
        step = (self.format(x).bias + 1) // 2
        return self.mul(self.mul(x, self.power_of_two(n, step)), self.like(x, 2.0**-step))

    def lookup(self, table: Sequence[float], index: Handle) -> Handle:
        """The entry of a table of 2**n float32 numbers that the lowest n bits of an int32 index
        say; other bits may be anything. One bit after the other halves the table here."""
        entries = [self.constant("float32", entry) for entry in table]
        bit = 1
        while len(entries) > 1:
            odd = self.ne(self.bit_and(index, self.like(index, bit)), self.like(index, 0))
            pairs = zip(entries[::2], entries[1::2], strict=True)
            entries = [self.where(odd, second, first) for first, second in pairs]
            bit *= 2
        return entries[0]

    def rare(self, condition: Handle, usual: Handle, compute: Callable[[], Handle]) -> Handle:
        """`usual`, but `compute()` in the lanes where the condition holds, which few do.

        This evaluates both. A back end with branches overrides it to call `compute` in a block
        of its own that is skipped where no lane needs it.
        """
        return self.where(condition, compute(), usual)
