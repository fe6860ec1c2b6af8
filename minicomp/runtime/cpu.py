"""Running a program on the CPU.

In: a `program.Program` and, per call, what runs it: a compiled kernel, or an external matmul with
the compiled rest. Out: a `CpuExecutable`, which takes arrays and gives arrays.

Kernels that follow one another are called from one native `main` (see `codegen.llvm_program`);
an external splits it in two. Temporaries share one arena per running call; arenas are reused,
and several threads may run one executable at once.
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from minicomp.codegen import generators
from minicomp.codegen.generated import Generated
from minicomp.codegen.native_plan import Step
from minicomp.ir import numpy_dtype
from minicomp.kernels.memory import LARGE_BYTES, aligned_empty, plan_memory
from minicomp.kernels.program import Buffer, Program
from minicomp.runtime.jit import compile_ir
from minicomp.runtime.steps import (
    ArrayView,
    ExternalStep,
    KernelStep,
    RunStep,
    index_error,
    lifetimes,
)
from minicomp.runtime.threads import parallel_for_address

_MAIN = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)


class _Memory:
    """An object that NumPy reads as an array at an address; it keeps the owner alive."""

    def __init__(self, view: ArrayView, address: int, owner: Any):
        dtype = numpy_dtype(view.dtype)
        self.owner = owner
        self.__array_interface__ = {
            "version": 3,
            "typestr": dtype.str,
            "shape": view.shape,
            "strides": tuple(stride * dtype.itemsize for stride in view.strides),
            "data": (address + view.offset * dtype.itemsize, view.readonly),
        }


def array_at(view: ArrayView, address: int, owner: Any) -> np.ndarray:
    """The array of a view over the buffer that begins at `address`, which `owner` keeps alive."""
    return np.asarray(_Memory(view, address, owner))


def address_of(array: np.ndarray) -> int:
    """Where an array's first element is."""
    return array.__array_interface__["data"][0]


def new_output(buffer: Buffer) -> np.ndarray:
    """Memory for a result, as `codegen.llvm_outputs` makes it too."""
    if buffer.nbytes < LARGE_BYTES:
        return np.empty(buffer.shape, numpy_dtype(buffer.dtype))
    return aligned_empty(buffer.shape, buffer.dtype)


class CpuExecutable:
    """A program that can run. Call it with the inputs' and parameters' arrays; see `__call__`."""

    def __init__(
        self, program: Program, extra: Sequence[Buffer], steps: Sequence[RunStep], threads: int
    ):
        self.program, self.threads = program, threads
        self.buffers = [*program.buffers, *extra]
        self.steps = list(steps)
        self.segments = _segments(steps)
        offsets, self._arena_bytes = plan_memory(lifetimes(self.buffers, self.steps))
        self.arena_offsets = sorted(offsets.items())
        self._arenas: deque[tuple[np.ndarray, int]] = deque()
        self._fixed = self._fixed_addresses()
        self._outside = [n for n, b in enumerate(self.buffers) if b.role in ("input", "parameter")]
        self._outputs = [(n, self.buffers[n]) for n in program.outputs]
        self._status = [n for n, b in enumerate(self.buffers) if b.role == "status"]

    def _fixed_addresses(self) -> list[int]:
        """A buffer table with the constants filled in."""
        return [
            address_of(b.array) if b.role == "constant" and b.array is not None else 0
            for b in self.buffers
        ]

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run on arrays, one per buffer of role "input" or "parameter", in buffer order. They
        have the shapes, dtypes and strides that the program was built for. Gives new arrays."""
        table = (ctypes.c_void_p * len(self.buffers))(*self._fixed)
        owners: dict[int, np.ndarray] = {}
        for number, array in zip(self._outside, arrays, strict=True):
            table[number] = address_of(array)
            owners[number] = array
        outputs = []
        for number, buffer in self._outputs:
            output = new_output(buffer)
            table[number] = address_of(output)
            owners[number] = output
            outputs.append(output)
        arena = self._take_arena()
        for number, offset in self.arena_offsets:
            table[number] = arena[1] + offset
            owners[number] = arena[0]
        try:
            for number in self._status:
                _status_word(table, number).value = 0
            for segment in self.segments:
                if isinstance(segment, ExternalStep):
                    _call_external(segment, table, owners)
                else:
                    segment.run(ctypes.addressof(table), self.threads)
            self._check_status(table)
        finally:
            self._arenas.append(arena)
        return outputs

    def _take_arena(self) -> tuple[np.ndarray, int]:
        """Memory for the temporaries of one call, and its first address on a cache line."""
        try:
            return self._arenas.pop()
        except IndexError:
            return self.new_arena()

    def new_arena(self) -> tuple[np.ndarray, int]:
        """An array to hold on to, and the address within it of an arena for one call at a time."""
        memory = np.empty(self._arena_bytes + 64, np.uint8)
        return memory, -(-address_of(memory) // 64) * 64

    def _check_status(self, table: Any) -> None:
        for number in self._status:
            if _status_word(table, number).value:
                raise index_error(self.program, number)


def _status_word(table: Any, number: int) -> ctypes.c_int32:
    return ctypes.c_int32.from_address(table[number])


def _call_external(step: ExternalStep, table: Any, owners: dict[int, np.ndarray]) -> None:
    a, b, out = (array_at(view, table[view.buffer], owners.get(view.buffer)) for view in step.views)
    step.call(a, b, out)


class NativeSegment:
    """Kernels that follow one another, as one native function: call it with the address of the
    buffer table and the number of threads."""

    def __init__(self, steps: Sequence[KernelStep]):
        self.steps = steps
        self.use_disk_cache = all(step.kernel.use_disk_cache for step in steps)
        imports = {f"kernel{n}": step.kernel.address for n, step in enumerate(steps)}
        calls = tuple(
            Step(f"kernel{n}", step.buffers, step.kernel.units, step.kernel.grain)
            for n, step in enumerate(steps)
        )
        self.library = compile_ir(
            Generated(generators.program, calls),
            ["main"],
            imports={**imports, "minicomp_parallel_for": parallel_for_address()},
            needs=[step.kernel.library for step in steps],
            use_disk_cache=self.use_disk_cache,
        )
        self.run = _MAIN(self.library.address("main"))

    @property
    def seconds(self) -> float:
        """A guess at how long it takes."""
        return sum(step.kernel.seconds for step in self.steps)


def _segments(steps: Sequence[RunStep]) -> list[NativeSegment | ExternalStep]:
    """The steps with each run of kernels made into one native function."""
    segments: list[NativeSegment | ExternalStep] = []
    kernels: list[KernelStep] = []
    for step in steps:
        if isinstance(step, KernelStep):
            kernels.append(step)
            continue
        if kernels:
            segments.append(NativeSegment(kernels))
            kernels = []
        segments.append(step)
    return [*segments, NativeSegment(kernels)] if kernels else segments
