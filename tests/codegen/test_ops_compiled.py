"""Every op of the table, compiled, against the interpreter: shapes, dtypes, special values.

One entry of `CASES` per op: a function that is given a graph and a dtype and makes the op's
outputs. An op without an entry fails.
"""

from itertools import permutations

import numpy as np
import pytest
from op_graphs import DTYPES, FLOATS, OpGraph, dtypes_of, plain_array, subsets, tied_array
from special_values import special_array

import minicomp
from minicomp.ir.ops import OPS

INF, NAN = float("inf"), float("nan")

#: ops on floats whose results IEEE 754 does not define to the bit; or which zero, minimum's
NOT_TO_THE_BIT = {
    *("exp", "expm1", "log", "log1p", "rsqrt", "sin", "cos", "tanh", "erf", "sigmoid", "pow"),
    *("minimum", "maximum"),
}


# --- leaves ---


def leaf(op):
    def cases(graph, dtype):
        number = {"bool": True, "int32": -7, "int64": 2**40}.get(dtype, -0.0)
        for shape in ((), (5,), (0, 3), (2, 3, 4)):
            if op == "full":
                graph.output("full", shape=shape, value=number, dtype=dtype)
            elif op == "constant":
                graph.output("constant", value=special_array(shape, dtype))
            else:
                source = graph.input if op == "input" else graph.parameter
                graph.outputs.append(source(special_array(shape, dtype)))

    return cases


def iota(graph, dtype):
    for shape in ((1,), (67,), (3, 5, 4), (4, 0)):
        for axis in range(len(shape)):
            counted = graph.output("iota", shape=shape, axis=axis, dtype=dtype)
            graph.output("transpose", counted, permutation=tuple(range(len(shape)))[::-1])


# --- pointwise ---


def pointwise(op):
    def cases(graph, dtype):
        # 14 x 14: each of the fourteen special floats beside each other one
        for shape in ((), (0,), (3, 0, 2), (14, 14)):
            operands = [special_array(shape, dtype, phase) for phase in range(OPS[op].arity)]
            graph.output(op, *map(graph.input, operands))
        operands = [plain_array((3, 1, 7), dtype, seed) for seed in range(OPS[op].arity)]
        graph.output(op, *map(graph.input, operands))

    return cases


def cast(graph, dtype):
    limits = [2.0**31, 2.0**63, -(2.0**31), -(2.0**63), 0.9, -0.9, 2.5, 1e300, 2.0**31 - 1]
    extremes = special_array((1, 16), dtype)
    if dtype in FLOATS:
        with np.errstate(over="ignore"):
            ends = np.array(limits).astype(dtype)
        around = [ends, np.nextafter(ends, 0, dtype=dtype), np.nextafter(ends, ends * 2)]
        extremes = np.concatenate(around)
    x = graph.input(extremes)
    empty = graph.input(plain_array((2, 0), dtype))
    for target in DTYPES:
        graph.output("cast", x, dtype=target)
        graph.output("cast", empty, dtype=target)


def where(graph, dtype):
    condition = graph.input(plain_array((14, 14), "bool"))
    x, y = (graph.input(special_array((14, 14), dtype, phase)) for phase in (0, 1))
    graph.output("where", condition, x, y)
    value = True if dtype == "bool" else 1
    literal = graph.add("full", shape=(14, 14), value=value, dtype=dtype)
    graph.output("where", condition, literal, y)
    scalars = [plain_array((), "bool"), plain_array((), dtype), plain_array((), dtype, 1)]
    graph.output("where", *map(graph.input, scalars))


# --- reductions and scans ---


def reduction(op):
    array = tied_array if op.startswith("arg") else plain_array
    has_identity = op not in ("max", "min", "argmax", "argmin")

    def cases(graph, dtype):
        x = graph.input(array((3, 5, 4), dtype))
        for axes in subsets(3):
            for keepdims in (False, True):
                graph.output(op, x, axes=axes, keepdims=keepdims)
        special = graph.input(special_array((14, 14), dtype, 1))
        long = graph.input(array((3, 67), dtype))
        for axes in subsets(2):
            graph.output(op, special, axes=axes, keepdims=False)
            graph.output(op, long, axes=axes, keepdims=False)
        graph.output(op, graph.input(array((1,), dtype)), axes=(0,), keepdims=False)
        graph.output(op, graph.input(array((), dtype)), axes=(), keepdims=False)
        empty = graph.input(array((3, 0, 2), dtype))
        for axes in ((1,), (0, 1, 2), (0,)):
            if has_identity or axes == (0,):
                graph.output(op, empty, axes=axes, keepdims=False)

    return cases


def cumsum(graph, dtype):
    for shape in ((67,), (1,), (3, 17, 4), (3, 0, 2), (14, 14)):
        x = graph.input(plain_array(shape, dtype))
        for axis in range(len(shape)):
            graph.output("cumsum", x, axis=axis)
    graph.output("cumsum", graph.input(special_array((5, 14), dtype)), axis=1)


