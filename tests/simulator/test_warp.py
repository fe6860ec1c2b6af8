"""Shuffles, votes and reductions of a warp."""

import numpy as np
import pytest
from ptx_kernels import INDEX, run

from minicomp.simulator.instructions.warp import UNDEFINED

LANE = np.arange(32)
STORE = "add.u64 %rd31, %rd0, %rd30; st.global.u32 [%rd31], %r1;"


def shuffled(mode, b, c, values=LANE):
    """What each lane gets, and whether its source was in range, by the ISA's pseudo code."""
    out, ranges = [], []
    for lane in range(32):
        bval, cval, mask = b & 31, c & 31, c >> 8 & 31
        least = lane & mask
        most = least | (cval & ~mask)
        j, valid = {
            "up": (lane - bval, lane - bval >= most),
            "down": (lane + bval, lane + bval <= most),
            "bfly": (lane ^ bval, lane ^ bval <= most),
            "idx": (least | (bval & ~mask), (least | (bval & ~mask)) <= most),
        }[mode]
        out.append(values[j if valid else lane])
        ranges.append(valid)
    return np.array(out), np.array(ranges)


@pytest.mark.parametrize("mode", ["up", "down", "bfly", "idx"])
@pytest.mark.parametrize("b", [0, 1, 5, 16, 31])
@pytest.mark.parametrize("c", [31, 0, 0x1F00 & 0x1800 | 31, 0x1C1F, 0x1007])
def test_shuffles(mode, b, c):
    body = f"""{INDEX}
      add.u32 %r2, %r50, 100;
      shfl.sync.{mode}.b32 %r3|%p1, %r2, {b}, {c}, -1;
      selp.u32 %r4, 1000, 0, %p1; add.u32 %r1, %r3, %r4;
      {STORE} ret;"""
    _, (out,) = run(body, np.zeros(64, np.uint32), block=64)
    lane, valid = shuffled(mode, b, c)
    np.testing.assert_array_equal(out[:32], lane + 100 + 1000 * valid)
    np.testing.assert_array_equal(out[32:], lane + 132 + 1000 * valid)


def test_lanes_may_ask_for_different_lanes():
    body = f"""{INDEX}
      sub.u32 %r2, 31, %r53; shfl.sync.idx.b32 %r1, %r50, %r2, 31, -1; {STORE} ret;"""
    _, (out,) = run(body, np.zeros(32, np.uint32))
    np.testing.assert_array_equal(out, 31 - LANE)


def test_a_shuffle_may_write_its_own_source():
    body = f"{INDEX} mov.u32 %r1, %r50; shfl.sync.bfly.b32 %r1, %r1, 3, 31, -1; {STORE} ret;"
    _, (out,) = run(body, np.zeros(32, np.uint32))
    np.testing.assert_array_equal(out, LANE ^ 3)


def test_a_lane_that_is_not_there_gives_an_undefined_value():
    body = f"{INDEX} shfl.sync.down.b32 %r1, %r50, 8, 31, -1; {STORE} ret;"
    _, (out,) = run(body, np.zeros(24, np.uint32), block=24)
    lane = np.arange(24)
    np.testing.assert_array_equal(out, np.where(lane + 8 < 24, lane + 8, UNDEFINED))
    assert np.isnan(UNDEFINED.view(np.float32))


def test_a_sum_over_a_warp():
    steps = " ".join(
        f"shfl.sync.bfly.b32 %r2, %r1, {n}, 31, -1; add.u32 %r1, %r1, %r2;"
        for n in (16, 8, 4, 2, 1)
    )
    body = f"{INDEX} mov.u32 %r1, %r50; {steps} {STORE} ret;"
    _, (out,) = run(body, np.zeros(64, np.uint32), block=64)
    np.testing.assert_array_equal(out, np.repeat([LANE.sum(), LANE.sum() + 32 * 32], 32))


