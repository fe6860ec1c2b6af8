"""LoopKernels in LLVM IR: every fused pointwise and reduction kernel on the CPU.

In: a `kernels.LoopKernel` and a `LoopSchedule`. Out: the text of a module defining
`void @name(ptr args, i64 begin, i64 end)`. The schedule's vector axis decides the loop nest:

    inner                                     outer
    for row in [begin, end):                  for block in [begin, end):      # of columns
      for each sweep:                           for vector of columns in block:
        for vector along the last inner loop:     for each sweep:
          fold, store                               for every inner iteration:
        combine the lanes                             fold, store

A loop of n iterations in vectors of w lanes, u at a time, is at most three pieces: u*w at a time,
w at a time, and once the n % w left over, at exactly that width: LLVM splits odd vectors safely,
so no load is masked and none reads past its row. (See `Span`.)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from typing import Any

from llvmlite import ir

from minicomp.codegen.llvm_emitter import LLVMEmitter
from minicomp.codegen.llvm_function import KernelFunction, counted_loop, kernel_function
from minicomp.codegen.llvm_reduce import Accumulators
from minicomp.codegen.llvm_types import MEMORY, i64, literal
from minicomp.codegen.scalar import ScalarVisitor
from minicomp.kernels import LoopKernel, LoopSchedule, Sweep
from minicomp.kernels.indexing import Index, LoopVariable, row_major_strides

#: Handles of finished reductions, by number (see `ScalarVisitor`).
Bound = dict[int | str, ir.Value]

#: Columns that one parallel unit of an outer-vectorised kernel covers: enough to make the index
#: arithmetic of a unit negligible, few enough that threads can share a short tensor.
BLOCK = 1024


@dataclass(frozen=True)
class Span:
    """A piece of a loop: iterations [start, stop), `width` lanes, `unroll` vectors at a time."""

    start: int
    stop: int
    width: int
    unroll: int

    @property
    def step(self) -> int:
        return self.width * self.unroll


def spans(extent: int, width: int, unroll: int) -> list[Span]:
    """[0, extent) in at most three pieces, widest first; no piece is empty."""
    pieces, start = [], 0
    for lanes, copies in ((width, unroll), (width, 1)):
        stop = start + (extent - start) // (lanes * copies) * (lanes * copies)
        if stop > start:
            pieces.append(Span(start, stop, lanes, copies))
            start = stop
    if start < extent:
        pieces.append(Span(start, extent, extent - start, 1))
    return pieces


def block_size(schedule: LoopSchedule) -> int:
    """Columns per unit when vectorising along the outer loops: a multiple of one step."""
    step = schedule.vector_width * schedule.unroll
    return max(BLOCK // step, 1) * step


def units(kernel: LoopKernel, schedule: LoopSchedule) -> int:
    """How many independent units of work the kernel has: rows, or blocks of columns."""
    if schedule.vector_axis == "inner" or not kernel.outer:
        return kernel.rows
    *rest, last = (variable.extent for variable in kernel.outer)
    return prod(rest) * -(-last // block_size(schedule))


def emit_loop_kernel(kernel: LoopKernel, schedule: LoopSchedule, target: Any) -> str:
    """The kernel's LLVM IR as text."""
    return _LoopEmission(kernel, schedule, target).text()


