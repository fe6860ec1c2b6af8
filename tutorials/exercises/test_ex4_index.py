"""Grades ex4_index.py: roll becomes a movement op, and functions are compiled with it."""

import numpy as np
import pytest

import minicomp
from minicomp.ir.ops import OPS, Op
from minicomp.kernels import lowering
from minicomp.passes import materialize as materialize_module
from minicomp.tracing.record import apply


@pytest.fixture(autouse=True)
def roll_op(answer, monkeypatch):
    def compute(x, shifts):
        return np.roll(x, shifts, axis=tuple(range(x.ndim)))

    row = Op("roll", "movement", 1, ("shifts",), lambda types, attributes: types[0], compute)
    monkeypatch.setitem(OPS, "roll", row)
    known = lowering.movement_index

    def movement_index(value, index):
        if value.op == "roll":
            return answer.roll_index(index, value.shape, value.attributes["shifts"])
        return known(value, index)

    for module in (lowering, materialize_module):
        monkeypatch.setattr(module, "movement_index", movement_index)


def roll(x, *shifts):
    return apply("roll", x, shifts=shifts)


def compiled(function, *arrays):
    model = minicomp.compile(function, options={"force_disable_caches": True})
    return model(*arrays), [kernel.name for kernel in model.explain().kernels]


def test_one_axis_by_three_places():
    x = np.arange(10, dtype=np.float32)
    result, _ = compiled(lambda x: roll(x, 3) + 0, x)
    np.testing.assert_array_equal(
        result, np.roll(x, 3), err_msg="roll([0, 1, ...], 3) begins with 7, 8, 9, 0"
    )


@pytest.mark.parametrize("shifts", [(0, 0), (1, 0), (0, 5), (-1, -2), (100, -100)])
def test_two_axes(shifts):
    x = np.arange(4 * 33, dtype=np.float32).reshape(4, 33)
    result, _ = compiled(lambda x: roll(x, *shifts) + 0, x)
    np.testing.assert_array_equal(result, np.roll(x, shifts, axis=(0, 1)), err_msg=f"{shifts=}")


def test_rolling_is_part_of_the_kernel_that_reads():
    x = np.linspace(0, 1, 100, dtype=np.float32)
    result, kernels = compiled(lambda x: np.exp(x - roll(x, 1)), x)
    np.testing.assert_allclose(result, np.exp(x - np.roll(x, 1)), rtol=1e-5)
    assert len(kernels) == 1, f"one kernel should do it all, these do: {kernels}"
