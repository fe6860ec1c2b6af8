"""Types, registers and literals of PTX, as the builder spells them.

A register's type is what the instructions that use it are told: "f32", "s32", "u64", "pred" ...
PTX declares registers by width, so that the same bits may be read as signed or not; `CLASSES`
says how a type is declared and what its registers are called.

>>> text_of(1.5, "f32"), text_of(-1, "s32"), str(Register("%f3", "f32"))
('0f3FC00000', '-1', '%f3')
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, replace

#: type -> (declared as, prefix of the register's name)
CLASSES = {
    "pred": ("pred", "p"),
    **dict.fromkeys(("u16", "s16", "b16", "f16", "bf16"), ("b16", "h")),
    **dict.fromkeys(("u32", "s32", "b32"), ("b32", "r")),
    **dict.fromkeys(("u64", "s64", "b64"), ("b64", "rd")),
    "f32": ("f32", "f"),
    "f64": ("f64", "fd"),
}
FLOATING = ("f32", "f64")

#: dtype of the tensor IR -> type of the register that holds an element
REGISTER = {
    "float16": "f32",
    "bfloat16": "f32",
    "float32": "f32",
    "float64": "f64",
    "int32": "s32",
    "int64": "s64",
    "bool": "pred",
}
#: dtype of the tensor IR -> type of the element in memory
MEMORY = {
    "float16": "b16",
    "bfloat16": "b16",
    "float32": "f32",
    "float64": "f64",
    "int32": "s32",
    "int64": "s64",
    "bool": "u8",
}


@dataclass(frozen=True)
class Register:
    """A virtual register: of one thread, with as many of them as a kernel likes."""

    name: str
    type: str

    @property
    def bits(self) -> int:
        """Its width; a predicate has 1."""
        return bits_of(self.type)

    def as_type(self, kind: str) -> Register:
        """The same register, read as another type of its width."""
        assert CLASSES[kind][0] == CLASSES[self.type][0], f"{self.type} is not as wide as {kind}"
        return replace(self, type=kind)

    def __str__(self) -> str:
        return self.name


Operand = Register | int | float


def bits_of(kind: str) -> int:
    """The width of a type."""
    return 1 if kind == "pred" else int(kind.lstrip("usbf"))


def text_of(operand: Operand | str, kind: str) -> str:
    """An operand as it is written where `kind` is wanted. Floats are written bit by bit, since
    decimal digits would be rounded; a str is a symbol."""
    if isinstance(operand, Register | str):
        return str(operand)
    if kind == "f32":
        (bits,) = struct.unpack("<I", struct.pack("<f", _as_float32(operand)))
        return f"0f{bits:08X}"
    if kind == "f64":
        (bits,) = struct.unpack("<Q", struct.pack("<d", operand))
        return f"0d{bits:016X}"
    if not isinstance(operand, int):
        raise TypeError(f"{operand!r} is no literal of type {kind}")
    return str(int(operand))


def _as_float32(value: float) -> float:
    """`value`; one too large for float32 as infinity, since struct would refuse it."""
    largest = 3.4028235677973366e38  # from here on rounds to infinity
    return math.copysign(math.inf, value) if abs(value) >= largest else value
