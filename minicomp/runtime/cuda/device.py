"""A GPU as selection knows it: arrays to try candidates on, and who it is.

In: a `Driver`. Out: a `selection.Device`, whose arrays are the driver's own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minicomp.errors import CudaError
from minicomp.ir import ITEMSIZE
from minicomp.runtime.cuda.driver import Driver
from minicomp.runtime.cuda.host_copies import span_of
from minicomp.selection.site import Shape
from minicomp.selection.timing import Clock


class CudaDevice:
    """See `selection.device.Device`."""

    #: A context does not survive a fork: the child cannot use the GPU at all.
    works_in_forks = False

    def __init__(self, driver: Driver):
        self.driver = driver

    @property
    def identity(self) -> str:
        return self.driver.identity

    def empty(self, shape: Shape, dtype: str) -> Any:
        self.driver.enter()  # externals are called with what is made here, on this thread
        return self.driver.empty(shape, dtype)

    def like(self, array: Any) -> Any:
        found = self.driver.argument(array)
        return self.strided(found.shape, found.strides, found.dtype)

    def strided(self, shape: Shape, strides: Shape, dtype: str) -> Any:
        self.driver.enter()
        span = span_of(shape, strides, ITEMSIZE[dtype])
        memory = self.driver.empty((span.nbytes,), "bool")
        first = int(self.driver.argument(memory).pointer) - span.first
        return self.driver.view(memory, first, shape, dtype, strides)

    def fill(self, array: Any, values: np.ndarray) -> None:
        self.driver.fill(array, values)

    def to_host(self, array: Any) -> np.ndarray:
        return self.driver.to_host(array)

    def clock(self) -> Clock:
        return self.driver.clock()

    def is_usable(self) -> bool:
        try:
            self.driver.synchronize()
        except CudaError:  # a kernel has failed: every call fails from then on
            return False
        return True
