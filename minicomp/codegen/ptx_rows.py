"""Which rows and elements a thread has, under a schedule.

In: a LoopKernel, its `GpuLoopSchedule`, and the thread's and block's numbers. Out: `Part`s, pieces
of work of one vector each: a part for each of the thread's rows (or vectors of columns), and parts
for the vectors of a row. A part knows where it is in the loop nest and what has been computed
there, so that a value that two sweeps need is still in its registers in the second.

    inner, 4 rows of 1024, 2 teams of 128 threads of 4 lanes to a block:
        row      2*block + thread // 128
        vector   512*chunk + 4*(thread % 128), for chunk in 0, 1
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from minicomp.codegen.ptx_emitter import PTXEmitter
from minicomp.codegen.ptx_lanes import Lanes
from minicomp.codegen.ptx_memory import Point
from minicomp.codegen.ptx_schedule import GpuLoopSchedule
from minicomp.codegen.ptx_team import Team
from minicomp.codegen.ptx_types import Register
from minicomp.codegen.scalar import ScalarVisitor
from minicomp.kernels import LoopKernel, Scalar
from minicomp.kernels.indexing import Index, LoopVariable, unravel
from minicomp.kernels.varying import Varying

#: Handles of finished reductions, by number (see `ScalarVisitor`).
Bound = dict[int | str, Lanes]


class PartVisitor(ScalarVisitor):
    """Evaluates scalars at one part; what is the same for the whole row is the row's to know."""

    bound: Bound

    def __init__(self, emitter: PTXEmitter, row: PartVisitor | None, varying: Varying):
        super().__init__(emitter, {})
        emitter.visitor = self
        self.row, self.varying = row, varying

    def evaluate(self, scalar: Scalar) -> Lanes:
        if self.row is not None and not self.varying(scalar):
            return self.row(scalar)
        return super().evaluate(scalar)


@dataclass(frozen=True, eq=False)
class Part:
    """One vector of elements: `row` is the number of the row or columns that it belongs to."""

    emitter: PTXEmitter
    visitor: PartVisitor
    row: int


