"""Lowering: which kernel a cluster becomes, by print and by meaning."""

import numpy as np
import pytest
from error_bounds import assert_computes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_meaning import program_outputs
from random_graphs import arrays_for, graphs

import minicomp
from minicomp.ir.interpreter import evaluate
from minicomp.ir.ops import kind, make
from minicomp.ir.text import parse
from minicomp.kernels.indexing import Index, LoopVariable
from minicomp.kernels.lowering import STATUS, Cluster, NotFusable, contiguous, lower, movement_index
from minicomp.kernels.program import build_program
from minicomp.passes.fuse import fuse


def graph_of(arguments, *lines, returned=None):
    """A graph from its lines; the last value is returned."""
    last = lines[-1].split(" = ")[0]
    return parse(f"graph f({arguments}) {{ {' '.join(lines)} return {returned or last} }}")


def lowered(graph, *, stored=None):
    """The kernel of everything a graph computes, as one cluster, and its buffers' numbers."""
    members = tuple(v for v in graph if kind(v) not in ("leaf", "movement"))
    numbers = {v: n for n, v in enumerate(graph)}
    cluster = Cluster(members, stored or graph.outputs)
    place = {v: contiguous(numbers[v], v.attributes.get("name", v.op), v) for v in graph}
    return lower(cluster, "kernel", place.__getitem__)


def body(graph):
    kernel, _ = lowered(graph)
    return [line.strip() for line in str(kernel).splitlines()[1:]]


@pytest.mark.parametrize(
    ("arguments", "lines", "text"),
    [
        (
            "%x: f32[4,6]",
            ["%0 = transpose(%x) {permutation=[1,0]} : f32[6,4]", "%1 = neg(%0) : f32[6,4]"],
            ["for o0 in 6:  # parallel", "for o1 in 4:  # parallel",
             "neg[4*o0 + o1] = neg(x[6*o1 + o0])"],
        ),
        (
            "%x: f32[4,6]",
            ["%0 = reshape(%x) {shape=[8,3]} : f32[8,3]", "%1 = neg(%0) : f32[8,3]"],
            ["for o0 in 24:  # parallel", "neg[o0] = neg(x[o0])"],
        ),
        (
            "%x: f32[6]",
            ["%0 = broadcast(%x) {shape=[4,6]} : f32[4,6]", "%1 = neg(%0) : f32[4,6]"],
            ["for o0 in 4:  # parallel", "for o1 in 6:  # parallel",
             "neg[6*o0 + o1] = neg(x[o1])"],
        ),
        (
            "%x: f32[9]",
            ["%0 = slice(%x) {starts=[8], sizes=[4], steps=[-2]} : f32[4]",
             "%1 = neg(%0) : f32[4]"],
            ["for o0 in 4:  # parallel", "neg[o0] = neg(x[-2*o0 + 8])"],
        ),
        (
            "%x: f32[9]",
            ["%0 = windows(%x) {axes=[0], sizes=[3], strides=[2], dilations=[1]} : f32[4,3]",
             "%1 = sum(%0) {axes=[1], keepdims=false} : f32[4]"],
            ["for o0 in 4:  # parallel", "sweep i0 in 3:", "r0 = sum x[2*o0 + i0]",
             "sum[o0] = r0"],
        ),
        (
            "%x: f32[4,6]",
            ["%0 = transpose(%x) {permutation=[1,0]} : f32[6,4]",
             "%1 = reshape(%0) {shape=[24]} : f32[24]", "%2 = neg(%1) : f32[24]"],
            ["for o0 in 24:  # parallel", "neg[o0] = neg(x[6*(o0 % 4) + o0 // 4])"],
        ),
        (
            "%x: f32[4,6], %i: i32[3]",
            ["%0 = take(%x, %i) {axis=0} : f32[3,6]"],
            ["for o0 in 3:  # parallel", "for o1 in 6:  # parallel",
             "take[6*o0 + o1] = x[6*[i[o0]] + o1]"],
        ),
        (
            "%x: f32[4,6], %i: i64[4,2]",
            ["%0 = take_along_axis(%x, %i) {axis=1} : f32[4,2]"],
            ["for o0 in 4:  # parallel", "for o1 in 2:  # parallel",
             "take_along_axis[2*o0 + o1] = x[6*o0 + [i[2*o0 + o1]]]"],
        ),
        (
            "%x: i64[4,6]",
            ["%0 = iota() {shape=[4,6], axis=1, dtype=i64} : i64[4,6]",
             "%1 = mul(%x, %0) : i64[4,6]"],
            ["for o0 in 4:  # parallel", "for o1 in 6:  # parallel",
             "mul[6*o0 + o1] = mul(x[6*o0 + o1], (o1))"],
        ),
        (
            "%x: f32[4,6,5]",
            ["%0 = max(%x) {axes=[0,2], keepdims=true} : f32[1,6,1]"],
            ["for o0 in 6:  # parallel", "sweep i0 in 4, i1 in 5:",
             "r0 = max x[30*i0 + 5*o0 + i1]", "max[o0] = r0"],
        ),
        (
            "%x: f32[4,6]",
            ["%0 = cumsum(%x) {axis=1} : f32[4,6]", "%1 = mul(%0, %x) : f32[4,6]"],
            ["for o0 in 4:  # parallel", "sweep i0 in 6:", "r0 = cumsum x[6*o0 + i0]",
             "mul[6*o0 + i0] = mul(r0, x[6*o0 + i0])"],
        ),
    ],
)  # fmt: skip
def test_kernels_by_print(arguments, lines, text):
    assert body(graph_of(arguments, *lines)) == text


