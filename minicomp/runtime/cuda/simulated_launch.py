"""A stand-in for cuLaunchKernel, which generated code calls (see `native_entry`).

In: how the simulator launches a kernel. Out: a `LaunchFunction`: the address of a C function that
takes what CUDA's takes, and numbers for kernels to be known by there.

No exception gets through C, so one is kept for the thread that it is of, and the code says that
the launch was refused. The generated code leaves the call to Python then, whose launch raises it.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from ctypes import POINTER, c_int, c_uint, c_uint64, c_void_p
from itertools import count
from typing import Any
from weakref import WeakValueDictionary

SUCCESS, UNKNOWN_ERROR = 0, 999  # CUDA_ERROR_UNKNOWN
PROTOTYPE = ctypes.PYFUNCTYPE(
    c_int, c_void_p, *[c_uint] * 7, c_void_p, POINTER(POINTER(c_uint64)), c_void_p
)


class LaunchFunction:
    """See the module's docstring. `launch(function, pointers, stream)` runs a kernel, and first
    of all calls `raise_kept`."""

    def __init__(self, launch: Callable[[Any, Sequence[int], int], None]):
        self._launch = launch
        self._functions: WeakValueDictionary[int, Any] = WeakValueDictionary()
        self._handles = count(1)
        self._kept = threading.local()
        self._callback = PROTOTYPE(self._call)
        self.address: int = ctypes.cast(self._callback, c_void_p).value or 0

    def next_handle(self) -> int:
        """A number that no kernel is known by yet."""
        return next(self._handles)

    def know(self, function: Any) -> None:
        """Let a function be launched by its `handle`."""
        self._functions[function.handle] = function

    def raise_kept(self) -> None:
        """Raise what this thread's last launch through C has raised, once."""
        error = self._kept.__dict__.pop("error", None)
        try:
            if error is not None:
                raise error
        finally:
            del error  # in a cycle with its traceback, it would keep the call's arrays

    def _call(self, handle: int, *rest: Any) -> int:
        """See the module's docstring; a KeyboardInterrupt is an exception, too."""
        *_, stream, pointers, _ = rest
        try:
            function = self._functions[handle]
            number = len(function.parameters)
            self._launch(function, [pointers[n][0] for n in range(number)], stream or 0)
        except BaseException as error:
            self._kept.error = error
            return UNKNOWN_ERROR
        return SUCCESS
