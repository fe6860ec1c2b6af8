"""Chapters of the tutorials: their cells, and what each cell says it prints.

In: a Python file in the percent format (cells begin with `# %%`, text cells with
`# %% [markdown]`). Out: cells; and whether the lines `# > ...` at the end of each code cell are
what the chapter prints. In those lines `...` stands for any characters, and a line of nothing
else for any number of lines. A run of lines `# ~ ...` shows what one machine printed, and stands
for any number of lines too.

    # %%
    print(1 + 1)
    # > 2

`python tests/chapters.py tutorials/01_tracing.py` runs a chapter and writes what it prints into
it, where what stands there does not fit.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

EXACT, EXAMPLE = "# >", "# ~"


@dataclass(frozen=True)
class Cell:
    """The lines of a cell, without its `# %%`. `start` is the number of its first line."""

    is_text: bool
    start: int
    lines: tuple[str, ...]

    @property
    def code(self) -> list[str]:
        return [line for line in self.lines if not line.startswith((EXACT, EXAMPLE))]

    @property
    def expected(self) -> list[str]:
        """Lines to compare with what is printed; examples are wildcards in them."""
        lines = [line for line in self.lines if line.startswith((EXACT, EXAMPLE))]
        return ["..." if line.startswith(EXAMPLE) else line[len(EXACT) + 1 :] for line in lines]

    @property
    def text(self) -> str:
        """A text cell's Markdown."""
        return "\n".join(line.removeprefix("#").removeprefix(" ") for line in self.lines)


def read_cells(source: str) -> list[Cell]:
    """The cells of a chapter. What comes before the first (jupytext's header) is none."""
    lines = source.splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("# %%")]
    ends = [*starts[1:], len(lines)]
    return [
        Cell("[markdown]" in lines[start], start + 2, tuple(lines[start + 1 : end]))
        for start, end in zip(starts, ends)
    ]


def mismatch(expected: Iterable[str], printed: str) -> str:
    """What differs, or nothing where the printed text is as expected."""
    wanted, got = [line.rstrip() for line in expected], [p.rstrip() for p in printed.splitlines()]
    pattern = "".join(
        r"(?:.*\n)*?" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*") + r"\n"
        for line in wanted
    )
    if re.fullmatch(pattern, "".join(f"{line}\n" for line in got)):
        return ""
    return "\n".join(difflib.unified_diff(wanted, got, "the chapter says", "it prints", "", ""))


def with_outputs(path: Path) -> str:
    """The chapter with the output of each code cell put right, by running it."""
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    cells = read_cells(source)
    namespace = {"__name__": "__main__", "__file__": str(path)}
    replaced = [(cell, run_cell(path, cell, namespace)) for cell in cells if not cell.is_text]
    for cell, new in reversed(replaced):  # from the end, so that line numbers stay right
        lines[cell.start - 1 : cell.start - 1 + len(cell.lines)] = new
    return "\n".join(lines) + "\n"


def run_cell(path: Path, cell: Cell, namespace: dict) -> list[str]:
    """The lines of a code cell with the output that running it gives."""
    output = io.StringIO()
    padding = "\n" * (cell.start - 1)  # so that lines have the numbers of the file
    with contextlib.redirect_stdout(output):
        exec(compile(padding + "\n".join(cell.lines), str(path), "exec"), namespace)
    if not mismatch(cell.expected, output.getvalue()):
        return list(cell.lines)
    code = "\n".join(cell.code).rstrip().splitlines()
    printed = [f"{EXACT} {line}".rstrip() for line in output.getvalue().splitlines()]
    return [*code, *printed, ""]


if __name__ == "__main__":
    for name in sys.argv[1:]:
        Path(name).write_text(with_outputs(Path(name)), encoding="utf-8")
