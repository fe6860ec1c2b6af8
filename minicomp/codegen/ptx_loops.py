"""LoopKernels in PTX: every fused pointwise and reduction kernel on the GPU.

In: a `kernels.LoopKernel` and a `GpuLoopSchedule`. Out: a `PTXKernel`. The schedule's axis decides
what threads and their lanes are:

    inner: block = some rows                   outer: block = some columns
      team of threads = one row                  team of threads = a vector of columns
        for each sweep:                            for each sweep:
          fold the thread's vectors                  fold the thread's slice of the inner loops
          combine lanes, threads, warps              combine threads, warps
        one thread: store what the row gives       one slice: store what the columns give

A thread's pieces of work are the parts of `ptx_rows`. Where a row is resident its parts live from
sweep to sweep, and with them the registers that hold what was loaded and computed: no byte is read
twice, and exp(x - max) is not computed twice either. Where it is not, each sweep is a loop that
makes its parts anew. What is the same for a whole row is computed once, before any loop.

A pointwise kernel that reads along one loop and writes along another is `ptx_loop_tiles`' to emit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace

from minicomp.codegen.ptx_builder import PTXBuilder
from minicomp.codegen.ptx_emitter import PTXEmitter
from minicomp.codegen.ptx_index import IndexRegisters
from minicomp.codegen.ptx_kernel import GpuTarget, PTXKernel
from minicomp.codegen.ptx_loop_tiles import LoopTiles
from minicomp.codegen.ptx_memory import GlobalBuffer
from minicomp.codegen.ptx_reduce import Fold, combine_threads
from minicomp.codegen.ptx_rows import Part, Rows
from minicomp.codegen.ptx_scan import Scan
from minicomp.codegen.ptx_schedule import (
    GpuLoopSchedule,
    blocks_per_multiprocessor,
    free_registers,
    live_words,
    words_of,
)
from minicomp.codegen.ptx_types import Register
from minicomp.ir import ITEMSIZE
from minicomp.kernels import Literal, Load, LoopKernel, Scalar, Sweep
from minicomp.kernels.indexing import Index, LoopVariable, ravel
from minicomp.kernels.varying import Varying
from minicomp.kernels.walk import stores, sweep_roots, walk

#: For each of a thread's rows its folds.
Folds = list[list[Fold]]


def emit_loop_kernel(kernel: LoopKernel, schedule: GpuLoopSchedule, target: GpuTarget) -> PTXKernel:
    """The kernel's PTX, and its launch. Nothing in it depends on the GPU but the schedule."""
    builder = PTXBuilder(
        kernel.name,
        [argument.name for argument in kernel.arguments],
        block=(schedule.threads, 1, 1),
        blocks_per_multiprocessor=blocks_per_multiprocessor(kernel, schedule.threads),
        comment=f"{schedule}\n{kernel}",
    )
    emission = LoopTiles if schedule.tile else _LoopEmission
    blocks = emission(kernel, schedule, _emitter(builder, kernel)).emit()
    return PTXKernel(builder.text(), kernel.name, (blocks, 1, 1), builder.block)


def _emitter(builder: PTXBuilder, kernel: LoopKernel) -> PTXEmitter:
    """An emitter that knows the kernel's buffers."""
    written = {store.buffer for store in stores(kernel)}
    buffers: list[GlobalBuffer] = []
    status: Register | None = None
    for number, argument in enumerate(kernel.arguments):
        pointer = builder.pointers[number]
        alignment = max(argument.alignment, ITEMSIZE[argument.dtype])
        buffers.append(GlobalBuffer(pointer, argument.dtype, alignment, number in written))
        if argument.name == "status":
            status = pointer
    return PTXEmitter(builder, IndexRegisters(builder), buffers, status)


