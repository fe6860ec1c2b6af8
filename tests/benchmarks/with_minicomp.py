"""The workloads' functions as a user of minicomp writes them."""

from __future__ import annotations

from benchmarks import with_numpy
from benchmarks.with_numpy import HEADS, matmul, matmul_nt, matmul_tn

import minicomp
from minicomp import gelu, linear, relu
from minicomp import layer_norm as normalized

__all__ = ["matmul", "matmul_nt", "matmul_tn"]


def relu_linear(x, weight, bias):
    return relu(x @ weight + bias)


def gelu_linear(x, weight, bias):
    return gelu(x @ weight + bias)


def mlp(x, w1, b1, w2, b2, w3, b3):
    return linear(relu(linear(relu(linear(x, w1, b1)), w2, b2)), w3, b3)


def softmax(x):
    return minicomp.softmax(x, -1)


def layer_norm(x, weight, bias):
    return normalized(x, x.shape[-1:], weight, bias)


def layer_norm_gelu(x, weight, bias):
    return gelu(layer_norm(x, weight, bias))


def rms_norm(x, weight):
    return minicomp.rms_norm(x, x.shape[-1:], weight, 1e-6)


def logsumexp(x):
    return minicomp.logsumexp(x, -1)


def chain5(x, y):
    return with_numpy.chain5(x, y, minicomp)


def chain10(x, y):
    return with_numpy.chain10(x, y, minicomp)


def chain15(x, y):
    return with_numpy.chain15(x, y, minicomp)


def total(x):
    return minicomp.sum(x)


def greatest(x):
    return minicomp.max(x)


def argmax(x):
    return minicomp.argmax(x)


def conv3x3(x, weight):
    return minicomp.conv2d(x, weight, padding=1)


def block(x, n1, c1, w_in, b_in, w_out, b_out, n2, c2, w_up, b_up, w_down, b_down):
    batch, length, width = x.shape

    def heads(part):
        parts = minicomp.reshape(part, (batch, length, HEADS, width // HEADS))
        return minicomp.swapaxes(parts, 1, 2)

    projected = linear(layer_norm(x, n1, c1), w_in, b_in)
    query, key, value = map(heads, minicomp.split(projected, 3, -1))
    mixed = minicomp.scaled_dot_product_attention(query, key, value)
    joined = minicomp.reshape(minicomp.swapaxes(mixed, 1, 2), (batch, length, width))
    x = x + linear(joined, w_out, b_out)
    return x + linear(gelu(linear(layer_norm(x, n2, c2), w_up, b_up)), w_down, b_down)
