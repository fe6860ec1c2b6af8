"""A matmul kernel split in two, for an external product followed by the fused rest.

In: a MatmulKernel. Out: the product alone, and its epilogue as a loop kernel.

    out = relu(a @ b + bias)   ->   product = a @ b;   out = relu(product + bias)
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from minicomp.kernels import (
    Apply,
    Argument,
    Load,
    LoopKernel,
    MatmulKernel,
    Product,
    Scalar,
    Store,
)
from minicomp.kernels.collapse import collapse
from minicomp.kernels.indexing import Index, ravel


def bare_product(kernel: MatmulKernel, name: str = "product") -> tuple[MatmulKernel, LoopKernel]:
    """The product alone, contiguous in a buffer of its own, and the epilogue that reads it.

    Of the epilogue's arguments the first is the product; the others are the kernel's, in order.
    """
    loops = (*kernel.batch, kernel.row, kernel.column)
    shape = [loop.extent for loop in loops]
    place = ravel([Index.of(loop) for loop in loops], shape)
    dtype = _product_dtype(kernel.store.scalar) or kernel.accumulate
    alignment = kernel.arguments[kernel.store.buffer].alignment  # it is the runtime's memory too
    product = Argument(name, dtype, prod(shape), alignment=alignment)
    bare = replace(
        kernel,
        arguments=(*kernel.arguments, replace(product, written=True)),
        store=Store(len(kernel.arguments), place, Product(dtype)),
    )
    scalar = _with_product(kernel.store.scalar, Load(dtype, 0, place, name))
    epilogue = LoopKernel(
        f"{kernel.name}_epilogue",
        (product, *kernel.arguments),
        outer=loops,
        inner=(),
        sweeps=(),
        row_stores=(Store(kernel.store.buffer + 1, kernel.store.index, scalar),),
    )
    return bare, collapse(epilogue)


def _product_dtype(scalar: Scalar) -> str | None:
    if isinstance(scalar, Product):
        return scalar.dtype
    return next(filter(None, map(_product_dtype, scalar.operands_())), None)


def _with_product(scalar: Scalar, load: Load) -> Scalar:
    """The epilogue with the product's leaf replaced, and its buffers renumbered behind it."""
    done: dict[int, Scalar] = {}

    def visit(current: Scalar) -> Scalar:
        if id(current) not in done:
            if isinstance(current, Product):
                done[id(current)] = load
            elif isinstance(current, Load):
                done[id(current)] = replace(current, buffer=current.buffer + 1)
            elif isinstance(current, Apply):
                operands = tuple(map(visit, current.operands))
                done[id(current)] = replace(current, operands=operands)
            else:
                done[id(current)] = current
        return done[id(current)]

    return visit(scalar)
