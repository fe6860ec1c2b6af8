"""The CPU's matmul family: every schedule computes the product, and touches nothing else."""

from __future__ import annotations

import ctypes
import mmap
import os
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matmul_kernels import (
    KINDS,
    Layout,
    assert_is_product,
    assert_within,
    matmul_kernel,
    operand,
    random_buffers,
)

from minicomp.codegen.llvm_matmul import emit_matmul, units, workspace
from minicomp.codegen.matmul_plan import CpuMatmulSchedule, Plan
from minicomp.codegen.matmul_schedules import schedules
from minicomp.kernels import (
    Apply,
    Argument,
    Literal,
    Load,
    MatmulKernel,
    Product,
    Scalar,
    Store,
)
from minicomp.kernels.indexing import Index, offset_of
from minicomp.runtime.jit import assembly, compile_ir
from minicomp.runtime.target import Target, host_target

# --- kernels, their operands, and running them ----------------------------------------------------


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def run(
    kernel: MatmulKernel,
    schedule: CpuMatmulSchedule,
    buffers: list[np.ndarray],
    target: Target | None = None,
    ranges: list[tuple[int, int]] | None = None,
) -> None:
    """Compile and call the kernel on these buffers, over `ranges` of units (all by default)."""
    compiled(kernel, schedule, target)(buffers, ranges)


def compiled(
    kernel: MatmulKernel, schedule: CpuMatmulSchedule, target: Target | None = None
) -> Callable[..., None]:
    """What calls the kernel, with buffers and ranges as in `run`."""
    target = target or host_target()
    text = emit_matmul(kernel, schedule, target)
    return linked(kernel, schedule, text, target)


def linked(
    kernel: MatmulKernel,
    schedule: CpuMatmulSchedule,
    text: str,
    target: Target | None = None,
    imports: dict[str, int] | None = None,
) -> Callable[..., None]:
    """What calls a kernel that has been emitted."""
    library = compile_ir(text, [kernel.name], target, imports=imports, use_disk_cache=False)
    signature = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    size = workspace(kernel, schedule)

    def call(buffers: list[np.ndarray], ranges: list[tuple[int, int]] | None = None) -> None:
        function = signature(library.address(kernel.name))
        scratch = np.full(size + 64, 0xFF, np.uint8)  # 0xFFFFFFFF is a NaN: no use of stale scratch
        aligned = -(-address(scratch) // 64) * 64
        addresses = [*map(address, buffers), *([aligned] if size else [])]
        arguments = (ctypes.c_void_p * len(addresses))(*addresses)
        for begin, end in ranges or [(0, units(kernel, schedule))]:
            function(ctypes.addressof(arguments), begin, end)
        rest = scratch[aligned - address(scratch) + size :]
        assert (rest == 0xFF).all(), "wrote past the workspace"

    return call


def check(kernel: MatmulKernel, schedule: CpuMatmulSchedule, target: Target | None = None) -> None:
    buffers = random_buffers(kernel)
    run(kernel, schedule, buffers, target)
    assert_is_product(kernel, buffers)


def candidates(kernel: MatmulKernel, threads: int = 1) -> tuple[CpuMatmulSchedule, ...]:
    return schedules(kernel, host_target(), threads)


def packed(**changes: object) -> CpuMatmulSchedule:
    """Blocks and tiles so small that every loop runs, and every tail is met."""
    small = CpuMatmulSchedule(
        "outer", vector_width=4, tile_rows=3, tile_columns=8, unroll=2, block_rows=6, block_depth=8,
        block_columns=16, pack_a=True, pack_b=True,
    )  # fmt: skip
    return replace(small, **changes)


# --- the product ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "m, n, k",
    [(1, 1, 1), (2, 3, 5), (1, 200, 70), (200, 1, 70), (7, 13, 17), (16, 16, 16), (13, 33, 64),
     (31, 97, 101), (5, 600, 300), (67, 130, 530), (600, 10, 40)],
)  # fmt: skip
def test_every_candidate_computes_the_product(m, n, k):
    kernel = matmul_kernel(m, n, k)
    for schedule in candidates(kernel):
        check(kernel, schedule)


