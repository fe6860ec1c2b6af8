"""Matrix products and what is made of them."""

import math

import numpy as np
import pytest

import minicomp as mc
from minicomp.errors import AttributeValueError, ShapeError, UnsupportedError


def sample(*shape, dtype="float64", seed=0):
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(dtype)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((2, 3), (3, 4)),
        ((3,), (3,)),
        ((3,), (3, 4)),
        ((2, 3), (3,)),
        ((5, 2, 3), (3, 4)),
        ((5, 2, 3), (5, 3, 4)),
        ((5, 1, 2, 3), (6, 3, 4)),
        ((5, 2, 3), (3,)),
        ((3,), (5, 3, 4)),
        ((2, 0), (0, 4)),
        ((0, 3), (3, 4)),
    ],
)
def test_matmul_has_numpys_shapes(agree, a, b):
    x, y = sample(*a), sample(*b, seed=1)
    graph = agree(mc.matmul, x @ y, x, y)
    assert [value.op for value in graph].count("matmul") == 1


@pytest.mark.parametrize("a", ["bool", "int32", "int64", "float32", "float64"])
@pytest.mark.parametrize("b", ["bool", "int32", "float32"])
def test_matmul_promotes(agree, a, b):
    x, y = sample(2, 3, dtype=a), sample(3, 2, dtype=b, seed=1)
    agree(mc.matmul, x @ y, x, y)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (
            (2, 3),
            (4, 5),
            r"matmul at test_products\.py:\d+: inner sizes differ, \(2, 3\) @",
        ),
        ((2, 3), (5, 3), "transpose the second"),
        ((3,), (4, 5), r"inner sizes differ, \(3,\) @ \(4, 5\)"),
        ((2, 3), (4,), r"inner sizes differ, \(2, 3\) @ \(4,\)"),
        ((2, 2, 3), (3, 3, 4), "batch sizes differ"),
        ((), (3,), r"without axes has no matrix product; multiply with \*"),
    ],
)
def test_products_that_do_not_fit_are_named(a, b, message):
    for run in (mc.matmul, lambda x, y: mc.trace(mc.matmul, x, y)):
        with pytest.raises(ShapeError, match=message):
            run(sample(*a), sample(*b))


def test_dot_and_outer(agree):
    a, b, v = sample(2, 3), sample(3, 4, seed=1), sample(3, seed=2)
    agree(mc.dot, np.dot(a, b), a, b)
    agree(mc.dot, np.dot(a, v), a, v)
    agree(mc.dot, np.dot(v, v), v, v)
    agree(mc.dot, np.dot(a, np.float64(2)), a, np.float64(2))
    agree(mc.outer, np.outer(a, v), a, v)
    with pytest.raises(UnsupportedError, match="use matmul or einsum"):
        mc.dot(a, sample(2, 3, 4))


def test_linear(agree):
    weight, bias = sample(4, 3), sample(4)
    for x in (sample(2, 3), sample(3), sample(5, 2, 3), sample(0, 3)):
        agree(mc.linear, x @ weight.T + bias, x, weight, bias)
    agree(mc.linear, x @ weight.T, x, weight)
    with pytest.raises(ShapeError, match="whose last size is in_features, 3"):
        mc.linear(sample(2, 4), weight)
    with pytest.raises(ShapeError, match=r"wanted \(out_features, in_features\)"):
        mc.linear(sample(2, 3), bias)


