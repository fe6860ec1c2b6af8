"""Accumulators of a reduction in LLVM IR: start, fold, combine lanes.

In: the reductions of one sweep. Out: for each its finished value. An accumulator is a stack slot
in the entry block (LLVM's `sroa` pass makes it a register), one per vector width and unrolled
copy, so that consecutive additions do not wait for each other. argmax and argmin carry a pair:
the best value and its position.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llvmlite import ir

from minicomp.codegen.fold_ops import COMBINE, identity
from minicomp.codegen.llvm_emitter import LLVMEmitter
from minicomp.codegen.llvm_function import KernelFunction
from minicomp.codegen.llvm_types import REGISTER, i32, lanes_of, literal, poison, widen
from minicomp.kernels import Reduction
from minicomp.kernels.indexing import Index

State = tuple[ir.Value, ...]  # (value,) or, for argmax and argmin, (value, position)


@dataclass
class _Slot:
    """Where one accumulator lives: a stack slot per component, all of `lanes` lanes."""

    lanes: int
    pointers: tuple[ir.Value, ...]
    types: tuple[ir.Type, ...]


class Accumulators:
    """The accumulators of one sweep's reductions. Slots are made when a width is first met and
    set to the identity where the sweep begins (the builder's position at construction)."""

    def __init__(
        self, function: KernelFunction, emitter: LLVMEmitter, reductions: Sequence[Reduction]
    ):
        self.function, self.emitter = function, emitter
        self.builder = function.builder
        self.reductions = reductions
        self.slots: dict[tuple[int, int, int], _Slot] = {}
        if not reductions:
            return
        # The identities are stored in a block of their own, which later slots append to.
        self.start = self.builder.append_basic_block("fold.start")
        self.builder.branch(self.start)
        following = self.builder.append_basic_block("fold")
        self.builder.position_at_end(self.start)
        self.builder.branch(following)
        self.builder.position_at_end(following)

    def fold(self, reduction: Reduction, copy: int, value: ir.Value, position: Index) -> ir.Value:
        """Fold one vector (or scalar) in; gives the new accumulator."""
        emitter = self.emitter
        lanes = emitter.width if emitter.vector is not None else 1
        slot = self._slot(reduction, copy, lanes)
        state: State = (
            emitter.splat(emitter.convert(value, self._dtype(reduction, value)), lanes),
        )
        if reduction.op in ("argmax", "argmin"):
            where = emitter.splat(emitter.position(position, "int64"), lanes)
            state = (emitter.splat(value, lanes), where)
        return self._update(slot, lambda old: self._combine(reduction, old, state))

    def fold_square(self, reduction: Reduction, copy: int, root: ir.Value) -> ir.Value:
        """Fold root * root into a sum, with one rounding; gives the new accumulator."""
        emitter = self.emitter
        lanes = emitter.width if emitter.vector is not None else 1
        slot = self._slot(reduction, copy, lanes)
        root = emitter.splat(root, lanes)
        return self._update(slot, lambda old: (emitter.fma(root, root, old[0]),))

    def scan(self, reduction: Reduction, value: ir.Value) -> ir.Value:
        """The running results at each lane, the lanes being neighbours in one row.

        In steps of 1, 2, 4, ... lanes, each of which completes groups twice as wide (Sklansky,
        "Conditional-sum addition logic", 1960). One vector waits for the one before only for an
        addition of scalars.
        """
        emitter, lanes = self.emitter, self.emitter.width
        slot, element = self._slot(reduction, 0, 1), REGISTER[reduction.dtype]
        value = emitter.splat(emitter.convert(value, reduction.dtype), lanes)
        nothing = literal(element, identity(reduction.op, reduction.dtype), lanes)
        distance = 1
        while distance < lanes:
            # What every other group lacks is the last lane of the group before it.
            picks = [
                lanes + (lane & -distance) - 1 if lane & distance else 0 for lane in range(lanes)
            ]
            mask = ir.Constant(ir.VectorType(i32, lanes), picks)
            moved = self.builder.shuffle_vector(nothing, value, mask)
            value = self._combine(reduction, (moved,), (value,))[0]
            distance *= 2
        before = self._load(slot)
        self._update(slot, lambda old: self._combine(reduction, old, (self._last(value),)))
        return self._combine(reduction, before, (value,))[0]

    def _last(self, x: ir.Value) -> ir.Value:
        return self._part(x, lanes_of(x) - 1, 1) if lanes_of(x) > 1 else x

    def _update(self, slot: _Slot, change: Callable[[State], State]) -> ir.Value:
        new = change(self._load(slot))
        for pointer, component in zip(slot.pointers, new, strict=True):
            self.builder.store(component, pointer)
        return new[-1]

    def _load(self, slot: _Slot) -> State:
        return tuple(
            self.builder.load(pointer, typ=kind)
            for pointer, kind in zip(slot.pointers, slot.types, strict=True)
        )

    def results(self) -> dict[int | str, ir.Value]:
        """Per reduction its accumulator as it is, lanes kept: each lane is a row of its own."""
        return {
            reduction.number: self._combined(reduction, slots)[-1]
            for reduction, slots in self._by_reduction()
        }

    def finish(self) -> dict[int | str, ir.Value]:
        """Per reduction one scalar: copies combined, then lanes, then widths."""
        finished: dict[int | str, ir.Value] = {}
        for reduction, slots in self._by_reduction():
            by_width: dict[int, list[_Slot]] = {}
            for slot in slots:
                by_width.setdefault(slot.lanes, []).append(slot)
            scalars = [
                self._across_lanes(reduction, self._combined(reduction, group))
                for group in by_width.values()
            ]
            total = scalars[0]
            for scalar in scalars[1:]:
                total = self._combine(reduction, total, scalar)
            finished[reduction.number] = total[-1]
        return finished

    # --- plumbing ---

    def _dtype(self, reduction: Reduction, value: ir.Value) -> str:
        """Sums of int32 accumulate in the result's int64; picks compare in their own dtype."""
        if reduction.op in ("argmax", "argmin"):
            return self.emitter.dtype(value)
        return reduction.dtype

    def _slot(self, reduction: Reduction, copy: int, lanes: int) -> _Slot:
        key = (reduction.number, lanes, copy)
        if key not in self.slots:
            dtypes = [reduction.scalar.dtype if reduction.op.startswith("arg") else reduction.dtype]
            starts = [identity(reduction.op, dtypes[0])]
            if reduction.op.startswith("arg"):
                dtypes, starts = [*dtypes, "int64"], [*starts, 0]
            types = tuple(widen(REGISTER[dtype], lanes) for dtype in dtypes)
            pointers = tuple(
                self.function.entry_alloca(kind, f"r{reduction.number}") for kind in types
            )
            with self.builder.goto_block(self.start):
                for pointer, dtype, start in zip(pointers, dtypes, starts, strict=True):
                    self.builder.store(literal(REGISTER[dtype], start, lanes), pointer)
            self.slots[key] = _Slot(lanes, pointers, types)
        return self.slots[key]

    def _by_reduction(self) -> list[tuple[Reduction, list[_Slot]]]:
        for reduction in self.reductions:  # an empty loop made no slot: it gives the identity
            if not any(number == reduction.number for number, _, _ in self.slots):
                self._slot(reduction, 0, 1)
        return [
            (r, [slot for key, slot in self.slots.items() if key[0] == r.number])
            for r in self.reductions
        ]

    def _combined(self, reduction: Reduction, slots: list[_Slot]) -> State:
        """All slots of one width as one state."""
        states = [self._load(slot) for slot in slots]
        while len(states) > 1:  # a tree, so that the additions overlap
            left, right = states[: len(states) // 2], states[len(states) // 2 :]
            paired = [self._combine(reduction, a, b) for a, b in zip(left, right)]
            states = paired + right[len(left) :]
        return states[0]

    def _combine(self, reduction: Reduction, a: State, b: State) -> State:
        """The state of a's elements followed by b's."""
        emitter = self.emitter
        if reduction.op not in ("argmax", "argmin"):
            return (getattr(emitter, COMBINE[reduction.op])(a[0], b[0]),)
        better = self._better(reduction.op, a, b)
        return emitter.where(better, b[0], a[0]), emitter.where(better, b[1], a[1])

    def _better(self, op: str, a: State, b: State) -> ir.Value:
        """Whether b wins: it is larger (smaller), or the first NaN, or as good and earlier."""
        emitter = self.emitter
        beats = emitter.gt if op == "argmax" else emitter.lt
        wins, ties = beats(b[0], a[0]), emitter.eq(b[0], a[0])
        if emitter.dtype(a[0]) in ("float32", "float64"):
            a_nan, b_nan = emitter.ne(a[0], a[0]), emitter.ne(b[0], b[0])
            wins = emitter.logical_or(wins, emitter.logical_and(b_nan, emitter.logical_not(a_nan)))
            ties = emitter.logical_or(ties, emitter.logical_and(a_nan, b_nan))
        earlier = emitter.logical_and(ties, emitter.lt(b[1], a[1]))
        return emitter.logical_or(wins, earlier)

    def _across_lanes(self, reduction: Reduction, state: State) -> State:
        """Halve a vector against itself until one lane is left; odd lanes go one by one."""
        lanes = lanes_of(state[0])
        while lanes > 1 and lanes % 2 == 0:
            lanes //= 2
            low = tuple(self._part(component, 0, lanes) for component in state)
            high = tuple(self._part(component, lanes, lanes) for component in state)
            state = self._combine(reduction, low, high)
        if lanes == 1:
            return state
        singles = [tuple(self._part(c, lane, 1) for c in state) for lane in range(lanes)]
        total = singles[0]
        for single in singles[1:]:
            total = self._combine(reduction, total, single)
        return total

    def _part(self, x: ir.Value, start: int, count: int) -> ir.Value:
        """Lanes [start, start + count) of a vector."""
        if count == 1:
            return self.builder.extract_element(x, ir.Constant(i32, start))
        picks = ir.Constant(ir.VectorType(i32, count), list(range(start, start + count)))
        return self.builder.shuffle_vector(x, poison(x.type), picks)
