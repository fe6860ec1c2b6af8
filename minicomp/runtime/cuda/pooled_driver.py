"""What both drivers do alike: memory from a pool, and copies between it and the host.

In: a driver's pool, and its ways to describe an array and to read and write bytes. Out: the methods
of `driver.Driver` that follow from these.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from minicomp.ir import dtype_name, numpy_dtype
from minicomp.runtime.cuda.host_copies import check_fits, read_array, write_array
from minicomp.runtime.cuda.interface import DeviceArgument
from minicomp.runtime.cuda.memory_pool import MemoryFigures, MemoryPool
from minicomp.runtime.cuda.streams import current_stream


class PooledDriver(ABC):
    """See the module's docstring."""

    _pool: MemoryPool

    current_stream = staticmethod(current_stream)

    @abstractmethod
    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        """See `driver.Driver`."""

    @abstractmethod
    def argument(self, array: Any) -> DeviceArgument:
        """See `driver.Driver`."""

    @abstractmethod
    def _read(self, address: int, nbytes: int) -> np.ndarray:
        """Bytes of the device, once what writes them is done."""

    @abstractmethod
    def _write(self, address: int, values: np.ndarray) -> None:
        """Copy a contiguous array's bytes to the device."""

    def to_device(self, array: np.ndarray) -> Any:
        dtype = dtype_name(array.dtype)
        result = self.empty(array.shape, dtype)
        if array.size:
            self._write(int(result.gpudata), np.ascontiguousarray(array, numpy_dtype(dtype)))
        return result

    def to_host(self, array: Any) -> np.ndarray:
        return read_array(self.argument(array), self._read)

    def fill(self, array: Any, values: np.ndarray) -> None:
        argument = self.argument(array)
        check_fits(argument, values)
        write_array(argument, values, self._read, self._write)

    def empty_cache(self) -> None:
        self._pool.empty_cache()

    def memory(self) -> MemoryFigures:
        return self._pool.figures()
