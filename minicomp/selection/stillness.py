"""Waiting until nothing of this process runs but the thread that is about to measure.

In: nothing. Out: whether it is so.

    stillness = Stillness()
    stillness.settle()        # minicomp's workers sleep, other threads have had the time to

The threads of BLAS and OpenMP libraries spin for 25 to 100 ms after a call, in wait for the next.
The reference for a check is such a call, an external may be one; and on a machine of two cores a
candidate that is timed meanwhile runs at half its speed. Linux tells which threads are running
right now. A process has other threads too, that work on for reasons of their own: who has once
waited for long in vain waits no more.
"""

from __future__ import annotations

import os
import threading
import time

from minicomp.runtime.threads import park

OWN_THREADS = "/proc/self/task"
#: The longest wait for threads that spin, and the time between two looks, in seconds.
LONGEST_WAIT, LOOK_SECONDS = 0.15, 1e-4


class Stillness:
    """Settles this process time and again, with patience for one thread that does not stop."""

    def __init__(self) -> None:
        self.is_patient = True

    def settle(self) -> None:
        """Send minicomp's workers to sleep, and wait for everybody else's."""
        park()
        if self.is_patient:
            self.is_patient = wait_for_own_threads()


def wait_for_own_threads() -> bool:
    """Return once no thread of this process runs but this one, or when that takes too long; and
    whether it did not. Where the system does not tell, wait for a moment and hope."""
    deadline = time.perf_counter() + LONGEST_WAIT
    while is_another_thread_running():
        if time.perf_counter() > deadline:
            return False
        time.sleep(LOOK_SECONDS)
    return True


def is_another_thread_running() -> bool:
    """Whether the system's list of threads has a running one besides this; False without a list."""
    this = str(threading.get_native_id())
    try:
        return any(_is_running(thread) for thread in os.listdir(OWN_THREADS) if thread != this)
    except OSError:  # not Linux
        time.sleep(LOOK_SECONDS)
        return False


def _is_running(thread: str) -> bool:
    try:
        with open(f"{OWN_THREADS}/{thread}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split(None, 1)[0] == b"R"
    except OSError:  # it has ended
        return False
