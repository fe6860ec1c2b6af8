"""`minicomp.compile` as users meet it: what is read when, what is compiled again, what fails."""

import copy
import pickle
import threading
import warnings

import numpy as np
import pytest

import minicomp
from minicomp import nn
from minicomp.errors import (
    DTypeError,
    IndexOutOfRangeError,
    InputError,
    MinicompError,
    ModuleError,
    OptionError,
    ShapeError,
    TraceError,
    UnsupportedError,
)

RANDOM = np.random.default_rng(0)


def floats(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(np.full(3, 2, np.float32))
        self.offset = 0.0

    def forward(self, x):
        return x * self.factor + self.offset


def counted(function):
    """The function, and a list that grows by one each time it is traced."""
    traces = []

    def forward(*args, **kwargs):
        traces.append(None)
        return function(*args, **kwargs)

    return forward, traces


# --- weights and attributes -----------------------------------------------------------------


def test_a_parameter_changed_in_place_shows_in_the_next_result():
    module = Scale()
    compiled = minicomp.compile(module)
    x = floats(4, 3)
    np.testing.assert_array_equal(compiled(x), x * 2)
    module.factor[...] = 5
    np.testing.assert_array_equal(compiled(x), x * 5)
    module.factor *= 2
    np.testing.assert_array_equal(compiled(x), x * 10)


def test_a_parameter_that_gets_another_array_shows():
    module = Scale()
    compiled = minicomp.compile(module)
    x = floats(4, 3)
    compiled(x)
    module.factor.data = np.full(3, 7, np.float32)
    np.testing.assert_array_equal(compiled(x), x * 7)
    module.factor.data = np.arange(6, dtype=np.float32)[::2]  # strided
    np.testing.assert_array_equal(compiled(x), x * [0, 2, 4])
    module.factor.data = np.full(3, 3, np.float64)  # another dtype
    result = compiled(x)
    assert result.dtype == np.float64
    np.testing.assert_array_equal(result, x.astype(np.float64) * 3)
    module.factor = nn.Parameter(np.full(3, 4, np.float32))
    np.testing.assert_array_equal(compiled(x), x * 4)


def test_freeze_bakes_parameters_in():
    module = Scale()
    compiled = minicomp.compile(module, options={"freeze": True})
    x = floats(4, 3)
    compiled(x)
    module.factor[...] = 5
    np.testing.assert_array_equal(compiled(x), x * 2)
    assert "factor" in str(compiled.graph())  # the graph as traced still shows it


def test_a_plain_attribute_that_changes_is_traced_again():
    module = Scale()
    compiled = minicomp.compile(module)
    x = floats(4, 3)
    compiled(x)
    module.offset = 1.0
    np.testing.assert_array_equal(compiled(x), x * 2 + 1)


class Adjustable(nn.Module):
    """A trace of it depends on attributes of many kinds."""

    def __init__(self):
        super().__init__()
        self._hidden = 2.0
        self.function = minicomp.relu
        self.layer = nn.ReLU()
        self.scalar = np.float32(2)
        self.numbers = [1.0]
        self.pair = (1, 2)

    def forward(self, x):
        y = self.layer(self.function(x * self._hidden * self.numbers[0])) * self.scalar
        return y + np.full((), self.pair[0]).astype(type(self.pair[0]))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("_hidden", 20.0),
        ("function", minicomp.tanh),
        ("layer", nn.Tanh()),
        ("scalar", np.float32(100)),
        ("numbers", [3.0]),
        ("pair", (7.0, 2)),
    ],
)
def test_an_attribute_of_any_kind_that_is_set_is_traced_again(name, value):
    module = Adjustable()
    compiled = minicomp.compile(module)
    x = np.array([-1, 0.5, 1], np.float32)
    before = compiled(x)
    compiled(x)
    setattr(module, name, value)
    result = compiled(x)
    assert not np.array_equal(result, before)
    np.testing.assert_allclose(result, module(x), rtol=1e-6)


def test_a_layer_put_where_one_was_deleted_is_traced_again():
    module = nn.Sequential(nn.ReLU())
    compiled = minicomp.compile(module)
    x = floats(8)
    for kind in (nn.ReLU, nn.Tanh, nn.Sigmoid) * 3:
        module._modules["0"] = None  # the one that was there is gone, and its id is free
        setattr(module, "0", kind())
        np.testing.assert_allclose(compiled(x), module(x), rtol=1e-6)


