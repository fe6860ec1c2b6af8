"""Running a program on CUDA.

In: a `program.Program` and, per call, what runs it: a compiled kernel, or an external matmul with
the compiled rest. Out: a `CudaExecutable`, which takes device arrays and gives device arrays.

A call queues its kernels on the stream in use and returns; results are ready when whatever reads
them, queued behind, gets its turn. Temporaries of one call lie in one piece of the pool's memory,
which is given back at the end of the call: what takes it next is queued behind as well. Only a
program with a gather waits for the GPU, since it must tell whether an index was out of range.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from minicomp.ir import ITEMSIZE
from minicomp.kernels.memory import plan_memory
from minicomp.kernels.program import Buffer, Program
from minicomp.runtime.cuda.driver import Driver
from minicomp.runtime.steps import ArrayView, ExternalStep, RunStep, index_error, lifetimes

#: What the pool's memory, and each temporary within it, begins at a multiple of, in bytes.
ALIGNMENT = 256
#: Of a user's array no more than this is looked at: the widest access of one thread, in bytes.
WIDEST_ACCESS = 16

#: (addresses by buffer, what keeps the memory alive, stream) -> nothing
Action = Callable[[list[int], Any, int], None]


class CudaExecutable:
    """A program that can run. Call it with the inputs' and parameters' arrays; see `__call__`.

    Several threads may run one executable at once: a call has no state but what is passed along.
    """

    def __init__(
        self, program: Program, extra: Sequence[Buffer], steps: Sequence[RunStep], driver: Driver
    ):
        self.program, self.driver = program, driver
        self.buffers = [*program.buffers, *extra]
        self.steps = list(steps)
        self.constants = {
            number: driver.to_device(buffer.array)
            for number, buffer in enumerate(self.buffers)
            if buffer.array is not None
        }
        self.outside = [n for n, b in enumerate(self.buffers) if b.role in ("input", "parameter")]
        planned = [
            lifetime
            for lifetime in lifetimes(self.buffers, steps)
            if self.buffers[lifetime.buffer].role != "status"
        ]
        offsets, self.arena_bytes = plan_memory(planned, ALIGNMENT)
        self.arena_offsets = sorted(offsets.items())
        outputs = [(number, self.buffers[number]) for number in program.outputs]
        self._outputs = [(number, buffer.shape, buffer.dtype) for number, buffer in outputs]
        self._status = [n for n, b in enumerate(self.buffers) if b.role == "status"]
        self._zeros: deque[Any] = deque()  # arrays of status words, all of them 0
        self._actions = [self._action(step) for step in self.steps]

    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        """Queue the program on arrays, one per buffer of role "input" or "parameter", in buffer
        order. Gives new arrays. IndexOutOfRangeError where a gather went wrong."""
        table = [0] * len(self.buffers)
        for number, array in (*zip(self.outside, arrays, strict=True), *self.constants.items()):
            table[number] = self.driver.argument(array).pointer
        return self.run(table, arrays, self.driver.current_stream())

    def run(self, table: list[int], arrays: Any, stream: int) -> list[Any]:
        """As a call, for a table of addresses by buffer, in which those of `arrays` and of the
        constants have been filled in. The rest is filled in here."""
        empty = self.driver.empty
        outputs = []
        for number, shape, dtype in self._outputs:
            output = empty(shape, dtype)
            table[number] = output.gpudata
            outputs.append(output)
        arena = None
        if self.arena_bytes:
            arena = empty((self.arena_bytes,), "bool")
            start = arena.gpudata
            for number, offset in self.arena_offsets:
                table[number] = start + offset
        words = self._zeroed_status(table) if self._status else None
        owner = (arrays, outputs, arena)
        for action in self._actions:
            action(table, owner, stream)
        if words is not None:
            self._check_status(words)
        return outputs

    def _action(self, step: RunStep) -> Action:
        """What a step does in each call."""
        driver = self.driver
        if isinstance(step, ExternalStep):
            call, views = step.call, step.views

            def external(table: list[int], owner: Any, stream: int) -> None:
                driver.enter()
                call(*(view_at(driver, view, table[view.buffer], owner) for view in views))

            return external
        launch, function, addresses = driver.launch, step.kernel.function, _picker(step.buffers)

        def kernel(table: list[int], owner: Any, stream: int) -> None:
            launch(function, addresses(table), stream)

        return kernel

    # --- indices out of range ---

    def _zeroed_status(self, table: list[int]) -> Any:
        """An array of status words, nobody else's in the meantime, whose addresses go into the
        table."""
        try:
            words = self._zeros.pop()
        except IndexError:
            words = self.driver.to_device(np.zeros(len(self._status), np.int32))
        pointer = self.driver.argument(words).pointer
        for position, number in enumerate(self._status):
            table[number] = pointer + ITEMSIZE["int32"] * position
        return words

    def _check_status(self, words: Any) -> None:
        """Wait for the program, and raise what its status words say. Words that are still 0 serve
        another call."""
        for number, word in zip(self._status, self.driver.to_host(words), strict=True):
            if word:
                raise index_error(self.program, number)
        self._zeros.append(words)


def _picker(numbers: tuple[int, ...]) -> Callable[[list[int]], tuple[int, ...]]:
    """A function that takes these entries of a table."""
    if len(numbers) == 1:
        (number,) = numbers
        return lambda table: (table[number],)
    return itemgetter(*numbers)


def own_type(driver: Driver) -> type:
    """The class of a driver's own arrays."""
    return type(driver.empty((0,), "float32"))


def view_at(driver: Driver, view: ArrayView, pointer: int, owner: Any) -> Any:
    """The array of a view over the buffer that begins at `pointer`, which `owner` keeps alive."""
    itemsize = ITEMSIZE[view.dtype]
    strides = tuple(stride * itemsize for stride in view.strides)
    return driver.view(owner, pointer + view.offset * itemsize, view.shape, view.dtype, strides)
