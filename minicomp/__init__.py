"""minicomp: a tensor compiler in pure Python, small enough to read in a weekend.

Reading order, along the pipeline:

1. What users write: `nn` and `functional`. `compiler` is the pipeline, a line a stage.
2. `tracing`: a function run once on symbolic tensors gives a graph.
3. `ir`: the graph, the op table, its meaning in NumPy, its text, its verifier.
4. `passes`: graph to graph; the last, `passes.fuse`, cuts the graph into clusters.
5. `kernels`: from clusters to loops over scalar expressions, and to a program on buffers.
6. `codegen`: LLVM IR for the CPU, PTX for GPUs. `codegen.scalar` and `codegen.math` for what
   happens to one element; `llvm_loops` and `ptx_loops` for pointwise and reduction kernels;
   `llvm_matmul` and `ptx_matmul` for products; `ptx_builder` writes the text of PTX.
7. `selection`: which candidate does each product (`assemble` puts the question), and `explain`.
8. `runtime`: what differs by device is behind `runtime.backend`. For the CPU: compiling, threads,
   native entry points, and the calls themselves; `runtime.cuda` for GPUs.
9. `simulator`: runs PTX where there is no GPU, and says what a debugger would.
"""

from minicomp import config, cuda, errors, externals, functional, nn, selection
from minicomp.compiler import CompiledModule, compile
from minicomp.config import list_mode_options, list_options
from minicomp.functional import *  # noqa: F403
from minicomp.ir import Graph, TensorType
from minicomp.ir.interpreter import interpret
from minicomp.ir.text import parse
from minicomp.nn.initialisation import manual_seed
from minicomp.selection.externals import external
from minicomp.tracing.tensor import Tensor
from minicomp.tracing.tracer import trace

__version__ = "0.1.0"

__all__ = [
    "CompiledModule",
    "Graph",
    "Tensor",
    "TensorType",
    "compile",
    "config",
    "cuda",
    "errors",
    "external",
    "externals",
    "interpret",
    "list_mode_options",
    "list_options",
    "manual_seed",
    "nn",
    "parse",
    "selection",
    "trace",
]
__all__ += functional.__all__
