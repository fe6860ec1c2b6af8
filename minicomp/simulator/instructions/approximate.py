"""The approximations: rcp rsqrt sqrt ex2 lg2 sin cos tanh and div's .approx, and their exact kin.

They are computed in float64 and rounded, so they are more exact than the hardware's: what passes
here within a bound that allows for the hardware's error may be further off there, not nearer.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minicomp.simulator.decode import Action, Form, elementwise, instruction
from minicomp.simulator.formats import decode, encode
from minicomp.simulator.instructions.floating import finished, float_arithmetic
from minicomp.simulator.types import F32

Array = np.ndarray
Function = Callable[[Array], Array]

_FUNCTIONS: dict[str, Function] = {
    "rcp": lambda x: 1.0 / x,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1.0 / np.sqrt(x),
    "ex2": np.exp2,
    "lg2": np.log2,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
}
_HALVES = ("f16", "bf16", "f16x2", "bf16x2")
_ALLOWED = {"ex2": ("f32", *_HALVES), "tanh": ("f32", *_HALVES), "rsqrt": ("f32", "f64")}


@instruction(*_FUNCTIONS)
def approximation(form: Form) -> Action:
    name = form.instruction.name
    if name in ("rcp", "sqrt") and "approx" not in form.modifiers:
        form.require("rn")
        return float_arithmetic(form)
    form.require("approx")
    ftz = bool(form.option("ftz"))
    type = form.type(*_ALLOWED.get(name, ("f32",)))
    function = _FUNCTIONS[name]
    if type.kind == "half":
        return elementwise(form, _half(function, type.name), type, type)
    if type.name == "f64":
        return elementwise(form, function, type, type)
    return elementwise(form, finished(_rounded(function), ftz=ftz), type, type)


def _rounded(function: Function) -> Function:
    return lambda x: function(x.astype(np.float64)).astype(np.float32)


def _half(function: Function, type: str) -> Function:
    element = type.removesuffix("x2")

    def compute(bits: Array) -> Array:
        halves = np.ascontiguousarray(bits).view(np.uint16)
        return encode(function(decode(halves, element)), element).view(bits.dtype)

    return compute


def approximate_division(form: Form) -> Action:
    """div.approx.f32: a * (1 / b), whose reciprocal is 0 for the largest b."""
    form.require("approx")
    ftz = bool(form.option("ftz"))
    type = form.type("f32")

    def divide(a: Array, b: Array) -> Array:
        large = (np.abs(b) > np.float32(2.0**126)) & np.isfinite(b)
        reciprocal = np.where(large, np.copysign(0.0, b), 1.0 / b.astype(np.float64))
        return (a * reciprocal).astype(np.float32)

    return elementwise(form, finished(divide, ftz=ftz), F32, type, type)
