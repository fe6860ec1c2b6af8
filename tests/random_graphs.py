"""Random valid graphs of many ops, and arrays for them: what every stage is tested on.

    @given(graphs(), st.integers(0, 99))
    def test_compiled_graphs_compute_what_they_mean(graph, seed):
        inputs, parameters = arrays_for(graph, seed)
        assert_computes(graph, run(graph, inputs, parameters), inputs, parameters)

`graphs()` draws all kinds of ops on all dtypes over odd shapes (0-d, sizes 0 and 1 among them).
Two things keep comparisons meaningful. Ops with steps (floor, comparisons, argmax, mod, casts to
integers ...) are only given operands that are computed exactly, by ops that IEEE 754 defines to
the bit: one ulp before a step would be a whole step after it. And `error_bounds` follows how
rounding errors grow through the graph, so that tolerances are neither guessed nor uniform.
`graphs(exact=True)` has no op whose result may differ by a bit from one right implementation to
another: NaN apart, results are then comparable to the bit.
"""

from __future__ import annotations

from math import prod

import numpy as np
from error_bounds import assert_close, assert_computes, bounded_outputs
from hypothesis import note
from hypothesis import strategies as st

from minicomp.ir import FLOATS, INTEGERS, Graph, TensorType, Value, numpy_dtype
from minicomp.ir.ops import OPS, make

__all__ = ["arrays_for", "assert_close", "assert_computes", "bounded_outputs", "graphs"]

DTYPES = ("float32", "float64", "int32", "int64", "bool")
EXTENTS = (3, 1, 2, 4, 5, 8, 17, 3, 2, 4, 5, 1, 0)
#: no value has more elements, so that the interpreter is fast
MAX_ELEMENTS = 2000

#: on floats these may differ in the last bits from one right implementation to another
INEXACT = {
    *("exp", "expm1", "log", "log1p", "rsqrt", "sin", "cos", "tanh", "erf", "sigmoid", "pow"),
    *("sum", "prod", "mean", "cumsum", "matmul"),
}
#: a small error in their operands may make a great one in their result
STEPS = {
    *("floor", "ceil", "trunc", "round", "sign", "floor_divide", "mod"),
    *("lt", "le", "gt", "ge", "eq", "ne", "argmax", "argmin"),
}
LITERALS = {
    "bool": [True, False],
    "int": [1, 0, 2, -1, 7, -128],
    "float": [1.0, 0.0, 2.0, -1.0, 0.5, -0.0, 3.7, -2.25],
}


@st.composite
def graphs(draw, *, max_ops=15, exact=False, dtypes=DTYPES, device="cpu"):
    """A graph of 1 to `max_ops` ops, with inputs and parameters, and 1 to 3 outputs."""
    builder = _Builder(draw, exact, dtypes, device)
    builder.leaf()
    for _ in range(draw(st.integers(1, max_ops))):
        draw(st.sampled_from(_STEPS_OF_BUILDING))(builder)
    values = builder.values
    outputs = [values[-1], *draw(st.lists(st.sampled_from(values), max_size=2))]
    graph = Graph("random", tuple(values), tuple(outputs))
    note(str(graph))
    return graph


def arrays_for(graph, seed=0, *, special=True):
    """(inputs, parameters): arrays of moderate size, some with NaN, infinities and zeros."""
    random = np.random.default_rng(seed)
    inputs = [_array(value.type, random, special) for value in graph.inputs]
    parameters = {
        value.attributes["name"]: _array(value.type, random, special) for value in graph.parameters
    }
    return inputs, parameters


def _array(type, random, special):
    dtype = numpy_dtype(type.dtype)
    if type.dtype == "bool":
        return random.integers(0, 2, type.shape).astype(bool)
    if type.dtype in INTEGERS:
        return random.integers(-100, 100, type.shape).astype(dtype)
    array = random.normal(0, 2, type.shape)
    if special and random.random() < 0.5:
        chosen = random.choice([0.0, -0.0, np.nan, np.inf, -np.inf, 1.0, 1e-3, 100.0], type.shape)
        array = np.where(random.random(type.shape) < 0.05, chosen, array)
    return array.astype(dtype)


