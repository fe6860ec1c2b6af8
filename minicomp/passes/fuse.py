"""Fusion: which values become one kernel.

In: a graph after `materialize`. Out: clusters in an order in which they can run. Every value
that is computed begins as a cluster of its own; then, in definition order, each is joined with
the clusters it reads, where that is legal and pays:

- legal: one kernel can compute both (`lowering.lower` says so, or raises NotFusable with why),
  and no other cluster lies between them (which would have to run both before and after);
- pays: nothing expensive is computed again for every element of a larger iteration space.

Softmax, log-sum-exp, layer norm and RMS norm become one kernel each by these rules alone: their
reductions share a space, and everything between them is read at the row being computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from minicomp.ir import Graph, Value
from minicomp.ir.ops import kind
from minicomp.kernels.folds import fold_space
from minicomp.kernels.lowering import Cluster, NotFusable, contiguous, lower

#: Kinds that are computed by kernels; leaves, movement and patches are inlined, assembly is memory.
COMPUTED = ("pointwise", "gather", "reduction", "scan", "matmul")

#: Worth a trip through memory rather than computing again: tens of instructions each.
EXPENSIVE = {
    *("exp", "expm1", "log", "log1p", "pow", "sin", "cos", "tanh", "erf", "sigmoid"),
    *("div", "sqrt", "rsqrt", "mod", "floor_divide"),
}

#: A bound on the size of a kernel: registers, compile time and recursion depth are finite.
MOST_MEMBERS = 96


@dataclass(eq=False)
class _Group:
    """A cluster in the making. `position` of its first member orders groups deterministically."""

    members: dict[Value, None] = field(default_factory=dict)


def fuse(graph: Graph, *, epilogues: bool = True) -> tuple[Cluster, ...]:
    """Clusters covering everything the graph computes. `epilogues=False` leaves each matmul
    alone, for comparison."""
    fusion = _Fusion(graph, epilogues)
    joined = True
    while joined:
        # Again until nothing changes: what reads x twice, as x * (1 + erf(x)) does, can join x's
        # kernel only once it is one group itself.
        joined = False
        for value in fusion.order:
            for source in fusion.sources[value]:
                joined |= fusion.try_to_join(source, value)
    return tuple(fusion.clusters())


def sources_of(value: Value) -> list[Value]:
    """The computed or assembled values that `value` reads, through movement ops; last first."""
    found: dict[Value, None] = {}
    stack = list(value.operands)
    while stack:
        operand = stack.pop()
        if kind(operand) in COMPUTED or kind(operand) == "assembly":
            found[operand] = None
        else:
            stack.extend(operand.operands)
    return list(found)


class _Fusion:
    def __init__(self, graph: Graph, epilogues: bool):
        self.epilogues = epilogues
        self.outputs = set(graph.outputs)
        nodes = [v for v in graph.values if kind(v) in (*COMPUTED, "assembly")]
        self.order = {value: position for position, value in enumerate(nodes)}
        self.sources = {value: sources_of(value) for value in nodes}
        self.readers: dict[Value, list[Value]] = {value: [] for value in nodes}
        for value in nodes:
            for source in self.sources[value]:
                self.readers[source].append(value)
        self.group_of = {value: _Group({value: None}) for value in nodes}
        self.refused: set[tuple[_Group, _Group]] = set()

    # --- joining ---

    def try_to_join(self, source: Value, reader: Value) -> bool:
        """Join the two values' groups where that is legal and pays; says whether it did."""
        producer, consumer = self.group_of[source], self.group_of[reader]
        if producer is consumer or (producer, consumer) in self.refused:
            return False
        if self._join(producer, consumer):
            return True
        self.refused.add((producer, consumer))
        return False

    def _join(self, producer: _Group, consumer: _Group) -> bool:
        """Join two groups, or leave them as they are."""
        joined = _Group(dict.fromkeys(sorted(
            [*producer.members, *consumer.members], key=self.order.__getitem__
        )))  # fmt: skip
        if (
            len(joined.members) <= MOST_MEMBERS
            and self._compatible(producer, consumer)
            and not self._repeats_work(producer, consumer)
            and not self._path_between(producer, consumer)
            and self._one_kernel(joined)
        ):
            for value in joined.members:
                self.group_of[value] = joined
            return True
        return False

    def _compatible(self, producer: _Group, consumer: _Group) -> bool:
        """Quick grounds for a no: one matmul at most and no folding beside it; equal spaces."""
        if any(kind(v) == "assembly" for g in (producer, consumer) for v in g.members):
            return False
        products = [v for g in (producer, consumer) for v in g.members if v.op == "matmul"]
        folds = [v for g in (producer, consumer) for v in g.members
                 if kind(v) in ("reduction", "scan")]  # fmt: skip
        if products:
            # The product comes first and the rest of its group is its epilogue.
            return self.epilogues and len(products) == 1 and not folds and (
                products[0] in producer.members or self._only_epilogue_data(producer)
            )  # fmt: skip
        scans = [value for value in folds if kind(value) == "scan"]
        if scans and len(folds) > 1:
            return False
        return len({fold_space(value) for value in folds}) <= 1

    def _only_epilogue_data(self, producer: _Group) -> bool:
        """Whether a group feeding an epilogue may be computed inside it: nothing stored of it."""
        return all(kind(value) == "pointwise" for value in producer.members)

    def _repeats_work(self, producer: _Group, consumer: _Group) -> bool:
        """Whether joining would compute something expensive several times per element."""
        folds = [v for v in producer.members if kind(v) in ("reduction", "scan", "matmul")]
        if folds:
            return False  # read at its own row or not at all: lowering checks that
        size = max(value.size for value in producer.members)
        space = max(value.size for value in consumer.members)
        for value in consumer.members:
            if kind(value) in ("reduction", "scan"):
                space = max(space, value.operands[0].size)
        return space > size and any(value.op in EXPENSIVE for value in producer.members)

    def _path_between(self, producer: _Group, consumer: _Group) -> bool:
        """Whether something outside both reads the producer and is read by the consumer.

        Positions in the definition order do not bound the search: a group spans a stretch of it,
        so that a path may go beyond the consumer's last value and come back. It is made from both
        ends in turns instead, and the end with less around it tells soon.
        """
        searches = (
            self._reaches(producer, consumer, self._reading_groups),
            self._reaches(consumer, producer, self._source_groups),
        )
        answers = (answer for both in zip(*searches) for answer in both)
        return next(answer for answer in answers if answer is not None)

    def _reaches(
        self, start: _Group, goal: _Group, beside: Callable[[_Group], Iterator[_Group]]
    ) -> Iterator[bool | None]:
        """A search for a path from start to goal through others, in steps: None until known."""
        seen = {start, goal}
        stack = [group for group in beside(start) if group is not goal]
        while stack:
            group = stack.pop()
            if group in seen:
                continue
            seen.add(group)
            following = list(beside(group))
            if goal in following:
                yield True
            stack += following
            yield None
        yield False

    def _reading_groups(self, group: _Group) -> Iterator[_Group]:
        for value in group.members:
            for reader in self.readers[value]:
                if self.group_of[reader] is not group:
                    yield self.group_of[reader]

    def _source_groups(self, group: _Group) -> Iterator[_Group]:
        for value in group.members:
            for source in self.sources[value]:
                if self.group_of[source] is not group:
                    yield self.group_of[source]

    def _one_kernel(self, group: _Group) -> bool:
        """Ask lowering, with every value that is in memory in a contiguous buffer."""
        numbers: dict[Value, int] = {}

        def place(value: Value):
            return contiguous(numbers.setdefault(value, len(numbers)), "t", value)

        try:
            lower(self.cluster(group), "trial", place)
        except NotFusable:
            return False
        return True

    # --- the result ---

    def cluster(self, group: _Group) -> Cluster:
        """The group as a cluster; stored are the values that somebody outside reads."""
        members = tuple(group.members)
        stored = tuple(
            value
            for value in members
            if value in self.outputs
            or not self.readers[value]
            or any(reader not in group.members for reader in self.readers[value])
        )
        return Cluster(members, stored)

    def clusters(self) -> Iterable[Cluster]:
        """The groups in an order in which each comes after those it reads."""
        done: set[_Group] = set()
        groups = dict.fromkeys(self.group_of.values())
        for group in groups:
            stack = [(group, False)]
            while stack:
                current, ready = stack.pop()
                if current in done:
                    continue
                if ready:
                    done.add(current)
                    yield self.cluster(current)
                    continue
                stack.append((current, True))
                stack += [(source, False) for source in self._source_groups(current)]
