"""Measures the float32 functions on every float32 there is. Run by hand; it takes hours.

    python tests/benchmarks/ulp.py                      # all functions, all 2**32 arguments
    python tests/benchmarks/ulp.py --stride 17 exp tanh # every 17th representation

An odd stride meets all patterns of low bits; with an even one the arguments end in zeros, and
intermediate results are more often exact than usual.

Prints per function the largest error in ulp and the argument it is for. The arithmetic is NumPy's
(`minicomp.codegen.numpy_emitter`) and the references are float64.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "codegen"))

from ulp_error import FLOAT32_REFERENCES, ulp_error

from minicomp.codegen.numpy_emitter import NumpyEmitter

CHUNK = 1 << 16  # stays in the caches


def worst(name: str, stride: int) -> tuple[float, np.float32]:
    """The largest error over representations 0, stride, 2 * stride, ..., and its argument."""
    function, reference = getattr(NumpyEmitter(), name), FLOAT32_REFERENCES[name]
    largest, argument = -1.0, np.float32(0)
    reported = time.monotonic()
    for first in range(0, 1 << 32, CHUNK * stride):
        bits = np.arange(first, min(first + CHUNK * stride, 1 << 32), stride, dtype=np.uint64)
        x = bits.astype(np.uint32).view(np.float32)
        with np.errstate(all="ignore"):
            errors = ulp_error(function(x), reference(x.astype(np.float64)))
        if errors.max() > largest:
            largest, argument = float(errors.max()), x[errors.argmax()]
        if time.monotonic() - reported > 5:
            reported = time.monotonic()
            print(f"\r{name} {first / 2**32:4.0%}, so far {largest:.4f} ulp", end="",
                  file=sys.stderr, flush=True)  # fmt: skip
    return largest, argument


def main() -> None:
    parser = argparse.ArgumentParser(description="The largest errors of the float32 functions")
    parser.add_argument("names", nargs="*", default=list(FLOAT32_REFERENCES), metavar="function")
    parser.add_argument("--stride", type=int, default=1, help="measure every so many-th float32")
    options = parser.parse_args()
    for name in options.names:
        largest, argument = worst(name, options.stride)
        print(f"\r{name:13} {largest:.4f} ulp at {argument!r} = {float(argument).hex()}")


if __name__ == "__main__":
    main()
