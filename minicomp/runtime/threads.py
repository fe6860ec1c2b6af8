"""The worker threads that share a kernel's units, and how many of them there should be.

In: a kernel's address and its number of units. Out: the kernel called on pieces of them in
several threads at once.

    parallel_for(kernel, args, units=1000, grain=10, threads=2)     # from Python
    declare void @minicomp_parallel_for(ptr, ptr, i64, i64, i64)    # in generated code, linked with
    compile_ir(text, ["main"], imports={"minicomp_parallel_for": parallel_for_address()})

The workers are Python threads that call one function of generated code (`codegen.llvm_threads`)
and stay in it, without the interpreter lock, until the process ends. They are started when a job
first wants them. A program that forks gets new ones in the child when a job there wants them.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from minicomp.codegen import generators
from minicomp.codegen.generated import Generated
from minicomp.codegen.native_plan import MAX_THREADS
from minicomp.errors import OptionError
from minicomp.runtime.jit import compile_ir
from minicomp.runtime.lifetime import keep_forever
from minicomp.runtime.target import host_target

#: Longest wait for workers at the process's end; one may be inside a long kernel.
EXIT_SECONDS = 1.0

_VARIABLES = ("workers", "limit", "grow", "parked")
_FUNCTIONS = {
    "minicomp_parallel_for": ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3),
    "minicomp_worker": ctypes.CFUNCTYPE(None, ctypes.c_int64),
    "minicomp_pool_reset": ctypes.CFUNCTYPE(None),
    "minicomp_pool_stop": ctypes.CFUNCTYPE(None),
}
_Grow = ctypes.CFUNCTYPE(None, ctypes.c_int64)


def default_num_threads() -> int:
    """MINICOMP_NUM_THREADS if set, else the number of CPUs that this process may use.

    OptionError if MINICOMP_NUM_THREADS is not a positive integer.
    """
    text = os.environ.get("MINICOMP_NUM_THREADS", "").strip()
    if text:
        if not (text.isascii() and text.isdigit() and int(text) > 0):
            raise OptionError(
                f"MINICOMP_NUM_THREADS is {text!r}; wanted a positive integer such as 4, "
                "or unset for the CPUs this process may use"
            )
        return min(int(text), MAX_THREADS)
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), MAX_THREADS)
    return min(os.cpu_count() or 1, MAX_THREADS)


def prepare(use_disk_cache: bool = True) -> None:
    """Compile the pool's code now, and say whether through the disk cache. Else the first use
    does it, through the cache."""
    _pool(use_disk_cache)


def parallel_for_address() -> int:
    """Where `minicomp_parallel_for` is, for the imports of generated code."""
    return _pool().library.address("minicomp_parallel_for")


def parallel_for(kernel: int, args: Any, units: int, grain: int, threads: int) -> None:
    """Call `void kernel(ptr args, i64 begin, i64 end)` on pieces of [0, units), and wait.

    `args` is an address or a ctypes array.

    Up to `threads` threads, this one counted; at least `grain` units in a piece. Serial where
    there is nothing to share, inside another parallel_for, and while another thread is in one:
    the workers are busy then.
    """
    _pool().functions["minicomp_parallel_for"](kernel, args, units, grain, threads)


def bound_parallel_for(
    kernel: int, args: ctypes.Array, units: int, grain: int, threads: int
) -> Callable[[], None]:
    """A function without arguments that calls `parallel_for` with these, and keeps `args` alive.

    For timing: it spends a third of a microsecond in Python, not a whole one, beside which the
    difference of two small kernels would not be seen.
    """
    return functools.partial(
        _pool().functions["minicomp_parallel_for"],
        ctypes.c_void_p(kernel),
        ctypes.byref(args),
        *map(ctypes.c_int64, (units, grain, threads)),
    )


def start(threads: int) -> int:
    """See to it that `threads` threads, the caller's counted, can work on a job.

    Returns how many can; fewer if the system refuses. Jobs do this themselves when they need to.
    """
    return _pool().start(threads)


def park() -> None:
    """Send workers that spin, waiting for the next job, to sleep: before timing something else."""
    for pool in _made:
        pool.variables["parked"].value = 1


class _Pool:
    """The generated code of the pool, and the Python threads inside it."""

    def __init__(self, use_disk_cache: bool) -> None:
        host = (host_target().architecture, time.CLOCK_MONOTONIC, sys.platform == "linux")
        module = Generated(generators.thread_pool, *host)
        self.library = compile_ir(module, [*_FUNCTIONS, *_VARIABLES], use_disk_cache=use_disk_cache)
        self.functions = {
            name: kind(self.library.address(name)) for name, kind in _FUNCTIONS.items()
        }
        self.variables = {
            name: ctypes.c_int64.from_address(self.library.address(name)) for name in _VARIABLES
        }
        self.threads: list[threading.Thread] = []
        callback = _Grow(self.start)
        # Workers are in this code to the very end, when Python may have freed this object.
        keep_forever((self.library, callback))
        self.functions["minicomp_pool_reset"]()
        self.variables["grow"].value = ctypes.cast(callback, ctypes.c_void_p).value or 0

    def start(self, threads: int) -> int:
        workers, limit = self.variables["workers"], self.variables["limit"]
        with _lock:
            while workers.value + 1 < min(threads, limit.value):
                try:
                    self.threads.append(_start_worker(self.worker, workers.value + 1))
                except RuntimeError:  # no more threads, or the interpreter is shutting down
                    limit.value = workers.value + 1
                else:
                    workers.value += 1
            return workers.value + 1

    def worker(self, index: int) -> None:
        self.functions["minicomp_worker"](index)

    def stop(self) -> None:
        """Let the workers return: no job counts on them from here on."""
        self.variables["limit"].value = 1
        self.variables["workers"].value = 0
        self.functions["minicomp_pool_stop"]()
        deadline = time.monotonic() + EXIT_SECONDS
        for thread in self.threads:
            thread.join(max(deadline - time.monotonic(), 0.0))

    def after_fork(self) -> None:
        """In the child: the threads are gone, and whatever they were at."""
        self.threads.clear()
        self.functions["minicomp_pool_reset"]()


def _start_worker(target: Callable[[int], None], index: int) -> threading.Thread:
    # A daemon, so that a worker never keeps the process from ending.
    thread = threading.Thread(
        target=target, args=(index,), name=f"minicomp-worker-{index}", daemon=True
    )
    thread.start()
    return thread


# Held while the pool is made or grows, and across a fork. Its owner may take it again: a signal
# handler can run a model at any point.
_lock = threading.RLock()
_made: list[_Pool] = []  # the pool, once something has asked for it


def _pool(use_disk_cache: bool = True) -> _Pool:
    with _lock:
        if not _made:
            _made.append(_Pool(use_disk_cache))
            atexit.register(_made[0].stop)
        return _made[0]


def _after_fork_in_child() -> None:
    for pool in _made:
        pool.after_fork()
    _lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_after_fork_in_child
    )