class _Builder:
    """Values so far, and what is known of them; each method of building adds one or a few."""

    def __init__(self, draw, exact, dtypes, device):
        self.draw, self.only_exact, self.dtypes, self.device = draw, exact, dtypes, device
        self.values: list[Value] = []
        self.inexact: set[Value] = set()
        self.names = 0

    # --- choosing ---

    def choose(self, options):
        return self.draw(st.sampled_from(list(options)))

    def pick(self, fits=lambda value: True):
        """One of the values that fit, recent ones first when shrinking; None if there is none."""
        fitting = [value for value in reversed(self.values) if fits(value)]
        return self.choose(fitting) if fitting else None

    def shape(self, max_rank=4):
        shape = []
        for _ in range(self.draw(st.integers(0, max_rank))):
            extent = self.choose(EXTENTS)
            if prod(shape) * extent <= MAX_ELEMENTS:
                shape.append(extent)
        return tuple(shape)

    def literal(self, dtype):
        kind = "float" if dtype in FLOATS else "int" if dtype in INTEGERS else "bool"
        return self.choose(LITERALS[kind])

    # --- adding ---

    def add(self, op, *operands, **attributes):
        """The value, or None where it would be too big, not exact enough or too often inexact."""
        value = make(op, operands, attributes)
        inexact = op in INEXACT and value.dtype in FLOATS
        uncertain = any(operand in self.inexact for operand in operands)
        steps = op in STEPS or (op == "cast" and value.dtype not in FLOATS)
        if value.size > MAX_ELEMENTS or (inexact and self.only_exact) or (uncertain and steps):
            return None
        if inexact or uncertain:
            self.inexact.add(value)
        self.values.append(value)
        return value

    def source(self, shape, dtype):
        """A new input or parameter."""
        op = self.choose(["input", "input", "parameter"])
        self.names += 1
        name = f"{op[0]}{self.names}"
        return self.add(op, name=name, type=TensorType(tuple(shape), dtype, self.device))

    def full(self, shape, dtype):
        return self.add(
            "full", shape=tuple(shape), value=self.literal(dtype), dtype=dtype, device=self.device
        )

    def constant(self, shape, dtype):
        random = np.random.default_rng(self.draw(st.integers(0, 9)))
        array = _array(TensorType(tuple(shape), dtype), random, special=False)
        return self.add("constant", value=array, device=self.device)

    def leaf(self):
        dtype = self.choose(self.dtypes)
        make_leaf = self.choose([self.source, self.source, self.full, self.constant, self.iota])
        return make_leaf(self.shape(), dtype)

    def iota(self, shape, dtype):
        if not shape or dtype == "bool":
            return self.full(shape, dtype)
        axis = self.choose(range(len(shape)))
        return self.add("iota", shape=tuple(shape), axis=axis, dtype=dtype, device=self.device)

    def operand(self, dtypes=DTYPES, certain=False):
        """An existing value of one of the dtypes, or a new input."""
        allowed = [dtype for dtype in dtypes if dtype in self.dtypes]
        if not allowed:
            return None
        found = self.pick(lambda v: v.dtype in allowed and not (certain and v in self.inexact))
        return found or self.source(self.shape(), self.choose(allowed))

    def partner(self, x, certain=False):
        """A value of x's shape and dtype: an old one, a literal, a broadcast, an input."""
        same = self.pick(
            lambda v: (
                (v.shape, v.dtype) == (x.shape, x.dtype) and not (certain and v in self.inexact)
            )
        )
        way = self.choose(["old", "full", "input", "broadcast", "constant"])
        if way == "old" and same is not None:
            return same
        if way == "full":
            return self.full(x.shape, x.dtype)
        if way == "constant":
            return self.constant(x.shape, x.dtype)
        if way == "input" or not x.shape:
            return self.source(x.shape, x.dtype)
        dropped = self.draw(st.integers(0, len(x.shape) - 1))
        small = tuple(self.choose([n, 1]) for n in x.shape[dropped:])
        return self.add("broadcast", self.source(small, x.dtype), shape=x.shape)


# --- the ways of building: each adds values to the builder, or none where nothing fits ---


def _dtypes_of(op):
    """The dtypes that a pointwise op or reduction takes, as its type rule has them."""
    row, allowed = OPS[op], []
    for dtype in DTYPES:
        try:
            row.infer([TensorType((1,), dtype)] * row.arity, {"axes": (0,), "keepdims": False})
            allowed.append(dtype)
        except TypeError:
            continue
    return allowed


_POINTWISE = {
    op: _dtypes_of(op)
    for op, row in OPS.items()
    if row.kind == "pointwise" and op not in ("cast", "where")
}
_REDUCTIONS = {op: _dtypes_of(op) for op, row in OPS.items() if row.kind == "reduction"}


