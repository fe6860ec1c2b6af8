"""A schedule says how a kernel is run, never what it computes."""

import numpy as np
import pytest
from error_bounds import assert_computes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from op_graphs import OpGraph, layouts, plain_array, tied_array
from random_graphs import arrays_for, graphs
from scheduled import run_scheduled

from minicomp.codegen import loop_schedule
from minicomp.kernels import LoopSchedule
from minicomp.runtime.target import Target, host_target

EVEN, ODD = (  # two halves of all that can be put together; each has all pairs of values
    [
        LoopSchedule(axis, width, unroll)
        for axis in ("inner", "outer")
        for width in (1, 4, 16)
        for unroll in (1, 4)
        if ((axis == "inner") + (width == 4) + (unroll == 1)) % 2 == half
    ]
    for half in (0, 1)
)
SPECIAL = [LoopSchedule("inner", 8, 3), LoopSchedule("outer", 2, 3)]
SPECIAL += [
    LoopSchedule("inner", width, unroll, rows)
    for width, unroll, rows in ((16, 2, 2), (4, 1, 2), (8, 1, 3))
]
SPECIAL += [
    LoopSchedule("inner", width, unroll, rows, aligns=True, prefetch=1024)
    for width, unroll, rows in ((16, 2, 2), (16, 4, 1), (8, 1, 3))
]
SPECIAL += [
    LoopSchedule("outer", width, 1, tile=name) for width, name in ((16, "o0"), (4, "o1"), (8, "o0"))
]
if host_target().architecture == "x86_64":
    SPECIAL += [
        LoopSchedule("inner", 16, 2, 2, streams=True),
        LoopSchedule("inner", 8, 4, streams=True),
        LoopSchedule("inner", 16, 4, streams=True, aligns=True),
        LoopSchedule("outer", 16, 1, streams=True),
        LoopSchedule("outer", 4, 2, streams=True),
        LoopSchedule("outer", 16, 1, streams=True, tile="o0"),
    ]
SCHEDULES = [*EVEN, *ODD, *SPECIAL]


def softmax(graph):
    x = graph.input(plain_array((5, 67), "float32"))
    highest = graph.add("max", x, axes=(1,), keepdims=True)
    powers = graph.add("exp", graph.add("sub", x, graph.add("broadcast", highest, shape=x.shape)))
    total = graph.add("sum", powers, axes=(1,), keepdims=True)
    graph.output("div", powers, graph.add("broadcast", total, shape=x.shape))
    graph.output("log", graph.add("reshape", total, shape=(5,)))


def layer_norm(graph):
    """With weights that all rows share, of rows that begin on a cache line."""
    x = graph.input(plain_array((7, 80), "float32"))
    scales, shifts = (graph.parameter(plain_array((80,), "float32", seed)) for seed in (1, 2))
    mean = graph.add("mean", x, axes=(1,), keepdims=True)
    centred = graph.add("sub", x, graph.add("broadcast", mean, shape=x.shape))
    variance = graph.add("mean", graph.add("mul", centred, centred), axes=(1,), keepdims=True)
    inverse = graph.add("broadcast", graph.add("rsqrt", variance), shape=x.shape)
    scaled = graph.add("mul", graph.add("mul", centred, inverse), _rows_of(graph, scales, x))
    graph.output("add", scaled, _rows_of(graph, shifts, x))


def _rows_of(graph, row, x):
    return graph.add("broadcast", graph.add("reshape", row, shape=(1, x.shape[1])), shape=x.shape)


def flat(graph):
    """A multiple of no vector's width, and copies: nothing is computed that could hide an error."""
    x = graph.input(plain_array((1003,), "float32"))
    graph.output("neg", x)
    graph.output("copy", graph.input(plain_array((3, 64), "float64")))


def folds(graph):
    """Over one axis and over two, of every kind, to the front and to the back."""
    x = graph.input(plain_array((3, 5, 37), "float64"))
    numbers = graph.input(plain_array((37, 3, 5), "int32"))
    for axes in ((2,), (0,), (0, 2), (1,), (0, 1, 2)):
        graph.output("sum", x, axes=axes, keepdims=False)
        graph.output("prod", numbers, axes=axes, keepdims=True)
    flags = graph.add("gt", x, graph.add("full", shape=x.shape, value=3.0, dtype="float64"))
    graph.output("any", flags, axes=(2,), keepdims=False)
    graph.output("all", flags, axes=(0,), keepdims=False)


def picks(graph):
    x = graph.input(tied_array((5, 67), "float32"))
    numbers = graph.input(tied_array((3, 7, 18), "int64"))
    for op in ("argmax", "argmin"):
        graph.output(op, x, axes=(0,), keepdims=False)
        graph.output(op, x, axes=(1,), keepdims=False)
        graph.output(op, numbers, axes=(0, 2), keepdims=False)
        graph.output(op, numbers, axes=(0, 1, 2), keepdims=False)
    graph.output("max", x, axes=(1,), keepdims=False)


