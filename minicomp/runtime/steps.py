"""What running a program consists of, on any device: steps, and views of buffers.

In: from `assemble`, for each call of a program the kernels or the external matmul that do it.
Out: to a device's executable, which runs the steps in order on buffers that are known by number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from minicomp.errors import IndexOutOfRangeError
from minicomp.kernels import Kernel, View
from minicomp.kernels.memory import Lifetime
from minicomp.kernels.program import Buffer, Program

#: Which of a kernel's arguments, by position, are constants that it wants in another form than
#: they have, and what makes that form of one. Equal functions make equal forms.
ConstantForms = tuple[tuple[int, Callable[[np.ndarray], np.ndarray]], ...]


class CompiledKernel(Protocol):
    """A kernel in a device's language, ready to become machine code."""

    @property
    def kernel(self) -> Kernel:
        """What it computes."""

    @property
    def text(self) -> str:
        """The code that was generated: LLVM IR or PTX."""

    @property
    def workspace(self) -> int:
        """Bytes of memory that it wants for itself while it runs, as its last buffer; or 0."""

    @property
    def constant_forms(self) -> ConstantForms:
        """The constants that it wants in another form."""

    def prepare(self) -> None:
        """Make machine code of it, if that has not been done yet. May be slow."""

    def assembly(self) -> str:
        """The machine code, as text."""


@dataclass(frozen=True, eq=False)
class KernelStep:
    """Run a compiled kernel on these buffers; its workspace, if any, comes last among them."""

    kernel: Any  # a CompiledKernel of the device at hand
    buffers: tuple[int, ...]

    def renumbered(self, numbers: Mapping[int, int]) -> KernelStep:
        """The step with some buffers under other numbers."""
        return replace(self, buffers=tuple(numbers.get(n, n) for n in self.buffers))


@dataclass(frozen=True, eq=False)
class ExternalStep:
    """Call the external matmul `name`: `call(a, b, out)` on views of these buffers."""

    name: str
    call: Callable[[Any, Any, Any], None]
    a: ArrayView
    b: ArrayView
    out: ArrayView

    @property
    def views(self) -> tuple[ArrayView, ArrayView, ArrayView]:
        return self.a, self.b, self.out

    @property
    def buffers(self) -> tuple[int, ...]:
        return tuple(view.buffer for view in self.views)

    def renumbered(self, numbers: Mapping[int, int]) -> ExternalStep:
        """The step with some buffers under other numbers."""
        a, b, out = (
            replace(view, buffer=numbers.get(view.buffer, view.buffer)) for view in self.views
        )
        return replace(self, a=a, b=b, out=out)


RunStep = KernelStep | ExternalStep


@dataclass(frozen=True)
class ArrayView:
    """An array to be made over a buffer: offset and strides in elements."""

    buffer: int
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    readonly: bool

    @staticmethod
    def of(view: View, buffer: int, dtype: str, shape: tuple[int, ...]) -> ArrayView:
        """A kernel's operand view, over the program's buffer."""
        strides = (*view.batch_strides, view.row_stride, view.column_stride)
        return ArrayView(buffer, dtype, view.offset, shape, strides, readonly=True)


def lifetimes(buffers: Sequence[Buffer], steps: Sequence[RunStep]) -> list[Lifetime]:
    """From which step to which each temporary, workspace and status word is in use."""
    uses: dict[int, list[int]] = {}
    for position, step in enumerate(steps):
        for number in step.buffers:
            if buffers[number].role in ("temporary", "workspace"):
                uses.setdefault(number, []).append(position)
    # Status words are set before the first step and read after the last.
    for number, buffer in enumerate(buffers):
        if buffer.role == "status":
            uses[number] = [0, len(steps)]
    return [
        Lifetime(number, buffers[number].nbytes, positions[0], positions[-1])
        for number, positions in uses.items()
    ]


def index_error(program: Program, status: int) -> IndexOutOfRangeError:
    """What a status word that has been set means: buffer number `status` of the program."""
    call = next(call for call in program.calls if status in call.buffers)
    gather = next(value for value in call.cluster.members if value.op.startswith("take"))
    axis = gather.attributes["axis"]
    return IndexOutOfRangeError(
        f"an index is outside axis {axis} of size {gather.operands[0].shape[axis]}",
        what=gather.op,
        location=gather.location,
    )
