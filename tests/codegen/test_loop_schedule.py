"""How a kernel is run: its vector axis, its lanes, what a row keeps, from what size threads pay."""

from types import SimpleNamespace

import numpy as np
import pytest
from error_bounds import assert_computes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_meaning import program_outputs, run_kernel
from random_graphs import arrays_for, graphs

from minicomp.codegen import loop_schedule
from minicomp.codegen.loop_schedule import keep_rows, schedule_loops, units, vector_axis
from minicomp.ir.text import parse
from minicomp.kernels import LoopKernel
from minicomp.kernels.program import build_program
from minicomp.passes.fuse import fuse
from minicomp.passes.materialize import materialize

TARGET = SimpleNamespace(vector_bits=512)


def kernel_of(arguments, *lines, arrays=None):
    last = lines[-1].split(" = ")[0]
    graph = materialize(parse(f"graph f({arguments}) {{ {' '.join(lines)} return {last} }}"))
    (call,) = build_program(graph, fuse(graph), arrays).calls
    return call.kernel


def softmax(rows=64, columns=1000, kind="f32"):
    shape, column = f"{kind}[{rows},{columns}]", f"{kind}[{rows},1]"
    return kernel_of(
        f"%x: {shape}",
        f"%0 = max(%x) {{axes=[1], keepdims=true}} : {column}",
        f"%1 = broadcast(%0) {{shape=[{rows},{columns}]}} : {shape}",
        f"%2 = sub(%x, %1) : {shape}",
        f"%3 = exp(%2) : {shape}",
        f"%4 = sum(%3) {{axes=[1], keepdims=true}} : {column}",
        f"%5 = broadcast(%4) {{shape=[{rows},{columns}]}} : {shape}",
        f"%6 = div(%3, %5) : {shape}",
    )


@pytest.mark.parametrize(
    ("axis", "arguments", "line"),
    [
        ("inner", "%x: f32[8,16]", "%0 = sum(%x) {axes=[1], keepdims=false} : f32[8]"),
        ("outer", "%x: f32[8,16]", "%0 = sum(%x) {axes=[0], keepdims=false} : f32[16]"),
        ("outer", "%x: f32[8,16]", "%0 = neg(%x) : f32[8,16]"),
        ("inner", "%x: f32[8]", "%0 = sum(%x) {axes=[0], keepdims=false} : f32[]"),
        ("outer", "%x: f32[8,16]", "%0 = cumsum(%x) {axis=0} : f32[8,16]"),
        ("outer", "%x: f32[4,8,16]", "%0 = max(%x) {axes=[0,1], keepdims=false} : f32[16]"),
    ],
)
def test_lanes_lie_along_the_axis_that_is_contiguous(axis, arguments, line):
    assert vector_axis(kernel_of(arguments, line)) == axis


def test_the_layout_of_the_operands_decides():
    arguments, line = "%x: f32[8,16]", "%0 = sum(%x) {axes=[1], keepdims=false} : f32[8]"
    columns_first = np.zeros((16, 8), np.float32).T
    assert vector_axis(kernel_of(arguments, line, arrays=[columns_first])) == "outer"


@pytest.mark.parametrize(("kind", "lanes"), [("f32", 16), ("f64", 8), ("i64", 8), ("i32", 16)])
def test_a_vector_holds_as_many_lanes_as_the_widest_dtype_allows(kind, lanes):
    _, schedule = schedule_loops(
        kernel_of(f"%x: {kind}[999]", f"%0 = neg(%x) : {kind}[999]"), TARGET
    )
    assert schedule.vector_width == lanes


def test_a_kernel_that_casts_has_the_lanes_of_the_wider_dtype():
    kernel = kernel_of("%x: f32[999]", "%0 = cast(%x) {dtype=f64} : f64[999]")
    assert schedule_loops(kernel, TARGET)[1].vector_width == 8


def test_folds_have_several_accumulators_and_pointwise_kernels_one_vector():
    fold = kernel_of("%x: f32[8,16]", "%0 = sum(%x) {axes=[1], keepdims=false} : f32[8]")
    assert schedule_loops(fold, TARGET)[1].unroll == 4
    pointwise = kernel_of("%x: f32[8,16]", "%0 = neg(%x) : f32[8,16]")
    assert schedule_loops(pointwise, TARGET)[1].unroll == 1


@pytest.mark.parametrize(
    ("columns", "value", "bits", "unroll"),
    [
        (4096, "%x", 512, 16),
        (4096, "%x", 256, 8),
        (96, "%x", 512, 6),
        (48, "%x", 512, 4),
        (4096, "%y", 512, 4),
    ],
)
def test_simple_sums_of_columns_take_half_of_the_registers(columns, value, bits, unroll):
    lines = [f"%y = exp(%x) : f32[64,{columns}]"] * (value == "%y")
    total = f"%0 = sum({value}) {{axes=[0], keepdims=false}} : f32[{columns}]"
    kernel = kernel_of(f"%x: f32[64,{columns}]", *lines, total)
    _, schedule = schedule_loops(kernel, SimpleNamespace(vector_bits=bits))
    assert (schedule.vector_axis, schedule.unroll) == ("outer", unroll)


