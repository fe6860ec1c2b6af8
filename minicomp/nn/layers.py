"""Layers with weights, and those that only rearrange or drop: Linear, Embedding, norms, Dropout.

In: sizes, as PyTorch's layers take them. Out: modules whose parameters have PyTorch's names,
shapes and initial bounds, float32 unless `dtype` says otherwise.

>>> from minicomp import nn
>>> layer = nn.Linear(4, 8)
>>> layer(np.ones((2, 4), np.float32)).shape
(2, 8)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minicomp import functional as F
from minicomp.errors import AttributeValueError, UnsupportedError
from minicomp.functional.operands import integer, shape_of
from minicomp.nn import initialisation
from minicomp.nn.arguments import checks_arguments, probability, size
from minicomp.nn.module import Module
from minicomp.tracing.record import is_tracing, user_location


class Identity(Module):
    """Gives back its input; takes any arguments and ignores them."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__()

    def forward(self, x: Any) -> Any:
        return x


class Linear(Module):
    """x @ weight.T + bias: (..., in_features) -> (..., out_features)."""

    @checks_arguments
    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        self.in_features = size(in_features, "in_features")
        self.out_features = size(out_features, "out_features")
        bound = initialisation.kaiming_bound(self.in_features)
        shape = (self.out_features, self.in_features)
        self.weight = initialisation.uniform(shape, bound, dtype, device)
        self.register_parameter(
            "bias", initialisation.uniform(shape[:1], bound, dtype, device) if bias else None
        )

    def forward(self, x: Any) -> Any:
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


class Embedding(Module):
    """Rows of a table, picked by integers: (...) -> (..., embedding_dim).

    Negative integers count from the end, as in NumPy. The row `padding_idx` starts as zeros.
    """

    @checks_arguments
    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        self.num_embeddings = size(num_embeddings, "num_embeddings")
        self.embedding_dim = size(embedding_dim, "embedding_dim")
        self.padding_idx = None if padding_idx is None else self._row(padding_idx)
        shape = (self.num_embeddings, self.embedding_dim)
        self.weight = initialisation.normal(shape, dtype, device)
        if self.padding_idx is not None:
            self.weight[self.padding_idx] = 0

    def _row(self, padding_idx: int) -> int:
        rows, number = self.num_embeddings, integer(padding_idx, "padding_idx")
        if not -rows <= number < rows:
            raise AttributeValueError(
                f"padding_idx is {number}, wanted one of the {rows} rows, {-rows} to {rows - 1}"
            )
        return number % rows

    def forward(self, x: Any) -> Any:
        return F.embedding(x, self.weight)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


def _sizes(normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    sizes = tuple(size(extent, "normalized_shape") for extent in shape_of(normalized_shape))
    if not sizes:
        raise AttributeValueError("normalized_shape is empty, wanted the sizes of the last axes")
    return sizes


class LayerNorm(Module):
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last axes."""

    @checks_arguments
    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        self.normalized_shape, self.eps = _sizes(normalized_shape), eps
        self.elementwise_affine = elementwise_affine
        ones, zeros = np.ones(self.normalized_shape), np.zeros(self.normalized_shape)
        self.register_parameter(
            "weight", initialisation.parameter(ones, dtype, device) if elementwise_affine else None
        )
        self.register_parameter(
            "bias",
            initialisation.parameter(zeros, dtype, device) if elementwise_affine and bias else None,
        )

    def forward(self, x: Any) -> Any:
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, "
            f"elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        )


class RMSNorm(Module):
    """x / sqrt(mean(x * x) + eps) * weight over the last axes; eps None is machine epsilon."""

    @checks_arguments
    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        self.normalized_shape, self.eps = _sizes(normalized_shape), eps
        self.elementwise_affine = elementwise_affine
        ones = np.ones(self.normalized_shape)
        self.register_parameter(
            "weight", initialisation.parameter(ones, dtype, device) if elementwise_affine else None
        )

    def forward(self, x: Any) -> Any:
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        )


class Flatten(Module):
    """Joins the axes from start_dim to end_dim into one."""

    @checks_arguments
    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        super().__init__()
        self.start_dim = integer(start_dim, "start_dim")
        self.end_dim = integer(end_dim, "end_dim")

    def forward(self, x: Any) -> Any:
        return F.flatten(x, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


def dropout(x: Any, p: float, training: bool) -> Any:
    """In training, x with a share p of its elements, picked at random, set to 0 and the others
    scaled by 1/(1-p); else x itself.

    The picks come from `nn.manual_seed`'s generator, on arrays only: a compiled function is for
    inference, so tracing in training mode is an UnsupportedError.
    """
    if not training or p == 0:
        return x
    if is_tracing():
        raise UnsupportedError(
            "dropout in training mode cannot be traced: a compiled function would drop the same "
            "elements at every call; call model.eval() first",
            what="Dropout",
            location=user_location(),
        )
    kept = initialisation.generator().random(np.shape(x)) >= p
    return F.where(kept, F.multiply(x, 1 / (1 - p) if p < 1 else 0.0), 0)


class Dropout(Module):
    """Identity in evaluation mode; in training mode see `dropout`. `inplace` is taken for PyTorch's
    sake: tensors are never changed in place."""

    @checks_arguments
    def __init__(self, p: float = 0.5, inplace: bool = False):
        super().__init__()
        self.p, self.inplace = probability(p, "p"), inplace

    def forward(self, x: Any) -> Any:
        return dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"
