"""Graphs run on the PTX simulator or a GPU (see `ptx_device`), kernel by kernel, as the compiler
would run them.

In: a graph and its inputs, of any strides. Out: the graph's outputs. The simulator stops at reads
and writes outside a buffer, at reads of what was never written, at misaligned accesses, at races.
A matrix product, which is no loop kernel, is computed by its meaning.

    results = run_on_simulator(graph, arrays)
    results = run_on_simulator(graph, arrays, lambda kernel, target: GpuLoopSchedule("inner", 4))
"""

from dataclasses import replace
from math import gcd

import numpy as np
from error_bounds import assert_computes
from kernel_meaning import run_kernel
from op_graphs import OpGraph
from ptx_device import new_device
from special_values import assert_same_bits

from minicomp.codegen.ptx_kernel import GpuTarget
from minicomp.codegen.ptx_loops import emit_loop_kernel
from minicomp.codegen.ptx_schedule import is_scan, schedule_loops
from minicomp.ir import numpy_dtype
from minicomp.ir.interpreter import interpret_flat
from minicomp.kernels import LoopKernel
from minicomp.kernels.program import build_program
from minicomp.passes import optimize
from minicomp.passes.fuse import fuse
from minicomp.passes.materialize import materialize
from minicomp.passes.split_reductions import split_reductions

TARGET = GpuTarget("sm_90a", multiprocessors=4)
#: What the pool aligns buffers to.
ALIGNMENT = 256


class Status(Exception):
    """A kernel has reported an index out of range."""


def program_of(graph, inputs=None, parameters=None):
    """The program of a graph, as the compiler makes it, and the arrays that it is given; without
    `inputs`, for contiguous ones."""
    graph = materialize(split_reductions(optimize(graph)))
    if inputs is None:
        return build_program(graph, fuse(graph)), []
    names = {value.attributes["name"]: x for value, x in zip(graph.inputs, inputs)}
    names |= parameters or {}
    outside = [value for value in graph.values if value.op in ("input", "parameter")]
    arrays = [names[value.attributes["name"]] for value in outside]
    return build_program(graph, fuse(graph), arrays), arrays


def run_on_simulator(graph, inputs, schedule=schedule_loops, parameters=None, displaced=0):
    """See the module's docstring; `displaced` moves inputs by that many elements in memory."""
    program, arrays = program_of(graph, inputs, parameters)
    memory = DeviceMemory(program, arrays, displaced)
    for call in program.calls:
        if isinstance(call.kernel, LoopKernel):
            kernel = aligned(call.kernel, [memory.alignments[n] for n in call.buffers])
            launch(memory, emit_loop_kernel(kernel, schedule(kernel, TARGET), TARGET), call.buffers)
        else:
            memory.compute(call)
    for number, buffer in enumerate(program.buffers):
        if buffer.role == "status" and memory.array(number).any():
            raise Status
    return [memory.array(number) for number in program.outputs]


def launch(memory, emitted, buffers):
    device = memory.device
    pointers = [memory.pointers[number] for number in buffers]
    module = device.load(emitted.text)
    return device.launch(
        module, emitted.name, emitted.grid, emitted.block, pointers, emitted.shared_bytes
    )


def aligned(kernel, alignments):
    """The kernel for buffers that are known to be aligned so, in bytes."""
    pairs = zip(kernel.arguments, alignments, strict=True)
    return replace(kernel, arguments=tuple(replace(a, alignment=n) for a, n in pairs))


def check(graph: OpGraph, schedule=schedule_loops, *, exact=False, displaced=0):
    """What the graph's kernels compute is what the interpreter says: within the bounds of
    rounding errors, or `exact`ly, to the bit."""
    results = run_on_simulator(
        graph.graph, graph.arrays, schedule, graph.parameters, displaced=displaced
    )
    assert_computes(graph.graph, results, graph.arrays)
    if exact:
        for result, expected in zip(results, interpret_flat(graph.graph, graph.arrays)):
            assert_same_bits(result, expected)


class DeviceMemory:
    """The buffers of a program on a simulated device, and what their pointers are aligned to."""

    def __init__(self, program, arrays, displaced=0):
        self.program, self.device = program, new_device()
        self.pointers, self.alignments = [], []
        remaining = iter(arrays)
        for buffer in program.buffers:
            if buffer.role in ("input", "parameter"):
                self._upload(next(remaining), displaced)
                continue
            pointer = self.device.allocate(max(buffer.nbytes, 1))
            self.pointers.append(pointer)
            self.alignments.append(ALIGNMENT)
            if buffer.array is not None:
                self.device.write(pointer, buffer.array)
            elif buffer.role == "status":
                self.device.write(pointer, np.zeros(1, np.int32))

    def _upload(self, array, displaced):
        """An input with its very strides. What lies between its elements is never written."""
        steps = [((n - 1) * stride if n else 0) for n, stride in zip(array.shape, array.strides)]
        below = sum(min(step, 0) for step in steps)
        above = sum(max(step, 0) for step in steps) + array.itemsize
        start = displaced * array.itemsize
        base = self.device.allocate(above - below + start)
        pointer = base + start - below
        if array.flags.c_contiguous:
            self.device.write(pointer, array)
        else:
            for index in np.ndindex(array.shape):
                offset = sum(i * stride for i, stride in zip(index, array.strides))
                self.device.write(pointer + offset, np.array(array[index]))
        self.pointers.append(pointer)
        # All that a user's pointer tells, up to what an access can use.
        self.alignments.append(min(pointer & -pointer, 16))

    def array(self, number):
        """The contents of a buffer of the program's own."""
        buffer = self.program.buffers[number]
        dtype = numpy_dtype(buffer.dtype)
        if buffer.role in ("input", "parameter"):
            raise AssertionError("an input is not read back")
        raw = self.device.read(self.pointers[number], buffer.nbytes)
        return raw.view(dtype).reshape(buffer.shape)

    def compute(self, call):
        """A kernel done by its meaning: buffers come to the host and go back."""
        arrays = [self._flat(number) for number in call.buffers]
        run_kernel(call.kernel, arrays)
        for number, argument, array in zip(call.buffers, call.kernel.arguments, arrays):
            if argument.written:
                self.device.write(self.pointers[number], array)

    def _flat(self, number):
        buffer = self.program.buffers[number]
        raw = self.device.read(self.pointers[number], buffer.nbytes)
        return np.array(raw.view(numpy_dtype(buffer.dtype)))


def fitting(kernel, schedule):
    """The schedule as it can be had for a kernel: no more lanes than divide the loop that they go
    along, and along the results where there is no row. A column is scanned by one thread."""
    axis = schedule.axis if kernel.inner else "outer"
    if axis == "outer" and is_scan(kernel):
        schedule = replace(schedule, team=1)
    loops = kernel.inner if axis == "inner" else kernel.outer
    extent = loops[-1].extent if loops else 1
    return replace(schedule, axis=axis, vector=gcd(schedule.vector, extent))