def test_a_value_used_twice_is_one_scalar():
    graph = graph_of("%x: f32[8]", "%0 = exp(%x) : f32[8]", "%1 = mul(%0, %0) : f32[8]")
    (store,) = lowered(graph)[0].row_stores
    left, right = store.scalar.operands
    assert left is right


def test_sweeps_follow_what_waits_for_what():
    graph = graph_of(
        "%x: f32[4,6]",
        "%0 = max(%x) {axes=[1], keepdims=true} : f32[4,1]",
        "%1 = broadcast(%0) {shape=[4,6]} : f32[4,6]",
        "%2 = sub(%x, %1) : f32[4,6]",
        "%3 = sum(%2) {axes=[1], keepdims=true} : f32[4,1]",
        "%4 = min(%x) {axes=[1], keepdims=true} : f32[4,1]",
        "%5 = add(%3, %4) : f32[4,1]",
    )
    kernel, _ = lowered(graph)
    assert [[r.op for r in sweep.reductions] for sweep in kernel.sweeps] == [
        ["max", "min"],
        ["sum"],
    ]


def test_a_matmul_reads_views_and_stores_its_epilogue():
    graph = graph_of(
        "%x: f32[8,32], %w: f32[4,16] parameter, %b: f32[4] parameter",
        "%0 = slice(%x) {starts=[7,1], sizes=[8,16], steps=[-1,2]} : f32[8,16]",
        "%1 = transpose(%w) {permutation=[1,0]} : f32[16,4]",
        "%2 = matmul(%0, %1) : f32[8,4]",
        "%3 = broadcast(%b) {shape=[8,4]} : f32[8,4]",
        "%4 = add(%2, %3) : f32[8,4]",
        "%5 = transpose(%4) {permutation=[1,0]} : f32[4,8]",
        returned="%4",
    )
    kernel, buffers = lowered(graph)
    assert [line.strip() for line in str(kernel).splitlines()[1:]] == [
        "for m in 8, n in 4:  # parallel",
        "a = x from 225, strides (-32, 2)",
        "b = w from 0, strides (1, 16)",
        "product = sum over k in 16 of a[.., k] * b[k, ..]  # f32",
        "add[4*m + n] = add(product, b[n])",
    ]
    assert len(buffers) == len(kernel.arguments) == 4


