"""Calls of a compiled module in native code: the same as those in Python, and no reference lost."""

import inspect
import sys
import threading

import numpy as np
import pytest

import minicomp
from minicomp.compiler import CompiledModule
from minicomp.errors import InputError, ShapeError
from minicomp.runtime.entry import is_supported

X = np.arange(6, dtype=np.float32).reshape(2, 3)

pytestmark = pytest.mark.skipif(
    not is_supported(), reason="Python's objects are laid out otherwise"
)


@pytest.fixture
def compiled():
    return minicomp.compile(lambda x, scale=2.0: x * scale)


def test_a_call_does_not_enter_python(compiled, monkeypatch):
    compiled(X)
    monkeypatch.setattr(CompiledModule, "_call", None)  # cannot be called
    for _ in range(3):
        np.testing.assert_array_equal(compiled(X), X * 2)


def test_other_arguments_go_through_python(compiled):
    compiled(X)
    np.testing.assert_array_equal(compiled(x=X), X * 2)
    np.testing.assert_array_equal(compiled(X, scale=3.0), X * 3)
    np.testing.assert_array_equal(compiled(X[:, ::2]), X[:, ::2] * 2)
    with pytest.raises(TypeError):
        compiled()
    np.testing.assert_array_equal(compiled(X), X * 2)


def test_errors_come_through_and_leave_the_module_usable():
    compiled = minicomp.compile(lambda x, y: x + y)
    compiled(X, X)
    with pytest.raises(ShapeError):
        compiled(X, X[:, :2])
    np.testing.assert_array_equal(compiled(X, X), 2 * X)


def test_an_error_of_a_fast_call_is_not_swallowed(compiled):
    def failing(x):
        raise InputError("no")

    compiled._fast_calls = (lambda x: None, failing)
    with pytest.raises(InputError, match="no"):
        compiled(X)


def test_within_a_trace_a_call_becomes_a_part_of_it(compiled):
    compiled(X)
    weight = minicomp.nn.Parameter(X.copy())
    inner = minicomp.compile(lambda: weight * 1)
    assert inner().sum() == 15
    inner()
    outer = minicomp.compile(lambda x: compiled(x) + inner())
    np.testing.assert_array_equal(outer(X), 3 * X)
    weight.data[...] = 0  # read at each call, by the outer module too
    np.testing.assert_array_equal(outer(X), 2 * X)


def test_another_threads_trace_does_not_matter(compiled):
    compiled(X)
    inside, done = threading.Event(), threading.Event()

    def traced(x):
        inside.set()
        done.wait(10)
        return x

    thread = threading.Thread(target=lambda: minicomp.trace(traced, X))
    thread.start()
    inside.wait(10)
    try:
        np.testing.assert_array_equal(compiled(X), X * 2)
    finally:
        done.set()
        thread.join()


def test_references_are_given_back(compiled):
    compiled(X)
    calls = compiled._fast_calls
    watched = [compiled, X, calls, None, minicomp.tracing.record.RECORDER]
    before = [sys.getrefcount(thing) for thing in watched]
    for _ in range(1000):
        compiled(X)
        compiled(x=X)
        with pytest.raises(TypeError):
            compiled(1, 2, 3)
    after = [sys.getrefcount(thing) for thing in watched]
    assert all(abs(a - b) < 500 for a, b in zip(after, before, strict=True)), (before, after)


def test_the_signature_is_the_functions_own(compiled):
    assert list(inspect.signature(compiled).parameters) == ["x", "scale"]
