"""Dead code: values that no output depends on are dropped.

In: a graph. Out: a graph in which every value but the inputs is needed.

    graph f(%x: f32[8], %w: f32[8] parameter) {
      %0 = exp(%x) : f32[8]
      %1 = mul(%0, %w) : f32[8]
      return %0
    }
becomes
    graph f(%x: f32[8]) {
      %0 = exp(%x) : f32[8]
      return %0
    }

Inputs stay, since callers pass them; a parameter that nothing reads goes, and need not be bound.
A gather that nothing reads goes too, and with it the error it might have raised.
"""

from __future__ import annotations

from dataclasses import replace

from minicomp.ir import Graph, Value


def dead_code(graph: Graph) -> Graph:
    """The graph without values that no output needs."""
    needed: set[Value] = set()
    pending = list(graph.outputs)
    while pending:
        value = pending.pop()
        if value not in needed:
            needed.add(value)
            pending.extend(value.operands)
    kept = tuple(value for value in graph.values if value in needed or value.op == "input")
    return replace(graph, values=kept)
