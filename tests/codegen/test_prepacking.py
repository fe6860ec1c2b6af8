"""Constants that are packed when a kernel is made: what they look like, and products by them."""

from __future__ import annotations

import ctypes
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matmul_kernels import (
    KINDS,
    Layout,
    assert_is_product,
    matmul_kernel,
    random_buffers,
    with_epilogue,
)

import minicomp
from minicomp import nn
from minicomp.codegen.llvm_matmul import emit_matmul
from minicomp.codegen.matmul_plan import CpuMatmulSchedule, Plan
from minicomp.codegen.matmul_schedules import MOST, schedules
from minicomp.codegen.prepacking import Panels
from minicomp.kernels import Apply, Load, MatmulKernel, Product
from minicomp.kernels.indexing import Index
from minicomp.runtime import cpu_kernels
from minicomp.runtime.target import host_target


def with_constant(kernel: MatmulKernel, number: int = 1) -> MatmulKernel:
    """The kernel with that argument known when it is made."""
    arguments = list(kernel.arguments)
    arguments[number] = replace(arguments[number], constant=True)
    return replace(kernel, arguments=tuple(arguments))


def check(kernel: MatmulKernel, schedule: CpuMatmulSchedule) -> None:
    """The product is right where b, once packed, is overwritten: nothing else reads it."""
    compiled = cpu_kernels.matmul_kernel(kernel, schedule, host_target(), use_disk_cache=False)
    buffers = random_buffers(kernel)
    ((position, form),) = compiled.constant_forms
    given = list(buffers)
    given[position] = form(buffers[position])
    scratch = np.empty(compiled.workspace + 64, np.uint8)
    pointers = [buffer.ctypes.data for buffer in given]
    pointers.append(-(-scratch.ctypes.data // 64) * 64)
    arguments = (ctypes.c_void_p * len(pointers))(*pointers)
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    function(compiled.address)(ctypes.addressof(arguments), 0, compiled.units)
    assert_is_product(kernel, buffers)


def prepacked(kernel: MatmulKernel, threads: int = 1) -> list[CpuMatmulSchedule]:
    """The candidates for a constant."""
    return [s for s in schedules(kernel, host_target(), threads) if s.prepacked_b]


def small(**changes: object) -> CpuMatmulSchedule:
    """Blocks and tiles so small that every loop runs, and every tail is met."""
    return replace(
        CpuMatmulSchedule(
            "outer", vector_width=4, tile_rows=3, tile_columns=8, unroll=2, block_rows=6,
            block_depth=8, block_columns=16, prepacked_b=True,
        ),
        **changes,
    )  # fmt: skip


def test_panels_lie_one_after_the_other_and_end_in_zeros():
    kernel = with_constant(matmul_kernel(2, 5, 3))
    schedule = small(vector_width=2, tile_columns=2, block_columns=4)
    panels = Panels.of(Plan(kernel, schedule))(np.arange(15, dtype=np.float32))
    first, second, last = panels.reshape(3, 3, 2)
    np.testing.assert_array_equal(first, [[0, 1], [5, 6], [10, 11]])
    np.testing.assert_array_equal(second, [[2, 3], [7, 8], [12, 13]])
    np.testing.assert_array_equal(last, [[4, 0], [9, 0], [14, 0]])
    assert panels.ctypes.data % 64 == 0


def test_a_last_panel_is_no_wider_than_its_vectors():
    plan = Plan(with_constant(matmul_kernel(2, 19, 3)), small(tile_columns=16))
    assert Panels.of(plan)(np.zeros(57, np.float32)).size == 3 * (16 + 4)


@pytest.mark.parametrize("m", [1, 2, 5, 12, 13, 40, 257])
@pytest.mark.parametrize("n, k", [(1, 9), (31, 17), (48, 64), (100, 301), (530, 1100)])
def test_every_candidate_for_a_constant_computes_the_product(m, n, k):
    kernel = with_constant(matmul_kernel(m, n, k), 0 if n == 1 != m else 1)
    chosen = prepacked(kernel)
    assert chosen
    for schedule in chosen:
        check(kernel, schedule)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("one")])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_constants_lie_in_memory_as_they_like(kind, dtype):
    kernel = with_constant(matmul_kernel(14, 45, 37, b=kind, dtype=dtype))
    chosen = prepacked(kernel, threads=2)
    assert chosen
    for schedule in chosen:
        check(kernel, schedule)


@settings(max_examples=40, deadline=None)
@given(m=st.integers(1, 20), n=st.integers(1, 40), k=st.integers(0, 40),
       tile_columns=st.sampled_from([4, 8, 16]), pack_a=st.booleans(),
       split=st.sampled_from(["rows", "columns"]), pieces=st.integers(1, 3))  # fmt: skip
def test_blocks_tails_and_pieces(m, n, k, tile_columns, pack_a, split, pieces):
    schedule = small(tile_columns=tile_columns, pack_a=pack_a, split=split, pieces=pieces)
    check(with_constant(matmul_kernel(m, n, k)), schedule)


def test_a_constant_on_the_left_is_prepacked_for_the_transposed_product():
    schedule = small(lanes="rows", pack_a=True)
    check(with_constant(matmul_kernel(21, 10, 13), 0), schedule)


