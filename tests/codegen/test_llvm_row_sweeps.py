"""Sweeps over rows: pieces of loops, and vectors that begin on cache lines."""

import ctypes
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llvmlite import ir
from test_llvm_loops import ALIGNED, NOTHING_KNOWN, TARGET, kernel_of

from minicomp.codegen.llvm_emitter import LLVMEmitter
from minicomp.codegen.llvm_loops import emit_loop_kernel
from minicomp.codegen.llvm_row_sweeps import has_aligned_stores, spans
from minicomp.codegen.llvm_types import i64, pointer
from minicomp.kernels import Literal, LoopSchedule, Store
from minicomp.kernels.indexing import Index
from minicomp.runtime.cpu import address_of
from minicomp.runtime.jit import compile_ir
from minicomp.runtime.target import host_target

PAIRS = LoopSchedule("inner", 16, 2, 2, aligns=True)
SINGLE = LoopSchedule("inner", 16, 4, aligns=True)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 300), st.integers(1, 20), st.integers(1, 5))
def test_spans_cover_a_loop_once_with_the_widest_pieces_first(extent, width, unroll):
    pieces = spans(extent, width, unroll)
    assert [piece.start for piece in pieces] == [0, *(piece.stop for piece in pieces[:-1])]
    assert pieces[-1].stop == extent
    assert len(pieces) <= 3
    for piece in pieces:
        assert piece.stop > piece.start
        assert (piece.stop - piece.start) % piece.step == 0
    assert sorted((p.step for p in pieces), reverse=True) == [p.step for p in pieces]
    assert sum(p.stop - p.start for p in pieces if p.width == width) >= extent // width * width


@pytest.mark.parametrize(
    ("extent", "shapes"),
    [
        (64, [(16, 4)]),
        (80, [(16, 4), (16, 1)]),
        (100, [(16, 4), (16, 1), (4, 1)]),
        (66, [(16, 4), (2, 1)]),
        (5, [(5, 1)]),
    ],
)
def test_pieces_of_a_loop(extent, shapes):
    assert [(piece.width, piece.unroll) for piece in spans(extent, 16, 4)] == shapes


def centred(rows, columns, alignments=NOTHING_KNOWN, dtype="f32"):
    """x - max(x), row by row: exact, and its last sweep only stores."""
    kind = f"{dtype}[{rows},{columns}]"
    return kernel_of(
        f"%x: {kind}",
        f"%0 = max(%x) {{axes=[1], keepdims=true}} : {dtype}[{rows},1]",
        f"%1 = broadcast(%0) {{shape=[{rows},{columns}]}} : {kind}",
        f"%2 = sub(%x, %1) : {kind}",
        alignments=alignments,
    )


@pytest.mark.parametrize("schedule", [PAIRS, SINGLE], ids=["pairs", "single"])
@pytest.mark.parametrize("columns", [17, 32, 100, 192, 203])
def test_rows_that_begin_anywhere_are_stored_whole_and_nothing_beside_them(columns, schedule):
    target = host_target()
    kernel = centred(9, columns)
    library = compile_ir(emit_loop_kernel(kernel, schedule, target), [kernel.name], target)
    run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(
        library.address(kernel.name)
    )
    x = np.random.default_rng(0).standard_normal((9, columns), np.float32)
    expected = x - x.max(axis=1, keepdims=True)
    for offset in range(17):  # all that an element can be from a line, and one more
        memory = np.full(9 * columns + 64, np.nan, np.float32)
        start = -address_of(memory) % 64 // 4 + offset
        out = memory[start : start + 9 * columns].reshape(9, columns)
        pointers = np.array([address_of(x), address_of(out)])
        run(address_of(pointers), 0, 9)
        np.testing.assert_array_equal(out, expected)
        assert np.isnan(memory[:start]).all()
        assert np.isnan(memory[start + 9 * columns :]).all()


def test_rows_side_by_side_are_aligned_together_where_their_length_is_a_number_of_lines():
    def searches(columns, schedule=PAIRS):
        return emit_loop_kernel(centred(8, columns), schedule, TARGET).count("ptrtoint")

    assert searches(192) == 1
    assert searches(200) == 2
    assert searches(200, SINGLE) == 1
    assert searches(200, replace(PAIRS, aligns=False)) == 0


def test_rows_ask_ahead_for_what_the_first_sweep_reads_and_the_last_writes():
    text = emit_loop_kernel(centred(8, 192), replace(PAIRS, prefetch=1024), TARGET)
    calls = re.findall(r"call void @.llvm.prefetch.p0.\(ptr %.*, i32 (\d), i32 3, i32 1\)", text)
    assert calls == ["0"] * 4 + ["1"] * 4  # two vectors of each of the rows side by side
    assert "llvm.prefetch" not in emit_loop_kernel(centred(8, 192), PAIRS, TARGET)


def aligns(kernel, width=16):
    return has_aligned_stores(kernel, kernel.sweeps[-1], width)


def test_only_stores_of_whole_lines_that_may_begin_within_one_are_aligned():
    assert aligns(centred(8, 192))
    assert not aligns(centred(8, 192, ALIGNED))
    assert aligns(centred(8, 200, ALIGNED))
    assert not aligns(centred(8, 200), width=8)
    assert aligns(centred(8, 200, dtype="f64"), width=8)
    assert not aligns(centred(8, 16))


def test_a_sweep_that_folds_is_not_done_twice_anywhere():
    kernel = kernel_of(
        "%x: f32[8,200]",
        "%0 = cumsum(%x) {axis=1} : f32[8,200]",
    )
    assert kernel.sweeps[-1].stores
    assert not aligns(kernel)


def test_aligned_sweeps_leave_alone_what_is_stored_past_the_caches():
    kernel = centred(8, 200, ALIGNED)
    text = emit_loop_kernel(kernel, replace(SINGLE, streams=True), TARGET)
    assert "!nontemporal" in text
    assert "ptrtoint" not in text


@pytest.mark.parametrize(("dtype", "itemsize"), [("float32", 4), ("float64", 8)])
def test_the_next_aligned_element_begins_on_a_cache_line(dtype, itemsize):
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(i64, [pointer]), "next")
    builder = ir.IRBuilder(function.append_basic_block())
    emitter = LLVMEmitter(builder, [(function.args[0], dtype)])
    emitter.at({}, None, 1)
    lanes = 64 // itemsize
    store = Store(0, Index((), 3), Literal(dtype, 0.0))
    builder.ret(emitter.next_aligned(store, lanes))
    library = compile_ir(str(module), ["next"], use_disk_cache=False)
    call = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(library.address("next"))
    for address in range(4096, 4096 + 128, itemsize):
        first = address + 3 * itemsize
        ahead = call(address)
        assert 1 <= ahead <= lanes
        assert (first + ahead * itemsize) % 64 == 0
