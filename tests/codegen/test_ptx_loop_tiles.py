"""Kernels that read along one loop and write along another: in tiles, turned in shared memory."""

import re
from dataclasses import replace
from math import gcd

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from op_graphs import DTYPES, OpGraph, plain_array
from ptx_runs import (
    TARGET,
    DeviceMemory,
    aligned,
    check,
    launch,
    program_of,
    run_on_simulator,
)
from test_llvm_loop_tiles import mixed_orders, permuted

from minicomp.codegen import ptx_loop_tiles, ptx_schedule
from minicomp.codegen.ptx_loops import emit_loop_kernel
from minicomp.codegen.ptx_schedule import (
    MOST_STATIC_BYTES,
    GpuLoopSchedule,
    schedule_loops,
    tile_bytes,
)
from minicomp.ir import ITEMSIZE, TensorType
from minicomp.kernels.walk import loads_across

pytestmark = pytest.mark.cuda

ALL_DTYPES = [*DTYPES, "float16", "bfloat16"]


def array_of(shape, dtype, seed=0):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    return plain_array(shape, dtype, seed)


def transposed(x, *others, permutation=(1, 0)):
    """A graph that turns x and compares it with others that lie like the result."""
    graph = OpGraph()
    turned = graph.add("transpose", graph.input(x), permutation=permutation)
    for other in others:
        turned = graph.add("eq", turned, graph.input(other))
    graph.output("copy", turned)
    return graph


def in_tiles(vector=1, threads=256, tile="o0"):
    """A schedule that does every kernel in tiles that has loads for them. Vectors divide both
    loops and are no longer than an access, and the tiles fit into memory."""

    def picked(kernel, target):
        loops = {variable.name: variable for variable in kernel.outer[:-1]}
        across = loops.get(tile)
        if across is None or kernel.inner or kernel.sweeps or not loads_across(kernel, across):
            return schedule_loops(kernel, target)
        widest = max(ITEMSIZE[argument.dtype] for argument in kernel.arguments)
        fitting = gcd(vector, 16 // widest, across.extent, kernel.outer[-1].extent)
        schedule = GpuLoopSchedule("outer", fitting, threads, tile=tile)
        while tile_bytes(kernel, schedule) > MOST_STATIC_BYTES:
            schedule = replace(schedule, vector=schedule.vector // 2)
        return schedule

    return picked


def emitted(graph, schedule=None):
    (call,) = program_of(graph.graph, graph.arrays)[0].calls
    kernel = aligned(call.kernel, [256] * len(call.kernel.arguments))
    picked = schedule_loops(kernel, TARGET) if schedule is None else schedule(kernel, TARGET)
    return emit_loop_kernel(kernel, picked, TARGET)


def report(graph, schedule=schedule_loops):
    """What the simulator counts while the graph's one kernel runs."""
    program, arrays = program_of(graph.graph, graph.arrays)
    (call,) = program.calls
    memory = DeviceMemory(program, arrays)
    kernel = aligned(call.kernel, [memory.alignments[number] for number in call.buffers])
    kernel = emit_loop_kernel(kernel, schedule(kernel, TARGET), TARGET)
    return launch(memory, kernel, call.buffers)


@pytest.fixture
def simulator(monkeypatch):
    """It counts; a GPU does not."""
    monkeypatch.setenv("MINICOMP_CUDA_SIM", "1")


# --- the text ---


def test_a_block_reads_a_tile_waits_and_writes_it():
    text = emitted(transposed(plain_array((96, 64), "float32"))).text
    found = re.findall(r"^    ((?:ld|st)\.(?:global|shared)[\w.]*|bar\.sync)", text, re.MULTILINE)
    filled = ["ld.global.nc.f32"] * 4 + ["st.shared.f32"] * 4
    assert found == [*filled, "bar.sync", *["ld.shared.f32", "st.global.f32"] * 4]
    assert ".shared .align 16 .b8 tile_x1[4224];" in text  # 32 rows of 33 words
    assert "rows of 32 words of 4 bytes,\n    // and 4 of padding" in text


def test_what_lies_as_the_output_does_is_read_before_the_barrier():
    text = emitted(transposed(*(plain_array((64, 64), "int32", seed) for seed in (0, 1)))).text
    before, after = text.split("bar.sync")
    assert (before.count("ld.global"), after.count("ld.global")) == (8, 0)
    assert before.rindex("ld.global") < before.index("st.shared")


@pytest.mark.parametrize(
    ("dtype", "access"), [("float16", "b32"), ("bool", "b32"), ("float32", "f32"), ("int64", "s64")]
)
def test_elements_go_in_words_of_four_bytes_at_least(dtype, access):
    text = emitted(transposed(plain_array((512, 512), dtype))).text
    assert set(re.findall(r"(?:ld|st)\.(?:global\.nc|global|shared)\.([\w.]+)", text)) == {access}


def test_a_parameter_may_have_any_name():
    graph = OpGraph()
    weight = plain_array((64, 64), "float32")
    names = ["linear.weight", "linear_weight", "linear_weight_1", "größe"]
    for name in names:
        graph.parameters[name] = weight
    kind = TensorType(weight.shape, "float32")
    turned = [
        graph.add("transpose", graph.add("parameter", name=name, type=kind), permutation=(1, 0))
        for name in names
    ]
    graph.output("add", graph.add("mul", *turned[:2]), graph.add("mul", *turned[2:]))
    check(graph)


def test_whole_tiles_are_not_guarded():
    assert "@" not in emitted(transposed(plain_array((96, 64), "float32"))).text
    assert "@" in emitted(transposed(plain_array((96, 65), "float32"))).text


# --- what it costs ---


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(64, 256), (128, 128)])
def test_it_costs_the_transactions_of_a_copy_and_no_bank_conflict(simulator, shape, dtype):
    x = plain_array(shape, dtype)
    counts = report(transposed(x))
    assert counts.global_transactions == 2 * x.nbytes // 32
    assert counts.shared_requests > 0
    assert counts.bank_conflicts == 0


