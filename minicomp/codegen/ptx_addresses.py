"""Addresses from indices whose strides are known: the shortest instruction that cannot overflow.

>>> address(builder, x, [(row, 4000), (column, 4)], 16)    # x + 4000*row + 4*column + 16, in bytes
"""

from __future__ import annotations

from collections.abc import Iterable

from minicomp.codegen.ptx_builder import PTXBuilder
from minicomp.codegen.ptx_types import Register

#: What an instruction's immediate holds, as an offset or a factor.
LEAST, GREATEST = -(1 << 31), (1 << 31) - 1


def is_immediate(value: int) -> bool:
    return LEAST <= value <= GREATEST


def address(
    builder: PTXBuilder,
    base: Register,
    terms: Iterable[tuple[Register, int]],
    constant: int = 0,
) -> Register:
    """base (u64) + the sum of s32 registers times strides in bytes + constant."""
    total = base
    for register, stride in terms:
        if stride == 0:
            continue
        if is_immediate(stride):
            total = builder.mad_wide(register.as_type("s32"), stride, total).as_type("u64")
        else:
            wide = builder.cvt(register.as_type("s32"), "s64")
            total = builder.mad(wide, stride, total.as_type("s64")).as_type("u64")
    return builder.add(total, constant) if constant else total


def split(builder: PTXBuilder, number: Register, extents: tuple[int, ...]) -> list[Register]:
    """`number` as positions along axes of these extents, the last varying fastest."""
    positions = []
    for extent in reversed(extents[1:]):
        positions.append(builder.rem(number, extent))
        number = builder.div(number, extent)
    return [number, *reversed(positions)] if extents else []
