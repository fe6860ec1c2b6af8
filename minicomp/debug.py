"""`MINICOMP_DEBUG`: print stages of the compiler as they happen.

    MINICOMP_DEBUG=graph,kernels python my_script.py

`graph` is what was traced, `passes` the graph after each pass that changed it, `kernels` the fused
program and the loops of its kernels, `llvm` the generated IR and `ptx` the PTX (whichever there
is), `asm` the machine code, `select` the tables of candidates. Everything goes to stderr, each
piece under a heading; what cannot be shown, for want of a tool or as the device has no such stage,
is a line that says why.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TypeVar

from minicomp.errors import MinicompError, OptionError

STAGES = ("graph", "passes", "kernels", "llvm", "ptx", "asm", "select")
Thing = TypeVar("Thing")


def wanted(stage: str) -> bool:
    """Whether MINICOMP_DEBUG asks for a stage. OptionError if it names one that is none."""
    asked = [name.strip() for name in os.environ.get("MINICOMP_DEBUG", "").lower().split(",")]
    unknown = [name for name in asked if name and name not in STAGES]
    if unknown:
        raise OptionError(
            f"MINICOMP_DEBUG={','.join(asked)}: no stage {unknown[0]!r}; "
            f"wanted some of {','.join(STAGES)}"
        )
    return stage in asked


def show(stage: str, thing: Thing, text: Callable[[Thing], str] = str, title: str = "") -> Thing:
    """Print `text(thing)` if the stage is asked for; gives the thing, so that stages can be
    written as `graph = show("graph", verify(graph))`."""
    if wanted(stage):
        try:
            shown = text(thing)
        except MinicompError as error:  # looking on must not end the program that is looked at
            remark(stage, f"not shown: {error}")
        else:
            heading = f"--- {stage}{': ' + title if title else ''} "
            print(f"{heading:-<100}\n{shown}", file=sys.stderr)
    return thing


def remark(stage: str, text: str) -> None:
    """Print one line about a stage, if it is asked for, in place of what there would be to see."""
    if wanted(stage):
        print(f"--- {stage}: {' '.join(text.split())}", file=sys.stderr)
