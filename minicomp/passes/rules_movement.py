"""Simplification rules for ops that move elements and compute nothing.

Entered in the table of `rules`, which says what a rule is. A movement that only adds, drops or
moves axes of size 1 becomes a `reshape`, so that few forms are left to recognise.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from minicomp.ir import Value, numpy_dtype
from minicomp.passes.build import broadcasted, build, reshaped, scalar_of
from minicomp.passes.rules import rule

#: constant indices are looked at one by one up to this many
LISTED_INDICES = 65536


@rule("reshape", "broadcast")
def to_its_own_shape(value: Value) -> Value | None:
    """reshape(x, shape of x) -> x, broadcast(x, shape of x) -> x"""
    (x,) = value.operands
    return x if x.shape == value.shape else None


@rule("reshape", "broadcast")
def moved_twice(value: Value) -> Value | None:
    """reshape(reshape(x)) -> reshape(x), broadcast(broadcast(x)) -> broadcast(x)"""
    (inner,) = value.operands
    if inner.op != value.op:
        return None
    return build(value, value.op, *inner.operands, shape=value.shape)


@rule("broadcast")
def broadcast_of_one_copy(value: Value) -> Value | None:
    """broadcast(x: [3], [1,1,3]) -> reshape(x, [1,1,3])"""
    (x,) = value.operands
    return reshaped(value, x, value.shape) if x.size == value.size != 0 else None


@rule("broadcast")
def broadcast_adds_axes_itself(value: Value) -> Value | None:
    """broadcast(reshape(x: [3], [1,3]), [8,3]) -> broadcast(x, [8,3])"""
    (inner,) = value.operands
    if inner.op != "reshape":
        return None
    (x,) = inner.operands
    added = len(inner.shape) - len(x.shape)
    if added <= 0 or inner.shape != (1,) * added + x.shape:
        return None
    return broadcasted(value, x, value.shape)


@rule("transpose")
def transpose_of_nothing(value: Value) -> Value | None:
    """transpose that moves axes of size 1 alone -> reshape; that moves none -> x"""
    (x,) = value.operands
    moved = [axis for axis in value.attributes["permutation"] if x.shape[axis] != 1]
    return reshaped(value, x, value.shape) if moved == sorted(moved) else None


@rule("transpose")
def transposed_twice(value: Value) -> Value | None:
    """transpose(transpose(x)) -> transpose(x), the permutations composed"""
    (inner,) = value.operands
    if inner.op != "transpose":
        return None
    first, second = inner.attributes["permutation"], value.attributes["permutation"]
    composed = tuple(first[axis] for axis in second)
    return build(value, "transpose", *inner.operands, permutation=composed)


@rule("transpose")
def broadcast_goes_last(value: Value) -> Value | None:
    """transpose(broadcast(x)) -> broadcast(transpose(x)), so that matmuls see what repeats"""
    (inner,) = value.operands
    if inner.op != "broadcast":
        return None
    (x,) = inner.operands
    aligned = (1,) * (len(inner.shape) - len(x.shape)) + x.shape
    once = build(
        value,
        "transpose",
        reshaped(value, x, aligned),
        permutation=value.attributes["permutation"],
    )
    return broadcasted(value, once, value.shape)


@rule("slice")
def slice_of_everything(value: Value) -> Value | None:
    """slice that takes all, in order -> x"""
    (x,) = value.operands
    in_order = all(
        size == 0 or (start == 0 and (step == 1 or size == 1))
        for start, size, step in _slice_parts(value)
    )
    return x if x.shape == value.shape and in_order else None


@rule("slice")
def sliced_twice(value: Value) -> Value | None:
    """slice(slice(x)) -> slice(x)"""
    (inner,) = value.operands
    if inner.op != "slice" or value.size == 0:
        return None
    parts = list(zip(_slice_parts(inner), _slice_parts(value), strict=True))
    return build(
        value,
        "slice",
        *inner.operands,
        starts=tuple(a + b * step for (a, _, step), (b, _, _) in parts),
        sizes=value.shape,
        steps=tuple(a * b for (_, _, a), (_, _, b) in parts),
    )


@rule("slice")
def slice_within_a_part(value: Value) -> Value | None:
    """slice(concatenate(x, y)) -> slice(x) or slice(y), where it touches one part alone"""
    (inner,) = value.operands
    if inner.op != "concatenate" or value.size == 0:
        return None
    axis = inner.attributes["axis"]
    start, size, step = _slice_parts(value)[axis]
    ends = (start, start + (size - 1) * step)
    offset = 0
    for part in inner.operands:
        if offset <= min(ends) and max(ends) < offset + part.shape[axis]:
            starts = list(value.attributes["starts"])
            starts[axis] -= offset
            return build(value, "slice", part, **{**value.attributes, "starts": tuple(starts)})
        offset += part.shape[axis]
    return None


def _slice_parts(value: Value) -> list[tuple[int, int, int]]:
    """Start, size and step per axis."""
    attributes = value.attributes
    return list(zip(attributes["starts"], attributes["sizes"], attributes["steps"], strict=True))


@rule("windows")
def windows_of_one(value: Value) -> Value | None:
    """windows of size 1 -> slice with the strides as steps, and reshape"""
    (x,) = value.operands
    if any(size != 1 for size in value.attributes["sizes"]):
        return None
    rank = len(x.shape)
    steps = [1] * rank
    for axis, stride in zip(value.attributes["axes"], value.attributes["strides"], strict=True):
        steps[axis] = stride
    picked = build(
        value, "slice", x, starts=(0,) * rank, sizes=value.shape[:rank], steps=tuple(steps)
    )
    return reshaped(value, picked, value.shape)


@rule("pad")
def pad_by_nothing(value: Value) -> Value | None:
    """pad by 0 on every side -> x"""
    (x,) = value.operands
    return x if x.shape == value.shape else None


@rule("pad")
def padded_twice(value: Value) -> Value | None:
    """pad(pad(x)) -> pad(x), where both pad with the same number"""
    (inner,) = value.operands
    if inner.op != "pad" or _padding_bits(inner) != _padding_bits(value):
        return None
    sums = {
        side: tuple(map(sum, zip(inner.attributes[side], value.attributes[side], strict=True)))
        for side in ("low", "high")
    }
    return build(value, "pad", *inner.operands, **sums, value=value.attributes["value"])


def _padding_bits(value: Value) -> bytes:
    return np.array(value.attributes["value"], numpy_dtype(value.dtype)).tobytes()


@rule("concatenate")
def concatenate_one(value: Value) -> Value | None:
    """concatenate(x) -> x, and parts of size 0 are dropped"""
    axis = value.attributes["axis"]
    parts = [part for part in value.operands if part.shape[axis] != 0] or [value.operands[0]]
    if len(parts) == 1:
        return parts[0]
    if len(parts) == len(value.operands):
        return None
    return build(value, "concatenate", *parts, axis=axis)


@rule("concatenate")
def concatenated_twice(value: Value) -> Value | None:
    """concatenate(concatenate(x, y), z) -> concatenate(x, y, z), along one axis"""
    axis = value.attributes["axis"]
    parts: list[Value] = []
    for part in value.operands:
        nested = part.op == "concatenate" and part.attributes["axis"] == axis
        parts.extend(part.operands if nested else [part])
    if len(parts) == len(value.operands):
        return None
    return build(value, "concatenate", *parts, axis=axis)


@rule("take")
def take_in_steps(value: Value) -> Value | None:
    """take(x, [2, 4, 6]) -> slice(x); take(x, one number) -> slice, reshape and broadcast"""
    x, indices = value.operands
    axis = value.attributes["axis"]
    extent = x.shape[axis]
    picks = _known_indices(indices)
    if picks is None or not all(-extent <= pick < extent for pick in picks):
        return None
    picks = [pick % extent for pick in picks]
    steps = {b - a for a, b in pairwise(picks)}
    if len(steps) > 1 or 0 in steps:
        return None
    rank = len(x.shape)
    picked = build(
        value,
        "slice",
        x,
        starts=(*(0,) * axis, picks[0], *(0,) * (rank - axis - 1)),
        sizes=(*x.shape[:axis], len(picks), *x.shape[axis + 1 :]),
        steps=(*(1,) * axis, *(steps or {1}), *(1,) * (rank - axis - 1)),
    )
    ones = tuple(1 if len(picks) == 1 else size for size in indices.shape)
    placed = reshaped(value, picked, (*x.shape[:axis], *ones, *x.shape[axis + 1 :]))
    return broadcasted(value, placed, value.shape)


def _known_indices(indices: Value) -> list[int] | None:
    """The distinct positions that constant indices name, in order; None where unknown."""
    if indices.op == "full" and indices.size:
        return [scalar_of(indices)]
    if indices.op not in ("constant", "iota") or len(indices.shape) != 1:
        return None
    if not 0 < indices.size <= LISTED_INDICES:
        return None
    if indices.op == "iota":
        return list(range(indices.size))
    return [int(index) for index in indices.attributes["value"]]
