"""16-bit floats between memory and registers, where they are float32.

In: the 16 bits of a float16 or bfloat16. Out: the float32 of the same value; and back, rounded to
the nearest, ties to even.
"""

from __future__ import annotations

from minicomp.codegen.ptx_builder import PTXBuilder
from minicomp.codegen.ptx_types import Register


def widen(builder: PTXBuilder, bits: Register, dtype: str) -> Register:
    """The value of an element of `dtype` as loaded; a dtype that is not 16 bits wide as it is."""
    if dtype == "float16":
        return builder.instruction("cvt.f32.f16", "f32", bits)
    if dtype == "bfloat16":
        # A bfloat16 is the upper half of a float32. (cvt.f32.bf16 would need sm_90.)
        wide = builder.cvt(bits.as_type("u16"), "u32")
        return builder.bitcast(builder.shl(wide, 16), "f32")
    return bits


def narrow(builder: PTXBuilder, value: Register, dtype: str) -> Register:
    """What is stored for a value whose dtype is to be `dtype`."""
    if dtype == "float16":
        return builder.instruction("cvt.rn.f16.f32", "b16", value)
    if dtype == "bfloat16":
        return builder.instruction("cvt.rn.bf16.f32", "b16", value)
    return value
