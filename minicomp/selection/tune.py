"""Tuning one call site: examine the candidates, race those that are fit, decide.

In: the candidates of a site. Out: a `Choice`, with a report on each of them. The order in which
candidates come up, when the budget may end before all have, is: the default, then externals (the
user asked for them), then the other schedules.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from minicomp.errors import SelectionWarning
from minicomp.options import Options
from minicomp.selection.candidates import (
    EXTERNAL,
    OK,
    REJECTED,
    SKIPPED,
    TIMED,
    Candidate,
    CandidateReport,
    Choice,
)
from minicomp.selection.device import Device
from minicomp.selection.examine import Examiner, Verdict
from minicomp.selection.progress import Progress
from minicomp.selection.site import CallSite
from minicomp.selection.table import autotune_table, duration
from minicomp.selection.timing import Contender, Race, current_clock

logger = logging.getLogger("minicomp.autotune")

#: The share of the budget that checks may take; candidates whose turn has not come by then are not
#: tried. The rest is for timing those that have been: products of 4096 take ten seconds to check.
CHECKING_SHARE = 0.5
#: The share of the tolerance within which minicomp's own kernels are tied with each other. Between
#: them a tie only keeps the choice the same from one process to the next; an external has to be
#: clearly faster, since it brings code along that minicomp does not know.
OWN_SHARE = 1 / 3
#: The share of the tolerance within which candidates are timed again: three rounds, which is all
#: that products of many milliseconds get at first, are off by as much.
AGAIN_SHARE = 2.0


@dataclass(eq=False)
class Entry:
    """A candidate on its way through the tuning."""

    index: int
    candidate: Candidate
    verdict: Verdict = field(default_factory=Verdict)
    contender: Contender | None = None

    @property
    def is_fit(self) -> bool:
        return self.verdict.status == OK

    @property
    def preference(self) -> tuple[bool, int]:
        """The fixed order that settles ties: minicomp's own kernels, then as they were listed."""
        return self.candidate.kind == EXTERNAL, self.index

    @property
    def median(self) -> float:
        assert self.contender is not None
        return self.contender.median

    @property
    def undisturbed(self) -> float:
        assert self.contender is not None
        return self.contender.undisturbed

    @property
    def name(self) -> str:
        return self.candidate.name

    @property
    def reason(self) -> str:
        return self.verdict.reason

    @property
    def is_timed(self) -> bool:
        contender = self.contender
        return contender is not None and bool(contender.samples) and contender.failure is None

    def skip(self, reason: str) -> None:
        self.verdict = Verdict(SKIPPED, reason)

    def report(self) -> CandidateReport:
        report = CandidateReport(
            self.name, self.candidate.kind, self.verdict.status, self.verdict.reason
        )
        if self.contender is None or not self.is_fit or not self.is_timed:
            return report
        reason = "; ".join(filter(None, (self.contender.dropped, report.reason)))
        return replace(
            report, reason=reason, seconds=self.contender.median, spread=self.contender.spread
        )


