"""The NumPy meaning of each op: what the table's `compute` column refers to.

Arrays in, an array out, exactly as NumPy has it; where NumPy has no such function (erf, sigmoid,
rsqrt, sliding windows with strides) the definition is here. float16 and bfloat16 are computed in
float32 and rounded once, as the kernels do. Errors on bad indices are IndexErrors.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minicomp.ir import numpy_dtype

Array = np.ndarray


def unbound(**attributes: Any) -> Array:
    raise TypeError("an input has no meaning of its own: the interpreter binds it")


def constant(value: Array, device: str = "cpu") -> Array:
    return value


def full(shape: Sequence[int], value: Any, dtype: str, device: str = "cpu") -> Array:
    return np.full(shape, value, numpy_dtype(dtype))


def iota(shape: Sequence[int], axis: int, dtype: str, device: str = "cpu") -> Array:
    """0, 1, 2, ... along `axis`."""
    line = np.arange(shape[axis], dtype=np.int64).astype(numpy_dtype(dtype))
    return np.broadcast_to(line.reshape([-1] + [1] * (len(shape) - axis - 1)), shape)


def in_float32(function: Callable[..., Array]) -> Callable[..., Array]:
    """`function` with 2-byte floats widened to float32 and the result rounded once."""

    @functools.wraps(function)
    def compute(*operands: Array) -> Array:
        dtype = operands[0].dtype
        if dtype.itemsize != 2:
            return function(*operands)
        result = function(*(operand.astype(np.float32) for operand in operands))
        return result if result.dtype == np.bool_ else result.astype(dtype)

    return compute


def _through_float64(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """`function` evaluated in float64 and rounded: within 0.5 ulp for float32."""

    @functools.wraps(function)
    def compute(x: Array) -> Array:
        return np.asarray(function(np.asarray(x, np.float64)), x.dtype)

    return compute


@_through_float64
def rsqrt(x: Array) -> Array:
    return 1.0 / np.sqrt(x)


@_through_float64
def sigmoid(x: Array) -> Array:
    return np.where(x >= 0, 1.0 / (1.0 + np.exp(-x)), np.exp(x) / (1.0 + np.exp(x)))


@_through_float64
def erf(x: Array) -> Array:
    # NumPy has no erf; the C library's, element by element, is the reference.
    return np.asarray(np.frompyfunc(math.erf, 1, 1)(x), np.float64)


def cast(x: Array, dtype: str) -> Array:
    """NumPy's astype. NaN and what an integer cannot hold become its least value (what x86 and
    NumPy on it do; C leaves it undefined, so it is defined here)."""
    target = numpy_dtype(dtype)
    if target.kind != "i" or x.dtype.kind == "i" or x.dtype == np.bool_:
        return x.astype(target)
    wide = x.astype(np.float64)
    info = np.iinfo(target)
    fits = (wide >= float(info.min)) & (wide < -float(info.min))
    return np.where(fits, np.where(fits, wide, 0.0).astype(target), info.min).astype(target)


def reduction(function: Callable[..., Any]) -> Callable[..., Array]:
    """`function` over axes; 2-byte floats are accumulated in float32."""

    def compute(x: Array, axes: Sequence[int], keepdims: bool) -> Array:
        if x.dtype.itemsize == 2:
            wide = function(x.astype(np.float32), axis=tuple(axes), keepdims=keepdims)
            return np.asarray(wide).astype(x.dtype)
        return np.asarray(function(x, axis=tuple(axes), keepdims=keepdims))

    return compute


def mean(x: Array, axis: Sequence[int], keepdims: bool) -> Array:
    """NumPy's mean, without its warning where there is nothing to average: that gives NaN."""
    count = math.prod(x.shape[a] for a in axis)
    return np.sum(x, axis=tuple(axis), keepdims=keepdims) / x.dtype.type(count)


def arg_reduction(function: Callable[..., Any]) -> Callable[..., Array]:
    """`function` over several axes at once: the row-major position within them."""

    def compute(x: Array, axes: Sequence[int], keepdims: bool) -> Array:
        kept = [axis for axis in range(x.ndim) if axis not in axes]
        count = math.prod(x.shape[axis] for axis in axes)
        rows = x.transpose(*kept, *axes).reshape([x.shape[axis] for axis in kept] + [count])
        result = np.asarray(function(rows, axis=-1), np.int64)
        return np.expand_dims(result, tuple(axes)) if keepdims else result

    return compute


def cumsum(x: Array, axis: int) -> Array:
    if x.dtype.itemsize == 2:
        return np.cumsum(x, axis=axis, dtype=np.float32).astype(x.dtype)
    return np.cumsum(x, axis=axis)


def reshape(x: Array, shape: Sequence[int]) -> Array:
    return x.reshape(shape)


def transpose(x: Array, permutation: Sequence[int]) -> Array:
    return x.transpose(permutation)


def broadcast(x: Array, shape: Sequence[int]) -> Array:
    return np.broadcast_to(x, shape)


def slice_(x: Array, starts: Sequence[int], sizes: Sequence[int], steps: Sequence[int]) -> Array:
    picks = [start + step * np.arange(size) for start, size, step in zip(starts, sizes, steps)]
    return x[np.ix_(*picks)] if picks else x


def windows(
    x: Array,
    axes: Sequence[int],
    sizes: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> Array:
    """Sliding windows by index arithmetic, one axis at a time."""
    for axis, size, stride, dilation in zip(axes, sizes, strides, dilations):
        count = (x.shape[axis] - (size - 1) * dilation - 1) // stride + 1
        picks = stride * np.arange(count)[:, None] + dilation * np.arange(size)
        x = np.moveaxis(np.take(x, picks, axis=axis), axis + 1, -1)
    return x


def patches(
    x: Array,
    sizes: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    low: Sequence[int],
    high: Sequence[int],
) -> Array:
    """The windows of images with zeros around them, each a row."""
    padded = pad(x, (0, 0, *low), (0, 0, *high), 0)
    found = windows(padded, (2, 3), sizes, strides, dilations)
    n, c, rows, columns, height, width = found.shape
    by_window = found.transpose(0, 2, 3, 1, 4, 5)
    return by_window.reshape(n * rows * columns, c * height * width)


def pad(x: Array, low: Sequence[int], high: Sequence[int], value: Any) -> Array:
    if x.ndim == 0:  # np.pad refuses an empty list of widths
        return x
    return np.pad(x, list(zip(low, high)), constant_values=value)


def concatenate(*parts: Array, axis: int) -> Array:
    return np.concatenate(parts, axis=axis)


def take(x: Array, indices: Array, axis: int) -> Array:
    return np.take(x, indices, axis=axis)


def take_along_axis(x: Array, indices: Array, axis: int) -> Array:
    return np.take_along_axis(x, indices.astype(np.int64), axis=axis)


def matmul(a: Array, b: Array) -> Array:
    """NumPy's product; 2-byte floats are accumulated in float32."""
    if a.dtype.itemsize == 2 and a.dtype != np.bool_:
        return np.matmul(a.astype(np.float32), b.astype(np.float32)).astype(a.dtype)
    return np.matmul(a, b)
