"""Some blocks of a launch, run together: their threads' registers and shared memory.

Blocks do not depend on each other, so the threads of many are one vector: thread t of the batch's
block b has the place b * (threads of a block, rounded up to warps) + t in each register's array.
Warps are 32 neighbouring places; those beyond a block's last thread are never run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from minicomp.errors import SimulationError
from minicomp.simulator import special
from minicomp.simulator.async_copies import AsyncCopies
from minicomp.simulator.counters import Counters
from minicomp.simulator.global_memory import BASE, GlobalMemory
from minicomp.simulator.memory import Fault, Memory
from minicomp.simulator.races import Race, Races
from minicomp.simulator.syntax import Instruction, Register
from minicomp.simulator.threads import Threads

if TYPE_CHECKING:
    from minicomp.simulator.decode import Slot
    from minicomp.simulator.program import Program

Array = np.ndarray


@dataclass(frozen=True)
class Launch:
    """What a launch gives a kernel."""

    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    arguments: dict[str, int | float]
    shared_bytes: int
    memory: GlobalMemory
    counters: Counters
    #: instructions that a thread may run
    budget: int


class Batch:
    """See the module's docstring. Actions read and change it."""

    def __init__(self, program: Program, launch: Launch, blocks: int):
        self.program, self.launch = program, launch
        self.memory, self.counters = launch.memory, launch.counters
        self.threads_per_block = int(np.prod(launch.block))
        self.warps_per_block = -(-self.threads_per_block // 32)
        self.total = blocks * self.warps_per_block * 32
        places = np.arange(self.total)
        self.block_in_batch = places // (self.warps_per_block * 32)
        self.thread_in_block = places % (self.warps_per_block * 32)
        self.block_of_thread = self.block_in_batch
        layout = program.shared_layout
        self.shared_stride = layout.stride(launch.shared_bytes)
        self.shared = Memory(blocks * self.shared_stride)
        self._shared_base = self.block_in_batch.astype(np.uint64) * np.uint64(self.shared_stride)
        self._fresh_shadow = np.tile(layout.shadow(launch.shared_bytes), blocks)
        self.races = Races(self.shared.size, program.granule, program.warp_barriers)
        self.copies = AsyncCopies(self.total)
        self._registers: dict[int, Array] = {}
        self.registers = [self._array(slot) for slot in program.slots]
        self.written = {number: np.zeros(self.total, bool) for number in program.watched}
        #: by instruction: threads for which its guard did not hold
        self.skipped = [0] * len(program.entry.instructions)
        self.steps = 0

    def start(self, first_block: int, blocks: int) -> Threads:
        """Make it the batch of these blocks; their threads, ready to run."""
        self.block_of_thread = self.block_in_batch + first_block
        for slot, number in self._block_slots():
            self.registers[number][:] = special.values(str(slot.special), self)
        real = (self.thread_in_block < self.threads_per_block) & (self.block_in_batch < blocks)
        #: places at which no thread runs (any more)
        self.gone = ~real
        #: by place: the number of the instruction at which its thread returned, or -1
        self.returned_at = np.full(self.total, -1)
        self.shared.shadow[:] = self._fresh_shadow
        self.races.start()
        self.copies.start()
        for written in self.written.values():
            written[:] = False
        self.steps = 0
        return Threads(np.flatnonzero(real))

    def _block_slots(self) -> list[tuple[Slot, int]]:
        return [
            (slot, number)
            for number, slot in enumerate(self.program.slots)
            if slot.special is not None and slot.special.startswith("%ctaid")
        ]

    def _array(self, slot: Slot) -> Array:
        if slot.register is not None:
            number = slot.register.number
            if number not in self._registers:
                self._registers[number] = np.zeros(self.total, f"V{max(slot.dtype.itemsize, 1)}")
            return self._registers[number].view(slot.dtype)
        if slot.constant is not None:
            return np.broadcast_to(np.array(slot.constant).astype(slot.dtype), self.total)
        name = str(slot.special)
        if name in self.launch.arguments:
            value = np.array(self.launch.arguments[name]).astype(slot.dtype)
            return np.broadcast_to(value, self.total)
        values = np.zeros(self.total, slot.dtype)
        if name not in special.CLOCKS:
            values[:] = special.values(name, self)
        return values

    def shared_offsets(self, addresses: Array, threads: Threads) -> Array:
        """Offsets in `shared` of addresses in the threads' own blocks."""
        offsets = addresses + self._shared_base[threads.index]
        if addresses.max() >= self.shared_stride:
            position = int(np.argmax(addresses >= self.shared_stride))
            raise Fault("out of bounds", position, int(offsets[position]))
        return offsets

    # --- what a debugger would say ---

    def thread_name(self, place: int) -> str:
        """`thread (5, 0, 0) of block (1, 0, 0)`"""
        thread = _coordinates(int(self.thread_in_block[place]), self.launch.block)
        block = _coordinates(int(self.block_of_thread[place]), self.launch.grid)
        return f"thread {thread} of block {block}"

    def fault(
        self, fault: Fault, instruction: Instruction, threads: Threads, space: str
    ) -> SimulationError:
        """The error of an access to "global" or "shared" memory."""
        place = int(threads.numbers[fault.position])
        if space == "global":
            offset = fault.offset - (1 << 64) * (fault.offset >= 1 << 63)
            address, where = BASE + offset, self.memory.describe(offset)
        else:
            address = (fault.offset - int(self._shared_base[place])) % (1 << 64)
            where = self.shared_place(address)
        return SimulationError(
            f"{fault.reason}: {space} address {address % (1 << 64):#x}, {where}; "
            f"{self.thread_name(place)}",
            what=instruction.place,
        )

    def shared_place(self, address: int) -> str:
        return self.program.shared_layout.describe(address, self.launch.shared_bytes)

    def check_race(self, race: Race | None) -> None:
        """Raise the error of a race, if there is one."""
        if race is None:
            return
        instructions = self.program.entry.instructions
        other = instructions[race.other_instruction]
        raise SimulationError(
            f"race in shared memory: {self.thread_name(race.thread)} and, at {other.place}, "
            f"{self.thread_name(race.other_thread)} access "
            f"{self.shared_place(race.offset % self.shared_stride)}, at least one of them writes, "
            "and no barrier is between",
            what=instructions[race.instruction].place,
        )

    def check_written(self, register: Register, instruction: Instruction, threads: Threads) -> None:
        """Raise an error if one of the threads never wrote a register."""
        written = self.written[register.number][threads.index]
        if not written.all():
            place = int(threads.numbers[int(np.argmin(written))])
            raise SimulationError(
                f"{register} is read, but never written; {self.thread_name(place)}",
                what=instruction.place,
            )


def _coordinates(linear: int, sizes: tuple[int, int, int]) -> tuple[int, int, int]:
    x, y, _ = sizes
    return linear % x, linear // x % y, linear // (x * y)
