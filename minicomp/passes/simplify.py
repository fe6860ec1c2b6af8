"""Algebraic simplification: one table of small exact rules, applied wherever they fit.

In: a graph. Out: a graph to which no rule of `RULES` applies at any value.

    %0 = neg(%x) : f32[8]
    %1 = add(%y, %0) : f32[8]
    %2 = reshape(%1) {shape=[8]} : f32[8]
    return %2
becomes
    %0 = sub(%y, %x) : f32[8]
    return %0

The rules are in `rules_arithmetic`, `rules_logic` and `rules_movement`; each is exact to the bit
(see `rules`). What a rule leaves unused, `dead_code` drops.
"""

from __future__ import annotations

from minicomp.ir import Graph, Value, rewrite
from minicomp.passes import rules_arithmetic, rules_logic, rules_movement
from minicomp.passes.rules import RULES

# Importing a module of rules enters them in the table.
RULE_MODULES = (rules_arithmetic, rules_logic, rules_movement)


def simplify(graph: Graph) -> Graph:
    """The graph with every rule applied until none fits. Values that a rule adds below its
    result are simplified the next time the pass runs."""
    return rewrite(graph, _simplified)


def _simplified(value: Value) -> Value | None:
    current, following = value, _applied(value)
    while following is not None:
        current, following = following, _applied(following)
    return None if current is value else current


def _applied(value: Value) -> Value | None:
    """The result of the first rule that fits."""
    for rule in RULES.get(value.op, ()):
        result = rule(value)
        if result is not None:
            return result
    return None
