"""Which schedules are worth trying for a matrix product on a GPU, the best guess first.

In: a `MatmulKernel`, the target, and how exact float32 products must be. Out: a handful of
`GpuMatmulSchedule`s. Without autotuning the first is used; with it, all are timed.

`precision` is `matmul_precision`: with "highest" float32 operands are multiplied as they are. With
"high" and "medium" the tensor cores may round them to TF32 (10 bits of mantissa); "medium" would
allow bfloat16 too, which on these GPUs would save time only if the operands were converted first.
"""

from __future__ import annotations

from collections.abc import Iterator

from minicomp.codegen.ptx_kernel import GpuTarget
from minicomp.codegen.ptx_matmul_plan import MMA_OPERANDS, GpuMatmulPlan, GpuMatmulSchedule
from minicomp.ir import ITEMSIZE
from minicomp.kernels import MatmulKernel

__all__ = ["GpuMatmulSchedule", "schedules"]

#: More are never offered: each costs tens of milliseconds to compile and time.
MOST = 10

NAIVE = GpuMatmulSchedule("naive", block_rows=8, block_columns=32)


def schedules(
    kernel: MatmulKernel, target: GpuTarget, precision: str = "highest"
) -> list[GpuMatmulSchedule]:
    """The candidates of a call site. All fit the kernel and the target; no two are the same."""
    chosen = [schedule for schedule in _candidates(kernel, precision) if _fits(schedule, kernel, target)]
    return list(dict.fromkeys(chosen))[:MOST]


def _fits(schedule: GpuMatmulSchedule, kernel: MatmulKernel, target: GpuTarget) -> bool:
    return GpuMatmulPlan(kernel, schedule).shared_bytes <= target.shared_bytes


def _candidates(kernel: MatmulKernel, precision: str) -> Iterator[GpuMatmulSchedule]:
    dtypes = {kernel.arguments[view.buffer].dtype for view in (kernel.a, kernel.b)}
    (dtype,) = dtypes if len(dtypes) == 1 else (None,)
    may_round = dtype != "float32" or precision != "highest"
    if dtype in MMA_OPERANDS and kernel.accumulate == "float32" and may_round:
        yield from _mma(dtype)
    yield from _simt(ITEMSIZE[kernel.accumulate])
    yield NAIVE


def _mma(dtype: str) -> Iterator[GpuMatmulSchedule]:
    line = 128 // ITEMSIZE[dtype]
    for rows, columns, warp_rows, warp_columns, depth, stages in (
        (128, 256, 64, 64, line, 3),
        (128, 128, 64, 64, line, 3),
        (64, 64, 32, 32, line, 4),
    ):
        yield GpuMatmulSchedule("mma", rows, columns, depth, warp_rows, warp_columns, 4, stages)


def _simt(itemsize: int) -> Iterator[GpuMatmulSchedule]:
    if itemsize == 4:
        yield GpuMatmulSchedule("simt", 128, 128, 8, 64, 64, 4, 3)
        yield GpuMatmulSchedule("simt", 128, 128, 8, 32, 64, 4, 3)
        yield GpuMatmulSchedule("simt", 64, 64, 16, 32, 32, 4, 3)
    else:
        yield GpuMatmulSchedule("simt", 64, 64, 8, 32, 32, 4, 3)
    yield GpuMatmulSchedule("simt", 32, 32, 16, 16, 16, 4, 3)
