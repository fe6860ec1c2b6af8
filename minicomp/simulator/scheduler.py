"""Runs a batch: which threads go on, where paths part and meet, and who waits for whom.

Threads that are at the same block run together. While all take the same branches there is one
set of them; where they part there are several, each at a block of its own, and the set at the
least block runs (`control_flow` says why that is where it should be). Sets that come to the same
block join.

A barrier holds threads until all those of their block have come. A warp-level instruction holds
them until all lanes of its member mask have come, but those that have returned. When nobody can
go on, whoever is held is reported: that is what a hanging kernel looks like.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minicomp.errors import SimulationError
from minicomp.simulator.batch import Batch
from minicomp.simulator.control_flow import Block, Fork, Next, Wait
from minicomp.simulator.decode import Barrier
from minicomp.simulator.program import Program
from minicomp.simulator.syntax import Instruction
from minicomp.simulator.threads import Threads

Array = np.ndarray


@dataclass(frozen=True)
class _Held:
    """Threads at a barrier; `instruction` is its number, `block` where they go on."""

    barrier: Barrier
    instruction: int
    threads: Threads
    block: int


class Scheduler:
    """Runs the blocks of one batch to their ends."""

    def __init__(self, program: Program, batch: Batch, threads: Threads):
        self.program, self.batch, self.everyone = program, batch, threads
        self.instructions = program.entry.instructions
        self.blocks = program.blocks
        self.actions = [
            [action for number in block.instructions if (action := program.actions[number])]
            for block in program.blocks
        ]
        #: threads that can run, by block
        self.ready: dict[int, Threads] = {0: threads}
        #: lanes that wait for others of their warp, by block
        self.parted: dict[int, Threads] = {}
        self.held: list[_Held] = []
        #: by block: how often it was run by warps and by threads
        self.warps = [0] * len(self.blocks)
        self.threads = [0] * len(self.blocks)

    def run(self) -> None:
        """Raises SimulationError for what the kernel does wrong."""
        while self.ready or self.release():
            number = min(self.ready)
            threads = self.ready.pop(number)
            if self.blocks[number].converge is None:
                self.step(number, threads)
            elif complete := self.converged(number, threads):
                self.step(number, complete)
        if self.parted:
            self.fail_parted()
        self.batch.check_race(self.batch.races.block_barrier(None))

    def step(self, number: int, threads: Threads) -> None:
        """Run one block, and send its threads on."""
        block, batch = self.blocks[number], self.batch
        self.warps[number] += threads.warps
        self.threads[number] += threads.count
        batch.steps += 1 + len(block.instructions)
        if batch.steps > batch.launch.budget:
            self.fail_budget(number, threads)
        for action in self.actions[number]:
            action(batch, threads)
        leave = block.leave
        if isinstance(leave, Next):
            self.go(leave.block, threads)
        elif isinstance(leave, Fork):
            self.fork(block, leave, threads)
        elif isinstance(leave, Wait):
            self.hold(_Held(leave.barrier, block.instructions[-1], threads, leave.block))
        else:
            batch.gone[threads.index] = True
            if block.instructions:
                batch.returned_at[threads.index] = block.instructions[-1]

    def go(self, number: int, threads: Threads) -> None:
        other = self.ready.get(number)
        self.ready[number] = threads if other is None else threads.union(other)

    def fork(self, block: Block, fork: Fork, threads: Threads) -> None:
        guard = fork.guard
        if guard.register.number in self.batch.written:
            self.batch.check_written(guard.register, self.guarded_instruction(block), threads)
        holds = self.batch.registers[self.program.guards[guard.register]][threads.index]
        if guard.negated:
            holds = ~holds
        if holds.all():
            self.go(fork.taken, threads)
        elif not holds.any():
            self.go(fork.otherwise, threads)
        else:
            self.go(fork.taken, threads.where(holds))
            self.go(fork.otherwise, threads.where(~holds))

    def guarded_instruction(self, block: Block) -> Instruction:
        """The one whose guard makes a fork: a branch that ends the block, or what is next."""
        last = block.instructions[-1] if block.instructions else None
        if last is not None and self.instructions[last].name == "bra":
            return self.instructions[last]
        assert isinstance(block.leave, Fork)
        return self.instructions[self.blocks[block.leave.taken].instructions[0]]

    # --- barriers ---

    def hold(self, held: _Held) -> None:
        """Threads have come to a barrier; if those are all there are, they just go on."""
        everyone = held.threads.count == self.everyone.count and held.barrier.count is None
        if everyone:
            self.batch.check_race(self.batch.races.block_barrier(None))
            self.go(held.block, held.threads)
        else:
            self.held.append(held)

    def release(self) -> bool:
        """Let those go for whose barrier all have come; whether there are any. Called when
        nobody else can run."""
        if self.wake():
            return True
        for barrier in dict.fromkeys(held.barrier for held in self.held):
            here = [held for held in self.held if held.barrier == barrier]
            passed = self.complete(barrier, here)
            if not passed.any():
                continue
            self.check_aligned(here, passed)
            self.held = [held for held in self.held if held.barrier != barrier]
            for held in here:
                mask = passed[held.threads.numbers]
                if mask.any():
                    self.go(held.block, held.threads.where(mask))
                if not mask.all():
                    rest = held.threads.where(~mask)
                    self.held.append(_Held(barrier, held.instruction, rest, held.block))
            self.batch.check_race(self.batch.races.block_barrier(passed))
            return True
        if self.held:
            self.fail_barrier()
        return False

    def complete(self, barrier: Barrier, here: list[_Held]) -> Array:
        """By place: whether its thread is held at the barrier and may pass."""
        batch = self.batch
        arrived = np.zeros(batch.total, bool)
        for held in here:
            arrived[held.threads.index] = True
        per_block = arrived.reshape(-1, batch.warps_per_block * 32)
        wanted = batch.threads_per_block if barrier.count is None else barrier.count
        full = per_block.sum(axis=1) == wanted
        return (per_block & full[:, None]).ravel()

    def check_aligned(self, here: list[_Held], passed: Array) -> None:
        """Lanes of one warp must come by the same instruction, and so all at once."""
        at = np.full(self.batch.total, -1)
        for held in here:
            at[held.threads.index] = held.instruction
        at[~passed] = -1
        lanes = at.reshape(-1, 32)
        first = lanes.max(axis=1, keepdims=True)
        real = ~self.batch.gone.reshape(-1, 32)
        wrong = (lanes != first) & (first >= 0) & real
        if wrong.any():
            place = int(np.flatnonzero(wrong.ravel())[0])
            one = self.instructions[int(first[place // 32, 0])]
            other = int(at[place])
            where = "is elsewhere" if other < 0 else f"waits at {self.instructions[other].place}"
            raise SimulationError(
                "divergent barrier: lanes of one warp must come to it together, but "
                f"{self.batch.thread_name(place)} {where}",
                what=one.place,
            )

    # --- warps ---

    def converged(self, number: int, threads: Threads) -> Threads | None:
        """Those of the threads, and of those that waited here before, whose warps are complete."""
        waiting = self.parted.pop(number, None)
        threads = threads if waiting is None else threads.union(waiting)
        wait = self.incomplete(number, threads)
        if wait is None:
            return threads
        self.parted[number] = threads.where(wait)
        return None if wait.all() else threads.where(~wait)

    def wake(self) -> bool:
        """Let lanes go on that waited for lanes which have returned; whether there are any."""
        for number, threads in self.parted.items():
            wait = self.incomplete(number, threads)
            if wait is None or not wait.all():
                self.ready[number] = self.parted.pop(number)
                return True
        return False

    def incomplete(self, number: int, threads: Threads) -> Array | None:
        """Which of these threads must wait for lanes that are not here; None: none of them."""
        converge, batch = self.blocks[number].converge, self.batch
        assert converge is not None
        instruction = self.instructions[self.blocks[number].instructions[0]]
        members = self.members(converge.members, instruction, threads)
        if threads.count == batch.total:
            return None
        present = np.zeros(batch.total, bool)
        present[threads.index] = True
        # an instruction for all lanes is not for a warp of which some have returned
        lanes = _lane_bits(present if converge.members is None else present | batch.gone)
        missing = (members & ~lanes[threads.numbers >> 5]) != 0
        if not missing.any():
            return None
        incomplete = np.zeros(batch.total // 32, bool)
        incomplete[threads.numbers[missing] >> 5] = True
        return incomplete[threads.numbers >> 5]

    def members(self, slot: int | None, instruction: Instruction, threads: Threads) -> Array:
        """The member mask of each thread, which must itself be in it."""
        if slot is None:
            return np.full(threads.count, 0xFFFFFFFF, np.uint32)
        members = self.batch.registers[slot][threads.index]
        own = np.uint32(1) << (threads.numbers & 31).astype(np.uint32)
        outside = (members & own) == 0
        if outside.any():
            position = int(np.argmax(outside))
            raise SimulationError(
                f"{self.batch.thread_name(int(threads.numbers[position]))} is not in its own "
                f"member mask {int(members[position]):#x}",
                what=instruction.place,
            )
        return members

    # --- kernels that do not end ---

    def whereabouts(self, place: int) -> str:
        """Where a thread is that did not come."""
        for held in self.held:
            if place in held.threads.numbers:
                return f"waits at {self.instructions[held.instruction].place}"
        for number, threads in self.parted.items():
            if place in threads.numbers:
                waits = self.instructions[self.blocks[number].instructions[0]]
                return f"waits for lanes of its warp at {waits.place}"
        if self.batch.thread_in_block[place] >= self.batch.threads_per_block:
            return "is not in the block"
        returned = int(self.batch.returned_at[place])
        at = f" at {self.instructions[returned].place}" if returned >= 0 else ""
        return f"has returned{at}"

    def fail_barrier(self) -> None:
        """Some thread waits at a barrier for one that never comes."""
        held, batch = self.held[0], self.batch
        place = int(held.threads.numbers[0])
        same = [other.threads.numbers for other in self.held if other.barrier == held.barrier]
        in_block = np.flatnonzero(batch.block_in_batch == batch.block_in_batch[place])
        in_block = in_block[: batch.threads_per_block]
        absent = np.setdiff1d(in_block, np.concatenate(same))
        arrived = len(in_block) - len(absent)
        wanted = batch.threads_per_block if held.barrier.count is None else held.barrier.count
        others = (
            f"; {batch.thread_name(int(absent[0]))} {self.whereabouts(int(absent[0]))}"
            if len(absent)
            else ""
        )
        raise SimulationError(
            f"divergent barrier: {batch.thread_name(place)} waits for ever, {arrived} of "
            f"{wanted} threads have come{others}",
            what=self.instructions[held.instruction].place,
        )

    def fail_parted(self) -> None:
        """Some lane waits for others of its warp that never come."""
        number, threads = min(self.parted.items())
        converge = self.blocks[number].converge
        assert converge is not None
        instruction = self.instructions[self.blocks[number].instructions[0]]
        place = int(threads.numbers[0])
        members = int(self.members(converge.members, instruction, threads)[0])
        first = place & ~31
        there = np.zeros(32, bool)
        there[threads.numbers[threads.numbers >> 5 == place >> 5] - first] = True
        if converge.members is not None:
            there |= self.batch.gone[first : first + 32]
        absent = next(lane for lane in range(32) if members >> lane & 1 and not there[lane])
        raise SimulationError(
            f"{self.batch.thread_name(place)} waits for ever for lane {absent} of its warp, "
            f"which {self.whereabouts(first + absent)}",
            what=instruction.place,
        )

    def fail_budget(self, number: int, threads: Threads) -> None:
        block = self.blocks[number]
        line = self.instructions[block.instructions[0]] if block.instructions else None
        raise SimulationError(
            f"an infinite loop? {self.batch.launch.budget} instructions have run, and "
            f"{self.batch.thread_name(int(threads.numbers[0]))} is still here; if the kernel is "
            "right, give the simulator a larger instruction_budget",
            what=line.place if line else None,
        )


def _lane_bits(mask: Array) -> Array:
    """One uint32 a warp, with the bits of the lanes for which `mask` holds."""
    weights = np.uint32(1) << np.arange(32, dtype=np.uint32)
    return (mask.reshape(-1, 32) * weights).sum(axis=1, dtype=np.uint32)
