"""Instructions of a whole warp: shfl.sync, vote.sync, redux.sync, activemask.

The scheduler runs a `.sync` instruction when all lanes of its member mask have come. What is read
from a lane that is not there (it has returned, or is not in the mask) is undefined; here it is
`UNDEFINED`, which is a NaN as a float32, so that it shows if it is used.
"""

from __future__ import annotations

import numpy as np

from minicomp.simulator.batch import Batch
from minicomp.simulator.decode import Action, Converge, Form, instruction
from minicomp.simulator.threads import Threads
from minicomp.simulator.types import B32, PRED, U32

Array = np.ndarray

UNDEFINED = np.uint32(0x7FFDEAD0)


def present(batch: Batch, threads: Threads) -> Array:
    """By place: whether its thread is one of these."""
    there = np.zeros(batch.total, bool)
    there[threads.index] = True
    return there


def members_apart(threads: Threads, members: Array) -> Array:
    """A number for each thread that those share which are in one warp and have one mask."""
    return (threads.numbers >> 5 << 32) | members.astype(np.int64)


@instruction("shfl")
def shuffle(form: Form) -> Converge:
    """Each lane gets another lane's value: which one, and whether it is in range, see `lanes`."""
    form.require("sync")
    mode = form.require("up", "down", "bfly", "idx")
    form.type("b32")
    form.arity(5)
    target, in_range = form.pair(0, B32, PRED)
    value, b, c = form.source(1, B32), form.source(2, U32), form.source(3, U32)
    mask = form.source(4, U32)

    def action(batch: Batch, threads: Threads) -> None:
        registers, index = batch.registers, threads.index
        lane = threads.numbers & 31
        source, valid = lanes(mode, lane, registers[b][index], registers[c][index])
        place = (threads.numbers & ~31) + source
        there = present(batch, threads)[place]
        there &= (registers[mask][index] >> source.astype(np.uint32)) & 1 == 1
        result = np.where(there, registers[value][place], UNDEFINED)
        registers[target][index] = result
        if in_range is not None:
            registers[in_range][index] = valid

    return Converge(action, mask)


def lanes(mode: str, lane: Array, b: Array, c: Array) -> tuple[Array, Array]:
    """The lane that each lane reads, and whether that is in range; if not, it reads its own.

    c's low five bits bound the range, and those from bit 8 on cut the warp into segments.
    """
    offset, bound = (b & 31).astype(np.int64), (c & 31).astype(np.int64)
    segment = (c >> 8 & 31).astype(np.int64)
    least = lane & segment
    most = least | (bound & ~segment)
    if mode == "up":
        source = lane - offset
        valid = source >= most
    else:
        source = {
            "down": lane + offset,
            "bfly": lane ^ offset,
            "idx": least | (offset & ~segment),
        }[mode]
        valid = source <= most
    return np.where(valid, source, lane), valid


@instruction("vote")
def vote(form: Form) -> Converge:
    """all, any, uni: one answer for the lanes of the mask; ballot: one bit for each."""
    form.require("sync")
    mode = form.require("all", "any", "uni", "ballot")
    form.type("b32" if mode == "ballot" else "pred")
    form.arity(3)
    target = form.destination(0, B32 if mode == "ballot" else PRED)
    predicate, negated = form.predicate(1)
    mask = form.source(2, U32)

    def action(batch: Batch, threads: Threads) -> None:
        registers, index = batch.registers, threads.index
        holds = registers[predicate][index] ^ negated
        group, inverse = _groups(threads, registers[mask][index])
        if mode == "ballot":
            bits = np.zeros(len(group), np.uint32)
            own = np.uint32(1) << (threads.numbers & 31).astype(np.uint32)
            np.bitwise_or.at(bits, inverse, np.where(holds, own, np.uint32(0)))
            registers[target][index] = bits[inverse]
            return
        votes = np.bincount(inverse, holds, len(group))
        size = np.bincount(inverse, minlength=len(group))
        answer = {
            "all": votes == size,
            "any": votes > 0,
            "uni": (votes == size) | (votes == 0),
        }[mode]
        registers[target][index] = answer[inverse]

    return Converge(action, mask)


def _groups(threads: Threads, members: Array) -> tuple[Array, Array]:
    """The sets of threads that take part together, and each thread's set."""
    return np.unique(members_apart(threads, members), return_inverse=True)


_REDUCTIONS: dict[str, np.ufunc] = {
    "add": np.add,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}


@instruction("redux")
def reduce(form: Form) -> Converge:
    form.require("sync")
    name = form.require(*_REDUCTIONS)
    type = form.type(*(("b32",) if name in ("and", "or", "xor") else ("u32", "s32")))
    form.arity(3)
    target, source = form.destination(0, type), form.source(1, type)
    mask = form.source(2, U32)
    combine = _REDUCTIONS[name]

    def action(batch: Batch, threads: Threads) -> None:
        registers, index = batch.registers, threads.index
        values = registers[source][index]
        group, inverse = _groups(threads, registers[mask][index])
        first = np.zeros(len(group), np.int64)
        first[inverse[::-1]] = np.arange(len(inverse))[::-1]
        result = values[first]
        rest = np.ones(len(values), bool)
        rest[first] = False
        combine.at(result, inverse[rest], values[rest])
        registers[target][index] = result[inverse]

    return Converge(action, mask)


@instruction("activemask")
def active_mask(form: Form) -> Action:
    """The lanes of the warp that run this together."""
    form.type("b32")
    form.arity(1)
    target = form.destination(0, B32)

    def action(batch: Batch, threads: Threads) -> None:
        bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
        there = present(batch, threads).reshape(-1, 32)
        masks = (there * bits).sum(axis=1, dtype=np.uint32)
        batch.registers[target][threads.index] = masks[threads.numbers >> 5]

    return action
