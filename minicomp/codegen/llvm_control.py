"""Loops and index arithmetic for LLVM IR, over numbers that may be known already.

In: an llvmlite builder and `Size`s: Python ints where a number is known when code is generated,
`i64` values where it is not. Out: instructions; none at all for what could be worked out here, so
that a loop that runs once leaves no trace in the IR.

    for_range(builder, 0, count, 4, "row", body)
    sums = carried_loop(builder, trips, zeros, body, "k", ["sum"])    # sums stay in registers
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from llvmlite import ir

from minicomp.codegen.llvm_function import counted_loop
from minicomp.codegen.llvm_types import i64
from minicomp.kernels.indexing import LoopVariable, row_major_strides

Size: TypeAlias = int | ir.Value


def value(size: Size) -> ir.Value:
    """The size as an LLVM value."""
    return ir.Constant(i64, size) if isinstance(size, int) else size


def add(builder: ir.IRBuilder, a: Size, b: Size, name: str = "") -> Size:
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    if b == 0 or a == 0:
        return a if b == 0 else b
    return builder.add(value(a), value(b), name)


def subtract(builder: ir.IRBuilder, a: Size, b: Size, name: str = "") -> Size:
    if isinstance(a, int) and isinstance(b, int):
        return a - b
    return a if b == 0 else builder.sub(value(a), value(b), name)


def multiply(builder: ir.IRBuilder, a: Size, factor: int, name: str = "") -> Size:
    if isinstance(a, int) or factor == 0:
        return a * factor if isinstance(a, int) else 0
    return a if factor == 1 else builder.mul(a, value(factor), name)


def quotient(builder: ir.IRBuilder, a: Size, divisor: int, name: str = "") -> Size:
    """a // divisor for a >= 0."""
    if isinstance(a, int):
        return a // divisor
    return a if divisor == 1 else builder.udiv(a, value(divisor), name)


def remainder(builder: ir.IRBuilder, a: Size, divisor: int, name: str = "") -> Size:
    """a % divisor for a >= 0."""
    if isinstance(a, int) or divisor == 1:
        return a % divisor if isinstance(a, int) else 0
    return builder.urem(a, value(divisor), name)


def minimum(builder: ir.IRBuilder, a: Size, b: Size, name: str = "") -> Size:
    if isinstance(a, int) and isinstance(b, int):
        return min(a, b)
    return builder.select(builder.icmp_signed("<", value(a), value(b)), value(a), value(b), name)


def maximum(builder: ir.IRBuilder, a: Size, b: Size, name: str = "") -> Size:
    if isinstance(a, int) and isinstance(b, int):
        return max(a, b)
    return builder.select(builder.icmp_signed(">", value(a), value(b)), value(a), value(b), name)


def unravelled(
    builder: ir.IRBuilder, variables: Sequence[LoopVariable], flat: ir.Value
) -> dict[LoopVariable, ir.Value]:
    """Loop variables from the row-major number of an iteration of their loops."""
    values: dict[LoopVariable, ir.Value] = {}
    strides = row_major_strides([variable.extent for variable in variables])
    for position, (variable, stride) in enumerate(zip(variables, strides, strict=True)):
        number = builder.udiv(flat, value(stride)) if stride > 1 else flat
        if position:
            number = builder.urem(number, value(variable.extent))
        values[variable] = number
    return values


def element(
    builder: ir.IRBuilder, pointer: ir.Value, index: Size, dtype: ir.Type, name: str = ""
) -> ir.Value:
    """A pointer to element `index` from `pointer` on.

    Not `inbounds`: with negative strides a pointer may step before its buffer's start, which is
    harmless as long as nothing is read there.
    """
    if isinstance(index, int) and index == 0:
        return pointer
    return builder.gep(pointer, [value(index)], name=name, source_etype=dtype)


def for_range(
    builder: ir.IRBuilder,
    begin: Size,
    end: Size,
    step: int,
    name: str,
    body: Callable[[Size], None],
) -> None:
    """`for name in range(begin, end, step): body(name)`."""
    if isinstance(begin, int) and isinstance(end, int) and end - begin <= step:
        if end > begin:
            body(begin)
        return
    with counted_loop(builder, value(begin), value(end), step, name) as index:
        body(index)


Values = Sequence[ir.Value]


def carried_loop(
    builder: ir.IRBuilder,
    trips: Size,
    initial: Values,
    body: Callable[[Values], Values],
    name: str,
    names: Sequence[str],
) -> Values:
    """`trips` times `values = body(values)`, the values being phis: registers, never memory.

    `names` are those of the phis; the last one is that of all further ones too. The test is at
    the bottom, where it costs the least; a count that is not known is tested once before the loop.
    """
    if isinstance(trips, int) and trips <= 1:
        return body(initial) if trips == 1 else initial
    before = builder.block
    loop = builder.append_basic_block(f"{name}.loop")
    after = builder.append_basic_block(f"{name}.end")
    if isinstance(trips, int):
        builder.branch(loop)
    else:
        builder.cbranch(builder.icmp_signed(">", trips, value(0)), loop, after)
    builder.position_at_end(loop)
    count = builder.phi(i64, f"{name}.left")
    count.add_incoming(value(trips), before)
    more = [names[-1]] * (len(initial) - len(names))
    labels = [*names, *more]
    carried = [builder.phi(v.type, label) for v, label in zip(initial, labels, strict=True)]
    for phi, start in zip(carried, initial, strict=True):
        phi.add_incoming(start, before)
    results = body(carried)
    left = builder.sub(count, value(1), f"{name}.left")
    count.add_incoming(left, builder.block)
    for phi, result in zip(carried, results, strict=True):
        phi.add_incoming(result, builder.block)
    end = builder.block
    builder.cbranch(builder.icmp_signed(">", left, value(0)), loop, after)
    builder.position_at_end(after)
    if isinstance(trips, int):
        return results
    merged = []
    for start, result, label in zip(initial, results, labels, strict=True):
        phi = builder.phi(start.type, label)
        phi.add_incoming(start, before)
        phi.add_incoming(result, end)
        merged.append(phi)
    return merged
