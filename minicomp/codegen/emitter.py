"""The protocol between a fused kernel's scalar body and a back end.

A back end implements the *arithmetic* below, one method per machine-level operation. Everything
else in the op table (exp, tanh, erf, sigmoid, floor_divide, ...) is written once in terms of it,
in `codegen.math.ElementaryFunctions`, which every back end inherits and may override where the
hardware has better. So an op is added in one place, or in one place per target.

Values are opaque handles of the back end's (`Handle`): an llvmlite value, a PTX register, or a
NumPy array in `codegen.numpy_emitter`, which the tests use to measure the functions' errors in
ulp without compiling anything. A handle knows its dtype; it may be a scalar or a vector of lanes,
and no method cares which.

Method names are those of the op table, so that the visitor in `codegen.scalar` is
`getattr(emitter, op)(*operands)`.
"""

from __future__ import annotations

from typing import Any, Protocol

Handle = Any


class Arithmetic(Protocol):
    """What a back end must provide. Operands of one call have one dtype unless said otherwise.

    dtypes are names: "float32", "float64", "int32", "int64", "bool" (and on CUDA "float16",
    "bfloat16", which are widened to float32 on load and narrowed on store, so no method here
    sees them).
    """

    def dtype(self, x: Handle) -> str:
        """The dtype of a handle."""

    def constant(self, dtype: str, value: bool | int | float) -> Handle:
        """A literal, nan and inf included; broadcasts against vectors."""

    # Floating point and integers. Integer arithmetic wraps. IEEE rounding, no fast-math: NaN,
    # infinities and signed zeros behave as in NumPy.
    def add(self, a: Handle, b: Handle) -> Handle: ...
    def sub(self, a: Handle, b: Handle) -> Handle: ...
    def mul(self, a: Handle, b: Handle) -> Handle: ...
    def neg(self, a: Handle) -> Handle: ...
    def abs(self, a: Handle) -> Handle: ...

    # Floating point only.
    def div(self, a: Handle, b: Handle) -> Handle:
        """Correctly rounded quotient."""

    def fma(self, a: Handle, b: Handle, c: Handle) -> Handle:
        """a * b + c with one rounding."""

    def sqrt(self, a: Handle) -> Handle:
        """Correctly rounded."""

    def floor(self, a: Handle) -> Handle: ...
    def ceil(self, a: Handle) -> Handle: ...
    def trunc(self, a: Handle) -> Handle: ...
    def round(self, a: Handle) -> Handle:
        """To the nearest integer, ties to even, as NumPy's."""

    def copysign(self, magnitude: Handle, sign: Handle) -> Handle: ...

    # Both. `minimum` and `maximum` propagate NaN, as NumPy's do.
    def minimum(self, a: Handle, b: Handle) -> Handle: ...
    def maximum(self, a: Handle, b: Handle) -> Handle: ...

    # Comparisons give bool. Ordered: with a NaN operand all are False but `ne`.
    def lt(self, a: Handle, b: Handle) -> Handle: ...
    def le(self, a: Handle, b: Handle) -> Handle: ...
    def gt(self, a: Handle, b: Handle) -> Handle: ...
    def ge(self, a: Handle, b: Handle) -> Handle: ...
    def eq(self, a: Handle, b: Handle) -> Handle: ...
    def ne(self, a: Handle, b: Handle) -> Handle: ...

    def where(self, condition: Handle, a: Handle, b: Handle) -> Handle:
        """a where the bool `condition` holds, else b, lane by lane; both are evaluated."""

    # Bools.
    def logical_and(self, a: Handle, b: Handle) -> Handle: ...
    def logical_or(self, a: Handle, b: Handle) -> Handle: ...
    def logical_xor(self, a: Handle, b: Handle) -> Handle: ...
    def logical_not(self, a: Handle) -> Handle: ...

    # Integers.
    def int_div(self, a: Handle, b: Handle) -> Handle:
        """Quotient truncated towards zero. The caller keeps b from 0, and min / -1 away."""

    def int_rem(self, a: Handle, b: Handle) -> Handle:
        """a - int_div(a, b) * b, under the same conditions."""

    def bit_and(self, a: Handle, b: Handle) -> Handle: ...
    def bit_or(self, a: Handle, b: Handle) -> Handle: ...
    def bit_xor(self, a: Handle, b: Handle) -> Handle: ...
    def shift_left(self, a: Handle, bits: int) -> Handle: ...
    def shift_right(self, a: Handle, bits: int) -> Handle:
        """Arithmetic: copies of the sign bit come in."""

    def shift_right_logical(self, a: Handle, bits: int) -> Handle: ...

    # Conversions.
    def bitcast(self, a: Handle, dtype: str) -> Handle:
        """The same bits as another dtype of the same width (float32/int32, float64/int64)."""

    def convert(self, a: Handle, dtype: str) -> Handle:
        """Numeric conversion. From a float to an integer it truncates, and the caller keeps the
        value in range; to bool it is `!= 0`; from bool 0 or 1; float64 to float32 rounds."""