class Holder:
    """Keeps a module where neither a closure nor a global name shows it."""

    def __init__(self, layer):
        self.layer = layer
        self.layers = {"one": [layer]}


@pytest.mark.parametrize("find", [lambda h: h.layer, lambda h: h.layers["one"][0]])
def test_a_module_that_a_function_finds_somewhere_is_looked_at_too(find):
    holder = Holder(nn.Sequential(Scale(), nn.Identity()))
    compiled = minicomp.compile(lambda x: find(holder)(x))
    x = floats(2, 3)
    np.testing.assert_array_equal(compiled(x), x * 2)
    np.testing.assert_array_equal(compiled(x), x * 2)
    holder.layer[0].offset = 1.0
    np.testing.assert_array_equal(compiled(x), x * 2 + 1)
    holder.layer[0].factor = nn.Parameter(np.full(3, 3, np.float32))
    np.testing.assert_array_equal(compiled(x), x * 3 + 1)
    holder.layer[0].offset = 0.0
    np.testing.assert_array_equal(compiled(x), x * 3)


def test_a_module_found_by_tracing_is_compiled_for_once():
    holder = Holder(nn.Sequential(Scale(), nn.Identity()))
    forward, traces = counted(lambda x: holder.layer(x))
    compiled = minicomp.compile(forward)
    for rows in (2, 3, 2, 3):
        compiled(floats(rows, 3))
    assert len(traces) == 2


def test_a_captured_array_is_read_at_each_call():
    weight = floats(3)
    compiled = minicomp.compile(lambda x: x + weight)
    x = floats(3)
    np.testing.assert_array_equal(compiled(x), x + weight)
    weight += 1
    np.testing.assert_array_equal(compiled(x), x + weight)


def test_expressions_that_share_much_are_compiled_in_time():
    # Written out in full, as text, either of these has billions of terms.
    def halved(x):
        for _ in range(60):
            x = minicomp.maximum(1 - x, x) // 2
        return x

    x, index = np.ones((2, 2), np.float32), np.arange(4)
    product = minicomp.compile(lambda x: halved(x @ x))
    np.testing.assert_array_equal(product(x), minicomp.interpret(product.graph(x), x))
    picked = minicomp.compile(lambda x, i: minicomp.take(x, halved(i)))
    np.testing.assert_array_equal(picked(index, index), index[halved(index)])


def test_evaluation_and_training_mode_are_compiled_once_each():
    module = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)).eval()
    forward, traces = counted(module.forward)
    module.forward = forward
    compiled = minicomp.compile(module)
    x = floats(2, 3)
    expected = compiled(x)
    module.train()
    module.eval()
    np.testing.assert_array_equal(compiled(x), expected)
    assert len(traces) == 1


# --- what is compiled again -------------------------------------------------------------------


def test_each_shape_is_traced_once_and_the_least_recently_used_goes():
    forward, traces = counted(lambda x: x * 2)
    compiled = minicomp.compile(forward, options={"cache_size_limit": 2})
    for size in (1, 2, 1, 2):
        compiled(floats(size))
    assert len(traces) == 2
    compiled(floats(3))  # drops 1
    compiled(floats(2))
    assert len(traces) == 3
    compiled(floats(1))
    assert len(traces) == 4


def test_static_arguments_are_part_of_what_is_compiled_for():
    forward, traces = counted(
        lambda x, power=1, *, negate=False: -(x**power) if negate else x**power
    )
    compiled = minicomp.compile(forward)
    x = floats(5)
    np.testing.assert_allclose(compiled(x, 2), x**2, rtol=1e-6)
    np.testing.assert_allclose(compiled(x, 3, negate=True), -(x**3), rtol=1e-6)
    np.testing.assert_allclose(compiled(x, 2), x**2, rtol=1e-6)
    assert len(traces) == 2


def test_nested_arguments_and_results_keep_their_structure():
    def forward(batch, *, scale):
        return {"sum": batch["a"] + batch["b"][0], "rest": [batch["b"][1] * scale, None, "text"]}

    a, b, c = floats(3), floats(3), floats(2)
    result = minicomp.compile(forward)({"a": a, "b": (b, c)}, scale=2.0)
    assert list(result) == ["sum", "rest"]
    np.testing.assert_array_equal(result["sum"], a + b)
    np.testing.assert_array_equal(result["rest"][0], c * 2)
    assert result["rest"][1:] == [None, "text"]


# --- inputs as they come ----------------------------------------------------------------------

