"""A matmul's epilogue: from a thread's finished sums to what is stored.

In: the sums as `Run`s of neighbouring columns, and where the block's tile begins. Out: stores of
the kernel's scalar expression, whose `Product` leaf is the sum.

Short epilogues (bias, activation, residual) run on the registers that hold the sums. A long one (a
GELU is dozens of instructions, for each of 128 sums) would take long to assemble: then the sums go
through shared memory, and a loop over the rows of the tile has the epilogue once.

At the edge of the output nothing is stored beyond it, and nothing is loaded that belongs to rows or
columns beyond it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from minicomp.codegen.ptx_emitter import PTXEmitter
from minicomp.codegen.ptx_lanes import Lanes
from minicomp.codegen.ptx_matmul_fragments import Fragments
from minicomp.codegen.ptx_matmul_plan import GpuMatmulPlan
from minicomp.codegen.ptx_memory import Point
from minicomp.codegen.ptx_types import REGISTER, Register
from minicomp.codegen.scalar import ScalarVisitor
from minicomp.ir import ITEMSIZE
from minicomp.kernels import Load
from minicomp.kernels.indexing import Index, LoopVariable, index_variables
from minicomp.kernels.walk import walk


class Epilogue:
    """`batch` are the batch's loop variables in terms of the launch's; `row` and `column` where the
    block's tile begins."""

    def __init__(
        self,
        emitter: PTXEmitter,
        plan: GpuMatmulPlan,
        batch: Mapping[LoopVariable, Index],
        row: Index,
        column: Index,
    ):
        self.emitter, self.builder, self.plan = emitter, emitter.builder, plan
        self.batch, self.tile_row, self.tile_column = batch, row, column
        self.inside: dict[tuple[str, Index], Register] = {}

    def store(self, fragments: Fragments, thread: Index, shared: Register) -> None:
        """Store the epilogue of all sums. `thread` is the number in the block; `shared` the address
        of shared memory, which nobody needs any more once all have arrived here."""
        if self.plan.is_staged:
            self._store_by_way_of(shared, fragments, thread)
            return
        self.builder.comment("epilogue, on registers")
        for run in fragments.runs():
            self._store_run(fragments.row + run.row, fragments.column + run.column, run.sums)

    def _store_run(self, row: Index, column: Index, sums: tuple[Register, ...]) -> None:
        """`row` and `column` are within the tile."""
        width = len(sums)
        if self.plan.columns % width:
            width = 1  # a vector might lie on both sides of the edge
        for start in range(0, len(sums), width):
            emitter = self.emitter_at(row, column + start, width)
            self.store_at(emitter, sums[start : start + width])

    def emitter_at(self, row: Index, column: Index, width: int = 1) -> EdgeEmitter:
        """An emitter at that place of the tile, of `width` columns."""
        kernel = self.plan.kernel
        row, column = self.tile_row + row, self.tile_column + column
        inside = {
            kernel.row: self._below("row", row, kernel.row.extent),
            kernel.column: self._below("column", column, kernel.column.extent),
        }
        values = {**self.batch, kernel.row: row, kernel.column: column}
        return EdgeEmitter(self.emitter, Point(values, kernel.column, width), inside)

    def store_at(self, emitter: EdgeEmitter, sums: tuple[Register, ...]) -> None:
        store = self.plan.kernel.store
        product = Lanes(self.plan.kernel.accumulate, sums)
        emitter.visitor = ScalarVisitor(emitter, {"product": product})
        emitter.store(store.buffer, store.index, emitter.visitor(store.scalar))

    def _below(self, axis: str, index: Index, extent: int) -> Register | None:
        """Whether the place is within the output; None where every one is."""
        if index.bounds[1] < extent:
            return None
        if (axis, index) not in self.inside:
            place = self.emitter.indices.value(Index(index.terms))
            self.inside[axis, index] = self.builder.setp("lt", place, extent - index.constant)
        return self.inside[axis, index]

    # --- by way of shared memory ---

    def _store_by_way_of(self, shared: Register, fragments: Fragments, thread: Index) -> None:
        builder, plan, value = self.builder, self.plan, self.emitter.indices.value
        kind, size = REGISTER[plan.kernel.accumulate], ITEMSIZE[plan.kernel.accumulate]
        pitch = plan.staged_pitch
        builder.comment("the sums go to shared memory")
        # Copies that fill with zeros what lies beyond the last tile may still be on their way.
        builder.cp_async_wait(0)
        builder.barrier()
        group = thread // (32 * plan.tile_warps) * plan.staged_bytes
        first = value(group + fragments.row * pitch + fragments.column * size)
        place = builder.add(shared, first)
        for run in fragments.runs():
            builder.store("shared", kind, place, run.sums, run.row * pitch + run.column * size)
        builder.barrier()
        builder.comment("epilogue, some rows of the tile at a time")
        vector = plan.vector
        across = plan.schedule.block_columns // vector
        rows = plan.threads // across  # at a time
        row, column = thread // across, thread % across * vector
        self._load_ahead(column, vector)
        with (
            builder.counted_loop("rows", 0, plan.schedule.block_rows, rows) as counter,
            self.emitter.indices.scope(),
        ):
            passed = LoopVariable("rows", plan.schedule.block_rows)
            here = self.emitter.indices.bind(passed, counter) + row
            place = builder.add(shared, value(here * pitch + column * size))
            self._store_run(here, column, self._added_up(place))

    def _added_up(self, place: Register) -> tuple[Register, ...]:
        """A vector of staged sums: those of all groups together."""
        builder, plan, kind = self.builder, self.plan, REGISTER[self.plan.kernel.accumulate]
        sums = builder.load_vector("shared", kind, plan.vector, place)
        for group in range(1, plan.schedule.depth_groups):
            offset = group * plan.staged_bytes
            others = builder.load_vector("shared", kind, plan.vector, place, offset)
            sums = [builder.add(a, b) for a, b in zip(sums, others, strict=True)]
        return tuple(sums)

    def _load_ahead(self, column: Index, vector: int) -> None:
        """What is the same for all rows is loaded before the loop over them."""
        if self.plan.columns % vector:
            return
        emitter = self.emitter_at(Index(), column, vector)
        emitter.visitor = ScalarVisitor(emitter, {})
        for scalar in walk([self.plan.kernel.store.scalar]):
            if isinstance(scalar, Load):
                variables = set(index_variables(scalar.index))
                if self.plan.kernel.row not in variables:
                    emitter.visitor(scalar)


class EdgeEmitter(PTXEmitter):
    """Loads under the predicates of those loop variables alone that the index depends on, so that a
    bias is loaded once for all rows, at the edge too. `inside` has the predicates, None where
    there is no edge."""

    def __init__(
        self, emitter: PTXEmitter, point: Point, inside: Mapping[LoopVariable, Register | None]
    ):
        super().__init__(emitter.builder, emitter.indices, emitter.buffers, emitter.status)
        self.inside, (row, column) = inside, inside.values()
        self.both = row or column
        if row is not None and column is not None:
            self.both = self.builder.and_(row, column)
        self.point = replace(point, guard=self.both, store_guard=self.both)

    def load(self, number: int, index: Index) -> Lanes:
        before = self.point
        self.point = replace(before, guard=self._guard(set(index_variables(index))))
        loaded = super().load(number, index)
        self.point = before
        return loaded

    def _guard(self, variables: set[LoopVariable]) -> Register | None:
        needed = [guard for variable, guard in self.inside.items() if variable in variables]
        return self.both if len(needed) == 2 else needed[0] if needed else None
