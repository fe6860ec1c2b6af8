"""LoopKernels in PTX: every fused pointwise and reduction kernel on the GPU.

In: a `kernels.LoopKernel` and a `GpuLoopSchedule`. Out: a `PTXKernel`. The schedule's axis decides
what threads and their lanes are:

    inner: block = some rows                   outer: block = some columns
      team of threads = one row                  team of threads = `unroll` vectors of columns
        for each sweep:                            for each sweep:
          fold the thread's vectors                  fold the thread's slice of the inner loops
          combine lanes, threads, warps              combine threads, warps
        one thread: store what the row gives       one slice: store what the columns give

A thread's pieces of work are `Part`s: a vector, where it is, and the visitor that knows what has
been computed there. Where a row is resident its parts live from sweep to sweep, and with them the
registers that hold what was loaded and computed: no byte is read twice, and exp(x - max) is not
computed twice either. Where it is not, each sweep is a loop that makes its parts anew.

What is the same for a whole row is computed once by the row's own part, before any loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from minicomp.codegen.ptx_builder import PTXBuilder
from minicomp.codegen.ptx_emitter import PTXEmitter
from minicomp.codegen.ptx_index import IndexRegisters
from minicomp.codegen.ptx_kernel import GpuTarget, PTXKernel
from minicomp.codegen.ptx_lanes import Lanes
from minicomp.codegen.ptx_memory import GlobalBuffer, Point
from minicomp.codegen.ptx_reduce import Fold, Team, combine_threads
from minicomp.codegen.ptx_scan import Scan
from minicomp.codegen.ptx_schedule import (
    GpuLoopSchedule,
    free_registers,
    live_words,
    words_of,
)
from minicomp.codegen.ptx_types import Register
from minicomp.codegen.scalar import ScalarVisitor
from minicomp.ir import ITEMSIZE
from minicomp.kernels import Literal, Load, LoopKernel, Scalar, Sweep
from minicomp.kernels.indexing import Index, LoopVariable, ravel, unravel
from minicomp.kernels.varying import Varying
from minicomp.kernels.walk import stores, sweep_roots, walk

#: Handles of finished reductions, by number (see `ScalarVisitor`).
Bound = dict[int | str, Lanes]


def emit_loop_kernel(
    kernel: LoopKernel, schedule: GpuLoopSchedule, target: GpuTarget
) -> PTXKernel:
    """The kernel's PTX, and its launch."""
    return _LoopEmission(kernel, schedule, target).emitted()


class _PartVisitor(ScalarVisitor):
    """Evaluates scalars at one part; what is the same for the whole row is the row's to know."""

    def __init__(self, emitter: PTXEmitter, row: _PartVisitor | None, varying: Varying):
        self.bound: Bound = {}
        super().__init__(emitter, self.bound)
        self.emitter.visitor = self
        self.row, self.varying = row, varying

    def evaluate(self, scalar: Scalar) -> Lanes:
        if self.row is not None and not self.varying(scalar):
            return self.row(scalar)
        return super().evaluate(scalar)


@dataclass(frozen=True, eq=False)
class Part:
    """One vector of elements: `row` is the part of the row or columns that it belongs to."""

    emitter: PTXEmitter
    visitor: _PartVisitor
    row: int


