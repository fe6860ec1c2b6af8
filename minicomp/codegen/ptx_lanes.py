"""What the PTX emitter's handles are: a value per lane.

A thread works on several elements at once, its lanes, each in a register of its own: instructions
of different lanes do not wait for each other, and neighbours in memory are loaded by one access.
A value that is the same in all lanes has one register; a literal is a Python number until it
becomes the operand of an instruction.

>>> x = Lanes("float32", (Register("%f1", "f32"), Register("%f2", "f32")))
>>> print(x.lane(1), Lanes("float32", (2.0,)).lane(1))
%f2 2.0
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minicomp.codegen.ptx_types import Operand, Register

#: dtype of a value -> dtype that is computed in
COMPUTED = {"float16": "float32", "bfloat16": "float32"}


@dataclass(frozen=True)
class Lanes:
    """A handle. `dtype` is what is computed in, never a two-byte float."""

    dtype: str
    values: tuple[Operand, ...]

    @staticmethod
    def of_dtype(dtype: str, values: tuple[Operand, ...]) -> Lanes:
        """Values of an element of `dtype`, which may be a two-byte float, as they are computed."""
        return Lanes(COMPUTED.get(dtype, dtype), values)

    def lane(self, number: int) -> Operand:
        return self.values[number if len(self.values) > 1 else 0]

    def wide(self, width: int) -> Lanes:
        """The value in each of `width` lanes."""
        return self if len(self.values) == width else Lanes(self.dtype, self.values * width)

    @property
    def is_literal(self) -> bool:
        return not isinstance(self.values[0], Register)


def width_of(*operands: Lanes) -> int:
    """How many lanes an operation on these has."""
    return max(len(operand.values) for operand in operands)


def rounded_literal(value: bool | int | float, dtype: str) -> bool | int | float:
    """A literal of `dtype` as a Python number; of a two-byte float, rounded to nearest even."""
    if dtype == "float16":
        with np.errstate(over="ignore"):
            return float(np.float16(value))
    if dtype == "bfloat16" and np.isfinite(value):
        with np.errstate(over="ignore"):
            bits = int(np.float32(value).view(np.uint32))
        # Half of the last bit that is kept, less one unit where that bit is even: ties go down.
        bits += 0x7FFF + (bits >> 16 & 1)
        return float(np.uint32(bits & 0xFFFF0000).view(np.float32))
    return value