class _LoopEmission:
    """The emission of one kernel; methods are named after what they emit."""

    def __init__(self, kernel: LoopKernel, schedule: GpuLoopSchedule, emitter: PTXEmitter):
        self.kernel, self.schedule = kernel, schedule
        self.builder, self.indices = emitter.builder, emitter.indices
        scans = {r.number for s in kernel.sweeps for r in s.reductions if r.op == "cumsum"}
        self.varying = Varying(kernel.inner, scans)
        self.rows = Rows(kernel, schedule, emitter, self.varying)
        #: The row-major number of an inner iteration.
        self.position = ravel(
            [Index.of(variable) for variable in kernel.inner],
            [variable.extent for variable in kernel.inner],
        )
        self.resident: list[Part] | None = None  # the vectors of a row that is kept

    def emit(self) -> int:
        """The kernel's instructions. Gives the number of blocks."""
        for number, sweep in enumerate(self.kernel.sweeps):
            self.builder.comment(f"sweep {number}: {_summary(sweep)}")
            if not self.kernel.row_size:
                self._set_results(self._folds(sweep))  # over nothing: the identity
            elif any(reduction.op == "cumsum" for reduction in sweep.reductions):
                self._scan(sweep)
            else:
                self._fold(sweep)
        self._store_rows()
        return max(-(-self.kernel.rows // self.rows.per_block), 1)

    # --- sweeps that fold ---

    def _fold(self, sweep: Sweep) -> None:
        folds = self._folds(sweep)
        if self.schedule.resident:
            if self.resident is None:
                self.resident = self.rows.vectors(0, self.rows.chunks, Index())
            self._do(sweep, self.resident, folds)
        else:
            for fold in _all(folds):
                fold.begin()
            self._prepare(sweep)
            self._loop(lambda parts: self._do(sweep, parts, folds), list(_all(folds)))
        if self.rows.along_row:
            for fold in _all(folds):
                fold.across_lanes()
        combine_threads(self.builder, self.rows.thread, self.rows.team, list(_all(folds)))
        self._set_results(folds)

    def _folds(self, sweep: Sweep) -> Folds:
        size, width = self.kernel.row_size, self.schedule.vector
        return [
            [Fold(row.emitter, reduction, size, width) for reduction in sweep.reductions]
            for row in self.rows.parts
        ]

    def _set_results(self, folds: Folds) -> None:
        """Hand the finished reductions to the rows."""
        for row, row_folds in zip(self.rows.parts, folds, strict=True):
            for fold in row_folds:
                row.visitor.bound[fold.reduction.number] = fold.result()

    def _do(self, sweep: Sweep, parts: Sequence[Part], folds: Folds) -> None:
        """A sweep's work at some parts, a few at a time: first what they load, so that it is in
        flight together."""
        for group in self._groups(sweep, parts):
            self._load(sweep_roots(sweep), group)
            for part in group:
                for fold in folds[part.row]:
                    fold.fold(part.emitter, part.visitor(fold.reduction.scalar), self.position)
                self._store(sweep, part)

    def _groups(self, sweep: Sweep, parts: Sequence[Part]) -> Iterator[Sequence[Part]]:
        """Parts of which there are registers for all that they load now."""
        if not parts:
            return
        known = parts[0].visitor.done
        loads = [load for load in self._loads(sweep_roots(sweep)) if id(load) not in known]
        words = sum(words_of(load.dtype) for load in loads) * self.schedule.vector
        free = free_registers(self.kernel, self.schedule.vector, self.schedule.threads)
        if self.schedule.resident and sweep is not self.kernel.sweeps[0]:
            free -= self.rows.chunks * self.schedule.vector * live_words(self.kernel)
        size = max(free // max(words, 1), 1)
        for start in range(0, len(parts), size):
            yield parts[start : start + size]

    def _load(self, roots: Sequence[Scalar], parts: Sequence[Part]) -> None:
        for part in parts:
            for load in self._loads(roots):
                part.visitor(load)

    def _loads(self, roots: Sequence[Scalar]) -> list[Load]:
        """What differs within a row and is loaded for some scalars."""
        return [
            scalar for scalar in walk(roots)
            if isinstance(scalar, Load) and self.varying(scalar)
        ]  # fmt: skip

    def _store(self, sweep: Sweep, part: Part) -> None:
        for store in sweep.stores:
            part.emitter.store(store.buffer, store.index, part.visitor(store.scalar))

    # --- loops ---

    def _loop(
        self, body: Callable[[list[Part]], None], carried: Sequence[Fold] | Sequence[Scan]
    ) -> None:
        """A loop over a row, `unroll` vectors a round, and what is left of the last round after
        it. `carried` go from round to round."""
        unroll = self.schedule.unroll
        # A vector that not every thread has comes after the loop.
        whole = self.kernel.row_size // self.rows.step
        rounds = whole // unroll
        with ExitStack() as loop:
            base = self._enter(loop, rounds) * unroll
            if rounds:
                body(self.rows.vectors(0, unroll, base))
                for fold in carried:
                    fold.carry()
        done = rounds * unroll
        body(self.rows.vectors(done, self.rows.chunks - done, Index()))

    def _enter(self, loop: ExitStack, rounds: int) -> Index:
        """Open a loop if there is more than one round. Gives its variable."""
        if rounds < 2:
            return Index()
        counter = loop.enter_context(self.builder.counted_loop("round", 0, rounds, 1))
        loop.enter_context(self.indices.scope())
        return self.indices.bind(LoopVariable("round", rounds), counter)

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
        for row in self.rows.parts:
            for scalar in reversed(wanted):
                row.visitor(scalar)

    # --- sweeps that scan ---

    def _scan(self, sweep: Sweep) -> None:
        """Vector by vector, with what the vectors so far have summed up."""
        (reduction,) = sweep.reductions
        self._prepare(sweep)
        scans = [
            Scan(row.emitter, reduction, self.rows.team, self.rows.thread, self.schedule)
            for row in self.rows.parts
        ]

        def body(parts: list[Part]) -> None:
            self._load([reduction.scalar], parts)
            for part in parts:
                running = scans[part.row].step(part.emitter, part.visitor(reduction.scalar))
                part.visitor.bound[reduction.number] = running
                self._store(sweep, part)

        self._loop(body, scans)

    # --- the rows' results ---

    def _store_rows(self) -> None:
        """What each row gives, stored by the first thread of its team."""
        row_stores = self.kernel.row_stores
        if not row_stores:
            return
        self.builder.comment("store")
        for row in self.rows.parts:
            for scalar in walk([store.scalar for store in row_stores]):
                if isinstance(scalar, Load):
                    row.visitor(scalar)
        first = None
        if self.schedule.team > 1:
            first = self.builder.setp("eq", self.rows.member, 0)
        for row, exists in zip(self.rows.parts, self.rows.exists, strict=True):
            guard = self.builder.both(first, exists)
            emitter = row.emitter.at(replace(row.emitter.point, store_guard=guard))
            for store in row_stores:
                emitter.store(store.buffer, store.index, row.visitor(store.scalar))


def _all(folds: Folds) -> Iterator[Fold]:
    return (fold for row in folds for fold in row)


def _summary(sweep: Sweep) -> str:
    """What a sweep does, in a few words."""
    words = [reduction.op for reduction in sweep.reductions]
    return ", ".join([*words, *(["store"] if sweep.stores else [])])
