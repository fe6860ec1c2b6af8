"""Modules: registration, names, state, moves."""

import copy
import pickle

import numpy as np
import pytest

from minicomp import nn
from minicomp.errors import (
    CudaError,
    DeviceError,
    DTypeError,
    ModuleError,
    StateDictError,
    UnsupportedError,
)


class Block(nn.Module):
    def __init__(self, size=3):
        super().__init__()
        self.linear = nn.Linear(size, size)
        self.scale = nn.Parameter(np.ones(size, np.float32))
        self.register_buffer("mean", np.zeros(size, np.float32))
        self.register_buffer("scratch", np.zeros(size), persistent=False)
        self.register_parameter("missing", None)
        self.size = size

    def forward(self, x):
        return self.linear(x) * self.scale - self.mean


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = Block()
        self.blocks = nn.ModuleList([Block(), nn.ReLU()])

    def forward(self, x):
        for block in [self.first, *self.blocks]:
            x = block(x)
        return x


# --- registration ---


def test_parameters_and_modules_are_found_by_name():
    net = Net()
    assert [name for name, _ in net.named_parameters()] == [
        "first.scale",
        "first.linear.weight",
        "first.linear.bias",
        "blocks.0.scale",
        "blocks.0.linear.weight",
        "blocks.0.linear.bias",
    ]
    assert [name for name, _ in net.named_modules()] == [
        "", "first", "first.linear", "blocks", "blocks.0", "blocks.0.linear", "blocks.1",
    ]  # fmt: skip
    assert [name for name, _ in net.named_children()] == ["first", "blocks"]
    assert list(net.children()) == [net.first, net.blocks]
    assert [name for name, _ in net.named_buffers()] == [
        "first.mean", "first.scratch", "blocks.0.mean", "blocks.0.scratch",
    ]  # fmt: skip
    assert len(list(net.parameters())) == 6
    assert len(list(net.buffers())) == 4
    assert [name for name, _ in net.first.named_parameters("a", recurse=False)] == ["a.scale"]
    assert net.get_submodule("blocks.0.linear") is net.blocks[0].linear
    with pytest.raises(AttributeError, match=r"has no submodule 'blocks.7'"):
        net.get_submodule("blocks.7")


def test_attributes_are_kept_by_kind():
    block = Block()
    assert block.missing is None
    block.missing = nn.Parameter(np.zeros(1))
    assert "missing" in dict(block.named_parameters())
    block.missing = None
    assert "missing" not in dict(block.named_parameters())
    block.mean = np.ones(3, np.float32)
    assert dict(block.named_buffers())["mean"] is block.mean
    block.linear = nn.Linear(3, 3, bias=False)
    assert block.linear.bias is None
    del block.scale
    with pytest.raises(AttributeError, match="'Block' object has no attribute 'scale'"):
        _ = block.scale
    assert "linear" in dir(block)


def test_a_plain_attribute_gives_way_to_a_parameter():
    block = Block()
    block.size = nn.Parameter(np.zeros(1))
    assert "size" in dict(block.named_parameters())
    assert "size" not in vars(block)


def test_wrong_registrations_are_named():
    class Early(nn.Module):
        def __init__(self):
            self.weight = nn.Parameter(np.zeros(1))

    with pytest.raises(ModuleError, match=r"'weight' is set before super\(\).__init__\(\)"):
        Early()
    block = Block()
    with pytest.raises(ModuleError, match="'scale' is a Parameter of Block and cannot become a"):
        block.scale = np.zeros(3)
    with pytest.raises(ModuleError, match="'linear' is a Module of Block and cannot become a"):
        block.linear = 3
    with pytest.raises(ModuleError, match="'x' is a int, wanted a Module or None"):
        block.add_module("x", 3)
    for name in ("a.b", "", 3):
        message = f"{name!r} cannot name a part of Block; wanted a str without dots"
        for register in (block.add_module, block.register_parameter, block.register_buffer):
            with pytest.raises(ModuleError, match=message):
                register(name, None)


def test_a_parameter_in_two_places_counts_once():
    net = Net()
    net.blocks[0].linear = net.first.linear
    net.blocks[0].scale = net.first.scale
    assert len(list(net.parameters())) == 3
    assert len(list(net.named_parameters(remove_duplicate=False))) == 6
    assert "blocks.0.scale" in net.state_dict()
    assert len(list(net.modules())) == 6


def test_apply_visits_children_first():
    seen = []
    Net().apply(lambda module: seen.append(type(module).__name__))
    assert seen == ["Linear", "Block", "Linear", "Block", "ReLU", "ModuleList", "Net"]


