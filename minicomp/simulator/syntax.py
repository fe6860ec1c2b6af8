"""PTX as read: what `parser` makes of the text, and everything after it works on.

    @!%p1 ld.global.v2.f32 {%f1, %f2}, [%rd1+16];

is Instruction(name="ld", modifiers=("global", "v2", "f32"), operands=(Vector((%f1, %f2)),
Address(%rd1, 16)), guard=Guard(%p1, negated=True)), with its line and its text.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from minicomp.simulator.types import Type


@dataclass(frozen=True)
class Register:
    """A declared register; `number` tells registers of one name in different scopes apart."""

    name: str
    type: Type
    number: int

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Special:
    """A read-only register of the machine, such as %tid.x."""

    name: str


@dataclass(frozen=True)
class Immediate:
    """A number: `bits` are those of an integer or, if `floating`, of a float of that width."""

    value: int | float
    floating: bool = False


@dataclass(frozen=True)
class Symbol:
    """The name of a parameter, a shared array or a label."""

    name: str


@dataclass(frozen=True)
class Address:
    """`[base+offset]`; the base is None for an absolute address."""

    base: Register | Symbol | None
    offset: int


@dataclass(frozen=True)
class Vector:
    """`{a, b, ...}`"""

    elements: tuple[Operand, ...]


@dataclass(frozen=True)
class Pair:
    """`a|b`: two destinations."""

    first: Operand
    second: Operand


@dataclass(frozen=True)
class Not:
    """`!%p`"""

    operand: Register


@dataclass(frozen=True)
class Sink:
    """`_`: a destination that drops what it is given."""


Operand = Register | Special | Immediate | Symbol | Address | Vector | Pair | Not | Sink


@dataclass(frozen=True)
class Guard:
    """`@%p` or, negated, `@!%p`"""

    register: Register
    negated: bool


@dataclass(frozen=True)
class Instruction:
    line: int
    text: str
    name: str
    modifiers: tuple[str, ...]
    operands: tuple[Operand, ...]
    guard: Guard | None = None

    @property
    def place(self) -> str:
        return f"line {self.line}: {self.text}"


@dataclass(frozen=True)
class Parameter:
    name: str
    type: Type


@dataclass(frozen=True)
class SharedArray:
    """`size` is 0 for the dynamic array, of which a launch gives the size."""

    name: str
    alignment: int
    size: int


@dataclass
class Entry:
    """A kernel. Labels are positions in `instructions`; branches have numbers for labels' names,
    which are unique within the entry."""

    name: str
    line: int
    parameters: list[Parameter] = field(default_factory=list)
    registers: list[Register] = field(default_factory=list)
    shared: list[SharedArray] = field(default_factory=list)
    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    #: the most threads a block may have, by .maxntid, or exactly has, by .reqntid
    most_threads: tuple[int, int, int] | None = None
    threads: tuple[int, int, int] | None = None


@dataclass
class Module:
    text: str
    version: str
    target: str
    entries: dict[str, Entry] = field(default_factory=dict)
