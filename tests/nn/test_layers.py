"""Layers against NumPy definitions written by hand, at once and traced."""

import math

import numpy as np
import pytest

import minicomp as mc
from minicomp import nn
from minicomp.errors import AttributeValueError, DTypeError, UnsupportedError
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
    last = nn.Embedding(10, 3, padding_idx=-1)
    assert last.padding_idx == 9 and not last.weight.data[9].any()
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
    check(nn.Identity(1, two=2), wide)
    check(nn.Flatten(), wide.reshape(2, 30))
    check(nn.Flatten(0, 1), wide.reshape(10, 6))


@pytest.mark.parametrize(("rank", "axis"), [(1, 0), (2, 1), (3, 0), (4, 1)])
def test_softmax_without_a_dim_takes_pytorchs(rank, axis):
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)[:rank]).astype(np.float32)
    powers = np.exp(x.astype(np.float64))
    check(nn.Softmax(), powers / powers.sum(axis, keepdims=True), x)


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


@pytest.mark.parametrize(
    ("mode", "numpys"), [("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")]
)
@pytest.mark.parametrize("padding", [1, (2, 1), "same"])
def test_convolution_with_images_padded_by_themselves(mode, numpys, padding):
    x = np.random.default_rng(1).normal(size=(2, 3, 6, 5)).astype(np.float32)
    layer = nn.Conv2d(3, 4, 3, padding=padding, padding_mode=mode)
    rows, columns = (1, 1) if isinstance(padding, str | int) else padding
    wide = np.pad(x, ((0, 0), (0, 0), (rows, rows), (columns, columns)), numpys)
    check(layer, mc.conv2d(wide, layer.weight, layer.bias), x)
    check(layer, mc.conv2d(wide[0], layer.weight, layer.bias), x[0])
    assert repr(layer).endswith(f"padding_mode={mode})")


# --- arguments that cannot be ---


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(2.5, 3), "in_features is 2.5, wanted an int"),
        (lambda: nn.Linear(3, -1), "out_features is -1, wanted 0 or more"),
        (lambda: nn.Linear("3", 1), "in_features is '3', wanted an int"),
        (lambda: nn.Embedding(-1, 3), "num_embeddings is -1"),
        (lambda: nn.Embedding(10, 3, 10), "padding_idx is 10, wanted one of the 10 rows, -10 to 9"),
        (lambda: nn.LayerNorm(-1), "normalized_shape is -1"),
        (lambda: nn.LayerNorm(()), "normalized_shape is empty"),
        (lambda: nn.RMSNorm((2, -3)), "normalized_shape is -3"),
        (lambda: nn.Flatten("1"), "start_dim is '1'"),
        (lambda: nn.Softmax(1.0), "dim is 1.0"),
        (lambda: nn.GELU("fast"), "approximate is 'fast'"),
        (lambda: nn.Dropout("half"), "p is 'half', wanted a probability"),
        (lambda: nn.Conv2d(3, 4, 1, groups=2), "groups=2 does not divide 3 and 4"),
        (lambda: nn.Conv2d(4, 4, 1, groups=0), "groups is 0, wanted 1 or more"),
        (lambda: nn.Conv2d(4, 4, 0), "kernel_size is 0, wanted 1 or more"),
        (lambda: nn.Conv2d(4, 4, (1, 2, 3)), "kernel_size is .* wanted an int or a pair"),
        (lambda: nn.Conv2d(4, 4, 3, stride=0), "stride is 0"),
        (lambda: nn.Conv2d(4, 4, 3, dilation=0), "dilation is 0"),
        (lambda: nn.Conv2d(4, 4, 3, padding=-1), "padding is -1"),
        (lambda: nn.Conv2d(4, 4, 3, padding="full"), "padding is 'full', wanted 'same'"),
        (lambda: nn.Conv2d(4, 4, 3, 2, padding="same"), "padding='same' needs stride 1"),
        (lambda: nn.Conv2d(4, 4, 3, padding_mode="mirror"), "padding_mode is 'mirror', wanted one"),
        (lambda: nn.MaxPool2d(0), "kernel_size is 0"),
        (lambda: nn.MaxPool2d(2, padding=2), r"padding \(2, 2\) is more than half of the kernel"),
        (lambda: nn.MaxPool2d(2, dilation=0), "dilation is 0"),
        (lambda: nn.AvgPool2d(2.5), "kernel_size is 2.5"),
    ],
)
def test_impossible_arguments_are_named_where_the_layer_is_made(make, message):
    with pytest.raises(AttributeValueError, match=rf"^\w+ at test_layers.py:\d+: {message}"):
        make()


@pytest.mark.parametrize("dtype", [np.int32, bool])
def test_parameters_that_are_no_floats_are_refused(dtype):
    with pytest.raises(DTypeError, match=r"Linear at .*parameters are floats; got dtype"):
        nn.Linear(2, 3, dtype=dtype)


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
