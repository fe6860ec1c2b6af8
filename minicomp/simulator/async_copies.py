"""cp.async: copies under way, by group.

A copy's bytes are moved when it is issued, but its destination counts as not yet there (the
shadow's PENDING) until its thread waits for the group it was committed to, as on hardware, where
it may arrive any time until then.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minicomp.simulator.threads import Threads

Array = np.ndarray


@dataclass(frozen=True)
class Copy:
    """By one instruction, of `size` bytes a thread, to offsets in shared memory."""

    instruction: int
    size: int
    numbers: Array
    offsets: Array
    #: the threads' groups, counted from the first that each commits
    groups: Array

    def part(self, mask: Array) -> Copy:
        return Copy(
            self.instruction,
            self.size,
            self.numbers[mask],
            self.offsets[mask],
            self.groups[mask],
        )


class AsyncCopies:
    """The copies of a batch's threads."""

    def __init__(self, total: int):
        self._committed = np.zeros(total, np.int64)
        self._under_way: list[Copy] = []

    def start(self) -> None:
        """Forget everything: new blocks start."""
        self._committed[:] = 0
        self._under_way = []

    def issue(self, instruction: int, threads: Threads, offsets: Array, size: int) -> None:
        groups = self._committed[threads.index].copy()
        self._under_way.append(Copy(instruction, size, threads.numbers, offsets, groups))

    def commit(self, threads: Threads) -> None:
        """Each thread's copies since its last commit become a group."""
        self._committed[threads.index] += 1

    def wait(self, threads: Threads, groups: int | None) -> list[Copy]:
        """The copies that have arrived once these threads have no more than `groups` groups
        under way; None: once they have nothing under way, committed or not."""
        waiting = np.zeros(len(self._committed), bool)
        waiting[threads.index] = True
        arrived, rest = [], []
        for copy in self._under_way:
            done = waiting[copy.numbers]
            if groups is not None:
                done &= copy.groups < self._committed[copy.numbers] - groups
            if done.all():
                arrived.append(copy)
            elif done.any():
                arrived.append(copy.part(done))
                rest.append(copy.part(~done))
            else:
                rest.append(copy)
        self._under_way = rest
        return arrived
