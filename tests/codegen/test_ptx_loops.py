"""A schedule of the GPU says how a kernel is run, never what it computes."""

import re

import numpy as np
import pytest
from error_bounds import assert_computes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from op_graphs import DTYPES, OpGraph, graph_of_size, layouts, plain_array
from ptx_runs import TARGET, Status, aligned, check, fitting, program_of, run_on_simulator
from random_graphs import arrays_for, graphs
from test_schedules_compiled import (
    folds,
    gathers,
    mixed_dtypes,
    picks,
    scans,
    softmax,
    strange_strides,
)

from minicomp.codegen.ptx_loops import emit_loop_kernel
from minicomp.codegen.ptx_schedule import GpuLoopSchedule, schedule_loops

pytestmark = pytest.mark.cuda

BUILDERS = [softmax, folds, picks, scans, mixed_dtypes, gathers, strange_strides]

#: A thread, a part of a warp, a warp, warps and a whole block to a row or column; one and several
#: to a block; rows that stay and rows that are read again, in loops and without.
SCHEDULES = [
    GpuLoopSchedule(axis, vector, threads, team, unroll, resident)
    for axis in ("inner", "outer")
    for vector, threads, team, unroll, resident in (
        (1, 32, 1, 1, False),
        (4, 64, 1, 3, True),
        (2, 32, 4, 2, False),
        (8, 64, 8, 1, True),
        (4, 128, 32, 1, True),
        (1, 64, 32, 3, False),
        (2, 128, 64, 1, True),
        (1, 256, 256, 2, False),
    )
]


#: Each builder with each schedule along one of the axes: along the other for the next builder.
IN_TURN = [
    (build, schedule)
    for number, build in enumerate(BUILDERS)
    for place, schedule in enumerate(SCHEDULES)
    if (number + place + (schedule.axis == "outer")) % 2 == 0
]


@pytest.mark.parametrize(("build", "schedule"), IN_TURN, ids=lambda x: getattr(x, "__name__", x))
def test_kernels_compute_the_same_under_every_schedule(build, schedule):
    graph = OpGraph()
    build(graph)
    check(graph, lambda kernel, target: fitting(kernel, schedule))


any_schedule = st.builds(
    GpuLoopSchedule,
    axis=st.sampled_from(["inner", "outer"]),
    vector=st.sampled_from([1, 2, 4, 8]),
    threads=st.sampled_from([32, 64, 128]),
    team=st.sampled_from([1, 2, 8, 32]),
    unroll=st.integers(1, 3),
    resident=st.booleans(),
)
RELAXED = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@RELAXED
@given(graphs(max_ops=8), st.integers(0, 99), st.none() | any_schedule, st.integers(0, 1))
def test_random_graphs_under_any_schedule(graph, seed, schedule, displaced):
    def picked(kernel, target):
        return schedule_loops(kernel, target) if schedule is None else fitting(kernel, schedule)

    inputs, parameters = arrays_for(graph, seed)
    results = run_on_simulator(graph, inputs, picked, parameters, displaced)
    assert_computes(graph, results, inputs, parameters)


# --- sizes and layouts, under the schedules that are picked ---

SIZES = [1, 2, 3, 4, 5, 8, 15, 16, 31, 32, 33, 64, 67, 128, 257, 1024, 1030]


@pytest.mark.parametrize("size", SIZES)
def test_every_size_around_those_of_vectors_warps_and_blocks(size):
    check(graph_of_size(size))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", list(layouts(np.zeros((1, 1)))))
def test_operands_in_every_layout(layout, dtype):
    graph = OpGraph()
    x = graph.input(layouts(plain_array((5, 20), dtype))[layout])
    y = graph.input(plain_array((5, 20), dtype, seed=1))
    parameter = graph.parameter(layouts(plain_array((5, 20), dtype, seed=2))[layout])
    graph.output("where", graph.add("eq", parameter, x), x, y)
    for axis in (0, 1):
        graph.output("argmax", x, axes=(axis,), keepdims=False)
        if dtype != "bool":
            graph.output("sum", x, axes=(axis,), keepdims=False)
            graph.output("cumsum", x, axis=axis)
        graph.output("concatenate", x, parameter, axis=axis)
    graph.output("take", x, graph.input(np.array([3, -5, 0, 3])), axis=0)
    merged = graph.add("reshape", graph.add("transpose", x, permutation=(1, 0)), shape=(100,))
    graph.output("copy", merged)
    check(graph, displaced=1)


def test_operands_that_broadcast():
    graph = OpGraph()
    x = graph.input(plain_array((3, 5, 8), "float32"))
    for shape in ((8,), (5, 1), (3, 1, 8), (1, 1, 1), ()):
        small = graph.input(plain_array(shape, "float32", seed=1))
        wide = graph.add("broadcast", small, shape=(3, 5, 8))
        graph.output("sub", wide, x)
        graph.output("sum", graph.add("mul", x, wide), axes=(0, 2), keepdims=False)
    check(graph)


@pytest.mark.parametrize("shape", [(2, 20000), (1, 70000), (20000, 2), (300, 300)])
def test_long_rows_and_columns(shape):
    """As long as not to fit into registers, and as to be split."""
    graph = OpGraph()
    x = graph.input(plain_array(shape, "float32"))
    for axis in (0, 1):
        graph.output("sum", x, axes=(axis,), keepdims=False)
        graph.output("cumsum", x, axis=axis)
        graph.output("argmax", x, axes=(axis,), keepdims=False)
        highest = graph.add("max", x, axes=(axis,), keepdims=True)
        graph.output("sub", x, graph.add("broadcast", highest, shape=shape))
    graph.output("sum", x, axes=(0, 1), keepdims=False)
    check(graph)


