"""Split long reductions with few results in two, so that threads and accuracy have a share.

In: an optimised graph. Out: a graph in which a reduction of many elements to a handful of results
goes through partial results: rows of a few thousand elements each, and then the rest.

    %0 = sum(%x) {axes=[0]} : f32[]           %0 = reshape(%x) {shape=[1220,8192]}
                                        ->    %1 = sum(%0) {axes=[1]} : f32[1220]
                                              %2 = sum(%1) {axes=[0]} : f32[]

A kernel's parallel loops are over results, so without this a full sum would run on one thread. It
is also the more accurate sum: the rounding error of a chain grows with its length, and here no
chain is long (blocked summation: Higham, "The Accuracy of Floating Point Summation", 1993).
"""

from __future__ import annotations

from math import isqrt, prod

from minicomp.ir import Graph, Value, rewrite
from minicomp.ir.ops import make

#: Associative reductions; argmax and argmin would have to carry positions along.
SPLITTABLE = ("sum", "prod", "max", "min", "any", "all")
FEWEST_RESULTS = 8  # from this many results on, the results themselves are shared among threads
LONG = 65536  # elements per result from which a reduction is worth splitting
PARTS_OF = (2048, 16384)  # elements of one part: a few pages, at least


def split_reductions(graph: Graph) -> Graph:
    """`graph` with long reductions split; see the module's docstring."""
    return rewrite(graph, _split)


def _split(value: Value) -> Value | None:
    if value.op not in SPLITTABLE:
        return None
    (operand,) = value.operands
    axes, shape = value.attributes["axes"], operand.shape
    length = prod(shape[axis] for axis in axes)
    adjacent = list(axes) == list(range(axes[0], axes[-1] + 1)) if axes else False
    part = _part_length(length)
    if not adjacent or value.size >= FEWEST_RESULTS or length < LONG or part is None:
        return None
    first = axes[0]
    before, after = shape[:first], shape[axes[-1] + 1 :]

    def reduced(source: Value, axis: int) -> Value:
        attributes = {"axes": (axis,), "keepdims": False}
        return make(value.op, [source], attributes, value.location)

    def reshaped(source: Value, new_shape: tuple[int, ...]) -> Value:
        return make("reshape", [source], {"shape": new_shape}, value.location)

    parts = reshaped(operand, (*before, length // part, part, *after))
    return reshaped(reduced(reduced(parts, first + 1), first), value.shape)


def _part_length(length: int) -> int | None:
    """A divisor of `length` that makes a good part, the one nearest 8192; None if there is none."""
    low, high = PARTS_OF
    divisors = {d for n in range(1, isqrt(length) + 1) if length % n == 0 for d in (n, length // n)}
    fitting = [divisor for divisor in divisors if low <= divisor <= high]
    return min(fitting, key=lambda divisor: (abs(divisor - 8192), divisor), default=None)
