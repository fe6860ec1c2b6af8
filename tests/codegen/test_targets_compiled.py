"""Code for CPUs other than this one: it can be read, has their vectors, and calls nothing."""

import re

import pytest
from op_graphs import OpGraph, plain_array
from scheduled import program_of

from minicomp.codegen.llvm_loops import emit_loop_kernel
from minicomp.codegen.llvm_matmul import emit_matmul
from minicomp.codegen.loop_schedule import schedule_loops
from minicomp.codegen.matmul_schedules import schedules
from minicomp.kernels import LoopKernel
from minicomp.runtime.jit import assembly
from minicomp.runtime.target import Target

#: a vector register of four or two floats in AArch64's assembly; of eight and sixteen in x86-64's
VECTORS = {
    "neoverse-n1": r"v\d+\.(4s|2d)",
    "apple-m1": r"v\d+\.(4s|2d)",
    "x86-64-v2": r"%xmm\d",
    "haswell": r"%ymm\d",
    "skylake-avx512": r"%zmm\d",
}
CALLS = {"aarch64": r"\bbl\s+(\w+)", "x86_64": r"\bcallq?\s+(\w+)"}
#: LLVM makes loops that copy into calls of these, which every system has; and a CPU without
#: fused multiply-add needs the C library's
ALLOWED = {"memcpy", "memset", "memmove"}
WITHOUT_FMA = {"x86-64-v2": {"fma", "fmaf"}}


def elementwise(graph):
    x = graph.input(plain_array((5, 67), "float32"))
    total = x
    for op in ("exp", "log1p", "tanh", "erf", "sin", "sigmoid"):
        total = graph.add("add", total, graph.add(op, x))
    graph.output("pow", graph.add("abs", total), x)


def float64_functions(graph):
    x = graph.input(plain_array((5, 67), "float64"))
    total = x
    for op in ("exp", "log", "cos", "floor", "round", "rsqrt"):
        total = graph.add("add", total, graph.add(op, x))
    graph.output("mod", total, x)


def layer_norm(graph):
    x = graph.input(plain_array((64, 256), "float32"))
    mean = graph.add("mean", x, axes=(1,), keepdims=True)
    centred = graph.add("sub", x, graph.add("broadcast", mean, shape=x.shape))
    variance = graph.add("mean", graph.add("mul", centred, centred), axes=(1,), keepdims=True)
    scale = graph.add("broadcast", graph.add("rsqrt", variance), shape=x.shape)
    graph.output("mul", centred, scale)


def columns(graph):
    x = graph.input(plain_array((64, 256), "float32"))
    graph.output("sum", x, axes=(0,), keepdims=False)
    graph.output("argmax", x, axes=(0,), keepdims=False)
    graph.output("cumsum", x, axis=0)


def tiles(graph):
    x, z = (
        graph.input(plain_array((70, 50), "float32")),
        graph.input(plain_array((50, 70), "float32")),
    )
    graph.output("mul", graph.add("transpose", x, permutation=(1, 0)), z)


def product(graph):
    a, b = (graph.input(plain_array(shape, "float32")) for shape in ((64, 96), (96, 80)))
    graph.output("tanh", graph.add("matmul", a, b))


def assembly_of(build, target):
    graph = OpGraph()
    build(graph)
    texts = []
    for call in program_of(graph.graph, graph.arrays)[0].calls:
        if isinstance(call.kernel, LoopKernel):
            text = emit_loop_kernel(*schedule_loops(call.kernel, target), target)
        else:
            text = emit_matmul(call.kernel, schedules(call.kernel, target, 1)[0], target)
        texts.append(assembly(text, target))
    return "\n".join(texts)


@pytest.mark.parametrize("cpu", list(VECTORS))
@pytest.mark.parametrize(
    "build", [elementwise, float64_functions, layer_norm, columns, tiles, product]
)
def test_code_for_another_cpu(build, cpu):
    target = Target.for_cpu(cpu)
    text = assembly_of(build, target)
    assert re.search(VECTORS[cpu], text), f"no vector instructions for {cpu}"
    called = set(re.findall(CALLS[target.architecture], text))
    own = {name for name in called if f"{name}:" in text}
    assert called - own - WITHOUT_FMA.get(cpu, set()) <= ALLOWED