@pytest.mark.parametrize("m, n, k", [(1, 70, 130), (70, 1, 130), (6, 70, 65), (40, 47, 83)])
@pytest.mark.parametrize("a, b", [("contiguous", "transposed"), ("transposed", "contiguous"),
                                  ("transposed", "transposed")])  # fmt: skip
def test_every_candidate_takes_transposed_operands(m, n, k, a, b):
    kernel = matmul_kernel(m, n, k, a, b)
    for schedule in candidates(kernel):
        check(kernel, schedule)


@pytest.mark.parametrize("m", [11, 12, 13, 25])
@pytest.mark.parametrize("n", [31, 32, 33, 49])
def test_tails_of_the_largest_tile(m, n):
    schedule = CpuMatmulSchedule("outer", block_depth=40, block_columns=32, pack_b=True)
    if host_target().vector_bits < 512:
        schedule = replace(schedule, vector_width=8, tile_rows=6, tile_columns=16)
    check(matmul_kernel(m, n, 37), schedule)
    check(matmul_kernel(m, n, 43), replace(schedule, pack_b=False))


@pytest.mark.parametrize("k", [1, 7, 8, 9, 15, 16, 17, 24, 31])
def test_depth_blocks_and_what_they_leave(k):
    check(matmul_kernel(7, 21, k), packed())
    check(matmul_kernel(7, 21, k), packed(pack_a=False, unroll=4))


@pytest.mark.parametrize("a", KINDS)
@pytest.mark.parametrize("step", [0, 2, 4])
def test_operands_of_any_strides(a, step):
    """Every kind of one operand with three of the other, and those in turn."""
    kernel = matmul_kernel(8, 19, 22, a, KINDS[(KINDS.index(a) + step) % len(KINDS)])
    check(kernel, candidates(kernel)[0])
    check(kernel, packed())


@pytest.mark.parametrize("a, b", [("stepped", "stepped"), ("reversed", "transposed")])
@pytest.mark.parametrize("m, n", [(1, 40), (40, 1), (1, 1)])
def test_vectors_of_any_strides(m, n, a, b):
    kernel = matmul_kernel(m, n, 37, a, b)
    for schedule in candidates(kernel):
        check(kernel, schedule)


@pytest.mark.parametrize("batch", [(3,), (2, 3), (1, 4, 1)])
def test_batches(batch):
    kernel = matmul_kernel(9, 20, 18, batch=batch, b="transposed")
    for schedule in candidates(kernel, threads=2)[:3]:
        check(kernel, schedule)
    check(kernel, packed(batch_pieces=2, pieces=2))


def test_an_operand_shared_by_the_batch():
    b = Layout(0, (0, 20, 1), 18 * 20)
    kernel = matmul_kernel(9, 20, 18, b=b, batch=(4,))
    check(kernel, candidates(kernel)[0])


@pytest.mark.parametrize("a, b", [("contiguous", "contiguous"), ("contiguous", "transposed")])
def test_float64(a, b):
    kernel = matmul_kernel(29, 41, 70, a, b, dtype="float64")
    for schedule in candidates(kernel):
        check(kernel, schedule)


@pytest.mark.parametrize("b", ["contiguous", "transposed"])
def test_float32_operands_accumulated_in_float64(b):
    a = Layout.of((6, 30), dtype="float32")
    kernel = matmul_kernel(6, 25, 30, a, Layout.of((30, 25), b, "float32"), dtype="float64")
    for schedule in candidates(kernel):
        check(kernel, schedule)


@pytest.mark.parametrize("split", ["rows", "columns"])
def test_units_are_independent_of_each_other(split):
    kernel = matmul_kernel(20, 50, 30, batch=(3,))
    schedule = packed(split=split, pieces=3, batch_pieces=2)
    count = units(kernel, schedule)
    assert count == 6
    together, apart = random_buffers(kernel), random_buffers(kernel)
    run(kernel, schedule, together)
    run(kernel, schedule, apart, ranges=[(4, 6), (0, 1), (3, 4), (1, 3)])
    np.testing.assert_array_equal(together[2], apart[2])
    assert_is_product(kernel, apart)


@pytest.mark.parametrize("m, n", [(0, 5), (5, 0), (0, 0)])
def test_an_empty_product_has_no_units_and_compiles(m, n):
    kernel = matmul_kernel(m, n, 3)
    schedule = candidates(kernel)[0]
    assert units(kernel, schedule) == 0
    run(kernel, schedule, random_buffers(kernel), ranges=[(0, 0)])


