import numpy as np
import pytest

import minicomp
from minicomp.errors import CudaError, InputError
from minicomp.runtime.cuda.cublas import (
    NO_TRANSPOSE,
    TRANSPOSE,
    Matrices,
    batches,
    check_shapes,
    layout,
    leading_of_output,
    library_names,
    matmul,
)
from minicomp.runtime.cuda.driver import driver
from minicomp.runtime.cuda.interface import DeviceArgument, contiguous_strides
from minicomp.selection.identity import identify

#: dtype -> unit roundoff of the stored product
ROUNDOFF = {"float32": 2.0**-24, "float64": 2.0**-53, "float16": 2.0**-11, "bfloat16": 2.0**-8}


def matrix(rows, columns, row_stride, column_stride):
    return Matrices(0x1000, rows, columns, row_stride, column_stride)


@pytest.mark.parametrize(
    ("matrices", "expected"),
    [
        (matrix(3, 4, 4, 1), (NO_TRANSPOSE, 4)),
        (matrix(3, 4, 9, 1), (NO_TRANSPOSE, 9)),  # some columns of a wider matrix
        (matrix(3, 4, 1, 3), (TRANSPOSE, 3)),
        (matrix(3, 4, 1, 8), (TRANSPOSE, 8)),
        (matrix(1, 4, 4, 1), (NO_TRANSPOSE, 4)),
        (matrix(1, 4, 0, 1), (NO_TRANSPOSE, 4)),  # the stride of a single row means nothing
        (matrix(1, 4, 9, 5), (TRANSPOSE, 5)),  # a column of a wider matrix, as a row
        (matrix(4, 1, 1, 0), (NO_TRANSPOSE, 1)),
        (matrix(4, 1, 6, 7), (NO_TRANSPOSE, 6)),
    ],
)
def test_layouts_that_cublas_reads(matrices, expected):
    assert layout(matrices) == expected


@pytest.mark.parametrize("strides", [(8, 2), (0, 1), (2, 8), (-4, 1), (0, 0)])
def test_other_layouts_are_refused(strides):
    with pytest.raises(InputError, match="whose rows or columns are contiguous; got strides"):
        layout(matrix(3, 4, *strides))


def described(shape, strides=None):
    strides = strides or contiguous_strides(shape, 4)
    return DeviceArgument(0, shape, strides, "float32", False, None, False)


@pytest.mark.parametrize(
    ("a_shape", "b_shape", "calls", "steps"),
    [
        ((4, 2, 3), (4, 3, 5), 1, (6, 15, 10)),
        ((6, 4, 2, 3), (6, 4, 3, 5), 1, (6, 15, 10)),  # two axes that lie as one
        ((6, 4, 2, 3), (3, 5), 1, (6, 0, 10)),
        ((6, 4, 2, 3), (4, 3, 5), 6, (6, 15, 10)),
        ((6, 1, 2, 3), (1, 4, 3, 5), 6, (0, 15, 10)),
    ],
)
def test_batch_axes_become_one_where_they_lie_evenly(a_shape, b_shape, calls, steps):
    batch = np.broadcast_shapes(a_shape[:-2], b_shape[:-2])
    operands = [described(shape) for shape in (a_shape, b_shape, (*batch, 2, 5))]
    found = list(batches(*operands))
    assert len(found) == calls
    assert all(tuple(part.batch_stride for part in parts) == steps for parts in found)
    assert all(part.number * calls == np.prod(batch) for parts in found for part in parts)
    starts = [out.pointer for *_, out in found]
    assert starts == [call * 4 * 10 * found[0][2].number for call in range(calls)]


@pytest.mark.parametrize(
    ("a", "b", "out"),
    [
        ((2, 3), (3, 5), (2, 4)),
        ((2, 3), (3, 5), (10,)),
        ((2, 3), (3, 5), (1, 2, 5)),
        ((4, 2, 3), (3, 5), (2, 5)),
    ],
)
def test_an_output_of_another_shape_is_refused(a, b, out):
    with pytest.raises(InputError, match=r"cuBLAS multiplies .* by .* into .*, not into"):
        check_shapes(described(a), described(b), described(out))


@pytest.mark.parametrize(
    ("a", "b"), [((2, 3), (4, 5)), ((3,), (3, 5)), ((), ()), ((4, 2, 3), (3, 3, 5))]
)
def test_operands_without_a_product_are_refused(a, b):
    with pytest.raises(InputError, match="there is no product of"):
        check_shapes(described(a), described(b), described((2, 5)))


def test_shapes_that_fit():
    check_shapes(described((2, 3)), described((3, 5)), described((2, 5)))
    check_shapes(described((4, 1, 2, 3)), described((6, 3, 5)), described((4, 6, 2, 5)))


