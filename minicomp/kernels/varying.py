"""Which scalars differ within a row, and which are the same for all of it.

In: a kernel's inner loops and its scans. Out: for a scalar, whether it depends on them. What does
not can be computed once per row, outside of any loop over it.
"""

from __future__ import annotations

from collections.abc import Collection

from minicomp.kernels.indexing import Element, Index, LoopVariable
from minicomp.kernels.kernel import Load, Position, Reduced, Scalar


class Varying:
    """`varying(scalar)`: whether it may differ from one inner iteration to another. Finished
    reductions do not; the running value of a scan (by number) does."""

    def __init__(self, inner: Collection[LoopVariable], scans: Collection[int]):
        self.inner, self.scans = set(inner), set(scans)
        self.known: dict[int, bool] = {}

    def __call__(self, scalar: Scalar) -> bool:
        if id(scalar) not in self.known:
            self.known[id(scalar)] = self._varies(scalar)
        return self.known[id(scalar)]

    def _varies(self, scalar: Scalar) -> bool:
        if isinstance(scalar, Load | Position):
            return self.index(scalar.index)
        if isinstance(scalar, Reduced):
            return scalar.number in self.scans
        return any(map(self, scalar.operands_()))

    def index(self, index: Index) -> bool:
        """Whether an index does."""
        for atom, _ in index.terms:
            if isinstance(atom, LoopVariable):
                if atom in self.inner:
                    return True
            elif self(atom.scalar) if isinstance(atom, Element) else self.index(atom.numerator):
                return True
        return False
