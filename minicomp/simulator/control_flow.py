"""Basic blocks in the order in which the scheduler prefers them, and what may be undefined.

In: a kernel's decoded instructions. Out: `Block`s, numbered so that a block comes before those
that follow it, loops' back edges aside (a reverse postorder). Of threads that have parted, the
scheduler runs those in the block with the least number; the others wait where the paths meet, so
they join again. For if-else, loops with different trip counts and early returns that is at the
immediate post-dominator, wherever in the text the parts stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from minicomp.simulator.decode import Barrier, Converge, Decoded, Jump, Stop
from minicomp.simulator.syntax import Entry, Guard, Register

#: an instruction's number twice, plus one for what its guard guards
Point = int


@dataclass(frozen=True)
class Fork:
    """Threads for which the guard holds go to `taken`, the others to `otherwise`."""

    guard: Guard
    taken: int
    otherwise: int


@dataclass(frozen=True)
class Next:
    block: int


@dataclass(frozen=True)
class Wait:
    """A barrier, the last instruction of its block, and then `block`."""

    barrier: Barrier
    block: int


Leave = Fork | Next | Wait | Stop


@dataclass
class Block:
    #: numbers of instructions; a `Converge` is alone in its block, control comes last
    instructions: list[int]
    leave: Leave
    converge: Converge | None = None


@dataclass
class _Draft:
    """A block before blocks are numbered: targets are points."""

    instructions: list[int] = field(default_factory=list)
    leave: Leave = field(default_factory=Stop)
    converge: Converge | None = None

    def targets(self) -> list[Point]:
        match self.leave:
            case Fork(_, taken, otherwise):
                return [taken, otherwise]
            case Next(block) | Wait(_, block):
                return [block]
        return []


def blocks(entry: Entry, decoded: Sequence[Decoded]) -> list[Block]:
    """The reachable blocks, the first of which is where threads start."""
    drafts: dict[Point, _Draft] = {}
    starts = {0} | set(entry.labels.values())
    todo = [0]
    while todo:
        point = todo.pop()
        if point not in drafts:
            drafts[point] = _draft(entry, decoded, point, starts)
            todo += drafts[point].targets()
    order = {point: number for number, point in enumerate(_reverse_postorder(drafts))}
    return [_numbered(drafts[point], order) for point in order]


def _draft(entry: Entry, decoded: Sequence[Decoded], point: Point, starts: set[int]) -> _Draft:
    """The block that starts at a point."""
    position, inside_guard = divmod(point, 2)
    draft = _Draft()
    while position < len(decoded):
        action = decoded[position]
        guard = None if inside_guard else entry.instructions[position].guard
        following = 2 * (position + 1)
        if isinstance(action, Jump):
            target = 2 * entry.labels[action.label]
            draft.instructions.append(position)
            draft.leave = Fork(guard, target, following) if guard else Next(target)
            return draft
        if isinstance(action, Barrier | Stop | Converge):
            if guard:
                draft.leave = Fork(guard, 2 * position + 1, following)
                return draft
            if isinstance(action, Converge):
                if draft.instructions:
                    draft.leave = Next(2 * position)
                    return draft
                draft.converge = action
                draft.leave = Next(following)
            elif isinstance(action, Barrier):
                draft.leave = Wait(action, following)
            draft.instructions.append(position)
            return draft
        draft.instructions.append(position)
        position, inside_guard = position + 1, 0
        if position in starts and position < len(decoded):
            draft.leave = Next(2 * position)
            return draft
    return draft


def _reverse_postorder(drafts: dict[Point, _Draft]) -> list[Point]:
    """Successors that stand later in the text are visited first, and so come later: of a loop's
    body and its exit, the body gets the lower numbers."""
    finished: list[Point] = []
    seen = {0}
    stack = [(0, sorted(drafts[0].targets()))]
    while stack:
        point, targets = stack[-1]
        if not targets:
            finished.append(point)
            stack.pop()
            continue
        target = targets.pop()
        if target not in seen:
            seen.add(target)
            stack.append((target, sorted(drafts[target].targets())))
    return finished[::-1]


def _numbered(draft: _Draft, order: dict[Point, int]) -> Block:
    leave = draft.leave
    match leave:
        case Fork(guard, taken, otherwise):
            leave = Fork(guard, order[taken], order[otherwise])
        case Next(block):
            leave = Next(order[block])
        case Wait(barrier, block):
            leave = Wait(barrier, order[block])
    return Block(draft.instructions, leave, draft.converge)


@dataclass(frozen=True)
class Usage:
    """The registers that an instruction reads and writes, and the predicate that guards it."""

    reads: frozenset[Register]
    writes: frozenset[Register]
    guard: Register | None


def maybe_undefined(blocks: Sequence[Block], usage: Sequence[Usage]) -> set[Register]:
    """Registers that some path may read before writing: only these are watched at run time.

    Forward data flow: what is surely written where a block starts is what is so at the end of
    every block before it. `None` stands for everything, before a block has been reached.
    """
    known: list[frozenset[Register] | None] = [None] * len(blocks)
    known[0] = frozenset()
    suspects: set[Register] = set()
    todo = [0]
    while todo:
        number = todo.pop()
        block = blocks[number]
        written = known[number] or frozenset()
        for position in block.instructions:
            use = usage[position]
            suspects |= use.reads - written
            if use.guard is None:
                written |= use.writes
            elif use.guard not in written:
                suspects.add(use.guard)
        if isinstance(block.leave, Fork) and block.leave.guard.register not in written:
            suspects.add(block.leave.guard.register)
        for target in successors(block.leave):
            before = known[target]
            after = written if before is None else before & written
            if after != before:
                known[target] = after
                todo.append(target)
    return suspects


def successors(leave: Leave) -> tuple[int, ...]:
    match leave:
        case Fork(_, taken, otherwise):
            return (taken, otherwise)
        case Next(block) | Wait(_, block):
            return (block,)
    return ()
