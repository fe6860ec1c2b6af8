"""Threads that part and meet again, return early, wait at barriers, and never end."""

import numpy as np
import pytest
from ptx_kernels import INDEX, run

from minicomp.errors import SimulationError

STORE = "add.u64 %rd31, %rd0, %rd30; st.global.u32 [%rd31], %r1;"
LANE = np.arange(32)


def zeros(count=32):
    return np.zeros(count, np.uint32)


def test_if_and_else():
    body = f"""{INDEX}
      and.b32 %r2, %r50, 1; setp.eq.u32 %p1, %r2, 0;
      @%p1 bra even;
      mul.lo.u32 %r1, %r50, 10;
      bra join;
    even:
      add.u32 %r1, %r50, 100;
    join:
      add.u32 %r1, %r1, 1;
      {STORE} ret;"""
    report, (out,) = run(body, zeros())
    np.testing.assert_array_equal(out, np.where(LANE % 2, LANE * 10, LANE + 100) + 1)
    counts = {line.text: line.counts for line in report.lines}
    assert counts["mul.lo.u32 %r1, %r50, 10"].thread_instructions == 16
    assert counts["add.u32 %r1, %r50, 100"].thread_instructions == 16
    # after the join the warp is whole again, and issues once
    assert counts["add.u32 %r1, %r1, 1"].instructions == 1
    assert counts["add.u32 %r1, %r1, 1"].thread_instructions == 32