LAYOUTS = {
    "transposed": lambda: floats(7, 5).T,
    "sliced with steps": lambda: floats(10, 21)[::2, 1::3],
    "reversed": lambda: floats(5, 7)[::-1, ::-1],
    "broadcast": lambda: np.broadcast_to(floats(7), (5, 7)),
    "Fortran": lambda: np.asfortranarray(floats(5, 7)),
    "byte-swapped": lambda: floats(5, 7).astype(">f4"),
    "unaligned": lambda: np.frombuffer(b"x" + floats(35).tobytes(), "<f4", 35, 1).reshape(5, 7),
    "read-only": lambda: np.frombuffer(floats(35).tobytes(), np.float32).reshape(5, 7),
    "field of a record": lambda: np.zeros((5, 7), [("a", "i1"), ("b", "<f4")])["b"],
}


@pytest.mark.parametrize("make", LAYOUTS.values(), ids=LAYOUTS)
def test_arrays_of_any_layout_give_the_same_result(make):
    x = make()
    plain = np.array(x, np.float32, order="C")
    weight = floats(x.shape[1], 4)

    def forward(x):
        return minicomp.softmax(x, -1), x @ weight, x.sum(0)

    results = minicomp.compile(forward)(x)
    shifted = np.exp(plain - plain.max(1, keepdims=True))
    expected = shifted / shifted.sum(1, keepdims=True), plain @ weight, plain.sum(0)
    for result, wanted in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, wanted, rtol=2e-5, atol=2e-6)


def test_results_are_new_arrays():
    x = floats(4)
    compiled = minicomp.compile(lambda x: (x, x, x[1:], x.reshape(2, 2)))
    results = compiled(x)
    for result in results:
        assert not np.shares_memory(result, x)
        assert result.flags.c_contiguous
        assert result.flags.writeable
    assert not np.shares_memory(results[0], results[1])
    before = results[0].copy()
    compiled(x + 1)
    np.testing.assert_array_equal(results[0], before)


def test_one_array_may_be_passed_twice():
    x = floats(4, 4)
    np.testing.assert_allclose(minicomp.compile(lambda a, b: a @ b + a)(x, x), x @ x + x, rtol=1e-5)


def test_numpy_scalars_and_axisless_arrays_are_tensors():
    compiled = minicomp.compile(lambda x, y: x * y)
    assert compiled(np.float32(3), np.array(2, np.float32)) == 6
    assert compiled(np.float32(3), np.array(2, np.float32)).shape == ()


def test_a_linear_layer_reads_a_batch_of_sequences_in_place():
    layer, x = nn.Linear(16, 4), floats(2, 10, 16)
    compiled = minicomp.compile(layer)
    for array in (x, np.swapaxes(floats(10, 2, 16), 0, 1)):  # contiguous, and not
        expected = array @ layer.weight.data.T + layer.bias.data
        np.testing.assert_allclose(compiled(array), expected, rtol=1e-5, atol=1e-6)
    assert [kernel.kind for kernel in compiled.explain(x).kernels] == ["matmul"]


# --- threads ----------------------------------------------------------------------------------


def test_calls_from_several_threads_do_not_disturb_each_other():
    compiled = minicomp.compile(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)))
    inputs = [floats(16, 64) for _ in range(4)]
    expected = [compiled(x) for x in inputs]
    wrong = []

    def work(number):
        for _ in range(200):
            if not np.array_equal(compiled(inputs[number]), expected[number]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- the arguments of compile() ---------------------------------------------------------------


def test_compile_without_a_model_is_a_decorator():
    @minicomp.compile(options={"num_threads": 1})
    def double(x):
        """Twice x."""
        return x * 2

    np.testing.assert_array_equal(double(np.ones(3, np.float32)), [2, 2, 2])
    assert double.__doc__ == "Twice x."
    assert repr(double) == "<compiled double>"


def test_disable_gives_the_model_back():
    module = Scale()
    assert minicomp.compile(module, disable=True) is module


def test_attributes_are_the_modules_own():
    module = Scale()
    compiled = minicomp.compile(module)
    assert compiled.factor is module.factor
    assert list(compiled.state_dict()) == ["factor"]
    with pytest.raises(AttributeError, match="missing"):
        _ = compiled.missing


def test_attributes_that_are_set_and_deleted_are_the_modules_own():
    module = Scale()
    compiled = minicomp.compile(module)
    x = floats(2, 3)
    np.testing.assert_array_equal(compiled(x), x * 2)
    compiled.offset = 1.0
    compiled.factor = nn.Parameter(np.full(3, 4, np.float32))
    assert module.offset == 1.0 and module.factor.data[0] == 4
    np.testing.assert_array_equal(compiled(x), x * 4 + 1)
    compiled.factor -= 1
    np.testing.assert_array_equal(compiled(x), x * 3 + 1)
    del compiled.offset
    assert not hasattr(module, "offset")
    assert {"factor", "explain", "state_dict"} <= set(dir(compiled))


def test_a_method_that_gives_back_the_module_gives_the_compiled_one():
    compiled = minicomp.compile(nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5)))
    assert compiled.eval() is compiled and compiled.to(np.float64) is compiled
    assert not compiled.training and compiled(np.ones((2, 3))).dtype == np.float64


