"""ld and st: parameters, global and shared memory, and vectors of them; fences and prefetches.

Caching and ordering modifiers are accepted and change nothing: all accesses are in order here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from minicomp.errors import SimulationError
from minicomp.simulator.batch import Batch
from minicomp.simulator.decode import Action, Form, Slot, apply, instruction
from minicomp.simulator.memory import Fault
from minicomp.simulator.syntax import Address, Symbol
from minicomp.simulator.threads import Threads
from minicomp.simulator.types import TYPES, Type

Array = np.ndarray
T = TypeVar("T")

_CACHING = ("nc", "ca", "cg", "cs", "lu", "cv", "wb", "wt", "volatile")
_ORDERING = ("weak", "relaxed", "acquire", "release", "acq_rel", "cta", "cluster", "gpu", "sys")
_MOVED = ("f32", "f64", *(f"{kind}{width}" for kind in "bus" for width in (8, 16, 32, 64)))


def skip_hints(form: Form) -> None:
    """Take the modifiers that say how to cache and order."""
    form.skip(*_CACHING, *_ORDERING, *[m for m in form.modifiers if m[:4] in ("L1::", "L2::")])


def space(form: Form, *allowed: str) -> str:
    """The state space: "param", "global" or "shared"."""
    found = form.option("param", "global", "shared", "shared::cta")
    found = found.removesuffix("::cta")
    if found not in allowed:
        form.fail(f"wanted a state space: .{', .'.join(allowed)}")
    return found


def faulty(
    form: Form, where: str, access: Callable[[Batch, Threads], T]
) -> Callable[[Batch, Threads], T]:
    """The access, with its faults made errors that name the instruction."""
    instruction = form.instruction

    def action(batch: Batch, threads: Threads) -> T:
        try:
            return access(batch, threads)
        except Fault as fault:
            raise batch.fault(fault, instruction, threads, where) from None

    return action


def _vector(form: Form) -> tuple[int, Type]:
    """How many elements, and their type."""
    count = int((form.option("v2", "v4") or "v1")[1:])
    type = form.type(*_MOVED)
    if count * type.bytes > 16:
        form.fail("an access moves at most 16 bytes")
    return count, type


@instruction("ld", "ldu")
def load(form: Form) -> Action:
    skip_hints(form)
    where = space(form, "param", "global", "shared")
    count, type = _vector(form)
    form.arity(2)
    elements = form.vector(0, count)
    targets = [form.destination(element, type, wider=True) for element in elements]
    if where == "param":
        return _load_parameter(form, type, targets)
    if where == "global":
        return faulty(form, where, _load_global(form, type, targets))
    return faulty(form, where, _load_shared(form, type, targets))


def _load_parameter(form: Form, type: Type, targets: Sequence[int]) -> Action:
    address = form.operands[1]
    known = {parameter.name: parameter for parameter in form.slots.entry.parameters}
    if not isinstance(address, Address) or not isinstance(address.base, Symbol):
        form.fail("wanted a parameter's name in brackets")
    parameter = known.get(address.base.name)
    if parameter is None:
        form.fail(f"the kernel has no parameter {address.base.name}")
    if address.offset or len(targets) != 1 or parameter.type.width != type.width:
        form.fail(f"parameter {parameter.name} is one {parameter.type}")
    source = form.slots.number(Slot(type.dtype, special=f"param {parameter.name}"))
    return apply(np.asarray, targets[0], source)


def _put(batch: Batch, threads: Threads, targets: Sequence[int], words: Array, type: Type) -> None:
    """Loaded words into registers, extended by the type's sign where those are wider."""
    values = words.view(type.dtype)
    if len(targets) == 1:
        batch.registers[targets[0]][threads.index] = values
        return
    for place, target in enumerate(targets):
        batch.registers[target][threads.index] = values[:, place]