def test_loops_with_different_trip_counts():
    body = f"""{INDEX}
      mov.u32 %r1, 0; mov.u32 %r2, 0;
    loop:
      setp.ge.u32 %p1, %r2, %r50;
      @%p1 bra done;
      add.u32 %r1, %r1, %r2;
      add.u32 %r2, %r2, 1;
      bra loop;
    done:
      add.u32 %r1, %r1, 1000;
      {STORE} ret;"""
    report, (out,) = run(body, zeros())
    np.testing.assert_array_equal(out, LANE * (LANE - 1) // 2 + 1000)
    counts = {line.text: line.counts for line in report.lines}
    assert counts["add.u32 %r2, %r2, 1"].instructions == 31
    assert counts["add.u32 %r2, %r2, 1"].thread_instructions == 31 * 32 // 2
    assert counts["add.u32 %r1, %r1, 1000"].instructions == 1


def test_a_block_of_text_after_the_end_meets_the_others_where_it_returns_to():
    body = f"""{INDEX}
      mov.u32 %r1, 1;
      setp.lt.u32 %p1, %r50, 3;
      @%p1 bra rare;
    back:
      shfl.sync.bfly.b32 %r1, %r1, 1, 31, -1;
      {STORE} ret;
    rare:
      mov.u32 %r1, 7;
      bra back;"""
    report, (out,) = run(body, zeros())
    np.testing.assert_array_equal(out, np.where((LANE ^ 1) < 3, 7, 1))
    counts = {line.text: line.counts for line in report.lines}
    assert counts["shfl.sync.bfly.b32 %r1, %r1, 1, 31, -1"].instructions == 1


def test_early_return_leaves_the_rest():
    body = f"""{INDEX}
      setp.gt.u32 %p1, %r50, 20;
      @%p1 ret;
      mov.u32 %r1, 5;
      {STORE} ret;"""
    _, (out,) = run(body, zeros())
    np.testing.assert_array_equal(out, np.where(LANE > 20, 0, 5))


def test_a_kernel_may_end_without_a_return():
    _, (out,) = run(f"{INDEX} mov.u32 %r1, 5; {STORE}", zeros(), assemble=False)
    np.testing.assert_array_equal(out, 5)


def test_predicated_instructions_leave_other_threads_alone():
    body = f"""{INDEX}
      mov.u32 %r1, 1;
      setp.gt.u32 %p1, %r50, 20;
      @%p1 mov.u32 %r1, 2;
      @!%p1 add.u32 %r1, %r1, %r50;
      {STORE} ret;"""
    report, (out,) = run(body, zeros())
    np.testing.assert_array_equal(out, np.where(LANE > 20, 2, LANE + 1))
    counts = {line.text: line.counts for line in report.lines}
    assert counts["@%p1 mov.u32 %r1, 2"].instructions == 1
    assert counts["@%p1 mov.u32 %r1, 2"].thread_instructions == 11


@pytest.mark.parametrize("block", [1, 31, 33, 100, (5, 7), (4, 4, 5)])
def test_blocks_of_every_size_and_shape(block):
    x, y, z = [*([block] if isinstance(block, int) else block), 1, 1][:3]
    body = """
      mov.u32 %r1, %tid.x; mov.u32 %r2, %tid.y; mov.u32 %r3, %tid.z;
      mov.u32 %r4, %ntid.x; mov.u32 %r5, %ntid.y; mov.u32 %r6, %ntid.z;
      mov.u32 %r7, %ctaid.x; mov.u32 %r8, %ctaid.y; mov.u32 %r9, %nctaid.x;
      mad.lo.u32 %r10, %r3, %r5, %r2; mad.lo.u32 %r10, %r10, %r4, %r1;
      mad.lo.u32 %r11, %r8, %r9, %r7;
      mul.lo.u32 %r12, %r4, %r5; mul.lo.u32 %r12, %r12, %r6;
      mad.lo.u32 %r13, %r11, %r12, %r10;
      mul.wide.u32 %rd5, %r13, 4; add.u64 %rd6, %rd0, %rd5;
      mov.u32 %r14, %laneid; mov.u32 %r15, %warpid; mad.lo.u32 %r16, %r15, 100, %r14;
      st.global.u32 [%rd6], %r16;
      ret;"""
    grid, threads = (3, 2), x * y * z
    _, (out,) = run(body, zeros(6 * threads), grid=grid, block=block)
    t = np.arange(threads)
    np.testing.assert_array_equal(out, np.tile(t % 32 + t // 32 * 100, 6))


def test_more_blocks_than_fit_one_batch():
    body = f"{INDEX} add.u32 %r1, %r50, 1; {STORE} ret;"
    _, (out,) = run(body, zeros(64 * 700), grid=700, block=64)
    np.testing.assert_array_equal(out, np.arange(64 * 700) + 1)


def test_lane_masks():
    body = """
      mov.u32 %r1, %laneid; mul.wide.u32 %rd5, %r1, 4; add.u64 %rd6, %rd0, %rd5;
      mov.u32 %r2, %lanemask_lt; mov.u32 %r3, %lanemask_le; mov.u32 %r4, %lanemask_gt;
      mov.u32 %r5, %lanemask_ge; mov.u32 %r6, %lanemask_eq;
      st.global.u32 [%rd6], %r2; st.global.u32 [%rd6+128], %r3; st.global.u32 [%rd6+256], %r4;
      st.global.u32 [%rd6+384], %r5; st.global.u32 [%rd6+512], %r6;
      ret;"""
    _, (out,) = run(body, zeros(160))
    bit = [1 << lane for lane in range(32)]
    expected = [
        [b - 1 for b in bit],
        [2 * b - 1 for b in bit],
        [2**32 - 2 * b for b in bit],
        [2**32 - b for b in bit],
        bit,
    ]
    np.testing.assert_array_equal(out.reshape(5, 32), expected)


BARRIER = """
      .shared .align 4 .b8 tile[1024];
"""
REVERSE = f"""{INDEX}
      mul.lo.u32 %r2, %r53, 4; mov.u32 %r3, tile; add.u32 %r4, %r3, %r2;
      st.shared.u32 [%r4], %r50;
      bar.sync 0;
      sub.u32 %r5, %r52, 1; sub.u32 %r5, %r5, %r53; mad.lo.u32 %r6, %r5, 4, %r3;
      ld.shared.u32 %r1, [%r6];
      {STORE} ret;"""


def test_a_barrier_orders_a_blocks_warps():
    _, (out,) = run(REVERSE, zeros(3 * 128), grid=3, block=128, shared=BARRIER)
    np.testing.assert_array_equal(out, np.arange(384).reshape(3, 128)[:, ::-1].ravel())


def test_warps_may_come_to_a_barrier_by_different_instructions():
    body = f"""{INDEX}
      mul.lo.u32 %r2, %r53, 4; mov.u32 %r3, tile; add.u32 %r4, %r3, %r2;
      st.shared.u32 [%r4], %r50;
      setp.lt.u32 %p1, %r53, 32;
      @%p1 bra first;
      bar.sync 0;
      bra join;
    first:
      bar.sync 0;
    join:
      xor.b32 %r5, %r53, 63; mad.lo.u32 %r6, %r5, 4, %r3;
      ld.shared.u32 %r1, [%r6];
      {STORE} ret;"""
    _, (out,) = run(body, zeros(64), block=64, shared=BARRIER)
    np.testing.assert_array_equal(out, np.arange(64) ^ 63)


def test_a_barrier_of_some_warps():
    body = f"""{INDEX}
      mul.lo.u32 %r2, %r53, 4; mov.u32 %r3, tile; add.u32 %r4, %r3, %r2;
      mov.u32 %r1, 77;
      setp.ge.u32 %p1, %r53, 64;
      @%p1 bra join;
      st.shared.u32 [%r4], %r50;
      bar.sync 1, 64;
      xor.b32 %r5, %r53, 63; mad.lo.u32 %r6, %r5, 4, %r3;
      ld.shared.u32 %r1, [%r6];
    join:
      {STORE} ret;"""
    _, (out,) = run(body, zeros(2 * 96), grid=2, block=96, shared=BARRIER)
    t = np.arange(96)
    expected = np.concatenate([np.where(t < 64, t ^ 63, 77), np.where(t < 64, (t ^ 63) + 96, 77)])
    np.testing.assert_array_equal(out, expected)


def error(body, *arrays, **options):
    with pytest.raises(SimulationError) as caught:
        run(body, *arrays, **options)
    return str(caught.value)


def test_a_barrier_that_half_a_warp_skips_is_reported():
    body = """
      mov.u32 %r1, %tid.x; setp.lt.u32 %p1, %r1, 16;
      @%p1 bra skip;
      bar.sync 0;
    skip:
      ret;"""
    message = error(body, zeros(), block=64)
    assert message.startswith("line 12: bar.sync 0: divergent barrier")
    assert "thread (16, 0, 0) of block (0, 0, 0) waits for ever, 48 of 64" in message
    assert "thread (0, 0, 0) of block (0, 0, 0) has returned at line 14: ret" in message
    run(body.replace("lt.u32", "ge.u32").replace(", 16;", ", 64;"), zeros(), block=64)


def test_a_barrier_in_a_loop_of_different_trip_counts_is_reported():
    body = """
      mov.u32 %r1, %tid.x; mov.u32 %r2, 0;
    loop:
      bar.sync 0;
      add.u32 %r2, %r2, 1;
      setp.lt.u32 %p1, %r2, %r1;
      @%p1 bra loop;
      ret;"""
    assert "divergent barrier" in error(body, zeros())
    run(body.replace("%r2, %r1;", "%r2, 7;"), zeros())


def test_lanes_of_one_warp_at_two_barriers_are_reported():
    body = """
      mov.u32 %r1, %tid.x; setp.lt.u32 %p1, %r1, 16;
      @%p1 bra first;
      bar.sync 0;
      bra join;
    first:
      bar.sync 0;
    join:
      ret;"""
    message = error(body, zeros())
    assert "lanes of one warp must come to it together" in message and "waits at line" in message
    run(body.replace(", 16;", ", 32;"), zeros(), block=64)


def test_waiting_at_different_barriers_is_reported():
    body = """
      mov.u32 %r1, %tid.x; setp.lt.u32 %p1, %r1, 32;
      @%p1 bra first;
      bar.sync 1;
      bra join;
    first:
      bar.sync 2;
    join:
      ret;"""
    message = error(body, zeros(), block=64)
    assert "32 of 64 threads have come" in message and "waits at line" in message
    run(body.replace("bar.sync 2", "bar.sync 1"), zeros(), block=64)


def test_a_shuffle_that_waits_for_lanes_elsewhere_is_reported():
    body = """
      mov.u32 %r1, %tid.x; setp.lt.u32 %p1, %r1, 16;
      @%p1 bra low;
      shfl.sync.bfly.b32 %r2, %r1, 1, 31, -1;
      bra join;
    low:
      bar.sync 0;
    join:
      ret;"""
    message = error(body, zeros())
    assert "divergent barrier" in message or "waits for ever for lane" in message
    body = """
      mov.u32 %r1, %tid.x; setp.lt.u32 %p1, %r1, 16;
      @%p1 bra low;
      shfl.sync.bfly.b32 %r2, %r1, 1, 31, -1;
      ret;
    low:
      shfl.sync.bfly.b32 %r2, %r1, 1, 31, -1;
      ret;"""
    message = error(body, zeros())
    assert "waits for ever for lane" in message and "waits for lanes of its warp" in message
    run(body.replace("-1;", "0xFFFF0000;", 1).replace("-1;", "0xFFFF;"), zeros())


def test_lanes_that_have_returned_are_not_waited_for():
    body = f"""{INDEX}
      setp.ge.u32 %p1, %r50, 16;
      @%p1 ret;
      shfl.sync.bfly.b32 %r1, %r50, 1, 31, -1;
      {STORE} ret;"""
    _, (out,) = run(body, zeros())
    np.testing.assert_array_equal(out, np.where(LANE < 16, LANE ^ 1, 0))
    # those that return do so after the others have begun to wait
    body = f"""{INDEX}
      setp.lt.u32 %p1, %r50, 16;
      @%p1 bra sync;
      bra far;
    sync:
      shfl.sync.bfly.b32 %r1, %r50, 1, 31, -1;
      {STORE} ret;
    far:
      ret;"""
    _, (out,) = run(body, zeros())
    np.testing.assert_array_equal(out, np.where(LANE < 16, LANE ^ 1, 0))


def test_a_thread_outside_its_own_mask_is_reported():
    body = "mov.u32 %r1, %laneid; shfl.sync.bfly.b32 %r1, %r1, 1, 31, 0xFFFF; ret;"
    message = error(body, zeros())
    assert "thread (16, 0, 0)" in message and "not in its own member mask 0xffff" in message


def test_an_infinite_loop_is_reported():
    body = """
      mov.u32 %r1, 0;
    loop:
      add.u32 %r1, %r1, 1;
      setp.ne.u32 %p1, %r1, {limit};
      @%p1 bra loop;
      ret;"""
    options = {"instruction_budget": 5000}
    message = error(body.format(limit=0), zeros(), options=options)
    assert message.startswith("line 12: add.u32 %r1, %r1, 1: an infinite loop? 5000 instructions")
    run(body.format(limit=1000), zeros(), options=options)


def test_a_trap_is_an_error():
    body = "mov.u32 %r1, %tid.x; setp.eq.u32 %p1, %r1, 9; @%p1 trap; ret;"
    message = error(body, zeros())
    assert "@%p1 trap" in message and "thread (9, 0, 0)" in message
    run(body, zeros(), block=8)


def test_the_clock_goes_forward():
    body = """
      mov.u64 %rd1, %clock64; mov.u32 %r1, 5; mov.u64 %rd2, %clock64;
    next:
      mov.u64 %rd3, %clock64;
      sub.u64 %rd3, %rd3, %rd1; st.global.u64 [%rd0], %rd3; ret;"""
    _, (out,) = run(body, zeros(2), block=1)
    assert out[0] > 0
