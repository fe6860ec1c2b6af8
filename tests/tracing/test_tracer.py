"""Tracing: names, structure, what is read at each call, and what cannot be traced."""

import functools
import threading
from collections import namedtuple

import numpy as np
import pytest

import minicomp as mc
from minicomp import nn
from minicomp.errors import (
    ControlFlowError,
    DTypeError,
    InputError,
    ShapeError,
    TraceError,
)
from minicomp.ir.verifier import verify
from minicomp.tracing.record import is_tracing
from minicomp.tracing.tracer import flatten_arguments, modules_of, trace_call

X = np.arange(6, dtype=np.float32).reshape(2, 3)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
        self.table = np.arange(4, dtype=np.float32)
        self.register_buffer("offset", np.ones(4, np.float32))

    def forward(self, x, scale=1.0):
        return (self.inner(x) * self.table + self.offset) * scale


def input_names(graph):
    return [value.attributes["name"] for value in graph.inputs]


# --- arguments ---


def test_inputs_are_named_by_parameters_and_paths():
    def function(x, batch, *rest, flag=None, **options):
        return x + batch["image"] + batch["sizes"][1] + rest[0] + options["bias"]

    graph = mc.trace(function, X, {"image": X, "sizes": [X, X]}, X, flag="sum", bias=X)
    assert input_names(graph) == [
        "x",
        "batch.image",
        "batch.sizes.0",
        "batch.sizes.1",
        "arg2",
        "bias",
    ]
    assert verify(graph).name == "function"


def test_inputs_never_share_a_name_with_each_other_or_a_parameter():
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(X)

        def forward(self, weight, d):
            return weight * self.weight + d["a b"] + d["a_b"]

    graph = mc.trace(Layer(), X, {"a b": X, "a_b": X})
    assert input_names(graph) == ["weight_1", "d.a_b", "d.a_b_1"]
    assert [value.attributes["name"] for value in verify(graph).parameters] == ["weight"]


def test_functions_without_a_signature_have_numbered_inputs():
    class Opaque:
        __signature__ = "none"

        def __call__(self, x):
            return x

    assert input_names(mc.trace(Opaque(), X)) == ["arg0"]


def test_graphs_are_named_after_the_function():
    assert mc.trace(functools.partial(np.add, X), X).name == "add"
    assert mc.trace(lambda x: x, X).name == "lambda"


def test_numbers_strings_and_none_are_constants_of_the_trace():
    def function(x, mode, power=2, bias=None):
        y = x**power if mode == "power" else x
        return y if bias is None else y + bias

    graph = mc.trace(function, X, "power", power=3)
    np.testing.assert_array_equal(mc.interpret(graph, X), X**3)
    assert len(graph.inputs) == 1


def test_numpy_scalars_are_inputs_without_axes():
    graph = mc.trace(lambda x, s: x * s, X, np.float32(3))
    assert [str(value.type) for value in graph.inputs] == ["f32[2,3]", "f32[]"]
    np.testing.assert_array_equal(mc.interpret(graph, X, np.float32(2)), X * 2)


def test_types_stand_for_arrays():
    class Spec:
        shape, dtype = (2, 3), "int32"

    graph = mc.trace(lambda x, y: x + y, mc.TensorType((2, 3), "float32"), Spec())
    assert [str(value.type) for value in graph.inputs] == ["f32[2,3]", "i32[2,3]"]


def test_gpu_arrays_trace_to_graphs_on_the_gpu():
    class GpuArray:
        @property
        def __cuda_array_interface__(self):
            return {"shape": (2, 3), "typestr": "<f4", "data": (0x1000, False)}

    graph = mc.trace(lambda x: mc.where(x > 0, x, 0) + 1, GpuArray())
    assert {value.device for value in verify(graph)} == {"cuda"}


