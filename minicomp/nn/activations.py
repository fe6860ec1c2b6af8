"""Activations as modules, for `Sequential`: each calls the function of the same name.

>>> from minicomp import nn
>>> nn.ReLU()(np.array([-1.0, 2.0]))
array([0., 2.])
"""

from __future__ import annotations

from typing import Any

from minicomp import functional as F
from minicomp.errors import AttributeValueError
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

    def __init__(self, approximate: str = "none"):
        super().__init__()
        if approximate not in ("none", "tanh"):
            raise AttributeValueError(
                f"approximate is {approximate!r}, wanted 'none' or 'tanh'", what="GELU"
            )
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
    """exp(x) / sum(exp(x)) along `dim`; the last axis without it."""

    def __init__(self, dim: int | None = None):
        super().__init__()
        self.dim = dim

    def forward(self, x: Any) -> Any:
        return F.softmax(x, -1 if self.dim is None else self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"
