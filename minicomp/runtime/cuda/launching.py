"""Launching a loaded kernel with as little of the host's time as possible.

In: a kernel's handle and its launch. Out: a `LoadedFunction`, whose `launch(pointers, stream)`
writes the pointers into a block of parameters made before and calls CUDA once.

What a launch passes is the same each time but for the pointers and the stream. Such a block holds
all of it as ctypes objects, which go to C unchecked: half the time of a call whose arguments are
converted. Blocks are taken from a list and put back, so threads do not share them; the list grows
to as many as were ever in use at once.
"""

from __future__ import annotations

import ctypes
import struct
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from minicomp.codegen.ptx_kernel import PTXKernel
from minicomp.errors import CudaError
from minicomp.ir import Location
from minicomp.runtime.cuda.libcuda import (
    DEINITIALIZED,
    INVALID_CONTEXT,
    INVALID_HANDLE,
    NOT_INITIALIZED,
    CudaCallError,
    CudaLibrary,
)

# CUfunction_attribute
STATIC_SHARED_BYTES, LOCAL_BYTES, REGISTERS, MOST_DYNAMIC_SHARED_BYTES = 1, 3, 4, 8
#: A block may have this much shared memory without being asked for (CUDA C++ Programming Guide,
#: "Compute Capabilities").
ORDINARY_SHARED_BYTES = 48 * 1024

#: Codes of a launch on a thread where the context is not current; `enter` says why, or cures it.
NOT_ENTERED = (NOT_INITIALIZED, DEINITIALIZED, INVALID_CONTEXT, INVALID_HANDLE)


class Launcher:
    """What the launches of a device share. `enter()` makes its context current on a thread."""

    def __init__(self, library: CudaLibrary, enter: Callable[[], None]):
        self.library, self.enter = library, enter
        self.cu_launch_kernel = library.raw("cuLaunchKernel")
        #: What was launched last, by all threads: one of these it is that fails later on. Not the
        #: functions: as the last reference to one goes, CUDA waits for all that is queued.
        self.recent: deque[str] = deque(maxlen=4)


class LoadedFunction:
    """A kernel on the device. `module` keeps the code there."""

    def __init__(
        self,
        kernel: PTXKernel,
        location: Location | None,
        handle: int,
        module: Any,
        launcher: Launcher,
    ):
        self.kernel, self.location, self.handle = kernel, location, handle
        self._module, self._launcher = module, launcher
        self._call, self._note = launcher.cu_launch_kernel, launcher.recent.append
        where = f" at {location}" if location is not None else ""
        self.description = f"kernel {kernel.name}{where}"
        self._is_empty = kernel.blocks == 0
        self._blocks: list[_ParameterBlock] = []

    def launch(self, pointers: Sequence[int], stream: int) -> None:
        """Queue the kernel. CudaError where CUDA refuses, or an earlier kernel has failed."""
        if self._is_empty:
            return
        try:
            block = self._blocks.pop()
        except IndexError:
            block = _ParameterBlock(self, len(pointers))
        try:
            block.pack(*pointers)
            block.stream.value = stream
            code = self._call(*block.arguments)
            if code:
                self._try_again(code, block)
            self._note(self.description)
        finally:
            self._blocks.append(block)

    def _try_again(self, code: int, block: _ParameterBlock) -> None:
        if code in NOT_ENTERED:
            self._launcher.enter()
            code = self._call(*block.arguments)
        if code:
            error = self._launcher.library.error(code, "the launch")
            raise launch_error(error, self, self._launcher.recent)

    def __repr__(self) -> str:
        return self.description


def launch_error(
    error: CudaCallError, function: LoadedFunction, recent: Sequence[str]
) -> CudaError:
    """A refused launch, with the kernel, its line and its shape."""
    if error.is_sticky:
        return late_error(error, recent)
    kernel = function.kernel
    return CudaError(
        f"{error.message} (grid {kernel.grid}, block {kernel.block}, "
        f"{kernel.shared_bytes} bytes of dynamic shared memory)",
        what=f"kernel {kernel.name}",
        location=function.location,
    )


def late_error(error: CudaCallError, recent: Sequence[str]) -> CudaError:
    """A kernel that failed while it ran, found out by a later call."""
    launched = ", ".join(reversed(recent)) or "none of minicomp's"
    return CudaError(
        f"a kernel failed on the GPU: {error.message}; launched last: {launched}. The device is "
        f"lost to this process: start again, with CUDA_LAUNCH_BLOCKING=1 in the environment to "
        f"have the kernel named, or in the simulator to have the instruction named"
    )


class _ParameterBlock:
    """What cuLaunchKernel is passed for one launch of a function."""

    def __init__(self, function: LoadedFunction, count: int):
        kernel = function.kernel
        self._values = (ctypes.c_uint64 * max(count, 1))()
        first = ctypes.addressof(self._values)
        addresses = (ctypes.c_void_p * max(count, 1))(*(first + 8 * n for n in range(count)))
        self.pack = partial(struct.Struct(f"{count}Q").pack_into, self._values, 0)
        self.stream = ctypes.c_void_p()
        self.arguments = (
            ctypes.c_void_p(function.handle),
            *map(ctypes.c_uint, (*kernel.grid, *kernel.block, kernel.shared_bytes)),
            self.stream,
            addresses,
            ctypes.c_void_p(),
        )
