"""Where a kernel's shared arrays lie, and what tells two threads' accesses apart in time.

Each array starts on a multiple of 128 bytes, so that its first word is in bank 0, and has a red
zone of 128 bytes or more behind it. The dynamic array comes last. Address 0 is in no array.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minicomp.simulator.memory import EXISTS
from minicomp.simulator.syntax import SharedArray

Array = np.ndarray

#: a multiple of every alignment that an array may ask for
FIRST = 1024
RED_ZONE = 128
#: generic addresses of shared memory start here (cvta)
WINDOW = 0x6000_0000_0000


@dataclass(frozen=True)
class SharedLayout:
    """The arrays' addresses; `dynamic` names those that the launch gives a size."""

    arrays: tuple[SharedArray, ...]
    addresses: dict[str, int]
    static_bytes: int
    dynamic_start: int

    def stride(self, dynamic_bytes: int) -> int:
        """How many bytes a block's shared memory takes, red zones counted."""
        return _up(self.dynamic_start + dynamic_bytes + RED_ZONE, 1024)

    def shadow(self, dynamic_bytes: int) -> Array:
        """The shadow of one block's memory when the block starts."""
        shadow = np.zeros(self.stride(dynamic_bytes), np.uint8)
        for array in self.arrays:
            start = self.addresses[array.name]
            shadow[start : start + (array.size or dynamic_bytes)] = EXISTS
        return shadow

    def describe(self, address: int, dynamic_bytes: int) -> str:
        """Where an address lies: `4 bytes past the end of tile (1024 bytes)`."""
        text = "in no shared array"
        for array in sorted(self.arrays, key=lambda array: self.addresses[array.name]):
            start, size = self.addresses[array.name], array.size or dynamic_bytes
            what = f"{array.name} ({size} bytes of shared memory)"
            if start <= address < start + size:
                return f"byte {address - start} of {what}"
            if address >= start + size:
                text = f"{address - start - size} bytes past the end of {what}"
        return text


def shared_layout(arrays: list[SharedArray]) -> SharedLayout:
    """Static arrays in order, then the dynamic one."""
    addresses, end = {}, FIRST
    static = [array for array in arrays if array.size]
    for array in static:
        start = _up(end, max(128, array.alignment))
        addresses[array.name] = start
        end = start + array.size + RED_ZONE
    dynamic = [array for array in arrays if not array.size]
    start = _up(end, max([128, *(array.alignment for array in dynamic)]))
    addresses |= {array.name: start for array in dynamic}
    total = sum(array.size for array in static)
    return SharedLayout(tuple(arrays), addresses, total, start)


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
