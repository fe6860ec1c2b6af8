"""Functions that end in matrix products: matmul, dot, linear, einsum, attention.

In: tensors of floats (or integers). Out: a tensor. Each product is one `matmul` in the graph, and
so one call site of selection.

>>> matmul(np.ones((2, 3)), np.ones(3))
array([3., 3.])
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from minicomp.errors import AttributeValueError, ShapeError, UnsupportedError
from minicomp.functional.activations import softmax
from minicomp.functional.creation import iota
from minicomp.functional.operands import (
    cast,
    common_dtype,
    dtype_of,
    promote,
    tensor,
    tensor_function,
    type_of,
)
from minicomp.functional.pointwise import add, equal, multiply, where
from minicomp.functional.reductions import amax
from minicomp.functional.reductions import sum as sum_
from minicomp.functional.shapes import matrix_transpose, permuted, repeat, reshaped
from minicomp.tracing.record import apply


@tensor_function
def matmul(x: Any, y: Any) -> Any:
    """The matrix product x @ y: (..., m, k) by (..., k, n), leading axes broadcast.

    An operand with one axis is a row on the left, a column on the right; that axis is not in the
    result.
    """
    x, y = tensor(x), tensor(y)
    if not x.shape or not y.shape:
        raise ShapeError("an operand without axes has no matrix product; multiply with *")
    dtype = common_dtype([x, y])
    x, y = cast(x, dtype), cast(y, dtype)
    inner = y.shape[-2] if len(y.shape) > 1 else y.shape[0]
    if 1 in (len(x.shape), len(y.shape)) and x.shape[-1] != inner:
        raise ShapeError(f"inner sizes differ, {x.shape} @ {y.shape}")
    rows = reshaped(x, (1, *x.shape)) if len(x.shape) == 1 else x
    columns = reshaped(y, (*y.shape, 1)) if len(y.shape) == 1 else y
    product = _matrix_product(rows, columns, dtype)
    shape = list(product.shape)
    if len(y.shape) == 1:
        del shape[-1]
    if len(x.shape) == 1:
        del shape[-1 if len(y.shape) == 1 else -2]
    return reshaped(product, tuple(shape))


def _matrix_product(x: Any, y: Any, dtype: str) -> Any:
    """For bool, whether any pair of elements is both true; counted in int32."""
    if dtype != "bool":
        return apply("matmul", x, y)
    return apply("ne", *promote(apply("matmul", cast(x, "int32"), cast(y, "int32")), 0))


@tensor_function
def dot(x: Any, y: Any) -> Any:
    """NumPy's dot: the product of numbers, the inner product of vectors, `matmul` of matrices."""
    x, y = tensor(x), tensor(y)
    if not x.shape or not y.shape:
        return multiply(x, y)
    if len(y.shape) > 2:
        raise UnsupportedError("dot with a second operand of 3 axes or more; use matmul or einsum")
    return matmul(x, y)


@tensor_function
def outer(x: Any, y: Any) -> Any:
    """The products of all elements of x with all elements of y: a matrix."""
    x, y = tensor(x), tensor(y)
    column = reshaped(x, (math.prod(x.shape), 1))
    return multiply(column, reshaped(y, (1, math.prod(y.shape))))


@tensor_function
def linear(x: Any, weight: Any, bias: Any = None) -> Any:
    """x @ weight.T + bias with weight (out_features, in_features), as in PyTorch."""
    x, weight = tensor(x), tensor(weight)
    if len(weight.shape) != 2:
        raise ShapeError(f"weight has shape {weight.shape}, wanted (out_features, in_features)")
    if not x.shape or x.shape[-1] != weight.shape[1]:
        raise ShapeError(
            f"the input has shape {x.shape} and the weight {weight.shape}; "
            f"wanted an input whose last size is in_features, {weight.shape[1]}"
        )
    product = matmul(x, matrix_transpose(weight))
    return product if bias is None else add(product, bias)


# --- einsum ---


@tensor_function
def einsum(subscripts: str, *operands: Any) -> Any:
    """Sums of products by named axes: einsum("bik,bkj->bij", x, y).

    Operands are contracted from left to right, each time by one matmul. No `...`, and no label
    twice in one operand.
    """
    inputs, output = _parse_subscripts(subscripts, len(operands))
    tensors = [tensor(x) for x in operands]
    for labels, x in zip(inputs, tensors, strict=True):
        if len(labels) != len(x.shape):
            raise ShapeError(f"{labels!r} names {len(labels)} axes of a tensor of shape {x.shape}")
    _check_sizes(inputs, tensors)
    result, labels = tensors[0], inputs[0]
    for number in range(1, len(tensors)):
        needed = set("".join(inputs[number + 1 :]) + output)
        result, labels = _contract(result, labels, tensors[number], inputs[number], needed)
    result, labels = _sum_out(result, labels, set(output))
    return permuted(result, [labels.index(label) for label in output])


