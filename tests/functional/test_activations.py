"""Activations, softmax and normalisation against their definitions in float64."""

import math

import numpy as np
import pytest

import minicomp as mc
from minicomp.errors import AttributeValueError, ShapeError

X = np.random.default_rng(0).normal(size=(3, 4, 5)) * 3
ERF = np.vectorize(math.erf)


def close(agree, function, exact, x, dtype):
    """`function` agrees with `exact`, a function evaluated in float64, within a few roundings."""
    x = x.astype(dtype)
    agree(function, function(x), x)
    got, wanted = function(x), exact(x.astype(np.float64))
    assert got.dtype == dtype
    epsilon = np.finfo(dtype).eps
    np.testing.assert_allclose(got, wanted, rtol=8 * epsilon, atol=8 * epsilon)


def softmax(x, axis):
    powers = np.exp(x - x.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_activations(agree, dtype):
    close(agree, mc.relu, lambda x: np.maximum(x, 0), X, dtype)
    close(agree, mc.silu, lambda x: x / (1 + np.exp(-x)), X, dtype)
    close(agree, mc.gelu, lambda x: x * 0.5 * (1 + ERF(x / math.sqrt(2))), X, dtype)
    close(
        agree,
        lambda x: mc.gelu(x, approximate="tanh"),
        lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        X,
        dtype,
    )


def test_relu_keeps_integers_and_nan(agree):
    agree(mc.relu, np.array([0, 2], np.int32), np.array([-1, 2], np.int32))
    agree(mc.relu, np.array([np.nan, 0.0, np.inf]), np.array([np.nan, -np.inf, np.inf]))


def test_gelu_knows_two_ways():
    with pytest.raises(AttributeValueError, match="approximate is 'fast', wanted 'none' or 'tanh'"):
        mc.gelu(X, "fast")


@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_softmax_along_an_axis(agree, axis, dtype):
    close(agree, lambda x: mc.softmax(x, axis), lambda x: softmax(x, axis), X, dtype)


@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_log_softmax(agree, axis, dtype):
    def exact(x):
        return np.log(softmax(x, axis))

    close(agree, lambda x: mc.log_softmax(x, dim=axis), exact, X, dtype)


def test_softmax_of_large_numbers_does_not_overflow(agree):
    x = np.array([1e4, 1e4, -np.inf])
    agree(mc.softmax, np.array([0.5, 0.5, 0.0]), x)
    agree(mc.log_softmax, np.array([-math.log(2), -math.log(2), -np.inf]), x)


def test_softmax_of_nothing_is_nothing(agree):
    agree(mc.softmax, np.zeros((2, 0)), np.zeros((2, 0)))
    agree(mc.log_softmax, np.zeros((0, 3)), np.zeros((0, 3)))


def test_logsumexp_of_nothing_is_minus_infinity(agree):
    agree(lambda x: mc.logsumexp(x, 0), np.full(3, -np.inf), np.zeros((0, 3)))
    agree(lambda x: mc.logsumexp(x, 1, keepdims=True), np.zeros((0, 1)), np.zeros((0, 3)))
    agree(mc.logsumexp, np.float64(-np.inf), np.zeros((0, 3)))


def test_softmax_of_integers_is_float64(agree):
    agree(mc.softmax, np.array([0.5, 0.5]), np.array([3, 3]))


@pytest.mark.parametrize("axis", [None, 1, (0, -1)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_logsumexp(agree, axis, keepdims):
    expected = np.log(np.sum(np.exp(X), axis=axis, keepdims=keepdims))
    agree(lambda x: mc.logsumexp(x, axis, keepdims=keepdims), expected, X)


def test_logsumexp_of_infinities(agree):
    x = np.array([[np.inf, 1.0], [-np.inf, -np.inf], [1e4, -1e4]])
    agree(lambda x: mc.logsumexp(x, 1), np.array([np.inf, -np.inf, 1e4]), x)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [5, (5,), (4, 5)])
def test_layer_norm(agree, shape, dtype):
    axes = (-1,) if shape in (5, (5,)) else (-2, -1)
    weight, bias = np.linspace(0.5, 2, X[0].size).reshape(4, 5), np.ones((4, 5))
    if axes == (-1,):
        weight, bias = weight[0], bias[0]

    def exact(x):
        centered = x - x.mean(axes, keepdims=True)
        variance = (centered**2).mean(axes, keepdims=True)
        return centered / np.sqrt(variance + 1e-5) * weight.astype(dtype) + bias

    def function(x):
        return mc.layer_norm(x, shape, weight.astype(dtype), bias.astype(dtype))

    close(agree, function, exact, X, dtype)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_rms_norm_has_machine_epsilon(agree, dtype):
    for eps, added in ((None, np.finfo(dtype).eps), (0.1, 0.1)):
        close(
            agree,
            lambda x, e=eps: mc.rms_norm(x, 5, eps=e),
            lambda x, a=added: x / np.sqrt((x * x).mean(-1, keepdims=True) + a),
            X,
            dtype,
        )


def test_norms_want_the_shape_they_were_made_for():
    with pytest.raises(ShapeError, match=r"wanted its last sizes to be \(4,\)"):
        mc.layer_norm(X, 4)
    with pytest.raises(ShapeError, match=r"wanted its last sizes to be \(3, 5\)"):
        mc.rms_norm(X, (3, 5))


def test_softmax_is_three_sweeps_of_few_ops():
    graph = mc.trace(mc.softmax, np.zeros((2, 3), np.float32))
    ops = [value.op for value in graph]
    assert ops == ["input", "max", "broadcast", "sub", "exp", "sum", "broadcast", "div"]
