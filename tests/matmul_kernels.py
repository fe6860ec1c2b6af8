"""Matrix products for tests: kernels of any layout, operands for them, and whether they are right.

In: sizes, layouts and dtypes. Out: a `MatmulKernel`, and the arrays it works on.

    kernel = matmul_kernel(7, 13, 17, a="transposed", dtype="bfloat16")
    buffers = random_buffers(kernel)              # one-dimensional, in the order of the arguments
    ...
    assert_is_product(kernel, buffers)            # against a product in float64
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np
from numpy.lib.stride_tricks import as_strided

from minicomp.ir import numpy_dtype
from minicomp.kernels import Argument, MatmulKernel, Product, Store, View
from minicomp.kernels.indexing import Index, LoopVariable, offset_of, row_major_strides

KINDS = ["contiguous", "transposed", "stepped", "padded", "reversed", "one row for all",
         "one column for all"]  # fmt: skip

#: dtype -> half the distance from 1 to the next number
ROUNDOFF = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}


@dataclass(frozen=True)
class Layout:
    """An operand: a view of `size` elements from `offset`, with these strides, in elements."""

    offset: int
    strides: tuple[int, ...]
    size: int
    dtype: str = "float32"

    @staticmethod
    def of(shape: tuple[int, ...], kind: str = "contiguous", dtype: str = "float32") -> Layout:
        """A layout of each kind that views can have; `shape` is (*batch, rows, columns)."""
        *batch, rows, columns = shape
        if kind == "transposed":
            inner, size = (1, rows), rows * columns
        elif kind == "stepped":
            inner, size = (2 * (3 * columns + 1), 3), 2 * rows * (3 * columns + 1)
        elif kind == "padded":
            inner, size = (columns + 5, 1), rows * (columns + 5)
        elif kind == "reversed":
            inner, size = (-columns, -1), rows * columns
        elif kind == "one row for all":
            inner, size = (0, 1), columns
        elif kind == "one column for all":
            inner, size = (1, 0), rows
        else:
            inner, size = (columns, 1), rows * columns
        offset = max(size - 1, 0) if kind == "reversed" else 0
        outer = tuple(stride * size for stride in row_major_strides(batch))
        return Layout(offset, (*outer, *inner), prod(batch) * size, dtype)

    def view(self, buffer: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        strides = [stride * buffer.itemsize for stride in self.strides]
        return as_strided(buffer[self.offset :], shape, strides)


def matmul_kernel(
    m: int,
    n: int,
    k: int,
    a: Layout | str = "contiguous",
    b: Layout | str = "contiguous",
    batch: tuple[int, ...] = (),
    dtype: str = "float32",
    alignment: int = 1,
) -> MatmulKernel:
    """out[batch, i, j] = sum over k of a * b, with out contiguous and of this dtype."""
    a = Layout.of((*batch, m, k), a, dtype) if isinstance(a, str) else a
    b = Layout.of((*batch, k, n), b, dtype) if isinstance(b, str) else b
    loops = tuple(LoopVariable(f"b{i}", extent) for i, extent in enumerate(batch))
    row, column = LoopVariable("i", m), LoopVariable("j", n)
    place = [Index.of(loop) for loop in (*loops, row, column)]
    index = offset_of(place, row_major_strides((*batch, m, n)))
    arguments = (
        Argument("a", a.dtype, a.size, alignment=alignment),
        Argument("b", b.dtype, b.size, alignment=alignment),
        Argument("out", dtype, prod(batch) * m * n, written=True, alignment=alignment),
    )
    accumulate = "float32" if dtype in ("float16", "bfloat16") else dtype
    return MatmulKernel(
        "matmul", arguments, loops, row, column, k,
        View(0, a.offset, a.strides[:-2], *a.strides[-2:]),
        View(1, b.offset, b.strides[:-2], *b.strides[-2:]),
        accumulate, Store(2, index, Product(accumulate)),
    )  # fmt: skip


def with_epilogue(kernel: MatmulKernel, scalar, *arguments: Argument) -> MatmulKernel:
    """The kernel with another epilogue, which may load from these arguments, numbered from 3."""
    store = replace(kernel.store, scalar=scalar)
    return replace(kernel, arguments=(*kernel.arguments, *arguments), store=store)


def shapes(kernel: MatmulKernel) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """The shapes of a, b and the product."""
    batch = tuple(loop.extent for loop in kernel.batch)
    m, n, k = kernel.row.extent, kernel.column.extent, kernel.depth
    return (*batch, m, k), (*batch, k, n), (*batch, m, n)


def operand(kernel: MatmulKernel, view: View, buffers: list[np.ndarray]) -> np.ndarray:
    """The array that a view of the kernel's describes."""
    strides = (*view.batch_strides, view.row_stride, view.column_stride)
    layout = Layout(view.offset, strides, 0)
    return layout.view(buffers[view.buffer], shapes(kernel)[0 if view is kernel.a else 1])


