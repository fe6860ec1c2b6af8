"""Type rules of the op table: operand types and attributes in, result type out.

Each rule raises ShapeError, DTypeError, DeviceError or AttributeValueError with what it got and
what it wanted; `ops.make` adds the op and the user's line.

>>> matmul([TensorType((8, 16), "float32"), TensorType((16, 4), "float32")], {})
TensorType(shape=(8, 4), dtype='float32', device='cpu')
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from minicomp.errors import AttributeValueError, DeviceError, DTypeError, ShapeError
from minicomp.ir import FLOATS, INTEGERS, TensorType, dtype_name

Types = Sequence[TensorType]
Attributes = Mapping[str, Any]
Rule = Callable[[Types, Attributes], TensorType]


def _same_device(types: Types) -> str:
    devices = {t.device for t in types}
    if len(devices) != 1:
        raise DeviceError(
            f"operands are on different devices, {' and '.join(sorted(devices))}; "
            f"move one with minicomp.cuda.to_device / to_host, or the module with .to('cuda') / "
            f".to('cpu')"
        )
    return devices.pop()


def _check_dtype(dtype: str, allowed: Sequence[str]) -> None:
    if dtype not in allowed:
        raise DTypeError(f"got dtype {dtype}, wanted one of {', '.join(allowed)}; cast it first")


def _check_axis(axis: Any, rank: int) -> None:
    if not isinstance(axis, int) or not 0 <= axis < rank:
        raise AttributeValueError(f"axis {axis!r} is not within 0..{rank - 1}")


def _check_axes(axes: Sequence[int], rank: int) -> None:
    for axis in axes:
        _check_axis(axis, rank)
    if list(axes) != sorted(set(axes)):
        raise AttributeValueError(f"axes {tuple(axes)} are not sorted and distinct")


def _check_shape(shape: Sequence[int]) -> None:
    if not all(isinstance(extent, int) and extent >= 0 for extent in shape):
        raise AttributeValueError(f"{shape!r} is not a shape: sizes are non-negative ints")


def _check_lengths(rank: int, **attributes: Sequence[int]) -> None:
    for name, value in attributes.items():
        if len(value) != rank:
            raise AttributeValueError(f"{name} has {len(value)} entries, wanted {rank}")


# --- leaves ---


def declared(types: Types, attributes: Attributes) -> TensorType:
    return attributes["type"]


def constant(types: Types, attributes: Attributes) -> TensorType:
    value = attributes["value"]
    return TensorType(value.shape, dtype_name(value.dtype), attributes.get("device", "cpu"))


def full(types: Types, attributes: Attributes) -> TensorType:
    _check_shape(attributes["shape"])
    return TensorType(
        tuple(attributes["shape"]), attributes["dtype"], attributes.get("device", "cpu")
    )


def iota(types: Types, attributes: Attributes) -> TensorType:
    _check_shape(attributes["shape"])
    _check_axis(attributes["axis"], len(attributes["shape"]))
    return full(types, attributes)


# --- pointwise ---


def pointwise(allowed: Sequence[str]) -> Rule:
    """Operands of one shape and one allowed dtype; the result is the same."""

    def rule(types: Types, attributes: Attributes) -> TensorType:
        device = _same_device(types)
        first = types[0]
        for other in types[1:]:
            if other.shape != first.shape:
                raise ShapeError(f"shapes differ, {first.shape} and {other.shape}; broadcast first")
            if other.dtype != first.dtype:
                raise DTypeError(f"dtypes differ, {first.dtype} and {other.dtype}; cast first")
        _check_dtype(first.dtype, allowed)
        return TensorType(first.shape, first.dtype, device)

    return rule


def comparison(allowed: Sequence[str]) -> Rule:
    """As pointwise, giving bool."""
    same = pointwise(allowed)

    def rule(types: Types, attributes: Attributes) -> TensorType:
        operand = same(types, attributes)
        return TensorType(operand.shape, "bool", operand.device)

    return rule


def cast(types: Types, attributes: Attributes) -> TensorType:
    return TensorType(types[0].shape, dtype_name(attributes["dtype"]), types[0].device)


def where(types: Types, attributes: Attributes) -> TensorType:
    condition, *choices = types
    _same_device(types)
    if condition.dtype != "bool":
        raise DTypeError(f"the condition is {condition.dtype}, wanted bool; compare it with 0?")
    if condition.shape != choices[0].shape:
        raise ShapeError(f"the condition's shape {condition.shape} is not {choices[0].shape}")
    return pointwise(("bool", *INTEGERS, *FLOATS))(choices, attributes)


# --- reductions ---


def _reduced_shape(shape: Sequence[int], axes: Sequence[int], keepdims: bool) -> tuple[int, ...]:
    _check_axes(axes, len(shape))
    if keepdims:
        return tuple(1 if axis in axes else extent for axis, extent in enumerate(shape))
    return tuple(extent for axis, extent in enumerate(shape) if axis not in axes)


def _check_nonempty(shape: Sequence[int], axes: Sequence[int]) -> None:
    if prod(shape[axis] for axis in axes) == 0:
        raise ShapeError(f"axes {tuple(axes)} of shape {tuple(shape)} are empty: nothing to pick")


def reduction(allowed: Sequence[str], widen: bool = False, nonempty: bool = False) -> Rule:
    """Fold `axes`. `widen`: int32 sums to int64, as NumPy has it; `nonempty`: there is no
    identity to return for an empty axis."""

    def rule(types: Types, attributes: Attributes) -> TensorType:
        (operand,) = types
        _check_dtype(operand.dtype, allowed)
        shape = _reduced_shape(operand.shape, attributes["axes"], attributes["keepdims"])
        if nonempty:
            _check_nonempty(operand.shape, attributes["axes"])
        dtype = "int64" if widen and operand.dtype == "int32" else operand.dtype
        return TensorType(shape, dtype, operand.device)

    return rule


def arg_reduction(types: Types, attributes: Attributes) -> TensorType:
    (operand,) = types
    axes = attributes["axes"]
    shape = _reduced_shape(operand.shape, axes, attributes["keepdims"])
    _check_nonempty(operand.shape, axes)
    return TensorType(shape, "int64", operand.device)


def cumsum(types: Types, attributes: Attributes) -> TensorType:
    (operand,) = types
    _check_dtype(operand.dtype, (*INTEGERS, *FLOATS))
    _check_axis(attributes["axis"], len(operand.shape))
    dtype = "int64" if operand.dtype == "int32" else operand.dtype
    return TensorType(operand.shape, dtype, operand.device)


# --- movement ---


def reshape(types: Types, attributes: Attributes) -> TensorType:
    (operand,) = types
    shape = tuple(attributes["shape"])
    _check_shape(shape)
    if prod(shape) != operand.size:
        raise ShapeError(f"cannot reshape {operand.shape} ({operand.size} elements) to {shape}")
    return TensorType(shape, operand.dtype, operand.device)


def transpose(types: Types, attributes: Attributes) -> TensorType:
    (operand,) = types
    permutation = tuple(attributes["permutation"])
    if sorted(permutation) != list(range(len(operand.shape))):
        raise AttributeValueError(f"{permutation} does not permute {len(operand.shape)} axes")
    shape = tuple(operand.shape[axis] for axis in permutation)
    return TensorType(shape, operand.dtype, operand.device)


def broadcast(types: Types, attributes: Attributes) -> TensorType:
    (operand,) = types
    shape = tuple(attributes["shape"])
    _check_shape(shape)
    aligned = (1,) * (len(shape) - len(operand.shape)) + operand.shape
    if len(aligned) != len(shape) or any(
        a not in (1, b) for a, b in zip(aligned, shape, strict=True)
    ):
        raise ShapeError(f"cannot broadcast {operand.shape} to {shape}")
    return TensorType(shape, operand.dtype, operand.device)


def slice_(types: Types, attributes: Attributes) -> TensorType:
    """Entry i along an axis is entry start + i * step of the operand; steps may be negative."""
    (operand,) = types
    starts, sizes, steps = attributes["starts"], attributes["sizes"], attributes["steps"]
    _check_lengths(len(operand.shape), starts=starts, sizes=sizes, steps=steps)
    _check_shape(sizes)
    for axis, (start, size, step) in enumerate(zip(starts, sizes, steps, strict=True)):
        last = start + (size - 1) * step
        extent = operand.shape[axis]
        if step == 0 or (size and not (0 <= start < extent and 0 <= last < extent)):
            raise AttributeValueError(
                f"{size} entries from {start} by {step} leave axis {axis} of size {extent}"
            )
    return TensorType(tuple(sizes), operand.dtype, operand.device)


def windows(types: Types, attributes: Attributes) -> TensorType:
    """Sliding windows: along each of `axes` their count, and their sizes as new last axes."""
    (operand,) = types
    axes, sizes = attributes["axes"], attributes["sizes"]
    strides, dilations = attributes["strides"], attributes["dilations"]
    _check_axes(axes, len(operand.shape))
    _check_lengths(len(axes), sizes=sizes, strides=strides, dilations=dilations)
    shape = list(operand.shape)
    for axis, size, stride, dilation in zip(axes, sizes, strides, dilations, strict=True):
        if min(size, stride, dilation) < 1:
            raise AttributeValueError("sizes, strides and dilations are at least 1")
        reach = (size - 1) * dilation + 1
        if reach > shape[axis]:
            raise ShapeError(f"a window reaching {reach} exceeds axis {axis} of {operand.shape}")
        shape[axis] = (shape[axis] - reach) // stride + 1
    return TensorType((*shape, *sizes), operand.dtype, operand.device)


def patches(types: Types, attributes: Attributes) -> TensorType:
    """The windows of padded images, each a row: (n * rows * columns, c * height * width)."""
    (operand,) = types
    if len(operand.shape) != 4:
        raise ShapeError(f"patches wants (n, c, height, width), got {operand.shape}")
    _check_lengths(2, low=attributes["low"], high=attributes["high"])
    widths = {"low": (0, 0, *attributes["low"]), "high": (0, 0, *attributes["high"])}
    axes = {name: attributes[name] for name in ("sizes", "strides", "dilations")}
    n, c, rows, columns, *sizes = windows([pad([operand], widths)], {"axes": (2, 3), **axes}).shape
    return TensorType((n * rows * columns, c * prod(sizes)), operand.dtype, operand.device)


# --- assembly and gathers ---


def pad(types: Types, attributes: Attributes) -> TensorType:
    (operand,) = types
    low, high = attributes["low"], attributes["high"]
    _check_lengths(len(operand.shape), low=low, high=high)
    if any(width < 0 for width in (*low, *high)):
        raise AttributeValueError(f"padding {low}, {high} is negative; slice instead")
    shape = tuple(n + a + b for n, a, b in zip(operand.shape, low, high, strict=True))
    return TensorType(shape, operand.dtype, operand.device)


def concatenate(types: Types, attributes: Attributes) -> TensorType:
    if not types:
        raise AttributeValueError("nothing to concatenate")
    axis, first = attributes["axis"], types[0]
    _check_axis(axis, len(first.shape))
    for other in types[1:]:
        if other.dtype != first.dtype:
            raise DTypeError(f"dtypes differ, {first.dtype} and {other.dtype}; cast first")
        rest = [other.shape[:axis] + other.shape[axis + 1 :] for other in (first, other)]
        if rest[0] != rest[1]:
            raise ShapeError(f"{first.shape} and {other.shape} differ beside axis {axis}")
    total = sum(t.shape[axis] for t in types)
    shape = (*first.shape[:axis], total, *first.shape[axis + 1 :])
    return TensorType(shape, first.dtype, _same_device(types))


def take(types: Types, attributes: Attributes) -> TensorType:
    """`axis` of the first operand is replaced by the shape of the second, integer indices."""
    source, indices = types
    axis = attributes["axis"]
    _check_dtype(indices.dtype, INTEGERS)
    _check_axis(axis, len(source.shape))
    shape = (*source.shape[:axis], *indices.shape, *source.shape[axis + 1 :])
    if source.shape[axis] == 0 and indices.size:
        raise ShapeError(f"cannot take from axis {axis} of {source.shape}: it is empty")
    return TensorType(shape, source.dtype, _same_device(types))


def take_along_axis(types: Types, attributes: Attributes) -> TensorType:
    """Indices of the source's rank, equal to it beside `axis`; one pick per index."""
    source, indices = types
    axis = attributes["axis"]
    _check_dtype(indices.dtype, INTEGERS)
    _check_axis(axis, len(source.shape))
    expected = (*source.shape[:axis], *indices.shape[axis : axis + 1], *source.shape[axis + 1 :])
    if indices.shape != expected:
        raise ShapeError(f"indices {indices.shape} do not fit {source.shape} beside axis {axis}")
    if source.shape[axis] == 0 and indices.size:
        raise ShapeError(f"cannot take from axis {axis} of {source.shape}: it is empty")
    return TensorType(indices.shape, source.dtype, _same_device(types))


