"""A kernel ready to run: its instructions decoded, its blocks ordered, its shared memory laid out.

In: a parsed `Entry`. Out: a `Program`, made once for each kernel of a module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import minicomp.simulator.instructions  # noqa: F401  (fills the table)
from minicomp.simulator.batch import Batch
from minicomp.simulator.control_flow import Block, Usage, blocks, maybe_undefined
from minicomp.simulator.decode import (
    TABLE,
    Action,
    Barrier,
    Converge,
    Decoded,
    Form,
    Jump,
    Slot,
    Slots,
    Stop,
)
from minicomp.simulator.shared_memory import SharedLayout, shared_layout
from minicomp.simulator.syntax import Entry, Guard, Instruction, Register
from minicomp.simulator.threads import Threads
from minicomp.simulator.types import PRED


@dataclass(frozen=True)
class Program:
    entry: Entry
    blocks: Sequence[Block]
    #: by instruction's number; None for control
    actions: Sequence[Action | None]
    slots: Sequence[Slot]
    #: slots of predicates that guard
    guards: dict[Register, int]
    #: registers that might be read before they are written, by number
    watched: dict[int, Register]
    shared_layout: SharedLayout
    #: bytes of the narrowest access to shared memory
    granule: int
    warp_barriers: bool


def program(entry: Entry) -> Program:
    """Decode and check a kernel. Raises PTXSyntaxError."""
    layout = shared_layout(entry.shared)
    slots = Slots(entry, layout)
    decoded, usage, granules, guards = [], [], [16], {}
    for number, instruction in enumerate(entry.instructions):
        form = Form(instruction, number, slots)
        decoded.append(_decode(form))
        reads, writes = frozenset(form.reads), frozenset(form.writes)
        guard = instruction.guard.register if instruction.guard else None
        usage.append(Usage(reads, writes, guard))
        if form.shared_bytes:
            granules.append(form.shared_bytes)
        if guard is not None:
            guards[guard] = form.source(guard, PRED)
    ordered = blocks(entry, decoded)
    suspects = maybe_undefined(ordered, usage)
    actions = [
        _complete(instruction, number, action, usage[number], suspects, guards)
        for number, (instruction, action) in enumerate(zip(entry.instructions, decoded))
    ]
    return Program(
        entry,
        ordered,
        actions,
        slots.slots,
        guards,
        {register.number: register for register in suspects},
        layout,
        min(granules),
        any(_is_warp_barrier(instruction) for instruction in entry.instructions),
    )


def _is_warp_barrier(instruction: Instruction) -> bool:
    return instruction.name in ("bar", "barrier") and "warp" in instruction.modifiers


def _decode(form: Form) -> Decoded:
    name = form.instruction.name
    if name not in TABLE:
        near = ", ".join(get_close_matches(name, TABLE)) or "one of minicomp.simulator.instructions"
        form.fail(f"{name} is not an instruction that the simulator knows; wanted {near}")
    decoded = TABLE[name](form)
    form.finish()
    return decoded


def _complete(
    instruction: Instruction,
    number: int,
    decoded: Decoded,
    usage: Usage,
    suspects: set[Register],
    guards: dict[Register, int],
) -> Action | None:
    """An instruction's action with its guard and the watch on its registers around it."""
    if isinstance(decoded, Jump | Stop | Barrier):
        return None
    guard = instruction.guard
    if isinstance(decoded, Converge):
        # a fork of the control flow does what its guard says
        action, guard = decoded.action, None
    else:
        action = decoded
    reads, writes = usage.reads & suspects, usage.writes & suspects
    if reads or writes:
        action = _watched(instruction, action, sorted(reads, key=str), writes)
    if guard is not None:
        action = _guarded(action, number, guard, guards[guard.register])
        if guard.register in suspects:
            action = _watched(instruction, action, [guard.register], frozenset())
    return action


def _guarded(action: Action, number: int, guard: Guard, slot: int) -> Action:
    negated = guard.negated

    def guarded(batch: Batch, threads: Threads) -> None:
        holds = batch.registers[slot][threads.index]
        if negated:
            holds = ~holds
        if holds.all():
            action(batch, threads)
            return
        if holds.any():
            chosen = threads.where(holds)
            action(batch, chosen)
            batch.skipped[number] += threads.count - chosen.count
        else:
            batch.skipped[number] += threads.count

    return guarded


def _watched(
    instruction: Instruction, action: Action, reads: list[Register], writes: frozenset[Register]
) -> Action:
    def watched(batch: Batch, threads: Threads) -> None:
        for register in reads:
            batch.check_written(register, instruction, threads)
        action(batch, threads)
        for register in writes:
            batch.written[register.number][threads.index] = True

    return watched
