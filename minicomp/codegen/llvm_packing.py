"""Packing: copying part of an operand into the order in which the micro-kernel reads it.

In: how an operand lies in its buffer. Out: an internal function that fills one *panel*: for each k
in turn, the elements of `width` rows of `a` (or columns of `b`) side by side. Where fewer lanes
are left than the panel is wide, the rest is filled with zeros.

    b, columns contiguous            panel, 4 wide
    00 01 02 03 04 05 ..             00 01 02 03
    10 11 12 13 14 15 ..             10 11 12 13
    20 21 22 23 24 25 ..             20 21 22 23

Packed, a panel is read front to back, from few pages, whatever the operand's strides were.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from llvmlite import ir

from minicomp.codegen.llvm_control import (
    Size,
    add,
    element,
    for_range,
    multiply,
    remainder,
    subtract,
)
from minicomp.codegen.llvm_emitter import LLVMEmitter
from minicomp.codegen.llvm_types import MEMORY, i64, literal, pointer, void
from minicomp.codegen.llvm_vectors import concatenate, lane_range, load_lanes, prefetch, transpose
from minicomp.codegen.matmul_plan import Operand
from minicomp.ir import ITEMSIZE

#: Where lanes are contiguous, a block is packed so many rows at a time across all its panels, while
#: the next rows are asked for. Panel by panel would read a few lines of each of many pages, in an
#: order that no hardware expects: 10 GB/s instead of 18 on a Zen 4, from memory.
ROWS_AT_A_TIME = 8
#: Where the depth is contiguous, the lanes of a vector are transposed at a time, from the first k
#: to the last, so that lines of the panel are written whole. But rows that lie a multiple of this
#: apart, in bytes, fall into one or two sets of the L1 cache, of eight lines or more: of those no
#: more at a time, or a line would be gone before its next values of k are wanted.
COLLIDING_BYTES, COLLIDING_LANES = 2048, 8


def emit_packer(
    module: ir.Module, name: str, source: Operand, panel: Operand, lanes: int, vector_width: int
) -> ir.Function:
    """Define `void @name(ptr source, ptr panel, i64 depth)`, for panels with `lanes` lanes in use.

    `panel.depth_stride` is the panel's width.
    """
    function = ir.Function(module, ir.FunctionType(void, [pointer, pointer, i64]), name)
    function.linkage = "internal"
    for argument, argument_name in zip(function.args, ("source", "panel", "depth"), strict=True):
        argument.name = argument_name
    packing = _Packing(function, source, panel, lanes, vector_width)
    packing.emit()
    return function


class _Packing:
    """The emission of one packing function; methods are named after the loops they emit."""

    def __init__(
        self, function: ir.Function, source: Operand, panel: Operand, lanes: int, vector_width: int
    ):
        self.source, self.panel, self.lanes = source, panel, lanes
        self.vector_width = vector_width
        self.from_pointer, self.to_pointer, self.depth = function.args
        self.builder = ir.IRBuilder(function.append_basic_block("entry"))
        self.emitter = LLVMEmitter(self.builder, [])

    def emit(self) -> None:
        builder = self.builder
        if self.source.lane_stride == 1:
            builder.comment("lanes are contiguous: copy vectors")
            for_range(builder, 0, self.depth, 1, "k", self._copy_vectors)
        elif self.source.depth_stride == 1 and self.vector_width >= self.block:
            builder.comment("the depth is contiguous: transpose small blocks")
            left = remainder(builder, self.depth, self.block, "left")
            whole = subtract(builder, self.depth, left, "whole")
            self._each_vector(partial(self._transpose_blocks, whole), self.lanes_at_a_time)
            for_range(builder, whole, self.depth, 1, "k.left", self._copy_elements)
        else:
            builder.comment("nothing is contiguous: copy element by element")
            for_range(builder, 0, self.depth, 1, "k", self._copy_elements)
        builder.ret_void()

    @property
    def block(self) -> int:
        """Values of k that are transposed at a time: 16 bytes, since shuffles within 16-byte
        lanes are the cheapest on every CPU with longer vectors."""
        return 16 // ITEMSIZE[self.panel.dtype]

    @property
    def lanes_at_a_time(self) -> int:
        """Lanes that are transposed together."""
        distance = self.source.lane_stride * ITEMSIZE[self.source.dtype]
        most = self.vector_width if distance % COLLIDING_BYTES else COLLIDING_LANES
        return min(most, self.vector_width)

    def _source(self, lane: Size, k: Size) -> ir.Value:
        return self._place(self.from_pointer, self.source, lane, k)

    def _panel(self, lane: Size, k: Size) -> ir.Value:
        return self._place(self.to_pointer, self.panel, lane, k)

    def _place(self, start: ir.Value, operand: Operand, lane: Size, k: Size) -> ir.Value:
        across = multiply(self.builder, lane, operand.lane_stride)
        along = multiply(self.builder, k, operand.depth_stride)
        index = add(self.builder, across, along)
        return element(self.builder, start, index, MEMORY[operand.dtype])

    def _each_vector(self, body: Callable[[Size, int, int], None], most: int) -> None:
        """body(first lane, lanes in use, width) for vectors of at most `most` across the panel."""
        size, width = min(most, self.vector_width), self.panel.depth_stride
        full = self.lanes - self.lanes % size
        for_range(self.builder, 0, full, size, "lane", lambda first: body(first, size, size))
        for first in range(full, width, size):  # the last lanes, and none of the padding
            body(first, max(0, self.lanes - first), min(size, width - first))

    def _store(self, vector: ir.Value, first: Size, k: Size, width: int) -> None:
        used = lane_range(self.builder, vector, 0, width)
        alignment = min(self.panel.alignment, width * ITEMSIZE[self.panel.dtype])
        self.builder.store(used, self._panel(first, k), align=alignment)

    def _copy_vectors(self, k: Size) -> None:
        def copy(first: Size, lanes: int, width: int) -> None:
            address = self._source(first, k)
            prefetch(self.builder, self._source(first, add(self.builder, k, ROWS_AT_A_TIME)))
            vector = load_lanes(self.emitter, self.source, address, lanes, self.vector_width)
            self._store(vector, first, k, width)

        self._each_vector(copy, self.vector_width)

    def _transpose_blocks(self, depth: Size, first: Size, lanes: int, width: int) -> None:
        """Some lanes, `block` values of k at a time: loaded along the depth, `block` lanes apart,
        so that a transpose within each 16 bytes of the vectors leaves the lanes in order."""
        builder, size = self.builder, self.block
        zeros = literal(MEMORY[self.panel.dtype], 0.0, size)

        def block(k: Size) -> None:
            pieces = [zeros] * self.lanes_at_a_time
            for lane in range(lanes):
                address = self._source(add(builder, first, lane), k)
                pieces[lane] = load_lanes(self.emitter, self.source, address, size, size)
            rows = [concatenate(builder, pieces[offset::size]) for offset in range(size)]
            for step, vector in enumerate(transpose(builder, rows)):
                self._store(vector, first, add(builder, k, step), width)

        for_range(builder, 0, depth, size, "k", block)

    def _copy_elements(self, k: Size) -> None:
        """All lanes of one k, one after the other; zeros as far as the panel is wider."""
        builder, dtype = self.builder, self.panel.dtype

        def copy(lane: Size) -> None:
            loaded = load_lanes(self.emitter, self.source, self._source(lane, k), 1, 1)
            builder.store(loaded, self._panel(lane, k), align=ITEMSIZE[dtype])

        def clear(lane: Size) -> None:
            zero = literal(MEMORY[dtype], 0.0)
            builder.store(zero, self._panel(lane, k), align=ITEMSIZE[dtype])

        for_range(builder, 0, self.lanes, 1, "lane", copy)
        for_range(builder, self.lanes, self.panel.depth_stride, 1, "padding", clear)
