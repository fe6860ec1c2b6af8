"""Races in shared memory: found when a barrier ends the time in which accesses are unordered.

Rule: two threads touch the same byte with no barrier between, at least one of them writes, and
not both accesses are atomic. Every access since the last barrier is kept, and at the barrier two
passes over them suffice: the first enters who wrote each cell, the second looks for accesses by
anybody else. Neither depends on the order in which the simulator happened to run the threads.

Threads of one warp race like others: since Volta they need not run in lockstep. What orders them
is `bar.warp.sync`, or a barrier of the block. One thing is let through: lanes of a warp that
store the same value to the same place by one instruction, whichever of them wins.

Cells are as wide as the kernel's narrowest access, so that words next to each other never count
as one. After a barrier of some of a block's threads, the accesses of those threads are forgotten:
a race with the others may be missed, but none is ever made up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from minicomp.simulator.threads import Threads

Array = np.ndarray

#: more cells than these in the records, and reads are folded into one map
MOST_RECORDED = 1 << 23


class Race(NamedTuple):
    """An access, by a thread, and the one it conflicts with; `offset` is that of a shared byte."""

    instruction: int
    thread: int
    other_instruction: int
    other_thread: int
    offset: int


@dataclass(frozen=True)
class _Record:
    kind: str  # "read", "write" or "atomic"
    instruction: int
    threads: Array
    #: of shape (threads,) or (threads, cells of an access)
    cells: Array

    def owners(self) -> Array:
        """The threads' numbers plus one, so that 0 means nobody, to go with `cells`."""
        owners = self.threads.astype(np.int32) + np.int32(1)
        return owners if self.cells.ndim == 1 else owners[:, None]

    def part(self, mask: Array) -> _Record:
        """The record of those of its threads for which `mask` (of all threads) holds."""
        keep = mask[self.threads]
        return _Record(self.kind, self.instruction, self.threads[keep], self.cells[keep])


class _Map:
    """For each cell who accessed it last, as a thread's number plus one, and in which record."""

    def __init__(self, cells: int):
        self.owner = np.zeros(cells, np.int32)
        self.record = np.zeros(cells, np.int32)

    def enter(self, number: int, record: _Record) -> None:
        self.owner[record.cells] = record.owners()
        self.record[record.cells] = number

    def clear(self, records: list[_Record]) -> None:
        for record in records:
            self.owner[record.cells] = 0


#: of two owners, whether they are of one warp: None if it does not matter
Scope = bool | None