@pytest.mark.parametrize(
    ("argument", "error", "message"),
    [
        ({1, 2}, TraceError, r"argument x at test_tracer\.py:\d+: got a set; wanted an array"),
        (
            np.zeros(2, np.uint8),
            DTypeError,
            r"argument x at .*: dtype uint8 is .*np\.int64\) for indices",
        ),
        (
            np.zeros(2, np.complex64),
            DTypeError,
            r"argument x at .*; pass x\.real and x\.imag apart",
        ),
        (np.array([[1], [1, 2]], object), DTypeError, r"np\.array\(x, np\.float32\): rows of uneq"),
        (np.array(["a"]), DTypeError, r"argument x at .*; pass numbers that stand for what"),
        (np.zeros(2, "M8[s]"), DTypeError, r"argument x at .*; pass numbers, x\.astype"),
        ({"a": [X, object()]}, TraceError, r"argument x\.a\.1 at .*: got a object"),
        (np.ma.masked_array([1.0]), InputError, "MaskedArray has rules of its own"),
    ],
)
def test_arguments_that_cannot_be_traced_are_named(argument, error, message):
    with pytest.raises(error, match=message):
        mc.trace(lambda x: x, argument)


def test_an_argument_is_named_by_keyword_or_number_where_no_parameter_is_its_own():
    wrong = np.zeros(2, np.uint8)
    with pytest.raises(DTypeError, match=r"^argument scale at test_tracer\.py:\d+: dtype uint8"):
        mc.trace(Net(), X, scale=wrong)
    with pytest.raises(DTypeError, match=r"^argument 1 at test_tracer\.py:\d+: dtype uint8"):
        mc.trace(lambda *xs: xs, X, wrong)


@pytest.mark.parametrize(
    "function", [lambda x: x.max(), lambda x: x - 1.5], ids=["a method", "an operator"]
)
def test_a_list_taken_for_a_tensor_gets_a_note_that_says_what_to_pass(function):
    for numbers in ([1.0, 2.0], [[1, 2], [3, 4]]):
        with pytest.raises((AttributeError, TypeError), match="list") as caught:
            mc.trace(function, numbers)
        (note,) = caught.value.__notes__
        assert "x is a list of numbers" in note
        assert "pass np.array(x)" in note
    with pytest.raises((AttributeError, TypeError), match="list") as caught:
        mc.trace(function, [X])
    assert not hasattr(caught.value, "__notes__")


def test_calls_of_one_signature_share_a_graph():
    def signature(*args, **kwargs):
        return flatten_arguments(args, kwargs)[0]

    assert signature(X, scale=2.0) == signature(X + 1, scale=2.0)
    assert hash(signature(X, [1, None])) == hash(signature(X, [1, None]))
    assert signature(X, float("nan")) == signature(X, float("nan"))
    different = [
        signature(X, 1),
        signature(X, 1.0),
        signature(X, True),
        signature(X, "1"),
        signature([X], 1),
        signature((X,), 1),
        signature(X, a=1),
        signature(X[:1], 1),
        signature(X.astype(np.float64), 1),
    ]
    assert len(set(different)) == len(different)


# --- outputs ---


def test_outputs_nest_as_the_function_returned_them():
    Pair = namedtuple("Pair", "left right")

    def function(x):
        return {"pair": Pair(x, x + 1), "list": [x * 2, (None, 3, "name")], "same": x}

    graph = mc.trace(function, X)
    result = mc.interpret(graph, X)
    assert isinstance(result["pair"], Pair)
    assert result["list"][1] == (None, 3, "name")
    np.testing.assert_array_equal(result["pair"].right, X + 1)
    np.testing.assert_array_equal(result["same"], X)
    assert len(graph.outputs) == 4


def test_arrays_and_parameters_can_be_returned():
    weight, array = nn.Parameter(X), X.copy()
    graph = mc.trace(lambda x: (weight, array, np.float32(2)), X)
    array[0, 0] = 100
    results = mc.interpret(graph, X)
    assert results[1][0, 0] == 100
    assert [result.shape for result in results] == [(2, 3), (2, 3), ()]


