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

from minicomp.runtime.cuda.dlpack import CUDA_DEVICE, capsule
from minicomp.runtime.cuda.host_copies import through_the_host
from minicomp.runtime.cuda.interface import LEGACY_DEFAULT_STREAM, read_interface
from minicomp.runtime.cuda.memory_pool import Allocation, memory_of

NO_WAITING = -1  # DLPack's word for a consumer that sees to the order itself


class DeviceArray(GPUArray):
    """A GPUArray whose memory is minicomp's, which says on which stream it was made, and which
    other libraries can take over through DLPack."""

    #: Which GPU the driver is on.
    device_number = 0

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        interface = super().__cuda_array_interface__
        memory = memory_of(self)
        if memory is not None:
            interface["stream"] = memory.stream or LEGACY_DEFAULT_STREAM
        return interface

    def __reduce__(self) -> tuple[Any, ...]:
        return through_the_host(self)

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA_DEVICE, self.device_number

    def __dlpack__(self, *, stream: int | None = None, **wishes: Any) -> Any:
        """A capsule; `stream` is made to wait for the array's own (-1: it need not). Wishes for
        versions, copies and devices beyond that are refused by saying nothing of them, as the
        protocol allows."""
        memory = memory_of(self)
        if memory is not None and stream != NO_WAITING:
            home = memory.shelf.pool
            home.hand_over(memory, 0 if stream in (None, LEGACY_DEFAULT_STREAM) else stream)
        return capsule(read_interface(self), self, self.device_number)


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
        attributes = self._attributes.copy()
        attributes["gpudata"] = memory
        if base is not None:
            attributes["base"] = base
        array = DeviceArray.__new__(DeviceArray)
        array.__dict__ = attributes
        return array
