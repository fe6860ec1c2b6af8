"""Kernels compiled for the CPU: from a kernel and a schedule to an address that can be called.

In: a `kernels.Kernel`, for a matmul also the schedule that selection chose. Out: a `CpuKernel`.
Equal kernels are compiled once in a process and, through the object cache, once on a machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from minicomp.codegen import generators
from minicomp.codegen.convolution_plan import ConvolutionPlan, ConvolutionSchedule
from minicomp.codegen.generated import Generated
from minicomp.codegen.loop_schedule import schedule_loops, units
from minicomp.codegen.matmul_plan import CpuMatmulSchedule, Plan
from minicomp.codegen.prepacking import Panels
from minicomp.kernels import ConvolutionKernel, Kernel, LoopKernel, MatmulKernel, Schedule
from minicomp.runtime.jit import Library, assembly, compile_ir
from minicomp.runtime.steps import ConstantForms
from minicomp.runtime.target import Target

#: Guesses at what a core does: multiplications and additions of a matmul in a second, and how long
#: a loop kernel's least share of work lasts (see `loop_schedule.LEAST_SHARE`).
FLOPS, SHARE_SECONDS = 60e9, 4e-6


@dataclass(frozen=True, eq=False)
class CpuKernel:
    """A kernel that can run: `void kernel(ptr args, i64 begin, i64 end)` over `units` units.

    `args` points to one pointer per kernel argument and, where `workspace` is not 0, one to that
    many bytes, aligned to 64, that no other call uses at the time. `grain` is the least number of
    units worth a thread.
    """

    kernel: Kernel
    schedule: Schedule
    module: Generated
    units: int
    grain: int
    workspace: int
    target: Target
    use_disk_cache: bool = True
    constant_forms: ConstantForms = ()

    @cached_property
    def library(self) -> Library:
        """Compiled when first asked for."""
        return compile_ir(
            self.module, [self.kernel.name], self.target, use_disk_cache=self.use_disk_cache
        )

    @property
    def text(self) -> str:
        """The LLVM IR."""
        return self.module.text

    @property
    def seconds(self) -> float:
        """A guess at how long the kernel takes on one thread."""
        if isinstance(self.kernel, MatmulKernel | ConvolutionKernel):
            return self.kernel.flops / FLOPS
        return self.units / self.grain * SHARE_SECONDS

    @property
    def address(self) -> int:
        return self.library.address(self.kernel.name)

    def prepare(self) -> None:
        """Compile and link it."""
        _ = self.library

    def assembly(self) -> str:
        """The machine code, as text."""
        return assembly(self.text, self.target)


def loop_kernel(
    kernel: LoopKernel, target: Target, threads: int = 1, use_disk_cache: bool = True
) -> CpuKernel:
    """A LoopKernel with the schedule that fits it and the number of threads."""
    kernel, schedule = schedule_loops(kernel, target, threads)
    module = Generated(generators.loop_kernel, kernel, schedule, target)
    count = units(kernel, schedule)
    return CpuKernel(kernel, schedule, module, count, schedule.grain, 0, target, use_disk_cache)


def matmul_kernel(
    kernel: MatmulKernel,
    schedule: CpuMatmulSchedule,
    target: Target,
    use_disk_cache: bool = True,
) -> CpuKernel:
    """A MatmulKernel with the schedule given."""
    plan = Plan(kernel, schedule)
    forms = ((plan.b.buffer, Panels.of(plan)),) if schedule.prepacked_b else ()
    planned = _planned(plan, generators.matmul, target, use_disk_cache)
    return replace(planned, constant_forms=forms)


def convolution_kernel(
    kernel: ConvolutionKernel,
    schedule: ConvolutionSchedule,
    target: Target,
    use_disk_cache: bool = True,
) -> CpuKernel:
    """A ConvolutionKernel with the schedule given."""
    plan = ConvolutionPlan(kernel, schedule)
    return _planned(plan, generators.convolution, target, use_disk_cache)


def _planned(
    plan: Plan | ConvolutionPlan, emit: Callable[..., str], target: Target, use_disk_cache: bool
) -> CpuKernel:
    module = Generated(emit, plan.kernel, plan.schedule, target)
    nbytes = plan.units * plan.workspace
    return CpuKernel(
        plan.kernel, plan.schedule, module, plan.units, 1, nbytes, target, use_disk_cache
    )