@pytest.mark.parametrize("m, n", [(1, 1), (1, 9), (9, 1), (13, 40)])
def test_a_product_over_nothing_is_zero(m, n):
    kernel = matmul_kernel(m, n, 0)
    for schedule in candidates(kernel):
        buffers = random_buffers(kernel)
        run(kernel, schedule, buffers)
        assert (buffers[2] == 0).all()


@pytest.mark.parametrize("b", ["contiguous", "transposed"])
def test_nan_and_infinity_go_through(b):
    kernel = matmul_kernel(14, 35, 40, b=b)
    buffers = random_buffers(kernel)
    buffers[0][3], buffers[0][45], buffers[0][90] = np.nan, np.inf, 0.0
    buffers[1][7], buffers[1][100] = -np.inf, np.inf
    with np.errstate(invalid="ignore"):
        wanted = operand(kernel, kernel.a, buffers) @ operand(kernel, kernel.b, buffers)
    for schedule in (*candidates(kernel), packed()):
        buffers[2][:] = 0
        run(kernel, schedule, buffers)
        got = buffers[2].reshape(14, 35)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(wanted))
        infinite = np.isinf(wanted)
        np.testing.assert_array_equal(got[infinite], wanted[infinite])


layouts = st.sampled_from(KINDS)
sizes = st.integers(1, 40)


@settings(max_examples=25, deadline=None)
@given(m=sizes, n=sizes, k=st.integers(0, 40), a=layouts, b=layouts, data=st.data())
def test_any_schedule_that_fits_computes_the_product(m, n, k, a, b, data):
    kernel = matmul_kernel(m, n, k, a, b)
    width = data.draw(st.sampled_from([1, 2, 4, 8, 16]))
    unroll = data.draw(st.integers(1, 3))
    tile_rows = data.draw(st.integers(1, 6))
    tile_columns = width * data.draw(st.integers(1, 3))
    schedule = CpuMatmulSchedule(
        "outer",
        lanes=data.draw(st.sampled_from(["rows", "columns"])),
        vector_width=width,
        tile_rows=tile_rows,
        tile_columns=tile_columns,
        unroll=unroll,
        block_rows=tile_rows * data.draw(st.integers(1, 4)),
        block_depth=unroll * data.draw(st.integers(1, 10)),
        block_columns=tile_columns * data.draw(st.integers(1, 3)),
        **data.draw(st.sampled_from([{}, {"pack_a": True}, {"pack_a": True, "keep_a": True}])),
        pack_b=True,
        split=data.draw(st.sampled_from(["rows", "columns"])),
        pieces=data.draw(st.integers(1, 3)),
    )
    check(kernel, schedule)


# --- epilogues ------------------------------------------------------------------------------------


def with_epilogue(
    kernel: MatmulKernel, scalar: Scalar, more: list[Argument], store: Store | None = None
) -> MatmulKernel:
    store = store or replace(kernel.store, scalar=scalar)
    return replace(kernel, arguments=(*kernel.arguments, *more), store=store)


def bias_relu_residual(kernel: MatmulKernel) -> MatmulKernel:
    """maximum(product + bias[j], 0) + residual[..., i, j]"""
    n, size = kernel.column.extent, kernel.arguments[2].size
    bias = Load("float32", 3, Index.of(kernel.column))
    residual = Load("float32", 4, kernel.store.index)
    biased = Apply("float32", "add", (Product("float32"), bias))
    relu = Apply("float32", "maximum", (biased, Literal("float32", 0.0)))
    total = Apply("float32", "add", (relu, residual))
    more = [Argument("bias", "float32", n), Argument("residual", "float32", size)]
    return with_epilogue(kernel, total, more)


