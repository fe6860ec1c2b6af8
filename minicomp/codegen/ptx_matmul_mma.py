"""Products by the tensor cores: `mma.sync`, a warp's 32 threads multiplying together."""

from __future__ import annotations

from collections.abc import Iterator

from minicomp.codegen.ptx_builder import PTXBuilder
from minicomp.codegen.ptx_matmul_copies import SharedPlace
from minicomp.codegen.ptx_matmul_plan import MMA_OPERANDS, GpuMatmulPlan
from minicomp.codegen.ptx_matmul_simt import Run
from minicomp.codegen.ptx_matmul_tiles import OperandTile
from minicomp.codegen.ptx_types import Register


class Operand:
    """One operand's fragments. `lane_bit`, `depth_bit`: which bit of the number of an 8x8 matrix
    among the four of an ldmatrix says that it is the second along the lanes / the depth."""

    def __init__(
        self, builder: PTXBuilder, tile: OperandTile, stage_offset: int, warp_lane: Register,
        lanes: int, lane: Register, lane_first: bool, step_depth: int, name: str,
    ):  # fmt: skip
        self.builder, self.tile, self.stage_offset = builder, tile, stage_offset
        self.step_depth = step_depth
        self.lane_first = lane_first
        self.blocks = lanes // 16 if lanes >= 16 else 1
        self.count = 4 if lanes >= 16 else 2
        self.name = name
        self.registers = [
            [[builder.register("b32", name) for _ in range(self.count)] for _ in range(self.blocks)]
            for _ in range(2)
        ]
        self.by_words = tile.shared.itemsize == 4 and tile.inner == "lanes"
        if self.by_words:
            depth, along = builder.rem(lane, 4), builder.div(lane, 4)
        else:
            row = builder.rem(lane, 8)
            matrix = builder.div(lane, 8)
            low, high = builder.rem(matrix, 2), builder.div(matrix, 2)
            if self.count == 2:
                high = builder.mul(high, 0)
            lane_half, depth_half = (low, high) if lane_first else (high, low)
            half = step_depth // 2
            if tile.inner == "depth":
                along = builder.mad(lane_half, 8, row)
                depth = builder.mul(depth_half, half)
            else:
                along = builder.mul(lane_half, 8)
                depth = builder.mad(depth_half, half, row)
        along = builder.add(along, warp_lane)
        outer, inner = (depth, along) if tile.inner == "lanes" else (along, depth)
        self.place = SharedPlace(builder, tile.shared, outer, inner)
        self.addresses: dict[Register, Register] = {}
        for step in range(tile.depth // step_depth):
            for block in range(self.blocks):
                offset, _ = self._offset(step, block)
                if offset not in self.addresses:
                    self.addresses[offset] = builder.register("u32", f"{name}_fragment")

    def _offset(self, step: int, block: int) -> tuple[Register, int]:
        depth, lane = step * self.step_depth, block * 16
        pair = (depth, lane) if self.tile.inner == "lanes" else (lane, depth)
        return self.place.offset(*pair)

    def enter(self, stage: Register) -> None:
        for offset, register in self.addresses.items():
            self.builder.emit(f"add.u32 {register}, {stage}, {offset}")

    def load(self, step: int, turn: int) -> None:
        for block, registers in enumerate(self.registers[turn]):
            offset, immediate = self._offset(step, block)
            address, immediate = self.addresses[offset], immediate + self.stage_offset
            if not self.by_words:
                self.builder.ldmatrix_into(
                    registers, address, immediate, transposed=self.tile.inner == "lanes"
                )
                continue
            for number, register in enumerate(registers):
                lane_half, depth_half = (
                    (number % 2, number // 2) if self.lane_first else (number // 2, number % 2)
                )
                here = immediate + self.tile.shared.offset(4 * depth_half, 8 * lane_half)
                self.builder.load_into([register], "shared", "b32", address, here)


class MmaFragments:
    def __init__(
        self, builder: PTXBuilder, plan: GpuMatmulPlan, warp_row: Register, warp_column: Register,
        lane: Register,
    ):  # fmt: skip
        self.builder, self.plan = builder, plan
        schedule = plan.schedule
        dtype = plan.kernel.arguments[plan.kernel.a.buffer].dtype
        self.kind, depth = MMA_OPERANDS[dtype]
        self.shape = f"m16n8k{depth}"
        warp_first_row = builder.mul(warp_row, schedule.warp_rows)
        warp_first_column = builder.mul(warp_column, schedule.warp_columns)
        self.a = Operand(
            builder, plan.a, 0, warp_first_row, schedule.warp_rows, lane, True, depth, "a"
        )
        self.b = Operand(
            builder,
            plan.b,
            plan.a.shared.nbytes,
            warp_first_column,
            schedule.warp_columns,
            lane,
            False,
            depth,
            "b",
        )
        self.first_row = builder.add(warp_first_row, builder.div(lane, 4))
        self.first_column = builder.mad(builder.rem(lane, 4), 2, warp_first_column)
        builder.comment("sums of products")
        self.sums = [
            [[self._zero() for _ in range(4)] for _ in range(schedule.warp_columns // 8)]
            for _ in range(schedule.warp_rows // 16)
        ]

    def _zero(self) -> Register:
        register = self.builder.register("f32", "sum")
        self.builder.assign(register, 0.0)
        return register

    def enter(self, stage: Register) -> None:
        self.a.enter(stage)
        self.b.enter(stage)

    def load(self, step: int, turn: int) -> None:
        self.a.load(step, turn)
        self.b.load(step, turn)

    def multiply(self, turn: int) -> None:
        if self.kind == "tf32":
            for side in (self.a, self.b):
                for registers in side.registers[turn]:
                    for register in registers:
                        self.builder.emit(f"cvt.rna.tf32.f32 {register}, {register}")
        columns = [
            registers[n : n + 2]
            for registers in self.b.registers[turn]
            for n in range(0, len(registers), 2)
        ]
        for i, a in enumerate(self.a.registers[turn]):
            order = range(len(columns)) if i % 2 == 0 else reversed(range(len(columns)))
            for j in order:
                self.builder.mma(self.shape, self.kind, a, columns[j], self.sums[i][j])

    def runs(self) -> Iterator[Run]:
        for i, row in enumerate(self.sums):
            for j, sums in enumerate(row):
                yield Run(16 * i, 8 * j, tuple(sums[:2]))
                yield Run(16 * i + 8, 8 * j, tuple(sums[2:]))
