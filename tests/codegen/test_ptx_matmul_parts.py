"""Products whose depth is shared among blocks, on the simulator or a GPU."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matmul_kernels import (
    KINDS,
    matmul_kernel,
    random_buffers,
    with_epilogue,
)
from ptx_matmul_runs import SMALLER, TARGET, check, emitted, run
from ptxas import assembled
from test_cuda_modules import check as check_compiled
from test_cuda_modules import floats
from test_ptx_matmul import ARITHMETIC, mma, simt
from test_ptx_matmul_epilogue import assert_bias_relu_residual, bias_relu_residual

import minicomp
from minicomp.codegen.ptx_matmul import emit_matmul
from minicomp.codegen.ptx_matmul_parts import sum_of_parts, workspace_bytes
from minicomp.codegen.ptx_matmul_plan import GpuMatmulPlan
from minicomp.codegen.ptx_matmul_schedules import LEAST_PART, NAIVE, REDUCTION, schedules
from minicomp.kernels import Apply, Argument, Load, Product
from minicomp.kernels.indexing import Index

pytestmark = pytest.mark.cuda


def small(dtype, precision="highest", **changes):
    """A schedule of the family that does products of this dtype, with several tiles to a block."""
    by_tensor_cores = dtype.endswith("16") or precision == "high"
    return mma(dtype, **changes) if by_tensor_cores else simt(**changes)


# --- the product ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype, precision", ARITHMETIC)
@pytest.mark.parametrize("parts", [2, 5])
def test_parts_add_up_to_the_product(parts, dtype, precision):
    schedule = small(dtype, precision)
    depth = 6 * schedule.block_depth + 3  # 7 tiles, of which the first begins before the operand
    kernel = matmul_kernel(9, 36, depth, dtype=dtype, alignment=256)
    check(kernel, replace(schedule, depth_blocks=parts))


@pytest.mark.parametrize("tiles", [4, 5, 8])
@pytest.mark.parametrize("stages", [2, 5])
def test_parts_with_more_and_fewer_tiles_than_stages(tiles, stages):
    """Of 4 parts; they are of one size, or of two."""
    schedule = simt(depth_blocks=4, stages=stages)
    check(matmul_kernel(9, 20, 8 * tiles, b="transposed", alignment=256), schedule)


@pytest.mark.parametrize("batch", [(2, 2), (1, 3, 1)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_batches(batch, dtype):
    kernel = matmul_kernel(9, 36, 100, batch=batch, b="transposed", dtype=dtype, alignment=256)
    check(kernel, small(dtype, depth_blocks=3))


def test_groups_of_warps_may_share_the_depth_of_a_part():
    check(matmul_kernel(20, 40, 101, alignment=256), simt(block_depth=16, depth_groups=4,
                                                         depth_blocks=3))  # fmt: skip


def test_the_workspace_has_all_sums_of_each_part():
    kernel = matmul_kernel(5, 36, 24, dtype="int32", alignment=256)
    buffers, parts = random_buffers(kernel), np.zeros(3 * 5 * 36, np.int32)
    assert parts.nbytes == workspace_bytes(kernel, 3)
    run(kernel, simt(depth_blocks=3), buffers, parts=parts)
    a, b = (x.reshape(s) for x, s in zip(buffers, [(5, 24), (24, 36)]))
    wanted = [a[:, n : n + 8] @ b[n : n + 8] for n in (0, 8, 16)]
    np.testing.assert_array_equal(parts.reshape(3, 5, 36), wanted)
    np.testing.assert_array_equal(buffers[2].reshape(5, 36), sum(wanted))


layouts = st.sampled_from(KINDS)


@settings(max_examples=10, deadline=None)
@given(
    m=st.integers(1, 40),
    n=st.integers(1, 70),
    k=st.integers(1, 200),
    a=layouts,
    b=layouts,
    dtype=st.sampled_from(["float32", "float16", "bfloat16"]),
    parts=st.integers(2, 9),
    stages=st.integers(2, 4),
    alignment=st.sampled_from([1, 16]),
)
def test_any_shape_in_any_number_of_parts(m, n, k, a, b, dtype, parts, stages, alignment):
    schedule = small(dtype, stages=stages)
    tiles = -(-k // schedule.block_depth)
    kernel = matmul_kernel(m, n, k, a, b, dtype=dtype, alignment=alignment)
    check(kernel, replace(schedule, depth_blocks=min(parts, tiles)))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_results_are_the_same_each_time(dtype):
    kernel = matmul_kernel(20, 36, 203, dtype=dtype, alignment=256)
    results = []
    for _ in range(2):
        buffers = random_buffers(kernel)
        run(kernel, small(dtype, depth_blocks=7), buffers)
        results.append(buffers[2].view(np.uint8))
    np.testing.assert_array_equal(*results)


# --- the epilogue ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("m, n, k, batch", [(13, 35, 99, ()), (9, 36, 128, (2,))])
def test_bias_activation_scale_and_residual(m, n, k, batch, dtype):
    kernel = bias_relu_residual(matmul_kernel(m, n, k, dtype=dtype, batch=batch, alignment=256))
    buffers = random_buffers(kernel)
    run(kernel, small(dtype, depth_blocks=4), buffers)
    assert_bias_relu_residual(kernel, buffers)


# --- when -----------------------------------------------------------------------------------------

DEEP = [(128, 128, 8192), (256, 256, 16384), (64, 64, 65536), (16, 1024, 16384), (100, 100, 8191),
        (1, 8, 1 << 20)]  # fmt: skip


@pytest.mark.parametrize("m, n, k", DEEP)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_blocks_share_a_great_depth_where_there_are_few_tiles(m, n, k, dtype):
    kernel = matmul_kernel(m, n, k, dtype=dtype, alignment=256)
    first, *others = schedules(kernel, TARGET)
    plan = GpuMatmulPlan(kernel, first)
    assert first.depth_blocks > 1 and first.label.endswith(f"_parts{first.depth_blocks}")
    assert -(-k // first.depth_blocks) >= LEAST_PART
    # All multiprocessors may work, and in one wave.
    assert TARGET.multiprocessors // 2 <= plan.blocks <= TARGET.multiprocessors
    assert any(schedule.depth_blocks == 1 for schedule in others)


@pytest.mark.parametrize("m, n, k", [(4096, 4096, 16384), (1024, 1024, 1024), (128, 128, 256),
                                     (512, 512, 512), (33, 70, 0), (0, 5, 8192)])  # fmt: skip
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_no_depth_is_shared_among_blocks_where_that_does_not_pay(m, n, k, dtype):
    kernel = matmul_kernel(m, n, k, dtype=dtype, alignment=256)
    assert schedules(kernel, TARGET)[0].depth_blocks == 1


@pytest.mark.parametrize(
    "schedule, complaint",
    [
        (replace(NAIVE, depth_blocks=2), "only tiles share their depth"),
        (replace(REDUCTION, depth_blocks=2), "only tiles share their depth"),
        (simt(depth_blocks=4), "the depth has 3 tiles, not one for each of depth_blocks"),
        (simt(depth_blocks=0), "at least 1"),
    ],
)
def test_what_is_wrong_with_a_schedule_is_said(schedule, complaint):
    with pytest.raises(ValueError, match=complaint):
        emit_matmul(matmul_kernel(20, 20, 20), schedule, TARGET)


@pytest.mark.parametrize("target", [SMALLER, TARGET], ids=lambda target: target.name)
@pytest.mark.parametrize("dtype, precision", [*ARITHMETIC[:2], ARITHMETIC[3]])
def test_default_schedules_assemble_without_spilling(dtype, precision, target):
    kernel = matmul_kernel(100, 100, 8191, dtype=dtype, alignment=256)
    if dtype == "bfloat16":
        kernel = bias_relu_residual(kernel)
    schedule = schedules(kernel, target, precision)[0]
    assert schedule.depth_blocks > 1
    texts = [kernel.text for kernel in emitted(kernel, schedule, target)]
    assert [needed.spilled_bytes for needed in assembled(texts, target.name)] == [0, 0]


# --- what follows ---------------------------------------------------------------------------------


def test_the_sum_is_a_reduction_with_the_epilogue():
    kernel = matmul_kernel(16, 32, 64)
    bias = Load("float32", 3, Index.of(kernel.column), "bias")
    biased = Apply("float32", "add", (Product("float32"), bias))
    kernel = with_epilogue(kernel, biased, Argument("bias", "float32", 32))
    assert str(sum_of_parts(kernel, 3)).splitlines()[1:] == [
        "  for i in 16:  # parallel",
        "    for j in 32:  # parallel",
        "      sweep part in 3:",
        "        r0 = sum parts[512*part + 32*i + j]",
        "      out[32*i + j] = add(r0, bias[j])",
    ]


def test_a_compiled_function_with_a_product_in_parts():
    def layer(x, weight, bias):
        return minicomp.relu(x @ weight + bias) * 2.0

    compiled = check_compiled(layer, floats(5, 1301), floats(1301, 9), floats(9))
    (choice,) = compiled.choices()
    assert "_parts" in choice.chosen
    product, added_up = compiled.explain().kernels
    assert (product.kind, product.operations) == ("matmul", ("matmul",))
    assert (added_up.kind, added_up.operations) == ("loop", ("sum", "add", "maximum", "mul"))