def test_a_compiled_module_is_copied_and_pickled():
    compiled = minicomp.compile(nn.Linear(3, 4), options={"num_threads": 1}, name="layer")
    x = floats(2, 3)
    expected = compiled(x)
    for other in (copy.deepcopy(compiled), pickle.loads(pickle.dumps(compiled))):
        assert repr(other) == "<compiled layer>" and other._options.num_threads == 1
        np.testing.assert_array_equal(other(x), expected)
        other.weight += 1
        np.testing.assert_array_equal(compiled(x), expected)


def test_a_compiled_layer_is_one_of_the_modules_layers():
    net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2))
    names, x = list(net.state_dict()), floats(5, 3)
    expected = net.eval()(x)
    net[0] = minicomp.compile(net[0])
    net.add_module("1", minicomp.compile(net[1]))
    assert list(net.state_dict()) == names and len(list(net.parameters())) == 4
    np.testing.assert_allclose(net(x), expected, rtol=1e-5, atol=1e-6)
    assert net[0].explain().sites[0].op == "matmul"
    assert not net.train(False)[1].training and net.train()[1].training
    compiled = minicomp.compile(net.eval())
    np.testing.assert_allclose(compiled(x), expected, rtol=1e-5, atol=1e-6)
    net[0].weight *= 0
    net[0].bias *= 0
    np.testing.assert_allclose(compiled(x), np.broadcast_to(net[2].bias.data, (5, 2)))


def test_a_compiled_function_is_no_layer():
    net = nn.Module()
    net.activation = minicomp.compile(np.tanh)
    assert list(net.children()) == []
    with pytest.raises(ModuleError, match="'x' is a CompiledModule, wanted a Module or None"):
        net.add_module("x", minicomp.compile(np.tanh))


def test_a_compiled_module_inside_another_becomes_part_of_it():
    inner = minicomp.compile(Scale())
    outer = minicomp.compile(lambda x: inner(x) + 1)
    x = floats(2, 3)
    np.testing.assert_array_equal(outer(x), x * 2 + 1)
    assert [value.op for value in outer.graph()].count("mul") == 1


def test_a_graph_can_be_compiled():
    graph = minicomp.parse("graph twice(%x: f32[3]) { %0 = add(%x, %x) : f32[3] return %0 }")
    np.testing.assert_array_equal(minicomp.compile(graph)(np.ones(3, np.float32)), [2, 2, 2])


def test_a_graph_wants_inputs_of_its_own_types():
    graph = minicomp.parse("graph twice(%x: f32[3]) { %0 = add(%x, %x) : f32[3] return %0 }")
    with pytest.raises(InputError, match=r"input 'x' is f64\[3\], the graph wants f32\[3\]"):
        minicomp.compile(graph)(np.ones(3))
    with pytest.raises(InputError, match="takes 1 input, got 2"):
        minicomp.compile(graph)(np.ones(3, np.float32), np.ones(3, np.float32))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"mode": "fast"}, "Unrecognized mode=fast, should be one of: "),
        (
            {"mode": "default", "options": {"freeze": True}},
            "Either mode or options can be specified, but both can't be specified",
        ),
        ({"options": {"frieze": True}}, "Unexpected optimization option frieze, known options are"),
        ({"options": {"freeze": "yes"}}, "Unexpected type of attr freeze, got str should be bool"),
        ({"options": {"external_matmul": np.matmul}}, "external_matmul"),
        ({"options": {"num_threads": 0}}, "num_threads"),
        ({"options": {"autotune_tie_tolerance": float("nan")}}, "finite"),
        ({"name": 3}, "name to be a str, got 3"),
        (
            {"max_autotune": True},
            r"'max_autotune', which is an option; write options=\{'max_autotune': \.\.\.\}$",
        ),
        ({"modes": "default"}, r"no argument 'modes'; it takes .*; did you mean 'mode'\?"),
        ({"backend": "inductor"}, r"no argument 'backend'; it takes fullgraph, .*, disable, and"),
        (
            {"options": {"max-autotun": True}},
            r"known options are .*; did you mean 'max_autotune'\?",
        ),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_compiled(arguments, message):
    with pytest.raises(OptionError, match=message):
        minicomp.compile(lambda x: x, **arguments)


