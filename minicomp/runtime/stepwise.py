"""Running a program one call at a time, each buffer in an array of its own.

In: a program and its arrays. Out: after every step, the contents of memory. This is how the first
call with new shapes runs: when a matmul's turn comes, its operands are there to try candidates on.
Slower than `runtime.cpu` and simpler: nothing is reused, everything can be looked at.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from minicomp.ir import Value, numpy_dtype
from minicomp.ir.interpreter import evaluate
from minicomp.ir.ops import kind
from minicomp.kernels.lowering import Cluster
from minicomp.kernels.program import Buffer, Program
from minicomp.runtime.cpu import (
    ArrayView,
    ExternalStep,
    RunStep,
    address_of,
    array_at,
)
from minicomp.runtime.threads import parallel_for


class StepwiseRun:
    """The memory of one run. `execute` does one step; `view` shows an array in a buffer.

    `extra` are the buffers that implementations add to the program's; the list may grow.
    """

    def __init__(
        self,
        program: Program,
        arrays: Sequence[np.ndarray],
        extra: Sequence[Buffer],
        threads: int,
    ):
        self.program, self.extra, self.threads = program, extra, threads
        self.memory: dict[int, np.ndarray] = {}
        outside = [n for n, b in enumerate(program.buffers) if b.role in ("input", "parameter")]
        self.memory.update(zip(outside, arrays, strict=True))

    def array(self, number: int) -> np.ndarray:
        """The contents of a buffer, made when first asked for: zeros, on a cache line."""
        if number not in self.memory:
            own = len(self.program.buffers)
            buffer = self.program.buffers[number] if number < own else self.extra[number - own]
            if buffer.array is not None:
                self.memory[number] = buffer.array
            else:
                raw = np.zeros(buffer.nbytes + 64, np.uint8)
                start = -address_of(raw) % 64
                flat = raw[start : start + buffer.nbytes].view(numpy_dtype(buffer.dtype))
                self.memory[number] = flat.reshape(buffer.shape)
        return self.memory[number]

    def execute(self, step: RunStep) -> None:
        """Do one step. Whatever an external raises comes through."""
        self.bound(step)()

    def bound(self, step: RunStep) -> Callable[[], None]:
        """The step as a function that does it, for timing: a kernel's buffers are looked up here,
        since later it follows others in native code; an external's arrays are made at each call,
        as they will be then.
        """
        if isinstance(step, ExternalStep):
            arrays = [(view, self.array(view.buffer)) for view in (step.a, step.b, step.out)]
            places = [(view, address_of(array), array) for view, array in arrays]
            return lambda: step.call(*(array_at(*place) for place in places))
        kernel = step.kernel
        addresses = [address_of(self.array(number)) for number in step.buffers]
        arguments = (ctypes.c_void_p * len(addresses))(*addresses)
        sharing = (kernel.units, kernel.grain, self.threads)
        # ctypes takes the array itself for its address, and so keeps it alive.
        return partial(parallel_for, kernel.address, arguments, *sharing)

    def view(self, view: ArrayView) -> np.ndarray:
        """The array of a view over one of this run's buffers."""
        memory = self.array(view.buffer)
        return array_at(view, address_of(memory), memory)

    def value(self, value: Value) -> np.ndarray:
        """The contents of a value that is in memory, or that movement ops make from one."""
        if value in self.program.placements:
            place = self.program.placements[value]
            view = ArrayView(
                place.buffer, value.dtype, place.offset, value.shape, place.strides, readonly=False
            )
            return self.view(view)
        return evaluate(value, [self.value(operand) for operand in value.operands])


def epilogue_of(run: StepwiseRun, cluster: Cluster) -> Callable[[np.ndarray], np.ndarray] | None:
    """The meaning, in NumPy, of what follows a cluster's matmul: product in, stored value out.

    None where nothing follows. What else the epilogue reads is taken from the run's memory.
    """
    (stored,) = cluster.stored
    product_value = cluster.matmul
    if stored is product_value:
        return None

    def epilogue(product: np.ndarray) -> np.ndarray:
        results: dict[Value, np.ndarray] = {}

        def result(value: Value) -> np.ndarray:
            if value not in results:
                if value is product_value:
                    results[value] = product.reshape(value.shape)
                elif value in cluster.members or kind(value) == "movement":
                    results[value] = evaluate(value, [result(x) for x in value.operands])
                else:
                    results[value] = run.value(value)
            return results[value]

        with np.errstate(all="ignore"):
            return result(stored)

    return epilogue
