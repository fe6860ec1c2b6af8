"""Mark what must exist in memory: insert `copy` where a value is needed as rows of numbers.

In: an optimised graph. Out: the same graph in which every value that something reads from memory
in row-major order is a `copy` or computed anyway. Movement ops (reshape, slice, windows ...) are
only index arithmetic, which a kernel does on the fly; but a graph's output, a part of a
concatenation and an operand of a matmul are places where somebody else reads.

    %0 = transpose(%x) {permutation=[1,0]} : f32[16,8]        %0 = transpose(%x) ...
    return %0                                           ->    %1 = copy(%0) : f32[16,8]
                                                              return %1

A matmul's operand needs no copy where the movement ops leave it a strided view of a buffer: a
transposed or sliced weight is read in place, and so are the images of which it has `patches`.
Where one movement op follows another for so long that finding an element would take longer than a
trip through memory, there is a copy halfway.
"""

from __future__ import annotations

from collections.abc import Mapping

from minicomp.ir import Graph, Value
from minicomp.ir.ops import kind, make
from minicomp.kernels.indexing import Index, LoopVariable, offset_of, row_major_strides
from minicomp.kernels.lowering import is_tangled, movement_index

Strides = Mapping[Value, tuple[int, ...]]

#: How many movement ops, one behind the other, are seen through.
MOST_MOVEMENTS = 64


def materialize(graph: Graph, strides: Strides | None = None) -> Graph:
    """`graph` with copies inserted; see the module's docstring. `strides` are those of inputs and
    parameters, in elements, where they are not contiguous."""
    renamed: dict[Value, Value] = {}
    placed: list[Value] = []

    def copied(value: Value) -> Value:
        copy = make("copy", [value], {}, value.location)
        placed.append(copy)
        return copy

    for value in graph.values:
        operands = tuple(renamed[operand] for operand in value.operands)
        if kind(value) == "assembly":
            operands = tuple(copied(operand) for operand in operands)
        elif value.op in ("matmul", "patches"):
            operands = tuple(
                o if o.op == "patches" or is_strided_view(o, strides or {}) else copied(o)
                for o in operands
            )
        elif kind(value) == "movement" and kind(operands[0]) == "movement":
            moved = Value(value.op, operands, value.attributes, value.type)
            if seen_through(moved) is None:
                operands = (copied(operands[0]),)
        if operands != value.operands:
            current = Value(value.op, operands, value.attributes, value.type, value.location)
        else:
            current = value
        renamed[value] = current
        placed.append(current)
    outputs: list[Value] = []
    for value in graph.outputs:
        output = renamed[value]
        # Outputs are arrays of their own: never a view of an input, nor one another.
        fresh = kind(output) in ("movement", "leaf") or output in outputs
        outputs.append(copied(output) if fresh else output)
    return Graph(graph.name, tuple(placed), tuple(outputs), graph.bindings, graph.output_tree)


def is_strided_view(value: Value, strides: Strides) -> bool:
    """Whether a value is a buffer seen with constant strides: through movement ops alone, to
    something that is in memory, at an offset that is affine in the value's own indices. So is
    (2, 10, 64) reshaped to (20, 64), if it is contiguous: the offsets are 64*i + j."""
    found = seen_through(value)
    if found is None:
        return False
    source, index = found
    if source.op in ("full", "iota"):
        return False
    steps = strides.get(source) or row_major_strides(source.shape)
    return offset_of(index, steps).is_affine


def seen_through(value: Value) -> tuple[Value, tuple[Index, ...]] | None:
    """What movement ops make `value` from, and at which index there each of its elements lies;
    None where that takes too many ops or too long an index."""
    variables = [LoopVariable(f"d{axis}", extent) for axis, extent in enumerate(value.shape)]
    index = tuple(Index.of(variable) for variable in variables)
    for _ in range(MOST_MOVEMENTS):
        if kind(value) != "movement":
            return value, index
        index = movement_index(value, index)
        if is_tangled(index):
            return None
        (value,) = value.operands
    return None