@pytest.mark.parametrize("result", [{1, 2}, object(), iter([1])])
def test_what_cannot_be_returned_is_named(result):
    with pytest.raises(TraceError, match=f"returned a {type(result).__name__}; wanted tensors"):
        mc.trace(lambda x: [x, result], X)


# --- parameters and captured arrays ---


def test_parameters_are_named_by_their_path_and_bound():
    net = Net()
    graph = verify(mc.trace(net, X))
    names = [value.attributes["name"] for value in graph.parameters]
    assert names == ["inner.0.weight", "inner.0.bias", "table", "offset"]
    assert graph.bindings["inner.0.weight"] is net.inner[0].weight
    assert graph.bindings["table"] is net.table
    assert graph.name == "Net"
    np.testing.assert_allclose(mc.interpret(graph, X), net(X), rtol=1e-6)


def test_changes_in_place_show_at_the_next_call():
    net = Net()
    graph = mc.trace(net, X)
    before = mc.interpret(graph, X)
    net.inner[0].weight += 1
    net.table *= 2
    net.offset[...] = 5
    after = mc.interpret(graph, X)
    assert not np.allclose(before, after)
    np.testing.assert_allclose(after, net(X), rtol=1e-6)


def test_a_tied_parameter_is_one_value():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(3, 3)
            self.second = nn.Linear(3, 3)
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.second(self.first(x)) @ self.first.weight.data

    graph = mc.trace(Tied(), X)
    names = [value.attributes["name"] for value in graph.parameters]
    assert names == ["first.weight", "first.bias", "second.bias"]


def test_what_comes_from_outside_is_captured_by_reference():
    weight, array, scalar = nn.Parameter(X), X.copy(), np.array(2.0, np.float32)
    graph = verify(mc.trace(lambda x: x * weight + array + scalar + array, X))
    assert [value.attributes["name"] for value in graph.parameters] == ["captured_0", "captured_1"]
    assert graph.bindings["captured_0"] is weight
    assert graph.bindings["captured_1"] is array
    array += 1
    np.testing.assert_array_equal(mc.interpret(graph, X), X * X + array * 2 + 2)


def test_arrays_without_axes_are_baked_in():
    graph = mc.trace(lambda x: x * np.float32(3) + np.array(1.0), X)
    assert not graph.parameters
    assert [v.attributes["value"] for v in graph if v.op == "full"] == [3.0, 1.0]


def test_a_bound_method_knows_its_modules_names():
    net = Net()
    graph = mc.trace(net.forward, X)
    assert "inner.0.weight" in graph.bindings


def test_functions_of_minicomp_on_captured_arrays_are_recorded():
    array = X.copy()
    graph = mc.trace(lambda x: x + mc.exp(array), X)
    array[...] = 0
    np.testing.assert_array_equal(mc.interpret(graph, X), X + 1)


# --- locations ---


def test_values_remember_the_users_line():
    def function(x):
        y = np.exp(x)
        return mc.softmax(y)

    first = function.__code__.co_firstlineno
    graph = mc.trace(function, X)
    lines = [value.location.line - first for value in graph if value.op != "input"]
    assert lines == [1] + [2] * 7
    assert str(graph.values[1].location) == f"test_tracer.py:{first + 1}"


def test_values_of_a_layer_point_to_the_line_that_called_it():
    net = Net()
    graph = mc.trace(net, X)
    line = Net.forward.__code__.co_firstlineno + 1
    assert {value.location.line for value in graph if value.op != "input"} == {line}


def test_errors_name_the_op_and_the_line():
    def function(x):
        return x @ x

    line = function.__code__.co_firstlineno + 1
    with pytest.raises(ShapeError, match=rf"matmul at test_tracer\.py:{line}: inner sizes differ"):
        mc.trace(function, X)


# --- what stays within a trace ---


