"""The meaning of a graph, in NumPy: every op's `compute`, one value after the other.

In: a graph and its arrays. Out: the arrays it returns. It is slow, obvious, and the oracle of
every test: whatever a pass or a kernel does must agree with it.

>>> interpret(trace(lambda x: x + 1, np.zeros(2)), np.array([1.0, 2.0]))
array([2., 3.])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minicomp import tree
from minicomp.errors import IndexOutOfRangeError, InputError
from minicomp.ir import Graph, TensorType, Value, dtype_name, numpy_dtype
from minicomp.ir.ops import OPS


def interpret(graph: Graph, *inputs: Any, parameters: Mapping[str, Any] | None = None) -> Any:
    """Run `graph` on arrays (one per graph input, in order) with NumPy.

    `parameters` gives arrays by name and defaults to the graph's bindings. Raises InputError for
    a missing, superfluous or ill-typed array, IndexOutOfRangeError for a gather outside its axis.
    """
    outputs = interpret_flat(graph, inputs, parameters)
    if graph.output_tree is not None:
        return tree.unflatten(graph.output_tree, outputs)
    return outputs[0] if len(outputs) == 1 else tuple(outputs)


def interpret_flat(
    graph: Graph, inputs: Any, parameters: Mapping[str, Any] | None = None
) -> list[np.ndarray]:
    """As `interpret`, with the outputs as a flat list."""
    bindings = graph.bindings if parameters is None else parameters
    results: dict[Value, np.ndarray] = dict(zip(graph.inputs, checked_inputs(graph, inputs)))
    with np.errstate(all="ignore"):
        for value in graph.values:
            if value.op == "input":
                continue
            if value.op == "parameter":
                name = value.attributes["name"]
                if name not in bindings:
                    raise InputError(f"no array for parameter {name!r}; pass parameters={{...}}")
                results[value] = _checked(value, bindings[name])
            else:
                results[value] = evaluate(value, [results[x] for x in value.operands])
    return [np.array(results[value]) for value in graph.outputs]


def evaluate(value: Value, operands: list[np.ndarray]) -> np.ndarray:
    """The meaning of one value, given its operands' arrays."""
    try:
        result = OPS[value.op].compute(*operands, **value.attributes)
    except IndexError as error:
        raise IndexOutOfRangeError(str(error), what=value.op, location=value.location) from None
    return np.asarray(result, numpy_dtype(value.dtype))


def checked_inputs(graph: Graph, inputs: Sequence[Any]) -> list[np.ndarray]:
    """The inputs as arrays; InputError where they are not what the graph wants."""
    check_count(graph, inputs)
    return [_checked(value, array) for value, array in zip(graph.inputs, inputs)]


def check_types(graph: Graph, types: Sequence[TensorType]) -> None:
    """InputError where inputs of these types are not what the graph wants, device included."""
    check_count(graph, types)
    for value, got in zip(graph.inputs, types):
        if got != value.type:
            raise _unwanted(value, got)


def check_count(graph: Graph, inputs: Sequence[Any]) -> None:
    """InputError where a graph has more or fewer inputs than there are."""
    if len(inputs) != len(graph.inputs):
        wanted = f"{len(graph.inputs)} input{'' if len(graph.inputs) == 1 else 's'}"
        raise InputError(f"{graph.name} takes {wanted}, got {len(inputs)}")


def _checked(value: Value, array: Any) -> np.ndarray:
    array = np.asarray(array)
    if array.shape != value.shape or dtype_name(array.dtype) != value.dtype:
        raise _unwanted(value, TensorType(array.shape, dtype_name(array.dtype)))
    return array


def _unwanted(value: Value, got: TensorType) -> InputError:
    return InputError(
        f"{value.op} {value.attributes['name']!r} is {got}, the graph wants {value.type}"
    )
