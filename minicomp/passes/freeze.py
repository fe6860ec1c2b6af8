"""Freezing: parameters become constants, so that folding can work on them.

In: a graph and its parameters' arrays. Out: a graph of inputs alone.

    graph f(%x: f32[2], %w: f32[2] parameter) {
      %0 = mul(%x, %w) : f32[2]
      return %0
    }
becomes
    graph f(%x: f32[2]) {
      %0 = constant() {value=[3.0,4.0]} : f32[2]
      %1 = mul(%x, %0) : f32[2]
      return %1
    }

The arrays are copied: changing a weight later does not change what was frozen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from minicomp.errors import InputError
from minicomp.interning import interned
from minicomp.ir import Graph, TensorType, Value, dtype_name, rewrite
from minicomp.passes.build import build


def freeze(graph: Graph, arrays: Mapping[str, Any]) -> Graph:
    """The graph with each parameter the constant that `arrays` has under its name. InputError
    where an array is missing, or has another shape or dtype than the parameter."""

    def constant(value: Value) -> Value | None:
        if value.op != "parameter":
            return None
        array = _frozen_array(value, arrays)
        return build(value, "constant", value=array, device=value.device)

    return replace(rewrite(graph, constant), bindings={})


def _frozen_array(value: Value, arrays: Mapping[str, Any]) -> np.ndarray:
    name = value.attributes["name"]
    if name not in arrays:
        raise InputError(f"no array for parameter {name!r}, so it cannot be frozen")
    array = np.asarray(arrays[name])
    got = TensorType(array.shape, dtype_name(array.dtype), value.device)
    if got != value.type:
        raise InputError(f"parameter {name!r} is {got}, the graph wants {value.type}")
    return interned(array)