def test_a_module_without_forward_says_so():
    with pytest.raises(UnsupportedError, match=r"Module has no forward\(\)"):
        nn.Module()()


# --- state ---


def test_a_state_dict_goes_round():
    source, target = Net(), Net()
    state = {name: array + 1 for name, array in source.state_dict().items()}
    assert "first.mean" in state
    assert "first.scratch" not in state
    weight = target.first.linear.weight.data
    assert target.load_state_dict(state) == ([], [])
    assert target.first.linear.weight.data is weight
    for name, array in target.state_dict().items():
        np.testing.assert_array_equal(array, state[name])


def test_a_state_dict_holds_the_arrays_themselves():
    net = Net()
    net.state_dict()["first.scale"][0] = 5
    assert net.first.scale.data[0] == 5


def test_loading_converts_dtypes_and_takes_parameters():
    block = Block()
    block.load_state_dict(
        block.state_dict() | {"scale": np.array([1, 2, 3]), "mean": nn.Parameter(np.ones(3))}
    )
    assert block.scale.dtype == np.float32
    np.testing.assert_array_equal(block.scale.data, [1, 2, 3])


def test_a_state_dict_that_does_not_fit_changes_nothing():
    block = Block()
    before = {name: array.copy() for name, array in block.state_dict().items()}
    state = {"scale": np.zeros(4), "mean": np.full(3, 9.0), "extra": np.zeros(1)}
    with pytest.raises(StateDictError) as caught:
        block.load_state_dict(state)
    message = str(caught.value)
    assert "does not fit Block" in message
    assert "missing names: linear.weight, linear.bias" in message
    assert "unexpected names: extra" in message
    assert "scale has shape (4,), the module wants (3,)" in message
    with pytest.raises(StateDictError, match="scale has shape"):
        block.load_state_dict(state, strict=False)
    for name, array in block.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_loading_leniently_says_what_it_passed_over():
    result = Block().load_state_dict({"scale": np.zeros(3), "extra": np.zeros(1)}, strict=False)
    assert result.missing_keys == ["mean", "linear.weight", "linear.bias"]
    assert result.unexpected_keys == ["extra"]


def test_modules_are_copied_and_pickled():
    net = Net()
    x = np.ones((2, 3), np.float32)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        np.testing.assert_array_equal(other(x), net(x))
        other.first.scale += 1
        assert net.first.scale.data[0] == 1


# --- mode, device, dtype ---


def test_modes_reach_everything_below():
    net = Net()
    assert net.training
    assert net.eval() is net
    assert not any(module.training for module in net.modules())
    net.blocks.train()
    assert net.blocks[1].training
    assert not net.first.training


def test_dtypes_change_in_place():
    net = Net()
    parameter = net.first.scale
    assert net.double() is net
    assert net.first.scale is parameter
    assert parameter.dtype == np.float64
    assert net.first.mean.dtype == np.float64
    assert net(np.ones((1, 3))).dtype == np.float64
    assert net.to(np.float32).first.scale.dtype == np.float32
    assert net.half().float().to("cpu", "float64").first.scale.dtype == np.float64
    assert net.to(dtype="float32", device="cpu").cpu().first.scale.dtype == np.float32


def test_integer_buffers_keep_their_dtype():
    block = Block()
    block.register_buffer("count", np.zeros(2, np.int64))
    assert block.double().count.dtype == np.int64


def test_wrong_targets_are_named():
    with pytest.raises(DTypeError, match="parameters are floats; got dtype int32"):
        Net().to(np.int32)
    with pytest.raises(DTypeError, match="'metal' is not a dtype"):
        Net().to("metal")
    with pytest.raises(DeviceError, match="device 'metal' is unknown"):
        Net().to(device="metal")
    for target in ("cuda:1", "cuda:x", "cpu:1"):
        with pytest.raises(DeviceError, match=f"'{target}' is one of several; .* write '"):
            Net().to(target)


def test_cuda_that_is_missing_says_what_to_install(without_gpu):
    with pytest.raises(CudaError, match=r"pycuda is not installed; .*minicomp.cuda."):
        Net().to("cuda")
    with pytest.raises(CudaError, match=r"pycuda is not installed; .*minicomp.cuda."):
        nn.Linear(2, 2, device="cuda")


