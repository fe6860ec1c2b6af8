"""What was compiled, and why each matmul is done the way it is.

In: the choices at the call sites and records of the kernels. Out: an `Explanation`: `str()` is a
table for people, `_repr_html_` the same for notebooks, `to_dict()` plain values for programs.

    MLP: 1 matmul call site, 2 kernels

    matmul at model.py:12, float32 [32, 784] @ [784, 512]
      numpy_matmul: fastest: 412 us, 1.31 times as fast as tile 12x32
      candidate     kind      status    median  spread   reason
    > numpy_matmul  external  ok        412 us  8.10 us
      tile 12x32    codegen   ok        540 us  4.00 us
      broken        external  rejected                   raised ValueError: no such shape

      kernel    kind    operations               buffers
      kernel_0  matmul  matmul, add, relu        x, weight, t0
      softmax   loop    max, sub, exp, sum, div  t0, out
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from minicomp.kernels import ConvolutionKernel, LoopKernel, MatmulKernel
from minicomp.runtime.backend import Executable
from minicomp.runtime.steps import ExternalStep
from minicomp.selection.candidates import CandidateReport, Choice
from minicomp.selection.table import by_rank, duration

WIDTH = 100
#: What kinds of kernels are called.
KINDS = {LoopKernel: "loop", MatmulKernel: "matmul", ConvolutionKernel: "convolution"}
#: A column is not wider than this; a longer text goes on below.
MOST_COLUMN = 30


@dataclass(frozen=True)
class KernelRecord:
    """One kernel of a compiled module.

    `kind` is "loop", "matmul" or whatever else runs as a step of its own; `operations` are the
    graph's ops that were fused into it, `buffers` the arrays that it reads and writes.
    """

    name: str
    kind: str
    operations: tuple[str, ...] = ()
    buffers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Explanation:
    """The explanation of one compiled module; `sites` in the order in which they run."""

    name: str
    sites: tuple[Choice, ...] = ()
    kernels: tuple[KernelRecord, ...] = ()

    def __str__(self) -> str:
        parts = [f"{self.name}: {self._summary()}"]
        parts += [_site_text(site) for site in self.sites]
        if self.kernels:
            parts.append(_grid(_kernel_rows(self.kernels)))
        return "\n\n".join(parts)

    def __repr__(self) -> str:
        return f"<explanation of {self.name}: {self._summary()}>"

    def _summary(self) -> str:
        sites = _counted(len(self.sites), "matmul call site")
        return f"{sites}, {_counted(len(self.kernels), 'kernel')}"

    def _repr_html_(self) -> str:
        """What notebooks show."""
        parts = [f"<h4>{escape(self.name)}: {self._summary()}</h4>"]
        for site in self.sites:
            title = f"{escape(str(site.site))}: <b>{escape(site.chosen)}</b>"
            parts.append(f"<p>{title}<br>{escape(site.reason)}</p>")
            parts.append(_html_table(_candidate_rows(site)))
        if self.kernels:
            parts.append(_html_table(_kernel_rows(self.kernels)))
        return "\n".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, fit for JSON."""
        return {
            "name": self.name,
            "sites": [site.to_dict() for site in self.sites],
            "kernels": [
                {**asdict(k), "operations": list(k.operations), "buffers": list(k.buffers)}
                for k in self.kernels
            ],
        }


def explanation(name: str, choices: Sequence[Choice], executable: Executable) -> Explanation:
    """The explanation of a program that runs, with a record of each of its steps."""
    records = []
    for step in executable.steps:
        buffers = tuple(executable.buffers[number].name for number in step.buffers)
        if isinstance(step, ExternalStep):
            records.append(KernelRecord(step.name, "external", ("matmul",), buffers))
            continue
        kernel = step.kernel.kernel
        records.append(KernelRecord(kernel.name, KINDS[type(kernel)], kernel.operations, buffers))
    return Explanation(name, tuple(choices), tuple(records))


Rows = list[tuple[str, ...]]  # the first is the header


def _site_text(site: Choice) -> str:
    choice = textwrap.wrap(
        f"{site.chosen}: {site.reason}", WIDTH, initial_indent="  ", subsequent_indent="    "
    )
    return "\n".join([str(site.site), *choice, _grid(_candidate_rows(site))])


def _candidate_rows(site: Choice) -> Rows:
    header = ("  candidate", "kind", "status", "median", "spread", "reason")
    return [header, *(_candidate_row(report, site.chosen) for report in by_rank(site))]


def _candidate_row(report: CandidateReport, chosen: str) -> tuple[str, ...]:
    name = f"{'>' if report.name == chosen else ' '} {report.name}"
    times = ["" if time is None else duration(time) for time in (report.seconds, report.spread)]
    return (name, report.kind, report.status, *times, report.reason)


def _kernel_rows(kernels: Iterable[KernelRecord]) -> Rows:
    return [
        ("  kernel", "kind", "operations", "buffers"),
        *((f"  {k.name}", k.kind, ", ".join(k.operations), ", ".join(k.buffers)) for k in kernels),
    ]


def _grid(rows: Rows) -> str:
    """The rows in aligned columns; the last column takes, and wraps into, what is left."""
    columns = list(zip(*rows, strict=True))
    widths = [min(MOST_COLUMN, max(map(len, column))) for column in columns[:-1]]
    widths.append(max(20, WIDTH - sum(widths) - 2 * len(widths)))
    return "\n".join(line for row in rows for line in _row_lines(row, widths))


def _row_lines(row: Sequence[str], widths: Sequence[int]) -> Iterable[str]:
    cells = [
        textwrap.wrap(cell, width) if cell else [""]
        for cell, width in zip(row, widths, strict=True)
    ]
    for number in range(max(map(len, cells))):
        texts = [cell[number] if number < len(cell) else "" for cell in cells]
        line = "  ".join(text.ljust(width) for text, width in zip(texts, widths, strict=True))
        yield line.rstrip()


def _html_table(rows: Rows) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    header, *body = rows
    lines = [line(header, "th"), *(line(row, "td") for row in body)]
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
