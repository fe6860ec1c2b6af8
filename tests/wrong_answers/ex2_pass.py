"""Begins every slice at the first column."""

from minicomp.ir import Graph, Value, rewrite
from minicomp.passes.build import build

LEAVES = ("input", "parameter", "constant")


def merge_products(graph: Graph) -> Graph:
    groups: dict[Value, list[Value]] = {}
    for value in graph:
        if value.op == "matmul" and value.operands[1].op in LEAVES:
            groups.setdefault(value.operands[0], []).append(value)
    slices: dict[Value, Value] = {}
    for left, products in groups.items():
        if len(products) > 1:
            rights = [product.operands[1] for product in products]
            side_by_side = build(products[0], "concatenate", *rights, axis=1)
            whole = build(products[0], "matmul", left, side_by_side)
            for product in products:
                slices[product] = build(
                    product, "slice", whole, starts=(0, 0), sizes=product.shape, steps=(1, 1)
                )
    return rewrite(graph, slices.get)