@pytest.mark.parametrize("m, n, k", [(1, 40, 50), (40, 1, 50), (13, 35, 19), (30, 70, 90)])
@pytest.mark.parametrize("b", ["contiguous", "transposed"])
def test_bias_activation_and_residual_are_applied_before_the_store(m, n, k, b):
    kernel = bias_relu_residual(matmul_kernel(m, n, k, b=b))
    small = packed(lanes="rows") if n == 1 else packed()
    for schedule in (*candidates(kernel)[:4], small):
        buffers = random_buffers(kernel)
        run(kernel, schedule, buffers)
        left, right = (operand(kernel, view, buffers).astype(np.float64)
                       for view in (kernel.a, kernel.b))  # fmt: skip
        bias, residual = buffers[3].astype(np.float64), buffers[4].astype(np.float64)
        wanted = np.maximum(left @ right + bias, 0) + residual.reshape(m, n)
        magnitude = np.abs(left) @ np.abs(right) + np.abs(bias) + np.abs(residual.reshape(m, n))
        bound = (2 + 2 * np.sqrt(k)) * np.finfo(np.float32).eps * magnitude
        assert_within(buffers[2].reshape(m, n), wanted, bound)


def test_a_product_over_nothing_still_has_its_epilogue():
    kernel = bias_relu_residual(matmul_kernel(5, 20, 0))
    for schedule in candidates(kernel):
        buffers = random_buffers(kernel)
        run(kernel, schedule, buffers)
        wanted = np.maximum(buffers[3], 0) + buffers[4].reshape(5, 20)
        np.testing.assert_array_equal(buffers[2].reshape(5, 20), wanted)


@pytest.mark.parametrize("schedule", [packed(), packed(lanes="rows"), packed(block_depth=64)])
def test_a_long_epilogue_runs_row_by_row(schedule):
    kernel = matmul_kernel(10, 21, 33)
    twice = Apply("float32", "tanh", (Apply("float32", "tanh", (Product("float32"),)),))
    kernel = with_epilogue(kernel, twice, [])
    assert "epilogue, row by row" in emit_matmul(kernel, schedule, host_target())
    buffers = random_buffers(kernel)
    run(kernel, schedule, buffers)
    product = operand(kernel, kernel.a, buffers) @ operand(kernel, kernel.b, buffers)
    wanted = np.tanh(np.tanh(product.astype(np.float64)))
    np.testing.assert_allclose(buffers[2].reshape(10, 21), wanted, atol=2e-5)


def test_the_output_may_be_transposed_and_of_another_dtype():
    kernel = matmul_kernel(9, 22, 30)
    place = offset_of([Index.of(kernel.row), Index.of(kernel.column)], (1, 9))
    positive = Apply("bool", "gt", (Product("float32"), Literal("float32", 0.0)))
    arguments = (*kernel.arguments[:2], Argument("out", "bool", 9 * 22, written=True))
    kernel = replace(kernel, arguments=arguments, store=Store(2, place, positive))
    for schedule in (candidates(kernel)[0], packed(), packed(lanes="rows")):
        buffers = random_buffers(kernel)
        run(kernel, schedule, buffers)
        product = operand(kernel, kernel.a, buffers) @ operand(kernel, kernel.b, buffers)
        np.testing.assert_array_equal(buffers[2].reshape(22, 9).T, product > 0)


def test_an_epilogue_may_use_the_batch_position():
    kernel = matmul_kernel(5, 17, 12, batch=(2, 3))
    scale = Load("float32", 3, Index.of(kernel.batch[0]) * 3 + Index.of(kernel.batch[1]))
    scaled = Apply("float32", "mul", (Product("float32"), scale))
    kernel = with_epilogue(kernel, scaled, [Argument("scale", "float32", 6)])
    buffers = random_buffers(kernel)
    run(kernel, packed(batch_pieces=3), buffers)
    product = operand(kernel, kernel.a, buffers) @ operand(kernel, kernel.b, buffers)
    wanted = product * buffers[3].reshape(2, 3, 1, 1)
    np.testing.assert_allclose(buffers[2].reshape(wanted.shape), wanted, rtol=1e-4, atol=1e-5)


# --- memory ---------------------------------------------------------------------------------------


