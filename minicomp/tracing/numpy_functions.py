"""Functions of NumPy's that are a few lines over minicomp's own, for traced tensors alone.

In: what NumPy's function takes, arguments by NumPy's names. Out: what it gives. `numpy_protocol`
looks them up here, by name, where `minicomp.functional` has no counterpart.

>>> trace(lambda x: np.hstack([x, x]), np.zeros((2, 3))).outputs[0].type.shape
(2, 6)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from minicomp import functional as F
from minicomp.functional.operands import axis_of, dtype_of, tensor
from minicomp.ir import INTEGERS


def _at_least(x: Any, rank: int) -> Any:
    """x with axes of size 1 before its own, `rank` of them at least."""
    x = tensor(x)
    return F.reshape(x, (*(1,) * (rank - len(x.shape)), *x.shape))


def vstack(tup: Sequence[Any]) -> Any:
    return F.concatenate([_at_least(x, 2) for x in tup], 0)


def hstack(tup: Sequence[Any]) -> Any:
    parts = [_at_least(x, 1) for x in tup]
    return F.concatenate(parts, min(1, len(parts[0].shape) - 1))


def column_stack(tup: Sequence[Any]) -> Any:
    parts = [tensor(x) for x in tup]
    return F.concatenate([x if len(x.shape) > 1 else F.reshape(x, (-1, 1)) for x in parts], 1)


def inner(x: Any, b: Any) -> Any:
    x, b = tensor(x), tensor(b)
    if not x.shape or not b.shape:
        return F.multiply(x, b)
    columns = F.transpose(F.reshape(b, (math.prod(b.shape[:-1]), b.shape[-1])))
    return F.reshape(F.matmul(x, columns), (*x.shape[:-1], *b.shape[:-1]))


def diff(x: Any, n: int = 1, axis: int = -1) -> Any:
    x = tensor(x)
    before = (slice(None),) * axis_of(axis, len(x.shape))
    for _ in range(n):
        later, earlier = x[(*before, slice(1, None))], x[(*before, slice(None, -1))]
        x = (F.not_equal if dtype_of(x) == "bool" else F.subtract)(later, earlier)
    return x


def ptp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    return F.subtract(F.amax(x, axis, keepdims=keepdims), F.amin(x, axis, keepdims=keepdims))


def count_nonzero(x: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    return F.sum(F.not_equal(x, 0), axis, keepdims=keepdims)


def fabs(x: Any) -> Any:
    x = tensor(x)
    return F.abs(F.astype(x, "float64") if dtype_of(x) in (*INTEGERS, "bool") else x)


def divmod(x1: Any, x2: Any) -> tuple[Any, Any]:
    return F.floor_divide(x1, x2), F.remainder(x1, x2)


def logaddexp(x1: Any, x2: Any) -> Any:
    greatest = F.maximum(x1, x2)
    gap = F.where(F.equal(x1, x2), 0, F.abs(F.subtract(x1, x2)))  # inf - inf would be NaN
    return F.add(greatest, F.log1p(F.exp(F.negative(gap))))
