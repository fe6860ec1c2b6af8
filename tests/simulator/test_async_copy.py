"""cp.async: groups, waits, zero filling, and reading too early."""

import numpy as np
import pytest
from ptx_kernels import INDEX, run

from minicomp.errors import SimulationError

TILE = ".shared .align 16 .b8 tile[4096];"
START = f"""{INDEX}
  mov.u32 %r3, tile; mad.lo.u32 %r4, %r53, SIZE, %r3;
  mul.wide.u32 %rd30, %r50, SIZE; add.u64 %rd31, %rd0, %rd30; add.u64 %rd32, %rd1, %rd30;
"""


def copied(body, *arrays, size=4, **options):
    return run(START.replace("SIZE", str(size)) + body, *arrays, shared=TILE, **options)


def error(body, *arrays, **options):
    with pytest.raises(SimulationError) as caught:
        copied(body, *arrays, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("caching", "size", "type", "registers"),
    [
        ("ca", 4, "u32", "%r5"),
        ("ca", 8, "v2.u32", "{%r5, %r6}"),
        ("ca", 16, "v4.u32", "{%r5, %r6, %r7, %r8}"),
        ("cg", 16, "v4.u32", "{%r5, %r6, %r7, %r8}"),
    ],
)
def test_copies_arrive_by_the_wait(caching, size, type, registers):
    body = f"""
      cp.async.{caching}.shared.global [%r4], [%rd31], {size};
      cp.async.commit_group; cp.async.wait_group 0;
      ld.shared.{type} {registers}, [%r4]; st.global.{type} [%rd32], {registers}; ret;"""
    data = np.arange(64 * size, dtype=np.uint8)
    report, (_, out) = copied(body, data, np.zeros_like(data), size=size, block=64)
    np.testing.assert_array_equal(out, data)
    assert report.global_transactions == 2 * 64 * size // 32 and report.bank_conflicts == 0


COPY = "cp.async.ca.shared.global [%r4], [%rd31], 4; {} ld.shared.u32 %r5, [%r4]; ret;"


@pytest.mark.parametrize(
    ("between", "arrived"),
    [
        ("", False),
        ("cp.async.commit_group;", False),
        ("cp.async.wait_group 0;", False),  # not in a group yet
        ("cp.async.commit_group; cp.async.wait_group 1;", False),
        ("cp.async.commit_group; cp.async.commit_group; cp.async.wait_group 1;", True),
        ("cp.async.commit_group; cp.async.wait_group 0;", True),
        ("cp.async.wait_all;", True),
        ("cp.async.commit_group; cp.async.wait_all;", True),
    ],
)
def test_reading_before_the_wait_is_reported(between, arrived):
    data = np.arange(32, dtype=np.uint32)
    if arrived:
        copied(COPY.format(between), data, data)
    else:
        message = error(COPY.format(between), data, data)
        assert "read before the cp.async that writes it has been waited for" in message
        assert "ld.shared.u32 %r5, [%r4]" in message and "thread (0, 0, 0)" in message


def test_memory_written_before_counts_as_unread_while_a_copy_is_under_way():
    data = np.arange(32, dtype=np.uint32)
    body = "st.shared.u32 [%r4], 1; " + COPY
    assert "waited for" in error(body.format(""), data, data)
    copied(body.format("cp.async.wait_all;"), data, data)


def test_writing_where_a_copy_goes_is_reported():
    data = np.arange(32, dtype=np.uint32)
    body = "cp.async.ca.shared.global [%r4], [%rd31], 4; {} st.shared.u32 [%r4], 1; ret;"
    assert "written while a cp.async writes it too" in error(body.format(""), data, data)
    copied(body.format("cp.async.wait_all;"), data, data)


def test_a_copy_takes_the_first_bytes_and_fills_with_zeros():
    data = np.arange(1, 32 * 16 + 1).astype(np.uint8)
    body = """
      min.u32 %r9, %r53, 16;
      cp.async.cg.shared.global [%r4], [%rd31], 16, %r9;
      cp.async.wait_all;
      ld.shared.v4.u32 {%r5, %r6, %r7, %r8}, [%r4];
      st.global.v4.u32 [%rd32], {%r5, %r6, %r7, %r8}; ret;"""
    _, (_, out) = copied(body, data, np.full_like(data, 255), size=16)
    rows, byte = data.reshape(32, 16), np.arange(16)
    taken = byte < np.minimum(np.arange(32), 16)[:, None]
    np.testing.assert_array_equal(out.reshape(32, 16), np.where(taken, rows, 0))


