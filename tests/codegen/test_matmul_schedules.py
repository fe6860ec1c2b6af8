"""Which schedules a product is offered."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicomp.codegen.matmul_plan import Plan
from minicomp.codegen.matmul_schedules import MOST, schedules
from minicomp.kernels import Argument, MatmulKernel, Product, Store, View
from minicomp.kernels.indexing import Index, LoopVariable, offset_of, row_major_strides
from minicomp.runtime.target import Target

AVX512 = Target.for_cpu("znver4")
#: a core that multiplies two vectors in a cycle, as its L1 cache tells
HUNGRY = replace(AVX512, l1_bytes=48 << 10, l2_bytes=2 << 20)
TARGETS = [AVX512, HUNGRY, Target.for_cpu("haswell"), Target.for_cpu("apple-m1")]


def product(m, n, k, a=None, b=None, batch=(), dtype="float32") -> MatmulKernel:
    """A product; `a` and `b` are (row stride, column stride), contiguous by default."""
    loops = [LoopVariable(f"b{i}", extent) for i, extent in enumerate(batch)]
    row, column = LoopVariable("i", m), LoopVariable("j", n)
    index = offset_of([Index.of(v) for v in (*loops, row, column)],
                      row_major_strides((*batch, m, n)))  # fmt: skip
    arguments = tuple(Argument(name, dtype, 1 << 40) for name in ("a", "b", "out"))
    zeros = (0,) * len(batch)
    return MatmulKernel(
        "matmul", arguments, tuple(loops), row, column, k,
        View(0, 0, zeros, *(a or (k, 1))), View(1, 0, zeros, *(b or (n, 1))),
        dtype, Store(2, index, Product(dtype)),
    )  # fmt: skip


def first(*arguments, target=AVX512, threads=1, **options):
    return schedules(product(*arguments, **options), target, threads)[0]


sizes = st.integers(0, 3000)
strides = st.tuples(st.integers(-5, 5), st.integers(-5, 5))


@settings(max_examples=300, deadline=None)
@given(m=sizes, n=sizes, k=sizes, a=strides | st.none(), b=strides | st.none(),
       batch=st.lists(st.integers(1, 5), max_size=2), dtype=st.sampled_from(["float32", "float64"]),
       target=st.sampled_from(TARGETS), threads=st.integers(1, 16))  # fmt: skip
def test_candidates_fit_differ_and_are_few(m, n, k, a, b, batch, dtype, target, threads):
    kernel = product(m, n, k, a, b, batch=tuple(batch), dtype=dtype)
    chosen = schedules(kernel, target, threads)
    assert 1 <= len(chosen) <= MOST
    assert len({schedule.label for schedule in chosen}) == len(chosen)
    for schedule in chosen:
        plan = Plan(kernel, schedule)  # refuses what does not fit
        assert (plan.units == 0) == (m * n == 0)


def test_there_is_something_to_choose_from():
    for shape in [(64, 64, 64), (1, 512, 784), (32, 512, 784), (1024, 1024, 1024)]:
        assert len(schedules(product(*shape), AVX512, 1)) >= 4


@pytest.mark.parametrize("target", TARGETS)
def test_tiles_leave_registers_for_the_operands(target):
    registers = 16 if target.vector_bits == 256 else 32
    for schedule in schedules(product(1000, 1000, 1000), target, 1):
        vectors = schedule.tile_columns // schedule.vector_width
        assert schedule.tile_rows * vectors + vectors + 1 <= registers
        assert schedule.vector_width * 32 == target.vector_bits


def test_small_products_are_not_packed():
    assert not first(64, 64, 64).pack_b


def test_large_products_are_packed():
    schedule = first(2048, 2048, 2048)
    assert schedule.pack_a and schedule.pack_b
    assert schedule.block_depth * schedule.block_columns * 4 <= 1 << 20


@pytest.mark.parametrize("shape, threads, kept", [
    ((2048, 2048, 2048), 1, True),
    ((4096, 4096, 4096), 2, True),
    ((1024, 512, 1024), 2, False),  # one column block for each thread
    ((4096, 512, 1 << 17), 1, False),  # fewer rows would fit than pay for packing b
    ((1 << 20, 1024, 1024), 64, True),
    ((4096, 1024, 1 << 17), 64, False),
])  # fmt: skip
def test_packed_rows_are_kept_where_enough_of_them_fit(shape, threads, kept):
    kernel = product(*shape)
    schedule = schedules(kernel, AVX512, threads)[0]
    assert (schedule.pack_a, schedule.keep_a) == (True, kept)
    plan = Plan(kernel, schedule)
    assert plan.kept_rows >= min(512, plan.unit_rows)
    if kept:
        assert plan.packed_a_bytes <= 64 << 20
        assert plan.units * plan.packed_a_bytes <= 256 << 20


@pytest.mark.parametrize("dtype, columns", [("float32", 48), ("float64", 24)])
def test_where_eight_packed_rows_stay_in_the_first_cache_their_tiles_come_first(dtype, columns):
    hungry = first(2048, 2048, 2048, dtype=dtype, target=HUNGRY)
    assert (hungry.tile_rows, hungry.tile_columns) == (8, columns)
    squarest = first(2048, 2048, 2048, dtype=dtype)
    assert squarest.tile_rows == 12
    # Panels of 12 rows of 4096 bytes would fill the 48 kB alone; of 8, two thirds.
    plan = Plan(product(2048, 2048, 2048, dtype=dtype), hungry)
    panel = hungry.tile_rows * hungry.block_depth * plan.itemsize
    assert panel * 3 <= HUNGRY.l1_bytes * 2


def test_sums_between_depth_blocks_stay_in_a_large_second_cache_beside_the_block_of_b():
    plan = Plan(product(4096, 4096, 4096), first(4096, 4096, 4096, target=HUNGRY))
    assert plan.packed_b_bytes + plan.kept_sums_bytes <= HUNGRY.l2_bytes
    assert not plan.schedule.pack_a  # rows 16 kB apart, but no more of them than lines in a set
    smaller = Plan(product(4096, 4096, 4096), first(4096, 4096, 4096))
    assert smaller.schedule.pack_a
    assert smaller.packed_b_bytes + smaller.kept_sums_bytes > AVX512.l2_bytes


@pytest.mark.parametrize("shape, packs", [((300, 300, 300), False), ((600, 400, 300), False),
                                          ((600, 480, 400), True), ((100, 400, 600), False),
                                          ((200, 400, 600), True)])  # fmt: skip
def test_a_hungry_core_packs_b_earlier(shape, packs):
    assert first(*shape, target=HUNGRY).pack_b == packs
    assert not first(*shape).pack_b


def test_a_hungry_core_packs_a_transposed_b_from_seventeen_rows_on():
    def family(rows, target):
        return first(rows, 512, 784, b=(1, 784), target=target).family

    assert (family(16, HUNGRY), family(17, HUNGRY)) == ("dot", "outer")
    assert (family(17, AVX512), family(256, AVX512), family(257, AVX512)) == ("dot", "dot", "outer")


def test_an_output_as_wide_as_a_tile_takes_a_as_it_is():
    schedule = first(4096, 64, 4096, b=(1, 4096))
    assert (schedule.tile_columns, schedule.pack_a, schedule.pack_b) == (64, False, True)


def test_one_row_is_streamed_and_one_column_is_the_same_transposed():
    assert (first(1, 4096, 1024).block_depth, first(1, 4096, 1024).tile_rows) == (8, 1)
    matrix_times_vector = first(4096, 1, 1024)
    assert (matrix_times_vector.family, matrix_times_vector.lanes) == ("dot", "rows")


def test_a_matrix_that_comes_from_memory_is_asked_for_a_block_ahead():
    for rows in (1, 4, 12):
        far, near = first(rows, 4096, 4096), first(rows, 1024, 1024)
        assert far.ahead == far.block_depth < 4096
        assert near.ahead == 0


def test_tens_of_rows_read_a_large_matrix_in_place_and_keep_it_in_the_l2_cache():
    for rows in (13, 64, 128):
        schedule = first(rows, 4096, 4096)
        assert not schedule.pack_b
        block = 4 * schedule.block_depth * schedule.block_columns
        sums = 4 * rows * schedule.block_columns
        assert 2 * block + sums <= (1 << 20) * (1 if rows <= 64 else 1.5)
    assert first(256, 4096, 4096).pack_b  # by now packing pays
    assert not first(64, 256, 256).ahead


def test_few_rows_times_a_transposed_matrix_are_dot_products():
    assert first(16, 512, 784, b=(1, 784)).family == "dot"
    assert first(2000, 2000, 2000, b=(1, 2000)).pack_b


def test_narrow_outputs_use_the_rows_for_vectors_where_they_are_contiguous():
    assert first(256, 10, 256, a=(1, 256)).lanes == "rows"
    assert first(256, 10, 256).lanes == "columns"


def test_operands_without_a_contiguous_axis_are_packed():
    for schedule in schedules(product(64, 64, 64, b=(200, 3)), AVX512, 1):
        assert schedule.pack_b


def test_threads_get_units_where_the_work_is_worth_it():
    def units(*arguments, threads, **options):
        kernel = product(*arguments, **options)
        return [Plan(kernel, s).units for s in schedules(kernel, AVX512, threads)]

    assert set(units(16, 16, 16, threads=8)) == {1}
    assert set(units(1024, 1024, 1024, threads=1)) == {1}
    assert min(units(1024, 1024, 1024, threads=4)) >= 4
    assert min(units(64, 64, 64, batch=(100,), threads=4)) >= 4
    assert min(units(1, 4096, 4096, threads=4)) >= 4


def test_where_a_second_thread_is_a_toss_up_both_ways_are_offered():
    kernel = product(64, 64, 64)  # 5 us
    offered = schedules(kernel, AVX512, 2)
    assert [Plan(kernel, s).units for s in offered[:2]] == [1, 2]  # sharing is not the default
    assert len(offered) <= MOST


@pytest.mark.parametrize("a", [(1000, 1), (1, 1000)])
def test_threads_that_share_the_columns_are_offered_the_rows_too(a):
    chosen = schedules(product(1000, 1000, 1000, a=a), HUNGRY, 2)
    assert chosen[0].split == "columns" and chosen[0].pieces == 2
    kept = {"keep_a": chosen[0].keep_a, "block_rows": chosen[0].block_rows}
    assert replace(chosen[1], split="columns", **kept) == chosen[0]
    assert [schedule.split for schedule in chosen].count("rows") == 1
    few = schedules(product(100, 1000, 1000, a=a), HUNGRY, 2)
    alone = schedules(product(1000, 1000, 1000, a=a), HUNGRY, 1)
    assert not any(s.split == "rows" for s in (*few, *alone) if s.pieces > 1)


def test_threads_that_share_the_columns_pack_every_block_once():
    schedule = first(1024, 4096, 1024, threads=2)
    plan = Plan(product(1024, 4096, 1024), schedule)
    assert schedule.split == "columns"
    assert plan.unit_columns % schedule.block_columns == 0
