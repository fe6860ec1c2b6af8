"""Comparisons and choices: setp set selp slct.

Of floats, `eq ne lt le gt ge` are false where an operand is NaN, and `equ neu ltu leu gtu geu`
true; `num` and `nan` ask just that. Of integers, `lo ls hi hs` compare as unsigned.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minicomp.simulator.batch import Batch
from minicomp.simulator.decode import Action, Form, apply, elementwise, instruction
from minicomp.simulator.instructions.floating import flush
from minicomp.simulator.threads import Threads
from minicomp.simulator.types import PRED, TYPES, Type

Array = np.ndarray
Relation = Callable[[Array, Array], Array]

_ORDERED: dict[str, Relation] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
_UNSIGNED = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}
_COMBINE = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}
_FLOATS = ("f32", "f64")
_INTEGERS = tuple(f"{kind}{width}" for kind in "bus" for width in (16, 32, 64))
_COMPARISONS = (*_ORDERED, *_UNSIGNED, *(f"{name}u" for name in _ORDERED), "num", "nan")


def _unordered(a: Array, b: Array) -> Array:
    return np.isnan(a) | np.isnan(b)


def _relation(form: Form, name: str, type: Type) -> Relation:
    """The comparison, on arrays of the type's dtype."""
    if type.kind == "float":
        if name == "num":
            return lambda a, b: ~_unordered(a, b)
        if name == "nan":
            return _unordered
        if name == "ne":
            return lambda a, b: (a != b) & ~_unordered(a, b)
        if name in _ORDERED:
            return _ORDERED[name]
        if name[:-1] in _ORDERED:
            relation = _ORDERED[name[:-1]]
            return lambda a, b: relation(a, b) | _unordered(a, b)
    elif name in _ORDERED and (type.kind != "bits" or name in ("eq", "ne")):
        return _ORDERED[name]
    elif name in _UNSIGNED and type.kind == "unsigned":
        return _ORDERED[_UNSIGNED[name]]
    form.fail(f".{name} is not a comparison of type {type}")


def _comparison(form: Form) -> tuple[Relation, str, Type]:
    """The relation, how a predicate is combined with it ("" for none), and the operands' type,
    which is the last of the types."""
    name, combine = form.require(*_COMPARISONS), form.option(*_COMBINE)
    ftz = form.option("ftz")
    type = TYPES.get(form.modifiers[-1] if form.modifiers else "", PRED)
    if type.name not in (*_FLOATS, *_INTEGERS):
        form.fail(f"type {type} cannot be compared")
    form.modifiers.pop()
    relation = _relation(form, name, type)
    if ftz:
        return (lambda a, b: relation(flush(a), flush(b))), combine, type
    return relation, combine, type


@instruction("setp")
def set_predicate(form: Form) -> Action:
    relation, combine, type = _comparison(form)
    form.arity(4 if combine else 3)
    a, b = form.source(1, type), form.source(2, type)
    target, opposite = form.pair(0, PRED, PRED)
    if not combine and opposite is None:
        return apply(relation, target, a, b)
    join = _COMBINE.get(combine)
    other, negated = form.predicate(3) if combine else (target, False)

    def action(batch: Batch, threads: Threads) -> None:
        registers, index = batch.registers, threads.index
        holds = relation(registers[a][index], registers[b][index])
        first, second = holds, ~holds
        if join is not None:
            also = registers[other][index] ^ negated
            first, second = join(first, also), join(second, also)
        registers[target][index] = first
        if opposite is not None:
            registers[opposite][index] = second

    return action


@instruction("set")
def set_value(form: Form) -> Action:
    """All ones or 1.0 where the comparison holds, else 0."""
    relation, combine, type = _comparison(form)
    result = form.type("u32", "s32", "f32")
    form.arity(4 if combine else 3)
    a, b, target = form.source(1, type), form.source(2, type), form.destination(0, result)
    true = np.array(1.0 if result.kind == "float" else -1).astype(result.dtype)
    if not combine:
        return apply(lambda x, y: np.where(relation(x, y), true, true * 0), target, a, b)
    join = _COMBINE[combine]
    other, negated = form.predicate(3)

    def compute(x: Array, y: Array, also: Array) -> Array:
        return np.where(join(relation(x, y), also ^ negated), true, true * 0)

    return apply(compute, target, a, b, other)


@instruction("selp")
def select(form: Form) -> Action:
    """a where the predicate holds, else b."""
    type = form.type(*_FLOATS, *_INTEGERS)
    form.arity(4)
    a, b, target = form.source(1, type), form.source(2, type), form.destination(0, type)
    predicate, negated = form.predicate(3)
    if negated:
        a, b = b, a

    def compute(x: Array, y: Array, holds: Array) -> Array:
        return np.where(holds, x, y)

    return apply(compute, target, a, b, predicate)


@instruction("slct")
def select_by_sign(form: Form) -> Action:
    """a where c >= 0, else b."""
    ftz = form.option("ftz")
    type, condition = form.types(2)
    if condition.name not in ("s32", "f32"):
        form.fail("the second type is .s32 or .f32")

    def compute(a: Array, b: Array, c: Array) -> Array:
        return np.where((flush(c) if ftz else c) >= 0, a, b)

    return elementwise(form, compute, type, type, type, condition)
