"""The CPU as a back end: what `backend.Backend` asks for, from NumPy arrays and LLVM IR.

In: `CpuBackend(options)`. Out: see `backend`; kernels come from `cpu_kernels`, programs
that run from `cpu`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minicomp.codegen.convolution_plan import ConvolutionSchedule
from minicomp.codegen.convolution_schedules import convolution_schedules
from minicomp.codegen.matmul_plan import CpuMatmulSchedule
from minicomp.codegen.matmul_schedules import schedules
from minicomp.errors import DeviceError, DTypeError
from minicomp.ir import dtype_name, numpy_dtype
from minicomp.kernels import ConvolutionKernel, LoopKernel, ProductKernel
from minicomp.kernels.memory import ALIGNMENT, LARGE_BYTES, aligned_empty
from minicomp.kernels.program import Buffer, Program
from minicomp.options import Options
from minicomp.runtime.backend import Layout
from minicomp.runtime.cpu import (
    CpuExecutable,
    address_of,
    array_at,
    new_output,
)
from minicomp.runtime.cpu_kernels import (
    CpuKernel,
    convolution_kernel,
    loop_kernel,
    matmul_kernel,
)
from minicomp.runtime.entry import Entry, is_native
from minicomp.runtime.steps import ArrayView, ExternalStep, RunStep
from minicomp.runtime.stepwise import StepwiseRun
from minicomp.runtime.target import host_target
from minicomp.runtime.threads import bound_parallel_for, default_num_threads, prepare
from minicomp.selection.device import HostDevice

#: What the CPU computes in. The half-width floats are for CUDA.
CPU_DTYPES = ("float32", "float64", "int32", "int64", "bool")
#: What C's allocator, and so NumPy's, gives on 64-bit machines.
MALLOC_ALIGNMENT = 16


class CpuBackend:
    """The CPU, with as many threads to a kernel as the options ask for."""

    name = "cpu"
    language = "LLVM IR"
    dtypes = CPU_DTYPES
    reads_windows = True
    alignment = 1  # vector loads of any address take the same instructions
    large_alignment = ALIGNMENT  # but stores past the caches are of whole lines

    def __init__(self, options: Options):
        self.threads = options.num_threads or default_num_threads()
        self.device = HostDevice(self.threads)
        self.target = host_target()
        self.use_disk_cache = not options.force_disable_caches
        prepare(self.use_disk_cache)

    def prepared(self, array: Any) -> np.ndarray:
        return prepared(array)

    def layout(self, array: np.ndarray) -> Layout:
        return Layout.of(array)

    def loop_kernel(self, kernel: LoopKernel) -> CpuKernel:
        return loop_kernel(kernel, self.target, self.threads, self.use_disk_cache)

    def schedules(
        self, kernel: ProductKernel
    ) -> Sequence[CpuMatmulSchedule] | Sequence[ConvolutionSchedule]:
        if isinstance(kernel, ConvolutionKernel):
            return convolution_schedules(kernel, self.target, self.threads)
        return schedules(kernel, self.target, self.threads)

    def matmul_kernels(
        self, kernel: ProductKernel, schedule: CpuMatmulSchedule | ConvolutionSchedule
    ) -> tuple[CpuKernel]:
        if isinstance(kernel, ConvolutionKernel):
            assert isinstance(schedule, ConvolutionSchedule)
            return (convolution_kernel(kernel, schedule, self.target, self.use_disk_cache),)
        assert isinstance(schedule, CpuMatmulSchedule)
        return (matmul_kernel(kernel, schedule, self.target, self.use_disk_cache),)

    def stepwise(
        self, program: Program, arrays: Sequence[np.ndarray], extra: Sequence[Buffer]
    ) -> CpuStepwiseRun:
        return CpuStepwiseRun(program, arrays, extra, self.threads)

    def executable(
        self, program: Program, extra: Sequence[Buffer], steps: Sequence[RunStep]
    ) -> CpuExecutable:
        return CpuExecutable(program, extra, steps, self.threads)

    def entry(self, executable: CpuExecutable) -> Entry | None:
        return Entry(executable) if is_native(executable) else None


def prepared(array: Any) -> np.ndarray:
    """An argument as kernels can read it: a NumPy array in native byte order, aligned, with
    strides of whole elements. Nearly always the array itself, else a copy.

    Raises DTypeError for dtypes that the CPU does not compute in, DeviceError for GPU arrays.
    """
    if not isinstance(array, np.ndarray):
        if hasattr(array, "__cuda_array_interface__"):
            raise DeviceError(
                "an argument is on the GPU and the module on the CPU; "
                "move the module with .to('cuda'), or the array with minicomp.cuda.to_host"
            )
        array = np.asarray(array)
    name = dtype_name(array.dtype)
    if name not in CPU_DTYPES:
        raise DTypeError(
            f"{name} is for CUDA; on the CPU wanted one of {', '.join(CPU_DTYPES)}: "
            f"convert it with .astype(np.float32), or move it and the module to the GPU"
        )
    whole = all(stride % array.itemsize == 0 for stride in array.strides)
    if array.flags.aligned and whole and array.dtype.isnative:
        return array
    return np.array(array, dtype=numpy_dtype(name), order="C")


def typical_output(buffer: Buffer) -> np.ndarray:
    """Memory for a result, no better aligned than most that later calls will get.

    Small results begin at a multiple of 16 bytes, which is a cache line one time in four; two
    threads that each write some columns are then a third faster. A choice made in such luck would
    be wrong the other three times.
    """
    if buffer.nbytes >= LARGE_BYTES:
        return new_output(buffer)
    memory = aligned_empty((MALLOC_ALIGNMENT + buffer.nbytes,), "bool")[MALLOC_ALIGNMENT:]
    return memory.view(numpy_dtype(buffer.dtype)).reshape(buffer.shape)


class CpuStepwiseRun(StepwiseRun):
    """A program's run, step by step, on the CPU."""

    def __init__(
        self,
        program: Program,
        arrays: Sequence[np.ndarray],
        extra: Sequence[Buffer],
        threads: int,
    ):
        super().__init__(program, arrays, extra, HostDevice(threads))
        self.threads = threads

    def new_array(self, buffer: Buffer) -> np.ndarray:
        if buffer.array is not None:
            return buffer.array
        if buffer.role == "output":  # where later calls will have it, for better or worse
            array = typical_output(buffer)
        else:
            array = aligned_empty(buffer.shape, buffer.dtype)
        array.fill(0)
        return array

    def bound(self, step: RunStep) -> Callable[[], None]:
        if isinstance(step, ExternalStep):
            arrays = [(view, self.array(view.buffer)) for view in step.views]
            places = [(view, address_of(array), array) for view, array in arrays]
            return lambda: step.call(*(array_at(*place) for place in places))
        kernel = step.kernel
        addresses = [address_of(self.array(number)) for number in step.buffers]
        arguments = (ctypes.c_void_p * len(addresses))(*addresses)
        sharing = (kernel.units, kernel.grain, self.threads)
        return bound_parallel_for(kernel.address, arguments, *sharing)

    def view(self, view: ArrayView) -> np.ndarray:
        memory = self.array(view.buffer)
        return array_at(view, address_of(memory), memory)
