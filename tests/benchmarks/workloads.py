"""The workloads: one row each, with what is asked of it.

In: nothing. Out: `WORKLOADS`, whose rows name a function that each contestant implements
(`with_minicomp`, `with_numpy`, ...), the shapes of its arrays and the bar.

    Workload("softmax-64x1000", "norms", "softmax", [(64, 1000)], [Ratio(1.3)])

Shapes in names are rows x inner x columns for products. Parameters are what a module holds: for
minicomp they belong to the compiled module, and a call passes the other arrays alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from benchmarks.bars import BARE, Either, Extra, Ratio, Requirement, Seconds, Share

Shape = tuple[int, ...]
F32, F64 = "float32", "float64"


@dataclass(frozen=True)
class Workload:
    """One row of the benchmark.

    `work` is what a call has to do at least, by the roof that limits it: operations ("fma"), bytes
    read ("read"), or bytes read and written ("copy"). `rows` are the axes of the first arrays along
    which results are independent, so that some of a large result's rows can be checked alone.
    `from_numpy`: a call takes NumPy arrays and gives one, for every contestant. `has_bare`: the
    product of the first two arrays is timed as well.
    """

    name: str
    group: str
    function: str
    arrays: Sequence[Shape]
    bar: Sequence[Requirement]
    parameters: Sequence[Shape] = ()
    dtype: str = F32
    work: dict[str, float] = field(default_factory=dict)
    has_products: bool = False
    freeze: bool = False
    from_numpy: bool = False
    has_bare: bool = False
    rows: tuple[int, ...] = (0,)
    tolerance: float = 2e-5
    quick: bool = False

    def make_arrays(self, seed: int = 0) -> list[np.ndarray]:
        """Random normal numbers; weights smaller, so that values stay about 1 through layers."""
        generator = np.random.default_rng(seed)
        arrays = [generator.standard_normal(shape, self.dtype) for shape in self.arrays]
        for shape in self.parameters:
            scale = np.dtype(self.dtype).type(1 / math.sqrt(math.prod(shape[1:])))
            arrays.append(generator.standard_normal(shape, self.dtype) * scale)
        return arrays


# --- products -------------------------------------------------------------------------------------

SQUARES = (256, 512, 1024, 2048, 4096)
RECTANGLES = (
    (1000, 1000, 1000),
    (4096, 64, 4096),
    (4096, 4096, 64),
    (64, 4096, 4096),
    (384, 1536, 384),
    (384, 384, 1536),
)
#: what is asked of the geometric mean of a group
MEANS = {"matmul-nn": 1.05, "matmul-nt": 1.05, "matmul-tn": 1.05}
PEAK = Share("fma", 0.92, threads=1)


def _sizes(m: int, k: int, n: int) -> str:
    return str(m) if m == k == n else f"{m}x{k}x{n}"


def _matmuls() -> Iterator[Workload]:
    """A@B, A@B.T and A.T@B: n is a matrix as it lies in memory, t the transpose of one."""
    for layout in ("nn", "nt", "tn"):
        for m, k, n in [*((size,) * 3 for size in SQUARES), *RECTANGLES]:
            bar: list[Requirement] = [Ratio(0.97)]
            if min(m, k, n) >= 1024:
                bar.append(PEAK)
            yield Workload(
                f"matmul-{layout}-{_sizes(m, k, n)}", f"matmul-{layout}",
                "matmul" if layout == "nn" else f"matmul_{layout}",
                [(k, m) if layout == "tn" else (m, k), (n, k) if layout == "nt" else (k, n)],
                bar, work={"fma": 2.0 * m * k * n}, has_products=True,
                rows=(1,) if layout == "tn" else (0,), quick=(m, layout) == (512, "nn"),
            )  # fmt: skip


def _small() -> Iterator[Workload]:
    for n in (4, 8, 16, 32, 48, 64, 100, 128):
        bar = [Ratio(3.0 if n <= 32 else 1.5)]
        yield Workload(
            f"small-{n}", "small matmul", "matmul", [(n, n)] * 2, bar, has_products=True,
            work={"fma": 2.0 * n**3}, quick=n == 32,
        )  # fmt: skip


def _batched() -> Iterator[Workload]:
    for batch, n in ((64, 16), (64, 128), (256, 32), (256, 64), (1024, 16), (1024, 128)):
        yield Workload(
            f"batched-{batch}x{n}", "batched matmul", "matmul", [(batch, n, n)] * 2, [Ratio(2.0)],
            has_products=True, work={"fma": 2.0 * batch * n**3}, rows=(0, 0),
            quick=(batch, n) == (64, 16),
        )  # fmt: skip


def _vectors() -> Iterator[Workload]:
    cases = [
        ("row-4096", "matmul", [(1, 4096), (4096, 4096)]),
        ("row-2048x8192", "matmul", [(1, 2048), (2048, 8192)]),
        ("row-nt-4096", "matmul_nt", [(1, 4096), (4096, 4096)]),
        ("column-4096", "matmul", [(4096, 4096), (4096, 1)]),
        ("column-tn-4096", "matmul_tn", [(4096, 4096), (4096, 1)]),
    ]
    for name, function, arrays in cases:
        yield Workload(
            f"vector-{name}", "row or column", function, arrays, [Ratio(1.0), Share("read", 0.9)],
            has_products=True, work={"read": 4.0 * sum(map(math.prod, arrays))}, rows=(),
        )  # fmt: skip


def _doubles() -> Iterator[Workload]:
    for n in (256, 512, 1024, 2048):
        yield Workload(
            f"float64-{n}", "float64 matmul", "matmul", [(n, n)] * 2, [Ratio(1.0)], dtype=F64,
            has_products=True, tolerance=1e-12,
        )  # fmt: skip


def _networks() -> Iterator[Workload]:
    for n in (512, 1024, 2048):
        yield Workload(
            f"gelu-linear-{n}", "bias and GELU", "gelu_linear", [(n, n)], [Extra(BARE, 1.04)],
            parameters=[(n, n), (n,)], has_products=True, has_bare=True, quick=n == 512,
        )  # fmt: skip
    layers = [(512, 784), (512,), (256, 512), (256,), (10, 256), (10,)]
    for batch in (1, 32, 256):
        for freeze in (False, True):
            yield Workload(
                f"mlp-{batch}{'-frozen' if freeze else ''}", "MLP", "mlp", [(batch, 784)],
                [Ratio(1.2)], parameters=layers, has_products=True, freeze=freeze,
                quick=batch == 32 and not freeze,
            )  # fmt: skip
    for channels, size in ((64, 56), (128, 28), (256, 14), (512, 7)):
        for batch in (1, 16):
            yield Workload(
                f"conv-{batch}x{channels}x{size}", "convolution", "conv3x3",
                [(batch, channels, size, size)], [Ratio(1.0, ("torch", "inductor"))],
                parameters=[(channels, channels, 3, 3)], has_products=True,
                work={"fma": 18.0 * batch * (channels * size) ** 2}, tolerance=1e-4,
            )  # fmt: skip
    width, up = 384, 4 * 384
    weights = [
        (width,), (width,), (3 * width, width), (3 * width,), (width, width), (width,),
        (width,), (width,), (up, width), (up,), (width, up), (width,),
    ]  # fmt: skip
    for batch in (1, 8):
        for freeze in (False, True):
            yield Workload(
                f"block-{batch}{'-frozen' if freeze else ''}", "transformer block", "block",
                [(batch, 128, width)], [Ratio(1.2)], parameters=weights, has_products=True,
                freeze=freeze, tolerance=1e-4,
            )  # fmt: skip
    yield Workload(
        "call-relu-linear", "small call", "relu_linear", [(8, 16)], [Seconds(1e-6), Ratio(2.5)],
        parameters=[(16, 16), (16,)], has_products=True, from_numpy=True, quick=True,
    )  # fmt: skip


# --- bound by memory ------------------------------------------------------------------------------

#: Up to so many bytes a share of the copy bandwidth says nothing.
IN_CACHES = 3e7
NORM_SHAPES = ((64, 768), (64, 1000), (4096, 1000), (8192, 768), (64, 50000), (4096, 50000))


def _copied(moved: float) -> dict[str, float]:
    """The work of a function that moves so many bytes; none where they may stay in the caches."""
    return {"copy": moved} if moved > IN_CACHES else {}


def _norms() -> Iterator[Workload]:
    for function in ("softmax", "layer_norm", "layer_norm_gelu", "rms_norm", "logsumexp"):
        for rows, columns in NORM_SHAPES:
            parameters = {"layer_norm": 2, "layer_norm_gelu": 2, "rms_norm": 1}.get(function, 0)
            moved = 4.0 * rows * columns * (1 if function == "logsumexp" else 2)
            yield Workload(
                f"{function.replace('_', '-')}-{rows}x{columns}", "norms", function,
                [(rows, columns)], [Ratio(1.3)], parameters=[(columns,)] * parameters,
                work=_copied(moved), quick=(rows, columns) == (64, 1000),
            )  # fmt: skip


def _pointwise() -> Iterator[Workload]:
    for operations in (5, 10, 15):
        for size in (10**4, 10**7):
            work = _copied(12.0 * size)
            bar = Either(Ratio(1.3), Share("copy", 0.9)) if work else Ratio(1.3)
            yield Workload(
                f"chain{operations}-1e{round(math.log10(size))}", "pointwise",
                f"chain{operations}", [(size,)] * 2, [bar], work=work, rows=(0, 0),
                tolerance=1e-4, quick=size == 10**4,
            )  # fmt: skip
    for function in ("total", "greatest", "argmax"):
        yield Workload(
            f"{function}-1e7", "reductions", function, [(10**7,)],
            [Either(Ratio(1.3), Share("read", 0.9))], work={"read": 4e7}, rows=(),
            tolerance=1e-3,
        )  # fmt: skip


WORKLOADS: tuple[Workload, ...] = (
    *_matmuls(), *_small(), *_batched(), *_vectors(), *_doubles(), *_networks(), *_norms(),
    *_pointwise(),
)  # fmt: skip
