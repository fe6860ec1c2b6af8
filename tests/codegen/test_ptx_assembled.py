"""Every family of loop kernels through NVIDIA's assembler, for the oldest target and the newest;
nothing is spilled under the schedules that are picked."""

import functools
import itertools
from concurrent.futures import ThreadPoolExecutor

import ptxas
import pytest
from large_graphs import H100, LARGE, SHAPES, kernels_of, large_graph, turned
from op_graphs import OpGraph, dtypes_of
from ptx_runs import TARGET, fitting
from ptxas import assembled
from test_ops_compiled import CASES
from test_ptx_emitter import LOOP_OPS
from test_ptx_loops import BUILDERS, SCHEDULES

from minicomp.codegen.ptx_loops import emit_loop_kernel
from minicomp.codegen.ptx_schedule import schedule_loops
from minicomp.errors import CudaError

ARCHITECTURES = ["sm_80", "sm_90a"]


def text_of(kernel, schedule, target=TARGET):
    return emit_loop_kernel(kernel, schedule, target).text


def assert_fits(texts):
    """The kernels are taken, and fit into the registers."""
    texts = list(dict.fromkeys(texts))
    with ThreadPoolExecutor(len(ARCHITECTURES)) as pool:  # one kernel may take as long as the rest
        for kernels in pool.map(functools.partial(assembled, texts), ARCHITECTURES):
            assert not [kernel for kernel in kernels if kernel.spilled_bytes]


def test_every_op_of_every_dtype():
    texts = []
    for op in LOOP_OPS:
        for dtype in dtypes_of(op):
            if (op, dtype) == ("iota", "bool"):
                continue
            graph = OpGraph()
            CASES[op](graph, dtype)
            for kernel in kernels_of(graph.graph, graph.arrays, graph.parameters):
                texts.append(text_of(kernel, schedule_loops(kernel, TARGET)))
    assert_fits(texts)


def test_every_kind_of_schedule():
    """Schedules that nobody would pick may spill, and need not become fast code."""
    texts = []
    for build, schedule in itertools.product(BUILDERS, SCHEDULES):
        graph = OpGraph()
        build(graph)
        for kernel in kernels_of(graph.graph, graph.arrays):
            texts.append(text_of(kernel, fitting(kernel, schedule)))
    assert assembled(list(dict.fromkeys(texts)), "sm_80", optimization=1)


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_nothing_is_spilled_on_large_tensors(dtype):
    texts = []
    for build, shape in itertools.product(LARGE.values(), SHAPES):
        for kernel in kernels_of(large_graph(build, shape, dtype)):
            texts.append(text_of(kernel, schedule_loops(kernel, H100), H100))
    assert_fits(texts)


def test_nothing_is_spilled_in_tiles():
    texts = []
    for dtype in ("bool", "bfloat16", "float32", "float64"):
        for shape, loads in itertools.product(((4096, 4096), (999, 1001)), (1, 5)):
            functions = 0 if dtype == "bool" else 2
            graph = large_graph(turned(1, 0, count=loads, functions=functions), shape, dtype)
            (kernel,) = kernels_of(graph)
            schedule = schedule_loops(kernel, H100)
            assert schedule.tile
            texts.append(text_of(kernel, schedule, H100))
    assert_fits(texts)


@pytest.mark.parametrize(
    ("system", "machine", "outcome"),
    [("linux", "x86_64", "Failed"), ("darwin", "arm64", "Skipped")],
)
def test_without_an_assembler_tests_are_skipped_only_where_there_is_none_to_install(
    monkeypatch, system, machine, outcome
):
    def missing(tool):
        raise CudaError(f"{tool} was not found")

    monkeypatch.setattr(ptxas, "find", missing)
    monkeypatch.setattr(ptxas.sys, "platform", system)
    monkeypatch.setattr(ptxas.platform, "machine", lambda: machine)
    with pytest.raises(BaseException, match="ptxas was not found") as caught:
        ptxas.assembler.__wrapped__()
    assert type(caught.value).__name__ == outcome
