"""Code for CPUs other than this one: it can be read, has their vectors, and calls nothing."""

import re

import pytest
from convolution_kernels import convolution
from matmul_kernels import matmul_kernel
from op_graphs import OpGraph, plain_array
from scheduled import program_of

from minicomp.codegen import generators
from minicomp.codegen.convolution_schedules import convolution_schedules
from minicomp.codegen.loop_schedule import LARGE_KERNEL_BYTES, schedule_loops
from minicomp.codegen.matmul_schedules import schedules
from minicomp.codegen.native_plan import ArrayKind, EntryPlan, Step
from minicomp.kernels import LoopKernel
from minicomp.kernels.convolution import WindowAxis
from minicomp.runtime.dispatch import PYTHON_FUNCTIONS as DISPATCH_FUNCTIONS
from minicomp.runtime.entry import NUMPY_FUNCTIONS, PYTHON_FUNCTIONS
from minicomp.runtime.jit import PROCESS_FUNCTIONS, assembly
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
            text = generators.loop_kernel(*schedule_loops(call.kernel, target), target)
        else:
            text = generators.matmul(call.kernel, schedules(call.kernel, target, 1)[0], target)
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
    assert called_from(text, target) - WITHOUT_FMA.get(cpu, set()) <= ALLOWED


def called_from(text, target):
    """The functions that assembly calls and does not contain."""
    called = set(re.findall(CALLS[target.architecture], text))
    return {name for name in called if f"{name}:" not in text}


PRODUCTS = {
    "small": matmul_kernel(64, 80, 96),
    "many small": matmul_kernel(16, 16, 16, batch=(64,)),
    "a row": matmul_kernel(1, 1024, 512),
    "a row by a transposed matrix": matmul_kernel(1, 1024, 512, b="transposed"),
    "a column": matmul_kernel(1024, 1, 512),
    "packed": matmul_kernel(1024, 1024, 1024),
    "packed from a transposed matrix": matmul_kernel(512, 512, 512, b="transposed"),
    "few rows, read ahead": matmul_kernel(64, 4096, 4096),
    "float64": matmul_kernel(200, 200, 200, dtype="float64"),
}


@pytest.mark.parametrize("cpu", list(VECTORS))
@pytest.mark.parametrize("kernel", PRODUCTS.values(), ids=PRODUCTS)
def test_every_way_of_doing_a_product_on_another_cpu(kernel, cpu):
    target = Target.for_cpu(cpu)
    for schedule in schedules(kernel, target, 2):
        text = assembly(generators.matmul(kernel, schedule, target), target)
        assert re.search(VECTORS[cpu], text), f"no vector instructions in {schedule.label}"
        assert called_from(text, target) - WITHOUT_FMA.get(cpu, set()) <= ALLOWED, schedule.label


@pytest.mark.parametrize("cpu", list(VECTORS))
def test_every_way_of_doing_a_convolution_on_another_cpu(cpu):
    target, axes = (
        Target.for_cpu(cpu),
        (WindowAxis(28, 28, 3, 1, 1, 1), WindowAxis(28, 1, 3, 1, 1, 1)),
    )
    kernel = convolution(2, 64, (28, 28), 96, axes, (28, 28), "float32")
    for schedule in convolution_schedules(kernel, target, 2):
        text = assembly(generators.convolution(kernel, schedule, target), target)
        assert re.search(VECTORS[cpu], text), f"no vector instructions in {schedule.label}"
        assert called_from(text, target) - WITHOUT_FMA.get(cpu, set()) <= ALLOWED, schedule.label


def test_large_results_bypass_the_caches_of_cpus_of_one_kind_only():
    def large(graph):
        x = graph.input(plain_array((LARGE_KERNEL_BYTES // 4,), "float32"))
        graph.output("mul", x, x)

    assert "vmovntps" in assembly_of(large, Target.for_cpu("haswell"))
    assert re.search(VECTORS["neoverse-n1"], assembly_of(large, Target.for_cpu("neoverse-n1")))


MATRIX = ArrayKind("float32", (1024, 512), (2048, 4))
#: what surrounds kernels, and what it calls besides
AROUND_KERNELS = {
    "the thread pool": (
        lambda architecture: generators.thread_pool(architecture, 1, True),
        set(PROCESS_FUNCTIONS),
    ),
    "a program": (
        lambda _: generators.program((Step("kernel0", (0, 1), 8), Step("kernel1", (1, 2), 1))),
        {"kernel0", "kernel1", "minicomp_parallel_for"},
    ),
    "an entry point": (
        lambda _: generators.entry(
            EntryPlan(
                buffers=5, inputs=((0, MATRIX),), parameters=((1, MATRIX),), constants=(2,),
                arena=((3, 0),), status=(3,), outputs=((4, MATRIX), (4, MATRIX)), threads=2,
                releases_lock=True,
            )
        ),
        {"main", *PYTHON_FUNCTIONS, *NUMPY_FUNCTIONS},
    ),
    "the dispatch": (lambda _: generators.dispatch(), set(DISPATCH_FUNCTIONS)),
}  # fmt: skip


@pytest.mark.parametrize("cpu", list(VECTORS))
@pytest.mark.parametrize("name", AROUND_KERNELS)
def test_code_around_kernels_for_another_cpu(name, cpu):
    target = Target.for_cpu(cpu)
    generate, known = AROUND_KERNELS[name]
    text = assembly(generate(target.architecture), target)
    called = {name.removesuffix("@PLT") for name in called_from(text, target)}
    assert called
    assert called <= known | ALLOWED
