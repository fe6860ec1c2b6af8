"""Timing candidates: clocks, and rounds that treat all candidates alike.

In: named `run` callables. Out: for each a list of samples (seconds per run), of which `tune`
compares the lower quartiles and reports the medians.

Candidates are sampled in turn, round after round, so that a change of the machine's clock or a
busy neighbour hits all of them. The first round goes in the order given, so that the default has a
sample wherever the budget ends. Later ones each have another order, since a candidate may leave
something behind that its successor pays for; only externals always come first, one after the other:
a library's threads may spin for long after a call, and have to be waited for.

A sample is the mean of as many runs as fill a quarter of a millisecond, short beside the time
slices of the operating system: one that is interrupted is an outlier, which a quartile does not
see.
Candidates that are hopelessly slow leave early, and the rest goes on until there are enough
rounds, or the time that more would take is out of proportion, or the budget is used up.

Tests replace the clock: within `use_timer(timer)`, a sample is `timer(candidate_name, run)`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import repeat
from typing import Protocol

import numpy as np

from minicomp.selection.externals import cause_text

Run = Callable[[], None]
Timer = Callable[[str, Run], float]

#: A sample lasts about this long: some thousand times the resolution of the clock.
SAMPLE_SECONDS = 2.5e-4
#: Before a sample some runs are not timed: half as many as are, at least so many, as long as they
#: fit into so much time, but one in any case. The first wakes the workers and brings back what the
#: previous candidate pushed out of the caches. It takes up to a millisecond longer than those that
#: follow, another time for each candidate: 0 to 12% of a run of 8 ms, and more of a shorter one.
#: Not everything is back after it: the second still took up to 2% longer, the third did not.
WARM_UP_RUNS, WARM_UP_SECONDS = 2, 0.02
#: A run longer than this needs none to warm up, beside which a millisecond is little; nor a first
#: one to know how long it takes: it was checked, hence run.
LONG_SECONDS = 0.05
#: A bound for the runs of one sample, should a candidate do nothing at all.
MOST_RUNS = 100_000
#: Rounds of all candidates, and of those that remain tied after them.
ROUNDS, TIE_ROUNDS = 25, 50
#: With at least this many rounds, no more are begun beyond this time per candidate.
ENOUGH_ROUNDS, ENOUGH_SECONDS = 3, 0.15
#: After this many rounds, who was never within this factor of the leader's median leaves.
HOPELESS_ROUNDS, HOPELESS_FACTOR = 3, 2.0
#: After the first one, who is ten times as slow and takes longer than any hiccup of the machine.
ENDLESS_FACTOR, ENDLESS_SECONDS = 10.0, 0.5


class RunFailed(Exception):
    """A candidate raised while it was timed; not to be mixed up with an error of a test's timer."""


class Clock(Protocol):
    """Measures runs. `now()` is the time, in seconds, that budgets are counted in."""

    def now(self) -> float: ...

    def settle(self) -> None:
        """Wait until what others have left running has ended: after the check, whose reference a
        library computes, and after each external. It is bounded."""

    def sample(self, name: str, run: Run) -> float:
        """Seconds per run of candidate `name`, from as many runs as that takes.

        Raises RunFailed, with the cause chained, if a run raised.
        """


def _nothing() -> None:
    pass


