"""Instructions to closures, once when a module is loaded.

An `Action` does one instruction for some threads of a batch: `action(batch, threads)`. Each kind
of instruction has a function here or in `instructions`, found in `TABLE` by the opcode's first
word, which takes a `Form` and returns the action:

    @instruction("not")
    def not_(form):
        type = form.type()
        return elementwise(form, np.invert, type, type)

Registers are arrays with an element a thread. An operand is a *slot*, a number in
`batch.registers`: a register seen as some dtype, a constant or a special register. So an action
needs nothing but slots, whatever its operands are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from minicomp.errors import PTXSyntaxError
from minicomp.simulator.global_memory import BASE
from minicomp.simulator.shared_memory import SharedLayout
from minicomp.simulator.special import SPECIALS
from minicomp.simulator.syntax import (
    Address,
    Entry,
    Immediate,
    Instruction,
    Not,
    Operand,
    Pair,
    Register,
    Sink,
    Special,
    Symbol,
    Vector,
)
from minicomp.simulator.threads import Threads
from minicomp.simulator.types import PRED, TYPES, U32, U64, Type, holds

if TYPE_CHECKING:
    from minicomp.simulator.batch import Batch

Array = np.ndarray
Action = Callable[["Batch", Threads], None]
#: the offsets in memory that an address operand has, as uint64
Offsets = Callable[["Batch", Threads], Array]


@dataclass(frozen=True)
class Jump:
    """`bra`"""

    label: str


@dataclass(frozen=True)
class Stop:
    """`ret` and `exit`"""


@dataclass(frozen=True)
class Barrier:
    """`bar.sync id, count`; a count of None means all threads of the block."""

    name: int
    count: int | None


@dataclass(frozen=True)
class Converge:
    """A warp-level instruction, which waits for the lanes of its member mask: of a slot, or all."""

    action: Action
    members: int | None


Decoded = Action | Jump | Stop | Barrier | Converge
Decoder = Callable[["Form"], Decoded]

TABLE: dict[str, Decoder] = {}


def instruction(*names: str) -> Callable[[Decoder], Decoder]:
    """Enter a decoder in the table."""

    def enter(decoder: Decoder) -> Decoder:
        for name in names:
            TABLE[name] = decoder
        return decoder

    return enter


@dataclass(frozen=True)
class Slot:
    """What `batch.registers` has at a place: exactly one of the three is not None."""

    dtype: np.dtype
    register: Register | None = None
    constant: int | float | None = None
    special: str | None = None


@dataclass
class Slots:
    """The slots of one kernel, numbered as they are asked for."""

    entry: Entry
    shared_layout: SharedLayout
    table: dict[tuple, int] = field(default_factory=dict)
    slots: list[Slot] = field(default_factory=list)

    def number(self, slot: Slot) -> int:
        # repr tells 0.0 from -0.0 and has one NaN
        key = (slot.dtype, slot.register, repr(slot.constant), slot.special)
        if key not in self.table:
            self.table[key] = len(self.slots)
            self.slots.append(slot)
        return self.table[key]


class Form:
    """One instruction while it is decoded: hands out its modifiers and operands, checked.

    What is left over when the decoder is done is an error (`finish`).
    """

    def __init__(self, instruction: Instruction, number: int, slots: Slots):
        self.instruction, self.number, self.slots = instruction, number, slots
        self.modifiers = list(instruction.modifiers)
        self.operands = instruction.operands
        self.reads: set[Register] = set()
        self.writes: set[Register] = set()
        #: bytes of a shared-memory access, which decide how fine races are looked for
        self.shared_bytes: int | None = None

    def fail(self, message: str) -> NoReturn:
        raise PTXSyntaxError(message, what=self.instruction.place)

    # --- modifiers ---

    def option(self, *names: str) -> str:
        """Which of these modifiers there is, taken; "" for none."""
        for name in names:
            if name in self.modifiers:
                self.modifiers.remove(name)
                return name
        return ""

    def require(self, *names: str) -> str:
        return self.option(*names) or self.fail(f"wanted one of .{', .'.join(names)}")

    def skip(self, *names: str) -> None:
        """Take modifiers that make no difference here."""
        for name in names:
            self.option(name)

    def types(self, count: int, *allowed: str) -> list[Type]:
        """The types among the modifiers, in order."""
        found = [name for name in self.modifiers if name in TYPES]
        if len(found) != count:
            self.fail(f"wanted {count} type{'s' * (count > 1)}, found {len(found)}")
        for name in found:
            if allowed and name not in allowed:
                self.fail(f"type .{name}; wanted one of .{', .'.join(allowed)}")
            self.modifiers.remove(name)
        return [TYPES[name] for name in found]

    def type(self, *allowed: str) -> Type:
        return self.types(1, *allowed)[0]

    def finish(self) -> None:
        if self.modifiers:
            self.fail(f".{self.modifiers[0]} is not known in this instruction")

    # --- operands ---

    def arity(self, least: int, most: int | None = None) -> None:
        most = least if most is None else most
        if not least <= len(self.operands) <= most:
            wanted = f"{least}" if least == most else f"{least} to {most}"
            self.fail(f"wanted {wanted} operands, found {len(self.operands)}")

    def source(self, operand: int | Operand, type: Type, *, wider: bool = False) -> int:
        """The slot of an operand to read; with `wider`, of a register at least as wide, whose
        slot then has the type of the register's width."""
        if isinstance(operand, int):
            operand = self.operands[operand]
        if isinstance(operand, Immediate):
            return self.constant(operand, type)
        if isinstance(operand, Special):
            return self.special(operand, type)
        if isinstance(operand, Symbol):
            if type.width < 32 or not type.integer:
                self.fail(f"{operand.name} is an address, and does not fit type {type}")
            return self._number(type, constant=self.symbol(operand.name))
        if not isinstance(operand, Register):
            self.fail(f"wanted a register or a number of type {type}")
        self.reads.add(operand)
        return self._register(operand, type, wider)

    def destination(self, operand: int | Operand, type: Type, *, wider: bool = False) -> int:
        """The slot of an operand to write; as for `source`."""
        if isinstance(operand, int):
            operand = self.operands[operand]
        if isinstance(operand, Sink):
            return self._register(Register("_", type, -1 - type.width), type, False)
        if not isinstance(operand, Register):
            self.fail(f"wanted a register of type {type} to write")
        self.writes.add(operand)
        return self._register(operand, type, wider)

    def _register(self, register: Register, type: Type, wider: bool) -> int:
        if not holds(register.type, type):
            fits = wider and register.type.width > type.width and type.integer
            if not (fits and register.type.integer):
                self.fail(f"{register} is {register.type}, which does not fit type {type}")
            type = TYPES[f"{'s' if type.kind == 'signed' else 'u'}{register.type.width}"]
        return self._number(type, register=register)

    def _number(self, type: Type, **what: object) -> int:
        return self.slots.number(Slot(type.dtype, **what))  # type: ignore[arg-type]

    def constant(self, number: Immediate, type: Type) -> int:
        value = number.value
        if type.kind == "float" and number.floating:
            return self._number(type, constant=value)
        if type.kind == "bits" and number.floating and type.width in (32, 64):
            dtype = np.float32 if type.width == 32 else np.float64
            bits = int(np.array(value, dtype).view(type.dtype))
            return self._number(type, constant=bits)
        if not type.integer or number.floating:
            self.fail(f"{value} is not a constant of type {type}")
        if not -(1 << (type.width - 1)) <= value < 1 << type.width:
            self.fail(f"{value} does not fit type {type}")
        bits = int(value) & ((1 << type.width) - 1)
        return self._number(type, constant=bits)

    def special(self, operand: Special, type: Type) -> int:
        own = SPECIALS[operand.name]
        if not holds(own, type):
            self.fail(f"{operand.name} is {own}, which does not fit type {type}")
        return self._number(type, special=operand.name)

    def symbol(self, name: str) -> int:
        """A shared array's address."""
        addresses = self.slots.shared_layout.addresses
        if name not in addresses:
            self.fail(f"{name} is not declared")
        return addresses[name]

    def predicate(self, operand: int | Operand) -> tuple[int, bool]:
        """The slot of a predicate to read, and whether it is negated."""
        if isinstance(operand, int):
            operand = self.operands[operand]
        if isinstance(operand, Not):
            return self.source(operand.operand, PRED), True
        return self.source(operand, PRED), False

    def pair(self, operand: int, first: Type, second: Type) -> tuple[int, int | None]:
        """The slots of `a|b`, or of `a` alone."""
        both = self.operands[operand]
        if isinstance(both, Pair):
            return self.destination(both.first, first), self.destination(both.second, second)
        return self.destination(both, first), None

    def vector(self, operand: int, count: int) -> tuple[Operand, ...]:
        """The elements of `{...}`, or for a count of 1 the bare operand."""
        found = self.operands[operand]
        elements = found.elements if isinstance(found, Vector) else (found,)
        if len(elements) != count:
            self.fail(f"wanted {count} elements, found {len(elements)}")
        return elements

    # --- addresses ---

    def global_address(self, operand: int) -> Offsets:
        address = self._address(operand)
        if not isinstance(address.base, Register):
            self.fail("an address in global memory starts with a register")
        slot = self.source(address.base, U64)
        displacement = np.uint64((address.offset - BASE) % (1 << 64))
        return lambda batch, threads: batch.registers[slot][threads.index] + displacement

    def shared_address(self, operand: int) -> Offsets:
        """Offsets in the shared memory of all blocks of the batch."""
        address = self._address(operand)
        displacement = np.uint64(address.offset % (1 << 64))
        if isinstance(address.base, Symbol) or address.base is None:
            start = 0 if address.base is None else self.symbol(address.base.name)
            constant = np.uint64((start + address.offset) % (1 << 64))
            return lambda batch, threads: batch.shared_offsets(
                np.broadcast_to(constant, threads.count), threads
            )
        slot = self.source(address.base, U64 if address.base.type.width == 64 else U32)
        return lambda batch, threads: batch.shared_offsets(
            batch.registers[slot][threads.index].astype(np.uint64) + displacement, threads
        )

    def _address(self, operand: int) -> Address:
        address = self.operands[operand]
        if not isinstance(address, Address):
            self.fail("wanted an address in brackets")
        return address


def elementwise(form: Form, function: Callable[..., Array], result: Type, *types: Type) -> Action:
    """The action of `function` on the operands after the first, which gets what it returns."""
    form.arity(1 + len(types))
    sources = [form.source(place + 1, type) for place, type in enumerate(types)]
    return apply(function, form.destination(0, result), *sources)


def apply(function: Callable[..., Array], target: int, *sources: int) -> Action:
    """The action that puts `function` of some slots into a slot."""
    if len(sources) == 1:
        (a,) = sources

        def unary(batch: Batch, threads: Threads) -> None:
            registers, index = batch.registers, threads.index
            registers[target][index] = function(registers[a][index])

        return unary
    if len(sources) == 2:
        a, b = sources

        def binary(batch: Batch, threads: Threads) -> None:
            registers, index = batch.registers, threads.index
            registers[target][index] = function(registers[a][index], registers[b][index])

        return binary

    def general(batch: Batch, threads: Threads) -> None:
        registers, index = batch.registers, threads.index
        registers[target][index] = function(*[registers[a][index] for a in sources])

    return general
