"""The GPU's matmul family, on the simulator or a GPU: every schedule computes the product, and
reads and writes nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from matmul_kernels import (
    KINDS,
    Layout,
    assert_is_product,
    matmul_kernel,
    operand,
    random_buffers,
)
from ptx_matmul_runs import SMALLER, TARGET, check, run

from minicomp.codegen.ptx_matmul import emit_matmul
from minicomp.codegen.ptx_matmul_plan import GpuMatmulPlan, GpuMatmulSchedule
from minicomp.codegen.ptx_matmul_schedules import NAIVE, REDUCTION, schedules

pytestmark = pytest.mark.cuda

#: (operands' dtype, precision): each kind of arithmetic there is.
ARITHMETIC = [
    ("float32", "highest"),
    ("float32", "high"),
    ("float16", "highest"),
    ("bfloat16", "highest"),
    ("float64", "highest"),
    ("int32", "highest"),
    ("int64", "highest"),
]


def simt(**changes):
    """Tiles so small that every loop runs, and every edge is met."""
    small = GpuMatmulSchedule("simt", 32, 32, 8, 16, 32, lane_rows=4, stages=3, group_rows=2)
    return replace(small, **changes)


def mma(dtype="float16", **changes):
    depth = 16 if dtype == "float32" else 32
    small = GpuMatmulSchedule("mma", 32, 32, depth, 16, 32, stages=3, group_rows=2)
    return replace(small, **changes)


# --- the product ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype, precision", ARITHMETIC)
def test_every_candidate_computes_the_product(dtype, precision):
    kernel = matmul_kernel(33, 70, 40, dtype=dtype, alignment=256)
    for schedule in schedules(kernel, TARGET, precision):
        check(kernel, schedule)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("m, n, k", [(70, 1, 33), (1, 50, 65)])
def test_every_candidate_multiplies_with_a_vector(m, n, k, dtype):
    kernel = matmul_kernel(m, n, k, dtype=dtype, alignment=256)
    for schedule in schedules(kernel, TARGET):
        check(kernel, schedule)


@pytest.mark.parametrize("dtype, precision", ARITHMETIC)
def test_the_largest_tiles(dtype, precision):
    kernel = matmul_kernel(4096, 4096, 4096, dtype=dtype, alignment=256)
    large = schedules(kernel, TARGET, precision)[0]
    check(matmul_kernel(130, 136, 72, dtype=dtype, alignment=256), large)


@pytest.mark.parametrize("a", KINDS)
@pytest.mark.parametrize("family", ["simt", "tf32", "float16"])
def test_operands_of_any_strides(a, family):
    """Every kind of one operand with three of the other, and those in turn."""
    first = KINDS.index(a) + ["simt", "tf32", "float16"].index(family)
    for b in [KINDS[(first + step) % len(KINDS)] for step in (0, 2, 4)]:
        if family == "simt":
            check(matmul_kernel(33, 40, 22, a, b, alignment=256), simt())
        elif family == "tf32":
            check(matmul_kernel(17, 36, 24, a, b, alignment=16), mma("float32"))
        else:
            check(matmul_kernel(33, 40, 40, a, b, dtype="float16", alignment=256), mma())


@pytest.mark.parametrize("a, b", [("stepped", "reversed"), ("transposed", "padded")])
@pytest.mark.parametrize("schedule", [NAIVE, REDUCTION])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32"])
def test_vectors_and_the_naive_kernel_with_any_strides(a, b, schedule, dtype):
    m, n = (9, 40) if schedule is NAIVE else (1, 40)
    check(matmul_kernel(m, n, 37, a, b, dtype=dtype), schedule)


@pytest.mark.parametrize("m", [31, 32, 33, 65])
@pytest.mark.parametrize("n", [1, 31, 32, 100])
def test_edges_of_the_output(m, n):
    check(matmul_kernel(m, n, 20, alignment=256), simt())
    check(matmul_kernel(m, n, 40, dtype="bfloat16", alignment=256), mma())


@pytest.mark.parametrize("k", [1, 2, 7, 8, 9, 16, 17, 24, 31, 32, 33, 64, 72])
def test_depths_that_leave_something_over(k):
    for a, b in (("contiguous", "contiguous"), ("transposed", "transposed")):
        check(matmul_kernel(20, 24, k, a, b, alignment=256), simt())
        check(matmul_kernel(20, 24, k, a, b, dtype="float16", alignment=256), mma())


@pytest.mark.parametrize("number", range(len(ARITHMETIC)))
@pytest.mark.parametrize("m, n, k", [(32, 32, 64), (45, 67, 70), (3, 33, 5), (33, 70, 0)])
def test_warps_that_share_the_depth(m, n, k, number):
    """In two groups and in four, in turn."""
    dtype, precision = ARITHMETIC[number]
    groups = (2, 4)[(m + number) % 2]
    family = mma if dtype.endswith("16") or precision == "high" else simt
    schedule = family(dtype, block_depth=128) if family is mma else simt(block_depth=16)
    check(
        matmul_kernel(m, n, k, dtype=dtype, alignment=256), replace(schedule, depth_groups=groups)
    )


@pytest.mark.parametrize("stages", [2, 3, 4, 6])
@pytest.mark.parametrize("k", [8, 16, 40, 100])
def test_more_and_fewer_stages_than_tiles(stages, k):
    check(matmul_kernel(20, 36, k, alignment=256), simt(stages=stages))
    check(matmul_kernel(20, 36, k, dtype="float16", alignment=2), mma(stages=stages))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("bytes_", [0, 2, 4, 8, 16])
def test_operands_that_begin_anywhere(dtype, bytes_):
    itemsize = 2 if "16" in dtype else int(dtype[5:]) // 8
    displaced = bytes_ if bytes_ % itemsize == 0 else itemsize
    alignment = displaced & -displaced if displaced else 256
    kernel = matmul_kernel(33, 40, 48, b="transposed", dtype=dtype, alignment=alignment)
    for schedule in (simt(), *([mma()] if itemsize == 2 else [])):
        check(kernel, schedule, displaced)


@pytest.mark.parametrize("batch", [(3,), (2, 3), (1, 4, 1)])
@pytest.mark.parametrize("schedule", [NAIVE, simt(), mma("float32")])
def test_batches(batch, schedule):
    check(matmul_kernel(9, 36, 20, batch=batch, b="transposed", alignment=256), schedule)


@pytest.mark.parametrize("schedule", [simt(), mma("float32")])
def test_an_operand_shared_by_the_batch(schedule):
    b = Layout(0, (0, 20, 1), 18 * 20)
    check(matmul_kernel(9, 20, 18, b=b, batch=(4,), alignment=256), schedule)


def test_a_batch_of_products_with_vectors():
    check(matmul_kernel(1, 20, 40, batch=(2, 3)), REDUCTION)


@pytest.mark.parametrize("m", [3 * 16, 3 * 16 + 1, 7 * 16])
@pytest.mark.parametrize("group", [1, 2, 8])
def test_every_tile_is_done_whatever_the_order(m, group):
    tiles = simt(block_rows=16, block_columns=16, warp_rows=16, warp_columns=16, group_rows=group)
    check(matmul_kernel(m, 50, 8, batch=(2,)), tiles)


@pytest.mark.parametrize("accumulate, dtype", [("float64", "float32"), ("float32", "float16"),
                                               ("float32", "bfloat16")])  # fmt: skip
@pytest.mark.parametrize("b", ["contiguous", "transposed"])
def test_operands_are_converted_on_their_way_to_shared_memory(accumulate, dtype, b):
    kernel = matmul_kernel(
        21, 40, 24, Layout.of((21, 24), dtype=dtype), Layout.of((24, 40), b, dtype),
        dtype=accumulate, alignment=256,
    )  # fmt: skip
    check(kernel, simt())
    check(kernel, NAIVE)


def test_operands_of_different_dtypes():
    a, b = Layout.of((21, 24), dtype="float16"), Layout.of((24, 40), dtype="bfloat16")
    kernel = matmul_kernel(21, 40, 24, a, b, alignment=256)
    for schedule in schedules(kernel, TARGET):
        check(kernel, schedule)


@pytest.mark.parametrize("m, n", [(0, 5), (5, 0), (0, 0)])
def test_an_empty_product_has_no_blocks(m, n):
    kernel = matmul_kernel(m, n, 3)
    for schedule in schedules(kernel, TARGET):
        assert emit_matmul(kernel, schedule, TARGET).blocks == 0


@pytest.mark.parametrize("m, n", [(1, 1), (1, 9), (9, 1), (13, 40)])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int32"])
def test_a_product_over_nothing_is_zero(m, n, dtype):
    kernel = matmul_kernel(m, n, 0, dtype=dtype)
    for schedule in schedules(kernel, TARGET):
        buffers = random_buffers(kernel)
        run(kernel, schedule, buffers)
        assert (buffers[2] == 0).all()


#: The NaN that GPUs make: all bits of the mantissa are set, so that rounding must not add to it.
GPU_NAN = np.array([0x7FFFFFFF], np.uint32).view(np.float32)[0]


@pytest.mark.parametrize("schedule", [NAIVE, simt(), mma("float32")])
@pytest.mark.parametrize("b", ["contiguous", "transposed"])
def test_nan_and_infinity_go_through(schedule, b):
    kernel = matmul_kernel(14, 35, 40, b=b)
    buffers = random_buffers(kernel)
    buffers[0][3], buffers[0][45], buffers[0][90] = GPU_NAN, np.inf, 0.0
    buffers[1][7], buffers[1][100] = -np.inf, np.inf
    with np.errstate(invalid="ignore"):
        wanted = operand(kernel, kernel.a, buffers) @ operand(kernel, kernel.b, buffers)
    run(kernel, schedule, buffers)
    got = buffers[2].reshape(14, 35)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(wanted))
    infinite = np.isinf(wanted)
    np.testing.assert_array_equal(got[infinite], wanted[infinite])


def test_integer_products_wrap():
    kernel = matmul_kernel(5, 36, 20, dtype="int32")
    buffers = random_buffers(kernel)
    for number in (0, 1):
        buffers[number] *= 10_000_000
    run(kernel, simt(), buffers)
    assert_is_product(kernel, buffers)
    assert np.abs(buffers[2].astype(np.int64)).max() > 2**30


def test_tf32_operands_are_rounded_to_nearest_not_cut_off():
    kernel = matmul_kernel(16, 32, 16)
    buffers = random_buffers(kernel)
    just_below_two = np.float32(2 - 2**-12)  # nearer to 2 than to 2 - 2**-10
    buffers[0][:], buffers[1][:] = just_below_two, 1.0
    run(kernel, mma("float32"), buffers)
    assert (buffers[2] == 2.0 * 16).all()


layouts = st.sampled_from(KINDS)
sizes = st.integers(1, 70)
powers = st.sampled_from([16, 32, 64])


@settings(max_examples=25, deadline=None)
@given(m=sizes, n=sizes, k=st.integers(0, 40), a=layouts, b=layouts, data=st.data())
def test_any_schedule_that_fits_computes_the_product(m, n, k, a, b, data):
    dtype = data.draw(st.sampled_from(["float32", "float16", "bfloat16"]))
    family = data.draw(st.sampled_from(["simt", "mma"]))
    warp_rows, warp_columns = data.draw(powers), data.draw(powers)
    groups = data.draw(st.sampled_from([1, 1, 2, 4]))
    assume(groups == 1 or warp_rows * warp_columns >= 32 * 4 * groups)
    depth = data.draw(st.sampled_from([8, 16] if family == "simt" else [32, 64]))
    schedule = GpuMatmulSchedule(
        family,
        block_rows=warp_rows * data.draw(st.sampled_from([1, 2])),
        block_columns=warp_columns * data.draw(st.sampled_from([1, 2, 4])),
        block_depth=max(depth, 32 * groups) if family == "mma" else depth,
        warp_rows=warp_rows,
        warp_columns=warp_columns,
        lane_rows=data.draw(st.sampled_from([2, 4, 8, 16])),
        stages=data.draw(st.integers(2, 4)),
        copy_parts=data.draw(st.integers(1, 4)),
        group_rows=data.draw(st.integers(1, 3)),
        depth_groups=groups,
    )
    alignment = data.draw(st.sampled_from([1, 16]))
    kernel = matmul_kernel(m, n, k, a, b, dtype=dtype, alignment=alignment)
    assume(GpuMatmulPlan(kernel, schedule).shared_bytes <= TARGET.shared_bytes)
    check(kernel, schedule)


# --- what the simulator counts --------------------------------------------------------------------


def lines_of(report, opcode):
    return [line for line in report.lines if opcode in line.text and line.counts.instructions]


@pytest.mark.parametrize("a", ["contiguous", "transposed"])
@pytest.mark.parametrize("b", ["contiguous", "transposed"])
@pytest.mark.parametrize("number", range(5))
@pytest.mark.usefixtures("simulator")  # a GPU does not tell
def test_no_bank_conflicts_between_global_memory_and_the_multiplications(a, b, number):
    """Of the schedules for many rows and for few, in turn: both with each layout of an operand."""
    dtype, precision = ARITHMETIC[number]
    m = (64, 4096)[((a == "transposed") + (b == "transposed") + number) % 2]
    kernel = matmul_kernel(m, 4096, 4096, a, b, dtype=dtype, alignment=256)
    schedule = schedules(kernel, TARGET, precision)[0]
    size = schedule.block_rows, schedule.block_columns
    small = matmul_kernel(*size, 128, a, b, dtype=dtype, alignment=256)
    report = check(small, schedule)
    assert lines_of(report, "cp.async.c")
    assert lines_of(report, "ldmatrix") or lines_of(report, "ld.shared")
    # Sums of warps that share the depth meet in shared memory later, once.
    text = emit_matmul(small, schedule, TARGET).text
    last = text.partition("the sums go to shared memory")[0].count("\n") + 1
    assert sum(x.counts.bank_conflicts for x in report.lines if x.line <= last) == 0


@pytest.mark.parametrize("a", ["contiguous", "transposed"])
@pytest.mark.parametrize("b", ["contiguous", "transposed"])
@pytest.mark.usefixtures("simulator")
def test_each_block_reads_every_sector_of_its_operands_once(a, b):
    kernel = matmul_kernel(64, 64, 64, a, b, dtype="float16", alignment=256)
    report = check(kernel, mma(block_rows=64, block_columns=64, warp_rows=32, block_depth=64))
    copied = sum(line.counts.global_transactions for line in lines_of(report, "cp.async.c"))
    assert copied == 2 * 64 * 64 * 2 // 32


# --- schedules that do not fit --------------------------------------------------------------------


@pytest.mark.parametrize(
    "schedule, complaint",
    [
        (replace(NAIVE, family="wgmma"), "family must be one of"),
        (simt(stages=1), "two stages"),
        (simt(block_rows=24), "powers of two"),
        (simt(block_rows=8), "block_rows must not be less than warp_rows"),
        (simt(block_rows=512, block_columns=512, warp_rows=16), "at most 1024 threads"),
        (simt(lane_rows=32), "warp_rows must not be less than lane_rows"),
        (simt(warp_columns=4), "warp_columns must not be less"),
        (simt(block_depth=1), "block_depth must be at least 2"),
        (simt(depth_groups=8), "block_depth must be at least 16, for two steps"),
        (simt(depth_groups=3), "powers of two"),
        (simt(warp_rows=4, depth_groups=2), "a thread must have 8 sums to share"),
        (mma(warp_columns=8), "a multiple of 16 x 16"),
        (mma(block_depth=8), "block_depth must be at least 16"),
        (REDUCTION, "neither operand is a vector"),
        (simt(group_rows=0), "at least 1"),
    ],
)
def test_what_is_wrong_with_a_schedule_is_said(schedule, complaint):
    with pytest.raises(ValueError, match=complaint):
        GpuMatmulPlan(matmul_kernel(20, 20, 20), schedule)


def test_tensor_cores_take_no_float64():
    kernel = matmul_kernel(20, 20, 20, dtype="float64")
    with pytest.raises(ValueError, match="tensor cores take two operands of float16"):
        GpuMatmulPlan(kernel, mma())


def test_more_shared_memory_than_there_is_is_an_error():
    kernel = matmul_kernel(20, 20, 20, alignment=256)
    schedule = simt(block_depth=64, stages=12)
    assert emit_matmul(kernel, schedule, TARGET).shared_bytes > SMALLER.shared_bytes
    with pytest.raises(ValueError, match=r"does not fit sm_80: .* bytes of shared memory"):
        emit_matmul(kernel, schedule, SMALLER)
