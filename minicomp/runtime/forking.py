"""What a forked child has to put right: locks that other threads of its parent held.

In: objects with a method `after_fork`. Out: it is called in each child. Only the thread that forks
goes on there; a lock that another one held would never be given back.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forked(Protocol):
    """Something that is to be put right in a forked child."""

    def after_fork(self) -> None: ...


_watched: weakref.WeakSet[Forked] = weakref.WeakSet()


def watch_forks(thing: Forked) -> None:
    """Call `thing.after_fork()` in each forked child, as long as the thing is there."""
    _watched.add(thing)


def _in_child() -> None:
    for thing in list(_watched):
        thing.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
