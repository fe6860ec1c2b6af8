"""Programs on CUDA: what a call asks of the device, what it leaves behind, and what is shared."""

import gc
import threading

import numpy as np
import pytest
from runtime.cuda.recording_driver import RecordingDriver

import minicomp
from minicomp import cuda, nn
from minicomp.errors import ExternalCallError, IndexOutOfRangeError
from minicomp.runtime.cuda import backend as cuda_backend

pytestmark = pytest.mark.cuda


def floats(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture
def recording(driver, monkeypatch):
    """The driver in use, with what is asked of it counted."""
    recording = RecordingDriver(driver)
    monkeypatch.setattr(cuda_backend, "driver", lambda: recording)
    return recording


def test_a_call_queues_its_kernels_in_order_and_waits_for_nothing(recording):
    module = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)).to("cuda")
    compiled = minicomp.compile(module)
    x = cuda.to_device(floats(2, 8))
    compiled(x)
    names = [kernel.name for kernel in compiled.explain().kernels]
    for call in (lambda: compiled(x), lambda: compiled._call((x,), {})):
        recording.forget()
        call()
        assert [name for name, _ in recording.queue] == names
        # The output, and one piece for all that lies between.
        assert recording.calls["empty"] == 2
        assert recording.calls["to_host"] == recording.calls["synchronize"] == 0


def test_temporaries_share_memory_and_begin_at_multiples_of_256(recording):
    def chain(x):
        for _ in range(6):
            x = minicomp.cumsum(x, 0)
        return x

    compiled = minicomp.compile(chain)
    x = cuda.to_device(floats(3))
    result = compiled(x)
    expected = minicomp.interpret(compiled.graph(), cuda.to_host(x))
    np.testing.assert_allclose(cuda.to_host(result), expected, rtol=1e-5)
    executable = compiled._last.executable
    offsets = dict(executable.arena_offsets)
    assert len(offsets) == 5
    assert set(offsets.values()) == {0, 256}
    assert executable.arena_bytes == 512


def test_constants_are_uploaded_once(recording):
    module = nn.Linear(5, 3).to("cuda")
    compiled = minicomp.compile(module, options={"freeze": True})
    x = cuda.to_device(floats(2, 5))
    first = compiled(x)
    recording.forget()
    again = compiled(x)
    assert recording.calls["to_device"] == recording.calls["fill"] == 0
    np.testing.assert_array_equal(cuda.to_host(again), cuda.to_host(first))


def test_only_a_program_that_gathers_waits(recording):
    rows = cuda.to_device(floats(10, 4))
    compiled = minicomp.compile(lambda i: minicomp.take(rows, i, axis=0))
    good = cuda.to_device(np.array([1, -1, 9]))
    compiled(good)
    recording.forget()
    compiled(good)
    assert recording.calls["to_host"] == 1
    assert recording.calls["to_device"] == 0  # the status word of the call before serves again


def test_an_index_out_of_range_is_an_error_with_its_line_and_nothing_else(driver):
    host = floats(10, 4)
    rows = cuda.to_device(host)
    compiled = minicomp.compile(lambda i, j: (minicomp.take(rows, i, 0), minicomp.take(rows, j, 1)))
    good, bad = cuda.to_device(np.array([1, -1])), cuda.to_device(np.array([1, 10]))
    for _ in range(2):
        with pytest.raises(
            IndexOutOfRangeError, match=r"take at test_cuda_executable.py:\d+: .* axis 0 of size 10"
        ):
            compiled(bad, good)
        first, second = compiled(good, good)
        np.testing.assert_array_equal(cuda.to_host(first), host[[1, -1]])
        np.testing.assert_array_equal(cuda.to_host(second), host[:, [1, -1]])
    with pytest.raises(IndexOutOfRangeError, match="size 4"):
        compiled(good, bad)


