"""Is a product right? References, tolerances and verdicts.

In: two operands and what a candidate made of them. Out: None, or the reason to reject it.

The reference is NumPy's product in float64 (integers: exact, wrapping as the dtype does). Element
(i, j) may be off by

    8 u sqrt(k) |a_i| |b_j|

with u the unit roundoff of the accumulation, |a_i| and |b_j| the Euclidean norms of the row and
the column: rounding errors grow as sqrt(k) where they are independent (Higham and Mary, "A New
Approach to Probabilistic Rounding Error Analysis", 2019), and the norms bound the sum of
|a_ik b_kj|. The factor of 8 leaves room for errors that are not independent: summing a thousand
equal terms one by one was seen to need 7. Where float32 products may be computed in a shorter
format (`matmul_precision`), or the result is stored in one, that rounding comes on top.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import numpy as np

from minicomp.ir import numpy_dtype

SAFETY_FACTOR = 8.0

#: dtype -> (unit roundoff, largest finite value, smallest normal value)
FLOAT_FORMATS = {
    "float64": (2.0**-53, (2 - 2.0**-52) * 2.0**1023, 2.0**-1022),
    "float32": (2.0**-24, (2 - 2.0**-23) * 2.0**127, 2.0**-126),
    "float16": (2.0**-11, 65504.0, 2.0**-14),
    "bfloat16": (2.0**-8, (2 - 2.0**-7) * 2.0**127, 2.0**-126),
}
#: matmul_precision -> unit roundoff that float32 operands may be rounded with: none, TF32, bfloat16
OPERAND_ROUNDOFF = {"highest": 0.0, "high": 2.0**-11, "medium": 2.0**-8}

#: dtype -> the bits of a NaN that no arithmetic makes: `out` is filled with it before a try, so an
#: element that was not written, or was added to instead, is told from one that is NaN for a reason.
POISON_BITS: dict[str, np.generic] = {
    "float64": np.uint64(0x7FF8_0000_DEAD_BEEF),
    "float32": np.uint32(0x7FC0_BEEF),
    "float16": np.uint16(0x7EAD),
    "bfloat16": np.uint16(0x7FDE),
}


def bits(array: np.ndarray) -> np.ndarray:
    """The array's bytes as unsigned integers of its item size, so that NaNs compare."""
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.array_equal(bits(a), bits(b)))


def poison_like(expected: np.ndarray) -> np.ndarray:
    """Values of `expected`'s shape and dtype of which each is wrong."""
    marker = POISON_BITS.get(expected.dtype.name)
    if marker is None:  # no NaN to be had: the complement differs from what is wanted
        return ~expected
    return np.full(expected.shape, marker).view(expected.dtype)


@dataclass(frozen=True, eq=False)
class Reference:
    """What a product must be: `expected` values, each with a `bound` on the error allowed.

    `expected` is float64, or the product's own integer dtype with bounds of 0; a bound of
    infinity accepts anything that was written. `poison` is what `out` must be filled with first.
    """

    expected: np.ndarray
    bound: np.ndarray
    poison: np.ndarray

    def judge(self, out: np.ndarray) -> str | None:
        """None if `out` is right, else what is wrong with it."""
        unwritten = int(np.count_nonzero(bits(out) == bits(self.poison)))
        if unwritten:
            return (
                f"left {unwritten} of {out.size} elements of out unwritten, or added to what it "
                f"held before"
            )
        with np.errstate(all="ignore"):
            error = np.abs(out.astype(np.float64) - self.expected)
            if self.expected.dtype.kind in "iub":
                right = out == self.expected  # exactly, beyond float64's 53 bits too
            else:
                right = (error <= self.bound) | np.isinf(self.bound)
                right |= ~np.isfinite(self.expected) & ~np.isfinite(out)
        return None if right.all() else self._describe(out, error, ~right)

    def _describe(self, out: np.ndarray, error: np.ndarray, wrong: np.ndarray) -> str:
        # The worst element, where what is not a number counts as the worst.
        severity = np.where(wrong, np.nan_to_num(error, nan=np.inf), -1.0)
        worst = np.unravel_index(int(np.argmax(severity)), wrong.shape)
        return (
            f"wrong: {np.count_nonzero(wrong)} of {out.size} elements, the worst at "
            f"{[int(i) for i in worst]}: got {out[worst]:.7g}, wanted {self.expected[worst]:.7g} "
            f"within {self.bound[worst]:.2g}"
        )


