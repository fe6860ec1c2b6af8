"""What users build models from: Module, Parameter and layers, as in PyTorch's torch.nn.

Read `module` and `parameter` first; every layer is a few lines over `minicomp.functional`.
"""

from typing import Any

from minicomp.missing import missing
from minicomp.nn.activations import GELU, ReLU, Sigmoid, SiLU, Softmax, Tanh
from minicomp.nn.attention import MultiheadAttention
from minicomp.nn.containers import ModuleDict, ModuleList, Sequential
from minicomp.nn.images import AvgPool2d, Conv2d, MaxPool2d
from minicomp.nn.initialisation import manual_seed
from minicomp.nn.layers import (
    Dropout,
    Embedding,
    Flatten,
    Identity,
    LayerNorm,
    Linear,
    RMSNorm,
)
from minicomp.nn.module import Module
from minicomp.nn.parameter import Parameter

__all__ = [
    "GELU",
    "AvgPool2d",
    "Conv2d",
    "Dropout",
    "Embedding",
    "Flatten",
    "Identity",
    "LayerNorm",
    "Linear",
    "MaxPool2d",
    "Module",
    "ModuleDict",
    "ModuleList",
    "MultiheadAttention",
    "Parameter",
    "RMSNorm",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "manual_seed",
]


def __getattr__(name: str) -> Any:
    raise missing(f"module {__name__!r}", name, __all__)