def test_a_tensor_cannot_leave_its_trace():
    kept = []
    mc.trace(lambda x: kept.append(x) or x, X)
    for use in (
        lambda: kept[0] + 1,
        lambda: np.exp(kept[0]),
        lambda: mc.trace(lambda y: y + kept[0], X),
    ):
        with pytest.raises(TraceError, match="used outside the trace that made it"):
            use()
    with pytest.raises(TraceError, match="used outside the trace that made it"):
        mc.trace(lambda y: kept[0], X)


def test_a_traced_tensor_cannot_be_an_argument_of_another_trace():
    with pytest.raises(TraceError, match="to trace a function within a function, call it"):
        mc.trace(lambda x: mc.trace(lambda y: y, x), X)


def test_a_failed_trace_leaves_nothing_behind():
    def fails(x):
        assert is_tracing()
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        mc.trace(fails, X)
    assert not is_tracing()
    assert mc.add(1, 2) == 3


def test_threads_trace_apart():
    barrier, graphs = threading.Barrier(4), {}

    def run(number):
        def function(x):
            for _ in range(number):
                barrier.wait(timeout=10)
                x = x + number
                barrier.wait(timeout=10)
            for _ in range(4 - number):
                barrier.wait(timeout=10)
                assert mc.add(1, 1) is not None
                barrier.wait(timeout=10)
            return x

        graphs[number] = mc.trace(function, X)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, graph in graphs.items():
        np.testing.assert_array_equal(mc.interpret(graph, X), X + number * number)


# --- compiled modules, and when a trace still holds ---


def test_a_compiled_module_is_traced_as_what_it_was_compiled_from():
    class Compiled:
        def __init__(self, model):
            self.__minicomp_original__ = model

        def __call__(self, *args):
            assert is_tracing()
            return self.__minicomp_original__(*args)

    net = Net()
    assert mc.trace(Compiled(net), X).bindings.keys() == mc.trace(net, X).bindings.keys()
    inlined = mc.trace(lambda x: Compiled(mc.exp)(x) + 1, X)
    assert [value.op for value in inlined] == ["input", "exp", "full", "add"]


def test_traced_calls_carry_their_signature():
    traced = trace_call(lambda x, n: x * n, (X, 3), {})
    assert traced.signature == flatten_arguments((X, 3), {})[0]


def state_of(model):
    return [module.structure_version() for module in modules_of(model)]


def test_the_state_of_a_model_changes_when_a_trace_may_no_longer_hold():
    net, other = Net(), Net()
    functions = [net, net.forward, lambda x: net(x), functools.partial(net, X)]
    before = [state_of(function) for function in functions]
    other.eval()
    net.inner[0].weight += 1
    net.inner[0].bias.data = np.ones(4, np.float32)
    net.training = True
    assert [state_of(function) for function in functions] == before
    for change in (
        net.eval,
        lambda: setattr(net.inner[0], "bias", None),
        lambda: setattr(net, "table", net.table * 2),
        lambda: setattr(net.inner[0].weight, "data", np.ones((5, 3))),
        lambda: net.to(np.float64),
    ):
        change()
        after = [state_of(function) for function in functions]
        assert all(a != b for a, b in zip(after, before, strict=True))
        before = after


def test_a_function_without_modules_has_no_state():
    assert modules_of(mc.exp) == []
    assert modules_of(np.add) == []


# --- control flow ---


def test_control_flow_by_shapes_and_constants_is_unrolled():
    def function(x, n):
        for row in x:
            x = x + row
        for _ in range(n):
            x = x * 2
        return x if x.shape[0] == 2 else -x

    np.testing.assert_array_equal(mc.interpret(mc.trace(function, X, 2), X), (X + X[0] + X[1]) * 4)


def test_control_flow_by_data_is_refused_with_the_users_line():
    def function(x):
        if x.sum() > 0:
            return x
        return -x

    line = function.__code__.co_firstlineno + 1
    message = rf"bool\(\) at test_tracer\.py:{line}: a traced tensor \(bool\[\]\) has no numbers"
    with pytest.raises(ControlFlowError, match=message) as caught:
        mc.trace(function, X)
    assert "minicomp.where(condition, a, b)" in str(caught.value)
