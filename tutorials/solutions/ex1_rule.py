"""Exercise 1: a simplification rule.

People write relu twice, or a library does it for them: `maximum(maximum(x, 0), 0)`. Once would do,
and so it would for any other value in the place of 0: `maximum(maximum(x, y), y)` is
`maximum(x, y)`, to the bit.

A rule is a function from a value of the graph to a simpler value, or None where it does not apply.
minicomp calls yours for each value whose op is "maximum". Other rules, to read first, are in
minicomp/passes/rules_arithmetic.py; `absolute_of_negative` and `extreme_of_itself` are close.
"""

from minicomp.ir import Value


def repeated_maximum(value: Value) -> Value | None:
    """maximum(maximum(x, y), y) -> maximum(x, y)"""
    # TODO: look at value.operands; return the simpler value, or None.
    inner, y = value.operands
    if inner.op != "maximum" or inner.operands[1] is not y:
        return None
    return inner


HINTS = (
    "`value.operands` are two values, `inner, y`. The rule is about an `inner` whose op is also "
    "'maximum'.",
    "Values are compared by identity: the `y` inside is the same `y` if "
    "`inner.operands[1] is y`. Common subexpressions have been merged before, so equal constants "
    "are one value.",
    "Nothing has to be built: `inner` already is maximum(x, y).",
)
