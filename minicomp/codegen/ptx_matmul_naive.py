"""The matrix product as it is defined: each thread one element of the output.

Kept for learning, and as the candidate that fits everything. Neighbouring threads have neighbouring
columns, so that what a warp loads of `b` is contiguous and all its threads load the same element of
`a`. Still each multiplication takes two loads, and each element is loaded again and again: about a
hundredth of what the arithmetic units could do.
"""

from __future__ import annotations

from minicomp.codegen.ptx_emitter import PTXEmitter
from minicomp.codegen.ptx_lanes import Lanes
from minicomp.codegen.ptx_types import REGISTER, Register
from minicomp.kernels import MatmulKernel, View
from minicomp.kernels.indexing import Index, LoopVariable


def emit_naive(emitter: PTXEmitter, kernel: MatmulKernel) -> Register:
    """The product at the emitter's point, which is one of the output's."""
    builder, indices = emitter.builder, emitter.indices
    kind = REGISTER[kernel.accumulate]
    total = builder.register(kind, "sum")
    builder.assign(total, 0)
    if kernel.depth:
        with builder.counted_loop("k", 0, kernel.depth, 1) as counter, indices.scope():
            k = indices.bind(LoopVariable("depth", kernel.depth), counter)
            batch, row, column = kernel.batch, Index.of(kernel.row), Index.of(kernel.column)
            a = _load(emitter, kernel.a, batch, row, k, kernel.accumulate)
            b = _load(emitter, kernel.b, batch, k, column, kernel.accumulate)
            builder.accumulate(total, a.lane(0), b.lane(0))
    return total


def _load(
    emitter: PTXEmitter,
    view: View,
    batch: tuple[LoopVariable, ...],
    row: Index,
    column: Index,
    dtype: str,
) -> Lanes:
    """An operand's element, as it is multiplied."""
    index = row * view.row_stride + column * view.column_stride + view.offset
    for variable, stride in zip(batch, view.batch_strides, strict=True):
        index = index + Index.of(variable) * stride
    return emitter.convert(emitter.load(view.buffer, index), dtype)
