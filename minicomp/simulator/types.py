"""PTX's fundamental types: a table of their widths, kinds and NumPy dtypes.

float16 and bfloat16 live in registers as bits; their arithmetic is in `formats`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Type:
    name: str
    #: in bits; 1 for predicates
    width: int
    #: "bits", "unsigned", "signed", "float", "half" (16-bit floats and pairs of them), "pred"
    kind: str
    #: how NumPy sees a register that holds it
    dtype: np.dtype

    def __str__(self) -> str:
        return f".{self.name}"

    @property
    def bytes(self) -> int:
        return self.width // 8

    @property
    def integer(self) -> bool:
        return self.kind in ("bits", "unsigned", "signed")


def _types() -> dict[str, Type]:
    rows = [Type("pred", 1, "pred", np.dtype(bool))]
    for width in (8, 16, 32, 64):
        unsigned, signed = np.dtype(f"u{width // 8}"), np.dtype(f"i{width // 8}")
        rows.append(Type(f"b{width}", width, "bits", unsigned))
        rows.append(Type(f"u{width}", width, "unsigned", unsigned))
        rows.append(Type(f"s{width}", width, "signed", signed))
    rows += [
        Type("f32", 32, "float", np.dtype(np.float32)),
        Type("f64", 64, "float", np.dtype(np.float64)),
        Type("tf32", 32, "half", np.dtype(np.uint32)),
    ]
    for name in ("f16", "bf16"):
        rows.append(Type(name, 16, "half", np.dtype(np.uint16)))
        rows.append(Type(f"{name}x2", 32, "half", np.dtype(np.uint32)))
    return {type.name: type for type in rows}


TYPES = _types()
PRED, B16, B32, B64 = (TYPES[name] for name in ("pred", "b16", "b32", "b64"))
U32, S32, U64, F32 = (TYPES[name] for name in ("u32", "s32", "u64", "f32"))


def holds(register: Type, operand: Type) -> bool:
    """Whether an instruction of type `operand` may use a register of type `register`.

    As the ISA has it: the widths agree, and so do the kinds unless one of them is untyped bits;
    signed and unsigned mix.
    """
    if register.width != operand.width or (register.kind == "pred") != (operand.kind == "pred"):
        return False
    if "bits" in (register.kind, operand.kind) or (register.integer and operand.integer):
        return True
    return register.kind == operand.kind
