"""Fewer, longer loops: adjacent loops that every access walks as one become one.

In: a LoopKernel. Out: the same kernel with, say, 64 x 1000 contiguous elements as one loop of
64000. Two adjacent loops a, b collapse where in every index a step of a is as far as b.extent
steps of b. Loops that run once are dropped.

    for o0 in 64:                            for o0 in 64000:
      for o1 in 1000:                  ->      out[o0] = exp(x[o0])
        out[1000*o0 + o1] = exp(x[...])
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from minicomp.kernels import Apply, Load, LoopKernel, Position, Reduction, Scalar, Store, Sweep
from minicomp.kernels.indexing import Atom, Element, Index, LoopVariable, variables_of


def collapse(kernel: LoopKernel) -> LoopKernel:
    """The kernel with loops that run once dropped and adjacent loops joined where possible."""
    outer = tuple(variable for variable in kernel.outer if variable.extent != 1)
    inner = tuple(variable for variable in kernel.inner if variable.extent != 1)
    kernel = replace(kernel, outer=outer, inner=inner)
    indices = list(_all_indices(kernel))
    renamed: dict[LoopVariable, Index | None] = {}
    kernel = replace(
        kernel,
        outer=_joined(list(outer), indices, renamed),
        inner=_joined(list(inner), indices, renamed),
    )
    if not renamed:
        return kernel
    return _substituted(kernel, lambda atom: renamed.get(atom) if atom in renamed else None)


def _joined(
    variables: list[LoopVariable],
    indices: list[Index],
    renamed: dict[LoopVariable, Index | None],
) -> tuple[LoopVariable, ...]:
    """The loops after joining; `renamed` says what became of those that went."""
    position = len(variables) - 2
    while position >= 0:
        a, b = variables[position], variables[position + 1]
        if all(_walks_as_one(index, a, b) for index in indices):
            joined = LoopVariable(a.name, a.extent * b.extent)
            for number, index in enumerate(indices):
                terms = tuple(
                    (joined if atom == b else atom, c) for atom, c in index.terms if atom != a
                )
                indices[number] = Index(terms, index.constant)
            for old, new in list(renamed.items()):
                if new == Index.of(b):
                    renamed[old] = Index.of(joined)
            renamed[a], renamed[b] = Index(), Index.of(joined)
            variables[position : position + 2] = [joined]
        position -= 1
    return tuple(variables)


def _walks_as_one(index: Index, a: LoopVariable, b: LoopVariable) -> bool:
    """Whether a step of a is b.extent steps of b, and neither hides inside a division."""
    for atom, _ in index.terms:
        if not isinstance(atom, LoopVariable) and {a, b} & set(variables_of(atom)):
            return False
    steps = dict(index.terms)
    return steps.get(a, 0) == steps.get(b, 0) * b.extent


def _roots(kernel: LoopKernel) -> Iterator[Scalar]:
    for sweep in kernel.sweeps:
        yield from (reduction.scalar for reduction in sweep.reductions)
        yield from (store.scalar for store in sweep.stores)
    yield from (store.scalar for store in kernel.row_stores)


def _all_indices(kernel: LoopKernel) -> Iterator[Index]:
    seen: set[int] = set()
    stack = list(_roots(kernel))
    while stack:
        scalar = stack.pop()
        if id(scalar) in seen:
            continue
        seen.add(id(scalar))
        stack.extend(scalar.operands_())
        if isinstance(scalar, Load | Position):
            yield scalar.index
            stack.extend(_elements(scalar.index))
    for sweep in kernel.sweeps:
        yield from (store.index for store in sweep.stores)
    yield from (store.index for store in kernel.row_stores)


def _elements(index: Index) -> Iterator[Scalar]:
    for atom, _ in index.terms:
        if isinstance(atom, Element):
            yield atom.scalar
        elif not isinstance(atom, LoopVariable):
            yield from _elements(atom.numerator)


def _substituted(kernel: LoopKernel, replacement: Callable[[Atom], Index | None]) -> LoopKernel:
    """The kernel with loop variables replaced in every index."""
    done: dict[int, Scalar] = {}
    atoms: dict[int, Element] = {}

    def new_index(index: Index) -> Index:
        return index.substitute(new_atom)

    def new_atom(atom: Atom) -> Index | None:
        if isinstance(atom, Element):
            key = id(atom.scalar)
            atoms.setdefault(key, replace(atom, scalar=new_scalar(atom.scalar)))
            return Index(((atoms[key], 1),))
        return replacement(atom)

    def new_scalar(scalar: Scalar) -> Scalar:
        if id(scalar) not in done:
            if isinstance(scalar, Load | Position):
                done[id(scalar)] = replace(scalar, index=new_index(scalar.index))
            elif isinstance(scalar, Apply):
                operands = tuple(new_scalar(operand) for operand in scalar.operands)
                done[id(scalar)] = replace(scalar, operands=operands)
            else:
                done[id(scalar)] = scalar
        return done[id(scalar)]

    def new_store(store: Store) -> Store:
        return Store(store.buffer, new_index(store.index), new_scalar(store.scalar))

    def new_reduction(reduction: Reduction) -> Reduction:
        return replace(reduction, scalar=new_scalar(reduction.scalar))

    sweeps = tuple(
        Sweep(tuple(map(new_reduction, sweep.reductions)), tuple(map(new_store, sweep.stores)))
        for sweep in kernel.sweeps
    )
    return replace(kernel, sweeps=sweeps, row_stores=tuple(map(new_store, kernel.row_stores)))
