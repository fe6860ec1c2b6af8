"""Bits: and or xor not cnot shl shr shf lop3 bfe bfi prmt brev popc clz bfind.

Shift amounts beyond the width count as the width: `shl` and logical `shr` give 0, arithmetic
`shr` the sign in every bit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minicomp.simulator.decode import Action, Form, apply, elementwise, instruction
from minicomp.simulator.syntax import Immediate
from minicomp.simulator.types import B32, TYPES, U32, Type

Array = np.ndarray

_BITS = ("b16", "b32", "b64")
_LOGIC = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}


@instruction(*_LOGIC)
def logic(form: Form) -> Action:
    type = form.type("pred", *_BITS)
    return elementwise(form, _LOGIC[form.instruction.name], type, type, type)


@instruction("not")
def invert(form: Form) -> Action:
    type = form.type("pred", *_BITS)
    return elementwise(form, np.invert, type, type)


@instruction("cnot")
def logical_not(form: Form) -> Action:
    """1 where the operand is 0, else 0."""
    type = form.type(*_BITS)
    return elementwise(form, lambda a: (a == 0).astype(a.dtype), type, type)


def _shifted(form: Form, function: Callable[[Array, Array], Array], type: Type) -> Action:
    return elementwise(form, function, type, type, U32)


@instruction("shl")
def shift_left(form: Form) -> Action:
    type = form.type(*_BITS)
    width = type.width

    def shift(a: Array, amount: Array) -> Array:
        return np.where(amount < width, a << np.minimum(amount, width - 1).astype(a.dtype), 0)

    return _shifted(form, shift, type)


@instruction("shr")
def shift_right(form: Form) -> Action:
    type = form.type(*_BITS, "u16", "u32", "u64", "s16", "s32", "s64")
    width = type.width

    def shift(a: Array, amount: Array) -> Array:
        moved = a >> np.minimum(amount, width - 1).astype(a.dtype)
        return moved if a.dtype.kind == "i" else np.where(amount < width, moved, 0)

    return _shifted(form, shift, type)


@instruction("shf")
def funnel_shift(form: Form) -> Action:
    """The upper word of (b:a) << c, or the lower one of (b:a) >> c."""
    left = form.require("l", "r") == "l"
    wrap = form.require("wrap", "clamp") == "wrap"
    type = form.type("b32")

    def shift(a: Array, b: Array, amount: Array) -> Array:
        amount = (amount & np.uint32(31)) if wrap else np.minimum(amount, np.uint32(32))
        both = (b.astype(np.uint64) << np.uint64(32)) | a
        if left:
            return ((both << amount) >> np.uint64(32)).astype(np.uint32)
        return (both >> amount).astype(np.uint32)

    return elementwise(form, shift, type, type, type, U32)


@instruction("lop3")
def logic_of_three(form: Form) -> Action:
    """Any function of three bits: bit i of the table is its value at a, b, c = the bits of i."""
    type = form.type("b32")
    form.arity(5)
    table = form.operands[4]
    if not isinstance(table, Immediate) or not 0 <= table.value < 256:
        form.fail("the table is a number from 0 to 255")
    ones = [i for i in range(8) if int(table.value) >> i & 1]

    def compute(a: Array, b: Array, c: Array) -> Array:
        result = np.zeros_like(a)
        for i in ones:
            term = a if i & 4 else ~a
            term = term & (b if i & 2 else ~b)
            result |= term & (c if i & 1 else ~c)
        return result

    sources = [form.source(place, type) for place in (1, 2, 3)]
    return apply(compute, form.destination(0, type), *sources)


@instruction("bfe")
def extract(form: Form) -> Action:
    """`length` bits from `start` on, moved to the low end; signed types extend the sign."""
    type = form.type("u32", "u64", "s32", "s64")
    width = type.width

    def compute(a: Array, start: Array, length: Array) -> Array:
        first, size = (start & 255).astype(np.int64), (length & 255).astype(np.int64)
        unsigned = a.view(f"u{width // 8}").astype(np.uint64)
        moved = np.where(first < width, unsigned >> np.minimum(first, 63).view(np.uint64), 0)
        kept = moved & _low_ones(size)
        if a.dtype.kind == "i":
            last = np.clip(np.minimum(first + size - 1, width - 1), 0, 63)
            sign = (unsigned >> last.view(np.uint64)) & np.uint64(1)
            reach = np.minimum(size, np.maximum(width - first, 0))
            fill = np.where((sign == 1) & (size > 0), ~_low_ones(reach), np.uint64(0))
            kept = kept | fill
        return kept.astype(f"u{width // 8}").view(a.dtype)

    return elementwise(form, compute, type, type, U32, U32)


def _low_ones(count: Array) -> Array:
    """uint64 with that many low bits set."""
    some = (np.uint64(1) << np.minimum(count, 63).view(np.uint64)) - np.uint64(1)
    return np.where(count >= 64, ~np.uint64(0), some)


@instruction("bfi")
def insert(form: Form) -> Action:
    """b with its `length` bits from `start` on replaced by the low ones of a."""
    type = form.type("b32", "b64")
    width = type.width

    def compute(a: Array, b: Array, start: Array, length: Array) -> Array:
        first, size = (start & 255).astype(np.int64), (length & 255).astype(np.int64)
        shift = np.minimum(first, 63).view(np.uint64)
        mask = np.where(first < width, _low_ones(size) << shift, np.uint64(0)).astype(a.dtype)
        return (b & ~mask) | ((a.astype(np.uint64) << shift).astype(a.dtype) & mask)

    return elementwise(form, compute, type, type, type, U32, U32)


@instruction("prmt")
def permute_bytes(form: Form) -> Action:
    """Four bytes picked from the eight of (b:a) by the selector's nibbles; a nibble's top bit
    asks for copies of the picked byte's sign."""
    type = form.type("b32")

    def compute(a: Array, b: Array, selector: Array) -> Array:
        both = (b.astype(np.uint64) << np.uint64(32)) | a
        result = np.zeros(both.shape, np.uint32)
        for place in range(4):
            nibble = selector >> np.uint32(4 * place)
            byte = (both >> ((nibble & np.uint32(7)) * np.uint32(8))) & np.uint64(255)
            signs = np.where(byte >= 128, np.uint64(255), np.uint64(0))
            byte = np.where(nibble & np.uint32(8), signs, byte)
            result |= byte.astype(np.uint32) << np.uint32(8 * place)
        return result

    return elementwise(form, compute, type, type, type, B32)


