"""Graphs from text: the inverse of the printer in `text`, which has the grammar.

In: text, trusted or not. Out: a verified Graph, or a ParseError that says where, what was found
and what was wanted:

>>> parse_graph("graph f(%x: f32[2]) { return %y }")
ParseError: line 1, column 30: found %y, which is not defined; wanted one of %x

Two steps: `syntax.Reader` turns text into statements, and `_Builder` turns statements into
values, their types inferred by the op table and compared with the declared ones. Nothing is
evaluated, and sizes are bounded before anything is allocated.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from minicomp.errors import GraphError, MinicompError, ParseError
from minicomp.ir import ITEMSIZE, Graph, TensorType, Value, numpy_dtype
from minicomp.ir import attributes as forms
from minicomp.ir.ops import make
from minicomp.ir.syntax import Reader, Reference, Statement, Syntax
from minicomp.ir.verifier import verify


def parse_graph(text: str) -> Graph:
    """See `text.parse`."""
    reader = Reader(text)
    syntax = reader.graph()
    graph = _Builder(syntax, reader.fail).graph()
    try:
        return verify(graph)
    except GraphError as error:
        reader.fail(0, error.message)


class _Builder:
    """Looks names up, makes the values, and compares their types with the declared ones."""

    def __init__(self, syntax: Syntax, fail: Callable[[int, str], NoReturn]):
        self.syntax = syntax
        self.fail = fail
        self.values: dict[str, Value] = {}

    def graph(self) -> Graph:
        for statement in self.syntax.statements:
            if statement.name in self.values:
                self.fail(statement.position, f"found {statement.name}, which is defined already")
            self.values[statement.name] = self.value(statement)
        outputs = tuple(self.lookup(*output) for output in self.syntax.outputs)
        return Graph(self.syntax.name, tuple(self.values.values()), outputs)

    def lookup(self, name: str, position: int) -> Value:
        if name not in self.values:
            known = list(self.values)[-8:]
            self.fail(
                position,
                f"found {name}, which is not defined; wanted one of {', '.join(known) or 'none'}",
            )
        return self.values[name]

    def value(self, statement: Statement) -> Value:
        operands = [self.lookup(*operand) for operand in statement.operands]
        try:
            attributes = self.typed_attributes(statement, operands)
            value = make(statement.op, operands, attributes)
        except ParseError:
            raise
        except MinicompError as error:
            self.fail(statement.position, str(error) if error.what else error.message)
        if value.type != statement.type:
            self.fail(
                statement.position,
                f"found {statement.name} declared as {statement.type}, wanted {value.type}",
            )
        return value

    def typed_attributes(self, statement: Statement, operands: list[Value]) -> dict[str, Any]:
        """The attributes with elements in the dtype that they belong to."""
        attributes = dict(statement.attributes)
        if statement.op == "constant" and "value" in attributes:
            attributes["value"] = self.array(statement, attributes["value"])
        elif "value" in attributes:
            dtype = operands[0].dtype if operands else attributes.get("dtype", "float32")
            attributes["value"] = _element(attributes["value"], dtype)
        return attributes

    def array(self, statement: Statement, value: Reference | list) -> np.ndarray:
        type = statement.type
        if isinstance(value, Reference):
            if value.name not in self.syntax.data:
                self.fail(statement.position, f"found @{value.name}, wanted it in the data, once")
            # Taken out: data used twice could make a short text fill the memory.
            return self.decoded(type, *self.syntax.data.pop(value.name))
        if len(value) != type.size:
            self.fail(
                statement.position, f"found {len(value)} elements, wanted {type.size} for {type}"
            )
        elements = [_element(element, type.dtype) for element in value]
        return _frozen(np.array(elements, self.numpy(type, statement.position)).reshape(type.shape))

    def decoded(self, type: TensorType, text: str, position: int) -> np.ndarray:
        """An entry of the data section. The decompressor stops at the declared size."""
        dtype = self.numpy(type, position)
        try:
            decompressor = zlib.decompressobj()
            raw = decompressor.decompress(base64.b64decode(text, validate=True), type.nbytes + 1)
        except (binascii.Error, ValueError, zlib.error) as error:
            self.fail(position, f"found data that is not zlib in base64: {error}")
        except (MemoryError, OverflowError):
            self.fail(position, f"found data of {type.nbytes} bytes, which is too much")
        if len(raw) != type.nbytes or not decompressor.eof or decompressor.unused_data:
            self.fail(position, f"found data of another size, wanted {type.nbytes} bytes")
        if type.dtype == "bool":
            return _frozen((np.frombuffer(raw, np.uint8) != 0).reshape(type.shape))
        width = ITEMSIZE[type.dtype]
        words = np.frombuffer(raw, f"<u{width}").astype(f"u{width}")
        return _frozen(words.view(dtype).reshape(type.shape))

    def numpy(self, type: TensorType, position: int) -> np.dtype:
        try:
            return numpy_dtype(type.dtype)
        except ImportError:
            self.fail(position, "found a bfloat16 constant; install ml_dtypes to read it")


def _element(value: Any, dtype: str) -> bool | int | float:
    """A number as read, as an element of `dtype`; AttributeValueError where it is none."""
    forms.check_scalar(value, dtype)
    return float(value) if dtype not in ("bool", "int32", "int64") else value


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array
