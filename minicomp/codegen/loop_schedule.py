"""How a LoopKernel is run on the CPU: its schedule, and which values a row keeps.

In: a kernel and a target. Out: a `LoopSchedule`, and the kernel with `scratch` rows where
computing a value once and keeping it for a later sweep is cheaper than computing it again.

The vector axis is the one along which more accesses are contiguous. Softmax over the last axis is
vectorised along its row; a sum over the first axis along the columns, each lane a row of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from minicomp.codegen.row_divisions import multiply_by_reciprocals
from minicomp.ir import ITEMSIZE
from minicomp.kernels import (
    Apply,
    Argument,
    Load,
    LoopKernel,
    LoopSchedule,
    Reduced,
    Scalar,
    Store,
)
from minicomp.kernels.indexing import Index, row_major_strides
from minicomp.kernels.varying import Varying
from minicomp.kernels.walk import Rebuilt, accesses, kernel_roots, loads_across, sweep_roots, walk

#: Rough cost of an op on one vector, in simple vector instructions. Only proportions matter: they
#: decide what is kept rather than computed again, and from what size on threads pay.
OP_COST = {
    **dict.fromkeys(("exp", "expm1", "sigmoid", "tanh", "log", "log1p", "erf"), 20),
    **dict.fromkeys(("sin", "cos"), 40),
    "pow": 60,
    **dict.fromkeys(("div", "sqrt", "rsqrt"), 8),
    **dict.fromkeys(("mod", "floor_divide"), 16),
}

#: Rows of at most this many bytes are kept on the stack. Threads have at least 512 kB of it, and
#: a core as much second-level cache or more.
MOST_SCRATCH_BYTES = 256 * 1024

#: A kernel whose arguments take at least so many bytes waits for memory, or for a cache that all
#: cores share, rather than for itself.
LARGE_KERNEL_BYTES = 16 << 20

#: What a large kernel stores goes straight to memory if it costs an element no more than this: a
#: slower one fills lines too slowly for that.
MOST_STREAMED_COST = 20

#: And only if it does not fit into the cache that cores share, where several threads share the
#: work: together they are limited by the bus to memory, and most of less is still in that cache.
#: One thread alone is limited by the lines it waits for, wherever they come from, so that it had
#: better not read those it will write over: from half of that size on.
SHARED_CACHE_BYTES = 32 << 20

#: Of a cache that is larger a few cores do not have more than this, as the neighbours of all others
#: use it too: of 480 MB one thread finds again what takes 50 MB and not what takes 100, two threads
#: what takes 65 MB. Smaller ones than `SHARED_CACHE_BYTES` have not been measured.
MOST_SHARED_CACHE_BYTES = 96 << 20

#: Rows of at most this many bytes are done in pairs: with what they are made of and made into,
#: two of them have to fit into the first-level cache.
LONGEST_PAIRED_BYTES = 8 * 1024

#: A value at least this costly is kept for later sweeps: a store and a load are about two.
WORTH_KEEPING = 8

#: Columns that one parallel unit of an outer-vectorised kernel covers: enough to make the index
#: arithmetic of a unit negligible, few enough that threads can share a short tensor. Fewer where
#: columns are long, so that a unit has so many elements.
BLOCK, BLOCK_ELEMENTS = 1024, 1 << 16

#: Rows that one parallel unit of a kernel in tiles covers. Between a tile and its neighbour in the
#: next unit lie so many lines of what is written, where tiles are narrower than a line or begin
#: within one: the L2 cache holds them.
TILE_ROWS = 512

#: The cost of an element up to which its instructions are repeated for many vectors side by side.
SIMPLE_COST = 8

#: Handing work to a thread that is awake costs a microsecond or two; a share should take as long,
#: or longer. In vector instructions, of which a core does a few per nanosecond.
LEAST_SHARE = 12_000

#: Rows shorter than this do not begin on cache lines: eight vectors, to which one is added.
SHORTEST_ALIGNED_BYTES = 512

#: How far ahead such rows ask for lines: 16 of them, for about as long as the L2 cache takes. With
#: 64 rather than 16, what is asked for in two rows side by side leaves the L1 cache again.
PREFETCH_BYTES = 1024

#: Fewer rows or columns than this are gathered rather than transposed.
SMALLEST_TILE = 4

#: Fewer rows than this are not done in pairs, and no thread is given fewer of those that are: of an
#: odd number of rows one is done twice.
FEWEST_PAIRED = 8


def schedule_loops(
    kernel: LoopKernel, target: Any, threads: int = 1
) -> tuple[LoopKernel, LoopSchedule]:
    """The kernel as it should be emitted for so many threads, and its schedule."""
    axis = vector_axis(kernel)
    kernel = multiply_by_reciprocals(kernel)
    widest = max((ITEMSIZE[dtype] for dtype in _dtypes(kernel)), default=4)
    lanes = max(target.vector_bits // 8 // max(widest, 4), 1)
    rows = rows_side_by_side(kernel) if axis == "inner" else 1
    folds = any(sweep.reductions for sweep in kernel.sweeps)
    # Four accumulators cover the latency of an addition (4 cycles) at one addition per cycle.
    unroll = 4 // rows if folds else 1
    if folds and axis == "outer" and _is_simple_sum(kernel):
        unroll = columns_side_by_side(kernel.outer[-1].extent // lanes, target)
    tile = tile_axis(kernel)
    streams = _streams(kernel, target, threads, tile)
    schedule = LoopSchedule(axis, lanes, unroll, rows, streams, tile=tile)
    if axis == "inner":
        kernel = keep_rows(kernel)
    aligns = axis == "inner" and not streams and _aligns(kernel, target)
    prefetch = PREFETCH_BYTES if aligns and _fetches_ahead(target) else 0
    grain = _grain(kernel, schedule)
    return kernel, replace(schedule, aligns=aligns, prefetch=prefetch, grain=grain)


def rows_side_by_side(kernel: LoopKernel) -> int:
    """Two, where rows have several sweeps, each of which waits for the last one's result, and are
    short enough to stay in the first-level cache from one sweep to the next."""
    is_alone = kernel.rows < FEWEST_PAIRED or _is_large(kernel)
    if len(kernel.sweeps) < 2 or is_alone or _scans(kernel):
        return 1
    widest = max(ITEMSIZE[scalar.dtype] for scalar in walk(kernel_roots(kernel)))
    return 2 if kernel.row_size * widest <= LONGEST_PAIRED_BYTES else 1


def columns_side_by_side(vectors: int, target: Any) -> int:
    """How many of a row's vectors are added up at a time, with a register each, where only sums are
    asked for: as many as take half of the registers, so that long pieces of each row are read."""
    registers = 32 if target.vector_bits == 512 else 16
    return min(max(vectors, 4), registers // 2)


def _is_simple_sum(kernel: LoopKernel) -> bool:
    """Whether all that is asked for are sums, of what costs little code to repeat."""
    folds = [fold.op for sweep in kernel.sweeps for fold in sweep.reductions]
    return folds == ["sum"] and cost_of_row(kernel) <= SIMPLE_COST * max(kernel.row_size, 1)


def _is_large(kernel: LoopKernel, nbytes: int = LARGE_KERNEL_BYTES) -> bool:
    return sum(argument.size * ITEMSIZE[argument.dtype] for argument in kernel.arguments) >= nbytes


def _streams(kernel: LoopKernel, target: Any, threads: int, tile: str) -> bool:
    """Whether it is large and cheap, and the target has a fence for stores past the caches."""
    # Lines that are written far from each other, as in tiles, are waited for by several as by one.
    is_shared = threads > 1 and not tile
    cache = getattr(target, "l3_bytes", SHARED_CACHE_BYTES)
    cache = min(max(cache, SHARED_CACHE_BYTES), MOST_SHARED_CACHE_BYTES)
    is_large = _is_large(kernel, cache if is_shared else cache // 2)
    is_cheap = cost_of_row(kernel) <= MOST_STREAMED_COST * kernel.row_size
    return is_large and is_cheap and getattr(target, "architecture", "") == "x86_64"


def _aligns(kernel: LoopKernel, target: Any) -> bool:
    """Whether the sweeps that only store take the time that their stores take, in rows so long
    that a vector or two more do not matter. Vectors are as long as a cache line: of shorter ones
    fewer lie across two."""
    cost = Varying(kernel.inner, _scans(kernel))
    storing = [sweep for sweep in kernel.sweeps if sweep.stores and not sweep.reductions]
    are_cheap = all(operations(sweep_roots(sweep), cost) <= SIMPLE_COST for sweep in storing)
    itemsize = min((ITEMSIZE[s.scalar.dtype] for sweep in storing for s in sweep.stores), default=4)
    is_long = kernel.row_size * itemsize >= SHORTEST_ALIGNED_BYTES
    return bool(storing) and are_cheap and is_long and target.vector_bits == 512


def _fetches_ahead(target: Any) -> bool:
    """Measured where the L1 cache has 48 kB (Granite Rapids): 7 to 18 % for rows in the L2 cache.
    Zen 4, with 32 kB, is left as it was: nothing is known of it."""
    return getattr(target, "l1_bytes", 0) > 32 << 10


def vector_axis(kernel: LoopKernel) -> str:
    """ "inner" or "outer": where more of the accesses are contiguous."""
    if not kernel.inner:
        return "outer"
    if not kernel.outer:
        return "inner"
    inner, outer = kernel.inner[-1], kernel.outer[-1]
    score = 0
    for _, index in accesses(kernel):
        score += (index.coefficient(inner) == 1) - (index.coefficient(outer) == 1)
    return "outer" if score < 0 else "inner"


def tile_axis(kernel: LoopKernel, smallest: int = SMALLEST_TILE) -> str:
    """The outer loop along which most of a pointwise kernel's strided loads are contiguous, where
    it and the last are at least `smallest` long; else ""."""
    if kernel.inner or kernel.sweeps or not kernel.outer:
        return ""
    *rest, last = kernel.outer
    found = {v.name: len(loads_across(kernel, v)) for v in rest if v.extent >= smallest}
    if last.extent < smallest or not any(found.values()):
        return ""
    return max(found, key=lambda name: found[name])


# --- rows that are kept -----------------------------------------------------------------------


def keep_rows(kernel: LoopKernel) -> LoopKernel:
    """The kernel with costly values that two sweeps need stored in a scratch row by the first.

    sweep: r1 = sum exp(x - r0)              sweep: e = exp(x - r0); row[i] = e; r1 = sum e
    sweep: out = exp(x - r0) / r1      ->    sweep: out = row[i] / r1
    """
    budget = MOST_SCRATCH_BYTES
    position = Index()
    strides = row_major_strides([variable.extent for variable in kernel.inner])
    for variable, stride in zip(kernel.inner, strides, strict=True):
        position = position + Index.of(variable) * stride
    kept: list[_Kept] = []
    for scalar, sweep in _shared_between_sweeps(kernel):
        nbytes = kernel.row_size * ITEMSIZE[scalar.dtype]
        if nbytes <= budget:
            budget -= nbytes
            number = len(kernel.arguments) + len(kept)
            row = Argument(f"row{len(kept)}", scalar.dtype, kernel.row_size, written=True)
            kept.append(_Kept(scalar, sweep, Load(scalar.dtype, number, position, row.name), row))
    return _with_rows(kernel, kept) if kept else kernel


@dataclass(frozen=True, eq=False)
class _Kept:
    """A scalar that sweep number `sweep` stores, and the load that replaces it afterwards."""

    scalar: Scalar
    sweep: int
    load: Load
    row: Argument


def _shared_between_sweeps(kernel: LoopKernel) -> list[tuple[Scalar, int]]:
    """The largest costly scalars computed per element in one sweep and again in a later one."""
    first_sweep: dict[int, int] = {}
    inside: set[int] = set()  # what a kept scalar contains is not needed again itself
    found: list[tuple[Scalar, int]] = []
    varying = Varying(kernel.inner, _scans(kernel))
    for number, sweep in enumerate(kernel.sweeps):
        for scalar in walk(sweep_roots(sweep)):
            earlier = first_sweep.setdefault(id(scalar), number)
            if earlier < number and id(scalar) not in inside and _worth_keeping(scalar, varying):
                found.append((scalar, earlier))
                inside.update(id(part) for part in walk([scalar]))
    return found


def _worth_keeping(scalar: Scalar, varying: Varying) -> bool:
    """Costly to compute, and different for every element of the row."""
    return (
        isinstance(scalar, Apply)
        and varying(scalar)
        and operations([scalar], varying) >= WORTH_KEEPING
    )


def _with_rows(kernel: LoopKernel, kept: Sequence[_Kept]) -> LoopKernel:
    sweeps = []
    for number, sweep in enumerate(kernel.sweeps):
        loads: dict[int, Scalar] = {id(k.scalar): k.load for k in kept if k.sweep < number}
        stores = [Store(k.load.buffer, k.load.index, k.scalar) for k in kept if k.sweep == number]
        rebuilt = Rebuilt(loads)
        sweeps.append(rebuilt.sweep(replace(sweep, stores=(*stores, *sweep.stores))))
    return replace(kernel, sweeps=tuple(sweeps), scratch=tuple(k.row for k in kept))


def block_size(kernel: LoopKernel, schedule: LoopSchedule) -> int:
    """Columns per unit when vectorising along the outer loops: a multiple of one step."""
    step = schedule.vector_width * schedule.unroll
    columns = min(BLOCK, BLOCK_ELEMENTS // max(kernel.row_size, 1))
    return max(columns // step, 1) * step


def units(kernel: LoopKernel, schedule: LoopSchedule) -> int:
    """How many independent units of work the kernel has: rows, blocks of columns, or columns of
    tiles, of at most `TILE_ROWS` rows."""
    if not schedule.tile and (schedule.vector_axis == "inner" or not kernel.outer):
        return kernel.rows
    *rest, last = kernel.outer
    if not schedule.tile:
        rows = prod(variable.extent for variable in rest)
        return rows * -(-last.extent // block_size(kernel, schedule))
    (across,) = (variable for variable in rest if variable.name == schedule.tile)
    others = prod(variable.extent for variable in rest if variable is not across)
    return others * -(-across.extent // TILE_ROWS) * -(-last.extent // schedule.vector_width)


# --- what a kernel costs ----------------------------------------------------------------------


def _grain(kernel: LoopKernel, schedule: LoopSchedule) -> int:
    """The least number of parallel units worth a thread of their own."""
    work = max(kernel.rows, 1) * max(cost_of_row(kernel), 1) / schedule.vector_width
    fewest = FEWEST_PAIRED if schedule.rows > 1 else 1
    return max(int(LEAST_SHARE * units(kernel, schedule) / max(work, 1)), fewest)


def cost_of_row(kernel: LoopKernel) -> int:
    """What one outer iteration costs: all sweeps, and what follows them."""
    varying = Varying(kernel.inner, _scans(kernel))
    roots = [root for sweep in kernel.sweeps for root in sweep_roots(sweep)]
    per_element = sum(operations([root], varying) + 2 for root in roots)
    per_row = sum(operations([store.scalar]) + 2 for store in kernel.row_stores)
    return per_element * kernel.row_size + per_row


def operations(roots: Sequence[Scalar], varying: Varying | None = None) -> int:
    """What it costs to compute some scalars once, loads included: with `varying`, for one more
    element of a row."""
    return sum(
        OP_COST.get(part.op, 1) if isinstance(part, Apply) else isinstance(part, Load)
        for part in walk(roots)
        if varying is None or varying(part)
    )


def _scans(kernel: LoopKernel) -> set[int]:
    """The numbers of its scans."""
    reductions = (r for sweep in kernel.sweeps for r in sweep.reductions)
    return {r.number for r in reductions if r.op == "cumsum"}


def _dtypes(kernel: LoopKernel) -> set[str]:
    """The dtypes that are computed with. Positions and results of argmax may be wider."""
    scalars = walk(kernel_roots(kernel))
    return {scalar.dtype for scalar in scalars if not isinstance(scalar, Reduced)}