class Rows:
    """The rows of a thread: `parts`, one for each, and `exists`, the predicates that hold where
    there is such a row (None: always). `member` is the thread's number in its `team`;
    `per_block` counts the rows of a block."""

    def __init__(
        self,
        kernel: LoopKernel,
        schedule: GpuLoopSchedule,
        emitter: PTXEmitter,
        varying: Varying,
    ):
        self.kernel, self.schedule = kernel, schedule
        self.emitter, self.varying = emitter, varying
        self.builder, self.indices = emitter.builder, emitter.indices
        self.along_row = schedule.axis == "inner"
        self.thread = self.builder.special("tid.x")
        self.block = self.builder.special("ctaid.x")
        team_bits, all_bits = (n.bit_length() - 1 for n in (schedule.team, schedule.threads))
        # Threads beside each other share a row, or have columns beside each other.
        low = 0 if self.along_row else all_bits - team_bits
        self.team = Team(schedule.threads, low, low + team_bits)
        self.member = self.thread
        self.parts: list[Part] = []
        self.exists: list[Register | None] = []
        self.per_block = self._rows_by_team() if self.along_row else self._columns_by_thread()

    @property
    def step(self) -> int:
        """Elements of a row that a team does with one vector of each of its threads."""
        return self.schedule.team * (self.schedule.vector if self.along_row else 1)

    @property
    def chunks(self) -> int:
        """Vectors of a thread for a whole row."""
        return -(-self.kernel.row_size // self.step)

    def vectors(self, first: int, count: int, base: Index) -> list[Part]:
        """The parts of vectors number `base` + `first` and the following of each row."""
        return [
            self._vector(number, self._position(base + chunk))
            for number in range(len(self.parts))
            for chunk in range(first, first + count)
        ]

    # --- rows ---

    def _rows_by_team(self) -> int:
        """A row to each team of neighbouring threads."""
        builder, kernel, team = self.builder, self.kernel, self.schedule.team
        per_block = self.schedule.threads // team
        builder.comment(
            f"{_counted(team, 'thread')} to a row, {_counted(per_block, 'row')} to a block"
        )
        row, exists = self.block, None
        if per_block > 1:
            self.member = builder.and_(self.thread, team - 1)
            blocks = max(-(-kernel.rows // per_block), 1)
            first = self.indices.bind(LoopVariable("block", blocks), self.block) * per_block
            number = builder.shr(self.thread, self.team.high)
            place = first + self.indices.bind(LoopVariable("team", per_block), number)
            row, exists = self.indices.value(place), self.indices.less(place, kernel.rows)
            if exists is not None:
                # A team beyond the last row does that again, without storing anything.
                row = builder.min(row, kernel.rows - 1)
        flat = self.indices.bind(LoopVariable("row", kernel.rows), row)
        self._add_row(Point(_unravelled(kernel.outer, flat)), exists)
        return per_block

    def _columns_by_thread(self) -> int:
        """One vector of columns to each thread, which its team has too; or, with nothing to fold
        along them, `unroll` of them."""
        builder, kernel, schedule = self.builder, self.kernel, self.schedule
        copies = schedule.unroll if kernel.row_size == 1 else 1
        beside = schedule.threads // schedule.team
        per_block = beside * schedule.vector * copies
        columns, threads = schedule.vector * copies, schedule.team
        builder.comment(
            f"{_counted(columns, 'column')} to a thread, {_counted(threads, 'thread')} to a column"
        )
        column = self.thread
        if schedule.team > 1:
            column = builder.and_(self.thread, beside - 1)
            self.member = builder.shr(self.thread, self.team.low)
        blocks = max(-(-kernel.rows // per_block), 1)
        start = self.indices.bind(LoopVariable("block", blocks), self.block) * per_block
        start = start + self.indices.bind(LoopVariable("column", beside), column) * schedule.vector
        vector = kernel.outer[-1] if kernel.outer else None
        for copy in range(copies):
            flat = start + copy * beside * schedule.vector
            exists = self.indices.less(flat, kernel.rows)
            values = _unravelled(kernel.outer, flat)
            self._add_row(Point(values, vector, schedule.vector, exists, exists), exists)
        return per_block

    def _add_row(self, point: Point, exists: Register | None) -> None:
        emitter = self.emitter.at(point)
        visitor = PartVisitor(emitter, None, self.varying)
        self.parts.append(Part(emitter, visitor, len(self.parts)))
        self.exists.append(exists)

    # --- the vectors of a row ---

    def _position(self, chunk: Index) -> Index:
        """The element of its row that the thread's vector number `chunk` begins at."""
        position = chunk * self.step
        if self.schedule.team > 1:
            member = self.indices.bind(LoopVariable("member", self.schedule.team), self.member)
            position = position + member * (self.schedule.vector if self.along_row else 1)
        return position

    def _vector(self, number: int, position: Index) -> Part:
        """The part at `position` of row `number`."""
        row = self.parts[number]
        inside = self.indices.less(position, self.kernel.row_size)
        stored = self.builder.both(inside, self.exists[number])
        # A row that does not exist is another one done again: its loads need no guard.
        guard = inside if self.along_row else stored
        vector = self.kernel.inner[-1] if self.along_row else row.emitter.point.vector
        values = {**row.emitter.point.values, **_unravelled(self.kernel.inner, position)}
        emitter = self.emitter.at(Point(values, vector, self.schedule.vector, guard, stored))
        return Part(emitter, PartVisitor(emitter, row.visitor, self.varying), number)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _unravelled(variables: Sequence[LoopVariable], flat: Index) -> dict[LoopVariable, Index]:
    """The loop variables at the row-major number `flat` of an iteration."""
    values = unravel(flat, [variable.extent for variable in variables])
    return dict(zip(variables, values, strict=True))
