"""Products by multiplying single numbers: each thread a tile of the output in its registers.

In: operands' tiles in shared memory, both laid out with their lanes side by side. Out: sums in
registers. At each k a thread takes a few numbers of a column of `a` and of a row of `b`, 16 bytes
at a time, and multiplies each with each: for 16 x 8 sums 6 loads and 128 multiplications.

A warp's 32 threads lie in a grid over its tile. A thread's numbers are not all neighbours: it has
a vector, the threads beside it the next ones, and then it has another, so that what a warp loads at
a time is contiguous.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from minicomp.codegen.ptx_builder import PTXBuilder
from minicomp.codegen.ptx_matmul_plan import GpuMatmulPlan
from minicomp.codegen.ptx_matmul_tiles import CHUNK, SharedLayout
from minicomp.codegen.ptx_types import REGISTER, Register
from minicomp.ir import ITEMSIZE


@dataclass(frozen=True)
class Run:
    """Sums of neighbouring columns that a thread holds, from (row, column) on, counted from the
    thread's first."""

    row: int
    column: int
    sums: tuple[Register, ...]


@dataclass(frozen=True)
class Side:
    """How a thread takes its numbers from one operand: `vectors` of `width`, `stride` lanes apart,
    from lane `first` of the block's tile on."""

    first: Register
    width: int
    vectors: int
    stride: int
    layout: SharedLayout
    stage_offset: int
    address: Register
    numbers: tuple[list[list[Register]], list[list[Register]]]


class SimtFragments:
    """See the module's docstring. `warp_row`, `warp_column` is the warp's place in the block, and
    `lane` the thread's in the warp."""

    def __init__(
        self,
        builder: PTXBuilder,
        plan: GpuMatmulPlan,
        warp_row: Register,
        warp_column: Register,
        lane: Register,
    ):
        self.builder, self.kind = builder, REGISTER[plan.kernel.accumulate]
        self.itemsize = ITEMSIZE[plan.kernel.accumulate]
        schedule = plan.schedule
        lane_row, lane_column = self._places(lane, schedule.lane_rows)
        self.a = self._side("a", warp_row, schedule.warp_rows, lane_row, schedule.lane_rows,
                            plan.a.shared, 0)  # fmt: skip
        self.b = self._side("b", warp_column, schedule.warp_columns, lane_column,
                            plan.lane_columns, plan.b.shared, plan.a.shared.nbytes)  # fmt: skip
        self.first_row, self.first_column = self.a.first, self.b.first
        builder.comment("sums of products")
        self.sums = [
            [self._zero() for _ in range(self.b.vectors * self.b.width)]
            for _ in range(self.a.vectors * self.a.width)
        ]

    def _places(self, lane: Register, lane_rows: int) -> tuple[Register, Register]:
        """The thread's row and column among those of its warp."""
        columns = 32 // lane_rows
        return self.builder.div(lane, columns), self.builder.rem(lane, columns)

    def _side(
        self, name: str, warp: Register, extent: int, lane: Register, lanes: int,
        layout: SharedLayout, stage_offset: int,
    ) -> Side:  # fmt: skip
        builder = self.builder
        width = min(CHUNK // self.itemsize, extent // lanes)
        first = builder.mad(lane, width, builder.mul(warp, extent), f"first_{name}_lane")
        vectors = extent // (lanes * width)
        numbers = [[[builder.register(self.kind, name) for _ in range(width)]
                    for _ in range(vectors)] for _ in range(2)]  # fmt: skip
        return Side(
            first, width, vectors, lanes * width, layout, stage_offset,
            builder.register("u32", f"{name}_fragment"), (numbers[0], numbers[1]),
        )  # fmt: skip

    def _zero(self) -> Register:
        register = self.builder.register(self.kind, "sum")
        self.builder.assign(register, 0.0 if self.kind[0] == "f" else 0)
        return register

    def enter(self, stage: Register) -> None:
        for side in (self.a, self.b):
            texts = f"{side.address}, {side.first}, {self.itemsize}, {stage}"
            self.builder.emit(f"mad.lo.u32 {texts}")

    def load(self, step: int, turn: int) -> None:
        for side in (self.a, self.b):
            for number, registers in enumerate(side.numbers[turn]):
                lane = number * side.stride
                offset = side.stage_offset + side.layout.offset(step, lane)
                self.builder.load_into(registers, "shared", self.kind, side.address, offset)

    def multiply(self, turn: int) -> None:
        columns = [number for vector in self.b.numbers[turn] for number in vector]
        rows = [number for vector in self.a.numbers[turn] for number in vector]
        for i, a in enumerate(rows):
            # Back and forth, so that one operand stays from instruction to instruction.
            order = range(len(columns)) if i % 2 == 0 else reversed(range(len(columns)))
            for j in order:
                self.builder.accumulate(self.sums[i][j], a, columns[j])

    def runs(self) -> Iterator[Run]:
        a, b = self.a, self.b
        for i, sums in enumerate(self.sums):
            row = i // a.width * a.stride + i % a.width
            for j in range(b.vectors):
                yield Run(row, j * b.stride, tuple(sums[j * b.width : (j + 1) * b.width]))
