"""A first run in a forked child: crashes and hangs reject the candidate and harm nothing."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from importable_externals import leaves, raises, segfaults
from selection_fakes import Bench, random_operands, report_on, right, wrong

from minicomp.selection.subprocess_check import check_in_child

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


def choose_with(fn, **options):
    bench = Bench(*random_operands(), fn, autotune_in_subproc=True, **options)
    choice = bench.select({fn.__name__: 1e-6})
    return choice, report_on(choice, fn.__name__)


def children_left():
    try:
        return os.waitpid(-1, os.WNOHANG) != (0, 0)
    except ChildProcessError:
        return False


def reads_address_zero(a, b, out):
    import ctypes

    ctypes.string_at(0)


def leaves_quietly(a, b, out):
    os._exit(0)


@pytest.mark.parametrize(
    ("fn", "reason"),
    [
        (segfaults, "crashed a child process with SIGSEGV"),
        (reads_address_zero, "crashed a child process with SIGSEGV"),
        (leaves, "ended a child process with exit status 3"),
        (leaves_quietly, "ended a child process with exit status 0"),
        (raises, "raised ValueError: no such shape"),
        (wrong, "wrong: 32 of 32 elements"),
    ],
)
def test_what_takes_the_child_down_is_the_reason_for_the_rejection(fn, reason):
    choice, report = choose_with(fn)
    assert choice.chosen == "default"
    assert report.status == "rejected" and report.reason.startswith(reason)
    assert not children_left()


def test_a_hanging_external_is_rejected_when_its_time_is_up():
    def hangs(a, b, out):
        time.sleep(60)

    start = time.monotonic()
    choice, report = choose_with(hangs, max_autotune_subproc_result_timeout_seconds=0.2)
    assert time.monotonic() - start < 10
    assert choice.chosen == "default"
    assert report.reason == "gave no answer within 0.2 s in a child process"
    assert not children_left()


def test_a_hang_that_blocks_every_signal_it_can_is_ended_too():
    def stubborn(a, b, out):
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
        while True:
            pass

    _, report = choose_with(stubborn, max_autotune_subproc_result_timeout_seconds=0.2)
    assert report.reason.startswith("gave no answer")


def test_a_right_external_passes_and_runs_here_from_then_on():
    pids = set()

    def records_pid(a, b, out):
        pids.add(os.getpid())
        np.matmul(a, b, out=out)

    choice, _ = choose_with(records_pid)
    assert choice.chosen == "records_pid"
    assert pids == {os.getpid()}  # what the child added is gone with it


def test_the_first_run_is_in_a_child():
    parent, here = os.getpid(), []

    def fails_in_the_child(a, b, out):
        if os.getpid() != parent:
            raise RuntimeError("in a child")
        here.append(1)

    _, report = choose_with(fails_in_the_child)
    assert report.reason == "raised RuntimeError: in a child" and here == []


def test_a_crash_on_random_operands_alone_is_caught_in_the_child():
    a, b = random_operands()

    def crashes_on_others(x, y, out):
        if not np.array_equal(x, a):
            os.kill(os.getpid(), signal.SIGKILL)
        np.matmul(x, y, out=out)

    bench = Bench(a, b, crashes_on_others, autotune_in_subproc=True)
    choice = bench.select({"crashes_on_others": 1e-6})
    assert choice.chosen == "default"
    assert "SIGKILL" in report_on(choice, "crashes_on_others").reason


def test_an_untrusted_check_is_not_needed_to_catch_a_crash():
    _, report = choose_with(segfaults, external_check="off")
    assert "SIGSEGV" in report.reason


def test_a_child_does_not_share_buffered_output_with_its_parent(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(
        "import sys, atexit\n"
        "from minicomp.selection.subprocess_check import check_in_child\n"
        "atexit.register(lambda: print('at exit'))\n"
        "print('once')\n"
        "print(check_in_child(lambda: 'verdict', 10.0))\n"
    )
    result = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert result.stdout.split("\n") == ["once", "verdict", "at exit", ""]


def test_an_interrupt_while_waiting_ends_the_child():
    def interrupt_parent():
        time.sleep(0.3)  # until the parent is past the fork
        os.kill(os.getppid(), signal.SIGINT)
        time.sleep(60)

    # A shell that runs the tests in the background has them ignore the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            check_in_child(interrupt_parent, 30.0)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not children_left()


def test_a_passing_check_is_none():
    assert check_in_child(lambda: None, 10.0) is None
    assert Bench(*random_operands(), right, autotune_in_subproc=True).select(
        {"right": 1e-6}
    ).chosen == ("right")
