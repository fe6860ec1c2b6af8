"""Constant folding: values that depend on no input are computed once, at compile time.

In: a graph. Out: a graph in which ops on constants have become constants.

    %0 = full() {shape=[4], value=2.0, dtype=f32} : f32[4]
    %1 = constant() {value=[1.0,2.0,3.0,4.0]} : f32[4]
    %2 = mul(%0, %1) : f32[4]
becomes
    %2 = constant() {value=[2.0,4.0,6.0,8.0]} : f32[4]

The interpreter computes the result, so folding cannot disagree with it. A `full` is a constant of
one number and stays one whatever its size: a pointwise op on fulls is computed on one element.
Elsewhere sizes are bounded, since a constant that is larger than what it is made of costs memory
and reads; a `broadcast` of a constant is never written out.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from minicomp.errors import IndexOutOfRangeError
from minicomp.interning import interned
from minicomp.ir import Graph, Value, numpy_dtype, rewrite
from minicomp.ir.interpreter import evaluate
from minicomp.ir.ops import kind
from minicomp.ir.text import array_bytes
from minicomp.passes.build import build, full_like

#: results up to this many elements are worth storing, however small their operands are
STORED_ELEMENTS = 65536
#: multiplications that a compile may spend on folding one matmul
FOLDED_PRODUCTS = 2**26

_LEAVES = ("constant", "full", "iota")


def fold_constants(graph: Graph) -> Graph:
    """The graph with constant subexpressions evaluated. Gathers whose constant indices are out
    of range stay, and raise when the graph runs."""
    return rewrite(graph, _fold)


def _fold(value: Value) -> Value | None:
    if value.op == "constant":
        return _uniform(value, value.attributes["value"])
    operands = value.operands
    if not operands or any(operand.op not in _LEAVES for operand in operands):
        return None
    if all(operand.op == "full" for operand in operands):
        folded = _fold_fulls(value)
        if folded is not None:
            return folded
    if value.op == "broadcast" or not _is_small(value):
        return None
    try:
        with np.errstate(all="ignore"):
            result = evaluate(value, [_array(operand) for operand in operands])
    except IndexOutOfRangeError:
        return None
    constant = build(value, "constant", value=interned(np.asarray(result)), device=value.device)
    return _uniform(constant, result) or constant


def _fold_fulls(value: Value) -> Value | None:
    """Ops on fulls that give a full of any size."""
    numbers = [operand.attributes["value"] for operand in value.operands]
    if kind(value) == "pointwise":
        elements = [_element(operand, (1,)) for operand in value.operands]
        with np.errstate(all="ignore"):
            return full_like(value, _number(evaluate(value, elements), value.dtype))
    if kind(value) == "movement":
        return full_like(value, numbers[0])
    if value.op == "pad":
        numbers.append(value.attributes["value"])
    if value.op in ("pad", "concatenate") and len({_bits(n, value.dtype) for n in numbers}) == 1:
        return full_like(value, numbers[0])
    if value.op in ("max", "min"):
        return full_like(value, numbers[0])
    return None


def _is_small(value: Value) -> bool:
    """Whether computing and storing the result is cheap; fulls and iotas count as nothing
    stored, but have to be written out to compute."""
    stored = sum(operand.size for operand in value.operands if operand.op == "constant")
    limit = max(STORED_ELEMENTS, stored)
    if value.op == "matmul" and value.size * value.operands[0].shape[-1] > FOLDED_PRODUCTS:
        return False
    return all(v.size <= limit for v in (value, *value.operands))


def _array(leaf: Value) -> np.ndarray:
    return evaluate(leaf, [])


def _element(full: Value, shape: tuple[int, ...]) -> np.ndarray:
    return np.full(shape, full.attributes["value"], numpy_dtype(full.dtype))


def _uniform(value: Value, array: np.ndarray) -> Value | None:
    """A full where all elements have the same bits, else None."""
    if prod(array.shape) == 0:
        return full_like(value, 0)
    words = np.frombuffer(array_bytes(array), f"u{array.dtype.itemsize}")
    if (words != words[0]).any():
        return None
    return full_like(value, _number(array, value.dtype))


def _number(array: np.ndarray, dtype: str) -> bool | int | float:
    """The first element as a Python number."""
    element: Any = array.reshape(-1)[0]
    if dtype == "bool":
        return bool(element)
    return int(element) if dtype in ("int32", "int64") else float(element)


def _bits(number: Any, dtype: str) -> bytes:
    return np.array(number, numpy_dtype(dtype)).tobytes()
