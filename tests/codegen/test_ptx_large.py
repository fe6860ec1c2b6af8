"""What is larger than usual: tensors of more than 2**31 elements or rows, of which no index, limit
or offset is cut to 32 bits; and more reductions in a kernel than shared memory has room for.

Nobody has such tensors here. A kernel's last block is run alone, as if it were the first, on
buffers that hold what that block touches and nothing else: whatever it computes its addresses from,
they lead there or the simulator stops it.
"""

import re
from dataclasses import replace

import numpy as np
import pytest

from minicomp.codegen.ptx_kernel import GpuTarget
from minicomp.codegen.ptx_loops import emit_loop_kernel
from minicomp.codegen.ptx_schedule import GpuLoopSchedule, partial_bytes, schedule_loops
from minicomp.ir import ITEMSIZE, Graph, TensorType, numpy_dtype
from minicomp.ir.ops import make
from minicomp.kernels.program import build_program
from minicomp.passes.fuse import fuse
from minicomp.simulator import Simulator

TARGET = GpuTarget("sm_90a", multiprocessors=132)


def kernel_of(op, shape, dtype, **attributes):
    """The one kernel of a graph of one op."""
    x = make("input", (), {"name": "x", "type": TensorType(shape, dtype, "cuda")})
    y = make(op, (x,), attributes)
    graph = Graph("large", (x, y), (y,))
    (call,) = build_program(graph, fuse(graph)).calls
    return call.kernel


def last_block(kernel, schedule, tail, written):
    """Run the last block. `tail` are the last elements of the input, all that the block reads; it
    writes the last `written` elements of the output, which are given back."""
    emitted = emit_loop_kernel(kernel, schedule, TARGET)
    number = emitted.grid[0] - 1
    text, count = re.subn(r"(mov\.u32 \S+), %ctaid\.x;", rf"\1, {number};", emitted.text)
    assert count == 1
    device = Simulator()
    buffers = [tail, np.empty(written, numpy_dtype(kernel.arguments[1].dtype))]
    pointers = []
    for argument, buffer in zip(kernel.arguments, buffers):
        missing = argument.size - buffer.size
        pointer = device.allocate(buffer.nbytes)
        pointers.append(pointer - missing * ITEMSIZE[argument.dtype])
        if buffer is tail:
            device.write(pointer, buffer)
    device.launch(device.load(text), emitted.name, 1, emitted.block, [p % 2**64 for p in pointers])
    return device.read(pointer, buffers[1].nbytes).view(buffers[1].dtype)


@pytest.mark.parametrize("rows", [2**31 + 1, 2**32 + 2, 2**33 + 3])
def test_rows_of_teams_of_threads(rows):
    kernel = kernel_of("sum", (rows, 4), "float32", axes=(1,), keepdims=False)
    schedule = GpuLoopSchedule("inner", 4, threads=128, team=1)
    tail = np.arange(4 * (rows % 128), dtype=np.float32)
    totals = last_block(kernel, schedule, tail, rows % 128)
    np.testing.assert_array_equal(totals, tail.reshape(-1, 4).sum(axis=1))


@pytest.mark.parametrize("columns", [2**31 + 4, 2**32 + 8, 2**33 + 12])
def test_columns_of_a_thread_each(columns):
    kernel = kernel_of("neg", (columns,), "float32")
    tail = np.arange(columns % 1024, dtype=np.float32)
    result = last_block(kernel, GpuLoopSchedule("outer", 4, threads=256), tail, columns % 1024)
    np.testing.assert_array_equal(result, -tail)


@pytest.mark.parametrize("shape, axis", [((100_000, 32), 1), ((1 << 20, 4), 0), ((40, 300, 40), 1)])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("count", [1, 3, 6])
def test_all_reductions_of_a_kernel_fit_into_shared_memory(shape, axis, dtype, count):
    kernel = kernel_of_reductions(shape, axis, dtype, count)
    assert sum(len(sweep.reductions) for sweep in kernel.sweeps) == count
    schedule = schedule_loops(kernel, TARGET)
    text = emit_loop_kernel(kernel, schedule, TARGET).text
    declared = re.findall(r"\.shared .* \w+\[(\d+)\];", text)
    assert sum(map(int, declared)) == partial_bytes(kernel, schedule) <= 48 * 1024


def kernel_of_reductions(shape, axis, dtype, count):
    """The kernel of `count` reductions along one axis, of one value that it computes."""
    x = make("input", (), {"name": "x", "type": TensorType(shape, dtype, "cuda")})
    ops = ("argmax", "sum", "argmin", "max", "min", "prod")[:count]
    y = make("neg", (x,), {})
    outputs = tuple(make(op, (y,), {"axes": (axis,), "keepdims": False}) for op in ops)
    graph = Graph("reductions", (x, y, *outputs), outputs)
    kernel = build_program(graph, fuse(graph)).calls[0].kernel
    aligned = tuple(replace(argument, alignment=256) for argument in kernel.arguments)
    return replace(kernel, arguments=aligned)


def test_the_text_multiplies_by_one_nowhere():
    kernel = kernel_of("neg", (1000,), "float32")
    text = emit_loop_kernel(kernel, GpuLoopSchedule("outer", 1, threads=256), TARGET).text
    assert not re.search(r"(mad|mul)\.\w+\.\w+ \S+ \S+ 1[,;]", text)
