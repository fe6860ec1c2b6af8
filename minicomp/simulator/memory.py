"""Bytes, with a shadow that knows of each what may be done with it.

A load or store is given by its offsets, one for each thread, and moves `count` words of `width`
bytes. If a byte of it does not exist, was never written or has not arrived, or if an offset is
not a multiple of the access's size, `Fault` tells which thread did it and why.

The shadow has a byte a byte: 0 where there is no buffer (red zones, free memory), and else a set
of bits. Looked at as words of the access's size, one comparison checks bounds and writtenness.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray

#: there is a buffer here
EXISTS = 1
#: and it has been written
WRITTEN = 2
#: or a cp.async that will write it is under way
PENDING = 4

_WORDS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def _repeated(byte: int, size: int) -> np.generic:
    width = min(size, 8)
    return np.frombuffer(bytes([byte] * width), _WORDS[width])[0]


_SIZES = (1, 2, 4, 8, 16)
_READABLE = {size: _repeated(EXISTS | WRITTEN, size) for size in _SIZES}
_WRITE_BITS = {size: _repeated(EXISTS | PENDING, size) for size in _SIZES}
_WRITABLE = {size: _repeated(EXISTS, size) for size in _SIZES}


class Fault(Exception):
    """What an access must not do: `reason`, by the thread at `position`, at byte `offset`."""

    def __init__(self, reason: str, position: int, offset: int):
        super().__init__(reason)
        self.reason, self.position, self.offset = reason, position, offset


class Memory:
    """See the module's docstring. Offsets are arrays of uint64."""

    def __init__(self, size: int):
        self.size = 0
        self.data = self.shadow = np.zeros(0, np.uint8)
        self.resize(size)

    def resize(self, size: int) -> None:
        """Make it `size` bytes, of which those there already stay; `size` divides by 16."""
        data, shadow = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
        data[: self.size] = self.data
        shadow[: self.size] = self.shadow
        self.size, self.data, self.shadow = size, data, shadow
        #: by bytes of a word
        self.words = {width: data.view(dtype) for width, dtype in _WORDS.items()}
        self.marks: dict[int, Array] = {w: shadow.view(dtype) for w, dtype in _WORDS.items()}
        self.marks[16] = self.marks[8].reshape(-1, 2)

    def load(self, offsets: Array, width: int, count: int = 1) -> Array:
        """Unsigned words, of shape (threads,) or, for vectors, (threads, count)."""
        size = width * count
        cells = self.cells(offsets, size)
        if not (self.marks[size].take(cells, axis=0) == _READABLE[size]).all():
            raise self._fault(offsets, size, EXISTS | WRITTEN)
        if count == 1:
            return self.words[width].take(cells)
        return self.words[width].reshape(-1, count).take(cells, axis=0)

    def store(self, offsets: Array, values: Array, width: int, count: int = 1) -> None:
        """Values as `load` gives them. Of threads that store to one place, the last one wins."""
        size = width * count
        cells = self.check_store(offsets, size)
        if count == 1:
            self.words[width][cells] = values
        else:
            self.words[width].reshape(-1, count)[cells] = values
        self.marks[size][cells] = _READABLE[size]

    def check_store(self, offsets: Array, size: int) -> Array:
        """The numbers of the cells, which may be written."""
        cells = self.cells(offsets, size)
        marks = self.marks[size].take(cells, axis=0)
        if not ((marks & _WRITE_BITS[size]) == _WRITABLE[size]).all():
            raise self._fault(offsets, size, EXISTS)
        return cells

    def cells(self, offsets: Array, size: int) -> Array:
        """The offsets counted in `size` bytes; checks bounds and alignment."""
        if offsets.max() > self.size - size:
            position = int(np.argmax(offsets > self.size - size))
            raise Fault("out of bounds", position, int(offsets[position]))
        self.check_aligned(offsets, size)
        return (offsets >> np.uint64(size.bit_length() - 1)).view(np.int64)

    def check_aligned(self, offsets: Array, size: int) -> None:
        """Raise the fault of an offset that is not a multiple of `size`."""
        low = offsets & np.uint64(size - 1)
        if low.any():
            position = int(np.argmax(low != 0))
            raise Fault(f"not aligned to {size} bytes", position, int(offsets[position]))

    def mark(self, offsets: Array, size: int, state: int) -> None:
        """Set the shadow of accesses that have been checked."""
        cells = (offsets >> np.uint64(size.bit_length() - 1)).view(np.int64)
        self.marks[size][cells] = _repeated(state, size)

    def _fault(self, offsets: Array, size: int, wanted: int) -> Fault:
        """What is wrong with the first access that lacks a wanted bit, or is pending."""
        each = offsets[:, None].view(np.int64) + np.arange(size)
        shadow = self.shadow[each]
        bad = ((shadow & wanted) != wanted) | ((shadow & PENDING) != 0)
        position = int(np.argmax(bad.any(axis=1)))
        byte = int(np.argmax(bad[position]))
        state = int(shadow[position, byte])
        if not state & EXISTS:
            reason = "out of bounds"
        elif state & PENDING and wanted & WRITTEN:
            reason = "read before the cp.async that writes it has been waited for"
        elif state & PENDING:
            reason = "written while a cp.async writes it too"
        else:
            reason = "read, but never written"
        return Fault(reason, position, int(each[position, byte]))
