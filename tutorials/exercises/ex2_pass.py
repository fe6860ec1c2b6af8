"""Exercise 2: a pass.

Attention multiplies one matrix by three: x @ q, x @ k and x @ v. One product with the three side
by side, x @ concatenate([q, k, v]), reads x once and keeps the machine busy for longer; slices of
it are the three results.

A pass is a function from a graph to a graph. Yours joins the end of minicomp's list of passes.
What it needs: `rewrite(graph, rule)` from minicomp/ir/graph.py calls a rule for each value in order
and puts what it returns in the value's place; `build(value, op, *operands, **attributes)` from
minicomp/passes/build.py makes a new value.
"""

from minicomp.ir import Graph, Value, rewrite
from minicomp.passes.build import build

LEAVES = ("input", "parameter", "constant")


def merge_products(graph: Graph) -> Graph:
    """The graph with products of one left operand made one product.

    Merged are matmuls with the very same left operand, 2-D, whose right operands are 2-D and
    leaves of the graph (their op is in LEAVES): these are there before any product is computed.
    """
    # TODO: group the products by their left operand, then replace each by a slice of the whole.
    raise NotImplementedError


HINTS = (
    "First collect: a dict from the left operand (values can be keys) to the list of matmuls "
    "that have it. Leave groups of one alone.",
    "For a group: `build(product, 'concatenate', *rights, axis=1)`, then `build(product, "
    "'matmul', left, that)`. Make this product once and use it in all slices.",
    "A slice is `build(product, 'slice', whole, starts=(0, start), sizes=product.shape, "
    "steps=(1, 1))`, where `start` grows by the width of each product, `product.shape[1]`.",
    "Put the slices into a dict from old value to new; its `get` is a rule for `rewrite`.",
)
