"""Matrix products in canonical form, so that selection and code generation meet few shapes.

In: a graph. Out: a graph whose every matmul is one of two forms, reshaped to what it was:

- 2-D: [m, k] @ [k, n];
- a batch: [batch.., m, k] @ [batch.., k, n] of one rank, where along each batch axis the two
  sizes are equal, or one of them is 1 and the other is not.

    %0 = matmul(%x, %w) : f32[8,128,64]          # %x: f32[8,128,32], %w: f32[32,64]
becomes
    %0 = reshape(%x) {shape=[1024,32]} : f32[1024,32]
    %1 = matmul(%0, %w) : f32[1024,64]
    %2 = reshape(%1) {shape=[8,128,64]} : f32[8,128,64]

Three steps: an operand that repeats over batch axes loses its `broadcast` (a matmul repeats by
itself); batch axes that are 1 on both sides go; and batch axes over which the right operand
repeats are made rows of the left one, where that is a view and not a copy. A transpose that
feeds an operand stays a transpose, which kernels read as strides, unless it only reorders the
rows of many matrices times one: then it is done to the result.
"""

from __future__ import annotations

from minicomp.ir import Graph, Value, rewrite
from minicomp.kernels.indexing import Index, LoopVariable, offset_of, ravel, unravel
from minicomp.kernels.lowering import is_tangled
from minicomp.passes.build import broadcasted, build, reshaped


def canonicalize_matmul(graph: Graph) -> Graph:
    """The graph with each matmul in canonical form."""
    return rewrite(graph, lambda value: _canonical(value) if value.op == "matmul" else None)


def _canonical(value: Value) -> Value | None:
    *sizes, rows, columns = value.shape
    a, b = (_unrepeated(value, operand, len(sizes)) for operand in value.operands)
    if set(b.shape[:-2]) <= {1} and a.op == "transpose" and _keeps_depth(a):
        return _in_memory_order(value, a, b)
    batch = [i for i in range(len(sizes)) if a.shape[i] != 1 or b.shape[i] != 1]
    a = reshaped(value, a, (*(a.shape[i] for i in batch), *a.shape[-2:]))
    b = reshaped(value, b, (*(b.shape[i] for i in batch), *b.shape[-2:]))
    while len(b.shape) > 2 and b.shape[-3] == 1 and _rows_merge(a):
        *outer, inner, m, k = a.shape
        a = reshaped(value, a, (*outer, inner * m, k))
        b = reshaped(value, b, (*b.shape[:-3], *b.shape[-2:]))
    if (a, b) == value.operands:
        return None
    product = build(value, "matmul", a, b)
    once = tuple(size if i in batch else 1 for i, size in enumerate(sizes))
    return broadcasted(value, reshaped(value, product, (*once, rows, columns)), value.shape)


def _keeps_depth(transpose: Value) -> bool:
    permutation = transpose.attributes["permutation"]
    return permutation[-1] == len(permutation) - 1


def _in_memory_order(value: Value, a: Value, b: Value) -> Value:
    """transpose(x) @ w -> transpose(x @ w): x has the order in which its rows are one axis."""
    (x,) = a.operands
    product = build(value, "matmul", x, reshaped(value, b, b.shape[-2:]))
    canonical = _canonical(product) or product
    moved = build(value, "transpose", canonical, permutation=a.attributes["permutation"])
    return broadcasted(value, moved, value.shape)


def _unrepeated(value: Value, operand: Value, batch_rank: int) -> Value:
    """The operand with `batch_rank` batch axes, of size 1 where it would repeat."""
    if operand.op == "broadcast":
        (source,) = operand.operands
        aligned = (1,) * (len(operand.shape) - len(source.shape)) + source.shape
        # Rows and columns that repeat are left repeated: only batch axes repeat by themselves.
        matrices = (*aligned[:-2], *operand.shape[-2:])
        if matrices != operand.shape:
            operand = broadcasted(value, reshaped(value, source, aligned), matrices)
    missing = batch_rank + 2 - len(operand.shape)
    return reshaped(value, operand, (1,) * missing + operand.shape)


def _rows_merge(a: Value) -> bool:
    """Whether the last batch axis and the rows of `a` are one axis of its memory."""
    strides = _view_strides(a) if a.size else None
    if strides is None:
        return True  # it is empty, or copied into a contiguous buffer, where they are
    *_, inner, rows, _ = a.shape
    return inner == 1 or rows == 1 or strides[-3] == rows * strides[-2]


def _view_strides(value: Value) -> tuple[int, ...] | None:
    """The strides of a value, as a view of the contiguous value that its movement ops start
    from; None where it is no strided view of that."""
    variables = [LoopVariable(f"i{axis}", extent) for axis, extent in enumerate(value.shape)]
    indices = tuple(Index.of(variable) for variable in variables)
    while value.op in ("reshape", "transpose", "broadcast", "slice"):
        indices = _source_indices(value, indices)
        if is_tangled(indices):
            return None
        (value,) = value.operands
    position = ravel(indices, value.shape)
    if not position.is_affine:
        return None
    return tuple(position.coefficient(variable) or 0 for variable in variables)


def _source_indices(value: Value, indices: tuple[Index, ...]) -> tuple[Index, ...]:
    """Which element of a movement op's operand its element at `indices` is."""
    (source,) = value.operands
    if value.op == "reshape":
        return unravel(ravel(indices, value.shape), source.shape)
    if value.op == "transpose":
        permutation = value.attributes["permutation"]
        return tuple(indices[permutation.index(axis)] for axis in range(len(indices)))
    if value.op == "broadcast":
        kept = indices[len(indices) - len(source.shape) :]
        return tuple(Index() if n == 1 else i for i, n in zip(kept, source.shape, strict=True))
    starts, steps = value.attributes["starts"], value.attributes["steps"]
    return tuple(
        offset_of((i,), (step,), start)
        for i, start, step in zip(indices, starts, steps, strict=True)
    )
