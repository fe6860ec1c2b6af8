"""Walking a LoopKernel: its scalars, and where it reads and writes.

In: a kernel or some of its scalars. Out: each scalar once, however often it is shared; each
access once per distinct expression. Schedules are picked by looking at these.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from minicomp.kernels.indexing import Index
from minicomp.kernels.kernel import Load, LoopKernel, Reduction, Scalar, Store, Sweep


def sweep_roots(sweep: Sweep) -> list[Scalar]:
    """What a sweep folds and stores."""
    parts: list[Reduction | Store] = [*sweep.reductions, *sweep.stores]
    return [part.scalar for part in parts]


def kernel_roots(kernel: LoopKernel) -> list[Scalar]:
    """What a kernel folds and stores."""
    roots = [root for sweep in kernel.sweeps for root in sweep_roots(sweep)]
    return roots + [store.scalar for store in kernel.row_stores]


def walk(roots: Sequence[Scalar]) -> Iterator[Scalar]:
    """Every scalar below some roots, once, each before its operands."""
    seen: set[int] = set()
    stack = list(reversed(roots))
    while stack:
        scalar = stack.pop()
        if id(scalar) not in seen:
            seen.add(id(scalar))
            yield scalar
            stack.extend(reversed(scalar.operands_()))


def accesses(kernel: LoopKernel) -> Iterator[tuple[int, Index]]:
    """(buffer, index) of every load and store."""
    loads = (scalar for scalar in walk(kernel_roots(kernel)) if isinstance(scalar, Load))
    yield from ((load.buffer, load.index) for load in loads)
    for store in stores(kernel):
        yield store.buffer, store.index


def stores(kernel: LoopKernel) -> Iterator[Store]:
    """Every store, those after the sweeps last."""
    for sweep in kernel.sweeps:
        yield from sweep.stores
    yield from kernel.row_stores
