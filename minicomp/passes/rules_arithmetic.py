"""Simplification rules for numbers: arithmetic, rounding, powers, casts, reductions over 1.

Entered in the table of `rules`, which says what a rule is and how exact it has to be.
"""

from __future__ import annotations

import math

from minicomp.ir import FLOATS, INTEGERS, Value
from minicomp.passes.build import build, casted, full_like, is_scalar, reshaped, scalar_of
from minicomp.passes.rules import rule

_COMMUTATIVE = (
    *("add", "mul", "logical_and", "logical_or", "logical_xor"),
    *("bit_and", "bit_or", "bit_xor", "eq", "ne"),
)
_ROUNDINGS = ("floor", "ceil", "trunc", "round")

#: dtype -> the dtypes that hold each of its values exactly
_WIDER = {
    "bool": (*INTEGERS, *FLOATS),
    "int32": ("int64", "float64"),
    "int64": (),
    "float16": ("float32", "float64"),
    "bfloat16": ("float32", "float64"),
    "float32": ("float64",),
    "float64": (),
}


@rule(*_COMMUTATIVE)
def constant_on_the_right(value: Value) -> Value | None:
    """c + x -> x + c, and so for each commutative op; the other rules look on the right."""
    a, b = value.operands
    return build(value, value.op, b, a) if a.op == "full" and b.op != "full" else None


@rule("add")
def add_zero(value: Value) -> Value | None:
    """x + -0.0 -> x; for integers x + 0 -> x"""
    x, y = value.operands
    return x if is_scalar(y, -0.0 if value.dtype in FLOATS else 0) else None


@rule("sub")
def subtract_zero(value: Value) -> Value | None:
    """x - 0 -> x (0.0, not -0.0)"""
    x, y = value.operands
    return x if is_scalar(y, 0.0) else None


@rule("sub")
def subtract_from_zero(value: Value) -> Value | None:
    """-0.0 - x -> neg(x); for integers 0 - x -> neg(x)"""
    x, y = value.operands
    zero = -0.0 if value.dtype in FLOATS else 0
    return build(value, "neg", y) if is_scalar(x, zero) else None


@rule("sub")
def subtract_itself(value: Value) -> Value | None:
    """x - x -> 0, for integers (inf - inf is nan)"""
    x, y = value.operands
    return full_like(value, 0) if x is y and value.dtype in INTEGERS else None


@rule("add")
def add_negative(value: Value) -> Value | None:
    """x + neg(y) -> x - y, neg(x) + y -> y - x"""
    x, y = value.operands
    if y.op == "neg":
        return build(value, "sub", x, *y.operands)
    return build(value, "sub", y, *x.operands) if x.op == "neg" else None


@rule("sub")
def subtract_negative(value: Value) -> Value | None:
    """x - neg(y) -> x + y"""
    x, y = value.operands
    return build(value, "add", x, *y.operands) if y.op == "neg" else None


@rule("mul", "div")
def by_one(value: Value) -> Value | None:
    """x * 1 -> x, x / 1 -> x"""
    x, y = value.operands
    return x if is_scalar(y, 1) else None


@rule("mul", "div")
def by_minus_one(value: Value) -> Value | None:
    """x * -1 -> neg(x), x / -1 -> neg(x)"""
    x, y = value.operands
    return build(value, "neg", x) if is_scalar(y, -1) else None


@rule("mul")
def multiply_by_zero(value: Value) -> Value | None:
    """x * 0 -> 0, for integers (nan * 0.0 is nan, and -1.0 * 0.0 is -0.0)"""
    _, y = value.operands
    return full_like(value, 0) if value.dtype in INTEGERS and is_scalar(y, 0) else None


@rule("mul", "div")
def two_negatives(value: Value) -> Value | None:
    """neg(x) * neg(y) -> x * y, neg(x) / neg(y) -> x / y"""
    x, y = value.operands
    if x.op != "neg" or y.op != "neg":
        return None
    return build(value, value.op, *x.operands, *y.operands)


@rule("div")
def divide_by_power_of_two(value: Value) -> Value | None:
    """x / 2**k -> x * 2**-k, where 2**-k is exact: both round the same real number once"""
    x, y = value.operands
    divisor = scalar_of(y)
    if divisor is None or not math.isfinite(divisor) or abs(math.frexp(divisor)[0]) != 0.5:
        return None
    reciprocal = full_like(y, 1 / divisor)
    # Of a subnormal it is inf, and of a great float16 too small to be exact.
    exact = scalar_of(reciprocal) * divisor == 1
    return build(value, "mul", x, reciprocal) if exact else None


@rule("floor_divide")
def floor_divide_by_one(value: Value) -> Value | None:
    """x // 1 -> x, for integers (inf // 1.0 is nan)"""
    x, y = value.operands
    return x if value.dtype in INTEGERS and is_scalar(y, 1) else None