def test_dynamic_shapes_are_refused_with_the_reason():
    with pytest.raises(UnsupportedError, match="dynamic=True"):
        minicomp.compile(lambda x: x, dynamic=True)


def test_what_is_no_model_is_refused():
    with pytest.raises(OptionError, match="a module, a function or a graph, got int"):
        minicomp.compile(3)
    with pytest.raises(OptionError, match="got the class ReLU; call it first"):
        minicomp.compile(nn.ReLU)


def test_a_module_of_torch_is_refused_with_the_way_to_rebuild_it():
    torch_module = type("Module", (), {"__module__": "torch.nn.modules.module", "__call__": None})
    net = type("Net", (torch_module,), {})()
    with pytest.raises(OptionError, match=r"modules of torch, got a Net; .*load_state_dict"):
        minicomp.compile(net)


def test_options_do_not_leak_into_the_config():
    before = minicomp.config.get_config_copy()
    minicomp.compile(lambda x: x, options={"freeze": True})(floats(2))
    assert minicomp.config.get_config_copy() == before


# --- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "complex64", "uint8", "int8", "U3", "O", "M8[s]"])
def test_dtypes_that_the_cpu_does_not_compute_in_are_named(dtype):
    compiled = minicomp.compile(lambda x: x)
    with pytest.raises(DTypeError, match="wanted one of"):
        compiled(np.zeros(3).astype(dtype))


def test_a_dtype_for_cuda_alone_is_refused_with_the_argument_and_the_line():
    compiled = minicomp.compile(lambda image, label: image + label)
    message = r"^argument label at test_compile\.py:\d+: float16 is for CUDA; .*np\.float32\)"
    with pytest.raises(DTypeError, match=message):
        compiled(floats(3), np.zeros(3, np.float16))
    message = r"^argument image at test_compile\.py:\d+: dtype uint8 is not supported"
    with pytest.raises(DTypeError, match=message):
        compiled(np.zeros(3, np.uint8), floats(3))


def test_what_is_no_tensor_is_named():
    with pytest.raises(TraceError, match="got a object; wanted an array"):
        minicomp.compile(lambda x: x)(object())


def test_a_failing_call_leaves_inputs_and_module_as_they_were():
    compiled = minicomp.compile(nn.Linear(16, 4))
    x, wrong = floats(2, 16), floats(2, 5)
    expected, untouched = compiled(x), wrong.copy()
    with pytest.raises(ShapeError, match=r"test_compile.py:\d+: the input has shape \(2, 5\)"):
        compiled(wrong)
    np.testing.assert_array_equal(wrong, untouched)
    np.testing.assert_array_equal(compiled(x), expected)


def test_an_index_out_of_range_is_an_error_with_its_line_and_nothing_else():
    table = floats(10, 4)
    compiled = minicomp.compile(lambda i: minicomp.take(table, i, axis=0) * 2)
    good = np.array([0, -1, 9, -10])
    np.testing.assert_array_equal(compiled(good), table[good] * 2)
    for bad in (10, -11, 2**62, -(2**63)):
        message = r"take at test_compile.py:\d+: an index is outside axis 0 of size 10"
        with pytest.raises(IndexOutOfRangeError, match=message):
            compiled(np.array([0, bad, 1, 2]))
    np.testing.assert_array_equal(compiled(good), table[good] * 2)


