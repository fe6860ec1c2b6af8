"""Kernels: what fusion hands to code generation. Read `indexing` (where an element lies), `kernel`
(the two kinds of kernels, and schedules), `lowering` (from tensor IR to kernels), `collapse`,
`program` (kernels in order, and their buffers), `memory`.

What `kernel` defines is imported from here: `from minicomp.kernels import LoopKernel, Load`.
"""

from minicomp.kernels.kernel import (
    Apply,
    Argument,
    Kernel,
    Literal,
    Load,
    LoopKernel,
    LoopSchedule,
    MatmulKernel,
    MatmulSchedule,
    Position,
    Product,
    Reduced,
    Reduction,
    Scalar,
    Schedule,
    Store,
    Sweep,
    View,
)

__all__ = [
    "Apply",
    "Argument",
    "Kernel",
    "Literal",
    "Load",
    "LoopKernel",
    "LoopSchedule",
    "MatmulKernel",
    "MatmulSchedule",
    "Position",
    "Product",
    "Reduced",
    "Reduction",
    "Scalar",
    "Schedule",
    "Store",
    "Sweep",
    "View",
]
