"""A product with a vector is a reduction: each element of the output is a sum over k.

In: a `MatmulKernel` whose output has one row, or one column. Out: the `LoopKernel` that computes
the same. Reading the matrix is what takes the time then, and reduction kernels read at the speed of
memory, whichever way the matrix lies in it.

    product = sum over k in 64 of a[.., k] * b[k, ..]     for o0 in 128:
    out[n] = relu(product)                           ->     sweep k in 64:
                                                              r0 = sum mul(a[k], b[128*k + o0])
                                                            out[o0] = relu(r0)
"""

from __future__ import annotations

from dataclasses import replace

from minicomp.kernels import (
    Apply,
    Load,
    LoopKernel,
    MatmulKernel,
    Product,
    Reduced,
    Reduction,
    Scalar,
    Store,
    Sweep,
    View,
)
from minicomp.kernels.indexing import Atom, Element, Index, LoopVariable


def reduction_kernel(kernel: MatmulKernel) -> LoopKernel:
    """The product as a loop kernel, with the same arguments."""
    k = LoopVariable("k", kernel.depth)
    row, column, depth = Index.of(kernel.row), Index.of(kernel.column), Index.of(k)
    a = _operand(kernel, kernel.a, row, depth)
    b = _operand(kernel, kernel.b, depth, column)
    total = Reduction(0, "sum", Apply(kernel.accumulate, "mul", (a, b)), kernel.accumulate)
    epilogue = ReducedProduct()
    store = kernel.store
    stored = Store(store.buffer, epilogue.index(store.index), epilogue(store.scalar))
    outer = (*kernel.batch, kernel.row, kernel.column)
    return LoopKernel(
        kernel.name, kernel.arguments, tuple(v for v in outer if v.extent != 1), (k,),
        (Sweep(reductions=(total,)),), (stored,),
        operations=kernel.operations, locations=kernel.locations,
    )  # fmt: skip


def _operand(kernel: MatmulKernel, view: View, row: Index, column: Index) -> Scalar:
    """The element that is multiplied, in the accumulator's dtype."""
    index = row * view.row_stride + column * view.column_stride + view.offset
    for variable, stride in zip(kernel.batch, view.batch_strides, strict=True):
        index = index + Index.of(variable) * stride
    argument = kernel.arguments[view.buffer]
    load = Load(argument.dtype, view.buffer, index, argument.name)
    if argument.dtype == kernel.accumulate:
        return load
    return Apply(kernel.accumulate, "cast", (load,))


class ReducedProduct:
    """Makes an epilogue one with the finished reduction in place of the product, what it shares
    still shared."""

    def __init__(self) -> None:
        self.done: dict[int, Scalar] = {}

    def __call__(self, scalar: Scalar) -> Scalar:
        key = id(scalar)
        if key not in self.done:
            self.done[key] = self._replaced(scalar)
        return self.done[key]

    def _replaced(self, scalar: Scalar) -> Scalar:
        if isinstance(scalar, Product):
            return Reduced(scalar.dtype, 0)
        if isinstance(scalar, Apply):
            return replace(scalar, operands=tuple(map(self, scalar.operands)))
        if isinstance(scalar, Load):
            return replace(scalar, index=self.index(scalar.index))
        return scalar

    def index(self, index: Index) -> Index:
        """An index may be data that depends on the product."""

        def replaced(atom: Atom) -> Index | None:
            if isinstance(atom, Element):
                return Index.of(replace(atom, scalar=self(atom.scalar)))
            return None

        return index.substitute(replaced)
