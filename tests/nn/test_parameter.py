"""Parameters: arrays outside a trace, references within one."""

import copy
import pickle

import numpy as np
import pytest

import minicomp as mc
from minicomp import nn
from minicomp.errors import ControlFlowError, DeviceError, DTypeError, TraceError

X = np.arange(6, dtype=np.float32).reshape(2, 3)


class GpuArray:
    shape, dtype = (2, 3), np.dtype(np.float32)

    @property
    def __cuda_array_interface__(self):
        return {"shape": (2, 3), "typestr": "<f4", "data": (0x1000, False)}


def test_outside_a_trace_operators_give_arrays():
    p = nn.Parameter(X)
    for got, expected in [
        (p + 1, X + 1),
        (1 - p, 1 - X),
        (p @ X.T, X @ X.T),
        (X @ p.T, X @ X.T),
        (p > 2, X > 2),
        (-p, -X),
        (p.sum(0), X.sum(0)),
        (np.exp(p), np.exp(X)),
        (np.asarray(p), X),
        (p[1], X[1]),
        (p[X > 2], X[X > 2]),
        (p * p, X * X),
    ]:
        assert isinstance(got, np.ndarray)
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)


def test_it_looks_like_its_array():
    p = nn.Parameter(X)
    assert (p.shape, p.ndim, p.size, p.dtype, p.device) == ((2, 3), 2, 6, X.dtype, "cpu")
    assert p.data is X
    assert p.requires_grad
    assert len(p) == 2
    assert [row.tolist() for row in p] == X.tolist()
    assert repr(nn.Parameter([1.0, 2.0])) == "Parameter(array([1., 2.]), requires_grad=True)"
    assert p in {p: 1}
    assert p.numpy() is X
    np.testing.assert_array_equal(np.array(p, np.float64), X.astype(np.float64))


def test_numbers_come_out_of_a_parameter_without_axes():
    p = nn.Parameter(np.int64(3))
    assert (int(p), float(p), bool(p), p.item(), p.tolist()) == (3, 3.0, True, 3, 3)
    assert list(range(p)) == [0, 1, 2]


def test_changes_in_place_change_the_array():
    array = X.copy()
    p = nn.Parameter(array)
    q = p
    p += 1
    p -= 0.5 * X
    p *= 2
    p /= 4
    p **= 2
    p[0] = 7
    p[1, 1] += nn.Parameter(np.float32(1))
    expected = (((X + 1) - 0.5 * X) * 2 / 4) ** 2
    expected[0] = 7
    expected[1, 1] += 1
    assert p is q
    assert p.data is array
    np.testing.assert_array_equal(array, expected)


def test_a_parameter_without_axes_changes_in_place():
    p = nn.Parameter(np.float32(1))
    p += 2
    assert isinstance(p.data, np.ndarray)
    assert p.data == 3


def test_copies_are_apart():
    p = nn.Parameter(X.copy())
    for other in (p.copy(), p.clone(), copy.deepcopy(p).data, pickle.loads(pickle.dumps(p)).data):
        other[...] = 9
    np.testing.assert_array_equal(p.data, X)
    assert copy.deepcopy(p).requires_grad


def test_a_parameter_of_a_parameter_shares_its_array():
    p = nn.Parameter(X)
    assert nn.Parameter(p).data is X


def test_within_a_trace_it_is_a_reference():
    p = nn.Parameter(X.copy())

    def function(x):
        return x * p[0] + p.sum() + np.exp(p) + X @ p.T @ x + p.copy()

    graph = mc.trace(function, X)
    assert [value.op for value in graph].count("parameter") == 2  # p and X
    np.testing.assert_allclose(mc.interpret(graph, X), function(X), rtol=1e-6)


def test_within_a_trace_its_numbers_are_not_there():
    p = nn.Parameter(np.float32(1))
    for ask in (bool, int, float, lambda p: p.item(), lambda p: p.tolist(), lambda p: p.numpy()):
        with pytest.raises(ControlFlowError, match=r"a parameter \(f32\[\]\) has no numbers while"):
            mc.trace(lambda ask=ask: ask(p))
    with pytest.raises(ControlFlowError, match="it is no Python int"):
        mc.trace(lambda: range(p))


def test_within_a_trace_it_cannot_change():
    p = nn.Parameter(X.copy())

    def add(x):
        nonlocal p
        p += 1

    def assign(x):
        p[0] = 1

    with pytest.raises(TraceError, match=r"\+= at test_parameter\.py:\d+: a parameter cannot be"):
        mc.trace(add, X)
    with pytest.raises(TraceError, match=r"assignment to an item at .*change it outside"):
        mc.trace(assign, X)
    with pytest.raises(TraceError, match="a traced tensor cannot become a parameter"):
        mc.trace(lambda x: nn.Parameter(x), X)


def test_dtypes_that_the_ir_lacks_are_refused():
    with pytest.raises(DTypeError, match="dtype uint8 is not supported"):
        nn.Parameter(np.zeros(2, np.uint8))


def test_arrays_on_the_gpu_are_held_and_traced_but_not_computed_on():
    p = nn.Parameter(GpuArray())
    assert (p.device, p.shape) == ("cuda", (2, 3))
    graph = mc.trace(lambda: p * 2)
    assert {value.device for value in graph} == {"cuda"}
    with pytest.raises(DeviceError, match=r"fetch it with minicomp\.cuda\.to_host"):
        np.asarray(p)
    with pytest.raises(DeviceError, match="computed on by compiled functions alone"):
        mc.exp(p)


def test_tensors_on_two_devices_do_not_mix():
    with pytest.raises(DeviceError, match="operands are on different devices, cpu and cuda"):
        mc.trace(lambda x, y: x + y, X, GpuArray())
