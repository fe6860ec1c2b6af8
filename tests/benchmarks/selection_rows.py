"""Does selection choose well? What it picks against the best candidate, timed exhaustively.

In: a workload with one matrix product. Out: a row as `measure` makes it, in which `minicomp` is
the candidate that was chosen and "best candidate" the one that came out fastest.

Every candidate is compiled on its own, by replaying a choice of it, and all of them race. The
fastest of many is lucky, too; so it then races the chosen one alone, and that decides.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.bars import BEST_CANDIDATE, MINICOMP, Extra, Requirement, Row
from benchmarks.contestants import Run
from benchmarks.measure import Session
from benchmarks.timing import race
from benchmarks.workloads import WORKLOADS, Workload

from minicomp.selection.candidates import REJECTED
from minicomp.selection.replay import choices_document


@dataclass(frozen=True)
class SelectionCheck:
    """The question put for one workload."""

    workload: Workload
    bar: Sequence[Requirement] = (Extra(BEST_CANDIDATE, 1.03),)
    group: str = "selection"

    @property
    def name(self) -> str:
        return f"selection-{self.workload.name}"


def _has_one_product(workload: Workload) -> bool:
    return workload.has_products and workload.group not in ("MLP", "transformer block")


SELECTION_CHECKS = tuple(SelectionCheck(w) for w in WORKLOADS if _has_one_product(w))


def measure_selection(case: SelectionCheck, session: Session) -> Row:
    workload = case.workload
    arrays = workload.make_arrays()
    with tempfile.TemporaryDirectory(prefix="minicomp-benchmark-") as folder:
        session.progress("choosing")
        runs, chosen = _candidates(workload, arrays, session, folder)
    times = _raced(runs, session)
    best = min(times, key=lambda name: times[name]["median"])
    if best == chosen:
        decided = {MINICOMP: times[chosen], BEST_CANDIDATE: times[chosen]}
    else:
        decided = _raced({MINICOMP: runs[chosen], BEST_CANDIDATE: runs[best]}, session)
    return {
        "name": case.name,
        "group": case.group,
        "threads": session.threads,
        "times": {**decided, **times},
        "peers": [],
        "failures": {},
        "chosen": [chosen, best],
        "work": {},
        "roof_work": {},
    }


def _raced(runs: dict[str, Run], session: Session) -> dict[str, dict[str, float]]:
    times = race(runs, session.seconds, session.progress)
    return {name: samples.to_dict() for name, samples in times.items()}


def _candidates(
    workload: Workload, arrays: Sequence[Any], session: Session, folder: str
) -> tuple[dict[str, Run], str]:
    """Each candidate, compiled; and which of them selection chooses."""
    contestant = session.minicomp
    function = contestant.function(workload)
    assert function is not None
    options = contestant.options(workload)
    contestant.compile(function, workload, arrays, options)
    (choice,) = contestant.compiled.choices()
    document = choices_document([choice])
    runs = {}
    for candidate in choice.candidates:
        if candidate.status != REJECTED:
            session.progress(f"{candidate.name} compiles")
            sites = [{**document["sites"][0], "chosen": candidate.name}]
            replayed = {"num_threads": session.threads, "choices": {**document, "sites": sites}}
            runs[candidate.name] = contestant.compile(function, workload, arrays, replayed)
    return runs, choice.chosen
