"""A layer's arguments, checked when it is made: a mistake is found where it stands.

In: what a user passed to a layer. Out: ints and pairs of them, or an AttributeValueError that
names the layer, the argument and the user's line.

>>> size(8, "in_features")
8
>>> from minicomp import nn
>>> nn.Linear(2.5, 3)
Traceback (most recent call last):
minicomp.errors.AttributeValueError: Linear at model.py:7: in_features is 2.5, wanted an int
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from minicomp.errors import AttributeValueError, MinicompError
from minicomp.functional.operands import integer
from minicomp.tracing.record import user_location

Initialiser = TypeVar("Initialiser", bound=Callable[..., None])


def checks_arguments(initialiser: Initialiser) -> Initialiser:
    """An `__init__` whose errors, unless they say more already, get the layer's name and the
    user's line."""

    @functools.wraps(initialiser)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            initialiser(self, *args, **kwargs)
        except MinicompError as error:
            raise error.placed(type(self).__name__, user_location()) from error.__cause__

    return init  # type: ignore[return-value]


def size(value: Any, name: str, least: int = 0) -> int:
    """`value` as an int of at least `least`."""
    number = integer(value, name)
    if number < least:
        raise AttributeValueError(f"{name} is {number}, wanted {least} or more")
    return number


def probability(value: Any, name: str) -> float:
    """`value` as it is, if it is a number from 0 to 1."""
    if isinstance(value, str) or not 0 <= value <= 1:
        raise AttributeValueError(f"{name} is {value!r}, wanted a probability from 0 to 1")
    return value