def test_one_matrix_for_the_whole_batch():
    shared = Layout(0, (0, 30, 1), 20 * 30)
    kernel = with_constant(matmul_kernel(5, 30, 20, b=shared, batch=(3,)))
    chosen = prepacked(kernel)
    assert chosen
    for schedule in chosen:
        check(kernel, schedule)


def test_what_is_no_constant_matrix_alone_is_not_prepacked():
    plain = matmul_kernel(40, 50, 60)
    assert not prepacked(plain)
    assert not prepacked(with_constant(plain, 0))  # it is a that is constant
    assert not prepacked(with_constant(matmul_kernel(40, 50, 60, batch=(3,))))  # many matrices
    for kind in ("one row for all", "one column for all"):  # packed they would be much larger
        assert not prepacked(with_constant(matmul_kernel(40, 50, 60, b=kind)))
    bias = Load("float32", 1, Index.of(plain.column))
    added = Apply("float32", "add", (Product("float32"), bias))
    assert not prepacked(with_constant(with_epilogue(plain, added)))  # its first row is added
    square = matmul_kernel(40, 40, 40)
    with_itself = replace(square, b=replace(square.b, buffer=0))
    assert not prepacked(with_constant(with_itself, 0))


@pytest.mark.parametrize("changes, complaint", [
    ({"pack_b": True}, "not packed again"),
    ({"family": "dot", "tile_columns": 4, "block_depth": 20}, "neither packs"),
])  # fmt: skip
def test_a_schedule_that_does_not_fit_is_refused(changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        Plan(with_constant(matmul_kernel(20, 20, 20)), small(**changes))
    with pytest.raises(ValueError, match="only a constant"):
        Plan(matmul_kernel(20, 20, 20), small())


@pytest.mark.parametrize("threads", [1, 2])
def test_what_is_offered_for_any_operands_is_offered_for_constants_too(threads):
    kernel = matmul_kernel(600, 600, 600)
    usual = schedules(kernel, host_target(), threads)
    chosen = schedules(with_constant(kernel), host_target(), threads)
    ahead = [schedule for schedule in chosen if schedule.prepacked_b]
    assert chosen[: len(ahead)] == tuple(ahead)
    assert chosen[len(ahead) :] == usual
    assert len(usual) <= MOST


def test_labels_and_texts_tell_what_is_packed_when():
    kernel = with_constant(matmul_kernel(300, 300, 300))
    labels = [schedule.label for schedule in schedules(kernel, host_target())]
    assert "_B_" in labels[0]
    assert "; b comes packed: panels of" in emit_matmul(kernel, schedules(kernel, host_target())[0],
                                                        host_target())  # fmt: skip
    assert len(set(labels)) == len(labels)


# --- compiled modules -----------------------------------------------------------------------------


def test_frozen_weights_are_packed_and_given_to_the_kernels_that_want_them():
    model = nn.Sequential(nn.Linear(70, 90), nn.ReLU(), nn.Linear(90, 90), nn.Linear(90, 90))
    frozen = minicomp.compile(model, options={"freeze": True})
    x = np.random.default_rng(0).standard_normal((40, 70)).astype(np.float32)
    result = frozen(x)
    np.testing.assert_allclose(result, minicomp.compile(model)(x), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(frozen(x), result)
    assert all("B_" in choice.chosen for choice in frozen.choices())


def test_a_weight_that_several_products_share_is_packed_once():
    weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)

    def powers(x):
        return x @ weight @ weight @ weight

    frozen = minicomp.compile(powers, options={"freeze": True})
    x = np.random.default_rng(1).standard_normal((20, 64)).astype(np.float32)
    np.testing.assert_allclose(frozen(x), powers(x), rtol=1e-3, atol=1e-2)
    (specialization,) = frozen._specializations.values()
    names = [buffer.name for buffer in specialization.executable.buffers]
    assert len([name for name in names if name.endswith("_packed")]) == 1


def test_specializations_share_frozen_weights_and_their_panels():
    frozen = minicomp.compile(nn.Linear(64, 64), options={"freeze": True})
    for rows in (20, 40):
        frozen(np.zeros((rows, 64), np.float32))
    constants = [
        {buffer.name: buffer.array for buffer in s.executable.buffers if buffer.role == "constant"}
        for s in frozen._specializations.values()
    ]
    assert len(constants) == 2 and set(constants[0]) == set(constants[1])
    assert any(name.endswith("_packed") for name in constants[0])
    for name, array in constants[0].items():
        assert array is constants[1][name]


def test_what_is_tried_and_not_chosen_leaves_no_copy_behind():
    layer = nn.Linear(64, 64)
    x = np.random.default_rng(1).standard_normal((20, 64)).astype(np.float32)
    options = {"freeze": True, "max_autotune": True, "force_disable_caches": True}
    frozen = minicomp.compile(layer, options=options)
    np.testing.assert_allclose(frozen(x), layer(x), rtol=1e-4, atol=1e-5)
    (choice,) = frozen.choices()
    (specialization,) = frozen._specializations.values()
    names = [buffer.name for buffer in specialization.executable.buffers]
    copies = len([name for name in names if name.endswith("_packed")])
    assert copies == ("B_" in choice.chosen)
