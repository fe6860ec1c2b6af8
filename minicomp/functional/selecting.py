"""Functions that pick elements: subscripts, take, gather, embedding.

In: a tensor, and subscripts or integer tensors of positions. Out: the elements there. Positions
that are data are checked when the graph runs: one outside its axis is an IndexOutOfRangeError;
negative ones count from the end.

>>> getitem(np.arange(12).reshape(3, 4), (slice(None, None, -1), 1))
array([9, 5, 1])
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minicomp.errors import IndexOutOfRangeError, ShapeError, UnsupportedError
from minicomp.functional.operands import (
    axis_of,
    broadcast,
    common_shape,
    dtype_of,
    integer,
    tensor,
    tensor_function,
)
from minicomp.functional.shapes import permuted, ravel, reshaped, sliced
from minicomp.ir import INTEGERS
from minicomp.tracing.record import Cell, Symbolic, apply, type_of


@tensor_function
def take(x: Any, indices: Any, axis: int | None = None, *, mode: str = "raise") -> Any:
    """The elements of x at `indices` (integers of any shape) along `axis`; of the elements in
    row-major order without it."""
    if mode != "raise":
        raise UnsupportedError(f"mode {mode!r} is not supported; clip the indices first")
    x = ravel(x) if axis is None else tensor(x)
    return apply("take", x, _indices(indices), axis=axis_of(axis or 0, len(x.shape)))


def _indices(indices: Any) -> Any:
    """Positions as an int32 or int64 tensor; NumPy's other integer dtypes are widened."""
    if isinstance(indices, list | tuple | range) and len(indices) == 0:
        return tensor(np.zeros(0, np.int64))
    if isinstance(indices, np.ndarray | np.generic) and indices.dtype.kind in "iu":
        narrow = indices.dtype in (np.int32, np.int64)
        return tensor(indices if narrow else indices.astype(np.int64))
    return tensor(indices)


@tensor_function
def take_along_axis(x: Any, indices: Any, axis: int | None = -1) -> Any:
    """For each index, the element of x there along `axis` and at the index's own place along the
    other axes, which are broadcast against x's."""
    x, indices = tensor(x), _indices(indices)
    if axis is None:
        x, axis = ravel(x), 0
    rank = len(x.shape)
    if len(indices.shape) != rank:
        raise ShapeError(f"indices of shape {indices.shape} for {x.shape}: wanted {rank} axes")
    axis = axis_of(axis, rank)
    rest = [(*y.shape[:axis], 1, *y.shape[axis + 1 :]) for y in (x, indices)]
    common = common_shape([np.broadcast_to(np.int64(0), shape) for shape in rest])
    shapes = [(*common[:axis], y.shape[axis], *common[axis + 1 :]) for y in (x, indices)]
    return apply(
        "take_along_axis", broadcast(x, shapes[0]), broadcast(indices, shapes[1]), axis=axis
    )


@tensor_function
def gather(x: Any, dim: int, index: Any) -> Any:
    """PyTorch's gather: `take_along_axis` where `index` may be shorter than x along other axes."""
    x, index = tensor(x), _indices(index)
    rank = len(x.shape)
    if len(index.shape) != rank:
        raise ShapeError(f"index of shape {index.shape} for {x.shape}: wanted {rank} axes")
    dim = axis_of(dim, rank)
    for axis, extent in enumerate(index.shape):
        if axis != dim and extent > x.shape[axis]:
            raise ShapeError(f"index {index.shape} is larger than {x.shape} along axis {axis}")
        if axis != dim:
            x = sliced(x, axis, 0, extent)
    return apply("take_along_axis", x, index, axis=dim)


@tensor_function
def embedding(indices: Any, weight: Any) -> Any:
    """The rows of `weight` (rows, features) at `indices` of any shape: (*shape, features)."""
    weight = tensor(weight)
    if len(weight.shape) != 2:
        raise ShapeError(f"weight has shape {weight.shape}, wanted (rows, features)")
    return take(weight, indices, axis=0)


# --- subscripts ---


@dataclass
class _Subscript:
    """What a subscript does, in order: slice every axis, reshape, then take along one axis."""

    starts: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    shape: list[int] = field(default_factory=list)  # after the slice: ints dropped, None added
    indices: Any = None
    taken: int = 0  # the axis of `shape` that `indices` picks from
    picks: list[int] = field(default_factory=list)  # which entries of the key name positions

    def keep(self, start: int, size: int, step: int) -> None:
        self.starts.append(start if size else 0)
        self.sizes.append(size)
        self.steps.append(step)


