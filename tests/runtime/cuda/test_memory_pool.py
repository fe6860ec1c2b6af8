import gc
import sys
import threading
import weakref

import numpy as np
import pytest

from minicomp.errors import CudaError
from minicomp.runtime.cuda.entry import is_in_order
from minicomp.runtime.cuda.memory_pool import (
    MemoryPool,
    OutOfDeviceMemory,
    memory_of,
    size_class,
)
from minicomp.runtime.cuda.streams import stream_handle


class FakeDevice:
    """Counts what a pool asks of it. `memory` is how many bytes it has."""

    def __init__(self, memory=1 << 40):
        self.left, self.sizes, self.next = memory, {}, 0x1000
        self.allocations, self.released, self.ordered = 0, [], []

    def allocate(self, nbytes):
        if nbytes > self.left:
            raise OutOfDeviceMemory("no block of that size")
        self.left -= nbytes
        self.allocations += 1
        self.next += 1 << 32
        self.sizes[self.next] = nbytes
        return self.next

    def release(self, addresses):
        for address in addresses:
            self.left += self.sizes.pop(address)
        self.released += addresses

    def order(self, stream, other):
        self.ordered.append((int(stream), int(other)))

    def pool(self, limit=1 << 30):
        return MemoryPool(self.allocate, self.release, self.order, limit)


def test_memory_given_back_is_handed_out_again():
    device = FakeDevice()
    pool = device.pool()
    first = pool.take(1000, 0)
    address = int(first)
    del first
    assert int(pool.take(990, 0)) == address
    assert device.allocations == 1


def test_memory_in_use_is_nobody_elses():
    pool = FakeDevice().pool()
    taken = [pool.take(1000, 0) for _ in range(5)]
    assert len({*map(int, taken)}) == 5


def test_memory_given_back_on_one_stream_is_not_handed_out_on_another():
    device = FakeDevice()
    pool = device.pool()
    first = pool.take(1000, 1)
    address = int(first)
    del first
    other = pool.take(1000, 2)
    assert int(other) != address
    assert int(pool.take(1000, 1)) == address


def test_memory_that_another_stream_has_used_makes_its_own_stream_wait_for_that_one():
    device = FakeDevice()
    pool = device.pool()
    memory = pool.take(1000, 1)
    memory.used_on(1)
    memory.used_on(2)
    memory.used_on(2)
    memory.used_on(3)
    del memory
    assert sorted(device.ordered) == [(1, 2), (1, 3)]


def test_handing_over_makes_the_other_stream_wait_and_then_its_own():
    device = FakeDevice()
    pool = device.pool()
    memory = pool.take(1000, 1)
    pool.hand_over(memory, 1)
    assert device.ordered == []
    pool.hand_over(memory, 2)
    assert device.ordered == [(2, 1)]
    del memory
    assert device.ordered == [(2, 1), (1, 2)]


def test_memory_keeps_its_streams_and_the_cache_keeps_none():
    pool = FakeDevice().pool()
    owners = [type("Stream", (), {"handle": handle})() for handle in (0x40, 0x50)]
    gone = [weakref.ref(owner) for owner in owners]
    memory = pool.take(1000, stream_handle(owners[0]))
    memory.used_on(stream_handle(owners[1]))
    owners.clear()
    gc.collect()
    assert all(reference() is not None for reference in gone)
    address = int(memory)
    del memory
    gc.collect()
    assert all(reference() is None for reference in gone)
    assert int(pool.take(1000, 0x40)) == address


def test_memory_lives_as_long_as_an_address_does():
    pool = FakeDevice().pool()
    memory = pool.take(1000, 0)
    again = memory
    del memory
    assert pool.figures().in_use == size_class(1000)
    assert again % 256 == 0
    del again
    assert pool.figures().in_use == 0


class Array:
    def __init__(self, gpudata, base=None):
        self.gpudata, self.base = gpudata, base


def test_a_view_of_a_view_lies_in_the_memory_of_the_array():
    memory = FakeDevice().pool().take(1000, 5)
    array = Array(memory)
    view = Array(int(memory) + 8, base=Array(int(memory) + 4, base=array))
    assert memory_of(array) is memory_of(view) is memory
    assert memory_of(Array(int(memory))) is None
    assert memory_of(np.zeros(3)[1:]) is None


def test_a_view_is_no_more_in_order_on_the_default_stream_than_the_array_is():
    pool = FakeDevice().pool()
    for stream in (0, 5):
        memory = pool.take(1000, stream)
        assert is_in_order(Array(int(memory) + 8, base=Array(memory)), Array) == (stream == 0)