@pytest.mark.parametrize("limit", [0, 1, 20, 32])
def test_votes(limit):
    body = f"""{INDEX}
      setp.lt.u32 %p1, %r53, {limit};
      vote.sync.all.pred %p2, %p1, -1; vote.sync.any.pred %p3, %p1, -1;
      vote.sync.uni.pred %p4, %p1, -1; vote.sync.any.pred %p5, !%p1, -1;
      vote.sync.ballot.b32 %r10, %p1, -1;
      selp.u32 %r2, 1, 0, %p2; selp.u32 %r3, 2, 0, %p3; selp.u32 %r4, 4, 0, %p4;
      selp.u32 %r5, 8, 0, %p5;
      add.u32 %r1, %r2, %r3; add.u32 %r1, %r1, %r4; add.u32 %r1, %r1, %r5;
      {STORE} st.global.u32 [%rd31+128], %r10; ret;"""
    _, (out,) = run(body, np.zeros(64, np.uint32))
    holds = np.less(LANE, limit)
    expected = holds.all() + 2 * holds.any() + 4 * (holds.all() or not holds.any())
    np.testing.assert_array_equal(out[:32], expected + 8 * (not holds.all()))
    np.testing.assert_array_equal(out[32:], (1 << limit) - 1)


def test_votes_of_parts_of_a_warp():
    body = f"""{INDEX}
      setp.eq.u32 %p1, %r53, 3; setp.lt.u32 %p2, %r53, 8;
      selp.u32 %r2, 0xFF, 0xFFFFFF00, %p2;
      @%p2 bra low;
      vote.sync.any.pred %p3, %p1, %r2;
      bra join;
    low:
      vote.sync.any.pred %p3, %p1, %r2;
    join:
      selp.u32 %r1, 1, 0, %p3; {STORE} ret;"""
    _, (out,) = run(body, np.zeros(32, np.uint32))
    np.testing.assert_array_equal(out, LANE < 8)


def test_votes_of_several_groups_at_one_instruction():
    body = f"""{INDEX}
      and.b32 %r2, %r53, 1; setp.eq.u32 %p1, %r2, 1;
      selp.u32 %r3, 0xAAAAAAAA, 0x55555555, %p1;
      vote.sync.ballot.b32 %r1, %p1, %r3; {STORE} ret;"""
    _, (out,) = run(body, np.zeros(32, np.uint32))
    np.testing.assert_array_equal(out, np.where(LANE % 2, 0xAAAAAAAA, 0))


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("add.u32", np.add),
        ("add.s32", np.add),
        ("min.u32", np.minimum),
        ("max.s32", np.maximum),
        ("min.s32", np.minimum),
        ("max.u32", np.maximum),
        ("and.b32", np.bitwise_and),
        ("or.b32", np.bitwise_or),
        ("xor.b32", np.bitwise_xor),
    ],
)
def test_reductions_of_a_warp(name, function):
    dtype = np.int32 if ".s" in name else np.uint32
    data = np.random.default_rng(0).integers(0, 2**32, 64).astype(np.uint32)
    body = f"""{INDEX}
      add.u64 %rd31, %rd0, %rd30; ld.global.b32 %r2, [%rd31];
      redux.sync.{name} %r1, %r2, -1; st.global.u32 [%rd31], %r1; ret;"""
    _, (out,) = run(body, data, block=64)
    with np.errstate(over="ignore"):
        expected = function.reduce(data.view(dtype).reshape(2, 32), axis=1, dtype=dtype)
    np.testing.assert_array_equal(out.view(dtype), np.repeat(expected, 32))


def test_the_active_mask_is_that_of_the_threads_together():
    body = f"""{INDEX}
      setp.lt.u32 %p1, %r53, 5; @%p1 bra low;
      activemask.b32 %r1; bra join;
    low:
      activemask.b32 %r1;
    join:
      {STORE} ret;"""
    _, (out,) = run(body, np.zeros(32, np.uint32))
    np.testing.assert_array_equal(out, np.where(LANE < 5, 0x1F, 0xFFFFFFE0))
