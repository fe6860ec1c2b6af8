"""Whole modules on CUDA compute what the interpreter says they mean, at small sizes."""

import copy
import pickle
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
from error_bounds import assert_computes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_graphs import arrays_for, graphs

import minicomp
from minicomp import cuda, nn
from minicomp.errors import CudaError, DeviceError, InputError, UnsupportedError
from minicomp.ir import numpy_dtype
from minicomp.runtime.cuda import machine_code
from minicomp.runtime.cuda.driver import driver
from minicomp.tree import flatten

pytestmark = pytest.mark.cuda

RANDOM = np.random.default_rng(0)
HALVES = ("float16", "bfloat16") if find_spec("ml_dtypes") else ("float16",)
SHORT_DTYPES = (*HALVES, "float32", "int32", "bool")


def floats(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def on_host(array):
    return cuda.to_host(getattr(array, "data", array))


def check(model, *arrays, **options):
    """Compile `model` for CUDA and call it with these arrays, the long way and the short way; both
    must compute what the graph means. Gives the compiled model."""
    if isinstance(model, nn.Module):
        model.to("cuda")
    compiled = minicomp.compile(model, options=options or None)
    inputs = [cuda.to_device(array) for array in arrays]
    for _ in range(2):
        outputs = [cuda.to_host(array) for array in flatten(compiled(*inputs))[0]]
        graph = compiled.graph()
        parameters = {name: on_host(holder) for name, holder in graph.bindings.items()}
        assert_computes(graph, outputs, arrays, parameters)
    assert compiled._fast_calls
    return compiled


class Attention(nn.Module):
    """A block of a transformer, with the norm before."""

    def __init__(self, size, heads):
        super().__init__()
        self.attention = nn.MultiheadAttention(size, heads, batch_first=True)
        self.norm = nn.LayerNorm(size)
        self.feed = nn.Sequential(nn.Linear(size, 2 * size), nn.GELU(), nn.Linear(2 * size, size))

    def forward(self, x):
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.feed(self.norm(x))


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 12)
        self.norm = nn.LayerNorm(12)

    def forward(self, tokens):
        return self.norm(self.embedding(tokens)).mean(1)


def test_a_multilayer_perceptron():
    module = nn.Sequential(
        nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 5), nn.Softmax(-1)
    )
    compiled = check(module, floats(7, 20))
    kinds = [kernel.kind for kernel in compiled.explain().kernels]
    assert kinds == ["matmul", "matmul", "matmul", "loop"]


def test_a_block_of_a_transformer():
    check(Attention(16, 2).eval(), floats(2, 5, 16))


def test_a_convolutional_network():
    module = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 3),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(3, 5),
    )  # fmt: skip
    check(module, floats(2, 2, 8, 8))


def test_an_embedding_and_its_norm():
    check(Words(), RANDOM.integers(-11, 11, (3, 5)))


def test_rms_norm_and_gated_products():
    norm, gate, up = nn.RMSNorm(24), nn.Linear(24, 40, bias=False), nn.Linear(24, 40, bias=False)

    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.gate, self.up = norm, gate, up

        def forward(self, x):
            x = self.norm(x)
            return minicomp.silu(self.gate(x)) * self.up(x)

    check(Gated(), floats(6, 24))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_modules_in_half_precision(dtype):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    number = numpy_dtype(dtype)
    module = nn.Sequential(
        nn.Linear(24, 40), nn.GELU(), nn.Linear(40, 12), nn.LayerNorm(12), nn.Softmax(-1)
    )
    compiled = check(module.to(dtype), floats(9, 24).astype(number))
    assert f"{dtype} [9, 24] @ [24, 40]" in str(compiled.explain())
    check(Attention(16, 2).eval().to(dtype), floats(2, 5, 16).astype(number))


def test_frozen_modules_and_modules_without_fused_epilogues():
    module = nn.Sequential(nn.Linear(20, 12), nn.ReLU(), nn.Linear(12, 5))
    check(module, floats(3, 20), freeze=True)
    check(module, floats(3, 20), epilogue_fusion=False)


def test_several_outputs_that_nest():
    def forward(x):
        mean = x.mean(1, keepdims=True)
        return {"centred": x - mean, "parts": [mean, (x.argmax(1), minicomp.cumsum(x, 0))]}

    check(forward, floats(4, 9))


LAYOUTS = {
    "transposed": lambda x: x.T,
    "sliced": lambda x: x[1:, 2:9],
    "a row": lambda x: x[2],
    "from an odd element": lambda x: x.ravel()[3:23].reshape(4, 5),
}


