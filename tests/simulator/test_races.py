"""Races in shared memory: each snippet, and one like it that is right."""

import numpy as np
import pytest
from ptx_kernels import INDEX, run

from minicomp.errors import SimulationError
from minicomp.simulator import races

TILE = ".shared .align 16 .b8 tile[4096];"
#: %r4: this thread's word of the tile; %r6: that of the thread with the last bit the other way
START = f"""{INDEX}
  mov.u32 %r3, tile; mad.lo.u32 %r4, %r53, 4, %r3;
  xor.b32 %r5, %r53, FLIP; mad.lo.u32 %r6, %r5, 4, %r3;
"""


def ok(body, block=64, flip=1, **options):
    run(START.replace("FLIP", str(flip)) + body, np.zeros(64), block=block, shared=TILE, **options)


def race(body, block=64, flip=1, **options):
    with pytest.raises(SimulationError) as caught:
        ok(body, block, flip, **options)
    message = str(caught.value)
    assert "race in shared memory" in message
    return message


EXCHANGE = "st.shared.u32 [%r4], %r53; {} ld.shared.u32 %r7, [%r6]; ret;"


def test_a_read_of_what_another_warp_wrote_needs_a_barrier():
    message = race(EXCHANGE.format(""), flip=32)
    assert message.startswith("line 15: ld.shared.u32 %r7, [%r6]: race in shared memory")
    assert "at line 15: st.shared.u32 [%r4], %r53, thread (32, 0, 0) of block" in message
    assert "byte 128 of tile (4096 bytes of shared memory)" in message
    assert "thread (0, 0, 0) of block (0, 0, 0)" in message and "thread (32, 0, 0)" in message
    ok(EXCHANGE.format("bar.sync 0;"), flip=32)


def test_a_write_over_what_another_thread_read_needs_a_barrier():
    body = """
      st.shared.u32 [%r4], 1; bar.sync 0;
      ld.shared.u32 %r7, [%r6]; {} st.shared.u32 [%r4], 2; ret;"""
    message = race(body.format(""))
    assert "ld.shared.u32" in message and "st.shared.u32 [%r4], 2" in message
    ok(body.format("bar.sync 0;"))


def test_two_writes_of_one_place_race():
    body = "st.shared.u32 [%r4], 1; {} st.shared.u32 [%r6], 2; ret;"
    assert "st.shared.u32 [%r6], 2" in race(body.format(""))
    ok(body.format("bar.sync 0;"))


def test_a_missing_barrier_at_a_loops_end_is_found():
    body = """
      mov.u32 %r10, 0;
    loop:
      st.shared.u32 [%r4], %r10;
      bar.sync 0;
      ld.shared.u32 %r7, [%r6];
      {}
      add.u32 %r10, %r10, 1; setp.lt.u32 %p1, %r10, 3; @%p1 bra loop;
      ret;"""
    race(body.format(""))
    ok(body.format("bar.sync 0;"))


def test_threads_of_one_warp_race_too_unless_a_warp_barrier_orders_them():
    race(EXCHANGE.format(""), block=32)
    ok(EXCHANGE.format("bar.warp.sync -1;"), block=32)
    ok(EXCHANGE.format("bar.warp.sync -1;"), block=64)
    # of two warps it orders nothing
    race(EXCHANGE.format("bar.warp.sync -1;"), block=64, flip=32)


def test_a_reduction_in_a_warp_needs_its_warp_barriers():
    body = "st.shared.u32 [%r4], 1; st.shared.u32 [%r4+128], 1; bar.warp.sync -1;"
    for distance in (64, 32, 16, 8, 4):
        body += f"""
          ld.shared.u32 %r7, [%r4]; ld.shared.u32 %r8, [%r4+{distance}];
          add.u32 %r7, %r7, %r8; bar.warp.sync -1; st.shared.u32 [%r4], %r7; bar.warp.sync -1;"""
    ok(body + "ret;", block=32)
    for number in (3, 6):  # one after a read, one after a write
        parts = body.split("bar.warp.sync -1;")
        broken = "bar.warp.sync -1;".join(parts[:number])
        broken += "bar.warp.sync -1;".join(parts[number:])
        race(broken + "ret;", block=32)


def test_one_threads_own_accesses_never_race():
    ok("st.shared.u32 [%r4], 1; ld.shared.u32 %r7, [%r4]; st.shared.u32 [%r4], %r7; ret;")


