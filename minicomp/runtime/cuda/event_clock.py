"""Timing candidates on a GPU, by CUDA's events.

In: a candidate's `run`, which queues work on the stream in use. Out: seconds: what the work took
on the GPU, or the host in queueing it, whichever is longer.

The GPU's time is that between two events around one run. A buffer larger than the L2 cache is
written before each, so that no candidate finds its operands there because its predecessor left
them (Triton's do_bench does the same); while that goes on, the host queues the run, so that the
time between the events is the GPU's alone. The host's own time counts where it is longer, because
calls that follow one another then wait for the host: a product that takes 2 us but 30 to be asked
for takes 30. A candidate that waits for the GPU itself pays for that, as any program would that
calls it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from ctypes import byref, c_float, c_void_p
from typing import Any

from minicomp.errors import CudaError
from minicomp.runtime.cuda.libcuda import CudaLibrary
from minicomp.runtime.cuda.memory_pool import Allocation
from minicomp.runtime.cuda.streams import current_stream
from minicomp.selection.timing import Run, RunFailed

#: The cache is flushed by writing this many times its size.
FLUSH_FACTOR = 2


class EventClock:
    """A `selection.timing.Clock`. `take(nbytes, stream)` gives memory for flushing."""

    def __init__(self, library: CudaLibrary, l2_bytes: int, take: Callable[[int, int], Allocation]):
        self._library = library
        self._start, self._end = _Event(library), _Event(library)
        self._flushed_bytes = FLUSH_FACTOR * l2_bytes
        self._buffer = take(self._flushed_bytes, current_stream())
        self._warm: set[str] = set()

    def now(self) -> float:
        return time.perf_counter()

    def settle(self) -> None:
        pass  # threads on the host do not disturb the device

    def sample(self, name: str, run: Run) -> float:
        try:
            if name not in self._warm:  # lazy loading, workspaces, caches of the host's
                self._measure(run)
                self._warm.add(name)
            return self._measure(run)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise RunFailed from error

    def _measure(self, run: Run) -> float:
        stream = current_stream()
        self._library.cuMemsetD8Async(self._buffer, 0, self._flushed_bytes, stream)
        self._start.record(stream)
        before = time.perf_counter()
        run()
        host_seconds = time.perf_counter() - before
        self._end.record(stream)
        self._end.wait()
        return max(self._end.seconds_since(self._start), host_seconds)


class _Event:
    """A CUDA event that notes the time."""

    def __init__(self, library: CudaLibrary):
        self._library = library
        self._handle = c_void_p()
        library.cuEventCreate(byref(self._handle), 0)

    def record(self, stream: int) -> None:
        self._library.cuEventRecord(self._handle, stream)

    def wait(self) -> None:
        self._library.cuEventSynchronize(self._handle)

    def seconds_since(self, earlier: _Event) -> float:
        """Resolution: about half a microsecond."""
        milliseconds = c_float()
        self._library.cuEventElapsedTime(byref(milliseconds), earlier._handle, self._handle)
        return milliseconds.value * 1e-3

    def __del__(self, _ignored: Any = None) -> None:
        if self._handle:
            with contextlib.suppress(CudaError):  # the device may be lost
                self._library.cuEventDestroy_v2(self._handle)
