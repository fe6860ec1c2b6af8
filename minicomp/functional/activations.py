"""What networks put between matrix products: activations, softmax, normalisation.

In: a tensor of floats (integers become float64). Out: a tensor of the same shape and dtype. None
of these is an op of the table: each is written in a few, and fusion makes one kernel of them.
2-byte floats are computed in float32 and rounded once.

>>> softmax(np.zeros((1, 4), np.float32), axis=-1)
array([[0.25, 0.25, 0.25, 0.25]], dtype=float32)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minicomp.errors import AttributeValueError, ShapeError
from minicomp.functional.operands import (
    axes_of,
    axis_of,
    dtype_of,
    in_float32,
    shape_of,
    tensor,
    tensor_function,
)
from minicomp.functional.pointwise import (
    add,
    divide,
    erf,
    exp,
    isfinite,
    log,
    maximum,
    multiply,
    rsqrt,
    sigmoid,
    subtract,
    tanh,
    where,
)
from minicomp.functional.reductions import amax, mean
from minicomp.functional.reductions import sum as sum_
from minicomp.functional.shapes import squeeze
from minicomp.ir import numpy_dtype


@tensor_function
def relu(x: Any) -> Any:
    """x where it is above 0, else 0; NaN of NaN."""
    return maximum(x, 0)


@tensor_function
@in_float32
def silu(x: Any) -> Any:
    """x * sigmoid(x), also called swish."""
    return multiply(x, sigmoid(x))


@tensor_function
@in_float32
def gelu(x: Any, approximate: str = "none") -> Any:
    """x times the standard normal distribution's mass below x (Hendrycks and Gimpel, 2016).

    `approximate` is "none", by erf, or "tanh", their approximation of it.
    """
    if approximate == "none":
        mass = add(erf(multiply(x, math.sqrt(0.5))), 1)
    elif approximate == "tanh":
        cubic = add(x, multiply(multiply(multiply(x, x), x), 0.044715))
        mass = add(tanh(multiply(cubic, math.sqrt(2 / math.pi))), 1)
    else:
        raise AttributeValueError(f"approximate is {approximate!r}, wanted 'none' or 'tanh'")
    return multiply(multiply(x, 0.5), mass)


@tensor_function
@in_float32
def softmax(x: Any, axis: int = -1) -> Any:
    """exp(x) / sum(exp(x)) along `axis`, less the maximum first so that nothing overflows."""
    if _is_empty(x, axis):
        return x
    powers = exp(subtract(x, amax(x, axis, keepdims=True)))
    return divide(powers, sum_(powers, axis, keepdims=True))


@tensor_function
@in_float32
def log_softmax(x: Any, axis: int = -1) -> Any:
    """log(softmax(x)) along `axis`, without forming the quotient."""
    if _is_empty(x, axis):
        return x
    shifted = subtract(x, amax(x, axis, keepdims=True))
    return subtract(shifted, log(sum_(exp(shifted), axis, keepdims=True)))


@tensor_function
@in_float32
def logsumexp(x: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    """log(sum(exp(x))) over `axis`, less the maximum first so that nothing overflows; -inf where
    there is nothing to sum."""
    if any(x.shape[a] == 0 for a in axes_of(axis, len(x.shape))):
        return log(sum_(exp(x), axis, keepdims=keepdims))
    greatest = amax(x, axis, keepdims=True)
    shift = where(isfinite(greatest), greatest, 0)  # inf - inf would be NaN
    total = add(log(sum_(exp(subtract(x, shift)), axis, keepdims=True)), shift)
    if keepdims:
        return total
    return squeeze(total, tuple(range(len(x.shape))) if axis is None else axis)


def _is_empty(x: Any, axis: int) -> bool:
    return x.shape[axis_of(axis, len(x.shape))] == 0


def _normalized_axes(x: Any, normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    """The last axes of x, whose sizes must be `normalized_shape`."""
    wanted = shape_of(normalized_shape)
    if not wanted or tuple(x.shape[len(x.shape) - len(wanted) :]) != wanted:
        raise ShapeError(f"the input has shape {x.shape}, wanted its last sizes to be {wanted}")
    return tuple(range(-len(wanted), 0))


@tensor_function
def layer_norm(
    x: Any,
    normalized_shape: int | Sequence[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> Any:
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last axes, whose sizes are
    `normalized_shape` (Ba, Kiros and Hinton, 2016)."""

    @in_float32
    def normalized(x: Any) -> Any:
        axes = _normalized_axes(x, normalized_shape)
        centered = subtract(x, mean(x, axes, keepdims=True))
        variance = mean(multiply(centered, centered), axes, keepdims=True)
        return _scaled(multiply(centered, rsqrt(add(variance, eps))), weight, bias)

    return normalized(x)


@tensor_function
def rms_norm(
    x: Any, normalized_shape: int | Sequence[int], weight: Any = None, eps: float | None = None
) -> Any:
    """x / sqrt(mean(x * x) + eps) * weight over the last axes, whose sizes are
    `normalized_shape`. `eps` defaults to the dtype's machine epsilon, as in PyTorch."""
    epsilon = _machine_epsilon(dtype_of(tensor(x))) if eps is None else eps

    @in_float32
    def normalized(x: Any) -> Any:
        axes = _normalized_axes(x, normalized_shape)
        squares = mean(multiply(x, x), axes, keepdims=True)
        return _scaled(multiply(x, rsqrt(add(squares, epsilon))), weight, None)

    return normalized(x)


def _scaled(x: Any, weight: Any, bias: Any) -> Any:
    if weight is not None:
        x = multiply(x, weight)
    return x if bias is None else add(x, bias)


def _machine_epsilon(dtype: str) -> float:
    """The gap between 1 and the next number."""
    if dtype == "bfloat16":
        return 2.0**-7  # 8 significant bits; NumPy's finfo does not know it
    number = numpy_dtype(dtype)
    return float(np.finfo(number if number.kind == "f" else np.float64).eps)
