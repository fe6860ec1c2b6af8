"""Convolution and pooling, by sliding windows.

In: images (batch, channels, height, width), or one image without the batch. Out: the same with
other channels or a smaller height and width. A convolution lays each window out as a row ("im2col")
and becomes one `matmul`, so that selection and externals apply to it; a kernel may then read the
windows where they are (`passes.read_windows`). Pooling folds the windows.

>>> max_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2)
array([[[[ 5.,  7.],
         [13., 15.]]]])
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minicomp.errors import AttributeValueError, ShapeError, UnsupportedError
from minicomp.functional.operands import (
    cast,
    common_dtype,
    dtype_of,
    floating,
    integer,
    tensor,
    tensor_function,
)
from minicomp.functional.pointwise import add, divide
from minicomp.functional.products import matmul
from minicomp.functional.reductions import amax
from minicomp.functional.reductions import sum as sum_
from minicomp.functional.shapes import padded, permuted, reshaped
from minicomp.ir import FLOATS
from minicomp.tracing.record import apply

Pair = tuple[int, int]


def pair(value: Any, name: str, least: int) -> Pair:
    """An int for both height and width, or a pair of them, each `least` or more."""
    both = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(both) != 2:
        raise AttributeValueError(f"{name} is {value!r}, wanted an int or a pair of ints")
    height, width = (integer(entry, name) for entry in both)
    if min(height, width) < least:
        raise AttributeValueError(f"{name} is {value!r}, wanted {least} or more")
    return height, width


def _batched(x: Any) -> tuple[Any, bool]:
    """x with a batch axis, and whether it had none."""
    if len(x.shape) not in (3, 4):
        raise ShapeError(
            f"the input has shape {x.shape}, wanted (batch, channels, height, width) or "
            f"(channels, height, width)"
        )
    return (x, False) if len(x.shape) == 4 else (reshaped(x, (1, *x.shape)), True)


def _unbatched(x: Any, single: bool) -> Any:
    return reshaped(x, tuple(x.shape[1:])) if single else x


def _pad_image(x: Any, low: Pair, high: Pair, value: float) -> Any:
    return padded(x, (0, 0, *low), (0, 0, *high), value)


def _windows(x: Any, kernel: Pair, stride: Pair, dilation: Pair) -> Any:
    """(n, c, h, w) -> (n, c, rows, columns, kernel height, kernel width)."""
    reach = [(size - 1) * gap + 1 for size, gap in zip(kernel, dilation, strict=True)]
    if reach[0] > x.shape[2] or reach[1] > x.shape[3]:
        raise ShapeError(
            f"a window of {reach[0]} by {reach[1]} does not fit into the padded input, "
            f"{x.shape[2]} by {x.shape[3]}"
        )
    return apply("windows", x, axes=(2, 3), sizes=kernel, strides=stride, dilations=dilation)


# --- convolution ---


@tensor_function
def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: int | Pair = 1,
    padding: int | Pair | str = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Any:
    """The cross-correlation of images with filters, as in PyTorch.

    x is (batch, in_channels, height, width), weight (out_channels, in_channels / groups, kernel
    height, kernel width), bias (out_channels,). `padding` is an int, a pair, "valid" (none) or
    "same" (the result has x's height and width; the odd entry goes after). What is padded adds
    nothing to a sum: whether it is left out or multiplied as 0 shows only where a weight is
    infinite or NaN.
    """
    x, weight = tensor(x), tensor(weight)
    dtype = common_dtype([x, weight])
    x, single = _batched(cast(x, dtype))
    weight = cast(weight, dtype)
    _check_filters(x.shape, weight.shape, groups)
    strides, dilations = pair(stride, "stride", 1), pair(dilation, "dilation", 1)
    kernel = (weight.shape[2], weight.shape[3])
    low, high = convolution_padding(padding, kernel, strides, dilations)
    patches = _windows(_pad_image(x, low, high, 0), kernel, strides, dilations)
    result = _product(patches, weight, groups)
    if bias is not None:
        bias = tensor(bias)
        if tuple(bias.shape) != (weight.shape[0],):
            raise ShapeError(f"bias has shape {bias.shape}, wanted ({weight.shape[0]},)")
        result = add(result, bias)
    return _unbatched(permuted(result, (0, 3, 1, 2)), single)


def _check_filters(x: tuple[int, ...], weight: tuple[int, ...], groups: int) -> None:
    if len(weight) != 4:
        raise ShapeError(
            f"weight has shape {weight}, wanted (out_channels, in_channels / groups, height, width)"
        )
    if groups < 1 or weight[0] % groups or x[1] % groups:
        raise AttributeValueError(
            f"groups={groups} does not divide {x[1]} and {weight[0]} channels"
        )
    if x[1] != weight[1] * groups:
        raise ShapeError(
            f"the input has {x[1]} channels, weight {weight} with groups={groups} wants "
            f"{weight[1] * groups}"
        )


def convolution_padding(
    padding: Any, kernel: Pair, stride: Pair, dilation: Pair
) -> tuple[Pair, Pair]:
    """How much to put before and after height and width."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        if stride != (1, 1):
            raise AttributeValueError(f"padding='same' needs stride 1, got {stride}")
        totals = [gap * (size - 1) for size, gap in zip(kernel, dilation, strict=True)]
        low = (totals[0] // 2, totals[1] // 2)
        return low, (totals[0] - low[0], totals[1] - low[1])
    if isinstance(padding, str):
        raise AttributeValueError(f"padding is {padding!r}, wanted 'same', 'valid' or ints")
    both = pair(padding, "padding", 0)
    return both, both


def _product(patches: Any, weight: Any, groups: int) -> Any:
    """Windows times filters: (n, c, rows, columns, kh, kw) -> (n, rows, columns, out_channels).

    The rows of the left matrix are the windows; the columns of the right one are the filters.
    """
    batch, channels, rows, columns, *kernel = patches.shape
    filters = weight.shape[0]
    depth = channels // groups * math.prod(kernel)
    if groups == 1:
        left = reshaped(permuted(patches, (0, 2, 3, 1, 4, 5)), (batch * rows * columns, depth))
        right = permuted(reshaped(weight, (filters, depth)), (1, 0))
        return reshaped(matmul(left, right), (batch, rows, columns, filters))
    grouped = (batch, groups, channels // groups, rows, columns, *kernel)
    left = permuted(reshaped(patches, grouped), (1, 0, 3, 4, 2, 5, 6))
    left = reshaped(left, (groups, batch * rows * columns, depth))
    right = permuted(reshaped(weight, (groups, filters // groups, depth)), (0, 2, 1))
    product = reshaped(matmul(left, right), (groups, batch, rows, columns, filters // groups))
    return reshaped(permuted(product, (1, 2, 3, 0, 4)), (batch, rows, columns, filters))


# --- pooling ---


def pooling_windows(kernel_size: Any, stride: Any, padding: Any) -> tuple[Pair, Pair, Pair]:
    """Kernel, stride (by default the kernel) and padding, checked as PyTorch does."""
    kernel = pair(kernel_size, "kernel_size", 1)
    strides = kernel if stride is None else pair(stride, "stride", 1)
    pads = pair(padding, "padding", 0)
    if any(2 * width > size for width, size in zip(pads, kernel, strict=True)):
        raise AttributeValueError(f"padding {pads} is more than half of the kernel {kernel}")
    return kernel, strides, pads


def _padding_after(
    x: Any, kernel: Pair, strides: Pair, pads: Pair, dilations: Pair, ceil_mode: bool
) -> Pair:
    """How much to put after height and width. With `ceil_mode` also what the last window lacks,
    if it begins within the image or the padding before it."""
    if not ceil_mode:
        return pads

    def after(axis: int) -> int:
        extent, stride, pad = x.shape[2 + axis], strides[axis], pads[axis]
        reach = (kernel[axis] - 1) * dilations[axis] + 1
        last = -(-(extent + 2 * pad - reach) // stride)  # rounded up
        if last * stride >= extent + pad:
            last -= 1
        return max(pad, last * stride + reach - extent - pad)

    return after(0), after(1)


@tensor_function
def max_pool2d(
    x: Any,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum of each window; padding never wins (it is -inf). `ceil_mode` also takes a last
    window that reaches beyond the padding."""
    if return_indices:
        raise UnsupportedError("return_indices=True is not supported")
    kernel, strides, pads = pooling_windows(kernel_size, stride, padding)
    dilations = pair(dilation, "dilation", 1)
    x, single = _batched(tensor(x))
    dtype = dtype_of(x)
    lowest = -math.inf if dtype in FLOATS else False if dtype == "bool" else np.iinfo(dtype).min
    after = _padding_after(x, kernel, strides, pads, dilations, ceil_mode)
    patches = _windows(_pad_image(x, pads, after, lowest), kernel, strides, dilations)
    return _unbatched(amax(patches, (4, 5)), single)


@tensor_function
def avg_pool2d(
    x: Any,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """The mean of each window. Padding counts as zeros, or with count_include_pad=False not at
    all; `divisor_override` replaces the count. `ceil_mode` also takes a last window that reaches
    beyond the padding, which is not counted there."""
    kernel, strides, pads = pooling_windows(kernel_size, stride, padding)
    x, single = _batched(floating(x))
    ones = (1, 1)
    after = _padding_after(x, kernel, strides, pads, ones, ceil_mode)
    sums = sum_(_windows(_pad_image(x, pads, after, 0), kernel, strides, ones), (4, 5))
    if divisor_override is not None:
        count: Any = float(integer(divisor_override, "divisor_override"))
        if count == 0:
            raise AttributeValueError("divisor_override is 0")
    else:
        rows, columns = (
            _counts(x.shape[i], sums.shape[i], kernel[i - 2], strides[i - 2], pads[i - 2],
                    count_include_pad)
            for i in (2, 3)
        )  # fmt: skip
        count = float(rows[0] * columns[0])
        if len({*rows}) > 1 or len({*columns}) > 1:
            count = cast(tensor(np.outer(rows, columns).tolist()), dtype_of(x))
    return _unbatched(divide(sums, count), single)


def _counts(
    extent: int, windows: int, kernel: int, stride: int, pad: int, with_padding: bool
) -> list[int]:
    """How many entries of each window along one axis are of the image, or of its padding too."""
    margin = pad if with_padding else 0
    starts = range(-pad, windows * stride - pad, stride)
    return [min(start + kernel, extent + margin) - max(start, -margin) for start in starts]