def test_an_output_is_written_row_by_row():
    assert leading_of_output(matrix(3, 4, 9, 1)) == 9
    with pytest.raises(InputError, match="writes matrices whose rows are contiguous"):
        leading_of_output(matrix(3, 4, 1, 3))


def test_the_external_is_for_cuda_and_floats_and_can_be_remembered():
    external = minicomp.externals.cublas_matmul
    assert (external.name, external.devices, external.batched) == ("cublas_matmul", ("cuda",), True)
    assert set(external.dtypes) == {"float16", "bfloat16", "float32", "float64"}
    assert identify(external.callable) is not None


def test_without_a_gpu_it_says_so(simulator):
    a = minicomp.cuda.to_device(np.ones((2, 2), np.float32))
    with pytest.raises(CudaError, match="cuBLAS runs on a GPU, and the simulator is in use"):
        minicomp.externals.cublas_matmul(a, a, a)


def test_nvidias_packages_are_looked_in(tmp_path, monkeypatch):
    library = tmp_path / "nvidia" / "cublas" / "lib" / "libcublas.so.12"
    library.parent.mkdir(parents=True)
    library.touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert str(library) in library_names()


# --- products, on a GPU ---


def operand(*shape, dtype, seed=0):
    from minicomp.ir import numpy_dtype

    return np.random.default_rng(seed).normal(size=shape).astype(numpy_dtype(dtype))


def check(a, b, dtype, out_shape):
    """The product of two device arrays, against float64."""
    out = driver().empty(out_shape, dtype)
    matmul(a, b, out)
    x, y = (driver().to_host(array).astype(np.float64) for array in (a, b))
    difference = np.abs(driver().to_host(out).astype(np.float64) - x @ y)
    accumulated = 2.0**-24 if dtype != "float64" else 2.0**-53
    bound = ROUNDOFF[dtype] * np.abs(x @ y) + x.shape[-1] * accumulated * (np.abs(x) @ np.abs(y))
    assert (difference <= bound).all()


@pytest.mark.parametrize("dtype", ROUNDOFF)
@pytest.mark.parametrize("m, n, k", [(64, 48, 32), (1, 7, 300), (33, 1, 17), (127, 129, 65)])
def test_products_of_every_dtype(gpu, dtype, m, n, k):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    a, b = operand(m, k, dtype=dtype), operand(k, n, dtype=dtype, seed=1)
    check(gpu.to_device(a), gpu.to_device(b), dtype, (m, n))


def view(gpu, array, key):
    """The device view that `key` makes of a device array of NumPy's."""
    moved = gpu.to_device(array)
    part = eval(f"x{key}", {"x": array})
    start = part.__array_interface__["data"][0] - array.__array_interface__["data"][0]
    return gpu.view(moved, int(moved.gpudata) + start, part.shape, array.dtype.name, part.strides)


@pytest.mark.parametrize("a_key", ["", "[:, 3:40]", "[2:20]"])
def test_sliced_and_transposed_operands(gpu, a_key):
    a = view(gpu, operand(50, 64, dtype="float32"), a_key)
    rows, depth = a.shape
    b = view(gpu, operand(24, depth, dtype="float32", seed=1), ".T")
    check(a, b, "float32", (rows, 24))
    transposed = view(gpu, operand(depth, rows, dtype="float32", seed=2), ".T")
    check(transposed, b, "float32", (rows, 24))


@pytest.mark.parametrize(
    ("a_shape", "b_shape"),
    [((4, 8, 9), (4, 9, 5)), ((2, 3, 8, 9), (2, 3, 9, 5)), ((8, 9), (4, 9, 5)),
     ((2, 3, 8, 9), (3, 9, 5)), ((2, 1, 8, 9), (1, 3, 9, 5)), ((4, 8, 9), (9, 5))],
)  # fmt: skip
def test_batches_and_broadcasts(gpu, a_shape, b_shape):
    a = gpu.to_device(operand(*a_shape, dtype="float32"))
    b = gpu.to_device(operand(*b_shape, dtype="float32", seed=1))
    batch = np.broadcast_shapes(a_shape[:-2], b_shape[:-2])
    check(a, b, "float32", (*batch, a_shape[-2], b_shape[-1]))


def test_float32_is_not_rounded_to_tf32(gpu):
    a = gpu.to_device(np.full((256, 256), 1 + 2.0**-20, np.float32))
    out = gpu.empty((256, 256), "float32")
    matmul(a, gpu.to_device(np.eye(256, dtype=np.float32)), out)
    assert (gpu.to_host(out) == np.float32(1 + 2.0**-20)).all()


def test_it_runs_on_the_stream_in_use(gpu):
    import pycuda.driver

    stream = pycuda.driver.Stream()
    with minicomp.cuda.stream(stream):
        a = gpu.to_device(operand(512, 512, dtype="float32"))
        check(a, a, "float32", (512, 512))
