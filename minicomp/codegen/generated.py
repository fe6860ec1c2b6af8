"""A module of LLVM IR that is generated when somebody wants to read it.

In: a generator and its arguments. Out: a key, at once, and the text, when it is asked for.

    module = Generated(generators.matmul, kernel, schedule, target)
    module.key        # 0.1 ms: what a compiled object is found by
    module.text       # 10 ms: only if there is none

The text depends on the arguments and on minicomp's source alone, so they can stand for it. But
whoever tries out an op in a running program gives `LLVMEmitter` a new method; from then on the
text stands for itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cached_property
from types import FunctionType
from typing import Any

from minicomp.fingerprint import fingerprint, source_digest


class Generated:
    """See the module's docstring."""

    def __init__(self, emit: Callable[..., str], *arguments: Any):
        self.emit, self.arguments = emit, arguments

    @cached_property
    def text(self) -> str:
        """The module as text."""
        return self.emit(*self.arguments)

    @cached_property
    def key(self) -> str:
        """Equal keys mean equal texts, in every process."""
        if not _is_emitter_original():
            return fingerprint(self.text)
        name = f"{self.emit.__module__}.{self.emit.__qualname__}"
        return fingerprint(source_digest(), name, self.arguments)


def _is_emitter_original() -> bool:
    """Whether all methods of `LLVMEmitter` are in minicomp's own files."""
    module = sys.modules.get("minicomp.codegen.llvm_emitter")
    if module is None:
        return True  # who has changed it has imported it
    own = os.path.dirname(__file__) + os.sep
    return all(
        isinstance(method, FunctionType) and method.__code__.co_filename.startswith(own)
        for part in module.LLVMEmitter.__mro__
        for name, method in vars(part).items()
        if not name.startswith("_")
    )