def test_a_copy_of_nothing_does_not_touch_its_source():
    data = np.zeros(32, np.uint32)
    body = """
      add.u64 %rd31, %rd31, 4096; mov.u32 %r9, {};
      cp.async.ca.shared.global [%r4], [%rd31], 4, %r9; cp.async.wait_all;
      ld.shared.u32 %r5, [%r4]; st.global.u32 [%rd32], %r5; ret;"""
    report, (_, out) = copied(body.format(0), data, data + 9)
    np.testing.assert_array_equal(out, 0)
    assert report.global_transactions == 4
    assert "cp.async" in error(body.format(1), data, data)


def test_copies_are_checked_at_both_ends():
    data = np.zeros(32, np.uint32)
    body = "cp.async.ca.shared.global [%r4+{}], [%rd31+{}], 4; cp.async.wait_all; ret;"
    assert "out of bounds: global address" in error(body.format(0, 4), data, data)
    assert "not aligned to 4 bytes: global" in error(body.format(0, 2), data, data)
    assert "out of bounds: shared address" in error(body.format(4096, 0), data, data)
    assert "not aligned to 4 bytes: shared" in error(body.format(1, 0), data, data)
    assert "never written: global" in error(body.format(0, 0), None, data)
    copied(body.format(0, 0), data, data)


def test_a_pipeline_of_two_stages():
    """Sums of rows: a row is copied while the one before is added up."""
    body = """
      mov.u32 %r20, 0; mov.u32 %r21, 0; mov.u64 %rd33, %rd31;
      cp.async.ca.shared.global [%r4], [%rd33], 4; cp.async.commit_group;
    loop:
      add.u64 %rd33, %rd33, 128; add.u32 %r20, %r20, 1;
      setp.lt.u32 %p1, %r20, 6;
      and.b32 %r22, %r20, 1; mad.lo.u32 %r23, %r22, 128, %r4;
      @%p1 cp.async.ca.shared.global [%r23], [%rd33], 4;
      cp.async.commit_group;
      cp.async.wait_group 1;
      bar.sync 0;
      xor.b32 %r24, %r22, 1; mad.lo.u32 %r25, %r24, 128, %r3;
      xor.b32 %r26, %r53, 1; mad.lo.u32 %r27, %r26, 4, %r25;
      ld.shared.u32 %r28, [%r27]; add.u32 %r21, %r21, %r28;
      BARRIER
      @%p1 bra loop;
      st.global.u32 [%rd32], %r21; ret;"""
    data = np.random.default_rng(0).integers(0, 1000, (6, 32)).astype(np.uint32)
    out = np.zeros(32, np.uint32)
    _, (_, out) = copied(body.replace("BARRIER", "bar.sync 0;"), data, out)
    np.testing.assert_array_equal(out, data.sum(axis=0)[np.arange(32) ^ 1])
    # without the second barrier a thread copies into what its neighbour still reads
    assert "race in shared memory" in error(body.replace("BARRIER", ""), data, out)
    late = body.replace("BARRIER", "bar.sync 0;").replace("wait_group 1", "wait_group 2")
    assert "waited for" in error(late, data, out)


def test_groups_are_each_threads_own():
    """Odd threads commit twice, so that one wait reaches further for them."""
    body = """
      and.b32 %r9, %r53, 1; setp.eq.u32 %p1, %r9, 1; setp.ge.u32 %p2, %r53, {};
      cp.async.ca.shared.global [%r4], [%rd31], 4;
      cp.async.commit_group; @%p1 cp.async.commit_group;
      cp.async.wait_group 1;
      and.pred %p3, %p1, %p2;
      @%p3 ld.shared.u32 %r5, [%r4]; @!%p1 mov.u32 %r5, 0; {} ret;"""
    data = np.arange(32, dtype=np.uint32)
    copied(body.format(0, ""), data, data)
    message = error(body.format(0, "@!%p1 ld.shared.u32 %r5, [%r4];"), data, data)
    assert "thread (0, 0, 0)" in message and "waited for" in message
