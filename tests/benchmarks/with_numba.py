"""The memory-bound workloads as loops for Numba: one pass over a row where one is enough.

Its matrix products are calls of BLAS, which NumPy's are already, so they are not here.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

loops = njit(parallel=True, fastmath=True)


@loops
def softmax(x):
    out = np.empty_like(x)
    for i in prange(x.shape[0]):
        greatest = x[i, 0]
        for j in range(x.shape[1]):
            greatest = max(greatest, x[i, j])
        total = np.float32(0)
        for j in range(x.shape[1]):
            out[i, j] = math.exp(x[i, j] - greatest)
            total += out[i, j]
        for j in range(x.shape[1]):
            out[i, j] /= total
    return out


@loops
def logsumexp(x):
    out = np.empty(x.shape[0], x.dtype)
    for i in prange(x.shape[0]):
        greatest = x[i, 0]
        for j in range(x.shape[1]):
            greatest = max(greatest, x[i, j])
        total = np.float32(0)
        for j in range(x.shape[1]):
            total += math.exp(x[i, j] - greatest)
        out[i] = math.log(total) + greatest
    return out


@njit(fastmath=True)
def moments(row):
    """The mean of a row, and 1 over its standard deviation."""
    total = np.float32(0)
    for j in range(row.size):
        total += row[j]
    mean = total / np.float32(row.size)
    squares = np.float32(0)
    for j in range(row.size):
        squares += (row[j] - mean) ** 2
    return mean, np.float32(1) / math.sqrt(squares / np.float32(row.size) + np.float32(1e-5))


@loops
def layer_norm(x, weight, bias):
    out = np.empty_like(x)
    for i in prange(x.shape[0]):
        mean, scale = moments(x[i])
        for j in range(x.shape[1]):
            out[i, j] = (x[i, j] - mean) * scale * weight[j] + bias[j]
    return out


@loops
def layer_norm_gelu(x, weight, bias):
    out = np.empty_like(x)
    half, root = np.float32(0.5), np.float32(math.sqrt(0.5))
    for i in prange(x.shape[0]):
        mean, scale = moments(x[i])
        for j in range(x.shape[1]):
            value = (x[i, j] - mean) * scale * weight[j] + bias[j]
            out[i, j] = value * half * (np.float32(1) + math.erf(value * root))
    return out


@loops
def rms_norm(x, weight):
    out = np.empty_like(x)
    for i in prange(x.shape[0]):
        squares = np.float32(0)
        for j in range(x.shape[1]):
            squares += x[i, j] * x[i, j]
        scale = np.float32(1) / math.sqrt(squares / np.float32(x.shape[1]) + np.float32(1e-6))
        for j in range(x.shape[1]):
            out[i, j] = x[i, j] * scale * weight[j]
    return out


@loops
def chain5(x, y):
    out = np.empty_like(x)
    for i in prange(x.size):
        out[i] = max(x[i] * y[i] + x[i], np.float32(0)) * np.float32(0.5) - y[i]
    return out


@loops
def chain10(x, y):
    out = np.empty_like(x)
    for i in prange(x.size):
        z = math.tanh(math.exp(-abs(x[i])) * y[i] + x[i])
        out[i] = z * np.float32(0.5) + math.sqrt(abs(y[i]))
    return out


@loops
def chain15(x, y):
    out = np.empty_like(x)
    for i in prange(x.size):
        softplus = max(x[i], np.float32(0)) + math.log(np.float32(1) + math.exp(-abs(x[i])))
        z = softplus * math.tanh(y[i]) - x[i] * y[i]
        out[i] = z + np.float32(0.25) * math.sqrt(abs(z))
    return out


@loops
def total(x):
    result = np.float32(0)
    for i in prange(x.size):
        result += x[i]
    return result


@loops
def greatest(x):
    result = x[0]
    for i in prange(x.size):
        result = max(result, x[i])
    return result


@njit
def argmax(x):
    """Serial: Numba's parallel loops have no reduction for it."""
    return x.argmax()
