"""Measuring one workload: prepare all contestants, compare their results, let them race.

In: a workload and a `Session`. Out: a row, plain values fit for JSON:

    {"name": "softmax-64x1000", "group": "norms", "threads": 1, "peers": ["numpy", "torch"],
     "times": {"minicomp": {"median": 1.9e-05, ...}, ...}, "failures": {}, "chosen": [], ...}

Results are compared with NumPy's in float64: no element may be further off than the workload's
tolerance times (the element's size + the root mean square of all). Who is further off, or raises,
is among the failures and has no time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from benchmarks import with_numpy
from benchmarks.bars import BARE, MINICOMP, Row
from benchmarks.contestants import PEERS, Contestant, Minicomp, Run
from benchmarks.roofline import ROOFS
from benchmarks.timing import race
from benchmarks.workloads import Workload

#: With larger arrays, or more operations, rows picked at random are compared: so many, or as many
#: as have so many elements together.
MOST_COMPARED, MOST_OPERATIONS, FEWEST_ROWS = 1 << 22, 4e9, 128


@dataclass(eq=False)
class Session:
    """What one process measures with: a number of threads, and the peers there are."""

    threads: int
    seconds: float
    peers: Sequence[Contestant]
    progress: Callable[[str], None]

    def __post_init__(self) -> None:
        self.minicomp = Minicomp(self.threads)
        for contestant in self.peers:
            contestant.start(self.threads)


def installed_peers(names: Sequence[str] = ()) -> list[Contestant]:
    """The peers that are installed, of those named if any are."""
    return [peer for peer in PEERS if (not names or peer.name in names) and peer.is_installed()]


def measure(workload: Workload, session: Session) -> Row:
    arrays = workload.make_arrays()
    check = Check(workload, arrays)
    runs: dict[str, Run] = {}
    failures: dict[str, str] = {}
    for contestant in (session.minicomp, *session.peers):
        session.progress(f"{contestant.name} compiles")
        try:
            run = contestant.prepare(workload, arrays)
            if run is None:
                continue
            check(contestant.result(run()))
        except Exception as error:  # whatever a peer raises, the others go on
            failures[contestant.name] = f"{type(error).__name__}: {error}"[:500]
        else:
            runs[contestant.name] = run
    chosen = [choice.chosen for choice in session.minicomp.compiled.choices()]
    peers = [name for name in runs if name != MINICOMP]
    if workload.has_bare:
        runs[BARE] = session.minicomp.bare_product(workload, arrays)
    roofs = {
        name: ROOFS[name](session.threads, work, arrays) for name, work in workload.work.items()
    }
    runs |= {name: roof.run for name, roof in roofs.items()}
    times = race(runs, session.seconds, session.progress)
    return {
        "name": workload.name,
        "group": workload.group,
        "threads": session.threads,
        "times": {name: samples.to_dict() for name, samples in times.items()},
        "peers": peers,
        "failures": failures,
        "chosen": chosen,
        "work": dict(workload.work),
        "roof_work": {name: roof.work for name, roof in roofs.items()},
    }


class Check:
    """Compares results of a workload with its meaning, computed in float64 by NumPy."""

    def __init__(self, workload: Workload, arrays: Sequence[np.ndarray]):
        self.tolerance = workload.tolerance
        self.picked: Any = ...
        arrays = list(arrays)
        if workload.rows and _is_large(workload, arrays):
            extent = arrays[0].shape[workload.rows[0]]
            count = max(FEWEST_ROWS, MOST_COMPARED * extent // arrays[0].size)
            generator = np.random.default_rng(1)
            self.picked = np.sort(generator.choice(extent, min(count, extent), replace=False))
            for number, axis in enumerate(workload.rows):
                arrays[number] = arrays[number].take(self.picked, axis)
        function = getattr(with_numpy, workload.function)
        self.wanted = np.asarray(function(*(array.astype(np.float64) for array in arrays)))
        self.size = float(np.sqrt(np.mean(np.square(self.wanted, dtype=np.float64))))

    def __call__(self, got: np.ndarray) -> None:
        """ArithmeticError where the result is not what was wanted."""
        got = got[self.picked]
        if got.shape != self.wanted.shape:
            raise ArithmeticError(f"shape {got.shape}, wanted {self.wanted.shape}")
        error = np.abs(got - self.wanted)
        bound = self.tolerance * (np.abs(self.wanted) + self.size)
        if self.wanted.dtype.kind in "iub":
            bound = np.zeros_like(error)
        wrong = ~(error <= bound)  # NaN is wrong too
        if wrong.any():
            raise ArithmeticError(
                f"wrong: {wrong.sum()} of {wrong.size} elements, off by {error[wrong].max():.3g} "
                f"where {bound[wrong].min():.3g} are allowed"
            )


def _is_large(workload: Workload, arrays: Sequence[np.ndarray]) -> bool:
    """Whether the whole result in float64 would take long."""
    return (
        max(array.size for array in arrays) > MOST_COMPARED
        or workload.work.get("fma", 0.0) > MOST_OPERATIONS
    )
