"""Nothing inside a loop is computed more often than it changes."""

import re
from types import SimpleNamespace

import numpy as np
from error_bounds import assert_computes
from op_graphs import OpGraph, plain_array
from scheduled import run_scheduled
from test_llvm_loops import kernel_of

from minicomp.codegen.llvm_loop_body import squared
from minicomp.codegen.llvm_loops import emit_loop_kernel
from minicomp.codegen.loop_schedule import keep_rows
from minicomp.kernels import LoopSchedule

TARGET = SimpleNamespace(triple="")
AVX512 = SimpleNamespace(triple="x86_64-unknown-linux-gnu", vector_bits=512)

LAYER_NORM = kernel_of(
    "%x: f32[8,64], %w: f32[1,64]",
    "%n = full() {shape=[8,1], value=64.0, dtype=f32} : f32[8,1]",
    "%0 = sum(%x) {axes=[1], keepdims=true} : f32[8,1]",
    "%1 = div(%0, %n) : f32[8,1]",
    "%2 = broadcast(%1) {shape=[8,64]} : f32[8,64]",
    "%3 = sub(%x, %2) : f32[8,64]",
    "%4 = mul(%3, %3) : f32[8,64]",
    "%5 = sum(%4) {axes=[1], keepdims=true} : f32[8,1]",
    "%6 = div(%5, %n) : f32[8,1]",
    "%7 = rsqrt(%6) : f32[8,1]",
    "%8 = broadcast(%7) {shape=[8,64]} : f32[8,64]",
    "%9 = mul(%3, %8) : f32[8,64]",
    "%10 = broadcast(%w) {shape=[8,64]} : f32[8,64]",
    "%11 = mul(%9, %10) : f32[8,64]",
)


def emitted(kernel, schedule, target=TARGET):
    return emit_loop_kernel(kernel, schedule, target)


def loop_bodies(text):
    """The text between the start of each loop's body and its end."""
    return re.findall(r"^i0[.\d]*\.body[.\d]*:\n(.*?)\n\s+br ", text, re.DOTALL | re.MULTILINE)


def test_what_is_the_same_for_a_row_is_computed_before_its_loop():
    text = emitted(LAYER_NORM, LoopSchedule("inner", 16, 2))
    bodies = loop_bodies(text)
    assert len(bodies) == 3
    for body in bodies:
        assert "fdiv" not in body
        assert "sqrt" not in body
    assert text.count("fdiv float") == 4  # the mean twice, the variance, one over the deviation
    assert text.count('call float @"llvm.sqrt.f32"') == 1


def test_rows_side_by_side_load_what_they_share_once():
    def loads(rows):
        last = loop_bodies(emitted(LAYER_NORM, LoopSchedule("inner", 16, 1, rows)))[-1]
        return last.count("load <16 x float>"), last.count("store <16 x float>")

    assert loads(1) == (2, 1)
    assert loads(2) == (3, 2)  # the weight, and an x for each row
    assert loads(3) == (4, 3)


def test_rows_side_by_side_keep_values_in_rows_of_their_own():
    kernel = keep_rows(
        kernel_of(
            "%x: f32[8,64]",
            "%0 = exp(%x) : f32[8,64]",
            "%1 = sum(%0) {axes=[1], keepdims=true} : f32[8,1]",
            "%2 = broadcast(%1) {shape=[8,64]} : f32[8,64]",
            "%3 = sub(%0, %2) : f32[8,64]",
        )
    )
    text = emitted(kernel, LoopSchedule("inner", 16, 1, 2))
    assert len(re.findall(r"alloca \[64 x float\], align 64", text)) == 2
    assert loop_bodies(text)[-1].count("load <16 x float>") == 2


def test_every_number_of_rows_is_done_whatever_is_side_by_side():
    for rows in (1, 2, 3, 4, 5, 11):
        for beside in (2, 3, 4):
            graph = OpGraph()
            x = graph.input(plain_array((rows, 21), "float32"))
            total = graph.add("sum", x, axes=(1,), keepdims=True)
            graph.output("sub", x, graph.add("broadcast", total, shape=x.shape))
            graph.output("reshape", total, shape=(rows,))
            schedule = LoopSchedule("inner", 8, 1, beside)
            results = run_scheduled(graph.graph, graph.arrays, schedule)
            assert_computes(graph.graph, results, graph.arrays)


def test_squares_are_folded_by_a_fused_multiply_add_where_there_is_one():
    sums = [r for sweep in LAYER_NORM.sweeps for r in sweep.reductions]
    assert [squared(r) is not None for r in sums] == [False, True]
    schedule = LoopSchedule("inner", 16, 1)
    assert "llvm.fma.v16f32" in emitted(LAYER_NORM, schedule, AVX512)
    assert "llvm.fma" not in emitted(LAYER_NORM, schedule)


def test_other_products_are_rounded_before_they_are_folded():
    kernel = kernel_of(
        "%x: f32[8,64], %y: f32[8,64]",
        "%0 = mul(%x, %y) : f32[8,64]",
        "%1 = sum(%0) {axes=[1], keepdims=false} : f32[8]",
    )
    assert squared(kernel.sweeps[0].reductions[0]) is None
    # The products overflow, each to its side; fused with the sum so far they would not.
    graph = OpGraph()
    x = graph.input(np.full((2, 64), 2e38, np.float32))
    y = graph.input(np.tile(np.float32([1.5, -1.6]), (2, 32)))
    graph.output("sum", graph.add("mul", x, y), axes=(1,), keepdims=False)
    graph.check()


def test_an_empty_row_loads_nothing():
    graph = OpGraph()
    x = graph.input(np.zeros((4, 0), np.float32))
    column = graph.input(np.ones((4, 1), np.float32))
    wide = graph.add("broadcast", graph.add("sqrt", column), shape=(4, 0))
    graph.output("sum", graph.add("mul", x, wide), axes=(1,), keepdims=False)
    for rows in (1, 2):
        results = run_scheduled(graph.graph, graph.arrays, LoopSchedule("inner", 8, 1, rows))
        assert_computes(graph.graph, results, graph.arrays)
