"""Who else is busy: threads of this process that spin after their work, and other processes.

In: nothing. Out: whether another thread runs; and the processor time that all other processes, and
as "steal" the other guests of a virtual machine's host, have used so far. Linux tells both. On
other systems the first is found out by waiting, and nobody ever seems to disturb.

    wait_for_own_threads()
    watch = Watch()
    ...                      # some work
    watch.is_disturbed()     # whether others took a noticeable part of the machine meanwhile
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

STATISTICS, OWN_THREADS = Path("/proc/stat"), Path("/proc/self/task")
#: The longest wait for threads that spin, and the time between two looks.
LONGEST_WAIT, LOOK_SECONDS = 0.15, 1e-3
#: Where no list of threads is: the kernel adds up a running thread's time so seldom, or oftener.
TICK_SECONDS = 1e-2
#: Up to so much of others' processor time is no disturbance: as a part of the time that passed,
#: and in seconds, since the kernel counts in hundredths.
SMALL_PART, SMALL_SECONDS = 0.05, 0.03
#: Columns of the line `cpu` that count idle time, and those that are contained in others.
IDLE, CONTAINED = (3, 4), (8, 9)


def wait_for_own_threads() -> None:
    """Return once no thread of this process runs but this one, or when it takes too long."""
    deadline = time.perf_counter() + LONGEST_WAIT
    while time.perf_counter() < deadline:
        time.sleep(LOOK_SECONDS)  # a thread that was just woken shows, too
        if not is_another_thread_running():
            return


def is_another_thread_running() -> bool:
    """Whether the system's list of threads has a running one besides this. Adding up processor
    time does not tell at once: that of a running thread is counted at clock ticks."""
    if not OWN_THREADS.exists():
        before = time.process_time()
        time.sleep(3 * TICK_SECONDS)
        return time.process_time() - before > TICK_SECONDS / 2
    this = str(threading.get_native_id())
    return any(_is_running(thread) for thread in OWN_THREADS.iterdir() if thread.name != this)


def _is_running(thread: Path) -> bool:
    try:
        text = (thread / "stat").read_text()
    except OSError:  # it has ended
        return False
    return text.rpartition(")")[2].split()[0] == "R"


def foreign_seconds() -> float:
    try:
        words = STATISTICS.read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return 0.0
    ticks = [int(word) for word in words]
    busy = sum(n for column, n in enumerate(ticks) if column not in (*IDLE, *CONTAINED))
    return busy / os.sysconf("SC_CLK_TCK") - time.process_time()


class Watch:
    """Looks at others' processor time from its making on."""

    def __init__(self) -> None:
        self.start, self.foreign = time.perf_counter(), foreign_seconds()

    def is_disturbed(self) -> bool:
        allowed = max(SMALL_SECONDS, SMALL_PART * (time.perf_counter() - self.start))
        return foreign_seconds() - self.foreign > allowed
