"""What a device array of any library says of itself: `__cuda_array_interface__`, versions 2 and 3.

In: an array of pycuda, torch, cupy, numba or the simulator. Out: a `DeviceArgument`.

>>> read_interface(torch.ones(2, 3, device="cuda").T)
DeviceArgument(pointer=139..., shape=(3, 2), strides=(4, 12), dtype='float32', readonly=False,
               stream=None, is_simulated=False)

The interface: https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import index
from typing import Any, NamedTuple

from minicomp.errors import InputError, MinicompError
from minicomp.ir import ITEMSIZE, typestr_dtype

#: An entry that the simulator's arrays add: their pointers mean nothing to a GPU.
SIMULATED = "minicomp_simulator"

LEGACY_DEFAULT_STREAM = 1  # how the interface writes the stream whose handle is 0


class DeviceArgument(NamedTuple):
    """Where and how an array lies on a device. Strides are in bytes; `stream` is the handle of the
    stream that the array is written on, None where nobody needs to wait."""

    pointer: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    readonly: bool
    stream: int | None
    is_simulated: bool


def read_interface(array: Any) -> DeviceArgument:
    """The array's description; InputError or DTypeError where minicomp cannot take it."""
    try:
        interface = array.__cuda_array_interface__
    except Exception as error:  # torch raises what it likes for a tensor that requires gradients
        raise InputError(f"a {type(array).__name__} is no device array: {error}") from error
    try:
        return _description(interface)
    except MinicompError:
        raise
    except Exception as error:  # an entry is missing, or is not what the interface says it is
        raise InputError(
            f"the __cuda_array_interface__ of a {type(array).__name__} cannot be read "
            f"({type(error).__name__}: {error}): {interface!r}"
        ) from error


def _description(interface: Mapping[str, Any]) -> DeviceArgument:
    """Numbers come as ints of Python's, whichever the library has written: generated code reads
    them."""
    if interface.get("mask") is not None:
        raise InputError("a masked device array has rules of its own; pass a plain one")
    pointer, readonly = interface["data"]
    shape = tuple(map(index, interface["shape"]))
    dtype = typestr_dtype(interface["typestr"])
    given = interface.get("strides")
    strides = tuple(map(index, given or ()))
    if given is None:
        strides = contiguous_strides(shape, ITEMSIZE[dtype])
    address = 0 if pointer is None else index(pointer)
    is_somewhere = address > 0 or (address == 0 and 0 in shape)
    if len(strides) != len(shape) or min(shape, default=0) < 0 or not is_somewhere:
        raise ValueError("no array has this shape, these strides and this address")
    return DeviceArgument(
        address, shape, strides, dtype, bool(readonly), _stream(interface), SIMULATED in interface
    )


def _stream(interface: Mapping[str, Any]) -> int | None:
    stream = interface.get("stream")
    if stream is None:
        return None
    stream = index(stream)
    if stream == 0:
        raise InputError("the device array's stream is 0, which the interface leaves undefined; "
                         "wanted None, 1 for the default stream, or a handle")  # fmt: skip
    return 0 if stream == LEGACY_DEFAULT_STREAM else stream


def contiguous_strides(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Strides in bytes of a row-major array."""
    strides, step = [], itemsize
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return tuple(reversed(strides))
