"""A set of threads that run together: what an instruction is applied to.

Registers are arrays with one element for each thread of a batch. `index` picks this set's
elements: a slice where the threads are neighbours, which costs NumPy nothing, and otherwise an
array of their numbers, in rising order.

    Threads(np.array([4, 5, 6])).index     # slice(4, 7)
    Threads(np.array([0, 2])).index        # array([0, 2])
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray


class Threads:
    """See the module's docstring. `numbers` must not be empty."""

    __slots__ = ("_warps", "count", "index", "numbers")

    def __init__(self, numbers: Array):
        self.numbers = numbers
        self.count = len(numbers)
        first, last = int(numbers[0]), int(numbers[-1])
        self.index: slice | Array = numbers
        if last - first + 1 == self.count:
            self.index = slice(first, last + 1)
        self._warps = 0

    @property
    def warps(self) -> int:
        """In how many warps these threads are."""
        if not self._warps:
            warp = self.numbers >> 5
            self._warps = 1 + int(np.count_nonzero(warp[1:] != warp[:-1]))
        return self._warps

    def where(self, mask: Array) -> Threads:
        """Those at which `mask`, one bool for each of these threads, holds; at least one does."""
        return Threads(self.numbers[mask])

    def union(self, other: Threads) -> Threads:
        """These and others, none of which is in both."""
        return Threads(np.sort(np.concatenate([self.numbers, other.numbers])))
