"""Times minicomp on the CPU side by side with its peers. Run by hand, on an idle machine.

    pip install -e '.[bench]'                            # the peers: torch, jax, numba; matplotlib
    python tests/benchmarks/cpu.py                       # everything: more than an hour
    python tests/benchmarks/cpu.py --quick               # a row or two of each kind, one minute
    python tests/benchmarks/cpu.py 'softmax-*' call-relu-linear --threads 2 --json now.json
    python tests/benchmarks/cpu.py --report now.json then.json --plot all.svg
    python tests/benchmarks/cpu.py 'mlp-*' --report now.json --markdown  # for a README

For each workload every contestant's result is compared with NumPy's in float64; then they take
turns, on random data, in one process for each number of threads, since some libraries read theirs
only when they are imported. The table shows medians, the ratio of speed to the best peer, the share
of the machine's peak timed among the contestants, and whether the bar of the row is met.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Container
from fnmatch import fnmatch
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from benchmarks import report  # noqa: E402
from benchmarks.contestants import environment  # noqa: E402
from benchmarks.first_calls import FIRST_CALLS, FirstCall, measure_first_call  # noqa: E402
from benchmarks.measure import Session, installed_peers, measure  # noqa: E402
from benchmarks.selection_rows import (  # noqa: E402
    SELECTION_CHECKS,
    SelectionCheck,
    measure_selection,
)
from benchmarks.workloads import MEANS, WORKLOADS, Workload  # noqa: E402

Case = Workload | FirstCall | SelectionCheck
CASES: tuple[Case, ...] = (*WORKLOADS, *FIRST_CALLS, *SELECTION_CHECKS)
BARS: report.Bars = {case.name: case.bar for case in CASES}
#: Seconds of timing for each row: as usual, and with --quick.
SECONDS, QUICK_SECONDS = 3.0, 0.5


def main(words: list[str] | None = None) -> None:
    arguments = parse_arguments(words)
    if arguments.list:
        print("\n".join(case.name for case in selected(arguments)))
        return
    if arguments.rows_to:  # one of the processes that the command starts
        path, threads = arguments.rows_to
        Path(path).write_text(json.dumps(measure_all(arguments, int(threads))))
        return
    if arguments.report:
        names = {case.name for case in selected(arguments)}
        documents = [json.loads(Path(name).read_text()) for name in arguments.report]
        document = joined(documents, names)
    else:
        document = {"date": f"{datetime.date.today()}", "machine": machine(), "rows": []}
        for threads in arguments.threads:
            document["rows"] += in_another_process(threads, words or sys.argv[1:])
    print(report.markdown(document) if arguments.markdown else report.text(document, BARS, MEANS))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(document, indent=1) + "\n")
    if arguments.plot:
        report.plot(document, arguments.plot)


def parse_arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("patterns", nargs="*", help="names of rows, such as 'matmul-nn-*'")
    parser.add_argument("--threads", type=int, action="append", help="1 and 2 if not given")
    parser.add_argument("--peers", default="", help="the peers to meet, such as numpy,torch")
    parser.add_argument("--quick", action="store_true", help="few rows, little time for each")
    parser.add_argument("--seconds", type=float, help="of timing, for each row")
    parser.add_argument("--list", action="store_true", help="print the names of the rows")
    parser.add_argument("--json", metavar="FILE", help="write the figures")
    parser.add_argument("--markdown", action="store_true", help="print a table in Markdown")
    parser.add_argument("--plot", metavar="FILE.svg", help="draw the ratios; needs matplotlib")
    parser.add_argument(
        "--report", nargs="+", metavar="FILE", help="measure nothing: show these JSON files"
    )
    parser.add_argument("--rows-to", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_intermixed_args(words)
    arguments.threads = arguments.threads or [1, 2]
    arguments.seconds = arguments.seconds or (QUICK_SECONDS if arguments.quick else SECONDS)
    if not selected(arguments):
        parser.error(f"no row is called {' or '.join(arguments.patterns)}; see --list")
    return arguments


def selected(arguments: argparse.Namespace) -> list[Case]:
    """The rows whose names match; without patterns all, but for --quick only those marked."""
    if arguments.patterns:
        return [c for c in CASES if any(fnmatch(c.name, p) for p in arguments.patterns)]
    return [c for c in CASES if not arguments.quick or getattr(c, "quick", False)]


def in_another_process(threads: int, words: list[str]) -> list[report.Row]:
    """The rows measured with so many threads, by this script in a process that has the libraries'
    environment variables set before they are imported. What minicomp chose on another day, when
    the machine was busy perhaps, is not looked at: each run has a disk cache of its own."""
    with tempfile.TemporaryDirectory(prefix="minicomp-benchmark-") as folder:
        rows = Path(folder) / "rows.json"
        command = [sys.executable, __file__, *words, "--rows-to", str(rows), str(threads)]
        variables = {**environment(threads), "MINICOMP_CACHE_DIR": f"{folder}/cache"}
        subprocess.run(command, check=True, env={**os.environ, **variables})
        return json.loads(rows.read_text())


def measure_all(arguments: argparse.Namespace, threads: int) -> list[report.Row]:
    names = tuple(filter(None, arguments.peers.split(",")))
    cases, rows = selected(arguments), []
    progress = Progress()
    session = Session(threads, arguments.seconds, installed_peers(names), progress)
    for number, case in enumerate(cases):
        progress.title = f"{threads} thread(s), {number + 1} of {len(cases)}, {case.name}"
        if isinstance(case, Workload):
            rows.append(measure(case, session))
        elif isinstance(case, FirstCall):
            rows.append(measure_first_call(case, threads, progress))
        else:
            rows.append(measure_selection(case, session))
        progress(report.verdict(rows[-1], BARS))
        progress.end_line()
    return rows


class Progress:
    """One line on the terminal, rewritten as work goes on; in a file, a line a row."""

    def __init__(self) -> None:
        self.title, self.text = "", ""

    def __call__(self, text: str) -> None:
        self.text = f"{self.title}: {text}"
        if sys.stderr.isatty():
            print(f"\r{self.text[:78]:78}", end="", file=sys.stderr, flush=True)

    def end_line(self) -> None:
        print("" if sys.stderr.isatty() else self.text, file=sys.stderr, flush=True)


def machine() -> dict[str, Any]:
    versions = {"python": platform.python_version()}
    for name in ("minicomp", "numpy", "torch", "jax", "numba", "scipy"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"cpu": processor(), "cpus": os.cpu_count(), "versions": versions}


def processor() -> str:
    """The processor's name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def joined(documents: list[dict[str, Any]], names: Container[str]) -> dict[str, Any]:
    """Several runs as one, of the rows with these names; of a row measured twice with as many
    threads, the last counts."""
    found = [row for document in documents for row in document["rows"] if row["name"] in names]
    rows = {(row["name"], row["threads"]): row for row in found}
    order = {case.name: number for number, case in enumerate(CASES)}
    ordered = sorted(rows.values(), key=lambda row: order.get(row["name"], len(order)))
    return {**documents[-1], "rows": ordered}


if __name__ == "__main__":
    main()
