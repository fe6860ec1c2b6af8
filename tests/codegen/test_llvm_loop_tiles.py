"""Kernels that read along one loop and write along another: in tiles, transposed in registers."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from error_bounds import assert_computes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from op_graphs import DTYPES, OpGraph, plain_array
from scheduled import run_scheduled
from test_llvm_loops import ALIGNED, kernel_of

from minicomp.codegen import llvm_loop_tiles, loop_schedule
from minicomp.codegen.llvm_loops import emit_loop_kernel
from minicomp.codegen.loop_schedule import units
from minicomp.kernels import LoopSchedule
from minicomp.runtime.target import Target, host_target

TARGET = SimpleNamespace(triple="")
TILES = LoopSchedule("outer", 16, 1, tile="o0")


def transposed(rows, columns, kind="f32", alignments=ALIGNED):
    line = f"%0 = transpose(%x) {{permutation=[1,0]}} : {kind}[{columns},{rows}]"
    return kernel_of(f"%x: {kind}[{rows},{columns}]", line, alignments=alignments)


def test_nothing_is_gathered():
    text = emit_loop_kernel(transposed(64, 48), TILES, TARGET)
    assert "gather" not in text
    assert "load <16 x float>" in text
    assert text.count("shufflevector") == 16 * 4  # four steps for sixteen rows
    gathered = emit_loop_kernel(transposed(64, 48), LoopSchedule("outer", 16, 1), TARGET)
    assert "gather" in gathered


def test_what_lies_along_the_rows_is_loaded_as_it_lies():
    kernel = kernel_of(
        "%x: f32[64,48], %z: f32[48,64]",
        "%0 = transpose(%x) {permutation=[1,0]} : f32[48,64]",
        "%1 = add(%0, %z) : f32[48,64]",
    )
    text = emit_loop_kernel(kernel, TILES, TARGET)
    assert text.count("shufflevector") == 16 * 4
    assert "gather" not in text


def test_the_rest_of_a_tile_has_exactly_its_width():
    text = emit_loop_kernel(transposed(37, 21), TILES, TARGET)
    stored = re.findall(r"store <(\d+) x float> .*, align 4$", text, re.MULTILINE)
    assert set(stored) == {"16", "5"}  # 37 columns
    assert "masked" not in text
    assert "the last 5 columns" in text
    assert "the last 5 rows" in text


@pytest.mark.parametrize(
    ("rows", "columns", "count"), [(64, 48, 4), (65, 48, 5), (64, 512, 4), (64, 513, 8)]
)
def test_units_are_columns_of_tiles(rows, columns, count):
    assert loop_schedule.TILE_ROWS == 512
    assert units(transposed(rows, columns), TILES) == count


@pytest.mark.parametrize(("rows", "is_past"), [(64, True), (72, False), (63, False)])
def test_only_whole_lines_are_stored_past_the_caches(rows, is_past):
    streams = LoopSchedule("outer", 16, 1, tile="o0", streams=True)
    assert ("!nontemporal" in emit_loop_kernel(transposed(rows, 48), streams, TARGET)) == is_past
    narrow = LoopSchedule("outer", 8, 1, tile="o0", streams=True)
    assert "!nontemporal" not in emit_loop_kernel(transposed(rows, 48), narrow, TARGET)


def check(graph, schedule, target=None):
    results = run_scheduled(graph.graph, graph.arrays, schedule, target)
    assert_computes(graph.graph, results, graph.arrays)


@pytest.mark.parametrize("lanes", [2, 4, 8, 16])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype, lanes):
    graph = OpGraph()
    for shape in ((32, 48), (37, 21), (5, 70), (70, 3), (1, 4), (9, 1)):
        x = graph.input(plain_array(shape, dtype))
        graph.output("transpose", x, permutation=(1, 0))
        z = graph.input(plain_array(shape[::-1], dtype, 1))
        graph.output("eq", graph.add("transpose", x, permutation=(1, 0)), z)
    check(graph, LoopSchedule("outer", lanes, 1, tile="o0"))


def test_units_of_few_rows(monkeypatch):
    for module in (loop_schedule, llvm_loop_tiles):
        monkeypatch.setattr(module, "TILE_ROWS", 16)
    graph = OpGraph()
    for shape in ((3, 35, 50), (3, 32, 48), (2, 20, 16)):
        x = graph.input(plain_array(shape, "float32"))
        graph.output("transpose", x, permutation=(0, 2, 1))
        graph.output("transpose", x, permutation=(2, 1, 0))
    for name in ("o0", "o1"):
        check(graph, LoopSchedule("outer", 8, 1, tile=name))


def mixed_orders(graph):
    """Loads along either loop, along both backwards, of what is the same along one of them, and
    of what an index tensor picks."""
    x, z = (
        graph.input(plain_array((35, 50), "float32")),
        graph.input(plain_array((50, 35), "float32")),
    )
    y = graph.input(plain_array((35, 50), "float64")[::-1, ::-1])
    row = graph.input(plain_array((1, 35), "float32"))
    turned = graph.add("transpose", x, permutation=(1, 0))
    backwards = graph.add("transpose", y, permutation=(1, 0))
    total = graph.add(
        "add", turned, graph.add("mul", z, graph.add("broadcast", row, shape=z.shape))
    )
    graph.output("where", graph.add("gt", total, z), turned, total)
    graph.output("sub", graph.add("cast", total, dtype="float64"), backwards)
    picks = graph.input(np.random.default_rng(0).integers(-35, 35, 41))
    picked = graph.add("take", x, picks, axis=0)
    graph.output("neg", graph.add("transpose", picked, permutation=(1, 0)))


@pytest.mark.parametrize("lanes", [4, 16])
def test_loads_in_mixed_orders(lanes):
    graph = OpGraph()
    mixed_orders(graph)
    check(graph, LoopSchedule("outer", lanes, 1, tile="o0"))


@pytest.mark.skipif(host_target().architecture != "x86_64", reason="x86-64's older CPUs")
@pytest.mark.parametrize("cpu", ["haswell", "x86-64-v2"])
def test_older_cpus_run_it_too(cpu):
    target = Target.for_cpu(cpu)
    if target.vector_bits > host_target().vector_bits:
        pytest.skip("this machine's vectors are narrower")
    graph = OpGraph()
    mixed_orders(graph)
    check(graph, LoopSchedule("outer", target.vector_bits // 32, 1, tile="o0"), target)


@st.composite
def permuted(draw):
    """A graph that permutes axes of an array with strange strides and adds one that lies straight;
    the name of a loop; lanes."""
    shape = tuple(draw(st.lists(st.integers(1, 40), min_size=2, max_size=4)))
    shape = shape if np.prod(shape) < 20_000 else shape[:2]
    dtype = draw(st.sampled_from(DTYPES))
    base = plain_array(tuple(2 * extent for extent in shape), dtype)
    steps = [draw(st.sampled_from((1, 1, 1, -1, 2))) for _ in shape]
    x = base[tuple(slice(None, None, step) for step in steps)][tuple(map(slice, shape))]
    permutation = tuple(draw(st.permutations(range(len(shape)))))
    graph = OpGraph()
    turned = graph.add("transpose", graph.input(x), permutation=permutation)
    if draw(st.booleans()):
        first, *others = turned.shape
        turned = graph.add("reshape", turned, shape=(first, int(np.prod(others))))
    graph.output("copy", turned)
    graph.output("ne", turned, graph.input(plain_array(turned.shape, dtype, 1)))
    return graph, f"o{draw(st.integers(0, 2))}", draw(st.sampled_from((2, 4, 8, 16)))


RELAXED = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@RELAXED
@given(permuted())
def test_any_permutation_of_any_array(case):
    graph, name, lanes = case
    check(graph, LoopSchedule("outer", lanes, 1, tile=name))
