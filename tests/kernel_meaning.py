"""The meaning of kernels, in NumPy: what lowering and loop transformations are checked against.

In: a kernel and its arguments' flat arrays. Out: the same arrays, with what the kernel stores.
All iterations are done at once: a loop variable is an array of its values, rows along axis 0 and
the inner loops along axis 1.
"""

import numpy as np

from minicomp.ir import numpy_dtype
from minicomp.ir.ops import OPS
from minicomp.kernels import Apply, ConvolutionKernel, Literal, Load, LoopKernel, Position, Reduced
from minicomp.kernels.indexing import Element, Index, LoopVariable, Quotient
from minicomp.kernels.program import build_program
from minicomp.passes import optimize
from minicomp.passes.fuse import fuse
from minicomp.passes.materialize import materialize
from minicomp.passes.read_windows import read_windows


def program_outputs(
    graph, inputs, parameters, change=lambda kernel: kernel, windows_in_place=False
):
    """The outputs of a graph by the meaning of the kernels that it becomes, each `change`d."""
    named = {value.attributes["name"]: x for value, x in zip(graph.inputs, inputs)} | parameters
    graph = optimize(graph)
    graph = materialize(read_windows(graph) if windows_in_place else graph)
    outside = [value for value in graph if value.op in ("input", "parameter")]
    arrays = [named[value.attributes["name"]] for value in outside]
    return run_program(build_program(graph, fuse(graph)), arrays, change)


def run_program(program, arrays, change=lambda kernel: kernel):
    """The outputs of a program, its kernels done one after the other by their meaning. `arrays`
    are those of the inputs and parameters, contiguous."""
    memory, remaining = {}, iter(arrays)
    for number, buffer in enumerate(program.buffers):
        if buffer.role in ("input", "parameter"):
            memory[number] = np.ravel(next(remaining))
        elif buffer.role == "constant":
            memory[number] = np.ravel(buffer.array)
        else:
            memory[number] = np.zeros(buffer.size, numpy_dtype(buffer.dtype))
    for call in program.calls:
        run_kernel(change(call.kernel), [memory[number] for number in call.buffers])
    shapes = [program.buffers[number].shape for number in program.outputs]
    return [memory[n].reshape(shape) for n, shape in zip(program.outputs, shapes, strict=True)]


def run_kernel(kernel, buffers):
    """Do what a kernel says, to flat arrays."""
    with np.errstate(all="ignore"):
        if isinstance(kernel, LoopKernel):
            _LoopMeaning(kernel, buffers).run()
        elif isinstance(kernel, ConvolutionKernel):
            _run_convolution(kernel, buffers)
        else:
            _run_matmul(kernel, buffers)


def _grid(variables, shape):
    """The value of each loop variable at each iteration of a nest, in the given shape."""
    extents = [variable.extent for variable in variables]
    if not variables:
        return {}
    values = np.unravel_index(np.arange(np.prod(extents, dtype=int)), extents)
    return {v: value.reshape(shape) for v, value in zip(variables, values)}


class _LoopMeaning:
    def __init__(self, kernel, buffers):
        self.kernel, self.buffers = kernel, buffers
        self.values = _grid(kernel.outer, (-1, 1)) | _grid(kernel.inner, (1, -1))
        self.shape = (kernel.rows, kernel.row_size)
        # A row of its own for each row of the kernel, since rows may run in parallel.
        self.scratch = [
            np.zeros((kernel.rows, row.size), numpy_dtype(row.dtype)) for row in kernel.scratch
        ]
        self.finished = {}

    def run(self):
        for sweep in self.kernel.sweeps:
            point = _Point(self.values, self.buffers, self.scratch, self.finished)
            folded = {}
            for reduction in sweep.reductions:
                x = np.broadcast_to(point(reduction.scalar), self.shape)
                if reduction.op == "cumsum":
                    folded[reduction.number] = OPS["cumsum"].compute(x, axis=1)
                    point.finished = self.finished | folded
                else:
                    folded[reduction.number] = OPS[reduction.op].compute(x, (1,), True)
            self._store(point, sweep.stores, self.shape)
            self.finished |= folded
        point = _Point(self.values, self.buffers, self.scratch, self.finished)
        self._store(point, self.kernel.row_stores, (self.kernel.rows, 1))

    def _store(self, point, stores, shape):
        found = [
            (store.buffer, *(np.broadcast_to(x, shape) for x in point.place(store)))
            for store in stores
        ]
        for buffer, index, value in found:
            if buffer < len(self.buffers):
                assert len(np.unique(index)) == index.size, "an element is stored twice"
                self.buffers[buffer][index] = value
            else:
                rows = np.arange(self.kernel.rows)[:, None]
                self.scratch[buffer - len(self.buffers)][rows, index] = value


