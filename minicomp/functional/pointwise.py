"""Functions that work element by element: arithmetic, comparisons, logic, mathematics.

In: tensors, arrays and numbers, broadcast and promoted as NumPy does. Out: one tensor.

>>> add(np.ones((2, 3), np.float32), np.arange(3.0))
array([[1., 2., 3.],
       [1., 2., 3.]])

Where NumPy gives int8 or float16 for bool operands there is no such dtype to give: bool counts as
int64 in mathematics (`exp`), and is refused where NumPy would make int8 (`floor_divide`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from minicomp.errors import UnsupportedError
from minicomp.functional.operands import (
    broadcast,
    cast,
    common_dtype,
    common_shape,
    dtype_of,
    fits,
    floating,
    fresh,
    full,
    in_float32,
    is_weak,
    operand,
    promote,
    tensor,
    tensor_function,
)
from minicomp.ir import FLOATS
from minicomp.ir import dtype_name as ir_dtype
from minicomp.tracing.record import apply

#: what arithmetic means for bool operands, as in NumPy
_ON_BOOL = {
    "add": "logical_or",
    "mul": "logical_and",
    "maximum": "logical_or",
    "minimum": "logical_and",
    "bit_and": "logical_and",
    "bit_or": "logical_or",
    "bit_xor": "logical_xor",
}


def _named(function: Callable[..., Any], name: str, summary: str) -> Callable[..., Any]:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = summary
    return tensor_function(function)


def _arithmetic(name: str, op: str, summary: str) -> Callable[..., Any]:
    """A function of two operands, promoted; bool operands have their own op."""

    def function(x: Any, y: Any) -> Any:
        x, y = promote(x, y)
        return apply(_ON_BOOL.get(op, op) if dtype_of(x) == "bool" else op, x, y)

    return _named(function, name, summary)


def _comparison(name: str, op: str, summary: str) -> Callable[..., Any]:
    """A function of two operands that gives bool."""

    def function(x: Any, y: Any) -> Any:
        return apply(op, *promote(x, y, dtype=_compared_dtype(x, y)))

    return _named(function, name, summary)


def _compared_dtype(x: Any, y: Any) -> str:
    """As promotion has it, but a Python int too large for int32 is compared in int64."""
    operands = [operand(x), operand(y)]
    dtype = common_dtype(operands)
    numbers = [n for n in operands if is_weak(n)]
    return "int64" if dtype == "int32" and not all(fits(n, dtype) for n in numbers) else dtype


def _logical(name: str, op: str, summary: str) -> Callable[..., Any]:
    """A function of two truth values; a number is true where it is not 0."""

    def function(x: Any, y: Any) -> Any:
        return apply(op, *promote(truth(x), truth(y)))

    return _named(function, name, summary)


def _mathematical(name: str, op: str, summary: str) -> Callable[..., Any]:
    """A function of one float; integers and bool become float64."""

    def function(x: Any) -> Any:
        return apply(op, floating(x))

    return _named(function, name, summary)


def _rounding(name: str, op: str, summary: str) -> Callable[..., Any]:
    """A function of one operand that leaves integers and bool as they are."""

    def function(x: Any) -> Any:
        x = tensor(x)
        return apply(op, x) if dtype_of(x) in FLOATS else fresh(x)

    return _named(function, name, summary)


def truth(x: Any) -> Any:
    """x as a tensor of bool: whether each element is not 0."""
    x = tensor(x)
    return x if dtype_of(x) == "bool" else apply("ne", *promote(x, 0))


# --- arithmetic ---

add = _arithmetic("add", "add", "x + y; for bool, or.")
subtract = _arithmetic("subtract", "sub", "x - y; not for bool.")
multiply = _arithmetic("multiply", "mul", "x * y; for bool, and.")
floor_divide = _arithmetic(
    "floor_divide", "floor_divide", "The greatest integer not above x / y; integers stay integers."
)
remainder = _arithmetic(
    "remainder", "mod", "x - floor(x / y) * y: the remainder with the sign of y, as Python's %."
)
minimum = _arithmetic("minimum", "minimum", "The lesser of x and y; NaN if either is NaN.")
maximum = _arithmetic("maximum", "maximum", "The greater of x and y; NaN if either is NaN.")


@tensor_function
def divide(x: Any, y: Any) -> Any:
    """x / y; integers are divided in float64."""
    operands = [operand(x), operand(y)]
    dtype = common_dtype(operands)
    return apply("div", *promote(*operands, dtype=dtype if dtype in FLOATS else "float64"))


@tensor_function
def power(x: Any, y: Any) -> Any:
    """x to the power y.

    An integer tensor takes a Python int of 0 or more as its exponent (anything else is an
    UnsupportedError: the result of NumPy's would depend on the sign of the data). Floats to the
    powers 2, 0.5 and -1 are a product, a square root and a quotient, as in NumPy.
    """
    x, y = operand(x), operand(y)
    dtype = common_dtype([x, y])
    if dtype in FLOATS:
        return _float_power(x, y, dtype)
    if is_weak(y) and y >= 0:
        return _power_by_squaring(tensor(x), int(y), dtype)
    raise UnsupportedError(
        "an integer to a power needs a Python int of 0 or more as the exponent; "
        "make the base a float, say x.astype(np.float64) ** y"
    )


def _float_power(x: Any, y: Any, dtype: str) -> Any:
    if is_weak(y) and y in (2, 0.5, -1):
        x = cast(tensor(x), dtype)
        if y == 2:
            return apply("mul", x, x)
        return apply("sqrt", x) if y == 0.5 else divide(1, x)
    return apply("pow", *promote(x, y, dtype=dtype))


def _power_by_squaring(x: Any, exponent: int, dtype: str) -> Any:
    """Right-to-left binary exponentiation: at most 2 log2(exponent) products."""
    square, result = cast(x, dtype), None
    while exponent:
        if exponent & 1:
            result = square if result is None else multiply(result, square)
        exponent >>= 1
        if exponent:
            square = multiply(square, square)
    return broadcast(full(1, (), dtype, None), x.shape) if result is None else result


@tensor_function
def negative(x: Any) -> Any:
    """-x; not for bool."""
    return apply("neg", tensor(x))


@tensor_function
def positive(x: Any) -> Any:
    """+x: x itself."""
    return fresh(tensor(x))


@tensor_function
def abs(x: Any) -> Any:
    """The absolute value; bool stays as it is."""
    x = tensor(x)
    return fresh(x) if dtype_of(x) == "bool" else apply("abs", x)


@tensor_function
def sign(x: Any) -> Any:
    """-1, 0 or 1; NaN of NaN."""
    return apply("sign", tensor(x))


@tensor_function
def square(x: Any) -> Any:
    """x * x."""
    x = tensor(x)
    return multiply(x, x)


@tensor_function
def reciprocal(x: Any) -> Any:
    """1 / x; of integers in float64."""
    return divide(1, floating(x))


@tensor_function
def clip(x: Any, min: Any = None, max: Any = None) -> Any:
    """x with what is below `min` raised to it and what is above `max` lowered to it."""
    if min is not None:
        x = maximum(x, min)
    if max is not None:
        x = minimum(x, max)
    return positive(x) if min is None and max is None else x


# --- comparisons, logic, bits ---

less = _comparison("less", "lt", "x < y.")
less_equal = _comparison("less_equal", "le", "x <= y.")
greater = _comparison("greater", "gt", "x > y.")
greater_equal = _comparison("greater_equal", "ge", "x >= y.")
equal = _comparison("equal", "eq", "x == y, element by element.")
not_equal = _comparison("not_equal", "ne", "x != y, element by element.")
logical_and = _logical("logical_and", "logical_and", "Whether both are true (not 0).")
logical_or = _logical("logical_or", "logical_or", "Whether either is true (not 0).")
logical_xor = _logical("logical_xor", "logical_xor", "Whether exactly one is true (not 0).")
bitwise_and = _arithmetic("bitwise_and", "bit_and", "x & y of integers or bool.")
bitwise_or = _arithmetic("bitwise_or", "bit_or", "x | y of integers or bool.")
bitwise_xor = _arithmetic("bitwise_xor", "bit_xor", "x ^ y of integers or bool.")


@tensor_function
def logical_not(x: Any) -> Any:
    """Whether x is false (0)."""
    return apply("logical_not", truth(x))


@tensor_function
def bitwise_not(x: Any) -> Any:
    """~x of integers or bool."""
    x = tensor(x)
    if dtype_of(x) == "bool":
        return apply("logical_not", x)
    return apply("bit_xor", *promote(x, -1))


@tensor_function
def isnan(x: Any) -> Any:
    """Whether x is NaN: the one thing that does not equal itself."""
    x = tensor(x)
    return apply("ne", x, x)


@tensor_function
def isinf(x: Any) -> Any:
    """Whether x is infinite, of either sign."""
    x = tensor(x)
    if dtype_of(x) not in FLOATS:
        return apply("ne", x, x)
    return apply("eq", *promote(apply("abs", x), math.inf))


@tensor_function
def isfinite(x: Any) -> Any:
    """Whether x is neither infinite nor NaN."""
    x = tensor(x)
    if dtype_of(x) not in FLOATS:
        return apply("eq", x, x)
    return apply("lt", *promote(apply("abs", x), math.inf))


@tensor_function
def where(condition: Any, x: Any = None, y: Any = None) -> Any:
    """x where the condition holds (is not 0), else y; all three are broadcast together.

    This is how a traced function chooses by data. Without x and y, NumPy's `where` gives indices,
    whose number depends on the data: UnsupportedError.
    """
    if x is None or y is None:
        raise UnsupportedError(
            "without x and y the result's shape depends on the data; use where(condition, x, y)"
        )
    condition, x, y = truth(condition), operand(x), operand(y)
    shape, dtype = common_shape([condition, x, y]), common_dtype([x, y])
    x, y = promote(x, y, dtype=dtype, shape=shape)
    return apply("where", broadcast(condition, shape), x, y)


@tensor_function
def astype(x: Any, dtype: Any) -> Any:
    """x with another dtype. Floats are cut towards 0 to integers; bool tells what is not 0."""
    x = tensor(x)
    return fresh(x) if dtype_of(x) == ir_dtype(dtype) else cast(x, ir_dtype(dtype))


# --- mathematics ---

exp = _mathematical("exp", "exp", "e to the power x.")
expm1 = _mathematical("expm1", "expm1", "exp(x) - 1, exact near 0.")
log = _mathematical("log", "log", "The natural logarithm.")
log1p = _mathematical("log1p", "log1p", "log(1 + x), exact near 0.")
sqrt = _mathematical("sqrt", "sqrt", "The square root; NaN below 0.")
rsqrt = _mathematical("rsqrt", "rsqrt", "1 / sqrt(x).")
sin = _mathematical("sin", "sin", "The sine of x radians.")
cos = _mathematical("cos", "cos", "The cosine of x radians.")
tanh = _mathematical("tanh", "tanh", "The hyperbolic tangent.")
erf = _mathematical("erf", "erf", "The error function, 2/sqrt(pi) * integral of exp(-t*t) to x.")
sigmoid = _mathematical("sigmoid", "sigmoid", "1 / (1 + exp(-x)).")
floor = _rounding("floor", "floor", "The greatest integer not above x.")
ceil = _rounding("ceil", "ceil", "The least integer not below x.")
trunc = _rounding("trunc", "trunc", "x without its fraction.")


@tensor_function
def exp2(x: Any) -> Any:
    """2 to the power x."""
    return power(2.0, floating(x))


@tensor_function
@in_float32
def log2(x: Any) -> Any:
    """The logarithm to base 2."""
    return divide(log(x), math.log(2.0))


@tensor_function
@in_float32
def log10(x: Any) -> Any:
    """The logarithm to base 10."""
    return divide(log(x), math.log(10.0))


@tensor_function
@in_float32
def tan(x: Any) -> Any:
    """The tangent of x radians."""
    return divide(sin(x), cos(x))


@tensor_function
def round(x: Any, decimals: int = 0) -> Any:
    """x to the nearest integer, or to `decimals` decimal places; halves go to the even side."""
    x = tensor(x)
    if dtype_of(x) not in FLOATS:
        if decimals < 0:
            raise UnsupportedError("integers are rounded to no tens; make them floats first")
        return fresh(x)
    if decimals == 0:
        return apply("round", x)
    # The scale is a whole number either way, as in NumPy, since 10 ** -decimals is not exact.
    scale = float(10 ** (decimals if decimals > 0 else -decimals))
    if decimals > 0:
        return divide(apply("round", multiply(x, scale)), scale)
    return multiply(apply("round", divide(x, scale)), scale)


true_divide = divide
mod = remainder
pow = power
absolute = abs
clamp = clip
invert = bitwise_not
