"""From a cluster of tensor IR to a kernel: what is one element, and where does it lie?

In: a `Cluster`, the values that fusion put together. Out: a `kernels.LoopKernel`, a `MatmulKernel`
or, by `lower_convolution`, a `ConvolutionKernel`. A cluster is lowered by asking its stored values
for their element at the loop variables; each op passes the question on to its operands at the
index they are read at:

    transpose   -> the operand at the permuted index
    reshape     -> the operand at unravel(ravel(index))
    add         -> Apply("add", both operands at the same index)
    sum         -> Reduced(0), after asking the operand at (outer, inner) for the folded scalar
    a buffer    -> Load(buffer, offset + sum of index * stride)

Fusion asks the same question of clusters that it would like to make: what cannot be one kernel
raises `NotFusable` with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod

from minicomp.ir import Location, Value
from minicomp.ir.ops import kind
from minicomp.kernels import (
    Apply,
    Argument,
    Kernel,
    Literal,
    Load,
    LoopKernel,
    MatmulKernel,
    Position,
    Product,
    Reduced,
    Reduction,
    Scalar,
    Store,
    Sweep,
    View,
)
from minicomp.kernels.collapse import collapse
from minicomp.kernels.folds import fold_space, lies_within
from minicomp.kernels.indexing import (
    Element,
    Index,
    LoopVariable,
    index_variables,
    offset_of,
    ravel,
    row_major_strides,
    unravel,
)

#: Index arithmetic of more atoms than this takes longer than a trip through memory. There must be
#: a bound: each reshape of transposed data multiplies the atoms by the number of axes or so.
MOST_ATOMS = 64

#: Kinds whose ops are done anew for each element that is asked for.
PER_ELEMENT = ("pointwise", "gather")

#: A kernel that reads a value at several places does its ops again for each. It may do twice the
#: ops of its values, and this many more per element: about what a trip through memory takes.
MOST_REPEATED = 16


class NotFusable(Exception):
    """Why a set of values cannot be one kernel. Internal to fusion; users never see it."""


@dataclass(frozen=True)
class Placement:
    """Where a value lies in memory: a buffer of the program, offset and strides in elements."""

    buffer: int
    name: str  # what kernels call the buffer
    offset: int
    strides: tuple[int, ...]
    size: int  # of the whole buffer, in elements
    alignment: int = 1  # of the whole buffer, in bytes


@dataclass(frozen=True, eq=False)
class Cluster:
    """Values that become one kernel, in definition order; `stored` are those read elsewhere."""

    members: tuple[Value, ...]
    stored: tuple[Value, ...]

    @property
    def matmul(self) -> Value | None:
        """The matmul that this cluster is the epilogue of, if it is one."""
        return next((value for value in self.members if value.op == "matmul"), None)

    @property
    def fold(self) -> Value | None:
        """The first reduction or scan, whose axes are the inner loops; None for pointwise."""
        return next((v for v in self.members if kind(v) in ("reduction", "scan")), None)


Place = Callable[[Value], Placement]


def movement_index(value: Value, index: tuple[Index, ...]) -> tuple[Index, ...]:
    """The index at which a movement op reads its operand to give its own element at `index`."""
    (operand,) = value.operands
    attributes = value.attributes
    match value.op:
        case "reshape":
            return unravel(ravel(index, value.shape), operand.shape)
        case "transpose":
            source: list[Index] = [Index()] * len(index)
            for position, axis in enumerate(attributes["permutation"]):
                source[axis] = index[position]
            return tuple(source)
        case "broadcast":
            aligned = index[len(index) - len(operand.shape) :]
            return tuple(Index() if extent == 1 else i for i, extent in zip(aligned, operand.shape))
        case "slice":
            return tuple(
                i * step + start
                for i, start, step in zip(index, attributes["starts"], attributes["steps"])
            )
        case "windows":
            rank = len(operand.shape)
            source = list(index[:rank])
            picks = index[rank:]
            for axis, pick, stride, dilation in zip(
                attributes["axes"], picks, attributes["strides"], attributes["dilations"]
            ):
                source[axis] = source[axis] * stride + pick * dilation
            return tuple(source)
    raise AssertionError(f"{value.op} is not a movement op")


def is_tangled(index: Sequence[Index]) -> bool:
    """Whether an index takes longer to compute than the element at it would take to store."""
    return sum(part.atoms for part in index) > MOST_ATOMS


def lower(cluster: Cluster, name: str, place: Place) -> tuple[Kernel, tuple[int, ...]]:
    """The kernel of a cluster, and for each of its arguments the program's buffer (STATUS for a
    status word). `place` says where the values in memory lie; NotFusable where there is none."""
    if cluster.matmul is not None and cluster.matmul.operands[0].op == "patches":
        from minicomp.kernels.lower_convolution import lower_convolution

        return lower_convolution(cluster, name, place)
    lowering = Lowering(cluster, name, place)
    return lowering.kernel(), tuple(lowering.buffers)


#: Stands for a kernel's status word among `lower`'s buffers.
STATUS = -1


class Lowering:
    """The lowering of one cluster. `element` is the question of the module's docstring."""

    def __init__(self, cluster: Cluster, name: str, place: Place):
        self.cluster, self.name, self.place = cluster, name, place
        self.members = set(cluster.members)
        self.arguments: list[Argument] = []
        self.buffers: list[int] = []  # of the program, one per argument
        self.done: dict[tuple[Value, tuple[Index, ...]], Scalar] = {}
        self.reductions: dict[Value, Reduction] = {}
        self.outer: tuple[LoopVariable, ...] = ()
        self.inner: tuple[LoopVariable, ...] = ()
        self.space: tuple[LoopVariable, ...] = ()  # one per axis of the iteration space
        # The ops done beyond twice as many as there are elements to compute.
        self.repeated = -2 * sum(v.size for v in cluster.members if kind(v) in PER_ELEMENT)

    def kernel(self) -> LoopKernel | MatmulKernel:
        return self._loop_kernel() if self.cluster.matmul is None else self._matmul_kernel()

    # --- the two kernel kinds ---

    def _loop_kernel(self) -> LoopKernel:
        self._set_loops()
        row_size = prod(variable.extent for variable in self.inner)
        rows = prod(variable.extent for variable in self.outer)
        full_stores: list[Store] = []
        row_stores: list[Store] = []
        for value in self.cluster.stored:
            if value.size == rows:
                index, stores = self._stored_index(value, self.outer), row_stores
            elif value.size == rows * row_size:
                index, stores = self._stored_index(value, self.space), full_stores
            else:
                raise NotFusable(f"{value!r} does not have the kernel's iteration space")
            stores.append(self._store(value, index, self.element(value, index)))
        return collapse(
            LoopKernel(
                self.name,
                tuple(self.arguments),
                self.outer,
                self.inner,
                self._sweeps(full_stores),
                tuple(row_stores),
                operations=self.operations(),
                locations=self.locations(),
            )
        )

    def _set_loops(self) -> None:
        """The loops: one per axis of the iteration space, those that are folded innermost."""
        fold = self.cluster.fold
        if fold is None:
            # Of the shapes at hand the one with most axes: reshapes between the others then
            # merge axes (affine) rather than split them (division).
            size = max(value.size for value in self.cluster.stored)
            shapes = [value.shape for value in self.cluster.members if value.size == size]
            shape = max(shapes, key=len)
            self.outer = self.space = _variables("o", shape)
            return
        shape, axes = fold_space(fold)
        outer = iter(_variables("o", [n for axis, n in enumerate(shape) if axis not in axes]))
        inner = iter(_variables("i", [n for axis, n in enumerate(shape) if axis in axes]))
        variables = [next(inner) if axis in axes else next(outer) for axis in range(len(shape))]
        self.outer = tuple(v for axis, v in enumerate(variables) if axis not in axes)
        self.inner = tuple(v for axis, v in enumerate(variables) if axis in axes)
        self.space = tuple(variables)

    @property
    def domain(self) -> tuple[Index, ...]:
        """The index of the current iteration, one per axis of the iteration space."""
        return tuple(map(Index.of, self.space))

    @property
    def product_index(self) -> tuple[Index, ...]:
        """The index of the element of the cluster's product that is being computed."""
        return self.domain

    def _stored_index(self, value: Value, loops: Sequence[LoopVariable]) -> tuple[Index, ...]:
        """The index of the element of `value` at the row-major position that `loops` are at."""
        flat = ravel([Index.of(loop) for loop in loops], [loop.extent for loop in loops])
        return unravel(flat, value.shape)

    def _sweeps(self, full_stores: list[Store]) -> tuple[Sweep, ...]:
        """Reductions and stores by how many finished reductions they wait for, one after the
        other. A scan's running value is at hand in its own sweep."""
        scans = {r.number for r in self.reductions.values() if r.op == "cumsum"}
        levels: dict[int, int] = {}
        for reduction in self.reductions.values():  # in the order they were met: operands first
            levels[reduction.number] = 1 + _level(reduction.scalar, levels, scans)
        folds: dict[int, list[Reduction]] = {}
        for reduction in self.reductions.values():
            folds.setdefault(levels[reduction.number] - 1, []).append(reduction)
        stores: dict[int, list[Store]] = {}
        for store in full_stores:
            stores.setdefault(_level(store.scalar, levels, scans), []).append(store)
        depth = max([*folds, *stores, -1]) + 1
        return tuple(
            Sweep(tuple(folds.get(level, ())), tuple(stores.get(level, ())))
            for level in range(depth)
        )

    def product_and_stored(self) -> tuple[Value, Value]:
        """The cluster's matmul, and the one value that its epilogue stores."""
        product = self.cluster.matmul
        assert product is not None
        if len(self.cluster.stored) != 1:
            raise NotFusable("a matmul's epilogue stores one value")
        (stored,) = self.cluster.stored
        if stored.size != product.size:
            raise NotFusable("the epilogue changes the number of elements")
        return product, stored

    def store_of(self, stored: Value) -> Store:
        """The store of a value in whose order the iteration space runs."""
        index = self._stored_index(stored, self.space)
        return self._store(stored, index, self.element(stored, index))

    def _matmul_kernel(self) -> MatmulKernel:
        product, stored = self.product_and_stored()
        *batch_shape, rows, columns = product.shape
        depth = product.operands[0].shape[-1]
        batch = _variables("b", batch_shape)
        row, column = LoopVariable("m", rows), LoopVariable("n", columns)
        self.space = (*batch, row, column)
        k = LoopVariable("k", depth)
        a = self._view(product.operands[0], batch, row, k)
        b = self._view(product.operands[1], batch, k, column)
        store = self.store_of(stored)
        accumulate = "float64" if product.dtype == "float64" else "float32"
        return MatmulKernel(
            self.name, tuple(self.arguments), batch, row, column, depth, a, b, accumulate, store,
            self.operations(), self.locations(),
        )  # fmt: skip

    def _view(
        self,
        value: Value,
        batch: Sequence[LoopVariable],
        row: LoopVariable,
        column: LoopVariable,
    ) -> View:
        """A matmul operand as a strided view of an argument."""
        number, offset, strides = self.strided(value, [*batch, row, column])
        return View(number, offset, tuple(strides[:-2]), strides[-2], strides[-1])

    def strided(
        self, value: Value, variables: Sequence[LoopVariable]
    ) -> tuple[int, int, list[int]]:
        """The argument of which a value is a strided view, the offset there, and the strides of
        the variables that stand for its axes (the last ones for the last)."""
        aligned = variables[len(variables) - len(value.shape) :]
        index = tuple(
            Index() if extent == 1 else Index.of(variable)
            for variable, extent in zip(aligned, value.shape, strict=True)
        )
        while kind(value) == "movement":
            index = movement_index(value, index)
            (value,) = value.operands
        if value in self.members:
            raise NotFusable("a matmul reads its operands from memory")
        placement = self.place(value)
        offset = offset_of(index, placement.strides, placement.offset)
        if not offset.is_affine:
            raise NotFusable(f"{value!r} is not a strided view")
        steps = dict(offset.terms)
        strides = [steps.get(variable, 0) for variable in variables]
        number = self._argument(placement, value)
        return number, offset.constant, strides

    # --- the question ---

    def element(self, value: Value, index: tuple[Index, ...]) -> Scalar:
        """The element of `value` at `index`, as a scalar expression."""
        while kind(value) == "movement":
            index = movement_index(value, index)
            if is_tangled(index) and len(self.members) > 1:
                raise NotFusable(f"{value!r} is read at an index that is long to compute")
            (value,) = value.operands
        key = (value, index)
        if key not in self.done:
            if value in self.members and kind(value) in PER_ELEMENT:
                self._count(index)
            self.done[key] = self._element(value, index)
        return self.done[key]

    def _count(self, index: tuple[Index, ...]) -> None:
        """Take note that an op is done at `index`: once per row where that is the same for the
        whole row, else in every iteration. Reading a sum of neighbours of sums of neighbours ...
        multiplies the work with each of them, so there is a limit."""
        varying = {variable for part in index for variable in index_variables(part)}
        loops = self.space if varying & {*self.inner} else {*self.space} - {*self.inner}
        self.repeated += prod(loop.extent for loop in loops)
        iterations = prod(loop.extent for loop in self.space)
        if self.repeated > MOST_REPEATED * iterations:
            raise NotFusable("most elements would be computed again and again")

    def _element(self, value: Value, index: tuple[Index, ...]) -> Scalar:
        op_kind = kind(value)
        if value.op == "full":
            return Literal(value.dtype, value.attributes["value"])
        if value.op == "iota":
            return Position(value.dtype, index[value.attributes["axis"]])
        if value not in self.members:
            return self._load(value, index)
        if value.op == "copy":
            return self.element(value.operands[0], index)
        if op_kind == "pointwise":
            operands = tuple(self.element(operand, index) for operand in value.operands)
            return Apply(value.dtype, value.op, operands)
        if op_kind == "gather":
            return self._gather(value, index)
        if op_kind == "matmul":
            if index != self.product_index:
                raise NotFusable("the epilogue reads the product at another index")
            return Product(value.dtype)
        return self._fold(value, index)

    def _load(self, value: Value, index: tuple[Index, ...]) -> Load:
        placement = self.place(value)
        number = self._argument(placement, value)
        offset = offset_of(index, placement.strides, placement.offset)
        return Load(value.dtype, number, offset, self.arguments[number].name)

    def _gather(self, value: Value, index: tuple[Index, ...]) -> Scalar:
        """take and take_along_axis: the source at an index that is data."""
        source, indices = value.operands
        axis = value.attributes["axis"]
        base = source
        while kind(base) == "movement":
            (base,) = base.operands
        if base in self.members:
            raise NotFusable("a gather reads its source from memory")
        if self.cluster.matmul is not None:
            raise NotFusable("an epilogue does not gather")
        if value.op == "take":
            end = axis + len(indices.shape)
            pick = self.element(indices, index[axis:end])
            before, after = index[:axis], index[end:]
        else:
            pick = self.element(indices, index)
            before, after = index[:axis], index[axis + 1 :]
        is_in_range = lies_within(indices, source.shape[axis])
        if not is_in_range:
            self._status()
        # Even along an axis of one entry the entry must be looked at: it may be out of range.
        atom = Index(((Element(pick, source.shape[axis], is_in_range), 1),))
        return self.element(source, (*before, atom, *after))

    def _fold(self, value: Value, index: tuple[Index, ...]) -> Scalar:
        """A reduction or scan of this cluster: legal only at the iteration's own row."""
        (operand,) = value.operands
        shape, axes = fold_space(value)
        if (shape, axes) != fold_space(self.cluster.fold):
            raise NotFusable("reductions over different spaces")
        if kind(value) == "scan":
            here, wanted = index, self.domain
        else:
            kept = tuple(i for axis, i in enumerate(self.domain) if axis not in axes)
            wanted = kept
            if value.attributes["keepdims"]:
                here = tuple(i for axis, i in enumerate(index) if axis not in axes)
            else:
                here = index
        if here != wanted:
            raise NotFusable("a reduction is read at another row than the one being computed")
        if value not in self.reductions:
            scalar = self.element(operand, self.domain)
            number = len(self.reductions)
            self.reductions[value] = Reduction(number, value.op, scalar, value.dtype)
        return Reduced(value.dtype, self.reductions[value].number)

    # --- arguments and stores ---

    def _store(self, value: Value, index: tuple[Index, ...], scalar: Scalar) -> Store:
        placement = self.place(value)
        number = self._argument(placement, value, written=True)
        return Store(number, offset_of(index, placement.strides, placement.offset), scalar)

    def _argument(self, placement: Placement, value: Value, written: bool = False) -> int:
        """The kernel's number for a buffer of the program."""
        if placement.buffer in self.buffers:
            return self.buffers.index(placement.buffer)
        unique = name = placement.name
        taken = {argument.name for argument in self.arguments}
        while unique in taken or unique == "status":
            unique = f"{name}{len(taken)}"
        is_constant = value.op == "constant"
        self.arguments.append(
            Argument(unique, value.dtype, placement.size, written, placement.alignment, is_constant)
        )
        self.buffers.append(placement.buffer)
        return len(self.buffers) - 1

    def _status(self) -> None:
        """Give the kernel the status word in which a gather reports an index out of range."""
        if STATUS not in self.buffers:
            self.arguments.append(Argument("status", "int32", 1, written=True))
            self.buffers.append(STATUS)

    def operations(self) -> tuple[str, ...]:
        return tuple(value.op for value in self.cluster.members)

    def locations(self) -> tuple[Location, ...]:
        found = [v.location for v in self.cluster.members if v.location is not None]
        return tuple(dict.fromkeys(found))


def contiguous(buffer: int, name: str, value: Value, alignment: int = 1) -> Placement:
    """A row-major buffer of its own for a value."""
    return Placement(buffer, name, 0, row_major_strides(value.shape), value.size, alignment)


def _variables(prefix: str, extents: Iterable[int]) -> tuple[LoopVariable, ...]:
    return tuple(LoopVariable(f"{prefix}{n}", extent) for n, extent in enumerate(extents))


def _level(scalar: Scalar, levels: dict[int, int], scans: set[int]) -> int:
    """After how many sweeps a scalar can be computed."""
    highest, stack, seen = 0, [scalar], set()
    while stack:
        current = stack.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, Reduced):
            level = levels[current.number] - (current.number in scans)
            highest = max(highest, level)
        stack.extend(current.operands_())
        for index in current.indices() if not current.operands_() else ():
            stack.extend(atom.scalar for atom, _ in index.terms if isinstance(atom, Element))
    return highest
