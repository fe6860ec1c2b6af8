"""Running a program one call at a time, each buffer in an array of its own.

In: a program and its arrays. Out: after every step, the contents of memory. This is how the first
call with new shapes runs: when a matmul's turn comes, its operands are there to try candidates on.
Slower than an executable and simpler: nothing is reused, everything can be looked at.

A device gives `StepwiseRun` its three abstract methods (see `cpu_backend`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minicomp.ir import Value
from minicomp.ir.interpreter import evaluate
from minicomp.ir.ops import kind
from minicomp.kernels.lowering import Cluster
from minicomp.kernels.program import Buffer, Program
from minicomp.runtime.steps import ArrayView, RunStep
from minicomp.selection.device import Device


class StepwiseRun(ABC):
    """The memory of one run. `execute` does one step; `view` shows an array in a buffer.

    `extra` are the buffers that implementations add to the program's; the list may grow.
    """

    def __init__(
        self, program: Program, arrays: Sequence[Any], extra: Sequence[Buffer], device: Device
    ):
        self.program, self.extra, self.device = program, extra, device
        self.memory: dict[int, Any] = {}
        self._workspaces: list[tuple[int, Any]] = []  # bytes and array, the largest last
        outside = [n for n, b in enumerate(program.buffers) if b.role in ("input", "parameter")]
        self.memory.update(zip(outside, arrays, strict=True))

    @abstractmethod
    def new_array(self, buffer: Buffer) -> Any:
        """An array for a buffer: a constant's values, else zeros."""

    @abstractmethod
    def bound(self, step: RunStep) -> Callable[[], None]:
        """The step as a function that does it, for timing: a kernel's buffers are looked up here,
        since later it follows others at once; an external's arrays are made at each call, as they
        will be then.
        """

    @abstractmethod
    def view(self, view: ArrayView) -> Any:
        """The array of a view over one of this run's buffers."""

    def array(self, number: int) -> Any:
        """The contents of a buffer, made when first asked for."""
        if number not in self.memory:
            own = len(self.program.buffers)
            buffer = self.program.buffers[number] if number < own else self.extra[number - own]
            if buffer.role == "workspace":
                return self._workspace_for(buffer)
            self.memory[number] = self.new_array(buffer)
        return self.memory[number]

    def _workspace_for(self, buffer: Buffer) -> Any:
        """Memory at least as large, the same for all kernels, which run one after the other: a
        call site's candidates have one each, and large ones, of which all but one are in vain.
        Smaller ones stay: bound steps know no more than their addresses."""
        if not self._workspaces or self._workspaces[-1][0] < buffer.nbytes:
            self._workspaces.append((buffer.nbytes, self.new_array(buffer)))
        return self._workspaces[-1][1]

    def execute(self, step: RunStep) -> None:
        """Do one step. Whatever an external raises comes through."""
        self.bound(step)()

    def placed(self, value: Value) -> Any:
        """The array of a value that is in memory."""
        place = self.program.placements[value]
        return self.view(
            ArrayView(
                place.buffer, value.dtype, place.offset, value.shape, place.strides, readonly=False
            )
        )

    def value(self, value: Value) -> np.ndarray:
        """What a value holds that is in memory, or that movement ops make from one."""
        if value in self.program.placements:
            return self.device.to_host(self.placed(value))
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
