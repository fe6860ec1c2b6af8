"""Split long reductions with few results in two, so that threads and accuracy have a share.

In: an optimised graph. Out: a graph in which a reduction of many elements to a handful of results
goes through partial results: rows of a few thousand elements each, and then the rest.

    %0 = sum(%x) {axes=[0]} : f32[]           %0 = reshape(%x) {shape=[1220,8192]}
                                        ->    %1 = sum(%0) {axes=[1]} : f32[1220]
                                              %2 = sum(%1) {axes=[0]} : f32[]

A kernel's parallel loops are over results, so without this a full sum would run on one thread. It
is also the more accurate sum: the rounding error of a chain grows with its length, and here no
chain is long (blocked summation: Higham, "The Accuracy of Floating Point Summation", 1993).

An argmax looks for the first part that has the greatest element, by the maxima of all parts, and
then in that part alone: the pass over all elements compares numbers and carries no positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt, prod

from minicomp.ir import Graph, Value, rewrite
from minicomp.ir.ops import kind
from minicomp.passes.build import broadcasted, build, casted, full_like, reshaped

#: Associative reductions.
SPLITTABLE = ("sum", "prod", "max", "min", "any", "all")
#: Of a position the extremum that it is the position of; both take NaN for the most extreme.
EXTREMUM = {"argmax": "max", "argmin": "min"}


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
    is_pick = value.op in EXTREMUM
    if value.op not in SPLITTABLE and not is_pick:
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
    if is_pick and (operand.dtype == "bool" or not _is_in_memory(operand)):
        return None
    first = axes[0]
    parted = (*shape[:first], length // part, part, *shape[axes[-1] + 1 :])
    whole = _picked(value, parted, first) if is_pick else _folded(value, parted, first)
    return build(value, "reshape", whole, shape=value.shape)


def _folded(value: Value, parted: Sequence[int], axis: int) -> Value:
    """The reduction over axes `axis` and `axis` + 1 of the operand in that shape."""
    # Partial sums of two-byte floats are kept in float32, as the sum of a single kernel is.
    (operand,) = value.operands
    halves = value.dtype in ("float16", "bfloat16")
    source = casted(value, operand, "float32") if halves else operand
    partial = _reduced(value, value.op, reshaped(value, source, parted), axis + 1)
    return casted(value, _reduced(value, value.op, partial, axis), value.dtype)


def _picked(value: Value, parted: Sequence[int], axis: int) -> Value:
    """The position of the extremum: that of the first part that has it, then within that part."""
    (operand,) = value.operands
    parts = reshaped(value, operand, parted)
    best = _reduced(value, EXTREMUM[value.op], parts, axis + 1)
    part = _reduced(value, value.op, best, axis)
    one = [*parted[:axis], 1, *parted[axis + 1 :]]
    index = reshaped(value, part, [*parted[:axis], 1, 1, *parted[axis + 2 :]])
    there = build(value, "take_along_axis", parts, broadcasted(value, index, one), axis=axis)
    place = _reduced(value, value.op, there, axis, axis + 1)
    return build(value, "add", build(value, "mul", part, full_like(part, parted[axis + 1])), place)


def _reduced(value: Value, op: str, source: Value, *axes: int) -> Value:
    return build(value, op, source, axes=axes, keepdims=False)


def _is_in_memory(value: Value) -> bool:
    """Whether a part of the value can be read again: it is an array of the caller's."""
    while kind(value) == "movement":
        (value,) = value.operands
    return value.op in ("input", "parameter")


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
