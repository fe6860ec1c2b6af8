"""Rearranging: the same elements as NumPy puts in the same places."""

import numpy as np
import pytest

import minicomp as mc
from minicomp.errors import AttributeValueError, ShapeError, TraceError, UnsupportedError

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


@pytest.mark.parametrize("shape", [(6, 4), (-1,), 24, (2, -1, 2), (1, 24, 1)])
def test_reshape(agree, shape):
    agree(lambda x: mc.reshape(x, shape), X.reshape(shape), X)
    agree(mc.ravel, X.ravel(), X)


def test_reshape_of_empty_and_of_one(agree):
    agree(lambda x: mc.reshape(x, (3, 0, 2)), np.zeros((3, 0, 2)), np.zeros((0, 5)))
    agree(lambda x: mc.reshape(x, ()), np.float32(1), np.ones((1, 1), np.float32))


@pytest.mark.parametrize(
    ("shape", "error", "message"),
    [
        ((5, 5), ShapeError, r"cannot reshape \(2, 3, 4\) \(24 elements\) to \(5, 5\)"),
        ((-1, 7), ShapeError, "cannot reshape"),
        ((-1, -1), AttributeValueError, "more than one -1"),
        ((2.0, 12), AttributeValueError, "a size is 2.0, wanted an int"),
        ((-2, 12), AttributeValueError, "sizes are non-negative"),
    ],
)
def test_impossible_reshapes_are_named(shape, error, message):
    with pytest.raises(error, match=message):
        mc.reshape(X, shape)


@pytest.mark.parametrize(("start", "end"), [(0, -1), (1, -1), (0, 1), (1, 1)])
def test_flatten(agree, start, end):
    joined = [*X.shape[:start], -1, *X.shape[end % 3 + 1 :]]
    agree(lambda x: mc.flatten(x, start, end), X.reshape(joined), X)


def test_flatten_of_a_number_has_one_axis(agree):
    agree(mc.flatten, np.ones(1), np.float64(1))
    with pytest.raises(AttributeValueError, match="axis 1 of a tensor with 1 axes"):
        mc.flatten(np.float64(1), 1)
    with pytest.raises(AttributeValueError, match="comes after"):
        mc.flatten(X, 2, 1)


def test_transpositions(agree):
    agree(mc.transpose, X.T, X)
    agree(lambda x: mc.transpose(x, (2, 0, 1)), X.transpose(2, 0, 1), X)
    agree(lambda x: mc.permute(x, (-1, 0, 1)), X.transpose(-1, 0, 1), X)
    agree(lambda x: mc.swapaxes(x, 0, -1), X.swapaxes(0, -1), X)
    agree(mc.matrix_transpose, X.swapaxes(1, 2), X)
    agree(lambda x: mc.moveaxis(x, 0, -1), np.moveaxis(X, 0, -1), X)
    agree(lambda x: mc.moveaxis(x, (0, 2), (2, 0)), np.moveaxis(X, (0, 2), (2, 0)), X)


def test_impossible_transpositions_are_named():
    with pytest.raises(AttributeValueError, match="does not permute 3 axes; to swap two"):
        mc.transpose(X, (0, 1))
    with pytest.raises(AttributeValueError, match="names the same axis twice"):
        mc.transpose(X, (0, 0, 1))
    with pytest.raises(AttributeValueError, match="2 axes to move and 1 places"):
        mc.moveaxis(X, (0, 1), 0)


def test_axes_of_size_1_come_and_go(agree):
    y = X.reshape(1, 24, 1)
    agree(mc.squeeze, y.squeeze(), y)
    agree(lambda x: mc.squeeze(x, -1), y.squeeze(-1), y)
    agree(lambda x: mc.squeeze(x, (0, 2)), y.squeeze((0, 2)), y)
    agree(lambda x: mc.expand_dims(x, (0, -1)), np.expand_dims(X, (0, -1)), X)
    agree(lambda x: mc.unsqueeze(x, 1), X[:, None], X)
    with pytest.raises(ShapeError, match=r"axis 1 of .* has size 3, not 1"):
        mc.squeeze(X, 1)


def test_broadcasts(agree):
    agree(
        lambda x: mc.broadcast_to(x, (2, 2, 3)),
        np.broadcast_to(X[0, 0, :3], (2, 2, 3)),
        X[0, 0, :3],
    )
    row, column = np.ones(3), np.ones((2, 1), np.int32)
    agree(mc.broadcast_arrays, np.broadcast_arrays(row, column), row, column)
    with pytest.raises(ShapeError, match=r"cannot broadcast \(2, 3, 4\) to \(2, 3\)"):
        mc.broadcast_to(X, (2, 3))


