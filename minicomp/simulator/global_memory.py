"""The device's global memory: one address space, in which buffers lie with red zones between.

    memory = GlobalMemory()
    pointer = memory.allocate(1024)           # 256-byte aligned; never written yet
    memory.write(pointer, np.zeros(256, np.float32))

The red zone after a buffer is as long as the buffer, up to a megabyte, so that an index that is
wrong by a row falls into it rather than into the next buffer. Freed memory is used again only
for buffers of the same rounded size, the one freed longest ago first.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict, deque
from dataclasses import dataclass

import numpy as np

from minicomp.errors import SimulationError
from minicomp.simulator.memory import EXISTS, WRITTEN, Memory

Array = np.ndarray

#: where global memory starts: far from zero and from anything that is a plausible index
BASE = 0x7000_0000_0000
ALIGNMENT = 256
MAX_RED_ZONE = 1 << 20
LIMIT = 1 << 36


@dataclass
class Buffer:
    number: int
    offset: int
    size: int
    freed: bool = False

    def __str__(self) -> str:
        state = "freed buffer" if self.freed else "buffer"
        return f"{state} {self.number} ({self.size} bytes at {BASE + self.offset:#x})"


class GlobalMemory(Memory):
    """See the module's docstring."""

    def __init__(self) -> None:
        super().__init__(1 << 20)
        self._end = ALIGNMENT
        self._buffers: dict[int, Buffer] = {}
        self._offsets: list[int] = []
        self._free: defaultdict[int, deque[Buffer]] = defaultdict(deque)
        self._count = 0

    def allocate(self, size: int) -> int:
        """A pointer to `size` bytes that count as never written."""
        if size < 0 or self._end + 2 * size > LIMIT:
            raise SimulationError(f"cannot allocate {size} bytes in the simulator")
        rounded = max(ALIGNMENT, -(-size // ALIGNMENT) * ALIGNMENT)
        if self._free[rounded]:
            offset = self._free[rounded].popleft().offset
        else:
            offset = self._end
            self._end += rounded + min(rounded, MAX_RED_ZONE)
            self._offsets.append(offset)
        if self._end > self.size:
            self.resize(max(2 * self.size, -(-self._end // 4096) * 4096))
        self._buffers[offset] = Buffer(self._count, offset, size)
        self._count += 1
        self.shadow[offset : offset + size] = EXISTS
        return BASE + offset

    def free(self, pointer: int) -> None:
        """Accesses to the buffer are out of bounds from now on."""
        buffer = self._buffers.get(pointer - BASE)
        if buffer is None or buffer.freed:
            raise SimulationError(f"free({pointer:#x}): no buffer starts there")
        buffer.freed = True
        self.shadow[buffer.offset : buffer.offset + buffer.size] = 0
        rounded = max(ALIGNMENT, -(-buffer.size // ALIGNMENT) * ALIGNMENT)
        self._free[rounded].append(buffer)

    def write(self, pointer: int, array: Array) -> None:
        """Copy an array's elements, in order, to the device."""
        data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        self._check(pointer, data.size, "write")
        offset = pointer - BASE
        self.data[offset : offset + data.size] = data
        self.shadow[offset : offset + data.size] = EXISTS | WRITTEN

    def read(self, pointer: int, size: int) -> Array:
        """A copy of `size` bytes, written or not."""
        self._check(pointer, size, "read")
        return self.data[pointer - BASE : pointer - BASE + size].copy()

    def _check(self, pointer: int, size: int, what: str) -> None:
        offset = pointer - BASE
        inside = offset >= 0 and offset + size <= self.size
        if not inside or not self.shadow[offset : offset + size].all():
            near = f"; the nearest is {self.describe(offset)}" if self._buffers else ""
            raise SimulationError(
                f"{what}({pointer:#x}) of {size} bytes is not within a buffer{near}"
            )

    def describe(self, offset: int) -> str:
        """Where an offset lies: `12 bytes past the end of buffer 3 (...)`."""
        place = bisect_right(self._offsets, offset) - 1
        if place < 0:
            if not self._offsets:
                return "no buffer"
            buffer = self._buffers[self._offsets[0]]
            return f"{buffer.offset - offset} bytes before {buffer}"
        buffer = self._buffers[self._offsets[place]]
        end = buffer.offset + buffer.size
        if offset < end:
            return f"byte {offset - buffer.offset} of {buffer}"
        following = (
            self._buffers.get(self._offsets[place + 1])
            if (place + 1 < len(self._offsets))
            else None
        )
        if following is not None and following.offset - offset < offset - end:
            return f"{following.offset - offset} bytes before {following}"
        return f"{offset - end} bytes past the end of {buffer}"
