"""Tensors from shapes and numbers."""

import numpy as np
import pytest

import minicomp as mc
from minicomp.errors import AttributeValueError, ControlFlowError, TraceError, UnsupportedError

X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize("shape", [(2, 3), 4, (), (0, 2)])
def test_full_tensors(agree, shape):
    agree(lambda: mc.zeros(shape), np.zeros(shape))
    agree(lambda: mc.ones(shape, np.int32), np.ones(shape, np.int32))
    agree(lambda: mc.full(shape, 2.5), np.full(shape, 2.5))
    agree(lambda: mc.full(shape, 2), np.full(shape, 2))
    agree(lambda: mc.full(shape, True), np.full(shape, True))
    agree(lambda: mc.full(shape, 2.7, np.int64), np.full(shape, 2.7, np.int64))


def test_full_of_a_tensor_broadcasts_it(agree):
    agree(lambda x: mc.full((2, 3), x[0]), np.full((2, 3), X[0]), X)


def test_tensors_like_another(agree):
    agree(mc.zeros_like, np.zeros_like(X), X)
    agree(lambda x: mc.ones_like(x, np.int64), np.ones_like(X, np.int64), X)
    agree(lambda x: mc.full_like(x, 7, shape=(3,)), np.full_like(X, 7, shape=3), X)


@pytest.mark.parametrize(
    "bounds", [(5,), (2, 9), (2, 9, 3), (9, 2, -2), (3, 3), (5, 2), (0.5, 3), (0, 1, 0.1), (4.2,)]
)
def test_arange(agree, bounds):
    agree(lambda: mc.arange(*bounds), np.arange(*bounds))


def test_arange_of_a_dtype(agree):
    agree(lambda: mc.arange(5, dtype=np.float32), np.arange(5, dtype=np.float32))
    agree(lambda: mc.arange(1, 7, 2, np.int32), np.arange(1, 7, 2, np.int32))
    agree(lambda: mc.arange(np.int32(3)), np.arange(3))


def test_impossible_ranges_are_named():
    with pytest.raises(AttributeValueError, match="step is 0"):
        mc.arange(0, 1, 0)
    with pytest.raises(TraceError, match="a shape cannot depend on traced data"):
        mc.trace(mc.arange, np.array(3))
    with pytest.raises(ControlFlowError, match="it is no Python int"):
        mc.trace(lambda n: mc.zeros((n, 2)), np.array(3))


def test_identity_matrices(agree):
    agree(lambda: mc.eye(3), np.eye(3))
    agree(lambda: mc.eye(3, 4, 1, np.float32), np.eye(3, 4, 1, np.float32))


@pytest.mark.parametrize("k", [0, 1, -2])
@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_triangles(agree, k, dtype):
    x = np.arange(24).reshape(2, 3, 4).astype(dtype)
    agree(lambda x: mc.tril(x, k), np.tril(x, k), x)
    agree(lambda x: mc.triu(x, diagonal=k), np.triu(x, k), x)


def test_a_triangle_needs_a_matrix():
    with pytest.raises(AttributeValueError, match="wanted a matrix"):
        mc.tril(np.zeros(3))


def test_one_hot(agree):
    labels = np.array([[2, 0], [1, 1]])
    agree(lambda x: mc.one_hot(x, 3), np.eye(3, dtype=np.int64)[labels], labels)
    with pytest.raises(UnsupportedError, match="classes are integers"):
        mc.one_hot(X, 3)


def test_in_a_trace_nothing_is_stored():
    graph = mc.trace(lambda: mc.arange(1000) + mc.zeros(1000))
    assert {value.op for value in graph} == {"iota", "cast", "full", "add"}


def test_tensors_are_made_where_the_trace_runs():
    graph = mc.trace(
        lambda x: mc.arange(3) + mc.tril(x) * mc.zeros(3) + mc.eye(3),
        mc.TensorType((3, 3), "float32", "cuda"),
    )
    assert {value.device for value in graph} == {"cuda"}
