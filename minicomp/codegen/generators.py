"""The generators of LLVM IR, one door each: what is behind it is imported when somebody enters.

In and out: what the generator of that name takes and gives; each module of `codegen` says more.

Where everything a program needs is found compiled on disk nothing is generated, and nobody enters:
the generators, which are half of what the compiler would import, stay outside the process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minicomp.codegen.convolution_plan import ConvolutionSchedule
    from minicomp.codegen.matmul_plan import CpuMatmulSchedule
    from minicomp.codegen.native_plan import EntryPlan, Step
    from minicomp.kernels import ConvolutionKernel, LoopKernel, LoopSchedule, MatmulKernel


def loop_kernel(kernel: LoopKernel, schedule: LoopSchedule, target: Any) -> str:
    from minicomp.codegen.llvm_loops import emit_loop_kernel

    return emit_loop_kernel(kernel, schedule, target)


def matmul(kernel: MatmulKernel, schedule: CpuMatmulSchedule, target: Any) -> str:
    from minicomp.codegen.llvm_matmul import emit_matmul

    return emit_matmul(kernel, schedule, target)


def convolution(kernel: ConvolutionKernel, schedule: ConvolutionSchedule, target: Any) -> str:
    from minicomp.codegen.llvm_convolution import emit_convolution

    return emit_convolution(kernel, schedule, target)


def program(steps: Sequence[Step]) -> str:
    from minicomp.codegen.llvm_program import emit_program

    return emit_program(steps)


def entry(plan: EntryPlan) -> str:
    from minicomp.codegen.llvm_entry import emit_entry

    return emit_entry(plan)


def dispatch() -> str:
    from minicomp.codegen.llvm_dispatch import emit_dispatch

    return emit_dispatch()


def thread_pool(architecture: str, monotonic_clock: int, places_workers: bool) -> str:
    from minicomp.codegen.llvm_threads import emit_thread_pool

    return emit_thread_pool(architecture, monotonic_clock, places_workers)