# --- movement ---


def movement(op, shape, *attributes):
    """Every set of attributes, copied and as an operand."""

    def cases(graph, dtype):
        x = graph.input(plain_array(shape, dtype))
        for chosen in attributes:
            moved = graph.output(op, x, **chosen)
            other = graph.input(plain_array(moved.shape, dtype, seed=1))
            graph.output("eq", moved, other)

    return cases


reshape = movement(
    "reshape",
    (4, 6, 5),
    *({"shape": shape} for shape in [(120,), (24, 5), (4, 30), (2, 2, 6, 5), (5, 6, 4), (8, 15)]),
    *({"shape": shape} for shape in [(1, 4, 1, 6, 5), (3, 2, 4, 5), (40, 3)]),
)
transpose = movement("transpose", (3, 5, 4), *({"permutation": p} for p in permutations(range(3))))
broadcast = movement(
    "broadcast", (3, 1, 5), *({"shape": shape} for shape in [(3, 4, 5), (2, 3, 1, 5), (3, 1, 5)])
)


def slice_(*entries):
    """From (start, size, step) per axis."""
    return dict(zip(("starts", "sizes", "steps"), zip(*entries)))


slices = movement(
    "slice",
    (7, 9),
    slice_((0, 7, 1), (0, 9, 1)),
    slice_((6, 7, -1), (8, 9, -1)),
    slice_((1, 3, 2), (0, 3, 4)),
    slice_((6, 3, -3), (3, 1, 1)),
    slice_((0, 7, 1), (8, 5, -2)),
    slice_((2, 0, 1), (0, 9, 1)),
)
windows = movement(
    "windows",
    (7, 9),
    {"axes": (0, 1), "sizes": (3, 2), "strides": (1, 1), "dilations": (1, 1)},
    {"axes": (0, 1), "sizes": (2, 3), "strides": (2, 3), "dilations": (3, 2)},
    {"axes": (1,), "sizes": (9,), "strides": (1,), "dilations": (1,)},
    {"axes": (0,), "sizes": (1,), "strides": (3,), "dilations": (1,)},
)


# --- assembly and gathers ---


def pad(graph, dtype):
    x = graph.input(plain_array((3, 5), dtype))
    numbers = {"bool": [True], "float32": [-INF, NAN, -0.0], "float64": [INF, 1.5]}
    for number in numbers.get(dtype, [-3]):
        for low, high in (((1, 0), (0, 2)), ((2, 17), (1, 1)), ((0, 0), (0, 0))):
            graph.output("pad", x, low=low, high=high, value=number)
    number = numbers.get(dtype, [-3])[0]
    empty = graph.input(plain_array((0, 2), dtype))
    graph.output("pad", empty, low=(1, 0), high=(1, 1), value=number)
    inner = graph.add("pad", graph.add("copy", x), low=(1, 1), high=(0, 0), value=number)
    graph.output("pad", inner, low=(0, 0), high=(1, 1), value=number)
    scalar = graph.input(plain_array((), dtype))
    graph.output("pad", scalar, low=(), high=(), value=number)


def concatenate(graph, dtype):
    for axis in range(3):
        shapes = [[3, 5, 4] for _ in range(4)]
        for shape, extent in zip(shapes, (3, 1, 0, 17)):
            shape[axis] = extent
        parts = [graph.input(plain_array(shape, dtype, n)) for n, shape in enumerate(shapes)]
        joined = graph.output("concatenate", *parts, axis=axis)
        graph.output("concatenate", joined, parts[0], joined, axis=axis)
        graph.output("concatenate", parts[0], axis=axis)
        reversed_axes = graph.add("transpose", parts[0], permutation=(2, 1, 0))
        graph.output("concatenate", reversed_axes, reversed_axes, axis=2 - axis)


def take(graph, dtype):
    x = graph.input(plain_array((4, 17, 3), dtype))
    for axis, extent in enumerate((4, 17, 3)):
        for kind, shape in (("int64", ()), ("int32", (6,)), ("int64", (2, 3)), ("int32", (0,))):
            random = np.random.default_rng(axis)
            indices = random.integers(-extent, extent, shape, kind)
            graph.output("take", x, graph.input(indices), axis=axis)
    constant = graph.add("constant", value=np.array([[3, -4, 0]]))
    graph.output("take", x, constant, axis=0)
    one = graph.input(plain_array((1, 5), dtype))
    graph.output("take", one, graph.input(np.array([0, -1, 0])), axis=0)


