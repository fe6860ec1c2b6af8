"""Passes: graph in, better graph out, each in its own file.

`PASSES` is the pipeline, in order. `optimize` runs it with the verifier after every pass, again
and again until a whole round changes nothing:

>>> print(optimize(parse("graph f(%x: f32[2]) { %0 = neg(%x) : f32[2] %1 = neg(%0) : f32[2] "
...                      "return %1 }")))
graph f(%x: f32[2]) {
  return %x
}

`freeze` is a pass that only the option of that name runs.
"""

from __future__ import annotations

from collections.abc import Callable

from minicomp.ir import Graph
from minicomp.ir.verifier import verify
from minicomp.passes.canonicalize_matmul import canonicalize_matmul
from minicomp.passes.common_subexpressions import common_subexpressions
from minicomp.passes.dead_code import dead_code
from minicomp.passes.decompose import decompose
from minicomp.passes.fill_empty import fill_empty
from minicomp.passes.fold_constants import fold_constants
from minicomp.passes.freeze import freeze
from minicomp.passes.simplify import simplify

__all__ = ["PASSES", "freeze", "optimize", "unchanged"]

Pass = Callable[[Graph], Graph]

PASSES: list[Pass] = [
    decompose,
    fill_empty,
    fold_constants,
    simplify,
    common_subexpressions,
    dead_code,
    canonicalize_matmul,
]

#: Each rule makes a graph smaller or more canonical, so rounds end by themselves, mostly after
#: two or three; the bound is for a rule that a user adds and that undoes another's work.
MAX_ROUNDS = 20


def optimize(graph: Graph, *, trace: Callable[[str, Graph], None] | None = None) -> Graph:
    """The graph after all passes. `trace` is called with a pass's name and result after each.
    GraphError, naming the pass, where one breaks a rule of the IR."""
    for _ in range(MAX_ROUNDS):
        before = graph
        for run in PASSES:
            graph = verify(run(graph), run.__name__)
            if trace is not None:
                trace(run.__name__, graph)
        if unchanged(before, graph):
            break
    return graph


def unchanged(before: Graph, after: Graph) -> bool:
    """Whether two graphs have the very same values: cheaper than `==`, which prints both."""
    return before.values == after.values and before.outputs == after.outputs
