"""A run step by step: what memory it makes."""

import weakref

import pytest
from op_graphs import OpGraph, plain_array

from minicomp.kernels.memory import ALIGNMENT, LARGE_BYTES
from minicomp.kernels.program import Buffer, build_program
from minicomp.passes.fuse import fuse
from minicomp.runtime.cpu_backend import MALLOC_ALIGNMENT, CpuStepwiseRun, typical_output


def test_candidates_share_one_workspace_as_large_as_the_largest():
    graph = OpGraph()
    x = plain_array((3,), "float32")
    graph.output("neg", graph.input(x))
    program = build_program(graph.graph, fuse(graph.graph), [x])
    sizes = [256, 64, 512]
    extra = [Buffer("workspace", "workspace", "bool", (size,), size) for size in sizes]
    run = CpuStepwiseRun(program, [x], extra, threads=1)
    first, smaller, larger = (run.array(len(program.buffers) + n) for n in range(len(sizes)))
    assert smaller is first
    assert larger is not first
    assert larger.nbytes == 512


def test_a_workspace_lives_as_long_as_the_run_whose_steps_have_its_address():
    graph = OpGraph()
    graph.output("neg", graph.input(plain_array((3,), "float32")))
    program = build_program(graph.graph, fuse(graph.graph), graph.arrays)
    extra = [Buffer("workspace", "workspace", "bool", (size,), size) for size in (64, 512)]
    run = CpuStepwiseRun(program, graph.arrays, extra, threads=1)
    small = weakref.ref(run.array(len(program.buffers)))
    run.array(len(program.buffers) + 1)
    assert small() is not None


@pytest.mark.parametrize("dtype", ["float32", "float64", "bool"])
def test_a_small_result_lies_no_better_than_most_that_later_calls_get(dtype):
    output = typical_output(Buffer("out", "output", dtype, (3, 5), 15))
    assert output.shape == (3, 5) and output.dtype == dtype and output.flags.c_contiguous
    assert output.ctypes.data % ALIGNMENT == MALLOC_ALIGNMENT


def test_a_large_result_lies_as_every_call_gets_it():
    size = LARGE_BYTES // 4
    output = typical_output(Buffer("out", "output", "float32", (size,), size))
    assert output.ctypes.data % ALIGNMENT == 0
