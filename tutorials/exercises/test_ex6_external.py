"""Grades ex6_external.py: the external is offered at call sites, checked, chosen and called."""

import functools

import numpy as np
import pytest

import minicomp
from minicomp import selection


def matrix(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


class Counting:
    """A product that counts itself, by size."""

    def __init__(self):
        self.shapes = []

    def __call__(self, a, b):
        self.shapes.append((*a.shape, b.shape[1]))
        return np.matmul(a, b)


def chosen_external(function, *arrays, external):
    """The call site of `function`, at which `external` has been offered as much the fastest."""
    model = minicomp.compile(
        function,
        options={
            "max_autotune": True,
            "external_matmul": [minicomp.external(external, name="yours")],
            "external_check": "strict",
            "force_disable_caches": True,
        },
    )
    with selection.use_timer(lambda name, run: 1e-6 if name == "yours" else 1e-3):
        result = model(*arrays)
    (site,) = model.explain().sites
    (report,) = (report for report in site.candidates if report.name == "yours")
    if report.status != "ok" and "NotImplementedError" in report.reason:
        raise NotImplementedError
    assert report.status == "ok", f"minicomp rejected it at {site.shapes}: {report.reason}"
    assert site.chosen == "yours"
    np.testing.assert_allclose(result, function(*arrays), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("m, k, n", [(3, 5, 7), (4, 6, 7), (1, 2, 2)])
def test_odd_sizes(answer, m, k, n):
    chosen_external(np.matmul, matrix(m, k), matrix(k, n), external=answer.strassen)


@pytest.mark.parametrize("m, k, n", [(2, 2, 2), (64, 64, 64), (6, 30, 12)])
def test_even_sizes(answer, m, k, n):
    chosen_external(np.matmul, matrix(m, k), matrix(k, n), external=answer.strassen)


def test_views_with_any_strides(answer):
    def function(x, w):
        return x[::2, 1:] @ w.T

    chosen_external(function, matrix(16, 9), matrix(4, 8), external=answer.strassen)


def test_seven_products_of_halves(answer):
    count = Counting()
    a, b, out = matrix(8, 12), matrix(12, 4), np.empty((8, 4), np.float32)
    returned = answer.strassen(a, b, out, multiply=count)
    assert returned is None, "an external returns nothing: the result goes into out"
    assert count.shapes == [(4, 6, 2)] * 7, (
        f"wanted seven products of (4, 6) by (6, 2), counted {len(count.shapes)}: {count.shapes}"
    )


def test_it_is_a_callable_like_any_other(answer):
    external = functools.partial(answer.strassen, multiply=Counting())
    chosen_external(np.matmul, matrix(8, 8), matrix(8, 8), external=external)
