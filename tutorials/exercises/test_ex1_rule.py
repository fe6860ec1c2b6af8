"""Grades ex1_rule.py: the rule joins minicomp's table, and graphs are optimized with it."""

import numpy as np
import pytest

import minicomp
from minicomp.passes import optimize
from minicomp.passes.rules import RULES


@pytest.fixture
def optimized(answer, monkeypatch):
    """The optimized graph of a function, with the rule in the table."""
    rules = [*RULES["maximum"], answer.repeated_maximum]
    monkeypatch.setitem(RULES, "maximum", rules)
    return lambda function, *arrays: optimize(minicomp.trace(function, *arrays))


def maximums(graph):
    return sum(value.op == "maximum" for value in graph)


X = np.array([-2, -0.5, 0, 3, np.nan], np.float32)


def test_relu_twice_becomes_relu_once(optimized):
    graph = optimized(lambda x: minicomp.relu(minicomp.relu(x)), X)
    assert maximums(graph) == 1, f"relu(relu(x)) should have one maximum left:\n{graph}"
    np.testing.assert_array_equal(minicomp.interpret(graph, X), np.maximum(X, 0))


def test_it_works_for_any_second_operand(optimized):
    y = np.array([1, -1, 0, 4, 0], np.float32)
    graph = optimized(lambda x, y: np.maximum(np.maximum(x, y), y), X, y)
    assert maximums(graph) == 1, f"max(max(x, y), y) should have one maximum left:\n{graph}"
    np.testing.assert_array_equal(minicomp.interpret(graph, X, y), np.maximum(X, y))


def test_different_second_operands_stay(optimized):
    graph = optimized(lambda x: np.maximum(np.maximum(x, -1), 0), X)
    assert maximums(graph) == 2, (
        "maximum(maximum(x, -1), 0) is not maximum(x, -1): for x = -1 the one is 0 and the other "
        "-1. The rule holds where both second operands are the same value."
    )


def test_other_ops_inside_stay(optimized):
    graph = optimized(lambda x: np.maximum(np.minimum(x, 1), 1), X)
    assert maximums(graph) == 1 and any(value.op == "minimum" for value in graph), (
        "maximum(minimum(x, 1), 1) is 1 everywhere but for NaN; that is not what the rule is about"
    )
