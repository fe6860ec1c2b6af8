"""From a thread's sums to what is stored."""

from __future__ import annotations

from collections.abc import Iterable

from minicomp.codegen.ptx_addresses import address
from minicomp.codegen.ptx_builder import PTXBuilder
from minicomp.codegen.ptx_half import narrow
from minicomp.codegen.ptx_matmul_plan import GpuMatmulPlan
from minicomp.codegen.ptx_matmul_simt import Run
from minicomp.codegen.ptx_types import MEMORY
from minicomp.ir import ITEMSIZE


class Epilogue:
    def __init__(self, builder: PTXBuilder, plan: GpuMatmulPlan, batch, row, column):
        self.builder, self.plan = builder, plan
        self.batch, self.row, self.column = batch, row, column

    def store(self, runs: Iterable[Run]) -> None:
        builder, plan, kernel = self.builder, self.plan, self.plan.kernel
        index = kernel.store.index
        argument = kernel.arguments[kernel.store.buffer]
        size = ITEMSIZE[argument.dtype]
        values = dict(zip(kernel.batch, self.batch)) | {
            kernel.row: self.row,
            kernel.column: self.column,
        }
        steps = {v: index.coefficient(v) or 0 for v in values}
        first = address(
            builder,
            builder.pointers[kernel.store.buffer],
            [(values[v], steps[v] * size) for v in values],
            index.constant * size,
        )
        row_step, column_step = steps[kernel.row] * size, steps[kernel.column] * size
        for run in runs:
            row_ok = builder.setp("lt", self.row.as_type("s32"), plan.rows - run.row)
            values_ = [narrow(builder, value, argument.dtype) for value in run.sums]
            width = len(values_)
            alignment_ok = (
                column_step == size
                and plan.columns % width == 0
                and steps[kernel.row] % width == 0
                and argument.alignment % (size * width) == 0
            )
            place = address(builder, first, [], run.row * row_step + run.column * column_step)
            if alignment_ok:
                ok = builder.and_(
                    row_ok,
                    builder.setp("lt", self.column.as_type("s32"), plan.columns - run.column),
                )
                with builder.when(ok):
                    builder.store("global", MEMORY[argument.dtype], place, values_)
                continue
            for j, value in enumerate(values_):
                ok = builder.and_(
                    row_ok,
                    builder.setp("lt", self.column.as_type("s32"), plan.columns - run.column - j),
                )
                with builder.when(ok):
                    builder.store("global", MEMORY[argument.dtype], place, value, j * column_step)
