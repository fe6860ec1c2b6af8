"""Split long reductions with few results in two, so that threads and accuracy have a share.

In: an optimised graph. Out: a graph in which a reduction of many elements to a handful of results
goes through partial results: rows of a few thousand elements each, and then the rest.

    %0 = sum(%x) {axes=[0]} : f32[]           %0 = reshape(%x) {shape=[1220,8192]}
                                        ->    %1 = sum(%0) {axes=[1]} : f32[1220]
                                              %2 = sum(%1) {axes=[0]} : f32[]

A kernel's parallel loops are over results, so without this a full sum would run on one thread. It
is also the more accurate sum: the rounding error of a chain grows with its length, and here no
chain is long (blocked summation: Higham, "The Accuracy of Floating Point Summation", 1993).

On a CPU columns of a large array are folded in parts too, however many there are: what is read is
then a band of rows, whose pages and lines the hardware still knows when the next columns of it are
read. Where the same array is read again, as by a softmax over columns, one kernel keeps doing all.

An argmax looks for the first part that has the greatest element, by the maxima of all parts, and
then in that part alone: the pass over all elements compares numbers and carries no positions.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf, isqrt, prod

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
    and as many as make `partial` partial results, or else about `usual`, if there is such a
    divisor."""

    enough: float
    long: int
    shortest: int
    longest: int
    partial: int = 0
    usual: int = 8192


#: A few pages of memory, at least, to each thread.
CPU = Limits(enough=8, long=65536, shortest=2048, longest=16384)
#: Of rows of so many elements or more, in an array of so many, which no L2 cache holds: bands of as
#: many rows as the first level of a translation buffer has pages for, or some more.
CPU_COLUMNS = Limits(enough=inf, long=1024, shortest=32, longest=256, usual=64)
LEAST_COLUMNS, LEAST_ELEMENTS = 64, 1 << 21
#: A GPU has some hundred multiprocessors, each of which is kept busy by two rows ...
GPU_ROWS = Limits(enough=256, long=16384, shortest=2048, longest=16384, partial=1024)
#: ... or, where results lie beside each other, by as many columns as fill its threads.
GPU_COLUMNS = Limits(enough=4096, long=4096, shortest=64, longest=16384, partial=65536)


def split_reductions(graph: Graph) -> Graph:
    """`graph` with long reductions split; see the module's docstring."""
    users = graph.users()
    read_once = frozenset(value for value in graph.values if len(users[value]) == 1)
    return rewrite(graph, partial(_split, read_once=read_once))


def _split(value: Value, read_once: Container[Value]) -> Value | None:
    is_pick = value.op in EXTREMUM
    if value.op not in SPLITTABLE and not is_pick:
        return None
    (operand,) = value.operands
    axes, shape = value.attributes["axes"], operand.shape
    length = prod(shape[axis] for axis in axes)
    if not axes or list(axes) != list(range(axes[0], axes[-1] + 1)):
        return None
    limits = limits_of(value)
    source = _in_memory(operand)
    if limits is CPU_COLUMNS and (is_pick or source not in read_once):
        return None
    part = _part_length(length, value.size, limits)
    if value.size >= limits.enough or length < limits.long or part is None:
        return None
    if is_pick and (operand.dtype == "bool" or source is None):
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
    parts = _reduced(value, value.op, reshaped(value, source, parted), axis + 1)
    return casted(value, _reduced(value, value.op, parts, axis), value.dtype)


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


def _in_memory(value: Value) -> Value | None:
    """The array of the caller's that the value is, in another order perhaps; so that a part of it
    can be read again. None if it is computed."""
    while kind(value) == "movement":
        (value,) = value.operands
    return value if value.op in ("input", "parameter") else None


def limits_of(value: Value) -> Limits:
    """The limits for a reduction, by the device that it is done on and the axes that it folds."""
    (operand,) = value.operands
    columns = prod(operand.shape[value.attributes["axes"][-1] + 1 :])
    if value.device != "cpu":
        return GPU_COLUMNS if columns > 1 else GPU_ROWS
    return CPU_COLUMNS if columns >= LEAST_COLUMNS and operand.size >= LEAST_ELEMENTS else CPU


def _part_length(length: int, results: int, limits: Limits) -> int | None:
    """A divisor of `length` that makes a good part; None if there is none."""
    low, high = limits.shortest, limits.longest
    wanted = limits.usual
    if limits.partial:
        wanted = min(max(length * results // limits.partial, low), wanted)
    divisors = {d for n in range(1, isqrt(length) + 1) if length % n == 0 for d in (n, length // n)}
    fitting = [divisor for divisor in divisors if low <= divisor <= high and divisor < length]
    return min(fitting, key=lambda divisor: (abs(divisor - wanted), divisor), default=None)
