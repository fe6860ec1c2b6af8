"""Picking elements: subscripts and gathers, as NumPy and PyTorch have them."""

import numpy as np
import pytest

import minicomp as mc
from minicomp.errors import (
    AttributeValueError,
    ControlFlowError,
    IndexOutOfRangeError,
    ShapeError,
    UnsupportedError,
)

X = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
N = np.array([2, 0, -1])
M = np.array([[0, 1], [-1, 2]], np.int32)

KEYS = [
    0,
    -1,
    np.int32(1),
    np.array(2),
    slice(1, None),
    slice(None, None, -1),
    slice(-1, 0, -2),
    slice(5, 1),
    slice(1, 100, 2),
    Ellipsis,
    None,
    (),
    (0, 1, 2),
    (slice(None), -2),
    (Ellipsis, 3),
    (Ellipsis, slice(None, None, 2), None),
    (None, 1, Ellipsis, None, slice(1, 3)),
    [2, 0],
    N,
    M,
    (slice(None), M),
    (Ellipsis, [0, -1]),
    (0, N),
    (N, 0),
    (0, slice(None), N),
    (N, slice(None), 1),
    (slice(1, 3), 2, N),
    (slice(None), N, 1),
    (0, Ellipsis, N),
    (slice(None), 0, Ellipsis, N),
    (N, None, slice(None), 1),
    (Ellipsis, N, 0),
    (0, N, Ellipsis),
    (slice(None, None, -1), N, slice(None, None, 2)),
    (range(2),),
    [],
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_subscripts_as_in_numpy(agree, key):
    graph = agree(lambda x: mc.functional.getitem(x, key), X[key], X)
    if isinstance(key, int | slice | None):
        assert {value.op for value in graph} <= {"input", "slice", "reshape"}


def test_a_subscript_that_keeps_everything_records_nothing(agree):
    graph = agree(lambda x: mc.functional.getitem(x, (slice(None), Ellipsis)), X, X)
    assert len(graph) == 1


def test_traced_integers_as_subscripts(agree):
    agree(lambda x, n: mc.functional.getitem(x, n), X[N], X, N)
    agree(lambda x, n: mc.functional.getitem(x, (slice(None), n, 1)), X[:, N, 1], X, N)
    agree(lambda x, n: mc.functional.getitem(x, n), X[2], X, np.array(2))
    agree(lambda x, n: mc.functional.getitem(x, (Ellipsis, n)), X[..., 2], X, np.int32(2))


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        (3, IndexOutOfRangeError, "index 3 is outside axis 0 of size 3"),
        ((0, 0, 0, 0), IndexOutOfRangeError, "4 indices for a tensor with 3 axes"),
        ((Ellipsis, Ellipsis), IndexOutOfRangeError, r"more than one \.\.\."),
        (True, UnsupportedError, r"use minicomp\.where\(mask, x, 0\)"),
        (np.ones(3, bool), UnsupportedError, r"use minicomp\.where\(mask, x, 0\)"),
        ([True, False, True], UnsupportedError, r"use minicomp\.where\(mask, x, 0\)"),
        ((N, N), UnsupportedError, "one axis at a time"),
        (np.array([0.5]), UnsupportedError, "a subscript of dtype float64"),
        ("name", AttributeValueError, "a subscript is 'name', wanted an int"),
        (1.0, AttributeValueError, r"a subscript is 1\.0, wanted an int"),
    ],
)
def test_impossible_subscripts_are_named(key, error, message):
    for function in (lambda x: mc.functional.getitem(x, key), lambda x: x[key]):
        with pytest.raises(error, match=message):
            mc.trace(function, X)


def test_a_traced_mask_as_a_subscript_is_refused():
    with pytest.raises(UnsupportedError, match="boolean mask"):
        mc.trace(lambda x: x[x > 0], X)


def test_a_traced_bound_of_a_slice_is_refused():
    with pytest.raises(ControlFlowError, match="it is no Python int"):
        mc.trace(lambda x, n: x[:n], X, np.array(2))


def test_an_index_outside_is_found_when_the_graph_runs():
    graph = mc.trace(lambda x, n: x[n], X, N)
    with pytest.raises(IndexOutOfRangeError, match=r"take at test_selecting\.py"):
        mc.interpret(graph, X, N + 5)
    with pytest.raises(IndexOutOfRangeError, match=r"take at test_selecting\.py"):
        mc.take(X, N + 5, 0)


def test_take(agree):
    for axis in (None, 0, -1):
        agree(lambda x, i, a=axis: mc.take(x, i, a), np.take(X, M, axis), X, M)
    agree(lambda x: mc.take(x, 1, 1), np.take(X, 1, 1), X)
    agree(lambda x: mc.take(x, [[1]], dim=1), np.take(X, [[1]], 1), X)
    agree(lambda x: mc.take(x, np.array([1, 2], np.uint8), 0), X[[1, 2]], X)
    with pytest.raises(UnsupportedError, match="mode 'clip'"):
        mc.take(X, N, 0, mode="clip")


def test_take_along_axis_broadcasts(agree):
    i = np.argsort(X, 1)[:, ::-1]
    agree(lambda x, i: mc.take_along_axis(x, i, 1), np.take_along_axis(X, i, 1), X, i)
    one = np.array([[[2]]])
    agree(lambda x, i: mc.take_along_axis(x, i, -1), np.take_along_axis(X, one, -1), X, one)
    agree(lambda x, i: mc.take_along_axis(x, i, None), np.take_along_axis(X, N, None), X, N)
    with pytest.raises(ShapeError, match="wanted 3 axes"):
        mc.take_along_axis(X, N, 0)


def test_gather_takes_short_indices(agree):
    i = np.array([[[3, 0], [1, 2]]])
    expected = np.take_along_axis(X[:1, :2], i, 2)
    agree(lambda x, i: mc.gather(x, 2, i), expected, X, i)
    with pytest.raises(ShapeError, match=r"larger than .* along axis 1"):
        mc.gather(X, 0, np.zeros((1, 9, 1), np.int64))


def test_embedding(agree):
    table = X.reshape(12, 5)
    agree(mc.embedding, table[M], M, table)
    with pytest.raises(ShapeError, match=r"wanted \(rows, features\)"):
        mc.embedding(M, X)


def test_taking_from_an_empty_axis_is_refused():
    with pytest.raises(ShapeError, match="it is empty"):
        mc.take(np.zeros((0, 2)), N, 0)
    assert mc.take(np.zeros((0, 2)), np.zeros(0, np.int64), 0).shape == (0, 2)
