"""The simulator's face: memory, modules and launches, as a driver has them.

See the package's docstring for an example.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from minicomp.errors import SimulationError
from minicomp.simulator.batch import Batch, Launch
from minicomp.simulator.counters import Counters
from minicomp.simulator.global_memory import GlobalMemory
from minicomp.simulator.parser import MAX_SHARED, parse
from minicomp.simulator.program import Program, program
from minicomp.simulator.report import Report, line_counts
from minicomp.simulator.scheduler import Scheduler

Array = np.ndarray

#: threads that run as one vector: enough that Python's overhead hardly counts, few enough that
#: their registers stay in the cache
BATCH_THREADS = 1 << 14
#: shared memory of a batch, in bytes
BATCH_SHARED = 1 << 25
INSTRUCTION_BUDGET = 2_000_000

MOST_THREADS = 1024
#: of shared memory that a kernel declares with a size; more has to be asked for at the launch
MOST_STATIC_BYTES = 48 * 1024
MOST_BLOCKS = (2**31 - 1, 65535, 65535)

Size = int | Sequence[int]


@dataclass(frozen=True)
class LoadedModule:
    """A module's kernels, by name."""

    text: str
    programs: dict[str, Program]


@lru_cache(maxsize=256)
def _load(text: str) -> LoadedModule:
    module = parse(text)
    return LoadedModule(text, {name: program(entry) for name, entry in module.entries.items()})


class Simulator:
    """A device with memory of its own, which several Python threads may use: one at a time does.

    `instruction_budget` is how many instructions the threads of a batch may run, counted once
    where they run together, before a loop counts as infinite.
    """

    def __init__(self, instruction_budget: int = INSTRUCTION_BUDGET):
        self.instruction_budget = instruction_budget
        self.memory = GlobalMemory()
        self.after_fork()

    def after_fork(self) -> None:
        """To be called in a forked child, where no other thread is left to give the lock back."""
        # the collector may free a buffer while this thread launches: it may enter again
        self._lock = threading.RLock()

    def allocate(self, size: int) -> int:
        """A pointer to `size` bytes, 256-byte aligned, which count as never written."""
        with self._lock:
            return self.memory.allocate(size)

    def free(self, pointer: int) -> None:
        """Give a buffer back: accesses to it are out of bounds from now on."""
        with self._lock:
            self.memory.free(pointer)

    def write(self, pointer: int, array: Array) -> None:
        """Copy an array's elements to the device."""
        with self._lock:
            self.memory.write(pointer, array)

    def read(self, pointer: int, size: int) -> Array:
        """A copy of `size` bytes of the device."""
        with self._lock:
            return self.memory.read(pointer, size)

    def load(self, text: str) -> LoadedModule:
        """Parse and check PTX; remembered by its text. Raises PTXSyntaxError."""
        return _load(text)

    def launch(
        self,
        module: LoadedModule,
        entry: str,
        grid: Size,
        block: Size,
        arguments: Sequence[int | float],
        shared_bytes: int = 0,
    ) -> Report:
        """Run a kernel to its end. Raises SimulationError for what it does wrong."""
        if entry not in module.programs:
            names = ", ".join(module.programs) or "none"
            raise SimulationError(f"the module has no kernel {entry}; it has {names}")
        program = module.programs[entry]
        launch = self._launch(program, _three(grid), _three(block), arguments, shared_bytes)
        blocks = math.prod(launch.grid)
        with self._lock, np.errstate(all="ignore"):
            _run(program, launch, blocks)
        lines = line_counts(program.entry.instructions, launch.counters.counts)
        return Report(entry, launch.grid, launch.block, lines)

    def _launch(
        self,
        program: Program,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[int | float],
        shared_bytes: int,
    ) -> Launch:
        entry = program.entry

        def fail(message: str) -> None:
            raise SimulationError(message, what=f"launch of {entry.name}")

        if not all(1 <= n <= most for n, most in zip(grid, MOST_BLOCKS)):
            fail(f"grid {grid}; wanted from 1 up to {MOST_BLOCKS}")
        if min(block) < 1 or math.prod(block) > MOST_THREADS or block[2] > 64:
            fail(f"block {block}; wanted at most {MOST_THREADS} threads, and 64 in z")
        if entry.threads not in (None, block):
            fail(f"block {block}, but .reqntid says {entry.threads}")
        if entry.most_threads and math.prod(block) > math.prod(entry.most_threads):
            fail(f"block {block} has more threads than .maxntid {entry.most_threads}")
        if len(arguments) != len(entry.parameters):
            fail(f"{len(arguments)} arguments, wanted {len(entry.parameters)}")
        static_bytes = program.shared_layout.static_bytes
        if static_bytes > MOST_STATIC_BYTES:
            fail(
                f"{static_bytes} bytes of shared arrays; wanted at most {MOST_STATIC_BYTES}, and "
                "the rest as .extern .shared, with shared_bytes at the launch"
            )
        if not 0 <= shared_bytes + static_bytes <= MAX_SHARED:
            fail(f"{shared_bytes} bytes of dynamic shared memory; a block has {MAX_SHARED} in all")
        values = {
            f"param {parameter.name}": argument
            for parameter, argument in zip(entry.parameters, arguments)
        }
        counters = Counters(len(entry.instructions))
        return Launch(
            grid, block, values, shared_bytes, self.memory, counters, self.instruction_budget
        )


def _run(program: Program, launch: Launch, blocks: int) -> None:
    """All blocks, as many at a time as make a good vector."""
    warps = -(-math.prod(launch.block) // 32)
    at_once = BATCH_THREADS // (32 * warps)
    at_once = min(at_once, BATCH_SHARED // program.shared_layout.stride(launch.shared_bytes))
    at_once = min(max(at_once, 1), blocks)
    batch = Batch(program, launch, at_once)
    for first in range(0, blocks, at_once):
        threads = batch.start(first, min(at_once, blocks - first))
        scheduler = Scheduler(program, batch, threads)
        scheduler.run()
        for number, block in enumerate(program.blocks):
            for instruction in block.instructions:
                count = launch.counters.counts[instruction]
                count.instructions += scheduler.warps[number]
                count.thread_instructions += scheduler.threads[number]
    for instruction, skipped in enumerate(batch.skipped):
        launch.counters.counts[instruction].thread_instructions -= skipped


def _three(size: Size) -> tuple[int, int, int]:
    sizes = [size] if isinstance(size, int) else list(size)
    x, y, z = [*sizes, 1, 1, 1][:3]
    return int(x), int(y), int(z)
