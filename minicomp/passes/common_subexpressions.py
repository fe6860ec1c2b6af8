"""Common subexpressions: two values that compute the same become one.

In: a graph. Out: a graph in which no two values have one op, operands and attributes.

    %0 = exp(%x) : f32[8]
    %1 = exp(%x) : f32[8]
    %2 = add(%0, %1) : f32[8]
becomes
    %0 = exp(%x) : f32[8]
    %2 = add(%0, %0) : f32[8]

Attributes are compared by their text, which tells 0.0 from -0.0 and nan from everything but nan.
Inputs and parameters are never merged. The first of the two keeps its place and location.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable

from minicomp.ir import Graph, Value, rewrite
from minicomp.ir.text import array_bytes, attribute_text


def common_subexpressions(graph: Graph) -> Graph:
    """The graph with each expression computed once."""
    first: dict[Hashable, Value] = {}

    def merge(value: Value) -> Value | None:
        if value.op in ("input", "parameter"):
            return None
        found = first.setdefault(_key(value), value)
        return None if found is value else found

    return rewrite(graph, merge)


def _key(value: Value) -> Hashable:
    if value.op == "constant":
        return ("constant", value.type, hashlib.sha256(_array_bytes(value)).digest())
    # The device is in the type, and the attribute may be left out.
    names = sorted(set(value.attributes) - {"device"})
    attributes = tuple(attribute_text(value, name, []) for name in names)
    return (value.op, value.operands, attributes, value.type)


def _array_bytes(value: Value) -> bytes:
    return array_bytes(value.attributes["value"])