@pytest.mark.parametrize("axis", [0, -1, None])
def test_concatenate_promotes(agree, axis):
    a, b = X, X.astype(np.int64)
    graph = agree(
        lambda a, b: mc.concatenate([a, b, a], axis), np.concatenate([a, b, a], axis), a, b
    )
    assert [value.op for value in graph][-1] == "concatenate"


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_stack(agree, axis):
    agree(lambda x: mc.stack((x, x + 1), axis), np.stack((X, X + 1), axis), X)


def test_what_does_not_join_is_named():
    with pytest.raises(ShapeError, match=r"\(2, 3, 4\) and \(2, 3, 5\) differ beside axis 0"):
        mc.concatenate([X, np.zeros((2, 3, 5), np.float32)])
    with pytest.raises(ShapeError, match="tensors of one rank"):
        mc.concatenate([X, X[0]])
    with pytest.raises(ShapeError, match="wanted tensors of one shape"):
        mc.stack([X, X[0]])
    with pytest.raises(AttributeValueError, match="nothing to concatenate"):
        mc.concatenate([])
    with pytest.raises(TraceError, match=r"join them with minicomp\.stack"):
        mc.trace(lambda x: mc.exp([x, x]), X)


def test_split_and_chunk(agree):
    for parts in (2, 4, [1, 3], [0, 9], range(1, 4)):
        expected = np.split(X, list(parts) if isinstance(parts, range) else parts, 2)
        agree(lambda x, p=parts: mc.split(x, p, -1), expected, X)
    agree(lambda x: mc.chunk(x, 3, 2), [X[..., :2], X[..., 2:]], X)
    with pytest.raises(ShapeError, match="axis 1 of size 3 does not fall into 2 parts"):
        mc.split(X, 2, 1)


def test_pad(agree):
    for width in (1, (1, 2), ((0, 1), (2, 0), (0, 0)), 0):
        agree(lambda x, w=width: mc.pad(x, w), np.pad(X, width), X)
    ints = X.astype(np.int32)
    agree(lambda x: mc.pad(x, 1, constant_values=7), np.pad(ints, 1, constant_values=7), ints)
    agree(lambda x: mc.pad(x, 1), np.pad(np.ones(2, bool), 1), np.ones(2, bool))


@pytest.mark.parametrize("mode", ["edge", "reflect", "symmetric", "wrap"])
@pytest.mark.parametrize("width", [1, (2, 0), ((0, 1), (2, 0), (5, 9)), 0])
def test_padding_with_a_tensors_own_elements(agree, mode, width):
    agree(lambda x: mc.pad(x, width, mode), np.pad(X, width, mode), X)


def test_impossible_padding_is_named():
    with pytest.raises(UnsupportedError, match="mode 'mean' is not supported, only constant, edge"):
        mc.pad(X, 1, mode="mean")
    with pytest.raises(ShapeError, match="axis 1 is empty"):
        mc.pad(np.zeros((2, 0)), 1, mode="edge")
    with pytest.raises(AttributeValueError, match="0 or more"):
        mc.pad(X, -1, mode="edge")
    with pytest.raises(UnsupportedError, match="one number"):
        mc.pad(X, 1, constant_values=(0, 1))
    with pytest.raises(AttributeValueError, match="does not fit 3 axes"):
        mc.pad(X, ((1, 1), (2, 2)))
    with pytest.raises(AttributeValueError, match="negative; slice instead"):
        mc.pad(X, -1)


def test_reversals_and_rotations(agree):
    agree(mc.flip, np.flip(X), X)
    agree(lambda x: mc.flip(x, (0, -1)), np.flip(X, (0, -1)), X)
    agree(lambda x: mc.roll(x, 5), np.roll(X, 5), X)
    agree(lambda x: mc.roll(x, -1, 1), np.roll(X, -1, 1), X)
    agree(lambda x: mc.roll(x, (1, 2), (0, 2)), np.roll(X, (1, 2), (0, 2)), X)
    empty = np.zeros((0, 2))
    agree(lambda x: mc.roll(mc.flip(x), 1, 0), empty, empty)


def test_repetitions(agree):
    agree(lambda x: mc.repeat(x, 2, 1), np.repeat(X, 2, 1), X)
    agree(lambda x: mc.repeat(x, 3), np.repeat(X, 3), X)
    agree(lambda x: mc.repeat_interleave(x, 2, dim=-1), np.repeat(X, 2, -1), X)
    for reps in (2, (2, 3), (2, 1, 1, 3)):
        agree(lambda x, r=reps: mc.tile(x, r), np.tile(X, reps), X)
