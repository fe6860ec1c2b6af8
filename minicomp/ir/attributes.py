"""The forms that attributes of ops take, for the printer, the parser, the verifier and CSE.

In: an op's name and an attribute's. Out: its form, one of those below.

    integers   a tuple of ints        shape=[8,16]
    integer    an int                 axis=1
    boolean    a bool                 keepdims=true
    dtype      a name of `ir.DTYPES`  dtype=f32
    device     "cpu" or "cuda"        device=cuda
    scalar     an element             value=2.0
    array      a NumPy array          value=[1.0,2.0]
    name       a string               (of an input or a parameter)
    type       a TensorType           (of an input or a parameter)

>>> form("full", "shape"), form("full", "value"), form("constant", "value")
('integers', 'scalar', 'array')
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minicomp.errors import AttributeValueError
from minicomp.ir import DTYPES, TensorType, dtype_name

DEVICES = ("cpu", "cuda")

_FORMS = {
    "name": "name",
    "type": "type",
    "axis": "integer",
    "keepdims": "boolean",
    "dtype": "dtype",
    "device": "device",
    "value": "scalar",
}

_INTEGER_RANGES = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}


def form(op: str, attribute: str) -> str:
    """The form of an attribute: "array" for a constant's value, and all lists are integers."""
    if op == "constant" and attribute == "value":
        return "array"
    return _FORMS.get(attribute, "integers")


def check(op: str, attribute: str, value: Any) -> None:
    """AttributeValueError unless `value` has the form that the attribute wants."""
    if not _CHECKS[form(op, attribute)](value):
        raise AttributeValueError(
            f"attribute {attribute} is {value!r}, wanted {_WANTED[form(op, attribute)]}"
        )


def check_scalar(value: Any, dtype: str) -> None:
    """AttributeValueError unless a Python number is an element of `dtype`."""
    if dtype == "bool":
        fits = isinstance(value, bool)
    elif dtype in _INTEGER_RANGES:
        low, high = _INTEGER_RANGES[dtype]
        fits = _is_integer(value) and low <= value <= high
    else:
        fits = isinstance(value, float) or _is_integer(value)
    if not fits:
        raise AttributeValueError(f"value {value!r} is not an element of {dtype}")


def is_valid_type(value: Any) -> bool:
    """Whether `value` is a TensorType with a real shape, dtype and device."""
    return (
        isinstance(value, TensorType)
        and _is_integers(value.shape)
        and all(extent >= 0 for extent in value.shape)
        and value.dtype in DTYPES
        and value.device in DEVICES
    )


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_integers(value: Any) -> bool:
    return isinstance(value, tuple) and all(map(_is_integer, value))


def _is_array(value: Any) -> bool:
    if not isinstance(value, np.ndarray) or not value.dtype.isnative:
        return False
    dtype_name(value.dtype)
    return True


_CHECKS = {
    "integers": _is_integers,
    "integer": _is_integer,
    "boolean": lambda value: isinstance(value, bool),
    "dtype": lambda value: isinstance(value, str) and value in DTYPES,
    "device": lambda value: value in DEVICES,
    "scalar": lambda value: isinstance(value, bool | int | float),
    "array": _is_array,
    "name": lambda value: isinstance(value, str) and value != "",
    "type": is_valid_type,
}

_WANTED = {
    "integers": "a tuple of ints",
    "integer": "an int",
    "boolean": "a bool",
    "dtype": f"one of {', '.join(DTYPES)}",
    "device": " or ".join(DEVICES),
    "scalar": "a Python bool, int or float",
    "array": "a NumPy array in native byte order",
    "name": "a string that is not empty",
    "type": "a TensorType of non-negative ints, a known dtype and device",
}
