"""The generated way into a program on CUDA: when there is one, and that it holds on to nothing."""

import gc
import sys
from types import BuiltinFunctionType, FunctionType

import numpy as np
import pytest
from runtime.cuda.test_cuda_entry import Foreign, entered, floats, new_stream, shifted

import minicomp
from minicomp import cuda, nn
from minicomp.errors import CudaError, SimulationError
from minicomp.runtime.entry import is_supported

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not is_supported(), reason="objects are laid out differently here"),
]


def test_programs_of_kernels_alone_are_entered_by_generated_code(driver):
    x = cuda.to_device(floats(4, 4))
    _, function = entered(lambda x: minicomp.softmax(x @ x, -1), x)
    assert type(function) is BuiltinFunctionType
    indices = cuda.to_device(np.array([1, 0]))
    _, function = entered(lambda x, i: minicomp.take(x, i, axis=0), x, indices)
    assert type(function) is FunctionType  # it waits, and looks whether the indices were right


@pytest.mark.parametrize("kind", ["own", "a view", "foreign"])
def test_calls_leave_neither_memory_nor_references_behind(driver, kind):
    module = nn.Sequential(nn.Linear(8, 8), nn.Softmax(-1), nn.Linear(8, 8)).to("cuda")
    own = cuda.to_device(floats(3, 8))
    x = {"own": own, "a view": shifted(own, 64), "foreign": Foreign(own)}[kind]
    _compiled, function = entered(lambda x: (module(x), x + 1), x)
    weight = module[0].weight.data

    def counts():
        gc.collect()
        things = (x, own, own.shape, own.strides, weight, function)
        return [*map(sys.getrefcount, things), driver.memory().in_use]

    wrong = cuda.to_device(floats(3, 7))
    function(x)
    before = counts()
    for _ in range(50):
        assert len(function(x)) == 2
        assert function(wrong) is None
        assert function(None) is None
        assert function() is None
    assert counts() == before
    module.eval()  # from now on the epoch is another one
    for _ in range(50):
        assert function(x) is None
    assert counts() == before


def test_a_tuple_of_results_and_temporaries(driver):
    def model(x, y):
        z = minicomp.softmax(x @ y, -1)
        return z @ x, z.sum(0), minicomp.cumsum(z, 1)

    x, y = cuda.to_device(floats(6, 6)), cuda.to_device(floats(6, 6, seed=1))
    compiled, function = entered(model, x, y)
    assert type(function) is BuiltinFunctionType
    assert compiled._last.executable.arena_bytes
    expected = minicomp.interpret(compiled.graph(), cuda.to_host(x), cuda.to_host(y))
    for result, wanted in zip(function(x, y), expected, strict=True):
        np.testing.assert_allclose(cuda.to_host(result), wanted, rtol=2e-5, atol=1e-6)


def test_results_are_made_and_written_on_the_stream_in_use(driver):
    module = nn.Linear(7, 3).to("cuda")
    x = cuda.to_device(floats(5, 7))
    compiled, function = entered(module, x)
    expected = cuda.to_host(compiled(x))
    assert type(function) is BuiltinFunctionType
    with new_stream(driver) as stream:
        there = cuda.to_device(floats(5, 7))
        for array in (x, there):
            result = function(array)
            assert result.gpudata.stream == stream
            np.testing.assert_array_equal(cuda.to_host(result), expected)
        if not driver.is_simulator:  # whose streams are names
            parameters = [module.weight.data, module.bias.data]
            assert [array.gpudata.others for array in parameters] == [{stream}] * 2
    result = function(there)
    assert result.gpudata.stream == 0
    np.testing.assert_array_equal(cuda.to_host(result), expected)


def test_parameters_of_another_stream_are_waited_for_on_the_default_one(driver, monkeypatch):
    with new_stream(driver):
        module = nn.Linear(7, 3).to("cuda")
    x = cuda.to_device(floats(5, 7))
    compiled, function = entered(module, x)
    assert type(function) is BuiltinFunctionType
    parameters = [module.weight.data, module.bias.data]
    for array in parameters:
        array.gpudata.others = None
    np.testing.assert_array_equal(cuda.to_host(function(x)), cuda.to_host(compiled._call((x,), {})))
    if not driver.is_simulator:
        assert [array.gpudata.others for array in parameters] == [{0}] * 2


def test_no_memory_for_a_result_is_said(driver, monkeypatch):
    x = cuda.to_device(floats(5, 7))
    _, function = entered(lambda x: (x * 2, x.sum()), x)
    before = driver.memory().in_use

    def allocated(size):
        raise CudaError("out of device memory")

    driver.empty_cache()
    monkeypatch.setattr(driver._pool, "allocated", allocated)
    with pytest.raises(CudaError, match="out of device memory"):
        function(x)
    assert driver.memory().in_use == before


def test_a_kernel_that_goes_wrong_names_itself(simulator, monkeypatch):
    x = cuda.to_device(floats(5, 7))
    compiled, function = entered(lambda x: x * 2, x)
    before = simulator.memory().in_use
    with monkeypatch.context() as patch:
        patch.setattr(simulator.simulator, "instruction_budget", 3)
        with pytest.raises(SimulationError, match=r"kernel mul at .*test_native_entry.py:\d+"):
            function(x)
        assert simulator.memory().in_use == before
    np.testing.assert_array_equal(cuda.to_host(compiled(x)), floats(5, 7) * 2)
