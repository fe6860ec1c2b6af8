"""DLPack: handing a device array to torch, cupy or jax without a copy.

In: an array's address, shape, strides and dtype, and what keeps it alive. Out: a capsule, which
the other library takes as its own array: `torch.from_dlpack(y)`.

The structures are those of dlpack.h, version 0.8: https://dmlc.github.io/dlpack/latest/c_api.html
"""

from __future__ import annotations

import ctypes
from ctypes import c_char_p, c_int32, c_int64, c_uint8, c_uint16, c_uint64, c_void_p, py_object
from typing import Any

from minicomp.ir import ITEMSIZE
from minicomp.runtime.cuda.interface import DeviceArgument

CUDA_DEVICE = 2  # kDLCUDA
#: DLDataTypeCode: signed integers, IEEE floats, bfloat16, bool
CODES = {"int": 0, "float": 2, "bfloat": 4, "bool": 6}
NAME = b"dltensor"  # what a capsule is called until somebody takes it


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", c_void_p),
        ("device_type", c_int32),
        ("device_number", c_int32),
        ("axes", c_int32),
        ("code", c_uint8),
        ("bits", c_uint8),
        ("lanes", c_uint16),
        ("shape", ctypes.POINTER(c_int64)),
        ("strides", ctypes.POINTER(c_int64)),  # in elements
        ("byte_offset", c_uint64),
    )


_DELETER = ctypes.CFUNCTYPE(None, c_void_p)


class _ManagedTensor(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("context", c_void_p), ("deleter", _DELETER))


#: What other libraries hold at present, by address: the structure and all that it points to.
_exported: dict[int, tuple[Any, ...]] = {}


@_DELETER
def _forget(address: int) -> None:
    _exported.pop(address, None)


def capsule(argument: DeviceArgument, owner: Any, device_number: int) -> Any:
    """A DLPack capsule of an array that `owner` keeps alive."""
    itemsize, axes = ITEMSIZE[argument.dtype], len(argument.shape)
    shape = (c_int64 * axes)(*argument.shape)
    strides = (c_int64 * axes)(*(stride // itemsize for stride in argument.strides))
    tensor = _Tensor(
        data=int(argument.pointer),
        device_type=CUDA_DEVICE,
        device_number=device_number,
        axes=axes,
        code=CODES[argument.dtype.rstrip("0123456789")],
        bits=8 * itemsize,
        lanes=1,
        shape=shape,
        strides=strides,
    )
    managed = _ManagedTensor(tensor, None, _forget)
    address = ctypes.addressof(managed)
    _exported[address] = (managed, shape, strides, owner)
    return _new_capsule(address, NAME, _DESTROY)


# Prototypes of our own: those of ctypes.pythonapi's attributes are everybody's.
_new_capsule = ctypes.PYFUNCTYPE(py_object, c_void_p, c_char_p, c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)
# The capsule is passed as an address: it is being destroyed, and must not be referred to again.
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, c_void_p, c_char_p)(
    ("PyCapsule_IsValid", ctypes.pythonapi)
)
_get_pointer = ctypes.PYFUNCTYPE(c_void_p, c_void_p, c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


@ctypes.PYFUNCTYPE(None, c_void_p)
def _destroy(capsule: int) -> None:
    """A capsule goes. Nobody has taken the array if it still has its name."""
    if _is_valid(capsule, NAME):
        _forget(_get_pointer(capsule, NAME))


_DESTROY = ctypes.cast(_destroy, c_void_p)