# --- gathers ---


@pytest.mark.parametrize("op", ["take", "take_along_axis"])
@pytest.mark.parametrize("bad", [4, -5, 2**31 - 1, -(2**31)])
def test_an_index_out_of_range_is_reported(op, bad):
    indices = np.zeros((19,) if op == "take" else (2, 19), np.int32)
    for place in (None, 0, 7, 18):
        graph = OpGraph()
        x = graph.input(plain_array((4, 19), "float32"))
        wrong = indices.copy()
        if place is not None:
            wrong[..., place] = bad
        graph.output(op, x, graph.input(wrong), axis=0)
        if place is None:
            check(graph)
        else:
            with pytest.raises(Status):
                run_on_simulator(graph.graph, graph.arrays)


def test_an_index_that_a_reduction_or_a_scan_computes():
    graph = OpGraph()
    x = graph.input(plain_array((300,), "float32"))
    y = graph.input(plain_array((3, 40), "float32"))
    steps = graph.input((np.arange(120).reshape(3, 40) % 2).astype(np.int64))
    for axis in (0, 1):
        highest = graph.add("argmax", y, axes=(axis,), keepdims=False)
        graph.output("take", x, highest, axis=0)
        graph.output("take", x, graph.add("cumsum", steps, axis=axis), axis=0)
    check(graph)


# --- the text ---


def text_of(graph, schedule=None, alignment=256):
    (call,) = program_of(graph.graph, graph.arrays)[0].calls
    kernel = aligned(call.kernel, [alignment] * len(call.kernel.arguments))
    schedule = schedule or schedule_loops(kernel, TARGET)
    return emit_loop_kernel(kernel, fitting(kernel, schedule), TARGET).text


def accesses(text):
    """The global accesses, without their operands."""
    return re.findall(r"((?:ld|st)\.global[\w.]*)", text)


def resident_softmax(columns):
    graph = OpGraph()
    x = graph.input(plain_array((4, columns), "float32"))
    highest = graph.add("max", x, axes=(1,), keepdims=True)
    powers = graph.add("exp", graph.add("sub", x, graph.add("broadcast", highest, shape=x.shape)))
    total = graph.add("sum", powers, axes=(1,), keepdims=True)
    graph.output("div", powers, graph.add("broadcast", total, shape=x.shape))
    return graph


def test_a_resident_row_is_read_once_and_its_exponentials_computed_once():
    text = text_of(resident_softmax(1024), GpuLoopSchedule("inner", 4, 64, 64, 1, True))
    assert accesses(text) == ["ld.global.nc.v4.f32"] * 4 + ["st.global.v4.f32"] * 4
    assert text.count("ex2.approx") == 16


def test_a_row_that_is_not_resident_is_read_in_each_sweep():
    text = text_of(resident_softmax(1024), GpuLoopSchedule("inner", 4, 64, 64, 1, False))
    assert accesses(text) == ["ld.global.nc.v4.f32"] * 3 + ["st.global.v4.f32"]
    assert text.count("bra $round_loop") == 3


@pytest.mark.parametrize(
    ("alignment", "wanted"),
    [(16, ["v4.f32"]), (8, ["v2.f32"] * 2), (4, ["f32"] * 4), (1, ["f32"] * 4)],
)
def test_accesses_are_as_wide_as_the_alignment_allows(alignment, wanted):
    graph = OpGraph()
    graph.output("neg", graph.input(plain_array((64,), "float32")))
    text = text_of(graph, GpuLoopSchedule("outer", 4, 32), alignment)
    found = accesses(text)
    assert found == [f"ld.global.nc.{kind}" for kind in wanted] + [
        f"st.global.{kind}" for kind in wanted
    ]


def test_behind_an_offset_of_one_element_the_middle_is_aligned():
    graph = OpGraph()
    x = graph.input(plain_array((65,), "float32"))
    graph.output("neg", graph.add("slice", x, starts=(1,), sizes=(64,), steps=(1,)))
    found = accesses(text_of(graph, GpuLoopSchedule("outer", 4, 32)))
    loads = [f"ld.global.nc.{kind}" for kind in ("f32", "v2.f32", "f32")]
    assert found == [*loads, "st.global.v4.f32"]


def test_what_is_the_same_for_a_row_is_loaded_once_and_before_the_loop():
    graph = OpGraph()
    x = graph.input(plain_array((4, 1024), "float32"))
    scale = graph.input(plain_array((4, 1), "float32"))
    size = graph.add("broadcast", graph.add("abs", scale), shape=(4, 1024))
    graph.output("sum", graph.add("mul", x, size), axes=(1,), keepdims=False)
    text = text_of(graph, GpuLoopSchedule("inner", 4, 32, 32, 2, False))
    assert text.count("abs.f32") == 1
    assert text.index("abs.f32") < text.index("$round_loop:")


def test_the_text_begins_with_what_the_kernel_computes():
    text = text_of(resident_softmax(64))
    assert "// kernel max_sub_exp_sum_div(x1: f32[256], div: f32[256] written)" in text
    assert "// sweep 1: sum" in text
