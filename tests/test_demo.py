"""The demo, `python -m minicomp`, as somebody sees it who runs it for the first time."""

import os
import re
import subprocess
import sys

import pytest


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return subprocess.run(
        [sys.executable, "-m", "minicomp"],
        capture_output=True,
        text=True,
        env={**os.environ, "MINICOMP_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))},
        timeout=300,
    )


def test_it_ends_well_and_says_nothing_on_stderr(demo):
    assert demo.returncode == 0, demo.stderr
    assert demo.stderr == ""


def test_it_explains_every_call_site(demo):
    sites = demo.stdout.split("\nmatmul at __main__.py:")[1:]
    assert len(sites) == 3
    for site in sites:
        assert re.search(r"^> \w+ +(codegen|external) +ok +\d", site, re.MULTILINE)
        assert re.search(r"^  outer_\w+ +codegen +ok", site, re.MULTILINE)
        assert re.search(r"numpy_matmul +external +ok +\d", site)
        assert re.search(r"half_precision +external +rejected +wrong: \d+ of \d+", site)
        assert re.search(r"needs_a_licence +external +rejected +raised RuntimeError: no", site)


def test_the_classifier_is_good_and_agrees_with_the_interpreter(demo):
    accuracy = re.search(r"accuracy on held-out digits: ([\d.]+)%", demo.stdout)
    assert float(accuracy[1]) > 95
    difference = re.search(r"largest difference from the interpreter: (\S+)", demo.stdout)
    assert float(difference[1]) < 1e-4


def test_it_compares_the_speed_with_plain_numpy(demo):
    line = (
        r"^ *(\d+) images? *: compiled +([\d.]+) us, NumPy +([\d.]+) us: "
        r"(compiled|NumPy) is ([\d.]+) times as fast$"
    )
    rows = re.findall(line, demo.stdout, re.MULTILINE)
    assert [row[0] for row in rows] == ["1", "32", "256"]
    for _, ours, plain, winner, _ in rows:
        assert winner == ("compiled" if float(ours) <= float(plain) else "NumPy")
