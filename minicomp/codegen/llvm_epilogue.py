"""A matmul's epilogue: from the finished sums of a tile to what is stored.

In: the tile's sums, and the point (batch, row, column) at which the tile begins. Out: stores of
the kernel's scalar expression, whose `Product` leaf is the sum. Short epilogues (bias,
activation, residual) run on the registers that hold the sums. A long one (a GELU is a polynomial
of dozens of instructions) is emitted once, in a loop over the rows of the tile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from llvmlite import ir

from minicomp.codegen.expression_cost import count_operations
from minicomp.codegen.llvm_control import Size, add, element, for_range, multiply, value
from minicomp.codegen.llvm_emitter import LLVMEmitter
from minicomp.codegen.llvm_types import REGISTER, pointer
from minicomp.codegen.llvm_vectors import lane_range
from minicomp.codegen.matmul_plan import CACHE_LINE
from minicomp.codegen.scalar import ScalarVisitor
from minicomp.kernels import ConvolutionKernel, MatmulKernel
from minicomp.kernels.indexing import LoopVariable

#: Operations, over all vectors of a tile, that may be emitted in line. More would take longer to
#: compile than the trip through the L1 cache takes to run.
INLINE_OPERATIONS = 200

Point = Mapping[LoopVariable, ir.Value]


class TilePlan(Protocol):
    """What an epilogue needs to know of a plan. Lanes are along `columns`."""

    @property
    def kernel(self) -> MatmulKernel | ConvolutionKernel: ...
    @property
    def schedule(self) -> Any: ...  # of which it is the `vector_width`
    @property
    def rows(self) -> LoopVariable: ...
    @property
    def columns(self) -> LoopVariable: ...
    @property
    def vector_alignment(self) -> int: ...


class Epilogue:
    """`point` gives the loop variables at the tile's first element; `lanes` are those in use of
    each vector of a row."""

    def __init__(
        self,
        emitter: LLVMEmitter,
        plan: TilePlan,
        point: Point,
        lanes: Sequence[int],
    ):
        self.emitter, self.plan, self.point, self.lanes = emitter, plan, point, lanes
        self.builder, self.width = emitter.builder, plan.schedule.vector_width

    def store_tile(self, rows: int, sums: Sequence[ir.Value]) -> None:
        """Store the epilogue of the sums, listed row by row."""
        operations = len(sums) * count_operations(self.plan.kernel.store.scalar)
        if operations <= INLINE_OPERATIONS:
            self.builder.comment("epilogue, on registers")
            self._store_rows(0, sums)
        else:
            self.builder.comment("epilogue, row by row")
            self._store_row_by_row(rows, sums)

    def _store_rows(self, first_row: Size, sums: Sequence[ir.Value]) -> None:
        """Evaluate all, then store all: stores in between would forbid LLVM to share loads."""
        store, points = self.plan.kernel.store, self._points(first_row, len(sums))
        vectors = []
        for (point, lanes), total in zip(points, sums, strict=True):
            self.emitter.at(point, self.plan.columns, lanes)
            product = lane_range(self.builder, total, 0, lanes)
            self.emitter.visitor = ScalarVisitor(self.emitter, {"product": product})
            vectors.append(self.emitter.visitor(store.scalar))
        for (point, lanes), vector in zip(points, vectors, strict=True):
            self.emitter.at(point, self.plan.columns, lanes)
            self.emitter.store(store.buffer, store.index, vector)

    def _points(self, first_row: Size, count: int) -> list[tuple[Point, int]]:
        """The loop variables at each of `count` vectors from a row of the tile on, and the lanes
        in use there."""
        builder, rows, columns = self.builder, self.plan.rows, self.plan.columns
        tile_row, tile_column = self.point[rows], self.point[columns]
        starts = [
            value(add(builder, tile_column, number * self.width, "column"))
            for number in range(len(self.lanes))
        ]
        points: list[tuple[Point, int]] = []
        for row in range(count // len(self.lanes)):
            here = add(builder, tile_row, add(builder, first_row, row), "row")
            for start, lanes in zip(starts, self.lanes, strict=True):
                points.append(({**self.point, rows: value(here), columns: start}, lanes))
        return points

    def _store_row_by_row(self, rows: int, sums: Sequence[ir.Value]) -> None:
        builder, number_type = self.builder, REGISTER[self.plan.kernel.accumulate]
        per_row = len(self.lanes)
        with builder.goto_entry_block():
            kind = ir.ArrayType(number_type, rows * per_row * self.width)
            tile = builder.alloca(kind, name="tile")
            tile.align = CACHE_LINE
        tile.type = pointer  # llvmlite still types it by its pointee, which LLVM no longer reads
        alignment = self.plan.vector_alignment
        for position, total in enumerate(sums):
            place = element(builder, tile, position * self.width, number_type)
            builder.store(total, place, align=alignment)

        def one_row(row: Size) -> None:
            start = element(
                builder, tile, multiply(builder, row, per_row * self.width), number_type
            )
            loaded = []
            for number in range(per_row):
                place = element(builder, start, number * self.width, number_type)
                loaded.append(builder.load(place, align=alignment, typ=sums[number].type))
            self._store_rows(row, loaded)

        for_range(builder, 0, rows, 1, "tile_row", one_row)