class Races:
    """The records of one batch. `granule` is the cells' width in bytes; `warp_barriers` says
    whether the kernel has a bar.warp.sync."""

    def __init__(self, size: int, granule: int, warp_barriers: bool):
        self.granule = granule
        self._warp_barriers = warp_barriers
        cells = size // granule
        self._maps = {kind: _Map(cells) for kind in ("write", "atomic")}
        self._readers = _Map(cells)
        self.start()

    def start(self) -> None:
        """Forget everything: new blocks start."""
        self._records: list[_Record] = []
        self._of_warps: list[_Record] = []
        self._recorded = 0
        self._folded: list[_Record] = []

    def record(
        self, kind: str, instruction: int, threads: Threads, offsets: Array, size: int
    ) -> Race | None:
        """Note an access of `size` bytes by each thread."""
        cells: Array = (offsets // np.uint64(self.granule)).astype(np.int32)
        if size > self.granule:
            cells = cells[:, None] + np.arange(size // self.granule, dtype=np.int32)
        record = _Record(kind, instruction, threads.numbers, cells)
        self._records.append(record)
        if self._warp_barriers:
            self._of_warps.append(record)
        self._recorded += cells.size
        return self._fold() if self._recorded > MOST_RECORDED else None

    def block_barrier(self, passed: Array | None) -> Race | None:
        """Threads for which `passed` holds (None: all) have passed a barrier of their block."""
        race = self._find(self._records, False if self._warp_barriers else None)
        race = race or (self._find(self._of_warps, True) if self._warp_barriers else None)
        self._readers.clear(self._folded)
        self._folded = []
        self._records = _without(self._records, passed)
        self._of_warps = _without(self._of_warps, passed)
        self._recorded = sum(record.cells.size for record in self._records)
        return race

    def warp_barrier(self, passed: Array | None) -> Race | None:
        """Threads have passed a bar.warp.sync: what they did is ordered within their warps."""
        race = self._find(self._of_warps, True)
        self._of_warps = _without(self._of_warps, passed)
        return race

    def _find(self, records: list[_Record], same_warp: Scope) -> Race | None:
        """A race among the records, between threads of one warp or not as `same_warp` says."""
        changes = [record for record in records if record.kind != "read"]
        if not changes:
            return None
        for number, record in enumerate(records):
            if record.kind != "read":
                self._maps[record.kind].enter(number, record)
        found = None
        for number, record in enumerate(records):
            found = self._conflict(number, record, records, same_warp)
            if found is not None:
                break
        for changes_map in self._maps.values():
            changes_map.clear(changes)
        return found

    def _conflict(
        self, number: int, record: _Record, records: list[_Record], same_warp: Scope
    ) -> Race | None:
        """A race of one record with what the maps say."""
        owners, cells = record.owners(), record.cells
        against = ["write"] if record.kind == "atomic" else ["write", "atomic"]
        for kind in against:
            other = self._maps[kind].owner[cells]
            bad = (other != 0) & (other != owners)
            if not bad.any():
                continue
            in_warp = (other - 1) >> 5 == (owners - 1) >> 5
            if record.kind == kind == "write":
                # one instruction's lanes: `clash` has seen to it that they store one value
                bad &= ~(in_warp & (self._maps[kind].record[cells] == number))
            if same_warp is not None:
                bad &= in_warp == same_warp
            if bad.any():
                where = tuple(np.argwhere(bad)[0])
                cell = int(cells[where])
                return Race(
                    record.instruction,
                    int(record.threads[where[0]]),
                    records[int(self._maps[kind].record[cell])].instruction,
                    int(other[where]) - 1,
                    cell * self.granule,
                )
        return self._late_write(record) if record.kind != "read" and self._folded else None

    def _late_write(self, record: _Record) -> Race | None:
        """A race of a write with reads that were folded."""
        owners, cells = record.owners(), record.cells
        other = self._readers.owner[cells]
        bad = (other != 0) & (other != owners)
        if self._warp_barriers:
            bad &= (other > 0) & ((other - 1) >> 5 != (owners - 1) >> 5)
        if not bad.any():
            return None
        where = tuple(np.argwhere(bad)[0])
        cell = int(cells[where])
        instruction = int(self._readers.record[cell])
        return Race(
            record.instruction,
            int(record.threads[where[0]]),
            instruction,
            abs(int(other[where])) - 1,
            cell * self.granule,
        )

    def _fold(self) -> Race | None:
        """Check what is recorded, and keep of the reads only who read each cell, as a negative
        number where that was more than one thread: long loops would fill the memory."""
        race = self._find(self._records, False if self._warp_barriers else None)
        reads = [record for record in self._records if record.kind == "read"]
        owner = self._readers.owner
        for record in reads:
            owners, cells = record.owners(), record.cells
            before = owner[cells]
            several = (before != 0) & (before != owners)
            owner[cells] = np.where(several, -abs(before), owners)
            lost = (owner[cells] != owners) & ~several
            owner[cells[lost]] = -abs(owner[cells[lost]])
            self._readers.record[cells] = record.instruction
        self._folded += [
            _Record("read", r.instruction, r.threads, np.unique(r.cells)) for r in reads
        ]
        self._records = [record for record in self._records if record.kind != "read"]
        self._recorded = sum(record.cells.size for record in self._records)
        return race


def _without(records: list[_Record], passed: Array | None) -> list[_Record]:
    if passed is None:
        return []
    parts = [record.part(~passed) for record in records]
    return [part for part in parts if len(part.threads)]
