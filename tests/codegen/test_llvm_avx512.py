"""Scaling by powers of two: one instruction with AVX-512, arithmetic elsewhere, the same result.
And erf by looking coefficients up, where that is one instruction."""

import re

import numpy as np
import pytest
from op_graphs import OpGraph, plain_array
from scheduled import run_scheduled
from test_llvm_loops import kernel_of

from minicomp.codegen.llvm_loops import emit_loop_kernel
from minicomp.codegen.numpy_emitter import NumpyEmitter
from minicomp.kernels import LoopSchedule
from minicomp.runtime.jit import assembly
from minicomp.runtime.target import Target, host_target

SKYLAKE = Target.for_cpu("skylake-avx512")


def kernel(op, count=100, kind="f32"):
    return kernel_of(f"%x: {kind}[{count}]", f"%0 = {op}(%x) : {kind}[{count}]")


@pytest.mark.parametrize("op", ["exp", "sigmoid", "expm1", "tanh"])
@pytest.mark.parametrize(("kind", "lanes", "suffix"), [("f32", 16, "ps"), ("f64", 8, "pd")])
def test_whole_vectors_and_remainders_are_scaled_by_one_instruction(op, kind, lanes, suffix):
    text = assembly(
        emit_loop_kernel(kernel(op, kind=kind), LoopSchedule("outer", lanes, 1), SKYLAKE), SKYLAKE
    )
    assert len(re.findall(rf"vscalef{suffix}", text)) == 2  # of the loop, and of the last four
    assert "vpsll" not in text


def test_scalars_and_other_targets_use_the_exponent_field():
    scalar = emit_loop_kernel(kernel("exp"), LoopSchedule("outer", 1, 1), SKYLAKE)
    haswell = Target.for_cpu("haswell")
    narrow = emit_loop_kernel(kernel("exp"), LoopSchedule("outer", 8, 1), haswell)
    for text in (scalar, narrow):
        assert "scalef" not in text
        assert "shl" in text


@pytest.mark.skipif(host_target().vector_bits != 512, reason="needs AVX-512")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_ways_give_the_same_over_and_underflow(dtype):
    limit = {"float32": 110, "float64": 760}[dtype]
    x = np.concatenate([
        np.linspace(-limit, limit, 4001).astype(dtype),
        np.array([np.inf, -np.inf, np.nan, 0.0, -0.0], dtype), plain_array((29,), dtype),
    ])  # fmt: skip
    graph = OpGraph()
    value = graph.input(x)
    for op in ("exp", "sigmoid", "expm1", "tanh"):
        graph.output(op, value)
    lanes = 64 // x.itemsize
    wide = run_scheduled(graph.graph, graph.arrays, LoopSchedule("outer", lanes, 1))
    older = Target.for_cpu("haswell")
    narrow = run_scheduled(graph.graph, graph.arrays, LoopSchedule("outer", 4, 1), older)
    for one, other in zip(wide, narrow, strict=True):
        np.testing.assert_array_equal(one, other)


def test_erf_looks_six_coefficients_up_in_whole_vectors_remainders_and_scalars():
    for lanes, times in ((16, 2), (1, 1)):  # the loop of vectors, and the last four elements
        schedule = LoopSchedule("outer", lanes, 1)
        text = assembly(emit_loop_kernel(kernel("erf"), schedule, SKYLAKE), SKYLAKE)
        assert len(re.findall("vpermps", text)) == 6 * times


def test_erf_has_no_table_in_float64_or_without_avx512():
    double = emit_loop_kernel(kernel("erf", kind="f64"), LoopSchedule("outer", 8, 1), SKYLAKE)
    haswell = Target.for_cpu("haswell")
    narrow = emit_loop_kernel(kernel("erf"), LoopSchedule("outer", 8, 1), haswell)
    assert "permvar" not in double + narrow


@pytest.mark.skipif(host_target().vector_bits != 512, reason="needs AVX-512")
def test_erf_of_an_element_is_the_same_in_any_lane_and_in_a_scalar():
    x = np.append(np.linspace(-4.5, 4.5, 4001, dtype=np.float32), plain_array((30,), np.float32))
    graph = OpGraph()
    graph.output("erf", graph.input(x))
    wide, narrow, single = (
        run_scheduled(graph.graph, graph.arrays, LoopSchedule("outer", lanes, 1))[0]
        for lanes in (16, 4, 1)
    )
    np.testing.assert_array_equal(wide, NumpyEmitter().erf_by_pieces(x))
    np.testing.assert_array_equal(narrow, wide)
    np.testing.assert_array_equal(single, wide)
