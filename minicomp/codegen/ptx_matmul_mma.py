"""Products by the tensor cores: `mma.sync`, a warp's 32 threads multiplying together.

In: operands' tiles in shared memory, each laid out as it lies in global memory. Out: sums in
registers. One instruction multiplies 16 rows of `a` with 8 columns of `b`, over 32 bytes of each
along the depth (16 two-byte floats, 8 TF32), and holds the operands spread over the warp:

    thread 4*g + t of the warp holds    of a, 16 x 8 for TF32: (g, t) (g+8, t) (g, t+4) (g+8, t+4)
                                        of b, 8 x 8:           (t, g) (t+4, g)
                                        of the sums, 16 x 8:   (g, 2t) (g, 2t+1), and 8 rows down

(PTX ISA, "Matrix fragments for mma.m16n8k8"; two-byte floats go in pairs where TF32 go alone.)
`ldmatrix` loads four 8 x 16-byte matrices just so. Transposing on the way, as it can for two-byte
elements, it serves operands that are contiguous along their lanes; TF32 ones are loaded element by
element.
"""

from __future__ import annotations

from collections.abc import Iterator

from minicomp.codegen.ptx_builder import PTXBuilder
from minicomp.codegen.ptx_index import IndexRegisters
from minicomp.codegen.ptx_matmul_fragments import Run, WarpPlace
from minicomp.codegen.ptx_matmul_plan import MMA_OPERANDS, GpuMatmulPlan
from minicomp.codegen.ptx_matmul_shared import SharedPlace
from minicomp.codegen.ptx_matmul_tiles import OperandTile
from minicomp.codegen.ptx_types import Register
from minicomp.kernels.indexing import Index

#: Lanes (rows of a, columns of b) of a group of four 8 x 16-byte matrices.
GROUP = 16


