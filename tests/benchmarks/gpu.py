"""Times compiled modules on a GPU beside PyTorch, cuBLAS and a copy. Run by hand, on an idle GPU.

    python tests/benchmarks/gpu.py                 # all rows
    python tests/benchmarks/gpu.py softmax matmul  # those whose name has one of these

minicomp and its peer take turns on one stream. A time is the median over CUDA events around one
call, after a buffer larger than the L2 cache has been written, on random data; each output is
compared with PyTorch's in float64 before any time counts. Bandwidth counts each input once and
each output once. The host's time is that of calls that are queued one after the other.
"""

from __future__ import annotations

import ctypes
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

import minicomp
from minicomp.runtime.jit import compile_ir

ROUNDS = 20
ROWS, COLUMNS = 16384, 4096
#: Products (rows, depth, columns): large, of few rows, of few tiles, and deep
PRODUCTS = ((4096, 4096, 4096), (16, 4096, 4096), (512, 512, 512), (128, 8192, 128))


def main() -> None:
    wanted = sys.argv[1:]
    copied = copy_bandwidth()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; copy {copied:.0f} GB/s")
    for name, ours, theirs, arguments in bandwidth_rows():
        if not wanted or any(word in name for word in wanted):
            bandwidth_row(name, ours, theirs, arguments, copied)
    for shape in PRODUCTS:
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            name = f"matmul-{'x'.join(map(str, shape))}-{str(dtype).removeprefix('torch.')}"
            if not wanted or any(word in name for word in wanted):
                matmul_row(name, shape, dtype)
    if not wanted or any(word in "call" for word in wanted):
        call_row()


def bandwidth_rows():
    """(name, minicomp's function, PyTorch's, their arguments)."""
    generator = torch.Generator("cuda").manual_seed(0)

    def random(*shape):
        return torch.randn(shape, generator=generator, device="cuda")

    x, y, weight, bias = (
        random(ROWS, COLUMNS),
        random(ROWS, COLUMNS),
        random(COLUMNS),
        random(COLUMNS),
    )
    size = (COLUMNS,)

    def rms_norm(x, w):
        return x * minicomp.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6) * w

    def layer_norm(x, w, b):
        return minicomp.layer_norm(x, size, w, b)

    yield "softmax", lambda x: minicomp.softmax(x), lambda x: F.softmax(x, -1), [x]
    yield "layer-norm", layer_norm, lambda x, w, b: F.layer_norm(x, size, w, b), [x, weight, bias]
    yield (
        "layer-norm-gelu",
        lambda x, w, b: minicomp.gelu(layer_norm(x, w, b)),
        lambda x, w, b: F.gelu(F.layer_norm(x, size, w, b)),
        [x, weight, bias],
    )
    yield "rms-norm", rms_norm, lambda x, w: F.rms_norm(x, size, w, 1e-6), [x, weight]
    yield (
        "chain",
        lambda x, y: minicomp.gelu(x * y + x) * minicomp.sigmoid(y),
        lambda x, y: F.gelu(x * y + x) * torch.sigmoid(y),
        [x, y],
    )
    yield "bias-relu", lambda x, b: minicomp.relu(x + b), lambda x, b: F.relu(x + b), [x, bias]
    yield "row-max", lambda x: x.max(-1), lambda x: x.amax(-1), [x]
    yield "row-sum", lambda x: x.sum(-1), lambda x: x.sum(-1), [x]
    yield "column-sum", lambda x: x.sum(0), lambda x: x.sum(0), [x]
    yield "full-sum", lambda x: x.sum(), lambda x: x.sum(), [x]
    yield "argmax", lambda x: x.argmax(-1), lambda x: x.argmax(-1), [x]
    yield "cumsum", lambda x: minicomp.cumsum(x, 1), lambda x: torch.cumsum(x, 1), [x]
    yield "transpose", lambda x: x.T + 0.0, lambda x: (x.T + 0.0).contiguous(), [x]


def bandwidth_row(name, ours, theirs, arguments, copied: float) -> None:
    compiled = minicomp.compile(ours)
    result = compiled(*arguments)
    sample = [a[:256] if a.dim() == 2 and name not in ("column-sum", "full-sum", "transpose") else a
              for a in arguments]  # fmt: skip
    exact = theirs(*[a.double() for a in sample])
    got = torch.as_tensor(result, device="cuda")
    got = got[: exact.shape[0]] if exact.dim() else got
    scale = exact.abs().double().max().item()
    error = (got.double() - exact).abs().max().item() / max(scale, 1e-30)
    assert error < 1e-5, f"{name}: off by {error:.2g} of the largest element"
    nbytes = sum(a.numel() * a.element_size() for a in arguments)
    nbytes += got.element_size() * int(np.prod(result.shape, dtype=np.int64))
    del got, result, exact
    mine, peer = turns(lambda: compiled(*arguments), lambda: theirs(*arguments))
    speed, other = nbytes / mine / 1e9, nbytes / peer / 1e9
    print(f"{name:20} {speed:6.0f} GB/s  {speed / copied:4.0%} of copy   torch {other:6.0f} GB/s"
          f"  {speed / other:5.2f}x", flush=True)  # fmt: skip


