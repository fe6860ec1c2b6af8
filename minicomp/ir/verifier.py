"""The verifier: every rule of the IR, checked after every pass.

In: a graph. Out: the same graph, so that passes read `verify(simplify(graph))`; or a GraphError:

>>> verify(graph, "simplify")
GraphError: after simplify: %2 = add(%0, %1) : f32[8]: shapes differ, (8,) and (4,); broadcast first

The rules, in the order they are checked:

1. A value is listed once, and its operands are listed before it.
2. Its op is in the table, with the row's number of operands and the row's attributes.
3. Each attribute has its form (see `attributes`), and a `value` is an element of its dtype.
4. Its type is the one that the table infers.
5. Inputs and parameters have names, each its own.
6. All values are on one device.
7. Outputs are values of the graph. (A value that nothing uses is allowed.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from minicomp.errors import DTypeError, GraphError, MinicompError
from minicomp.ir import Graph, Value
from minicomp.ir import attributes as forms
from minicomp.ir.ops import infer_type
from minicomp.ir.text import value_names, value_text


def check_dtypes(graph: Graph, dtypes: Sequence[str]) -> Graph:
    """The graph itself; DTypeError, naming the op and the user's line, where a value has a dtype
    that the device does not compute in."""
    for value in graph.values:
        if value.dtype not in dtypes:
            raise DTypeError(
                f"{value.dtype} is for CUDA; on the CPU wanted one of {', '.join(dtypes)}: "
                f"cast with .astype(np.float32), or move the module and its inputs to the GPU",
                what=value.op,
                location=value.location,
            )
    return graph


def verify(graph: Graph, stage: str = "") -> Graph:
    """The graph itself; GraphError, naming `stage` and the value, if it breaks a rule."""
    defined: set[Value] = set()
    names: set[str] = set()
    for value in graph.values:
        try:
            _check_definition(value, defined)
            _check_value(value)
            _check_name(value, names)
        except MinicompError as error:
            _fail(graph, stage, value, error.message)
        if value.device != graph.values[0].device:
            _fail(graph, stage, value, f"is on {value.device}, others on {graph.values[0].device}")
        defined.add(value)
    for number, output in enumerate(graph.outputs):
        if output not in defined:
            _fail(graph, stage, output, f"output {number} is not a value of the graph")
    return graph


def _check_definition(value: Value, defined: set[Value]) -> None:
    if value in defined:
        raise GraphError("is listed twice")
    for number, operand in enumerate(value.operands):
        if operand not in defined:
            raise GraphError(f"operand {number} ({operand.op}) is not defined before its use")


def _check_value(value: Value) -> None:
    for name, attribute in value.attributes.items():
        forms.check(value.op, name, attribute)
    inferred = infer_type(value.op, value.operands, value.attributes)
    if not forms.is_valid_type(value.type) or inferred != value.type:
        raise GraphError(f"has the type {value.type}, the table infers {inferred}")
    if "value" in value.attributes and value.op != "constant":
        forms.check_scalar(value.attributes["value"], value.dtype)


def _check_name(value: Value, names: set[str]) -> None:
    if value.op in ("input", "parameter"):
        name = value.attributes["name"]
        if name in names:
            raise GraphError(f"a second input or parameter is named {name!r}")
        names.add(name)


def _fail(graph: Graph, stage: str, value: Value, message: str) -> NoReturn:
    try:
        text = value_text(value, value_names(graph))
    except Exception:  # a value too broken to print: its op says which it may be
        text = f"a value of op {value.op}"
    after = f"after {stage}: " if stage else ""
    raise GraphError(f"{after}{text}: {message}", location=value.location) from None
