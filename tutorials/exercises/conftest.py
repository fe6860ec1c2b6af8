"""Grading: what is done, what is next, and the next hint.

    pytest tutorials/exercises                 your answers, in ex1_rule.py, ex2_pass.py, ...
    pytest tutorials/exercises --hints         all hints of the next exercise
    pytest tutorials/exercises --solutions     the answers in tutorials/solutions
    pytest tutorials/exercises --answers DIR   the answers in a directory of yours

The tests of an exercise stand beside it: those of ex1_rule.py in test_ex1_rule.py. They get the
module with the answer as the fixture `answer`.
"""

import hashlib
import importlib.util
import os
import sys
import textwrap
from pathlib import Path

import pytest

HERE = Path(__file__).parent
EXERCISES = sorted(path.name for path in HERE.glob("ex*.py"))
DONE, TO_DO, WRONG = "done", "to do", "not right yet"

#: exercise -> its state in this run
STATES = pytest.StashKey[dict[str, str]]()


def pytest_addoption(parser):
    group = parser.getgroup("exercises")
    group.addoption("--solutions", action="store_true", help="grade minicomp's own answers")
    group.addoption("--answers", type=Path, help="grade the answers in this directory")
    group.addoption("--hints", action="store_true", help="show all hints of the next exercise")


def pytest_configure(config):
    config.stash[STATES] = {}
    if config.option.tbstyle == "auto":
        config.option.tbstyle = "short"


def directory_of_answers(config):
    if config.getoption("--solutions"):
        return HERE.parent / "solutions"
    return config.getoption("--answers") or HERE


def load(path):
    """The module in a file."""
    spec = importlib.util.spec_from_file_location(f"answer_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickling look modules up here
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def answer(request):
    """The module with the answer to the exercise that the test is about."""
    return load(directory_of_answers(request.config) / exercise_of(request.node))


def exercise_of(item):
    """test_ex1_rule.py -> ex1_rule.py"""
    return item.path.name.removeprefix("test_")


# --- results ---


def pytest_runtest_setup(item):
    """One thing at a time: after a test that fails, the others of its exercise wait."""
    if item.config.stash[STATES].get(exercise_of(item), DONE) != DONE:
        pytest.skip("an earlier test of this exercise fails")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    states = item.config.stash[STATES]
    if report.failed:
        # the very class: minicomp's own errors inherit from it
        report.is_to_do = call.excinfo.type is NotImplementedError
        state = TO_DO if report.is_to_do else WRONG
        if states.get(exercise_of(item)) != WRONG:
            states[exercise_of(item)] = state
    elif report.when == "call":
        states.setdefault(exercise_of(item), DONE)
    return report


def pytest_report_teststatus(report):
    """An exercise that nobody has begun is no failure to be shown at length."""
    if getattr(report, "is_to_do", False):
        return "to do", "-", "TO DO"
    return None


def pytest_terminal_summary(terminalreporter, config):
    states = config.stash[STATES]
    if not states:
        return
    write = terminalreporter.write_line
    terminalreporter.section("exercises")
    for name in EXERCISES:
        if name in states:
            mark = "x" if states[name] == DONE else " "
            write(f"[{mark}] {name:<18} {title(name):<36} {states[name]}")
    left = [name for name in EXERCISES if states.get(name, DONE) != DONE]
    left.sort(key=lambda name: states[name] != WRONG)  # what is being worked on comes first
    write("")
    if not left:
        write("All done." if len(states) == len(EXERCISES) else "Done.")
    elif directory_of_answers(config) == HERE:
        write_hint(write, config, left[0])


def title(name):
    """The first line of an exercise's docstring: what it is about."""
    first = (HERE / name).read_text(encoding="utf-8").splitlines()[0]
    return first.strip('"').partition(": ")[2].rstrip(".")


def write_hint(write, config, name):
    """The next exercise, and its next hint. Each attempt that fails, which is to say each change
    of the file, earns one more."""
    path = HERE / name
    write(f"Next: {os.path.relpath(path, config.invocation_params.dir)}")
    try:
        hints = load(path).HINTS
    except Exception:  # a file that Python cannot read: its tests have said so
        return
    shown = len(hints) if config.getoption("--hints") else hints_earned(config, path)
    for number, hint in enumerate(hints[:shown], start=1):
        text = f"hint {number} of {len(hints)}: {hint}"
        write(textwrap.indent(textwrap.fill(text, 90), "  "))


def hints_earned(config, path):
    """How many hints to show, remembered in pytest's cache."""
    cache = getattr(config, "cache", None)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    key = f"exercises/{path.name}"
    last, count = cache.get(key, ("", 0)) if cache else ("", 0)
    count += digest != last
    if cache:
        cache.set(key, (digest, count))
    return count
