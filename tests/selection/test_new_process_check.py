"""A first run in a new process, for devices that a forked child cannot use."""

import sys

import numpy as np
import pytest
from importable_externals import (
    half_of_it,
    leaves,
    of_transposed_a,
    product,
    raises,
    segfaults,
    sleeps,
)
from selection_fakes import Bench, random_operands, report_on
from test_subprocess_check import children_left

import minicomp
from minicomp import cuda, selection
from minicomp.selection import HostDevice, Selector

SECONDS = "max_autotune_subproc_result_timeout_seconds"


class LikeAGpu(HostDevice):
    works_in_forks = False


def choose_with(fn, operands=None, **options):
    bench = Bench(*(operands or random_operands()), fn, autotune_in_subproc=True, **options)
    bench.selector = Selector(bench.options, LikeAGpu())
    choice = bench.select({fn.__name__: 1e-6})
    assert not children_left()
    return choice, report_on(choice, fn.__name__)


def test_what_passes_is_a_candidate():
    choice, _ = choose_with(product)
    assert choice.chosen == "product"


@pytest.mark.parametrize(
    ("fn", "reason"),
    [
        (segfaults, "crashed a child process with SIGSEGV"),
        (leaves, "ended a child process with exit status 3"),
        (raises, "raised ValueError: no such shape"),
        (half_of_it, "wrong: "),
    ],
)
def test_what_fails_is_rejected(fn, reason):
    choice, report = choose_with(fn)
    assert choice.chosen == "default"
    assert (report.status, report.reason.startswith(reason)) == ("rejected", True), report.reason


def test_what_hangs_is_ended():
    choice, report = choose_with(sleeps, **{SECONDS: 2.0})
    assert choice.chosen == "default"
    assert report.reason == "gave no answer within 2 s in a child process"


def test_operands_have_their_strides():
    a, b = random_operands()
    choice, report = choose_with(of_transposed_a, (np.asfortranarray(a), b))
    assert choice.chosen == "of_transposed_a", report.reason
    choice, report = choose_with(of_transposed_a, (np.ascontiguousarray(a), b))
    assert report.reason.startswith("raised ValueError: strides")


def test_what_cannot_be_imported_is_skipped_with_what_to_do():
    def local(a, b, out):
        np.matmul(a, b, out=out)

    choice, report = choose_with(local)
    assert (choice.chosen, report.status) == ("default", "skipped")
    assert "cannot be imported" in report.reason
    assert "at the top level of a module of its own" in report.reason


def test_what_the_program_itself_defines_is_skipped_too(monkeypatch):
    def of_the_program(a, b, out):
        np.matmul(a, b, out=out)

    of_the_program.__module__, of_the_program.__qualname__ = "__main__", "of_the_program"
    monkeypatch.setattr(sys.modules["__main__"], "of_the_program", of_the_program, raising=False)
    choice, report = choose_with(of_the_program)
    assert (choice.chosen, report.status) == ("default", "skipped")
    assert "Can't get attribute 'of_the_program'" in report.reason


@pytest.mark.cuda
def test_on_the_gpu():
    x = cuda.to_device(np.random.default_rng(0).standard_normal((8, 16), np.float32))
    y = cuda.to_device(np.random.default_rng(1).standard_normal((16, 8), np.float32))
    options = {
        "max_autotune": True,
        "autotune_in_subproc": True,
        "external_matmul": [product, segfaults, half_of_it],
        "force_disable_caches": True,
    }
    compiled = minicomp.compile(lambda x, y: x @ y, options=options)
    with selection.use_timer(lambda name, run: 1e-6 if name == "product" else 2e-5):
        result = cuda.to_host(compiled(x, y))
    np.testing.assert_allclose(result, cuda.to_host(x) @ cuda.to_host(y), rtol=1e-5, atol=1e-5)
    (site,) = compiled.explain().sites
    reasons = {report.name: report.reason for report in site.candidates}
    assert site.chosen == "product"
    assert reasons["segfaults"] == "crashed a child process with SIGSEGV"
    assert reasons["half_of_it"].startswith("wrong: ")