@pytest.mark.parametrize(
    ("dtype", "vector"),
    [
        ("bool", 1), ("bool", 2), ("bool", 4), ("float16", 1), ("float16", 2), ("float16", 4),
        ("float32", 1), ("float32", 2), ("float64", 1), ("float64", 2),
    ],
)  # fmt: skip
def test_words_of_one_to_sixteen_bytes_have_no_bank_conflict(simulator, dtype, vector):
    x = plain_array((32 * vector, 32 * vector), dtype)
    counts = report(transposed(x), in_tiles(vector))
    assert (counts.global_transactions, counts.bank_conflicts) == (2 * x.nbytes // 32, 0)


def test_operands_that_lie_either_way_cost_no_more_than_if_all_lay_straight(simulator):
    arrays = [plain_array((64, 64), "float32", seed) for seed in range(3)]
    graph = OpGraph()
    a, b, c = map(graph.input, arrays)
    a, b = (graph.add("transpose", x, permutation=(1, 0)) for x in (a, b))
    graph.output("add", graph.add("mul", a, b), c)
    counts = report(graph)
    assert counts.global_transactions == 4 * arrays[0].nbytes // 32
    assert counts.bank_conflicts == 0


def test_without_padding_a_column_would_lie_in_one_bank(simulator, monkeypatch):
    for module in (ptx_schedule, ptx_loop_tiles):
        monkeypatch.setattr(module, "tile_pitch", lambda word: 32 * word)
    counts = report(transposed(plain_array((32, 32), "float32")), in_tiles())
    assert counts.bank_conflicts == 32 * 31  # each of 32 columns takes 32 cycles, not one


# --- what it computes ---


@pytest.mark.parametrize("dtype", ALL_DTYPES)
def test_every_dtype(dtype):
    for shape in ((64, 96), (37, 35), (33, 70)):
        x, y = array_of(shape, dtype), array_of(shape[::-1], dtype, seed=1)
        graph = transposed(x)
        graph.output("ne", graph.outputs[0], graph.input(y))
        turned, differs = run_on_simulator(graph.graph, graph.arrays, in_tiles(4))
        np.testing.assert_array_equal(turned, x.T, strict=True)
        np.testing.assert_array_equal(differs, y != x.T, strict=True)


@pytest.mark.parametrize("threads", [32, 128, 512, 1024])
def test_blocks_of_any_number_of_warps(threads):
    for vector in (1, 2):
        check(transposed(plain_array((70, 34), "float32")), in_tiles(vector, threads))


@pytest.mark.parametrize("permutation", [(0, 2, 1), (2, 1, 0), (2, 0, 1), (1, 2, 0)])
def test_batched_axes(permutation):
    for shape in ((3, 65, 64), (66, 3, 70), (70, 67, 2)):
        x = plain_array(shape, "float32")
        other = plain_array(x.transpose(permutation).shape, "float32", seed=1)
        check(transposed(x, other, permutation=permutation), exact=True)


@pytest.mark.parametrize("vector", [1, 4])
def test_loads_in_mixed_orders(vector):
    graph = OpGraph()
    mixed_orders(graph)
    check(graph, in_tiles(vector))


def test_more_loads_than_are_in_flight_at_once():
    graph = OpGraph()
    arrays = [plain_array((70, 65), "float32", seed) for seed in range(10)]
    total, *others = [graph.add("transpose", graph.input(x), permutation=(1, 0)) for x in arrays]
    for other in others:
        total = graph.add("sub", total, other)
    graph.output("copy", total)
    assert emitted(graph).text.count(".shared .align") == 10
    check(graph)


RELAXED = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@RELAXED
@given(permuted(), st.sampled_from([32, 256]), st.integers(0, 1))
def test_any_permutation_of_any_array(case, threads, displaced):
    graph, name, vector = case
    check(graph, in_tiles(min(vector, 4), threads, name), displaced=displaced)