def _unary(builder):
    _pointwise(builder, [op for op in _POINTWISE if OPS[op].arity == 1])


def _arithmetic(builder):
    _pointwise(builder, ["add", "mul", "sub", "div", "maximum", "minimum", "pow"])


def _binary(builder):
    _pointwise(builder, [op for op in _POINTWISE if OPS[op].arity == 2])


def _pointwise(builder, ops):
    op = builder.choose(ops)
    certain = op in STEPS
    x = builder.operand(_POINTWISE[op], certain)
    if x is None:
        return
    others = [builder.partner(x, certain) for _ in range(OPS[op].arity - 1)]
    builder.add(op, *builder.draw(st.permutations([x, *others])))


def _cast(builder):
    x = builder.operand()
    builder.add("cast", x, dtype=builder.choose(builder.dtypes))


def _where(builder):
    condition = builder.operand(("bool",))
    if condition is None:
        return
    x = builder.pick(lambda v: v.shape == condition.shape)
    y = builder.partner(x)
    builder.add("where", condition, *builder.draw(st.permutations([x, y])))


def _reduction(builder):
    op = builder.choose(_REDUCTIONS)
    x = builder.operand(_REDUCTIONS[op], certain=op in STEPS)
    if x is None:
        return
    axes = tuple(axis for axis in range(len(x.shape)) if builder.choose([True, False]))
    reduced = prod(x.shape[axis] for axis in axes)
    # The product of many numbers may overflow in one order and vanish in another.
    if (reduced == 0 and op in ("max", "min", "argmax", "argmin")) or (
        op == "prod" and reduced > 8
    ):
        return
    builder.add(op, x, axes=axes, keepdims=builder.choose([False, True]))


def _cumsum(builder):
    x = builder.operand(("float32", "float64", "int32", "int64"))
    if x is not None and x.shape:
        builder.add("cumsum", x, axis=builder.choose(range(len(x.shape))))


