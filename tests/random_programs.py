"""Random programs of `minicomp`'s functions, as a user writes them, and arrays for them.

In: nothing. Out: by `programs()`, a `Program`: the source of a function of some tensors, and its
inputs. Layers, attention, convolutions, indexing and NumPy's ways of shaping are put together as
they fit; each step has been run eagerly, so shapes and dtypes are known when the next is chosen.

    def program(x0, x1):
        v0 = mc.softmax(x0, axis=1)
        v1 = v0[:, None, ::-1]
        return v1, v0
"""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from hypothesis import note
from hypothesis import strategies as st

import minicomp as mc

MAX_ELEMENTS = 1500
EXTENTS = (3, 4, 2, 5, 8, 1, 17, 6)
FLOATS = ("float32", "float64")


@dataclass
class Program:
    """`source` defines `program`; `function` is it; `inputs` are arrays to call it with."""

    source: str
    inputs: list[np.ndarray]

    @property
    def function(self) -> Any:
        space: dict[str, Any] = {"mc": mc, "np": np}
        exec(self.source, space)
        return space["program"]


@st.composite
def programs(draw, *, max_steps=10):
    """A program of 1 to `max_steps` steps that returns one to three values."""
    builder = _Builder(draw)
    for _ in range(draw(st.integers(1, 2))):
        builder.input(builder.shape(), builder.choose(["float32", "float32", "float64", "int64"]))
    for _ in range(draw(st.integers(1, max_steps))):
        builder.choose(_STEPS)(builder)
    names = [name for name in builder.values if name[0] == "v"] or ["x0"]
    returned = dict.fromkeys([names[-1], *draw(st.lists(st.sampled_from(names), max_size=2))])
    program = Program(builder.source(list(returned)), builder.inputs)
    note(program.source)
    note(", ".join(f"{x.dtype}{list(x.shape)}" for x in program.inputs))
    return program


class _Builder:
    """The lines so far, and the eager value of every name."""

    def __init__(self, draw):
        self.draw = draw
        self.values: dict[str, Any] = {}
        self.inputs: list[np.ndarray] = []
        self.lines: list[str] = []
        self.random = np.random.default_rng(draw(st.integers(0, 99)))

    def source(self, returned):
        arguments = ", ".join(f"x{n}" for n in range(len(self.inputs)))
        lines = [f"def program({arguments}):", *self.lines, f"return {', '.join(returned)}"]
        return "\n    ".join(lines) + "\n"

    # --- choosing ---

    def choose(self, options):
        return self.draw(st.sampled_from(list(options)))

    def shape(self, least=0, most=4):
        shape = []
        for _ in range(self.draw(st.integers(least, most))):
            extent = self.choose(EXTENTS)
            shape.append(extent if prod(shape) * extent <= MAX_ELEMENTS else 1)
        return tuple(shape)

    def input(self, shape, dtype="float32", low=-9, high=9):
        """The name of a new argument."""
        if dtype == "bool":
            array = self.random.integers(0, 2, shape).astype(bool)
        elif dtype.startswith("int"):
            array = self.random.integers(low, high, shape, dtype)
        else:
            array = self.random.normal(0, 1, shape).astype(dtype)
        name = f"x{len(self.inputs)}"
        self.inputs.append(array)
        self.values[name] = array
        return name

    def pick(self, fits=lambda x: True, dtypes=None):
        """The name of a value that fits, or None."""
        names = [
            name
            for name, value in reversed(self.values.items())
            if (dtypes is None or value.dtype.name in dtypes) and fits(value)
        ]
        return self.choose(names) if names else None

    def floats(self, least=0, most=5):
        """The name of floats of some rank, new ones where there are none."""
        found = self.pick(lambda x: least <= x.ndim <= most and x.size, FLOATS)
        return found or self.input(self.shape(least, min(most, 4)))

    def axis(self, name):
        rank = self.values[name].ndim
        return self.draw(st.integers(-rank, rank - 1))

    def like(self, name):
        """The name of a value that broadcasts with it."""
        x = self.values[name]
        other = self.pick(lambda y: y.shape == x.shape and y.dtype == x.dtype)
        if other is not None and self.choose([True, False]):
            return other
        dropped = self.draw(st.integers(0, x.ndim))
        shape = tuple(self.choose([n, n, 1]) for n in x.shape[dropped:])
        dtype = x.dtype.name if x.dtype != bool else "int64"
        return self.input(shape, dtype)

    # --- adding ---

    def add(self, expression):
        """A new value, unless it would be too big."""
        space = {"mc": mc, "np": np, **self.values}
        with np.errstate(all="ignore"):
            value = np.asarray(eval(expression, space))
        if value.size > MAX_ELEMENTS:
            return None
        name = f"v{len(self.lines)}"
        self.lines.append(f"{name} = {expression}")
        self.values[name] = value
        return name