def test_reads_do_not_race():
    ok(
        "st.shared.u32 [%r4], 1; bar.sync 0;"
        "ld.shared.u32 %r7, [%r6]; ld.shared.u32 %r8, [tile]; ret;"
    )


def test_bytes_next_to_each_other_do_not_race():
    body = "add.u32 %r8, %r3, %r53; st.shared.u8 [%r8], 1; ld.shared.u8 %r7, [%r8]; ret;"
    ok(body)
    race(body.replace("ld.shared.u8 %r7, [%r8]", "and.b32 %r8, %r8, -2; ld.shared.u16 %r7, [%r8]"))


def test_wide_accesses_race_with_narrow_ones_inside():
    body = """
      setp.ne.u32 %p1, %r53, 0;
      @!%p1 st.shared.v4.f32 [tile], {{0f00000000, 0f00000000, 0f00000000, 0f00000000}};
      @%p1 st.shared.u32 [%r4+{}], 1; ret;"""
    assert "byte 12 of tile" in race(body.format(8), block=2)
    ok(body.format(12), block=2)


def test_one_value_stored_by_many_lanes_at_once_is_let_through():
    ok("st.shared.u32 [tile], 7; ret;", block=32)
    message = race("st.shared.u32 [tile], %r53; ret;", block=32)
    assert "store different values to byte 0 of tile" in message and "at once" in message
    # but not by lanes of different warps, nor by two instructions
    race("st.shared.u32 [tile], 7; ret;", block=64)
    race("st.shared.u32 [tile], 7; st.shared.u32 [tile], 7; ret;", block=32)


def test_atomics_race_with_plain_accesses_but_not_with_each_other():
    body = """
      setp.ne.u32 %p1, %r53, 0; @!%p1 st.shared.u32 [tile], 0; bar.sync 0;
      atom.shared.add.u32 %r7, [tile], 1; red.shared.add.u32 [tile], 1; {}
      ld.shared.u32 %r8, [tile]; ret;"""
    ok(body.format("bar.sync 0;"))
    assert "atom.shared" in race(body.format("")) or "red.shared" in race(body.format(""))
    ok(body.format("ret;"))


def test_blocks_do_not_race_with_each_other():
    ok(EXCHANGE.format("bar.sync 0;"), grid=5)
    assert "block (0, 0, 0)" in race(EXCHANGE.format(""), grid=5)


def test_a_barrier_of_some_warps_orders_those():
    body = """
      setp.ge.u32 %p1, %r53, 64; @%p1 ret;
      st.shared.u32 [%r4], %r53; {} ld.shared.u32 %r7, [%r6]; ret;"""
    ok(body.format("bar.sync 1, 64;"), block=96, flip=32)
    race(body.format(""), block=96, flip=32)


def test_async_copies_race_until_a_barrier_after_the_wait():
    copy = """
      cp.async.ca.shared.global [%r4], [%rd0], 4; cp.async.commit_group; cp.async.wait_group 0; {}
      ld.shared.u32 %r7, [%r6]; ret;"""
    assert "cp.async.ca.shared.global" in race(copy.format(""))
    ok(copy.format("bar.sync 0;"))
    # and copies over what others may still be reading
    body = """
      st.shared.u32 [%r4], 1; bar.sync 0; ld.shared.u32 %r7, [%r6]; {}
      cp.async.ca.shared.global [%r4], [%rd0], 4; cp.async.commit_group; bar.sync 0;
      cp.async.wait_group 0; ret;"""
    assert "ld.shared.u32" in race(body.format(""))
    ok(body.format("bar.sync 0;"))


def test_long_stretches_without_a_barrier_are_checked_in_parts(monkeypatch):
    monkeypatch.setattr(races, "MOST_RECORDED", 200)
    body = """
      st.shared.u32 [%r4], 1; bar.sync 0;
      mov.u32 %r10, 0;
    loop:
      ld.shared.u32 %r7, [%r6];
      add.u32 %r10, %r10, 1; setp.lt.u32 %p1, %r10, 20; @%p1 bra loop;
      {}
      st.shared.u32 [%r4], 2;
      bar.sync 0; st.shared.u32 [%r6], 3;
      ret;"""
    assert "ld.shared.u32" in race(body.format(""))
    ok(body.format("bar.sync 0;"))
    several = body.replace("[%r6];", "[tile];")
    assert "ld.shared.u32" in race(several.format(""))
    ok(several.format("bar.sync 0;"))
