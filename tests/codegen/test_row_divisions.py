"""Divisions by a row's sum: which become multiplications, and that these are as good."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_meaning import run_kernel
from test_loop_schedule import kernel_of, softmax

from minicomp.codegen.row_divisions import multiply_by_reciprocals
from minicomp.kernels.varying import Varying
from minicomp.kernels.walk import kernel_roots, walk

FLOATS = {"f32": np.float32, "f64": np.float64}


def divided(op="sum", columns=5, between=(), kind="f32"):
    """x / op(x) along rows; `between` are ops on the divisor, with a literal."""
    full, column = f"{kind}[3,{columns}]", f"{kind}[3,1]"
    lines = [
        f"%one = full() {{shape=[3,1], value=0.25, dtype={kind}}} : {column}",
        f"%total = {op}(%x) {{axes=[1], keepdims=true}} : {column}",
    ]
    last = "%total"
    for number, name in enumerate(between):
        operands = last if name in ("sqrt", "abs") else f"{last}, %one"
        lines.append(f"%{number} = {name}({operands}) : {column}")
        last = f"%{number}"
    lines += [
        f"%wide = broadcast({last}) {{shape=[3,{columns}]}} : {full}",
        f"%out = div(%x, %wide) : {full}",
    ]
    return kernel_of(f"%x: {full}", *lines)


def divisions(kernel):
    """How many there are an element, and how many a row."""
    varying = Varying(kernel.inner, ())
    found = [s for s in walk(kernel_roots(kernel)) if getattr(s, "op", "") == "div"]
    return sum(map(varying, found)), sum(not varying(scalar) for scalar in found)


def test_softmax_divides_once_a_row():
    kernel = multiply_by_reciprocals(softmax())
    assert divisions(kernel) == (0, 1)
    last = str(kernel).splitlines()[-1].strip()
    assert last.startswith("div[1000*o0 + i0] = mul(mul(exp(sub(x[1000*o0 + i0], r0)), div(1.0, ")


@pytest.mark.parametrize("between", [(), ("add",), ("mul", "sqrt"), ("div", "add", "sqrt")])
def test_divisors_with_the_error_of_a_sum_are_inverted(between):
    kernel = divided(between=between)
    assert divisions(kernel)[0] == 1
    assert divisions(multiply_by_reciprocals(kernel))[0] == 0


@pytest.mark.parametrize(
    "kernel",
    [divided("max"), divided("min"), divided("sum", columns=1), divided(between=("abs",)),
     divided(between=("maximum",))],
    ids=["max", "min", "a sum of one", "abs", "maximum"],
)  # fmt: skip
def test_divisors_that_may_be_exact_divide(kernel):
    assert multiply_by_reciprocals(kernel) is kernel


def test_a_running_sum_divides():
    kernel = kernel_of(
        "%x: f32[3,5]",
        "%0 = cumsum(%x) {axis=1} : f32[3,5]",
        "%1 = div(%x, %0) : f32[3,5]",
    )
    assert multiply_by_reciprocals(kernel) is kernel


def results(kernel, x):
    out = np.empty(x.size, x.dtype)
    run_kernel(kernel, [np.ravel(x), out])
    return out.reshape(x.shape)


@pytest.mark.parametrize("kind", list(FLOATS))
def test_special_and_extreme_divisors_give_what_division_gives(kind):
    info = np.finfo(FLOATS[kind])
    tiny, small, huge = info.smallest_subnormal, info.tiny, info.max
    rows = [
        [0, 0, 0, 0, 0], [1, -1, 0, 0, 0], [np.inf, 1, 2, -3, 0], [np.inf, -np.inf, 1, 0, 2],
        [np.nan, 1, 2, 3, 4], [tiny, 0, 0, 0, 0], [tiny, tiny, 3 * tiny, 0, -tiny],
        [small, tiny, -small / 3, 0, 0], [huge / 8, huge / 3, -huge / 5, 1, tiny],
        [huge / 2, 0, 0, 0, small], [-huge / 4, huge / 64, tiny, 2, 3], [1e-30, 1e-30, 0, 0, 1e-33],
        [1e30, 3e30, 1e-30, 0, -1e29], [1, 2, 3, 4, 5], [49, 0, 0, 0, 0],
    ]  # fmt: skip
    kernel = divided(kind=kind)
    changed = multiply_by_reciprocals(kernel)
    assert changed is not kernel
    for first in range(0, len(rows), 3):
        x = np.array(rows[first : first + 3], FLOATS[kind])
        wanted, got = results(kernel, x), results(changed, x)
        with np.errstate(all="ignore"):
            bound = 2 * info.eps * np.abs(wanted) + tiny
            good = (np.abs(got - wanted) <= bound) | (got == wanted)
        assert (good | (np.isnan(got) & np.isnan(wanted))).all(), (x, got, wanted)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=15, max_size=15)
)
def test_quotients_are_within_two_ulps(numbers):
    x = np.array(numbers, np.float32).reshape(3, 5)
    kernel = divided()
    wanted, got = results(kernel, x), results(multiply_by_reciprocals(kernel), x)
    with np.errstate(all="ignore"):
        bound = 2 * 2.0**-23 * np.abs(wanted) + 2.0**-149
        good = (got == wanted) | (np.abs(got - wanted) <= bound)
    assert (good | (np.isnan(got) & np.isnan(wanted))).all()