def test_integer_division_by_zero_does_not_crash():
    compiled = minicomp.compile(lambda a, b: (a // b, a % b))
    a = np.array([7, -7, 0, -(2**63)])
    b = np.array([0, 0, 0, -1])
    with np.errstate(all="ignore"):
        expected = a // b, a % b
    for result, wanted in zip(compiled(a, b), expected, strict=True):
        np.testing.assert_array_equal(result, wanted)


def test_inspection_before_any_call_says_what_to_do():
    compiled = minicomp.compile(lambda x: x, name="net")
    with pytest.raises(InputError, match="net has not been compiled yet: call it first"):
        compiled.explain()


def test_errors_of_the_users_own_come_through():
    def forward(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        minicomp.compile(forward)(floats(2))


# --- looking inside ---------------------------------------------------------------------------


def test_every_stage_can_be_looked_at():
    compiled = minicomp.compile(nn.Sequential(nn.Linear(16, 4), nn.Softmax(-1)))
    compiled(floats(8, 16))
    assert "matmul" in str(compiled.graph())
    assert "define internal void @" in compiled.llvm_ir()
    assert "; kernel matmul" in compiled.llvm_ir()
    assert "ret" in compiled.assembly()
    explanation = compiled.explain()
    assert [site.op for site in explanation.sites] == ["matmul"]
    assert len(explanation.kernels) == 2
    assert "matmul" in str(explanation)
    with pytest.raises(UnsupportedError, match="llvm_ir"):
        compiled.ptx()


@pytest.mark.parametrize("stage", ["graph", "passes", "kernels", "llvm", "asm", "select"])
def test_the_debug_variable_prints_its_stage_and_no_other(stage, monkeypatch, capsys):
    monkeypatch.setenv("MINICOMP_DEBUG", stage)
    numbers = floats(8, 16)
    options = {"max_autotune": True, "external_matmul": [minicomp.externals.numpy_matmul]}
    minicomp.compile(nn.Linear(16, 4), options=options)(numbers)
    printed = capsys.readouterr().err
    headings = [line for line in printed.splitlines() if line.startswith("---")]
    assert headings
    assert all(line.startswith(f"--- {stage}") for line in headings)


def test_a_debug_stage_may_be_written_in_capitals(monkeypatch, capsys):
    monkeypatch.setenv("MINICOMP_DEBUG", "Graph, KERNELS")
    minicomp.compile(lambda x: x + 1)(floats(2))
    printed = capsys.readouterr().err
    assert "--- graph -" in printed
    assert "--- kernels -" in printed


def test_debug_prints_the_graph_after_those_passes_alone_that_changed_it(monkeypatch, capsys):
    monkeypatch.setenv("MINICOMP_DEBUG", "passes")
    minicomp.compile(lambda x: minicomp.negative(-x) + 1)(floats(2))
    pieces = capsys.readouterr().err.split("--- passes: ")[1:]
    assert "dead_code changed nothing\n" in pieces
    graphs = [piece for piece in pieces if "graph lambda" in piece]
    assert any(piece.startswith("simplify ---") for piece in graphs)
    texts = [piece.partition("\n")[2] for piece in graphs]
    assert all(before != after for before, after in zip(texts, texts[1:], strict=False))
    others = [piece for piece in pieces if piece not in graphs]
    assert all(piece.endswith(" changed nothing\n") for piece in others)


def test_debug_prints_the_loops_of_the_kernels(monkeypatch, capsys):
    monkeypatch.setenv("MINICOMP_DEBUG", "kernels")
    minicomp.compile(lambda x: minicomp.softmax(minicomp.exp(x @ x) @ x))(floats(8, 8))
    printed = capsys.readouterr().err
    assert "\nmatmul_exp(0, 1)\n" in printed  # the program
    assert "\n\nkernel matmul_exp(" in printed
    assert "product = sum over k in 8" in printed
    assert "sweep " in printed


def test_a_debug_stage_that_the_cpu_does_not_have_is_one_line(monkeypatch, capsys):
    monkeypatch.setenv("MINICOMP_DEBUG", "ptx")
    compiled = minicomp.compile(lambda x: x + 1)
    for _ in range(2):
        np.testing.assert_array_equal(compiled(np.zeros(2)), [1, 1])
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "--- ptx: not shown: this module runs on the CPU: it has LLVM IR, see llvm_ir()"


def test_an_unknown_debug_stage_is_named(monkeypatch):
    monkeypatch.setenv("MINICOMP_DEBUG", "graph,assembly")
    with pytest.raises(OptionError, match="no stage 'assembly'"):
        minicomp.compile(lambda x: x)(floats(2))


def test_nothing_is_printed_or_warned_without_being_asked(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        minicomp.compile(nn.Linear(4, 4))(floats(2, 4))
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_all_errors_have_one_base():
    assert issubclass(ShapeError, MinicompError)
    assert issubclass(ShapeError, ValueError)
    assert issubclass(IndexOutOfRangeError, IndexError)
