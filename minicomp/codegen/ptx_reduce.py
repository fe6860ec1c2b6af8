"""Folds in PTX: over the elements of a thread, over its lanes, and over the threads of a block.

In: the values that reductions fold, part by part. Out: for each reduction its finished value, in
every thread that shares in it. A thread folds into accumulators of its own, one per lane; the
threads of a warp then exchange registers (`shfl.sync`), and warps meet in shared memory.

    each thread:        total = x0 + x1 + ...
    lanes 16 apart:     total += shfl.bfly(total, 16); then 8, 4, 2, 1
    warps:              one lane writes to shared memory; barrier; everybody reads and adds all

argmax and argmin carry a pair: the best value and its position.
"""

from __future__ import annotations

from collections.abc import Sequence

from minicomp.codegen.fold_ops import COMBINE, identity
from minicomp.codegen.ptx_builder import PTXBuilder
from minicomp.codegen.ptx_emitter import FLOATING, PTXEmitter
from minicomp.codegen.ptx_lanes import COMPUTED, Lanes
from minicomp.codegen.ptx_team import (
    WARP_BITS,
    Team,
    exchanged,
    read_shared,
    shared_size,
    write_shared,
)
from minicomp.codegen.ptx_types import REGISTER, Register
from minicomp.kernels import Reduction
from minicomp.kernels.indexing import Index

State = tuple[Lanes, ...]  # (value,) or, for argmax and argmin, (value, position)

PICKS = ("argmax", "argmin")


class Fold:
    """One reduction's accumulators in a thread: start, fold, combine."""

    def __init__(self, emitter: PTXEmitter, reduction: Reduction, row_size: int, width: int):
        self.emitter, self.reduction, self.width = emitter, reduction, width
        self.is_pick = reduction.op in PICKS
        self.name = f"{reduction.op}_{reduction.number}"
        source = reduction.scalar.dtype if self.is_pick else reduction.dtype
        self.dtype = COMPUTED.get(source, source)
        self.position_dtype = "int32" if row_size < 2**31 else "int64"
        self.state: State | None = None

    def identity(self) -> State:
        """What a fold of nothing gives."""
        value = self.emitter.constant(self.dtype, identity(self.reduction.op, self.dtype))
        if not self.is_pick:
            return (value,)
        return value, self.emitter.constant(self.position_dtype, 0)

    def fold(self, emitter: PTXEmitter, value: Lanes, position: Index) -> None:
        """Fold in the value at the emitter's point, where its guard holds."""
        state: State = (emitter.convert(value, self.dtype).wide(self.width),)
        if self.is_pick:
            where = emitter.position(position, self.position_dtype)
            state = (*state, where.wide(self.width))
        guard = emitter.point.guard
        if guard is not None:
            active = Lanes("bool", (guard,))
            pairs = zip(state, self.identity(), strict=True)
            state = tuple(emitter.where(active, x, nothing) for x, nothing in pairs)
        self.state = state if self.state is None else self._extended(self.state, state)

    def _extended(self, a: State, b: State) -> State:
        """The state of a's elements and then b's one. A thread's positions rise: of equal elements
        the one that it has is the first."""
        if not self.is_pick:
            return self.combine(a, b)
        emitter = self.emitter
        keeps = emitter.le(b[0], a[0]) if self.reduction.op == "argmax" else emitter.ge(b[0], a[0])
        better = emitter.logical_not(keeps)
        if self.dtype in FLOATING:  # a NaN is kept
            better = emitter.logical_and(better, emitter.eq(a[0], a[0]))
        return emitter.where(better, b[0], a[0]), emitter.where(better, b[1], a[1])

    def combine(self, a: State, b: State) -> State:
        """The state of a's elements and b's."""
        emitter = self.emitter
        if not self.is_pick:
            return (getattr(emitter, COMBINE[self.reduction.op])(a[0], b[0]),)
        better = self._better(a, b)
        return emitter.where(better, b[0], a[0]), emitter.where(better, b[1], a[1])

    def _better(self, a: State, b: State) -> Lanes:
        """Whether b wins: it is larger (smaller), or the first NaN, or as good and earlier."""
        emitter = self.emitter
        beats = emitter.gt if self.reduction.op == "argmax" else emitter.lt
        wins, ties = beats(b[0], a[0]), emitter.eq(b[0], a[0])
        if self.dtype in FLOATING:
            a_nan, b_nan = emitter.ne(a[0], a[0]), emitter.ne(b[0], b[0])
            wins = emitter.logical_or(wins, emitter.logical_and(b_nan, emitter.logical_not(a_nan)))
            ties = emitter.logical_or(ties, emitter.logical_and(a_nan, b_nan))
        earlier = emitter.logical_and(ties, emitter.lt(b[1], a[1]))
        return emitter.logical_or(wins, earlier)

    # --- in a loop ---

    def begin(self) -> None:
        """Give the accumulators registers, which hold the identity."""
        self.state = tuple(
            Lanes(x.dtype, tuple(_variable(self.emitter, x, self.name)
                                 for _ in range(self.width)))
            for x in self.identity()
        )  # fmt: skip
        self.registers = self.state

    def carry(self) -> None:
        """At the end of a loop's body: write the state back to those registers."""
        assert self.state is not None
        for component, registers in zip(self.state, self.registers, strict=True):
            for lane, register in enumerate(registers.values):
                assert isinstance(register, Register)
                self.emitter.builder.assign(register, component.lane(lane))
        self.state = self.registers

    # --- the end ---

    def across_lanes(self) -> None:
        """One accumulator of all lanes, in a tree."""
        state = self.state or self.identity()
        lanes = [
            tuple(Lanes(x.dtype, (x.lane(lane),)) for x in state) for lane in range(self.width)
        ]
        while len(lanes) > 1:
            half = len(lanes) // 2
            paired = [self.combine(a, b) for a, b in zip(lanes[:half], lanes[half : 2 * half])]
            lanes = paired + lanes[2 * half :]
        self.state, self.width = lanes[0], 1

    def result(self) -> Lanes:
        """The reduction's value, as later sweeps see it."""
        last = (self.state or self.identity())[-1]
        return self.emitter.convert(last, "int64") if self.is_pick else last


