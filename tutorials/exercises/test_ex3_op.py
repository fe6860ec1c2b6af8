"""Grades ex3_op.py: the op joins the table and the emitter, and functions are compiled with it."""

import numpy as np
import pytest

import minicomp
from minicomp.codegen.llvm_emitter import LLVMEmitter
from minicomp.ir import FLOATS, type_rules
from minicomp.ir.ops import OPS, Op
from minicomp.tracing.record import apply


@pytest.fixture(autouse=True)
def softplus_op(answer, monkeypatch):
    row = Op(
        "softplus", "pointwise", 1, (), type_rules.pointwise(FLOATS), answer.softplus_meaning
    )  # fmt: skip
    monkeypatch.setitem(OPS, "softplus", row)
    code = staticmethod_of(answer.softplus_code)
    monkeypatch.setattr(LLVMEmitter, "softplus", code, raising=False)


def staticmethod_of(function):
    """A method of the emitter that calls the answer; its own name keeps tracebacks readable."""

    def softplus(self, x):
        return function(self, x)

    return softplus


def softplus(x):
    return apply("softplus", x)


def compiled(function, x):
    return minicomp.compile(function, options={"force_disable_caches": True})(x)


def test_moderate_numbers():
    x = np.linspace(-5, 5, 101, dtype=np.float32)
    np.testing.assert_allclose(compiled(softplus, x), np.log(1 + np.exp(x)), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_of_all_sizes(dtype):
    for number in [-1e4, -200, -30, -1e-3, 0, 1e-3, 30, 200, 1e4]:
        x = np.full(3, number, dtype)
        wanted, got = np.logaddexp(0, x)[0], compiled(softplus, x)[0]
        close = abs(got - wanted) <= 8 * np.finfo(dtype).eps * abs(wanted)
        assert close, (
            f"softplus({number:g}) in {dtype} is {wanted:.9g}, your code gives {got:.9g}. Look at "
            f"what exp({number:g}) is, and how many digits of it are left after 1 + exp({number:g})"
        )


def test_infinities_and_nan():
    x = np.array([-np.inf, np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(compiled(softplus, x), [0, np.inf, np.nan])


def test_it_is_fused_like_any_other_op():
    x = np.linspace(-1, 1, 64, dtype=np.float32)
    model = minicomp.compile(lambda x: softplus(x * 2) + 1, options={"force_disable_caches": True})
    np.testing.assert_allclose(model(x), np.logaddexp(0, x * 2) + 1, rtol=1e-5)
    kernels = [kernel.name for kernel in model.explain().kernels]
    assert len(kernels) == 1, f"one kernel should do it all, these do: {kernels}"
