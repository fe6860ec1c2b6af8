"""The op table: one row per op of the tensor IR.

A row has the op's name, kind, arity, attributes, type rule (shapes and dtypes in, type out) and
NumPy meaning. The verifier, parser, interpreter and code generators all read this table; adding
an op touches it, one method per back end (or one for all, in `codegen.math`), and a test.

>>> OPS["sum"].infer([TensorType((8, 16), "float32")], {"axes": (1,), "keepdims": False})
TensorType(shape=(8,), dtype='float32', device='cpu')
>>> OPS["sum"].compute(np.ones((2, 3)), axes=(1,), keepdims=False)
array([3., 3.])

Kinds decide how fusion treats an op: "leaf" has no operands, "pointwise" works element by
element, "movement" only renames indices, "assembly" puts parts into a larger tensor, "gather"
picks by data, "reduction" folds axes, "scan" folds along one axis and keeps it, "matmul" is a
call site of selection, "patches" is the left operand of one that is a convolution: a kernel reads
the images instead (see `passes.read_windows`; where that can not be, `decompose` writes it out).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minicomp.errors import GraphError, MinicompError
from minicomp.ir import FLOATS, INTEGERS, Location, TensorType, Value, meaning, type_rules

Types = Sequence[TensorType]
Attributes = Mapping[str, Any]
NUMERIC = INTEGERS + FLOATS
ANY = ("bool", *NUMERIC)


@dataclass(frozen=True)
class Op:
    """One row: see the module's docstring. `arity` is None where any number of operands fits."""

    name: str
    kind: str
    arity: int | None
    attributes: tuple[str, ...]
    infer: Callable[[Types, Attributes], TensorType]
    compute: Callable[..., np.ndarray]


OPS: dict[str, Op] = {}


def _row(
    name: str,
    kind: str,
    arity: int | None,
    infer: Callable[[Types, Attributes], TensorType],
    compute: Callable[..., Any],
    attributes: str = "",
) -> None:
    OPS[name] = Op(name, kind, arity, tuple(attributes.split()), infer, compute)


# --- leaves ---
_row("input", "leaf", 0, type_rules.declared, meaning.unbound, "name type")
_row("parameter", "leaf", 0, type_rules.declared, meaning.unbound, "name type")
_row("constant", "leaf", 0, type_rules.constant, meaning.constant, "value device")
_row("full", "leaf", 0, type_rules.full, meaning.full, "shape value dtype device")
_row("iota", "leaf", 0, type_rules.iota, meaning.iota, "shape axis dtype device")

Compute = Callable[..., Any]


def _unary(name: str, dtypes: Sequence[str], compute: Compute) -> None:
    rule = type_rules.pointwise(dtypes)
    _row(name, "pointwise", 1, rule, meaning.in_float32(compute))


def _binary(name: str, dtypes: Sequence[str], compute: Compute) -> None:
    rule = type_rules.pointwise(dtypes)
    _row(name, "pointwise", 2, rule, meaning.in_float32(compute))


def _comparison(name: str, compute: Compute) -> None:
    _row(name, "pointwise", 2, type_rules.comparison(ANY), compute)


def _reduction(name: str, rule: type_rules.Rule, compute: Compute) -> None:
    _row(name, "reduction", 1, rule, compute, "axes keepdims")


# --- pointwise, one operand ---
_unary("neg", NUMERIC, np.negative)
_unary("abs", NUMERIC, np.abs)
_unary("sign", NUMERIC, np.sign)
_unary("exp", FLOATS, np.exp)
_unary("expm1", FLOATS, np.expm1)
_unary("log", FLOATS, np.log)
_unary("log1p", FLOATS, np.log1p)
_unary("sqrt", FLOATS, np.sqrt)
_unary("rsqrt", FLOATS, meaning.rsqrt)
_unary("sin", FLOATS, np.sin)
_unary("cos", FLOATS, np.cos)
_unary("tanh", FLOATS, np.tanh)
_unary("erf", FLOATS, meaning.erf)
_unary("sigmoid", FLOATS, meaning.sigmoid)
_unary("floor", FLOATS, np.floor)
_unary("ceil", FLOATS, np.ceil)
_unary("trunc", FLOATS, np.trunc)
_unary("round", FLOATS, np.rint)
_unary("logical_not", ("bool",), np.logical_not)
_row("copy", "pointwise", 1, type_rules.pointwise(ANY), np.array)
_row("cast", "pointwise", 1, type_rules.cast, meaning.cast, "dtype")

