"""Memory planning: temporaries that are never alive at once share addresses.

And `aligned_empty`, which makes an array that begins where offsets begin, on a cache line.

In: for each temporary its size and the first and last call that touches it. Out: an offset for
each in one arena, and the arena's size. Offsets are multiples of 64 bytes (a cache line, and the
widest vector) unless another alignment is asked for. Greedy best fit, largest first: within a few
percent of optimal on such graphs, and short (Pisarchyk and Lee 2020, "Efficient memory management
for deep neural net inference").

>>> plan_memory([Lifetime(0, 100, 0, 1), Lifetime(1, 100, 1, 2), Lifetime(2, 100, 2, 3)])
({0: 0, 1: 128, 2: 0}, 256)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from minicomp.ir import numpy_dtype

ALIGNMENT = 64

#: An array of so many bytes gets that alignment too, where the runtime makes it. Smaller ones are
#: as their allocator has them: what is gained would not pay for another object.
LARGE_BYTES = 1 << 20


def aligned_empty(shape: Sequence[int], dtype: str) -> np.ndarray:
    """A new array that begins at a multiple of `ALIGNMENT`."""
    kind = numpy_dtype(dtype)
    nbytes = prod(shape) * kind.itemsize
    raw = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -raw.__array_interface__["data"][0] % ALIGNMENT
    return raw[start : start + nbytes].view(kind).reshape(shape)


@dataclass(frozen=True)
class Lifetime:
    """A buffer of `nbytes` that is in use from call `first` to call `last`, both included."""

    buffer: int
    nbytes: int
    first: int
    last: int

    def overlaps(self, other: Lifetime) -> bool:
        return self.first <= other.last and other.first <= self.last


def plan_memory(
    lifetimes: Sequence[Lifetime], alignment: int = ALIGNMENT
) -> tuple[dict[int, int], int]:
    """Byte offsets by buffer, and the arena's size in bytes."""
    placed: list[tuple[int, int, Lifetime]] = []  # (start, end, lifetime)
    for lifetime in sorted(lifetimes, key=lambda item: (-item.nbytes, item.buffer)):
        size = -(-max(lifetime.nbytes, 1) // alignment) * alignment
        taken = sorted((start, end) for start, end, other in placed if lifetime.overlaps(other))
        start = _best_gap(taken, size)
        placed.append((start, start + size, lifetime))
    offsets = {lifetime.buffer: start for start, _, lifetime in placed}
    return offsets, max((end for _, end, _ in placed), default=0)


def _best_gap(taken: Sequence[tuple[int, int]], size: int) -> int:
    """The start of the smallest gap between taken ranges that holds `size`, else the end."""
    best_start, best_gap = -1, 0
    end = 0
    for start, stop in taken:
        gap = start - end
        if gap >= size and (best_start < 0 or gap < best_gap):
            best_start, best_gap = end, gap
        end = max(end, stop)
    return best_start if best_start >= 0 else end
