"""How a LoopKernel is run on a GPU: its schedule, and how it is picked.

In: a kernel and a `GpuTarget`. Out: a `GpuLoopSchedule`. Memory-bound kernels want few things:
accesses of 16 bytes by neighbouring threads, enough of them in flight, and each byte read once.

- Lanes go along the axis along which more accesses are contiguous, as on the CPU.
- Along a row ("inner"), a team of threads shares it: part of a warp for a short row, a block for a
  long one. Where the row fits into the team's registers it stays there from sweep to sweep:
  softmax then reads its input once and writes its output once.
- Along the results ("outer"), neighbouring threads do neighbouring columns, and where that makes
  too few threads several share a column, each a slice of it. Pointwise kernels are of this kind,
  with nothing to fold.
- A pointwise kernel that reads along one loop and writes along another, as a transposed copy does,
  is done in square tiles of both, which are turned in shared memory (see `ptx_loop_tiles`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from minicomp.codegen.loop_schedule import operations, tile_axis, vector_axis
from minicomp.codegen.ptx_kernel import GpuTarget
from minicomp.codegen.ptx_memory import WIDEST, alignment_of
from minicomp.codegen.ptx_team import WARP_BITS, Team, shared_size
from minicomp.ir import ITEMSIZE
from minicomp.kernels import Literal, Load, LoopKernel, Scalar, Schedule, Sweep
from minicomp.kernels.indexing import Index, LoopVariable, index_variables
from minicomp.kernels.walk import (
    accesses,
    kernel_roots,
    loads_across,
    stores,
    sweep_roots,
    walk,
)

WARP = 32
MOST_THREADS = 1024  # of a block
#: Registers of a multiprocessor, and the most of a thread.
REGISTERS, MOST_REGISTERS = 65536, 255
#: Registers of a thread for addresses and the like; and for the values of each lane that is being
#: worked on, beside what it loads.
OWN_REGISTERS, LANE_REGISTERS = 24, 3
#: Elements of a row, and vectors, that a thread has at least, if it may choose: with fewer there
#: are more barriers than work. A short row, of which a part of a warp takes care, has no barrier.
ELEMENTS_OF_ROW, VECTORS_OF_ROW, VECTORS_OF_SHORT_ROW = 8, 4, 2
#: Threads that keep a multiprocessor busy waiting for memory.
BUSY_THREADS = 1024
#: The most slices of a column: their results are combined by every thread.
MOST_SLICES = 64
#: Vectors beside each other that make up the 128 bytes that memory hands out at a time.
LINE = 8
#: In simple instructions: with more than this to do to an element nothing is gained by a second.
HEAVY = 90
#: The most vectors that a thread has in flight.
MOST_UNROLLED = 8
#: The most registers of what it loads at once of a row that does not stay in them.
MOST_IN_FLIGHT = 32
#: The most registers of what a thread keeps of a column.
MOST_OF_COLUMN = 48
#: What a block may have of shared memory that is declared with its size.
MOST_STATIC_BYTES = 48 * 1024
#: Threads of a block that turns a tile.
TILE_THREADS = 256
#: Shorter loops are not done in tiles. Of a square that is smaller all lines stay in the L1 cache
#: until the last of their elements has been read: copies of 33x33 to 63x63 turned took up to 1.34
#: times as long in tiles on an H100, those of 64x64 0.92 times.
SMALLEST_TILED = 2 * WARP
#: Bytes that a bank of shared memory hands out at a time. A warp's 32 of them are a line of memory.
BANK_WORD = 4


@dataclass(frozen=True)
class GpuLoopSchedule(Schedule):
    """A LoopKernel on a GPU.

    `axis`: "inner" has lanes and threads along a row, "outer" along the results. `vector`: adjacent
    elements of a thread. `threads` of a block, of which a `team` (a power of two) shares a row or
    column. `unroll`: vectors that a thread has in flight, where it does not keep its whole row.
    `resident`: whether it does, in registers, from sweep to sweep. `tile` names an outer loop,
    along which a pointwise kernel's other loads are contiguous: a block does a square of that loop
    and the last, 32 vectors long, whose rows its warps take in turn.
    """

    axis: str = "outer"
    vector: int = 4
    threads: int = 256
    team: int = 1
    unroll: int = 1
    resident: bool = True
    tile: str = ""


def schedule_loops(kernel: LoopKernel, target: GpuTarget) -> GpuLoopSchedule:
    """The schedule that the kernel is run with by default."""
    tiled = _in_tiles(kernel, target)
    if tiled is not None:
        return tiled
    axis = vector_axis(kernel) if kernel.sweeps and kernel.inner else "outer"
    schedule = (_along_rows if axis == "inner" else _along_columns)(kernel, target)
    # Many reductions at once: smaller blocks have fewer partial results to exchange.
    while partial_bytes(kernel, schedule) > MOST_STATIC_BYTES:
        if schedule.threads > schedule.team:
            schedule = replace(schedule, threads=schedule.threads // 2)
        else:
            halves = schedule.threads // 2, schedule.team // 2
            schedule = replace(schedule, threads=halves[0], team=halves[1], resident=False)
    return schedule


def partial_bytes(kernel: LoopKernel, schedule: GpuLoopSchedule) -> int:
    """Shared memory through which the warps of a block hand each other partial results: an array
    for each reduction, a second one for the positions of argmax and argmin."""
    team_bits, all_bits = (n.bit_length() - 1 for n in (schedule.team, schedule.threads))
    low = 0 if schedule.axis == "inner" else all_bits - team_bits
    team = Team(schedule.threads, low, low + team_bits)
    if team.high <= WARP_BITS or team.size == 1:
        return 0
    width = 1 if schedule.axis == "inner" else schedule.vector
    position = shared_size("int32" if kernel.row_size < 2**31 else "int64")
    sizes = [
        shared_size(reduction.scalar.dtype) + position
        if reduction.op in ("argmax", "argmin")
        else shared_size(reduction.dtype)
        for sweep in kernel.sweeps
        for reduction in sweep.reductions
    ]
    return team.warps * team.keys * width * sum(sizes)


# --- lanes along the row ------------------------------------------------------------------------


def _along_rows(kernel: LoopKernel, target: GpuTarget) -> GpuLoopSchedule:
    vector = vector_width(kernel, kernel.inner[-1])
    vectors = -(-kernel.row_size // vector)
    scan = is_scan(kernel)
    # A team that leaves each thread a few vectors, and not so many teams that the GPU is idle.
    is_short = vectors <= VECTORS_OF_SHORT_ROW * WARP
    share = max(VECTORS_OF_SHORT_ROW if is_short else VECTORS_OF_ROW, ELEMENTS_OF_ROW // vector)
    team = _power_of_two(-(-vectors // share), most=256 if scan else 512)
    while 2 * team <= min(vectors, MOST_THREADS) and kernel.rows * team < _wanted(target):
        team *= 2
    # Few threads hold more than many: each needs some registers for itself.
    fitting = [size for size in (team, 512, 256) if _fits(kernel, vectors, vector, size)]
    resident = bool(fitting) and not scan
    team = fitting[0] if resident else team
    resident &= len(kernel.sweeps) > 1 or -(-vectors // team) <= MOST_UNROLLED
    threads = max(team, _block_size(kernel.rows * team, target, most=128))
    in_flight = max(_most_loaded(kernel, vector), 1)
    unroll = 1 if scan else min(4, -(-vectors // team), max(MOST_IN_FLIGHT // in_flight, 1))
    return GpuLoopSchedule("inner", vector, threads, team, unroll, resident)


def _fits(kernel: LoopKernel, vectors: int, vector: int, team: int) -> bool:
    """Whether a team's threads hold a row in their registers."""
    elements = -(-vectors // team) * vector
    # Some slack: the assembler moves instructions to where more is alive at once.
    return 8 * elements * live_words(kernel) <= 7 * free_registers(kernel, vector, team)


def free_registers(kernel: LoopKernel, vector: int, threads: int) -> int:
    """Registers of each of a block's threads for values that it keeps from sweep to sweep."""
    lane = LANE_REGISTERS * (2 if _has_float64(kernel) else 1)
    working = OWN_REGISTERS + vector * lane + _most_loaded(kernel, vector)
    return min(REGISTERS // threads, MOST_REGISTERS) - working


def blocks_per_multiprocessor(kernel: LoopKernel, threads: int) -> int:
    """What the assembler is told of how many blocks should run side by side; 0: it may choose.
    With float64 it would choose to spill some registers in order to have more of them."""
    return max(REGISTERS // (threads * MOST_REGISTERS), 1) if _has_float64(kernel) else 0


def _most_loaded(kernel: LoopKernel, vector: int) -> int:
    """Registers for what one sweep loads of a vector of elements, at most."""
    return max((sum(map(words_of, _loaded(sweep))) for sweep in kernel.sweeps), default=0) * vector


def _loaded(sweep: Sweep) -> list[str]:
    """The dtypes of what a sweep loads."""
    return [scalar.dtype for scalar in walk(sweep_roots(sweep)) if isinstance(scalar, Load)]


# --- lanes along the results --------------------------------------------------------------------


def _along_columns(kernel: LoopKernel, target: GpuTarget) -> GpuLoopSchedule:
    vector = vector_width(kernel, kernel.outer[-1]) if kernel.outer else 1
    folds = kernel.row_size > 1 and bool(kernel.sweeps)
    # Rather narrow vectors than columns for half of the multiprocessors or fewer.
    while folds and vector > 1 and 2 * kernel.rows <= LINE * vector * target.multiprocessors:
        vector //= 2
    columns = -(-kernel.rows // vector)
    if not folds:
        threads = _block_size(columns, target, most=512)
        unroll = _pointwise_unroll(kernel, vector, columns, target)
        return GpuLoopSchedule("outer", vector, threads, 1, unroll)
    if is_scan(kernel):
        return GpuLoopSchedule("outer", 1, 64, 1, MOST_UNROLLED, False)
    # Slices until there are threads enough, then blocks as many as there are multiprocessors.
    team = 1
    while 2 * team <= min(MOST_SLICES, kernel.row_size) and columns * team < _wanted(target):
        team *= 2
    # Again more slices, if a column that several sweeps read can be kept then.
    words = kernel.row_size * vector * live_words(kernel)
    slices = _power_of_two(-(-words // MOST_OF_COLUMN), most=2 * MOST_SLICES)
    if len(kernel.sweeps) > 1 and slices <= MOST_SLICES:
        team = max(team, slices)
    resident = slices <= team
    beside = _power_of_two(columns // target.multiprocessors, most=32)
    threads = min(max(team * max(beside, LINE), 64), 512)
    steps = -(-kernel.row_size // team)
    resident &= len(kernel.sweeps) > 1 or steps <= MOST_UNROLLED
    unroll = min(steps, _most_unrolled(kernel, vector))
    return GpuLoopSchedule("outer", vector, threads, team, unroll, resident)


def _most_unrolled(kernel: LoopKernel, vector: int) -> int:
    """Fewer where a vector makes more registers than it has bytes, as two-byte floats do, and
    where functions take many, as those of float64 do."""
    if vector > 4:
        return MOST_UNROLLED // 4
    return MOST_UNROLLED // 2 if _has_float64(kernel) else MOST_UNROLLED


def _pointwise_unroll(kernel: LoopKernel, vector: int, columns: int, target: GpuTarget) -> int:
    """Vectors per thread: one, but more where that would leave too little in flight, since there
    is one input alone or vectors are narrow."""
    written = {store.buffer for store in stores(kernel)}
    inputs = {buffer for buffer, _ in accesses(kernel)} - written
    if operations(kernel_roots(kernel)) >= HEAVY:
        return 1
    nbytes = vector * max((ITEMSIZE[kernel.arguments[n].dtype] for n in inputs), default=WIDEST)
    unroll = max(WIDEST // nbytes, 1 if len(inputs) > 1 else 2)
    while unroll > 1 and columns < unroll * _wanted(target):
        unroll //= 2
    return unroll


# --- tiles --------------------------------------------------------------------------------------


def _in_tiles(kernel: LoopKernel, target: GpuTarget) -> GpuLoopSchedule | None:
    """A schedule in tiles, where there are loads for them, and shared memory for those. Vectors
    are as long as fill a word, if there are tiles enough then, and little to do to an element."""
    name = tile_axis(kernel, smallest=SMALLEST_TILED)
    if not name:
        return None
    *rest, last = kernel.outer
    (across,) = (variable for variable in rest if variable.name == name)
    widest = max(ITEMSIZE[kernel.arguments[buffer].dtype] for buffer, _ in accesses(kernel))
    is_heavy = operations(kernel_roots(kernel)) >= HEAVY
    vector = 1 if is_heavy else max(BANK_WORD // widest, 1)
    vector = min(vector, vector_width(kernel, across), vector_width(kernel, last))
    while vector > 1 and kernel.rows < (WARP * vector) ** 2 * target.multiprocessors:
        vector //= 2
    schedule = GpuLoopSchedule("outer", vector, TILE_THREADS, tile=name)
    while schedule.vector > 1 and tile_bytes(kernel, schedule) > MOST_STATIC_BYTES:
        schedule = replace(schedule, vector=schedule.vector // 2)
    return schedule if tile_bytes(kernel, schedule) <= MOST_STATIC_BYTES else None


def tile_bytes(kernel: LoopKernel, schedule: GpuLoopSchedule) -> int:
    """Shared memory for a block's tiles, one for each load that is turned."""
    (across,) = (variable for variable in kernel.outer if variable.name == schedule.tile)
    words = [
        ITEMSIZE[kernel.arguments[load.buffer].dtype] * schedule.vector
        for load in loads_across(kernel, across)
    ]
    return sum(schedule.vector * WARP * tile_pitch(word) for word in words)


def tile_pitch(word: int) -> int:
    """Bytes from a row of a tile to the next, of 32 words of so many bytes: with some padding, for
    which `ptx_loop_tiles` gives the reason."""
    return WARP * word + max(word, BANK_WORD)


# --- what a kernel is like ----------------------------------------------------------------------


def is_scan(kernel: LoopKernel) -> bool:
    return any(r.op == "cumsum" for sweep in kernel.sweeps for r in sweep.reductions)


def vector_width(kernel: LoopKernel, along: LoopVariable) -> int:
    """The most adjacent elements that every contiguous access takes by accesses of 16 bytes, or
    as wide as all are; 1 where rows begin anywhere."""
    contiguous = [
        (kernel.arguments[buffer], index)
        for buffer, index in accesses(kernel)
        if index.coefficient(along) in (1, -1)
    ]
    smallest = min((ITEMSIZE[argument.dtype] for argument, _ in contiguous), default=WIDEST)
    width = min(WIDEST // smallest, 8)
    while width > 1 and (
        along.extent % width
        or not all(
            alignment_of(
                _start(index, along, width),
                ITEMSIZE[a.dtype],
                max(a.alignment, ITEMSIZE[a.dtype]),
            )
            >= min(width * ITEMSIZE[a.dtype], WIDEST)
            for a, index in contiguous
        )
    ):
        width //= 2
    return width


def _start(index: Index, along: LoopVariable, width: int) -> Index:
    """Where in memory the lowest lane is, for lanes that begin at multiples of `width`."""
    step = index.coefficient(along)
    rest = index - Index.of(along) * (step or 0)
    return rest + Index.of(along) * width + (1 - width if step == -1 else 0)


def live_words(kernel: LoopKernel) -> int:
    """Registers per element of a row that hold something from one sweep to the next, at most;
    one at least, as if each element were kept."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    scalars: dict[int, Scalar] = {}
    inner = set(kernel.inner)
    for number, sweep in enumerate(kernel.sweeps):
        for scalar in _needed(sweep_roots(sweep), first, number):
            last[id(scalar)] = number
            scalars[id(scalar)] = scalar
            first.setdefault(id(scalar), number)
    words = [0] * len(kernel.sweeps)
    for key, scalar in scalars.items():
        varies = any(inner & set(index_variables(index)) for index in scalar.indices())
        for number in range(first[key] + 1, last[key] + 1):
            words[number] += varies * words_of(scalar.dtype)
    return max([1, *words])


def _has_float64(kernel: LoopKernel) -> bool:
    return any(scalar.dtype == "float64" for scalar in walk(kernel_roots(kernel)))


def words_of(dtype: str) -> int:
    """Registers of 32 bits that an element takes."""
    return 2 if ITEMSIZE[dtype] == 8 else 1


def _needed(roots: list[Scalar], first: dict[int, int], sweep: int) -> Iterator[Scalar]:
    """What a sweep uses: what it computes, and what earlier sweeps have computed for it."""
    seen: set[int] = set()
    stack = list(roots)
    while stack:
        scalar = stack.pop()
        if id(scalar) not in seen and not isinstance(scalar, Literal):
            seen.add(id(scalar))
            yield scalar
            if first.get(id(scalar), sweep) == sweep:
                stack.extend(scalar.operands_())


def _wanted(target: GpuTarget) -> int:
    """Threads that keep the whole GPU busy."""
    return target.multiprocessors * BUSY_THREADS


def _power_of_two(number: int, most: int) -> int:
    """The least power of two that is no less, `most` at most."""
    return min(1 << max(number - 1, 0).bit_length(), most)


def _block_size(work: int, target: GpuTarget, most: int) -> int:
    """Threads of a block, such that few threads of work are spread over the GPU too."""
    return max(_power_of_two(work // target.multiprocessors, most), 32)
