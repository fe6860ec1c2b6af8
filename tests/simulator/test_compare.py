"""Comparisons on integers and floats, NaN among them, and what is chosen by them."""

import numpy as np
import pytest
from ptx_kernels import floats, integers, pairs, result_of, run, same

ORDERED = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ORDERED)
def test_ordered_comparisons_are_false_of_nan_and_unordered_ones_true(name, dtype):
    a, b = pairs(floats(dtype))
    nan = np.isnan(a) | np.isnan(b)
    assert nan.any()
    type = f"f{8 * a.dtype.itemsize}"
    got = result_of(f"setp.{name}.{type}", bool, a, b)
    np.testing.assert_array_equal(got, ORDERED[name](a, b) & ~nan)
    got = result_of(f"setp.{name}u.{type}", bool, a, b)
    np.testing.assert_array_equal(got, ORDERED[name](a, b) | nan)


def test_asking_for_nan():
    a, b = pairs(np.array([1.0, np.nan], np.float32))
    nan = np.isnan(a) | np.isnan(b)
    np.testing.assert_array_equal(result_of("setp.nan.f32", bool, a, b), nan)
    np.testing.assert_array_equal(result_of("setp.num.f32", bool, a, b), ~nan)


@pytest.mark.parametrize("type", ["u16", "s16", "u32", "s32", "u64", "s64"])
def test_integers_compare_by_their_sign(type):
    dtype = np.dtype(f"{'iu'[type[0] == 'u']}{int(type[1:]) // 8}")
    a, b = pairs(integers(dtype))
    for name, relation in ORDERED.items():
        got = result_of(f"setp.{name}.{type}", bool, a, b)
        np.testing.assert_array_equal(got, relation(a, b))
    if type[0] == "u":
        for name, plain in (("lo", "lt"), ("ls", "le"), ("hi", "gt"), ("hs", "ge")):
            got = result_of(f"setp.{name}.{type}", bool, a, b)
            np.testing.assert_array_equal(got, ORDERED[plain](a, b))


@pytest.mark.parametrize(
    ("name", "join"), [("and", np.logical_and), ("or", np.logical_or), ("xor", np.logical_xor)]
)
def test_comparisons_combine_with_a_predicate(name, join):
    a, b = pairs(np.arange(4, dtype=np.uint32))
    c = np.resize([True, False, False], len(a))
    got = result_of(f"setp.lt.{name}.u32", bool, a, b, c)
    np.testing.assert_array_equal(got, join(a < b, c))


def test_a_second_destination_gets_the_opposite_comparison():
    body = """
      mov.u32 %r1, %tid.x;
      setp.lt.u32 %p1, %r1, 20;
      setp.gt.and.u32 %p2|%p3, %r1, 10, !%p1;
      selp.u32 %r2, 1, 0, %p2;
      selp.u32 %r3, 2, 0, %p3;
      add.u32 %r4, %r2, %r3;
      mul.wide.u32 %rd5, %r1, 4; add.u64 %rd6, %rd0, %rd5;
      st.global.u32 [%rd6], %r4;
      ret;"""
    _, (out,) = run(body, np.zeros(32, np.uint32))
    lane = np.arange(32)
    np.testing.assert_array_equal(
        out, ((lane > 10) & (lane >= 20)) + 2 * ((lane <= 10) & (lane >= 20))
    )


def test_flushing_comparisons_take_subnormals_for_zeros():
    a = np.array([1e-40, 1e-40], np.float32)
    b = np.array([0.0, -1e-40], np.float32)
    np.testing.assert_array_equal(result_of("setp.eq.ftz.f32", bool, a, b), True)
    np.testing.assert_array_equal(result_of("setp.eq.f32", bool, a, b), False)


def test_set_gives_all_ones_or_one():
    a, b = pairs(np.array([1.0, 2.0, np.nan], np.float32))
    less = np.less(a, b)
    got = result_of("set.lt.u32.f32", np.uint32, a, b)
    np.testing.assert_array_equal(got, np.where(less, 0xFFFFFFFF, 0))
    got = result_of("set.lt.f32.f32", np.float32, a, b)
    np.testing.assert_array_equal(got, less.astype(np.float32))
    c = np.resize([True, False], len(a))
    got = result_of("set.lt.or.s32.f32", np.int32, a, b, c)
    np.testing.assert_array_equal(got, -(less | c).astype(np.int32))


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.uint64, np.float32, np.float64])
def test_selp_picks_by_a_predicate(dtype):
    a, b = pairs(np.arange(5).astype(dtype))
    c = np.resize([True, False, False], len(a))
    kind = "f" if a.dtype.kind == "f" else "b"
    got = result_of(f"selp.{kind}{8 * a.dtype.itemsize}", dtype, a, b, c)
    np.testing.assert_array_equal(got, np.where(c, a, b))


def test_slct_picks_by_a_sign():
    c = np.array([-1.0, -0.0, 0.0, 1.0, np.nan, -1e-40], np.float32)
    a, b = np.arange(6, dtype=np.float32), -np.arange(6, dtype=np.float32)
    assert same(result_of("slct.f32.f32", np.float32, a, b, c), np.where(c >= 0, a, b))
    # flushed, the last is -0, which is not below 0
    expected = np.where((c >= 0) | (c == c[-1]), a, b)
    assert same(result_of("slct.ftz.f32.f32", np.float32, a, b, c), expected)
    d = np.array([-5, 0, 5, -1, 1, 2], np.int32)
    got = result_of("slct.u32.s32", np.uint32, d.view(np.uint32), c.view(np.uint32), d)
    np.testing.assert_array_equal(got, np.where(d >= 0, d.view(np.uint32), c.view(np.uint32)))
