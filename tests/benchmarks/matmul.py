"""Times the CPU's matmul candidates against `np.matmul`. Run by hand, on an idle machine.

    python tests/benchmarks/matmul.py                       # a table of shapes, one thread
    python tests/benchmarks/matmul.py 512 1x4096x1024       # some: n, or m x n x k
    python tests/benchmarks/matmul.py --threads 2 --layout nt --dtype float64 --all 1024

Candidates and NumPy take turns, as `timing` says; a time is the median over the rounds. Every
output is compared with the product in float64 before any time counts. Operands are random normal
numbers: zeros would need less power, and so run at a higher clock. The time of a candidate includes
a call through ctypes, some 0.4 us.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import sys
from collections.abc import Callable
from math import exp, log
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def main() -> None:
    arguments = parse_arguments()
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(arguments.threads)  # read when NumPy is imported
    defaults, bests = [], []
    print(f"load average {os.getloadavg()[0]:.2f}, {arguments.threads} thread(s)")
    print(f"{'shape':>18} {'NumPy':>8} {'default':>8} {'best':>8}  GFLOP/s; ratios; the best")
    for shape in arguments.shapes:
        times = time_shape(shape, arguments)
        numpy_time = times.pop("numpy")
        names = list(times)
        best = min(names, key=times.__getitem__)
        work = 2e-9 * shape[0] * shape[1] * shape[2] * arguments.batch
        defaults.append(numpy_time / times[names[0]])
        bests.append(numpy_time / times[best])
        print(f"{'x'.join(map(str, shape)):>18} {work / numpy_time:8.1f} "
              f"{work / times[names[0]]:8.1f} {work / times[best]:8.1f}  "
              f"{defaults[-1]:.2f} {bests[-1]:.2f} {best}", flush=True)  # fmt: skip
        if arguments.all:
            for name in names:
                print(f"{'':>20}{work / times[name]:8.1f} {numpy_time / times[name]:5.2f} {name}")
    print(f"geometric means: default {mean(defaults):.3f}, best {mean(bests):.3f} of NumPy")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shapes", nargs="*", type=parse_shape, help="n, or MxNxK")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--layout", choices=["nn", "nt", "tn", "tt"], default="nn",
                        help="t: that operand is the transpose of a contiguous array")  # fmt: skip
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0, help="about, per shape")
    parser.add_argument("--all", action="store_true", help="print every candidate")
    arguments = parser.parse_args()
    sizes = (
        "16 32 64 128 256 512 1024 2048 1x512x784 1x4096x1024 4096x1x1024 32x512x784 256x512x784"
    )
    arguments.shapes = arguments.shapes or [parse_shape(text) for text in sizes.split()]
    return arguments


def parse_shape(text: str) -> tuple[int, int, int]:
    sizes = [int(size) for size in text.split("x")]
    return tuple(sizes * 3) if len(sizes) == 1 else tuple(sizes)  # type: ignore[return-value]


def mean(ratios: list[float]) -> float:
    return exp(sum(map(log, ratios)) / len(ratios))


def time_shape(shape: tuple[int, int, int], arguments: argparse.Namespace) -> dict[str, float]:
    """Median seconds of NumPy and of each candidate, the default first."""
    import numpy as np
    from benchmarks.timing import race

    from minicomp.codegen.matmul_schedules import schedules
    from minicomp.runtime.target import host_target

    (m, n, k), batch, dtype = shape, arguments.batch, arguments.dtype
    generator = np.random.default_rng(0)
    a = operand(generator, (batch, m, k), arguments.layout[0] == "t", dtype)
    b = operand(generator, (batch, k, n), arguments.layout[1] == "t", dtype)
    out = np.empty((batch, m, n), dtype)
    kernel = product_kernel(a, b, out)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    bound = 4 * np.sqrt(k) * np.finfo(dtype).eps * (np.abs(a) @ np.abs(b))

    runs: dict[str, Callable[[], object]] = {"numpy": lambda: np.matmul(a, b, out=out)}
    for schedule in schedules(kernel, host_target(), arguments.threads):
        result = np.full_like(out, np.nan)
        run = compiled(kernel, schedule, [a, b, result], arguments.threads)
        run()
        assert (np.abs(result - exact) <= bound).all(), f"{schedule} is wrong"
        runs[schedule.label] = run
    return {name: samples.median for name, samples in race(runs, arguments.seconds).items()}


def operand(generator, shape, transposed, dtype):
    if transposed:
        return generator.standard_normal((shape[0], shape[2], shape[1])).astype(dtype).mT
    return generator.standard_normal(shape).astype(dtype)


def product_kernel(a, b, out):
    """out = a @ b as a MatmulKernel, with the arrays' own strides."""
    from minicomp.kernels import Argument, MatmulKernel, Product, Store, View
    from minicomp.kernels.indexing import Index, LoopVariable, offset_of

    loops = [LoopVariable(f"i{axis}", extent) for axis, extent in enumerate(out.shape)]
    strides = [[step // array.itemsize for step in array.strides] for array in (a, b, out)]
    dtype = out.dtype.name
    arguments = tuple(
        Argument(name, dtype, array.size, name == "out")
        for name, array in (("a", a), ("b", b), ("out", out))
    )
    views = [View(n, 0, (strides[n][0],), *strides[n][1:]) for n in (0, 1)]
    place = offset_of([Index.of(loop) for loop in loops], strides[2])
    return MatmulKernel(
        "matmul", arguments, (loops[0],), loops[1], loops[2], a.shape[2], *views, dtype,
        Store(2, place, Product(dtype)),
    )  # fmt: skip


def compiled(kernel, schedule, arrays, threads):
    """A callable that runs the kernel on the arrays."""
    import numpy as np

    from minicomp.codegen.llvm_matmul import emit_matmul, units, workspace
    from minicomp.runtime.jit import compile_ir
    from minicomp.runtime.target import host_target
    from minicomp.runtime.threads import parallel_for

    text = emit_matmul(kernel, schedule, host_target())
    library = compile_ir(text, [kernel.name])
    scratch = np.zeros(workspace(kernel, schedule) + 64, np.uint8)
    addresses = [array.ctypes.data for array in arrays]
    pointers = (ctypes.c_void_p * 4)(*addresses, -(-scratch.ctypes.data // 64) * 64)
    address, count = library.address(kernel.name), units(kernel, schedule)
    serial = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(address)
    start = ctypes.addressof(pointers)

    def run(alive=(library, scratch, pointers, arrays)):  # what the addresses point into
        if count > 1:
            parallel_for(address, start, count, 1, threads)
        else:
            serial(start, 0, count)

    return run


if __name__ == "__main__":
    main()
