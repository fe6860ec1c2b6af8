"""Graphs on tensors too large to make arrays of: what schedules are picked for.

for kernel in kernels_of(large_graph(softmax(1), (16384, 4096), "float32")):
    print(schedule_loops(kernel, H100))
"""

from functools import reduce

from ptx_runs import aligned, program_of

from minicomp.codegen.ptx_kernel import GpuTarget
from minicomp.ir import Graph, TensorType
from minicomp.ir.ops import make
from minicomp.kernels import LoopKernel

H100 = GpuTarget("sm_90a", multiprocessors=132)


def kernels_of(graph, inputs=None, parameters=None):
    """The loop kernels that a graph becomes, on buffers from the pool."""
    program, _ = program_of(graph, inputs, parameters)
    for call in program.calls:
        if isinstance(call.kernel, LoopKernel):
            yield aligned(call.kernel, [256] * len(call.kernel.arguments))


def large_graph(build, shape, dtype):
    """A graph on a GPU; `build` is one of the functions below."""
    g = Large(shape, dtype)
    output = build(g)
    return Graph("large", tuple(g.values), (output,))


class Large:
    """A graph on a GPU, of tensors as large as one likes."""

    def __init__(self, shape, dtype):
        self.shape, self.dtype, self.values = shape, dtype, []

    def input(self, shape):
        kind = TensorType(shape, self.dtype, "cuda")
        return self.add("input", name=f"x{len(self.values)}", type=kind)

    def add(self, op, *operands, **attributes):
        self.values.append(make(op, operands, attributes))
        return self.values[-1]

    def wide(self, x):
        return self.add("broadcast", x, shape=self.shape)

    def number(self, value, like):
        attributes = {"shape": like.shape, "dtype": like.dtype, "device": "cuda"}
        return self.add("full", value=value, **attributes)


def softmax(axis):
    def build(g):
        x = g.input(g.shape)
        highest = g.add("max", x, axes=(axis,), keepdims=True)
        powers = g.add("exp", g.add("sub", x, g.wide(highest)))
        total = g.add("sum", powers, axes=(axis,), keepdims=True)
        return g.add("div", powers, g.wide(total))

    return build


def layer_norm(g):
    x, scale, shift = g.input(g.shape), g.input(g.shape[1:]), g.input(g.shape[1:])
    centered = g.add("sub", x, g.wide(g.add("mean", x, axes=(1,), keepdims=True)))
    variance = g.add("mean", g.add("mul", centered, centered), axes=(1,), keepdims=True)
    deviation = g.add("rsqrt", g.add("add", variance, g.number(1e-5, variance)))
    normal = g.add("mul", centered, g.wide(deviation))
    return g.add("add", g.add("mul", normal, g.wide(scale)), g.wide(shift))


def gelu(g, x):
    inner = g.add("erf", g.add("mul", x, g.number(2**-0.5, x)))
    half = g.add("mul", x, g.number(0.5, x))
    return g.add("mul", half, g.add("add", inner, g.number(1.0, x)))


def layer_norm_gelu(g):
    return gelu(g, layer_norm(g))


def chain(g):
    x, y = g.input(g.shape), g.input(g.shape)
    return g.add("mul", gelu(g, g.add("add", g.add("mul", x, y), x)), g.add("sigmoid", y))


def fold(op, *axes):
    return lambda g: g.add(op, g.input(g.shape), axes=axes, keepdims=False)


def scan(axis):
    return lambda g: g.add("cumsum", g.input(g.shape), axis=axis)


def turned(*permutation, count=1, functions=0):
    """The sum of so many inputs, turned, and functions of it."""

    def build(g):
        inputs = [g.input(g.shape) for _ in range(count)]
        loads = [g.add("transpose", x, permutation=permutation) for x in inputs]
        op = "logical_xor" if g.dtype == "bool" else "add"
        total = reduce(lambda a, b: g.add(op, a, b), loads)
        for _ in range(functions):
            total = g.add("erf", total)
        return g.add("copy", total)

    return build


LARGE = {
    "softmax": softmax(1),
    "softmax of columns": softmax(0),
    "layer norm": layer_norm,
    "layer norm and gelu": layer_norm_gelu,
    "chain": chain,
    "sum": fold("sum", 0, 1),
    "sum of columns": fold("sum", 0),
    "argmax": fold("argmax", 1),
    "scan": scan(1),
    "scan of columns": scan(0),
}
SHAPES = [(16384, 4096), (65536, 1024), (4096, 32768), (999, 50000), (64, 2**20), (1000, 1001)]
