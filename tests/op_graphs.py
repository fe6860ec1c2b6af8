"""Small graphs for tests: every op that is asked for on given arrays becomes an output.

    graph = OpGraph()
    x = graph.input(np.ones((3, 4), np.float32))
    graph.output("sum", x, axes=(1,), keepdims=False)
    graph.output("exp", graph.add("neg", x))
    graph.check()              # compiles it, runs it, compares with the interpreter

Many cases in one graph are compiled in a fraction of the time that as many graphs take.
"""

from contextlib import suppress
from itertools import combinations

import numpy as np
from error_bounds import assert_computes
from special_values import assert_same_bits

import minicomp
from minicomp.errors import DTypeError
from minicomp.ir import Graph, TensorType, Value, dtype_name
from minicomp.ir.interpreter import interpret_flat
from minicomp.ir.ops import OPS, make

#: what the CPU computes in
DTYPES = ("float32", "float64", "int32", "int64", "bool")
FLOATS = ("float32", "float64")


class OpGraph:
    """A graph under construction, and the arrays that are its inputs."""

    def __init__(self):
        self.values: list[Value] = []
        self.outputs: list[Value] = []
        self.arrays: list[np.ndarray] = []
        self.parameters: dict[str, np.ndarray] = {}

    def input(self, array):
        """A new input, which this array, with its very strides, will be passed for."""
        array = np.asarray(array)
        self.arrays.append(array)
        kind = TensorType(array.shape, dtype_name(array.dtype))
        return self.add("input", name=f"x{len(self.arrays)}", type=kind)

    def parameter(self, array):
        """A new parameter that has this array."""
        name = f"p{len(self.parameters)}"
        self.parameters[name] = array
        return self.add("parameter", name=name, type=TensorType(array.shape, array.dtype.name))

    def add(self, op, *operands, **attributes):
        """A value that other values may read."""
        self.values.append(make(op, operands, attributes))
        return self.values[-1]

    def output(self, op, *operands, **attributes):
        """A value that the graph returns."""
        self.outputs.append(self.add(op, *operands, **attributes))
        return self.outputs[-1]

    @property
    def graph(self):
        return Graph("case", tuple(self.values), tuple(self.outputs), self.parameters)

    def check(self, *, exact=False, **options):
        """The compiled graph computes what the interpreter says: within the bounds of rounding
        errors, or `exact`ly, to the bit."""
        graph = self.graph
        results = minicomp.compile(graph, options=options or None)(*self.arrays)
        results = list(results) if isinstance(results, tuple) else [results]
        assert_computes(graph, results, self.arrays)
        if exact:
            for result, expected in zip(results, interpret_flat(graph, self.arrays), strict=True):
                assert_same_bits(result, expected)


def dtypes_of(op):
    """The dtypes that an op takes, by its type rule."""
    if OPS[op].kind not in ("pointwise", "reduction", "scan") or op == "where":
        return DTYPES
    taken = []
    for dtype in DTYPES:
        types = [TensorType((2,), dtype)] * OPS[op].arity
        attributes = {"axes": (0,), "keepdims": False, "axis": 0, "dtype": dtype}
        with suppress(DTypeError):
            OPS[op].infer(types, attributes)
            taken.append(dtype)
    return tuple(taken)


def subsets(rank):
    """Every choice of axes."""
    return [axes for count in range(rank + 1) for axes in combinations(range(rank), count)]


def plain_array(shape, dtype, seed=0):
    """Random numbers of moderate size; integers of the whole range, so that sums wrap."""
    random = np.random.default_rng([seed, *shape])
    dtype = np.dtype(dtype)
    if dtype == np.bool_:
        return random.integers(0, 2, shape).astype(bool)
    if dtype.kind == "i":
        limits = np.iinfo(dtype)
        return random.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    return random.normal(0, 2, shape).astype(dtype)


def tied_array(shape, dtype, seed=0):
    """A few values only, NaN and the infinities among them, so that there are ties."""
    random = np.random.default_rng([seed, *shape])
    if np.dtype(dtype).kind != "f":
        return random.integers(0, 2, shape).astype(dtype)
    values = [1.0, 1.0, -0.0, 0.0, np.inf, -np.inf, np.nan]
    return random.choice(values, shape, p=[0.3, 0.3, 0.1, 0.1, 0.1, 0.05, 0.05]).astype(dtype)


def layouts(array):
    """The array in every kind of layout: name -> an equal array (or, for `repeated`, one whose
    first axis repeats its first row)."""
    shape = array.shape
    wide = np.zeros((*(2 * n for n in shape),), array.dtype)
    every_second = tuple(slice(None, None, 2) for _ in shape)
    wide[every_second] = array
    offset = np.zeros((*(n + 1 for n in shape),), array.dtype)
    inside = tuple(slice(1, None) for _ in shape)
    offset[inside] = array
    backwards = tuple(slice(None, None, -1) for _ in shape)
    return {
        "contiguous": np.ascontiguousarray(array),
        "transposed": np.asfortranarray(array),
        "sliced": wide[every_second],
        "offset": offset[inside],
        "reversed": np.ascontiguousarray(array[backwards])[backwards],
        "repeated": np.broadcast_to(array[:1], shape),
    }


def graph_of_size(size):
    """An `OpGraph` of folds, scans, picks and pointwise ops along loops of `size`, and across."""
    graph = OpGraph()
    rows = graph.input(plain_array((3, size), "float32"))
    columns = graph.input(plain_array((size, 3), "float64"))
    numbers = graph.input(plain_array((3, size), "int32"))
    flags = graph.input(plain_array((size,), "bool"))
    for x in (rows, columns, numbers):
        graph.output("sum", x, axes=(0,), keepdims=False)
        graph.output("sum", x, axes=(1,), keepdims=True)
        graph.output("argmin", x, axes=(0, 1), keepdims=False)
    graph.output("max", rows, axes=(0, 1), keepdims=False)
    ties = graph.input(tied_array((size, 2), "float32"))
    graph.output("argmax", ties, axes=(0,), keepdims=False)
    graph.output("argmin", graph.input(tied_array((2, size), "float64")), axes=(1,), keepdims=False)
    graph.output("cumsum", rows, axis=0)
    graph.output("cumsum", numbers, axis=1)
    graph.output("logical_not", flags)
    graph.output("any", flags, axes=(0,), keepdims=False)
    graph.output("cast", graph.add("mul", rows, rows), dtype="float64")
    backwards = {"starts": (2, size - 1), "sizes": (3, size), "steps": (-1, -1)}
    graph.output("slice", numbers, **backwards)
    order = graph.input(np.random.default_rng(size).permutation(size).astype(np.int32))
    graph.output("take", rows, order, axis=1)
    return graph
