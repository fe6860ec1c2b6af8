"""What the tensor IR says about reductions and scans, and about the indices that they give.

In: a value. Out: the iteration space of a fold; whether the entries of an index tensor are within
an axis for certain, so that a gather by them need not check.
"""

from __future__ import annotations

from math import prod

from minicomp.ir import Value
from minicomp.ir.ops import kind


def fold_space(fold: Value | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The iteration space of a reduction or scan: the shape it reads, and the axes it folds."""
    assert fold is not None
    axes = (fold.attributes["axis"],) if kind(fold) == "scan" else fold.attributes["axes"]
    return fold.operands[0].shape, tuple(axes)


def lies_within(value: Value, extent: int) -> bool:
    """Whether the entries of an index tensor are in [0, extent) by the way they are computed."""
    while kind(value) == "movement":
        (value,) = value.operands
    match value.op:
        case "argmax" | "argmin":
            shape, axes = fold_space(value)
            return prod(shape[axis] for axis in axes) <= extent
        case "iota":
            return value.shape[value.attributes["axis"]] <= extent
        case "full":
            return 0 <= value.attributes["value"] < extent
    return False