def matmul(types: Types, attributes: Attributes) -> TensorType:
    """(..., m, k) @ (..., k, n), leading axes broadcast."""
    a, b = types
    if len(a.shape) < 2 or len(b.shape) < 2:
        raise ShapeError(f"wanted two operands of rank 2 or more, got {a.shape} @ {b.shape}")
    if a.dtype != b.dtype:
        raise DTypeError(f"dtypes differ, {a.dtype} @ {b.dtype}; cast one of them")
    if a.shape[-1] != b.shape[-2]:
        hint = "; transpose the second?" if a.shape[-1] == b.shape[-1] else ""
        raise ShapeError(f"inner sizes differ, {a.shape} @ {b.shape}{hint}")
    batch = _broadcast_batch(a.shape, b.shape)
    return TensorType((*batch, a.shape[-2], b.shape[-1]), a.dtype, _same_device(types))


def _broadcast_batch(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    rank = max(len(a), len(b)) - 2
    left = (1,) * (rank - len(a) + 2) + a[:-2]
    right = (1,) * (rank - len(b) + 2) + b[:-2]
    for x, y in zip(left, right, strict=True):
        if x != y and 1 not in (x, y):
            raise ShapeError(f"batch sizes differ, {a} @ {b}")
    return tuple(y if x == 1 else x for x, y in zip(left, right, strict=True))
