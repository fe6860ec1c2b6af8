"""Things that are never freed, not even as the interpreter shuts down.

Python frees what modules hold in no useful order then, while threads may still be inside generated
code, and libraries may no longer be able to free theirs. The process's end frees the memory anyway.
"""

from __future__ import annotations

import ctypes


def keep_forever(thing: object) -> None:
    """Never free `thing`."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
