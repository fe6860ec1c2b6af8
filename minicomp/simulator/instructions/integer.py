"""Integer arithmetic: add sub mul mad div rem neg abs min max, on 16, 32 and 64 bits.

Everything wraps. `arithmetic` is for `floating`, too: it picks what an instruction means by type.

Division by zero, which the ISA leaves open, gives all ones, and the remainder is the dividend.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minicomp.simulator.decode import Action, Form, apply, elementwise, instruction
from minicomp.simulator.instructions.approximate import approximate_division
from minicomp.simulator.instructions.floating import float_arithmetic
from minicomp.simulator.types import TYPES, Type

Array = np.ndarray

_INTEGERS = ("u16", "u32", "u64", "s16", "s32", "s64")
_PLAIN = {"add": np.add, "sub": np.subtract, "neg": np.negative, "abs": np.abs}


def _is_integer(form: Form) -> bool:
    return any(name in _INTEGERS for name in form.modifiers)


@instruction("add", "sub")
def add(form: Form) -> Action:
    if not _is_integer(form):
        return float_arithmetic(form)
    saturate = form.option("sat")
    type = form.type(*_INTEGERS)
    function = _PLAIN[form.instruction.name]
    if not saturate:
        return elementwise(form, function, type, type, type)
    if type.name != "s32":
        form.fail(".sat is for .s32")
    limits = np.iinfo(np.int32)

    def saturated(a: Array, b: Array) -> Array:
        exact = function(a.astype(np.int64), b.astype(np.int64))
        return np.clip(exact, limits.min, limits.max).astype(np.int32)

    return elementwise(form, saturated, type, type, type)


@instruction("neg", "abs")
def negate(form: Form) -> Action:
    if not _is_integer(form):
        return float_arithmetic(form)
    type = form.type("s16", "s32", "s64")
    return elementwise(form, _PLAIN[form.instruction.name], type, type)


@instruction("min", "max")
def extreme(form: Form) -> Action:
    if not _is_integer(form):
        return float_arithmetic(form)
    type = form.type(*_INTEGERS)
    function = np.minimum if form.instruction.name == "min" else np.maximum
    return elementwise(form, function, type, type, type)


def _wide(type: Type) -> Type:
    return TYPES[f"{type.name[0]}{2 * type.width}"]


def _product(form: Form, part: str, type: Type) -> Callable[[Array, Array], Array]:
    """The low half, the high half, or all of a product."""
    if part == "lo":
        return np.multiply
    if part == "hi" and type.width == 64:
        return _high_signed if type.kind == "signed" else _high_unsigned
    if type.width == 64:
        form.fail("there is no type twice as wide as 64 bits")
    wide, shift = _wide(type).dtype, type.width

    def exact(a: Array, b: Array) -> Array:
        product = a.astype(wide) * b.astype(wide)
        return product if part == "wide" else (product >> wide.type(shift)).astype(type.dtype)

    return exact


def _high_unsigned(a: Array, b: Array) -> Array:
    """The upper 64 bits of a product of 64-bit numbers, from products of their halves."""
    half, low = np.uint64(32), np.uint64(0xFFFFFFFF)
    a1, a0, b1, b0 = a >> half, a & low, b >> half, b & low
    middle = a1 * b0 + (a0 * b0 >> half)
    other = a0 * b1 + (middle & low)
    return a1 * b1 + (middle >> half) + (other >> half)


def _high_signed(a: Array, b: Array) -> Array:
    high = _high_unsigned(a.view(np.uint64), b.view(np.uint64)).view(np.int64)
    return high - np.where(a < 0, b, 0) - np.where(b < 0, a, 0)


@instruction("mul")
def multiply(form: Form) -> Action:
    if not _is_integer(form):
        return float_arithmetic(form)
    part, type = form.require("lo", "hi", "wide"), form.type(*_INTEGERS)
    result = _wide(type) if part == "wide" and type.width < 64 else type
    return elementwise(form, _product(form, part, type), result, type, type)


@instruction("mad")
def multiply_add(form: Form) -> Action:
    if not _is_integer(form):
        return float_arithmetic(form)
    part, type = form.require("lo", "hi", "wide"), form.type(*_INTEGERS)
    if form.option("sat"):
        form.fail(".sat is not supported here")
    result = _wide(type) if part == "wide" and type.width < 64 else type
    product = _product(form, part, type)
    return elementwise(form, lambda a, b, c: product(a, b) + c, result, type, type, result)


def _quotient(a: Array, b: Array) -> Array:
    """a / b, rounded to zero."""
    divisor = np.where(b == 0, b.dtype.type(1), b)
    quotient = np.floor_divide(a, divisor)
    if a.dtype.kind == "i":
        inexact = quotient * divisor != a
        quotient = quotient + (inexact & ((a < 0) != (divisor < 0))).astype(a.dtype)
    return np.where(b == 0, ~np.zeros_like(quotient), quotient)


def _remainder(a: Array, b: Array) -> Array:
    return np.where(b == 0, a, a - _quotient(a, b) * b)


@instruction("div")
def divide(form: Form) -> Action:
    if "approx" in form.modifiers:
        return approximate_division(form)
    if not _is_integer(form):
        return float_arithmetic(form)
    type = form.type(*_INTEGERS)
    return elementwise(form, _quotient, type, type, type)


@instruction("rem")
def remainder(form: Form) -> Action:
    type = form.type(*_INTEGERS)
    return elementwise(form, _remainder, type, type, type)


@instruction("sad")
def sum_of_difference(form: Form) -> Action:
    """|a - b| + c"""
    type = form.type(*_INTEGERS)
    form.arity(4)
    sources = [form.source(place, type) for place in (1, 2, 3)]

    def compute(a: Array, b: Array, c: Array) -> Array:
        return c + np.where(a < b, b - a, a - b)

    return apply(compute, form.destination(0, type), *sources)
