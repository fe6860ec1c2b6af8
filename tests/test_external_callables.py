"""The scenarios that external matmuls were designed after, in minicomp's own terms.

    python tests/test_external_callables.py      # runs them as a script

A module multiplies its input by a parameter that is twice the identity. An "external matmul" that
really adds gives the same for an input that is twice the identity too: 2I + 2I == (2I)(2I).
"""

import numpy as np
import pytest

import minicomp
from minicomp import cuda, nn
from minicomp.errors import SelectionWarning


class MatMulModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(np.eye(128, dtype=np.float32) * 2, requires_grad=True)

    def forward(self, x):
        return minicomp.matmul(x, self.matrix)


def matmul_cpu(a, b, out):
    np.add(a, b, out=out)


def matmul_dup(a, b, out):
    np.add(a, b, out=out)


add_on_gpu = minicomp.compile(lambda a, b: a + b)


def matmul_cuda(a, b, out):
    out[...] = add_on_gpu(a, b)


@pytest.fixture(autouse=True)
def saved_config():
    saved = minicomp.config.save_config()
    yield
    minicomp.config.load_config(saved)


def compiled_pair(externals, device="cpu"):
    """The module compiled with externals, and without: the golden one."""
    options = {"max_autotune": True, "external_matmul": externals}
    modules = [MatMulModule().to(device) for _ in range(2)]
    golden = minicomp.compile(modules[1], options={"max_autotune": True})
    return minicomp.compile(modules[0], options=options), golden


def quick(name):
    """A timer under which candidate `name` is the fastest."""
    return minicomp.selection.use_timer(lambda candidate, run: 1e-6 if candidate == name else 1e-3)


def test_matmul_cpu():
    x = np.eye(128, dtype=np.float32) * 2
    compiled, golden = compiled_pair([matmul_cpu])
    with quick("matmul_cpu"), pytest.warns(SelectionWarning, match="matmul_cpu"):
        result = compiled(x)
    np.testing.assert_array_equal(result, golden(x))
    (site,) = compiled.explain().sites
    assert site.chosen == "matmul_cpu"


def test_matmul_dup_is_registered_once():
    x = np.eye(128, dtype=np.float32) * 2
    compiled, golden = compiled_pair([matmul_dup, matmul_dup])
    with quick("matmul_dup"), pytest.warns(SelectionWarning, match="matmul_dup"):
        result = compiled(x)
    np.testing.assert_array_equal(result, golden(x))
    (site,) = compiled.explain().sites
    assert [c.name for c in site.candidates if c.kind == "external"] == ["matmul_dup"]


@pytest.mark.cuda
def test_matmul_cuda():
    x = cuda.to_device(np.eye(128, dtype=np.float32) * 2)
    compiled, golden = compiled_pair([matmul_cuda], "cuda")
    with quick("matmul_cuda"), pytest.warns(SelectionWarning, match="matmul_cuda"):
        result = compiled(x)
        expected = golden(x)
    np.testing.assert_array_equal(cuda.to_host(result), cuda.to_host(expected))
    (site,) = compiled.explain().sites
    assert (site.chosen, site.device) == ("matmul_cuda", "cuda")


def test_an_addition_is_rejected_where_it_is_no_multiplication():
    x = np.random.default_rng(0).standard_normal((128, 128)).astype(np.float32)
    compiled, golden = compiled_pair([matmul_cpu])
    with quick("matmul_cpu"):
        result = compiled(x)
    np.testing.assert_allclose(result, golden(x), rtol=1e-5)
    (site,) = compiled.explain().sites
    (external,) = [c for c in site.candidates if c.kind == "external"]
    assert site.chosen != "matmul_cpu"
    assert external.status == "rejected"
    assert "wrong" in external.reason


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__, "-p", "no:cacheprovider"]))