def product_reference(a: np.ndarray, b: np.ndarray, precision: str = "highest") -> Reference:
    """The reference for `a @ b` of two arrays of one dtype."""
    dtype = a.dtype.name
    if dtype not in FLOAT_FORMATS:
        expected = np.matmul(a, b)
        return Reference(expected, np.zeros(expected.shape), poison_like(expected))
    roundoff, largest, smallest = FLOAT_FORMATS[dtype]
    # Shorter formats than float32 are accumulated in float32.
    accumulator = dtype if dtype == "float64" else "float32"
    accumulated, largest_sum, _ = FLOAT_FORMATS[accumulator]
    operand_roundoff = OPERAND_ROUNDOFF[precision] if dtype == "float32" else 0.0
    storage_roundoff = 0.0 if dtype == accumulator else roundoff
    depth = a.shape[-1]
    with np.errstate(all="ignore"):
        wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
        expected = np.matmul(wide_a, wide_b)
        scale = np.linalg.norm(wide_a, axis=-1)[..., :, np.newaxis]
        scale = scale * np.linalg.norm(wide_b, axis=-2)[..., np.newaxis, :]
        bound = (SAFETY_FACTOR * accumulated * sqrt(depth) + 2 * operand_roundoff) * scale
        bound += 2 * storage_roundoff * np.abs(expected)
        bound += depth * smallest  # products too small for a normal number may become 0
        # Where a sum may overflow on the way, the order of its terms decides what comes out.
        may_overflow = (scale > largest_sum) | (np.abs(expected) + bound > largest)
        bound[may_overflow & np.isfinite(expected)] = np.inf
    poison = poison_like(np.empty(expected.shape, a.dtype))
    return Reference(expected, bound, poison)


def output_reference(
    product: Reference, dtype: str, epilogue: Callable[[np.ndarray], np.ndarray]
) -> OutputReference:
    """The reference for `epilogue(product)`, where the product is of `dtype`.

    The epilogue may magnify the product's rounding error, or jump on it (a comparison), so it is
    evaluated at the product and at both ends of what the product may be.
    """
    kind = numpy_dtype(dtype)
    around = [product.expected]
    if kind.kind not in "iub":
        slack = np.where(np.isfinite(product.bound), product.bound, 0.0)
        around += [product.expected - slack, product.expected + slack]
    with np.errstate(all="ignore"):
        values = [np.asarray(epilogue(x.astype(kind))) for x in around]
        low, high = np.minimum.reduce(values), np.maximum.reduce(values)
        is_finite = np.logical_and.reduce([np.isfinite(x) for x in values])
    return OutputReference(values[0], low, high, is_finite)


@dataclass(frozen=True, eq=False)
class OutputReference:
    """What a call site's final output must be: from `low` to `high`, or near it.

    Where it `is_finite` nowhere around the product, anything that was written is right. This check
    is for a kernel that computes something else, in a part of its output or all of it. How exactly
    a fused epilogue rounds is for minicomp's own tests to watch, so the tolerance is coarse: half
    of the dtype's digits, relative to the largest element.
    """

    expected: np.ndarray
    low: np.ndarray
    high: np.ndarray
    is_finite: np.ndarray

    @functools.cached_property
    def poison(self) -> np.ndarray:
        return poison_like(self.expected)

    def judge(self, output: np.ndarray) -> str | None:
        """None if `output` is right, else what is wrong with it."""
        if output.dtype.name in POISON_BITS:  # else the poison may be right where there is a jump
            unwritten = int(np.count_nonzero(bits(output) == bits(self.poison)))
            if unwritten:
                return f"left {unwritten} of {output.size} elements of its output unwritten"
        with np.errstate(all="ignore"):
            low, high = self.low.astype(np.float64), self.high.astype(np.float64)
            slack = (high - low) + self._coarse()
            right = (low - slack <= output) & (output <= high + slack) | ~self.is_finite
        if right.all():
            return None
        first = np.unravel_index(int(np.argmin(right)), right.shape)
        return (
            f"wrong after the epilogue: {np.count_nonzero(~right)} of {output.size} elements, the "
            f"first at {[int(i) for i in first]}: got {float(output[first]):.7g}, "
            f"wanted {float(self.expected[first]):.7g}"
        )

    def _coarse(self) -> float:
        dtype, finite = self.expected.dtype.name, self.expected[self.is_finite]
        if dtype not in FLOAT_FORMATS or finite.size == 0:
            return 0.0
        return sqrt(FLOAT_FORMATS[dtype][0]) * float(np.abs(finite).max())
