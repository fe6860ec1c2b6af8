"""The tensor IR: one small SSA graph.

In: what the tracer records. Out: what passes rewrite, the interpreter runs and fusion cuts into
kernels. A graph is a list of values in definition order; a value is an op of the table in `ops`
applied to earlier values, with attributes and a type (shape, dtype, device).

>>> print(minicomp.trace(lambda x: np.exp(x) * 2, np.zeros((8, 16), np.float32)))
graph lambda(%x: f32[8,16]) {
  %0 = exp(%x) : f32[8,16]
  %1 = full() {shape=[8,16], value=2.0, dtype=f32} : f32[8,16]
  %2 = mul(%0, %1) : f32[8,16]
  return %2
}

The IR is strict so that everything after it is simple: operands of a pointwise op have one shape
and one dtype, and NumPy's broadcasting and promotion have become `broadcast` and `cast` ops.
Values and graphs are frozen; a pass returns a new graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from minicomp.errors import DTypeError

#: dtype name -> the short form used in printed IR
DTYPES = {
    "float32": "f32",
    "float64": "f64",
    "float16": "f16",
    "bfloat16": "bf16",
    "int32": "i32",
    "int64": "i64",
    "bool": "bool",
}
LONG_NAMES = {short: long for long, short in DTYPES.items()}
FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("int32", "int64")
ITEMSIZE = {"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2, "int32": 4, "int64": 8,
            "bool": 1}  # fmt: skip


_INTEGERS = (
    "convert the array with .astype(np.int64) for indices, or .astype(np.float32) to compute"
)
#: NumPy's kind of dtype -> what to do with an array of a kind that the IR lacks
CONVERSIONS = {
    "u": _INTEGERS,
    "i": _INTEGERS,
    "c": "pass x.real and x.imag apart",
    "O": "make it an array of numbers, np.array(x, np.float32): rows of unequal lengths are none",
    **dict.fromkeys("SU", "pass numbers that stand for what is in it, indices say"),
    **dict.fromkeys("mM", "pass numbers, x.astype(np.int64)"),
}


def short_dtype(dtype: str) -> str:
    """`"float32"` -> `"f32"`."""
    return DTYPES[dtype]


def dtype_name(dtype: Any) -> str:
    """The IR's name for anything NumPy takes as a dtype; DTypeError where it has none."""
    if isinstance(dtype, str) and dtype in DTYPES:
        return dtype
    try:
        name = _numpy_name(np.dtype(dtype))
    except TypeError:
        raise DTypeError(f"{dtype!r} is not a dtype; wanted one of {', '.join(DTYPES)}") from None
    if name not in DTYPES:
        kind = np.dtype(dtype).kind
        raise DTypeError(
            f"dtype {name} is not supported; wanted one of {', '.join(DTYPES)}; "
            f"{CONVERSIONS.get(kind, 'convert the array with .astype(np.float32), say')}"
        )
    return name


@lru_cache
def _numpy_name(dtype: np.dtype) -> str:
    return dtype.name  # put together by NumPy, in 4 us: a quarter of a call's way through Python


def typestr_dtype(typestr: str) -> str:
    """The IR's name of the dtype that an array interface calls `typestr`. bfloat16 goes as two
    bytes of unknown meaning, `<V2`: so ml_dtypes, torch and cupy write it."""
    if typestr == "<V2":
        return "bfloat16"
    if typestr.startswith(">"):
        raise DTypeError(f"the device array is big-endian ({typestr}); a GPU is little-endian")
    return dtype_name(typestr)


def numpy_dtype(dtype: str) -> np.dtype:
    """The NumPy dtype of an IR dtype. DTypeError for bfloat16 without the package ml_dtypes."""
    if dtype == "bfloat16":
        try:
            import ml_dtypes
        except ImportError:
            raise DTypeError(
                "NumPy has no bfloat16 of its own; pip install 'minicomp[bfloat16]', which brings "
                "ml_dtypes, or use float16 or float32"
            ) from None
        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(dtype)