def test_figures():
    pool = FakeDevice().pool()
    held = [pool.take(1024, 0), pool.take(2048, 0)]
    assert (pool.figures().in_use, pool.figures().cached) == (3072, 0)
    held.pop()
    assert (pool.figures().in_use, pool.figures().cached) == (1024, 2048)
    assert pool.figures().peak == 3072
    pool.empty_cache()
    assert (pool.figures().in_use, pool.figures().cached) == (1024, 0)


def test_the_cache_is_bounded():
    device = FakeDevice()
    pool = device.pool(limit=10_000)
    for size in range(1000, 9000, 1000):
        pool.take(size, 0)  # and given back at once
        assert size <= pool.figures().cached <= 10_000
    assert device.released


def test_what_is_larger_than_the_bound_is_given_back_at_once():
    device = FakeDevice()
    pool = device.pool(limit=10_000)
    small = pool.take(1000, 0)
    del small
    large = pool.take(1 << 20, 0)
    address = int(large)
    del large
    assert device.released == [address]
    assert pool.figures().cached == 1024


@pytest.mark.parametrize("before", [True, False])
def test_garbage_collected_while_memory_is_taken_takes_none_of_it_away(before):
    """Collecting garbage may give back so much that the cache is emptied, at any moment."""

    class Interrupted(list):
        is_first = True

        def pop(self):
            if not self.is_first:
                return super().pop()
            self.is_first = False
            if before:
                pool.empty_cache()
            found = super().pop()
            pool.empty_cache()
            return found

    device = FakeDevice()
    pool = device.pool()
    for size in (1000, 5000):
        pool.take(size, 0)  # and given back at once
    shelf = pool.shelf(1000, 0)
    shelf.blocks = Interrupted(shelf.blocks)
    memory = pool.take(1000, 0)
    assert int(memory) not in device.released
    assert len(device.released) == (2 if before else 1)
    assert pool.figures().cached == 0


def test_a_stream_that_takes_over_several_arrays_waits_for_each_other_stream_once():
    device = FakeDevice()
    pool = device.pool()
    arrays = [pool.take(1000, stream) for stream in (1, 1, 2, 3, 2)]
    awaited = set()
    for memory in arrays:
        pool.hand_over(memory, 3, awaited)
    assert device.ordered == [(3, 1), (3, 2)]
    device.ordered.clear()
    arrays.clear()
    del memory
    # Each piece of memory, before it is used again.
    assert sorted(device.ordered) == [(1, 3), (1, 3), (2, 3), (2, 3)]


def test_memory_that_cannot_be_put_in_order_is_nobodys_again(monkeypatch):
    def lost(stream, other):
        raise CudaError("the device is lost")

    complaints = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    device = FakeDevice()
    pool = MemoryPool(device.allocate, device.release, lost, 1 << 30)
    memory = pool.take(1000, 1)
    memory.used_on(2)
    del memory
    assert complaints == []
    assert (pool.figures().in_use, pool.figures().cached) == (0, 0)


def test_blocks_may_be_as_large_as_was_asked_for():
    device = FakeDevice()
    pool = MemoryPool(device.allocate, device.release, device.order, 0, rounded=int)
    memory = pool.take(100, 0)
    assert device.sizes == {int(memory): 100}


def test_a_full_device_gets_the_cache_back_before_anything_fails():
    device = FakeDevice(memory=4096)
    pool = device.pool()
    first = pool.take(4096, 1)
    del first
    second = pool.take(2048, 2)  # the cached block belongs to another stream
    assert device.allocations == 2
    with pytest.raises(CudaError, match=r"out of device memory: 4,096 bytes wanted, 2,048 in use"):
        pool.take(4096, 2)
    assert pool.figures().in_use == second.shelf.size


def test_sizes_are_few_and_waste_at_most_a_fifth():
    sizes = [size_class(n) for n in range(1, 1 << 16)]
    assert sizes == sorted(sizes)
    assert len({*sizes}) <= 4 * 8
    assert all(n <= size and size % 128 == 0 for n, size in enumerate(sizes, 1))
    assert all(size - n <= size / 5 for n, size in enumerate(sizes, 1) if n > 512)


def test_large_sizes_waste_little():
    for nbytes in ((1 << 33) + 1, 5_000_000_001, (1 << 30) - 1):
        assert 0 <= size_class(nbytes) - nbytes < 8 << 20


def test_threads_share_a_pool():
    device = FakeDevice()
    pool = device.pool()

    def work():
        for size in range(1, 2000):
            pool.take(size, 0)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    figures = pool.figures()
    assert figures.in_use == 0
    assert figures.cached == sum(device.sizes.values())
