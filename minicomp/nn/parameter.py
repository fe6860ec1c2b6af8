"""A parameter: a cell that holds an array, which training changes and every call reads.

In: an array, on the host or the GPU. Out: something that computes like the array. Outside a trace
its operators give NumPy arrays at once; within one they give symbolic tensors, and the graph
refers to the parameter by name instead of copying its numbers.

>>> weight = Parameter(np.ones((2, 3), np.float32))
>>> np.ones((1, 2), np.float32) @ weight
array([[2., 2., 2.]], dtype=float32)
>>> weight -= 0.5
>>> weight.data
array([[0.5, 0.5, 0.5],
       [0.5, 0.5, 0.5]], dtype=float32)
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from minicomp import functional as F
from minicomp.errors import DeviceError, DTypeError, TraceError
from minicomp.runtime import epoch
from minicomp.tracing.record import Cell, Symbolic, array_type, is_tracing, user_location
from minicomp.tracing.tensor import ARRAY, BRANCH, NUMBER, SIZE, TensorOperators, refuse_numbers

_counter = itertools.count(1)
_latest = 0


def mark_changed(item: Any) -> None:
    """Say that a module or parameter has changed in a way that a trace would notice. It gets a
    version greater than all before, which counts only once the change is complete: a thread that
    looks in between looks again."""
    global _latest
    number = next(_counter)
    object.__setattr__(item, "_version", number)
    _latest = number
    epoch.advance()


def latest_version() -> int:
    """The version given last. While it stays, no module has changed."""
    return _latest


def _in_place(operation: Callable[[Any, Any], Any], symbol: str) -> Callable[[Any, Any], Any]:
    def method(self: Parameter, other: Any) -> Parameter:
        self._check_writable(symbol)
        self.data = operation(self.data, other.data if isinstance(other, Cell) else other)
        return self

    return method


class Parameter(TensorOperators, Cell):
    """An array that belongs to a module: `data`, shared with whoever made it, not copied.

    Raises DTypeError for dtypes that minicomp lacks. `requires_grad` says whether it is trained.
    """

    def __init__(self, data: Any, requires_grad: bool = True):
        self.data = data
        self.requires_grad = requires_grad

    @property
    def data(self) -> Any:
        """The array: np.ndarray, or a GPU array."""
        return self._data

    @data.setter
    def data(self, data: Any) -> None:
        if isinstance(data, Symbolic):
            raise TraceError("a traced tensor cannot become a parameter", what="Parameter",
                             location=user_location())  # fmt: skip
        if isinstance(data, Cell):
            data = data.data
        if not hasattr(data, "__cuda_array_interface__"):
            data = np.asarray(data)
        found = array_type(data)
        if found is None:
            raise DTypeError(f"{type(data).__name__} is no array", what="Parameter")
        before = self.__dict__.get("_type"), self.__dict__.get("_data")
        self._type, self._data = found, data
        if found != before[0]:
            mark_changed(self)
        elif data is not before[1]:
            epoch.advance()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        mark_changed(self)  # versions of the process that pickled it mean nothing here

    @property
    def shape(self) -> tuple[int, ...]:
        return self._type.shape

    @property
    def dtype(self) -> np.dtype:
        return self._data.dtype

    @property
    def device(self) -> str:
        """Where the array is: "cpu" or "cuda"."""
        return self._type.device

    def __repr__(self) -> str:
        return f"Parameter({self._data!r}, requires_grad={self.requires_grad})"

    # --- changes in place ---

    __iadd__, __isub__ = _in_place(operator.iadd, "+="), _in_place(operator.isub, "-=")
    __imul__, __itruediv__ = _in_place(operator.imul, "*="), _in_place(operator.itruediv, "/=")
    __ipow__, __imod__ = _in_place(operator.ipow, "**="), _in_place(operator.imod, "%=")
    __ifloordiv__ = _in_place(operator.ifloordiv, "//=")

    def __setitem__(self, key: Any, value: Any) -> None:
        self._check_writable("assignment to an item")
        self._data[key] = value

    def _check_writable(self, what: str) -> None:
        if is_tracing():
            raise TraceError(
                "a parameter cannot be changed inside a traced function, whose calls would not "
                "repeat it; change it outside",
                what=what,
                location=user_location(),
            )

    # --- its numbers ---

    def __getitem__(self, key: Any) -> Any:
        """In a trace a symbolic tensor; else what NumPy gives: views, masks and all."""
        return F.getitem(self, key) if is_tracing() else self._data[key]

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        if self.device != "cpu":
            raise DeviceError(
                "the parameter is on the GPU; fetch it with minicomp.cuda.to_host(p.data)",
                what="a NumPy array from a parameter",
                location=user_location(),
            )
        if copy:
            return np.array(self._data, dtype)
        return np.asarray(self._data, dtype)

    def numpy(self) -> np.ndarray:
        """The array itself, on the host."""
        return self._numbers("numpy()", "it is no array", ARRAY)

    def item(self) -> Any:
        """The one element as a Python number."""
        return self._numbers("item()", "it is no Python number", NUMBER).item()

    def tolist(self) -> Any:
        """Nested lists of Python numbers."""
        return self._numbers("tolist()", "it is no list", NUMBER).tolist()

    def copy(self) -> Any:
        """A copy of the array."""
        return F.positive(self)

    clone = detach = copy

    def __bool__(self) -> Any:
        return bool(self._numbers("bool()", "Python cannot branch on it", BRANCH))

    def __int__(self) -> Any:
        return int(self._numbers("int()", "it is no Python number", NUMBER).item())

    def __float__(self) -> Any:
        return float(self._numbers("float()", "it is no Python number", NUMBER).item())

    def __index__(self) -> Any:
        return operator.index(self._numbers("an index or a size", "it is no Python int", SIZE))

    def _numbers(self, what: str, reason: str, advice: str) -> np.ndarray:
        if is_tracing():
            refuse_numbers(f"a parameter ({self._type})", what, reason, advice)
        return np.asarray(self)
