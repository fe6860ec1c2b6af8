"""Names that minicomp lacks: what is said of them, to whom."""

import copy
import pickle

import numpy as np
import pytest

import minicomp as mc
from minicomp import functional as F
from minicomp import nn
from minicomp.errors import MissingNameError

X = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("owner", "name", "message"),
    [
        (nn, "Relu", r"^Relu at test_missing\.py:\d+: module 'minicomp\.nn' .*mean 'ReLU'\?$"),
        (nn, "Conv1d", r"did you mean 'Conv2d'\?"),
        (nn, "BatchNorm2d", r"in inference it is a scale and a shift: \(x - running_mean\)"),
        (nn, "LSTM", "write the recurrence as a loop"),
        (F, "softmx", r"^softmx at test_missing\.py:\d+: .*mean 'softmax'\?$"),
        (F, "dropout", r"inference needs no dropout: leave it out, or use nn\.Dropout"),
        (F, "sort", r"has no attribute 'sort'; write it with functions of minicomp\.functional"),
        (mc, "dropout", r"^dropout at test_missing\.py:\d+: .*inference needs no dropout"),
        (mc, "complie", r"did you mean 'compile'\?"),
    ],
)
def test_a_name_that_a_module_lacks(owner, name, message):
    with pytest.raises(MissingNameError, match=message):
        getattr(owner, name)
    assert not hasattr(owner, name)
    assert getattr(owner, name, None) is None


def test_a_method_that_a_traced_tensor_lacks():
    with pytest.raises(
        AttributeError, match=r"sort at test_missing\.py:\d+: a traced tensor has no"
    ):
        mc.trace(lambda x: x.sort(), X)
    with pytest.raises(AttributeError, match=r"did you mean 'softmax'\?"):
        mc.trace(lambda x: x.softmx(-1), X)
    assert mc.trace(lambda x: hasattr(x, "sort"), X).outputs == ()


def test_pythons_own_questions_get_a_plain_answer():
    for owner in (nn, F, mc):
        with pytest.raises(AttributeError) as caught:
            owner.__wrapped__  # noqa: B018
        assert type(caught.value) is AttributeError


def test_names_that_modules_lack_do_not_disturb_copies_and_pickles():
    layer = nn.Linear(3, 2)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(other(X), layer(X))
    graph = mc.trace(lambda x: copy.copy(x) + 1, X)
    np.testing.assert_array_equal(mc.interpret(graph, X), X + 1)