@dataclass(frozen=True)
class TensorType:
    """Shape (ints), dtype (a name from `DTYPES`) and device ("cpu" or "cuda") of a value."""

    shape: tuple[int, ...]
    dtype: str
    device: str = "cpu"

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * ITEMSIZE[self.dtype]

    def __str__(self) -> str:
        dims = ",".join(map(str, self.shape))
        suffix = "" if self.device == "cpu" else f"@{self.device}"
        return f"{short_dtype(self.dtype)}[{dims}]{suffix}"


@dataclass(frozen=True)
class Location:
    """A line of the user's source."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{Path(self.file).name}:{self.line}"


@dataclass(frozen=True, eq=False)
class Value:
    """One SSA value: `op(*operands, **attributes)`, of type `type`. Compared by identity."""

    op: str
    operands: tuple[Value, ...]
    attributes: Mapping[str, Any]
    type: TensorType
    location: Location | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.type.shape

    @property
    def dtype(self) -> str:
        return self.type.dtype

    @property
    def device(self) -> str:
        return self.type.device

    @property
    def size(self) -> int:
        return self.type.size

    def __repr__(self) -> str:
        return f"<{self.op}: {self.type}>"


@dataclass(frozen=True, eq=False)
class Graph:
    """A function on tensors: `values` in definition order, of which `outputs` are returned.

    Values of op "input" are the arguments, in order; values of op "parameter" are arrays that
    belong to the module and are read at each call. `bindings` maps a parameter's name to the
    object that holds it; it is neither printed nor compared. `output_tree` says how the flat
    outputs nest in what the user's function returned (see `tree`); None means as they are.
    """

    name: str
    values: tuple[Value, ...]
    outputs: tuple[Value, ...]
    bindings: Mapping[str, Any] = field(default_factory=dict)
    output_tree: Any = None

    @property
    def inputs(self) -> tuple[Value, ...]:
        return tuple(value for value in self.values if value.op == "input")

    @property
    def parameters(self) -> tuple[Value, ...]:
        return tuple(value for value in self.values if value.op == "parameter")

    def __iter__(self) -> Iterator[Value]:
        return iter(self.values)

    def __len__(self) -> int:
        return len(self.values)

    def __str__(self) -> str:
        from minicomp.ir.text import graph_text

        return graph_text(self)

    def __eq__(self, other: object) -> bool:
        """Same computation, value by value: ops, operands, attributes, types, outputs."""
        return isinstance(other, Graph) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def users(self) -> dict[Value, list[Value]]:
        """For each value, the values that have it as an operand, once per use."""
        users: dict[Value, list[Value]] = {value: [] for value in self.values}
        for value in self.values:
            for operand in value.operands:
                users[operand].append(value)
        return users


Rule = Callable[[Value], "Value | None"]


def rewrite(graph: Graph, rule: Rule) -> Graph:
    """The graph with `rule` applied to every value, in order.

    The rule is given each value with its operands already rewritten. It returns None to keep it,
    one of the value's transitive operands to drop it, or a new value, whose own new operands are
    placed before it. Its result must have the value's type.
    """
    renamed: dict[Value, Value] = {}
    placed: dict[Value, None] = {}  # an ordered set

    def place(value: Value) -> None:
        # Iterative, since a rule may return a long chain of new values.
        stack = [(value, False)]
        while stack:
            current, ready = stack.pop()
            if current in placed:
                continue
            if ready:
                placed[current] = None
                continue
            stack.append((current, True))
            stack.extend((operand, False) for operand in reversed(current.operands))

    for value in graph.values:
        operands = tuple(renamed[operand] for operand in value.operands)
        if operands != value.operands:
            current = Value(value.op, operands, value.attributes, value.type, value.location)
        else:
            current = value
        result = rule(current)
        renamed[value] = current if result is None else result
        place(renamed[value])
    outputs = tuple(renamed[value] for value in graph.outputs)
    return Graph(graph.name, tuple(placed), outputs, graph.bindings, graph.output_tree)
