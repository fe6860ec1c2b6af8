"""What the PTX back end hands to the runtime: a kernel's text, and how to launch it.

In: from `ptx_loops` or `ptx_matmul`. Out: to `runtime.cuda`, which loads and launches it.

    PTXKernel(text=".version 7.0 ...", name="add", grid=(4, 1, 1), block=(256, 1, 1))
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

Dimensions = tuple[int, int, int]


@dataclass(frozen=True)
class GpuTarget:
    """The GPU that code is generated for.

    `name` is what `.target` may name at most ("sm_80" to "sm_90a"); `multiprocessors` how many
    blocks run side by side at least; `shared_bytes` the most shared memory that a block may ask
    for (CUDA C++ Programming Guide, "Compute Capabilities": 163 KiB on 8.0, 227 KiB on 9.0).
    """

    name: str = "sm_80"
    multiprocessors: int = 108
    shared_bytes: int = 163 * 1024


@dataclass(frozen=True)
class PTXKernel:
    """A PTX module with one entry, `name`, and its launch.

    The entry takes one 64-bit pointer per argument of the kernel that it was made from, in order.
    `grid` is in blocks, `block` in threads, each (x, y, z). `shared_bytes` is the dynamic shared
    memory of a block; what the text declares with a size comes on top.
    """

    text: str
    name: str
    grid: Dimensions
    block: Dimensions
    shared_bytes: int = 0

    @property
    def threads(self) -> int:
        """Threads of one block."""
        return prod(self.block)

    @property
    def blocks(self) -> int:
        return prod(self.grid)
