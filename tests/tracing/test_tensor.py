"""Operators and methods of traced tensors: each as NumPy's, traced and interpreted."""

import math
import operator
import re

import numpy as np
import pytest

import minicomp as mc
from minicomp.errors import (
    AttributeValueError,
    ControlFlowError,
    ShapeError,
    TraceError,
    UnsupportedError,
)

X = np.array([[1.5, -2.0, 3.0], [0.5, 4.0, -1.0]], np.float32)
Y = np.array([[2.0, 1.0, -3.0], [0.5, -2.0, 1.0]], np.float32)
N = np.array([[1, 2, 3], [4, 5, 6]])


def same(function, expected, *arrays):
    got = mc.interpret(mc.trace(function, *arrays), *arrays)
    expected = np.asarray(expected)
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


ARITHMETIC = [
    operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod,
    operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne,
]  # fmt: skip


@pytest.mark.parametrize("operation", ARITHMETIC, ids=lambda f: f.__name__)
def test_operators(operation):
    same(operation, operation(X, Y), X, Y)
    same(lambda x: operation(x, 2), operation(X, 2), X)
    same(lambda x: operation(2, x), operation(2, X), X)
    same(lambda x: operation(Y, x), operation(Y, X), X)
    same(lambda x: operation(np.float32(2), x), operation(np.float32(2), X), X)


def test_more_operators():
    same(lambda x: x**2, X**2, X)
    same(lambda x: 2**x, 2**X, X)
    same(lambda x, y: x @ y.T, X @ Y.T, X, Y)
    same(lambda x: Y @ x.T, Y @ X.T, X)
    same(lambda x: -x + +x, X * 0, X)
    same(abs, abs(X), X)
    same(lambda x: round(x, 1), X.round(1), X)
    same(math.floor, np.floor(X), X)
    same(lambda x: divmod(x, 2)[0] + divmod(x, 2)[1], X // 2 + X % 2, X)
    same(lambda x: divmod(2, x)[0] + divmod(2, x)[1], 2 // X + 2 % X, X)
    for operation in (operator.and_, operator.or_, operator.xor):
        same(operation, operation(N, N[::-1]), N, N[::-1].copy())
        same(lambda x, f=operation: f(3, x), operation(3, N), N)
    same(lambda x: ~x, ~N, N)
    same(lambda x: ~(x > 0), ~(X > 0), X)


IN_PLACE = {"iadd": "+", "isub": "-", "imul": "*", "itruediv": "/", "ifloordiv": "//", "imod": "%",
            "ipow": "**", "imatmul": "@", "iand": "&", "ior": "|", "ixor": "^"}  # fmt: skip


@pytest.mark.parametrize("name", IN_PLACE)
def test_augmented_assignment_is_refused_since_other_names_would_not_see_it(name):
    def function(x):
        return getattr(operator, name)(x, x)

    symbol = re.escape(IN_PLACE[name])
    message = (
        rf"^{symbol}= at test_tensor.py:\d+: .* write x = x {symbol} y instead of x {symbol}= y"
    )
    with pytest.raises(TraceError, match=message):
        mc.trace(function, X)


NUMPY_METHODS = [
    lambda x: x.sum(0),
    lambda x: x.mean(axis=-1, keepdims=True),
    lambda x: x.max(),
    lambda x: x.min(1),
    lambda x: x.prod(),
    lambda x: x.var(0),
    lambda x: x.std(),
    lambda x: x.argmax(1),
    lambda x: x.argmin(),
    lambda x: (x > 0).any(0),
    lambda x: (x > 0).all(),
    lambda x: x.cumsum(1),
    lambda x: x.clip(-1, 1),
    lambda x: x.round(),
    lambda x: x.reshape(3, 2),
    lambda x: x.reshape((3, -1)),
    lambda x: x.ravel(),
    lambda x: x.T,
    lambda x: x.mT,
    lambda x: x.transpose(),
    lambda x: x.transpose(1, 0),
    lambda x: x.transpose((0, 1)),
    lambda x: x.swapaxes(0, 1),
    lambda x: x[None].squeeze(0),
    lambda x: x.astype(np.int64),
    lambda x: x.copy(),
    lambda x: x.dot(x.T),
    lambda x: x.take([1], 1),
    lambda x: x.repeat(2, 1),
    lambda x: x[:, ::-1],
    lambda x: x[1],
    lambda x: x[..., 0],
    lambda x: x.flatten(),
]


@pytest.mark.parametrize("function", NUMPY_METHODS)
def test_methods_of_numpys_arrays(function):
    same(function, function(X), X)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x.view(3, -1), X.reshape(3, 2)),
        (lambda x: x.permute(1, 0), X.T),
        (lambda x: x.t(), X.T),
        (lambda x: x.unsqueeze(1), X[:, None]),
        (lambda x: x[:1].expand(4, -1), np.broadcast_to(X[:1], (4, 3))),
        (lambda x: x[0].expand(2, 2, -1), np.broadcast_to(X[0], (2, 2, 3))),
        (lambda x: x.sum(dim=1, keepdim=True), X.sum(1, keepdims=True)),
        (lambda x: x.amax(1), X.max(1)),
        (lambda x: x.exp().log().neg(), -X),
        (lambda x: x.relu(), np.maximum(X, 0)),
        (lambda x: x.masked_fill(x < 0, -math.inf), np.where(X < 0, np.float32(-np.inf), X)),
        (lambda x: x.mm(x.T).add(1), X @ X.T + 1),
        (lambda x: x.to(np.float64), X.astype(np.float64)),
        (lambda x: x.to("cpu"), X),
        (lambda x: x.double().float().half().bool(), X != 0),
        (lambda x: x.int(), X.astype(np.int32)),
        (lambda x: x.long(), X.astype(np.int64)),
        (lambda x: x.contiguous().clone().detach(), X),
        (lambda x: x.flatten(0), X.ravel()),
        (lambda x: x.gather(1, N - N), X[:, [0, 0, 0]]),
        (lambda x: x.chunk(2, dim=0)[1], X[1:]),
        (lambda x: x * x.size(0) + x.dim() + x.numel() + x.ndim, X * 2 + 10),
        (lambda x: x.clamp(min=0), np.maximum(X, 0)),
    ],
)
def test_methods_of_pytorchs_tensors(function, expected):
    same(function, expected, X)


