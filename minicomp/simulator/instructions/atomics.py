"""atom and red: read, change and write back, one thread after another.

Threads are taken in the order of their numbers, so that sums of floats repeat. Where several
change one place, the rounds of `_ordered` do first what comes first at each place.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minicomp.simulator.batch import Batch
from minicomp.simulator.decode import Action, Form, Offsets, instruction
from minicomp.simulator.instructions.floating import canonical
from minicomp.simulator.instructions.memory import faulty, skip_hints, space
from minicomp.simulator.threads import Threads
from minicomp.simulator.types import TYPES, Type

Array = np.ndarray
#: old value and operands to new value
Change = Callable[..., Array]


def _increment(old: Array, limit: Array) -> Array:
    return np.where(old >= limit, 0, old + 1).astype(old.dtype)


def _decrement(old: Array, limit: Array) -> Array:
    return np.where((old == 0) | (old > limit), limit, old - 1).astype(old.dtype)


def _compare_and_swap(old: Array, wanted: Array, new: Array) -> Array:
    return np.where(old == wanted, new, old)


_CHANGES: dict[str, tuple[Change, tuple[str, ...]]] = {
    "add": (np.add, ("u32", "s32", "u64", "f32", "f64")),
    "min": (np.minimum, ("u32", "s32", "u64", "s64")),
    "max": (np.maximum, ("u32", "s32", "u64", "s64")),
    "and": (np.bitwise_and, ("b32", "b64")),
    "or": (np.bitwise_or, ("b32", "b64")),
    "xor": (np.bitwise_xor, ("b32", "b64")),
    "inc": (_increment, ("u32",)),
    "dec": (_decrement, ("u32",)),
    "exch": (lambda old, new: new, ("b32", "b64")),
    "cas": (_compare_and_swap, ("b16", "b32", "b64")),
}


@instruction("atom")
def atomic(form: Form) -> Action:
    return _atomic(form, returns=True)


@instruction("red")
def reduction(form: Form) -> Action:
    return _atomic(form, returns=False)


def _atomic(form: Form, *, returns: bool) -> Action:
    skip_hints(form)
    where = space(form, "global", "shared")
    name = form.require(*[name for name in _CHANGES if returns or name not in ("exch", "cas")])
    change, allowed = _CHANGES[name]
    type = form.type(*allowed)
    operands = 2 if name == "cas" else 1
    form.arity(returns + 1 + operands)
    target = form.destination(0, type) if returns else None
    place = int(returns)
    sources = [form.source(place + 1 + i, type) for i in range(operands)]
    address = form.global_address(place) if where == "global" else form.shared_address(place)
    if type.name == "f32":
        change = _canonical_sum
    if where == "shared":
        form.shared_bytes = type.bytes
    access = _access(form, where, address, type, change, sources, target)
    return faulty(form, where, access)


def _canonical_sum(old: Array, more: Array) -> Array:
    return canonical(old + more)


def _access(
    form: Form,
    where: str,
    address: Offsets,
    type: Type,
    change: Change,
    sources: list[int],
    target: int | None,
) -> Action:
    number, width = form.number, type.bytes
    unsigned = TYPES[f"u{type.width}"].dtype

    def access(batch: Batch, threads: Threads) -> None:
        offsets = address(batch, threads)
        memory = batch.memory if where == "global" else batch.shared
        operands = [batch.registers[source][threads.index] for source in sources]
        # what the first at each place finds, and the checks for all
        old = memory.load(offsets, width).view(type.dtype)
        for turn in _ordered(offsets):
            words = memory.load(offsets[turn], width).view(type.dtype)
            old[turn] = words
            new = change(words, *[operand[turn] for operand in operands])
            memory.store(offsets[turn], np.ascontiguousarray(new).view(unsigned), width)
        if where == "global":
            batch.counters.global_access(number, threads, offsets, width)
        else:
            batch.counters.shared_access(number, threads, offsets, width)
            batch.check_race(batch.races.record("atomic", number, threads, offsets, width))
        if target is not None:
            batch.registers[target][threads.index] = old

    return access


def _ordered(offsets: Array) -> list[Array]:
    """Positions in rounds: no place twice in a round, and each place's positions in order."""
    order = np.argsort(offsets, kind="stable")
    sorted_offsets = offsets[order]
    first = np.append(True, sorted_offsets[1:] != sorted_offsets[:-1])
    starts = np.flatnonzero(first)
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    by_rank = order[np.argsort(rank, kind="stable")]
    return np.split(by_rank, np.cumsum(np.bincount(rank))[:-1])
