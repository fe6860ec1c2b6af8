"""Digests that stand for a structure, for the keys of caches.

In: frozen dataclasses, tuples and plain values, nested: a kernel, its schedule, a target. Out: a
hex digest. Structures that differ anywhere have different digests; equal ones have the same, in
every process.

>>> fingerprint(LoopSchedule(unroll=4)) == fingerprint(LoopSchedule(unroll=4))
True
>>> fingerprint(LoopSchedule(unroll=4)) == fingerprint(LoopSchedule(unroll=2))
False

Every field of a dataclass counts but for those marked `compare=False`, and what cannot be told
apart for certain is refused. So nothing that is added to a kernel later can be forgotten here.
"""

from __future__ import annotations

import functools
import hashlib
import os
import struct
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

#: How a plain value is written: no two values of one type alike, nor those of two types.
_PLAIN: dict[type, Callable[[Any], str]] = {
    type(None): repr,
    bool: repr,
    int: repr,
    float: lambda value: f"f{struct.pack('<d', value).hex()}",  # nan and -0.0 are values as well
    str: lambda value: f"s{len(value)}:{value}",
}


def fingerprint(*parts: Any) -> str:
    """The digest of `parts` in order. TypeError for what is no structure of plain values."""
    texts: list[str] = []
    numbers: dict[int, int] = {}  # of dataclasses that are compared by identity
    stack: list[Any] = [parts]
    while stack:
        part = stack.pop()
        kind = type(part)
        if kind in _PLAIN:
            texts.append(_PLAIN[kind](part))
        elif kind is tuple:
            texts.append(f"t{len(part)}")
            stack.extend(reversed(part))
        elif id(part) in numbers:
            # Which expressions are shared is a part of the structure, and a graph of them written
            # as a tree could be exponentially long.
            texts.append(f"n{numbers[id(part)]}")
        else:
            name, names, is_shared = _fields(kind)  # type: ignore[arg-type]
            if is_shared:
                numbers[id(part)] = len(numbers)
            texts.append(name)
            stack.extend([getattr(part, field) for field in names])
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


@functools.cache
def _fields(kind: type) -> tuple[str, tuple[str, ...], bool]:
    """A dataclass's name, its fields that count, and whether it is compared by identity."""
    if not is_dataclass(kind):
        raise TypeError(f"{kind.__qualname__} has no fingerprint: it is no dataclass")
    counting = tuple(field.name for field in fields(kind) if field.compare)
    return f"d{kind.__module__}.{kind.__qualname__}", counting, kind.__eq__ is object.__eq__


@functools.cache
def source_digest() -> str:
    """A digest of minicomp's source: what it generates may change with any of it."""
    root = os.path.dirname(__file__)
    digest = hashlib.sha256()
    for directory, inside, names in os.walk(root):
        inside.sort()
        for name in sorted(names):
            if name.endswith(".py"):
                path = os.path.join(directory, name)
                with open(path, "rb", buffering=0) as file:
                    content = file.read()
                digest.update(f"{path[len(root) :]} {len(content)}\n".encode() + content)
    return digest.hexdigest()