class HostClock:
    """The host's monotonic clock, around enough runs to be read exactly.

    `park()` is called before each sample: it ends what one of minicomp's own kernels left running.
    `settle()` does that for all others.
    """

    def __init__(
        self, park: Callable[[], None] = _nothing, settle: Callable[[], None] = _nothing
    ) -> None:
        self.park, self._settle = park, settle
        self.best: dict[str, float] = {}  # seconds per run

    def now(self) -> float:
        return time.perf_counter()

    def settle(self) -> None:
        self._settle()

    def sample(self, name: str, run: Run) -> float:
        try:
            return self._sample(name, run)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise RunFailed from error

    def _sample(self, name: str, run: Run) -> float:
        self.park()
        if name not in self.best:
            self.best[name] = self._warm_up(run)
            if self.best[name] > LONG_SECONDS:
                return self.best[name]
        best = self.best[name]
        runs = max(1, min(MOST_RUNS, round(SAMPLE_SECONDS / best)))
        if best <= LONG_SECONDS:
            wanted = max(WARM_UP_RUNS, runs // 2)
            self._measure(run, max(1, min(wanted, int(WARM_UP_SECONDS / best))))
        seconds = self._measure(run, runs)
        self.best[name] = min(seconds, best)
        return seconds

    def _warm_up(self, run: Run) -> float:
        """Seconds per run, from as many as fill half a sample."""
        runs = 1
        while True:
            seconds = self._measure(run, runs)
            if seconds * runs >= SAMPLE_SECONDS / 2 or runs >= MOST_RUNS:
                return seconds
            runs *= 4

    @staticmethod
    def _measure(run: Run, runs: int) -> float:
        start = time.perf_counter()
        for _ in repeat(None, runs):
            run()
        return (time.perf_counter() - start) / runs


class InjectedClock:
    """A clock whose samples a test's `timer` gives; its time is the sum of them."""

    def __init__(self, timer: Timer):
        self.timer = timer
        self.total = 0.0

    def now(self) -> float:
        return self.total

    def settle(self) -> None:
        pass

    def sample(self, name: str, run: Run) -> float:
        seconds = float(self.timer(name, _guarded(run)))
        self.total += seconds
        return seconds


def _guarded(run: Run) -> Run:
    def guarded() -> None:
        try:
            run()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise RunFailed from error

    return guarded


_timer: ContextVar[Timer | None] = ContextVar("minicomp timer", default=None)
_remembers: ContextVar[bool] = ContextVar("minicomp_remembers", default=True)


@contextmanager
def use_timer(timer: Timer, *, remember: bool = False) -> Iterator[None]:
    """Within the block, `timer(candidate_name, run) -> seconds` replaces the clock.

    It may call `run` or not. Other threads keep the real clock. Choices made so go to the disk
    cache only if `remember` says that the times are to be believed.
    """
    token, kept = _timer.set(timer), _remembers.set(remember)
    try:
        yield
    finally:
        _timer.reset(token)
        _remembers.reset(kept)


def are_times_lasting() -> bool:
    """Whether choices made now may be remembered on disk: not where their times are made up."""
    return _remembers.get()


def current_clock(default: Callable[[], Clock]) -> Clock:
    """A clock for one call site: the injected one, else the device's."""
    timer = _timer.get()
    return default() if timer is None else InjectedClock(timer)


@dataclass(eq=False)
class Contender:
    """A candidate being timed. `failure` says why it left, if a run failed."""

    name: str
    run: Run
    is_external: bool = False
    samples: list[float] = field(default_factory=list)
    failure: str | None = None
    dropped: str | None = None

    @property
    def median(self) -> float:
        return float(np.median(self.samples))

    @property
    def undisturbed(self) -> float:
        """The lower quartile, which decides. Neighbours only ever add to a sample: the median of
        few rounds is off where they were busy during half of them, this is not."""
        return float(np.percentile(self.samples, 25))

    @property
    def spread(self) -> float:
        """The distance between the quartiles."""
        low, high = np.percentile(self.samples, [25, 75])
        return float(high - low)


class Race:
    """Samples taken of several candidates, until `deadline` at the latest."""

    def __init__(
        self,
        contenders: Sequence[Contender],
        clock: Clock,
        deadline: float,
        progress: Callable[[str], None],
    ):
        self.clock, self.deadline, self.progress = clock, deadline, progress
        self.running = list(contenders)
        self.is_settled = False

    def timed(self) -> list[Contender]:
        """Who is still running and has a sample."""
        return [contender for contender in self.running if contender.samples]

    def run(self) -> None:
        """All rounds."""
        start, seconds = self.clock.now(), ENOUGH_SECONDS * len(self.running)
        for number in range(ROUNDS):
            if len(self.running) < 2 and number >= ENOUGH_ROUNDS:
                return
            if number >= ENOUGH_ROUNDS and self.clock.now() - start > seconds:
                return
            if not self._round(number, f"round {number + 1} of {ROUNDS}"):
                return
            self._drop_hopeless(number + 1)

    def run_again(self, tied: Sequence[Contender]) -> None:
        """More rounds for those who are close to each other."""
        self.running = list(tied)
        start, seconds = self.clock.now(), ENOUGH_SECONDS * len(tied)
        for number in range(TIE_ROUNDS):
            if number >= ENOUGH_ROUNDS and self.clock.now() - start > seconds:
                return
            if not self._round(number, f"near tie, round {number + 1} of {TIE_ROUNDS}"):
                return

    def _round(self, number: int, title: str) -> bool:
        """One sample of each; False if the budget ended it."""
        for contender in self._order(number):
            if self.clock.now() >= self.deadline:
                return False
            self.progress(f"{title}, {contender.name}")
            if not self.is_settled:
                self.clock.settle()
            self.is_settled = not contender.is_external
            try:
                contender.samples.append(self.clock.sample(contender.name, contender.run))
            except RunFailed as failed:
                contender.failure = (
                    f"raised {cause_text(failed.__cause__ or failed)} while being timed"
                )
                self.running.remove(contender)
        return True

    def _order(self, number: int) -> list[Contender]:
        """Who comes when in a round."""
        if number == 0:
            return list(self.running)
        order = random.Random(number).sample(self.running, len(self.running))
        return sorted(order, key=lambda contender: not contender.is_external)

    def _drop_hopeless(self, rounds: int) -> None:
        """Let those go of whom more rounds would tell nothing new."""
        if not self.running:
            return
        leader = min(contender.median for contender in self.running)
        for contender in list(self.running):
            best = min(contender.samples)
            is_slow = rounds >= HOPELESS_ROUNDS and best > HOPELESS_FACTOR * leader
            is_endless = best > ENDLESS_SECONDS and best > ENDLESS_FACTOR * leader
            if is_slow or is_endless:
                plural = "" if rounds == 1 else "s"
                contender.dropped = f"given up after {rounds} round{plural}"
                self.running.remove(contender)
