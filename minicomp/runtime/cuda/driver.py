"""What the compiler asks of a CUDA device, and which device is in use.

In: kernels as PTX text, arrays. Out: functions that can be launched, device arrays. `driver()`
gives the one in use: a GPU through pycuda, or the simulator where that has been asked for.

    gpu = driver()
    x, y = gpu.to_device(np.ones(1000, np.float32)), gpu.empty((1000,), "float32")
    function = gpu.load(kernel)                         # a codegen.ptx_kernel.PTXKernel
    pointers = [gpu.argument(array).pointer for array in (x, y)]
    gpu.launch(function, pointers, gpu.current_stream())
    gpu.to_host(y)

The simulator is asked for by MINICOMP_CUDA_SIM=1 in the environment or by
`minicomp.config.cuda_simulator`, and never used otherwise.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from minicomp import config
from minicomp.codegen.ptx_kernel import PTXKernel
from minicomp.errors import CudaError
from minicomp.ir import Location
from minicomp.runtime.cuda.interface import DeviceArgument
from minicomp.runtime.cuda.memory_pool import MemoryFigures
from minicomp.selection.timing import Clock

#: A GPU is asked for by nothing at all, the simulator by this variable or by the option.
VARIABLE = "MINICOMP_CUDA_SIM"


class Function(Protocol):
    """A kernel that has been loaded and can be launched."""

    @property
    def kernel(self) -> PTXKernel: ...

    @property
    def location(self) -> Location | None:
        """The user's line that the kernel comes from, for messages."""

    @property
    def description(self) -> str:
        """What messages call it."""

    @property
    def handle(self) -> int:
        """What the C function at `Driver.launch_address` knows it by."""


class Driver(Protocol):
    """A device. `Array` below is pycuda's GPUArray or the simulator's `SimulatedArray`; dtypes are
    the IR's names. Work is queued on the stream in use (see `streams`), in order."""

    identity: str  # what a measured time depends on: GPU, compute capability, driver's version
    target: str  # what PTX may be emitted for: "sm_80" to "sm_90a"
    multiprocessors: int
    l2_bytes: int
    shared_bytes: int  # the most shared memory that a block may ask for
    is_simulator: bool
    launch_address: int  # of a C function like cuLaunchKernel, for generated code to call

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        """A new contiguous array with garbage in it, its memory from the pool (on a multiple of
        256 bytes) and given back to it when the last reference goes."""

    def maker(self, shape: tuple[int, ...], dtype: str) -> Callable[[int], Any]:
        """A function that does in less time what `empty` does; it is told the stream in use."""

    def view(
        self,
        owner: Any,
        pointer: int,
        shape: tuple[int, ...],
        dtype: str,
        strides: tuple[int, ...],
    ) -> Any:
        """An array over memory that `owner` keeps alive; strides in bytes."""

    def to_device(self, array: np.ndarray) -> Any:
        """A copy on the device, contiguous."""

    def to_host(self, array: Any) -> np.ndarray:
        """A copy of any array with `__cuda_array_interface__`, once what writes it is done."""

    def fill(self, array: Any, values: np.ndarray) -> None:
        """Copy values of the same shape and dtype bit by bit into an array, strided or not."""

    def argument(self, array: Any) -> DeviceArgument:
        """Where and how an array lies, for a kernel to be launched on the stream in use, which
        is made to wait for the array's own stream. CudaError for an array of another device."""

    def arguments(self, arrays: Iterable[Any]) -> list[DeviceArgument]:
        """`argument` of each array. The stream in use waits once for each other stream."""

    def load(
        self, kernel: PTXKernel, location: Location | None = None, use_disk_cache: bool = True
    ) -> Function:
        """The kernel, assembled for this device. CudaError with the assembler's words."""

    def launch(self, function: Any, pointers: Sequence[int], stream: int) -> None:
        """Queue a kernel on a stream, with one pointer per argument. An empty grid is no launch.

        CudaError names the kernel and its line; what goes wrong while the kernel runs is found
        out by a later call.
        """

    def launched(self, description: str) -> object:
        """To be told of each launch through `launch_address`: the function's description."""

    def current_stream(self) -> int:
        """The handle of the stream in use: 0 is the default stream."""

    def enter(self) -> None:
        """Make the device's context current on this thread, for libraries that expect it so. The
        driver's own calls need no asking."""

    def synchronize(self) -> None:
        """Wait until everything that was queued is done."""

    def clock(self) -> Clock:
        """A new clock for timing candidates on this device."""

    def empty_cache(self) -> None:
        """Give memory that the pool holds for later back to the device."""

    def memory(self) -> MemoryFigures:
        """What the pool has given out and holds."""


_lock = threading.Lock()
_drivers: dict[str, Driver] = {}
_failure: str | None = None  # why there is no GPU, once that is known


def is_simulator_wanted() -> bool:
    """Whether the simulator has been asked for, by the environment or the config."""
    asked = os.environ.get(VARIABLE, "")
    if asked not in ("", "0", "1"):
        raise CudaError(f"{VARIABLE} is {asked!r}; wanted 1 for the simulator, 0 or nothing")
    return asked == "1" or config.current("cuda_simulator")


def driver() -> Driver:
    """The device in use. CudaError, which says what to do, where there is none."""
    name = "simulator" if is_simulator_wanted() else "gpu"
    found = _drivers.get(name)
    if found is None:
        with _lock:
            found = _drivers.get(name) or _start(name)
            _drivers[name] = found
    return found


def _start(name: str) -> Driver:
    """The first use of a device. That there is no GPU is found out once."""
    global _failure
    if name == "simulator":
        from minicomp.runtime.cuda.simulated_driver import SimulatedDriver

        return SimulatedDriver()
    if _failure is not None:
        raise CudaError(_failure)
    try:
        return _gpu()
    except CudaError as error:
        _failure = error.message
        raise


def _gpu() -> Driver:
    try:
        from minicomp.runtime.cuda.pycuda_driver import PycudaDriver
    except ImportError as error:
        reason = "pycuda is not installed" if _lacks("pycuda", error) else f"pycuda: {error}"
        raise CudaError(f"no CUDA device: {reason}; {ADVICE}") from error
    return PycudaDriver()


def _lacks(package: str, error: ImportError) -> bool:
    name = (error.name or "").partition(".")[0]
    return isinstance(error, ModuleNotFoundError) and name == package


ADVICE = (
    "on a machine with an NVIDIA GPU and its driver, pip install 'minicomp[cuda]'; "
    f"without one, {VARIABLE}=1 or minicomp.config.cuda_simulator = True runs in the simulator"
)
