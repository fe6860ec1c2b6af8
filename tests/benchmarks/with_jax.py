"""The workloads' functions in JAX, to be compiled by jax.jit."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from benchmarks import with_numpy
from benchmarks.with_numpy import HEADS, matmul, matmul_nt, matmul_tn

__all__ = ["matmul", "matmul_nt", "matmul_tn"]


def relu_linear(x, weight, bias):
    return jnp.maximum(x @ weight + bias, 0)


def gelu(x):
    return jax.nn.gelu(x, approximate=False)


def gelu_linear(x, weight, bias):
    return gelu(x @ weight + bias)


def mlp(x, w1, b1, w2, b2, w3, b3):
    x = jnp.maximum(x @ w1.T + b1, 0)
    x = jnp.maximum(x @ w2.T + b2, 0)
    return x @ w3.T + b3


def softmax(x):
    return jax.nn.softmax(x, -1)


def layer_norm(x, weight, bias):
    centered = x - jnp.mean(x, -1, keepdims=True)
    variance = jnp.mean(jnp.square(centered), -1, keepdims=True)
    return centered * jax.lax.rsqrt(variance + 1e-5) * weight + bias


def layer_norm_gelu(x, weight, bias):
    return gelu(layer_norm(x, weight, bias))


def rms_norm(x, weight):
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), -1, keepdims=True) + 1e-6) * weight


def logsumexp(x):
    return jax.nn.logsumexp(x, -1)


def chain5(x, y):
    return with_numpy.chain5(x, y, jnp)


def chain10(x, y):
    return with_numpy.chain10(x, y, jnp)


def chain15(x, y):
    return with_numpy.chain15(x, y, jnp)


def total(x):
    return jnp.sum(x)


def greatest(x):
    return jnp.max(x)


def argmax(x):
    return jnp.argmax(x)


def conv3x3(x, weight):
    return jax.lax.conv_general_dilated(x, weight, (1, 1), "SAME")


def block(x, n1, c1, w_in, b_in, w_out, b_out, n2, c2, w_up, b_up, w_down, b_down):
    batch, length, width = x.shape
    projected = layer_norm(x, n1, c1) @ w_in.T + b_in
    split = projected.reshape(batch, length, 3, HEADS, width // HEADS).transpose(2, 0, 3, 1, 4)
    query, key, value = split
    scores = query @ key.swapaxes(-1, -2) * (1 / math.sqrt(width // HEADS))
    mixed = (softmax(scores) @ value).swapaxes(1, 2).reshape(batch, length, width)
    x = x + mixed @ w_out.T + b_out
    return x + gelu(layer_norm(x, n2, c2) @ w_up.T + b_up) @ w_down.T + b_down
