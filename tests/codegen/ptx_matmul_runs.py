"""Matrix products run on the PTX simulator, or on a GPU (see `ptx_device`).

In: a `MatmulKernel`, a schedule, buffers. Out: the output's buffer filled in, and the simulator's
report of the product. The simulator stops at accesses outside a buffer, at reads of what was never
written (of operands, what lies between their elements is not), at misaligned accesses and at races.
"""

from dataclasses import replace

import numpy as np
from matmul_kernels import assert_is_product, random_buffers, shapes
from ptx_device import new_device

from minicomp.codegen.ptx_kernel import GpuTarget
from minicomp.codegen.ptx_loops import emit_loop_kernel
from minicomp.codegen.ptx_matmul import emit_matmul
from minicomp.codegen.ptx_matmul_parts import sum_of_parts, workspace_bytes
from minicomp.codegen.ptx_schedule import schedule_loops
from minicomp.kernels.indexing import row_major_strides

TARGET = GpuTarget("sm_90a", multiprocessors=132, shared_bytes=227 * 1024)
SMALLER = GpuTarget("sm_80", multiprocessors=108, shared_bytes=163 * 1024)
#: What the operands of a TF32 product are rounded with.
TF32_ROUNDOFF = 2.0**-11


def run(kernel, schedule, buffers, displaced=0, parts=None):
    """Emit and launch the kernel on these buffers, which lie `displaced` bytes behind multiples of
    256. `parts` is filled in with the workspace of a product in parts."""
    first, *rest = emitted(kernel, schedule)
    if not first.blocks:
        return None
    device = new_device()
    pointers = []
    for number, buffer in enumerate(buffers):
        pointer = device.allocate(buffer.nbytes + displaced) + displaced
        _upload(device, pointer, kernel, number, buffer)
        pointers.append(pointer)
    if rest:
        pointers.append(device.allocate(workspace_bytes(kernel, schedule.depth_blocks)))
    report = _launch(device, first, pointers)
    for added_up in rest:
        _launch(device, added_up, pointers)
    if parts is not None:
        parts[:] = device.read(pointers[-1], parts.nbytes).view(parts.dtype)
    for argument, pointer, buffer in zip(kernel.arguments, pointers, buffers):
        if argument.written:
            buffer[:] = device.read(pointer, buffer.nbytes).view(buffer.dtype)
    return report


def emitted(kernel, schedule, target=TARGET):
    """The kernels that do the product, in order."""
    product = emit_matmul(kernel, schedule, target)
    if schedule.depth_blocks == 1:
        return [product]
    added_up = sum_of_parts(kernel, schedule.depth_blocks)
    return [product, emit_loop_kernel(added_up, schedule_loops(added_up, target), target)]


def _launch(device, kernel, pointers):
    module = device.load(kernel.text)
    return device.launch(
        module, kernel.name, kernel.grid, kernel.block, pointers, kernel.shared_bytes
    )


def _upload(device, pointer, kernel, number, buffer):
    """A buffer; of an operand only the elements that it has."""
    view = {kernel.a.buffer: kernel.a, kernel.b.buffer: kernel.b}.get(number)
    if view is None or number > 1:
        device.write(pointer, buffer)
        return
    shape = shapes(kernel)[number]
    strides = (*view.batch_strides, view.row_stride, view.column_stride)
    if tuple(strides) == row_major_strides(shape) and view.offset == 0:
        device.write(pointer, buffer)
        return
    positions = np.zeros(shape, np.int64) + view.offset
    for axis, stride in enumerate(strides):
        places = np.arange(shape[axis]).reshape(-1, *[1] * (len(shape) - axis - 1))
        positions = positions + places * stride
    for first, last in _stretches(np.unique(positions)):
        device.write(pointer + first * buffer.itemsize, buffer[first : last + 1])


def _stretches(positions):
    """(first, last) of each stretch of consecutive numbers."""
    if not len(positions):
        return []
    breaks = np.flatnonzero(np.diff(positions) != 1)
    firsts = positions[np.concatenate(([0], breaks + 1))]
    lasts = positions[np.concatenate((breaks, [len(positions) - 1]))]
    return zip(firsts.tolist(), lasts.tolist())


def roundoff(kernel, schedule):
    """What the schedule rounds operands with."""
    is_tf32 = schedule.family == "mma" and kernel.arguments[kernel.a.buffer].dtype == "float32"
    return TF32_ROUNDOFF if is_tf32 else 0.0


def check(kernel, schedule, displaced=0):
    """The schedule computes the kernel's product. Gives the simulator's report."""
    buffers = random_buffers(kernel)
    report = run(kernel, schedule, buffers, displaced)
    assert_is_product(kernel, buffers, roundoff(kernel, schedule))
    return report


def aligned(kernel, alignment):
    """The kernel with buffers that are known to be aligned so, in bytes."""
    arguments = tuple(replace(argument, alignment=alignment) for argument in kernel.arguments)
    return replace(kernel, arguments=arguments)
