"""Candidates for a call site, and what became of them.

In: ways to do one product. Out: a `Choice`: which one was taken and why, with a report on every
candidate. A candidate that failed is a report like any other, with status "rejected" and the
reason; nothing is dropped silently.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from minicomp.ir import Location
from minicomp.selection.externals import External
from minicomp.selection.site import CallSite, Shape

OK, REJECTED, SKIPPED = "ok", "rejected", "skipped"
STATUSES = (OK, REJECTED, SKIPPED)
CODEGEN, EXTERNAL = "codegen", "external"
KINDS = (CODEGEN, EXTERNAL)
DEFAULT, TIMED, REMEMBERED, REPLAYED = "default", "timed", "remembered", "replayed"


def _nothing() -> None:
    pass


@dataclass(frozen=True, eq=False)
class Candidate:
    """One way to do a call site's work.

    `run()` does all that a later call will pay for: the product and, for an external, the
    epilogue after it. It is called many times, so it must write nothing that it reads. `prepare()`
    is called once before it, may be slow (it compiles) and may raise. `external` is set for a
    registered callable and None for minicomp's own kernels.
    """

    name: str
    run: Callable[[], None]
    prepare: Callable[[], None] = _nothing
    external: External | None = None

    @property
    def kind(self) -> str:
        return CODEGEN if self.external is None else EXTERNAL


@dataclass(frozen=True)
class CandidateReport:
    """What became of one candidate.

    `status` is "ok", "rejected" (it failed) or "skipped" (it was not tried). `seconds` is the
    median time of a run and `spread` the distance between the quartiles, in seconds; both are
    None where it was not timed.
    """

    name: str
    kind: str
    status: str = OK
    reason: str = ""
    seconds: float | None = None
    spread: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Choice:
    """The candidate chosen at one call site, why, and what became of all of them.

    `index` is the chosen candidate's position among those offered. `source` says what the choice
    rests on: "default" (nothing was compared), "timed", "remembered" or "replayed".
    """

    site: CallSite
    index: int
    source: str
    reason: str
    candidates: tuple[CandidateReport, ...]

    @property
    def chosen(self) -> str:
        """The chosen candidate's name."""
        return self.candidates[self.index].name

    @property
    def op(self) -> str:
        return self.site.op

    @property
    def shapes(self) -> tuple[Shape, Shape]:
        return self.site.shapes

    @property
    def dtypes(self) -> tuple[str, str]:
        return self.site.dtypes

    @property
    def device(self) -> str:
        return self.site.device

    @property
    def location(self) -> Location | None:
        """The user's line, `file:line` as text."""
        return self.site.location

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, fit for JSON."""
        return {
            "op": self.op,
            "shapes": [list(shape) for shape in self.shapes],
            "strides": [list(strides) for strides in self.site.strides],
            "dtypes": list(self.dtypes),
            "device": self.device,
            "epilogue": self.site.epilogue,
            "location": None if self.location is None else str(self.location),
            "chosen": self.chosen,
            "source": self.source,
            "reason": self.reason,
            "candidates": [report.to_dict() for report in self.candidates],
        }


def default_choice(site: CallSite, candidates: Sequence[Candidate], reason: str) -> Choice:
    """The first candidate, which is prepared; nothing was compared."""
    candidates[0].prepare()
    return untimed_choice(site, candidates, 0, DEFAULT, reason)


def untimed_choice(
    site: CallSite, candidates: Sequence[Candidate], index: int, source: str, reason: str
) -> Choice:
    """A choice for which nothing was compared."""
    reports = tuple(
        CandidateReport(candidate.name, candidate.kind)
        if position == index
        else CandidateReport(candidate.name, candidate.kind, SKIPPED, reason)
        for position, candidate in enumerate(candidates)
    )
    return Choice(site, index, source, reason, reports)
