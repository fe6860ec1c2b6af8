"""Copies between the host and strided device arrays, through the span of memory that they touch.

In: an array's description and functions that copy plain bytes. Out: NumPy arrays, and bytes
written. A device copies contiguous bytes only; a strided array lies within a span of them, which
is copied whole and read, or changed and put back, on the host with NumPy's strides.

>>> span_of((3, 2), (4, 12), 4)      # a transposed 2x3 array of float32
Span(first=0, nbytes=24)
>>> span_of((3,), (-4,), 4)          # a reversed one: it begins 8 bytes before its first element
Span(first=-8, nbytes=12)
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import numpy as np

from minicomp.errors import DTypeError, ShapeError
from minicomp.ir import dtype_name, numpy_dtype
from minicomp.runtime.cuda.interface import DeviceArgument, contiguous_strides

Read = Callable[[int, int], np.ndarray]  # (address, bytes) -> np.uint8 array of its own
Write = Callable[[int, np.ndarray], None]  # (address, contiguous array)


class Span(NamedTuple):
    """The memory that an array touches: where it begins, from the first element, and its size."""

    first: int
    nbytes: int


def span_of(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> Span:
    """The span of an array; strides in bytes."""
    if prod(shape) == 0:
        return Span(0, 0)
    reaches = [(extent - 1) * stride for extent, stride in zip(shape, strides, strict=True)]
    first = sum(reach for reach in reaches if reach < 0)
    last = sum(reach for reach in reaches if reach > 0)
    return Span(first, last - first + itemsize)


def read_array(argument: DeviceArgument, read: Read) -> np.ndarray:
    """The array's values, contiguous."""
    dtype = numpy_dtype(argument.dtype)
    span = span_of(argument.shape, argument.strides, dtype.itemsize)
    if span.nbytes == 0:
        return np.empty(argument.shape, dtype)
    memory = read(argument.pointer + span.first, span.nbytes)
    array = np.ndarray(argument.shape, dtype, memory, -span.first, argument.strides)
    return np.ascontiguousarray(array).reshape(argument.shape)


def write_array(argument: DeviceArgument, values: np.ndarray, read: Read, write: Write) -> None:
    """Copy values of the array's shape and dtype into it, bit by bit."""
    dtype = numpy_dtype(argument.dtype)
    span = span_of(argument.shape, argument.strides, dtype.itemsize)
    if span.nbytes == 0:
        return
    if argument.strides == contiguous_strides(argument.shape, dtype.itemsize):  # nothing to keep
        memory = np.empty(span.nbytes, np.uint8)
    else:
        memory = read(argument.pointer + span.first, span.nbytes)
    array = np.ndarray(argument.shape, dtype, memory, -span.first, argument.strides)
    array[...] = values
    write(argument.pointer + span.first, memory)


def through_the_host(array: Any) -> tuple[Any, ...]:
    """What an array's `__reduce__` gives: copies, by `copy.deepcopy` or pickle, are contiguous, and
    on the device that is in use where they are made."""
    from minicomp import cuda

    return cuda.to_device, (cuda.to_host(array),)


def check_fits(argument: DeviceArgument, values: np.ndarray) -> None:
    """ShapeError or DTypeError where `values` are not what the array holds."""
    if values.shape != argument.shape:
        raise ShapeError(f"values have shape {values.shape}, the array {argument.shape}")
    if dtype_name(values.dtype) != argument.dtype:
        raise DTypeError(f"values are {dtype_name(values.dtype)}, the array {argument.dtype}")
