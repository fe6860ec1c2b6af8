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

What it takes to write a model is imported here; the compiler, and LLVM with it, when something
first asks for it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from minicomp import config, errors, functional, nn
from minicomp.config import list_mode_options, list_options
from minicomp.functional import *  # noqa: F403
from minicomp.ir import Graph, TensorType
from minicomp.ir.interpreter import interpret
from minicomp.missing import missing
from minicomp.nn.initialisation import manual_seed
from minicomp.tracing.tensor import Tensor
from minicomp.tracing.tracer import trace

if TYPE_CHECKING:
    from minicomp import cuda, externals, selection
    from minicomp.compiler import CompiledModule, compile
    from minicomp.ir.text import parse
    from minicomp.selection.externals import external

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

#: name -> the module that has it, or is it, imported when the name is first used: together these
#: take longer than all of the above.
_LATER = {
    "CompiledModule": "minicomp.compiler",
    "compile": "minicomp.compiler",
    "cuda": "minicomp.cuda",
    "external": "minicomp.selection.externals",
    "externals": "minicomp.externals",
    "parse": "minicomp.ir.text",
    "selection": "minicomp.selection",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise missing(f"module {__name__!r}", name, __all__)
    module = importlib.import_module(_LATER[name])
    found = module if module.__name__ == f"{__name__}.{name}" else getattr(module, name)
    globals()[name] = found  # from here on without this function
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
