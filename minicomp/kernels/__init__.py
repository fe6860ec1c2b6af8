"""Kernels: what fusion hands to code generation. Read `indexing` (where an element lies), `kernel`
(kinds of kernels, and schedules), `convolution` (one more kind), `lowering` (from tensor IR to
kernels), `collapse`, `program` (kernels in order, and their buffers), `memory`.

What `kernel` defines is imported from here: `from minicomp.kernels import LoopKernel, Load`.
"""

from minicomp.kernels.convolution import ConvolutionKernel
from minicomp.kernels.kernel import (
    Apply,
    Argument,
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

#: A product of matrices: what selection chooses candidates for.
ProductKernel = MatmulKernel | ConvolutionKernel
Kernel = LoopKernel | ProductKernel

__all__ = [
    "Apply",
    "Argument",
    "ConvolutionKernel",
    "Kernel",
    "Literal",
    "Load",
    "LoopKernel",
    "LoopSchedule",
    "MatmulKernel",
    "MatmulSchedule",
    "Position",
    "Product",
    "ProductKernel",
    "Reduced",
    "Reduction",
    "Scalar",
    "Schedule",
    "Store",
    "Sweep",
    "View",
]
