"""cuBLAS by ctypes: matrix products of NVIDIA's library, as a candidate of selection.

In: device arrays `a`, `b` and `out`, row-major or transposed. Out: `out` holds `a @ b`.

cuBLAS is column-major. A row-major matrix read column by column is its transpose, and
`out.T = b.T @ a.T`: so the operands change places, and what is row-major here needs no transpose
there. Each operand may have its rows or its columns contiguous; anything else is refused.

One handle per thread, as cuBLAS asks for; the calls are queued on the stream in use. float32 is
computed in float32, not TF32, and 2-byte floats are accumulated in float32.

The calls: https://docs.nvidia.com/cuda/cublas/
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import importlib.util
import itertools
import threading
from collections.abc import Iterator, Sequence
from ctypes import POINTER, byref, c_double, c_float, c_int, c_int64, c_void_p
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minicomp.errors import CudaError, InputError
from minicomp.ir import ITEMSIZE
from minicomp.runtime.cuda.driver import driver
from minicomp.runtime.cuda.interface import DeviceArgument

NO_TRANSPOSE, TRANSPOSE = 0, 1  # cublasOperation_t
DEFAULT_ALGORITHM = -1  # cublasGemmAlgo_t
#: cublasMath_t: the default, which is plain float32, without reductions in the 2-byte type.
MATH_MODE = 0 | 16
#: alpha and beta, on the host
_ONE, _ZERO, _ONE_64, _ZERO_64 = (byref(t(n)) for t in (c_float, c_double) for n in (1, 0))
#: dtype -> cudaDataType, cublasComputeType_t (68: float32, 70: float64), alpha and beta
TYPES: dict[str, tuple[int, int, Any, Any]] = {
    "float32": (0, 68, _ONE, _ZERO),
    "float64": (1, 70, _ONE_64, _ZERO_64),
    "float16": (2, 68, _ONE, _ZERO),
    "bfloat16": (14, 68, _ONE, _ZERO),
}

_PRODUCT = (c_void_p, c_int, c_int, c_int, c_int, c_int, c_void_p)  # handle, ops, m, n, k, alpha
_MATRIX = (c_void_p, c_int, c_int)  # pointer, dtype, leading dimension; and in a batch:
_BATCH = (*_MATRIX, c_int64)  # the distance to the next
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cublasCreate_v2": (POINTER(c_void_p),),
    "cublasDestroy_v2": (c_void_p,),
    "cublasSetStream_v2": (c_void_p, c_void_p),
    "cublasSetMathMode": (c_void_p, c_int),
    "cublasGemmEx": (*_PRODUCT, *_MATRIX, *_MATRIX, c_void_p, *_MATRIX, c_int, c_int),
    "cublasGemmStridedBatchedEx": (
        *(*_PRODUCT, *_BATCH, *_BATCH, c_void_p, *_BATCH),
        *(c_int, c_int, c_int),  # count, compute type, algorithm
    ),
}


def matmul(a: Any, b: Any, out: Any) -> None:
    """out = a @ b on the stream in use, leading axes broadcast. InputError for operands that
    cuBLAS cannot take, CudaError where there is no cuBLAS."""
    device = driver()
    if device.is_simulator:
        raise CudaError("cuBLAS runs on a GPU, and the simulator is in use")
    operands = [device.argument(array) for array in (a, b, out)]
    dtype = operands[0].dtype
    if dtype not in TYPES or {operand.dtype for operand in operands} != {dtype}:
        raise InputError(
            f"cuBLAS multiplies floats of one dtype, got {', '.join(x.dtype for x in operands)}"
        )
    check_shapes(*operands)
    if prod(operands[2].shape) == 0:
        return
    if operands[0].shape[-1] == 0:  # an empty sum
        raise InputError("cuBLAS is not asked for products with nothing to sum (k = 0)")
    device.enter()
    cublas = _threads.handle()
    cublas.set_stream(device.current_stream())
    if len(operands[2].shape) == 2:
        cublas.multiply(dtype, *map(matrices, operands))
        return
    for batch in batches(*operands):
        cublas.multiply_batch(dtype, *batch)


def check_shapes(a: DeviceArgument, b: DeviceArgument, out: DeviceArgument) -> None:
    """InputError where `a` and `b` have no product, or `out` has not its shape: cuBLAS is told of
    addresses alone, and would write beyond."""
    if min(len(a.shape), len(b.shape)) < 2 or a.shape[-1] != b.shape[-2]:
        raise InputError(f"there is no product of {a.shape} and {b.shape}")
    batch = a.shape[:-2]
    if batch != b.shape[:-2]:
        try:
            batch = np.broadcast_shapes(batch, b.shape[:-2])
        except ValueError:
            raise InputError(f"there is no product of {a.shape} and {b.shape}") from None
    product = (*batch, a.shape[-2], b.shape[-1])
    if out.shape != product:
        raise InputError(
            f"cuBLAS multiplies {a.shape} by {b.shape} into {product}, not into {out.shape}"
        )


class Matrices(NamedTuple):
    """A matrix, or `number` of one shape at even distances; strides in elements."""

    pointer: int
    rows: int
    columns: int
    row_stride: int
    column_stride: int
    batch_stride: int = 0
    number: int = 1


def batches(
    a: DeviceArgument, b: DeviceArgument, out: DeviceArgument
) -> Iterator[tuple[Matrices, Matrices, Matrices]]:
    """The product as products of evenly spaced matrices: cuBLAS has one batch axis, and those
    before it are looped over."""
    axes = out.shape[:-2]
    steps = [_batch_strides(operand, len(axes)) for operand in (a, b, out)]
    inner, number = _joined(axes, steps)
    for index in itertools.product(*map(range, axes[:inner])):
        parts = []
        for operand, strides in zip((a, b, out), steps, strict=True):
            offset = sum(i * stride for i, stride in zip(index, strides, strict=False))
            step = strides[-1] if number > 1 else 0
            parts.append(matrices(operand, offset, step, number))
        yield parts[0], parts[1], parts[2]


def _batch_strides(operand: DeviceArgument, rank: int) -> list[int]:
    """Strides in bytes of the leading axes, 0 where the operand is repeated along one."""
    missing = rank - len(operand.shape[:-2])
    own = [
        0 if extent == 1 else stride
        for extent, stride in zip(operand.shape[:-2], operand.strides[:-2], strict=True)
    ]
    return [0] * missing + own


def _joined(axes: Sequence[int], steps: Sequence[Sequence[int]]) -> tuple[int, int]:
    """How many leading axes have to be looped over, and how many matrices the rest hold at even
    distances in all operands."""
    first, number = len(axes) - 1, axes[-1]
    while first > 0 and all(
        strides[first - 1] == strides[first] * axes[first] for strides in steps
    ):
        first -= 1
        number *= axes[first]
    return first, number


def matrices(operand: DeviceArgument, offset: int = 0, step: int = 0, number: int = 1) -> Matrices:
    """The matrices of an operand from `offset` on, `step` apart, both in bytes."""
    itemsize = ITEMSIZE[operand.dtype]
    rows, columns = operand.shape[-2:]
    row_stride, column_stride = operand.strides[-2:]
    return Matrices(operand.pointer + offset, rows, columns, row_stride // itemsize,
                    column_stride // itemsize, step // itemsize, number)  # fmt: skip


def layout(matrices: Matrices) -> tuple[int, int]:
    """The operation and the leading dimension under which cuBLAS reads a matrix as its transpose,
    column by column. InputError where neither rows nor columns are contiguous."""
    _, rows, columns, row_stride, column_stride, *_ = matrices
    if (column_stride == 1 or columns == 1) and (row_stride >= columns or rows == 1):
        return NO_TRANSPOSE, max(row_stride if rows > 1 else columns, 1)
    if (row_stride == 1 or rows == 1) and (column_stride >= rows or columns == 1):
        return TRANSPOSE, max(column_stride if columns > 1 else rows, 1)
    raise InputError(
        f"cuBLAS takes matrices whose rows or columns are contiguous; got strides "
        f"({row_stride}, {column_stride}) for shape ({rows}, {columns})"
    )


def leading_of_output(out: Matrices) -> int:
    """The leading dimension under which cuBLAS writes a matrix. InputError for one whose rows are
    not contiguous."""
    operation, leading = layout(out)
    if operation == TRANSPOSE:
        raise InputError("cuBLAS writes matrices whose rows are contiguous; got out transposed")
    return leading


class _Handle:
    """cuBLAS on one thread. For cuBLAS a product is out.T = b.T @ a.T, all of them column-major."""

    def __init__(self) -> None:
        self._handle = c_void_p()  # what __del__ sees if there is no library
        library = _library()
        self._gemm, self._batched = library.cublasGemmEx, library.cublasGemmStridedBatchedEx
        self._set_stream, self._destroy = library.cublasSetStream_v2, library.cublasDestroy_v2
        _check("cublasCreate_v2", library.cublasCreate_v2(byref(self._handle)))
        _check("cublasSetMathMode", library.cublasSetMathMode(self._handle, MATH_MODE))

    def __del__(self) -> None:
        if self._handle:
            self._destroy(self._handle)

    def set_stream(self, stream: int) -> None:
        _check("cublasSetStream_v2", self._set_stream(self._handle, stream))

    def multiply(self, dtype: str, a: Matrices, b: Matrices, out: Matrices) -> None:
        """out = a @ b for single matrices."""
        data, compute, one, zero = TYPES[dtype]
        a_operation, a_leading = layout(a)
        b_operation, b_leading = layout(b)
        status = self._gemm(
            *(self._handle, b_operation, a_operation, b.columns, a.rows, a.columns, one),
            *(b.pointer, data, b_leading, a.pointer, data, a_leading),
            *(zero, out.pointer, data, leading_of_output(out), compute, DEFAULT_ALGORITHM),
        )
        _check("cublasGemmEx", status)

    def multiply_batch(self, dtype: str, a: Matrices, b: Matrices, out: Matrices) -> None:
        """out = a @ b for evenly spaced matrices."""
        data, compute, one, zero = TYPES[dtype]
        a_operation, a_leading = layout(a)
        b_operation, b_leading = layout(b)
        status = self._batched(
            *(self._handle, b_operation, a_operation, b.columns, a.rows, a.columns, one),
            *(b.pointer, data, b_leading, b.batch_stride),
            *(a.pointer, data, a_leading, a.batch_stride, zero),
            *(out.pointer, data, leading_of_output(out), out.batch_stride),
            *(out.number, compute, DEFAULT_ALGORITHM),
        )
        _check("cublasGemmStridedBatchedEx", status)


def _check(call: str, status: int) -> None:
    if status:
        raise CudaError(f"{call} failed with cublasStatus_t {status}")


class _Handles(threading.local):
    """A handle per thread, made when it is first asked for."""

    def handle(self) -> _Handle:
        if not hasattr(self, "_handle"):
            self._handle = _Handle()
        return self._handle


_threads = _Handles()


@functools.cache
def _library() -> ctypes.CDLL:
    """The installed cuBLAS; CudaError where none can be loaded."""
    tried = []
    for name in library_names():
        try:
            library = ctypes.CDLL(name)
        except OSError as error:
            tried.append(str(error))
            continue
        for call, argument_types in _SIGNATURES.items():
            function = getattr(library, call)
            function.argtypes, function.restype = argument_types, c_int
        return library
    raise CudaError(
        "cuBLAS cannot be loaded; install the CUDA toolkit or NVIDIA's package nvidia-cublas "
        f"({'; '.join(tried) or 'no libcublas was found'})"
    )


def library_names() -> list[str]:
    """Names and paths under which cuBLAS may be found: what the system finds, then what NVIDIA's
    Python packages brought (nvidia/cublas/lib, nvidia/cu13/lib)."""
    names = [ctypes.util.find_library("cublas"), "libcublas.so.13", "libcublas.so.12"]
    package = importlib.util.find_spec("nvidia")
    for directory in (package.submodule_search_locations or ()) if package else ():
        names += map(str, sorted(Path(directory).glob("*/lib/libcublas.so.*"), reverse=True))
    return list(dict.fromkeys(name for name in names if name))