def test_a_gather_is_given_a_status_word():
    graph = graph_of("%x: f32[4], %i: i32[3]", "%0 = take(%x, %i) {axis=0} : f32[3]")
    kernel, buffers = lowered(graph)
    assert [a.name for a in kernel.arguments][buffers.index(STATUS)] == "status"


def test_two_buffers_of_one_name_are_told_apart():
    graph = graph_of("%x: f32[4], %y: f32[4]", "%0 = add(%x, %y) : f32[4]")
    place = {v: contiguous(n, "same", v) for n, v in enumerate(graph)}
    kernel, _ = lower(Cluster(graph.outputs, graph.outputs), "k", place.__getitem__)
    assert len({argument.name for argument in kernel.arguments}) == 3


@pytest.mark.parametrize(
    ("reason", "arguments", "lines"),
    [
        (
            "another row",
            "%x: f32[8,8]",
            ["%0 = sum(%x) {axes=[1], keepdims=false} : f32[8]",
             "%1 = broadcast(%0) {shape=[8,8]} : f32[8,8]", "%2 = sub(%x, %1) : f32[8,8]"],
        ),
        (
            "different spaces",
            "%x: f32[4,4]",
            ["%0 = sum(%x) {axes=[1], keepdims=false} : f32[4]",
             "%1 = sum(%x) {axes=[0], keepdims=false} : f32[4]", "%2 = add(%0, %1) : f32[4]"],
        ),
        (
            "reads its source from memory",
            "%x: f32[4], %i: i32[3]",
            ["%0 = neg(%x) : f32[4]", "%1 = take(%0, %i) {axis=0} : f32[3]"],
        ),
        (
            "reads its operands from memory",
            "%x: f32[4,4], %y: f32[4,4]",
            ["%0 = neg(%x) : f32[4,4]", "%1 = matmul(%0, %y) : f32[4,4]"],
        ),
        (
            "changes the number of elements",
            "%x: f32[4,4], %y: f32[4,4]",
            ["%0 = matmul(%x, %y) : f32[4,4]",
             "%1 = slice(%0) {starts=[0,0], sizes=[2,4], steps=[1,1]} : f32[2,4]",
             "%2 = neg(%1) : f32[2,4]"],
        ),
        (
            "reads the product at another index",
            "%x: f32[4,4], %y: f32[4,4]",
            ["%0 = matmul(%x, %y) : f32[4,4]",
             "%1 = transpose(%0) {permutation=[1,0]} : f32[4,4]", "%2 = neg(%1) : f32[4,4]"],
        ),
        (
            "does not gather",
            "%x: f32[4,4], %y: f32[4,4], %i: i32[4]",
            ["%0 = matmul(%x, %y) : f32[4,4]", "%1 = take(%x, %i) {axis=0} : f32[4,4]",
             "%2 = add(%0, %1) : f32[4,4]"],
        ),
        (
            "not a strided view",
            "%x: f32[4,6], %y: f32[3,2]",
            ["%0 = transpose(%x) {permutation=[1,0]} : f32[6,4]",
             "%1 = reshape(%0) {shape=[8,3]} : f32[8,3]", "%2 = matmul(%1, %y) : f32[8,2]"],
        ),
        (
            "iteration space",
            "%x: f32[4,6]",
            ["%0 = slice(%x) {starts=[0,0], sizes=[4,2], steps=[1,1]} : f32[4,2]",
             "%1 = neg(%0) : f32[4,2]", "%2 = sum(%x) {axes=[1], keepdims=false} : f32[4]"],
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_one_kernel_says_why(reason, arguments, lines):
    graph = graph_of(arguments, *lines)
    stored = graph.outputs
    if reason == "iteration space":
        stored = tuple(value for value in graph if value.op in ("neg", "sum"))
    with pytest.raises(NotFusable, match=reason):
        lowered(graph, stored=stored)


def tangled(x, count=6):
    y = minicomp.negative(x)
    for _ in range(count):
        y = y.T.reshape(4, 6)
    return minicomp.negative(y)


def sums_of_neighbours(x, count=10):
    for _ in range(count):
        x = x[1:] + x[:-1]
    return x


@pytest.mark.parametrize(
    ("function", "shape", "reason"),
    [
        (tangled, (4, 6), "long to compute"),
        (sums_of_neighbours, (99,), "computed again and again"),
    ],
)
def test_what_would_be_too_much_work_in_one_kernel(function, shape, reason):
    x = np.ones(shape, np.float32)
    with pytest.raises(NotFusable, match=reason):
        lowered(minicomp.trace(function, x))
    assert lowered(minicomp.trace(lambda x: function(x, count=2), x))


def test_reading_both_halves_of_a_value_does_nothing_twice():
    """As gated units do: each half of the elements is computed once."""

    def gated(x):
        y = x
        for n in range(30):
            y = y * n + x
        return y[:50] * y[50:]

    graph = minicomp.trace(gated, np.ones(100, np.float32))
    members = tuple(v for v in graph if kind(v) not in ("leaf", "movement"))
    place = {v: contiguous(n, "t", v) for n, v in enumerate(graph)}
    assert lower(Cluster(members, graph.outputs), "k", place.__getitem__)


MOVEMENTS = [
    ("reshape", {"shape": (8, 3)}),
    ("reshape", {"shape": (2, 2, 6)}),
    ("transpose", {"permutation": (1, 0)}),
    ("broadcast", {"shape": (3, 4, 6)}),
    ("slice", {"starts": (3, 1), "sizes": (2, 3), "steps": (-2, 2)}),
    ("windows", {"axes": (0, 1), "sizes": (2, 3), "strides": (1, 2), "dilations": (2, 1)}),
]


@pytest.mark.parametrize(("op", "attributes"), MOVEMENTS)
def test_movement_reads_the_operand_where_the_interpreter_does(op, attributes):
    source = parse("graph f(%x: i64[4,6]) { return %x }").outputs[0]
    value = make(op, [source], attributes)
    numbers = np.arange(24).reshape(4, 6)
    expected = evaluate(value, [numbers])
    variables = [LoopVariable(f"d{n}", extent) for n, extent in enumerate(value.shape)]
    indices = movement_index(value, tuple(map(Index.of, variables)))
    for place in np.ndindex(expected.shape):
        point = {v: Index((), n) for v, n in zip(variables, place)}
        row, column = (index.substitute(point.get).constant for index in indices)
        assert expected[place] == numbers[row, column]


RELAXED = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@RELAXED
@given(graphs(), st.integers(0, 99), st.booleans())
def test_kernels_mean_what_the_graph_means(graph, seed, windows_in_place):
    inputs, parameters = arrays_for(graph, seed)
    outputs = program_outputs(graph, inputs, parameters, windows_in_place=windows_in_place)
    assert_computes(graph, outputs, inputs, parameters)


@pytest.mark.parametrize(
    ("index", "is_checked"),
    [
        ("%0 = argmax(%x) {axes=[1], keepdims=false} : i64[8]", False),  # of 4 columns
        ("%0 = iota() {shape=[8], axis=0, dtype=i64} : i64[8]", False),
        ("%0 = full() {shape=[8], value=7, dtype=i64} : i64[8]", False),
        ("%0 = full() {shape=[8], value=-1, dtype=i64} : i64[8]", True),
        ("%0 = full() {shape=[8], value=8, dtype=i64} : i64[8]", True),
        ("%0 = cast(%i) {dtype=i64} : i64[8]", True),
        ("%0 = mul(%i, %i) : i32[8]", True),
    ],
)
def test_a_gather_checks_the_entries_that_may_be_out_of_range(index, is_checked):
    graph = parse(
        f"graph f(%x: f32[8,4], %i: i32[8]) {{ {index}"
        " %1 = take(%x, %0) {axis=0} : f32[8,4] return %1 }"
    )
    kernels = [call.kernel for call in build_program(graph, fuse(graph)).calls]
    names = [argument.name for kernel in kernels for argument in kernel.arguments]
    assert ("status" in names) is is_checked
