"""What the native code around kernels is generated from.

In: what a program's run and a call from Python consist of, as plain data. Out: `llvm_program` makes
the native `main` of the steps, `llvm_entry` the entry point of an `EntryPlan`.

    Step("kernel0", (0, 1, 2), units=64)       call kernel0 with buffers 0, 1 and 2
    ArrayKind("float32", (8, 16), (64, 4))     an argument: C-contiguous rows of 16 floats
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from minicomp.ir import ITEMSIZE
from minicomp.kernels.memory import LARGE_BYTES

#: Slots of the context, the specialization's own memory (int64 each); parameters follow, then
#: constants, then the memory of large outputs.
EPOCH, BUSY, ARENA, FIRST_FREE = 0, 1, 2, 3

#: Slots of each large output, and the bytes up to which they are filled.
KEPT, MOST_KEPT_BYTES = 2, 64 << 20

#: Threads that one job may be shared among.
MAX_THREADS = 256


@dataclass(frozen=True)
class Step:
    """One call of a kernel.

    `kernel` is its symbol, `arguments` the numbers of its buffers in the table, `units` how many
    independent units of work it has, `grain` the least number of them worth another thread.
    """

    kernel: str
    arguments: tuple[int, ...]
    units: int
    grain: int = 1

    @property
    def shared(self) -> bool:
        """Whether it goes through `minicomp_parallel_for`, which must then be linked."""
        return self.units > self.grain

    def __str__(self) -> str:
        return f"{self.kernel}(buffers {', '.join(map(str, self.arguments))})"


@dataclass(frozen=True)
class ArrayKind:
    """What an argument must be: dtype, shape, and strides in bytes."""

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """The size of its elements."""
        return prod(self.shape) * ITEMSIZE[self.dtype]

    @property
    def slots(self) -> int:
        """How many slots of memory are kept for an output of this kind."""
        return KEPT if LARGE_BYTES <= self.nbytes <= MOST_KEPT_BYTES else 0


@dataclass(frozen=True)
class EntryPlan:
    """What the entry point does. Pairs are (buffer number, ...); `buffers` counts the buffers.

    `parameters` are arrays that the specialization holds, `constants` buffers with fixed
    addresses, `arena` the offsets of temporaries, `status` the words that gathers set.
    `releases_lock` says that the work is long enough to let other Python threads run.
    """

    buffers: int
    inputs: tuple[tuple[int, ArrayKind], ...]
    parameters: tuple[tuple[int, ArrayKind], ...]
    constants: tuple[int, ...]
    arena: tuple[tuple[int, int], ...]
    status: tuple[int, ...]
    outputs: tuple[tuple[int, ArrayKind], ...]
    threads: int
    releases_lock: bool

    def parameter_slot(self, position: int) -> int:
        return FIRST_FREE + position

    def constant_slot(self, position: int) -> int:
        return FIRST_FREE + len(self.parameters) + position

    @property
    def first_kept(self) -> int:
        """From here on the context has the memory of large outputs (see `llvm_outputs`)."""
        return FIRST_FREE + len(self.parameters) + len(self.constants)

    @property
    def slots(self) -> int:
        """How many int64 the context has."""
        return self.first_kept + sum(kind.slots for _, kind in self.outputs)
