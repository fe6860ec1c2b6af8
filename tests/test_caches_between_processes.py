"""Two processes and one cache: the second compiles nothing and times nothing; nothing breaks it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, sys, warnings
import numpy as np
import minicomp
from minicomp import nn
from minicomp.runtime import jit
from llvmlite import ir

generated = []
class CountedModule(ir.Module):
    def __init__(self, *args, **kwargs):
        generated.append(self)
        super().__init__(*args, **kwargs)
ir.Module = CountedModule

timed = []
def count_timings(name, run):
    timed.append(name)
    run()
    return 1e-3

def external(a, b, out):
    np.matmul(a, b, out=out)

minicomp.manual_seed(0)
model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4), nn.Softmax(-1))
x = np.random.default_rng(0).standard_normal((8, 16)).astype(np.float32)
options = {"max_autotune": True, "external_matmul": [external], **json.loads(sys.argv[2])}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    compiled = minicomp.compile(model, options=options)
    imported = set(sys.modules)
    if sys.argv[1] == "count timings":  # with a timer of its own: nothing made so is remembered
        with minicomp.selection.use_timer(count_timings):
            result = compiled(x)
    else:
        result = compiled(x)
error = float(np.abs(result - model(x)).max())
print(json.dumps({
    "compiled": jit.statistics.compiled,
    "loaded": jit.statistics.loaded,
    "generated": len(generated),
    "imported": sorted(set(sys.modules) - imported),
    "timed": len(timed),
    "chosen": [site.chosen for site in compiled.explain().sites],
    "sources": [site.source for site in compiled.explain().sites],
    "warnings": [str(w.message) for w in caught],
    "error": error,
}))
"""


def run(cache: Path, mode: str = "", **options) -> dict:
    """What a fresh process reports that compiles and runs the model with this cache."""
    environment = {**os.environ, "MINICOMP_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, mode, json.dumps(options)],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["error"] < 1e-6
    return report


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A cache that one process has filled, and what it reported."""
    cache = tmp_path_factory.mktemp("original")
    return cache, run(cache)


@pytest.fixture
def first(original, tmp_path):
    """What the process reported that has filled the cache in `tmp_path`, which is a copy."""
    cache, report = original
    shutil.copytree(cache, tmp_path, dirs_exist_ok=True)
    assert report["sources"] == ["timed", "timed"]
    return report


def test_a_second_process_compiles_nothing_and_times_nothing(first, tmp_path):
    assert first["compiled"] > 0
    second = run(tmp_path, "count timings")
    assert second["compiled"] == 0
    assert second["loaded"] > 0
    assert second["timed"] == 0
    assert second["sources"] == ["remembered", "remembered"]
    assert second["chosen"] == first["chosen"]


def test_a_second_process_generates_no_code(first, tmp_path):
    assert first["generated"] > 0
    assert run(tmp_path)["generated"] == 0


def test_a_call_imports_nothing(tmp_path):
    run(tmp_path, max_autotune=False)
    assert run(tmp_path, max_autotune=False)["imported"] == []


def test_choices_made_with_another_timer_are_not_remembered(tmp_path):
    assert run(tmp_path, "count timings")["timed"] > 0
    assert run(tmp_path)["sources"] == ["timed", "timed"]


def test_caches_can_be_turned_off(tmp_path):
    for _ in range(2):
        report = run(tmp_path, force_disable_caches=True)
        assert report["sources"] == ["timed", "timed"]
        assert not any(path.is_file() for path in tmp_path.rglob("*"))


def empty(file: Path) -> None:
    file.write_bytes(b"")


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(bytes(content))


def replace_by_something_else(file: Path) -> None:
    file.write_text('{"chosen": "os.system"}')


@pytest.mark.parametrize("damage", [empty, truncate, flip_a_byte, replace_by_something_else])
def test_a_damaged_cache_is_a_miss_with_a_warning(first, tmp_path, damage):
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size]
    assert files
    for file in files:
        damage(file)
    again = run(tmp_path)
    assert again["sources"] == ["timed", "timed"]
    assert any("cache" in warning for warning in again["warnings"])
    assert run(tmp_path)["sources"] == ["remembered", "remembered"]  # it has been mended


def test_a_cache_directory_that_cannot_be_made_is_done_without(tmp_path):
    (tmp_path / "file").write_text("in the way")
    report = run(tmp_path / "file" / "cache")
    assert report["compiled"] > 0
    assert len([w for w in report["warnings"] if "cache" in w]) == 1


def test_many_processes_may_start_at_once(tmp_path):
    environment = {**os.environ, "MINICOMP_CACHE_DIR": str(tmp_path)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "", "{}"],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    for process in processes:
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert json.loads(output)["error"] < 1e-6
