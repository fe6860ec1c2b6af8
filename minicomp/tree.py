"""Nested tuples, lists and dicts of tensors, flattened and put together again.

>>> leaves, structure = flatten({"a": 1, "b": (2, 3)})
>>> leaves
[1, 2, 3]
>>> unflatten(structure, [10, 20, 30])
{'a': 10, 'b': (20, 30)}

Structures are hashable and compare by shape, so a compiled module can key on them. Named tuples
keep their class.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Leaf:
    """A place for one leaf."""


@dataclass(frozen=True)
class Node:
    """A container: its class, its children, and for a dict its keys."""

    kind: type
    children: tuple[Node | Leaf, ...]
    keys: tuple[Any, ...] = ()


Structure = Node | Leaf
LEAF = Leaf()


def flatten(nested: Any) -> tuple[list[Any], Structure]:
    """The leaves in order, and the structure that `unflatten` needs to put them back."""
    leaves: list[Any] = []
    return leaves, _flatten(nested, leaves)


def _flatten(nested: Any, leaves: list[Any]) -> Structure:
    if isinstance(nested, dict):
        children = tuple(_flatten(item, leaves) for item in nested.values())
        return Node(type(nested), children, tuple(nested))
    if isinstance(nested, tuple | list):
        return Node(type(nested), tuple(_flatten(item, leaves) for item in nested))
    leaves.append(nested)
    return LEAF


def unflatten(structure: Structure, leaves: Any) -> Any:
    """The inverse of `flatten`."""
    return _unflatten(structure, iter(leaves))


def _unflatten(structure: Structure, leaves: Iterator[Any]) -> Any:
    if isinstance(structure, Leaf):
        return next(leaves)
    children = [_unflatten(child, leaves) for child in structure.children]
    if issubclass(structure.kind, dict):
        return dict(zip(structure.keys, children, strict=True))
    if hasattr(structure.kind, "_fields"):
        return structure.kind(*children)
    return structure.kind(children)
