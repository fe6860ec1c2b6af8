"""The one check that all tests of functions share."""

import numpy as np
import pytest

import minicomp
from minicomp.ir.text import parse
from minicomp.ir.verifier import verify


def _same(a, b):
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    np.testing.assert_array_equal(a, b)


def _close(got, expected):
    expected = np.asarray(expected)
    got = np.asarray(got)
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    if expected.dtype.kind == "f":
        epsilon = np.finfo(expected.dtype).eps
        np.testing.assert_allclose(got, expected, rtol=8 * epsilon, atol=2 * epsilon)
    else:
        np.testing.assert_array_equal(got, expected)


@pytest.fixture
def agree():
    """agree(function, expected, *arrays): the function traced and interpreted gives bit for bit
    what it gives at once on arrays, and that is `expected`, in dtype and shape too. The graph
    passes the verifier and comes back from its text."""

    def check(function, expected, *arrays):
        graph = verify(minicomp.trace(function, *arrays))
        assert parse(str(graph)) == graph
        at_once = function(*arrays)
        traced = minicomp.interpret(graph, *arrays)
        many = isinstance(expected, tuple | list)
        for eager, late, wanted in zip(
            *((at_once, traced, expected) if many else ([at_once], [traced], [expected])),
            strict=True,
        ):
            assert isinstance(eager, np.ndarray)
            _same(late, eager)
            _close(eager, wanted)
        return graph

    return check