class Tuning:
    """The tuning of one call site; `run` once."""

    def __init__(
        self,
        examiner: Examiner,
        candidates: Sequence[Candidate],
        options: Options,
        device: Device,
    ):
        self.site, self.examiner, self.options = examiner.site, examiner, options
        self.clock = current_clock(device.clock)
        self.start = self.clock.now()
        self.deadline = self.start + options.autotune_budget_seconds
        self.entries = [Entry(index, candidate) for index, candidate in enumerate(candidates)]
        self.progress = Progress(f"choosing for {self.site.where}", self.clock.now)
        self.preparing_seconds = 0.0
        self.is_cut_short = False  # whether the budget ended the checks

    def run(self) -> Choice:
        try:
            self._examine_all()
            self.preparing_seconds = self.clock.now() - self.start
            winner, reason = self._winner()
        finally:
            self.progress.close()
        reports = tuple(entry.report() for entry in self.entries)
        return Choice(self.site, winner.index, TIMED, reason, reports)

    def is_lucky(self, choice: Choice) -> bool:
        """Whether the chosen candidate is right by luck alone, and not to be remembered."""
        return self.entries[choice.index].verdict.is_lucky

    def _examine_all(self) -> None:
        """Check the candidates, in the order in which they may be left out."""
        enough = self.start + CHECKING_SHARE * self.options.autotune_budget_seconds
        default, *rest = self.entries
        fit: list[Entry] = []  # until there are two of them there is nothing to time
        for entry in [default, *sorted(rest, key=lambda entry: entry.candidate.kind != EXTERNAL)]:
            deadline, share = (enough, CHECKING_SHARE) if len(fit) > 1 else (self.deadline, 1.0)
            if entry is not default and self.clock.now() >= deadline:
                entry.skip(self._out_of_budget("before its turn", share))
                self.is_cut_short = True
                continue
            self.progress(f"checking {entry.candidate.name}")
            entry.verdict = self.examiner.examine(entry.candidate)
            if entry.is_fit:
                fit.append(entry)

    def _winner(self) -> tuple[Entry, str]:
        if len(self._fit()) > 1:
            self._race(self._fit())
            timed = [entry for entry in self._fit() if entry.is_timed]
            if timed:
                return self._decide(timed)
        fit = sorted(self._fit(), key=lambda entry: entry.preference)
        if len(fit) > 1:
            return fit[0], self._out_of_budget("before any candidate was timed")
        if fit:
            of_those = " of those checked in time" if self.is_cut_short else ""
            return fit[0], f"the only candidate{of_those} that is fit"
        return self._fall_back()

    def _fit(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.is_fit]

    def _race(self, entries: list[Entry]) -> None:
        """Time the entries, those that come out close to the fastest once more."""
        for entry in entries:
            candidate = entry.candidate
            is_external = candidate.kind == EXTERNAL
            entry.contender = Contender(candidate.name, candidate.run, is_external)
        contenders = [entry.contender for entry in entries if entry.contender is not None]
        race = Race(contenders, self.clock, self.deadline, self.progress)
        race.run()
        close = self._near([entry for entry in entries if entry.is_timed], AGAIN_SHARE)
        if len(close) > 1:
            race.run_again([entry.contender for entry in close if entry.contender is not None])
        for entry in entries:
            if entry.contender is not None and entry.contender.failure is not None:
                entry.verdict = Verdict(REJECTED, entry.contender.failure)

    def _near(self, timed: list[Entry], share: float = 1.0) -> list[Entry]:
        """Those within the tolerance, or a share of it, of the fastest, it included."""
        if not timed:
            return []
        tolerance = self.options.autotune_tie_tolerance * share
        limit = min(entry.undisturbed for entry in timed) * (1 + tolerance)
        return [entry for entry in timed if entry.undisturbed <= limit]

    def _decide(self, timed: list[Entry]) -> tuple[Entry, str]:
        for entry in self._fit():
            if not entry.is_timed:
                entry.skip(self._out_of_budget("before it was timed"))
        tied, tolerance = self._near(timed), self.options.autotune_tie_tolerance
        externals = [entry for entry in tied if entry.candidate.kind == EXTERNAL]
        own = self._near([entry for entry in tied if entry not in externals], OWN_SHARE)
        winner = min(own or externals, key=lambda entry: entry.preference)
        others = [entry.name for entry in (*own, *externals) if entry is not winner]
        if others:
            more = f" and {len(others) - 2} more" if len(others) > 2 else ""
            percent = 100 * (tolerance if externals else tolerance * OWN_SHARE)
            return winner, (
                f"{self._time(winner, timed)}, within {round(percent, 2):g}% of "
                f"{', '.join(others[:2])}{more}; ties go to minicomp's own, then as listed"
            )
        slower = [entry for entry in timed if entry is not winner]
        if not slower:
            return winner, f"fastest: {duration(winner.median)}, the only one timed"
        second = min(slower, key=lambda entry: entry.undisturbed)
        fastest = winner.undisturbed
        ratio = second.undisturbed / fastest if fastest else float("inf")
        time = self._time(winner, timed)
        return winner, f"fastest: {time}, {ratio:.2f} times as fast as {second.name}"

    def _time(self, winner: Entry, timed: list[Entry]) -> str:
        """The winner's median; or, where others have a better one, what decided."""
        limit = min(entry.median for entry in timed) * (1 + self.options.autotune_tie_tolerance)
        if winner.median <= limit:
            return duration(winner.median)
        return f"{duration(winner.undisturbed)} when undisturbed (lower quartile)"

    def _fall_back(self) -> tuple[Entry, str]:
        """No candidate is fit: the default runs all the same, if it can."""
        default = self.entries[0]
        default.candidate.prepare()  # raises what it raised before, if that is the reason
        reason = f"the default, since no candidate is fit; it was rejected too: {default.reason}"
        warn_at(self.site, f"{default.name} runs here: {reason}")
        return default, reason

    def _out_of_budget(self, when: str, share: float = 1.0) -> str:
        part = "" if share == 1.0 else f"{share:.0%} of "
        return f"{part}the budget of {self.options.autotune_budget_seconds:g} s was used up {when}"

    def log(self, choice: Choice) -> None:
        """The table, through the logger `minicomp.autotune`."""
        displayed = self.options.autotune_num_choices_displayed
        if displayed != 0 and logger.isEnabledFor(logging.INFO):
            seconds = self.clock.now() - self.start
            table = autotune_table(choice, displayed, seconds, self.preparing_seconds)
            logger.info("%s", table)

    def warn(self, choice: Choice) -> None:
        """A warning for each candidate that is right by luck."""
        for entry in self.entries:
            if entry.verdict.is_lucky and entry.is_fit:
                warn_of_luck(self.site, entry.name, entry.reason, entry.name == choice.chosen)


def warn_of_luck(site: CallSite, name: str, reason: str, is_chosen: bool) -> None:
    fate = "It was chosen: other operands may get a wrong result" if is_chosen else "Not chosen"
    warn_at(site, f"the external {name!r} is {reason}. {fate}; external_check='strict' rejects it")


def warn_at(site: CallSite, message: str) -> None:
    """A SelectionWarning about `site`, placed at the user's line."""
    text = f"{site.where}: {message}"
    if site.location is None:
        warnings.warn(text, SelectionWarning, stacklevel=2)
    else:
        warnings.warn_explicit(text, SelectionWarning, site.location.file, site.location.line)
