"""The op table: each row's type rule and meaning, by hand-written results."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_graphs import arrays_for, graphs
from special_values import assert_same_bits

from minicomp.errors import (
    AttributeValueError,
    DeviceError,
    DTypeError,
    GraphError,
    IndexOutOfRangeError,
    ShapeError,
)
from minicomp.ir import Location, TensorType, Value, numpy_dtype
from minicomp.ir.interpreter import evaluate
from minicomp.ir.ops import OPS, infer_type, kind, make

NAN, INF = math.nan, math.inf
INT_MIN = -(2**31)


def f32(*elements):
    return np.array(elements, np.float32)


def i32(*elements):
    return np.array(elements, np.int32)


def i64(*elements):
    return np.array(elements, np.int64)


def bools(*elements):
    return np.array(elements, bool)


M = np.arange(6, dtype=np.float32).reshape(2, 3)  # 0 1 2 / 3 4 5
PATCHED = {"sizes": (2, 2), "strides": (1, 1), "dilations": (1, 1), "low": (0, 0), "high": (0, 0)}

#: op, operands, attributes, result
CASES = [
    ("constant", [], {"value": f32(1, 2)}, f32(1, 2)),
    ("full", [], {"shape": (2,), "value": 0.5, "dtype": "float32"}, f32(0.5, 0.5)),
    ("full", [], {"shape": (), "value": True, "dtype": "bool"}, np.array(True)),
    ("iota", [], {"shape": (3,), "axis": 0, "dtype": "int32"}, i32(0, 1, 2)),
    (
        "iota",
        [],
        {"shape": (2, 2), "axis": 0, "dtype": "float32"},
        np.array([[0, 0], [1, 1]], np.float32),
    ),
    ("neg", [f32(0.0, -2, NAN)], {}, f32(-0.0, 2, NAN)),
    ("neg", [i32(INT_MIN, 5)], {}, i32(INT_MIN, -5)),
    ("abs", [f32(-0.0, -INF)], {}, f32(0.0, INF)),
    ("abs", [i32(INT_MIN, -5)], {}, i32(INT_MIN, 5)),
    ("sign", [f32(-3, 0.0, 7, NAN)], {}, f32(-1, 0.0, 1, NAN)),
    ("exp", [f32(-INF, 0, 1, INF)], {}, f32(0, 1, math.e, INF)),
    ("expm1", [f32(-INF, -0.0, 1)], {}, f32(-1, -0.0, math.e - 1)),
    ("log", [f32(0, 1, math.e, -1)], {}, f32(-INF, 0, 1, NAN)),
    ("log1p", [f32(-1, -0.0, math.e - 1)], {}, f32(-INF, -0.0, 1)),
    ("sqrt", [f32(4, -0.0, -1)], {}, f32(2, -0.0, NAN)),
    ("rsqrt", [f32(4, 0.0, -0.0, INF, -1)], {}, f32(0.5, INF, -INF, 0, NAN)),
    ("sin", [f32(0, math.pi / 2, INF)], {}, f32(0, 1, NAN)),
    ("cos", [f32(0, math.pi, INF)], {}, f32(1, -1, NAN)),
    ("tanh", [f32(-INF, 0, 1)], {}, f32(-1, 0, 0.76159415)),
    ("erf", [f32(-INF, 0, 0.5, NAN)], {}, f32(-1, 0, 0.5204999, NAN)),
    ("sigmoid", [f32(-INF, -200, 0, 2, NAN)], {}, f32(0, 0, 0.5, 0.880797, NAN)),
    ("floor", [f32(-1.5, 1.5, -0.0)], {}, f32(-2, 1, -0.0)),
    ("ceil", [f32(-1.5, 1.5, -0.5)], {}, f32(-1, 2, -0.0)),
    ("trunc", [f32(-1.5, 1.5, INF)], {}, f32(-1, 1, INF)),
    ("round", [f32(0.5, 1.5, -2.5)], {}, f32(0, 2, -2)),
    ("logical_not", [bools(True, False)], {}, bools(False, True)),
    ("copy", [i32(1, 2)], {}, i32(1, 2)),
    ("cast", [f32(1.9, -1.9, NAN, 1e30, -INF)], {"dtype": "int32"}, i32(1, -1, *[INT_MIN] * 3)),
    ("cast", [f32(2.0**62, 2.0**63)], {"dtype": "int64"}, i64(2**62, -(2**63))),
    ("cast", [f32(0.0, -0.0, 0.1, NAN)], {"dtype": "bool"}, bools(False, False, True, True)),
    ("cast", [i64(2**32 + 7, -1)], {"dtype": "int32"}, i32(7, -1)),
    ("cast", [bools(True, False)], {"dtype": "float32"}, f32(1, 0)),
    ("add", [f32(1, -0.0, INF), f32(2, 0.0, -INF)], {}, f32(3, 0.0, NAN)),
    ("add", [i32(2**31 - 1), i32(1)], {}, i32(INT_MIN)),
    ("sub", [f32(1, 0.0), f32(2, 0.0)], {}, f32(-1, 0.0)),
    ("mul", [f32(3, 0.0, INF), f32(2, -1, 0)], {}, f32(6, -0.0, NAN)),
    ("div", [f32(1, -1, 0), f32(3, 0, 0)], {}, f32(1 / 3, -INF, NAN)),
    ("floor_divide", [f32(7, -7, 7), f32(2, 2, -0.0)], {}, f32(3, -4, -INF)),
    ("floor_divide", [i32(7, -7, 7, 1), i32(2, 2, -2, 0)], {}, i32(3, -4, -4, 0)),
    ("mod", [f32(7, -7, 7), f32(3, 3, -3)], {}, f32(1, 2, -2)),
    ("mod", [i32(7, -7, 7, 1), i32(3, 3, -3, 0)], {}, i32(1, 2, -2, 0)),
    ("pow", [f32(2, -8, 0, NAN, 1), f32(10, 1 / 3, -1, 0, NAN)], {}, f32(1024, NAN, INF, 1, 1)),
    ("minimum", [f32(1, NAN, 3), f32(2, 2, NAN)], {}, f32(1, NAN, NAN)),
    ("maximum", [f32(1, NAN, 3), f32(2, 2, NAN)], {}, f32(2, NAN, NAN)),
    ("logical_and", [bools(1, 1, 0, 0), bools(1, 0, 1, 0)], {}, bools(1, 0, 0, 0)),
    ("logical_or", [bools(1, 1, 0, 0), bools(1, 0, 1, 0)], {}, bools(1, 1, 1, 0)),
    ("logical_xor", [bools(1, 1, 0, 0), bools(1, 0, 1, 0)], {}, bools(0, 1, 1, 0)),
    ("bit_and", [i32(12, -1), i32(10, 5)], {}, i32(8, 5)),
    ("bit_or", [i32(12, -1), i32(10, 5)], {}, i32(14, -1)),
    ("bit_xor", [i32(12, -1), i32(10, 5)], {}, i32(6, -6)),
    ("lt", [f32(1, 2, NAN), f32(2, 2, 2)], {}, bools(1, 0, 0)),
    ("le", [f32(1, 2, NAN), f32(2, 2, 2)], {}, bools(1, 1, 0)),
    ("gt", [i32(3, 2), i32(2, 2)], {}, bools(1, 0)),
    ("ge", [bools(0, 1), bools(1, 1)], {}, bools(0, 1)),
    ("eq", [f32(0.0, NAN), f32(-0.0, NAN)], {}, bools(1, 0)),
    ("ne", [f32(0.0, NAN), f32(-0.0, NAN)], {}, bools(0, 1)),
    ("where", [bools(1, 0), i32(1, 2), i32(3, 4)], {}, i32(1, 4)),
    ("sum", [M], {"axes": (0,), "keepdims": False}, f32(3, 5, 7)),
    ("sum", [i32(2**31 - 1, 1)], {"axes": (0,), "keepdims": True}, i64(2**31)),
    ("sum", [M[:0]], {"axes": (0,), "keepdims": False}, f32(0, 0, 0)),
    ("prod", [i32(-3, 5)], {"axes": (0,), "keepdims": False}, np.array(-15, np.int64)),
    ("prod", [M], {"axes": (0, 1), "keepdims": True}, np.zeros((1, 1), np.float32)),
    ("mean", [M], {"axes": (1,), "keepdims": True}, np.array([[1], [4]], np.float32)),
    ("max", [f32(1, NAN, 3)], {"axes": (0,), "keepdims": False}, np.array(NAN, np.float32)),
    ("max", [M], {"axes": (1,), "keepdims": False}, f32(2, 5)),
    ("min", [M], {"axes": (0,), "keepdims": False}, f32(0, 1, 2)),
    ("any", [bools(0, 1)], {"axes": (0,), "keepdims": False}, np.array(True)),
    ("all", [bools(0, 1)], {"axes": (0,), "keepdims": False}, np.array(False)),
    ("argmax", [f32(1, 7, 7)], {"axes": (0,), "keepdims": True}, i64(1)),
    ("argmax", [M], {"axes": (0, 1), "keepdims": False}, np.array(5)),
    ("argmin", [f32(1, NAN, 0)], {"axes": (0,), "keepdims": False}, np.array(1)),
    ("argmin", [M[:, :0].T], {"axes": (1,), "keepdims": False}, np.zeros(0, np.int64)),
    ("cumsum", [M], {"axis": 1}, np.array([[0, 1, 3], [3, 7, 12]], np.float32)),
    ("cumsum", [i32(2**31 - 1, 1)], {"axis": 0}, i64(2**31 - 1, 2**31)),
    ("reshape", [M], {"shape": (3, 2)}, np.array([[0, 1], [2, 3], [4, 5]], np.float32)),
    ("transpose", [M], {"permutation": (1, 0)}, np.array([[0, 3], [1, 4], [2, 5]], np.float32)),
    ("broadcast", [f32(1, 2)], {"shape": (2, 2)}, np.array([[1, 2], [1, 2]], np.float32)),
    (
        "slice",
        [M],
        {"starts": (1, 2), "sizes": (2, 2), "steps": (-1, -2)},
        np.array([[5, 3], [2, 0]], np.float32),
    ),
    ("slice", [np.array(3)], {"starts": (), "sizes": (), "steps": ()}, np.array(3)),
    (
        "windows",
        [f32(0, 1, 2, 3, 4)],
        {"axes": (0,), "sizes": (2,), "strides": (2,), "dilations": (2,)},
        np.array([[0, 2], [2, 4]], np.float32),
    ),
    (
        "windows",
        [M],
        {"axes": (0, 1), "sizes": (2, 2), "strides": (1, 1), "dilations": (1, 1)},
        np.array([[[[0, 1], [3, 4]], [[1, 2], [4, 5]]]], np.float32),
    ),
    ("pad", [f32(1)], {"low": (1,), "high": (2,), "value": -INF}, f32(-INF, 1, -INF, -INF)),
    ("pad", [np.array(7)], {"low": (), "high": (), "value": 0}, np.array(7)),
    ("concatenate", [f32(1), f32(2, 3), f32()], {"axis": 0}, f32(1, 2, 3)),
    (
        "take",
        [f32(5, 6, 7), np.array([[2, -1], [0, 1]])],
        {"axis": 0},
        np.array([[7, 7], [5, 6]], np.float32),
    ),
    ("take", [M, np.array(1, np.int32)], {"axis": 1}, f32(1, 4)),
    (
        "take_along_axis",
        [M, np.array([[2], [-3]], np.int32)],
        {"axis": 1},
        np.array([[2], [3]], np.float32),
    ),
    (
        "patches",
        [M[None, None]],
        {**PATCHED, "sizes": (1, 2), "high": (0, 1)},
        np.array([[0, 1], [1, 2], [2, 0], [3, 4], [4, 5], [5, 0]], np.float32),
    ),
    (
        "patches",
        [np.arange(8, dtype=np.int32).reshape(1, 2, 2, 2)],
        {**PATCHED, "strides": (2, 2), "dilations": (2, 1), "low": (1, 0), "high": (1, 0)},
        np.array([[0, 0, 2, 3, 0, 0, 6, 7]], np.int32),
    ),
    ("matmul", [M, M.T], {}, np.array([[5, 14], [14, 50]], np.float32)),
    ("matmul", [i32(2**30, 2**30)[None], i32(2, 3)[:, None]], {}, np.array([[2**30]], np.int32)),
    ("matmul", [bools([1, 0]), bools([1], [0])], {}, bools([1])),
    ("matmul", [M[:, :0], M[:0]], {}, np.zeros((2, 3), np.float32)),
]  # fmt: skip


def leaf(array, device="cpu", name="x"):
    type = TensorType(array.shape, array.dtype.name, device)
    return make("input", (), {"name": name, "type": type})


def typed(dtype, *shape, device="cpu"):
    return make("input", (), {"name": "x", "type": TensorType(shape, dtype, device)})


@pytest.mark.parametrize(
    ("op", "operands", "attributes", "result"), CASES, ids=[case[0] for case in CASES]
)
def test_each_row_has_the_type_and_meaning_written_here(op, operands, attributes, result):
    value = make(op, [leaf(x) for x in operands], attributes)
    assert value.type == TensorType(result.shape, result.dtype.name)
    with np.errstate(all="ignore"):
        actual = evaluate(value, operands)
    if op in ("exp", "expm1", "log", "log1p", "sin", "cos", "tanh", "erf", "sigmoid"):
        np.testing.assert_allclose(actual, result, rtol=1e-6, atol=1e-7)
        assert (np.signbit(actual) == np.signbit(result))[result == 0].all()
    else:
        assert_same_bits(actual, result)


def test_every_op_but_inputs_has_a_case():
    assert {case[0] for case in CASES} == set(OPS) - {"input", "parameter"}


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(graphs(), st.integers(0, 99))
def test_type_rules_agree_with_numpy(graph, seed):
    """The interpreter would hide a wrong dtype by converting; here nothing does."""
    inputs, parameters = arrays_for(graph, seed)
    arrays, remaining = {}, iter(inputs)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for value in graph:
            if value.op == "input":
                arrays[value] = next(remaining)
            elif value.op == "parameter":
                arrays[value] = parameters[value.attributes["name"]]
            else:
                operands = [arrays[x] for x in value.operands]
                arrays[value] = np.asarray(OPS[value.op].compute(*operands, **value.attributes))
            assert arrays[value].shape == value.shape
            assert arrays[value].dtype == numpy_dtype(value.dtype)


REDUCED = {"axes": (0,), "keepdims": False}
SLICED = {"starts": (0,), "sizes": (3,), "steps": (1,)}
WINDOWED = {"axes": (0,), "sizes": (2,), "strides": (1,), "dilations": (1,)}
X, I, B = typed("float32", 3), typed("int32", 3), typed("bool", 3)  # noqa: E741
XX = typed("float32", 2, 3)
IMAGE = typed("float32", 1, 1, 1, 3)


@pytest.mark.parametrize(
    ("op", "operands", "attributes", "error", "message"),
    [
        ("foo", [], {}, GraphError, "there is no op 'foo'; the table has abs"),
        ("exp", [], {}, GraphError, "exp takes 1 operands, got 0"),
        ("exp", [X], {"axis": 0}, GraphError, "exp has the attributes none; got axis"),
        ("sum", [X], {"axes": (0,)}, GraphError, "the attributes axes, keepdims; got axes"),
        ("exp", [I], {}, DTypeError, "got dtype int32, wanted one of float16"),
        ("logical_not", [X], {}, DTypeError, "got dtype float32, wanted one of bool"),
        ("neg", [B], {}, DTypeError, "got dtype bool"),
        ("div", [I, I], {}, DTypeError, "cast it first"),
        ("bit_and", [X, X], {}, DTypeError, "wanted one of int32, int64"),
        ("add", [X, XX], {}, ShapeError, "shapes differ, (3,) and (2, 3); broadcast first"),
        ("add", [X, I], {}, DTypeError, "dtypes differ, float32 and int32; cast first"),
        ("add", [X, typed("float32", 3, device="cuda")], {}, DeviceError, "cpu and cuda"),
        ("lt", [X, I], {}, DTypeError, "dtypes differ"),
        ("where", [X, X, X], {}, DTypeError, "the condition is float32, wanted bool"),
        ("where", [B, XX, XX], {}, ShapeError, "the condition's shape (3,) is not (2, 3)"),
        ("cast", [X], {"dtype": "complex64"}, DTypeError, "complex64 is not supported"),
        ("cast", [X], {"dtype": "floaty"}, DTypeError, "'floaty' is not a dtype"),
        ("sum", [B], REDUCED, DTypeError, "got dtype bool"),
        ("sum", [X], {**REDUCED, "axes": (1,)}, AttributeValueError, "axis 1 is not within 0..0"),
        ("sum", [XX], {**REDUCED, "axes": (1, 0)}, AttributeValueError, "not sorted and distinct"),
        ("sum", [XX], {**REDUCED, "axes": (1, 1)}, AttributeValueError, "not sorted and distinct"),
        ("sum", [X], {**REDUCED, "axes": (-1,)}, AttributeValueError, "axis -1 is not within"),
        ("max", [typed("float32", 0)], REDUCED, ShapeError, "empty: nothing to pick"),
        ("argmax", [typed("float32", 0, 2)], REDUCED, ShapeError, "empty: nothing to pick"),
        ("cumsum", [X], {"axis": 1}, AttributeValueError, "axis 1 is not within"),
        ("cumsum", [B], {"axis": 0}, DTypeError, "got dtype bool"),
        ("reshape", [X], {"shape": (4,)}, ShapeError, "cannot reshape (3,) (3 elements) to (4,)"),
        ("reshape", [X], {"shape": (-1,)}, AttributeValueError, "is not a shape"),
        ("transpose", [XX], {"permutation": (0, 0)}, AttributeValueError, "does not permute 2"),
        ("broadcast", [X], {"shape": (4,)}, ShapeError, "cannot broadcast (3,) to (4,)"),
        ("broadcast", [XX], {"shape": (3,)}, ShapeError, "cannot broadcast (2, 3) to (3,)"),
        ("slice", [X], {**SLICED, "sizes": (4,)}, AttributeValueError, "4 entries from 0 by 1"),
        ("slice", [X], {**SLICED, "steps": (-1,)}, AttributeValueError, "leave axis 0 of size 3"),
        ("slice", [X], {**SLICED, "steps": (0,)}, AttributeValueError, "from 0 by 0"),
        ("slice", [X], {**SLICED, "starts": ()}, AttributeValueError, "starts has 0 entries"),
        ("windows", [X], {**WINDOWED, "sizes": (4,)}, ShapeError, "a window reaching 4 exceeds"),
        ("windows", [X], {**WINDOWED, "strides": (0,)}, AttributeValueError, "at least 1"),
        ("windows", [X], {**WINDOWED, "dilations": ()}, AttributeValueError, "dilations has 0"),
        ("patches", [X], PATCHED, ShapeError, "patches wants (n, c, height, width)"),
        ("patches", [IMAGE], PATCHED, ShapeError, "a window reaching 2 exceeds axis 2"),
        ("patches", [IMAGE], {**PATCHED, "low": (1,)}, AttributeValueError, "low has 1 entries"),
        ("pad", [X], {"low": (-1,), "high": (0,), "value": 0}, AttributeValueError, "slice instea"),
        ("pad", [X], {"low": (), "high": (0,), "value": 0}, AttributeValueError, "low has 0"),
        ("concatenate", [], {"axis": 0}, AttributeValueError, "nothing to concatenate"),
        ("concatenate", [X, I], {"axis": 0}, DTypeError, "dtypes differ"),
        ("concatenate", [X, XX], {"axis": 0}, ShapeError, "differ beside axis 0"),
        ("concatenate", [typed("bool")], {"axis": 0}, AttributeValueError, "axis 0 is not within"),
        ("take", [X, X], {"axis": 0}, DTypeError, "wanted one of int32, int64"),
        ("take", [typed("float32", 0), I], {"axis": 0}, ShapeError, "it is empty"),
        ("take_along_axis", [XX, I], {"axis": 0}, ShapeError, "do not fit (2, 3) beside axis 0"),
        ("matmul", [X, XX], {}, ShapeError, "wanted two operands of rank 2 or more"),
        ("matmul", [XX, XX], {}, ShapeError, "inner sizes differ, (2, 3) @ (2, 3); transpose the"),
        (
            "matmul",
            [XX, typed("float64", 3, 2)],
            {},
            DTypeError,
            "dtypes differ, float32 @ float64",
        ),
        (
            "matmul",
            [typed("float32", 4, 2, 3), typed("float32", 5, 3, 2)],
            {},
            ShapeError,
            "batch sizes differ",
        ),
        ("iota", [], {"shape": (), "axis": 0, "dtype": "int32"}, AttributeValueError, "axis 0"),
        ("full", [], {"shape": (2.0,), "value": 0, "dtype": "int32"}, AttributeValueError, "ints"),
    ],
)
def test_a_type_rule_that_is_broken_says_what_it_got_and_wanted(
    op, operands, attributes, error, message
):
    with pytest.raises(error) as caught:
        infer_type(op, operands, attributes)
    assert message in str(caught.value)


def test_errors_of_make_name_the_op_and_the_users_line():
    with pytest.raises(ShapeError, match=r"^matmul at model\.py:12: inner sizes differ"):
        make("matmul", (XX, XX), {}, Location("/home/user/model.py", 12))


def test_int32_sums_are_int64_and_other_dtypes_stay():
    assert infer_type("sum", [I], REDUCED).dtype == "int64"
    assert infer_type("cumsum", [I], {"axis": 0}).dtype == "int64"
    assert infer_type("sum", [X], REDUCED).dtype == "float32"
    assert infer_type("max", [I], REDUCED).dtype == "int32"
    assert infer_type("matmul", [typed("int32", 2, 2)] * 2, {}).dtype == "int32"


def test_batches_of_matmul_broadcast():
    a, b = typed("float32", 5, 1, 2, 3), typed("float32", 4, 3, 7)
    assert infer_type("matmul", [a, b], {}).shape == (5, 4, 2, 7)


def test_the_device_goes_from_operands_to_results():
    x = typed("float32", 2, 2, device="cuda")
    for op, operands, attributes in [
        ("exp", [x], {}),
        ("matmul", [x, x], {}),
        ("sum", [x], REDUCED),
        ("transpose", [x], {"permutation": (1, 0)}),
        ("lt", [x, x], {}),
        ("full", [], {"shape": (2,), "value": 1.0, "dtype": "float32", "device": "cuda"}),
    ]:
        assert infer_type(op, operands, attributes).device == "cuda"


@pytest.mark.parametrize(
    ("op", "operands", "attributes"),
    [
        ("take", [f32(1, 2), np.array([2])], {"axis": 0}),
        ("take", [f32(1, 2), np.array([-3])], {"axis": 0}),
        ("take_along_axis", [f32(1, 2), np.array([5])], {"axis": 0}),
    ],
)
def test_an_index_out_of_range_is_an_error_with_the_users_line(op, operands, attributes):
    value = make(op, [leaf(x) for x in operands], attributes, Location("model.py", 3))
    with pytest.raises(IndexOutOfRangeError, match=rf"^{op} at model\.py:3: "):
        evaluate(value, operands)


@pytest.mark.parametrize("op", ["add", "mul", "exp", "tanh", "sum", "matmul", "cumsum", "mean"])
def test_float16_is_computed_in_float32_and_rounded_once(op):
    random = np.random.default_rng(0)
    x, y = (random.normal(size=(9, 9)).astype(np.float16) for _ in "xy")
    operands = [x, y][: OPS[op].arity]
    attributes = {"axis": 1} if op == "cumsum" else REDUCED if op in ("sum", "mean") else {}
    value = make(op, [leaf(operand) for operand in operands], attributes)
    wide = [operand.astype(np.float32) for operand in operands]
    expected = OPS[op].compute(*wide, **attributes).astype(np.float16)
    assert_same_bits(evaluate(value, operands), expected)


def test_rsqrt_sigmoid_and_erf_are_within_half_an_ulp_in_float32():
    x = np.linspace(0.01, 20, 5001, dtype=np.float32)
    for op, reference in [
        ("rsqrt", lambda t: 1 / math.sqrt(t)),
        ("sigmoid", lambda t: 1 / (1 + math.exp(-t))),
        ("erf", math.erf),
    ]:
        expected = np.array([reference(float(t)) for t in x])
        error = np.abs(evaluate(make(op, [leaf(x)]), [x]).astype(np.float64) - expected)
        assert (error <= 0.5000001 * np.spacing(expected.astype(np.float32))).all()


def test_every_kind_is_one_that_fusion_knows():
    assert {row.kind for row in OPS.values()} == {
        *("leaf", "pointwise", "movement", "assembly", "gather", "reduction", "scan", "matmul"),
        "patches",
    }
    assert kind(Value("matmul", (XX, XX), {}, XX.type)) == "matmul"
