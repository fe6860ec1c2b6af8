"""One sweep over a row, or over several side by side, with vectors along the last inner loop.

In: a sweep, and for each row where it is and what its earlier sweeps found. Out: the loops, and
each row's results. A loop of n iterations in vectors of w lanes, u at a time, is cut in one of two
ways. Mostly it is at most three pieces (see `Span`):

    u*w at a time | w at a time | n % w at once, as a vector of just that width

LLVM splits odd vectors safely, so no load is masked and none reads past its row. A vector that lies
across two cache lines costs a store nearly twice the time of one that fills a line, and in results
that begin at any multiple of 16 bytes, or have rows of an odd length, most do. A sweep that does
nothing but store may store some elements twice; with `LoopSchedule.aligns` all but its first and
last vector begin on a line:

    w | from the first line on u*w at a time | w at a time | the last w
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from llvmlite import ir

from minicomp.codegen.llvm_function import KernelFunction, counted_loop
from minicomp.codegen.llvm_loop_body import Bound, Known, LoopBody
from minicomp.codegen.llvm_memory import stream_alignment
from minicomp.codegen.llvm_reduce import Accumulators
from minicomp.codegen.llvm_types import i64, literal
from minicomp.ir import ITEMSIZE
from minicomp.kernels import Load, LoopKernel, LoopSchedule, Store, Sweep
from minicomp.kernels.indexing import LoopVariable
from minicomp.kernels.memory import ALIGNMENT
from minicomp.kernels.walk import sweep_roots, walk

#: The loop variables' values at some place of the nest.
Values = dict[LoopVariable, ir.Value]


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
    for lanes, vectors in ((width, unroll), (width, 1)):
        stop = start + (extent - start) // (lanes * vectors) * (lanes * vectors)
        if stop > start:
            pieces.append(Span(start, stop, lanes, vectors))
            start = stop
    if start < extent:
        pieces.append(Span(start, extent, extent - start, 1))
    return pieces


def copies(builder: ir.IRBuilder, base: ir.Value, width: int, count: int) -> list[ir.Value]:
    """The first lanes of `count` vectors that follow one another from `base`."""
    return [base, *(builder.add(base, literal(i64, copy * width)) for copy in range(1, count))]


def entered(builder: ir.IRBuilder, loops: ExitStack, variables: Sequence[LoopVariable]) -> Values:
    """Open one scalar loop per variable, until `loops` are closed."""
    values: Values = {}
    for variable in variables:
        if variable.extent == 1:
            values[variable] = literal(i64, 0)
            continue
        start, stop = literal(i64, 0), literal(i64, variable.extent)
        values[variable] = loops.enter_context(counted_loop(builder, start, stop, 1, variable.name))
    return values


def has_aligned_stores(kernel: LoopKernel, sweep: Sweep, width: int) -> bool:
    """Whether a sweep along rows can be done in vectors that begin where its first store is on a
    cache line, and is not in any case: it only stores, a line at a time, and reads nothing that it
    writes."""
    if sweep.reductions or not sweep.stores or kernel.inner[-1].extent <= width:
        return False
    written = {store.buffer for store in sweep.stores}
    if any(isinstance(s, Load) and s.buffer in written for s in walk(sweep_roots(sweep))):
        return False
    store, last = sweep.stores[0], kernel.inner[-1]
    if store.buffer >= len(kernel.arguments) or store.index.coefficient(last) != 1:
        return False  # scratch begins on a line
    argument = kernel.arguments[store.buffer]
    fills_lines = width * ITEMSIZE[argument.dtype] == ALIGNMENT
    return fills_lines and stream_alignment(store.index, argument, last, width) < ALIGNMENT


@dataclass(frozen=True)
class _Work:
    """A sweep over the rows side by side: what each row has for itself, by its number."""

    sweep: Sweep
    bounds: Sequence[Bound]
    places: Sequence[Values]
    sums: Sequence[Accumulators]
    uniform: Sequence[Known]


class RowSweeps:
    """The sweeps of one kernel. `buffers` are those of each of the rows side by side."""

    def __init__(
        self,
        function: KernelFunction,
        schedule: LoopSchedule,
        body: LoopBody,
        buffers: Sequence[list[tuple[ir.Value, str]]],
    ):
        self.function, self.builder = function, function.builder
        self.schedule, self.buffers = schedule, buffers
        self.body, self.emitter, self.kernel = body, body.emitter, body.kernel

    def emit(self, sweep: Sweep, bounds: Sequence[Bound], places: Sequence[Values]) -> list[Bound]:
        """One sweep over the inner loops; results by row."""
        rows = range(len(places))
        sums = [Accumulators(self.function, self.emitter, sweep.reductions) for _ in rows]
        uniform: list[Known] = []
        for row in rows:
            self.at_row(row, places[row], None, 1)
            uniform.append(self.body.uniform(sweep, bounds[row]))
        if not self.kernel.inner:
            for row in rows:
                self.at_row(row, places[row], None, 1)
                self.body.element(sweep, bounds[row], sums[row], 0, uniform[row])
            return [accumulators.finish() for accumulators in sums]
        *nest, last = self.kernel.inner
        with ExitStack() as loops:
            inner = entered(self.builder, loops, nest)
            work = _Work(sweep, bounds, [{**place, **inner} for place in places], sums, uniform)
            if self._aligns(sweep):
                for together in self._equally_aligned(sweep.stores[0], rows):
                    self._aligned(work, together)
            else:
                for span in spans(last.extent, self.schedule.vector_width, self.schedule.unroll):
                    with self._vectors(span, last.name) as firsts:
                        self._elements(work, rows, firsts, span.width)
        return [accumulators.finish() for accumulators in sums]

    def at_row(self, row: int, values: Values, vector: LoopVariable | None, width: int) -> None:
        """Move the emitter to a place in one of the rows side by side."""
        self.emitter.buffers = self.buffers[row]
        self.emitter.at(values, vector, width)

    def _elements(
        self, work: _Work, rows: Sequence[int], firsts: Sequence[ir.Value], width: int
    ) -> None:
        """A vector of each row at each of the places `firsts`. Row by row: vectors that lie across
        lines share them with their neighbours, which a CPU puts together if they follow at once."""
        last = self.kernel.inner[-1]
        shared: list[Known] = [{} for _ in firsts]
        for row in rows:
            for copy, first in enumerate(firsts):
                self.at_row(row, {**work.places[row], last: first}, last, width)
                if self.schedule.prefetch and len(firsts) > 1:  # not for what is left over
                    self._fetch_ahead(work.sweep)
                known = {**work.uniform[row], **shared[copy]}
                shared[copy] |= self.body.element(
                    work.sweep, work.bounds[row], work.sums[row], copy, known
                )

    def _fetch_ahead(self, sweep: Sweep) -> None:
        """Ask for the lines `LoopSchedule.prefetch` bytes on, in this row or the next: of what the
        first sweep reads, and of what is written. Later sweeps find what they read in the cache,
        and what all rows share stays there."""
        last, arguments = self.kernel.inner[-1], self.kernel.arguments
        accesses: list[Load | Store] = list(sweep.stores)
        if sweep is self.kernel.sweeps[0]:
            accesses += [s for s in walk(sweep_roots(sweep)) if isinstance(s, Load)]
        for access in accesses:
            index, is_argument = access.index, access.buffer < len(arguments)
            differs = any(index.coefficient(variable) for variable in self.kernel.outer)
            if is_argument and differs and index.coefficient(last) == 1:
                ahead = self.schedule.prefetch // ITEMSIZE[arguments[access.buffer].dtype]
                self.emitter.prefetch(access.buffer, index + ahead, isinstance(access, Store))

    @contextmanager
    def _vectors(self, span: Span, name: str) -> Iterator[list[ir.Value]]:
        """The loop of one span; yields the first lane of each of the vectors done at a time."""
        start, stop = literal(i64, span.start), literal(i64, span.stop)
        if span.step == span.stop - span.start:  # one round: no loop
            yield copies(self.builder, start, span.width, span.unroll)
            return
        with counted_loop(self.builder, start, stop, span.step, name) as counter:
            yield copies(self.builder, counter, span.width, span.unroll)

    def _aligns(self, sweep: Sweep) -> bool:
        """Stores past the caches have an alignment of their own, which the first vector breaks."""
        wanted = self.schedule.aligns and not self.emitter.streamed
        return wanted and has_aligned_stores(self.kernel, sweep, self.schedule.vector_width)

    def _equally_aligned(self, store: Store, rows: Sequence[int]) -> list[Sequence[int]]:
        """The rows side by side, in groups that can be aligned at the same places."""
        last, width = self.kernel.inner[-1], self.schedule.vector_width
        if all(step % width == 0 for atom, step in store.index.terms if atom != last):
            return [rows]
        return [[row] for row in rows]

    def _aligned(self, work: _Work, rows: Sequence[int]) -> None:
        """Some of the rows, in vectors that begin on lines (see the module's docstring)."""
        builder, last = self.builder, self.kernel.inner[-1]
        width = self.schedule.vector_width
        # As many vectors at a time as in the other sweeps.
        count = self.schedule.unroll * self.schedule.rows // len(rows)
        start, end = literal(i64, 0), literal(i64, last.extent - 1)
        self._elements(work, rows, [start], width)
        self.at_row(rows[0], {**work.places[rows[0]], last: start}, None, 1)
        first = self.emitter.next_aligned(work.sweep.stores[0], width)
        # What the last vector covers, from 1 element to all of it, is not in the loops.
        between = builder.sub(end, first)
        stop = builder.sub(end, builder.urem(between, literal(i64, width)), name="stop")
        step = width * count
        paired = builder.sub(end, builder.urem(between, literal(i64, step)), name="paired")
        with counted_loop(builder, first, paired, step, last.name) as base:
            self._elements(work, rows, copies(builder, base, width, count), width)
        with counted_loop(builder, paired, stop, width, f"{last.name}.odd") as base:
            self._elements(work, rows, [base], width)
        self._elements(work, rows, [literal(i64, last.extent - width)], width)