def _variable(emitter: PTXEmitter, literal: Lanes, name: str) -> Register:
    """A register of its own that holds a literal."""
    if literal.dtype == "bool":
        start = emitter.builder.mov(1 if literal.values[0] else 0, "u32")
        return emitter.builder.setp("ne", start, 0, name=name)
    return emitter.builder.mov(literal.values[0], REGISTER[literal.dtype], name=name)


def combine_threads(
    builder: PTXBuilder, thread: Register, team: Team, folds: Sequence[Fold]
) -> None:
    """Give every thread of a team the state of all of them. All threads of the block come here,
    and one barrier serves all folds. `thread` is the thread's number in the block."""
    if team.size == 1 or not folds:
        return
    _combine_lanes(builder, range(team.low, min(team.high, WARP_BITS)), folds)
    if team.high > WARP_BITS:
        _combine_warps(builder, thread, team, folds)


def _combine_lanes(builder: PTXBuilder, bits: range, folds: Sequence[Fold]) -> None:
    """Give each lane of a warp the state of all whose numbers differ in these bits."""
    for bit in bits:
        builder.comment(f"combine lanes that are {1 << bit} apart")
        for fold in folds:
            state = fold.state or fold.identity()
            other = tuple(exchanged(builder, component.wide(fold.width), bit)
                          for component in state)  # fmt: skip
            fold.state = fold.combine(state, other)


def _combine_warps(
    builder: PTXBuilder, thread: Register, team: Team, folds: Sequence[Fold]
) -> None:
    """Through shared memory: partial results by warp, then team, then lane."""
    builder.comment(f"combine {team.warps} partial results through shared memory")
    part, key = builder.shr(thread, max(team.low, WARP_BITS)), _key(builder, thread, team)
    if team.threads >> team.high > 1:
        part = builder.and_(part, team.warps - 1)
    place = part if key is None else builder.mad(part, team.keys, key)
    # Of the lanes that hold the same, one writes.
    copies = (1 << min(team.high, WARP_BITS)) - (1 << min(team.low, WARP_BITS))
    writes = builder.setp("eq", builder.and_(thread, copies), 0) if copies else None
    arrays = [_shared_arrays(builder, fold, team) for fold in folds]
    for fold, components in zip(folds, arrays, strict=True):
        for component, array in zip(fold.state or fold.identity(), components, strict=True):
            values = component.wide(fold.width).values
            size = shared_size(component.dtype) * fold.width
            write_shared(builder, _element(builder, array, place, size), values,
                         component.dtype, writes)  # fmt: skip
    builder.barrier()
    if team.low:
        for fold, components in zip(folds, arrays, strict=True):
            _read_partial_results(builder, team, fold, components, key)
        return
    # Each lane of a warp reads one of its team's, and the lanes combine them.
    lane = builder.and_(thread, team.warps - 1)
    own = lane if key is None else builder.mad(lane, team.keys, key)
    for fold, components in zip(folds, arrays, strict=True):
        fold.state = _read_state(builder, fold, _addresses(builder, fold, components, own), 0)
    _combine_lanes(builder, range(team.warps.bit_length() - 1), folds)


def _key(builder: PTXBuilder, thread: Register, team: Team) -> Register | None:
    """The number of the thread's team; None where there is one."""
    if team.keys == 1:
        return None
    key = builder.and_(thread, (1 << team.low) - 1) if team.low else None
    if team.threads >> team.high == 1:
        return key
    above = builder.shr(thread, team.high)
    return above if key is None else builder.mad(above, 1 << team.low, key)


def _shared_arrays(builder: PTXBuilder, fold: Fold, team: Team) -> list[Register]:
    """Shared memory for a fold's partial results: the address of an array per component."""
    count = team.warps * team.keys * fold.width
    name = f"partial_{fold.name}"
    return [
        builder.mov(builder.shared_array(name, count * shared_size(x.dtype)), "u32")
        for x in fold.identity()
    ]


def _read_partial_results(
    builder: PTXBuilder, team: Team, fold: Fold, arrays: Sequence[Register], key: Register | None
) -> None:
    """Set a fold's state to all partial results of the thread's team, one after the other."""
    addresses = _addresses(builder, fold, arrays, key)
    fold.state = None
    for warp in range(team.warps):
        part = _read_state(builder, fold, addresses, warp * team.keys)
        fold.state = part if fold.state is None else fold.combine(fold.state, part)


def _addresses(
    builder: PTXBuilder, fold: Fold, arrays: Sequence[Register], place: Register | None
) -> list[Register]:
    """The address of partial result number `place`, for each component."""
    return [
        _element(builder, array, place, shared_size(component.dtype) * fold.width)
        for component, array in zip(fold.identity(), arrays, strict=True)
    ]


def _read_state(
    builder: PTXBuilder, fold: Fold, addresses: Sequence[Register], offset: int
) -> State:
    """The partial result `offset` places behind the addresses."""
    return tuple(
        read_shared(
            builder, address, x.dtype, fold.width, offset * shared_size(x.dtype) * fold.width
        )
        for x, address in zip(fold.identity(), addresses, strict=True)
    )


def _element(builder: PTXBuilder, array: Register, place: Register | None, size: int) -> Register:
    return array if place is None else builder.mad(place, size, array)
