"""The emitter protocol on NumPy arrays: code generation's arithmetic, run at once.

In and out: arrays. It exists to test the elementary functions, whose errors in ulp it shows for
millions of arguments in a second without compiling anything, and to be read beside the emitters
of LLVM IR and PTX: each method is the meaning of theirs.

    NumpyEmitter().tanh(np.linspace(-1, 1, 5, dtype=np.float32))

Operations are as exact as the hardware's: `fma` rounds once (see `exact_fma`). What the protocol
asks of the caller is checked: an integer division that traps on hardware raises ZeroDivisionError
or OverflowError here, and so does a conversion out of range, which on hardware gives anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minicomp.codegen.exact_fma import fma
from minicomp.codegen.math import ElementaryFunctions

Array = np.ndarray


def _quiet(function: Callable[..., Any]) -> Callable[..., Any]:
    """A method that calls `function` on its operands, with NumPy's warnings off."""

    def call(self: Any, *operands: Array) -> Array:
        with np.errstate(all="ignore"):
            return function(*operands)

    return call


class NumpyEmitter(ElementaryFunctions):
    """See the module's docstring."""

    def dtype(self, x: Array) -> str:
        return x.dtype.name

    def constant(self, dtype: str, value: bool | int | float) -> Array:
        return np.array(value, dtype)

    add = _quiet(np.add)
    sub = _quiet(np.subtract)
    mul = _quiet(np.multiply)
    div = _quiet(np.divide)
    neg = _quiet(np.negative)
    abs = _quiet(np.abs)
    fma = _quiet(fma)
    sqrt = _quiet(np.sqrt)
    floor = _quiet(np.floor)
    ceil = _quiet(np.ceil)
    trunc = _quiet(np.trunc)
    round = _quiet(np.rint)
    copysign = _quiet(np.copysign)
    minimum = _quiet(np.minimum)
    maximum = _quiet(np.maximum)
    lt = _quiet(np.less)
    le = _quiet(np.less_equal)
    gt = _quiet(np.greater)
    ge = _quiet(np.greater_equal)
    eq = _quiet(np.equal)
    ne = _quiet(np.not_equal)
    where = _quiet(np.where)
    logical_and = _quiet(np.logical_and)
    logical_or = _quiet(np.logical_or)
    logical_xor = _quiet(np.logical_xor)
    logical_not = _quiet(np.logical_not)
    bit_and = _quiet(np.bitwise_and)
    bit_or = _quiet(np.bitwise_or)
    bit_xor = _quiet(np.bitwise_xor)

    def rare(self, condition: Array, usual: Array, compute: Callable[[], Array]) -> Array:
        return super().rare(condition, usual, compute) if np.any(condition) else usual

    def int_div(self, a: Array, b: Array) -> Array:
        if np.any(b == 0):
            raise ZeroDivisionError("int_div by zero")
        if np.any((a == np.iinfo(a.dtype).min) & (b == -1)):
            raise OverflowError("int_div of the least integer by -1")
        floor = np.floor_divide(a, b)
        inexact = np.not_equal(np.remainder(a, b), 0)
        return np.where(inexact & ((a < 0) != (b < 0)), floor + a.dtype.type(1), floor)

    def int_rem(self, a: Array, b: Array) -> Array:
        return self.sub(a, self.mul(self.int_div(a, b), b))

    def shift_left(self, a: Array, bits: int) -> Array:
        return np.left_shift(a, a.dtype.type(bits))

    def shift_right(self, a: Array, bits: int) -> Array:
        return np.right_shift(a, a.dtype.type(bits))

    def shift_right_logical(self, a: Array, bits: int) -> Array:
        unsigned = np.asarray(a).view(f"u{a.dtype.name}")
        return np.right_shift(unsigned, unsigned.dtype.type(bits)).view(a.dtype)

    def bitcast(self, a: Array, dtype: str) -> Array:
        return np.asarray(a).view(dtype)

    def convert(self, a: Array, dtype: str) -> Array:
        if a.dtype.kind == "f" and np.dtype(dtype).kind == "i":
            limit = -float(np.iinfo(dtype).min)
            if not np.all((a >= -limit) & (a < limit)):
                raise OverflowError(f"a value to convert is not in the range of {dtype}")
        with np.errstate(all="ignore"):
            return np.asarray(a).astype(dtype)
