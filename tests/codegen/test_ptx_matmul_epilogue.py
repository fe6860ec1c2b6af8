"""Epilogues of the GPU's matrix products, on the simulator or a GPU, by their meaning."""

import re
from dataclasses import replace

import numpy as np
import pytest
from matmul_kernels import (
    ROUNDOFF,
    assert_within,
    from_storage,
    matmul_kernel,
    product,
    random_buffers,
    with_epilogue,
)
from ptx_matmul_runs import TARGET, run

from minicomp.codegen.ptx_matmul import emit_matmul
from minicomp.codegen.ptx_matmul_plan import GpuMatmulPlan, GpuMatmulSchedule
from minicomp.codegen.ptx_matmul_schedules import NAIVE, REDUCTION, schedules
from minicomp.kernels import Apply, Argument, Literal, Load, Product, Store
from minicomp.kernels.indexing import Element, Index, offset_of

pytestmark = pytest.mark.cuda

SIMT = GpuMatmulSchedule("simt", 32, 32, 8, 16, 32, stages=3)
PARTS = replace(SIMT, depth_blocks=3)
MMA = GpuMatmulSchedule("mma", 32, 32, 32, 16, 32, stages=3)
#: (schedule, dtype of the operands) of each family.
FAMILIES = [(NAIVE, "float32"), (SIMT, "float32"), (MMA, "float16"), (MMA, "bfloat16"),
            (replace(SIMT, depth_groups=4), "float32"),
            (replace(MMA, block_depth=64, depth_groups=2), "bfloat16")]  # fmt: skip
PRODUCT = Product("float32")


def bias_relu_residual(kernel):
    """maximum(product + bias[j], 0) * scale[i] + residual[..., i, j], in float32."""
    dtype, (m, n) = kernel.arguments[2].dtype, (kernel.row.extent, kernel.column.extent)
    bias = Load("float32", 3, Index.of(kernel.column))
    scale = Load("float32", 4, Index.of(kernel.row))
    residual = Load(dtype, 5, kernel.store.index)
    biased = Apply("float32", "add", (PRODUCT, bias))
    relu = Apply("float32", "maximum", (biased, Literal("float32", 0.0)))
    scaled = Apply("float32", "mul", (relu, scale))
    total = Apply("float32", "add", (scaled, Apply("float32", "cast", (residual,))))
    more = [
        Argument("bias", "float32", n, alignment=256),
        Argument("scale", "float32", m, alignment=256),
        Argument("residual", dtype, kernel.arguments[2].size, alignment=256),
    ]
    return with_epilogue(kernel, Apply(dtype, "cast", (total,)), *more)


def assert_bias_relu_residual(kernel, buffers):
    exact, magnitude = product(kernel, buffers)
    dtype = kernel.arguments[2].dtype
    bias, scale = buffers[3].astype(np.float64), buffers[4].astype(np.float64)[:, None]
    residual = from_storage(buffers[5], dtype).reshape(exact.shape)
    wanted = np.maximum(exact + bias, 0) * scale + residual
    magnitude = (magnitude + np.abs(bias)) * np.abs(scale) + np.abs(residual)
    bound = (4 + 2 * np.sqrt(kernel.depth)) * 2 * ROUNDOFF["float32"] * magnitude
    if dtype != "float32":
        bound = bound + 1.01 * ROUNDOFF[dtype] * np.abs(wanted) + 1e-6
    assert_within(from_storage(buffers[2], dtype).reshape(exact.shape), wanted, bound)


@pytest.mark.parametrize("schedule, dtype", FAMILIES)
@pytest.mark.parametrize("m, n, k", [(32, 64, 24), (13, 35, 19), (33, 70, 0), (40, 1, 9)])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_bias_activation_scale_and_residual(m, n, k, batch, schedule, dtype):
    kernel = bias_relu_residual(matmul_kernel(m, n, k, dtype=dtype, batch=batch, alignment=256))
    buffers = random_buffers(kernel)
    run(kernel, schedule, buffers)
    assert_bias_relu_residual(kernel, buffers)


