"""How a LoopKernel is run on a GPU: its schedule, and how it is picked.

In: a kernel and a `GpuTarget`. Out: a `GpuLoopSchedule`. Memory-bound kernels want few things:
accesses of 16 bytes by neighbouring threads, enough of them in flight, and each byte read once.

- Lanes go along the axis along which more accesses are contiguous, as on the CPU.
- Along a row ("inner"), a team of threads shares it: part of a warp for a short row, a block for a
  long one. Where the row fits into the team's registers it stays there from sweep to sweep:
  softmax then reads its input once and writes its output once.
- Along the results ("outer"), neighbouring threads do neighbouring columns, and where that makes
  too few threads several share a column, each a slice of it. Pointwise kernels are of this kind,
  with nothing to fold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from minicomp.codegen.loop_schedule import operations, vector_axis
from minicomp.codegen.ptx_kernel import GpuTarget
from minicomp.codegen.ptx_memory import WIDEST, alignment_of
from minicomp.ir import ITEMSIZE
from minicomp.kernels import Literal, LoopKernel, Scalar, Schedule
from minicomp.kernels.indexing import Index, LoopVariable, index_variables
from minicomp.kernels.walk import accesses, kernel_roots, sweep_roots

MOST_THREADS = 1024  # of a block
#: Registers of a multiprocessor, and the most of a thread.
REGISTERS, MOST_REGISTERS = 65536, 255
#: Registers that a thread needs beside the values that it keeps from sweep to sweep.
WORKING_REGISTERS = 28
#: Elements of a row that a thread holds, if it may choose, in units of its vectors.
VECTORS_OF_ROW = 4
#: Threads that keep a multiprocessor busy waiting for memory.
BUSY_THREADS = 1024
#: In simple instructions: what a kernel may do to an element before unrolling is not for memory.
HEAVY = 90


@dataclass(frozen=True)
class GpuLoopSchedule(Schedule):
    """A LoopKernel on a GPU.

    `axis`: "inner" has lanes and threads along a row, "outer" along the results. `vector`: adjacent
    elements of a thread. `threads` of a block, of which a `team` (a power of two) shares a row or
    column. `unroll`: vectors that a thread has in flight, where it does not keep its whole row.
    `resident`: whether it does, in registers, from sweep to sweep.
    """

    axis: str = "outer"
    vector: int = 4
    threads: int = 256
    team: int = 1
    unroll: int = 1
    resident: bool = True


def schedule_loops(kernel: LoopKernel, target: GpuTarget) -> GpuLoopSchedule:
    """The schedule that the kernel is run with by default."""
    axis = vector_axis(kernel) if kernel.sweeps and kernel.inner else "outer"
    if axis == "inner":
        return _along_rows(kernel, target)
    return _along_columns(kernel, target)


# --- lanes along the row ------------------------------------------------------------------------


def _along_rows(kernel: LoopKernel, target: GpuTarget) -> GpuLoopSchedule:
    vector = vector_width(kernel, kernel.inner[-1])
    vectors = -(-kernel.row_size // vector)
    # A team that leaves each thread a few vectors, and not so many teams that the GPU is idle.
    team = _power_of_two(-(-vectors // VECTORS_OF_ROW), most=MOST_THREADS)
    if is_scan(kernel):
        team = _power_of_two(vectors, most=256)
    wanted = target.multiprocessors * BUSY_THREADS
    while team < _power_of_two(vectors, most=MOST_THREADS) and kernel.rows * team < wanted:
        team *= 2
    if 32 < team < 128 and kernel.rows * 32 >= wanted and _fits(kernel, vectors, vector, 32):
        team = 32  # a warp needs no barrier
    while team < MOST_THREADS and not _fits(kernel, vectors, vector, team):
        team *= 2
    resident = _fits(kernel, vectors, vector, team) and not is_scan(kernel)
    if not resident:
        team = min(team, 512)
    threads = max(team, _block_size(kernel.rows * team, target))
    unroll = 1 if is_scan(kernel) else min(4, max(-(-vectors // team), 1))
    return GpuLoopSchedule("inner", vector, threads, team, unroll, resident)


def _fits(kernel: LoopKernel, vectors: int, vector: int, team: int) -> bool:
    """Whether a team's threads hold a row in their registers."""
    elements = -(-vectors // team) * vector
    budget = min(REGISTERS // max(team, 256), MOST_REGISTERS) - WORKING_REGISTERS
    return elements * live_words(kernel) <= budget


# --- lanes along the results --------------------------------------------------------------------


def _along_columns(kernel: LoopKernel, target: GpuTarget) -> GpuLoopSchedule:
    vector = vector_width(kernel, kernel.outer[-1]) if kernel.outer else 1
    columns = -(-kernel.rows // vector)
    if kernel.row_size <= 1 or not kernel.sweeps:
        threads = _block_size(columns, target)
        return GpuLoopSchedule("outer", vector, threads, 1, _pointwise_unroll(kernel, target, vector))
    if is_scan(kernel):
        return GpuLoopSchedule("outer", 1, 64, 1, 4, False)
    # Threads beside each other read 128 bytes at least; the rest of the block shares columns.
    wanted = target.multiprocessors * BUSY_THREADS
    team = 1
    while team < 32 and 2 * team <= kernel.row_size and columns * team < wanted:
        team *= 2
    beside = _power_of_two(-(-columns // target.multiprocessors), most=32)
    threads = min(max(team * max(beside, 8), 64), MOST_THREADS)
    steps = -(-kernel.row_size // team)
    resident = steps * vector * max(live_words(kernel), 1) <= 32
    return GpuLoopSchedule("outer", vector, threads, team, min(steps, 8), resident)


def _pointwise_unroll(kernel: LoopKernel, target: GpuTarget, vector: int) -> int:
    """Vectors per thread: so that 64 bytes of each input are in flight, if there is work for all."""
    cost = operations(kernel_roots(kernel))
    if cost > HEAVY:
        return 1
    unroll = 4 if cost * vector <= HEAVY else 2
    while unroll > 1 and kernel.rows < target.multiprocessors * BUSY_THREADS * vector * unroll:
        unroll //= 2
    return unroll


# --- what a kernel is like ----------------------------------------------------------------------


def is_scan(kernel: LoopKernel) -> bool:
    return any(r.op == "cumsum" for sweep in kernel.sweeps for r in sweep.reductions)


def vector_width(kernel: LoopKernel, along: LoopVariable) -> int:
    """The most adjacent elements that every contiguous access takes by accesses of 16 bytes, or
    as wide as all are; 1 where rows begin anywhere."""
    contiguous = [
        (kernel.arguments[buffer], index)
        for buffer, index in accesses(kernel)
        if index.coefficient(along) in (1, -1)
    ]
    smallest = min((ITEMSIZE[argument.dtype] for argument, _ in contiguous), default=WIDEST)
    width = min(WIDEST // smallest, 8)
    while width > 1 and (
        along.extent % width
        or not all(
            alignment_of(
                _start(index, along, width),
                ITEMSIZE[a.dtype],
                max(a.alignment, ITEMSIZE[a.dtype]),
            )
            >= min(width * ITEMSIZE[a.dtype], WIDEST)
            for a, index in contiguous
        )
    ):
        width //= 2
    return width


def _start(index: Index, along: LoopVariable, width: int) -> Index:
    """Where in memory the lowest lane is, for lanes that begin at multiples of `width`."""
    step = index.coefficient(along)
    rest = index - Index.of(along) * (step or 0)
    return rest + Index.of(along) * width + (1 - width if step == -1 else 0)


def live_words(kernel: LoopKernel) -> int:
    """Registers per element of a row that hold something from one sweep to the next, at most."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    scalars: dict[int, Scalar] = {}
    inner = set(kernel.inner)
    for number, sweep in enumerate(kernel.sweeps):
        for scalar in _needed(sweep_roots(sweep), first, number):
            last[id(scalar)] = number
            scalars[id(scalar)] = scalar
            first.setdefault(id(scalar), number)
    words = [0] * len(kernel.sweeps)
    for key, scalar in scalars.items():
        varies = any(inner & set(index_variables(index)) for index in scalar.indices())
        for number in range(first[key] + 1, last[key] + 1):
            words[number] += varies * (2 if ITEMSIZE[scalar.dtype] == 8 else 1)
    return max([1, *words])


def _needed(roots: list[Scalar], first: dict[int, int], sweep: int) -> Iterator[Scalar]:
    """What a sweep uses: what it computes, and what earlier sweeps have computed for it."""
    seen: set[int] = set()
    stack = list(roots)
    while stack:
        scalar = stack.pop()
        if id(scalar) not in seen and not isinstance(scalar, Literal):
            seen.add(id(scalar))
            yield scalar
            if first.get(id(scalar), sweep) == sweep:
                stack.extend(scalar.operands_())


def _power_of_two(number: int, most: int) -> int:
    """The least power of two that is no less, `most` at most."""
    return min(1 << max(number - 1, 0).bit_length(), most)


def _block_size(work: int, target: GpuTarget) -> int:
    """Threads of a block, such that few threads of work are spread over the GPU too."""
    return max(min(256, _power_of_two(work // target.multiprocessors, most=256)), 32)
