"""Output arrays on a GPU: pycuda's GPUArray, made without its constructor.

In: a shape, a dtype and memory. Out: a `DeviceArray`, which is a `pycuda.gpuarray.GPUArray` in
every respect. GPUArray's own constructor takes several microseconds, nearly all for attributes
that depend on shape and dtype alone; a `Layout` computes those once and copies them.

    layout = Layout((32, 10), np.dtype(np.float32), allocator)
    array = layout.array(memory)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from pycuda.gpuarray import GPUArray

from minicomp.runtime.cuda.interface import LEGACY_DEFAULT_STREAM
from minicomp.runtime.cuda.memory_pool import Allocation


class DeviceArray(GPUArray):
    """A GPUArray whose memory is minicomp's, and which says on which stream it was made."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        interface = super().__cuda_array_interface__
        if isinstance(self.gpudata, Allocation):
            interface["stream"] = self.gpudata.stream or LEGACY_DEFAULT_STREAM
        return interface


class Layout:
    """The attributes that all arrays of one shape and dtype share. `allocator(nbytes)` gives
    memory for what pycuda computes from them."""

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype,
        allocator: Callable[[int], Allocation],
        strides: tuple[int, ...] | None = None,
    ):
        # A pattern made the ordinary way has whatever this version of pycuda keeps.
        pattern = DeviceArray(shape, dtype, allocator, gpudata=0, strides=strides)
        self._attributes = vars(pattern)
        self.nbytes = pattern.nbytes

    def array(self, memory: Any, base: Any = None) -> DeviceArray:
        """An array over `memory` (an address), which `base` keeps alive if `memory` does not."""
        array = DeviceArray.__new__(DeviceArray)
        attributes = array.__dict__
        attributes.update(self._attributes)
        attributes["gpudata"] = memory
        if base is not None:
            attributes["base"] = base
        return array
