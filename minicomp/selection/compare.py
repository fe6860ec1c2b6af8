"""Comparing the candidates of a call site: by what was saved, by what is remembered, or by timing.

In: a call site, the arrays of the call at hand, and candidates of which more than one may be
chosen. Out: a `Choice`; the chosen candidate is prepared. `choose` has the road that leads here,
and imports this when it is first taken: a program that is not tuned never does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from minicomp.options import Options
from minicomp.selection.candidates import (
    OK,
    REJECTED,
    REMEMBERED,
    REPLAYED,
    Candidate,
    Choice,
    default_choice,
    untimed_choice,
)
from minicomp.selection.device import Device
from minicomp.selection.examine import Examiner
from minicomp.selection.records import Disk, Key, Memory, Record, record_key
from minicomp.selection.replay import SavedChoices, load_choices
from minicomp.selection.site import CallSite, Operands
from minicomp.selection.tune import Tuning, warn_at, warn_of_luck


class Comparison:
    """Compares at the call sites of one compiled module, and remembers what came of it.

    Raises ChoicesError where `options.choices` cannot be read.
    """

    def __init__(self, options: Options, device: Device, disk: Disk | None):
        self.options, self.device = options, device
        is_remembering = options.autotune_local_cache and not options.force_disable_caches
        self.memory = Memory(disk if is_remembering else None)
        self.saved = None if options.choices is None else load_choices(options.choices)

    def choice(self, site: CallSite, operands: Operands, candidates: Sequence[Candidate]) -> Choice:
        """The choice at `site`, as `Selector.select` has it."""
        examiner = Examiner(site, operands, self.options, self.device)
        if self.saved is not None:
            return self._replayed(self.saved, examiner, candidates)
        key = record_key(site, candidates, self.options, self.device.identity)
        return self._remembered(key, examiner, candidates) or self._tuned(key, examiner, candidates)

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
            return untimed_choice(
                site, candidates, index, REPLAYED, f"replayed from {saved.source}"
            )
        verdict = examiner.examine(candidate)
        if verdict.status != OK:
            reason = f"{candidate.name!r}, chosen by {saved.source}, is not fit: {verdict.reason}"
            warn_at(site, f"{reason}; {names[0]} runs instead")
            choice = default_choice(site, candidates, f"the default, since {reason}")
        else:
            if verdict.is_lucky:
                warn_of_luck(site, candidate.name, verdict.reason, is_chosen=True)
            reason = f"replayed from {saved.source}"
            choice = untimed_choice(site, candidates, index, REPLAYED, reason)
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
