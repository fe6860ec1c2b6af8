"""Counts that are known by hand: instructions, transactions, bank conflicts; and the report."""

import numpy as np
import pytest
from ptx_kernels import INDEX, run

from minicomp.simulator.counters import bank_conflicts, sectors
from minicomp.simulator.threads import Threads

TILE = ".shared .align 16 .b8 tile[8192];"


def load(stride, offset=0, type="f32", registers="%f1"):
    """Loads of a word each `stride` bytes from `offset` on."""
    return f"""{INDEX}
      mul.wide.u32 %rd30, %r50, {stride}; add.u64 %rd31, %rd0, %rd30;
      ld.global.{type} {registers}, [%rd31+{offset}]; ret;"""


@pytest.mark.parametrize(
    ("stride", "offset", "transactions"),
    [(4, 0, 4), (4, 16, 5), (8, 0, 8), (32, 0, 32), (128, 0, 32), (0, 0, 1)],
)
def test_a_warps_load_costs_the_sectors_that_it_touches(stride, offset, transactions):
    report, _ = run(load(stride, offset), np.zeros(2048, np.float32))
    assert report.global_transactions == transactions
    assert report.global_requests == 1 and report.global_bytes == 128


def test_vector_loads_cost_sectors_too():
    data = np.zeros(2048, np.float32)
    vector = load(16, type="v4.f32", registers="{%f1, %f2, %f3, %f4}")
    report, _ = run(vector, data)
    assert report.global_transactions == 16
    report, _ = run(load(1, type="u8", registers="%r1"), data)
    assert report.global_transactions == 1


def test_requests_are_counted_per_warp_and_block():
    report, _ = run(load(4), np.zeros(2048, np.float32), grid=3, block=64)
    assert report.global_requests == 6 and report.global_transactions == 24
    # the last warp is half full
    report, _ = run(load(4), np.zeros(2048, np.float32), block=48)
    assert report.global_requests == 2 and report.global_transactions == 6


def test_stores_count_as_loads_do():
    body = f"""{INDEX}
      mul.wide.u32 %rd30, %r50, 64; add.u64 %rd31, %rd0, %rd30; st.global.u32 [%rd31], 1; ret;"""
    report, _ = run(body, np.zeros(2048, np.float32))
    assert report.global_transactions == 32 and report.global_bytes == 128


def shared(stride, type="f32", register="%f1"):
    """Stores, by each thread, at `stride` times its number."""
    return f"""{INDEX}
      mov.u32 %r3, tile; mad.lo.u32 %r4, %r53, {stride}, %r3;
      mov.f32 %f1, 0f00000000; mov.f64 %fd1, 0d0000000000000000; cvt.u16.u32 %h1, %r53;
      st.shared.{type} [%r4], {register}; ret;"""


@pytest.mark.parametrize(
    ("stride", "conflicts"),
    [(4, 0), (8, 1), (12, 0), (16, 3), (64, 15), (128, 31), (132, 0), (0, 0)],
)
def test_words_in_one_bank_conflict(stride, conflicts):
    body = shared(stride)
    report, _ = run(body, np.zeros(1), shared=TILE)
    assert report.bank_conflicts == conflicts and report.shared_requests == 1


def test_wide_accesses_are_served_by_half_and_quarter_warps():
    vector = "{%f1, %f1, %f1, %f1}"
    report, _ = run(shared(8, "f64", "%fd1"), np.zeros(1), shared=TILE)
    assert report.bank_conflicts == 0
    report, _ = run(shared(16, "f64", "%fd1"), np.zeros(1), shared=TILE)
    assert report.bank_conflicts == 2  # 16 threads at 4 banks' distance: two cycles, twice
    report, _ = run(shared(16, "v4.f32", vector), np.zeros(1), shared=TILE)
    assert report.bank_conflicts == 0
    report, _ = run(shared(32, "v4.f32", vector), np.zeros(1), shared=TILE)
    assert report.bank_conflicts == 4  # 8 threads at 8 banks' distance: two cycles, four times
    report, _ = run(shared(144, "v4.f32", vector), np.zeros(1), shared=TILE)
    assert report.bank_conflicts == 0  # rows padded by 16 bytes


def test_halves_of_one_word_do_not_conflict():
    report, _ = run(shared(2, "u16", "%h1"), np.zeros(1), shared=TILE)
    assert report.bank_conflicts == 0


