"""What schedule a kernel is run with on a GPU."""

import pytest
from large_graphs import H100, chain, fold, kernels_of, large_graph, layer_norm, scan, softmax
from ptx_runs import aligned

from minicomp.codegen.ptx_schedule import (
    GpuLoopSchedule,
    free_registers,
    live_words,
    schedule_loops,
    vector_width,
)


def kernel_of(build, shape, dtype="float32", alignment=256):
    kernel, *_ = kernels_of(large_graph(build, shape, dtype))
    return aligned(kernel, [alignment] * len(kernel.arguments))


def scheduled(build, shape, dtype="float32", alignment=256):
    return schedule_loops(kernel_of(build, shape, dtype, alignment), H100)


def test_it_prints_as_its_fields():
    text = str(GpuLoopSchedule("inner", 4, 256, 128, 2, True))
    assert (
        text == "GpuLoopSchedule(axis=inner vector=4 threads=256 team=128 unroll=2 resident=True)"
    )


@pytest.mark.parametrize(
    ("columns", "team", "resident"),
    [
        (8, 1, True),
        (100, 16, True),
        (1024, 64, True),
        (4096, 256, True),
        (32768, 512, True),  # 64 elements to a thread
        (45056, 256, True),  # fewer threads hold more
        (65536, 512, False),  # no block holds that
    ],
)
def test_a_row_has_a_team_that_fits_its_length(columns, team, resident):
    schedule = scheduled(softmax(1), (2**28 // columns, columns))
    assert (schedule.axis, schedule.team, schedule.resident) == ("inner", team, resident)


def test_few_rows_have_larger_teams():
    assert scheduled(softmax(1), (100, 4096)).team == 1024


def test_a_block_has_several_short_rows():
    schedule = scheduled(softmax(1), (2**20, 64))
    assert (schedule.team, schedule.threads) == (8, 128)


def test_what_one_sweep_reads_is_not_unrolled_without_end():
    assert scheduled(fold("max", 1), (4096, 4096)).resident
    assert not scheduled(fold("max", 1), (4096, 32768)).resident


def test_columns_are_shared_until_the_gpu_is_busy():
    assert scheduled(fold("sum", 0), (16384, 4096)).team == 64
    assert scheduled(fold("sum", 0), (64, 2**20)).team == 1
    assert scheduled(fold("sum", 0), (16384, 4096)).axis == "outer"


def test_a_short_column_that_several_sweeps_read_is_kept():
    assert scheduled(softmax(0), (64, 2**20)).resident
    assert not scheduled(softmax(0), (16384, 4096)).resident


def test_few_columns_have_narrow_vectors_rather_than_few_blocks():
    assert scheduled(fold("sum", 0), (4000, 1024)).vector == 1
    assert scheduled(fold("sum", 0), (4000, 4096)).vector == 4


def test_scans_of_columns_have_a_thread_to_each():
    schedule = scheduled(scan(0), (16384, 4096))
    assert (schedule.axis, schedule.team) == ("outer", 1)


@pytest.mark.parametrize(
    ("shape", "dtype", "alignment", "vector"),
    [
        ((64, 1024), "float32", 256, 4),
        ((64, 1024), "float16", 256, 8),
        ((64, 1024), "float64", 256, 2),
        ((64, 1024), "float32", 8, 2),
        ((64, 1024), "float32", 1, 1),
        ((64, 1022), "float32", 256, 4),  # collapsed to one loop of 65408
        ((65, 1023), "float32", 256, 1),
    ],
)
def test_vectors_are_of_sixteen_bytes_where_rows_allow(shape, dtype, alignment, vector):
    assert scheduled(chain, shape, dtype, alignment).vector == vector


def test_the_narrowest_access_decides():
    """Rows of 1022 float32 begin at multiples of 8 bytes only."""
    kernel = kernel_of(softmax(1), (64, 1022))
    assert vector_width(kernel, kernel.inner[-1]) == 2


def test_little_work_is_spread_over_the_gpu():
    schedule = scheduled(chain, (100, 100))
    assert (schedule.threads, schedule.unroll) == (32, 1)


def test_registers_that_sweeps_hand_on():
    assert live_words(kernel_of(softmax(1), (64, 1024))) == 1  # x, then exp(x - max)
    assert live_words(kernel_of(softmax(1), (64, 1024), "float64")) == 2
    assert live_words(kernel_of(layer_norm, (64, 1024))) == 1  # x, then x - mean


def test_large_blocks_leave_few_registers_to_a_thread():
    kernel = kernel_of(softmax(1), (64, 1024))
    assert free_registers(kernel, 4, 256) > 4 * free_registers(kernel, 4, 1024)
