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
from minicomp.codegen.ptx_index import IndexRegisters
from minicomp.codegen.ptx_matmul_fragments import Run, WarpPlace
from minicomp.codegen.ptx_matmul_plan import GpuMatmulPlan
from minicomp.codegen.ptx_matmul_shared import SharedPlace
from minicomp.codegen.ptx_types import REGISTER, Register
from minicomp.kernels.indexing import Index


@dataclass(frozen=True)
class Side:
    """How a thread takes its numbers from one operand: vectors of `width`, `stride` lanes apart.

    `place` is the first of them in the operand's tile, which begins `stage_offset` bytes behind the
    stage; `address` is it in the stage that is read. `numbers` has the two sets of registers, each
    a list of vectors.
    """

    width: int
    stride: int
    place: SharedPlace
    stage_offset: int
    address: Register
    numbers: list[list[list[Register]]]


class SimtFragments:
    """See the module's docstring."""

    def __init__(
        self, builder: PTXBuilder, indices: IndexRegisters, plan: GpuMatmulPlan, warp: WarpPlace
    ):
        self.builder, self.indices, self.plan = builder, indices, plan
        self.kind = REGISTER[plan.kernel.accumulate]
        schedule, columns = plan.schedule, plan.lane_columns
        width_a = min(plan.vector, schedule.warp_rows // schedule.lane_rows)
        width_b = min(plan.vector, schedule.warp_columns // columns)
        self.row = warp.row + warp.lane // columns * width_a
        self.column = warp.column + warp.lane % columns * width_b
        self.depth = warp.depth
        self.a = self._side("a", self.row, width_a, schedule.lane_rows)
        self.b = self._side("b", self.column, width_b, columns)
        builder.comment("sums of products")
        self.sums = [
            [self._zero() for _ in range(len(self.b.numbers[0]) * width_b)]
            for _ in range(len(self.a.numbers[0]) * width_a)
        ]

    def _side(self, name: str, first: Index, width: int, lanes: int) -> Side:
        builder, plan = self.builder, self.plan
        tile, extent = (
            (plan.a, plan.schedule.warp_rows) if name == "a" else
            (plan.b, plan.schedule.warp_columns)
        )  # fmt: skip
        numbers = [
            [
                [builder.register(self.kind, name) for _ in range(width)]
                for _ in range(extent // (lanes * width))
            ]
            for _ in range(2)
        ]
        builder.comment(f"where in a tile of {name} this thread's first elements are")
        place = SharedPlace(builder, self.indices, tile.shared, self.depth, first)
        offset = 0 if name == "a" else plan.a.shared.nbytes
        address = builder.register("u32", f"{name}_fragment")
        return Side(width, lanes * width, place, offset, address, numbers)

    def _zero(self) -> Register:
        register = self.builder.register(self.kind, "sum")
        self.builder.assign(register, 0)
        return register

    def enter(self, stage: Register) -> None:
        for side in (self.a, self.b):
            offset, _ = side.place.offset(0, 0)
            self.builder.emit(f"add.u32 {side.address}, {stage}, {offset}")

    def load(self, step: int, turn: int) -> None:
        for side in (self.a, self.b):
            for number, registers in enumerate(side.numbers[turn]):
                _, offset = side.place.offset(step, number * side.stride)
                offset += side.stage_offset
                self.builder.load_into(registers, "shared", self.kind, side.address, offset)

    def multiply(self, turn: int) -> None:
        columns = [number for vector in self.b.numbers[turn] for number in vector]
        rows = [number for vector in self.a.numbers[turn] for number in vector]
        for i, a in enumerate(rows):
            # Back and forth, so that one operand stays from instruction to instruction.
            forth = range(len(columns))
            for j in forth if i % 2 == 0 else reversed(forth):
                self.builder.accumulate(self.sums[i][j], a, columns[j])

    def runs(self) -> Iterator[Run]:
        a, b = self.a, self.b
        for i, sums in enumerate(self.sums):
            row = i // a.width * a.stride + i % a.width
            for number in range(len(b.numbers[0])):
                yield Run(row, number * b.stride, tuple(sums[number * b.width :][: b.width]))
