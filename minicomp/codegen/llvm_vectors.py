"""Vectors of an operand's elements: loaded exactly, spread over lanes, transposed, added up.

In: an emitter, and where elements lie. Out: vectors in the accumulator's dtype. No load here
touches memory outside the lanes asked for, so an operand may end at the end of a page.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from llvmlite import ir

from minicomp.codegen.llvm_emitter import LLVMEmitter
from minicomp.codegen.llvm_intrinsics import SECOND_LEVEL, call_intrinsic, fetch
from minicomp.codegen.llvm_types import MEMORY, i1, i32, lanes_of, widen
from minicomp.codegen.matmul_plan import Operand
from minicomp.ir import short_dtype


def register_lanes(lanes: int) -> int:
    """The width of the vector that holds `lanes` lanes: the next power of two."""
    return 1 << (lanes - 1).bit_length()


def load_lanes(
    emitter: LLVMEmitter, operand: Operand, address: ir.Value, lanes: int, width: int
) -> ir.Value:
    """`lanes` neighbouring elements as a vector of `width` lanes; the rest are 0."""
    kind = widen(MEMORY[operand.dtype], width)
    if lanes == width:
        loaded = emitter.builder.load(address, align=operand.alignment, typ=kind)
    else:
        mask = ir.Constant(ir.VectorType(i1, width), [int(lane < lanes) for lane in range(width)])
        align, zeros = ir.Constant(i32, operand.alignment), ir.Constant(kind, None)
        name = f"llvm.masked.load.v{width}{short_dtype(operand.dtype)}.p0"
        arguments = [address, align, mask, zeros]
        loaded = call_intrinsic(emitter.builder, name, kind, arguments)
    return emitter.convert(loaded, operand.accumulate)


def prefetch(builder: ir.IRBuilder, address: ir.Value) -> None:
    """Ask for the cache line at `address`, which may lie outside every buffer. It goes to the L2
    cache: the L1 cache would be overrun by rows that lie a multiple of its size apart."""
    fetch(builder, address, SECOND_LEVEL, is_written=False)


def broadcast_element(
    emitter: LLVMEmitter, operand: Operand, address: ir.Value, width: int
) -> ir.Value:
    """The element at `address` in all lanes."""
    builder, element = emitter.builder, MEMORY[operand.dtype]
    if width == 1 or operand.dtype != operand.accumulate:
        loaded = builder.load(address, align=operand.alignment, typ=element)
        return emitter.splat(emitter.convert(loaded, operand.accumulate), width)
    # A vector of one lane is spread by one instruction; a scalar would take two.
    loaded = builder.load(address, align=operand.alignment, typ=ir.VectorType(element, 1))
    return shuffle(builder, loaded, loaded, [0] * width)


def shuffle(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, lanes: Sequence[int]) -> ir.Value:
    """The chosen lanes of a and b, b's numbered after a's."""
    return builder.shuffle_vector(a, b, _shuffle_mask(tuple(lanes)))


@cache
def _shuffle_mask(lanes: tuple[int, ...]) -> ir.Constant:
    # All zeros have a short form, `zeroinitializer`.
    return ir.Constant(ir.VectorType(i32, len(lanes)), list(lanes) if any(lanes) else None)


def lane_range(builder: ir.IRBuilder, vector: ir.Value, start: int, count: int) -> ir.Value:
    """`count` lanes from `start` on; a scalar for one lane."""
    if lanes_of(vector) == count:
        return vector
    if count == 1:
        return builder.extract_element(vector, ir.Constant(i32, start))
    return shuffle(builder, vector, vector, range(start, start + count))


def exchange(
    builder: ir.IRBuilder, a: ir.Value, b: ir.Value, distance: int
) -> tuple[ir.Value, ir.Value]:
    """Every other group of `distance` lanes of a changes places with the group before it in b.

    For a distance of 1: (a0 b0 a2 b2 ...), (a1 b1 a3 b3 ...).
    """
    width = lanes_of(a)
    even, odd = [], []
    for lane in range(width):
        from_b = lane & distance
        even.append(lane - distance + width if from_b else lane)
        odd.append(lane + width if from_b else lane + distance)
    return shuffle(builder, a, b, even), shuffle(builder, a, b, odd)


def transpose(builder: ir.IRBuilder, rows: Sequence[ir.Value]) -> list[ir.Value]:
    """n vectors of w >= n lanes, transposed within each group of n lanes; n a power of two.

    Step by step, a bit of the row number changes places with that bit of the lane number
    (Eklundh, "A fast computer method for matrix transposing", 1972).
    """
    rows = list(rows)
    distance = 1
    while distance < len(rows):
        for first in range(len(rows)):
            second = first + distance
            if not first & distance:
                rows[first], rows[second] = exchange(builder, rows[first], rows[second], distance)
        distance *= 2
    return rows


def concatenate(builder: ir.IRBuilder, vectors: Sequence[ir.Value]) -> ir.Value:
    """The lanes of all vectors, one after the other; their number is a power of two."""
    while len(vectors) > 1:
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        vectors = [shuffle(builder, a, b, range(2 * lanes_of(a))) for a, b in pairs]
    return vectors[0]


def add_up_lanes(emitter: LLVMEmitter, vectors: Sequence[ir.Value]) -> ir.Value:
    """Lane i of the result is the sum of all lanes of vector i; n vectors of w >= n lanes.

    n and w are powers of two. A transpose that adds what it exchanges leaves w/n lanes for each
    of the vectors; these are then folded in half.
    """
    count, distance, builder = len(vectors), 1, emitter.builder
    while len(vectors) > 1:
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        vectors = [emitter.add(*exchange(builder, a, b, distance)) for a, b in pairs]
        distance *= 2
    total = vectors[0]
    while lanes_of(total) > count:
        half = lanes_of(total) // 2
        upper = lane_range(builder, total, half, half)
        total = emitter.add(lane_range(builder, total, 0, half), upper)
    return total
