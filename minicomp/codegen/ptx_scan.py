"""Scans in PTX: running sums along a row, or down the columns.

In: the values of one step of a team, and what the steps before it have summed up. Out: for each
lane the sum of everything up to and including it.

Along a row a team's threads have neighbouring vectors. Each sums up its own lanes; a warp then
scans the totals of its threads, with each getting the total of those 1, 2, 4, 8 and 16 before it
(Hillis and Steele, 1986), and warps hand on theirs through shared memory. Down the columns a
thread goes from element to element, with a column to each lane.
"""

from __future__ import annotations

from minicomp.codegen.fold_ops import COMBINE, identity
from minicomp.codegen.ptx_emitter import PTXEmitter
from minicomp.codegen.ptx_lanes import COMPUTED, Lanes
from minicomp.codegen.ptx_schedule import GpuLoopSchedule
from minicomp.codegen.ptx_team import (
    WARP_BITS,
    Team,
    read_shared,
    shared_size,
    shuffled,
    write_shared,
)
from minicomp.codegen.ptx_types import REGISTER, Register
from minicomp.kernels import Reduction


class Scan:
    """One scan. `before` holds what the steps so far have summed up, in registers of its own, so
    that a loop may carry it."""

    def __init__(
        self,
        emitter: PTXEmitter,
        reduction: Reduction,
        team: Team,
        thread: Register,
        schedule: GpuLoopSchedule,
    ):
        self.emitter, self.builder = emitter, emitter.builder
        self.team, self.thread, self.width = team, thread, schedule.vector
        self.combine = getattr(emitter, COMBINE[reduction.op])
        self.dtype = COMPUTED.get(reduction.dtype, reduction.dtype)
        self.nothing = emitter.constant(self.dtype, identity(reduction.op, self.dtype))
        self.step = self._along_row if schedule.axis == "inner" else self._down_columns
        # Along a row there is one total of all lanes, down the columns one for each.
        lanes = 1 if schedule.axis == "inner" else schedule.vector
        kind = REGISTER[self.dtype]
        self.registers = Lanes(
            self.dtype,
            tuple(self.builder.mov(self.nothing.values[0], kind, "before") for _ in range(lanes)),
        )
        self.before = self.registers
        self.array = ""  # of shared memory, for the totals of warps
        if team.warps > 1:
            size = shared_size(self.dtype) * schedule.threads >> WARP_BITS
            self.array = self.builder.shared_array("totals", size)

    def carry(self) -> None:
        """At the end of a loop's body: write the sum so far back to its registers."""
        for lane, register in enumerate(self.registers.values):
            assert isinstance(register, Register)
            self.builder.assign(register, self.before.lane(lane))
        self.before = self.registers

    def _down_columns(self, emitter: PTXEmitter, value: Lanes) -> Lanes:
        """The next element of each column."""
        value = emitter.convert(value, self.dtype).wide(self.width)
        self.before = self.combine(self.before, value)
        return self.before

    def _along_row(self, emitter: PTXEmitter, value: Lanes) -> Lanes:
        """The team's next vectors."""
        value = emitter.convert(value, self.dtype).wide(self.width)
        if emitter.point.guard is not None:
            value = emitter.where(Lanes("bool", (emitter.point.guard,)), value, self.nothing)
        sums = [Lanes(self.dtype, (value.lane(0),))]
        for lane in range(1, self.width):
            sums.append(self.combine(sums[-1], Lanes(self.dtype, (value.lane(lane),))))
        earlier, total = self._of_team(sums[-1])
        start = self.combine(self.before, earlier)
        self.before = self.combine(self.before, total)
        running = [self.combine(start, part).values[0] for part in sums]
        return Lanes(self.dtype, tuple(running))

    def _of_team(self, total: Lanes) -> tuple[Lanes, Lanes]:
        """(the sum of the totals of the threads before this one, that of all the team's)."""
        builder = self.builder
        if self.team.size == 1:
            return self.nothing, total
        lanes = 1 << min(self.team.high, WARP_BITS)
        place = builder.and_(self.thread, lanes - 1)
        # The clamp keeps a shuffle within a segment of that many lanes.
        first, last = (32 - lanes) << 8, ((32 - lanes) << 8) | 31
        inclusive = total
        for bit in range(min(self.team.high, WARP_BITS)):
            builder.comment(f"add what is {1 << bit} before")
            other = self._shuffled(inclusive, "up", 1 << bit, first)
            reaches = Lanes("bool", (builder.setp("ge", place, 1 << bit),))
            added = self.combine(other, inclusive)
            inclusive = self.emitter.where(reaches, added, inclusive)
        exclusive = self._shuffled(inclusive, "up", 1, first)
        is_first = Lanes("bool", (builder.setp("eq", place, 0),))
        exclusive = self.emitter.where(is_first, self.nothing, exclusive)
        if self.team.high <= WARP_BITS:
            return exclusive, self._shuffled(inclusive, "idx", lanes - 1, last)
        return self._of_block(inclusive, exclusive)

    def _shuffled(self, x: Lanes, mode: str, lane: int, clamp: int) -> Lanes:
        return Lanes(x.dtype, (shuffled(self.builder, x.values[0], x.dtype, mode, lane, clamp),))

    def _of_block(self, inclusive: Lanes, exclusive: Lanes) -> tuple[Lanes, Lanes]:
        """The same across warps, of which the last lanes write their totals to shared memory."""
        builder, size, warps = self.builder, shared_size(self.dtype), self.team.warps
        warp = builder.and_(builder.shr(self.thread, WARP_BITS), warps - 1)
        first = builder.sub(builder.shr(self.thread, WARP_BITS), warp)
        array = builder.mad(first, size, builder.mov(self.array, "u32"))
        is_last = builder.setp("eq", builder.and_(self.thread, 31), 31)
        builder.comment("the totals of warps, once everybody has read those of the last step")
        builder.barrier()
        own = builder.mad(warp, size, array)
        write_shared(builder, own, inclusive.values, self.dtype, is_last)
        builder.barrier()
        before, total = self.nothing, self.nothing
        for number in range(warps):
            value = read_shared(builder, array, self.dtype, 1, number * size)
            is_before = Lanes("bool", (builder.setp("gt", warp, number),))
            total = self.combine(total, value) if number else value
            before = self.emitter.where(is_before, total, before)
        return self.combine(before, exclusive), total