class _LoopEmission:
    """The emission of one kernel; methods are named after what they emit."""

    def __init__(self, kernel: LoopKernel, schedule: GpuLoopSchedule, target: GpuTarget):
        self.kernel, self.schedule = kernel, schedule
        self.along_row = schedule.axis == "inner"
        self.builder = PTXBuilder(
            kernel.name,
            [argument.name for argument in kernel.arguments],
            block=(schedule.threads, 1, 1),
            comment=f"{schedule}\n{kernel}",
        )
        self.indices = IndexRegisters(self.builder)
        self.emitter = self._make_emitter()
        scans = {r.number for s in kernel.sweeps for r in s.reductions if r.op == "cumsum"}
        self.varying = Varying(kernel.inner, scans)
        self.thread = self.builder.special("tid.x")
        self.block = self.builder.special("ctaid.x")
        team_bits = schedule.team.bit_length() - 1
        all_bits = schedule.threads.bit_length() - 1
        #: Threads beside each other share a row, or have columns beside each other.
        low = 0 if self.along_row else all_bits - team_bits
        self.team = Team(schedule.threads, low, low + team_bits)
        self.position = ravel(
            [Index.of(variable) for variable in kernel.inner],
            [variable.extent for variable in kernel.inner],
        )
        self.parts: list[Part] | None = None  # of a row that is resident

    def _make_emitter(self) -> PTXEmitter:
        written = {store.buffer for store in stores(self.kernel)}
        buffers, status = [], None
        for number, argument in enumerate(self.kernel.arguments):
            pointer = self.builder.pointers[number]
            alignment = max(argument.alignment, ITEMSIZE[argument.dtype])
            buffers.append(GlobalBuffer(pointer, argument.dtype, alignment, number in written))
            if argument.name == "status":
                status = pointer
        return PTXEmitter(self.builder, self.indices, buffers, status)

    def emitted(self) -> PTXKernel:
        per_block = self._set_rows()
        for number, sweep in enumerate(self.kernel.sweeps):
            self.builder.comment(f"sweep {number}: {_summary(sweep)}")
            if self.kernel.row_size:
                self._sweep(sweep)
            else:
                self._empty_sweep(sweep)
        self._store_rows()
        return PTXKernel(
            self.builder.text(),
            self.kernel.name,
            (max(-(-self.kernel.rows // per_block), 1), 1, 1),
            (self.schedule.threads, 1, 1),
        )

    # --- which rows a thread has ---

    def _set_rows(self) -> int:
        """Set `self.rows`, a part for each of the thread's rows or vectors of columns, and
        `self.member`, the thread's number in its team. Gives the rows of a block."""
        return self._rows_by_team() if self.along_row else self._columns_by_thread()

    def _rows_by_team(self) -> int:
        """A row to each team of neighbouring threads."""
        builder, kernel, team = self.builder, self.kernel, self.schedule.team
        per_block = self.schedule.threads // team
        builder.comment(f"{team} threads to a row, {per_block} rows to a block")
        self.member, row = self.thread, self.block
        exists = None
        if per_block > 1:
            self.member = builder.and_(self.thread, team - 1)
            row = builder.mad(self.block, per_block, builder.shr(self.thread, self.team.high))
            if kernel.rows % per_block:
                # A team beyond the last row does that again, without storing anything.
                exists = builder.setp("lt", row, kernel.rows)
                row = builder.min(row, kernel.rows - 1)
        flat = self.indices.bind(LoopVariable("row", kernel.rows), row)
        self.row_exists = [exists]
        self.rows = [self._part(Point(self._unravelled(kernel.outer, flat)), None, 0)]
        return per_block

    def _columns_by_thread(self) -> int:
        """`unroll` vectors of columns to each thread; a team has the same ones."""
        builder, kernel, schedule = self.builder, self.kernel, self.schedule
        beside = schedule.threads // schedule.team
        copies = self._column_copies()
        per_block = beside * schedule.vector * copies
        builder.comment(
            f"{schedule.vector * copies} columns to a thread, {schedule.team} threads to a column"
        )
        column = self.thread
        self.member = None
        if schedule.team > 1:
            column = builder.and_(self.thread, beside - 1)
            self.member = builder.shr(self.thread, self.team.low)
        blocks = max(-(-kernel.rows // per_block), 1)
        start = self.indices.bind(LoopVariable("block", blocks), self.block) * per_block
        start = start + self.indices.bind(LoopVariable("column", beside), column) * schedule.vector
        vector = kernel.outer[-1] if kernel.outer else None
        self.rows, self.row_exists = [], []
        for copy in range(copies):
            flat = start + copy * beside * schedule.vector
            exists = None
            if flat.bounds[1] >= kernel.rows:
                exists = builder.setp("lt", self.indices.value(flat), kernel.rows)
            values = self._unravelled(kernel.outer, flat)
            point = Point(values, vector, schedule.vector, exists, exists)
            self.rows.append(self._part(point, None, copy))
            self.row_exists.append(exists)
        return per_block

    def _column_copies(self) -> int:
        """Vectors of columns per thread: without anything to fold it is these that are unrolled."""
        return self.schedule.unroll if self.kernel.row_size == 1 else 1

    def _unravelled(
        self, variables: Sequence[LoopVariable], flat: Index
    ) -> dict[LoopVariable, Index]:
        """The loop variables at the row-major number `flat` of an iteration."""
        values = unravel(flat, [variable.extent for variable in variables])
        return dict(zip(variables, values, strict=True))

    def _part(self, point: Point, row: _PartVisitor | None, number: int) -> Part:
        emitter = self.emitter.at(point)
        return Part(emitter, _PartVisitor(emitter, row, self.varying), number)

    # --- sweeps ---

    def _sweep(self, sweep: Sweep) -> None:
        scan = any(reduction.op == "cumsum" for reduction in sweep.reductions)
        if scan:
            self._scan(sweep)
            return
        folds = self._folds(sweep)
        if self.schedule.resident:
            if self.parts is None:
                self.parts = self._parts(0, self._chunks, Index())
            self._do(sweep, self.parts, folds)
        else:
            self._loop(sweep, folds)
        self._finish(sweep, folds)

    def _folds(self, sweep: Sweep) -> list[list[Fold]]:
        """For each of the thread's rows its folds."""
        size, width = self.kernel.row_size, self.schedule.vector
        return [
            [Fold(row.emitter, reduction, size, width) for reduction in sweep.reductions]
            for row in self.rows
        ]

    @property
    def _step(self) -> int:
        """Inner iterations that a team does with one vector of each thread."""
        return self.schedule.team * (self.schedule.vector if self.along_row else 1)

    @property
    def _chunks(self) -> int:
        """Steps of a team for a row."""
        return -(-self.kernel.row_size // self._step)

    def _parts(self, first: int, count: int, base: Index) -> list[Part]:
        """The parts of `count` steps from number `first` + `base` on, for each of the rows."""
        parts = []
        for number, row in enumerate(self.rows):
            for chunk in range(first, first + count):
                position = self._position(base, chunk)
                inside = None
                if position.bounds[1] >= self.kernel.row_size:
                    value = self.indices.value(position)
                    inside = self.builder.setp("lt", value, self.kernel.row_size)
                stored = self._both(inside, self.row_exists[number])
                # A row that does not exist is another one done again: loads need no guard.
                exists = inside if self.along_row else stored
                values = {
                    **row.emitter.point.values,
                    **self._unravelled(self.kernel.inner, position),
                }
                vector = row.emitter.point.vector
                if self.along_row:
                    vector = self.kernel.inner[-1] if self.kernel.inner else None
                point = Point(values, vector, self.schedule.vector, exists, stored)
                parts.append(self._part(point, row.visitor, number))
        return parts

    def _position(self, base: Index, chunk: int) -> Index:
        """The inner iteration that a thread's vector number `chunk` behind `base` begins at."""
        position = (base + chunk) * self._step
        if self.schedule.team > 1:
            assert self.member is not None
            member = self.indices.bind(LoopVariable("member", self.schedule.team), self.member)
            position = position + member * (self.schedule.vector if self.along_row else 1)
        return position

    def _do(self, sweep: Sweep, parts: Sequence[Part], folds: Sequence[Sequence[Fold]]) -> None:
        """A sweep's work at some parts, a few at a time: first what they load, so that it is in
        flight together."""
        for group in self._groups(sweep, parts):
            for part in group:
                for load in self._loads(sweep_roots(sweep)):
                    part.visitor(load)
            for part in group:
                for fold in folds[part.row]:
                    fold.fold(part.emitter, part.visitor(fold.reduction.scalar), self.position)
                self._store(sweep, part)

    def _groups(self, sweep: Sweep, parts: Sequence[Part]) -> Iterator[Sequence[Part]]:
        """Parts of which there are registers for all that they load now."""
        if not parts:
            return
        new = [load for load in self._loads(sweep_roots(sweep)) if id(load) not in parts[0].visitor.done]
        words = sum(words_of(load.dtype) for load in new) * self.schedule.vector
        free = free_registers(self.kernel, self.schedule.vector, self.schedule.threads)
        if self.schedule.resident and sweep is not self.kernel.sweeps[0]:
            free -= self._chunks * self.schedule.vector * live_words(self.kernel)
        size = max(free // max(words, 1), 1)
        for start in range(0, len(parts), size):
            yield parts[start : start + size]

    def _store(self, sweep: Sweep, part: Part) -> None:
        for store in sweep.stores:
            part.emitter.store(store.buffer, store.index, part.visitor(store.scalar))

    def _loads(self, roots: Sequence[Scalar]) -> list[Load]:
        """What differs within a row and is loaded for some scalars."""
        return [
            scalar for scalar in walk(roots)
            if isinstance(scalar, Load) and self.varying(scalar)
        ]  # fmt: skip

    def _loop(self, sweep: Sweep, folds: Sequence[Sequence[Fold]]) -> None:
        """A sweep as a loop of `unroll` steps a round, and what is left of the last round."""
        self._prepare(sweep)
        for fold in _all(folds):
            fold.begin()
        # A step that not every thread has is done after the loop.
        whole = self.kernel.row_size // self._step
        rounds = whole // self.schedule.unroll
        done = rounds * self.schedule.unroll
        with ExitStack() as loop:
            base = self._enter(loop, "round", rounds) * self.schedule.unroll
            if rounds:
                self._do(sweep, self._parts(0, self.schedule.unroll, base), folds)
                for fold in _all(folds):
                    fold.carry()
        self._do(sweep, self._parts(done, self._chunks - done, Index()), folds)

    def _enter(self, loop: ExitStack, name: str, rounds: int) -> Index:
        """Open a loop if there is more than one round. Gives its variable."""
        if rounds < 2:
            return Index()
        counter = loop.enter_context(self.builder.counted_loop(name, 0, rounds, 1))
        loop.enter_context(self.indices.scope())
        return self.indices.bind(LoopVariable(name, rounds), counter)

    def _prepare(self, sweep: Sweep) -> None:
        """Compute what a sweep needs of its row, before the loop that needs it."""
        wanted: list[Scalar] = []
        stack, seen = sweep_roots(sweep), set[int]()
        while stack:
            scalar = stack.pop()
            if id(scalar) in seen:
                continue
            seen.add(id(scalar))
            if self.varying(scalar):
                stack.extend(scalar.operands_())
            elif not isinstance(scalar, Literal):
                wanted.append(scalar)
        for row in self.rows:
            for scalar in reversed(wanted):
                row.visitor(scalar)

    def _finish(self, sweep: Sweep, folds: Sequence[Sequence[Fold]]) -> None:
        """Combine a sweep's folds and hand the results to the rows."""
        if self.along_row:
            for fold in _all(folds):
                fold.across_lanes()
        combine_threads(self.builder, self.thread, self.team, list(_all(folds)))
        for row, row_folds in zip(self.rows, folds, strict=True):
            for fold in row_folds:
                row.visitor.bound[fold.reduction.number] = fold.result()

    def _empty_sweep(self, sweep: Sweep) -> None:
        """Over nothing: each reduction is its identity."""
        for row, folds in zip(self.rows, self._folds(sweep), strict=True):
            for fold in folds:
                row.visitor.bound[fold.reduction.number] = fold.result()

    def _scan(self, sweep: Sweep) -> None:
        """A sweep with a scan: step by step, with what the steps so far have summed up."""
        (reduction,) = sweep.reductions
        self._prepare(sweep)
        scans = [
            Scan(row.emitter, reduction, self.team, self.thread, self.schedule)
            for row in self.rows
        ]
        whole = self.kernel.row_size // self._step
        rounds = whole // self.schedule.unroll
        done = rounds * self.schedule.unroll
        with ExitStack() as loop:
            base = self._enter(loop, "round", rounds) * self.schedule.unroll
            if rounds:
                self._scan_parts(sweep, self._parts(0, self.schedule.unroll, base), scans)
                for scan in scans:
                    scan.carry()
        self._scan_parts(sweep, self._parts(done, self._chunks - done, Index()), scans)

    def _scan_parts(self, sweep: Sweep, parts: Sequence[Part], scans: Sequence[Scan]) -> None:
        (reduction,) = sweep.reductions
        for part in parts:
            for load in self._loads([reduction.scalar]):
                part.visitor(load)
        for part in parts:
            value = part.visitor(reduction.scalar)
            scan = scans[part.row]
            part.visitor.bound[reduction.number] = scan.step(part.emitter, value)
            self._store(sweep, part)

    # --- the rows' results ---

    def _store_rows(self) -> None:
        """What each row gives, stored by the first thread of its team."""
        if not self.kernel.row_stores:
            return
        self.builder.comment("store")
        roots = [store.scalar for store in self.kernel.row_stores]
        for row in self.rows:
            for scalar in walk(roots):
                if isinstance(scalar, Load):
                    row.visitor(scalar)
        first = None
        if self.schedule.team > 1:
            assert self.member is not None
            first = self.builder.setp("eq", self.member, 0)
        for row, exists in zip(self.rows, self.row_exists, strict=True):
            guard = self._both(first, exists)
            emitter = row.emitter.at(replace(row.emitter.point, store_guard=guard))
            for store in self.kernel.row_stores:
                emitter.store(store.buffer, store.index, row.visitor(store.scalar))

    def _both(self, a: Register | None, b: Register | None) -> Register | None:
        return a or b if a is None or b is None else self.builder.and_(a, b)


def _all(folds: Sequence[Sequence[Fold]]) -> Iterator[Fold]:
    return (fold for row in folds for fold in row)


def _summary(sweep: Sweep) -> str:
    """What a sweep does, in a few words."""
    words = [reduction.op for reduction in sweep.reductions]
    return ", ".join([*words, *(["store"] if sweep.stores else [])])
