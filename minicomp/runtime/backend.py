"""What a device must offer for programs to be compiled for it and run on it.

In: `backend_for("cpu", options)`. Out: a `Backend`. The compiler and `assemble` know
devices through it alone:

    backend.prepared(array)                  an argument as kernels can read it
    backend.layout(array)                    what the code depends on
    backend.loop_kernel(kernel)              code for a kernel that has one implementation
    backend.schedules(matmul)                how a product may be done, and for each of these ways
    backend.matmul_kernels(matmul, schedule) the code
    backend.stepwise(program, arrays, ...)   a first run, step by step, in which choices are made
    backend.executable(program, ...)         the program as something that runs
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from minicomp.kernels import LoopKernel, ProductKernel
from minicomp.kernels.program import Buffer, Program
from minicomp.options import Options
from minicomp.runtime.steps import CompiledKernel, RunStep
from minicomp.runtime.stepwise import StepwiseRun
from minicomp.selection.device import Device


@dataclass(frozen=True)
class Layout:
    """What a specialization depends on of an array: shape, strides in elements, dtype and, where
    code depends on it, a number of bytes that its first element lies at a multiple of."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype
    alignment: int = 1

    @staticmethod
    def of(array: Any, alignment: int = 1) -> Layout:
        """The layout of an array as NumPy or pycuda describes it, with strides in bytes."""
        itemsize = array.dtype.itemsize
        strides = tuple(stride // itemsize for stride in array.strides)
        return Layout(array.shape, strides, array.dtype, alignment)


class Executable(Protocol):
    """A program that can run. `buffers` are the program's and those that its steps add."""

    buffers: list[Buffer]
    steps: list[RunStep]

    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        """Run on prepared arrays, one per buffer of role "input" or "parameter", in buffer order.
        They have the layouts that the program was built for. Gives new arrays."""


class Entry(Protocol):
    """A shorter way into an executable."""

    def fast_call(
        self, args: Sequence[Any], parameters: Sequence[Any], at_epoch: int
    ) -> Callable[..., Any] | None:
        """A function of arguments like `args` that does the same in less time, with `parameters`
        held as they were at that epoch. It gives the output, or a tuple of outputs, or None for
        arguments that are not like these and once the epoch has moved on. None where there is no
        such function."""

    def release(self) -> None:
        """Let go of memory that is only kept for the next call, which may be long in coming. The
        functions may give None from here on."""


class Backend(Protocol):
    """See the module's docstring."""

    @property
    def name(self) -> str:
        """The device: "cpu" or "cuda"."""

    @property
    def language(self) -> str:
        """What the text of its kernels is: "LLVM IR" or "PTX"."""

    @property
    def dtypes(self) -> tuple[str, ...]:
        """What it computes in, as the IR names them."""

    @property
    def device(self) -> Device:
        """Arrays, identity and clock, for selection."""

    @property
    def reads_windows(self) -> bool:
        """Whether there are schedules for a ConvolutionKernel. Without, none is asked for."""

    @property
    def alignment(self) -> int:
        """What the memory that the runtime makes begins at a multiple of, in bytes."""

    @property
    def large_alignment(self) -> int:
        """The same of buffers of `kernels.memory.LARGE_BYTES` or more."""

    def prepared(self, array: Any) -> Any:
        """An argument as kernels can read it, nearly always itself. Raises DTypeError for dtypes
        that the device does not compute in, DeviceError for arrays that are elsewhere."""

    def layout(self, array: Any) -> Layout:
        """What code depends on of a prepared array."""

    def loop_kernel(self, kernel: LoopKernel) -> CompiledKernel:
        """The code of a LoopKernel."""

    def schedules(self, kernel: ProductKernel) -> Sequence[Any]:
        """The schedules that may do a product, the default first, each with a `label`."""

    def matmul_kernels(self, kernel: ProductKernel, schedule: Any) -> Sequence[CompiledKernel]:
        """The code of a product under one of its schedules: one kernel, or several that run one
        after the other on the same buffers, the workspace among them."""

    def stepwise(
        self, program: Program, arrays: Sequence[Any], extra: Sequence[Buffer]
    ) -> StepwiseRun:
        """A run of the program in which each step is asked for."""

    def executable(
        self, program: Program, extra: Sequence[Buffer], steps: Sequence[RunStep]
    ) -> Executable:
        """The program as it will be called."""

    def entry(self, executable: Any) -> Entry | None:
        """The shorter way into one of this back end's executables, if there is one."""


def device_of(array: Any) -> str:
    """Where an array is: "cuda" if it says so by its interface, else "cpu"."""
    return "cuda" if hasattr(array, "__cuda_array_interface__") else "cpu"


def backend_for(device: str, options: Options) -> Backend:
    """The back end of "cpu" or "cuda". Raises CudaError where there is no CUDA."""
    if device == "cuda":
        from minicomp.runtime.cuda.backend import CudaBackend

        return CudaBackend(options)
    from minicomp.runtime.cpu_backend import CpuBackend

    return CpuBackend(options)
