"""Measures the float32 functions on every float32 there is. Run by hand; it takes a quarter of an
hour.

    python tests/benchmarks/ulp.py                      # all functions, all 2**32 arguments
    python tests/benchmarks/ulp.py --part 3 16 exp tanh # the third of sixteen parts of them
    python tests/benchmarks/ulp.py --stride 17 exp tanh # every 17th representation
    MINICOMP_CPU=haswell python tests/benchmarks/ulp.py # as a CPU without AVX-512 computes them

An odd stride meets all patterns of low bits; with an even one the arguments end in zeros, and
intermediate results are more often exact than usual.

Prints per function the largest error in ulp and the argument it is for. What is measured is the
code that runs, compiled for this CPU; the references are float64.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "codegen"))

from ulp_error import REFERENCES, ulp_error

import minicomp

CHUNK = 1 << 16  # stays in the caches
ALL = 1 << 32

#: Of a float64: the bits of its exponent, the least normal float32, and an ulp of a float32 of 1.
EXPONENT, LEAST_NORMAL, ULP_OF_ONE = 0x7FF << 52, 2.0**-126, 2.0**-23


def chunks(first: int, last: int, stride: int) -> Iterator[np.ndarray]:
    """The float32 whose representations are first, first + stride, ... below `last`."""
    for start in range(first, last, CHUNK * stride):
        bits = np.arange(start, min(start + CHUNK * stride, last), stride, dtype=np.uint64)
        yield bits.astype(np.uint32).view(np.float32)


def may_exceed(result: np.ndarray, truth: np.ndarray, limit: float) -> np.ndarray:
    """Where `ulp_error` may be more than `limit`: quick to tell, and true of whatever is odd."""
    binade = (truth.view(np.int64) & EXPONENT).view(np.float64)
    unit = np.maximum(binade, LEAST_NORMAL) * ULP_OF_ONE
    fine = np.abs(result - truth) <= limit * unit
    return ~fine | (np.signbit(result) != np.signbit(truth))


def worst(name: str, first: int, last: int, stride: int) -> tuple[float, np.float32]:
    """The largest error, and its argument."""
    function = minicomp.compile(getattr(minicomp, name), options={"num_threads": 1})
    largest, argument, reported = -1.0, np.float32(0), time.monotonic()
    for x in chunks(first, last, stride):
        with np.errstate(all="ignore"):
            result, truth = function(x), REFERENCES[name](x.astype(np.float64))
            picked = may_exceed(result, truth, largest)
            if not picked.any():
                continue
            errors = ulp_error(result[picked], truth[picked])
        if errors.max() > largest:
            largest, argument = float(errors.max()), x[picked][errors.argmax()]
        if time.monotonic() - reported > 5:
            reported = time.monotonic()
            print(f"\r{name} at {x[0]:.7g}, so far {largest:.4f} ulp", end="",
                  file=sys.stderr, flush=True)  # fmt: skip
    return largest, argument


def main() -> None:
    parser = argparse.ArgumentParser(description="The largest errors of the float32 functions")
    parser.add_argument("names", nargs="*", default=list(REFERENCES), metavar="function")
    parser.add_argument("--stride", type=int, default=1, help="measure every so many-th float32")
    parser.add_argument("--part", type=int, nargs=2, default=(1, 1), metavar=("N", "OF"),
                        help="measure one of so many equal parts of them")  # fmt: skip
    options = parser.parse_args()
    part, parts = options.part
    first, last = ALL * (part - 1) // parts, ALL * part // parts
    for name in options.names:
        largest, argument = worst(name, first, last, options.stride)
        print(f"\r{name:8} {largest:.4f} ulp at {argument!r} = {float(argument).hex()}")


if __name__ == "__main__":
    main()
