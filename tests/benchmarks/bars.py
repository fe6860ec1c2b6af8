"""What is asked of a row: requirements, each of which looks at the row's figures.

In: a row as `measure` makes it. Out: `Finding`s: a text and whether the requirement is met.

    >>> Ratio(1.3).check(row)
    Finding(text='1.41 times torch, wanted 1.3', is_met=True)

Ratios are of speed: how many times as fast as the best peer of that row minicomp is.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log
from typing import Any, Protocol

Row = dict[str, Any]
MINICOMP = "minicomp"
#: Contestants that are no peers: what minicomp is compared with otherwise, and the roofs.
BARE, BEST_CANDIDATE = "bare product", "best candidate"


@dataclass(frozen=True)
class Finding:
    """The text has the figure and what was wanted; `is_met` is None where nothing was measured."""

    text: str
    is_met: bool | None


class Requirement(Protocol):
    def check(self, row: Row) -> Finding: ...


def median(row: Row, name: str) -> float | None:
    """Seconds a call of a contestant; None where it did not take part, or was wrong."""
    time = row["times"].get(name)
    return None if time is None else time["median"]


def best_peer(row: Row, among: tuple[str, ...] = ()) -> str | None:
    """The fastest peer, of those named if any are."""
    peers = [name for name in row["peers"] if name in row["times"]]
    peers = [name for name in peers if not among or name in among]
    return min(peers, key=lambda name: row["times"][name]["median"], default=None)


def ratio(row: Row, among: tuple[str, ...] = ()) -> float | None:
    """How many times as fast as the best peer minicomp is."""
    ours, peer = median(row, MINICOMP), best_peer(row, among)
    return None if ours is None or peer is None else row["times"][peer]["median"] / ours


def share(row: Row, roof: str) -> float | None:
    """The part of the machine's peak, timed among the contestants, that minicomp reaches."""
    ours, peak = median(row, MINICOMP), median(row, roof)
    if ours is None or peak is None:
        return None
    return (row["work"][roof] / ours) / (row["roof_work"][roof] / peak)


@dataclass(frozen=True)
class Ratio:
    """At least so many times as fast as the best peer, of those `among` if any are named."""

    least: float
    among: tuple[str, ...] = ()

    def check(self, row: Row) -> Finding:
        value, peer = ratio(row, self.among), best_peer(row, self.among)
        if value is None:
            return Finding(f"no peer, wanted a ratio of {self.least:g}", None)
        return Finding(f"{value:.2f} times {peer}, wanted {self.least:g}", value >= self.least)


@dataclass(frozen=True)
class Share:
    """At least that part of a roof; where `threads` is set, with that many threads only."""

    roof: str
    least: float
    threads: int | None = None

    def check(self, row: Row) -> Finding:
        value = share(row, self.roof)
        wanted = f"wanted {self.least:.0%}"
        if value is None:
            return Finding(f"{self.roof} not measured, {wanted}", None)
        if self.threads not in (None, row["threads"]):
            return Finding(f"{value:.1%} of {self.roof}", True)
        return Finding(f"{value:.1%} of {self.roof}, {wanted}", value >= self.least)


@dataclass(frozen=True)
class Seconds:
    """At most so long."""

    most: float

    def check(self, row: Row) -> Finding:
        ours = median(row, MINICOMP)
        wanted = f"wanted {duration(self.most)}"
        if ours is None:
            return Finding(f"not measured, {wanted}", None)
        return Finding(f"{duration(ours)}, {wanted}", ours < self.most)


@dataclass(frozen=True)
class Extra:
    """At most that many times as long as another way of minicomp's own."""

    over: str
    most: float

    def check(self, row: Row) -> Finding:
        ours, other = median(row, MINICOMP), median(row, self.over)
        wanted = f"wanted {self.most:g}"
        if ours is None or other is None:
            return Finding(f"{self.over} not measured, {wanted}", None)
        value = ours / other
        return Finding(f"{value:.3f} of the time of {self.over}, {wanted}", value <= self.most)


@dataclass(frozen=True)
class Either:
    """One of two is enough."""

    first: Requirement
    second: Requirement

    def check(self, row: Row) -> Finding:
        one, other = self.first.check(row), self.second.check(row)
        is_met = True if one.is_met or other.is_met else one.is_met
        return Finding(f"{one.text}; or {other.text}", is_met)


def geometric_mean(values: list[float]) -> float:
    return exp(sum(map(log, values)) / len(values))


def duration(seconds: float) -> str:
    """Three digits and a unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
