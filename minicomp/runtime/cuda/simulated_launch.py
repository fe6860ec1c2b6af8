"""A stand-in for cuLaunchKernel, which generated code calls (see `native_entry`).

In: how the simulator launches a kernel. Out: a `LaunchFunction`: the address of a C function that
takes what CUDA's takes, and numbers for kernels to be known by there.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from ctypes import POINTER, c_int, c_uint, c_uint64, c_void_p
from itertools import count
from typing import Any
from weakref import WeakValueDictionary

from minicomp.errors import MinicompError

SUCCESS, UNKNOWN_ERROR = 0, 999  # CUDA_ERROR_UNKNOWN
PROTOTYPE = ctypes.PYFUNCTYPE(
    c_int, c_void_p, *[c_uint] * 7, c_void_p, POINTER(POINTER(c_uint64)), c_void_p
)


class LaunchFunction:
    """See the module's docstring. `launch(function, pointers, stream)` runs a kernel."""

    def __init__(self, launch: Callable[[Any, Sequence[int], int], None]):
        self._launch = launch
        self._functions: WeakValueDictionary[int, Any] = WeakValueDictionary()
        self._handles = count(1)
        self._callback = PROTOTYPE(self._call)
        self.address: int = ctypes.cast(self._callback, c_void_p).value or 0

    def next_handle(self) -> int:
        """A number that no kernel is known by yet."""
        return next(self._handles)

    def know(self, function: Any) -> None:
        """Let a function be launched by its `handle`."""
        self._functions[function.handle] = function

    def _call(self, handle: int, *rest: Any) -> int:
        """What goes wrong is said by the launch that the generated code leaves to Python then."""
        *_, stream, pointers, _ = rest
        function = self._functions[handle]
        number = len(function.parameters)
        try:
            self._launch(function, [pointers[n][0] for n in range(number)], stream or 0)
        except MinicompError:
            return UNKNOWN_ERROR
        return SUCCESS
