"""Which schedules are offered for a matrix product on a GPU, and that they assemble well."""

import re
from dataclasses import replace

import pytest
from matmul_kernels import matmul_kernel, with_epilogue
from ptx_matmul_runs import SMALLER, TARGET
from ptxas import assembled

from minicomp.codegen.ptx_matmul import emit_matmul
from minicomp.codegen.ptx_matmul_plan import GpuMatmulPlan
from minicomp.codegen.ptx_matmul_schedules import (
    COPY_REGISTERS,
    NAIVE,
    REDUCTION,
    copy_registers,
    schedules,
)
from minicomp.kernels import Apply, Argument, Load, Product
from minicomp.kernels.indexing import Index

SHAPES = [(4096, 4096, 4096), (1024, 1024, 1024), (100, 100, 100), (1, 1000, 1000), (1000, 1, 77),
          (16, 8192, 512), (33, 70, 0), (4095, 4097, 4099)]  # fmt: skip
ARITHMETIC = [("float32", "highest"), ("float32", "high"), ("float16", "highest"),
              ("bfloat16", "medium"), ("float64", "highest"), ("int32", "high"),
              ("int64", "highest")]  # fmt: skip


def blocks(kernel, schedule):
    return GpuMatmulPlan(kernel, schedule).blocks


@pytest.mark.parametrize("m, n, k", SHAPES)
@pytest.mark.parametrize("dtype, precision", ARITHMETIC)
@pytest.mark.parametrize("target", [TARGET, SMALLER], ids=lambda target: target.name)
def test_what_is_offered_fits_and_is_distinct(m, n, k, dtype, precision, target):
    kernel = matmul_kernel(m, n, k, dtype=dtype, alignment=256)
    offered = schedules(kernel, target, precision)
    assert 1 <= len(offered) <= 10
    assert len(set(offered)) == len({schedule.label for schedule in offered}) == len(offered)
    for schedule in offered:
        plan = GpuMatmulPlan(kernel, schedule)  # raises if it does not fit
        assert plan.shared_bytes <= target.shared_bytes


def test_less_shared_memory_means_other_schedules():
    kernel = matmul_kernel(4096, 4096, 4096, dtype="float16", alignment=256)
    tiny = replace(SMALLER, shared_bytes=48 * 1024)
    assert schedules(kernel, tiny)[0] not in schedules(kernel, SMALLER)
    assert all(GpuMatmulPlan(kernel, s).shared_bytes <= 48 * 1024 for s in schedules(kernel, tiny))


@pytest.mark.parametrize("precision, family", [("highest", "simt"), ("high", "mma"),
                                               ("medium", "mma")])  # fmt: skip
def test_only_a_lower_precision_rounds_float32(precision, family):
    kernel = matmul_kernel(512, 512, 512, alignment=256)
    assert {schedule.family for schedule in schedules(kernel, TARGET, precision)} == {family}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_two_byte_floats_always_go_to_the_tensor_cores(dtype):
    kernel = matmul_kernel(512, 512, 512, dtype=dtype)
    assert {schedule.family for schedule in schedules(kernel, TARGET)} == {"mma"}


def test_small_products_get_small_tiles_so_that_all_multiprocessors_work():
    large, small = matmul_kernel(4096, 4096, 4096), matmul_kernel(512, 512, 512)
    first = schedules(large, TARGET)[0]
    assert first.block_rows * first.block_columns >= 128 * 128
    assert blocks(small, first) < TARGET.multiprocessors // 4
    assert blocks(small, schedules(small, TARGET)[0]) >= TARGET.multiprocessors * 3 // 4


def test_few_rows_get_tiles_of_few_rows():
    kernel = matmul_kernel(16, 8192, 8192, dtype="bfloat16", alignment=256)
    assert schedules(kernel, TARGET)[0].block_rows == 16


@pytest.mark.parametrize("m, n", [(1, 500), (500, 1), (1, 1)])
def test_a_product_with_a_vector_is_a_reduction(m, n):
    assert schedules(matmul_kernel(m, n, 500), TARGET)[0] == REDUCTION


