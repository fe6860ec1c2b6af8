"""Timing several things side by side: they take turns, so that drift hits all alike.

In: named callables without arguments. Out: for each its samples, in seconds a call.

    >>> race({"numpy": lambda: a @ b, "minicomp": partial(compiled, a, b)}, seconds=1.0)
    {'numpy': Samples(median=0.0021, ...), 'minicomp': Samples(median=0.0019, ...)}

Each round has another order. Before each sample everything that earlier ones left running is
waited for: minicomp's workers are parked, and the threads of BLAS and OpenMP libraries, which spin
for milliseconds after a call, are given the time to fall asleep. Then the contestant warms up
untimed, which brings its data back into the caches and its own threads awake. A round in which
other processes were busy does not count and is repeated, as long as patience lasts.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

import numpy as np
from benchmarks.neighbours import Watch

from minicomp.selection.stillness import Stillness

Run = Callable[[], Any]

#: A sample lasts about this long, or one call; and this long the warm-up before it. A worker that
#: wakes up may find itself on the core of the thread that woke it: the system takes some
#: milliseconds to move it. A cache that holds nearly all of an array takes several passes to.
SAMPLE_SECONDS, WARM_UP_SECONDS = 3e-3, 20e-3
#: A call that takes longer needs no warm-up before a sample.
LONG_SECONDS = 0.1
#: Rounds: at least, and at most.
FEWEST_ROUNDS, MOST_ROUNDS = 3, 30
#: After the fewest rounds, who is this many times as slow as the leader takes part no longer.
HOPELESS_FACTOR = 4.0
#: A race lasts at most so many times as long as it should, because of disturbed rounds.
PATIENCE = 4.0


@dataclass(eq=False)
class Samples:
    """Seconds a call, one entry a sample, and the processor time that went with them."""

    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    disturbed: int = 0  # samples that count although other processes were busy

    def add(self, seconds: float, processor: float, disturbed: bool) -> None:
        self.seconds.append(seconds)
        self.processor.append(processor)
        self.disturbed += disturbed

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))

    @property
    def cores(self) -> float:
        """How many CPUs were busy: whether the number of threads that was asked for was kept."""
        return sum(self.processor) / sum(self.seconds)

    def to_dict(self) -> dict[str, float]:
        low, high = np.percentile(self.seconds, [25, 75])
        return {
            "median": self.median,
            "low": float(low),
            "high": float(high),
            "rounds": len(self.seconds),
            "cores": self.cores,
            "disturbed": self.disturbed,
        }


def race(
    runs: dict[str, Run],
    seconds: float,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Samples]:
    """Samples of each, in as many rounds as fit into about `seconds`."""
    times = {name: Samples() for name in runs}
    calls: dict[str, tuple[int, int]] = {}
    for name, run in runs.items():
        progress(f"{name} warms up")
        calls[name] = _calls(run)
    running, start, number = list(runs), time.perf_counter(), 0
    gc.collect()
    gc.disable()
    try:
        while number < MOST_ROUNDS:
            spent = time.perf_counter() - start
            if number >= FEWEST_ROUNDS and spent > seconds:
                break
            progress(f"round {number + 1}")
            watch, order = Watch(), random.Random(number).sample(running, len(running))
            taken = {name: _sample(runs[name], *calls[name]) for name in order}
            disturbed = watch.is_disturbed()
            if disturbed and spent < PATIENCE * seconds:
                continue
            for name, sample in taken.items():
                times[name].add(*sample, disturbed)
            number += 1
            if number >= FEWEST_ROUNDS:
                limit = HOPELESS_FACTOR * min(samples.median for samples in times.values())
                running = [name for name in running if times[name].median <= limit]
    finally:
        gc.enable()
    return times


def settle() -> None:
    """Let minicomp's workers and other libraries' threads fall asleep."""
    Stillness().settle()


def _calls(run: Run) -> tuple[int, int]:
    """How many calls make a warm-up, and how many a sample."""
    settle()
    once = _measured(run, 1)[0]
    if once > LONG_SECONDS:
        return 0, 1
    once = min(_measured(run, 1)[0] for _ in range(3))
    if once < SAMPLE_SECONDS / 10:
        once = _measured(run, max(1, round(SAMPLE_SECONDS / 10 / max(once, 1e-8))))[0]
    return max(1, round(WARM_UP_SECONDS / once)), max(1, round(SAMPLE_SECONDS / once))


def _sample(run: Run, warm_up: int, calls: int) -> tuple[float, float]:
    settle()
    for _ in repeat(None, warm_up):
        run()
    return _measured(run, calls)


def _measured(run: Run, calls: int) -> tuple[float, float]:
    """Seconds and processor seconds a call."""
    processor, start = time.process_time(), time.perf_counter()
    for _ in repeat(None, calls):
        run()
    seconds = time.perf_counter() - start
    return seconds / calls, (time.process_time() - processor) / calls