def test_softmax_keeps_its_powers():
    lines = [line.strip() for line in str(keep_rows(softmax())).splitlines()[1:]]
    assert lines == [
        "for o0 in 64:  # parallel",
        "row row0: f32[1000]",
        "sweep i0 in 1000:",
        "r0 = max x[1000*o0 + i0]",
        "sweep i0 in 1000:",
        "t0 = exp(sub(x[1000*o0 + i0], r0))",
        "r1 = sum t0",
        "row0[i0] = t0",
        "sweep i0 in 1000:",
        "div[1000*o0 + i0] = div(row0[i0], r1)",
    ]


def test_a_row_that_is_too_long_is_computed_again():
    longest = loop_schedule.MOST_SCRATCH_BYTES // 4
    assert keep_rows(softmax(columns=longest)).scratch
    kernel = softmax(columns=longest + 1)
    assert keep_rows(kernel) is kernel
    assert not keep_rows(softmax(columns=longest, kind="f64")).scratch


def test_a_value_that_is_cheap_but_for_what_the_row_shares_is_computed_again():
    kernel = kernel_of(
        "%x: f32[64,99]",
        "%n = full() {shape=[64,1], value=99.0, dtype=f32} : f32[64,1]",
        "%0 = sum(%x) {axes=[1], keepdims=true} : f32[64,1]",
        "%1 = sqrt(%0) : f32[64,1]",
        "%2 = div(%1, %n) : f32[64,1]",
        "%3 = broadcast(%2) {shape=[64,99]} : f32[64,99]",
        "%4 = sub(%x, %3) : f32[64,99]",
        "%5 = max(%4) {axes=[1], keepdims=true} : f32[64,1]",
        "%6 = broadcast(%5) {shape=[64,99]} : f32[64,99]",
        "%7 = add(%4, %6) : f32[64,99]",
    )
    assert len(kernel.sweeps) == 3
    assert not keep_rows(kernel).scratch


def test_what_is_cheap_is_computed_again():
    cheap = kernel_of(
        "%x: f32[64,99]",
        "%0 = neg(%x) : f32[64,99]",
        "%1 = sum(%0) {axes=[1], keepdims=true} : f32[64,1]",
        "%2 = broadcast(%1) {shape=[64,99]} : f32[64,99]",
        "%3 = sub(%0, %2) : f32[64,99]",
    )
    assert len(cheap.sweeps) == 2
    assert not keep_rows(cheap).scratch


def test_small_kernels_are_not_worth_a_second_thread():
    small, schedule = schedule_loops(kernel_of("%x: f32[999]", "%0 = neg(%x) : f32[999]"), TARGET)
    assert schedule.grain > units(small, schedule) / 2
    large, schedule = schedule_loops(softmax(4096, 1000), TARGET)
    assert schedule.grain < units(large, schedule) / 8


def test_short_rows_with_several_sweeps_are_done_in_pairs():
    def rows(kernel):
        _, schedule = schedule_loops(kernel, TARGET)
        # In either case four accumulators; and no thread is given a row or two.
        assert schedule.rows * schedule.unroll == 4
        assert schedule.rows == 1 or schedule.grain >= loop_schedule.FEWEST_PAIRED
        return schedule.rows

    assert rows(softmax(64, 768)) == 2
    assert rows(softmax(loop_schedule.FEWEST_PAIRED - 1, 768)) == 1
    longest = loop_schedule.LONGEST_PAIRED_BYTES // 4
    assert rows(softmax(64, longest)) == 2
    assert rows(softmax(64, longest + 1)) == 1
    assert rows(softmax(8192, 768)) == 1  # waits for memory
    assert (
        rows(kernel_of("%x: f32[64,99]", "%0 = sum(%x) {axes=[1], keepdims=true} : f32[64,1]")) == 1
    )