@pytest.mark.parametrize("view", LAYOUTS.values(), ids=LAYOUTS)
def test_arrays_of_any_layout_give_the_same_result(view):
    host = floats(6, 10)
    x, wanted = view(cuda.to_device(host)), view(host)
    weight = floats(wanted.shape[-1], 4)
    on_gpu = cuda.to_device(weight)
    compiled = minicomp.compile(lambda x: (minicomp.softmax(x, -1), x @ on_gpu, x.sum(0)))
    for _ in range(2):
        outputs = [cuda.to_host(array) for array in compiled(x)]
        assert_computes(compiled.graph(), outputs, [wanted], {"captured_0": weight})


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.one_of(
        graphs(device="cuda", max_ops=10),
        graphs(device="cuda", max_ops=6, dtypes=SHORT_DTYPES),
    ),
    st.integers(0, 99),
)
def test_random_graphs(graph, seed):
    inputs, parameters = arrays_for(graph, seed)
    bound = replace(
        graph, bindings={name: cuda.to_device(array) for name, array in parameters.items()}
    )
    compiled = minicomp.compile(bound)
    results = compiled(*map(cuda.to_device, inputs))
    results = results if isinstance(results, tuple) else (results,)
    assert_computes(graph, [*map(cuda.to_host, results)], inputs, parameters)


# --- devices ---


def test_a_module_moves_to_the_gpu_and_back():
    module, x = nn.Linear(6, 3), floats(2, 6)
    compiled = minicomp.compile(module)
    expected = compiled(x)
    assert type(expected) is np.ndarray
    for _ in range(2):
        module.to("cuda")
        result = compiled(cuda.to_device(x))
        assert hasattr(result, "__cuda_array_interface__")
        np.testing.assert_allclose(cuda.to_host(result), expected, rtol=1e-5, atol=1e-6)
        module.to("cpu")
        np.testing.assert_array_equal(compiled(x), expected)


def module_of_a_view():
    module = nn.Linear(6, 3).to("cuda")
    module.weight.data = cuda.to_device(floats(6, 3)).T
    return module


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, copy.copy, lambda module: pickle.loads(pickle.dumps(module))]
)
@pytest.mark.parametrize("made", [lambda: nn.Linear(6, 3).to("cuda"), module_of_a_view])
def test_modules_on_the_gpu_are_copied_and_pickled(made, copied):
    module, x = made(), cuda.to_device(floats(2, 6))
    compiled = minicomp.compile(module)
    expected = cuda.to_host(compiled(x))
    for other in (minicomp.compile(copied(module)), copied(compiled)):
        np.testing.assert_array_equal(cuda.to_host(other(x)), expected)
    independent = copy.deepcopy(module)
    gpu = driver()
    gpu.fill(module.weight.data, np.zeros((3, 6), np.float32))
    assert cuda.to_host(independent.weight.data).any()


def test_arrays_and_modules_on_different_devices_are_an_error_that_says_what_to_do():
    module, x = nn.Linear(6, 3), floats(2, 6)
    compiled = minicomp.compile(module)
    advice = r"operands are on different devices, cpu and cuda; .*to_device.*\.to\('cpu'\)"
    with pytest.raises(DeviceError, match=advice):
        compiled(cuda.to_device(x))
    module.to("cuda")
    with pytest.raises(DeviceError, match=r"matmul at test_cuda_modules.py:\d+: " + advice):
        compiled(x)
    with pytest.raises(DeviceError, match=r"'x' is on the CPU and 'y' on the GPU; move"):
        minicomp.compile(lambda x, y: (x + 1, y + 1))(x, cuda.to_device(x))


@pytest.mark.parametrize(("begin", "stride"), [(1, 4), (2, 4), (0, 5), (0, -6)])
def test_elements_that_lie_askew_are_refused_before_a_kernel_meets_them(begin, stride):
    gpu = driver()
    memory = gpu.empty((64,), "bool")
    address = int(gpu.argument(memory).pointer) + 32 + begin
    askew = gpu.view(memory, address, (4,), "float32", (stride,))
    compiled = minicomp.compile(lambda x: x + 1)
    with pytest.raises(InputError, match=r"do not lie at multiples of 4 bytes.*contiguous"):
        compiled(askew)


def test_a_stride_that_nobody_goes_along_may_be_anything():
    gpu = driver()
    memory = gpu.to_device(np.float32([1.5]))
    one = gpu.view(memory, int(gpu.argument(memory).pointer), (1,), "float32", (5,))
    compiled = minicomp.compile(lambda x: x + 1)
    np.testing.assert_array_equal(cuda.to_host(compiled(one)), [2.5])


