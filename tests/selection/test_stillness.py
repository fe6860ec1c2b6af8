"""Waiting for other threads to fall asleep, with patience for one that does not."""

import hashlib
import os
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest

from minicomp.selection import HostDevice, stillness
from minicomp.selection.stillness import (
    LONGEST_WAIT,
    OWN_THREADS,
    Stillness,
    is_another_thread_running,
    wait_for_own_threads,
)

needs_list_of_threads = pytest.mark.skipif(
    not os.path.exists(OWN_THREADS), reason="only Linux tells which threads are running"
)


@contextmanager
def spinning(seconds=60.0):
    """A thread that is busy without holding the interpreter lock, for so long or until the end."""
    ending = threading.Event()

    def spin():
        end = time.perf_counter() + seconds
        while not ending.is_set() and time.perf_counter() < end:
            hashlib.sha256(bytes(1 << 22))

    thread = threading.Thread(target=spin)
    thread.start()
    time.sleep(0.01)
    try:
        yield
    finally:
        ending.set()
        thread.join()


def elapsed(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


@needs_list_of_threads
def test_a_thread_that_spins_is_seen_and_one_that_waits_is_not():
    waiting = threading.Event()
    thread = threading.Thread(target=waiting.wait)
    thread.start()
    assert wait_for_own_threads()
    with spinning():
        assert is_another_thread_running()
    waiting.set()
    thread.join()


@needs_list_of_threads
def test_who_spins_for_a_while_is_waited_for():
    with spinning(0.05):
        process = Stillness()
        process.settle()
        assert not is_another_thread_running()
    assert process.is_patient


@needs_list_of_threads
@pytest.mark.parametrize("threads", [1, 2])
def test_the_clock_of_the_cpu_waits_however_many_threads_are_minicomps_own(threads):
    with spinning(0.05):
        HostDevice(threads).clock().settle()
        assert not is_another_thread_running()


@needs_list_of_threads
def test_who_never_stops_is_waited_for_once():
    with spinning():
        process = Stillness()
        assert elapsed(process.settle) >= LONGEST_WAIT
        assert not process.is_patient
        assert min(elapsed(process.settle) for _ in range(5)) < LONGEST_WAIT / 2


@needs_list_of_threads
def test_a_library_that_spins_after_its_call_is_asleep_when_all_is_still():
    a = np.ones((512, 512))
    a @ a
    assert wait_for_own_threads()
    assert not is_another_thread_running()


def test_where_no_list_is_the_wait_is_short(monkeypatch):
    monkeypatch.setattr(stillness, "OWN_THREADS", "/no/such/folder")
    with spinning():
        assert wait_for_own_threads()
        assert min(elapsed(wait_for_own_threads) for _ in range(5)) < LONGEST_WAIT / 2