# --- the steps: each adds lines, or none where nothing fits ---


def _activation(b):
    x = b.floats()
    name = b.choose(["relu", "gelu", "silu", "sigmoid", "tanh", "exp", "erf", "sin", "abs"])
    call = {"exp": f"mc.exp(mc.minimum({x}, 2))"}.get(name, f"mc.{name}({x})")
    if name == "gelu" and b.choose([True, False]):
        call = f"mc.gelu({x}, approximate='tanh')"
    b.add(call)


def _arithmetic(b):
    x = b.pick(dtypes=(*FLOATS, "int32", "int64")) or b.floats()
    y = b.choose([b.like(x), b.choose(["2", "0.5", "-1", "np.float32(3)"])])
    b.add(f"{x} {b.choose(['+', '*', '-', '+', '*'])} {y}")


def _division(b):
    x = b.floats()
    b.add(b.choose([f"{x} / (1 + mc.abs({b.like(x)}))", f"1 / (1 + {x} * {x})", f"{x} / 3"]))


def _where(b):
    x = b.pick(dtypes=(*FLOATS, "int64")) or b.floats()
    y = b.like(x)
    b.add(b.choose([f"mc.where({x} > {y}, {x}, {y})", f"mc.where({y} == {y}, {x}, 0)"]))


def _softmax(b):
    x = b.floats(1)
    b.add(f"mc.{b.choose(['softmax', 'log_softmax'])}({x}, axis={b.axis(x)})")


def _norm(b):
    x = b.floats(1)
    shape = b.values[x].shape
    count = b.draw(st.integers(1, min(len(shape), 2)))
    kept = shape[-count:]
    dtype = b.values[x].dtype.name
    name = b.choose(["layer_norm", "rms_norm"])
    weight = f", weight={b.input(kept, dtype)}" if b.choose([True, False]) else ""
    # With one element, or equal ones, the variance is 0 and its error is all that is left.
    b.add(f"mc.{name}({x}, {kept}{weight}, eps=0.1)")


def _reduction(b):
    x = b.floats()
    rank = b.values[x].ndim
    axes = b.draw(st.lists(st.integers(0, rank - 1), unique=True)) if rank else []
    axis = b.choose([None, tuple(axes), *axes[:1]])
    name = b.choose(["sum", "mean", "max", "min", "logsumexp", "var", "amax", "prod"])
    if name in ("max", "min") and isinstance(axis, tuple):
        axis = None
    if name == "prod":
        x = f"mc.tanh({x})"
    b.add(f"mc.{name}({x}, axis={axis}, keepdims={b.choose([True, False])})")


def _count(b):
    x = b.pick(lambda v: v.size, ("float32", "float64", "int64", "int32")) or b.floats()
    if b.values[x].ndim and b.choose([True, False]):
        b.add(f"mc.cumsum({x}, axis={b.axis(x)})")
    else:
        b.add(f"mc.sum({x} > {b.like(x)}, axis={b.choose([None, ()])})")


def _argmax(b):
    x = b.pick(lambda v: v.size and v.ndim) or b.floats(1)
    b.add(f"mc.{b.choose(['argmax', 'argmin'])}({x}, axis={b.axis(x)})")


def _product(b):
    x = b.floats(1)
    inner, dtype = b.values[x].shape[-1], b.values[x].dtype.name
    n = b.choose(EXTENTS)
    way = b.choose(["matrix", "vector", "linear", "batch", "transposed", "einsum"])
    if way == "matrix":
        b.add(f"{x} @ {b.input((inner, n), dtype)}")
    elif way == "vector":
        b.add(f"mc.matmul({x}, {b.input((inner,), dtype)})")
    elif way == "linear":
        b.add(f"mc.linear({x}, {b.input((n, inner), dtype)}, {b.input((n,), dtype)})")
    elif way == "transposed" and b.values[x].ndim >= 2:
        b.add(f"{x} @ {x}.mT")
    elif way == "einsum" and b.values[x].ndim == 3:
        b.add(f"mc.einsum('abc,dc->bad', {x}, {b.input((n, inner), dtype)})")
    else:
        batch = b.values[x].shape[:-2] if b.values[x].ndim > 2 else (2,)
        b.add(f"{x} @ {b.input((*batch, inner, n), dtype)}")


def _attention(b):
    x = b.floats(2, 4)
    *batch, _, width = b.values[x].shape
    dtype, keys = b.values[x].dtype.name, b.choose([1, 3, 5])
    k, v = (b.input((*batch, keys, w), dtype) for w in (width, b.choose([2, 4])))
    causal = b.choose(["", ", is_causal=True"])
    b.add(f"mc.scaled_dot_product_attention({x}, {k}, {v}{causal})")


