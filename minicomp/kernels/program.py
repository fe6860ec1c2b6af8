"""The program: kernels in order, and the buffers they work on.

In: a graph's clusters and the strides of its inputs. Out: a `Program`, which the runtime can
execute: a list of buffers (inputs, parameters, constants, temporaries, outputs), and a list of
calls, each a kernel with the numbers of the buffers it is given.

    0 x          input      float32[128]
    1 weight     parameter  float32[512]
    2 out        output     float32[64]
    matmul_relu(0, 1, 2)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from minicomp.ir import ITEMSIZE, Graph, TensorType, Value
from minicomp.ir.ops import kind, make
from minicomp.kernels import Kernel
from minicomp.kernels.indexing import row_major_strides
from minicomp.kernels.lowering import STATUS, Cluster, Placement, contiguous, lower
from minicomp.kernels.memory import LARGE_BYTES


@dataclass(frozen=True, eq=False)
class Buffer:
    """One piece of memory of a program.

    `role` is "input", "parameter", "constant", "temporary", "output" or "status". For an input or
    output `position` is its place in the call; a constant has its `array`. `size` in elements.
    """

    name: str
    role: str
    dtype: str
    shape: tuple[int, ...]
    size: int
    position: int = -1
    array: np.ndarray | None = None

    @property
    def nbytes(self) -> int:
        return self.size * ITEMSIZE[self.dtype]


@dataclass(frozen=True, eq=False)
class Call:
    """One kernel on some buffers. `cluster` is the tensor IR that it computes."""

    kernel: Kernel
    buffers: tuple[int, ...]
    cluster: Cluster

    def __str__(self) -> str:
        return f"{self.kernel.name}({', '.join(map(str, self.buffers))})"


@dataclass(frozen=True)
class Alignments:
    """Where buffers are known to begin, in bytes: `own` for all that the runtime makes, `large` for
    those of `LARGE_BYTES` or more, `outside` for the arrays of inputs and parameters (1, that is
    nothing known, where it has no entry)."""

    own: int = 1
    large: int = 1
    outside: Mapping[Value, int] = field(default_factory=dict)

    def of_own(self, value: Value) -> int:
        """That of a buffer which the runtime makes for a value."""
        nbytes = value.size * ITEMSIZE[value.dtype]
        return max(self.own, self.large) if nbytes >= LARGE_BYTES else self.own


@dataclass(frozen=True, eq=False)
class Program:
    """See the module's docstring. `outputs` are buffer numbers; `placements` says where in the
    buffers each value lies that is in memory at all."""

    graph: Graph
    buffers: tuple[Buffer, ...]
    calls: tuple[Call, ...]
    outputs: tuple[int, ...]
    placements: Mapping[Value, Placement]

    def __str__(self) -> str:
        lines = [
            f"{number:3d} {b.name:<16} {b.role:<10} {TensorType(b.shape, b.dtype)}"
            for number, b in enumerate(self.buffers)
        ]
        return "\n".join([*lines, *map(str, self.calls)])


def build_program(
    graph: Graph,
    clusters: Sequence[Cluster],
    arrays: Sequence[Any] | None = None,
    alignments: Alignments = Alignments(),
) -> Program:
    """The program of a graph, for inputs and parameters with the strides of `arrays` (in the
    order of the graph's values), or for contiguous ones."""
    strides = {} if arrays is None else strides_of(graph, arrays)
    builder = _ProgramBuilder(graph, strides, alignments)
    for cluster in clusters:
        builder.add(cluster)
    outputs = tuple(builder.placements[value].buffer for value in graph.outputs)
    return Program(graph, tuple(builder.buffers), tuple(builder.calls), outputs, builder.placements)


def arguments_of(graph: Graph) -> list[Value]:
    """The values that arrays are passed for: inputs and parameters, in definition order."""
    return [value for value in graph.values if value.op in ("input", "parameter")]


def strides_of(graph: Graph, arrays: Sequence[Any]) -> dict[Value, tuple[int, ...]]:
    """The strides, in elements, of the arrays of a graph's inputs and parameters."""
    return {
        value: tuple(stride // array.dtype.itemsize for stride in array.strides)
        for value, array in zip(arguments_of(graph), arrays, strict=True)
    }


class _ProgramBuilder:
    def __init__(
        self, graph: Graph, strides: Mapping[Value, tuple[int, ...]], alignments: Alignments
    ):
        self.graph, self.alignments = graph, alignments
        self.buffers: list[Buffer] = []
        self.calls: list[Call] = []
        self.placements: dict[Value, Placement] = {}
        self.names: dict[str, int] = {}
        self.regions = _regions(graph)
        for value in graph.values:
            if value.op in ("input", "parameter", "constant"):
                self._outside(value, strides.get(value))

    def _outside(self, value: Value, strides: tuple[int, ...] | None) -> None:
        """A buffer that the caller provides. Its size counts the elements that are spanned."""
        name = value.attributes.get("name", "constant").split(".")[-1]
        position = self.graph.inputs.index(value) if value.op == "input" else -1
        number = len(self.buffers)
        constant = value.attributes.get("value")
        array = None if constant is None else np.asarray(constant, order="C")
        self.buffers.append(
            Buffer(
                value.attributes.get("name", name), value.op, value.dtype, value.shape, value.size,
                position, array,
            )
        )  # fmt: skip
        strides = row_major_strides(value.shape) if strides is None else strides
        is_argument = value.op != "constant"
        alignment = self.alignments.outside.get(value, 1) if is_argument else self.alignments.own
        self.placements[value] = Placement(number, name, 0, strides, value.size, alignment)

    def add(self, cluster: Cluster) -> None:
        """The calls of one cluster; for an assembly, what its parts do not fill."""
        (first, *_) = cluster.members
        if kind(first) == "assembly":
            self._place(first)
            return
        for value in cluster.stored:
            if value not in self.placements:
                self._place(value)
        if any(value.size for value in cluster.stored):
            self._call(cluster, kernel_name(cluster))

    def _place(self, value: Value) -> Placement:
        """Memory for a value: its region of the assembly that it is a part of, or its own."""
        if value in self.placements:
            return self.placements[value]
        if value in self.regions:
            assembly, starts = self.regions[value]
            whole = self._place(assembly)
            offset = sum(i * stride for i, stride in zip(starts, whole.strides, strict=True))
            placement = replace(whole, offset=whole.offset + offset)
        else:
            alignment = self.alignments.of_own(value)
            placement = contiguous(len(self.buffers), value.op, value, alignment)
            outputs = self.graph.outputs
            is_output = value in outputs
            role = "output" if is_output else "temporary"
            position = outputs.index(value) if is_output else -1
            name = self._unique("out" if is_output else value.op)
            self.buffers.append(Buffer(name, role, value.dtype, value.shape, value.size, position))
        self.placements[value] = placement
        if value.op == "pad":
            self._fill(value)
        return placement

    def _fill(self, value: Value) -> None:
        """The border of a padding: the whole buffer, before the inside is written over it."""
        attributes = {
            "shape": value.shape, "value": value.attributes["value"], "dtype": value.dtype,
        }  # fmt: skip
        border = make("full", [], attributes, value.location)
        self.placements[border] = self.placements[value]
        self._call(Cluster((border,), (border,)), "fill")

    def _call(self, cluster: Cluster, name: str) -> None:
        kernel, buffers = lower(cluster, name, self.placements.__getitem__)
        numbers = tuple(self._status() if b == STATUS else b for b in buffers)
        self.calls.append(Call(kernel, numbers, cluster))

    def _status(self) -> int:
        """A status word of its own for a call that gathers, so that an error names its line."""
        self.buffers.append(Buffer(self._unique("status"), "status", "int32", (1,), 1))
        return len(self.buffers) - 1

    def _unique(self, name: str) -> str:
        count = self.names[name] = self.names.get(name, -1) + 1
        return f"{name}{count or ''}"


def _regions(graph: Graph) -> dict[Value, tuple[Value, tuple[int, ...]]]:
    """For each part of a concatenation or padding: the whole, and where the part begins in it."""
    regions: dict[Value, tuple[Value, tuple[int, ...]]] = {}
    for value in graph.values:
        if value.op == "pad":
            regions[value.operands[0]] = (value, tuple(value.attributes["low"]))
        elif value.op == "concatenate":
            axis, start = value.attributes["axis"], 0
            for part in value.operands:
                starts = [0] * len(value.shape)
                starts[axis] = start
                regions[part] = (value, tuple(starts))
                start += part.shape[axis]
    return regions


def kernel_name(cluster: Cluster) -> str:
    """What a kernel is called: the ops it does, the telling ones first to last, shortened."""
    plain = {"copy", "cast", "where"}
    ops = [value.op for value in cluster.members]
    telling = [op for op in ops if op not in plain] or ops
    short = list(dict.fromkeys(telling))
    if len(short) > 5:
        short = [*short[:4], f"and{len(short) - 4}more"]
    return "_".join(short)