class _LoopEmission:
    """The emission of one kernel; methods are named after the loops they emit."""

    def __init__(self, kernel: LoopKernel, schedule: LoopSchedule, target: Any):
        self.kernel, self.schedule = kernel, schedule
        comment = f"{schedule}\n{kernel}"
        self.function: KernelFunction = kernel_function(
            kernel.name, kernel.arguments, target, comment
        )
        self.builder = self.function.builder
        buffers = [
            (pointer, argument.dtype)
            for pointer, argument in zip(self.function.pointers, kernel.arguments)
        ]
        for row in kernel.scratch:
            kind = ir.ArrayType(MEMORY[row.dtype], row.size)
            buffers.append((self.function.entry_alloca(kind, row.name), row.dtype))
        self.emitter = LLVMEmitter(self.builder, buffers, status=self._status_pointer())
        self.values: dict[LoopVariable, ir.Value] = {}

    def _status_pointer(self) -> ir.Value | None:
        for pointer, argument in zip(self.function.pointers, self.kernel.arguments):
            if argument.name == "status":
                return pointer
        return None

    def text(self) -> str:
        if self.schedule.vector_axis == "inner" or not self.kernel.outer:
            self._rows()
        else:
            self._column_blocks()
        self.builder.ret_void()
        return str(self.function.module)

    # --- lanes along the inner loop ---

    def _rows(self) -> None:
        with counted_loop(self.builder, self.function.begin, self.function.end, 1, "row") as row:
            self._set_outer(self.kernel.outer, row)
            bound: Bound = {}
            for number, sweep in enumerate(self.kernel.sweeps):
                self.builder.comment(f"sweep {number}")
                bound.update(self._row_sweep(sweep, bound))
            self.emitter.at(self.values, None, 1)
            self._store_row(bound)

    def _row_sweep(self, sweep: Sweep, bound: Bound) -> Bound:
        """One sweep over the inner loops, the last of them in vectors."""
        accumulators = Accumulators(self.function, self.emitter, sweep.reductions)
        if not self.kernel.inner:
            self.emitter.at(self.values, None, 1)
            self._element(sweep, bound, accumulators, copy=0)
            return accumulators.finish()
        *nest, last = self.kernel.inner
        scan = any(reduction.op == "cumsum" for reduction in sweep.reductions)
        # A scan goes from element to element: one lane, one copy.
        width, unroll = (1, 1) if scan else (self.schedule.vector_width, self.schedule.unroll)
        with ExitStack() as loops:
            self._enter(loops, nest)
            for span in spans(last.extent, width, unroll):
                for copy in self._vectors(span, last):
                    self._element(sweep, bound, accumulators, copy)
        return accumulators.finish()

    def _vectors(self, span: Span, variable: LoopVariable) -> Iterator[int]:
        """Emit the loop of one span; yields once per unrolled copy, the emitter in place."""
        if span.step == span.stop - span.start:  # one round: no loop
            yield from self._copies(span, variable, literal(i64, span.start))
            return
        start, stop = literal(i64, span.start), literal(i64, span.stop)
        with counted_loop(self.builder, start, stop, span.step, variable.name) as counter:
            yield from self._copies(span, variable, counter)

    def _copies(self, span: Span, variable: LoopVariable, base: ir.Value) -> Iterator[int]:
        for copy in range(span.unroll):
            offset = literal(i64, copy * span.width)
            first = self.builder.add(base, offset) if copy else base
            self.emitter.at({**self.values, variable: first}, variable, span.width)
            yield copy

    # --- lanes along the outer loop ---

    def _column_blocks(self) -> None:
        *rest, last = self.kernel.outer
        block = block_size(self.schedule)
        blocks = -(-last.extent // block)
        whole = last.extent - last.extent % self.schedule.vector_width
        with counted_loop(self.builder, self.function.begin, self.function.end, 1, "unit") as unit:
            column_block, row = literal(i64, 0), unit
            if blocks > 1:
                column_block = self.builder.urem(unit, literal(i64, blocks))
                row = self.builder.udiv(unit, literal(i64, blocks))
            self._set_outer(rest, row)
            start = self.builder.mul(column_block, literal(i64, block), name="start")
            self._block(last, start, block, whole)
            if whole < last.extent:
                is_last = self.builder.icmp_unsigned("==", column_block, literal(i64, blocks - 1))
                with self.builder.if_then(is_last):
                    self.builder.comment(f"the last {last.extent - whole} columns")
                    span = Span(whole, last.extent, last.extent - whole, 1)
                    self._columns(last, literal(i64, whole), span)

    def _block(self, last: LoopVariable, start: ir.Value, block: int, whole: int) -> None:
        """The full vectors of one block: `unroll` at a time, then one at a time."""
        if not whole:
            return
        width, unroll = self.schedule.vector_width, self.schedule.unroll
        stop = self.builder.add(start, literal(i64, block))
        in_range = self.builder.icmp_signed("<", stop, literal(i64, whole))
        stop = self.builder.select(in_range, stop, literal(i64, whole), name="stop")
        # `paired` is the last place from which a full step fits before `stop`.
        length = self.builder.sub(stop, start)
        odd = self.builder.urem(length, literal(i64, width * unroll))
        paired = self.builder.sub(stop, odd)
        span = Span(0, block, width, unroll)
        with counted_loop(self.builder, start, paired, span.step, last.name) as column:
            self._columns(last, column, span)
        if unroll > 1 and whole % span.step:
            span = Span(0, block, width, 1)
            with counted_loop(self.builder, paired, stop, width, f"{last.name}.odd") as column:
                self._columns(last, column, span)

    def _columns(self, last: LoopVariable, base: ir.Value, span: Span) -> None:
        """All sweeps for `unroll` vectors of columns beginning at `base`."""
        bounds: list[Bound] = [{} for _ in range(span.unroll)]
        for number, sweep in enumerate(self.kernel.sweeps):
            self.builder.comment(f"sweep {number}")
            sums = [
                Accumulators(self.function, self.emitter, sweep.reductions)
                for _ in range(span.unroll)
            ]
            with ExitStack() as loops:
                self._enter(loops, self.kernel.inner)
                for copy in self._copies(span, last, base):
                    self._element(sweep, bounds[copy], sums[copy], copy=0)
            for bound, accumulators in zip(bounds, sums, strict=True):
                bound.update(accumulators.results())
        for copy in self._copies(span, last, base):
            self._store_row(bounds[copy])

    # --- both ---

    def _element(
        self,
        sweep: Sweep,
        bound: Bound,
        accumulators: Accumulators,
        copy: int,
    ) -> None:
        """What a sweep does at the emitter's current point: fold, then store."""
        running: Bound = dict(bound)
        visit = ScalarVisitor(self.emitter, running)
        self.emitter.visitor = visit
        for reduction in sweep.reductions:
            position = Index()
            for variable, stride in zip(self.kernel.inner, self._inner_strides(), strict=True):
                position = position + Index.of(variable) * stride
            folded = accumulators.fold(reduction, copy, visit(reduction.scalar), position)
            running[reduction.number] = folded  # a scan's running value is used right here
        for store in sweep.stores:
            self.emitter.store(store.buffer, store.index, visit(store.scalar))

    def _store_row(self, bound: Bound) -> None:
        visit = ScalarVisitor(self.emitter, bound)
        self.emitter.visitor = visit
        for store in self.kernel.row_stores:
            self.emitter.store(store.buffer, store.index, visit(store.scalar))

    def _inner_strides(self) -> tuple[int, ...]:
        return row_major_strides([variable.extent for variable in self.kernel.inner])

    def _set_outer(self, variables: Any, flat: ir.Value) -> None:
        """Loop variables from the row-major number of an outer iteration."""
        self.values = {}
        strides = row_major_strides([variable.extent for variable in variables])
        for position, (variable, stride) in enumerate(zip(variables, strides, strict=True)):
            value = self.builder.udiv(flat, literal(i64, stride)) if stride > 1 else flat
            if position:
                value = self.builder.urem(value, literal(i64, variable.extent))
            self.values[variable] = value

    def _enter(self, loops: ExitStack, variables: Any) -> None:
        """Open one scalar loop per variable."""
        for variable in variables:
            if variable.extent == 1:
                self.values[variable] = literal(i64, 0)
                continue
            start, stop = literal(i64, 0), literal(i64, variable.extent)
            counter = loops.enter_context(counted_loop(self.builder, start, stop, 1, variable.name))
            self.values[variable] = counter
