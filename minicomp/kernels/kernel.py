"""What fusion hands to code generation: kernels, and the schedules that say how to run them.

In: clusters of tensor IR (see `passes.fuse` and `lowering`). Out: one of three kernel kinds.

- `LoopKernel`: parallel `outer` loops around a list of *sweeps* over the `inner` loops. Pointwise
  work is one sweep without reductions; softmax is three sweeps over a row (max, sum of exp,
  write); layer norm likewise. There is no softmax kernel and no layer-norm kernel.
- `convolution.ConvolutionKernel`: a product that reads windows of images in place.
- `MatmulKernel`: (batch, m, n) products over k of two strided views, and a scalar *epilogue*
  (bias, activation, residual, cast) applied to each product before it is stored.

What happens to one element is a small expression tree of `Scalar`s: loads at symbolic indices
(`indexing.Index`), ops of the op table, literals. Both back ends evaluate it with one visitor
(`codegen.scalar`). A kernel says *what*; a schedule says *how*, and two candidates for one
kernel differ in their schedule alone.

    kernel softmax(x: f32, out: f32)
      for o0 in 64:                        # parallel
        sweep i0 in 1000:
          r0 = max x[1000*o0 + i0]
        sweep i0 in 1000:
          r1 = sum exp(sub(x[1000*o0 + i0], r0))
        sweep i0 in 1000:
          out[1000*o0 + i0] = div(exp(sub(x[1000*o0 + i0], r0)), r1)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from functools import cached_property
from math import prod

from minicomp.ir import Location, short_dtype
from minicomp.kernels.indexing import Index, LoopVariable

#: Scalars in an expression's text: with more it is cut short, as it may be exponentially long.
LONGEST_TEXT = 500

# --- scalar expressions -------------------------------------------------------------------------
# Compared by identity: lowering shares equal subexpressions through a memo, so that a tree of
# these is really a DAG, and comparing by value would walk it exponentially often.


@dataclass(frozen=True, eq=False)
class Scalar:
    """The value of one element. `dtype` is a name from `ir.DTYPES`."""

    dtype: str

    def operands_(self) -> tuple[Scalar, ...]:
        """The scalars this one is computed from."""
        return ()

    def indices(self) -> Iterator[Index]:
        """Every index expression in this scalar and below it."""
        for operand in self.operands_():
            yield from operand.indices()


@dataclass(frozen=True, eq=False)
class Load(Scalar):
    """The element of buffer number `buffer` at `index` (in elements from its start)."""

    buffer: int
    index: Index
    name: str = ""  # the buffer's, for printing

    def indices(self) -> Iterator[Index]:
        yield self.index

    def __str__(self) -> str:
        return f"{self.name or f'b{self.buffer}'}[{self.index}]"


@dataclass(frozen=True, eq=False)
class Literal(Scalar):
    """A constant: a Python bool, int or float (nan and inf included)."""

    value: bool | int | float

    def __str__(self) -> str:
        return repr(self.value)


@dataclass(frozen=True, eq=False)
class Position(Scalar):
    """An index as a number (what `iota` makes)."""

    index: Index

    def indices(self) -> Iterator[Index]:
        yield self.index

    def __str__(self) -> str:
        return f"({self.index})"


@dataclass(frozen=True, eq=False)
class Apply(Scalar):
    """A pointwise op of the op table on scalars; for `cast` the target is `dtype`."""

    op: str
    operands: tuple[Scalar, ...]

    def operands_(self) -> tuple[Scalar, ...]:
        return self.operands

    def __str__(self) -> str:
        name = f"cast_{short_dtype(self.dtype)}" if self.op == "cast" else self.op
        if self.tree_size > LONGEST_TEXT:
            return f"{name}(...)"
        return f"{name}({', '.join(map(str, self.operands))})"

    @cached_property
    def tree_size(self) -> int:
        """How many scalars are written in its text, where those that are shared come again."""
        return 1 + sum(getattr(operand, "tree_size", 1) for operand in self.operands)


@dataclass(frozen=True, eq=False)
class Reduced(Scalar):
    """The finished result of reduction number `number` of the enclosing LoopKernel."""

    number: int

    def __str__(self) -> str:
        return f"r{self.number}"


@dataclass(frozen=True, eq=False)
class Product(Scalar):
    """In a matmul's epilogue: the product's element at this (batch, m, n)."""

    def __str__(self) -> str:
        return "product"


# --- kernels ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Argument:
    """One buffer that a kernel is given, by position. `size` is in elements.

    The buffer begins at a multiple of `alignment` bytes, and of its dtype's size in any case.
    What a `constant` one holds is known when the kernel is compiled.
    """

    name: str
    dtype: str
    size: int
    written: bool = False
    alignment: int = 1
    constant: bool = False


@dataclass(frozen=True, eq=False)
class Store:
    """Write `scalar` to buffer number `buffer` at `index`."""

    buffer: int
    index: Index
    scalar: Scalar


@dataclass(frozen=True, eq=False)
class Reduction:
    """Reduction number `number`: fold `scalar` over the inner loops.

    `op` is one of sum, prod, max, min, any, all, argmax, argmin, or cumsum. The result is
    `Reduced(number)` in later sweeps. argmax and argmin give the row-major position within the
    inner loops, as int64. cumsum is a scan: its `Reduced(number)` may be used in the same sweep,
    where it is the running sum up to and including the element at hand.
    """

    number: int
    op: str
    scalar: Scalar
    dtype: str


@dataclass(frozen=True, eq=False)
class Sweep:
    """One pass over the inner loops: fold the reductions, then make the stores, per element."""

    reductions: tuple[Reduction, ...] = ()
    stores: tuple[Store, ...] = ()


@dataclass(frozen=True, eq=False)
class LoopKernel:
    """Parallel outer loops around sweeps over the inner loops; `row_stores` follow the sweeps.

    `scratch` lists row buffers that one sweep fills and a later one reads, so that an expensive
    value (an exponential, say) is computed once: they come after `arguments` in the buffer
    numbering, hold one row (the product of the inner extents) and are private to a thread.
    A value that is at hand in both is stored with the inner loops' row-major position as index.
    """

    name: str
    arguments: tuple[Argument, ...]
    outer: tuple[LoopVariable, ...]
    inner: tuple[LoopVariable, ...]
    sweeps: tuple[Sweep, ...]
    row_stores: tuple[Store, ...] = ()
    scratch: tuple[Argument, ...] = ()
    # For people; code is generated from the rest alone (see `fingerprint`).
    operations: tuple[str, ...] = field(default=(), compare=False)  # of the tensor IR
    locations: tuple[Location, ...] = field(default=(), compare=False)  # the user's lines

    @property
    def rows(self) -> int:
        """Iterations of the outer loops, which may run in parallel."""
        return prod(variable.extent for variable in self.outer)

    @property
    def row_size(self) -> int:
        """Iterations of the inner loops."""
        return prod(variable.extent for variable in self.inner)

    def __str__(self) -> str:
        from minicomp.kernels.text import loop_kernel_text

        return loop_kernel_text(self)


@dataclass(frozen=True)
class View:
    """A strided view of argument number `buffer`; offset and strides in elements."""

    buffer: int
    offset: int
    batch_strides: tuple[int, ...]
    row_stride: int
    column_stride: int


@dataclass(frozen=True, eq=False)
class MatmulKernel:
    """out[batch, i, j] = epilogue(sum over k of a[batch, i, k] * b[batch, k, j]).

    `batch`, `row` and `column` are the loop variables that the epilogue and the store are
    written in; `depth` is k. `a` and `b` are views of arguments. The product is accumulated in
    `accumulate` (float32 or float64). Where k is 0 the product is 0.
    """

    name: str
    arguments: tuple[Argument, ...]
    batch: tuple[LoopVariable, ...]
    row: LoopVariable
    column: LoopVariable
    depth: int
    a: View
    b: View
    accumulate: str
    store: Store
    operations: tuple[str, ...] = field(default=(), compare=False)  # as a LoopKernel's
    locations: tuple[Location, ...] = field(default=(), compare=False)

    @property
    def has_epilogue(self) -> bool:
        return not isinstance(self.store.scalar, Product)

    @property
    def flops(self) -> int:
        """Multiplications and additions of the product alone."""
        batch = prod(variable.extent for variable in self.batch)
        return 2 * batch * self.row.extent * self.column.extent * self.depth

    def __str__(self) -> str:
        from minicomp.kernels.text import matmul_kernel_text

        return matmul_kernel_text(self)


# --- schedules ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Schedule:
    """How a kernel is run. Prints as its fields and reads back from them (`from_dict`)."""

    def to_dict(self) -> dict[str, int | str | bool]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __str__(self) -> str:
        inside = " ".join(f"{name}={value}" for name, value in self.to_dict().items())
        return f"{type(self).__name__}({inside})"


@dataclass(frozen=True)
class LoopSchedule(Schedule):
    """A LoopKernel on the CPU.

    `vector_axis`: "inner" puts the lanes of a vector along the last inner loop (a row is
    contiguous), "outer" along the last outer loop (lanes are different rows, so a reduction over
    a leading axis still loads contiguously). `vector_width` in elements of the widest dtype in
    the kernel; `unroll` independent accumulators hide the latency of an addition; `rows` are done
    side by side, where vectors lie along the inner loop: one's folds hide the wait for the other's
    result, and what they share is loaded once; `streams` stores past the caches where alignment
    allows; `aligns` begins the vectors of a row on a cache line, in sweeps that do nothing but
    store; with `prefetch` sweeps ask for lines so many bytes ahead; `tile` names an outer loop,
    along which a pointwise kernel's other loads are contiguous: it is done in squares of that loop
    and the last, in which those are transposed; `grain` is the least number of parallel units
    (rows, blocks of columns, columns of tiles) worth another thread.
    """

    vector_axis: str = "inner"
    vector_width: int = 8
    unroll: int = 4
    rows: int = 1
    streams: bool = False
    aligns: bool = False
    prefetch: int = 0
    tile: str = ""
    grain: int = 1


@dataclass(frozen=True)
class MatmulSchedule(Schedule):
    """Refined by the matmul family of each back end; see `codegen.llvm_matmul`."""

    family: str = field(default="")
