"""Layers against NumPy definitions written by hand, at once and traced."""

import math

import numpy as np
import pytest

import minicomp as mc
from minicomp import nn
from minicomp.errors import AttributeValueError, UnsupportedError
from minicomp.ir.verifier import verify

X = np.random.default_rng(0).normal(size=(2, 5, 6)).astype(np.float32)
ERF = np.vectorize(math.erf)


def check(layer, expected, x=X, rtol=2e-6):
    """The layer gives `expected`, at once on arrays and traced, in x's dtype."""
    at_once = layer(x)
    traced = mc.interpret(verify(mc.trace(layer, x)), x)
    np.testing.assert_array_equal(traced, at_once)
    assert at_once.shape == np.shape(expected)
    np.testing.assert_allclose(at_once, expected, rtol=rtol, atol=rtol)
    if np.asarray(x).dtype.kind == "f":
        assert at_once.dtype == x.dtype


def data(parameter):
    return parameter.data.astype(np.float64)


def test_linear():
    layer = nn.Linear(6, 4)
    check(layer, X @ data(layer.weight).T + data(layer.bias))
    assert nn.Linear(6, 4, bias=False).bias is None
    check(plain := nn.Linear(6, 4, bias=False), X @ data(plain.weight).T)


def test_embedding():
    layer = nn.Embedding(10, 3, padding_idx=2)
    assert not layer.weight.data[2].any()
    indices = np.array([[1, 2], [9, 0]])
    check(layer, layer.weight.data[indices], indices)


def test_layer_norm():
    layer = nn.LayerNorm((5, 6), eps=1e-3)
    layer.weight *= np.linspace(0, 2, 30, dtype=np.float32).reshape(5, 6)
    layer.bias += 0.5
    wide = X.astype(np.float64)
    centered = wide - wide.mean((1, 2), keepdims=True)
    deviation = np.sqrt((centered**2).mean((1, 2), keepdims=True) + 1e-3)
    check(layer, centered / deviation * data(layer.weight) + 0.5)
    assert list(nn.LayerNorm(6, bias=False).state_dict()) == ["weight"]
    assert not nn.LayerNorm(6, elementwise_affine=False).state_dict()


def test_rms_norm():
    layer = nn.RMSNorm(6, eps=1e-3)
    layer.weight *= 3
    wide = X.astype(np.float64)
    check(layer, wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-3) * 3)
    assert nn.RMSNorm(6, elementwise_affine=False).weight is None


def test_activations():
    wide = X.astype(np.float64)
    check(nn.ReLU(inplace=True), np.maximum(wide, 0))
    check(nn.SiLU(), wide / (1 + np.exp(-wide)))
    check(nn.GELU(), wide / 2 * (1 + ERF(wide / math.sqrt(2))))
    inner = math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)
    check(nn.GELU(approximate="tanh"), wide / 2 * (1 + np.tanh(inner)))
    check(nn.Tanh(), np.tanh(wide))
    check(nn.Sigmoid(), 1 / (1 + np.exp(-wide)))
    powers = np.exp(wide)
    check(nn.Softmax(dim=1), powers / powers.sum(1, keepdims=True))
    check(nn.Softmax(), powers / powers.sum(-1, keepdims=True))
    check(nn.Identity(1, two=2), wide)
    check(nn.Flatten(), wide.reshape(2, 30))
    check(nn.Flatten(0, 1), wide.reshape(10, 6))
    with pytest.raises(AttributeValueError, match="GELU: approximate is 'fast'"):
        nn.GELU("fast")


def test_convolution_and_pooling_pass_their_arguments_on():
    x = np.random.default_rng(1).normal(size=(2, 4, 7, 8)).astype(np.float32)
    layer = nn.Conv2d(4, 6, (3, 2), stride=2, padding=(1, 0), dilation=1, groups=2)
    expected = mc.conv2d(x, layer.weight, layer.bias, (2, 2), (1, 0), 1, 2)
    check(layer, expected, x)
    same = nn.Conv2d(4, 2, 3, padding="same", bias=False)
    assert same.bias is None
    check(same, mc.conv2d(x, same.weight, padding="same"), x)
    check(nn.MaxPool2d(3, 2, 1), mc.max_pool2d(x, 3, 2, 1), x)
    check(nn.MaxPool2d(2), mc.max_pool2d(x, 2), x)
    pool = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    check(pool, mc.avg_pool2d(x, 3, 1, 1, count_include_pad=False), x)


