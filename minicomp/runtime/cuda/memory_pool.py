"""A pool of device memory: what is given back is kept, by size, for the next array of that size.

In: sizes in bytes. Out: `Allocation`s: addresses whose memory goes back to the pool when the last
reference to them does. Asking a GPU for memory takes tens of microseconds and giving it back waits
for the whole device; the pool does neither in a program that repeats itself.

    pool = MemoryPool(allocate, release, order, limit=1 << 30)
    memory = pool.take(4000, stream=0)      # an int, on a multiple of 256
    del memory                              # kept: the next 4000 bytes on stream 0 are here

Streams: what is given back may still be read or written by kernels that are queued. They are
queued on the stream that the memory was taken for, so it is handed out for that stream alone: its
next user is queued behind them. Where another stream has used it as well (`used_on`), the first
one is made to wait for the other before. An allocation keeps the handles of its streams, and with
them the streams (see `streams`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minicomp.errors import CudaError
from minicomp.runtime.forking import watch_forks

SMALLEST = 512  # bytes; a multiple of the 256 that a GPU aligns to
LARGEST_STEP = 8 << 20  # sizes are no further apart than this


def size_class(nbytes: int) -> int:
    """The least size of the pool's that holds `nbytes`: four for each doubling, so that at most a
    fifth of a block is unused and few sizes differ.

    >>> [size_class(n) for n in (1, 512, 513, 1000, 1025)]
    [512, 512, 640, 1024, 1280]
    """
    if nbytes <= SMALLEST:
        return SMALLEST
    step = min(1 << ((nbytes - 1).bit_length() - 3), LARGEST_STEP)
    return -(-nbytes // step) * step


@dataclass(frozen=True)
class MemoryFigures:
    """Bytes: of arrays that are alive, at most so far, and held in the pool for later."""

    in_use: int
    peak: int
    cached: int


class Allocation(int):
    """The address of a block of memory, which goes back to its shelf with the last reference."""

    shelf: Shelf
    stream: int
    others: set[int] | None = None

    def used_on(self, stream: int) -> None:
        """Say that work queued on `stream` reads or writes the memory."""
        if stream != self.stream:
            self.others = {*(self.others or ()), stream}

    def __del__(self) -> None:
        self.shelf.give_back(self)

    def __repr__(self) -> str:
        return f"<{self.shelf.size} bytes at {int(self):#x}>"


class Shelf:
    """A pool's blocks of one size that were used on one stream. What they share is found once;
    the rest is what each new array pays for."""

    def __init__(self, pool: MemoryPool, size: int):
        self.pool, self.size = pool, size
        self.blocks: list[int] = []  # addresses; as plain numbers, which keep no stream

    def take(self, stream: int) -> Allocation:
        """Memory for work on `stream`, the shelf's own. CudaError if there is none."""
        pool, size = self.pool, self.size
        with pool.lock:
            try:
                address = self.blocks.pop()
                pool.cached -= size
            except IndexError:
                address = pool.allocated(size)
            in_use = pool.in_use = pool.in_use + size
            if in_use > pool.peak:
                pool.peak = in_use
        allocation = Allocation(address)
        allocation.shelf, allocation.stream = self, stream
        return allocation

    def give_back(self, allocation: Allocation) -> None:
        """Keep an allocation's memory for later. Called as its last reference goes."""
        pool, size = self.pool, self.size
        with pool.lock:
            pool.in_use -= size
            if allocation.others and not pool.is_in_order_again(allocation):
                return
            if size > pool.limit:
                pool.release([int(allocation)])
                return
            if pool.cached + size > pool.limit:
                pool.empty_cache()
            self.blocks.append(int(allocation))
            pool.cached += size


def memory_of(array: Any) -> Allocation | None:
    """The pool's memory that an array lies in, of its own or as a view (`base`) of another's; None
    for memory that is not the pool's."""
    while array is not None:
        memory = getattr(array, "gpudata", None)
        if isinstance(memory, Allocation):
            return memory
        array = getattr(array, "base", None)
    return None


class OutOfDeviceMemory(CudaError):
    """The device has no block of that size left. Raised by a pool's `allocate`."""


class MemoryPool:
    """See the module's docstring.

    `allocate(nbytes)` gives an address or raises OutOfDeviceMemory; `release(addresses)` gives
    them back to the device once all queued work is done; `order(stream, other)` makes what is
    queued on `stream` from now on wait for what is queued on `other` now. At most `limit` bytes
    are held for later: beyond, all that is held is given back first. `rounded` says how large a
    block is for so many bytes.
    """

    def __init__(
        self,
        allocate: Callable[[int], int],
        release: Callable[[list[int]], None],
        order: Callable[[int, int], None],
        limit: int,
        rounded: Callable[[int], int] = size_class,
    ):
        self._allocate, self.release, self._order = allocate, release, order
        self.limit, self._rounded = limit, rounded
        self._shelves: dict[tuple[int, int], Shelf] = {}  # by stream and size
        self.in_use = self.peak = self.cached = 0
        self.after_fork()
        watch_forks(self)

    def after_fork(self) -> None:
        """Make a new lock: in a forked child nobody is left to give the old one back, and each
        array that goes takes it."""
        # Reentrant, since collecting garbage in here may give an allocation back.
        self.lock = threading.RLock()

    def take(self, nbytes: int, stream: int) -> Allocation:
        """Memory of at least `nbytes` for work on `stream`. CudaError if there is none."""
        return self.shelf(nbytes, stream).take(stream)

    def shelf(self, nbytes: int, stream: int) -> Shelf:
        """Where memory of at least `nbytes` for work on `stream` is taken from."""
        size = self._rounded(nbytes)
        found = self._shelves.get((stream, size))
        if found is None:
            found = self._shelves.setdefault((int(stream), size), Shelf(self, size))
        return found

    def allocated(self, size: int) -> int:
        """The address of a new block."""
        try:
            return self._allocate(size)
        except OutOfDeviceMemory:
            self.empty_cache()
        try:
            return self._allocate(size)
        except OutOfDeviceMemory as error:
            raise CudaError(
                f"out of device memory: {size:,} bytes wanted, {self.in_use:,} in use by arrays "
                f"of minicomp's that are alive; delete some, or work on smaller parts "
                f"({error.message})"
            ) from error

    def is_in_order_again(self, allocation: Allocation) -> bool:
        """Make the memory's stream wait for the others that have used it. False if that cannot
        be: the device is lost, or this a forked child, and nobody gets the memory again."""
        try:
            for other in allocation.others or ():
                self._order(allocation.stream, other)
        except CudaError:
            return False
        return True

    def hand_over(
        self, allocation: Allocation, stream: int, awaited: set[int] | None = None
    ) -> None:
        """Let work on `stream`, from now on, use the memory: it waits for what the memory was taken
        for, and the memory's next user will wait for it. `awaited` are the streams that `stream`
        is waiting for already, to which the memory's is added."""
        home = allocation.stream
        if stream == home:
            return
        if awaited is None or home not in awaited:
            self._order(stream, home)
        if awaited is not None:
            awaited.add(home)
        allocation.used_on(stream)

    def empty_cache(self) -> None:
        """Give all that is held for later back to the device, after what is queued there."""
        with self.lock:
            held = []
            for shelf in [*self._shelves.values()]:
                # Taken off one by one: garbage may be collected in the middle of `Shelf.take`,
                # and of this.
                while shelf.blocks:
                    held.append(shelf.blocks.pop())
                    self.cached -= shelf.size
            if held:
                self.release(held)

    def figures(self) -> MemoryFigures:
        with self.lock:
            return MemoryFigures(self.in_use, self.peak, self.cached)