# A bfloat16 is kept as its 16 bits: NumPy has no such dtype of its own.


def stored_dtype(dtype: str) -> np.dtype:
    """The dtype of a buffer of a kernel's."""
    return np.dtype(np.uint16) if dtype == "bfloat16" else numpy_dtype(dtype)


def to_storage(values: np.ndarray, dtype: str) -> np.ndarray:
    """Values as they are stored, rounded to nearest even."""
    if dtype != "bfloat16":
        return values.astype(stored_dtype(dtype))
    bits = values.astype(np.float32).view(np.uint32)
    rounded = bits + 0x7FFF + (bits >> 16 & 1)
    return np.where(np.isnan(values), 0x7FC0, rounded >> 16).astype(np.uint16)


def from_storage(buffer: np.ndarray, dtype: str) -> np.ndarray:
    """The values that are stored, as floats of 64 bits, or as they are."""
    if dtype == "bfloat16":
        return (buffer.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return buffer.astype(np.float64) if buffer.dtype.kind == "f" else buffer


def random_buffers(kernel: MatmulKernel, seed: int = 0) -> list[np.ndarray]:
    """Operands, and an output of NaN or of a number that no product of theirs is."""
    generator = np.random.default_rng(seed)
    buffers = []
    for argument in kernel.arguments:
        if argument.dtype.startswith("int"):
            values, unset = generator.integers(-100, 100, argument.size), -(1 << 30)
        else:
            values, unset = generator.standard_normal(argument.size), np.nan
        if argument.written:
            values = np.full(argument.size, unset)
        buffers.append(to_storage(values, argument.dtype))
    return buffers


def product(kernel: MatmulKernel, buffers: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The product in float64 (or int64), and that of the operands' magnitudes."""
    a, b = (
        from_storage(operand(kernel, view, buffers), kernel.arguments[view.buffer].dtype)
        for view in (kernel.a, kernel.b)
    )
    if kernel.accumulate.startswith("int"):
        a, b = a.astype(np.int64), b.astype(np.int64)
    return a @ b, np.abs(a) @ np.abs(b)


def assert_is_product(
    kernel: MatmulKernel, buffers: list[np.ndarray], operand_roundoff: float = 0.0
) -> None:
    """Buffer number 2 holds the product, within a bound that grows as the root of the depth.
    Operands may have been rounded with `operand_roundoff`."""
    wanted, magnitude = product(kernel, buffers)
    got = from_storage(buffers[2], kernel.arguments[2].dtype).reshape(wanted.shape)
    if kernel.accumulate.startswith("int"):
        np.testing.assert_array_equal(got, wanted.astype(got.dtype))
        return
    bound = (2 + 2 * np.sqrt(kernel.depth)) * 2 * ROUNDOFF[kernel.accumulate] * magnitude
    stored = kernel.arguments[2].dtype
    if stored != kernel.accumulate:
        bound = bound + ROUNDOFF[stored] * 1.01 * np.abs(wanted) + 1e-7
    bound = bound + 2.01 * operand_roundoff * magnitude
    assert_within(got, wanted, bound)


def assert_within(got: np.ndarray, wanted: np.ndarray, bound: np.ndarray) -> None:
    wrong = ~(np.abs(got - wanted) <= bound + 1e-30)
    assert not wrong.any(), f"{wrong.sum()} wrong, first at {np.argwhere(wrong)[0]}"
