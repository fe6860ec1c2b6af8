"""What selection needs of a device: arrays to try candidates on, and who it is.

Selection itself compares in NumPy and knows no device. Another device implements `Device` and,
where the host's clock does not see its work end, a clock of its own (see `timing`).
"""

from __future__ import annotations

import functools
import hashlib
import platform
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from minicomp.ir import dtype_name, numpy_dtype
from minicomp.runtime.target import host_target
from minicomp.runtime.threads import park
from minicomp.selection.site import Shape
from minicomp.selection.stillness import Stillness
from minicomp.selection.timing import Clock, HostClock


class Device(Protocol):
    """Arrays and identity of a device. Arrays are of the device's own type."""

    @property
    def works_in_forks(self) -> bool:
        """Whether a child process that is forked off can use the device."""

    @property
    def identity(self) -> str:
        """What a measured time depends on: model, features, threads or driver, libraries."""

    def empty(self, shape: Shape, dtype: str) -> Any:
        """A contiguous array, not initialised."""

    def like(self, array: Any) -> Any:
        """A writable array with the shape, dtype and strides of `array`, not initialised."""

    def strided(self, shape: Shape, strides: Shape, dtype: str) -> Any:
        """A writable array with such a shape and strides in bytes, not initialised."""

    def fill(self, array: Any, values: np.ndarray) -> None:
        """Copy a NumPy array of the same shape and dtype into `array`, bit by bit."""

    def to_host(self, array: Any) -> np.ndarray:
        """The array's values, once everything that writes them is done; may be a view."""

    def clock(self) -> Clock:
        """A new clock for timing candidates on this device."""

    def is_usable(self) -> bool:
        """Whether the device still works, after a candidate has failed on it."""


class HostDevice:
    """The CPU with `threads` threads; arrays are NumPy's."""

    works_in_forks = True

    def __init__(self, threads: int = 1):
        self.threads = threads

    @property
    def identity(self) -> str:
        return f"{_cpu()}, {self.threads} threads, numpy {np.__version__}"

    def empty(self, shape: Shape, dtype: str) -> np.ndarray:
        return np.empty(shape, numpy_dtype(dtype))

    def like(self, array: np.ndarray) -> np.ndarray:
        if array.size == 0:
            return np.empty_like(array)  # NumPy keeps no strides where there is no element
        return self.strided(array.shape, array.strides, dtype_name(array.dtype))

    def strided(self, shape: Shape, strides: Shape, dtype: str) -> np.ndarray:
        spans = [(size - 1) * stride for size, stride in zip(shape, strides, strict=True)]
        first = sum(span for span in spans if span < 0)  # of negative strides
        last = sum(span for span in spans if span > 0)
        kind = numpy_dtype(dtype)
        buffer = np.empty(last - first + kind.itemsize, np.uint8)
        return np.ndarray(shape, kind, buffer, -first, strides)

    def fill(self, array: np.ndarray, values: np.ndarray) -> None:
        array[...] = values

    def to_host(self, array: np.ndarray) -> np.ndarray:
        return array

    def clock(self) -> Clock:
        # Threads that spin after a call may be on a CPU that the next candidate needs; or, beside
        # a candidate of one thread, on the other half of its core.
        return HostClock(park, Stillness().settle)

    def is_usable(self) -> bool:
        return True


def _cpu() -> str:
    """This CPU, and what code is generated for: `AMD EPYC 9R14 (znver4, features 3f2a90c1, caches
    of 32, 1024 and 32768 kB)`."""
    target = host_target()
    features = hashlib.sha256(target.features.encode()).hexdigest()[:8]
    l1, l2, l3 = (size >> 10 for size in (target.l1_bytes, target.l2_bytes, target.l3_bytes))
    caches = f"caches of {l1}, {l2} and {l3} kB"
    return f"{_model_name()} ({target.cpu}, features {features}, {caches})"


@functools.cache
def _model_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()
