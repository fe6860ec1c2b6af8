"""Every test run has a disk cache of its own, so that none depends on an earlier one.

Tests marked `cuda` run on the GPU where there is one, else in the simulator; with
MINICOMP_REQUIRE_CUDA=1 a missing GPU fails them instead. Those that ask for the `gpu` are marked
too, and skipped where there is none.
"""

import functools
import gc
import os
import sys
import tempfile

import pytest

_directory = tempfile.TemporaryDirectory(prefix="minicomp-tests-")
os.environ["MINICOMP_CACHE_DIR"] = _directory.name
for _variable in ("MINICOMP_DEBUG", "MINICOMP_NUM_THREADS", "MINICOMP_CPU", "MINICOMP_CUDA_SIM"):
    os.environ.pop(_variable, None)


@pytest.hookimpl(tryfirst=True)  # before `-m cuda` picks
def pytest_collection_modifyitems(items):
    for item in items:
        if "gpu" in item.fixturenames:
            item.add_marker("cuda")


@functools.cache
def why_no_gpu() -> str | None:
    """The error where there is no GPU. Asked outside tests, which may ask for the simulator."""
    import minicomp
    from minicomp.runtime.cuda.driver import driver

    with minicomp.config.patch(cuda_simulator=False):
        try:
            driver()
        except minicomp.errors.CudaError as error:
            return str(error)
    return None


@pytest.fixture(autouse=True, scope="module")
def _young_garbage_alone():
    """Collections, which many tests ask for, leave out what was there before the module: going
    through thousands of tests and all graphs in caches takes a second each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _device_of_cuda_tests(request, monkeypatch):
    if request.node.get_closest_marker("cuda") is None or why_no_gpu() is None:
        return
    if os.environ.get("MINICOMP_REQUIRE_CUDA") == "1":
        pytest.fail(f"MINICOMP_REQUIRE_CUDA=1, and {why_no_gpu()}")
    monkeypatch.setenv("MINICOMP_CUDA_SIM", "1")


@pytest.fixture
def gpu():
    """The driver of a real GPU, for tests of what the simulator does not have."""
    if why_no_gpu() is not None:
        if os.environ.get("MINICOMP_REQUIRE_CUDA") == "1":
            pytest.fail(f"MINICOMP_REQUIRE_CUDA=1, and {why_no_gpu()}")
        pytest.skip("needs a GPU")
    from minicomp.runtime.cuda.driver import driver

    return driver()


@pytest.fixture
def simulator(monkeypatch):
    """The simulator's driver, also where there is a GPU."""
    monkeypatch.setenv("MINICOMP_CUDA_SIM", "1")
    from minicomp.runtime.cuda.driver import driver

    return driver()


@pytest.fixture
def without_gpu(monkeypatch):
    """As if pycuda were not installed, and nobody had looked for a GPU yet."""
    from minicomp.runtime.cuda import driver

    monkeypatch.setattr(driver, "_drivers", {})
    monkeypatch.setattr(driver, "_failure", None)
    monkeypatch.setitem(sys.modules, "pycuda", None)
    for name in ("pycuda_driver", "pycuda_array"):
        monkeypatch.delitem(sys.modules, f"minicomp.runtime.cuda.{name}", raising=False)
