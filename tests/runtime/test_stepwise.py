"""A run step by step: what memory it makes."""

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
    assert all(array is not first for array in run.memory.values())