def test_a_graph_is_for_the_device_that_it_names():
    text = "graph twice(%x: f32[3]@cuda) { %0 = add(%x, %x) : f32[3]@cuda return %0 }"
    compiled = minicomp.compile(minicomp.parse(text))
    x = np.ones(3, np.float32)
    np.testing.assert_array_equal(cuda.to_host(compiled(cuda.to_device(x))), x + x)
    with pytest.raises(InputError, match=r"is f32\[3\], the graph wants f32\[3\]@cuda"):
        compiled(x)


# --- looking inside ---


def test_the_code_is_ptx_and_nothing_else():
    compiled = check(nn.Sequential(nn.Linear(4, 4), nn.Softmax(-1)), floats(2, 4))
    for kernel in compiled.explain().kernels:
        assert f".visible .entry {kernel.name}(" in compiled.ptx()
    with pytest.raises(UnsupportedError, match=r"runs on CUDA: it has PTX, see ptx\(\)"):
        compiled.llvm_ir()


def test_debug_prints_the_ptx(monkeypatch, capsys):
    monkeypatch.setenv("MINICOMP_DEBUG", "kernels,ptx,llvm")
    minicomp.compile(lambda x: x + 1)(cuda.to_device(floats(3)))
    printed = capsys.readouterr().err
    assert "--- ptx ---" in printed
    assert ".visible .entry add(" in printed
    assert "--- kernels ---" in printed
    assert printed.count("--- llvm") == 1
    assert "--- llvm: not shown: this module runs on CUDA: it has PTX, see ptx()\n" in printed


def test_debug_without_a_disassembler_says_so_in_a_line_and_goes_on(monkeypatch, capsys):
    def find(tool):
        raise CudaError(f"machine code for CUDA is shown by NVIDIA's {tool}")

    monkeypatch.setenv("MINICOMP_DEBUG", "asm")
    monkeypatch.setattr(machine_code, "find", find)
    check(lambda x: x + 1, floats(3))
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "--- asm: not shown: machine code for CUDA is shown by NVIDIA's ptxas"


def test_choices_are_saved_and_replayed(tmp_path):
    module, x = nn.Linear(40, 24).to("cuda"), cuda.to_device(floats(8, 40))
    first = minicomp.compile(module, options={"max_autotune": True, "force_disable_caches": True})
    names = [report.name for report in minicomp_candidates(module, x)]
    assert len(names) > 1
    with minicomp.selection.use_timer(lambda name, run: 1e-6 if name == names[1] else 1e-3):
        expected = cuda.to_host(first(x))
    (site,) = first.explain().sites
    assert (site.chosen, site.device) == (names[1], "cuda")
    path = tmp_path / "choices.json"
    first.save_choices(path)
    assert "on cuda" in path.read_text()
    again = minicomp.compile(module, options={"choices": path})
    np.testing.assert_array_equal(cuda.to_host(again(x)), expected)
    assert again.explain().sites[0].chosen == names[1]


def minicomp_candidates(module, x):
    """minicomp's own candidates for a module with one product."""
    compiled = minicomp.compile(module)
    compiled(x)
    return compiled.explain().sites[0].candidates


def test_choices_are_remembered_on_disk_for_this_device():
    module, x = nn.Linear(24, 40).to("cuda"), cuda.to_device(floats(8, 24))
    names = [report.name for report in minicomp_candidates(module, x)]

    def timer(name, run):
        timed.append(name)
        return 1e-6 if name == names[1] else 1e-3

    sources = []
    for _ in range(2):
        timed = []
        compiled = minicomp.compile(module, options={"max_autotune": True})
        with minicomp.selection.use_timer(timer, remember=True):
            compiled(x)
        (site,) = compiled.explain().sites
        assert site.chosen == names[1]
        sources.append((site.source, bool(timed)))
    assert sources == [("timed", True), ("remembered", False)]


def test_every_candidate_of_a_product_computes_it():
    """Examining them all, with the device's own clock: none is rejected."""
    module, x = nn.Linear(33, 17).to("cuda"), cuda.to_device(floats(9, 33))
    options = {"max_autotune": True, "autotune_local_cache": False}
    compiled = minicomp.compile(nn.Sequential(module, nn.ReLU()), options=options)
    compiled(x)
    (site,) = compiled.explain().sites
    assert {report.status for report in site.candidates} == {"ok"}, site
    assert all(report.seconds > 0 for report in site.candidates)


def test_the_simulator_may_be_asked_for_by_an_option(simulator, monkeypatch):
    x = simulator.to_device(floats(3))
    monkeypatch.delenv("MINICOMP_CUDA_SIM")
    compiled = minicomp.compile(lambda x: x + 1, options={"cuda_simulator": True})
    result = compiled(x)
    np.testing.assert_array_equal(simulator.to_host(result), simulator.to_host(x) + 1)
