"""float16 and bfloat16 through functions, layers, traces and the interpreter."""

import sys

import numpy as np
import pytest

import minicomp
from minicomp import nn
from minicomp.errors import DTypeError
from minicomp.ir import numpy_dtype


@pytest.fixture(params=["float16", "bfloat16"])
def half(request):
    if request.param == "bfloat16":
        pytest.importorskip("ml_dtypes")
    return request.param


def numbers(*shape, dtype, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(numpy_dtype(dtype))


def interpreted(function, *arrays):
    return minicomp.interpret(minicomp.trace(function, *arrays), *arrays)


def bits(array):
    return array.view(np.uint16)


POINTWISE = [
    *("exp", "expm1", "log1p", "sin", "cos", "tan", "tanh", "erf", "sigmoid", "exp2", "square"),
    *("floor", "ceil", "trunc", "round", "abs", "sign", "negative", "reciprocal", "relu", "silu"),
]


@pytest.mark.parametrize("name", POINTWISE)
def test_functions_compute_in_float32_and_round_once(half, name):
    function = getattr(minicomp, name)
    x = numbers(200, dtype=half)
    x = np.abs(x) if name == "log1p" else x
    result = interpreted(function, x)
    assert result.dtype == x.dtype
    expected = function(x.astype(np.float32)).astype(x.dtype)
    np.testing.assert_array_equal(bits(result), bits(expected))
    np.testing.assert_array_equal(bits(function(x)), bits(result))  # at once, as traced


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "gelu", "logsumexp", "var", "std"])
def test_compound_functions_round_once_too(half, name):
    function = getattr(minicomp, name)
    x = numbers(4, 60, dtype=half)
    expected = function(x.astype(np.float32)).astype(x.dtype)
    if name == "std":  # the variance is rounded before its root is taken
        expected = np.sqrt(minicomp.var(x).astype(np.float32)).astype(x.dtype)
    np.testing.assert_array_equal(bits(np.asarray(interpreted(function, x))), bits(expected))


@pytest.mark.parametrize("name", ["sum", "mean", "prod", "cumsum"])
def test_sums_are_made_in_float32(half, name):
    x = np.full((2, 3000), 1, numpy_dtype(half))  # 3000 ones: more than 11 bits can count
    expected = getattr(np, name)(x.astype(np.float32), axis=1).astype(x.dtype)
    result = interpreted(lambda x: getattr(minicomp, name)(x, axis=1), x)
    np.testing.assert_array_equal(bits(result), bits(expected))
    if name == "sum":
        assert (result == np.asarray(3000).astype(x.dtype)).all()


def test_products_are_summed_in_float32(half):
    x, y = numbers(7, 300, dtype=half), numbers(300, 5, dtype=half, seed=1)
    result = interpreted(lambda x, y: x @ y, x, y)
    expected = (x.astype(np.float32) @ y.astype(np.float32)).astype(x.dtype)
    np.testing.assert_array_equal(bits(result), bits(expected))


@pytest.mark.parametrize(
    "function",
    [lambda x: x + 1, lambda x: 1.5 * x, lambda x: x**2, lambda x: 1 / x, lambda x: x // 0.3,
     lambda x: x % 2, lambda x: minicomp.where(x > 0, x, 0.0), lambda x: minicomp.clip(x, -1, 1),
     lambda x: minicomp.maximum(x, 0)],
)  # fmt: skip
def test_python_numbers_keep_the_dtype(half, function):
    x = numbers(50, dtype=half)
    result = interpreted(function, x)
    assert result.dtype == x.dtype
    wide = function(x.astype(np.float32))
    tolerance = 2.0 ** (-9 if half == "float16" else -6)
    np.testing.assert_allclose(result.astype(np.float32), wide, rtol=tolerance, atol=tolerance)


def test_wider_floats_win_and_the_two_halves_meet_in_float32(half):
    x = numbers(3, dtype=half)
    for other, expected in [("float32", "float32"), ("float64", "float64"), ("bool", half)]:
        y = np.ones(3, other)
        assert interpreted(lambda x, y: x + y, x, y).dtype == numpy_dtype(expected)
        assert interpreted(lambda x, y: y * x, x, y).dtype == numpy_dtype(expected)
    types = [minicomp.TensorType((3,), name) for name in ("float16", "bfloat16")]
    assert minicomp.trace(lambda x, y: x * y, *types).outputs[0].dtype == "float32"


