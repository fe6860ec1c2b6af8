"""minicomp: a tensor compiler in pure Python, small enough to read in a weekend.

Reading order, along the pipeline:

1. What users write: `nn` and `functional`; `compiler` is the pipeline, a line a stage.
2. Tracing: `tensor`, `numpy_protocol`, `record`, `tracer`.
3. The tensor IR: `ir`, `ops` (with `type_rules` and `meaning`), `interpreter`, `text`, `verifier`.
4. Passes: `passes`, the last of them `passes.materialize` and `passes.fuse`.
5. Kernels: `indexing`, `lowering`, `kernels`, `loop_order`, `program`, `memory`.
6. Code generation: `codegen.emitter`, `codegen.scalar`, `codegen.math`; `codegen.llvm_loops` for
   pointwise and reduction kernels, `codegen.llvm_matmul` for matrix products.
7. Selection: `assemble`, then `selection.choose`; `options` and `config`; `explain`.
8. Running: `specialization`, `runtime.cpu`, `runtime.jit`, `runtime.threads`.
"""

from minicomp import config, cuda, errors, externals, functional, nn, selection
from minicomp.compiler import CompiledModule, compile
from minicomp.config import list_mode_options, list_options
from minicomp.functional import *  # noqa: F403
from minicomp.interpreter import interpret
from minicomp.ir import Graph, TensorType
from minicomp.nn.initialisation import manual_seed
from minicomp.selection.externals import external
from minicomp.tensor import Tensor
from minicomp.text import parse
from minicomp.tracer import trace

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