def test_what_is_known_before_the_call():
    def function(x):
        assert x.shape == (2, 3)
        assert x.size == 6
        assert x.size() == (2, 3)
        assert x.dtype == np.float32
        assert x.device == "cpu"
        assert len(x) == 2
        assert repr(x) == "Tensor(f32[2,3] = input)"
        assert {x: 1}[x] == 1
        rows = list(x)
        return rows[1]

    same(function, X[1], X)


def test_transposes_of_two_axes_say_to_swap_them():
    with pytest.raises(AttributeValueError, match="to swap two, use swapaxes"):
        mc.trace(lambda x: x.transpose(1, 2), np.zeros((2, 3, 4)))


ASKING = [
    (bool, r"bool\(\) at .*Python cannot branch on it; choose by data with minicomp\.where"),
    (lambda x: x > 0 and x < 1, r"in place of `and`, `or`, `not` write &, \|, ~"),
    (lambda x: 0 < x < 1, r"\(x > 0\) & \(x < 1\) for 0 < x < 1"),
    (lambda x: max(x, 0), r"in place of max\(\) and min\(\) minicomp\.maximum and minimum"),
    (lambda x: 1 in x, r"in at .*use minicomp\.any"),
    (int, r"int\(\) at .*it is no Python number"),
    (float, r"float\(\) at .*it is no Python number; keep it a tensor"),
    (complex, r"complex\(\) at "),
    (math.exp, r"minicomp\.exp\(x\) for math\.exp\(x\)"),
    (range, "it is no Python int; sizes and loops take numbers known before the call"),
    (lambda x: [0, 1][x], "it is no Python int"),
    (lambda x: x.item(), r"item\(\) at "),
    (lambda x: x.tolist(), r"tolist\(\) at "),
    (lambda x: x.numpy(), r"numpy\(\) at "),
    (np.asarray, "a NumPy array from it at .*it is no array; use functions of minicomp"),
    (lambda x: f"{x:.2f}", r"the format '\.2f' at .*print the tensor itself"),
    (lambda x: np.array([x, x]), r"join a list of tensors with minicomp\.stack"),
]


@pytest.mark.parametrize(("ask", "message"), ASKING)
def test_asking_for_numbers_is_refused_with_advice(ask, message):
    with pytest.raises(ControlFlowError, match=message) as caught:
        mc.trace(ask, np.array(1))
    assert "test_tensor.py" in str(caught.value) or "has no numbers" in str(caught.value)
    assert isinstance(caught.value, TypeError)


def test_assignment_to_items_is_refused():
    def function(x):
        x[0] = 1
        return x

    with pytest.raises(
        TraceError, match=r"assignment to an item at test_tensor\.py.*minicomp\.where"
    ):
        mc.trace(function, X)


def test_a_number_has_no_length_and_no_rows():
    with pytest.raises(TraceError, match=r"len\(\) at .*without axes"):
        mc.trace(len, np.float32(1))
    with pytest.raises(TraceError, match=r"iter\(\) at .*nothing to iterate"):
        mc.trace(list, np.float32(1))


def test_moving_to_another_device_within_a_trace_is_refused():
    with pytest.raises(UnsupportedError, match="a tensor stays on its device, cpu"):
        mc.trace(lambda x: x.to("cuda:0"), X)


@pytest.mark.parametrize("shift", [lambda x: x << 1, lambda x: x >> 1, lambda x: 1 << x])
def test_shifts_are_refused_with_the_users_line(shift):
    with pytest.raises(UnsupportedError, match=r"<< or >> at test_tensor\.py.*a power of two"):
        mc.trace(shift, np.arange(3))


def test_a_tensor_without_a_format_is_text_as_it_prints():
    seen = []

    def function(x):
        seen.append(f"{x}")
        return x

    mc.trace(function, np.zeros((2, 3), np.float32))
    assert seen == ["Tensor(f32[2,3] = input)"]


def test_operators_with_what_is_no_tensor_are_refused():
    with pytest.raises(TraceError, match="got a str, wanted a tensor, an array or a number"):
        mc.trace(lambda x: x + "1", X)
    with pytest.raises(ShapeError, match="do not broadcast"):
        mc.trace(lambda x: x + Y[:, :2], X)
