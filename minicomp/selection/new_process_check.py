"""A first try in a new process, for a device that is out of reach in a forked child.

In: a `Task`, all that a try takes. Out: a reason or None, as of `subprocess_check`, or how the
process died. CUDA does not survive a fork, so here Python starts anew, imports what the external
is part of, and makes the operands again from their values.

The program itself is not run again for it: an external that is defined in it, or in a function,
cannot be imported and is not tried (`NotImportable`).
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from minicomp import config
from minicomp.errors import CudaError
from minicomp.options import Options
from minicomp.runtime.backend import backend_for
from minicomp.selection.examine import Examiner
from minicomp.selection.externals import External, cause_text, error_text
from minicomp.selection.site import CallSite, Operands
from minicomp.selection.subprocess_check import (
    died_of,
    end_group,
    leave_no_core_file,
    no_answer_within,
)


class NotImportable(Exception):
    """The external cannot be found from a new process; why not."""


@dataclass(frozen=True, eq=False)
class Task:
    """An external to try at a site, on operands with these values and the site's strides."""

    site: CallSite
    options: Options
    external: External
    values: tuple[np.ndarray, np.ndarray]

    def problem(self) -> str | None:
        """What is wrong with the external, or None. To be called in a process of its own."""
        device = backend_for(self.site.device, self.options).device
        operands = []
        for values, strides in zip(self.values, self.site.strides, strict=True):
            in_bytes = tuple(stride * values.itemsize for stride in strides)
            operands.append(device.strided(values.shape, in_bytes, values.dtype.name))
            device.fill(operands[-1], values)
        examiner = Examiner(self.site, Operands(*operands), self.options, device)
        try:
            return examiner.check_product(self.external).problem
        except CudaError as error:
            reason = error_text(error) if error.__cause__ is None else cause_text(error.__cause__)
            return f"crashed on the GPU in a process of its own: {reason}"


def check_in_new_process(task: Task, seconds: float) -> str | None:
    """`task.problem()` in a new process, which is killed after `seconds`."""
    simulator = task.options.cuda_simulator or config.current("cuda_simulator")
    options = replace(task.options, external_matmul=(), choices=None, cuda_simulator=simulator)
    try:
        data = pickle.dumps(replace(task, options=options))
    except Exception as error:
        raise NotImportable(error_text(error)) from error
    with tempfile.TemporaryDirectory(prefix="minicomp-check-") as folder:
        Path(folder, "task").write_bytes(data)
        return _await(_start(folder), Path(folder, "answer"), seconds)


def _start(folder: str) -> subprocess.Popen:
    path = os.pathsep.join(entry for entry in sys.path if entry)
    code = f"from {__name__} import answer; answer({folder!r})"
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # what the external starts in turn dies with it
    )


def _await(child: subprocess.Popen, answer: Path, seconds: float) -> str | None:
    try:
        status = child.wait(seconds)
    except subprocess.TimeoutExpired:
        return no_answer_within(seconds)
    finally:
        if child.returncode is None:
            end_group(child.pid)
            child.wait()
    if status < 0:
        return died_of(-status)
    if not answer.exists():
        return f"ended a child process with exit status {status}"
    found = json.loads(answer.read_text())
    if "unknown" in found:
        raise NotImportable(found["unknown"])
    return found["problem"]


def answer(folder: str) -> None:
    """In the child: do the task in a folder, leave the answer there, and skip all shutdown."""
    leave_no_core_file()
    try:
        task = pickle.loads(Path(folder, "task").read_bytes())
    except BaseException as error:
        found = {"unknown": error_text(error)}
    else:
        try:
            found = {"problem": task.problem()}
        except BaseException as error:
            found = {"problem": f"raised {error_text(error)}"}
    Path(folder, "unfinished").write_text(json.dumps(found))
    os.replace(Path(folder, "unfinished"), Path(folder, "answer"))
    os._exit(0)
