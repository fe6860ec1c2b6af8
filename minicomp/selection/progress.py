"""A progress line on the terminal, for work that lasts.

In: what is being done, now and then. Out: one line on stderr, rewritten in place, from the second
second on and only where stderr is a terminal; it is wiped when the work ends.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

#: Seconds until the line first shows, and between its rewrites.
DELAY, INTERVAL = 1.0, 0.1
WIDTH = 79


class Progress:
    """The line for one piece of work, called `title`; `now` is the clock it goes by."""

    def __init__(self, title: str, now: Callable[[], float]):
        self.title, self.now = title, now
        self.next_time = now() + DELAY
        self.is_shown = False

    def __call__(self, text: str) -> None:
        """Say what is being done, if it is time to."""
        if self.now() < self.next_time or not sys.stderr.isatty():
            return
        self.next_time = self.now() + INTERVAL
        self._write(f"{self.title}: {text}")
        self.is_shown = True

    def close(self) -> None:
        """Wipe the line."""
        if self.is_shown:
            self._write("")
            sys.stderr.write("\r")

    def _write(self, line: str) -> None:
        sys.stderr.write("\r" + line[:WIDTH].ljust(WIDTH))
        sys.stderr.flush()