def test_long_rows_that_wait_for_their_stores_begin_on_cache_lines():
    def aligns(kernel, bits=512):
        target = SimpleNamespace(vector_bits=bits, architecture="x86_64")
        return schedule_loops(kernel, target)[1].aligns

    shortest = loop_schedule.SHORTEST_ALIGNED_BYTES // 4
    assert aligns(softmax(64, shortest))  # its powers are kept, so the last sweep is cheap
    assert not aligns(softmax(64, shortest - 1))
    assert not aligns(softmax(64, shortest), bits=256)
    assert not aligns(softmax(64, loop_schedule.MOST_SCRATCH_BYTES // 4 + 1))  # powers once more
    assert not aligns(
        kernel_of("%x: f32[64,999]", "%0 = sum(%x) {axes=[1], keepdims=true} : f32[64,1]")
    )
    assert aligns(_centred(64, 1000))
    assert not aligns(_centred(8192, 1000))  # stores past the caches


def test_only_cores_with_a_large_first_cache_ask_ahead_and_only_for_aligned_rows():
    def prefetch(kernel, l1_bytes):
        target = SimpleNamespace(vector_bits=512, architecture="x86_64", l1_bytes=l1_bytes)
        return schedule_loops(kernel, target)[1].prefetch

    assert prefetch(_centred(64, 1000), 48 << 10) == loop_schedule.PREFETCH_BYTES
    assert prefetch(_centred(64, 1000), 32 << 10) == 0
    assert prefetch(_centred(8192, 1000), 48 << 10) == 0


def _centred(rows, columns):
    return kernel_of(
        f"%x: f32[{rows},{columns}]",
        f"%0 = max(%x) {{axes=[1], keepdims=true}} : f32[{rows},1]",
        f"%1 = broadcast(%0) {{shape=[{rows},{columns}]}} : f32[{rows},{columns}]",
        f"%2 = sub(%x, %1) : f32[{rows},{columns}]",
    )


X86 = SimpleNamespace(vector_bits=512, architecture="x86_64")


def test_large_kernels_that_are_cheap_store_past_the_caches():
    def streams(size, op="neg", target=X86, threads=1):
        kernel = kernel_of(f"%x: f32[{size}]", f"%0 = {op}(%x) : f32[{size}]")
        return schedule_loops(kernel, target, threads)[1].streams

    enough = loop_schedule.LARGE_KERNEL_BYTES // 8
    assert streams(enough)
    assert not streams(enough - 1)
    assert not streams(enough, "tanh")
    assert not streams(enough, target=SimpleNamespace(vector_bits=128, architecture="aarch64"))
    # Several threads find what is not quite so large in the cache that they share.
    more = loop_schedule.SHARED_CACHE_BYTES // 8
    assert streams(more, threads=2)
    assert not streams(more - 1, threads=2)


def test_a_larger_shared_cache_keeps_more_up_to_a_bound():
    def streams(nbytes, l3_bytes, threads=1):
        size = nbytes // 8
        kernel = kernel_of(f"%x: f32[{size}]", f"%0 = neg(%x) : f32[{size}]")
        target = SimpleNamespace(vector_bits=512, architecture="x86_64", l3_bytes=l3_bytes)
        return schedule_loops(kernel, target, threads)[1].streams

    for threads, share in ((1, 2), (2, 1)):
        for l3_bytes, used in ((8 << 20, 32 << 20), (64 << 20, 64 << 20), (480 << 20, 96 << 20)):
            assert streams(used // share, l3_bytes, threads)
            assert not streams(used // share - 8, l3_bytes, threads)


def test_loads_along_another_loop_than_the_stores_are_done_in_tiles():
    def tile(shape, permutation, *lines):
        turned = [shape[axis] for axis in permutation]
        kind = f"f32[{','.join(map(str, turned))}]"
        moved = f"%0 = transpose(%x) {{permutation={list(permutation)}}} : {kind}"
        last = f"%9 = add({lines[0] if lines else '%0'}, %z) : {kind}"
        given = f"%x: f32[{','.join(map(str, shape))}], %z: {kind}"
        return schedule_loops(kernel_of(given, moved, *lines[1:], last), TARGET)[1].tile

    assert tile((40, 30), (1, 0)) == "o0"
    assert tile((2, 40, 30), (0, 2, 1)) == "o1"
    assert tile((40, 2, 30), (2, 1, 0)) == "o0"
    assert tile((2, 7, 30), (1, 0, 2)) == ""  # rows change places, and are contiguous
    assert tile((40, loop_schedule.SMALLEST_TILE - 1), (1, 0)) == ""
    assert tile((loop_schedule.SMALLEST_TILE - 1, 40), (1, 0)) == ""


def test_a_fold_is_not_done_in_tiles():
    kernel = kernel_of(
        "%x: f32[40,30]",
        "%0 = transpose(%x) {permutation=[1,0]} : f32[30,40]",
        "%1 = exp(%0) : f32[30,40]",
        "%2 = cumsum(%1) {axis=1} : f32[30,40]",
    )
    assert kernel.inner
    assert schedule_loops(kernel, TARGET)[1].tile == ""


def test_large_tiles_are_stored_past_the_caches_by_several_threads_too():
    side = 2048
    assert 2 * 4 * side**2 in range(loop_schedule.SHARED_CACHE_BYTES + 1)
    kernel = kernel_of(
        f"%x: f32[{side},{side}]", f"%0 = transpose(%x) {{permutation=[1,0]}} : f32[{side},{side}]"
    )
    assert schedule_loops(kernel, X86, threads=2)[1].streams


RELAXED = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


@RELAXED
@given(graphs(), st.integers(0, 99))
def test_kept_rows_change_nothing(graph, seed):
    inputs, parameters = arrays_for(graph, seed)

    def change(kernel):
        return keep_rows(kernel) if isinstance(kernel, LoopKernel) else kernel

    outputs = program_outputs(graph, inputs, parameters, change)
    assert_computes(graph, outputs, inputs, parameters)


def test_the_kept_powers_of_softmax_mean_the_same():
    kernel = softmax(3, 5)
    x = np.linspace(-3, 3, 15, dtype=np.float32)
    results = []
    for form in (kernel, keep_rows(kernel)):
        results.append(np.zeros(15, np.float32))
        run_kernel(form, [x, results[-1]])
    np.testing.assert_array_equal(*results)
