"""How the IR's dtypes appear in LLVM IR, in registers and in memory.

A bool is an `i1` in a register and an `i8` (0 or 1) in memory, as NumPy stores it. `widen(t, n)`
is a vector of n lanes, or the scalar itself for n = 1.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

from llvmlite import ir

i1, i8, i32, i64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))
f32, f64 = ir.FloatType(), ir.DoubleType()
pointer = ir.PointerType()
void = ir.VoidType()

REGISTER = {"float32": f32, "float64": f64, "int32": i32, "int64": i64, "bool": i1}
MEMORY = {**REGISTER, "bool": i8}
_NAMES = {"float": "float32", "double": "float64", "i32": "int32", "i64": "int64", "i1": "bool"}


def widen(element: ir.Type, lanes: int) -> ir.Type:
    """`<lanes x element>`, or `element` for one lane."""
    return element if lanes == 1 else ir.VectorType(element, lanes)


def lanes_of(value: ir.Value) -> int:
    """The number of lanes of a handle; 1 for a scalar."""
    return value.type.count if isinstance(value.type, ir.VectorType) else 1


def element_type(value: ir.Value) -> ir.Type:
    """The type of one lane."""
    return value.type.element if isinstance(value.type, ir.VectorType) else value.type


def dtype_of(value: ir.Value) -> str:
    """The IR dtype of a handle."""
    return _NAMES[str(element_type(value))]


class Literal(ir.Constant):
    """A constant written as LLVM reads it: a scalar's text, or `splat (type text)`."""

    def __init__(self, element: ir.Type, text: str, lanes: int = 1):
        self.type = widen(element, lanes)
        self.text = text if lanes == 1 else f"splat ({element} {text})"
        self.element_text = text

    def _to_string(self) -> str:
        return f"{self.type} {self.text}"

    def _get_reference(self) -> str:
        return self.text

    @property
    def is_nan(self) -> bool:
        """Whether this is a float literal that is not a number."""
        return self.element_text.startswith("0x") and math.isnan(
            struct.unpack("<d", struct.pack("<Q", int(self.element_text, 16)))[0]
        )

    def splat(self, lanes: int) -> Literal:
        """The same value in every lane of a vector."""
        return Literal(self.type, self.element_text, lanes)


def literal(element: ir.Type, value: bool | int | float, lanes: int = 1) -> Literal:
    """A constant of one lane, or splat over several."""
    if element in (f32, f64):
        text = _float_text(element, float(value))
    else:
        text = str(int(value)) if element != i1 else ("true" if value else "false")
    return Literal(element, text, lanes)


class LiteralVector(ir.Constant):
    """A constant vector whose lanes differ."""

    def __init__(self, element: ir.Type, values: Sequence[bool | int | float]):
        self.type = widen(element, len(values))
        lanes = (literal(element, value).text for value in values)
        self.text = f"<{', '.join(f'{element} {lane}' for lane in lanes)}>"

    def _to_string(self) -> str:
        return f"{self.type} {self.text}"

    def _get_reference(self) -> str:
        return self.text


class Poison(ir.Constant):
    """No particular value: what is not written yet of a vector under construction."""

    def __init__(self, kind: ir.Type):
        self.type = kind

    def _to_string(self) -> str:
        return f"{self.type} poison"

    def _get_reference(self) -> str:
        return "poison"


def poison(kind: ir.Type) -> Poison:
    """A `poison` of the given type."""
    return Poison(kind)


def _float_text(element: ir.Type, value: float) -> str:
    """LLVM writes both widths as the bits of a double; a float32 must be exact in it."""
    if element == f32:
        value = struct.unpack("<f", struct.pack("<f", _clamp_to_float32(value)))[0]
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


def _clamp_to_float32(value: float) -> float:
    """struct refuses to overflow; IEEE conversion gives an infinity."""
    limit = 3.4028235677973366e38  # halfway between the largest float32 and 2**128
    if value >= limit:
        return float("inf")
    return float("-inf") if value <= -limit else value