@instruction("brev")
def reverse_bits(form: Form) -> Action:
    type = form.type("b32", "b64")

    def compute(a: Array) -> Array:
        bits = np.unpackbits(np.ascontiguousarray(a)[:, None].view(np.uint8), axis=1)
        return np.packbits(bits[:, ::-1], axis=1).view(a.dtype)[:, 0]

    return elementwise(form, compute, type, type)


@instruction("popc")
def count_ones(form: Form) -> Action:
    return elementwise(form, np.bitwise_count, U32, form.type("b32", "b64"))


def _highest_bit(a: Array) -> Array:
    """The place of the highest 1, or -1."""
    place = np.full(a.shape, -1, np.int64)
    rest = a.astype(np.uint64)
    for shift in (32, 16, 8, 4, 2, 1):
        large = rest >= np.uint64(1) << np.uint64(shift)
        place += np.where(large, shift, 0)
        rest = np.where(large, rest >> np.uint64(shift), rest)
    return place + (rest != 0)


@instruction("clz")
def count_leading_zeros(form: Form) -> Action:
    type = form.type("b32", "b64")
    width = type.width - 1
    return elementwise(form, lambda a: width - _highest_bit(a), U32, type)


@instruction("bfind")
def find_highest_bit(form: Form) -> Action:
    """The place of the highest bit that is not the sign; all ones where there is none."""
    amount = form.option("shiftamt")
    type = form.type("u32", "u64", "s32", "s64")

    def compute(a: Array) -> Array:
        size = np.where(a < 0, ~a, a) if a.dtype.kind == "i" else a
        place = _highest_bit(size.view(f"u{type.width // 8}"))
        return np.where(place < 0, -1, type.width - 1 - place) if amount else place

    return elementwise(form, compute, TYPES["s32"], type)
