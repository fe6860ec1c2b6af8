"""What is paid once: importing, compiling, choosing. Each is measured in processes of its own.

In: a number of threads. Out: rows as `measure` makes them, with minicomp alone in them.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bars import MINICOMP, Requirement, Row, Seconds

import minicomp

REPEATS = 7

IMPORT = """
import time
import numpy
start = time.perf_counter()
import minicomp
print(time.perf_counter() - start)
"""

#: `compile()` of the MLP and its first call, with the options in place of %(options)s. What is
#: measured begins at %(begin)s. "compile": with `compile()`, which imports the compiler and starts
#: LLVM, once per process. "call": with the first call, at which the module is compiled.
FIRST_CALL = """
import time
import numpy as np
import minicomp
from minicomp import nn
model = nn.Sequential(
    nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10)
)
x = np.random.default_rng(0).standard_normal((32, 784), np.float32)
start = {"compile": time.perf_counter()}
compiled = minicomp.compile(model, options=%(options)s)
start["call"] = time.perf_counter()
compiled(x)
print(time.perf_counter() - start["%(begin)s"])
"""


@dataclass(frozen=True)
class FirstCall:
    """A script that prints seconds. It runs once before, which leaves bytecode as an installed
    package has it; `fills_cache`: what it leaves in minicomp's disk cache is used, too."""

    name: str
    script: str
    bar: Sequence[Requirement]
    options: dict[str, bool] | None = None
    fills_cache: bool = False
    begin: str = "call"
    group: str = "paid once"

    def text(self, threads: int) -> str:
        if self.options is None:
            return self.script
        options = {**self.options, "num_threads": threads}
        return self.script % {"options": options, "begin": self.begin}


FIRST_CALLS: tuple[FirstCall, ...] = (
    FirstCall("import", IMPORT, [Seconds(0.060)]),
    FirstCall("first-call-cold", FIRST_CALL, [Seconds(0.150)], {}),
    FirstCall("first-call-warm", FIRST_CALL, [Seconds(0.015)], {}, fills_cache=True),
    FirstCall("compile-and-call-cold", FIRST_CALL, [Seconds(0.150)], {}, begin="compile"),
    FirstCall("compile-and-call-warm", FIRST_CALL, [Seconds(0.015)], {}, True, "compile"),
    FirstCall(
        "compile-and-call-tuned",
        FIRST_CALL,
        [Seconds(3.0)],
        {"max_autotune": True},
        False,
        "compile",
    ),
)


def measure_first_call(
    case: FirstCall, threads: int, progress: Callable[[str], None] = lambda text: None
) -> Row:
    """The median over processes, each with a disk cache as the case wants it."""
    times = []
    for number, variables in enumerate(_caches(case, threads)):
        progress(f"process {number + 1} of {REPEATS}")
        times.append(_seconds(case.text(threads), variables))
    ordered = sorted(times)
    time = {
        "median": statistics.median(ordered),
        "low": ordered[len(ordered) // 4],
        "high": ordered[-1 - len(ordered) // 4],
        "rounds": len(ordered),
    }
    return {
        "name": case.name,
        "group": case.group,
        "threads": threads,
        "times": {MINICOMP: time},
        "peers": [],
        "failures": {},
        "chosen": [],
        "work": {},
        "roof_work": {},
    }


def _caches(case: FirstCall, threads: int) -> Iterator[dict[str, str]]:
    """Environment variables for each process: the folders of the disk cache and of bytecode."""
    with tempfile.TemporaryDirectory(prefix="minicomp-benchmark-") as folder:
        caches = {"PYTHONPYCACHEPREFIX": f"{folder}/bytecode"}
        used = {**caches, "MINICOMP_CACHE_DIR": f"{folder}/used"}
        _seconds(case.text(threads), used)
        for number in range(REPEATS):
            fresh = {**caches, "MINICOMP_CACHE_DIR": f"{folder}/{number}"}
            yield used if case.fills_cache else fresh


def _seconds(script: str, variables: dict[str, str]) -> float:
    root = str(Path(minicomp.__file__).parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, **variables, "PYTHONPATH": path}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    result = subprocess.run(
        [sys.executable, "-c", script],
        text=True, stdout=subprocess.PIPE, check=True, env=environment,
    )  # fmt: skip
    return float(result.stdout)
