"""The short way into a program on CUDA: what it takes, what it turns away, and its streams."""

import gc

import numpy as np
import pytest
from runtime.cuda.recording_driver import RecordingDriver

import minicomp
from minicomp import cuda, nn
from minicomp.runtime.cuda import backend as cuda_backend
from minicomp.runtime.cuda.entry import is_in_order
from minicomp.runtime.cuda.executable import own_type

pytestmark = pytest.mark.cuda


def floats(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def entered(model, *args, **options):
    """The compiled model after a call with `args`, and its short way."""
    compiled = minicomp.compile(model, options=options or None)
    compiled(*args)
    (function,) = compiled._fast_calls
    return compiled, function


class Foreign:
    """Another library's array."""

    def __init__(self, array, **changes):
        self.array, self.changes = array, changes

    @property
    def __cuda_array_interface__(self):
        return self.array.__cuda_array_interface__ | self.changes


def test_it_computes_what_the_long_way_does(driver):
    x, y = cuda.to_device(floats(5, 7)), cuda.to_device(floats(7, 3))

    def model(x, y):
        return minicomp.softmax(x @ y, -1), x.sum(1)

    compiled, function = entered(model, x, y)
    for short, long in zip(function(x, y), compiled._call((x, y), {}), strict=True):
        assert type(short) is own_type(driver)
        np.testing.assert_array_equal(cuda.to_host(short), cuda.to_host(long))


def shifted(array, elements):
    """The same shape, that many elements further on in longer memory."""
    driver = cuda_backend.driver()
    longer = driver.to_device(np.zeros(array.size + elements, np.float32))
    pointer = longer.ptr + elements * array.itemsize
    return driver.view(longer, pointer, array.shape, "float32", array.strides)


OTHERS = {
    "another shape": lambda x: cuda.to_device(floats(5, 8)),
    "another rank": lambda x: cuda.to_device(floats(5)),
    "other strides": lambda x: cuda.to_device(floats(7, 5)).T,
    "another dtype": lambda x: cuda.to_device(floats(5, 7).astype(np.float64)),
    "another alignment": lambda x: shifted(x, 1),
    "an array on the host": lambda x: floats(5, 7),
    "a list": lambda x: [x],
    "None": lambda x: None,
    "a type": lambda x: type(x),
    "a masked array": lambda x: Foreign(x, mask=x),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_it_turns_away_whatever_it_was_not_made_for(driver, other):
    x = cuda.to_device(floats(5, 7))
    _, function = entered(lambda x: x * 2, x)
    assert function(other(x)) is None
    assert function() is None
    assert function(x, x) is None
    np.testing.assert_array_equal(cuda.to_host(function(x)), floats(5, 7) * 2)


def test_code_for_less_aligned_arrays_is_left_to_them(driver):
    base = cuda.to_device(floats(4))
    x = shifted(base, 2)  # 8 bytes
    compiled, function = entered(lambda x: x + 1, x)
    assert function(shifted(base, 6)) is not None
    assert function(shifted(base, 1)) is None
    assert function(base) is None  # better code is to be had
    np.testing.assert_array_equal(cuda.to_host(compiled(base)), floats(4) + 1)
    arguments = [s.program.calls[0].kernel.arguments for s in compiled._specializations.values()]
    assert [[a.alignment for a in kernel] for kernel in arguments] == [[8, 256], [16, 256]]


def test_arrays_of_other_libraries_are_taken_as_they_are(driver):
    x = cuda.to_device(floats(5, 7))
    compiled, function = entered(lambda x: x * 2, Foreign(x))
    np.testing.assert_array_equal(cuda.to_host(function(Foreign(x))), floats(5, 7) * 2)
    unsaid = Foreign(x, strides=None, stream=None)
    np.testing.assert_array_equal(cuda.to_host(function(unsaid)), floats(5, 7) * 2)
    np.testing.assert_array_equal(cuda.to_host(function(x)), floats(5, 7) * 2)
    assert len(compiled._specializations) == 1


def test_an_address_may_be_a_number_of_numpys(driver):
    x = cuda.to_device(floats(5, 7))
    _, function = entered(lambda x: x * 2, x)
    other = Foreign(x, data=(np.uint64(x.ptr), False), shape=(np.int64(5), 7))
    np.testing.assert_array_equal(cuda.to_host(function(other)), floats(5, 7) * 2)


def test_it_turns_calls_away_once_a_module_or_parameter_has_changed(driver):
    module = nn.Linear(7, 3).to("cuda")
    x = cuda.to_device(floats(5, 7))
    compiled, function = entered(module, x)
    assert function(x) is not None
    weight, bias = floats(3, 7, seed=1), cuda.to_host(module.bias.data)
    module.weight.data = cuda.to_device(weight)
    assert function(x) is None
    expected = floats(5, 7) @ weight.T + bias
    np.testing.assert_allclose(cuda.to_host(compiled(x)), expected, atol=1e-5)
    assert compiled._fast_calls[0](x) is not None  # armed again
    module.eval()
    assert compiled._fast_calls[0](x) is None


def test_contents_of_parameters_are_read_at_each_call(driver):
    module = nn.Linear(7, 3).to("cuda")
    x = cuda.to_device(floats(5, 7))
    _, function = entered(module, x)
    driver.fill(module.weight.data, np.zeros((3, 7), np.float32))
    expected = np.broadcast_to(cuda.to_host(module.bias.data), (5, 3))
    np.testing.assert_array_equal(cuda.to_host(function(x)), expected)


def test_parameters_of_other_libraries_serve_too(driver):
    module = nn.Linear(7, 3)
    weight = cuda.to_device(floats(3, 7))
    module.weight.data, module.bias.data = Foreign(weight), cuda.to_device(floats(3))
    x = cuda.to_device(floats(5, 7))
    _, function = entered(module, x)
    expected = floats(5, 7) @ floats(3, 7).T + floats(3)
    np.testing.assert_allclose(cuda.to_host(function(x)), expected, atol=1e-5)
    driver.fill(weight, np.zeros((3, 7), np.float32))
    expected = np.broadcast_to(floats(3), (5, 3))
    np.testing.assert_array_equal(cuda.to_host(function(x)), expected)


def test_what_the_default_stream_finds_in_order(driver):
    mine = cuda.to_device(floats(3))
    own = own_type(driver)
    assert is_in_order(mine, own)
    assert is_in_order(Foreign(mine, stream=None), own)
    assert not is_in_order(Foreign(mine, stream=1), own)  # another one at the next look, perhaps
    assert not is_in_order(Foreign(mine, stream=77), own)


def test_kernels_go_to_the_stream_in_use(driver, monkeypatch):
    recording = RecordingDriver(driver)
    monkeypatch.setattr(cuda_backend, "driver", lambda: recording)
    module = nn.Linear(7, 3).to("cuda")
    x = cuda.to_device(floats(5, 7))
    compiled, _ = entered(module, x)
    recording.forget()
    with new_stream(driver) as stream:
        result = compiled(x)
        assert [where for _, where in recording.queue] == [stream]
        # The stream waits for whoever wrote the input, the weight and the bias: once.
        assert (recording.calls["argument"], recording.calls["arguments"]) == (0, 1)
        for found, array in zip(
            recording.last["arguments"][0], [x, module.weight.data, module.bias.data], strict=True
        ):
            assert found is array
        expected = floats(5, 7) @ cuda.to_host(module.weight.data).T + cuda.to_host(
            module.bias.data
        )
        np.testing.assert_allclose(cuda.to_host(result), expected, atol=1e-5)


def new_stream(driver):
    """A context manager with another stream in use."""
    if driver.is_simulator:
        return cuda.stream(5)
    import pycuda.driver

    driver.enter()
    return cuda.stream(pycuda.driver.Stream())


def test_results_are_nested_as_the_function_nests_them(driver):
    x = cuda.to_device(floats(3))
    _, function = entered(lambda x: {"a": [x + 1], "b": (x, None)}, x)
    result = function(x)
    assert list(result) == ["a", "b"]
    np.testing.assert_array_equal(cuda.to_host(result["a"][0]), floats(3) + 1)
    assert result["b"][1] is None


def test_a_function_outlives_what_made_it(driver):
    module = nn.Linear(64, 64).to("cuda")
    x = cuda.to_device(floats(4, 64))
    compiled, function = entered(module, x, freeze=True)
    expected = cuda.to_host(compiled(x))
    del module, compiled
    gc.collect()
    others = [cuda.to_device(np.full((64, 64), 7, np.float32)) for _ in range(3)]
    np.testing.assert_array_equal(cuda.to_host(function(x)), expected)
    del others
