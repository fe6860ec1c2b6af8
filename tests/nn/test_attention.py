"""Multi-head attention against loops over batch and heads."""

import numpy as np
import pytest

import minicomp as mc
from minicomp import nn
from minicomp.errors import AttributeValueError, ShapeError, UnsupportedError
from minicomp.ir.verifier import verify

RNG = np.random.default_rng(0)
Q, K, V = (RNG.normal(size=(2, n, 8)) for n in (4, 5, 5))


def layer_of(**arguments):
    layer = nn.MultiheadAttention(8, 2, batch_first=True, dtype=np.float64, **arguments).eval()
    if layer.in_proj_bias is not None:
        layer.in_proj_bias += RNG.normal(size=24)
        layer.out_proj.bias += RNG.normal(size=8)
    return layer


def reference(layer, query, key, value, hidden=None):
    """(out, weights): weights per head; `hidden` (batch, heads, L, S) is added to the scores."""
    bias = np.zeros(24) if layer.in_proj_bias is None else layer.in_proj_bias.data
    parts = zip(np.split(layer.in_proj_weight.data, 3), np.split(bias, 3), strict=True)
    q, k, v = (x @ w.T + b for x, (w, b) in zip((query, key, value), parts, strict=True))
    out, weights = np.zeros_like(q), np.zeros((len(q), 2, q.shape[1], k.shape[1]))
    for n in range(len(q)):
        for h in range(2):
            some = slice(4 * h, 4 * h + 4)
            scores = q[n][:, some] @ k[n][:, some].T / 2
            scores = scores + (0 if hidden is None else hidden[n, h])
            powers = np.exp(scores - scores.max(-1, keepdims=True))
            weights[n, h] = powers / powers.sum(-1, keepdims=True)
            out[n][:, some] = weights[n, h] @ v[n][:, some]
    bias = 0 if layer.out_proj.bias is None else layer.out_proj.bias.data
    return out @ layer.out_proj.weight.data.T + bias, weights


def check(layer, expected, *arrays, **arguments):
    """At once on arrays and traced, the layer gives the expected output and weights."""
    at_once = layer(*arrays, **arguments)
    graph = verify(mc.trace(layer, *arrays, **arguments))
    masks = [mask for mask in arguments.values() if isinstance(mask, np.ndarray)]
    traced = mc.interpret(graph, *arrays, *masks)
    for eager, late, wanted in zip(at_once, traced, expected, strict=True):
        if wanted is None:
            assert eager is late is None
            continue
        np.testing.assert_array_equal(eager, late)
        np.testing.assert_allclose(eager, wanted, rtol=1e-10, atol=1e-12)


def test_attention_of_one_to_another():
    layer = layer_of()
    out, weights = reference(layer, Q, K, V)
    check(layer, (out, weights.mean(1)), Q, K, V)
    check(layer, (out, weights), Q, K, V, average_attn_weights=False)
    check(layer, (out, None), Q, K, V, need_weights=False)


def test_attention_without_bias():
    layer = layer_of(bias=False)
    assert list(layer.state_dict()) == ["in_proj_weight", "out_proj.weight"]
    out, weights = reference(layer, Q, K, V)
    check(layer, (out, weights.mean(1)), Q, K, V)


def test_self_attention_projects_by_one_product():
    layer = layer_of()
    graph = mc.trace(lambda x: layer(x, x, x, need_weights=False)[0], Q)
    assert [value.op for value in graph].count("matmul") == 4
    out, _ = reference(layer, Q, Q, Q)
    np.testing.assert_allclose(mc.interpret(graph, Q), out, rtol=1e-10)


def test_the_batch_comes_second_unless_asked_for_first():
    first = layer_of()
    second = nn.MultiheadAttention(8, 2, dtype=np.float64)
    second.load_state_dict(first.state_dict())
    out, weights = reference(first, Q, K, V)
    swapped = [x.swapaxes(0, 1) for x in (Q, K, V)]
    check(second, (out.swapaxes(0, 1), weights.mean(1)), *swapped)


def test_attention_without_a_batch():
    layer = layer_of()
    out, weights = reference(layer, Q[:1], K[:1], V[:1])
    check(layer, (out[0], weights.mean(1)[0]), Q[0], K[0], V[0])


def test_masks_hide_where_they_are_true():
    layer = layer_of()
    mask = RNG.uniform(size=(4, 5)) > 0.6
    mask[:, 0] = False
    hidden = np.broadcast_to(np.where(mask, -np.inf, 0.0), (2, 2, 4, 5))
    out, weights = reference(layer, Q, K, V, hidden)
    check(layer, (out, weights.mean(1)), Q, K, V, attn_mask=mask)
    check(layer, (out, weights.mean(1)), Q, K, V, attn_mask=np.where(mask, -np.inf, 0.0))
    per_head = np.repeat(mask[None], 4, 0)
    check(layer, (out, weights.mean(1)), Q, K, V, attn_mask=per_head)


def test_padding_is_hidden_per_batch_and_the_future_by_causality():
    layer = layer_of()
    padding = np.zeros((2, 5), bool)
    padding[0, 3:] = True
    later = np.triu(np.ones((4, 5), bool), 1)
    hidden = np.where(padding[:, None, None] | later, -np.inf, 0.0)
    out, weights = reference(layer, Q, K, V, np.broadcast_to(hidden, (2, 2, 4, 5)))
    expected = (out, weights.mean(1))
    check(layer, expected, Q, K, V, key_padding_mask=padding, is_causal=True)
    check(layer, expected, Q, K, V, key_padding_mask=padding, attn_mask=later)
    # PyTorch's way: is_causal says what the mask beside it does.
    check(layer, expected, Q, K, V, key_padding_mask=padding, attn_mask=later, is_causal=True)


def test_impossible_attention_is_named():
    with pytest.raises(AttributeValueError, match="embed_dim 8 does not divide into 3 heads"):
        nn.MultiheadAttention(8, 3)
    for arguments in ({"add_bias_kv": True}, {"add_zero_attn": True}, {"kdim": 4}):
        with pytest.raises(UnsupportedError, match="kdim or vdim other than embed_dim"):
            nn.MultiheadAttention(8, 2, **arguments)
    with pytest.raises(AttributeValueError, match="num_heads is 0, wanted 1 or more"):
        nn.MultiheadAttention(8, 0)
    with pytest.raises(AttributeValueError, match="dropout is 2, wanted a probability"):
        nn.MultiheadAttention(8, 2, dropout=2)
    with pytest.raises(ShapeError, match="the last of size 8"):
        layer_of()(Q[..., :4], Q, Q)
    with pytest.raises(ShapeError, match=r"\(2, 4, 8\), \(5, 8\), \(5, 8\), wanted 3 axes"):
        layer_of()(Q, K[0], V[0])


def test_dropout_in_training_is_not_traced():
    layer = layer_of(dropout=0.5).train()
    with pytest.raises(UnsupportedError, match="dropout in training mode"):
        mc.trace(layer, Q, K, V)
    assert np.isfinite(layer(Q, K, V)[0]).all()
