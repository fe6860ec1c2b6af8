"""Activations as modules, for `Sequential`: each calls the function of the same name.

>>> from minicomp import nn
>>> nn.ReLU()(np.array([-1.0, 2.0]))
array([0., 2.])
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minicomp import functional as F
from minicomp.errors import AttributeValueError
from minicomp.functional.operands import integer
from minicomp.nn.arguments import checks_arguments
from minicomp.nn.module import Module


class ReLU(Module):
    """max(x, 0). `inplace` is taken for PyTorch's sake: tensors are never changed in place."""

    def __init__(self, inplace: bool = False):
        super().__init__()

    def forward(self, x: Any) -> Any:
        return F.relu(x)


class SiLU(Module):
    """x * sigmoid(x). `inplace` is taken for PyTorch's sake."""

    def __init__(self, inplace: bool = False):
        super().__init__()

    def forward(self, x: Any) -> Any:
        return F.silu(x)


class GELU(Module):
    """x times the normal distribution's mass below x; `approximate` is "none" or "tanh"."""

    @checks_arguments
    def __init__(self, approximate: str = "none"):
        super().__init__()
        if approximate not in ("none", "tanh"):
            raise AttributeValueError(f"approximate is {approximate!r}, wanted 'none' or 'tanh'")
        self.approximate = approximate

    def forward(self, x: Any) -> Any:
        return F.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, x: Any) -> Any:
        return F.tanh(x)


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Any) -> Any:
        return F.sigmoid(x)


class Softmax(Module):
    """exp(x) / sum(exp(x)) along `dim`. Without it PyTorch's choice, which is not always the last
    axis: axis 0 of a tensor with up to one axis, or three, else axis 1."""

    @checks_arguments
    def __init__(self, dim: int | None = None):
        super().__init__()
        self.dim = None if dim is None else integer(dim, "dim")

    def forward(self, x: Any) -> Any:
        if self.dim is not None:
            return F.softmax(x, self.dim)
        return F.softmax(x, 0 if len(np.shape(x)) in (0, 1, 3) else 1)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"
