"""LoopKernels in LLVM IR: every fused pointwise and reduction kernel on the CPU.

In: a `kernels.LoopKernel` and a `LoopSchedule`. Out: the text of a module defining
`void @name(ptr args, i64 begin, i64 end)`. The schedule's vector axis decides the loop nest:

    inner                                     outer
    for rows in [begin, end):                 for block in [begin, end):      # of columns
      for each sweep:                           for vector of columns in block:
        for vector along the last inner loop:     for each sweep:
          for each of the rows:                     for every inner iteration:
            fold, store                               fold, store
        combine the lanes

The sweeps on the left are in `llvm_row_sweeps`.

A kernel that reads along one loop and writes along another is done in tiles: `llvm_loop_tiles`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from llvmlite import ir

from minicomp.codegen.llvm_control import unravelled
from minicomp.codegen.llvm_emitter import LLVMEmitter
from minicomp.codegen.llvm_function import KernelFunction, counted_loop, kernel_function
from minicomp.codegen.llvm_loop_body import Bound, Known, LoopBody
from minicomp.codegen.llvm_loop_tiles import LoopTiles
from minicomp.codegen.llvm_memory import STREAM_ALIGNMENT, stream_alignment
from minicomp.codegen.llvm_reduce import Accumulators
from minicomp.codegen.llvm_row_sweeps import RowSweeps, Span, Values, copies, entered
from minicomp.codegen.llvm_types import MEMORY, i64, literal, void
from minicomp.codegen.loop_schedule import block_size
from minicomp.kernels import Load, LoopKernel, LoopSchedule
from minicomp.kernels.memory import ALIGNMENT
from minicomp.kernels.walk import kernel_roots, stores, walk


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
        buffers = [self._row_buffers(copy) for copy in range(schedule.rows)]
        status = self._status_pointer()
        self.emitter = LLVMEmitter(self.builder, buffers[0], status, target)
        self.emitter.streamed = self._streamed() if schedule.streams else {}
        self.body = LoopBody(kernel, self.emitter)
        self.row_sweeps = RowSweeps(self.function, schedule, self.body, buffers)

    def _row_buffers(self, copy: int) -> list[tuple[ir.Value, str]]:
        """(pointer, dtype) of the arguments, and of the scratch that one of the rows side by side
        has to itself."""
        pairs = zip(self.function.pointers, self.kernel.arguments)
        buffers = [(pointer, argument.dtype) for pointer, argument in pairs]
        for row in self.kernel.scratch:
            kind = ir.ArrayType(MEMORY[row.dtype], row.size)
            buffers.append((self.function.entry_alloca(kind, row.name, ALIGNMENT), row.dtype))
        return buffers

    def _status_pointer(self) -> ir.Value | None:
        for pointer, argument in zip(self.function.pointers, self.kernel.arguments):
            if argument.name == "status":
                return pointer
        return None

    def _streamed(self) -> dict[int, int]:
        """The buffers that are written past the caches, and the alignment of each store there: a
        line that goes both ways is sent to memory twice, so it is all of a buffer or nothing."""
        kernel = self.kernel
        vector = (kernel.inner if self._along_rows else kernel.outer)[-1:]
        read = {scalar.buffer for scalar in walk(kernel_roots(kernel)) if isinstance(scalar, Load)}
        found: dict[int, int] = {}
        for store in stores(kernel) if vector else ():
            if store.buffer < len(kernel.arguments) and store.buffer not in read:
                argument, width = kernel.arguments[store.buffer], self.schedule.vector_width
                known = stream_alignment(store.index, argument, vector[0], width)
                found[store.buffer] = min(known, found.get(store.buffer, known))
        # In tiles a line's halves are written far from each other.
        least = ALIGNMENT if self.schedule.tile else STREAM_ALIGNMENT
        return {buffer: known for buffer, known in found.items() if known >= least}

    @property
    def _along_rows(self) -> bool:
        return self.schedule.vector_axis == "inner" or not self.kernel.outer

    def text(self) -> str:
        if self.schedule.tile:
            self._tiles()
        elif self._along_rows:
            self._rows()
        else:
            self._column_blocks()
        if self.emitter.streamed:
            self.builder.comment("whoever hears that this is done sees what was stored")
            fence = ir.FunctionType(void, [])
            self.builder.call(ir.Function(self.builder.module, fence, "llvm.x86.sse.sfence"), [])
        self.builder.ret_void()
        return str(self.function.module)

    # --- lanes along the inner loop ---

    def _rows(self) -> None:
        begin, end, rows = self.function.begin, self.function.end, self.schedule.rows
        with self._shares(begin, end, rows) as starts:
            places = [unravelled(self.builder, self.kernel.outer, row) for row in starts]
            bounds: list[Bound] = [{} for _ in places]
            for number, sweep in enumerate(self.kernel.sweeps):
                self.builder.comment(f"sweep {number}")
                for bound, results in zip(bounds, self.row_sweeps.emit(sweep, bounds, places)):
                    bound.update(results)
            for copy, bound in enumerate(bounds):
                self.row_sweeps.at_row(copy, places[copy], None, 1)
                self.body.store_row(bound)

    @contextmanager
    def _shares(self, begin: ir.Value, end: ir.Value, rows: int) -> Iterator[list[ir.Value]]:
        """A loop over the rows [begin, end): yields those that are done side by side.

        Each is the next of a stretch of its own, so that memory is read and written in a few long
        streams, which is what caches fetch ahead of. Where the rows do not divide evenly the
        stretches overlap, and some rows are done twice.
        """
        if rows == 1:
            with counted_loop(self.builder, begin, end, 1, "row") as row:
                yield [row]
            return
        count = self.builder.sub(end, begin)
        padded = self.builder.add(count, literal(i64, rows - 1))
        length = self.builder.sdiv(padded, literal(i64, rows), name="stretch")
        slack = self.builder.sub(count, length)
        stop = self.builder.add(begin, length)
        with counted_loop(self.builder, begin, stop, 1, "row") as row:
            starts = [row]
            for number in range(1, rows):
                ahead = self.builder.mul(slack, literal(i64, number))
                ahead = self.builder.sdiv(ahead, literal(i64, rows - 1))
                starts.append(self.builder.add(row, ahead, name=f"row{number}"))
            yield starts

    # --- lanes along the outer loop ---

    def _column_blocks(self) -> None:
        *rest, last = self.kernel.outer
        block = block_size(self.kernel, self.schedule)
        blocks = -(-last.extent // block)
        whole = last.extent - last.extent % self.schedule.vector_width
        with counted_loop(self.builder, self.function.begin, self.function.end, 1, "unit") as unit:
            column_block, row = literal(i64, 0), unit
            if blocks > 1:
                column_block = self.builder.urem(unit, literal(i64, blocks))
                row = self.builder.udiv(unit, literal(i64, blocks))
            values = unravelled(self.builder, rest, row)
            start = self.builder.mul(column_block, literal(i64, block), name="start")
            self._block(values, start, block, whole)
            if whole < last.extent:
                is_last = self.builder.icmp_unsigned("==", column_block, literal(i64, blocks - 1))
                with self.builder.if_then(is_last):
                    self.builder.comment(f"the last {last.extent - whole} columns")
                    span = Span(whole, last.extent, last.extent - whole, 1)
                    self._columns(values, literal(i64, whole), span)

    def _block(self, values: Values, start: ir.Value, block: int, whole: int) -> None:
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
        name = self.kernel.outer[-1].name
        with counted_loop(self.builder, start, paired, span.step, name) as column:
            self._columns(values, column, span)
        if unroll > 1 and whole % span.step:
            span = Span(0, block, width, 1)
            with counted_loop(self.builder, paired, stop, width, f"{name}.odd") as column:
                self._columns(values, column, span)

    def _columns(self, values: Values, base: ir.Value, span: Span) -> None:
        """All sweeps for `unroll` vectors of columns beginning at `base`."""
        last, emitter = self.kernel.outer[-1], self.emitter
        places = [
            {**values, last: first} for first in copies(self.builder, base, span.width, span.unroll)
        ]
        bounds: list[Bound] = [{} for _ in places]
        for number, sweep in enumerate(self.kernel.sweeps):
            self.builder.comment(f"sweep {number}")
            sums = [Accumulators(self.function, emitter, sweep.reductions) for _ in places]
            uniform: list[Known] = []
            for copy, place in enumerate(places):
                emitter.at(place, last, span.width)
                uniform.append(self.body.uniform(sweep, bounds[copy]))
            with ExitStack() as loops:
                inner = entered(self.builder, loops, self.kernel.inner)
                for copy, place in enumerate(places):
                    emitter.at({**place, **inner}, last, span.width)
                    self.body.element(sweep, bounds[copy], sums[copy], 0, uniform[copy])
            for bound, accumulators in zip(bounds, sums, strict=True):
                bound.update(accumulators.results())
        for place, bound in zip(places, bounds, strict=True):
            emitter.at(place, last, span.width)
            self.body.store_row(bound)

    def _tiles(self) -> None:
        tiles = LoopTiles(self.kernel, self.schedule, self.function, self.body)
        with counted_loop(self.builder, self.function.begin, self.function.end, 1, "unit") as unit:
            tiles.unit(unit)