# --- pointwise, two operands of one shape and dtype ---
_binary("add", NUMERIC, np.add)
_binary("sub", NUMERIC, np.subtract)
_binary("mul", NUMERIC, np.multiply)
_binary("div", FLOATS, np.divide)
_binary("floor_divide", NUMERIC, np.floor_divide)
_binary("mod", NUMERIC, np.remainder)
_binary("pow", FLOATS, np.power)
_binary("minimum", NUMERIC, np.minimum)
_binary("maximum", NUMERIC, np.maximum)
_binary("logical_and", ("bool",), np.logical_and)
_binary("logical_or", ("bool",), np.logical_or)
_binary("logical_xor", ("bool",), np.logical_xor)
_binary("bit_and", INTEGERS, np.bitwise_and)
_binary("bit_or", INTEGERS, np.bitwise_or)
_binary("bit_xor", INTEGERS, np.bitwise_xor)
_comparison("lt", np.less)
_comparison("le", np.less_equal)
_comparison("gt", np.greater)
_comparison("ge", np.greater_equal)
_comparison("eq", np.equal)
_comparison("ne", np.not_equal)
_row("where", "pointwise", 3, type_rules.where, np.where)

# --- reductions over `axes` (sorted, non-negative) ---
_reduction("sum", type_rules.reduction(NUMERIC, widen=True), meaning.reduction(np.sum))
_reduction("prod", type_rules.reduction(NUMERIC, widen=True), meaning.reduction(np.prod))
_reduction("mean", type_rules.reduction(FLOATS), meaning.reduction(meaning.mean))
_reduction("max", type_rules.reduction(NUMERIC, nonempty=True), meaning.reduction(np.max))
_reduction("min", type_rules.reduction(NUMERIC, nonempty=True), meaning.reduction(np.min))
_reduction("any", type_rules.reduction(("bool",)), meaning.reduction(np.any))
_reduction("all", type_rules.reduction(("bool",)), meaning.reduction(np.all))
_reduction("argmax", type_rules.arg_reduction, meaning.arg_reduction(np.argmax))
_reduction("argmin", type_rules.arg_reduction, meaning.arg_reduction(np.argmin))
_row("cumsum", "scan", 1, type_rules.cumsum, meaning.cumsum, "axis")

# --- movement: indices only ---
_row("reshape", "movement", 1, type_rules.reshape, meaning.reshape, "shape")
_row("transpose", "movement", 1, type_rules.transpose, meaning.transpose, "permutation")
_row("broadcast", "movement", 1, type_rules.broadcast, meaning.broadcast, "shape")
_row("slice", "movement", 1, type_rules.slice_, meaning.slice_, "starts sizes steps")
_row("windows", "movement", 1, type_rules.windows, meaning.windows, "axes sizes strides dilations")

# --- assembly and gathers ---
_row("pad", "assembly", 1, type_rules.pad, meaning.pad, "low high value")
_row("concatenate", "assembly", None, type_rules.concatenate, meaning.concatenate, "axis")
_row("take", "gather", 2, type_rules.take, meaning.take, "axis")
_row("take_along_axis", "gather", 2, type_rules.take_along_axis, meaning.take_along_axis, "axis")

_row("matmul", "matmul", 2, type_rules.matmul, meaning.matmul)
_row(
    "patches", "patches", 1, type_rules.patches, meaning.patches,
    "sizes strides dilations low high",
)  # fmt: skip


def kind(value: Value) -> str:
    """The kind of a value's op."""
    return OPS[value.op].kind


def infer_type(op: str, operands: Sequence[Value], attributes: Attributes) -> TensorType:
    """The type that the table gives `op` on these operands; GraphError, ShapeError, DTypeError,
    DeviceError or AttributeValueError where it has none."""
    row = OPS.get(op)
    if row is None:
        raise GraphError(f"there is no op {op!r}; the table has {', '.join(sorted(OPS))}")
    if row.arity is not None and len(operands) != row.arity:
        raise GraphError(f"{op} takes {row.arity} operands, got {len(operands)}")
    unknown = set(attributes) - set(row.attributes)
    missing = set(row.attributes) - set(attributes) - {"device"}
    if unknown or missing:
        raise GraphError(
            f"{op} has the attributes {', '.join(row.attributes) or 'none'}; "
            f"got {', '.join(attributes) or 'none'}"
        )
    return row.infer([operand.type for operand in operands], attributes)


def make(
    op: str,
    operands: Sequence[Value] = (),
    attributes: Attributes | None = None,
    location: Location | None = None,
) -> Value:
    """A value of `op`, its type inferred. Errors name the op and the user's line."""
    attributes = dict(attributes or {})
    try:
        inferred = infer_type(op, operands, attributes)
    except MinicompError as error:
        raise error.placed(op, location) from None
    return Value(op, tuple(operands), attributes, inferred, location)
