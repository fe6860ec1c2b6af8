"""Functions that make tensors from shapes and numbers.

In: a shape, a value, a dtype, and a `device` ("cpu" or "cuda"; by default where the trace runs).
Out: a tensor. Inside a traced function nothing is stored: the numbers are made in the kernel.

>>> arange(2, 8, 2)
array([2, 4, 6])

dtypes are NumPy's defaults: float64 for `zeros`, `ones` and `eye`; `full` and `arange` go by
their arguments.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minicomp.errors import AttributeValueError, TraceError, UnsupportedError
from minicomp.functional import operands
from minicomp.functional.operands import (
    cast,
    dtype_of,
    integer,
    operand,
    promote,
    shape_of,
    tensor,
    tensor_function,
    type_of,
    weak_dtype,
)
from minicomp.functional.pointwise import add, multiply, where
from minicomp.ir import INTEGERS, dtype_name
from minicomp.tracing.record import Symbolic, apply, current, device_attribute


@tensor_function
def full(shape: Any, fill_value: Any, dtype: Any = None, *, device: str | None = None) -> Any:
    """A tensor of `fill_value` (a number, or a tensor to broadcast) in every place."""
    value = operand(fill_value)
    shape = shape_of(shape)
    if operands.is_weak(value):
        name = dtype_name(dtype) if dtype is not None else weak_dtype(value)
        return operands.full(value, shape, name, device)
    name = dtype_name(dtype) if dtype is not None else dtype_of(value)
    return operands.spread(value, shape, name, device)


@tensor_function
def zeros(shape: Any, dtype: Any = np.float64, *, device: str | None = None) -> Any:
    """A tensor of zeros."""
    return full(shape, 0, dtype, device=device)


@tensor_function
def ones(shape: Any, dtype: Any = np.float64, *, device: str | None = None) -> Any:
    """A tensor of ones."""
    return full(shape, 1, dtype, device=device)


@tensor_function
def full_like(x: Any, fill_value: Any, dtype: Any = None, *, shape: Any = None) -> Any:
    """As `full`, with x's shape, dtype and device where none is given."""
    like = type_of(tensor(x))
    return full(
        like.shape if shape is None else shape,
        fill_value,
        like.dtype if dtype is None else dtype,
        device=like.device,
    )


@tensor_function
def zeros_like(x: Any, dtype: Any = None, *, shape: Any = None) -> Any:
    """Zeros with x's shape, dtype and device where none is given."""
    return full_like(x, 0, dtype, shape=shape)


@tensor_function
def ones_like(x: Any, dtype: Any = None, *, shape: Any = None) -> Any:
    """Ones with x's shape, dtype and device where none is given."""
    return full_like(x, 1, dtype, shape=shape)


def iota(shape: tuple[int, ...], axis: int, dtype: str, device: str | None = None) -> Any:
    """0, 1, 2, ... along `axis`."""
    recorder = current()
    if device is None:
        device = recorder.device if recorder is not None else "cpu"
    return apply("iota", shape=shape, axis=axis, dtype=dtype, **device_attribute(device))


@tensor_function
def arange(
    start: Any, stop: Any = None, step: Any = 1, dtype: Any = None, *, device: str | None = None
) -> Any:
    """start, start + step, ... up to but without stop; with one argument, from 0 up to it."""
    if stop is None:
        start, stop = 0, start
    if any(isinstance(bound, Symbolic) for bound in (start, stop, step)):
        raise TraceError("the bounds must be numbers: a shape cannot depend on traced data")
    if step == 0:
        raise AttributeValueError("step is 0, so that stop is never reached")
    numbers = [getattr(bound, "item", lambda bound=bound: bound)() for bound in (start, stop, step)]
    start, stop, step = numbers
    count = max(math.ceil((stop - start) / step), 0)
    dtype = dtype_name(dtype) if dtype is not None else operands.common_dtype(numbers)
    line = iota((count,), 0, dtype, device)
    if (start, step) == (0, 1):
        return line
    # The step as NumPy has it: the difference of the first two entries, after rounding.
    return add(multiply(line, (start + step) - start), start)


@tensor_function
def eye(n: int, m: int | None = None, k: int = 0, dtype: Any = np.float64) -> Any:
    """Ones where column - row is k, else zeros, n by m (n by n without m)."""
    shape = (integer(n, "n"), integer(n if m is None else m, "m"))
    rows, columns = iota(shape, 0, "int64"), iota(shape, 1, "int64")
    return cast(apply("eq", *promote(columns, add(rows, k))), dtype_name(dtype))


def _triangle(x: Any, k: int, lower: bool) -> Any:
    x = tensor(x)
    if len(x.shape) < 2:
        raise AttributeValueError(f"wanted a matrix (2 axes or more), got shape {x.shape}")
    device = type_of(x).device
    rows = iota(x.shape[-2:], 0, "int64", device)
    columns = iota(x.shape[-2:], 1, "int64", device)
    below = promote(columns, add(rows, integer(k, "k")))
    kept = apply("le", *below) if lower else apply("ge", *below)
    return where(kept, x, operands.full(0, x.shape, dtype_of(x), device))


@tensor_function
def tril(x: Any, k: int = 0) -> Any:
    """x with zeros above diagonal k of its last two axes."""
    return _triangle(x, k, lower=True)


@tensor_function
def triu(x: Any, k: int = 0) -> Any:
    """x with zeros below diagonal k of its last two axes."""
    return _triangle(x, k, lower=False)


@tensor_function
def one_hot(x: Any, num_classes: int) -> Any:
    """1 where x (integers) equals the position along a new last axis, else 0; int64."""
    x = tensor(x)
    if dtype_of(x) not in INTEGERS:
        raise UnsupportedError(f"classes are integers, got {dtype_of(x)}; cast them")
    shape = (*x.shape, integer(num_classes, "num_classes"))
    classes = iota(shape, len(shape) - 1, dtype_of(x), type_of(x).device)
    labels = apply("reshape", x, shape=(*x.shape, 1))
    return cast(apply("eq", *promote(labels, classes)), "int64")
