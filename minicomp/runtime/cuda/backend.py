"""CUDA as a back end: what `backend.Backend` asks for, from device arrays and PTX.

In: `CudaBackend(options)`. Out: see `backend`; kernels come from `kernels`, programs that run from
`executable`. Arrays are the driver's own (pycuda's or the simulator's); those of other libraries
are seen through a view.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minicomp import config
from minicomp.codegen.ptx_kernel import GpuTarget
from minicomp.codegen.ptx_matmul_schedules import GpuMatmulSchedule, schedules
from minicomp.errors import DeviceError, InputError
from minicomp.ir import DTYPES, ITEMSIZE
from minicomp.kernels import LoopKernel, MatmulKernel, ProductKernel
from minicomp.kernels.program import Buffer, Program
from minicomp.options import Options
from minicomp.runtime.backend import Layout
from minicomp.runtime.cuda.device import CudaDevice
from minicomp.runtime.cuda.driver import Driver, driver
from minicomp.runtime.cuda.entry import CudaEntry
from minicomp.runtime.cuda.executable import (
    ALIGNMENT,
    WIDEST_ACCESS,
    CudaExecutable,
    own_type,
    view_at,
)
from minicomp.runtime.cuda.interface import DeviceArgument
from minicomp.runtime.cuda.kernels import CudaKernel, loop_kernel, matmul_kernels
from minicomp.runtime.steps import ArrayView, ExternalStep, RunStep
from minicomp.runtime.stepwise import StepwiseRun


class CudaBackend:
    """The GPU in use, or the simulator."""

    name = "cuda"
    language = "PTX"
    dtypes = tuple(DTYPES)
    reads_windows = False
    alignment = large_alignment = ALIGNMENT

    def __init__(self, options: Options):
        wanted = options.cuda_simulator or config.current("cuda_simulator")
        with config.patch(cuda_simulator=wanted):
            self.driver: Driver = driver()
        self.precision = options.matmul_precision
        self.use_disk_cache = not options.force_disable_caches
        self.device = CudaDevice(self.driver)
        self.target = GpuTarget(
            self.driver.target, self.driver.multiprocessors, self.driver.shared_bytes
        )
        self._own = own_type(self.driver)

    def prepared(self, array: Any) -> Any:
        """A device array as one of the driver's; the stream in use waits for the array's own."""
        if not hasattr(array, "__cuda_array_interface__"):
            raise DeviceError(
                "an argument is on the CPU and the module on the GPU; "
                "move the module with .to('cpu'), or the array with minicomp.cuda.to_device"
            )
        found = self.driver.argument(array)
        check_whole_elements(found)
        if type(array) is self._own:
            return array
        return self.driver.view(array, found.pointer, found.shape, found.dtype, found.strides)

    def layout(self, array: Any) -> Layout:
        return Layout.of(array, alignment_of(array.ptr))

    def loop_kernel(self, kernel: LoopKernel) -> CudaKernel:
        return loop_kernel(kernel, self.target, self.driver, self.use_disk_cache)

    def schedules(self, kernel: ProductKernel) -> Sequence[GpuMatmulSchedule]:
        assert isinstance(kernel, MatmulKernel)
        return schedules(kernel, self.target, self.precision)

    def matmul_kernels(
        self, kernel: ProductKernel, schedule: GpuMatmulSchedule
    ) -> tuple[CudaKernel, ...]:
        assert isinstance(kernel, MatmulKernel)
        return matmul_kernels(kernel, schedule, self.target, self.driver, self.use_disk_cache)

    def stepwise(
        self, program: Program, arrays: Sequence[Any], extra: Sequence[Buffer]
    ) -> CudaStepwiseRun:
        return CudaStepwiseRun(program, arrays, extra, self.device)

    def executable(
        self, program: Program, extra: Sequence[Buffer], steps: Sequence[RunStep]
    ) -> CudaExecutable:
        return CudaExecutable(program, extra, steps, self.driver)

    def entry(self, executable: CudaExecutable) -> CudaEntry:
        return CudaEntry(executable)


def check_whole_elements(array: DeviceArgument) -> None:
    """InputError for an array whose elements do not all lie at multiples of their size: reading one
    would stop the GPU, for this process and for good."""
    itemsize = ITEMSIZE[array.dtype]
    steps = [step for step, extent in zip(array.strides, array.shape, strict=True) if extent > 1]
    if any(number % itemsize for number in (int(array.pointer), *steps)):
        raise InputError(
            f"a device array of {array.dtype} has elements that do not lie at multiples of "
            f"{itemsize} bytes: it begins at {int(array.pointer):#x} and has strides "
            f"{array.strides}; pass a contiguous copy of it"
        )


def alignment_of(pointer: int) -> int:
    """The largest power of two, up to the widest access, that an address is a multiple of."""
    return min(pointer & -pointer or WIDEST_ACCESS, WIDEST_ACCESS)


class CudaStepwiseRun(StepwiseRun):
    """A program's run, step by step, on the GPU."""

    device: CudaDevice

    def new_array(self, buffer: Buffer) -> Any:
        driver = self.device.driver
        if buffer.array is not None:
            return driver.to_device(buffer.array)
        if buffer.role == "status":
            return driver.to_device(np.zeros(buffer.shape, np.int32))
        return driver.empty(buffer.shape, buffer.dtype)

    def bound(self, step: RunStep) -> Callable[[], None]:
        driver = self.device.driver
        if isinstance(step, ExternalStep):
            places = [(view, self.array(view.buffer)) for view in step.views]

            def external() -> None:
                driver.enter()
                step.call(*(view_at(driver, view, array.ptr, array) for view, array in places))

            return external
        function = step.kernel.function
        pointers = tuple(self.array(number).ptr for number in step.buffers)
        return lambda: driver.launch(function, pointers, driver.current_stream())

    def view(self, view: ArrayView) -> Any:
        memory = self.array(view.buffer)
        return view_at(self.device.driver, view, memory.ptr, memory)
