"""A product whose depth is shared among blocks ("split-K"): partial products, then their sum.

In: a `MatmulKernel` whose output has too few tiles to keep a GPU busy, but a great depth. Out: a
product of which each block does one tile and one part of the depth, and a reduction kernel that
adds up the parts and does the epilogue. Between them the parts lie in a workspace:

    out[128*i + j] = relu(product)            # 4 tiles of 64 x 64, 8192 deep: 4 blocks

    parts[16384*part + 128*i + j] = product   # 32 parts of the depth: 128 blocks; then
    sweep part in 32:                         # a reduction kernel, over all elements at once
      r0 = sum parts[16384*part + o0]
    out[o0] = relu(r0)

The parts are added in an order that does not depend on which block was done first, so that results
are the same each time. That is also why there are two kernels and no atomic operations: a kernel
starts when the one before it is done, and all multiprocessors then add, not those alone whose
blocks happen to be last.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from minicomp.codegen.ptx_builder import PTXBuilder
from minicomp.codegen.ptx_index import IndexRegisters
from minicomp.codegen.ptx_matmul_reduction import ReducedProduct
from minicomp.codegen.ptx_types import Operand
from minicomp.ir import ITEMSIZE
from minicomp.kernels import (
    Argument,
    Load,
    LoopKernel,
    MatmulKernel,
    Product,
    Reduction,
    Store,
    Sweep,
)
from minicomp.kernels.collapse import collapse
from minicomp.kernels.indexing import Index, LoopVariable, ravel


def part_variable(parts: int) -> LoopVariable:
    """Which part of the depth, of so many."""
    return LoopVariable("part", parts)


def workspace_bytes(kernel: MatmulKernel, parts: int) -> int:
    """What the partial products take."""
    workspace = _workspace(kernel, parts)
    return workspace.size * ITEMSIZE[workspace.dtype]


def partial_product(kernel: MatmulKernel, parts: int) -> MatmulKernel:
    """The product without its epilogue, stored to one more argument, the workspace, in terms of
    the `part_variable`. Which part of the depth that is, the emission says."""
    workspace = replace(_workspace(kernel, parts), written=True)
    others = (replace(argument, written=False) for argument in kernel.arguments)
    store = Store(len(kernel.arguments), _place(kernel, parts), Product(kernel.accumulate))
    first = kernel.operations[:1]
    return replace(kernel, arguments=(*others, workspace), store=store, operations=first)


def sum_of_parts(kernel: MatmulKernel, parts: int) -> LoopKernel:
    """The epilogue of the sum of all parts. Its arguments are those of the partial product."""
    workspace = _workspace(kernel, parts)
    load = Load(workspace.dtype, len(kernel.arguments), _place(kernel, parts), workspace.name)
    total = Reduction(0, "sum", load, kernel.accumulate)
    epilogue, store = ReducedProduct(), kernel.store
    stored = Store(store.buffer, epilogue.index(store.index), epilogue(store.scalar))
    return collapse(
        LoopKernel(
            f"{kernel.name}_sum", (*kernel.arguments, workspace),
            outer=(*kernel.batch, kernel.row, kernel.column), inner=(part_variable(parts),),
            sweeps=(Sweep(reductions=(total,)),), row_stores=(stored,),
            operations=("sum", *kernel.operations[1:]), locations=kernel.locations,
        )
    )  # fmt: skip


def _workspace(kernel: MatmulKernel, parts: int) -> Argument:
    size = parts * prod(loop.extent for loop in (*kernel.batch, kernel.row, kernel.column))
    # It is the runtime's memory, as the output is.
    alignment = kernel.arguments[kernel.store.buffer].alignment
    return Argument("parts", kernel.accumulate, size, alignment=alignment)


def _place(kernel: MatmulKernel, parts: int) -> Index:
    """Where in the workspace an element of a part is."""
    loops = (part_variable(parts), *kernel.batch, kernel.row, kernel.column)
    return ravel([Index.of(loop) for loop in loops], [loop.extent for loop in loops])


@dataclass(frozen=True)
class DepthTiles:
    """The tiles of the depth that a block works on: `count` of them from number `first` on.
    `count` is between `least` and `most`, which are known when the kernel is emitted."""

    first: Index
    count: Operand
    least: int
    most: int


def tiles_of_part(
    builder: PTXBuilder, indices: IndexRegisters, tiles: int, parts: int
) -> DepthTiles:
    """Those of the part that the `part_variable` names, if there are several: each part has as
    many tiles as the others, or, of the first ones, one more."""
    each, over = divmod(tiles, parts)
    if parts == 1:
        return DepthTiles(Index(), tiles, tiles, tiles)
    number = Index.of(part_variable(parts))
    if not over:
        return DepthTiles(number * each, each, each, each)
    builder.comment("which tiles of the depth are this block's")
    part = indices.value(number)
    has_more = builder.setp("lt", part, over)
    count = builder.selp(builder.mov(each + 1, "s32"), each, has_more)
    first = builder.add(builder.mul(part, each), builder.min(part, over)).as_type("u32")
    start = indices.bind(LoopVariable("first_tile", tiles), first)
    return DepthTiles(start, count, each, each + 1)
