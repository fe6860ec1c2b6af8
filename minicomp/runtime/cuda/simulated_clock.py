"""Time in the simulator: counted, not measured.

In: a candidate's `run`. Out: the seconds that the launches in it would take on a GPU that did
nothing but issue instructions and move memory at the rates below; for a run that launches nothing,
as an external that computes on the host, what the host takes. The first is a model that orders
minicomp's own kernels by the work they do, the second has nothing to do with a GPU: choices made
in the simulator are for trying things out, and are remembered for the simulator alone.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

from minicomp.selection.timing import Run, RunFailed

# An H200's, roughly: 132 multiprocessors that issue 4 instructions of a warp in each of 1.7e9
# cycles a second, and 4e12 bytes a second from memory, in sectors of 32.
WARP_INSTRUCTIONS_A_SECOND = 132 * 4 * 1.7e9
TRANSACTIONS_A_SECOND = 4e12 / 32
#: A launch takes about this long if it does nothing.
LAUNCH_SECONDS = 2e-6


def launch_seconds(report: Any) -> float:
    """The model's time of one launch: a roofline of issue slots and memory (Williams, Waterman
    and Patterson, 2009). A bank conflict costs an issue slot."""
    issued = (report.instructions + report.bank_conflicts) / WARP_INSTRUCTIONS_A_SECOND
    moved = report.global_transactions / TRANSACTIONS_A_SECOND
    return LAUNCH_SECONDS + max(issued, moved)


class LaunchTally(Protocol):
    """Who counts the launches: their number, and the sum of their seconds."""

    launches: int
    seconds: float


class SimulatedClock:
    """A `selection.timing.Clock`."""

    def __init__(self, tally: LaunchTally):
        self._tally = tally

    def now(self) -> float:
        return time.perf_counter()

    def settle(self) -> None:
        pass  # what is simulated is not disturbed

    def sample(self, name: str, run: Run) -> float:
        launches, seconds = self._tally.launches, self._tally.seconds
        before = time.perf_counter()
        try:
            run()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise RunFailed from error
        if self._tally.launches == launches:
            return time.perf_counter() - before
        return self._tally.seconds - seconds
