"""Arrays in the simulator's memory, with the feel of pycuda's GPUArray.

In: a shape, a dtype and an address in the simulator. Out: a `SimulatedArray`: `get()`, `set()`,
views by slicing, `+ - * /` element by element, and `__cuda_array_interface__`, so that it passes
for a device array. Arithmetic is done by NumPy on the host: what the simulator simulates is
kernels.

>>> x = minicomp.cuda.to_device(np.arange(6, dtype=np.float32).reshape(2, 3))
>>> (x * 2)[1].get()
array([ 6.,  8., 10.], dtype=float32)
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from minicomp.errors import UnsupportedError
from minicomp.ir import dtype_name, numpy_dtype
from minicomp.runtime.cuda.host_copies import through_the_host
from minicomp.runtime.cuda.interface import (
    LEGACY_DEFAULT_STREAM,
    SIMULATED,
    DeviceArgument,
    contiguous_strides,
)


def _arithmetic(operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def method(self: SimulatedArray, other: Any) -> Any:
        if isinstance(other, SimulatedArray):
            other = other.get()
        elif not np.isscalar(other):
            return NotImplemented
        return self.driver.to_device(np.asarray(operation(self.get(), other)))

    return method


def _in_place(operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    compute = _arithmetic(operation)

    def method(self: SimulatedArray, other: Any) -> Any:
        result = compute(self, other)
        if result is not NotImplemented:
            self[...] = result
            return self
        return result

    return method


def _reflected(operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return _arithmetic(lambda x, y: operation(y, x))


class SimulatedArray:
    """See the module's docstring. `gpudata` is the address of the first element, kept alive by
    itself or by `base`; `driver` is the `SimulatedDriver`."""

    __array_priority__ = 100

    def __init__(
        self,
        driver: Any,
        gpudata: int,
        shape: tuple[int, ...],
        dtype: str,
        strides: tuple[int, ...] | None = None,
        base: Any = None,
    ):
        self.driver, self.gpudata, self.base = driver, gpudata, base
        self.shape, self.dtype = shape, numpy_dtype(dtype)
        self.itemsize = self.dtype.itemsize
        self.strides = contiguous_strides(shape, self.itemsize) if strides is None else strides
        self.size = math.prod(shape)
        self.nbytes = self.size * self.itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "strides": self.strides,
            "data": (self.ptr, False),
            "typestr": self.dtype.str,
            "stream": LEGACY_DEFAULT_STREAM,
            "version": 3,
            SIMULATED: True,
        }

    @property
    def argument(self) -> DeviceArgument:
        """The array as `read_interface` describes it."""
        name = dtype_name(self.dtype)
        return DeviceArgument(self.ptr, self.shape, self.strides, name, False, None, True)

    @property
    def ptr(self) -> int:
        """The address of the first element."""
        return int(self.gpudata)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    # --- values ---

    def get(self) -> np.ndarray:
        """A copy on the host."""
        return self.driver.to_host(self)

    def set(self, array: np.ndarray) -> None:
        """Copy a NumPy array of the same shape and dtype into this one."""
        self.driver.fill(self, array)

    def copy(self) -> SimulatedArray:
        """A contiguous copy."""
        return self.driver.to_device(self.get())

    def __reduce__(self) -> tuple[Any, ...]:
        return through_the_host(self)

    def astype(self, dtype: Any) -> SimulatedArray:
        """A copy of another dtype."""
        return self.driver.to_device(self.get().astype(numpy_dtype(dtype_name(dtype))))

    __add__, __radd__ = _arithmetic(operator.add), _reflected(operator.add)
    __sub__, __rsub__ = _arithmetic(operator.sub), _reflected(operator.sub)
    __mul__, __rmul__ = _arithmetic(operator.mul), _reflected(operator.mul)
    __truediv__, __rtruediv__ = _arithmetic(operator.truediv), _reflected(operator.truediv)
    __iadd__, __isub__ = _in_place(operator.add), _in_place(operator.sub)
    __imul__, __itruediv__ = _in_place(operator.mul), _in_place(operator.truediv)

    def __neg__(self) -> SimulatedArray:
        return self.driver.to_device(-self.get())

    def __setitem__(self, key: Any, value: Any) -> None:
        part = self[key]
        if isinstance(value, SimulatedArray):
            value = value.get()
        part.set(np.broadcast_to(np.asarray(value, self.dtype), part.shape))

    # --- views ---

    def __getitem__(self, key: Any) -> SimulatedArray:
        """A view: integers, slices, `...` and None. No picking by arrays."""
        keys = key if isinstance(key, tuple) else (key,)
        if any(isinstance(k, list | np.ndarray | SimulatedArray) for k in keys):
            raise UnsupportedError("device arrays are sliced, not picked from by arrays; "
                                   "use minicomp.take in a compiled function")  # fmt: skip
        return self._viewed(lambda array: array[(*keys, ...)] if Ellipsis not in keys
                            else array[keys])  # fmt: skip

    def transpose(self, *axes: Any) -> SimulatedArray:
        """A view with the axes in the given order, or reversed."""
        return self._viewed(lambda array: array.transpose(*axes))

    @property
    def T(self) -> SimulatedArray:
        """A view with all axes reversed."""
        return self.transpose()

    def reshape(self, *shape: Any) -> SimulatedArray:
        """A view of another shape; a copy of an array that is not contiguous."""
        if self.strides != contiguous_strides(self.shape, self.itemsize):
            return self.copy().reshape(*shape)
        return self._viewed(lambda array: array.reshape(*shape))

    def ravel(self) -> SimulatedArray:
        """The elements in a row."""
        return self.reshape(-1)

    def _viewed(self, change: Callable[[np.ndarray], np.ndarray]) -> SimulatedArray:
        """The view that `change` makes of an array that lies as this one does. NumPy does the
        arithmetic, on an array that has this one's strides and addresses and is never read."""
        before = np.asarray(_Unread(self))
        after = change(before)
        start = after.__array_interface__["data"][0] - before.__array_interface__["data"][0]
        return SimulatedArray(
            self.driver,
            self.ptr + start,
            after.shape,
            dtype_name(self.dtype),
            after.strides,
            base=self if self.base is None else self.base,
        )

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of an array without axes")
        return self.shape[0]

    def __repr__(self) -> str:
        return repr(self.get())

    __str__ = __repr__

    def __hash__(self) -> int:
        return id(self)


class _Unread:
    """An array's address, shape and strides for NumPy to compute with, not to follow."""

    def __init__(self, array: SimulatedArray):
        self.__array_interface__ = {
            "version": 3,
            "typestr": f"|V{array.itemsize}",
            "shape": array.shape,
            "strides": array.strides,
            "data": (array.ptr, True),
        }
