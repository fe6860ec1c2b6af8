"""The workloads' functions in PyTorch, for eager mode and for torch.compile."""

from __future__ import annotations

import torch
from benchmarks import with_numpy
from benchmarks.with_numpy import HEADS, matmul, matmul_nt, matmul_tn
from torch.nn.functional import conv2d, gelu, linear, relu, scaled_dot_product_attention
from torch.nn.functional import layer_norm as normalized

__all__ = ["matmul", "matmul_nt", "matmul_tn"]


def relu_linear(x, weight, bias):
    return torch.relu(torch.addmm(bias, x, weight))


def gelu_linear(x, weight, bias):
    return gelu(torch.addmm(bias, x, weight))


def mlp(x, w1, b1, w2, b2, w3, b3):
    return linear(relu(linear(relu(linear(x, w1, b1)), w2, b2)), w3, b3)


def softmax(x):
    return torch.softmax(x, -1)


def layer_norm(x, weight, bias):
    return normalized(x, x.shape[-1:], weight, bias)


def layer_norm_gelu(x, weight, bias):
    return gelu(layer_norm(x, weight, bias))


def rms_norm(x, weight):
    return torch.nn.functional.rms_norm(x, x.shape[-1:], weight, 1e-6)


def logsumexp(x):
    return torch.logsumexp(x, -1)


def chain5(x, y):
    return with_numpy.chain5(x, y, torch)


def chain10(x, y):
    return with_numpy.chain10(x, y, torch)


def chain15(x, y):
    return with_numpy.chain15(x, y, torch)


def total(x):
    return torch.sum(x)


def greatest(x):
    return torch.max(x)


def argmax(x):
    return torch.argmax(x)


def conv3x3(x, weight):
    return conv2d(x, weight, padding=1)


def block(x, n1, c1, w_in, b_in, w_out, b_out, n2, c2, w_up, b_up, w_down, b_down):
    batch, length, width = x.shape
    projected = linear(layer_norm(x, n1, c1), w_in, b_in)
    split = projected.reshape(batch, length, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
    mixed = scaled_dot_product_attention(*split.unbind(0))
    x = x + linear(mixed.transpose(1, 2).reshape(batch, length, width), w_out, b_out)
    return x + linear(gelu(linear(layer_norm(x, n2, c2), w_up, b_up)), w_down, b_down)
