"""NumPy's own functions on traced tensors give what they give on arrays."""

import operator
import re

import numpy as np
import pytest

import minicomp as mc
from minicomp import nn
from minicomp.errors import TraceError
from minicomp.tracing.numpy_protocol import FUNCTIONS, REDUCTIONS, UFUNCS

X = np.array([[1.5, 2.0, 3.0], [0.5, 4.0, 1.0]], np.float32)
Y = np.array([[2.0, 1.0, 3.0], [0.5, 2.0, 1.0]], np.float32)
N = np.array([[1, 2, 3], [4, 5, 6]])


def same(function, *arrays):
    got = mc.interpret(mc.trace(function, *arrays), *arrays)
    expected = function(*arrays)
    many = isinstance(expected, tuple | list)
    for a, b in zip(got if many else [got], expected if many else [expected], strict=True):
        b = np.asarray(b)
        assert (np.asarray(a).dtype, np.shape(a)) == (b.dtype, b.shape)
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("ufunc", list(UFUNCS), ids=lambda f: f.__name__)
def test_ufuncs(ufunc):
    logical = "bitwise" in ufunc.__name__ or ufunc in (np.invert,)
    x, y = (N, N[::-1].copy()) if logical else (X, Y)
    if ufunc is np.matmul:
        y = y.T.copy()
    if ufunc.nin == 1:
        same(lambda x: ufunc(x), x)
    else:
        same(lambda x, y: ufunc(x, y), x, y)
        same(lambda x: ufunc(x, y), x)
        same(lambda y: ufunc(x, y), y)


@pytest.mark.parametrize("ufunc", list(REDUCTIONS), ids=lambda f: f.__name__)
def test_reductions_of_ufuncs(ufunc):
    x = X > 1 if "logical" in ufunc.__name__ else X
    same(lambda x: ufunc.reduce(x), x)
    same(lambda x: ufunc.reduce(x, axis=(0, 1), keepdims=True), x)


CALLS = {
    "sum": lambda x: np.sum(x, axis=1, dtype=np.float64, keepdims=True),
    "prod": lambda x: np.prod(x, 0),
    "mean": lambda x: np.mean(x, axis=-1, keepdims=True),
    "var": lambda x: np.var(x, axis=0, ddof=1),
    "std": lambda x: np.std(x),
    "max": lambda x: np.max(x, axis=1, keepdims=True),
    "min": lambda x: np.min(x, 0),
    "amax": lambda x: np.amax(x),
    "amin": lambda x: np.amin(x, 1),
    "argmax": lambda x: np.argmax(x, axis=1),
    "argmin": lambda x: np.argmin(x),
    "any": lambda x: np.any(x > 3, axis=0),
    "all": lambda x: np.all(x > 0),
    "cumsum": lambda x: np.cumsum(x, axis=1),
    "reshape": lambda x: np.reshape(x, (3, 2)),
    "transpose": lambda x: np.transpose(x, axes=(1, 0)),
    "permute_dims": lambda x: np.permute_dims(x, (1, 0)),
    "matrix_transpose": lambda x: np.matrix_transpose(x),
    "swapaxes": lambda x: np.swapaxes(x, 0, 1),
    "moveaxis": lambda x: np.moveaxis(x, 0, 1),
    "squeeze": lambda x: np.squeeze(x[None], axis=0),
    "expand_dims": lambda x: np.expand_dims(x, axis=(0, 2)),
    "broadcast_to": lambda x: np.broadcast_to(x, (4, 2, 3)),
    "broadcast_arrays": lambda x: np.broadcast_arrays(x, x[0]),
    "concatenate": lambda x: np.concatenate([x, Y], axis=-1),
    "concat": lambda x: np.concat((x, x)),
    "stack": lambda x: np.stack([x, Y], axis=1),
    "split": lambda x: np.split(x, 3, axis=1),
    "array_split": lambda x: np.array_split(x, 2, axis=1),
    "pad": lambda x: np.pad(x, ((1, 0), (0, 2)), constant_values=3),
    "flip": lambda x: np.flip(x, axis=1),
    "roll": lambda x: np.roll(x, 1, axis=1),
    "repeat": lambda x: np.repeat(x, 2, axis=0),
    "tile": lambda x: np.tile(x, (2, 1)),
    "take": lambda x: np.take(x, [0, 2], axis=1),
    "take_along_axis": lambda x: np.take_along_axis(x, N % 3, axis=1),
    "where": lambda x: np.where(x > 1, x, 0.0),
    "clip": lambda x: np.clip(x, a_min=1, a_max=2),
    "round": lambda x: np.round(x, 1),
    "around": lambda x: np.around(x, decimals=0),
    "full_like": lambda x: np.full_like(x, 3),
    "zeros_like": lambda x: np.zeros_like(x, dtype=np.int64),
    "ones_like": lambda x: np.ones_like(x),
    "tril": lambda x: np.tril(x, k=1),
    "triu": lambda x: np.triu(x),
    "dot": lambda x: np.dot(x, Y.T),
    "outer": lambda x: np.outer(x, Y),
    "einsum": lambda x: np.einsum("ij,kj->ik", x, Y),
    "copy": lambda x: np.copy(x),
    "ravel": lambda x: np.ravel(x),
    "shape": lambda x: x * np.shape(x)[1],
    "ndim": lambda x: x * np.ndim(x),
    "size": lambda x: x * np.size(x) + np.size(x, 0),
    "vstack": lambda x: np.vstack([x, x[0], x]),
    "hstack": lambda x: np.hstack([x, x]),
    "column_stack": lambda x: np.column_stack([x, x[:, 0]]),
    "inner": lambda x: np.inner(x, Y),
    "diff": lambda x: np.diff(x),
    "ptp": lambda x: np.ptp(x, axis=1),
    "count_nonzero": lambda x: np.count_nonzero(x > 1, axis=0),
}

