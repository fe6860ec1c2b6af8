"""The progress line: on a terminal only, late, in place, and gone at the end."""

import io
from types import SimpleNamespace

import pytest
from selection_fakes import Bench, random_operands, right

from minicomp.selection import Operands, use_timer
from minicomp.selection.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    return stderr_as(Terminal(), monkeypatch)


def stderr_as(stream, monkeypatch):
    monkeypatch.setattr("minicomp.selection.progress.sys", SimpleNamespace(stderr=stream))
    return stream


def test_work_that_lasts_shows_a_line_and_wipes_it(terminal):
    bench = Bench(*random_operands(), right)
    bench.select({"default": 0.4, "right": 0.4})
    lines = terminal.getvalue().split("\r")
    assert any("choosing for matmul at model.py:12: round 2 of 25, " in line for line in lines)
    assert lines[0] == "" and lines[-1] == "" and lines[-2].strip() == ""
    assert all(len(line) <= 79 for line in lines)


def test_short_work_shows_nothing(terminal):
    Bench(*random_operands(), right).select({"default": 1e-3, "right": 2e-3})
    assert terminal.getvalue() == ""


def test_where_stderr_is_no_terminal_nothing_is_shown(monkeypatch):
    stream = stderr_as(io.StringIO(), monkeypatch)
    Bench(*random_operands(), right).select({"default": 0.4, "right": 0.4})
    assert stream.getvalue() == ""


def test_the_line_is_not_rewritten_at_every_step(terminal):
    now = iter(range(1000))
    progress = Progress("work", lambda: next(now) * 0.01)
    for step in range(300):
        progress(f"step {step}")
    assert 0 < terminal.getvalue().count("\r") < 60


def test_the_line_is_wiped_when_the_user_interrupts(terminal):
    bench = Bench(*random_operands(), right)
    times = iter([0.6, 0.6, 0.6])

    def timer(name, run):
        for seconds in times:
            return seconds
        raise KeyboardInterrupt

    with use_timer(timer), pytest.raises(KeyboardInterrupt):
        bench.selector.select(bench.site, Operands(bench.a, bench.b), bench.candidates)
    assert "round 2" in terminal.getvalue() and terminal.getvalue().endswith(" \r")
