"""Floats narrower than float64, by integer arithmetic: rounding to them, and their bits.

    decode(np.array([0x3F80], np.uint16), "bf16")        # array([1.])
    encode(np.array([1.0 + 2**-9]), "bf16", "rp")        # array([0x3F81], dtype=uint16)

Rounding modes are PTX's: to nearest even (rn), to zero (rz), down (rm), up (rp), and to nearest
with ties away from zero (rna). A NaN is the ISA's canonical one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Format:
    #: bits of the significand, the hidden one counted
    precision: int
    #: the exponent of the least normal number's power of two, plus one, as np.frexp has it
    least_exponent: int
    largest: float
    nan: int


FORMATS = {
    "f32": Format(24, -125, float(np.finfo(np.float32).max), 0x7FFFFFFF),
    "tf32": Format(11, -125, (2 - 2.0**-10) * 2.0**127, 0x7FFFFFFF),
    "f16": Format(11, -13, 65504.0, 0x7FFF),
    "bf16": Format(8, -125, (2 - 2.0**-7) * 2.0**127, 0x7FFF),
}

CANONICAL_NAN = np.array([FORMATS["f32"].nan], np.uint32).view(np.float32)[0]
MODES = ("rn", "rz", "rm", "rp", "rna")


def _away_from_zero(x: Array) -> Array:
    whole = np.trunc(x)
    rounded = whole + np.where(np.abs(x - whole) >= 0.5, np.copysign(1.0, x), 0.0)
    return np.copysign(rounded, x)  # -0.0 + 0.0 would be 0.0


_ROUND: dict[str, Callable[[Array], Array]] = {
    "rn": np.rint,
    "rz": np.trunc,
    "rm": np.floor,
    "rp": np.ceil,
    "rna": _away_from_zero,
}


def narrow(x: Array, name: str, mode: str = "rn") -> Array:
    """float64 values rounded to a format, still as float64."""
    form = FORMATS[name]
    exponent = np.maximum(np.frexp(x)[1], form.least_exponent)
    units = np.ldexp(x, form.precision - exponent)  # in units of the last place: exact
    result = np.ldexp(_ROUND[mode](units), exponent - form.precision)
    too_big = (np.abs(result) > form.largest) & np.isfinite(x)
    if too_big.any():
        infinite = {"rz": x != x, "rm": x < 0, "rp": x > 0}.get(mode, x == x)
        limit = np.where(infinite, np.inf, form.largest)
        result = np.where(too_big, np.copysign(limit, x), result)
    return np.where(np.isfinite(x), result, x)


def encode(x: Array, name: str, mode: str = "rn") -> Array:
    """float64 values rounded to a format, as its bits (float32 values for "f32")."""
    rounded, nan = narrow(x, name, mode), np.isnan(x)
    if name == "f16":
        bits = rounded.astype(np.float16).view(np.uint16)
        return np.where(nan, np.uint16(FORMATS[name].nan), bits)
    single = rounded.astype(np.float32)
    if name == "f32":
        return np.where(nan, CANONICAL_NAN, single)
    bits = np.where(nan, np.uint32(0x7FFFFFFF), single.view(np.uint32))
    return bits if name == "tf32" else (bits >> np.uint32(16)).astype(np.uint16)


def decode(bits: Array, name: str) -> Array:
    """The values of float16 or bfloat16 bits (uint16), as float64."""
    if name == "f16":
        return bits.view(np.float16).astype(np.float64)
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)
