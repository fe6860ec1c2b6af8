"""Whole programs compiled for an older CPU than this one, thread pool and entry points included."""

import os
import subprocess
import sys

import pytest

from minicomp.runtime.target import Target, host_target

PROGRAMS = """
import sys
import numpy as np
import minicomp
from minicomp import nn
from minicomp.runtime import threads
sys.path.insert(0, {tests!r})
from error_bounds import assert_computes

random = np.random.default_rng(0)
normal = lambda *shape: random.standard_normal(shape).astype(np.float32)

def softmax(x):
    return minicomp.softmax(x * 2.0, -1)

def layer_norm(x):
    centred = x - minicomp.mean(x, -1, keepdims=True)
    return centred * minicomp.rsqrt(minicomp.mean(centred * centred, -1, keepdims=True) + 1e-5)

def gelu_of_product(x, w):
    return minicomp.gelu(x @ w)

def by_columns(x):
    return x.sum(0), minicomp.argmax(x, 0), minicomp.cumsum(x, 0)

product = lambda x, w: x @ w
by_transposed = lambda x, w: x @ w.T
convolution = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU())
mlp = nn.Sequential(nn.Linear(100, 64), nn.ReLU(), nn.Linear(64, 10))

CASES = [
    (softmax, [normal(64, 1000)]),
    (softmax, [normal(2100, 1000)]),               # in pairs of rows, and large: past the caches
    (lambda x: x * x + 1.0, [normal(5_000_000)]),
    (layer_norm, [normal(64, 768)]),
    (by_columns, [normal(100, 333)]),
    (lambda x: minicomp.erf(minicomp.tanh(x)) + minicomp.sin(x * 1e4), [normal(10_001)]),
    (gelu_of_product, [normal(31, 77), normal(77, 50)]),
    (product, [normal(600, 600), normal(600, 600)]),          # packed
    (product, [normal(64, 2048), normal(2048, 2048)]),        # few rows, read ahead
    (product, [normal(1, 1000), normal(1000, 1000)]),
    (product, [normal(1000, 1000), normal(1000, 1)]),
    (product, [normal(64, 16, 16), normal(64, 16, 16)]),
    (by_transposed, [normal(256, 256), normal(256, 256)]),
    (by_transposed, [normal(1, 1000), normal(1000, 1000)]),
    (convolution, [normal(2, 8, 28, 28)]),
    (mlp, [normal(32, 100)]),
]
for model, arrays in CASES:
    graph = minicomp.trace(model, *arrays)
    compiled = minicomp.compile(graph, options={"num_threads": 2})
    results = [compiled(*arrays) for _ in range(2)][1]        # by the native entry point
    assert_computes(graph, results if isinstance(results, tuple) else [results], arrays)
    assert compiled._fast_calls
assert threads._made[0].variables["workers"].value == 1
"""


def is_older(cpu):
    target, host = Target.for_cpu(cpu), host_target()
    return target.architecture == host.architecture and target.vector_bits < host.vector_bits


@pytest.mark.parametrize("cpu", ["haswell", "x86-64-v2"])
def test_programs_on_an_older_cpu_compute_what_the_interpreter_does(cpu):
    if not is_older(cpu):
        pytest.skip(f"{cpu} is no older CPU of this kind")
    result = subprocess.run(
        [sys.executable, "-c", PROGRAMS.replace("{tests!r}", repr(os.path.dirname(__file__)))],
        env={**os.environ, "MINICOMP_CPU": cpu},
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (0, "")