def _reshape(builder):
    shape = list((x := builder.operand()).shape)
    way = builder.choose(["flatten", "unit", "merge", "split"])
    if way == "flatten":
        shape = [x.size]
    elif way == "unit":
        shape.insert(builder.draw(st.integers(0, len(shape))), 1)
    elif shape:
        axis = builder.choose(range(len(shape)))
        if way == "merge" and axis + 1 < len(shape):
            shape[axis : axis + 2] = [shape[axis] * shape[axis + 1]]
        else:
            factor = builder.choose([n for n in (2, 1, 3, 4) if shape[axis] % n == 0])
            shape[axis : axis + 1] = [factor, shape[axis] // factor]
    builder.add("reshape", x, shape=tuple(shape))


def _transpose(builder):
    x = builder.operand()
    permutation = builder.draw(st.permutations(range(len(x.shape))))
    builder.add("transpose", x, permutation=tuple(permutation))


def _broadcast(builder):
    x = builder.operand()
    grown = [builder.choose([1, 4, 3]) if n == 1 else n for n in x.shape]
    builder.add("broadcast", x, shape=(*builder.choose([(), (2,), (3, 1)]), *grown))


def _slice(builder):
    x = builder.operand()
    starts, sizes, steps = [], [], []
    for extent in x.shape:
        step = builder.choose([1, 2, -1, -3])
        start = builder.draw(st.integers(0, max(extent - 1, 0)))
        room = extent - start if step > 0 else start + 1
        most = min(-(-room // abs(step)), extent)
        starts.append(start)
        sizes.append(builder.draw(st.integers(min(1, most), most)))
        steps.append(step)
    builder.add("slice", x, starts=tuple(starts), sizes=tuple(sizes), steps=tuple(steps))


def _windows(builder):
    x = builder.operand()
    axes, sizes, strides, dilations = [], [], [], []
    for axis, extent in enumerate(x.shape):
        size, dilation = builder.choose([2, 3, 1]), builder.choose([1, 2])
        if (size - 1) * dilation + 1 <= extent and builder.choose([True, False]):
            axes.append(axis)
            sizes.append(size)
            dilations.append(dilation)
            strides.append(builder.choose([1, 2]))
    if axes:
        builder.add(
            "windows",
            x,
            axes=tuple(axes),
            sizes=tuple(sizes),
            strides=tuple(strides),
            dilations=tuple(dilations),
        )


def _pad(builder):
    x = builder.operand()
    low, high = (tuple(builder.choose([1, 0, 2]) for _ in x.shape) for _ in "lh")
    value = builder.literal(x.dtype)
    if x.dtype in FLOATS:
        value = builder.choose([value, float("-inf"), float("nan")])
    builder.add("pad", x, low=low, high=high, value=value)


def _concatenate(builder):
    x = builder.operand()
    if not x.shape:
        return
    axis = builder.choose(range(len(x.shape)))
    parts = [x]
    for _ in range(builder.draw(st.integers(0, 2))):
        shape = (*x.shape[:axis], builder.choose([2, 1, 3, 0]), *x.shape[axis + 1 :])
        if builder.choose([True, False]):
            parts.append(builder.partner(x))
        elif prod(shape) <= MAX_ELEMENTS:
            parts.append(builder.source(shape, x.dtype))
    builder.add("concatenate", *builder.draw(st.permutations(parts)), axis=axis)


def _indices(builder, shape, extent):
    """Indices within an axis, counted from either end: constant, or computed by `mod`."""
    dtype = builder.choose([d for d in ("int64", "int32") if d in builder.dtypes] or ["int64"])
    if builder.choose([True, False]):
        random = np.random.default_rng(builder.draw(st.integers(0, 9)))
        array = random.integers(-extent, extent, shape).astype(dtype)
        return builder.add("constant", value=array, device=builder.device)
    x = builder.source(shape, dtype)
    bound = builder.add("full", shape=x.shape, value=extent, dtype=dtype, device=builder.device)
    return builder.add("mod", x, bound)


def _take(builder):
    x = builder.operand()
    axes = [axis for axis, extent in enumerate(x.shape) if extent]
    if not axes:
        return
    axis = builder.choose(axes)
    if builder.choose([True, False]):
        indices = _indices(builder, builder.shape(max_rank=2), x.shape[axis])
        builder.add("take", x, indices, axis=axis)
    else:
        shape = (*x.shape[:axis], builder.choose([2, 1, 5]), *x.shape[axis + 1 :])
        if prod(shape) <= MAX_ELEMENTS:
            builder.add("take_along_axis", x, _indices(builder, shape, x.shape[axis]), axis=axis)


def _matmul(builder):
    a = builder.pick(lambda v: len(v.shape) >= 2) or builder.source(
        (builder.choose([3, 1, 8]), builder.choose([4, 1, 17])), builder.choose(builder.dtypes)
    )
    k, n = a.shape[-1], builder.choose(EXTENTS)
    batch = builder.choose([(), a.shape[:-2], tuple(builder.choose([x, 1]) for x in a.shape[:-2])])
    if prod(batch) * k * n > MAX_ELEMENTS:
        return
    if builder.choose([False, True]):
        rank = len(batch)
        b = builder.source((*batch, n, k), a.dtype)
        b = builder.add("transpose", b, permutation=(*range(rank), rank + 1, rank))
    else:
        b = builder.source((*batch, k, n), a.dtype)
    builder.add("matmul", a, b)


def _convolution(builder):
    """Without padding: zeros times an infinite weight are left out, or not, as a kernel pleases."""
    x = builder.pick(lambda v: len(v.shape) == 4) or builder.source(
        (builder.choose([2, 1]), builder.choose([3, 1]), 4, builder.choose([7, 4])),
        builder.choose(builder.dtypes),
    )
    sizes, dilations = ((builder.choose([2, 1, 3]), builder.choose([1, 2])) for _ in "sd")
    if any((s - 1) * d + 1 > n for s, d, n in zip(sizes, dilations, x.shape[2:], strict=True)):
        return
    patches = builder.add(
        "patches", x, sizes=sizes, strides=(1, builder.choose([1, 2])), dilations=dilations,
        low=(0, 0), high=(0, 0),
    )  # fmt: skip
    if patches is not None and patches.shape[1] * 8 <= MAX_ELEMENTS:
        weight = builder.source((patches.shape[1], builder.choose([8, 3])), x.dtype)
        builder.add("matmul", patches, weight)


_STEPS_OF_BUILDING = [
    *(_arithmetic, _unary, _binary, _arithmetic, _unary, _binary),
    *(_cast, _where, _reduction, _reduction, _cumsum, _reshape, _transpose, _broadcast),
    *(_slice, _windows, _pad, _concatenate, _take, _matmul, _convolution),
    _Builder.leaf,
]
