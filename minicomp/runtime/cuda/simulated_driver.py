"""The `Driver` without a GPU: PTX run by `minicomp.simulator`, arrays in its memory.

In: what `driver.Driver` says. Out: the same, synchronously: streams are names, and a launch is
over when it returns. What a kernel does wrong (an access out of bounds, a race, a read of memory
never written) is a SimulationError that names the PTX line.

Memory is not kept for later, and an array has as many bytes as it needs: a kernel is found out that
reads what it never wrote, or what has been given back, or writes one element too many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from minicomp.codegen.ptx_kernel import PTXKernel
from minicomp.errors import CudaError, MinicompError
from minicomp.ir import ITEMSIZE, Location
from minicomp.runtime.cuda.interface import DeviceArgument, read_interface
from minicomp.runtime.cuda.memory_pool import MemoryPool
from minicomp.runtime.cuda.pooled_driver import PooledDriver
from minicomp.runtime.cuda.simulated_array import SimulatedArray
from minicomp.runtime.cuda.simulated_clock import SimulatedClock, launch_seconds
from minicomp.runtime.cuda.simulated_launch import LaunchFunction
from minicomp.runtime.cuda.streams import current_stream
from minicomp.runtime.forking import watch_forks
from minicomp.simulator import Report, Simulator


@dataclass(frozen=True, eq=False)
class SimulatedFunction:
    """A kernel that the simulator has parsed."""

    kernel: PTXKernel
    location: Location | None
    module: Any
    handle: int

    @property
    def description(self) -> str:
        """What messages call it."""
        return f"kernel {self.kernel.name}"

    @property
    def parameters(self) -> Sequence[Any]:
        """What the kernel is declared to take."""
        return self.module.programs[self.kernel.name].entry.parameters


class SimulatedDriver(PooledDriver):
    """See `driver.Driver`. The device is said to be an H200's like; it runs on the host."""

    identity = "simulator"
    target = "sm_90a"
    multiprocessors = 132
    l2_bytes = 50 << 20
    shared_bytes = 227 * 1024
    is_simulator = True

    def __init__(self) -> None:
        self.simulator = Simulator()
        self._pool = MemoryPool(
            self.simulator.allocate, self._release, self._order, limit=0, rounded=int
        )
        self.seconds = 0.0  # what the launches so far would have taken; see `launch_seconds`
        self.launches = 0
        self._launch_function = LaunchFunction(self.launch)
        self.launch_address = self._launch_function.address
        self.listeners: list[list[Report]] = []  # lists to which each launch adds its report
        watch_forks(self.simulator)

    # --- arrays ---

    def empty(self, shape: tuple[int, ...], dtype: str) -> SimulatedArray:
        return self.maker(shape, dtype)(current_stream())

    def maker(self, shape: tuple[int, ...], dtype: str) -> Callable[[int], SimulatedArray]:
        shape, nbytes = tuple(shape), ITEMSIZE[dtype] * prod(shape)

        def make(stream: int) -> SimulatedArray:
            memory = self._pool.take(nbytes, stream) if nbytes else 0
            return SimulatedArray(self, memory, shape, dtype)

        return make

    def view(
        self,
        owner: Any,
        pointer: int,
        shape: tuple[int, ...],
        dtype: str,
        strides: tuple[int, ...],
    ) -> SimulatedArray:
        return SimulatedArray(self, pointer, shape, dtype, strides, base=owner)

    def argument(self, array: Any) -> DeviceArgument:
        if type(array) is SimulatedArray and array.driver is self:
            return array.argument
        argument = read_interface(array)
        if not argument.is_simulated:
            raise CudaError(
                f"a {type(array).__name__} in a GPU's memory cannot be read by the simulator, "
                "which is in use; copy it to the host, and from there with minicomp.cuda.to_device"
            )
        return argument

    def arguments(self, arrays: Iterable[Any]) -> list[DeviceArgument]:
        return [self.argument(array) for array in arrays]

    # --- memory ---

    def _release(self, addresses: list[int]) -> None:
        for address in addresses:
            self.simulator.free(address)

    def _order(self, stream: int, other: int) -> None:
        """Everything is done in the order that it is asked for in."""

    def _read(self, address: int, nbytes: int) -> np.ndarray:
        return self.simulator.read(address, nbytes)

    def _write(self, address: int, values: np.ndarray) -> None:
        self.simulator.write(address, values)

    # --- kernels ---

    def load(
        self, kernel: PTXKernel, location: Location | None = None, use_disk_cache: bool = True
    ) -> SimulatedFunction:
        try:
            module = self.simulator.load(kernel.text)
        except MinicompError as error:
            raise _of_kernel(error, kernel, location) from error
        handle = self._launch_function.next_handle()
        function = SimulatedFunction(kernel, location, module, handle)
        self._launch_function.know(function)
        return function

    def launch(self, function: SimulatedFunction, pointers: Sequence[int], stream: int) -> None:
        self._launch_function.raise_kept()
        kernel = function.kernel
        if kernel.blocks == 0:
            return
        try:
            report = self.simulator.launch(
                function.module, kernel.name, kernel.grid, kernel.block,
                [int(pointer) for pointer in pointers], shared_bytes=kernel.shared_bytes,
            )  # fmt: skip
        except MinicompError as error:
            raise _of_kernel(error, kernel, function.location) from error
        self.seconds += launch_seconds(report)
        self.launches += 1
        for reports in self.listeners:
            reports.append(report)

    def launched(self, description: str) -> None:
        """What a kernel does wrong is found out by its own launch: nobody asks for the last."""

    # --- streams and time ---

    def enter(self) -> None:
        """There is no context."""

    def synchronize(self) -> None:
        """Nothing is ever left to wait for."""

    def clock(self) -> SimulatedClock:
        return SimulatedClock(self)


def _of_kernel(error: MinicompError, kernel: PTXKernel, location: Location | None) -> MinicompError:
    """The simulator's error, which names the PTX line, with the kernel and the user's line."""
    return type(error)(str(error), what=f"kernel {kernel.name}", location=location)