def _load_global(form: Form, type: Type, targets: Sequence[int]) -> Action:
    address, number = form.global_address(1), form.number
    width, count = type.bytes, len(targets)

    def access(batch: Batch, threads: Threads) -> None:
        offsets = address(batch, threads)
        words = batch.memory.load(offsets, width, count)
        batch.counters.global_access(number, threads, offsets, width * count)
        _put(batch, threads, targets, words, type)

    return access


def _load_shared(form: Form, type: Type, targets: Sequence[int]) -> Action:
    address, number = form.shared_address(1), form.number
    width, count = type.bytes, len(targets)
    form.shared_bytes = size = width * count

    def access(batch: Batch, threads: Threads) -> None:
        offsets = address(batch, threads)
        words = batch.shared.load(offsets, width, count)
        batch.counters.shared_access(number, threads, offsets, size)
        batch.check_race(batch.races.record("read", number, threads, offsets, size))
        _put(batch, threads, targets, words, type)

    return access


@instruction("st")
def store(form: Form) -> Action:
    skip_hints(form)
    where = space(form, "global", "shared")
    count, type = _vector(form)
    form.arity(2)
    sources = [form.source(element, type, wider=True) for element in form.vector(1, count)]
    if where == "global":
        return faulty(form, where, _store_global(form, type, sources))
    return faulty(form, where, _store_shared(form, type, sources))


def _values(batch: Batch, threads: Threads, sources: Sequence[int], type: Type) -> Array:
    """What to store, cut to the type's width."""
    unsigned = TYPES[f"u{type.width}"].dtype
    values = [batch.registers[source][threads.index] for source in sources]
    if values[0].dtype.itemsize != type.bytes:
        values = [value.astype(type.dtype) for value in values]
    if len(values) == 1:
        return values[0].view(unsigned)
    return np.stack([value.view(unsigned) for value in values], axis=1)


def _store_global(form: Form, type: Type, sources: Sequence[int]) -> Action:
    address, number = form.global_address(0), form.number
    width, count = type.bytes, len(sources)

    def access(batch: Batch, threads: Threads) -> None:
        offsets = address(batch, threads)
        batch.memory.store(offsets, _values(batch, threads, sources, type), width, count)
        batch.counters.global_access(number, threads, offsets, width * count)

    return access


def _store_shared(form: Form, type: Type, sources: Sequence[int]) -> Action:
    address, number = form.shared_address(0), form.number
    width, count = type.bytes, len(sources)
    form.shared_bytes = size = width * count

    def access(batch: Batch, threads: Threads) -> None:
        offsets = address(batch, threads)
        values = _values(batch, threads, sources, type)
        batch.shared.store(offsets, values, width, count)
        batch.counters.shared_access(number, threads, offsets, size)
        check_clash(form, batch, threads, offsets, values, width)
        batch.check_race(batch.races.record("write", number, threads, offsets, size))

    return access


def check_clash(
    form: Form, batch: Batch, threads: Threads, offsets: Array, values: Array, width: int
) -> None:
    """Threads that store different values to one place by one instruction: `races` cannot tell,
    as it does not see values."""
    count = 1 if values.ndim == 1 else values.shape[1]
    lost = batch.shared.load(offsets, width, count) != values
    if lost.any():
        position = int(np.argwhere(lost)[0][0])
        place = int(threads.numbers[position])
        winner = int(threads.numbers[np.flatnonzero(offsets == offsets[position])[-1]])
        raise SimulationError(
            f"race in shared memory: {batch.thread_name(place)} and {batch.thread_name(winner)} "
            f"store different values to "
            f"{batch.shared_place(int(offsets[position]) % batch.shared_stride)} at once",
            what=form.instruction.place,
        )


def _nothing(batch: Batch, threads: Threads) -> None:
    """The action of what has no effect here."""


@instruction("membar", "fence")
def fence(form: Form) -> Action:
    form.modifiers.clear()
    form.arity(0)
    return _nothing


@instruction("prefetch", "prefetchu", "discard", "applypriority")
def prefetch(form: Form) -> Action:
    form.modifiers.clear()
    form.global_address(0)
    return _nothing
