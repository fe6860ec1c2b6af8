"""Kernels compiled for CUDA: from a kernel and a schedule to a function that can be launched.

In: a `kernels.Kernel`, for a matmul also the schedule that selection chose. Out: a `CudaKernel`,
or two for a product in parts. PTX is made at once, machine code when it is first needed
(`Driver.load`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from minicomp.codegen.ptx_kernel import GpuTarget, PTXKernel
from minicomp.codegen.ptx_loops import emit_loop_kernel
from minicomp.codegen.ptx_matmul import emit_matmul
from minicomp.codegen.ptx_matmul_parts import partial_product, sum_of_parts, workspace_bytes
from minicomp.codegen.ptx_matmul_schedules import GpuMatmulSchedule
from minicomp.codegen.ptx_schedule import schedule_loops
from minicomp.kernels import Kernel, LoopKernel, MatmulKernel
from minicomp.runtime.cuda.driver import Driver, Function
from minicomp.runtime.cuda.machine_code import disassembled
from minicomp.runtime.steps import ConstantForms


@dataclass(frozen=True, eq=False)
class CudaKernel:
    """A kernel that can run: its PTX takes one pointer per argument, workspace included."""

    kernel: Kernel
    ptx: PTXKernel
    target: GpuTarget
    driver: Driver
    use_disk_cache: bool = True
    workspace: int = 0
    constant_forms: ConstantForms = ()

    @property
    def text(self) -> str:
        return self.ptx.text

    @cached_property
    def function(self) -> Function:
        """Assembled and loaded when first asked for."""
        locations = self.kernel.locations
        location = locations[0] if locations else None
        return self.driver.load(self.ptx, location, self.use_disk_cache)

    def prepare(self) -> None:
        """Assemble and load it."""
        _ = self.function

    def assembly(self) -> str:
        """The machine code, as text; CudaError where NVIDIA's tools are missing."""
        return disassembled(self.ptx, self.target.name)


def loop_kernel(
    kernel: LoopKernel, target: GpuTarget, driver: Driver, use_disk_cache: bool = True
) -> CudaKernel:
    """A LoopKernel with the schedule that fits it."""
    ptx = emit_loop_kernel(kernel, schedule_loops(kernel, target), target)
    return CudaKernel(kernel, ptx, target, driver, use_disk_cache)


def matmul_kernels(
    kernel: MatmulKernel,
    schedule: GpuMatmulSchedule,
    target: GpuTarget,
    driver: Driver,
    use_disk_cache: bool = True,
) -> tuple[CudaKernel, ...]:
    """A MatmulKernel with the schedule given."""
    ptx = emit_matmul(kernel, schedule, target)
    product = CudaKernel(kernel, ptx, target, driver, use_disk_cache)
    parts = schedule.depth_blocks
    if parts == 1:
        return (product,)
    added_up = loop_kernel(sum_of_parts(kernel, parts), target, driver, use_disk_cache)
    workspace = workspace_bytes(kernel, parts)
    product = replace(product, kernel=partial_product(kernel, parts), workspace=workspace)
    return product, replace(added_up, workspace=workspace)
