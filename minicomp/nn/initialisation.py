"""How parameters start: random numbers from one seeded generator, with PyTorch's bounds.

In: a shape and its scale. Out: a `Parameter`. Two runs of a program make the same parameters, and
`manual_seed` starts the sequence again.

>>> manual_seed(7)
>>> first = uniform((2,), 1.0, None, None).data
>>> manual_seed(7)
>>> bool((uniform((2,), 1.0, None, None).data == first).all())
True
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import minicomp  # not `minicomp.cuda`: that brings the compiler with it
from minicomp.errors import DeviceError, DTypeError
from minicomp.ir import FLOATS, dtype_name, numpy_dtype
from minicomp.nn.parameter import Parameter

_generator: np.random.Generator | None = None  # made when needed: NumPy's module takes a while


def manual_seed(seed: int) -> None:
    """Start the random numbers of initialisation and dropout from `seed`."""
    global _generator
    _generator = np.random.default_rng(seed)


def generator() -> np.random.Generator:
    """The source of all random numbers in `nn`."""
    if _generator is None:
        manual_seed(0)
    assert _generator is not None
    return _generator


def parameter(array: np.ndarray, dtype: Any, device: Any) -> Parameter:
    """The array as a parameter of `dtype` (float32 without) on `device` (the CPU without)."""
    name = dtype_name(np.float32 if dtype is None else dtype)
    if name not in FLOATS:
        raise DTypeError(f"parameters are floats; got dtype {name}")
    return Parameter(moved(array.astype(numpy_dtype(name)), device or "cpu"))


def uniform(shape: tuple[int, ...], bound: float, dtype: Any, device: Any) -> Parameter:
    """Evenly spread numbers from -bound to bound."""
    return parameter(generator().uniform(-bound, bound, shape), dtype, device)


def normal(shape: tuple[int, ...], dtype: Any, device: Any) -> Parameter:
    """Normally distributed numbers of mean 0 and variance 1."""
    return parameter(generator().standard_normal(shape), dtype, device)


def kaiming_bound(fan_in: int) -> float:
    """The bound of PyTorch's linear and convolution layers: kaiming_uniform with a = sqrt(5), which
    comes out as 1/sqrt(fan_in) (He et al., 2015; torch.nn.Linear.reset_parameters)."""
    return 1 / math.sqrt(fan_in) if fan_in else 0.0


def xavier_bound(fan_in: int, fan_out: int) -> float:
    """sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010)."""
    return math.sqrt(6 / (fan_in + fan_out))


def cast(array: Any, dtype: str) -> Any:
    """The array with another dtype, where it is: a device array is cast on the host."""
    if isinstance(array, np.ndarray):
        return array.astype(numpy_dtype(dtype))
    return minicomp.cuda.to_device(minicomp.cuda.to_host(array).astype(numpy_dtype(dtype)))


def moved(array: Any, device: Any) -> Any:
    """The array on "cpu" or "cuda"; the array itself if it is there already. CudaError, which says
    what to install or set, where there is no CUDA device."""
    name, _, number = str(device).partition(":")
    if name not in ("cpu", "cuda"):
        raise DeviceError(f"device {device!r} is unknown; wanted 'cpu' or 'cuda'")
    if number not in ("", "0"):
        raise DeviceError(
            f"device {device!r} is one of several; minicomp uses one GPU, which "
            f"CUDA_VISIBLE_DEVICES chooses or the context that is current: write {name!r}"
        )
    on_gpu = hasattr(array, "__cuda_array_interface__")
    if on_gpu == (name == "cuda"):
        return array
    if name == "cuda":
        return minicomp.cuda.to_device(array)
    return minicomp.cuda.to_host(array)
