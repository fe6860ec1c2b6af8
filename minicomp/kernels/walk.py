"""Walking a LoopKernel: its scalars, and where it reads and writes.

In: a kernel or some of its scalars. Out: each scalar once, however often it is shared; each
access once per distinct expression. Schedules are picked by looking at these. `Rebuilt` changes
scalars, below which the rest is shared as before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from minicomp.kernels.indexing import Index, LoopVariable
from minicomp.kernels.kernel import Apply, Load, LoopKernel, Reduction, Scalar, Store, Sweep


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


def loads_across(kernel: LoopKernel, across: LoopVariable) -> list[Load]:
    """The loads that are contiguous along an outer loop, `across`, and strided along the last;
    not those of an index, which say where another load reads."""
    last = kernel.outer[-1]
    loads = (scalar for scalar in walk(kernel_roots(kernel)) if isinstance(scalar, Load))
    return [
        load
        for load in loads
        if load.index.coefficient(across) in (1, -1)
        and load.index.coefficient(last) not in (0, 1, -1)
    ]


def stores(kernel: LoopKernel) -> Iterator[Store]:
    """Every store, those after the sweeps last."""
    for sweep in kernel.sweeps:
        yield from sweep.stores
    yield from kernel.row_stores


class Rebuilt:
    """`rebuilt(scalar)`: the scalar with others in place of some of its parts, or of itself: those
    in `replaced`, by identity, and what `change` gives for a part unless that is None. It sees each
    once, before its operands."""

    def __init__(
        self,
        replaced: Mapping[int, Scalar] = MappingProxyType({}),
        change: Callable[[Scalar], Scalar | None] = lambda scalar: None,
    ):
        self.change = change
        self.done = dict(replaced)
        self.kept_alive: list[Scalar] = []  # an id is a scalar's own only while it lives

    def __call__(self, scalar: Scalar) -> Scalar:
        if id(scalar) not in self.done:
            self.kept_alive.append(scalar)
            changed = self.change(scalar)
            self.done[id(scalar)] = self._with_operands(scalar) if changed is None else changed
        return self.done[id(scalar)]

    def _with_operands(self, scalar: Scalar) -> Scalar:
        if isinstance(scalar, Apply):
            operands = tuple(map(self, scalar.operands))
            if operands != scalar.operands:
                return replace(scalar, operands=operands)
        return scalar

    def sweep(self, sweep: Sweep) -> Sweep:
        return Sweep(
            tuple(replace(r, scalar=self(r.scalar)) for r in sweep.reductions),
            tuple(replace(store, scalar=self(store.scalar)) for store in sweep.stores),
        )
