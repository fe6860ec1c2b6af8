"""What a fold of each reduction op starts from, and how two partial results become one.

For every back end: methods are named, not called.

>>> COMBINE["prod"], identity("prod", "int32"), identity("max", "float32")
('mul', 1, -inf)
"""

from __future__ import annotations

#: op -> the emitter's method that combines two partial results
COMBINE = {
    "sum": "add",
    "cumsum": "add",
    "prod": "mul",
    "max": "maximum",
    "min": "minimum",
    "any": "logical_or",
    "all": "logical_and",
}


def identity(op: str, dtype: str) -> bool | int | float:
    """What a fold of nothing gives: combining with it changes nothing."""
    if op in ("any", "all"):
        return op == "all"
    if op in ("sum", "cumsum", "prod"):
        return 1 if op == "prod" else 0
    lowest = op in ("max", "argmax")
    if dtype == "bool":
        return not lowest
    if dtype in ("int32", "int64"):
        bits = 31 if dtype == "int32" else 63
        return -(2**bits) if lowest else 2**bits - 1
    return float("-inf") if lowest else float("inf")