@rule("mod")
def modulo_one(value: Value) -> Value | None:
    """x % 1 -> 0, for integers"""
    _, y = value.operands
    return full_like(value, 0) if value.dtype in INTEGERS and is_scalar(y, 1) else None


@rule("pow")
def simple_powers(value: Value) -> Value | None:
    """pow(x, 0) -> 1, pow(x, 1) -> x, pow(x, 2) -> x * x, pow(x, -1) -> 1 / x

    The last two are exact against NumPy where the exponent is one number; on a whole array of
    exponents NumPy's `pow` errs by some ulps, and the product and the quotient do not. A power
    of 0.5 stays: pow(-inf, 0.5) is inf and pow(-0.0, 0.5) is 0.0, unlike the square roots.
    """
    x, y = value.operands
    match scalar_of(y):
        case 0:
            return full_like(value, 1)
        case 1:
            return x
        case 2:
            return build(value, "mul", x, x)
        case -1:
            return build(value, "div", full_like(value, 1), x)
    return None


@rule("neg", "logical_not")
def twice_undone(value: Value) -> Value | None:
    """neg(neg(x)) -> x, logical_not(logical_not(x)) -> x"""
    (inner,) = value.operands
    return inner.operands[0] if inner.op == value.op else None


@rule("abs")
def absolute_of_negative(value: Value) -> Value | None:
    """abs(neg(x)) -> abs(x)"""
    (inner,) = value.operands
    return build(value, "abs", *inner.operands) if inner.op == "neg" else None


@rule("abs", "sign", *_ROUNDINGS)
def applied_twice(value: Value) -> Value | None:
    """abs(abs(x)) -> abs(x), sign(sign(x)) -> sign(x), floor(ceil(x)) -> ceil(x)"""
    (inner,) = value.operands
    if value.op in _ROUNDINGS and (inner.op in _ROUNDINGS or _is_integral_cast(inner)):
        return inner
    return inner if inner.op == value.op else None


def _is_integral_cast(value: Value) -> bool:
    return value.op == "cast" and value.operands[0].dtype not in FLOATS


@rule("minimum", "maximum")
def extreme_of_itself(value: Value) -> Value | None:
    """minimum(x, x) -> x, maximum(x, x) -> x"""
    x, y = value.operands
    return x if x is y else None


@rule("minimum", "maximum")
def extreme_of_infinity(value: Value) -> Value | None:
    """minimum(x, inf) -> x, maximum(x, -inf) -> x: NaN goes through either way"""
    limit = math.inf if value.op == "minimum" else -math.inf
    for x, y in (value.operands, value.operands[::-1]):
        if is_scalar(y, limit):
            return x
    return None


@rule("cast")
def cast_to_its_own_dtype(value: Value) -> Value | None:
    """cast(x, dtype of x) -> x"""
    (x,) = value.operands
    return x if x.dtype == value.dtype else None


@rule("cast")
def cast_through_wider(value: Value) -> Value | None:
    """cast(cast(x, wider), dtype) -> cast(x, dtype), where the wider dtype holds x exactly"""
    (inner,) = value.operands
    if inner.op != "cast":
        return None
    (x,) = inner.operands
    # From integers to 2-byte floats NumPy rounds twice, by way of float32, so the way matters.
    rounds_twice = value.dtype in ("float16", "bfloat16") and x.dtype not in FLOATS
    if rounds_twice or inner.dtype not in (*_WIDER[x.dtype], x.dtype):
        return None
    return casted(value, x, value.dtype)


@rule("sum", "prod", "max", "min", "any", "all")
def reduce_over_size_one(value: Value) -> Value | None:
    """sum over axes of size 1 -> reshape, with its dtype

    A sum of floats starts from 0.0, so that a sum of -0.0 alone is 0.0: the zero is added.
    """
    (x,) = value.operands
    if any(x.shape[axis] != 1 for axis in value.attributes["axes"]):
        return None
    only = casted(value, reshaped(value, x, value.shape), value.dtype)
    if value.op == "sum" and value.dtype in FLOATS:
        return build(value, "add", only, full_like(value, 0))
    return only


@rule("argmax", "argmin")
def position_in_size_one(value: Value) -> Value | None:
    """argmax over axes of size 1 -> 0"""
    (x,) = value.operands
    sizes = [x.shape[axis] for axis in value.attributes["axes"]]
    return full_like(value, 0) if all(size == 1 for size in sizes) else None


@rule("cumsum")
def cumsum_over_size_one(value: Value) -> Value | None:
    """cumsum over an axis of size 1 -> x, with its dtype"""
    (x,) = value.operands
    return casted(value, x, value.dtype) if x.shape[value.attributes["axis"]] == 1 else None
