"""Dot products: the micro-kernel for operands that are both contiguous along the depth.

In: pointers to the first of some rows of `a` and of some columns of `b`. Out: their products, one
vector per row. Lanes run along k, so nothing needs packing: `x @ weight.T` for a few rows of x,
a matrix times a vector. What it costs is adding up the lanes at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from llvmlite import ir

from minicomp.codegen.llvm_control import carried_loop, element
from minicomp.codegen.llvm_emitter import LLVMEmitter
from minicomp.codegen.llvm_types import MEMORY, REGISTER, literal
from minicomp.codegen.llvm_vectors import add_up_lanes, load_lanes, register_lanes
from minicomp.codegen.matmul_plan import Operand, Plan


def dot_products(
    emitter: LLVMEmitter, plan: Plan, a: ir.Value, b: ir.Value, rows: int, columns: int
) -> list[ir.Value]:
    """For each row, a vector whose lane j is the product with column j."""
    builder, width = emitter.builder, plan.schedule.vector_width
    zero = literal(REGISTER[plan.kernel.accumulate], 0.0, width)

    def steps(state: Sequence[ir.Value], lanes: int, count: int) -> list[ir.Value]:
        """`count` vectors along the depth, of which `lanes` lanes are used."""
        a_start, b_start, *sums = state
        for step in range(count):
            a_vectors = _vectors(emitter, plan.source_a, a_start, rows, step * width, lanes, width)
            b_vectors = _vectors(
                emitter, plan.source_b, b_start, columns, step * width, lanes, width
            )
            pairs = [(x, y) for x in a_vectors for y in b_vectors]
            sums = [emitter.fma(x, y, total) for (x, y), total in zip(pairs, sums, strict=True)]
        ends = [
            element(builder, start, count * width, MEMORY[operand.dtype])
            for start, operand in ((a_start, plan.source_a), (b_start, plan.source_b))
        ]
        return [*ends, *sums]

    unroll = plan.schedule.unroll
    whole, tail = divmod(plan.depth, width)
    state: Sequence[ir.Value] = [a, b, *[zero] * (rows * columns)]
    for trips, count, name in ((whole // unroll, unroll, "k"), (whole % unroll, 1, "rest")):
        body = partial(steps, lanes=width, count=count)
        state = carried_loop(builder, trips, state, body, name, ["a", "b", "sum"])
    if tail:
        state = steps(state, tail, 1)
    builder.comment("add up the lanes of each dot product")
    padding = [zero] * (register_lanes(columns) - columns)
    return [
        add_up_lanes(emitter, [*state[2 + row * columns :][:columns], *padding])
        for row in range(rows)
    ]


def _vectors(
    emitter: LLVMEmitter,
    operand: Operand,
    start: ir.Value,
    count: int,
    offset: int,
    lanes: int,
    width: int,
) -> list[ir.Value]:
    """A vector along the depth from each of `count` rows of a (or columns of b)."""
    addresses = [
        element(emitter.builder, start, offset + lane * operand.lane_stride, MEMORY[operand.dtype])
        for lane in range(count)
    ]
    return [load_lanes(emitter, operand, address, lanes, width) for address in addresses]