def matmul_row(name: str, shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    """The best of minicomp's own candidates, chosen by tuning, against cuBLAS through PyTorch."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.manual_seed(0)
    rows, depth, columns = shape
    a = torch.randn(rows, depth, device="cuda").to(dtype)
    b = torch.randn(depth, columns, device="cuda").to(dtype)
    compiled = minicomp.compile(lambda a, b: a @ b, mode="max-autotune")
    a_in, b_in = (minicomp.cuda.to_device(to_numpy(x)) for x in (a, b))
    result = compiled(a_in, b_in)
    exact = a[:64].double() @ b.double()
    got = torch.from_numpy(minicomp.cuda.to_host(result)[:64].astype(np.float64)).cuda()
    error = ((got - exact).norm() / exact.norm()).item()
    # Rounding errors of one sum after the other; half precision rounds the result besides.
    allowed = 2.0**-24 * depth**0.5 + (0 if dtype == torch.float32 else torch.finfo(dtype).eps)
    assert error < allowed, f"{name}: off by {error:.2g}, allowed {allowed:.2g}"
    mine, peer = turns(lambda: compiled(a_in, b_in), lambda: torch.matmul(a, b))
    speed, other = (2e-12 * rows * depth * columns / seconds for seconds in (mine, peer))
    print(f"{name:31} {speed:6.1f} TFLOP/s   torch {other:6.1f} TFLOP/s  {speed / other:5.2f}x"
          f"  {compiled.choices()[0].chosen}", flush=True)  # fmt: skip


def to_numpy(x: torch.Tensor) -> np.ndarray:
    if x.dtype == torch.bfloat16:
        import ml_dtypes

        return x.cpu().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return x.cpu().numpy()


def call_row() -> None:
    """What one fused linear costs the host, and what cuLaunchKernel alone takes of it."""
    layer = minicomp.nn.Linear(16, 16).to("cuda")
    compiled = minicomp.compile(lambda x: minicomp.relu(layer(x)))
    x = minicomp.cuda.to_device(np.ones((8, 16), np.float32))
    linear, tensor = torch.nn.Linear(16, 16).cuda(), torch.ones(8, 16, device="cuda")
    compiled(x)
    launch = host_time(bare_launches(compiled, x, 10), calls=1) / 10
    with torch.inference_mode():
        mine, peer = host_time(lambda: compiled(x)), host_time(lambda: F.relu(linear(tensor)))
        of_tensor = host_time(lambda: compiled(tensor))
    with minicomp.cuda.stream(torch.cuda.Stream()):
        elsewhere = host_time(lambda: compiled(x))
    print(f"{'call':20} {mine * 1e6:6.1f} us of the host   torch {peer * 1e6:6.1f} us   "
          f"cuLaunchKernel alone {launch * 1e6:.1f} us")  # fmt: skip
    print(f"{'call, others':20} {of_tensor * 1e6:6.1f} us with a torch tensor   "
          f"{elsewhere * 1e6:6.1f} us on another stream than the arrays'")  # fmt: skip


def host_time(run: Callable[[], object], calls: int = 10) -> float:
    samples = []
    for _ in range(200):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            run()
        samples.append((time.perf_counter() - start) / calls)
    return statistics.median(samples)


def bare_launches(compiled, x, count: int) -> Callable[[], object]:
    """A function that launches the one kernel of a compiled module so many times, in C."""
    executable = compiled._last.executable
    (step,) = executable.steps
    function, ptx = step.kernel.function, step.kernel.ptx
    arrays = [*(compiled._last.arrays([x])), executable.driver.empty((8, 16), "float32")]
    pointers = (ctypes.c_uint64 * len(arrays))(*(int(array.gpudata) for array in arrays))
    first = ctypes.addressof(pointers)
    parameters = (ctypes.c_void_p * len(arrays))(*(first + 8 * n for n in range(len(arrays))))
    shape = ", ".join(f"i32 {n}" for n in (*ptx.grid, *ptx.block, ptx.shared_bytes))
    launch = f"call i32 @launch(ptr %function, {shape}, ptr null, ptr %parameters, ptr null)"
    library = compile_ir(
        "declare i32 @launch(ptr, i32, i32, i32, i32, i32, i32, i32, ptr, ptr, ptr)\n"
        "define i32 @launches(ptr %function, ptr %parameters) {\n"
        + "".join(f"  %code{n} = {launch}\n" for n in range(count))
        + f"  ret i32 %code{count - 1}\n}}\n",
        ["launches"],
        imports={"launch": executable.driver.launch_address},
    )
    prototype = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    launches = prototype(library.address("launches"))
    held = (library, arrays, pointers, parameters)
    assert launches(function.handle, parameters) == 0

    def run() -> object:
        return launches(function.handle, parameters) or held

    return run


def copy_bandwidth() -> float:
    """GB/s of a copy on the device, counting bytes read and bytes written."""
    source = torch.randn(ROWS, COLUMNS, device="cuda")
    target = torch.empty_like(source)
    seconds, _ = turns(lambda: target.copy_(source), lambda: None)
    return 2 * source.numel() * source.element_size() / seconds / 1e9


def turns(*runs: Callable[[], object]) -> list[float]:
    """Median seconds on the device of each run, in turns, the L2 cache cold."""
    cold = torch.empty(256 << 20, dtype=torch.uint8, device="cuda")
    samples: list[list[float]] = [[] for _ in runs]
    for round_number in range(ROUNDS + 2):
        for run, times in zip(runs, samples, strict=True):
            cold.zero_()
            torch.cuda._sleep(200_000)  # the host queues the run meanwhile
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            run()
            end.record()
            torch.cuda.synchronize()
            if round_number >= 2:
                times.append(start.elapsed_time(end) * 1e-3)
    return [statistics.median(times) for times in samples]


if __name__ == "__main__":
    main()
