"""Simplification rules for choices: bools, bits, comparisons and `where`.

Entered in the table of `rules`, which says what a rule is and how exact it has to be.
"""

from __future__ import annotations

from minicomp.ir import FLOATS, Value
from minicomp.passes.build import build, full_like, is_scalar, scalar_of
from minicomp.passes.rules import rule

#: comparison -> what holds exactly where it does not; the first four not with NaN
_OPPOSITE = {"lt": "ge", "ge": "lt", "le": "gt", "gt": "le", "eq": "ne", "ne": "eq"}
#: comparison -> the same with its operands exchanged
_MIRRORED = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le"}


@rule(*_MIRRORED)
def compared_constant_on_the_right(value: Value) -> Value | None:
    """c < x -> x > c, and so for >, <= and >="""
    a, b = value.operands
    if a.op != "full" or b.op == "full":
        return None
    return build(value, _MIRRORED[value.op], b, a)


@rule("logical_and", "logical_or", "bit_and", "bit_or")
def combined_with_itself(value: Value) -> Value | None:
    """x & x -> x, x | x -> x"""
    x, y = value.operands
    return x if x is y else None


@rule("logical_xor", "bit_xor")
def exclusive_with_itself(value: Value) -> Value | None:
    """x ^ x -> 0"""
    x, y = value.operands
    return full_like(value, 0) if x is y else None


@rule("logical_and", "logical_or", "logical_xor")
def combined_with_a_bool(value: Value) -> Value | None:
    """x & true -> x, x & false -> false, x | false -> x, x | true -> true, x ^ false -> x,
    x ^ true -> logical_not(x)"""
    x, y = value.operands
    known = scalar_of(y)
    if known is None:
        return None
    if value.op == "logical_xor":
        return build(value, "logical_not", x) if known else x
    return x if known == (value.op == "logical_and") else y


@rule("bit_and", "bit_or", "bit_xor")
def combined_with_bits(value: Value) -> Value | None:
    """x & -1 -> x, x & 0 -> 0, x | 0 -> x, x | -1 -> -1, x ^ 0 -> x"""
    x, y = value.operands
    neutral, absorbing = (-1, 0) if value.op == "bit_and" else (0, -1)
    if is_scalar(y, neutral):
        return x
    return y if is_scalar(y, absorbing) and value.op != "bit_xor" else None


@rule("logical_not")
def negated_comparison(value: Value) -> Value | None:
    """logical_not(x == y) -> x != y, and so for the others where no NaN can be"""
    (inner,) = value.operands
    if inner.op not in _OPPOSITE:
        return None
    ordered = inner.op in _MIRRORED
    if ordered and inner.operands[0].dtype in FLOATS:
        return None
    return build(value, _OPPOSITE[inner.op], *inner.operands)


@rule(*_OPPOSITE)
def compared_with_itself(value: Value) -> Value | None:
    """x < x -> false, x > x -> false; without NaN x == x -> true and so on"""
    x, y = value.operands
    if x is not y:
        return None
    if value.op in ("lt", "gt"):
        return full_like(value, False)
    return None if x.dtype in FLOATS else full_like(value, value.op != "ne")


@rule("where")
def choice_between_equals(value: Value) -> Value | None:
    """where(c, x, x) -> x"""
    _, x, y = value.operands
    return x if x is y else None


@rule("where")
def choice_made(value: Value) -> Value | None:
    """where(true, x, y) -> x, where(false, x, y) -> y"""
    condition, x, y = value.operands
    known = scalar_of(condition)
    return None if known is None else x if known else y


@rule("where")
def choice_by_negation(value: Value) -> Value | None:
    """where(logical_not(c), x, y) -> where(c, y, x)"""
    condition, x, y = value.operands
    if condition.op != "logical_not":
        return None
    return build(value, "where", *condition.operands, y, x)


@rule("where")
def choice_of_bools(value: Value) -> Value | None:
    """where(c, true, false) -> c, where(c, false, true) -> logical_not(c)"""
    condition, x, y = value.operands
    if value.dtype != "bool" or None in (scalar_of(x), scalar_of(y)):
        return None
    if scalar_of(x) == scalar_of(y):
        return x
    return condition if scalar_of(x) else build(value, "logical_not", condition)


@rule("where")
def choice_repeated(value: Value) -> Value | None:
    """where(c, where(c, x, y), z) -> where(c, x, z), where(c, x, where(c, y, z)) ->
    where(c, x, z)"""
    condition, x, y = value.operands
    if x.op == "where" and x.operands[0] is condition:
        return build(value, "where", condition, x.operands[1], y)
    if y.op == "where" and y.operands[0] is condition:
        return build(value, "where", condition, x, y.operands[2])
    return None
