"""Functions that rearrange: reshape, transpose, broadcast, join, split, repeat.

In: tensors, and shapes and axes as Python ints. Out: the same elements in another arrangement.
Most of it costs nothing in a compiled graph, where it becomes strides and index arithmetic.

>>> reshape(np.arange(6), (2, -1)).shape
(2, 3)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minicomp.errors import AttributeValueError, ShapeError, UnsupportedError
from minicomp.functional import operands
from minicomp.functional.operands import (
    axes_of,
    axis_of,
    cast,
    common_dtype,
    common_shape,
    dtype_of,
    integer,
    shape_of,
    tensor,
    tensor_function,
)
from minicomp.tracing.record import apply


def reshaped(x: Any, shape: tuple[int, ...]) -> Any:
    """x in another shape; x itself if it has that already."""
    return x if tuple(x.shape) == shape else apply("reshape", x, shape=shape)


def permuted(x: Any, permutation: Sequence[int]) -> Any:
    """x with its axes in another order; x itself if that is the old one."""
    permutation = tuple(permutation)
    if permutation == tuple(range(len(x.shape))):
        return x
    return apply("transpose", x, permutation=permutation)


def sliced(x: Any, axis: int, start: int, size: int, step: int = 1) -> Any:
    """Every `step`th element along one axis, `size` of them from `start`; x itself if all."""
    if (start, size, step) == (0, x.shape[axis], 1):
        return x
    starts, sizes, steps = [0] * len(x.shape), list(x.shape), [1] * len(x.shape)
    starts[axis], sizes[axis], steps[axis] = (start if size else 0), size, step
    return apply("slice", x, starts=tuple(starts), sizes=tuple(sizes), steps=tuple(steps))


@tensor_function
def reshape(x: Any, shape: Any) -> Any:
    """x's elements, in row-major order, in another shape; one size may be -1: what remains."""
    x = tensor(x)
    shape = shape_of(shape)
    total = math.prod(x.shape)
    if shape.count(-1) > 1:
        raise AttributeValueError(f"{shape} has more than one -1: only one size can be worked out")
    if -1 in shape:
        rest = math.prod(extent for extent in shape if extent != -1)
        if rest == 0 or total % rest:
            raise ShapeError(f"cannot reshape {x.shape} ({total} elements) to {shape}")
        shape = tuple(total // rest if extent == -1 else extent for extent in shape)
    return reshaped(x, shape)


@tensor_function
def ravel(x: Any) -> Any:
    """x's elements in row-major order, along one axis."""
    return reshape(x, -1)


@tensor_function
def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """x with the axes from start_dim to end_dim joined into one, as in PyTorch."""
    x = tensor(x)
    if not x.shape:
        x = reshaped(x, (1,))
    start, end = axis_of(start_dim, len(x.shape)), axis_of(end_dim, len(x.shape))
    if start > end:
        raise AttributeValueError(f"start_dim {start_dim} comes after end_dim {end_dim}")
    joined = math.prod(x.shape[start : end + 1])
    return reshaped(x, (*x.shape[:start], joined, *x.shape[end + 1 :]))


@tensor_function
def transpose(x: Any, axes: Any = None) -> Any:
    """x with its axes in the order `axes`, reversed without it, as in NumPy.

    PyTorch's transpose(x, dim0, dim1) is `swapaxes`.
    """
    x = tensor(x)
    rank = len(x.shape)
    if axes is None:
        return permuted(x, range(rank - 1, -1, -1))
    listed = axes if isinstance(axes, tuple | list) else (axes,)
    if len(listed) != rank:
        raise AttributeValueError(
            f"{tuple(listed)} does not permute {rank} axes"
            + ("; to swap two, use swapaxes" if len(listed) == 2 else "")
        )
    permutation = [axis_of(axis, rank) for axis in listed]
    if len(set(permutation)) != rank:
        raise AttributeValueError(f"{tuple(listed)} names the same axis twice")
    return permuted(x, permutation)


permute = transpose
permute_dims = transpose


@tensor_function
def swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    """x with two axes swapped."""
    x = tensor(x)
    order = list(range(len(x.shape)))
    a, b = axis_of(axis1, len(order)), axis_of(axis2, len(order))
    order[a], order[b] = b, a
    return permuted(x, order)


@tensor_function
def matrix_transpose(x: Any) -> Any:
    """x with its last two axes swapped."""
    return swapaxes(x, -1, -2)


@tensor_function
def moveaxis(x: Any, source: Any, destination: Any) -> Any:
    """x with the axes `source` at the places `destination`, the others in their order."""
    x = tensor(x)
    rank = len(x.shape)
    sources = [axis_of(a, rank) for a in (source if isinstance(source, tuple | list) else [source])]
    places = [
        axis_of(a, rank)
        for a in (destination if isinstance(destination, tuple | list) else [destination])
    ]
    if len({*sources}) != len(sources) or len({*places}) != len(places):
        raise AttributeValueError("an axis is named twice")
    if len(sources) != len(places):
        raise AttributeValueError(f"{len(sources)} axes to move and {len(places)} places for them")
    order = [axis for axis in range(rank) if axis not in sources]
    for place, axis in sorted(zip(places, sources, strict=True)):
        order.insert(place, axis)
    return permuted(x, order)


@tensor_function
def squeeze(x: Any, axis: Any = None) -> Any:
    """x without the axes of size 1, or without those of them named by `axis`."""
    x = tensor(x)
    if axis is None:
        return reshaped(x, tuple(extent for extent in x.shape if extent != 1))
    axes = axes_of(axis, len(x.shape))
    wide = [a for a in axes if x.shape[a] != 1]
    if wide:
        raise ShapeError(f"axis {wide[0]} of {x.shape} has size {x.shape[wide[0]]}, not 1")
    return reshaped(x, tuple(extent for a, extent in enumerate(x.shape) if a not in axes))


@tensor_function
def expand_dims(x: Any, axis: Any) -> Any:
    """x with new axes of size 1 at the places `axis` of the result."""
    x = tensor(x)
    rank = len(x.shape) + (len(axis) if isinstance(axis, tuple | list) else 1)
    axes = axes_of(axis, rank)
    extents = iter(x.shape)
    return reshaped(x, tuple(1 if a in axes else next(extents) for a in range(rank)))


unsqueeze = expand_dims


@tensor_function
def broadcast_to(x: Any, shape: Any) -> Any:
    """x repeated along new leading axes and axes of size 1 to fill `shape`."""
    return operands.broadcast(tensor(x), shape_of(shape))


@tensor_function
def broadcast_arrays(*xs: Any) -> Any:
    """The arguments broadcast to their common shape, each with its own dtype."""
    tensors = [tensor(x) for x in xs]
    shape = common_shape(tensors)
    return tuple(operands.broadcast(x, shape) for x in tensors)


@tensor_function
def concatenate(tensors: Sequence[Any], axis: int | None = 0) -> Any:
    """The tensors joined along an axis that they have; promoted to one dtype."""
    parts = [tensor(x) for x in tensors]
    if not parts:
        raise AttributeValueError("nothing to concatenate: the list of tensors is empty")
    if axis is None:
        parts, axis = [reshaped(part, (math.prod(part.shape),)) for part in parts], 0
    ranks = {len(part.shape) for part in parts}
    if len(ranks) != 1 or ranks == {0}:
        shapes = ", ".join(str(tuple(part.shape)) for part in parts)
        raise ShapeError(f"wanted tensors of one rank, 1 or more, got shapes {shapes}; stack them?")
    dtype = common_dtype(parts)
    axis = axis_of(axis, ranks.pop())
    return apply("concatenate", *(cast(part, dtype) for part in parts), axis=axis)


cat = concatenate
concat = concatenate


@tensor_function
def stack(tensors: Sequence[Any], axis: int = 0) -> Any:
    """The tensors, all of one shape, joined along a new axis."""
    parts = [tensor(x) for x in tensors]
    shapes = {tuple(part.shape) for part in parts}
    if len(shapes) > 1:
        listed = " and ".join(str(shape) for shape in sorted(shapes))
        raise ShapeError(f"wanted tensors of one shape, got {listed}; concatenate them?")
    return concatenate([expand_dims(part, axis) for part in parts], axis)


@tensor_function
def split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """x cut along `axis` as in NumPy: into that many equal parts, or before the given indices.

    PyTorch's split(x, size), by the size of a part, is `split(x, range(size, n, size))` here.
    """
    x = tensor(x)
    axis = axis_of(axis, len(x.shape))
    extent = x.shape[axis]
    if isinstance(indices_or_sections, tuple | list | range | np.ndarray):
        inner = [slice(integer(i, "an index"), None).indices(extent)[0] for i in
                 indices_or_sections]  # fmt: skip
    else:
        sections = integer(indices_or_sections, "the number of parts")
        if sections < 1 or extent % sections:
            raise ShapeError(f"axis {axis} of size {extent} does not fall into {sections} parts")
        inner = [extent // sections * part for part in range(1, sections)]
    starts, stops = [0, *inner], [*inner, extent]
    return [sliced(x, axis, a, max(b - a, 0)) for a, b in zip(starts, stops, strict=True)]


@tensor_function
def chunk(x: Any, chunks: int, axis: int = 0) -> list[Any]:
    """x cut along `axis` into at most `chunks` parts of one size, the last maybe smaller, as in
    PyTorch."""
    x = tensor(x)
    extent = x.shape[axis_of(axis, len(x.shape))]
    size = max(-(-extent // integer(chunks, "chunks")), 1)
    return split(x, range(size, extent, size), axis)


#: NumPy's modes of padding with a tensor's own elements
PADDING_MODES = ("edge", "reflect", "symmetric", "wrap")


@tensor_function
def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = 0) -> Any:
    """x with `constant_values` before and after each axis, as in NumPy; or with elements of its
    own, where `mode` is "edge", "reflect", "symmetric" or "wrap".

    `pad_width` is an int, (before, after) for all axes, or a pair for each axis.
    """
    x = tensor(x)
    rank = len(x.shape)
    if mode not in ("constant", *PADDING_MODES):
        raise UnsupportedError(
            f"mode {mode!r} is not supported, only constant, {', '.join(PADDING_MODES)}"
        )
    if not operands.is_weak(constant_values) and not isinstance(constant_values, np.generic):
        raise UnsupportedError("constant_values must be one number")
    try:
        widths = np.broadcast_to(np.asarray(pad_width), (rank, 2))
    except ValueError:
        raise AttributeValueError(
            f"pad_width {pad_width!r} does not fit {rank} axes; wanted an int, a pair or {rank} "
            f"pairs (before, after)"
        ) from None
    low = tuple(integer(before, "a width") for before, _ in widths)
    high = tuple(integer(after, "a width") for _, after in widths)
    if mode == "constant":
        return padded(x, low, high, constant_values)
    return _extended(x, low, high, mode)


def _extended(x: Any, low: Sequence[int], high: Sequence[int], mode: str) -> Any:
    """x with elements of its own around it: NumPy says which, on the positions along an axis."""
    if min((*low, *high), default=0) < 0:
        raise AttributeValueError(f"widths {(*low, *high)} are to be 0 or more")
    for axis, widths in enumerate(zip(low, high, strict=True)):
        if any(widths):
            if x.shape[axis] == 0:
                raise ShapeError(f"axis {axis} is empty: it has no element to pad with")
            positions = np.pad(np.arange(x.shape[axis]), widths, mode)  # type: ignore[call-overload]
            x = apply("take", x, tensor(positions), axis=axis)
    return x


def padded(x: Any, low: Sequence[int], high: Sequence[int], value: Any) -> Any:
    """x with `low` and `high` entries of `value` around it; x itself if there are none."""
    if not any((*low, *high)):
        return x
    number = operands.python_number(value, dtype_of(x))
    return apply("pad", x, low=tuple(low), high=tuple(high), value=number)


@tensor_function
def flip(x: Any, axis: Any = None) -> Any:
    """x with the order of elements reversed along the given axes (all by default)."""
    x = tensor(x)
    for a in axes_of(axis, len(x.shape)):
        x = sliced(x, a, x.shape[a] - 1, x.shape[a], -1)
    return x


@tensor_function
def roll(x: Any, shift: Any, axis: Any = None) -> Any:
    """x with its elements moved on by `shift` along `axis`, those pushed off coming in again."""
    x = tensor(x)
    if axis is None:
        return reshaped(roll(ravel(x), shift, 0), tuple(x.shape))
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    shifts = shift if isinstance(shift, tuple | list) else (shift,) * len(axes)
    for distance, a in zip(shifts, axes, strict=True):
        a = axis_of(a, len(x.shape))
        extent = x.shape[a]
        cut = -integer(distance, "shift") % extent if extent else 0
        if cut:
            parts = [sliced(x, a, cut, extent - cut), sliced(x, a, 0, cut)]
            x = concatenate(parts, a)
    return x


@tensor_function
def repeat(x: Any, repeats: int, axis: int | None = None) -> Any:
    """x with each element along `axis` repeated, as NumPy's repeat and PyTorch's
    repeat_interleave do."""
    x = tensor(x)
    if axis is None:
        x, axis = ravel(x), 0
    axis = axis_of(axis, len(x.shape))
    count = integer(repeats, "repeats")
    wide = expand_dims(x, axis + 1)
    shape = (*x.shape[: axis + 1], count, *x.shape[axis + 1 :])
    joined = (*x.shape[:axis], x.shape[axis] * count, *x.shape[axis + 1 :])
    return reshaped(operands.broadcast(wide, shape), joined)


repeat_interleave = repeat


@tensor_function
def tile(x: Any, reps: Any) -> Any:
    """x laid side by side, `reps` times along each axis; leading axes are added as needed."""
    x = tensor(x)
    counts = shape_of(reps)
    rank = max(len(counts), len(x.shape))
    counts = (1,) * (rank - len(counts)) + counts
    extents = (1,) * (rank - len(x.shape)) + tuple(x.shape)
    pairs = list(zip(counts, extents, strict=True))
    wide = reshaped(x, tuple(n for _, extent in pairs for n in (1, extent)))
    repeated = operands.broadcast(wide, tuple(n for pair in pairs for n in pair))
    return reshaped(repeated, tuple(count * extent for count, extent in pairs))
