"""The public module: on the GPU where there is one, else in the simulator."""

import subprocess
import sys

import numpy as np
import pytest

import minicomp
from minicomp import nn
from minicomp.errors import CudaError

pytestmark = pytest.mark.cuda


def numbers(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_arrays_go_to_the_gpu_and_back():
    x = numbers(3, 4)
    moved = minicomp.cuda.to_device(x)
    assert minicomp.cuda.is_available()
    assert moved.__cuda_array_interface__["shape"] == (3, 4)
    assert minicomp.cuda.to_device(moved) is moved
    np.testing.assert_array_equal(minicomp.cuda.to_host(moved), x)


def test_what_is_on_the_host_already_stays_there():
    x = numbers(3)
    assert minicomp.cuda.to_host(x) is x


def test_lists_and_parameters_are_arrays_too():
    np.testing.assert_array_equal(
        minicomp.cuda.to_host(minicomp.cuda.to_device([1.0, 2.0])), [1, 2]
    )
    weight = nn.Linear(2, 2).weight
    moved = minicomp.cuda.to_device(weight)
    np.testing.assert_array_equal(minicomp.cuda.to_host(moved), weight.data)


def test_a_device_array_has_a_type_for_traces():
    graph = minicomp.trace(lambda x: x * 2, minicomp.cuda.to_device(numbers(3)))
    assert str(graph.inputs[0].type) == "f32[3]@cuda"


def test_eager_functions_on_device_arrays_are_refused():
    with pytest.raises(minicomp.errors.DeviceError, match=r"minicomp.compile, or .*to_host"):
        minicomp.exp(minicomp.cuda.to_device(numbers(3)))


def test_memory_figures_and_the_cache():
    minicomp.cuda.empty_cache()
    before = minicomp.cuda.memory_allocated()
    x = minicomp.cuda.to_device(numbers(512, 512))
    assert minicomp.cuda.memory_allocated() - before >= 1 << 20
    assert minicomp.cuda.max_memory_allocated() >= minicomp.cuda.memory_allocated()
    del x
    minicomp.cuda.synchronize()
    assert minicomp.cuda.memory_allocated() == before
    minicomp.cuda.empty_cache()
    assert minicomp.cuda.memory_cached() == 0


def test_no_memory_is_lost_over_many_arrays():
    minicomp.cuda.to_device(numbers(100))
    before = minicomp.cuda.memory_allocated(), minicomp.cuda.memory_cached()
    for _ in range(2000):
        minicomp.cuda.to_device(numbers(100))
    assert (minicomp.cuda.memory_allocated(), minicomp.cuda.memory_cached()) == before


def test_importing_minicomp_imports_no_cuda_and_no_simulator():
    code = (
        "import sys, minicomp; "
        "print([m for m in sys.modules if m.partition('.')[0] in ('pycuda', 'ml_dtypes') "
        "or m.startswith('minicomp.simulator') or m.endswith(('pycuda_driver', 'cublas'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_cuda_nothing_is_available(without_gpu, monkeypatch):
    monkeypatch.delenv("MINICOMP_CUDA_SIM", raising=False)
    assert not minicomp.cuda.is_available()
    for use in (
        lambda: minicomp.cuda.to_device(numbers(3)),
        minicomp.cuda.synchronize,
        minicomp.cuda.empty_cache,
        minicomp.cuda.memory_allocated,
    ):
        with pytest.raises(CudaError, match="no CUDA device: pycuda is not installed"):
            use()


def test_the_simulator_reports_each_launch(simulator):
    x = minicomp.cuda.to_device(np.ones((64, 32), np.float32))
    compiled = minicomp.compile(lambda x: minicomp.softmax(x.T @ x))
    compiled(x)
    with minicomp.cuda.launch_reports() as reports, minicomp.cuda.launch_reports() as others:
        compiled(x)
    compiled(x)
    kernels = [kernel.name for kernel in compiled.explain().kernels]
    assert [report.entry for report in reports] == kernels
    assert [report.entry for report in others] == kernels
    assert all(report.global_transactions > 0 for report in reports)
    assert reports[0].entry in str(reports[0])