def test_ldmatrix_conflicts_by_rows():
    body = f"""{INDEX}
      mov.u32 %r3, tile; mad.lo.u32 %r4, %r53, 16, %r3; mov.f32 %f1, 0f00000000;
      st.shared.v4.f32 [%r4], {{%f1, %f1, %f1, %f1}};
      st.shared.v4.f32 [%r4+512], {{%f1, %f1, %f1, %f1}};
      st.shared.v4.f32 [%r4+1024], {{%f1, %f1, %f1, %f1}};
      bar.sync 0;
      and.b32 %r5, %r53, 7; mad.lo.u32 %r6, %r5, STRIDE, %r3;
      ldmatrix.sync.aligned.m8n8.x4.shared.b16 {{%r10, %r11, %r12, %r13}}, [%r6]; ret;"""
    report, _ = run(body.replace("STRIDE", "16"), np.zeros(1), shared=TILE)
    assert report.bank_conflicts == 0
    report, _ = run(body.replace("STRIDE", "128"), np.zeros(1), shared=TILE)
    assert report.bank_conflicts == 4 * 7
    report, _ = run(body.replace("STRIDE", "144"), np.zeros(1), shared=TILE)
    assert report.bank_conflicts == 0


def test_counts_follow_a_pattern_that_changes_between_rounds():
    # the stride of round i is 4 << i bytes: 4, 8, 16 sectors
    body = f"""{INDEX}
      mov.u32 %r1, 4; mov.u32 %r2, 0;
    loop:
      mul.wide.u32 %rd30, %r50, %r1; add.u64 %rd31, %rd0, %rd30;
      ld.global.f32 %f1, [%rd31];
      shl.b32 %r1, %r1, 1; add.u32 %r2, %r2, 1; setp.lt.u32 %p1, %r2, 3; @%p1 bra loop;
      ret;"""
    report, _ = run(body, np.zeros(2048, np.float32))
    assert report.global_transactions == 4 + 8 + 16
    # and one that only moves, off the sectors' edges and back: 4, 5, 4
    moving = body.replace("shl.b32 %r1, %r1, 1", "add.u64 %rd0, %rd0, 16")
    report, _ = run(moving, np.zeros(2048, np.float32))
    assert report.global_transactions == 4 + 5 + 4


def test_instructions_are_counted_by_warp_and_by_thread():
    body = f"""{INDEX}
      setp.lt.u32 %p1, %r53, 40;
      @%p1 mov.u32 %r1, 1;
      ret;"""
    report, _ = run(body, np.zeros(1), grid=2, block=96)
    # ld.param, 5 of INDEX, setp, mov, ret, in 6 warps
    assert report.instructions == 9 * 6
    assert report.thread_instructions == 8 * 192 + 80
    counts = next(line.counts for line in report.lines if line.text.startswith("@%p1"))
    assert (counts.instructions, counts.thread_instructions) == (6, 80)


def test_a_lines_counts_are_found_by_its_number():
    report, _ = run(load(128), np.zeros(2048, np.float32))
    (line,) = (line for line in report.lines if line.text.startswith("ld.global"))
    assert report.line(line.line).global_transactions == 32
    with pytest.raises(KeyError, match="no instruction on line 1"):
        report.line(1)


def test_the_report_shows_totals_and_the_costly_lines():
    report, _ = run(load(128), np.zeros(4096, np.float32), grid=2, block=64, shared=TILE)
    text = str(report)
    assert text.startswith("kernel: 2 blocks of 64 threads\n")
    assert "128 global transactions of 32 bytes for 4 requests, bytes asked for 12%" in text
    assert "0 bank conflicts in 0 shared requests" in text
    (row,) = (row for row in text.splitlines() if "ld.global.f32" in row)
    assert "128" in row and "12%" in row and row.endswith("ld.global.f32 %f1, [%rd31+0]")
    assert max(map(len, text.splitlines())) < 120


def brute_conflicts(threads, offsets, size):
    lanes = {8: 16, 16: 8}.get(size, 32)
    total = 0
    for request in set(threads // lanes):
        words = {
            (int(offset) + byte) // 4
            for thread, offset in zip(threads, offsets)
            if thread // lanes == request
            for byte in range(size)
        }
        banks = [word % 32 for word in words]
        total += max(banks.count(bank) for bank in banks) - 1
    return total


def test_counts_of_random_accesses_agree_with_plain_counting():
    random = np.random.default_rng(0)
    for size in (1, 2, 4, 8, 16):
        for _ in range(20):
            numbers = np.flatnonzero(random.random(256) < 0.7)
            offsets = (random.integers(0, 4096 // size, len(numbers)) * size).astype(np.uint64)
            threads = Threads(numbers)
            assert bank_conflicts(threads, offsets, size) == brute_conflicts(numbers, offsets, size)
            touched = {(n // 32, int(o) // 32) for n, o in zip(numbers, offsets)}
            assert sectors(threads, offsets) == len(touched)
