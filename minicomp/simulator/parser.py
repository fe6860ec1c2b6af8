"""PTX text to a `Module`: recursive descent, one method per rule.

In: the text of a module. Out: `syntax.Module`, names of registers looked up; or a PTXSyntaxError
that names the line. What instructions mean, and whether they exist, is the business of `decode`.

>>> parse('''.version 8.0
... .target sm_80
... .address_size 64
... .visible .entry nothing() { ret; }''').entries["nothing"].instructions[0].name
'ret'
"""

from __future__ import annotations

import struct
from itertools import count
from typing import NoReturn

from minicomp.errors import PTXSyntaxError
from minicomp.simulator.lexer import Token, tokens
from minicomp.simulator.special import SPECIALS
from minicomp.simulator.syntax import (
    Address,
    Entry,
    Guard,
    Immediate,
    Instruction,
    Module,
    Not,
    Operand,
    Pair,
    Parameter,
    Register,
    SharedArray,
    Sink,
    Special,
    Symbol,
    Vector,
)
from minicomp.simulator.types import TYPES, Type

MAX_SHARED = 232448  # the most that any GPU up to sm_90 gives a block, in bytes
MAX_REGISTERS = 1 << 16


def parse(text: str) -> Module:
    """See the module's docstring."""
    return _Parser(text).module()


class _Scope:
    """What one pair of braces declares; `prefix` makes its labels' names unique."""

    def __init__(self, prefix: str):
        self.prefix = prefix
        self.registers: dict[str, Register] = {}
        #: %r<9> declares %r0 to %r8: made when first used
        self.ranges: dict[str, tuple[int, Type]] = {}
        self.labels: set[str] = set()


