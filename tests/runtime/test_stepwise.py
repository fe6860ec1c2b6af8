"""A run step by step: what memory it makes."""

import weakref

from op_graphs import OpGraph, plain_array

from minicomp.kernels.program import Buffer, build_program
from minicomp.passes.fuse import fuse
from minicomp.runtime.cpu_backend import CpuStepwiseRun


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