def test_one_by_one_convolution_is_a_product():
    x = np.random.default_rng(1).normal(size=(2, 4, 3, 3)).astype(np.float32)
    layer = nn.Conv2d(4, 5, 1)
    weight = data(layer.weight)[:, :, 0, 0]
    check(layer, np.einsum("nchw,oc->nohw", x, weight) + data(layer.bias)[:, None, None], x)


def test_impossible_convolutions_are_named_at_once():
    with pytest.raises(AttributeValueError, match="Conv2d: groups=2 does not divide 3 and 4"):
        nn.Conv2d(3, 4, 1, groups=2)
    with pytest.raises(UnsupportedError, match="padding_mode='reflect'"):
        nn.Conv2d(3, 4, 1, padding_mode="reflect")


# --- dropout ---


def test_dropout_is_the_identity_in_evaluation():
    check(nn.Dropout(0.5).eval(), X)
    check(nn.Dropout(0.0), X)


def test_dropout_in_training_drops_a_share_and_scales_the_rest():
    nn.manual_seed(1)
    x = np.ones((100, 100), np.float32)
    result = nn.Dropout(0.25)(x)
    assert result.dtype == np.float32
    kept = result != 0
    assert 0.72 < kept.mean() < 0.78
    np.testing.assert_allclose(result[kept], 1 / 0.75, rtol=1e-6)
    assert not nn.Dropout(1.0)(x).any()
    nn.manual_seed(1)
    np.testing.assert_array_equal(nn.Dropout(0.25)(x), result)


def test_dropout_in_training_is_not_traced():
    with pytest.raises(UnsupportedError, match=r"Dropout at .*call model\.eval\(\) first"):
        mc.trace(nn.Dropout(0.5), X)
    with pytest.raises(AttributeValueError, match=r"p is 1.5, wanted a probability"):
        nn.Dropout(1.5)


# --- initialisation ---


def test_initialisation_is_seeded():
    nn.manual_seed(3)
    first = nn.Linear(4, 4).weight.data
    second = nn.Linear(4, 4).weight.data
    mc.manual_seed(3)
    np.testing.assert_array_equal(nn.Linear(4, 4).weight.data, first)
    assert not np.array_equal(first, second)


def test_initial_parameters_have_pytorchs_bounds():
    for parameter, bound in [
        (nn.Linear(400, 300).weight, 1 / 20),
        (nn.Linear(400, 3000).bias, 1 / 20),
        (nn.Conv2d(16, 64, (5, 5), groups=4).weight, 1 / 10),
        (nn.MultiheadAttention(96, 4).in_proj_weight, math.sqrt(6 / (4 * 96))),
    ]:
        assert 0.97 * bound < abs(parameter.data).max() <= np.float32(bound)
        assert abs(parameter.data.mean()) < 0.05 * bound
    table = nn.Embedding(1000, 30).weight.data
    assert abs(table.std() - 1) < 0.02
    assert nn.Linear(0, 2).weight.shape == (2, 0)


def test_dtypes_of_new_layers():
    assert nn.Linear(2, 2).weight.dtype == np.float32
    assert nn.Linear(2, 2, dtype=np.float64).weight.dtype == np.float64
    assert nn.LayerNorm(2, dtype="float16").bias.dtype == np.float16


# --- text ---


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (nn.Linear(3, 4, bias=False), "Linear(in_features=3, out_features=4, bias=False)"),
        (nn.Embedding(10, 4, 0), "Embedding(10, 4, padding_idx=0)"),
        (nn.LayerNorm(8), "LayerNorm((8,), eps=1e-05, elementwise_affine=True, bias=True)"),
        (nn.RMSNorm((2, 8)), "RMSNorm((2, 8), eps=None, elementwise_affine=True)"),
        (nn.Dropout(0.1), "Dropout(p=0.1, inplace=False)"),
        (nn.GELU("tanh"), "GELU(approximate='tanh')"),
        (nn.Softmax(-1), "Softmax(dim=-1)"),
        (nn.Flatten(), "Flatten(start_dim=1, end_dim=-1)"),
        (nn.Conv2d(1, 6, 5), "Conv2d(1, 6, kernel_size=(5, 5), stride=(1, 1))"),
        (
            nn.Conv2d(2, 6, 3, padding="same", groups=2, bias=False),
            "Conv2d(2, 6, kernel_size=(3, 3), stride=(1, 1), padding=same, groups=2, bias=False)",
        ),
        (
            nn.MaxPool2d(2),
            "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)",
        ),
        (nn.AvgPool2d(2, 1), "AvgPool2d(kernel_size=2, stride=1, padding=0)"),
    ],
)
def test_layers_print_their_arguments(layer, text):
    assert repr(layer) == text