def test_down_the_columns_of_two_byte_floats_tensor_cores_come_first():
    down = matmul_kernel(1, 4096, 4096, dtype="bfloat16", alignment=256)
    along = matmul_kernel(1, 4096, 4096, b="transposed", dtype="bfloat16", alignment=256)
    assert schedules(down, TARGET)[0].family == "mma" and REDUCTION in schedules(down, TARGET)
    assert schedules(along, TARGET)[0] == REDUCTION


def test_the_naive_kernel_is_for_small_products_only():
    assert NAIVE in schedules(matmul_kernel(8, 8, 8), TARGET)
    assert NAIVE not in schedules(matmul_kernel(1024, 1024, 1024), TARGET)


@pytest.mark.parametrize("m, n, k", SHAPES)
def test_copies_through_registers_leave_some_for_the_sums(m, n, k):
    kernel = matmul_kernel(m, n, k, dtype="float16", alignment=2)
    for schedule in schedules(kernel, TARGET):
        if schedule.family == "mma":
            assert copy_registers(GpuMatmulPlan(kernel, schedule)) <= COPY_REGISTERS


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_warps_share_the_depth_where_the_output_is_small_and_the_depth_is_not(dtype):
    def first(m, n, k):
        return schedules(matmul_kernel(m, n, k, dtype=dtype, alignment=256), TARGET)[0]

    assert first(64, 4096, 4096).depth_groups > 1
    assert first(512, 512, 512).depth_groups > 1
    assert first(64, 4096, 64).depth_groups == first(4096, 4096, 4096).depth_groups == 1
    assert re.fullmatch(r".*_\d_by\d", first(64, 4096, 4096).label)


def test_a_label_tells_sizes():
    labels = [s.label for s in schedules(matmul_kernel(4096, 4096, 4096, alignment=256), TARGET)]
    assert "simt_128x128x8_64x64_3" in labels and len(labels) >= 4


# --- the assembler --------------------------------------------------------------------------------

LAYOUTS = [("contiguous", "contiguous"), ("contiguous", "transposed"), ("transposed", "contiguous")]


@pytest.mark.parametrize("target", [SMALLER, TARGET], ids=lambda target: target.name)
def test_default_schedules_assemble_without_spilling(target):
    texts = {}
    for m, n, k in ((4096, 4096, 4096), (67, 1001, 99), (64, 4096, 4096)):
        for dtype, precision in ARITHMETIC:
            a, b = LAYOUTS[m % len(LAYOUTS)]
            kernel = matmul_kernel(m, n, k, a, b, dtype=dtype, alignment=256)
            schedule = schedules(kernel, target, precision)[0]
            texts[m, n, k, dtype, precision] = emit_matmul(kernel, schedule, target).text
    needs = zip(texts, assembled(texts.values(), target.name), strict=True)
    assert not [case for case, needed in needs if needed.spilled_bytes]


@pytest.mark.parametrize("target", [SMALLER, TARGET], ids=lambda target: target.name)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("op", ["add", "tanh"])
def test_epilogues_assemble_without_spilling(op, dtype, target):
    kernel = matmul_kernel(1000, 1004, 1000, dtype=dtype, alignment=256)
    bias = Argument("bias", "float32", 1004, alignment=256)
    load = Load("float32", 3, Index.of(kernel.column))
    total = Apply("float32", "add", (Product("float32"), load))
    total = Apply("float32", "tanh", (total,)) if op == "tanh" else total
    kernel = with_epilogue(kernel, Apply(dtype, "cast", (total,)), bias)
    schedule = schedules(kernel, target)[0]
    (needed,) = assembled([emit_matmul(kernel, schedule, target).text], target.name)
    assert needed.spilled_bytes == 0


@pytest.mark.parametrize("schedule", [NAIVE, REDUCTION], ids=lambda schedule: schedule.family)
@pytest.mark.parametrize("target", [SMALLER, TARGET], ids=lambda target: target.name)
def test_simple_families_assemble_without_spilling(schedule, target):
    kernel = matmul_kernel(1, 1000, 64, dtype="bfloat16", alignment=256)
    (needed,) = assembled([emit_matmul(kernel, schedule, target).text], target.name)
    assert needed.spilled_bytes == 0
