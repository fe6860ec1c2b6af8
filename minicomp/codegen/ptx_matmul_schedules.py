"""Which schedules are worth trying for a matrix product on a GPU, the best guess first.

In: a `MatmulKernel`, the target, and how exact float32 products must be. Out: a handful of
`GpuMatmulSchedule`s. Without autotuning the first is used; with it, all are timed.

Guesses come from a table of tiles, with the share of the arithmetic peak that each has been seen to
reach, and a model of one line: multiprocessors work side by side, each on one tile after another.

    seconds ~ tiles of the busiest multiprocessor * size of a tile / share of the peak

So a large product gets large tiles, which share what they load; a small one small tiles, of which
there are enough for all, and which several warps work on, each on its part of the depth. Where even
of small tiles there are too few, and the depth is great, blocks share it (`ptx_matmul_parts`); what
the second kernel takes is added. A product with a vector is bound by memory: a reduction kernel
does it.

`precision` is `matmul_precision`: with "highest" float32 operands are multiplied as they are. With
"high" and "medium" the tensor cores may round them to TF32 (10 bits of mantissa). "medium" would
allow bfloat16 too, which is no faster here: the operands would have to be converted first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

from minicomp.codegen.ptx_kernel import GpuTarget
from minicomp.codegen.ptx_matmul_parts import workspace_bytes
from minicomp.codegen.ptx_matmul_plan import MMA_OPERANDS, GpuMatmulPlan, GpuMatmulSchedule
from minicomp.codegen.ptx_matmul_tiles import LINE, OperandTile
from minicomp.ir import ITEMSIZE
from minicomp.kernels import MatmulKernel

#: So many tiled schedules are offered at most, and one without parts where these all have some:
#: each costs tens of milliseconds to compile and time.
MOST = 6
#: Nor are those that should take this many times as long as the best.
HOPELESS = 3.0
#: Multiplications up to which the naive kernel is among the candidates.
SMALL = 1 << 20
#: Warps share the depth where there are so many tiles of it: what is done once for an output, at
#: the beginning and in the end, takes longer then.
SHARED_TILES = 4
#: Blocks share the depth where each gets so much of it ...
LEAST_PART = 256
#: ... and where it should then take less than this share of the time: the model is a rough one.
WORTHWHILE = 0.8
#: How many blocks are tried then, in multiples of the multiprocessors.
WAVES = (0.25, 0.5, 1, 2, 4)
#: Multiplications in a cycle of an H100's multiprocessor, about what it reaches in large products:
#: by the operands of the tensor cores, else by what the sums are kept in.
MMA_RATES = {"float16": 1500, "bfloat16": 1500, "float32": 750}
SIMT_RATES = {"float32": 110, "float64": 55, "int32": 55, "int64": 14}
#: Cycles in which a second kernel begins and ends, and bytes in a cycle that all multiprocessors
#: together write to the L2 cache or read from it; both roughly.
SECOND_KERNEL, L2_BYTES = 4000, 1200
#: Registers of a thread that may hold elements on their way to shared memory.
COPY_REGISTERS = 32


@dataclass(frozen=True)
class Tile:
    """A block's tile, and a warp's; `depth` in elements, for "mma" in lines of 128 bytes;
    `share` of the peak that large products reach, measured on an H100."""

    rows: int
    columns: int
    warp_rows: int
    warp_columns: int
    depth: int
    stages: int
    share: float
    lane_rows: int = 4
    groups: int = 1


SIMT_TILES = (
    Tile(128, 128, 64, 64, 8, 3, 1.00),
    Tile(256, 128, 64, 64, 8, 3, 0.985),
    Tile(128, 256, 64, 64, 8, 3, 0.985),
    Tile(128, 128, 32, 64, 16, 3, 0.96),
    Tile(128, 64, 64, 32, 16, 3, 0.90, lane_rows=8),
    Tile(64, 128, 32, 64, 16, 3, 0.90),
    Tile(64, 64, 32, 32, 16, 3, 0.80),
    Tile(32, 64, 16, 32, 16, 3, 0.55),
    Tile(64, 32, 32, 16, 16, 3, 0.55, lane_rows=8),
    Tile(32, 32, 16, 16, 16, 3, 0.45),
    Tile(16, 64, 16, 16, 32, 3, 0.35),
    Tile(64, 16, 16, 16, 32, 3, 0.35),
    Tile(64, 64, 64, 32, 32, 3, 0.92, lane_rows=8, groups=4),
    Tile(32, 64, 32, 64, 32, 3, 0.78, groups=8),
    Tile(64, 32, 64, 32, 64, 3, 0.77, lane_rows=8, groups=8),
    Tile(16, 64, 16, 64, 64, 3, 0.72, lane_rows=2, groups=4),
    Tile(32, 32, 32, 32, 32, 3, 0.68, groups=4),
)
#: For float64 and int64: half as many numbers fit into registers.
WIDE_SIMT_TILES = (
    Tile(128, 128, 64, 32, 8, 3, 1.00, lane_rows=8),
    Tile(64, 64, 32, 32, 8, 3, 0.85),
    Tile(32, 32, 16, 16, 16, 3, 0.50),
    Tile(16, 64, 16, 16, 16, 3, 0.35),
    Tile(64, 16, 16, 16, 16, 3, 0.35),
)
MMA_TILES = (
    Tile(128, 256, 64, 64, 1, 3, 1.00),
    Tile(256, 128, 64, 64, 1, 3, 0.99),
    Tile(128, 128, 64, 64, 1, 3, 0.94),
    Tile(128, 128, 64, 32, 1, 3, 0.85),
    Tile(64, 128, 32, 64, 1, 4, 0.80),
    Tile(128, 64, 64, 32, 1, 4, 0.82),
    Tile(64, 64, 32, 32, 1, 4, 0.70),
    Tile(32, 64, 16, 32, 1, 4, 0.45),
    Tile(64, 32, 32, 16, 1, 4, 0.45),
    Tile(16, 64, 16, 16, 2, 4, 0.25),
    Tile(64, 16, 16, 16, 2, 4, 0.25),
    Tile(16, 32, 16, 16, 2, 5, 0.15),
    Tile(32, 16, 16, 16, 2, 5, 0.15),
    Tile(128, 64, 64, 64, 1, 4, 0.86, groups=2),
    Tile(64, 64, 32, 64, 2, 4, 0.75, groups=2),
    Tile(32, 64, 32, 64, 2, 4, 0.50, groups=4),
    Tile(64, 32, 64, 32, 2, 4, 0.49, groups=2),
    Tile(16, 64, 16, 64, 2, 5, 0.40, groups=4),
    Tile(16, 64, 16, 64, 4, 4, 0.30, groups=8),
    Tile(16, 32, 16, 32, 4, 5, 0.17, groups=4),
)
NAIVE = GpuMatmulSchedule("naive", block_rows=8, block_columns=32)
REDUCTION = GpuMatmulSchedule("reduction")


def schedules(
    kernel: MatmulKernel, target: GpuTarget, precision: str = "highest"
) -> list[GpuMatmulSchedule]:
    """The candidates of a call site. All fit the kernel and the target; no two are the same."""
    chosen: list[GpuMatmulSchedule] = []
    tiled = dict(_tiled(kernel, target, precision))
    if tiled:
        hopeless = min(tiled.values()) * HOPELESS
        best = sorted(tiled, key=lambda schedule: tiled[schedule])
        chosen += [schedule for schedule in best[:MOST] if tiled[schedule] <= hopeless]
        if all(schedule.depth_blocks > 1 for schedule in chosen):  # measuring may know better
            chosen.append(next(schedule for schedule in best if schedule.depth_blocks == 1))
    if 1 in (kernel.row.extent, kernel.column.extent):
        is_worse = chosen and (
            _prefers_tensor_cores(kernel, chosen[0]) or _is_too_deep(kernel, chosen[0], target)
        )
        chosen.insert(1 if is_worse else 0, REDUCTION)
    if kernel.flops <= 2 * SMALL or not chosen:
        chosen.append(NAIVE)
    return chosen


def _tiled(
    kernel: MatmulKernel, target: GpuTarget, precision: str
) -> Iterator[tuple[GpuMatmulSchedule, float]]:
    """The schedules that fit, and how long each should take, in units of no meaning. Where the
    tensor cores may be used nothing else is worth a try."""
    dtypes = {kernel.arguments[view.buffer].dtype for view in (kernel.a, kernel.b)}
    (dtype,) = dtypes if len(dtypes) == 1 else ("",)
    may_round = dtype != "float32" or precision != "highest"
    by_tensor_cores = dtype in MMA_OPERANDS and kernel.accumulate == "float32" and may_round
    wide = ITEMSIZE[kernel.accumulate] == 8
    tiles = MMA_TILES if by_tensor_cores else WIDE_SIMT_TILES if wide else SIMT_TILES
    for tile in tiles:
        family, depth = "simt", tile.depth
        if by_tensor_cores:
            family, depth = "mma", tile.depth * LINE // ITEMSIZE[dtype]
        schedule = GpuMatmulSchedule(
            family, tile.rows, tile.columns, depth, tile.warp_rows, tile.warp_columns,
            tile.lane_rows, tile.stages, copy_parts=3 if family == "mma" else 2,
            depth_groups=tile.groups,
        )  # fmt: skip
        plan = GpuMatmulPlan(kernel, schedule)
        while copy_registers(plan) > COPY_REGISTERS and plan.steps > 2:
            depth //= 2
            schedule = replace(schedule, block_depth=depth)
            plan = GpuMatmulPlan(kernel, schedule)
        if tile.groups > 1 and plan.depth_tiles < SHARED_TILES:
            continue
        if copy_registers(plan) <= COPY_REGISTERS and plan.shared_bytes <= target.shared_bytes:
            yield schedule, _duration(plan, tile, target)
            yield from _in_parts(plan, tile, target)


def _in_parts(
    plan: GpuMatmulPlan, tile: Tile, target: GpuTarget
) -> Iterator[tuple[GpuMatmulSchedule, float]]:
    """The schedule with its depth shared among as many blocks as is best, if any are any good."""
    if not 0 < plan.blocks < target.multiprocessors:
        return
    deep_enough = max(-(-LEAST_PART // plan.schedule.block_depth), SHARED_TILES)
    most = plan.depth_tiles // deep_enough
    wanted = {int(waves * target.multiprocessors) // plan.blocks for waves in WAVES}
    shared = [
        replace(plan, schedule=replace(plan.schedule, depth_blocks=parts))
        for parts in {min(each, most) for each in wanted}
        if parts > 1
    ]
    durations = {each.schedule: _duration(each, tile, target) for each in shared}
    if durations:
        best = min(durations, key=lambda schedule: (durations[schedule], schedule.depth_blocks))
        yield best, durations[best] / WORTHWHILE


def _is_too_deep(kernel: MatmulKernel, best: GpuMatmulSchedule, target: GpuTarget) -> bool:
    """Whether a reduction would leave most of the GPU idle, since it has a block, or less, for each
    result, while the best tiles share the depth. Where both operands are contiguous along the depth
    a block reads so much faster that it wins all the same: of a million products, on an H100, one
    result took 40 us and 132 blocks of tiles 85; eight results of a matrix read across took 69."""
    if (kernel.a.column_stride, kernel.b.row_stride) == (1, 1):
        return False
    results = prod(loop.extent for loop in (*kernel.batch, kernel.row, kernel.column))
    return best.depth_blocks > 1 and results < target.multiprocessors


def _prefers_tensor_cores(kernel: MatmulKernel, schedule: GpuMatmulSchedule) -> bool:
    """Whether a product with a vector is done faster by the schedule than by a reduction: down the
    columns of two-byte floats it was seen to be, on an H100, by 1.4 times."""
    plan = GpuMatmulPlan(kernel, schedule)
    matrix = plan.b if kernel.row.extent == 1 else plan.a
    return schedule.family == "mma" and matrix.itemsize == 2 and matrix.near == "lanes"


def copy_registers(plan: GpuMatmulPlan) -> int:
    """Elements that a thread holds on their way to shared memory; asynchronous copies need none."""
    operands = [tile for tile in (plan.a, plan.b) if not tile.is_asynchronous]
    return sum(tile.lanes * tile.depth for tile in operands) // plan.threads


def _duration(plan: GpuMatmulPlan, tile: Tile, target: GpuTarget) -> float:
    """In multiplications of one multiprocessor at the peak, for each element of the depth."""
    in_a_row = -(-plan.blocks // target.multiprocessors)
    whole = in_a_row * tile.rows * tile.columns / (tile.share * _copy_factor(plan))
    parts = plan.schedule.depth_blocks
    if parts == 1:
        return whole
    traffic = 2 * workspace_bytes(plan.kernel, parts) / L2_BYTES
    added_up = (SECOND_KERNEL + traffic) * _rate(plan) / plan.depth
    return whole * plan.part_tiles / plan.depth_tiles + added_up


def _rate(plan: GpuMatmulPlan) -> int:
    if plan.schedule.family == "mma":
        return MMA_RATES[plan.a.dtype]
    return SIMT_RATES[plan.kernel.accumulate]


def _copy_factor(plan: GpuMatmulPlan) -> float:
    """What is left of a SIMT kernel's speed when its copies have taken their share of the
    instructions: those that transpose move one element each."""
    if plan.schedule.family != "simt":
        return 1.0
    accesses = sum(_accesses(operand) for operand in (plan.a, plan.b)) / plan.threads
    multiplications = plan.thread_sums * plan.group_depth
    per_thousand = 1024 * accesses / multiplications
    return max(0.8, 1 - 0.007 * max(0.0, per_thousand - 8))


def _accesses(operand: OperandTile) -> int:
    return operand.lanes * operand.depth // operand.vector
