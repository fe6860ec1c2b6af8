"""Packing: every element of a panel, padding included, whatever the operand's strides."""

from __future__ import annotations

import ctypes
import re

import numpy as np
import pytest
from llvmlite import ir

from minicomp.codegen.llvm_packing import emit_packer
from minicomp.codegen.matmul_plan import Operand
from minicomp.runtime.jit import compile_ir


def pack(matrix: np.ndarray, width: int, vector_width: int) -> np.ndarray:
    """A panel of that width, of all lanes and all the depth of a matrix [lanes, depth]."""
    lanes, depth = matrix.shape
    dtype, itemsize = matrix.dtype.name, matrix.itemsize
    strides = [stride // itemsize for stride in matrix.strides]
    source = Operand(dtype, dtype, *strides, itemsize)
    alignment = vector_width * itemsize if width % vector_width == 0 else itemsize
    panel = Operand(dtype, dtype, 1, width, alignment, padded=True)
    module = ir.Module()
    emit_packer(module, "pack", source, panel, lanes, vector_width).linkage = ""
    library = compile_ir(str(module), ["pack"], use_disk_cache=False)
    memory = np.full(depth * width + 16, np.nan, matrix.dtype)  # on a line, and a line to spare
    start = -memory.ctypes.data % 64 // itemsize
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    kind(library.address("pack"))(matrix.ctypes.data, memory[start:].ctypes.data, depth)
    assert np.isnan(memory[:start]).all() and np.isnan(memory[start + depth * width :]).all()
    return memory[start : start + depth * width].reshape(depth, width)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", ["lanes", "depth", "neither"])
@pytest.mark.parametrize(
    ("lanes", "width", "vector_width"),
    [(32, 32, 16), (21, 32, 16), (5, 16, 16), (8, 16, 16), (12, 12, 16), (7, 7, 8), (3, 4, 4)],
)
def test_a_panel_holds_the_lanes_side_by_side_and_zeros(dtype, layout, lanes, width, vector_width):
    random, depth = np.random.default_rng(0), 37
    matrix = random.standard_normal((lanes, depth)).astype(dtype)
    if layout == "lanes":
        matrix = np.asfortranarray(matrix)
    elif layout == "neither":
        matrix = np.repeat(matrix, 2, axis=1)[:, ::2]
    panel = pack(matrix, width, vector_width)
    np.testing.assert_array_equal(panel[:, :lanes], matrix.T)
    np.testing.assert_array_equal(panel[:, lanes:], 0)


@pytest.mark.parametrize(("distance", "together"), [(512, 8), (513, 16), (1024, 8), (1000, 16)])
def test_rows_that_fall_into_one_set_of_the_cache_are_transposed_by_eight(distance, together):
    source = Operand("float32", "float32", distance, 1, 4)
    panel = Operand("float32", "float32", 1, 32, 64, padded=True)
    module = ir.Module()
    emit_packer(module, "pack", source, panel, 32, 16)
    stores = re.findall(r"store <(\d+) x float>", str(module))
    assert set(stores) == {str(together)}