def _parse_subscripts(subscripts: str, count: int) -> tuple[list[str], str]:
    text = subscripts.replace(" ", "")
    if "." in text:
        raise UnsupportedError("einsum with '...'; name every axis")
    left, arrow, output = text.partition("->")
    inputs = left.split(",")
    if not arrow:  # NumPy's implicit output: labels that occur once, in alphabetical order
        output = "".join(sorted(label for label in set(left) - {","} if left.count(label) == 1))
    if len(inputs) != count:
        raise AttributeValueError(f"{subscripts!r} is for {len(inputs)} operands, got {count}")
    if not (set(output) <= set("".join(inputs)) and len(set(output)) == len(output)):
        raise AttributeValueError(f"the output of {subscripts!r} must name input axes, each once")
    if any(len(set(labels)) != len(labels) for labels in inputs):
        raise UnsupportedError(f"einsum {subscripts!r} names an axis twice in one operand")
    return inputs, output


def _check_sizes(inputs: Sequence[str], tensors: Sequence[Any]) -> None:
    sizes: dict[str, int] = {}
    for labels, x in zip(inputs, tensors, strict=True):
        for label, extent in zip(labels, x.shape, strict=True):
            if sizes.setdefault(label, extent) != extent:
                raise ShapeError(f"axis {label!r} has sizes {sizes[label]} and {extent}")


def _sum_out(x: Any, labels: str, kept: set[str]) -> tuple[Any, str]:
    """x summed over the axes that are not `kept`, in its own dtype as NumPy's einsum does."""
    axes = tuple(axis for axis, label in enumerate(labels) if label not in kept)
    if not axes:
        return x, labels
    total = cast(sum_(x, axes), dtype_of(x))
    return total, "".join(label for label in labels if label in kept)


def _contract(x: Any, a: str, y: Any, b: str, needed: set[str]) -> tuple[Any, str]:
    """x (axes a) times y (axes b), summed over what they share and nobody else needs."""
    x, a = _sum_out(x, a, needed | set(b))
    y, b = _sum_out(y, b, needed | set(a))
    batch = [label for label in a if label in b and label in needed]
    inner = [label for label in a if label in b and label not in needed]
    rows = [label for label in a if label not in b]
    columns = [label for label in b if label not in a]
    size = dict(zip(a, x.shape)) | dict(zip(b, y.shape))

    def arranged(tensor: Any, labels: str, *groups: list[str]) -> Any:
        order = [labels.index(label) for group in (batch, *groups) for label in group]
        joined = [math.prod(size[label] for label in group) for group in groups]
        return reshaped(permuted(tensor, order), (*(size[label] for label in batch), *joined))

    product = matmul(arranged(x, a, rows, inner), arranged(y, b, inner, columns))
    labels = [*batch, *rows, *columns]
    return reshaped(product, tuple(size[label] for label in labels)), "".join(labels)


# --- attention ---


@tensor_function
def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """softmax(query @ key.T * scale + mask) @ value, as in PyTorch.

    query (..., L, E), key (..., S, E), value (..., S, V) give (..., L, V). `attn_mask`
    broadcasts to (..., L, S): bool is True where attention may look, floats are added; a query
    that may look nowhere gets zeros. `scale` is 1/sqrt(E) by default. With `enable_gqa`, fewer
    key and value heads (axis -3) are repeated.
    """
    if dropout_p:
        raise UnsupportedError("dropout_p > 0: compiled functions are for inference; pass 0.0")
    query, key, value = tensor(query), tensor(key), tensor(value)
    if enable_gqa:
        key, value = _as_many_heads(key, query), _as_many_heads(value, query)
    if is_causal and attn_mask is not None:
        raise AttributeValueError("give attn_mask or is_causal, not both")
    masks = [] if attn_mask is None else [tensor(attn_mask)]
    scores = attention_scores(query, key, masks, is_causal, scale)
    weights = softmax(scores, axis=-1)
    if masks and scores.shape[-1]:
        is_hidden = equal(amax(scores, -1, keepdims=True), -math.inf)
        weights = where(is_hidden, 0, weights)  # instead of 0/0
    return matmul(weights, value)


def _as_many_heads(x: Any, query: Any) -> Any:
    """Keys or values (..., heads, S, E) with their heads repeated to be as many as the query's."""
    few, many = x.shape[-3:-2], query.shape[-3:-2]
    if not few or not many or few == (0,) or many[0] % few[0]:
        raise ShapeError(
            f"enable_gqa wants (..., heads, length, features) and heads that divide the query's; "
            f"got {x.shape} for the query {query.shape}"
        )
    return repeat(x, many[0] // few[0], axis=-3)


def attention_scores(
    query: Any, key: Any, masks: Sequence[Any], is_causal: bool, scale: float | None
) -> Any:
    """query @ key.T * scale + masks, whose softmax is how much each query looks at each key."""
    if len(query.shape) < 2 or len(key.shape) < 2:
        raise ShapeError(f"wanted (..., length, features), got {query.shape} and {key.shape}")
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = multiply(matmul(query, matrix_transpose(key)), factor)
    if is_causal:
        causal = causal_mask(query.shape[-2], key.shape[-2], type_of(query).device)
        masks = [*masks, causal]
    for mask in masks:
        boolean = dtype_of(mask) == "bool"
        scores = where(mask, scores, -math.inf) if boolean else add(scores, mask)
    return scores


def causal_mask(queries: int, keys: int, device: str) -> Any:
    """True where a query may look: at keys up to its own position."""
    shape = (queries, keys)
    return apply("ge", iota(shape, 0, "int64", device), iota(shape, 1, "int64", device))
