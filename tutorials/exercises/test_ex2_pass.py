"""Grades ex2_pass.py: the pass joins minicomp's list, and modules are compiled with it."""

import numpy as np
import pytest

import minicomp
from minicomp import nn, passes
from minicomp.passes import optimize


@pytest.fixture(autouse=True)
def longer_list(answer, monkeypatch):
    monkeypatch.setattr(passes, "PASSES", [*passes.PASSES, answer.merge_products])


RANDOM = np.random.default_rng(0)


def matrix(*shape):
    return RANDOM.standard_normal(shape, np.float32)


class Heads(nn.Module):
    """Three products of one x, of different widths."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Parameter(matrix(16, n)) for n in (8, 8, 24))

    def forward(self, x):
        return x @ self.q, x @ self.k, x @ self.v


def products(graph):
    return [value for value in graph if value.op == "matmul"]


def test_three_products_of_one_x_become_one():
    graph = optimize(minicomp.trace(Heads(), matrix(4, 16)))
    count = len(products(graph))
    assert count == 1, f"wanted one matmul for x @ q, x @ k and x @ v, got {count}:\n{graph}"


def test_the_results_are_the_same_ones_in_the_same_order():
    heads, x = Heads(), matrix(4, 16)
    compiled = minicomp.compile(heads)
    results = compiled(x)
    assert len(compiled.explain().sites) == 1, "the compiled module should have one call site"
    for name, result in zip("qkv", results, strict=True):
        wanted = x @ getattr(heads, name).data
        assert result.shape == wanted.shape, (
            f"x @ {name} has the shape {wanted.shape}, the slice {result.shape}"
        )
        np.testing.assert_allclose(
            result, wanted, rtol=1e-4, atol=1e-4, err_msg=f"the slice for {name} is not x @ {name}"
        )


def test_products_of_different_operands_stay_apart():
    weight = nn.Parameter(matrix(16, 8))
    graph = optimize(minicomp.trace(lambda x, y: (x @ weight, y @ weight), *matrix(2, 4, 16)))
    assert len(products(graph)) == 2, (
        f"x @ w and y @ w have different left operands and are two products:\n{graph}"
    )


def test_right_operands_that_are_computed_stay_apart():
    weight = nn.Parameter(matrix(16, 16))
    graph = optimize(minicomp.trace(lambda x: (x @ weight, x @ np.exp(weight)), matrix(4, 16)))
    assert len(products(graph)) == 2, f"exp(w) is no leaf of the graph:\n{graph}"


def test_stacks_of_matrices_stay_apart():
    first, second = nn.Parameter(matrix(2, 16, 8)), nn.Parameter(matrix(2, 16, 8))
    try:
        graph = optimize(minicomp.trace(lambda x: (x @ first, x @ second), matrix(2, 4, 16)))
    except minicomp.errors.MinicompError as error:
        pytest.fail(f"the operands are 3-D, the pass is for 2-D ones: {error}", pytrace=False)
    assert len(products(graph)) == 2, f"the operands are 3-D, these stay as they are:\n{graph}"


def test_a_product_alone_stays_as_it_is():
    weight = nn.Parameter(matrix(16, 8))
    graph = optimize(minicomp.trace(lambda x: x @ weight, matrix(4, 16)))
    assert [value.op for value in graph] == ["input", "parameter", "matmul"], (
        f"there is nothing to merge here:\n{graph}"
    )
