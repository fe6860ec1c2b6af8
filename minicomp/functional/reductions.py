"""Functions that fold axes: sums, means, extremes, truth, and running sums.

In: a tensor and the axes (`axis` or `dim`: None for all, an int, a tuple), which may be negative.
Out: a tensor without these axes, or with them of size 1 (`keepdims` or `keepdim`).

>>> sum(np.ones((2, 3), np.float32), axis=-1)
array([3., 3.], dtype=float32)

As in NumPy, int32 and bool are summed in int64, the mean of integers is float64, and `var` and
`std` divide by n - ddof with ddof 0 (PyTorch divides by n - 1: pass correction=1 for that).
"""

from __future__ import annotations

import math
from typing import Any

from minicomp.errors import UnsupportedError
from minicomp.functional.operands import (
    axes_of,
    axis_of,
    cast,
    dtype_of,
    floating,
    in_float32,
    integer,
    numeric,
    tensor,
    tensor_function,
)
from minicomp.functional.pointwise import divide, multiply, sqrt, subtract, truth
from minicomp.ir import dtype_name
from minicomp.tracing.record import apply


def _fold(op: str, x: Any, axis: Any, keepdims: bool) -> Any:
    return apply(op, x, axes=axes_of(axis, len(x.shape)), keepdims=bool(keepdims))


def _converted(x: Any, dtype: Any) -> Any:
    """x in the dtype that the caller asked the sum to be made in."""
    x = tensor(x)
    return x if dtype is None else cast(x, dtype_name(dtype))


@tensor_function
def sum(x: Any, axis: Any = None, dtype: Any = None, *, keepdims: bool = False) -> Any:
    """The sum over `axis`, made in `dtype` if that is given."""
    total = _fold("sum", numeric(_converted(x, dtype)), axis, keepdims)
    return total if dtype is None else cast(total, dtype_name(dtype))


@tensor_function
def prod(x: Any, axis: Any = None, dtype: Any = None, *, keepdims: bool = False) -> Any:
    """The product over `axis`, made in `dtype` if that is given."""
    total = _fold("prod", numeric(_converted(x, dtype)), axis, keepdims)
    return total if dtype is None else cast(total, dtype_name(dtype))


@tensor_function
def mean(x: Any, axis: Any = None, dtype: Any = None, *, keepdims: bool = False) -> Any:
    """The arithmetic mean over `axis`; NaN of nothing."""
    return _fold("mean", floating(_converted(x, dtype)), axis, keepdims)


@tensor_function
def var(
    x: Any, axis: Any = None, dtype: Any = None, *, ddof: float = 0, keepdims: bool = False
) -> Any:
    """The variance over `axis`: the squared deviations' sum over n - ddof.

    Two passes, mean first, since the sum of squares minus the square of the sum cancels badly.
    """

    @in_float32
    def variance(x: Any) -> Any:
        centered = subtract(x, mean(x, axis, keepdims=True))
        squares = multiply(centered, centered)
        if ddof == 0:
            return mean(squares, axis, keepdims=keepdims)
        count = math.prod(x.shape[a] for a in axes_of(axis, len(x.shape)))
        divisor = count - ddof if count > ddof else 0  # 0 gives NaN or infinity, as in NumPy
        return divide(sum(squares, axis, keepdims=keepdims), float(divisor))

    return variance(_converted(x, dtype))


@tensor_function
def std(
    x: Any, axis: Any = None, dtype: Any = None, *, ddof: float = 0, keepdims: bool = False
) -> Any:
    """The standard deviation over `axis`: the square root of `var`."""
    return sqrt(var(x, axis, dtype, ddof=ddof, keepdims=keepdims))


def _refuse_dim(name: str, dim: Any) -> None:
    if dim is not None:
        raise UnsupportedError(
            f"PyTorch's {name}(dim=...) returns values and indices; "
            f"use a{name}(x, dim) for the values and arg{name}(x, dim) for the indices"
        )


@tensor_function
def max(x: Any, axis: Any = None, *, keepdims: bool = False, dim: Any = None) -> Any:
    """The greatest element over `axis`; NaN if there is one; of bool, whether any is true."""
    _refuse_dim("max", dim)
    return amax(x, axis, keepdims=keepdims)


@tensor_function
def min(x: Any, axis: Any = None, *, keepdims: bool = False, dim: Any = None) -> Any:
    """The least element over `axis`; NaN if there is one; of bool, whether all are true."""
    _refuse_dim("min", dim)
    return amin(x, axis, keepdims=keepdims)


@tensor_function
def amax(x: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    """The greatest element over `axis`; NaN if there is one; of bool, whether any is true."""
    x = tensor(x)
    return _fold("any" if dtype_of(x) == "bool" else "max", x, axis, keepdims)


@tensor_function
def amin(x: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    """The least element over `axis`; NaN if there is one; of bool, whether all are true."""
    x = tensor(x)
    return _fold("all" if dtype_of(x) == "bool" else "min", x, axis, keepdims)


def _position(op: str, x: Any, axis: Any, keepdims: bool) -> Any:
    axis = None if axis is None else integer(axis, "axis")
    return _fold(op, tensor(x), axis, keepdims)


@tensor_function
def argmax(x: Any, axis: int | None = None, *, keepdims: bool = False) -> Any:
    """Where the greatest element is, the first of equals; with axis None, in row-major order."""
    return _position("argmax", x, axis, keepdims)


@tensor_function
def argmin(x: Any, axis: int | None = None, *, keepdims: bool = False) -> Any:
    """Where the least element is, the first of equals; with axis None, in row-major order."""
    return _position("argmin", x, axis, keepdims)


@tensor_function
def any(x: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    """Whether some element over `axis` is true (not 0)."""
    return _fold("any", truth(x), axis, keepdims)


@tensor_function
def all(x: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    """Whether every element over `axis` is true (not 0)."""
    return _fold("all", truth(x), axis, keepdims)


@tensor_function
def cumsum(x: Any, axis: int | None = None, dtype: Any = None) -> Any:
    """The running sum along `axis`; with axis None, of all elements in row-major order."""
    x = numeric(_converted(x, dtype))
    if axis is None:
        x, axis = apply("reshape", x, shape=(math.prod(x.shape),)), 0
    elif not x.shape:
        x = apply("reshape", x, shape=(1,))
    total = apply("cumsum", x, axis=axis_of(axis, len(x.shape)))
    return total if dtype is None else cast(total, dtype_name(dtype))
