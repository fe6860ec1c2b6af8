"""What a launch did, for people: totals, and a table of the lines that cost most.

`str(report)` prints

    add1: 1 block of 64 threads
      warp instructions      22        threads active 100%
      ...
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from minicomp.simulator.counters import SECTOR, Count
from minicomp.simulator.syntax import Instruction


@dataclass(frozen=True)
class LineCount:
    """One instruction of the PTX, and its counts."""

    line: int
    text: str
    counts: Count


@dataclass(frozen=True)
class Report:
    """The counts of one launch. Instructions are those of warps; `thread_instructions` counts
    each thread for which the guard held. `global_transactions` are sectors of 32 bytes,
    `bank_conflicts` cycles of shared memory beyond one a request."""

    entry: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    lines: Sequence[LineCount]

    def _sum(self, name: str) -> int:
        return sum(getattr(line.counts, name) for line in self.lines)

    @property
    def instructions(self) -> int:
        return self._sum("instructions")

    @property
    def thread_instructions(self) -> int:
        return self._sum("thread_instructions")

    @property
    def global_requests(self) -> int:
        return self._sum("global_requests")

    @property
    def global_transactions(self) -> int:
        return self._sum("global_transactions")

    @property
    def global_bytes(self) -> int:
        return self._sum("global_bytes")

    @property
    def shared_requests(self) -> int:
        return self._sum("shared_requests")

    @property
    def bank_conflicts(self) -> int:
        return self._sum("bank_conflicts")

    def line(self, number: int) -> Count:
        """The counts of the instruction on a line of the PTX."""
        for line in self.lines:
            if line.line == number:
                return line.counts
        raise KeyError(f"there is no instruction on line {number}")

    def __str__(self) -> str:
        return "\n".join(self._totals() + self._table())

    def _totals(self) -> list[str]:
        blocks, threads = (x * y * z for x, y, z in (self.grid, self.block))
        active = _percent(self.thread_instructions, 32 * self.instructions)
        used = _percent(self.global_bytes, SECTOR * self.global_transactions)
        return [
            f"{self.entry}: {blocks} blocks of {threads} threads",
            f"  {self.instructions} warp instructions, lanes active {active}",
            f"  {self.global_transactions} global transactions of {SECTOR} bytes for "
            f"{self.global_requests} requests, bytes asked for {used}",
            f"  {self.bank_conflicts} bank conflicts in {self.shared_requests} shared requests",
        ]

    def _table(self, most: int = 12) -> list[str]:
        """The lines that keep the machine busy longest, in the order of the text."""
        busiest = sorted(self.lines, key=lambda line: -_cycles(line.counts))[:most]
        busiest = sorted((line for line in busiest if _cycles(line.counts)), key=lambda x: x.line)
        total = sum(_cycles(line.counts) for line in self.lines) or 1
        rows = [("line", "share", "instr", "lanes", "global", "bytes used", "conflicts", "text")]
        for line in busiest:
            count = line.counts
            rows.append(
                (
                    str(line.line),
                    _percent(_cycles(count), total),
                    str(count.instructions),
                    _percent(count.thread_instructions, 32 * count.instructions),
                    str(count.global_transactions or ""),
                    _percent(count.global_bytes, SECTOR * count.global_transactions),
                    str(count.bank_conflicts) if count.shared_requests else "",
                    line.text,
                )
            )
        widths = [max(len(row[i]) for row in rows) for i in range(7)]
        return [
            "  " + "  ".join([*(cell.rjust(w) for cell, w in zip(row, widths)), row[7]])
            for row in rows
        ]


def _cycles(count: Count) -> int:
    """A rough measure of time: issue slots, sectors and shared memory's cycles."""
    return count.instructions + count.global_transactions + count.bank_conflicts


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f}%" if whole else ""


def line_counts(instructions: Sequence[Instruction], counts: Sequence[Count]) -> list[LineCount]:
    return [LineCount(i.line, i.text, count) for i, count in zip(instructions, counts)]