class _Parser:
    def __init__(self, text: str):
        self.text = text
        self.lines = text.split("\n")
        self.tokens = tokens(text)
        self.position = 0
        self.next: Token = self.tokens[0]
        self.shared: list[SharedArray] = []
        self.scopes: list[_Scope] = []
        self.scope_numbers = count(1)
        #: (instruction's position, prefixes of the scopes around it) of branches, to look up last
        self.branches: list[tuple[int, list[_Scope]]] = []

    # --- tokens ---

    def fail(self, message: str, line: int | None = None) -> NoReturn:
        """PTXSyntaxError about a line, by default that of the token taken last."""
        if line is None:
            line = self.tokens[max(self.position - 1, 0)].line
        text = self.lines[line - 1].strip()
        raise PTXSyntaxError(message, what=f"line {line}: {text[:120]}")

    def wanted(self, what: str) -> NoReturn:
        self.fail(f"found {self.next.text[:40]}, wanted {what}", self.next.line)

    def advance(self) -> Token:
        token = self.next
        if token.kind != "end":
            self.position += 1
            self.next = self.tokens[self.position]
        return token

    def accept(self, text: str) -> bool:
        found = self.next.text == text and self.next.kind != "end"
        if found:
            self.advance()
        return found

    def expect(self, text: str) -> None:
        if not self.accept(text):
            self.wanted(repr(text))

    def take(self, kind: str, what: str) -> str:
        if self.next.kind != kind:
            self.wanted(what)
        return self.advance().text

    def integer(self, what: str) -> int:
        negative = self.accept("-")
        value = self.number(what)
        if value.floating or value.value >= 1 << 64:
            self.fail(f"wanted {what}")
        return -int(value.value) if negative else int(value.value)

    def number(self, what: str) -> Immediate:
        text = self.take("number", what)
        try:
            return _number(text)
        except ValueError:
            self.fail(f"{text[:40]} is not a number")

    # --- the module ---

    def module(self) -> Module:
        module = Module(self.text, *self.header())
        while self.next.kind != "end":
            if self.next.text == ".shared" or self.next.text == ".extern":
                self.shared.append(self.shared_array())
            elif self.accept(".file"):
                self.skip_line()
            else:
                self.accept(".visible")
                entry = self.entry()
                if entry.name in module.entries:
                    self.fail(f"a second entry {entry.name}", entry.line)
                module.entries[entry.name] = entry
        return module

    def header(self) -> tuple[str, str]:
        self.expect(".version")
        version = self.take("number", "a version such as 8.0")
        self.expect(".target")
        target = self.take("name", "a target such as sm_80")
        while self.accept(","):
            self.take("name", "a target's option")
        if not target.startswith("sm_"):
            self.fail(f"found target {target}, wanted one such as sm_80")
        self.expect(".address_size")
        if self.integer("64") != 64:
            self.fail("addresses have 64 bits")
        return version, target

    def skip_line(self) -> None:
        line = self.next.line
        while self.next.kind != "end" and self.next.line == line:
            self.advance()

    def type(self) -> Type:
        name = self.take("dotted", "a type such as .f32")[1:]
        if name not in TYPES:
            self.fail(f"found .{name}, which is not a type")
        return TYPES[name]

    def shared_array(self) -> SharedArray:
        extern = self.accept(".extern")
        self.expect(".shared")
        alignment = self.integer("an alignment") if self.accept(".align") else None
        type = self.type()
        if alignment is None:
            alignment = type.bytes
        if alignment not in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024):
            self.fail(f"found alignment {alignment}, wanted a power of two up to 1024")
        name, elements = self.take("name", "a name for the array"), 1
        while self.accept("["):
            if self.accept("]"):
                elements = 0
            else:
                elements *= self.integer("a size")
                self.expect("]")
        if extern == (elements != 0):
            self.fail(f"{name}: .extern arrays have no size, and others have one")
        if not 0 <= elements * type.bytes <= MAX_SHARED:
            self.fail(f"{name} has {elements * type.bytes} bytes; a block has {MAX_SHARED}")
        self.expect(";")
        return SharedArray(name, alignment, elements * type.bytes)

    def entry(self) -> Entry:
        line = self.next.line
        if not self.accept(".entry"):
            self.wanted("'.visible .entry' and a kernel")
        entry = Entry(self.take("name", "the kernel's name"), line)
        if self.accept("("):
            while not self.accept(")"):
                if entry.parameters:
                    self.expect(",")
                entry.parameters.append(self.parameter())
        while self.next.text != "{":
            self.tuning(entry)
        self.scopes = [_Scope("")]
        self.branches = []
        self.expect("{")
        self.body(entry)
        self.look_up_labels(entry)
        entry.shared = self.shared + entry.shared
        return entry

    def parameter(self) -> Parameter:
        self.expect(".param")
        type = self.type()
        if self.accept(".ptr"):
            if self.next.text in (".global", ".shared", ".const", ".local"):
                self.advance()
            if self.accept(".align"):
                self.integer("an alignment")
        return Parameter(self.take("name", "a parameter's name"), type)

    def tuning(self, entry: Entry) -> None:
        word = self.take("dotted", "'{' or a directive such as .maxntid")
        if word in (".minnctapersm", ".maxnreg"):
            self.integer("a number")
        elif word in (".maxntid", ".reqntid"):
            sizes = [self.integer("a number of threads")]
            while self.accept(","):
                sizes.append(self.integer("a number of threads"))
            if len(sizes) > 3:
                self.fail(f"{word} takes up to three numbers")
            x, y, z = [*sizes, 1, 1][:3]
            if word == ".maxntid":
                entry.most_threads = (x, y, z)
            else:
                entry.threads = (x, y, z)
        else:
            self.fail(f"found {word}, wanted '{{' or .maxntid, .reqntid, .minnctapersm, .maxnreg")

    # --- a body ---

    def body(self, entry: Entry) -> None:
        """Statements up to the brace that closes the innermost scope."""
        depth = len(self.scopes)
        while len(self.scopes) >= depth:
            token = self.next
            if self.accept("}"):
                self.scopes.pop()
            elif self.accept("{"):
                self.scopes.append(_Scope(f"{next(self.scope_numbers)}:"))
            elif self.accept(".reg"):
                self.registers(entry)
            elif token.text in (".shared", ".extern"):
                entry.shared.append(self.shared_array())
            elif self.accept(".pragma"):
                self.take("string", "a pragma's string")
                self.expect(";")
            elif self.accept(".loc") or self.accept(".file"):
                self.skip_line()
            elif token.kind == "name" and self.tokens[self.position + 1].text == ":":
                self.label(entry)
            elif token.kind == "name" or token.text == "@":
                entry.instructions.append(self.instruction(entry))
            else:
                self.wanted("an instruction, a declaration or '}'")

    def label(self, entry: Entry) -> None:
        scope, name = self.scopes[-1], self.next.text
        if name in scope.labels:
            self.fail(f"a second label {name}")
        scope.labels.add(name)
        entry.labels[scope.prefix + name] = len(entry.instructions)
        self.advance()
        self.advance()

    def registers(self, entry: Entry) -> None:
        type, scope = self.type(), self.scopes[-1]
        while True:
            name = self.take("name", "a register's name")
            if name in scope.ranges or name in SPECIALS or self.find(entry, scope, name):
                self.fail(f"a second register {name}")
            if self.accept("<"):
                number = self.integer("a number of registers")
                if not 0 < number <= MAX_REGISTERS:
                    self.fail(f"{number} registers; wanted 1 to {MAX_REGISTERS}")
                scope.ranges[name] = (number, type)
                self.expect(">")
            else:
                scope.registers[name] = self.new_register(entry, name, type)
            if self.accept(";"):
                return
            self.expect(",")

    def new_register(self, entry: Entry, name: str, type: Type) -> Register:
        register = Register(name, type, len(entry.registers))
        entry.registers.append(register)
        return register

    def look_up(self, entry: Entry, name: str) -> Register | None:
        """The register that a name means here, from the innermost scope out."""
        for scope in reversed(self.scopes):
            register = self.find(entry, scope, name)
            if register is not None:
                return register
        return None

    def find(self, entry: Entry, scope: _Scope, name: str) -> Register | None:
        """The register of that name that one scope declares."""
        if name not in scope.registers:
            stem = name.rstrip("0123456789")
            digits = name[len(stem) :]
            number, type = scope.ranges.get(stem, (0, None))
            canonical = digits == "0" or (digits and digits[0] != "0" and len(digits) < 8)
            if type is not None and canonical and int(digits) < number:
                scope.registers[name] = self.new_register(entry, name, type)
        return scope.registers.get(name)

    def instruction(self, entry: Entry) -> Instruction:
        start, line = self.position, self.next.line
        guard = self.guard(entry) if self.accept("@") else None
        name, modifiers = self.take("name", "an instruction"), []
        while self.next.kind == "dotted":
            modifiers.append(self.advance().text[1:])
        operands: list[Operand] = []
        while not self.accept(";"):
            if operands:
                self.expect(",")
            operands.append(self.operand(entry))
        if name == "bra":
            self.branches.append((len(entry.instructions), list(self.scopes)))
        text = _joined(self.tokens[start : self.position - 1])
        return Instruction(line, text, name, tuple(modifiers), tuple(operands), guard)

    def guard(self, entry: Entry) -> Guard:
        negated = self.accept("!")
        register = self.look_up(entry, self.take("name", "a predicate"))
        if register is None or register.type.kind != "pred":
            self.fail("wanted a predicate register, declared")
        return Guard(register, negated)

    # --- operands ---

    def operand(self, entry: Entry) -> Operand:
        if self.accept("["):
            return self.address(entry)
        if self.accept("{"):
            elements: list[Operand] = []
            while not self.accept("}"):
                if elements:
                    self.expect(",")
                elements.append(self.simple(entry))
            return Vector(tuple(elements))
        first = self.simple(entry)
        return Pair(first, self.simple(entry)) if self.accept("|") else first

    def simple(self, entry: Entry) -> Operand:
        if self.next.kind == "number" or self.next.text in ("-", "+"):
            return self.immediate()
        if self.accept("!"):
            operand = self.simple(entry)
            if not isinstance(operand, Register):
                self.fail("! stands before a predicate")
            return Not(operand)
        name = self.take("name", "an operand")
        if name == "_":
            return Sink()
        if name == "WARP_SZ":
            return Immediate(32)
        register = self.look_up(entry, name)
        if register is not None:
            return register
        if name.startswith("%"):
            if self.next.kind == "dotted":
                name += self.advance().text
            if name not in SPECIALS:
                self.fail(f"found {name}, which is neither declared nor a special register")
            return Special(name)
        return Symbol(name)

    def immediate(self) -> Immediate:
        negative = self.next.text == "-"
        if self.next.text in ("-", "+"):
            self.advance()
        value = self.number("a number")
        return Immediate(-value.value, value.floating) if negative else value

    def address(self, entry: Entry) -> Address:
        base: Register | Symbol | None = None
        if self.next.kind == "name":
            found = self.simple(entry)
            if not isinstance(found, Register | Symbol):
                self.fail("an address is a register or a symbol, and an offset")
            base = found
        offset = 0
        while not self.accept("]"):
            if base is not None and self.next.text not in ("+", "-"):
                self.wanted("'+', '-' or ']'")
            self.accept("+")
            offset += self.integer("an offset")
        return Address(base, offset)

    def look_up_labels(self, entry: Entry) -> None:
        for position, scopes in self.branches:
            branch = entry.instructions[position]
            if len(branch.operands) != 1 or not isinstance(branch.operands[0], Symbol):
                self.fail("bra takes a label", branch.line)
            name = branch.operands[0].name
            found = [s.prefix + name for s in reversed(scopes) if name in s.labels]
            if not found:
                self.fail(f"there is no label {name}", branch.line)
            entry.instructions[position] = Instruction(
                branch.line,
                branch.text,
                branch.name,
                branch.modifiers,
                (Symbol(found[0]),),
                branch.guard,
            )


def _joined(parts: list[Token]) -> str:
    """An instruction's text again, with one space where spaces are."""
    text = ""
    for token in parts:
        tight = token.kind == "dotted" or token.text in (",", "]", "}", "|")
        tight |= token.text in ("+", "-") and not text.endswith(",")
        after = text.endswith(("[", "{", "|", "+", "-", "@", "!"))
        text += token.text if tight or after or not text else " " + token.text
    return text


def _number(text: str) -> Immediate:
    prefix = text[:2].lower()
    if prefix == "0f":
        return Immediate(struct.unpack(">f", bytes.fromhex(text[2:]))[0], True)
    if prefix == "0d":
        return Immediate(struct.unpack(">d", bytes.fromhex(text[2:]))[0], True)
    plain = text.rstrip("U")
    if prefix == "0x":
        return Immediate(int(plain, 16))
    if prefix == "0b":
        return Immediate(int(plain, 2))
    if "." in plain or "e" in plain.lower():
        return Immediate(float(plain), True)
    return Immediate(int(plain, 8 if len(plain) > 1 and plain[0] == "0" else 10))
