"""The table of simplification rules, and how a rule joins it.

A rule is a function from a value to a simpler one of the same type, or None where it does not
apply. Its docstring says what it does, in the form `before -> after`:

>>> @rule("neg")
... def double_negation(value):
...     "neg(neg(x)) -> x"
...     (inner,) = value.operands
...     return inner.operands[0] if inner.op == "neg" else None
>>> [r.__name__ for r in RULES["neg"]]
['double_negation']

Rules must be exact: the result has the same bits as the interpreter gives the original, with NaN,
infinities, subnormals and both zeros; only the sign and payload of a NaN are free, as they are in
IEEE 754. `x + 0.0 -> x` is not a rule, since -0.0 + 0.0 is 0.0.
"""

from __future__ import annotations

from collections.abc import Callable

from minicomp.ir import Value

Rule = Callable[[Value], "Value | None"]

#: op -> its rules, in the order they are tried
RULES: dict[str, list[Rule]] = {}


def rule(*ops: str) -> Callable[[Rule], Rule]:
    """Decorator: enter a function in the table under each op that it may rewrite."""

    def enter(function: Rule) -> Rule:
        for op in ops:
            RULES.setdefault(op, []).append(function)
        return function

    return enter
