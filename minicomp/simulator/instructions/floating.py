"""Float arithmetic: add sub mul fma mad div sqrt rcp neg abs min max, on f32, f64, f16 and bf16.

Each result is that of exact arithmetic, rounded once to nearest even. A float32, float16 or
bfloat16 result that is not a number is the canonical NaN; float64 keeps payloads. `.ftz` turns
subnormal operands and results into zeros of their sign, `.sat` clamps to [0, 1].

float16 and bfloat16 are computed in float64, which is wide enough that the second rounding
changes nothing; for fma the first one is to odd (see `exact_fma`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minicomp.codegen.exact_fma import add_to_odd, fma
from minicomp.simulator.decode import Action, Form, elementwise, instruction
from minicomp.simulator.formats import CANONICAL_NAN, decode, encode
from minicomp.simulator.types import TYPES

Array = np.ndarray
Function = Callable[..., Array]

_FLOATS = ("f32", "f64", "f16", "f16x2", "bf16", "bf16x2")
_SMALLEST_NORMAL = np.float32(2.0**-126)


def flush(x: Array) -> Array:
    """Subnormal float32 values as zeros of their sign."""
    return np.where(np.abs(x) < _SMALLEST_NORMAL, np.copysign(np.float32(0), x), x)


def canonical(x: Array) -> Array:
    """float32 values with the ISA's NaN."""
    nan = np.isnan(x)
    return np.where(nan, CANONICAL_NAN, x) if nan.any() else x


def saturate(x: Array) -> Array:
    """Clamped to [0, 1]; NaN becomes 0."""
    return np.fmin(np.fmax(x, x.dtype.type(0)), x.dtype.type(1)) + x.dtype.type(0)


def finished(function: Function, *, ftz: bool = False, sat: bool = False) -> Function:
    """A float32 function with the modifiers' work before and after it."""

    def compute(*operands: Array) -> Array:
        if ftz:
            operands = tuple(flush(x) for x in operands)
        result = canonical(function(*operands))
        if ftz:
            result = flush(result)
        return saturate(result) if sat else result

    return compute


def minimum(a: Array, b: Array) -> Array:
    """The lesser, -0 below +0; where one is NaN, the other."""
    least = np.fmin(a, b)
    zeros = (a == 0) & (b == 0)
    if zeros.any():
        least = np.where(zeros, np.where(np.signbit(a), a, b), least)
    return least


def maximum(a: Array, b: Array) -> Array:
    """The greater, +0 above -0; where one is NaN, the other."""
    return -minimum(-a, -b)


def _nan_if_any(function: Function) -> Function:
    return lambda a, b: np.where(np.isnan(a) | np.isnan(b), np.nan, function(a, b)).astype(a.dtype)


def _fma_to_odd(a: Array, b: Array, c: Array) -> Array:
    return add_to_odd(a * b, c)  # the product of 11-bit significands is exact


_FUNCTIONS: dict[str, Function] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "min": minimum,
    "max": maximum,
    "neg": np.negative,
    "abs": np.abs,
    "sqrt": np.sqrt,
    "rcp": lambda a: a.dtype.type(1) / a,
    "fma": fma,
    "mad": fma,
}
_ARITY = {"neg": 1, "abs": 1, "sqrt": 1, "rcp": 1, "fma": 3, "mad": 3}


def float_arithmetic(form: Form) -> Action:
    """The action of an instruction whose operands all have one float type."""
    name = form.instruction.name
    form.skip("rn")
    if name == "div":
        form.skip("full")
    ftz, sat = bool(form.option("ftz")), bool(form.option("sat"))
    nan = name in ("min", "max") and bool(form.option("NaN"))
    type = form.type(*_FLOATS)
    function, arity = _FUNCTIONS[name], _ARITY.get(name, 2)
    if nan:
        function = _nan_if_any(function)
    if type.kind == "half":
        function = _half(name, function, type.name)
    elif type.name == "f32":
        signs = name in ("neg", "abs")
        function = function if signs and not ftz else finished(function, ftz=ftz, sat=sat)
    elif ftz or sat:
        form.fail(f".ftz and .sat are not for {type}")
    return elementwise(form, function, type, *[type] * arity)


def _half(name: str, function: Function, type: str) -> Function:
    """A function on the bits of float16 or bfloat16, or of pairs of them."""
    element = type.removesuffix("x2")
    if name in ("fma", "mad"):
        function = _fma_to_odd
    sign = np.uint16(0x8000)
    signs = {"neg": lambda bits: bits ^ sign, "abs": lambda bits: bits & ~sign}

    def compute(*operands: Array) -> Array:
        halves = [np.ascontiguousarray(x).view(np.uint16) for x in operands]
        if name in signs:
            return signs[name](halves[0]).view(operands[0].dtype)
        result = encode(function(*[decode(half, element) for half in halves]), element)
        return result.view(operands[0].dtype)

    return compute


@instruction("fma")
def fused_multiply_add(form: Form) -> Action:
    return float_arithmetic(form)


@instruction("copysign")
def copysign(form: Form) -> Action:
    """The sign of the first operand and the size of the second."""
    type = form.type("f32", "f64")
    return elementwise(form, lambda a, b: np.copysign(b, a), type, type, type)


_TESTS: dict[str, Callable[[Array], Array]] = {
    "finite": np.isfinite,
    "infinite": np.isinf,
    "number": lambda x: ~np.isnan(x),
    "notanumber": np.isnan,
    # zero counts as normal
    "normal": lambda x: np.isfinite(x) & ((np.abs(x) >= np.finfo(x.dtype).tiny) | (x == 0)),
    "subnormal": lambda x: (x != 0) & (np.abs(x) < np.finfo(x.dtype).tiny),
}


@instruction("testp")
def test_property(form: Form) -> Action:
    test = _TESTS[form.require(*_TESTS)]
    type = form.type("f32", "f64")
    return elementwise(form, test, TYPES["pred"], type)
