"""Small constructors for passes: new values that stand where an old one stood.

In: the value being rewritten, and what should take its place. Out: new values with that value's
location and device, their types inferred by the op table.

>>> build(value, "mul", x, full_like(x, 0.5))
<mul: f32[8,16]>
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minicomp.ir import Value, numpy_dtype
from minicomp.ir.ops import make


def build(source: Value, op: str, *operands: Value, **attributes: Any) -> Value:
    """A value of `op`, located where `source` is."""
    return make(op, operands, attributes, source.location)


def full_like(source: Value, number: bool | int | float) -> Value:
    """A tensor of `source`'s type whose elements are all `number`."""
    element = {"bool": bool, "int32": int, "int64": int}.get(source.dtype, float)
    return build(
        source,
        "full",
        shape=source.shape,
        value=element(number),
        dtype=source.dtype,
        device=source.device,
    )


def reshaped(source: Value, x: Value, shape: Sequence[int]) -> Value:
    """`x` in another shape; `x` itself where it has that shape."""
    return x if x.shape == tuple(shape) else build(source, "reshape", x, shape=tuple(shape))


def broadcasted(source: Value, x: Value, shape: Sequence[int]) -> Value:
    """`x` repeated to a shape; `x` itself where it has that shape."""
    return x if x.shape == tuple(shape) else build(source, "broadcast", x, shape=tuple(shape))


def casted(source: Value, x: Value, dtype: str) -> Value:
    """`x` in another dtype; `x` itself where it has that dtype."""
    return x if x.dtype == dtype else build(source, "cast", x, dtype=dtype)


def scalar_of(value: Value) -> Any:
    """The one number that all elements of a `full` are, rounded to its dtype; None for others."""
    if value.op != "full":
        return None
    with np.errstate(over="ignore"):
        return numpy_dtype(value.dtype).type(value.attributes["value"]).item()


def is_scalar(value: Value, number: float) -> bool:
    """Whether all elements are `number`, where 0.0 and -0.0 differ as they do in IEEE 754."""
    found = scalar_of(value)
    if found is None or found != number:
        return False
    return not isinstance(found, float) or math.copysign(1, found) == math.copysign(1, number)