def _image(b):
    x = b.pick(lambda v: v.ndim == 4 and min(v.shape[2:]) >= 2, ("float32", "float64"))
    x = x or b.input((b.choose([1, 2]), b.choose([2, 3]), b.choose([5, 8]), b.choose([4, 7])))
    _, channels, height, width = b.values[x].shape
    size = tuple(b.draw(st.integers(1, min(3, n))) for n in (height, width))
    stride, padding = b.choose([1, 2]), b.choose([0, 0, 1]) if min(size) > 1 else 0
    options = f"stride={stride}, padding={padding}"
    way = b.choose(["conv2d", "max_pool2d", "avg_pool2d"])
    if way == "conv2d":
        filters = b.input((b.choose([1, 4, 5]), channels, *size), b.values[x].dtype.name)
        b.add(f"mc.conv2d({x}, {filters}, {options})")
    else:
        b.add(f"mc.{way}({x}, {size}, {options})")


def _subscript(b):
    x = b.pick(lambda v: v.ndim)
    if x is None:
        return
    entries = []
    for extent in b.values[x].shape[: b.draw(st.integers(1, b.values[x].ndim))]:
        numbers = b.random.integers(-extent, extent, 3).tolist() if extent else []
        options = [":", "::-1", "1:", ":-1", "::2", "None, :"]
        entries.append(b.choose([*options, *map(str, numbers[:1])]))
        if extent and b.choose([True, False, False]) and not any("[" in e for e in entries):
            entries[-1] = f"np.array({numbers})"
    b.add(f"{x}[{', '.join(entries)}]")


def _take(b):
    x = b.pick(lambda v: v.ndim and min(v.shape) > 0)
    if x is None:
        return
    axis = b.axis(x)
    extent = b.values[x].shape[axis]
    indices = b.input(b.choose([(), (4,), (2, 3)]), b.choose(["int64", "int32"]), -extent, extent)
    b.add(f"mc.take({x}, {indices}, axis={axis})")


def _shaped(b):
    x = b.pick()
    value = b.values[x]
    rank = value.ndim
    order = tuple(b.draw(st.permutations(range(rank))))
    expressions = [f"mc.ravel({x})", f"mc.expand_dims({x}, 0)", f"{x}.reshape(-1)", f"mc.flip({x})"]
    expressions += [f"mc.transpose({x}, {order})", f"mc.squeeze(mc.expand_dims({x}, -1), -1)"]
    if rank:
        axis, extent = b.axis(x), max(value.shape[0], 1)
        expressions += [f"mc.roll({x}, 2, axis={axis})", f"mc.tile({x}, 2)"]
        expressions += [f"mc.moveaxis({x}, {axis}, 0)", f"mc.repeat({x}, 2, axis={axis})"]
        factor = b.choose([n for n in (1, 2, 3) if extent % n == 0])
        if value.shape[0]:
            split = (factor, extent // factor, *value.shape[1:])
            expressions.append(f"{x}.reshape({split})")
    if rank >= 2:
        merged = (value.shape[0] * value.shape[1], *value.shape[2:])
        expressions += [f"{x}.reshape({merged})", f"mc.swapaxes({x}, 0, 1)", f"mc.triu({x})"]
    if rank == 2:
        expressions.append(f"mc.pad({x}, ((1, 0), (0, 2)))")
    b.add(b.choose(expressions))


def _joined(b):
    x = b.pick(lambda v: v.ndim)
    if x is None:
        return
    y = b.pick(lambda v: v.shape == b.values[x].shape) or x
    axis = b.axis(x)
    if b.choose([True, False]):
        b.add(f"mc.{b.choose(['concatenate', 'stack'])}([{x}, {y}, {x}], axis={axis})")
        return
    size = b.values[x].shape[axis]
    if size:
        cut = b.draw(st.integers(0, size))
        parts = f"mc.split({x}, [{cut}], axis={axis})"
        b.add(f"{parts}[{b.choose([0, 1])}]")


def _cast(b):
    x = b.pick(dtypes=("bool", "int32", "int64", *FLOATS))
    target = b.choose(["float32", "float64"])
    b.add(f"mc.astype({x}, '{target}')")


_STEPS = [
    *(_activation, _arithmetic, _arithmetic, _division, _where, _softmax, _norm, _reduction),
    *(_reduction, _count, _argmax, _product, _product, _attention, _image, _subscript),
    *(_subscript, _take, _shaped, _shaped, _joined, _cast),
]