@pytest.mark.cuda
def test_a_module_moves_to_the_gpu_and_back():
    block = Block().to("cuda:0")
    assert {p.device for p in block.parameters()} == {"cuda"}
    assert hasattr(block.mean, "__cuda_array_interface__")
    state = block.cpu().state_dict()
    assert all(isinstance(array, np.ndarray) for array in state.values())
    block.cuda().load_state_dict({name: array + 1 for name, array in state.items()})
    np.testing.assert_array_equal(block.cpu().scale.data, [2, 2, 2])
    np.testing.assert_array_equal(block.mean, [1, 1, 1])


@pytest.mark.cuda
def test_a_module_on_the_gpu_changes_its_dtype_there():
    block = Block().cuda().half()
    assert {(p.device, p.dtype) for p in block.parameters()} == {("cuda", np.dtype(np.float16))}
    np.testing.assert_array_equal(block.cpu().scale.data, np.ones(3, np.float16))


@pytest.mark.cuda
def test_layers_are_made_on_the_gpu():
    layer = nn.Linear(3, 2, device="cuda", dtype="float16")
    assert (layer.weight.device, layer.weight.dtype) == ("cuda", np.float16)
    assert layer.cpu().weight.data.shape == (2, 3)


@pytest.mark.cuda
def test_a_parameter_on_the_gpu_is_no_numpy_array_by_itself():
    layer = nn.Linear(3, 2).cuda()
    with pytest.raises(DeviceError, match="to_host"):
        np.asarray(layer.weight)


# --- versions ---


def test_the_version_changes_with_what_a_trace_depends_on():
    net, version = Net(), None

    def changed(change):
        before = net.structure_version()
        change()
        return net.structure_version() != before

    version = net.structure_version()
    assert net.structure_version() == version
    assert not changed(lambda: net.first.scale.__iadd__(1))
    assert not changed(Net)
    assert not changed(net.train)
    assert changed(net.eval)
    assert changed(lambda: setattr(net.first, "size", 4))
    assert changed(lambda: net.first.register_buffer("more", np.zeros(1)))
    assert changed(lambda: net.blocks.append(nn.ReLU()))
    assert changed(lambda: delattr(net.first, "more"))
    assert changed(lambda: net.first.register_parameter("scale", None))
    assert changed(net.double)


def test_versions_from_another_process_mean_nothing():
    net = Net()
    vars(net)["_version"] = vars(net.first.scale)["_version"] = 10**9
    copied = pickle.loads(pickle.dumps(net))
    before = copied.structure_version()
    copied.eval()
    assert before != copied.structure_version()


# --- containers and text ---


def test_sequential_calls_in_order():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(net(x), np.maximum(net[0](x), 0))
    assert len(net) == 2
    assert list(net.state_dict()) == ["0.weight", "0.bias"]
    named = nn.Sequential({"body": nn.Linear(3, 4), "head": nn.ReLU()})
    assert [name for name, _ in named.named_children()] == ["body", "head"]
    assert named.head is named[-1]


def test_lists_of_modules_are_lists():
    layers = [nn.Linear(2, 2) for _ in range(3)]
    modules = nn.ModuleList(layers[:1])
    modules.append(layers[2]).insert(1, layers[1])
    assert list(modules) == layers
    assert list(modules[1:]) == layers[1:]
    assert isinstance(nn.Sequential(*layers)[:2], nn.Sequential)
    modules[0] = layers[2]
    assert modules[0] is modules[2]
    assert [name for name, _ in modules.named_children()] == ["0", "1", "2"]
    with pytest.raises(UnsupportedError, match="a ModuleList is not called"):
        modules(1)


def test_dicts_of_modules_are_dicts():
    modules = nn.ModuleDict({"a": nn.ReLU()})
    modules["b"] = nn.Tanh()
    assert list(modules) == list(modules.keys()) == ["a", "b"]
    assert "b" in modules
    assert len(modules) == 2
    assert list(modules.values()) == [modules["a"], modules["b"]]
    assert dict(modules.items()) == dict(modules.named_children())
    with pytest.raises(UnsupportedError, match="a ModuleDict is not called"):
        modules(1)


def test_modules_print_as_in_pytorch():
    assert repr(Net()) == "\n".join(
        [
            "Net(",
            "  (first): Block(",
            "    (linear): Linear(in_features=3, out_features=3, bias=True)",
            "  )",
            "  (blocks): ModuleList(",
            "    (0): Block(",
            "      (linear): Linear(in_features=3, out_features=3, bias=True)",
            "    )",
            "    (1): ReLU()",
            "  )",
            ")",
        ]
    )