class _Point:
    """Scalars and indices at all iterations at once; see the module's docstring."""

    def __init__(self, values, buffers, scratch=(), finished=None):
        self.values, self.buffers, self.scratch = values, buffers, scratch
        self.finished = finished or {}
        self.done = {}

    def __call__(self, scalar):
        if id(scalar) not in self.done:
            self.done[id(scalar)] = np.asarray(self.evaluate(scalar), numpy_dtype(scalar.dtype))
        return self.done[id(scalar)]

    def place(self, store):
        return self.index(store.index), self(store.scalar)

    def evaluate(self, scalar):
        if isinstance(scalar, Literal):
            return scalar.value
        if isinstance(scalar, Position):
            return self.index(scalar.index)
        if isinstance(scalar, Load):
            index = self.index(scalar.index)
            if scalar.buffer < len(self.buffers):
                return self.buffers[scalar.buffer][index]
            rows = self.scratch[scalar.buffer - len(self.buffers)]
            return rows[np.arange(len(rows))[:, None], index]
        if isinstance(scalar, Reduced):
            return self.finished[scalar.number]
        if isinstance(scalar, Apply):
            attributes = {"dtype": scalar.dtype} if scalar.op == "cast" else {}
            return OPS[scalar.op].compute(*map(self, scalar.operands), **attributes)
        return self.finished["product"]

    def index(self, index: Index):
        total = np.int64(index.constant)
        for atom, coefficient in index.terms:
            total = total + coefficient * self.atom(atom)
        return np.asarray(total, np.int64)

    def atom(self, atom):
        if isinstance(atom, LoopVariable):
            return self.values[atom]
        if isinstance(atom, Element):
            entry = self(atom.scalar).astype(np.int64)
            assert ((-atom.extent <= entry) & (entry < atom.extent)).all()
            return np.where(entry < 0, entry + atom.extent, entry)
        numerator = self.index(atom.numerator)
        whole = isinstance(atom, Quotient)
        return numerator // atom.divisor if whole else numerator % atom.divisor


def _run_matmul(kernel, buffers):
    loops = (*kernel.batch, kernel.row, kernel.column)
    batch = tuple(loop.extent for loop in kernel.batch)
    m, n, k = kernel.row.extent, kernel.column.extent, kernel.depth

    def view(side, shape):
        flat = buffers[side.buffer][side.offset :]
        strides = (*side.batch_strides, side.row_stride, side.column_stride)
        places = sum(
            stride * position
            for stride, position in zip(strides, np.indices((*batch, *shape), sparse=True))
        )
        return buffers[side.buffer][side.offset + places] if flat.size else np.zeros(shape)

    product = view(kernel.a, (m, k)) @ view(kernel.b, (k, n))
    point = _Point(_grid(loops, (-1,)), buffers, finished={"product": product.ravel()})
    index, value = point.place(kernel.store)
    buffers[kernel.store.buffer][np.broadcast_to(index, product.size)] = value


def _run_convolution(kernel, buffers):
    images, filters = kernel.images, kernel.filters
    loops = kernel.loops
    shape = (*(loop.extent for loop in loops[:3]), images.channels, images.y.taps, images.x.taps)
    image, y, x, channel, tap_y, tap_x = np.indices(shape, sparse=True)
    place, is_inside = images.offset + image * images.image_stride, True
    place = place + channel * images.channel_stride
    for axis, output, tap in ((images.y, y, tap_y), (images.x, x, tap_x)):
        entry = axis.step * output + axis.dilation * tap - axis.padding
        is_inside = is_inside & (entry >= 0) & (entry < axis.size)
        place = place + np.clip(entry, 0, axis.size - 1) * axis.stride
    windows = np.where(is_inside, buffers[images.buffer][place], 0).reshape(-1, kernel.depth)
    k, n = np.indices((kernel.depth, kernel.filter.extent), sparse=True)
    place = filters.offset + k * filters.row_stride + n * filters.column_stride
    product = windows @ buffers[filters.buffer][place]
    point = _Point(_grid(loops, (-1,)), buffers, finished={"product": product.ravel()})
    index, value = point.place(kernel.store)
    buffers[kernel.store.buffer][np.broadcast_to(index, product.size)] = value
