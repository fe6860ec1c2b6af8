"""Folding axes: values, dtypes and shapes as NumPy has them."""

import warnings

import numpy as np
import pytest

import minicomp as mc
from minicomp.errors import AttributeValueError, DTypeError, ShapeError, UnsupportedError

DTYPES = ["bool", "int32", "int64", "float32", "float64"]
AXES = [None, 0, -1, (0, 2), (-1, 1), ()]


def sample(dtype, shape=(2, 3, 4)):
    numbers = np.random.default_rng(3).uniform(-3, 3, shape)
    return numbers > 0 if dtype == "bool" else numbers.astype(dtype)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_reductions_over_axes(agree, dtype, axis, keepdims):
    x = sample(dtype)
    for name in ("sum", "prod", "max", "min", "amax", "amin", "any", "all", "mean"):
        expected = getattr(np, name)(x, axis=axis, keepdims=keepdims)
        function = getattr(mc, name)
        agree(lambda x, f=function: f(x, axis, keepdims=keepdims), expected, x)


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("dtype", ["int32", "bool", "float32", "float64"])
def test_variance_and_standard_deviation(agree, dtype, ddof):
    x = sample(dtype)
    for axis in (None, 1, (0, -1)):
        expected = np.var(x.astype(np.float64), axis, ddof=ddof)
        expected = expected.astype(dtype if dtype == "float32" else "float64")
        agree(lambda x, a=axis: mc.var(x, a, ddof=ddof), expected, x)
        agree(lambda x, a=axis: mc.std(x, a, correction=ddof), np.sqrt(expected), x)


def test_variance_of_too_few_is_not_a_number(agree):
    agree(lambda x: mc.var(x, ddof=1), np.float64(np.nan), np.ones(1))


@pytest.mark.parametrize("dtype", ["int32", "float32", "float64"])
def test_positions_of_extremes(agree, dtype):
    x = sample(dtype)
    x[1] = x[0]  # ties: the first counts
    for axis in (None, 0, -1):
        for keepdims in (False, True):
            for name in ("argmax", "argmin"):
                expected = getattr(np, name)(x, axis, keepdims=keepdims)
                function = getattr(mc, name)
                agree(lambda x, f=function, a=axis, k=keepdims: f(x, a, keepdims=k), expected, x)


def test_nan_wins_extremes(agree):
    x = np.array([[1.0, np.nan], [2.0, 3.0]])
    for name in ("max", "min", "argmax", "argmin"):
        agree(lambda x, n=name: getattr(mc, n)(x, 1), getattr(np, name)(x, 1), x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [None, 0, -1])
def test_running_sums(agree, dtype, axis):
    x = sample(dtype)
    agree(lambda x: mc.cumsum(x, axis), np.cumsum(x, axis), x)


def test_running_sum_of_a_number(agree):
    agree(mc.cumsum, np.cumsum(np.float64(2)), np.float64(2))


@pytest.mark.parametrize("name", ["sum", "prod", "mean", "any", "all"])
def test_empty_axes_have_identities(agree, name):
    x = np.zeros((0, 3), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns of the mean of nothing, NaN
        agree(lambda x: getattr(mc, name)(x, 0), getattr(np, name)(x, 0), x)


@pytest.mark.parametrize("name", ["max", "min", "argmax", "argmin"])
def test_empty_axes_have_no_extremes(name):
    with pytest.raises(ShapeError, match="nothing to pick"):
        getattr(mc, name)(np.zeros((0, 3)), 0)
    assert getattr(mc, name)(np.zeros((0, 3)), 1).shape == (0,)


def test_sums_are_made_in_the_dtype_asked_for(agree):
    x = sample("float32")
    agree(lambda x: mc.sum(x, dtype=np.float64), np.sum(x, dtype=np.float64), x)
    agree(lambda x: mc.mean(x, 0, np.float64), np.mean(x, 0, np.float64), x)
    ints = sample("int32")
    agree(lambda x: mc.sum(x, 0, np.int32), np.sum(ints, 0, np.int32), ints)
    agree(lambda x: mc.cumsum(x, 0, np.float32), np.cumsum(ints, 0, np.float32), ints)


def test_pytorchs_names_of_arguments(agree):
    x = sample("float32")
    agree(lambda x: mc.sum(x, dim=1, keepdim=True), x.sum(1, keepdims=True), x)
    agree(lambda x: mc.argmax(x, dim=-1), x.argmax(-1), x)
    agree(lambda x: mc.cumsum(x, dim=0), np.cumsum(x, 0), x)


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda x: mc.softmax(x, axis=0, dim=1), "axis= and dim="),
        (lambda x: mc.sum(x, dim=1, dims=1), "axis= and dims="),
        (lambda x: x.sum(1, keepdim=True, keepdims=False), "keepdims= and keepdim="),
    ],
)
def test_an_argument_by_both_its_names_is_refused(function, names):
    message = rf"^\w+ at test_reductions\.py:\d+: got both {names}, which mean the same; give one"
    with pytest.raises(TypeError, match=message):
        mc.trace(function, np.zeros((2, 2)))


def test_max_over_dim_is_refused_since_pytorch_returns_two():
    with pytest.raises(UnsupportedError, match=r"use amax\(x, dim\)"):
        mc.max(np.zeros((2, 2)), dim=1)


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        (2, "axis 2 of a tensor with 2 axes; wanted -2 to 1"),
        ((0, -2), "names the same axis twice"),
        (1.5, "axis is 1.5, wanted an int"),
        (True, "axis is the bool True"),
    ],
)
def test_wrong_axes_are_named(axis, message):
    with pytest.raises(AttributeValueError, match=message):
        mc.sum(np.zeros((2, 2)), axis)


def test_an_axis_of_a_number_is_refused():
    with pytest.raises(AttributeValueError, match="0 axes; it has none"):
        mc.sum(np.float32(1), 0)


def test_a_wrong_dtype_argument_is_named():
    with pytest.raises(DTypeError, match="True is not a dtype"):
        mc.sum(np.zeros(2), 0, True)
