"""CUDA: arrays on the GPU, streams, memory.

A module runs on the GPU if its parameters and inputs are there:

    model = minicomp.nn.Linear(784, 10).to("cuda")
    compiled = minicomp.compile(model)
    y = compiled(minicomp.cuda.to_device(x))          # a pycuda.gpuarray.GPUArray
    minicomp.cuda.to_host(y)                          # a NumPy array

Inputs may be arrays of any library that has `__cuda_array_interface__`: pycuda, torch, cupy,
numba. The device's primary context is used, which is torch's and cupy's as well.

Without a GPU, MINICOMP_CUDA_SIM=1 in the environment or `minicomp.config.cuda_simulator = True`
runs the same kernels in a simulator. It is never used unless asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from minicomp.errors import CudaError
from minicomp.runtime.cuda.driver import driver
from minicomp.runtime.cuda.streams import use_stream
from minicomp.tracing.record import Cell

if TYPE_CHECKING:
    from minicomp.simulator import Report

__all__ = [
    "empty_cache",
    "is_available",
    "launch_reports",
    "max_memory_allocated",
    "memory_allocated",
    "memory_cached",
    "stream",
    "synchronize",
    "to_device",
    "to_host",
]


def is_available() -> bool:
    """Whether compiled modules can run on a CUDA device here, or in the simulator that has been
    asked for."""
    try:
        driver()
    except CudaError:
        return False
    return True


def to_device(array: Any) -> Any:
    """A contiguous copy of an array on the GPU; an array that is there already, as it is.

    Raises DTypeError for dtypes that minicomp lacks, CudaError where there is no CUDA device: it
    says what to install or set.
    """
    array = _held(array)
    if hasattr(array, "__cuda_array_interface__"):
        return array
    return driver().to_device(np.asarray(array))


def to_host(array: Any) -> np.ndarray:
    """A NumPy array with the values of a GPU array of any library, once what writes it is done;
    an array that is on the host already, as it is."""
    array = _held(array)
    if not hasattr(array, "__cuda_array_interface__"):
        return np.asarray(array)
    return driver().to_host(array)


def _held(array: Any) -> Any:
    """The array of a parameter, or the array itself."""
    return array.data if isinstance(array, Cell) else array


def stream(stream: Any) -> AbstractContextManager[int]:
    """A context manager: within its block, kernels and copies are queued on `stream`, a stream of
    pycuda, torch or cupy, or a handle as an int, whose stream has to outlive the arrays made there.
    Of this thread, and of calls within the block.

    Outside, it is the default stream, which torch and cupy use too. Raises InputError for what is
    no stream.
    """
    return use_stream(stream)


@contextmanager
def launch_reports() -> Iterator[list[Report]]:
    """A context manager that gives a list, to which each launch within its block adds what the
    simulator counted: instructions, memory transactions and bank conflicts, line by line of the
    PTX. CudaError where no simulator is in use: a GPU does not tell.

        with minicomp.cuda.launch_reports() as reports:
            compiled(x)
        print(reports[0])
    """
    listeners = getattr(driver(), "listeners", None)
    if listeners is None:
        raise CudaError(
            "launch_reports() is the simulator's: set MINICOMP_CUDA_SIM=1 or "
            "minicomp.config.cuda_simulator = True; on a GPU use the profiler Nsight Compute"
        )
    reports: list[Report] = []
    listeners.append(reports)
    try:
        yield reports
    finally:
        listeners[:] = [other for other in listeners if other is not reports]


def synchronize() -> None:
    """Wait until all that was queued on the GPU is done. Raises CudaError if a kernel failed."""
    driver().synchronize()


def empty_cache() -> None:
    """Give memory that is kept for later arrays back to the GPU, where others can use it."""
    driver().empty_cache()


def memory_allocated() -> int:
    """Bytes of arrays of minicomp's that are alive."""
    return driver().memory().in_use


def max_memory_allocated() -> int:
    """Bytes of the arrays that have been alive at once, at most."""
    return driver().memory().peak


def memory_cached() -> int:
    """Bytes kept for later arrays; see `empty_cache`."""
    return driver().memory().cached
