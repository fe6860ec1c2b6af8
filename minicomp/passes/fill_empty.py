"""Values without elements, and reductions and products over nothing, need no computing.

In: a graph. Out: a graph in which every value of size 0 is a `full`, and so is every reduction or
matmul of an operand of size 0: it is what folding nothing gives. No kernel then has a loop that
runs 0 times.

    %0 = exp(%x) : f32[3,0]                      %0 = full() {shape=[3,0], value=0.0, dtype=f32}
    %1 = prod(%0) {axes=[1], keepdims=false}  -> %1 = full() {shape=[3], value=1.0, dtype=f32}
"""

from __future__ import annotations

from minicomp.ir import Graph, Value, rewrite
from minicomp.ir.ops import kind
from minicomp.passes.build import full_like

#: What folding nothing gives, where NumPy gives anything: max and argmax of nothing are errors.
IDENTITY = {"sum": 0, "prod": 1, "any": False, "all": True, "matmul": 0}


def fill_empty(graph: Graph) -> Graph:
    """`graph` without computations on nothing; see the module's docstring."""
    return rewrite(graph, _filled)


def _filled(value: Value) -> Value | None:
    if kind(value) == "leaf":
        return None
    if value.size == 0:
        return full_like(value, False if value.dtype == "bool" else 0)
    if value.op in IDENTITY and value.operands[0].size == 0:
        return full_like(value, IDENTITY[value.op])
    return None
