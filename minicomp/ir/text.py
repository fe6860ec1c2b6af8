"""Graphs as text: the printer. The inverse, `parse`, is at the end and made in `parser`.

In: a Graph. Out: text that parses back to an equal graph.

    graph classify(%x: f32[8,16], %weight: f32[16,4] parameter) {
      %0 = matmul(%x, %weight) : f32[8,4]
      %1 = argmax(%0) {axes=[1], keepdims=false} : i64[8]  # model.py:12
      return %1
    }

The grammar, in which `{...}` repeats and `[...]` is optional; `#` starts a comment:

    graph     = "graph" name "(" [input {"," input}] ")" "{" {statement} return "}" [data]
    input     = operand ":" type ["parameter"]
    statement = operand "=" op "(" [operand {"," operand}] ")" [attributes] ":" type
    attributes = "{" name "=" attribute {"," name "=" attribute} "}"
    return    = "return" [operand {"," operand}]
    operand   = "%" (name | digits | string)
    type      = dtype "[" [digits {"," digits}] "]" ["@" device]
    data      = "data" "{" {"@" name "=" string} "}"

A constant of at most 16 elements prints its elements, in row-major order. A larger one, or one
with a NaN that "nan" would not give back bit for bit, prints a reference such as `@c0`, and its
bytes (little-endian, through zlib and base64) follow the graph in a data section.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from minicomp.ir import Graph, Value, short_dtype
from minicomp.ir import attributes as forms
from minicomp.ir.ops import OPS

#: constants of more elements than this go to the data section
INLINE_ELEMENTS = 16

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")


def graph_text(graph: Graph, *, locations: bool = False, data: bool = True) -> str:
    """The text of a graph. `locations` adds each value's line of source as a comment;
    `data=False` leaves out the data section, for people: it then does not parse back."""
    names = value_names(graph)
    blobs: list[str] = []
    inputs = [value for value in graph.values if value.op in ("input", "parameter")]
    lines = [f"graph {quoted(graph.name)}({', '.join(_input(v, names) for v in inputs)}) {{"]
    for value in graph.values:
        if value.op in ("input", "parameter"):
            continue
        where = f"  # {' '.join(str(value.location).split())}"
        lines.append(_statement(value, names, blobs) + (where if _placed(value, locations) else ""))
    lines += [f"  return {', '.join(_operand(v, names) for v in graph.outputs)}".rstrip(), "}"]
    if blobs and data:
        lines += ["data {", *(f'  @c{i} = "{blob}"' for i, blob in enumerate(blobs)), "}"]
    return "\n".join(lines)


def value_names(graph: Graph) -> dict[Value, str]:
    """What each value is called in the text: `%x` for an input x, `%0`, `%1`, ... else."""
    names: dict[Value, str] = {}
    count = 0
    for value in graph.values:
        if value.op in ("input", "parameter"):
            names[value] = f"%{quoted(str(value.attributes.get('name', '')))}"
        else:
            names[value] = f"%{count}"
            count += 1
    return names


def value_text(value: Value, names: Mapping[Value, str]) -> str:
    """One value as its line of the text has it, big constants by reference."""
    if value.op in ("input", "parameter"):
        return f"{value.op} {_input(value, names)}"
    return _statement(value, names, []).strip()


def quoted(name: str) -> str:
    """A name as it is where it is an identifier (dots are fine), else as a JSON string."""
    return name if _PLAIN_NAME.fullmatch(name) else json.dumps(name)


def scalar_text(value: Any, dtype: str) -> str:
    """An element: `true`, `-3`, `0.5`, `1e-05`, `inf`, `nan`. Floats print by `repr`, so that
    reading them gives the same number."""
    if dtype == "bool":
        return "true" if value else "false"
    return repr(int(value)) if dtype in ("int32", "int64") else repr(float(value))


def attribute_text(value: Value, name: str, blobs: list[str]) -> str:
    """One attribute's text; a big array is appended to `blobs` and printed as a reference."""
    attribute = value.attributes[name]
    match forms.form(value.op, name):
        case "integers":
            return f"[{','.join(map(str, attribute))}]"
        case "boolean":
            return scalar_text(attribute, "bool")
        case "dtype":
            return short_dtype(attribute)
        case "scalar":
            return scalar_text(attribute, value.dtype)
        case "array":
            return _array_text(attribute, value.dtype, blobs)
    return str(attribute)


def array_bytes(array: np.ndarray) -> bytes:
    """The elements in row-major order, little-endian."""
    width = array.dtype.itemsize
    return np.ascontiguousarray(array).view(f"u{width}").astype(f"<u{width}").tobytes()


def parse(text: str) -> Graph:
    """The graph that `text` describes, verified. ParseError, with line and column, for anything
    else; the text is never evaluated, so it may come from anywhere."""
    from minicomp.ir.parser import parse_graph

    return parse_graph(text)


def _placed(value: Value, locations: bool) -> bool:
    return locations and value.location is not None


def _input(value: Value, names: Mapping[Value, str]) -> str:
    suffix = " parameter" if value.op == "parameter" else ""
    return f"{_operand(value, names)}: {value.type}{suffix}"


def _operand(value: Value, names: Mapping[Value, str]) -> str:
    # A graph that the verifier is about to refuse prints too.
    return names.get(value, "%undefined")


def _statement(value: Value, names: Mapping[Value, str], blobs: list[str]) -> str:
    operands = ", ".join(_operand(operand, names) for operand in value.operands)
    row = OPS.get(value.op)
    order = row.attributes if row else tuple(value.attributes)
    printed = [
        f"{name}={attribute_text(value, name, blobs)}"
        for name in order
        if name in value.attributes and (name, value.attributes[name]) != ("device", "cpu")
    ]
    suffix = f" {{{', '.join(printed)}}}" if printed else ""
    return f"  {_operand(value, names)} = {value.op}({operands}){suffix} : {value.type}"


def _array_text(array: np.ndarray, dtype: str, blobs: list[str]) -> str:
    if array.size <= INLINE_ELEMENTS:
        elements = [scalar_text(element, dtype) for element in array.reshape(-1)]
        if "nan" not in elements or _reads_back(elements, array):
            return f"[{','.join(elements)}]"
    blobs.append(base64.b64encode(zlib.compress(array_bytes(array), 1)).decode())
    return f"@c{len(blobs) - 1}"


def _reads_back(elements: list[str], array: np.ndarray) -> bool:
    """Whether every NaN in `array` has the bits of the plain "nan"."""
    read = np.array([float(element) for element in elements], array.dtype)
    return array_bytes(read) == array_bytes(array)
