"""Counts of what a launch did, by instruction: the material of a `Report`.

A *request* is one instruction of one warp that touches memory. In global memory it costs as many
transactions as it touches sectors of 32 bytes. In shared memory it takes one cycle in the best
case; each bank (32, of 4 bytes) can serve one word a cycle, so it takes as many as the most words
that fall into one bank, and the cycles beyond the first are its bank conflicts. Requests of 8 and
16 bytes a thread are served by half and quarter warps.

Patterns repeat in loops: if all addresses have moved by one distance since the instruction ran
last, by whole sectors or in shared memory by words, the counts are those of last time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minicomp.simulator.threads import Threads

Array = np.ndarray

SECTOR = 32
BANKS = 32


@dataclass
class Count:
    """What one instruction did in a launch."""

    #: warps that issued it, and threads for which its guard held
    instructions: int = 0
    thread_instructions: int = 0
    global_requests: int = 0
    global_transactions: int = 0
    #: that the threads asked for
    global_bytes: int = 0
    shared_requests: int = 0
    bank_conflicts: int = 0


@dataclass(frozen=True)
class _Pattern:
    index: slice
    remainder: int
    distances: Array
    result: int


class Counters:
    """See the module's docstring."""

    def __init__(self, instructions: int):
        self.counts = [Count() for _ in range(instructions)]
        self._patterns: dict[tuple[str, int], _Pattern] = {}

    def global_access(self, number: int, threads: Threads, offsets: Array, size: int) -> None:
        """A request by each warp of `threads`, of `size` bytes a thread."""
        count = self.counts[number]
        count.global_requests += threads.warps
        count.global_bytes += threads.count * size
        count.global_transactions += self._remembered(
            "global", number, threads, offsets, SECTOR, lambda: sectors(threads, offsets)
        )

    def shared_access(self, number: int, threads: Threads, offsets: Array, size: int) -> None:
        """The same in shared memory."""
        count = self.counts[number]
        count.shared_requests += threads.warps
        count.bank_conflicts += self._remembered(
            "shared", number, threads, offsets, 4, lambda: bank_conflicts(threads, offsets, size)
        )

    def _remembered(
        self,
        space: str,
        number: int,
        threads: Threads,
        offsets: Array,
        unit: int,
        compute: Callable[[], int],
    ) -> int:
        if not isinstance(threads.index, slice):
            return compute()
        remainder, distances = int(offsets[0]) % unit, offsets - offsets[0]
        last = self._patterns.get((space, number))
        if (
            last is not None
            and last.index == threads.index
            and last.remainder == remainder
            and np.array_equal(last.distances, distances)
        ):
            return last.result
        result = compute()
        self._patterns[space, number] = _Pattern(threads.index, remainder, distances, result)
        return result


def sectors(threads: Threads, offsets: Array) -> int:
    """How many sectors each warp touches, summed; no access crosses a sector's edge."""
    warp = (threads.numbers >> 5).astype(np.uint64)
    return _distinct((warp << np.uint64(32)) | (offsets // np.uint64(SECTOR)))


def _distinct(keys: Array) -> int:
    if (keys[1:] < keys[:-1]).any():
        keys = np.sort(keys)
    return 1 + int(np.count_nonzero(keys[1:] != keys[:-1]))


def bank_conflicts(threads: Threads, offsets: Array, size: int) -> int:
    """Cycles beyond the first that shared memory takes, summed over requests."""
    lanes = {8: 16, 16: 8}.get(size, 32)
    request = threads.numbers // lanes
    words = (offsets // np.uint64(4)).astype(np.int64)
    if size > 4:
        words = (words[:, None] + np.arange(size // 4)).ravel()
        request = np.repeat(request, size // 4)
    keys = np.sort((request << 32) | words)
    keys = keys[np.append(True, keys[1:] != keys[:-1])]
    request, bank = keys >> 32, keys % BANKS
    request -= request[0]
    used = np.bincount(request * BANKS + bank, minlength=(int(request[-1]) + 1) * BANKS)
    cycles = used.reshape(-1, BANKS).max(axis=1)
    return int(cycles.sum() - np.count_nonzero(cycles))
