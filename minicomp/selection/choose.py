"""Choosing: which candidate does the work of a call site, and why.

In: a call site, the arrays of the call at hand, and candidates, minicomp's default kernel first.
Out: a `Choice`; the chosen candidate is prepared. The road, each stop a method:

    saved choices given?   replay them
    nothing to compare?    the default
    remembered?            use it, if it still holds on these operands
    else                   examine all, race those that are fit, decide, remember

>>> selector = Selector(resolve_options("max-autotune"), HostDevice(threads=2), disk)
>>> selector.select(site, operands, candidates).chosen
'numpy_matmul'
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from minicomp.options import Options
from minicomp.selection.candidates import (
    CODEGEN,
    DEFAULT,
    OK,
    REJECTED,
    REMEMBERED,
    REPLAYED,
    SKIPPED,
    Candidate,
    CandidateReport,
    Choice,
)
from minicomp.selection.device import Device
from minicomp.selection.examine import Examiner
from minicomp.selection.externals import unique_names
from minicomp.selection.records import Disk, Key, Memory, Record, record_key
from minicomp.selection.replay import SavedChoices, load_choices
from minicomp.selection.site import CallSite, Operands
from minicomp.selection.tune import Tuning, warn_at, warn_of_luck


class Selector:
    """Chooses at the call sites of one compiled module, and remembers what it chose.

    `disk` is a `disk_cache.DiskCache`, or None for none; the options that turn caches off are
    heeded here. Raises ChoicesError where `options.choices` cannot be read.
    """

    def __init__(self, options: Options, device: Device, disk: Disk | None = None):
        self.options, self.device = options, device
        is_remembering = options.autotune_local_cache and not options.force_disable_caches
        self.memory = Memory(disk if is_remembering else None)
        self.saved = None if options.choices is None else load_choices(options.choices)

    def select(self, site: CallSite, operands: Operands, candidates: Sequence[Candidate]) -> Choice:
        """The choice at `site`. `candidates[0]` is the default, which must be minicomp's own.

        Every candidate that fails is reported, none stops the program but the default where no
        other is fit: what its `prepare` raises comes through. Warns (SelectionWarning) of an
        external that is right on these operands and wrong on random ones.
        """
        if not candidates or candidates[0].kind != CODEGEN:
            raise ValueError("the first candidate must be a kernel of minicomp's own")
        candidates = _distinctly_named(candidates)
        examiner = Examiner(site, operands, self.options, self.device)
        if self.saved is not None:
            return self._replayed(self.saved, examiner, candidates)
        reason = self._reason_not_to_compare(site, candidates)
        if reason is not None:
            return _default(site, candidates, reason)
        key = record_key(site, candidates, self.options, self.device.identity)
        return self._remembered(key, examiner, candidates) or self._tuned(key, examiner, candidates)

    def _reason_not_to_compare(self, site: CallSite, candidates: Sequence[Candidate]) -> str | None:
        if self.options.deterministic:
            return "deterministic is on: nothing is timed"
        if not self.options.max_autotune:
            return "max_autotune is off: nothing is timed"
        if site.is_empty:
            return "the product has no elements"
        if len(candidates) == 1:
            return "the only candidate"
        return None

    def _tuned(self, key: Key, examiner: Examiner, candidates: Sequence[Candidate]) -> Choice:
        tuning = Tuning(examiner, candidates, self.options, self.device)
        choice = tuning.run()
        if not tuning.is_lucky(choice):
            self.memory.remember(key, Record(choice.chosen, choice.reason, choice.candidates))
        tuning.log(choice)
        tuning.warn(choice)
        return choice

    def _remembered(
        self, key: Key, examiner: Examiner, candidates: Sequence[Candidate]
    ) -> Choice | None:
        """The remembered choice, if it holds here; None where the site must be tuned."""
        recalled = self.memory.recall(key)
        if recalled is None:
            return None
        record, is_recent = recalled
        reports = list(record.candidates)
        for position, report in enumerate(reports):
            if report.status == REJECTED and not is_recent:
                # A failure is not for ever: what caused it may have passed.
                verdict = examiner.examine(candidates[position])
                if verdict.status == OK:
                    return None
                reports[position] = replace(report, reason=verdict.reason)
        index = [report.name for report in reports].index(record.chosen)
        if not _holds(examiner, candidates[index]):
            return None
        origin = "as at an equal call site" if is_recent else "remembered"
        reason = f"{origin}: {record.reason}"
        return Choice(examiner.site, index, REMEMBERED, reason, tuple(reports))

    def _replayed(
        self, saved: SavedChoices, examiner: Examiner, candidates: Sequence[Candidate]
    ) -> Choice:
        """The saved choice; an external only if it is right here, else the default runs."""
        site = examiner.site
        names = [candidate.name for candidate in candidates]
        index = saved.find(site).among(names, saved.source, site)
        candidate = candidates[index]
        if candidate.external is None:
            candidate.prepare()
            return _untimed(site, candidates, index, REPLAYED, f"replayed from {saved.source}")
        verdict = examiner.examine(candidate)
        if verdict.status != OK:
            reason = f"{candidate.name!r}, chosen by {saved.source}, is not fit: {verdict.reason}"
            warn_at(site, f"{reason}; {names[0]} runs instead")
            choice = _default(site, candidates, f"the default, since {reason}")
        else:
            if verdict.is_lucky:
                warn_of_luck(site, candidate.name, verdict.reason, is_chosen=True)
            reason = f"replayed from {saved.source}"
            choice = _untimed(site, candidates, index, REPLAYED, reason)
        reports = list(choice.candidates)
        reports[index] = replace(reports[index], status=verdict.status, reason=verdict.reason)
        return replace(choice, candidates=tuple(reports))


def _holds(examiner: Examiner, candidate: Candidate) -> bool:
    """Whether a remembered candidate may be used on the operands at hand; it is prepared then."""
    if candidate.external is not None:
        verdict = examiner.examine(candidate)
        return verdict.status == OK and not verdict.is_lucky
    try:
        candidate.prepare()
    except Exception:
        return False  # tuning will report it, and try the others
    return True


def _default(site: CallSite, candidates: Sequence[Candidate], reason: str) -> Choice:
    candidates[0].prepare()
    return _untimed(site, candidates, 0, DEFAULT, reason)


def _untimed(
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


def _distinctly_named(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates, those named like an earlier one with a number after the name."""
    names = unique_names(candidate.name for candidate in candidates)
    return [
        candidate if candidate.name == name else replace(candidate, name=name)
        for candidate, name in zip(candidates, names, strict=True)
    ]
