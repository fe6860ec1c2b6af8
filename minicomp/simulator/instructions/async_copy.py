"""cp.async: copies from global to shared memory that a thread waits for later.

`async_copies` keeps those under way. To `races`, a copy is a write by its thread both when it is
issued and when it is waited for: readers from before and after need a barrier between.
"""

from __future__ import annotations

import numpy as np

from minicomp.simulator.batch import Batch
from minicomp.simulator.decode import Action, Form, Offsets, instruction
from minicomp.simulator.instructions.memory import check_clash, faulty
from minicomp.simulator.memory import EXISTS, PENDING, WRITTEN
from minicomp.simulator.syntax import Immediate
from minicomp.simulator.threads import Threads
from minicomp.simulator.types import U32

Array = np.ndarray


@instruction("cp")
def copy(form: Form) -> Action:
    """cp.async, its commit_group, wait_group and wait_all"""
    form.require("async")
    if form.option("commit_group"):
        form.arity(0)
        return lambda batch, threads: batch.copies.commit(threads)
    if form.option("wait_all"):
        form.arity(0)
        return _wait(None)
    if form.option("wait_group"):
        form.arity(1)
        groups = form.operands[0]
        if not isinstance(groups, Immediate) or groups.floating or groups.value < 0:
            form.fail("wanted a number of groups")
        return _wait(int(groups.value))
    return _issue(form)


def _wait(groups: int | None) -> Action:
    def action(batch: Batch, threads: Threads) -> None:
        for copy in batch.copies.wait(threads, groups):
            batch.shared.mark(copy.offsets, copy.size, EXISTS | WRITTEN)
            by = Threads(copy.numbers)
            batch.check_race(
                batch.races.record("write", copy.instruction, by, copy.offsets, copy.size)
            )

    return action


def _issue(form: Form) -> Action:
    """The copy itself; of the source, the first bytes only, where a fourth operand says so."""
    caching = form.require("ca", "cg")
    form.require("shared", "shared::cta")
    form.require("global")
    form.skip(*[m for m in form.modifiers if m.startswith("L2::")])
    form.arity(3, 4)
    operand = form.operands[2]
    allowed = (16,) if caching == "cg" else (4, 8, 16)
    if not isinstance(operand, Immediate) or operand.value not in allowed:
        form.fail(f".{caching} copies one of {allowed} bytes")
    size = form.shared_bytes = int(operand.value)
    taken = form.source(3, U32) if len(form.operands) == 4 else None
    target, source = form.shared_address(0), form.global_address(1)

    def action(batch: Batch, threads: Threads) -> None:
        data = np.zeros((threads.count, size // 4), np.uint32)
        if taken is None:
            data[:] = _read(form, batch, threads, source, size, size)
        else:
            sizes = np.minimum(batch.registers[taken][threads.index], size)
            for some in np.unique(sizes[sizes > 0]):
                mask = sizes == some
                data[mask] = _read(form, batch, threads.where(mask), source, size, int(some))
        _write(form, batch, threads, target, data)

    return action


def _read(
    form: Form, batch: Batch, threads: Threads, source: Offsets, size: int, taken: int
) -> Array:
    """The first `taken` of the `size` bytes that each thread copies, then zeros, as words."""

    def access(batch: Batch, threads: Threads) -> Array:
        offsets = source(batch, threads)
        memory = batch.memory
        memory.check_aligned(offsets, size)
        batch.counters.global_access(form.number, threads, offsets, taken)
        if taken == size:
            return memory.load(offsets, 4, size // 4).reshape(-1, size // 4)
        data = np.zeros((threads.count, size), np.uint8)
        for byte in range(taken):
            data[:, byte] = memory.load(offsets + np.uint64(byte), 1)
        return data.view(np.uint32)

    return faulty(form, "global", access)(batch, threads)


def _write(form: Form, batch: Batch, threads: Threads, target: Offsets, data: Array) -> None:
    """Move the bytes, and let them count as under way."""
    size = 4 * data.shape[1]
    values = data[:, 0] if size == 4 else data

    def access(batch: Batch, threads: Threads) -> None:
        offsets = target(batch, threads)
        batch.shared.store(offsets, values, 4, size // 4)
        check_clash(form, batch, threads, offsets, values, 4)
        batch.shared.mark(offsets, size, EXISTS | PENDING)
        batch.counters.shared_access(form.number, threads, offsets, size)
        batch.check_race(batch.races.record("write", form.number, threads, offsets, size))
        batch.copies.issue(form.number, threads, offsets, size)

    faulty(form, "shared", access)(batch, threads)