def take_along_axis(graph, dtype):
    x = graph.input(plain_array((4, 17, 3), dtype))
    for axis, extent in enumerate((4, 17, 3)):
        for kind, count in (("int64", 1), ("int32", 5), ("int64", 0)):
            shape = [4, 17, 3]
            shape[axis] = count
            random = np.random.default_rng(axis)
            indices = graph.input(random.integers(-extent, extent, shape, kind))
            graph.output("take_along_axis", x, indices, axis=axis)


def matmul(graph, dtype):
    shapes = [((3, 5), (5, 7)), ((1, 1), (1, 1)), ((17, 33), (33, 35)), ((2, 3, 4), (4, 5))]
    shapes += [((5, 1, 2, 3), (4, 3, 6)), ((1, 9), (9, 1)), ((3, 0), (0, 4)), ((0, 2), (2, 3))]
    for a, b in shapes:
        left, right = graph.input(plain_array(a, dtype)), graph.input(plain_array(b, dtype))
        graph.output("matmul", left, right)
    x = graph.input(plain_array((6, 5), dtype))
    flipped = graph.add("transpose", x, permutation=(1, 0))
    graph.output("matmul", flipped, x)
    graph.output("matmul", x, flipped)


def patches(graph, dtype):
    """Laid out in memory, and as an operand that a kernel may read in place."""
    x = graph.input(plain_array((2, 3, 6, 7), dtype))
    for sizes, strides, dilations, low, high in (
        ((3, 2), (1, 1), (1, 1), (0, 0), (0, 0)),
        ((2, 3), (2, 1), (1, 2), (1, 3), (0, 1)),
        ((1, 1), (1, 1), (1, 1), (0, 2), (2, 0)),
    ):
        rows = graph.output(
            "patches", x, sizes=sizes, strides=strides, dilations=dilations, low=low, high=high
        )
        weight = graph.input(plain_array((rows.shape[1], 9), dtype))
        graph.output("matmul", rows, weight)


CASES = {
    "input": leaf("input"),
    "parameter": leaf("parameter"),
    "constant": leaf("constant"),
    "full": leaf("full"),
    "iota": iota,
    **{op: pointwise(op) for op in ("neg", "abs", "sign", "exp", "expm1", "log", "log1p")},
    **{op: pointwise(op) for op in ("sqrt", "rsqrt", "sin", "cos", "tanh", "erf", "sigmoid")},
    **{op: pointwise(op) for op in ("floor", "ceil", "trunc", "round", "logical_not", "copy")},
    **{op: pointwise(op) for op in ("add", "sub", "mul", "div", "floor_divide", "mod", "pow")},
    **{op: pointwise(op) for op in ("minimum", "maximum", "bit_and", "bit_or", "bit_xor")},
    **{op: pointwise(op) for op in ("logical_and", "logical_or", "logical_xor")},
    **{op: pointwise(op) for op in ("lt", "le", "gt", "ge", "eq", "ne")},
    "cast": cast,
    "where": where,
    **{op: reduction(op) for op in ("sum", "prod", "mean", "max", "min", "any", "all")},
    **{op: reduction(op) for op in ("argmax", "argmin")},
    "cumsum": cumsum,
    "reshape": reshape,
    "transpose": transpose,
    "broadcast": broadcast,
    "slice": slices,
    "windows": windows,
    "pad": pad,
    "concatenate": concatenate,
    "take": take,
    "take_along_axis": take_along_axis,
    "matmul": matmul,
    "patches": patches,
}


def test_the_table_has_a_case_for_every_op_and_no_other():
    assert set(CASES) == set(OPS)


@pytest.mark.parametrize(
    ("op", "dtype"),
    [(op, dtype) for op in OPS for dtype in dtypes_of(op) if (op, dtype) != ("iota", "bool")],
)
def test_an_op_computes_what_it_means(op, dtype):
    graph = OpGraph()
    CASES[op](graph, dtype)
    assert graph.outputs
    graph.check(exact=OPS[op].kind == "pointwise" and op not in NOT_TO_THE_BIT)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y, i: minicomp.take(x, minicomp.argmax(y, axis=0), axis=0),
        lambda x, y, i: minicomp.take(x, minicomp.cumsum(i, axis=0), axis=0),
        lambda x, y, i: minicomp.take_along_axis(y, minicomp.argmax(y, axis=0)[None], axis=0),
        lambda x, y, i: minicomp.take(x, minicomp.argmin(y.T, axis=1), axis=0),
    ],
    ids=["argmax", "cumsum", "along", "rows"],
)
def test_gathers_at_indices_that_each_row_finds_for_itself(function):
    random = np.random.default_rng(0)
    x = random.standard_normal((40, 3)).astype(np.float32)
    y = random.standard_normal((9, 37)).astype(np.float32)
    i = random.integers(0, 4, (9, 37))
    graph = minicomp.trace(function, x, y, i)
    np.testing.assert_array_equal(
        minicomp.compile(function)(x, y, i), minicomp.interpret(graph, x, y, i)
    )