class GuardedMemory:
    """Arrays between pages that may not be touched: the first read or write outside ends the
    process with a signal."""

    def __init__(self) -> None:
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.maps: list[mmap.mmap] = []

    def array(self, size: int, dtype: str, at_end: bool) -> np.ndarray:
        """`size` elements that end (or begin) at the border to a forbidden page."""
        page, nbytes = mmap.PAGESIZE, size * np.dtype(dtype).itemsize
        inside = -(-max(nbytes, 1) // page) * page
        memory = mmap.mmap(-1, inside + 2 * page)
        self.maps.append(memory)
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for forbidden in (start, start + page + inside):
            assert self.libc.mprotect(ctypes.c_void_p(forbidden), page, 0) == 0
        offset = page + (inside - nbytes if at_end else 0)
        return np.frombuffer(memory, dtype, size, offset)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks to survive a crash")
@pytest.mark.parametrize(
    "a, b",
    [("contiguous", "contiguous"), ("contiguous", "transposed"), ("transposed", "contiguous"),
     ("reversed", "reversed")],
)  # fmt: skip
@pytest.mark.parametrize("m, n, k", [(13, 37, 29), (1, 53, 41), (53, 1, 41), (3, 3, 3)])
def test_nothing_outside_the_operands_is_touched(m, n, k, a, b):
    """Arrays that end before a forbidden page, and arrays that begin behind one."""
    kernel = bias_relu_residual(matmul_kernel(m, n, k, a, b))
    memory, buffers = GuardedMemory(), {True: [], False: []}
    for at_end, arrays in buffers.items():
        for values in random_buffers(kernel):
            arrays.append(memory.array(values.size, values.dtype.name, at_end))
            arrays[-1][:] = values
    tried = (*candidates(kernel)[:3], packed(), packed(lanes="rows"))
    child = os.fork()
    if child == 0:
        survived = 0
        try:
            for schedule in tried:
                call = compiled(kernel, schedule)
                for arrays in buffers.values():
                    call(arrays)
                survived += 1
        finally:
            os._exit(0 if survived == len(tried) else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0, f"one of {tried} left its operands (status {status})"


# --- targets and text -----------------------------------------------------------------------------


@pytest.mark.skipif(host_target().vector_bits < 256 or host_target().architecture != "x86_64",
                    reason="runs AVX2 code")  # fmt: skip
@pytest.mark.parametrize("m, n, k", [(1, 100, 60), (25, 61, 130), (70, 70, 70)])
@pytest.mark.parametrize("b", ["contiguous", "transposed"])
def test_avx2(m, n, k, b):
    target = Target.for_cpu("haswell")
    kernel = matmul_kernel(m, n, k, b=b)
    for schedule in schedules(kernel, target, 1)[:5]:
        check(kernel, schedule, target)


@pytest.mark.parametrize("cpu, fused", [("neoverse-n1", "fmla"), ("apple-m1", "fmla"),
                                        ("haswell", "vfmadd"), ("znver4", "vfmadd")])  # fmt: skip
def test_other_targets_get_fused_multiply_adds_of_whole_vectors(cpu, fused):
    target = Target.for_cpu(cpu)
    kernel = matmul_kernel(96, 96, 96)
    schedule = schedules(kernel, target, 1)[0]
    text = assembly(emit_matmul(kernel, schedule, target), target)
    tile = f"tile_{schedule.tile_rows}x{schedule.tile_columns}:"
    body = text[text.index(tile) :].split("ret", 1)[0]
    whole = {128: ".4s", 256: "%ymm", 512: "%zmm"}[target.vector_bits]
    sums = schedule.tile_rows * schedule.tile_columns // schedule.vector_width
    lines = [line for line in body.splitlines() if fused in line]
    assert len(lines) == sums * schedule.unroll
    assert all(whole in line for line in lines)


def test_sums_stay_in_registers():
    kernel = matmul_kernel(96, 96, 96)
    text = emit_matmul(kernel, candidates(kernel)[0], host_target())
    assert "alloca" not in text
    assert "phi  <" in text


def test_asking_ahead_changes_no_result():
    """The last rows ask for what lies behind b's buffer, which touches nothing."""
    kernel = matmul_kernel(7, 21, 19)
    schedule = packed(pack_a=False, pack_b=False, unroll=4, ahead=8)
    check(kernel, schedule)
    assert "llvm.prefetch" in emit_matmul(kernel, schedule, host_target())
    silent = emit_matmul(kernel, replace(schedule, ahead=0), host_target())
    assert "prefetch" not in silent


@pytest.mark.parametrize("depth", [1, 7, 8, 9, 23])
def test_rows_are_packed_in_groups(depth):
    """Depth blocks that are whole groups, and ones that end within a group, or before one does."""
    check(matmul_kernel(7, 21, 2 * depth + 3), packed(block_depth=depth, unroll=1))


def test_the_ir_says_what_it_does():
    kernel = matmul_kernel(1000, 1000, 1000)
    schedule = candidates(kernel)[0]
    text = emit_matmul(kernel, schedule, host_target())
    for part in (str(schedule), "for i in 1000", "pack_b", "epilogue, on registers"):
        assert part in text


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ({"family": "inner"}, "family must be"),
        ({"tile_rows": 0}, "at least 1"),
        ({"ahead": -1}, "negative"),
        ({"vector_width": 3}, "power of two"),
        ({"pack_a": False, "keep_a": True}, "needs pack_a"),
        ({"tile_columns": 2}, "multiple of vector_width"),
        ({"block_rows": 7}, "multiple of tile_rows"),
        ({"block_columns": 12}, "multiple of tile_columns"),
        ({"block_depth": 7}, "multiple of unroll"),
        ({"pack_b": False}, "must be packed"),
        ({"family": "dot", "pack_a": False, "pack_b": False, "tile_columns": 4}, "depth"),
    ],
)
def test_a_schedule_that_does_not_fit_is_refused(changes, complaint):
    kernel = matmul_kernel(20, 20, 20, b="transposed")
    with pytest.raises(ValueError, match=complaint):
        emit_matmul(kernel, packed(**changes), host_target())


