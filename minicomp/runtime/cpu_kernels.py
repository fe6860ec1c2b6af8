"""Kernels compiled for the CPU: from a kernel and a schedule to an address that can be called.

In: a `kernels.Kernel`, for a matmul also the schedule that selection chose. Out: a
`CompiledKernel`. Equal kernels are compiled once in a process and, through the object cache, once
on a machine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from minicomp.codegen.llvm_loops import emit_loop_kernel
from minicomp.codegen.llvm_loops import units as loop_units
from minicomp.codegen.llvm_matmul import emit_matmul, workspace
from minicomp.codegen.llvm_matmul import units as matmul_units
from minicomp.codegen.loop_schedule import schedule_loops
from minicomp.codegen.matmul_plan import CpuMatmulSchedule
from minicomp.kernels import (
    Apply,
    Argument,
    Load,
    LoopKernel,
    MatmulKernel,
    Product,
    Scalar,
    Schedule,
    Store,
)
from minicomp.kernels.collapse import collapse
from minicomp.kernels.indexing import Index, ravel
from minicomp.runtime.jit import Library, compile_ir
from minicomp.runtime.target import Target

#: Guesses at what a core does: multiplications and additions of a matmul in a second, and how long
#: a loop kernel's least share of work lasts (see `loop_schedule.LEAST_SHARE`).
FLOPS, SHARE_SECONDS = 60e9, 20e-6


@dataclass(frozen=True, eq=False)
class CompiledKernel:
    """A kernel that can run: `void kernel(ptr args, i64 begin, i64 end)` over `units` units.

    `args` points to one pointer per kernel argument and, where `workspace` is not 0, one to that
    many bytes, aligned to 64, that no other call uses at the time. `grain` is the least number of
    units worth a thread.
    """

    kernel: LoopKernel | MatmulKernel
    schedule: Schedule
    llvm_ir: str
    units: int
    grain: int
    workspace: int
    target: Target
    use_disk_cache: bool = True

    @cached_property
    def library(self) -> Library:
        """Compiled when first asked for."""
        return compile_ir(
            self.llvm_ir, [self.kernel.name], self.target, use_disk_cache=self.use_disk_cache
        )

    @property
    def seconds(self) -> float:
        """A guess at how long the kernel takes on one thread."""
        if isinstance(self.kernel, MatmulKernel):
            return self.kernel.flops / FLOPS
        return self.units / self.grain * SHARE_SECONDS

    @property
    def address(self) -> int:
        return self.library.address(self.kernel.name)


def loop_kernel(kernel: LoopKernel, target: Target, use_disk_cache: bool = True) -> CompiledKernel:
    """A LoopKernel with the schedule that fits it."""
    kernel, schedule = schedule_loops(kernel, target)
    text = emit_loop_kernel(kernel, schedule, target)
    count = loop_units(kernel, schedule)
    return CompiledKernel(kernel, schedule, text, count, schedule.grain, 0, target, use_disk_cache)


def matmul_kernel(
    kernel: MatmulKernel,
    schedule: CpuMatmulSchedule,
    target: Target,
    use_disk_cache: bool = True,
) -> CompiledKernel:
    """A MatmulKernel with the schedule given."""
    text = emit_matmul(kernel, schedule, target)
    count, nbytes = matmul_units(kernel, schedule), workspace(kernel, schedule)
    return CompiledKernel(kernel, schedule, text, count, 1, nbytes, target, use_disk_cache)


def bare_product(kernel: MatmulKernel, name: str = "product") -> tuple[MatmulKernel, LoopKernel]:
    """A matmul split in two: the product alone, contiguous in a buffer of its own, and its
    epilogue as a kernel that reads it. For an external matmul followed by the fused rest.

    Of the epilogue's arguments the first is the product; the others are the kernel's, in order.
    """
    loops = (*kernel.batch, kernel.row, kernel.column)
    shape = [loop.extent for loop in loops]
    place = ravel([Index.of(loop) for loop in loops], shape)
    size = 1
    for extent in shape:
        size *= extent
    dtype = _product_dtype(kernel.store.scalar) or kernel.accumulate
    product = Argument(name, dtype, size)
    bare = replace(
        kernel,
        arguments=(*kernel.arguments, replace(product, written=True)),
        store=Store(len(kernel.arguments), place, Product(dtype)),
    )
    scalar = _with_product(kernel.store.scalar, Load(dtype, 0, place, name))
    epilogue = LoopKernel(
        f"{kernel.name}_epilogue",
        (product, *kernel.arguments),
        outer=loops,
        inner=(),
        sweeps=(),
        row_stores=(Store(kernel.store.buffer + 1, kernel.store.index, scalar),),
    )
    return bare, collapse(epilogue)


def _product_dtype(scalar: Scalar) -> str | None:
    if isinstance(scalar, Product):
        return scalar.dtype
    return next(filter(None, map(_product_dtype, scalar.operands_())), None)


def _with_product(scalar: Scalar, load: Load) -> Scalar:
    """The epilogue with the product's leaf replaced, and its buffers renumbered behind it."""
    done: dict[int, Scalar] = {}

    def visit(current: Scalar) -> Scalar:
        if id(current) not in done:
            if isinstance(current, Product):
                done[id(current)] = load
            elif isinstance(current, Load):
                done[id(current)] = replace(current, buffer=current.buffer + 1)
            elif isinstance(current, Apply):
                operands = tuple(map(visit, current.operands))
                done[id(current)] = replace(current, operands=operands)
            else:
                done[id(current)] = current
        return done[id(current)]

    return visit(scalar)
