"""minicomp: a tensor compiler in pure Python.

Reading order, along the pipeline: `nn` and `functional` (what users write), `tensor`,
`numpy_protocol`, `record` and `tracer` (how it becomes a graph), `ir`, `ops` and `interpreter`
(what a graph is and means), ...
"""

from minicomp import functional, nn
from minicomp.functional import *  # noqa: F403
from minicomp.interpreter import interpret
from minicomp.ir import Graph, TensorType
from minicomp.nn.initialisation import manual_seed
from minicomp.tensor import Tensor
from minicomp.tracer import trace

__all__ = [
    "Graph",
    "Tensor",
    "TensorType",
    "interpret",
    "manual_seed",
    "nn",
    "trace",
]
__all__ += functional.__all__