@pytest.mark.parametrize(
    ("subscripts", "shapes"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("ij,jk", [(2, 3), (3, 4)]),
        ("bik,bjk->bij", [(5, 2, 3), (5, 4, 3)]),
        ("bhid,bhjd->bhij", [(2, 3, 4, 5), (2, 3, 6, 5)]),
        ("i,i->", [(3,), (3,)]),
        ("i,j->ji", [(3,), (4,)]),
        ("ijk->ki", [(2, 3, 4)]),
        ("ij->", [(2, 3)]),
        ("ij->ji", [(2, 3)]),
        ("ij,j->i", [(2, 3), (3,)]),
        ("ij,ij->ij", [(2, 3), (2, 3)]),
        ("ij,ik->j", [(2, 3), (2, 4)]),
        ("ab,bc,cd->ad", [(2, 3), (3, 4), (4, 5)]),
        ("ab, cb, b -> ac", [(2, 3), (4, 3), (3,)]),
    ],
)
def test_einsum(agree, subscripts, shapes):
    arrays = [sample(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    agree(lambda *xs: mc.einsum(subscripts, *xs), np.einsum(subscripts, *arrays), *arrays)


@pytest.mark.parametrize(
    ("subscripts", "shapes", "error", "message"),
    [
        ("ii->i", [(2, 2)], UnsupportedError, "names an axis twice"),
        ("...i->i", [(2, 2)], UnsupportedError, "name every axis"),
        ("ij->k", [(2, 2)], AttributeValueError, "must name input axes"),
        ("ij,jk->ik", [(2, 2)], AttributeValueError, "is for 2 operands, got 1"),
        ("ijk->i", [(2, 2)], ShapeError, "names 3 axes of a tensor of shape"),
        ("ij,jk->ik", [(2, 3), (4, 5)], ShapeError, "axis 'j' has sizes 3 and 4"),
    ],
)
def test_einsum_that_does_not_fit_is_named(subscripts, shapes, error, message):
    with pytest.raises(error, match=message):
        mc.einsum(subscripts, *(sample(*shape) for shape in shapes))


# --- attention ---


def attention(q, k, v, mask, scale):
    scores = q @ k.swapaxes(-1, -2) * scale + mask
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True) @ v


def test_attention(agree):
    q = np.random.default_rng(0).normal(size=(2, 4, 5, 8))
    k, v = (np.random.default_rng(seed).normal(size=(2, 4, 6, 8)) for seed in (1, 2))
    sdpa = mc.scaled_dot_product_attention
    agree(sdpa, attention(q, k, v, 0, 1 / math.sqrt(8)), q, k, v)
    agree(lambda *x: sdpa(*x, scale=0.5), attention(q, k, v, 0, 0.5), q, k, v)
    seen = np.random.default_rng(3).uniform(size=(5, 6)) > 0.4
    seen[:, 0] = True
    hidden = np.where(seen, 0.0, -np.inf)
    expected = attention(q, k, v, hidden, 1 / math.sqrt(8))
    agree(sdpa, expected, q, k, v, seen)
    agree(sdpa, expected, q, k, v, hidden)
    causal = np.where(np.tril(np.ones((5, 6), bool)), 0.0, -np.inf)
    expected = attention(q, k, v, causal, 1 / math.sqrt(8))
    agree(lambda *x: sdpa(*x, is_causal=True), expected, q, k, v)


def test_a_query_that_may_look_nowhere_gets_zeros(agree):
    q, k, v = (np.random.default_rng(seed).normal(size=(2, 5, 8)) for seed in range(3))
    seen = np.ones((5, 5), bool)
    seen[1] = False
    expected = attention(q, k, v, 0, 1 / math.sqrt(8))
    expected[:, 1] = 0
    agree(mc.scaled_dot_product_attention, expected, q, k, v, seen)
    hidden = np.where(seen, 0.0, -np.inf)
    agree(mc.scaled_dot_product_attention, expected, q, k, v, hidden)
    q[0, 0, 0] = np.nan  # what is not hidden stays what it is
    assert np.isnan(mc.scaled_dot_product_attention(q, k, v, seen)[0, 0]).all()


def test_grouped_query_attention_repeats_heads(agree):
    q = np.random.default_rng(0).normal(size=(1, 4, 3, 8))
    k, v = (np.random.default_rng(s).normal(size=(1, 2, 3, 8)) for s in (1, 2))
    expected = attention(q, k.repeat(2, 1), v.repeat(2, 1), 0, 1 / math.sqrt(8))
    agree(lambda *x: mc.scaled_dot_product_attention(*x, enable_gqa=True), expected, q, k, v)


def test_attention_that_cannot_be_is_named():
    x = np.zeros((2, 4))
    with pytest.raises(UnsupportedError, match="dropout_p > 0"):
        mc.scaled_dot_product_attention(x, x, x, dropout_p=0.1)
    with pytest.raises(AttributeValueError, match="attn_mask or is_causal, not both"):
        mc.scaled_dot_product_attention(x, x, x, np.ones((2, 2), bool), is_causal=True)
    for heads in ((5, 2), (4, 0)):
        q, k = (np.zeros((n, 3, 8)) for n in heads)
        with pytest.raises(ShapeError, match=r"enable_gqa wants .* heads that divide"):
            mc.scaled_dot_product_attention(q, k, k, enable_gqa=True)
    with pytest.raises(ShapeError, match="enable_gqa wants"):
        mc.scaled_dot_product_attention(x, x, x, enable_gqa=True)
    with pytest.raises(ShapeError, match=r"wanted \(\.\.\., length, features\)"):
        mc.scaled_dot_product_attention(x[0], x[0], x[0])