def test_results_are_new_arrays(driver):
    compiled = minicomp.compile(lambda x: (x, x * 2, x[1:]))
    x = cuda.to_device(floats(4))
    first = compiled(x)
    before = [cuda.to_host(array) for array in first]
    second = compiled(cuda.to_device(floats(4, seed=1)))
    assert len({array.ptr for array in (x, *first, *second)}) == 7
    for array, host in zip(first, before, strict=True):
        np.testing.assert_array_equal(cuda.to_host(array), host)


def test_empty_arrays_and_arrays_without_axes(driver):
    compiled = minicomp.compile(lambda x: (x.sum(), x[:0], x[:0].sum()))
    x = floats(5)
    total, nothing, zero = (cuda.to_host(y) for y in compiled(cuda.to_device(x)))
    np.testing.assert_allclose(total, x.sum(), rtol=1e-6)
    assert total.shape == () and nothing.shape == (0,) and zero == 0


def test_memory_goes_back(driver):
    module = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)).to("cuda")
    compiled = minicomp.compile(module)
    x = cuda.to_device(floats(2, 8))
    compiled(x)
    before = cuda.memory_allocated()
    results = [compiled(x) for _ in range(20)]
    assert cuda.memory_allocated() > before
    del results
    assert cuda.memory_allocated() == before


def test_a_module_that_goes_takes_its_memory_with_it(driver):
    x = cuda.to_device(floats(2, 64))
    gc.collect()
    before = cuda.memory_allocated()
    module = nn.Linear(64, 64).to("cuda")
    compiled = minicomp.compile(module, options={"freeze": True})
    compiled(x)
    assert cuda.memory_allocated() > before
    del module, compiled  # at once, whenever garbage is collected
    assert cuda.memory_allocated() == before


def test_an_external_that_raises_later_is_named_and_its_inputs_are_intact(driver):
    should_fail = []

    def fickle(a, b, out):
        if should_fail:
            raise ValueError("not today")
        out.set(a.get() @ b.get())

    host = floats(8, 8)
    x = cuda.to_device(host)
    compiled = minicomp.compile(
        lambda x: minicomp.relu(x @ x),
        options={"max_autotune": True, "external_matmul": [fickle]},
    )
    with minicomp.selection.use_timer(lambda name, run: 1e-6 if name == "fickle" else 1e-3):
        compiled(x)
    assert compiled.explain().sites[0].chosen == "fickle"
    expected = np.maximum(host @ host, 0)
    np.testing.assert_allclose(cuda.to_host(compiled(x)), expected, rtol=1e-4, atol=1e-5)
    should_fail.append(True)
    with pytest.raises(ExternalCallError, match=r"matmul at .*'fickle' .*not today") as caught:
        compiled(x)
    assert isinstance(caught.value.__cause__, ValueError)
    np.testing.assert_array_equal(cuda.to_host(x), host)


def test_two_threads_call_the_same_and_other_modules_at_once(driver):
    modules = [nn.Sequential(nn.Linear(8, 8), nn.Softmax(-1)).to("cuda") for _ in range(2)]
    compiled = [minicomp.compile(module) for module in modules]
    inputs = [cuda.to_device(floats(4, 8, seed=seed)) for seed in range(2)]
    expected = [[cuda.to_host(module(x)) for x in inputs] for module in compiled]
    wrong = []

    def work(number):
        for step in range(25):
            module, x = step % 2, (step // 2 + number) % 2
            result = cuda.to_host(compiled[module](inputs[x]))
            if not np.array_equal(result, expected[module][x]):
                wrong.append((number, step))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("disabled", [False, True])
def test_cubins_are_kept_on_disk_unless_caches_are_disabled(recording, disabled):
    compiled = minicomp.compile(lambda x: x + 1, options={"force_disable_caches": disabled})
    compiled(cuda.to_device(floats(3)))
    _, _, use_disk_cache = recording.last["load"]
    assert use_disk_cache is not disabled
