"""How many instructions a scalar expression takes, roughly: whether it is worth a loop.

>>> count_operations(Apply("float32", "add", (x, y)))
1
"""

from __future__ import annotations

from minicomp.kernels import Apply, Scalar

#: Ops that are a few instructions each; every other counts as `LONG_OPERATION`.
SHORT = {
    *("add", "sub", "mul", "div", "neg", "abs", "sqrt", "minimum", "maximum", "where", "cast"),
    *("lt", "le", "gt", "ge", "eq", "ne", "logical_and", "logical_or", "logical_xor"),
    *("logical_not", "floor", "ceil", "trunc", "round", "sign"),
}
LONG_OPERATION = 30


def count_operations(scalar: Scalar, seen: set[int] | None = None) -> int:
    """Roughly how many instructions a scalar expression takes, shared parts counted once."""
    seen = set() if seen is None else seen
    if id(scalar) in seen:
        return 0
    seen.add(id(scalar))
    own = 0
    if isinstance(scalar, Apply):
        own = 1 if scalar.op in SHORT else LONG_OPERATION
    return own + sum(count_operations(operand, seen) for operand in scalar.operands_())
