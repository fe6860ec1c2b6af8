"""Composite ops written in terms of simpler ones, so that code generation need not know them.

In: a graph. Out: a graph without `mean` and `patches`, and whose matmuls are all of floats.

    %0 = mean(%x) {axes=[1], keepdims=false} : f32[8]
becomes
    %0 = sum(%x) {axes=[1], keepdims=false} : f32[8]
    %1 = full() {shape=[8], value=16.0, dtype=f32} : f32[8]
    %2 = div(%0, %1) : f32[8]

It divides by the count, rather than multiply by its reciprocal, because NumPy does: the results
are the same to the bit, and the mean of nothing is 0/0 = nan.
"""

from __future__ import annotations

from math import prod

from minicomp.ir import FLOATS, ITEMSIZE, Graph, Value, rewrite
from minicomp.passes.build import broadcasted, build, casted, full_like, reshaped


def decompose(graph: Graph) -> Graph:
    """The graph with composite ops written out; `rewrite` applies one rule per op."""
    return rewrite(graph, _decompose)


def _decompose(value: Value) -> Value | None:
    if value.op == "mean":
        return _mean(value)
    if value.op == "matmul" and value.dtype not in FLOATS:
        return _exact_matmul(value)
    if value.op == "patches":
        return _patches(value)
    return None


def _mean(value: Value) -> Value:
    (x,) = value.operands
    # 2-byte floats are accumulated and divided in float32, and rounded once.
    wide = casted(value, x, "float32" if ITEMSIZE[x.dtype] == 2 else x.dtype)
    total = build(value, "sum", wide, **value.attributes)
    count = prod(x.shape[axis] for axis in value.attributes["axes"])
    return casted(value, build(value, "div", total, full_like(total, count)), x.dtype)


def _patches(value: Value) -> Value:
    """Padding and windows, laid out as rows."""
    (x,) = value.operands
    attributes = dict(value.attributes)
    low, high = (0, 0, *attributes.pop("low")), (0, 0, *attributes.pop("high"))
    if any((*low, *high)):
        zero = False if x.dtype == "bool" else 0.0 if x.dtype in FLOATS else 0
        x = build(value, "pad", x, low=low, high=high, value=zero)
    windows = build(value, "windows", x, axes=(2, 3), **attributes)
    by_window = build(value, "transpose", windows, permutation=(0, 2, 3, 1, 4, 5))
    return reshaped(value, by_window, value.shape)


def _exact_matmul(value: Value) -> Value:
    """Integer products wrap and bool ones are any-of-and: both are plain reductions, and no
    matmul kernel or external is worth having for them."""
    a, b = value.operands
    *batch, m, n = value.shape
    k = a.shape[-1]
    terms = (*batch, m, k, n)
    left = broadcasted(value, reshaped(value, a, (*a.shape, 1)), terms)
    right = broadcasted(value, reshaped(value, b, (*b.shape[:-2], 1, k, n)), terms)
    multiply, add = ("logical_and", "any") if value.dtype == "bool" else ("mul", "sum")
    products = build(value, multiply, left, right)
    total = build(value, add, products, axes=(len(terms) - 2,), keepdims=False)
    # A sum of int32 is int64; its low half is the sum that wrapped.
    return casted(value, total, value.dtype)
