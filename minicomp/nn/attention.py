"""Multi-head attention, with PyTorch's arguments and names of parameters.

In: query (batch, length, embed_dim) or as `batch_first` says, key and value likewise. Out: what
each query gathered, and the weights by which it did.

>>> from minicomp import nn
>>> attend = nn.MultiheadAttention(16, 4, batch_first=True)
>>> x = np.zeros((2, 5, 16), np.float32)
>>> out, weights = attend(x, x, x)
>>> out.shape, weights.shape
((2, 5, 16), (2, 5, 5))
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minicomp import functional as F
from minicomp.errors import AttributeValueError, ShapeError, UnsupportedError
from minicomp.functional.operands import dtype_of, tensor
from minicomp.functional.products import attention_scores
from minicomp.nn import initialisation
from minicomp.nn.arguments import checks_arguments, probability, size
from minicomp.nn.layers import Linear, dropout
from minicomp.nn.module import Module
from minicomp.tracing.record import user_location


class MultiheadAttention(Module):
    """Attention by `num_heads` heads of embed_dim / num_heads features each (Vaswani et al., 2017).

    One matrix, `in_proj_weight`, projects to queries, keys and values; `out_proj` mixes the heads.
    """

    @checks_arguments
    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        if size(embed_dim, "embed_dim", 1) % size(num_heads, "num_heads", 1):
            raise AttributeValueError(
                f"embed_dim {embed_dim} does not divide into {num_heads} heads"
            )
        if add_bias_kv or add_zero_attn or {kdim, vdim} - {None, embed_dim}:
            raise UnsupportedError(
                "add_bias_kv, add_zero_attn, and kdim or vdim other than embed_dim are not "
                "supported"
            )
        self.embed_dim, self.num_heads = embed_dim, num_heads
        self.dropout = probability(dropout, "dropout")
        self.batch_first = batch_first
        bound = initialisation.xavier_bound(embed_dim, 3 * embed_dim)
        shape = (3 * embed_dim, embed_dim)
        self.in_proj_weight = initialisation.uniform(shape, bound, dtype, device)
        zeros = np.zeros(3 * embed_dim)
        self.register_parameter(
            "in_proj_bias", initialisation.parameter(zeros, dtype, device) if bias else None
        )
        self.out_proj = Linear(embed_dim, embed_dim, bias, device, dtype)
        if self.out_proj.bias is not None:
            self.out_proj.bias[...] = 0

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Any, Any]:
        """(out, weights): weights (batch, queries, keys), the mean over heads; (batch, heads,
        queries, keys) without `average_attn_weights`; None without `need_weights`.

        A bool mask is True where attention may *not* look, as in PyTorch; floats are added.
        `attn_mask` is (queries, keys) or (batch * heads, queries, keys), `key_padding_mask`
        (batch, keys). `is_causal` hides later keys from each query; the mask that PyTorch wants
        beside it, saying the same, may be left out.
        """
        self._check_shapes(query, key, value)
        unbatched = len(np.shape(query)) == 2
        queries, keys, values = (self._split_heads(x) for x in self._projected(query, key, value))
        masks = self._masks(attn_mask, key_padding_mask, queries.shape, keys.shape)
        weights = F.softmax(attention_scores(queries, keys, masks, is_causal, None), -1)
        mixed = F.matmul(dropout(weights, self.dropout, self.training), values)
        batch, _, rows, _ = mixed.shape
        joined = F.reshape(F.swapaxes(mixed, 1, 2), (batch, rows, self.embed_dim))
        out = self._arranged_back(self.out_proj(joined), unbatched)
        if not need_weights:
            return out, None
        weights = F.mean(weights, 1) if average_attn_weights else weights
        return out, (F.squeeze(weights, 0) if unbatched else weights)

    def _projected(self, query: Any, key: Any, value: Any) -> list[Any]:
        """Queries, keys and values, each (batch, length, embed_dim). Self-attention projects to
        all three by one product."""
        weight, bias = self.in_proj_weight, self.in_proj_bias
        if query is key and key is value:
            return F.split(F.linear(self._batch_first(query), weight, bias), 3, -1)
        projected = []
        for number, x in enumerate((query, key, value)):
            rows = slice(number * self.embed_dim, (number + 1) * self.embed_dim)
            part = None if bias is None else bias[rows]
            projected.append(F.linear(self._batch_first(x), weight[rows], part))
        return projected

    def _check_shapes(self, *arrays: Any) -> None:
        """Query, key and value: all with a batch or all without."""
        shapes = [np.shape(x) for x in arrays]
        ranks = {len(shape) for shape in shapes}
        if ranks not in ({2}, {3}) or any(shape[-1] != self.embed_dim for shape in shapes):
            raise ShapeError(
                f"query, key and value have shapes {', '.join(map(str, shapes))}, wanted 3 axes "
                f"(or 2 without the batch) each, the last of size {self.embed_dim}",
                what="MultiheadAttention",
                location=user_location(),
            )

    def _batch_first(self, x: Any) -> Any:
        if len(np.shape(x)) == 2:
            return F.expand_dims(x, 0)
        return x if self.batch_first else F.swapaxes(x, 0, 1)

    def _arranged_back(self, x: Any, unbatched: bool) -> Any:
        if unbatched:
            return F.squeeze(x, 0)
        return x if self.batch_first else F.swapaxes(x, 0, 1)

    def _split_heads(self, x: Any) -> Any:
        """(batch, length, embed_dim) -> (batch, heads, length, features)."""
        batch, length, _ = x.shape
        features = self.embed_dim // self.num_heads
        return F.swapaxes(F.reshape(x, (batch, length, self.num_heads, features)), 1, 2)

    def _masks(self, attn_mask: Any, padding: Any, queries: Any, keys: Any) -> list[Any]:
        """The masks as attention_scores wants them: True where a query may look."""
        batch, heads, rows, _ = queries
        masks = []
        if attn_mask is not None:
            mask = tensor(attn_mask)
            shape = (batch, heads, rows, keys[-2]) if len(mask.shape) == 3 else mask.shape
            masks.append(F.reshape(mask, shape))
        if padding is not None:
            masks.append(F.reshape(tensor(padding), (batch, 1, 1, keys[-2])))
        return [F.logical_not(mask) if dtype_of(mask) == "bool" else mask for mask in masks]

    def extra_repr(self) -> str:
        return f"embed_dim={self.embed_dim}, num_heads={self.num_heads}"
