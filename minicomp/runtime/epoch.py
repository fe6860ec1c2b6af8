"""A number in memory that moves on whenever something about some module or parameter changes.

Generated code compares it with the value at which it was last found to be in order: one load
tells that no weight has been given another array and no attribute another value since. Contents
of arrays do not count; they are read at each call.

>>> before = current()
>>> advance()
>>> current() == before
False
"""

from __future__ import annotations

import ctypes
from itertools import count

_cell = ctypes.c_int64(0)
_numbers = count(1)


def current() -> int:
    """The present value. To be read before what it stands for is looked at."""
    return _cell.value


def advance() -> None:
    """Move on. To be called after a change is complete. No value ever comes twice, whatever the
    order in which threads get here."""
    _cell.value = next(_numbers)


def address() -> int:
    """Where the number is, for generated code."""
    return ctypes.addressof(_cell)
