"""Each rule of the verifier, broken once."""

import numpy as np
import pytest

from minicomp.errors import GraphError
from minicomp.ir import Graph, Location, TensorType, Value
from minicomp.ir.ops import make
from minicomp.ir.verifier import verify

F32 = TensorType((2, 3), "float32")


def tensor(name="x", type=F32):
    return make("input", (), {"name": name, "type": type})


X = tensor()


def full(**changed):
    attributes = {"shape": (2, 3), "value": 1.0, "dtype": "float32", **changed}
    return Value("full", (), attributes, F32)


def broken(*values, outputs=()):
    return Graph("f", values, outputs)


def test_a_valid_graph_comes_back_itself():
    y = make("exp", (X,))
    unused = make("exp", (X,))
    graph = Graph("f", (X, y, unused), (y, y, X))
    assert verify(graph) is graph


Y = make("exp", (X,))
OTHER = tensor("y", TensorType((3,), "float32"))
CUDA = tensor("y", TensorType((2, 3), "float32", "cuda"))


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (broken(X, Y, Y), "%1 = exp(%x) : f32[2,3]: is listed twice"),
        (broken(Y, X), "operand 0 (input) is not defined before its use"),
        (broken(Y), "exp(%undefined) : f32[2,3]: operand 0"),
        (broken(X, outputs=(Y,)), "output 0 is not a value of the graph"),
        (broken(X, Value("foo", (X,), {}, F32)), "there is no op 'foo'"),
        (broken(X, Value("exp", (X, X), {}, F32)), "exp takes 1 operands, got 2"),
        (broken(X, Value("exp", (X,), {"axis": 1}, F32)), "exp has the attributes none; got axis"),
        (broken(X, Value("cumsum", (X,), {}, F32)), "cumsum has the attributes axis; got none"),
        (broken(X, OTHER, Value("add", (X, OTHER), {}, F32)), "shapes differ, (2, 3) and (3,)"),
        (broken(X, Value("exp", (X,), {}, OTHER.type)), "has the type f32[3], the table infers"),
        (broken(X, Value("exp", (X,), {}, TensorType([2, 3], "float32"))), "the table infers"),
        (broken(X, tensor("x", OTHER.type)), "a second input or parameter is named 'x'"),
        (broken(tensor("")), "wanted a string that is not empty"),
        (broken(tensor(type=TensorType((-1,), "float32"))), "wanted a TensorType of non-negative"),
        (broken(tensor(type=TensorType((1,), "complex64"))), "wanted a TensorType of non-negative"),
        (broken(tensor(type=TensorType((1,), "float32", "tpu"))), "wanted a TensorType of non-neg"),
        (broken(X, CUDA), "is on cuda, others on cpu"),
        (broken(full(shape=[2, 3])), "attribute shape is [2, 3], wanted a tuple of ints"),
        (broken(full(shape=(np.int64(2), 3))), "wanted a tuple of ints"),
        (broken(full(dtype="f32")), "attribute dtype is 'f32', wanted one of float32"),
        (broken(full(device="tpu")), "attribute device is 'tpu', wanted cpu or cuda"),
        (broken(full(value=np.float32(1))), "wanted a Python bool, int or float"),
        (broken(full(value=True)), "value True is not an element of float32"),
        (broken(X, Value("cumsum", (X,), {"axis": True}, F32)), "wanted an int"),
        (
            broken(X, Value("sum", (X,), {"axes": (0,), "keepdims": 1}, OTHER.type)),
            "attribute keepdims is 1, wanted a bool",
        ),
        (broken(Value("constant", (), {"value": 1.0}, F32)), "wanted a NumPy array in native"),
        (
            broken(Value("constant", (), {"value": np.zeros((2, 3), ">f4")}, F32)),
            "wanted a NumPy array in native byte order",
        ),
        (broken(Value("constant", (), {"value": np.zeros(2, np.int8)}, F32)), "int8 is not supp"),
        (
            broken(Value("constant", (), {"value": np.zeros(6, np.float32)}, F32)),
            "has the type f32[2,3], the table infers f32[6]",
        ),
    ],
)
def test_a_broken_rule_is_an_error_that_shows_the_value_and_the_rule(graph, message):
    with pytest.raises(GraphError) as caught:
        verify(graph)
    assert message in str(caught.value)


def test_an_integer_that_its_dtype_cannot_hold_is_refused():
    big = make("full", (), {"shape": (), "value": 2**31, "dtype": "int32"})
    with pytest.raises(GraphError, match="2147483648 is not an element of int32"):
        verify(broken(big))


def test_the_message_names_the_stage_and_the_users_line():
    value = Value("foo", (X,), {}, F32, Location("/home/user/model.py", 7))
    with pytest.raises(GraphError, match=r"^at model\.py:7: after simplify: %0 = foo\(%x\)"):
        verify(broken(X, value), "simplify")