def test_movement_keeps_bits(half):
    x = numbers(4, 6, dtype=half)
    bits(x)[0, :3] = [0x7FFF, 0x8000, 0x0001]  # a NaN with a payload, -0, the least subnormal
    for function in (
        lambda x: x.T,
        lambda x: x[::-1, 1::2],
        lambda x: x.reshape(2, 12),
        lambda x: minicomp.concatenate([x, x], axis=1),
        lambda x: minicomp.take(x, np.array([0, 2, 0]), axis=0),
        lambda x: minicomp.pad(x, 1),
    ):
        numpy_result = interpreted(function, bits(x).astype(np.int32)).astype(np.uint16)
        np.testing.assert_array_equal(bits(interpreted(function, x)), numpy_result)


def test_casts_round_to_nearest_even(half):
    x = np.linspace(-70000, 70000, 999, dtype=np.float32)
    to_half = interpreted(lambda x: x.astype(half), x)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(bits(to_half), bits(x.astype(numpy_dtype(half))))
    back = interpreted(lambda x: x.astype("float32"), to_half)
    np.testing.assert_array_equal(back, to_half.astype(np.float32))
    name = {"float16": "half", "bfloat16": "bfloat16"}[half]
    np.testing.assert_array_equal(bits(interpreted(lambda x: getattr(x, name)(), x)), bits(to_half))


def test_layers_have_and_give_the_dtype(half):
    model = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3)).to(half)
    x = numbers(5, 6, dtype=half)
    result = interpreted(model, x)
    assert {p.dtype for p in model.parameters()} == {x.dtype}
    assert result.dtype == x.dtype
    wide = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3))
    wide.load_state_dict(model.state_dict())
    expected = wide(x.astype(np.float32))
    tolerance = 0.01 if half == "float16" else 0.08
    np.testing.assert_allclose(result.astype(np.float32), expected, rtol=tolerance, atol=tolerance)


def test_module_methods_cast(half):
    layer = nn.Linear(2, 2)
    weight = layer.weight.data
    method = {"float16": layer.half, "bfloat16": layer.bfloat16}[half]
    method()
    np.testing.assert_array_equal(bits(layer.weight.data), bits(weight.astype(numpy_dtype(half))))
    assert layer.float().weight.dtype == np.float32


def test_attention_gives_the_dtype(half):
    q, k, v = (numbers(2, 5, 8, dtype=half, seed=seed) for seed in range(3))
    attention = minicomp.scaled_dot_product_attention
    result = interpreted(lambda q, k, v: attention(q, k, v, is_causal=True), q, k, v)
    expected = attention(*(x.astype(np.float32) for x in (q, k, v)), is_causal=True)
    assert result.dtype == q.dtype
    tolerance = 0.01 if half == "float16" else 0.06
    np.testing.assert_allclose(result.astype(np.float32), expected, rtol=tolerance, atol=tolerance)


# --- where they are not computed in, or not there ---


def test_the_cpu_refuses_them_among_the_arguments(half):
    with pytest.raises(DTypeError, match=f"{half} is for CUDA; on the CPU wanted one of float32"):
        minicomp.compile(lambda x: x + 1)(numbers(3, dtype=half))


def test_the_cpu_refuses_them_within_a_function_and_names_the_line(half):
    compiled = minicomp.compile(lambda x: x.astype(half).astype("float32"))
    with pytest.raises(DTypeError, match=rf"cast at test_half_width.py:\d+: {half} is for CUDA"):
        compiled(np.ones(3, np.float32))


def test_the_cpu_refuses_them_in_parameters(half):
    compiled = minicomp.compile(nn.Linear(3, 2).to(half))
    with pytest.raises(DTypeError, match=f"{half} is for CUDA"):
        compiled(np.ones((1, 3), np.float32))


def test_without_ml_dtypes_bfloat16_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(DTypeError, match=r"pip install 'minicomp\[bfloat16\]'"):
        nn.Linear(2, 2).bfloat16()
    with pytest.raises(DTypeError, match=r"pip install 'minicomp\[bfloat16\]'"):
        minicomp.astype(np.ones(3, np.float32), "bfloat16")
    # A trace needs no numbers, so it needs no ml_dtypes either.
    x = minicomp.TensorType((3,), "bfloat16")
    assert minicomp.trace(lambda x: x + 1, x).outputs[0].dtype == "bfloat16"