@tensor_function
def getitem(x: Any, key: Any) -> Any:
    """x[key] with NumPy's rules: ints, slices (of any step), None, `...`, and integer arrays or
    tensors along one axis. A mask of bool is an UnsupportedError: its result has no fixed shape.
    """
    x = tensor(x)
    plan = _plan(key if isinstance(key, tuple) else (key,), tuple(x.shape))
    rank = len(x.shape)
    if (plan.starts, plan.sizes, plan.steps) != ([0] * rank, list(x.shape), [1] * rank):
        attributes = {"starts": plan.starts, "sizes": plan.sizes, "steps": plan.steps}
        x = apply("slice", x, **{name: tuple(value) for name, value in attributes.items()})
    x = reshaped(x, tuple(plan.shape))
    if plan.indices is None:
        return x
    x = apply("take", x, plan.indices, axis=plan.taken)
    if plan.picks[-1] - plan.picks[0] < len(plan.picks):
        return x
    # NumPy: where slices part the positions, the axes that these give come first.
    new = range(plan.taken, plan.taken + len(plan.indices.shape))
    return permuted(x, [*new, *(axis for axis in range(len(x.shape)) if axis not in new)])


def _plan(key: tuple[Any, ...], shape: tuple[int, ...]) -> _Subscript:
    plan = _Subscript()
    axis = 0
    for number, entry in enumerate(_without_ellipsis(key, len(shape))):
        if entry is Ellipsis:
            continue
        if entry is None:
            plan.shape.append(1)
            continue
        extent = shape[axis]
        if isinstance(entry, slice):
            start, stop, step = entry.indices(extent)
            size = len(range(start, stop, step))
            plan.keep(start, size, step)
            plan.shape.append(size)
        elif _is_array(entry):
            _add_indices(plan, entry)
            plan.keep(0, extent, 1)
            plan.shape.append(extent)
            plan.picks.append(number)
        else:
            plan.keep(_position(entry, axis, extent), 1, 1)
            plan.picks.append(number)
        axis += 1
    return plan


def _without_ellipsis(key: tuple[Any, ...], rank: int) -> list[Any]:
    """The key with full slices after `...` (or at the end) for the axes that it stands for.

    It stays as a mark: even where it stands for none, it parts the positions around it.
    """
    dots = [place for place, entry in enumerate(key) if entry is Ellipsis]
    used = sum(entry is not None and entry is not Ellipsis for entry in key)
    if len(dots) > 1:
        raise IndexOutOfRangeError("more than one ... in a subscript")
    if used > rank:
        raise IndexOutOfRangeError(f"{used} indices for a tensor with {rank} axes")
    place = dots[0] if dots else len(key)
    return [*key[: place + 1], *[slice(None)] * (rank - used), *key[place + 1 :]]


def _is_array(entry: Any) -> bool:
    if isinstance(entry, bool | np.bool_):
        _refuse_mask()
    if isinstance(entry, list | tuple | range | Symbolic | Cell):
        return True
    return isinstance(entry, np.ndarray) and (entry.ndim > 0 or entry.dtype.kind not in "iu")


def _add_indices(plan: _Subscript, entry: Any) -> None:
    if plan.indices is not None:
        raise UnsupportedError(
            "arrays index one axis at a time; use take or take_along_axis, "
            "or reshape the axes into one"
        )
    plan.indices = _indices(entry)
    if dtype_of(plan.indices) == "bool":
        _refuse_mask()
    if dtype_of(plan.indices) not in INTEGERS:
        raise UnsupportedError(
            f"a subscript of dtype {type_of(plan.indices).dtype}; indices are integers: cast it"
        )
    plan.taken = len(plan.shape)


def _refuse_mask() -> None:
    raise UnsupportedError(
        "a boolean mask as a subscript gives a result whose shape depends on the data; "
        "use minicomp.where(mask, x, 0), which keeps the shape"
    )


def _position(entry: Any, axis: int, extent: int) -> int:
    index = integer(entry, "a subscript")
    if not -extent <= index < extent:
        raise IndexOutOfRangeError(f"index {index} is outside axis {axis} of size {extent}")
    return index % extent
