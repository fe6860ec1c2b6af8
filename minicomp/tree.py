"""Nested tuples, lists and dicts of tensors, flattened and put together again.

>>> leaves, structure = flatten({"a": 1, "b": (2, 3)})
>>> leaves
[1, 2, 3]
>>> unflatten(structure, [10, 20, 30])
{'a': 10, 'b': (20, 30)}

Structures are hashable and compare by shape, so a compiled module can key on them. Named tuples
keep their class. What `is_static` says is no tensor becomes a part of the structure:

>>> leaves, structure = flatten((1.5, "mean"), is_static=lambda leaf: isinstance(leaf, str))
>>> leaves, unflatten(structure, [2.5])
([1.5], (2.5, 'mean'))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Leaf:
    """A place for one leaf."""


@dataclass(frozen=True, eq=False)
class Static:
    """A constant: a number, a string, None. 1, 1.0 and True are equal in Python, not here; NaN
    equals itself here."""

    value: Any

    @property
    def key(self) -> tuple[type, Any]:
        value = repr(self.value) if isinstance(self.value, float) else self.value
        return type(self.value), value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Static) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@dataclass(frozen=True)
class Node:
    """A container: its class, its children, and for a dict its keys."""

    kind: type
    children: tuple[Structure, ...]
    keys: tuple[Any, ...] = ()


Structure = Node | Leaf | Static
LEAF = Leaf()
Predicate = Callable[[Any], bool]


def _never(leaf: Any) -> bool:
    return False


def flatten(nested: Any, is_static: Predicate = _never) -> tuple[list[Any], Structure]:
    """The leaves in order, and the structure that `unflatten` needs to put them back."""
    leaves: list[Any] = []
    return leaves, _flatten(nested, leaves, is_static)


def _flatten(nested: Any, leaves: list[Any], is_static: Predicate) -> Structure:
    if isinstance(nested, dict):
        children = tuple(_flatten(item, leaves, is_static) for item in nested.values())
        return Node(type(nested), children, tuple(nested))
    if isinstance(nested, tuple | list):
        return Node(type(nested), tuple(_flatten(item, leaves, is_static) for item in nested))
    if is_static(nested):
        return Static(nested)
    leaves.append(nested)
    return LEAF


def unflatten(structure: Structure, leaves: Any) -> Any:
    """The inverse of `flatten`."""
    return _unflatten(structure, iter(leaves))


def _unflatten(structure: Structure, leaves: Iterator[Any]) -> Any:
    if isinstance(structure, Leaf):
        return next(leaves)
    if isinstance(structure, Static):
        return structure.value
    children = [_unflatten(child, leaves) for child in structure.children]
    if issubclass(structure.kind, dict):
        return dict(zip(structure.keys, children, strict=True))
    build: Callable[..., Any] = structure.kind
    return build(*children) if hasattr(build, "_fields") else build(children)


def paths(structure: Structure) -> list[tuple[Any, ...]]:
    """For each leaf, the keys and positions that lead to it: `x["a"][1]` has ("a", 1)."""
    if isinstance(structure, Leaf):
        return [()]
    if isinstance(structure, Static):
        return []
    steps = structure.keys or getattr(structure.kind, "_fields", None)
    steps = steps or range(len(structure.children))
    return [
        (step, *rest)
        for step, child in zip(steps, structure.children, strict=True)
        for rest in paths(child)
    ]