@pytest.mark.parametrize("m, n", [(1, 40), (40, 1), (1, 1)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_reduction_has_the_epilogue_too(m, n, dtype):
    kernel = bias_relu_residual(matmul_kernel(m, n, 50, dtype=dtype))
    buffers = random_buffers(kernel)
    run(kernel, REDUCTION, buffers)
    assert_bias_relu_residual(kernel, buffers)


@pytest.mark.parametrize("n", [64, 70, 71])
@pytest.mark.parametrize("schedule, dtype", FAMILIES[1:])
def test_a_bias_is_loaded_once_for_all_rows(n, schedule, dtype):
    kernel = matmul_kernel(40, n, 16, dtype=dtype, alignment=256)
    bias = Load("float32", 3, Index.of(kernel.column))
    biased = Apply(dtype, "cast", (Apply("float32", "add", (PRODUCT, bias)),))
    kernel = with_epilogue(kernel, biased, Argument("bias", "float32", n, alignment=256))
    text = emit_matmul(kernel, schedule, TARGET).text
    loads = re.findall(r"ld\.global\.nc(?:\.v(\d))?\.f32", text.partition("epilogue")[2])
    columns = schedule.warp_columns // (8 if schedule is SIMT else 4)  # of a thread
    if schedule.depth_groups > 1:
        columns = 4  # which it keeps for all rows
    assert sum(int(width or 1) for width in loads) == columns


@pytest.mark.parametrize("n, width", [(64, 4), (66, 1)])
def test_stores_are_as_wide_as_the_output_is_aligned(n, width):
    kernel = matmul_kernel(32, n, 16, alignment=256)
    text = emit_matmul(kernel, SIMT, TARGET).text
    assert set(re.findall(r"st\.global(?:\.v(\d))?\.f32", text)) == {"4" if width == 4 else ""}
    narrow = matmul_kernel(32, n, 16, alignment=4)
    assert "st.global.v" not in emit_matmul(narrow, SIMT, TARGET).text


def twice_tanh(kernel):
    """tanh(tanh(product) + bias[j]) * scale[i]"""
    bias = Load("float32", 3, Index.of(kernel.column))
    scale = Load("float32", 4, Index.of(kernel.row))
    inner = Apply("float32", "add", (Apply("float32", "tanh", (PRODUCT,)), bias))
    outer = Apply("float32", "mul", (Apply("float32", "tanh", (inner,)), scale))
    return with_epilogue(
        kernel, Apply(kernel.arguments[2].dtype, "cast", (outer,)),
        Argument("bias", "float32", kernel.column.extent, alignment=256),
        Argument("scale", "float32", kernel.row.extent, alignment=256),
    )  # fmt: skip


@pytest.mark.parametrize("m, n, k", [(64, 64, 16), (70, 35, 9), (5, 130, 0)])
@pytest.mark.parametrize("family, dtype", [("simt", "float32"), ("mma", "float16")])
def test_a_long_epilogue_is_emitted_once(m, n, k, family, dtype):
    kernel = twice_tanh(matmul_kernel(m, n, k, dtype=dtype, alignment=256))
    schedule = GpuMatmulSchedule(family, 64, 64, 32, 64, 32, stages=2)
    assert GpuMatmulPlan(kernel, schedule).is_staged
    assert emit_matmul(kernel, schedule, TARGET).text.count("some rows of the tile at a time") == 1
    buffers = random_buffers(kernel)
    report = run(kernel, schedule, buffers)
    exact, _ = product(kernel, buffers)
    wanted = np.tanh(np.tanh(exact) + buffers[3]) * buffers[4][:, None]
    got = from_storage(buffers[2], dtype).reshape(m, n)
    np.testing.assert_allclose(got, wanted, atol=2e-5 if dtype == "float32" else 2e-3)
    assert report is None or report.bank_conflicts == 0  # a GPU does not tell


def test_a_staged_tile_may_be_larger_than_the_ring():
    kernel = twice_tanh(matmul_kernel(40, 40, 16, alignment=256))
    plan = GpuMatmulPlan(kernel, GpuMatmulSchedule("simt", 128, 128, 8, 64, 64, stages=3))
    assert plan.shared_bytes > 3 * plan.stage_bytes
    buffers = random_buffers(kernel)
    run(kernel, plan.schedule, buffers)
    wanted = np.tanh(np.tanh(product(kernel, buffers)[0]) + buffers[3]) * buffers[4][:, None]
    np.testing.assert_allclose(buffers[2].reshape(40, 40), wanted, atol=2e-5)


@pytest.mark.parametrize("schedule", [NAIVE, SIMT])
def test_the_output_may_be_transposed_and_of_another_dtype(schedule):
    kernel = matmul_kernel(9, 36, 30)
    place = offset_of([Index.of(kernel.row), Index.of(kernel.column)], (1, 9))
    positive = Apply("bool", "gt", (PRODUCT, Literal("float32", 0.0)))
    arguments = (*kernel.arguments[:2], Argument("out", "bool", 9 * 36, written=True))
    kernel = replace(kernel, arguments=arguments, store=Store(2, place, positive))
    buffers = random_buffers(replace(kernel, arguments=kernel.arguments[:2]))
    buffers.append(np.zeros(9 * 36, bool))
    run(kernel, schedule, buffers)
    np.testing.assert_array_equal(buffers[2].reshape(36, 9).T, product(kernel, buffers)[0] > 0)


@pytest.mark.parametrize("schedule", [NAIVE, SIMT, PARTS])
def test_the_epilogue_may_read_what_it_overwrites(schedule):
    kernel = matmul_kernel(20, 40, 30, alignment=256)
    old = Load("float32", 2, kernel.store.index)
    kernel = with_epilogue(kernel, Apply("float32", "add", (PRODUCT, old)))
    buffers = random_buffers(kernel)
    buffers[2] = np.arange(800, dtype=np.float32)
    run(kernel, schedule, buffers)
    wanted = product(kernel, buffers)[0] + np.arange(800).reshape(20, 40)
    np.testing.assert_allclose(buffers[2].reshape(20, 40), wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("schedule", [NAIVE, SIMT, PARTS])
@pytest.mark.parametrize("entry, status", [(2, 0), (-1, 0), (5, 1)])
def test_an_epilogue_gathers_and_reports_an_index_out_of_range(schedule, entry, status):
    kernel = matmul_kernel(7, 35, 30)
    column = Element(Load("int64", 3, Index.of(kernel.column)), 5)
    gathered = Load("float32", 4, Index.of(column))
    more = [
        Argument("entries", "int64", 35),
        Argument("table", "float32", 5),
        Argument("status", "int32", 1, written=True),
    ]
    kernel = with_epilogue(kernel, Apply("float32", "add", (PRODUCT, gathered)), *more)
    buffers = random_buffers(kernel)
    buffers[3] = np.arange(35) % 5
    buffers[3][34] = entry
    buffers[5][:] = 0
    run(kernel, schedule, buffers)
    assert buffers[5][0] == status
    wanted = product(kernel, buffers)[0] + buffers[4][np.where(buffers[3] == 5, 0, buffers[3])]
    np.testing.assert_allclose(buffers[2].reshape(7, 35), wanted, rtol=1e-5, atol=1e-4)


def test_every_candidate_has_the_epilogue():
    kernel = bias_relu_residual(matmul_kernel(33, 68, 40, dtype="bfloat16", alignment=256))
    for schedule in schedules(kernel, TARGET):
        buffers = random_buffers(kernel)
        run(kernel, schedule, buffers)
        assert_bias_relu_residual(kernel, buffers)
