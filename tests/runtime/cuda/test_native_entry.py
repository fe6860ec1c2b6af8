"""The generated way into a program on CUDA: when there is one, and that it holds on to nothing."""

import contextlib
import gc
import os
import signal
import sys
import threading
import weakref
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


class StreamOwner:
    """A stream of some library's. `owned` is what keeps it."""

    def __init__(self, handle, owned=None):
        self.handle, self.owned = handle, owned


def new_owner(driver):
    if driver.is_simulator:
        return StreamOwner(0x1234567890)
    import pycuda.driver

    driver.enter()
    stream = pycuda.driver.Stream()
    return StreamOwner(stream.handle, stream)


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


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), MemoryError("no more"), ZeroDivisionError()]
)
def test_what_interrupts_the_simulator_is_raised(simulator, monkeypatch, error):
    """It cannot get through C; it must not be lost there, with a result of garbage."""
    x = cuda.to_device(floats(5, 7))
    _, function = entered(lambda x: x * 2, x)
    before = simulator.memory().in_use

    def interrupted(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(simulator.simulator, "launch", interrupted)
        with pytest.raises(type(error)) as caught:
            function(x)
    assert caught.value is error
    del caught
    error.with_traceback(None)
    assert simulator.memory().in_use == before
    np.testing.assert_array_equal(cuda.to_host(function(x)), floats(5, 7) * 2)  # and only once


def test_an_interrupted_wait_for_a_stream_is_an_interruption(simulator, monkeypatch):
    module = nn.Linear(7, 3).to("cuda")
    x = cuda.to_device(floats(5, 7))

    def interrupted(array):
        raise KeyboardInterrupt

    _, function = entered(module, x)
    before = simulator.memory().in_use
    with new_stream(simulator), monkeypatch.context() as patch:
        patch.setattr(simulator, "argument", interrupted)
        with pytest.raises(KeyboardInterrupt):
            function(x)
    assert simulator.memory().in_use == before


def test_the_stream_is_that_of_the_calls_beginning_and_lives_until_its_end(driver):
    """An array's attribute may be anybody's code, which may use another stream."""
    x = cuda.to_device(floats(5, 7))

    class Leaving:
        @property
        def __cuda_array_interface__(self):
            for block in blocks:
                block.__exit__(None, None, None)
            blocks.clear()
            gc.collect()
            return x.__cuda_array_interface__

    blocks = []
    _, function = entered(lambda x: x * 2, Leaving())
    owner = new_owner(driver)
    gone = weakref.ref(owner)
    blocks.append(cuda.stream(owner))
    handle = blocks[0].__enter__()
    del handle
    result = function(Leaving())
    assert result.gpudata.stream == owner.handle
    np.testing.assert_array_equal(cuda.to_host(result), floats(5, 7) * 2)
    del result, owner
    gc.collect()
    assert gone() is None


def test_parameters_that_another_call_looks_at_meanwhile_are_a_miss(driver):
    """Or the stream would not have waited for the new ones."""
    module = nn.Linear(7, 3).to("cuda")
    x = cuda.to_device(floats(5, 7))

    class Changing:
        changes = False

        @property
        def __cuda_array_interface__(self):
            if Changing.changes:
                Changing.changes = False
                module.weight.data = cuda.to_device(floats(3, 7, seed=1))
                compiled(x)  # arms the entry point for the new ones
            return x.__cuda_array_interface__

    compiled, function = entered(module, Changing())
    Changing.changes = True
    assert function(Changing()) is None
    expected = floats(5, 7) @ floats(3, 7, seed=1).T + cuda.to_host(module.bias.data)
    np.testing.assert_allclose(cuda.to_host(compiled(Changing())), expected, atol=1e-5)


def test_parameters_stay_while_the_simulator_runs_kernels(simulator):
    """Its launches are Python, in which another thread may change a weight."""
    module = nn.Sequential(nn.Linear(7, 7), nn.Linear(7, 3)).to("cuda")
    x = cuda.to_device(floats(5, 7))
    compiled, function = entered(module, x)
    expected = cuda.to_host(compiled(x))

    class Listener(list):
        def append(self, report):
            simulator.listeners.clear()
            module[1].weight.data = cuda.to_device(np.zeros((3, 7), np.float32))
            compiled(x)
            gc.collect()

    simulator.listeners.append(Listener())
    np.testing.assert_array_equal(cuda.to_host(function(x)), expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="wants fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python 3.12 on: forking beside threads
def test_a_forked_child_goes_on_whatever_other_threads_were_in(simulator):
    """The simulator, the pool, arming: locks that nobody else is there to give back."""
    x = cuda.to_device(floats(5, 7))
    compiled, function = entered(lambda x: x * 2, x)
    native = function.__self__
    locks = [native._arming, simulator._pool.lock, simulator.simulator._lock]
    held, done = threading.Event(), threading.Event()

    def hold():
        with contextlib.ExitStack() as stack:
            for lock in locks:
                stack.enter_context(lock)
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        minicomp.nn.Linear(2, 2).eval()  # another epoch: the entry point is armed again
        right = all((cuda.to_host(compiled(x)) == floats(5, 7) * 2).all() for _ in range(2))
        os._exit(0 if right else 1)
    _, status = os.waitpid(child, 0)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(status) == 0


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