class OperandFragments:
    """One operand's part of what a warp multiplies: groups of `GROUP` lanes, four registers each.

    The four matrices of a group are the lower and upper halves along the lanes and along the depth.
    `lanes_first`: their order is that of `a`, whose registers 0 and 1 differ in the lanes; those
    of `b` differ in the depth, so that its registers 0 and 1 are one instruction's.
    """

    def __init__(
        self,
        builder: PTXBuilder,
        indices: IndexRegisters,
        tile: OperandTile,
        stage_offset: int,
        first: Index,
        first_depth: Index,
        lane: Index,
        extent: int,
        steps: int,
        lanes_first: bool,
    ):
        self.builder, self.tile, self.stage_offset = builder, tile, stage_offset
        self.step_depth, self.lanes_first = MMA_OPERANDS[tile.dtype][1], lanes_first
        self.registers = [
            [[builder.register("b32", tile.name) for _ in range(4)] for _ in range(extent // GROUP)]
            for _ in range(2)
        ]
        #: ldmatrix transposes two-byte elements only
        self.by_elements = tile.inner == "lanes" and tile.itemsize == 4
        builder.comment(f"where in a tile of {tile.name} this thread's fragments are")
        along, depth = self._place(lane)
        depth = first_depth + depth
        by_lanes = tile.inner == "lanes"
        outer, inner = (depth, first + along) if by_lanes else (first + along, depth)
        self.place = SharedPlace(builder, indices, tile.shared, outer, inner)
        #: by the offset in a tile: the address in the stage that is read
        self.addresses: dict[Register, Register] = {}
        for step in range(steps):
            for group in range(extent // GROUP):
                offset, _ = self._offset(step, group)
                if offset not in self.addresses:
                    self.addresses[offset] = builder.register("u32", f"{tile.name}_fragment")

    def _place(self, lane: Index) -> tuple[Index, Index]:
        """Where in a group, along lanes and depth, this thread's address points: to its own
        element, or to row `lane` % 8 of matrix `lane` // 8, which ldmatrix wants to know."""
        if self.by_elements:
            return lane // 4, lane % 4
        row, number = lane % 8, lane // 8
        low, high = number % 2, number // 2
        lane_half, depth_half = (low, high) if self.lanes_first else (high, low)
        if self.tile.inner == "depth":
            return lane_half * 8 + row, depth_half * (self.step_depth // 2)
        return lane_half * 8, depth_half * (self.step_depth // 2) + row

    def _offset(self, step: int, group: int) -> tuple[Register, int]:
        lane, depth = group * GROUP, step * self.step_depth
        if self.tile.inner == "lanes":
            return self.place.offset(depth, lane)
        return self.place.offset(lane, depth)

    def enter(self, stage: Register) -> None:
        for offset, address in self.addresses.items():
            self.builder.emit(f"add.u32 {address}, {stage}, {offset}")

    def load(self, step: int, turn: int) -> None:
        for group, registers in enumerate(self.registers[turn]):
            offset, immediate = self._offset(step, group)
            address, immediate = self.addresses[offset], immediate + self.stage_offset
            if self.by_elements:
                self._load_elements(registers, address, immediate)
            else:
                transposed = self.tile.inner == "lanes"
                self.builder.ldmatrix_into(registers, address, immediate, transposed=transposed)

    def _load_elements(self, registers: list[Register], address: Register, offset: int) -> None:
        for number, register in enumerate(registers):
            low, high = number % 2, number // 2
            lane_half, depth_half = (low, high) if self.lanes_first else (high, low)
            step = self.tile.shared.offset(depth_half * self.step_depth // 2, lane_half * 8)
            self.builder.load_into([register], "shared", "b32", address, offset + step)


class MmaFragments:
    """See the module's docstring."""

    def __init__(
        self, builder: PTXBuilder, indices: IndexRegisters, plan: GpuMatmulPlan, warp: WarpPlace
    ):
        self.builder, schedule = builder, plan.schedule
        self.kind, depth = MMA_OPERANDS[plan.a.dtype]
        self.shape = f"m16n8k{depth}"
        self.a = OperandFragments(
            builder, indices, plan.a, 0, warp.row, warp.depth, warp.lane, schedule.warp_rows,
            plan.steps, lanes_first=True,
        )  # fmt: skip
        self.b = OperandFragments(
            builder, indices, plan.b, plan.a.shared.nbytes, warp.column, warp.depth, warp.lane,
            schedule.warp_columns, plan.steps, lanes_first=False,
        )  # fmt: skip
        self.row, self.column = warp.row + warp.lane // 4, warp.column + warp.lane % 4 * 2
        builder.comment("sums of products")
        self.sums = [
            [[self._zero() for _ in range(4)] for _ in range(schedule.warp_columns // 8)]
            for _ in range(schedule.warp_rows // 16)
        ]

    def _zero(self) -> Register:
        register = self.builder.register("f32", "sum")
        self.builder.assign(register, 0)
        return register

    def enter(self, stage: Register) -> None:
        self.a.enter(stage)
        self.b.enter(stage)

    def load(self, step: int, turn: int) -> None:
        self.a.load(step, turn)
        self.b.load(step, turn)

    def multiply(self, turn: int) -> None:
        if self.kind == "tf32":
            self._round(turn)
        columns = [half for group in self.b.registers[turn] for half in (group[:2], group[2:])]
        for i, a in enumerate(self.a.registers[turn]):
            # Back and forth, so that one operand stays from instruction to instruction.
            forth = range(len(columns))
            for j in forth if i % 2 == 0 else reversed(forth):
                self.builder.mma(self.shape, self.kind, a, columns[j], self.sums[i][j])

    def _round(self, turn: int) -> None:
        """Float32 to the nearest TF32: the tensor cores would cut off the bits that they ignore,
        an error twice as large and always towards zero."""
        for side in (self.a, self.b):
            for group in side.registers[turn]:
                for register in group:
                    self.builder.emit(f"cvt.rna.tf32.f32 {register}, {register}")

    def runs(self) -> Iterator[Run]:
        for i, row in enumerate(self.sums):
            for j, sums in enumerate(row):
                yield Run(16 * i, 8 * j, tuple(sums[:2]))
                yield Run(16 * i + 8, 8 * j, tuple(sums[2:]))
