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

from dataclasses import dataclass
from math import isqrt, prod

from minicomp.ir import Graph, Value, rewrite
from minicomp.ir.ops import make

#: Associative reductions; argmax and argmin would have to carry positions along.
SPLITTABLE = ("sum", "prod", "max", "min", "any", "all")


@dataclass(frozen=True)
class Limits:
    """When to split. From `enough` results on, the results themselves are shared among threads;
    with `long` elements per result or more it pays. Parts have `shortest` to `longest` elements,
    and as many as make `partial` partial results, if there is such a divisor."""

    enough: int
    long: int
    shortest: int
    longest: int
    partial: int


#: A few pages of memory, at least, to each thread.
CPU = Limits(enough=8, long=65536, shortest=2048, longest=16384, partial=0)
#: A GPU has some hundred multiprocessors, each of which is kept busy by two rows ...
GPU_ROWS = Limits(enough=256, long=16384, shortest=2048, longest=16384, partial=1024)
#: ... or, where results lie beside each other, by as many columns as fill its threads.
GPU_COLUMNS = Limits(enough=4096, long=4096, shortest=64, longest=16384, partial=65536)
#: Without another wish for the number of parts.
USUAL_PART = 8192


def split_reductions(graph: Graph) -> Graph:
    """`graph` with long reductions split; see the module's docstring."""
    return rewrite(graph, _split)


def _split(value: Value) -> Value | None:
    if value.op not in SPLITTABLE:
        return None
    (operand,) = value.operands
    axes, shape = value.attributes["axes"], operand.shape
    length = prod(shape[axis] for axis in axes)
    if not axes or list(axes) != list(range(axes[0], axes[-1] + 1)):
        return None
    limits = limits_of(value)
    part = _part_length(length, value.size, limits)
    if value.size >= limits.enough or length < limits.long or part is None:
        return None
    first = axes[0]
    before, after = shape[:first], shape[axes[-1] + 1 :]

    def reduced(source: Value, axis: int) -> Value:
        attributes = {"axes": (axis,), "keepdims": False}
        return make(value.op, [source], attributes, value.location)

    def reshaped(source: Value, new_shape: tuple[int, ...]) -> Value:
        return make("reshape", [source], {"shape": new_shape}, value.location)

    def cast(source: Value, dtype: str) -> Value:
        if source.dtype == dtype:
            return source
        return make("cast", [source], {"dtype": dtype}, value.location)

    # Partial sums of two-byte floats are kept in float32, as the sum of a single kernel is.
    halves = value.dtype in ("float16", "bfloat16")
    source = cast(operand, "float32") if halves else operand
    parts = reshaped(source, (*before, length // part, part, *after))
    whole = reduced(reduced(parts, first + 1), first)
    return reshaped(cast(whole, value.dtype), value.shape)


def limits_of(value: Value) -> Limits:
    """The limits for a reduction, by the device that it is done on and the axes that it folds."""
    if value.device == "cpu":
        return CPU
    kept = value.operands[0].shape[value.attributes["axes"][-1] + 1 :]
    return GPU_COLUMNS if prod(kept) > 1 else GPU_ROWS


def _part_length(length: int, results: int, limits: Limits) -> int | None:
    """A divisor of `length` that makes a good part; None if there is none."""
    low, high = limits.shortest, limits.longest
    wanted = USUAL_PART
    if limits.partial:
        wanted = min(max(length * results // limits.partial, low), wanted)
    divisors = {d for n in range(1, isqrt(length) + 1) if length % n == 0 for d in (n, length // n)}
    fitting = [divisor for divisor in divisors if low <= divisor <= high and divisor < length]
    return min(fitting, key=lambda divisor: (abs(divisor - wanted), divisor), default=None)
