"""Who else is busy: other processes.

In: nothing. Out: the processor time that all other processes, and as "steal" the other guests of a
virtual machine's host, have used so far. Linux tells; on other systems nobody ever seems to
disturb. (Threads of this process that spin after their work: see `minicomp.selection.stillness`.)

    watch = Watch()
    ...                      # some work
    watch.is_disturbed()     # whether others took a noticeable part of the machine meanwhile
"""

from __future__ import annotations

import os
import time
from pathlib import Path

STATISTICS = Path("/proc/stat")
#: Up to so much of others' processor time is no disturbance: as a part of the time that passed,
#: and in seconds, since the kernel counts in hundredths.
SMALL_PART, SMALL_SECONDS = 0.05, 0.03
#: Columns of the line `cpu` that count idle time, and those that are contained in others.
IDLE, CONTAINED = (3, 4), (8, 9)


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
