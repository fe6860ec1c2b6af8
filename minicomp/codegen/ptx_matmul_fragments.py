"""What the families of matrix products have in common, for the loop around them and the epilogue.

A family ("simt", "mma") keeps a warp's sums in registers, and takes the operands to multiply, its
*fragments*, from shared memory. Which thread holds which sums is the family's own matter: it lists
them as `Run`s.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from minicomp.codegen.ptx_types import Register
from minicomp.kernels.indexing import Index


@dataclass(frozen=True)
class WarpPlace:
    """Where a warp's tile begins within the block's, where its part of the depth, and which of the
    warp's threads this is."""

    row: Index
    column: Index
    depth: Index
    lane: Index


@dataclass(frozen=True)
class Run:
    """Sums of neighbouring columns that a thread holds, from (row, column) on, counted from the
    thread's first."""

    row: int
    column: int
    sums: tuple[Register, ...]


class Fragments(Protocol):
    """A thread's sums, and two sets of registers for operands, which take turns."""

    #: the thread's first row and column within the block's tile
    row: Index
    column: Index

    def enter(self, stage: Register) -> None:
        """What is loaded from now on is in the stage that begins at this address."""

    def load(self, step: int, turn: int) -> None:
        """The operands of one step of the tile, from shared memory into set number `turn`."""

    def multiply(self, turn: int) -> None:
        """Add the products of that set to the sums."""

    def runs(self) -> Iterator[Run]:
        """All sums."""
