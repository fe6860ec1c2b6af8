"""Shows that memory does not grow over millions of calls, and that calls scale over threads.
Run by hand; it takes about a minute.

    python tests/benchmarks/long_lived.py                # all parts
    python tests/benchmarks/long_lived.py small forks    # some
    python tests/benchmarks/long_lived.py --scale 0.1    # a tenth of the calls

Each part runs in chunks of equal work. The first two fill caches and pools; over the others
neither resident memory nor the number of Python's own blocks may grow, but by what comes and goes
anyway. The exit status is 1 where something grows; a wrong result is an exception.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import minicomp
from minicomp import nn

CHUNKS = 10
WARM_UP = 2  # chunks

#: What may come and go: the allocator's own arenas, the interpreter's free lists.
MOST_BYTES, MOST_BLOCKS = 512 << 10, 200

RANDOM = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape, np.float32)


@dataclass(frozen=True)
class Part:
    """`work(n)` does n calls and raises where a result is wrong."""

    calls: int
    work: Callable[[int], None]
    bytes_per_call: float = 0.0  # what a call may leave behind, where it compiles something


def small() -> Part:
    """The native entry point of relu(x @ w + b), 8 x 16 x 16."""
    x, w, b = normal(8, 16), normal(16, 16), normal(16)
    compiled = minicomp.compile(lambda x, w, b: minicomp.relu(x @ w + b))

    def work(calls: int) -> None:
        for _ in itertools.repeat(None, calls):
            compiled(x, w, b)
        check(compiled(x, w, b), np.maximum(x @ w + b, 0))

    return Part(10_000_000, work)


def module() -> Part:
    """A module with parameters, which are written to now and then, and given new arrays."""
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    compiled, x = minicomp.compile(model), normal(8, 16)

    def work(calls: int) -> None:
        for number in range(calls):
            compiled(x)
            if number % 100 == 0:
                model[0].weight.data[0, 0] += 1
                model[2].weight.data = model[2].weight.data.copy()
        check(compiled(x), model(x))

    return Part(500_000, work)


def externals() -> Part:
    """An external product between two kernels."""

    def external(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
        np.matmul(a, b, out=out)

    x, w = normal(16, 16), normal(16, 16)
    options = {"max_autotune": True, "external_matmul": [external], "force_disable_caches": True}
    compiled = minicomp.compile(lambda x, w: minicomp.exp(minicomp.tanh(x) @ w), options=options)
    with minicomp.selection.use_timer(lambda name, run: 1.0 + (name != "external")):
        compiled(x, w)
    assert compiled.explain().sites[0].chosen == "external"

    def work(calls: int) -> None:
        for _ in itertools.repeat(None, calls):
            compiled(x, w)
        check(compiled(x, w), np.exp(np.tanh(x) @ w))

    return Part(100_000, work)


def nested() -> Part:
    """Keyword arguments and nested containers, which go the way through Python."""
    compiled = minicomp.compile(lambda pair, *, scale: {"y": pair["a"] * scale + pair["b"]})
    a, b = normal(8, 8), normal(8, 8)

    def work(calls: int) -> None:
        for _ in itertools.repeat(None, calls):
            compiled({"a": a, "b": b}, scale=2.0)
        check(compiled({"a": a, "b": b}, scale=2.0)["y"], a * 2 + b)

    return Part(50_000, work)


def errors() -> Part:
    """Calls that raise: an index out of range, operands that do not fit, an external's failure."""

    def failing(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
        np.matmul(a, b, out=out)
        if failing_now:
            raise ValueError("no more")

    failing_now: list[bool] = []
    options = {"max_autotune": True, "external_matmul": [failing], "force_disable_caches": True}
    with minicomp.selection.use_timer(lambda name, run: 1.0 + (name != "failing")):
        product = minicomp.compile(lambda x: x @ x, options=options)
        product(normal(8, 8))
    failing_now.append(True)
    taken = minicomp.compile(lambda x, i: minicomp.take(x, i, 0))
    x, far = normal(8, 8), np.array([99])
    added = minicomp.compile(lambda x, y: x + y)

    def work(calls: int) -> None:
        attempts = [
            (minicomp.errors.IndexOutOfRangeError, lambda: taken(x, far)),
            (minicomp.errors.ExternalCallError, lambda: product(x)),
            (minicomp.errors.ShapeError, lambda: added(x, x[:3, :5])),
        ]
        for error, attempt in itertools.islice(itertools.cycle(attempts), calls):
            try:
                attempt()
            except error:
                continue
            raise AssertionError(f"wanted {error.__name__}")

    return Part(6_000, work)


def shapes() -> Part:
    """New shapes all the time, of which a few are kept: each is compiled."""
    compiled = minicomp.compile(
        lambda x: minicomp.exp(x) + 1, options={"cache_size_limit": 4, "force_disable_caches": True}
    )
    sizes = itertools.count(1)

    def work(calls: int) -> None:
        for size in itertools.islice(sizes, calls):
            x = np.full(size, 0.5, np.float32)
            check(compiled(x), np.exp(x) + 1)

    # LLVM's linker keeps 9 kB of each library that it has unloaded, and a shape has three: the
    # kernel's, the program's and the entry point's. Compiling one leaves 1.5 kB.
    return Part(600, work, bytes_per_call=45e3)


def threads() -> Part:
    """One compiled module called from four threads at once, with work that takes turns."""
    w = normal(64, 64)
    compiled = minicomp.compile(lambda x: minicomp.softmax(x @ w, -1))

    def work(calls: int) -> None:
        failures: list[BaseException] = []

        def caller(x: np.ndarray) -> None:
            try:
                for _ in itertools.repeat(None, calls // 4):
                    result = compiled(x)
                check(result, softmax(x @ w))
            except BaseException as error:
                failures.append(error)

        callers = [threading.Thread(target=caller, args=(normal(64, 64),)) for _ in range(4)]
        for thread in callers:
            thread.start()
        for thread in callers:
            thread.join()
        if failures:
            raise failures[0]

    return Part(100_000, work)


def forks() -> Part:
    """Children that are forked after use, and use it."""
    x, w = normal(256, 256), normal(256, 256)
    compiled = minicomp.compile(lambda x, w: minicomp.relu(x @ w))
    expected = compiled(x, w)

    def work(calls: int) -> None:
        for _ in range(calls):
            child = os.fork()
            if child == 0:
                os._exit(0 if np.array_equal(compiled(x, w), expected) else 1)
            if os.waitpid(child, 0)[1]:
                raise AssertionError("a child failed")
            compiled(x, w)

    return Part(300, work)


PARTS = (small, module, externals, nested, errors, shapes, threads, forks)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def check(result: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


# --- measuring ---


def memory() -> tuple[int, int]:
    """Bytes that are resident, and blocks that Python has allocated."""
    gc.collect()
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), sys.getallocatedblocks()


def run(name: str, part: Part, scale: float) -> bool:
    """Do a part, print what it took, and say whether its memory stayed as it was."""
    calls = max(int(part.calls * scale / CHUNKS), 4)
    start = time.perf_counter()
    for _ in range(WARM_UP):
        part.work(calls)
    before = memory()
    for _ in range(CHUNKS - WARM_UP):
        part.work(calls)
    after = memory()
    seconds = time.perf_counter() - start
    measured = calls * (CHUNKS - WARM_UP)
    grown, blocks = after[0] - before[0], after[1] - before[1]
    fine = grown <= MOST_BYTES + part.bytes_per_call * measured and blocks <= MOST_BLOCKS
    each = seconds / (calls * CHUNKS) * 1e6
    print(
        f"{name:10} {calls * CHUNKS:>9} calls {seconds:6.1f} s {each:9.2f} us "
        f"{before[0] / 2**20:7.1f} MB {grown / 1024:+7.0f} kB {blocks:+6} blocks"
        f"{'' if fine else '   GROWS'}",
        flush=True,
    )
    return fine


def scaling() -> None:
    """How much more work two Python threads get done than one, kernels on one thread each: twice
    as much where two cores are idle."""
    size = 1024
    x, w = normal(size, size), normal(size, size)
    compiled = minicomp.compile(lambda x, w: x @ w, options={"num_threads": 1})
    compiled(x, w)

    def rate(callers: int, seconds: float = 2.0) -> float:
        done = [0] * callers
        stop = time.perf_counter() + seconds

        def caller(number: int) -> None:
            while time.perf_counter() < stop:
                compiled(x, w)
                done[number] += 1

        workers = [threading.Thread(target=caller, args=(n,)) for n in range(callers)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return sum(done) / seconds

    one, two = rate(1), rate(2)
    print(f"scaling: products of {size} a second, from one thread {one:.0f}, from two {two:.0f}: "
          f"{two / one:.2f} times")  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [part.__name__ for part in PARTS]
    parser.add_argument("parts", nargs="*", default=[*names, "scaling"], metavar="part")
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of calls")
    options = parser.parse_args()
    unknown = set(options.parts) - {*names, "scaling"}
    if unknown:
        parser.error(f"no part is called {', '.join(unknown)}; there are {', '.join(names)}")
    fine = [
        run(part.__name__, part(), options.scale)
        for part in PARTS
        if part.__name__ in options.parts
    ]
    if "scaling" in options.parts:
        scaling()
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main())
