"""The first half of the parser: text to statements, names not looked up yet.

In: text. Out: a `Syntax`, or a ParseError that says where, what was found and what was wanted.
`Reader` is recursive descent, one method per rule of the grammar that `text` has; as the grammar
has no nesting, the descent is never deep.

>>> Reader("graph f(%x: f32[2]) { return %x }").graph().outputs
(('%x', 30),)
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from math import prod
from typing import Any, NoReturn, TypeVar

from minicomp.errors import ParseError
from minicomp.ir import DTYPES, ITEMSIZE, LONG_NAMES, TensorType
from minicomp.ir import attributes as forms
from minicomp.ir.ops import OPS
from minicomp.ir.text import quoted

T = TypeVar("T")

# Quantifiers are possessive, so that no text makes the matching slow.
_TOKEN = re.compile(
    r"""(?P<space>(?:\s++|\#[^\n]*+)++)
      | (?P<name>[A-Za-z_][A-Za-z0-9_.]*+)
      | (?P<number>-?\d++(?:\.\d*+)?+(?:[eE][-+]?\d++)?+|-inf\b)
      | (?P<string>"(?:[^"\\\n]++|\\.)*+")
      | (?P<sign>[][(){}=:,%@])""",
    re.VERBOSE | re.ASCII,
)

#: NumPy 1.26 allows 32 axes, and no useful tensor has more
MAX_RANK = 32
MAX_SIZE = 2**63 - 1


@dataclass(frozen=True)
class Token:
    kind: str  # "name", "number", "string", "sign" or "end"
    text: str
    position: int


@dataclass(frozen=True)
class Reference:
    """`@c0`: a constant's value, in the data section."""

    name: str


@dataclass(frozen=True)
class Statement:
    """One line of the graph, as read: names are not looked up yet."""

    position: int
    name: str
    op: str
    operands: tuple[tuple[str, int], ...]
    attributes: dict[str, Any]
    type: TensorType


@dataclass
class Syntax:
    """The whole text, as read."""

    name: str
    statements: list[Statement] = field(default_factory=list)
    outputs: tuple[tuple[str, int], ...] = ()
    data: dict[str, tuple[str, int]] = field(default_factory=dict)


class Reader:
    """Recursive descent over tokens; `next` is the token at hand."""

    def __init__(self, text: str):
        self.text = text
        self.next = Token("end", "", 0)
        self._advance(0)

    def fail(self, position: int, message: str) -> NoReturn:
        """ParseError at an offset of the text."""
        line = self.text.count("\n", 0, position) + 1
        column = position - self.text.rfind("\n", 0, position)
        raise ParseError(message, what=f"line {line}, column {column}") from None

    def wanted(self, what: str) -> NoReturn:
        """ParseError about the token at hand."""
        found = self.next.text if self.next.kind != "end" else "the end of the text"
        found = found if len(found) <= 40 else found[:40] + "..."
        self.fail(self.next.position, f"found {found}, wanted {what}")

    def _advance(self, position: int) -> None:
        match = _TOKEN.match(self.text, position)
        if match is not None and match.lastgroup == "space":
            position = match.end()
            match = _TOKEN.match(self.text, position)
        if match is not None:
            self.next = Token(str(match.lastgroup), match.group(), position)
        elif position == len(self.text):
            self.next = Token("end", "", position)
        else:
            self.fail(position, f"found {self.text[position]!r}, which starts nothing known")

    def take(self, kind: str, wanted: str) -> str:
        """The text of the token at hand, which must be of this kind."""
        if self.next.kind != kind:
            self.wanted(wanted)
        token = self.next
        self._advance(token.position + len(token.text))
        return token.text

    def accept(self, text: str) -> bool:
        """Whether the token at hand is exactly `text`; if so it is taken."""
        found = self.next.kind in ("sign", "name") and self.next.text == text
        if found:
            self._advance(self.next.position + len(text))
        return found

    def expect(self, text: str) -> None:
        if not self.accept(text):
            self.wanted(repr(text))

    def until(self, end: str, item: Callable[[], T]) -> list[T]:
        """Items with commas between them, and then `end`."""
        items: list[T] = []
        while not self.accept(end):
            if items and not self.accept(","):
                self.wanted(f"',' or '{end}'")
            items.append(item())
        return items

    # --- the grammar, a method per rule ---

    def graph(self) -> Syntax:
        self.expect("graph")
        syntax = Syntax(self.name("a name for the graph"))
        self.expect("(")
        syntax.statements = self.until(")", self.input)
        self.expect("{")
        while not self.accept("return"):
            if self.next.text != "%":
                self.wanted("a statement such as '%0 = ...', or 'return'")
            syntax.statements.append(self.statement())
        syntax.outputs = tuple(self.until("}", self.operand))
        if self.accept("data"):
            self.data(syntax.data)
        if self.next.kind != "end":
            self.wanted("the end of the text")
        return syntax

    def input(self) -> Statement:
        name, position = self.operand()
        self.expect(":")
        type = self.type()
        op = "parameter" if self.accept("parameter") else "input"
        plain = json.loads(name[1:]) if name.startswith('%"') else name[1:]
        return Statement(position, name, op, (), {"name": plain, "type": type}, type)

    def statement(self) -> Statement:
        name, position = self.operand()
        self.expect("=")
        at = self.next.position
        op = self.take("name", "an op's name")
        if op not in OPS or op in ("input", "parameter"):
            near = ", ".join(get_close_matches(op, OPS)) or "an op of the table in minicomp.ir.ops"
            self.fail(at, f"found {op}, which is not an op; wanted {near}")
        self.expect("(")
        operands = tuple(self.until(")", self.operand))
        attributes: dict[str, Any] = {}
        if self.accept("{"):
            self.until("}", lambda: self.attribute(op, attributes))
        self.expect(":")
        return Statement(position, name, op, operands, attributes, self.type())

    def attribute(self, op: str, attributes: dict[str, Any]) -> None:
        at, allowed = self.next.position, OPS[op].attributes
        name = self.take("name", "an attribute's name")
        if name not in allowed:
            self.fail(at, f"found {name}; {op} has the attributes {', '.join(allowed) or 'none'}")
        if name in attributes:
            self.fail(at, f"found {name} a second time")
        self.expect("=")
        attributes[name] = self.attribute_value(forms.form(op, name))

    def attribute_value(self, form: str) -> Any:
        if form == "integers":
            return self.integers()
        if form == "integer":
            return self.integer()
        if form == "boolean":
            if self.next.text not in ("true", "false"):
                self.wanted("true or false")
            return self.take("name", "true or false") == "true"
        if form == "dtype":
            return self.dtype()
        if form == "device":
            return self.device()
        if form == "scalar":
            return self.scalar()
        if self.accept("@"):
            return Reference(self.take("name", "the name of a data entry"))
        self.expect("[")
        return self.until("]", self.scalar)

    def name(self, wanted: str) -> str:
        return self.string() if self.next.kind == "string" else self.take("name", wanted)

    def operand(self) -> tuple[str, int]:
        """The value's name in one normal form, and where it stands."""
        position = self.next.position
        self.expect("%")
        if self.next.kind == "number" and self.next.text.isdecimal():
            return "%" + self.take("number", "a value's name"), position
        return "%" + quoted(self.name("a value's name")), position

    def string(self) -> str:
        at, text = self.next.position, self.take("string", "a string")
        try:
            return json.loads(text)
        except ValueError:
            self.fail(at, f"found {text[:40]}, which is not a JSON string")

    def type(self) -> TensorType:
        at, dtype = self.next.position, self.dtype()
        shape = self.integers()
        device = self.device() if self.accept("@") else "cpu"
        if min(shape, default=0) < 0 or prod(shape) * ITEMSIZE[dtype] > MAX_SIZE:
            self.fail(at, f"found the shape {list(shape)}, wanted sizes of 0 or more, in memory")
        return TensorType(shape, dtype, device)

    def dtype(self) -> str:
        wanted = f"a dtype: {', '.join(DTYPES.values())}"
        if self.next.text not in LONG_NAMES:
            self.wanted(wanted)
        return LONG_NAMES[self.take("name", wanted)]

    def device(self) -> str:
        wanted = f"a device: {' or '.join(forms.DEVICES)}"
        if self.next.text not in forms.DEVICES:
            self.wanted(wanted)
        return self.take("name", wanted)

    def integers(self) -> tuple[int, ...]:
        at = self.next.position
        self.expect("[")
        numbers = tuple(self.until("]", self.integer))
        if len(numbers) > MAX_RANK:
            self.fail(at, f"found {len(numbers)} numbers, wanted at most {MAX_RANK}")
        return numbers

    def integer(self) -> int:
        number = self.scalar()
        if not isinstance(number, int) or isinstance(number, bool):
            self.wanted("an integer before this")
        return number

    def scalar(self) -> bool | int | float:
        """An element. Integers are those of 64 bits."""
        at, text = self.next.position, self.next.text
        if self.next.kind == "name" and text in ("true", "false", "inf", "nan"):
            self.take("name", "a number")
            return text == "true" if text in ("true", "false") else float(text)
        self.take("number", "a number")
        if re.fullmatch(r"-?\d+", text) is None:
            return float(text)
        # The length is looked at first: int() is slow on very long digits, and then refuses.
        if len(text) > 20 or not -MAX_SIZE - 1 <= int(text) <= MAX_SIZE:
            self.fail(at, f"found {text[:40]}, wanted an integer of 64 bits")
        return int(text)

    def data(self, data: dict[str, tuple[str, int]]) -> None:
        self.expect("{")
        while not self.accept("}"):
            self.expect("@")
            name = self.take("name", "the name of a data entry")
            self.expect("=")
            at = self.next.position
            if name in data:
                self.fail(at, f"found @{name} a second time")
            data[name] = (self.take("string", "base64 in quotes")[1:-1], at)