def test_a_schedule_reads_back_from_its_fields():
    schedule = packed(lanes="rows", pieces=2)
    assert CpuMatmulSchedule(**schedule.to_dict()) == schedule


def test_the_plan_counts_units_and_workspace():
    kernel = matmul_kernel(20, 50, 30)
    plan = Plan(kernel, packed(pieces=2))
    assert (plan.row_tail, plan.column_tail, plan.depth_blocks) == (2, 2, 4)
    assert (plan.units, plan.unit_columns) == (2, 32)
    # a panel of 3 x 8, a block of 8 x 16, and 6 x 16 sums, each in whole cache lines
    assert plan.workspace == 128 + 512 + 384
    assert workspace(kernel, plan.schedule) == 2 * plan.workspace
    # 6 rows of all four depth blocks instead of the panel
    kept = Plan(kernel, packed(pieces=2, keep_a=True))
    assert kept.workspace == 768 + 512 + 384


@pytest.mark.parametrize("keep_a", [False, True])
@pytest.mark.parametrize("a", ["contiguous", "transposed"])
def test_kept_rows_of_a_are_packed_once_for_all_column_blocks(a, keep_a):
    kernel = matmul_kernel(20, 50, 30, a=a)
    schedule = packed(keep_a=keep_a)
    text, calls = emit_matmul(kernel, schedule, host_target()), []
    packer = r'(define internal void @"?pack_a_3"?.*\n.*\nentry:\n)'
    text, found = re.subn(packer, r"\1  call void @counted()\n", text)
    assert found == 1
    count = ctypes.CFUNCTYPE(None)(lambda: calls.append(1))
    imports = {"counted": ctypes.cast(count, ctypes.c_void_p).value}
    call = linked(kernel, schedule, text + "\ndeclare void @counted()\n", imports=imports)
    buffers = random_buffers(kernel)
    call(buffers)
    assert_is_product(kernel, buffers)
    column_blocks = 4
    assert len(calls) == 6 * 4 * (1 if keep_a else column_blocks)  # full panels, depth blocks


def test_many_panels_of_a_transposed_a_are_packed_together():
    schedule = packed(tile_rows=12, block_rows=240)
    plan = Plan(matmul_kernel(437, 20, 18, a="transposed"), schedule)
    assert plan.packed_rows == 12 * 16
    assert Plan(matmul_kernel(30, 20, 18, a="transposed"), schedule).packed_rows == 12 * 3
    assert Plan(matmul_kernel(437, 20, 18), schedule).packed_rows == 12
    of_eight = replace(schedule, tile_rows=8)
    assert Plan(plan.kernel, replace(of_eight, block_rows=400)).packed_rows == 8 * 32
    check(plan.kernel, schedule)  # blocks of 240 and 197 rows, in groups of 192 and 48, 192 and 5
