"""The matrix product as it is defined: each thread one element of the output.

Kept for learning, and as the candidate that fits everything. Neighbouring threads have neighbouring
columns, so that a warp's loads of `b` are contiguous and all its threads load the same element of
`a`. Still each multiplication takes two loads, and each element is loaded again and again: about a
hundredth of what the arithmetic units could do.
"""

from __future__ import annotations

from minicomp.codegen.ptx_addresses import address
from minicomp.codegen.ptx_builder import PTXBuilder
from minicomp.codegen.ptx_half import widen
from minicomp.codegen.ptx_matmul_plan import GpuMatmulPlan
from minicomp.codegen.ptx_types import MEMORY, REGISTER, Register
from minicomp.ir import ITEMSIZE
from minicomp.kernels import View


def emit_naive(
    builder: PTXBuilder,
    plan: GpuMatmulPlan,
    a: Register,
    b: Register,
    row: Register,
    column: Register,
) -> Register:
    """The product at (row, column) of the matrices that begin at the addresses a and b. The place
    is one of the output's."""
    kernel = plan.kernel
    kind = REGISTER[kernel.accumulate]
    total = builder.register(kind, "sum")
    builder.assign(total, 0.0 if kind[0] == "f" else 0)
    if not plan.depth:
        return total
    a_next = _walk(builder, plan, kernel.a, a, row, kernel.a.row_stride, "a_next")
    b_next = _walk(builder, plan, kernel.b, b, column, kernel.b.column_stride, "b_next")
    with builder.counted_loop("k", 0, plan.depth, 1):
        x, y = (_load(builder, plan, view, at, kind) for view, at in
                ((kernel.a, a_next), (kernel.b, b_next)))  # fmt: skip
        builder.accumulate(total, x, y)
        _advance(builder, plan, kernel.a, a_next, kernel.a.column_stride)
        _advance(builder, plan, kernel.b, b_next, kernel.b.row_stride)
    return total


def _itemsize(plan: GpuMatmulPlan, view: View) -> int:
    return ITEMSIZE[plan.kernel.arguments[view.buffer].dtype]


def _walk(
    builder: PTXBuilder, plan: GpuMatmulPlan, view: View, matrix: Register, position: Register,
    stride: int, name: str,
) -> Register:  # fmt: skip
    """A register that leads down the depth, at the operand's first element of that row or column."""
    register = builder.register("u64", name)
    builder.assign(register, address(builder, matrix, [(position, stride * _itemsize(plan, view))]))
    return register


def _load(
    builder: PTXBuilder, plan: GpuMatmulPlan, view: View, place: Register, kind: str
) -> Register:
    dtype = plan.kernel.arguments[view.buffer].dtype
    value = widen(builder, builder.load("global", MEMORY[dtype], place, cache="nc"), dtype)
    return value if value.type == kind else builder.cvt(value, kind)


def _advance(
    builder: PTXBuilder, plan: GpuMatmulPlan, view: View, register: Register, stride: int
) -> None:
    builder.emit(f"add.s64 {register}, {register}, {stride * _itemsize(plan, view)}")
