"""The README: its example prints what it shows, and its set-up lines are the ones tested."""

import os
import re
import subprocess
import sys
from pathlib import Path

import minicomp

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLE = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
SHOWN = re.search(r"```\n(\(64, 256\)\n.*?)```", README, re.DOTALL)[1]


def rows(text):
    """candidate -> its kind and status, in a table that explain() prints. (An external that won
    is in the table of kernels below, too, where it has no status.)"""
    row = r"^[> ] (\w+) +((?:codegen|external) +(?:ok|rejected|skipped))"
    return dict(re.findall(row, text, re.MULTILINE))


def test_the_example_is_short_and_prints_the_table_that_is_shown(tmp_path):
    assert EXAMPLE.count("\n") <= 26
    (tmp_path / "example.py").write_text(EXAMPLE, encoding="utf-8")
    environment = {
        **os.environ,
        "MINICOMP_CACHE_DIR": str(tmp_path / "cache"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    result = subprocess.run(
        [sys.executable, "example.py"],
        capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0 and result.stderr == "", result.stderr
    printed, shown = result.stdout.splitlines(), SHOWN.splitlines()
    for lines in (printed, shown):  # one kernel, or two where NumPy's product wins
        assert lines[0] == "(64, 256)"
        assert re.fullmatch(r"Block: 1 matmul call site, \d kernels?", lines[1])
        assert lines[3] == "matmul at example.py:13, float32 [64, 512] @ [512, 256]"
    columns = next(line.split() for line in shown if line.startswith("  candidate"))
    assert columns in [line.split() for line in printed]
    for name in ("numpy_matmul", "careless"):
        assert rows(result.stdout)[name] == rows(SHOWN)[name]
    assert "codegen   ok" in rows(result.stdout).values()
    for text in (result.stdout, SHOWN):
        assert re.search(r"careless +external +rejected +wrong: 16132 of 16384 elements", text)
        assert len(re.findall(r"^> ", text, re.MULTILINE)) == 1


def gpu_section():
    """The section's text, and its pieces of Python."""
    section = README.partition("## On a GPU")[2].partition("\n## ")[0]
    return section, re.findall(r"```python\n(.*?)```", section, re.DOTALL)


def test_the_example_for_a_gpu_runs_with_a_shorter_depth(tmp_path):
    """Of a sixteenth of its depth, which the simulator takes its time for, with the same result's
    shape."""
    _, (code, _) = gpu_section()
    example = EXAMPLE.partition("compiled =")[0] + code
    assert example.count("512") == 2
    (tmp_path / "example.py").write_text(example.replace("512", "32"))
    result = subprocess.run(
        [sys.executable, "example.py"],
        capture_output=True, text=True, cwd=tmp_path, timeout=120,
        env={**os.environ, "MINICOMP_CUDA_SIM": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (result.stdout, result.stderr) == ("(64, 256)\n", "")


def test_the_example_for_the_simulator_prints_what_is_shown(tmp_path):
    section, (_, code) = gpu_section()
    shown = re.search(r"```\n(.*?)```", section.partition(code)[2][3:], re.DOTALL)[1]
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, cwd=tmp_path, timeout=120,
        env={**os.environ, "MINICOMP_CUDA_SIM": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout == shown


def test_the_set_up_lines_are_those_that_ci_runs():
    lines = re.search(r"```sh\n(.*?)```", README, re.DOTALL)[1].splitlines()
    assert lines == [
        "python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/python -m minicomp",
        "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest",
    ]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_the_options_are_there_with_their_defaults():
    table = re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", README, re.MULTILINE)
    assert len(table) == 8
    for name, default in table:
        assert repr(getattr(minicomp.config, name)) == default.replace('"', "'")
        assert name in minicomp.list_options()
