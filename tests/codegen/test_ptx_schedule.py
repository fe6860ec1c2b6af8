"""What schedule a kernel is run with on a GPU."""

import pytest
from large_graphs import (
    H100,
    chain,
    fold,
    kernels_of,
    large_graph,
    layer_norm,
    scan,
    softmax,
    turned,
)
from ptx_runs import aligned

from minicomp.codegen.ptx_schedule import (
    GpuLoopSchedule,
    free_registers,
    live_words,
    schedule_loops,
    tile_bytes,
    vector_width,
)


def kernel_of(build, shape, dtype="float32", alignment=256):
    kernel, *_ = kernels_of(large_graph(build, shape, dtype))
    return aligned(kernel, [alignment] * len(kernel.arguments))


def scheduled(build, shape, dtype="float32", alignment=256):
    return schedule_loops(kernel_of(build, shape, dtype, alignment), H100)


def test_it_prints_as_its_fields():
    text = str(GpuLoopSchedule("outer", 4, 256, 1, 2, True, "o0"))
    fields = "axis=outer vector=4 threads=256 team=1 unroll=2 resident=True tile=o0"
    assert text == f"GpuLoopSchedule({fields})"


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


@pytest.mark.parametrize(
    ("shape", "permutation", "tile"),
    [
        ((4096, 1024), (1, 0), "o0"),
        ((64, 64), (1, 0), "o0"),
        ((63, 4096), (1, 0), ""),
        ((4096, 63), (1, 0), ""),
        ((16, 100, 200), (0, 2, 1), "o1"),
        ((100, 3, 200), (2, 1, 0), "o0"),
        ((100, 200, 300), (1, 0, 2), ""),  # rows change places, and are contiguous
    ],
)
def test_loads_along_another_loop_than_the_stores_are_done_in_tiles(shape, permutation, tile):
    assert scheduled(turned(*permutation), shape).tile == tile


def test_a_fold_is_not_done_in_tiles():
    def build(g):
        return g.add("sum", turned(1, 0)(g), axes=(0,), keepdims=False)

    assert scheduled(build, (4096, 4096)).tile == ""


@pytest.mark.parametrize(
    ("shape", "dtype", "alignment", "vector"),
    [
        ((4096, 4096), "float32", 256, 1),
        ((4096, 4096), "float16", 256, 2),
        ((4096, 4096), "bool", 256, 4),
        ((4096, 4096), "float16", 2, 1),
        ((4095, 4096), "float16", 256, 1),
        ((4096, 4095), "float16", 256, 1),
        ((512, 512), "float16", 256, 1),  # 64 tiles of 64 x 64, for 132 multiprocessors
    ],
)
def test_vectors_of_tiles_are_of_four_bytes_where_both_loops_allow(shape, dtype, alignment, vector):
    schedule = scheduled(turned(1, 0), shape, dtype, alignment)
    assert (schedule.tile, schedule.vector) == ("o0", vector)


def test_with_much_to_do_to_an_element_tiles_are_small():
    assert scheduled(turned(1, 0, functions=1), (4096, 4096), "float16").vector == 2
    assert scheduled(turned(1, 0, functions=5), (4096, 4096), "float16").vector == 1


def test_tiles_have_to_fit_into_shared_memory():
    kernel = kernel_of(turned(1, 0, count=11), (4096, 4096))
    schedule = schedule_loops(kernel, H100)
    assert (schedule.tile, tile_bytes(kernel, schedule)) == ("o0", 11 * 32 * 33 * 4)
    assert scheduled(turned(1, 0, count=12), (4096, 4096)).tile == ""
    assert scheduled(turned(1, 0, count=5), (4096, 4096), "float16").vector == 2
    assert scheduled(turned(1, 0, count=6), (4096, 4096), "float16").vector == 1


def test_registers_that_sweeps_hand_on():
    assert live_words(kernel_of(softmax(1), (64, 1024))) == 1  # x, then exp(x - max)
    assert live_words(kernel_of(softmax(1), (64, 1024), "float64")) == 2
    assert live_words(kernel_of(layer_norm, (64, 1024))) == 1  # x, then x - mean


def test_large_blocks_leave_few_registers_to_a_thread():
    kernel = kernel_of(softmax(1), (64, 1024))
    assert free_registers(kernel, 4, 256) > 4 * free_registers(kernel, 4, 1024)
