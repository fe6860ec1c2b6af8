"""Loop kernels run under a schedule of the test's choice.

In: a graph, its inputs, and a LoopSchedule. Out: the graph's outputs, each kernel having been
compiled for that schedule and run in uneven portions of its parallel units, out of order. Around
every buffer there are bytes that nothing may change.
"""

import ctypes
from dataclasses import replace

import numpy as np

from minicomp.codegen.llvm_loops import emit_loop_kernel
from minicomp.codegen.loop_schedule import keep_rows, units
from minicomp.codegen.row_divisions import multiply_by_reciprocals
from minicomp.kernels import LoopKernel, LoopSchedule
from minicomp.kernels.memory import ALIGNMENT
from minicomp.kernels.program import Alignments, build_program
from minicomp.passes import optimize
from minicomp.passes.fuse import fuse
from minicomp.passes.materialize import materialize
from minicomp.runtime.cpu import address_of
from minicomp.runtime.cpu_backend import CpuStepwiseRun
from minicomp.runtime.jit import compile_ir
from minicomp.runtime.target import host_target

MARGIN = 64
FILL = 0xA5


def program_of(graph, inputs=(), parameters=None):
    """The program of a graph, as the compiler makes it, and the arrays that it is given."""
    graph = materialize(optimize(graph))
    names = {value.attributes["name"]: x for value, x in zip(graph.inputs, inputs)}
    names |= parameters or {}
    outside = [value for value in graph.values if value.op in ("input", "parameter")]
    arrays = [names[value.attributes["name"]] for value in outside]
    return build_program(graph, fuse(graph), arrays, Alignments(own=ALIGNMENT)), arrays


def scheduled(kernel, schedule):
    """The kernel and schedule as they can go together: without inner loops there is no inner axis
    to put lanes along, and rows are kept, and done side by side, along the inner axis only. Tiles
    take a kernel without folds, and lie along an outer loop that is not the last."""
    kernel = multiply_by_reciprocals(kernel)
    is_pointwise = not kernel.inner and not kernel.sweeps
    if not is_pointwise or schedule.tile not in {loop.name for loop in kernel.outer[:-1]}:
        schedule = replace(schedule, tile="")
    if schedule.vector_axis == "inner" and not kernel.inner:
        return kernel, replace(schedule, vector_axis="outer", rows=1)
    return (keep_rows(kernel) if schedule.vector_axis == "inner" else kernel), schedule


def run_scheduled(graph, inputs, schedule: LoopSchedule, target=None, parameters=None):
    """The outputs of a graph without float products."""
    target = target or host_target()
    program, arrays = program_of(graph, inputs, parameters)
    run = _GuardedRun(program, arrays)
    for call in program.calls:
        assert isinstance(call.kernel, LoopKernel)
        kernel, fitting = scheduled(call.kernel, schedule)
        library = compile_ir(emit_loop_kernel(kernel, fitting, target), [kernel.name], target)
        pointers = np.array([address_of(run.array(n)) for n in call.buffers], np.int64)
        for begin, end in _portions(units(kernel, fitting)):
            _call(library.address(kernel.name), pointers, begin, end)
    run.check()
    return [np.array(run.array(number)) for number in program.outputs]


def _portions(count):
    """[0, count) in up to three uneven pieces, the last one first."""
    first, second = count // 3, count // 2
    return [(second, count), (0, first), (first, second)]


def _call(address, pointers, begin, end):
    kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(address)
    kernel(address_of(pointers), begin, end)


class _GuardedRun(CpuStepwiseRun):
    """Its own buffers lie between margins, and are full of rubbish before they are written."""

    def __init__(self, program, arrays):
        super().__init__(program, arrays, [], threads=1)
        self.raw = []

    def array(self, number):
        if number not in self.memory:
            buffer = self.program.buffers[number]
            if buffer.array is not None:
                return super().array(number)
            raw = np.full(buffer.nbytes + ALIGNMENT + 2 * MARGIN, FILL, np.uint8)
            raw = raw[-address_of(raw) % ALIGNMENT :][: buffer.nbytes + 2 * MARGIN]
            inside = raw[MARGIN : MARGIN + buffer.nbytes]
            if buffer.role == "status":
                inside[:] = 0
            self.raw.append(raw)
            self.memory[number] = inside.view(buffer.dtype).reshape(buffer.shape)
        return self.memory[number]

    def check(self):
        """Nothing was written outside a buffer, and no index was out of range."""
        for raw in self.raw:
            assert (raw[:MARGIN] == FILL).all()
            assert (raw[-MARGIN:] == FILL).all()
        for number, buffer in enumerate(self.program.buffers):
            assert buffer.role != "status" or self.array(number) == 0