MORE_CALLS = [
    lambda x: np.hstack([x[0], x[1]]),
    lambda x: np.hstack([x[0, 0], x[1, 1]]),
    lambda x: np.vstack([x[0, 0], x[1, 1]]),
    lambda x: np.vstack((x[:, None], x[:, None])),
    lambda x: np.inner(x[0], x[1]),
    lambda x: np.inner(x, x[0]),
    lambda x: np.inner(np.stack([x, x]), np.stack([x, x, x])),
    lambda x: np.inner(x, x[0, 0]),
    lambda x: np.diff(a=x, n=2),
    lambda x: np.diff(x > 1, axis=0),
    lambda x: np.diff(x[:1], axis=0),
    lambda x: np.ptp(x),
    lambda x: np.ptp(x, 0, keepdims=True),
    lambda x: np.count_nonzero(x - 1, keepdims=True),
    lambda x: np.logaddexp(x * np.inf, x * np.inf) + np.logaddexp(-x / 0.0, x),
    lambda x: np.logaddexp(x * 1000, x),
    lambda x: np.fabs((x * 2).astype(np.int64)),
]


@pytest.mark.parametrize("function", MORE_CALLS)
def test_other_shapes_and_arguments(function):
    with np.errstate(all="ignore"):
        same(function, X)


@pytest.mark.parametrize("name", list(CALLS))
def test_functions(name):
    if not hasattr(np, name):
        pytest.skip("the installed NumPy has no such function")
    same(CALLS[name], X)


def test_every_function_in_the_table_is_tested():
    assert {getattr(np, name) for name in CALLS if hasattr(np, name)} == set(FUNCTIONS)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (np.sort, r"np\.sort at test_numpy_protocol\.py:\d+: NumPy's function has no equivalent"),
        (np.linalg.norm, r"np\.linalg\.norm at .*no equivalent"),
        (np.arctan, r"np\.arctan at .*no equivalent"),
        (np.multiply.accumulate, r"np\.multiply\.accumulate at .*no equivalent"),
        (lambda x: np.multiply.outer(x, x), r"np\.multiply\.outer at .*no equivalent"),
        (lambda x: np.add(x, 1, out=Y), r"np\.add at .*the argument out= changes arrays in place"),
        (lambda x: np.exp(x, where=x > 0), r"np\.exp at .*the argument where="),
        (lambda x: np.sum(x, out=Y), r"np\.sum at .*the argument out="),
        (lambda x: np.sum(x, where=Y > 1), r"np\.sum at .*the argument where="),
        (lambda x: np.sum(x, initial=3), r"np\.sum at .*unexpected keyword argument 'initial'"),
        (lambda x: np.add(x, x, dtype=np.float64), r"np\.add at .*keyword argument 'dtype'"),
        (lambda x: np.reshape(x, (3, 2), order="F"), r"np\.reshape at .*'order'"),
    ],
)
def test_what_has_no_equivalent_is_named(function, message):
    with pytest.raises(TraceError, match=message):
        mc.trace(lambda x: function(x), X)


IN_PLACE = {"iadd": "+", "isub": "-", "imul": "*", "itruediv": "/", "ifloordiv": "//", "imod": "%",
            "ipow": "**", "imatmul": "@", "iand": "&", "ior": "|", "ixor": "^"}  # fmt: skip


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place_operators_on_arrays_are_refused(name):
    def function(x):
        return getattr(operator, name)(np.zeros((3, 3), np.int64), x)

    symbol = re.escape(IN_PLACE[name])
    message = rf"^{symbol}= at test_numpy_protocol.py:\d+: an array .* acc = acc {symbol} x instead"
    with pytest.raises(TraceError, match=message):
        mc.trace(function, np.zeros((3, 3), np.int64))


def test_an_operator_on_a_part_of_an_array_is_refused_likewise():
    def function(x):
        total = np.zeros(3, np.float32)
        total[:1] -= x[0, 0]
        return total

    with pytest.raises(TraceError, match=r"^-= at .* acc = acc - x instead of acc -= x"):
        mc.trace(function, X)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, bool])
def test_an_element_of_an_array_set_to_a_tensor_is_refused_with_what_to_do(dtype):
    def function(x):
        out = np.zeros(2, dtype)
        out[0] = x[0, 1]
        return out

    line = function.__code__.co_firstlineno + 2
    message = rf"an item of an array at test_numpy_protocol\.py:{line}: .*minicomp\.stack or conc"
    with pytest.raises(TraceError, match=message) as caught:
        mc.trace(function, X)
    assert caught.value.__cause__ is None
    assert caught.traceback[-1].name == "function"


def test_a_value_error_of_the_users_own_comes_through_whatever_its_cause():
    def function(x):
        try:
            return float(x)
        except TypeError as error:
            raise ValueError("mine") from error

    with pytest.raises(ValueError, match=r"^mine$"):
        mc.trace(function, X)


def test_outside_a_trace_parameters_go_through_numpy_itself():
    weight = nn.Parameter(X.copy())
    np.testing.assert_array_equal(np.arctan(weight), np.arctan(X))
    np.testing.assert_array_equal(np.sort(weight, axis=1), np.sort(X, axis=1))
    np.testing.assert_array_equal(np.concatenate([weight, Y]), np.concatenate([X, Y]))
    assert isinstance(Y @ np.transpose(weight), np.ndarray)
    np.add(weight, 1, out=weight)
    np.testing.assert_array_equal(weight.data, X + 1)