def scans(graph):
    x = graph.input(plain_array((5, 67), "float64"))
    graph.output("cumsum", graph.add("neg", x), axis=0)
    running = graph.add("cumsum", x, axis=1)
    graph.output("mul", running, x)
    graph.output("cumsum", graph.input(plain_array((3, 19, 5), "int32")), axis=1)
    graph.output("cumsum", graph.input(tied_array((9, 67), "float32")), axis=1)
    total = graph.add("sum", running, axes=(1,), keepdims=True)
    graph.output("div", running, graph.add("broadcast", total, shape=x.shape))


def mixed_dtypes(graph):
    x = graph.input(plain_array((5, 67), "float32"))
    wide = graph.add("cast", x, dtype="float64")
    flags = graph.output("lt", x, graph.add("full", shape=x.shape, value=0.5, dtype="float32"))
    graph.output("where", flags, wide, graph.add("neg", wide))
    counted = graph.output("cast", flags, dtype="int64")
    graph.output("sum", counted, axes=(1,), keepdims=False)


def gathers(graph):
    x = graph.input(plain_array((19, 7), "float32"))
    random = np.random.default_rng(0)
    rows = graph.input(random.integers(-19, 19, (33,)))
    taken = graph.output("take", x, rows, axis=0)
    graph.output("sum", taken, axes=(0,), keepdims=False)
    columns = graph.input(random.integers(-7, 7, (19, 18), np.int32))
    graph.output("take_along_axis", x, columns, axis=1)


def strange_strides(graph):
    for name, x in layouts(plain_array((18, 35), "float32")).items():
        value = graph.input(x)
        graph.output("neg" if name == "repeated" else "copy", value)
        graph.output("sum", value, axes=(1,), keepdims=False)
        split = graph.add("reshape", value, shape=(6, 3, 35))
        turned = graph.add("transpose", split, permutation=(2, 1, 0))
        graph.output("max", graph.add("reshape", turned, shape=(35, 18)), axes=(1,), keepdims=True)


BUILDERS = [softmax, layer_norm, flat, folds, picks, scans, mixed_dtypes, gathers, strange_strides]
#: Each builder with one of the halves.
IN_TURN = [
    (build, schedule)
    for number, build in enumerate(BUILDERS)
    for schedule in [*(EVEN, ODD)[number % 2], *SPECIAL]
]


@pytest.mark.parametrize(("build", "schedule"), IN_TURN, ids=lambda x: getattr(x, "__name__", x))
def test_kernels_compute_the_same_under_every_schedule(build, schedule):
    graph = OpGraph()
    build(graph)
    results = run_scheduled(graph.graph, graph.arrays, schedule, parameters=graph.parameters)
    assert_computes(graph.graph, results, graph.arrays, graph.parameters)


@pytest.mark.parametrize("block", [1, 16, 40])
def test_columns_are_done_in_blocks(monkeypatch, block):
    monkeypatch.setattr(loop_schedule, "BLOCK", block)
    graph = OpGraph()
    x = graph.input(plain_array((3, 7, 67), "float32"))
    graph.output("sum", x, axes=(1,), keepdims=False)
    graph.output("neg", x)
    results = run_scheduled(graph.graph, graph.arrays, LoopSchedule("outer", 8, 2))
    assert_computes(graph.graph, results, graph.arrays)


RELAXED = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
no_products = graphs(max_ops=8).filter(lambda g: all(value.op != "matmul" for value in g))


@RELAXED
@given(no_products, st.integers(0, 99), st.sampled_from(SCHEDULES))
def test_random_graphs_under_any_schedule(graph, seed, schedule):
    inputs, parameters = arrays_for(graph, seed)
    results = run_scheduled(graph, inputs, schedule, parameters=parameters)
    assert_computes(graph, results, inputs, parameters)


@pytest.mark.skipif(host_target().architecture != "x86_64", reason="x86-64's older CPUs")
@pytest.mark.parametrize("cpu", ["haswell", "x86-64-v2"])
@pytest.mark.parametrize("build", [softmax, layer_norm, folds, picks, scans, mixed_dtypes, gathers])
def test_older_cpus_run_it_too(build, cpu):
    target = Target.for_cpu(cpu)
    if target.vector_bits > host_target().vector_bits:
        pytest.skip("this machine's vectors are narrower")
    graph = OpGraph()
    build(graph)
    lanes = target.vector_bits // 64
    for axis, rows in (("inner", 1), ("inner", 2), ("outer", 1)):
        schedule = LoopSchedule(axis, lanes, 2, rows, streams=True)
        results = run_scheduled(graph.graph, graph.arrays, schedule, target, graph.parameters)
        assert_computes(graph.graph, results, graph.arrays, graph.parameters)
