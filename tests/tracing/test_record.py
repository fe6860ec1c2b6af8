"""Recording one op, computing it at once, and where the user's line is."""

import gc
import weakref

import numpy as np
import pytest

import minicomp as mc
from minicomp import nn
from minicomp.errors import (
    DeviceError,
    IndexOutOfRangeError,
    InputError,
    ShapeError,
    TraceError,
)
from minicomp.ir import TensorType
from minicomp.tracing.record import Recorder, apply, array_type, current, is_tracing, user_location
from minicomp.tracing.tensor import Tensor

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_without_a_recorder_an_op_is_computed_with_the_tables_checks():
    np.testing.assert_array_equal(apply("add", X, X), X + X)
    with pytest.raises(ShapeError, match=r"add at test_record\.py:\d+: shapes differ"):
        apply("add", X, X[0])
    with pytest.raises(IndexOutOfRangeError, match=r"take at test_record\.py"):
        apply("take", X, np.array([5]), axis=0)


def test_with_a_recorder_an_op_is_recorded():
    with Recorder(Tensor) as recorder:
        assert is_tracing()
        assert current() is recorder
        x = recorder.input("x", TensorType((2, 3), "float32"))
        y = apply("add", x, X)
    assert not is_tracing()
    assert [value.op for value in recorder.values] == ["input", "parameter", "add"]
    assert recorder.bindings == {"captured_0": X}
    assert y.value is recorder.values[-1]


def test_an_inner_recorder_takes_over_until_it_ends():
    with Recorder(Tensor) as outer:
        with Recorder(Tensor) as inner:
            mc.zeros(3)
        mc.ones(2)
    assert [value.shape for value in inner.values] == [(3,)]
    assert [value.shape for value in outer.values] == [(2,)]


def test_constants_are_copies_that_nobody_can_change():
    array = np.array([1.0, 2.0])
    with Recorder(Tensor) as recorder:
        value = recorder.constant(array).value.attributes["value"]
    array[0] = 9
    assert value[0] == 1
    with pytest.raises(ValueError, match="read-only"):
        value[0] = 3


def test_a_recorder_refuses_tensors_of_another():
    with Recorder(Tensor) as first:
        x = first.input("x", TensorType((2,), "float32"))
    with Recorder(Tensor), pytest.raises(TraceError, match="outside the trace that made it"):
        apply("exp", x)


def test_types_of_arrays():
    assert array_type(X) == TensorType((2, 3), "float32")
    assert array_type(np.int64(3)) == TensorType((), "int64")
    assert array_type(TensorType((1,), "bool")) == TensorType((1,), "bool")
    assert array_type(3) is None
    assert array_type("text") is None

    class OnGpu:
        device, shape, dtype = "cuda:0", (4,), np.dtype(np.float32)

    assert array_type(OnGpu()) == TensorType((4,), "float32", "cuda")


@pytest.mark.parametrize(
    ("methods", "device", "advice"),
    [
        (("__dlpack__", "detach"), "cpu", r"on the CPU; .*: pass x\.detach\(\)\.numpy\(\)$"),
        (("__dlpack__", "detach"), "mps:0", r"on mps:0; .*: pass x\.detach\(\)\.cpu\(\)\.numpy"),
        (("__dlpack__",), "cpu", r"on the CPU; .*: pass np\.from_dlpack\(x\)$"),
    ],
)
def test_a_tensor_of_another_library_is_named_with_what_makes_an_array_of_it(
    methods, device, advice
):
    class OtherDType:
        def __repr__(self):
            return "torch.float32"

    members = {"shape": (2,), "dtype": OtherDType(), "device": device, "__module__": "torch"}
    tensor = type("Tensor", (), {**members, **dict.fromkeys(methods)})()
    with pytest.raises(InputError, match=rf"got a torch tensor of torch\.float32 {advice}"):
        array_type(tensor)
    with pytest.raises(InputError, match=r"argument \w+ at test_record\.py:\d+: got a torch"):
        mc.trace(lambda x: x, tensor)
    with pytest.raises(InputError, match=r"add at test_record\.py:\d+: got a torch tensor"):
        mc.trace(lambda x: x + tensor, X)


def test_a_type_without_data_is_not_computed_with():
    with pytest.raises(TraceError, match="got a TensorType, wanted a tensor"):
        mc.exp(TensorType((2,), "float32"))
    with pytest.raises(DeviceError, match=r"use minicomp\.compile"):
        apply("full", shape=(2,), value=1.0, dtype="float32", device="cuda")


def test_the_users_line_skips_minicomp_and_numpy():
    # A function defined in a module of that name is where a call passes through the library.
    source = "def through(function):\n    return function()\n"
    names = ["minicomp.inner", "numpy.lib", "mine", "__main__"]
    scopes = {name: {"__name__": name} for name in names}
    for scope in scopes.values():
        exec(compile(source, "library.py", "exec"), scope)
    assert scopes["minicomp.inner"]["through"](user_location).file == __file__
    assert scopes["numpy.lib"]["through"](user_location).file == __file__
    assert str(scopes["mine"]["through"](user_location)) == "library.py:2"
    assert str(scopes["__main__"]["through"](user_location)) == "library.py:2"


def test_a_trace_keeps_arrays_alive_no_longer_than_its_graph():
    gc.collect()
    gc.disable()
    try:
        module = nn.RMSNorm(3)
        last_seen = weakref.ref(module.weight)
        graph = mc.trace(module, np.ones(3, np.float32))
        del module
        assert last_seen() is not None  # in the graph's bindings
        del graph
        assert last_seen() is None
    finally:
        gc.enable()
