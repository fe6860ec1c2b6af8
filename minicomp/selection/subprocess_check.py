"""A first try in a forked child, so that a crash or a hang takes the child down and nothing else.

In: a function that returns a reason or None. Out: what it returned in the child, or how the child
died. Forking needs no pickling: the child has the callable and its operands because it is a copy
of this process. The child runs nothing but the function and never returns into the caller.

Only the forking thread lives on in the child. A library whose own threads do not survive a fork
(some OpenMP runtimes) hangs there, and is then rejected by the time limit.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import select
import signal
import time
import warnings
from collections.abc import Callable

from minicomp.selection.externals import error_text

Check = Callable[[], str | None]

#: How often a child that has closed its pipe, or says nothing, is asked whether it has ended.
POLL_SECONDS = 0.02


def check_in_child(check: Check, seconds: float) -> str | None:
    """`check()` in a forked child, which is killed after `seconds`."""
    read_end, write_end = os.pipe()
    with warnings.catch_warnings():
        # Python warns that forking with threads may deadlock the child: hence the time limit.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        os.close(read_end)
        _run_child(check, write_end)
    os.close(write_end)
    try:
        return _await(pid, read_end, seconds)
    finally:
        os.close(read_end)


def _run_child(check: Check, write_end: int) -> None:
    """In the child: send the verdict as JSON and leave, skipping all of Python's shutdown."""
    status = 1
    try:
        os.setpgid(0, 0)  # what the external starts in turn dies with it
        faulthandler.disable()  # the parent reports the crash
        leave_no_core_file()
        try:
            verdict = check()
        except BaseException as error:
            verdict = f"raised {error_text(error)}"
        os.write(write_end, json.dumps(verdict).encode())
        status = 0
    finally:
        os._exit(status)


def leave_no_core_file() -> None:
    """A crash that is expected leaves nothing on the disk."""
    try:
        import resource
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def _await(pid: int, read_end: int, seconds: float) -> str | None:
    """The child's verdict, or how it ended without one; either way the child is gone after."""
    deadline = time.monotonic() + seconds
    message, is_open, status = b"", True, None
    try:
        while status is None and time.monotonic() < deadline:
            if is_open and select.select([read_end], [], [], POLL_SECONDS)[0]:
                chunk = os.read(read_end, 65536)
                message, is_open = message + chunk, bool(chunk)
                continue
            if not is_open:
                time.sleep(POLL_SECONDS / 20)
            ended, code = os.waitpid(pid, os.WNOHANG)
            status = code if ended else None
    finally:
        if status is None:
            _kill(pid)
    if status is None:
        return no_answer_within(seconds)
    if is_open and select.select([read_end], [], [], 0)[0]:
        message += os.read(read_end, 65536)  # sent between the last look and the child's end
    return _verdict(status, message)


def _verdict(status: int, message: bytes) -> str | None:
    if os.WIFSIGNALED(status):
        return died_of(os.WTERMSIG(status))
    try:
        return json.loads(message)
    except ValueError:
        return f"ended a child process with exit status {os.WEXITSTATUS(status)}"


def no_answer_within(seconds: float) -> str:
    return f"gave no answer within {seconds:g} s in a child process"


def died_of(number: int) -> str:
    """What to say of a child that a signal has ended."""
    return f"crashed a child process with {_signal_name(number)}"


def _kill(pid: int) -> None:
    """End the child and its process group, and collect it."""
    end_group(pid)
    os.waitpid(pid, 0)


def end_group(pid: int) -> None:
    """Kill a child and all that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)  # in case it has not made its group yet


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
