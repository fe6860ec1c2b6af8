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
from minicomp.codegen.llvm_vectors import lane_range, load_lanes, transpose
from minicomp.codegen.matmul_plan import Operand
from minicomp.ir import ITEMSIZE


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
            for_range(builder, 0, self.depth, 1, "k", self._copy_row)
        elif self.source.depth_stride == 1 and self.vector_width > 1:
            builder.comment("the depth is contiguous: transpose square blocks")
            left = remainder(builder, self.depth, self.vector_width, "left")
            whole = subtract(builder, self.depth, left, "whole")
            for_range(builder, 0, whole, self.vector_width, "k", self._transpose_block)
            for_range(builder, whole, self.depth, 1, "k.left", self._copy_elements)
        else:
            builder.comment("nothing is contiguous: copy element by element")
            for_range(builder, 0, self.depth, 1, "k", self._copy_elements)
        builder.ret_void()

    def _source(self, lane: Size, k: Size) -> ir.Value:
        builder, source = self.builder, self.source
        across = multiply(builder, lane, source.lane_stride)
        along = multiply(builder, k, source.depth_stride)
        index = add(builder, across, along)
        return element(builder, self.from_pointer, index, MEMORY[source.dtype])

    def _panel(self, lane: Size, k: Size) -> ir.Value:
        index = add(self.builder, multiply(self.builder, k, self.panel.depth_stride), lane)
        return element(self.builder, self.to_pointer, index, MEMORY[self.panel.dtype])

    def _copy_row(self, k: Size) -> None:
        self._each_vector(lambda first, lanes, width: self._copy_vector(first, k, lanes, width))

    def _transpose_block(self, k: Size) -> None:
        """vector_width values of k."""
        self._each_vector(lambda first, lanes, width: self._transpose(first, k, lanes, width))

    def _each_vector(self, body: Callable[[Size, int, int], None]) -> None:
        """body(first lane, lanes in use, width) for the vectors across the panel."""
        size, width = self.vector_width, self.panel.depth_stride
        full = self.lanes - self.lanes % size
        for_range(self.builder, 0, full, size, "lane", lambda first: body(first, size, size))
        if full < self.lanes:
            body(full, self.lanes - full, min(size, width - full))

    def _copy_vector(self, first: Size, k: Size, lanes: int, width: int) -> None:
        address = self._source(first, k)
        vector = load_lanes(self.emitter, self.source, address, lanes, self.vector_width)
        self._store(vector, first, k, width)

    def _transpose(self, first: Size, k: Size, lanes: int, width: int) -> None:
        size = self.vector_width
        zeros = literal(MEMORY[self.panel.dtype], 0.0, size)
        rows = [zeros] * size
        for lane in range(lanes):
            address = self._source(add(self.builder, first, lane), k)
            rows[lane] = load_lanes(self.emitter, self.source, address, size, size)
        for step, vector in enumerate(transpose(self.builder, rows)):
            self._store(vector, first, add(self.builder, k, step), width)

    def _store(self, vector: ir.Value, first: Size, k: Size, width: int) -> None:
        used = lane_range(self.builder, vector, 0, width)
        self.builder.store(used, self._panel(first, k), align=self.panel.alignment)

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
