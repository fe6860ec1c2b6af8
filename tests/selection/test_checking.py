"""References and tolerances: right results pass, wrong ones do not, at every dtype and size."""

import numpy as np
import pytest
from selection_fakes import random_operands

from minicomp.selection.checking import output_reference, poison_like, product_reference


def judged(a, b, out, precision="highest"):
    return product_reference(a, b, precision).judge(np.asarray(out, a.dtype))


def one_by_one(a, b):
    """The product with each sum taken term by term in the operands' own dtype."""
    total = np.zeros((len(a), b.shape[1]), a.dtype)
    for k in range(a.shape[1]):
        total += a[:, k : k + 1] * b[k : k + 1]
    return total


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", [1, 3, 17, 256, 2048])
@pytest.mark.parametrize("kind", ["normal", "positive", "constant"])
def test_every_order_of_summation_passes(dtype, k, kind):
    a, b = random_operands(6, k, 7, dtype)
    if kind == "positive":
        a, b = np.abs(a), np.abs(b)
    if kind == "constant":
        a, b = np.full_like(a, 0.1), np.full_like(b, 0.1)
    assert judged(a, b, a @ b) is None
    assert judged(a, b, one_by_one(a, b)) is None
    assert judged(a, b, a[:, ::-1] @ b[::-1]) is None


@pytest.mark.parametrize("k", [16, 256, 1024])
def test_computing_in_half_precision_is_wrong_for_float32_unless_it_is_allowed(k):
    a, b = random_operands(32, k, 32)
    half = a.astype(np.float16).astype(np.float32) @ b.astype(np.float16).astype(np.float32)
    assert judged(a, b, half).startswith("wrong: ")
    assert judged(a, b, half, "high") is None
    assert judged(a, b, half, "medium") is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_wrong_element_is_found_and_named(dtype):
    a, b = random_operands(50, 100, 60, dtype)
    out = a @ b
    out[41, 13] += 0.01
    assert judged(a, b, out).startswith("wrong: 1 of 3000 elements, the worst at [41, 13]: got ")


def test_a_missing_last_term_is_found():
    a, b = random_operands(16, 1000, 16)
    assert judged(a, b, a[:, :-1] @ b[:-1]) is not None


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_integers_must_be_exact_and_wrap(dtype):
    limits = np.iinfo(dtype)
    a = np.array([[limits.max, 2], [3, limits.min]], dtype)
    b = np.array([[2, 1], [limits.max, 5]], dtype)
    assert judged(a, b, a @ b) is None
    assert judged(a, b, a @ b + 1) is not None
    assert judged(a, b, (a @ b) ^ limits.min) is not None


@pytest.mark.filterwarnings("ignore:invalid value")
def test_infinities_and_nans_must_come_out_where_they_belong():
    a, b = random_operands(4, 5, 6)
    a[1, 2] = np.inf
    a[3, 0] = np.nan
    out = a @ b
    assert judged(a, b, out) is None
    out[1, 0] = 0.0
    assert judged(a, b, out).startswith("wrong: 1 of 24 elements, the worst at [1, 0]: got 0")
    out = a @ b
    out[0, 0] = np.nan
    assert judged(a, b, out).startswith("wrong: 1 of 24 elements, the worst at [0, 0]: got nan")


def test_where_a_sum_may_overflow_any_order_of_summation_is_right():
    a = np.full((1, 4), 3e38, np.float32)
    b = np.array([[1], [1], [-1], [-1]], np.float32)
    assert judged(a, b, [[0.0]]) is None
    assert judged(a, b, [[np.nan]]) is None
    assert judged(a, b, [[np.inf]]) is None


def test_products_too_small_for_a_normal_number_may_be_flushed_to_zero():
    a, b = np.full((2, 3), 1e-20, np.float32), np.full((3, 2), 1e-19, np.float32)
    assert judged(a, b, np.zeros((2, 2))) is None


def test_float16_is_summed_in_float32_and_rounded_once():
    a, b = random_operands(8, 2048, 8)
    a, b = a.astype(np.float16), b.astype(np.float16)
    exact = a.astype(np.float32) @ b.astype(np.float32)
    assert judged(a, b, exact.astype(np.float16)) is None
    assert judged(a, b, one_by_one(a, b)) is not None
    large = np.full((2, 2048), 8, np.float16)
    assert judged(large, large.T, np.full((2, 2), np.inf)) is None  # 131072 is no float16


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_poison_is_a_nan_that_survives_an_addition_and_no_other_nan(dtype):
    poison = poison_like(np.empty((2, 3), dtype))
    assert np.isnan(poison).all()
    reference = product_reference(np.full((2, 1), np.nan, dtype), np.ones((1, 3), dtype))
    assert reference.judge(np.full((2, 3), np.nan, dtype)) is None
    assert "left 6 of 6 elements of out unwritten" in reference.judge(poison)
    assert "left 6 of 6 elements of out unwritten" in reference.judge(poison + dtype(1))


def test_every_poisoned_integer_is_wrong():
    a, b = np.arange(6).reshape(2, 3), np.arange(6).reshape(3, 2)
    reference = product_reference(a, b)
    assert "left 4 of 4" in reference.judge(reference.poison)


def test_batched_products_are_checked_with_their_batch_broadcast():
    generator = np.random.default_rng(0)
    a = generator.standard_normal((3, 1, 4, 5)).astype(np.float32)
    b = generator.standard_normal((2, 5, 6)).astype(np.float32)
    out = a @ b
    assert judged(a, b, out) is None
    out[2, 1, 3, 5] += 1
    assert "[2, 1, 3, 5]" in judged(a, b, out)


def output_judged(epilogue, output):
    a, b = random_operands(8, 64, 8)
    return output_reference(product_reference(a, b), "float32", epilogue).judge(output(a @ b))


def test_an_output_may_round_differently_but_not_be_something_else():
    def gelu(x):
        return 0.5 * x * (1 + np.tanh(0.79788456 * (x + 0.044715 * x**3)))

    assert output_judged(gelu, gelu) is None
    assert output_judged(gelu, lambda x: gelu(x) * np.float32(1 + 1e-6)) is None
    assert output_judged(gelu, lambda x: np.maximum(x, 0)) is not None
    assert output_judged(gelu, lambda x: gelu(x).T.copy()).startswith("wrong after the epilogue")


def test_an_output_of_integers_or_bools_may_differ_only_where_rounding_can_move_it():
    assert output_judged(lambda x: x > 0, lambda x: x > 0) is None
    assert output_judged(lambda x: x > 0, lambda x: x > 1.0) is not None
    assert output_judged(lambda x: x > 0, lambda x: x < 0) is not None
    assert output_judged(lambda x: x.astype(np.int32), lambda x: x.astype(np.int32) + 1) is not None


def test_an_output_that_was_not_written_is_found():
    reference = output_reference(product_reference(*random_operands()), "float32", np.tanh)
    assert reference.judge(reference.poison).startswith("left 32 of 32 elements of its output")


def test_an_output_that_is_not_finite_may_differ():
    assert output_judged(lambda x: np.log(x - x), lambda x: np.full_like(x, -np.inf)) is None
