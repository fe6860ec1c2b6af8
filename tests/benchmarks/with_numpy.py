"""The workloads' functions in NumPy: a contestant, and in float64 what results are compared with.

Weights of `mlp` and `block` are (out, in), as nn.Linear has them. erf is SciPy's if that is
installed: NumPy has none.
"""

from __future__ import annotations

import math

import numpy as np

HEADS = 12  # of the transformer block

try:
    from scipy.special import erf
except ImportError:  # one element at a time
    erf = np.vectorize(math.erf, otypes=[np.float64])


def matmul(a, b):
    return a @ b


def matmul_nt(a, b):
    return a @ b.T


def matmul_tn(a, b):
    return a.T @ b


def relu_linear(x, weight, bias):
    return np.maximum(x @ weight + bias, 0)


def gelu(x):
    return (x * 0.5 * (1 + erf(x * math.sqrt(0.5)))).astype(x.dtype, copy=False)


def gelu_linear(x, weight, bias):
    return gelu(x @ weight + bias)


def mlp(x, w1, b1, w2, b2, w3, b3):
    x = np.maximum(x @ w1.T + b1, 0)
    x = np.maximum(x @ w2.T + b2, 0)
    return x @ w3.T + b3


def softmax(x):
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def layer_norm(x, weight, bias):
    centered = x - x.mean(axis=-1, keepdims=True)
    variance = np.square(centered).mean(axis=-1, keepdims=True)
    return centered / np.sqrt(variance + 1e-5) * weight + bias


def layer_norm_gelu(x, weight, bias):
    return gelu(layer_norm(x, weight, bias))


def rms_norm(x, weight):
    return x / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + 1e-6) * weight


def logsumexp(x):
    greatest = x.max(axis=-1, keepdims=True)
    return np.log(np.exp(x - greatest).sum(axis=-1)) + greatest[..., 0]


def chain5(x, y, xp=np):
    """Five operations, all cheap. `xp` is the library that computes them."""
    return xp.clip(x * y + x, 0, None) * 0.5 - y


def chain10(x, y, xp=np):
    """Ten operations, two of them elementary functions."""
    return xp.tanh(xp.exp(-xp.abs(x)) * y + x) * 0.5 + xp.sqrt(xp.abs(y))


def chain15(x, y, xp=np):
    """Fifteen operations, three of them elementary functions."""
    softplus = xp.clip(x, 0, None) + xp.log(1 + xp.exp(-xp.abs(x)))
    z = softplus * xp.tanh(y) - x * y
    return z + 0.25 * xp.sqrt(xp.abs(z))


def total(x):
    return x.sum()


def greatest(x):
    return x.max()


def argmax(x):
    return x.argmax()


def conv3x3(x, weight):
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    result = np.tensordot(windows, weight, axes=((1, 4, 5), (1, 2, 3)))
    return np.ascontiguousarray(result.transpose(0, 3, 1, 2))


def block(x, n1, c1, w_in, b_in, w_out, b_out, n2, c2, w_up, b_up, w_down, b_down):
    batch, length, width = x.shape
    projected = layer_norm(x, n1, c1) @ w_in.T + b_in
    split = projected.reshape(batch, length, 3, HEADS, width // HEADS).transpose(2, 0, 3, 1, 4)
    query, key, value = split
    scores = query @ key.swapaxes(-1, -2) * (1 / math.sqrt(width // HEADS))
    mixed = (softmax(scores) @ value).swapaxes(1, 2).reshape(batch, length, width)
    x = x + mixed @ w_out.T + b_out
    return x + gelu(layer_norm(x, n2, c2) @ w_up.T + b_up) @ w_down.T + b_down
