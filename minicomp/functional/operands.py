"""What functions on tensors do with their arguments before they `apply` an op.

In: anything a user may pass: symbolic tensors, arrays, parameters, Python numbers, lists. Out:
operands as the IR wants them, of one shape and one dtype. Promotion is NumPy's (NEP 50): Python
numbers take the dtype of what they meet, everything else has a dtype that counts.

>>> x, y = promote(np.ones((2, 1), np.float32), 2)
>>> y
array([[2.],
       [2.]], dtype=float32)
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from minicomp.errors import AttributeValueError, DTypeError, MinicompError, ShapeError, TraceError
from minicomp.ir import FLOATS, INTEGERS, TensorType, dtype_name
from minicomp.tracing.record import (
    Cell,
    Symbolic,
    apply,
    array_type,
    check_belongs,
    current,
    device_attribute,
    type_of,
    user_location,
)

Function = TypeVar("Function", bound=Callable[..., Any])

#: PyTorch's (and older NumPy's) names of arguments -> the ones used here
ALIASES = {"dim": "axis", "dims": "axis", "keepdim": "keepdims", "a_min": "min", "a_max": "max",
           "correction": "ddof", "diagonal": "k"}  # fmt: skip


def tensor_function(function: Function) -> Function:
    """A public function on tensors. PyTorch's names of arguments are taken for NumPy's, and an
    error that does not yet say where it was raised gets the function's name and the user's line.
    TraceError where an argument is given under both names.
    """
    parameters = inspect.signature(function).parameters
    aliases = [
        (alias, name)
        for alias, name in ALIASES.items()
        if name in parameters and alias not in parameters
    ]

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            _rename(kwargs, aliases)
            return function(*args, **kwargs)
        except MinicompError as error:
            raise error.placed(function.__name__, user_location()) from error.__cause__

    return call  # type: ignore[return-value]


def _rename(kwargs: dict[str, Any], aliases: Sequence[tuple[str, str]]) -> None:
    for alias, name in aliases:
        if alias in kwargs:
            if name in kwargs:
                raise TraceError(f"got both {name}= and {alias}=, which mean the same; give one")
            kwargs[name] = kwargs.pop(alias)


# --- one argument ---


def is_weak(x: Any) -> bool:
    """Whether x is a Python number, whose dtype gives way. np.float64 is a Python float, too."""
    return isinstance(x, bool | int | float) and not isinstance(x, np.generic)


def operand(x: Any) -> Any:
    """x as a symbolic tensor, an array, or a Python number.

    While tracing, arrays are symbolic tensors too, except those without axes: they stay arrays,
    to be spread over whatever they meet.
    """
    recorder = current()
    if isinstance(x, Symbolic):
        check_belongs(x, recorder)
        return x
    if is_weak(x):
        return x
    if isinstance(x, list | tuple | range):
        array = _array_of_sequence(x)
        return recorder.constant(array) if recorder is not None and array.ndim else array
    found = array_type(x)
    if found is None or isinstance(x, TensorType):
        raise TraceError(f"got a {type(x).__name__}, wanted a tensor, an array or a number")
    if recorder is not None and (found.shape or isinstance(x, Cell) or found.device != "cpu"):
        return recorder.captured(x)
    if found.device != "cpu":
        return x  # and `apply` says that the GPU needs a compiled function
    return np.asarray(x.data if isinstance(x, Cell) else x)


def _array_of_sequence(sequence: Sequence[Any]) -> np.ndarray:
    if any(isinstance(item, Symbolic | Cell) for item in sequence):
        raise TraceError("got a list of tensors, wanted one tensor; join them with minicomp.stack")
    array = np.asarray(sequence)
    dtype_name(array.dtype)  # raises DTypeError for strings, objects and the like
    return array


def tensor(x: Any) -> Any:
    """x as a symbolic tensor or an array: `operand` with numbers given a dtype."""
    x = operand(x)
    if is_weak(x):
        return full(x, (), weak_dtype(x), None)
    if isinstance(x, np.ndarray) and current() is not None:
        return full(x.item(), (), dtype_name(x.dtype), None)
    return x


def dtype_of(x: Any) -> str:
    """The IR's name of the dtype of a symbolic tensor or an array."""
    return type_of(x).dtype


def numeric(x: Any) -> Any:
    """x as a tensor of numbers: bool becomes int64."""
    x = tensor(x)
    return cast(x, "int64") if dtype_of(x) == "bool" else x


def floating(x: Any) -> Any:
    """x as a tensor of floats: integers and bool become float64.

    NumPy makes float16 of bool, which holds three digits; float64 serves bool as it does int64.
    """
    x = tensor(x)
    return x if dtype_of(x) in FLOATS else cast(x, "float64")


def in_float32(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of several ops whose first argument, if a 2-byte float, is widened to float32
    and its result rounded once: where a kernel fuses them all, this costs nothing."""

    @functools.wraps(function)
    def widened(x: Any, *args: Any, **kwargs: Any) -> Any:
        x = floating(x)
        dtype = dtype_of(x)
        if dtype not in ("float16", "bfloat16"):
            return function(x, *args, **kwargs)
        return cast(function(cast(x, "float32"), *args, **kwargs), dtype)

    return widened


def fresh(x: Any) -> Any:
    """x as a result: an array that is the caller's own is copied, as NumPy's functions do."""
    return x if isinstance(x, Symbolic) else np.array(x)


def cast(x: Any, dtype: str) -> Any:
    """x with another dtype; x itself if it has that already."""
    return x if dtype_of(x) == dtype else apply("cast", x, dtype=dtype)


def full(value: Any, shape: Sequence[int], dtype: str, device: str | None) -> Any:
    """A tensor of one number. `device` None is where the trace runs."""
    recorder = current()
    if device is None:
        device = recorder.device if recorder is not None else "cpu"
    return apply(
        "full",
        shape=tuple(shape),
        value=python_number(value, dtype),
        dtype=dtype,
        **device_attribute(device),
    )


def python_number(value: Any, dtype: str) -> bool | int | float:
    """`value` as the Python number that an attribute of this dtype holds."""
    if dtype == "bool":
        return bool(value)
    if dtype not in INTEGERS:
        try:
            return float(value)
        except OverflowError:  # an int beyond all floats
            raise DTypeError("the number is out of range for any float dtype") from None
    try:
        number = int(value)
    except (ValueError, OverflowError):
        raise DTypeError(f"{value!r} is not an integer; use a float dtype") from None
    if not fits(number, dtype):
        raise DTypeError(f"the number {number} is out of range for {dtype}; cast to a wider dtype")
    return number


def fits(number: int, dtype: str) -> bool:
    """Whether a Python int is within the range of an integer dtype."""
    bound = 2 ** (31 if dtype == "int32" else 63)
    return -bound <= number < bound


# --- several arguments ---


def weak_dtype(number: bool | int | float) -> str:
    """The dtype of a Python number that meets no tensor."""
    return "bool" if isinstance(number, bool) else "int64" if isinstance(number, int) else "float64"


def promote_dtypes(a: str, b: str) -> str:
    """NumPy's promotion of two dtypes; the two 2-byte floats meet in float32."""
    if a == b:
        return a
    if "bool" in (a, b):
        return b if a == "bool" else a
    if a in INTEGERS and b in INTEGERS:
        return "int64"
    if a in INTEGERS or b in INTEGERS:
        return "float64"
    wider = max(a, b, key=FLOATS.index)  # FLOATS goes from narrow to wide
    return "float32" if wider == "bfloat16" else wider


def promote_weak(dtype: str, number: bool | int | float) -> str:
    """The dtype of a tensor of `dtype` together with a Python number (NEP 50)."""
    if isinstance(number, bool) or dtype in FLOATS:
        return dtype
    if isinstance(number, int):
        return "int64" if dtype == "bool" else dtype
    return "float64"


def common_dtype(operands: Sequence[Any]) -> str:
    """The dtype that operands (as from `operand`) are promoted to."""
    strong = [dtype_of(x) for x in operands if not is_weak(x)]
    weak = [x for x in operands if is_weak(x)]
    if not strong:
        return functools.reduce(promote_dtypes, map(weak_dtype, weak))
    return functools.reduce(promote_weak, weak, functools.reduce(promote_dtypes, strong))


def common_shape(operands: Sequence[Any]) -> tuple[int, ...]:
    """The shape that operands are broadcast to."""
    shapes = [() if is_weak(x) else type_of(x).shape for x in operands]
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        listed = " and ".join(str(shape) for shape in shapes if shape)
        raise ShapeError(
            f"shapes {listed} do not broadcast: aligned at the last axis, sizes must be equal or 1"
        ) from None


def spread(x: Any, shape: tuple[int, ...], dtype: str, device: str | None) -> Any:
    """An operand with the given shape and dtype; a number becomes a `full`."""
    if is_weak(x):
        return full(x, shape, dtype, device)
    if isinstance(x, np.ndarray) and x.ndim == 0:
        return full(x.item(), shape, dtype, device)
    return broadcast(cast(x, dtype), shape)


def broadcast(x: Any, shape: tuple[int, ...]) -> Any:
    """x repeated along new leading axes and axes of size 1; x itself if it has that shape."""
    return x if x.shape == shape else apply("broadcast", x, shape=shape)


def promote(*xs: Any, dtype: str | None = None, shape: tuple[int, ...] | None = None) -> list[Any]:
    """The arguments as operands of one shape and one dtype (by default their common ones)."""
    operands = [operand(x) for x in xs]
    shape = common_shape(operands) if shape is None else shape
    dtype = dtype or common_dtype(operands)
    types = [type_of(x) for x in operands if not is_weak(x)]
    device = next((t.device for t in types if t.shape), None)
    return [spread(x, shape, dtype, device) for x in operands]


# --- axes and shapes ---


def integer(x: Any, what: str) -> int:
    """x as a Python int; AttributeValueError names `what` it should have been."""
    if isinstance(x, bool | np.bool_):
        raise AttributeValueError(f"{what} is the bool {x}, wanted an int")
    try:
        return operator.index(x)
    except TypeError as error:
        if isinstance(error, MinicompError):
            raise
        raise AttributeValueError(f"{what} is {x!r}, wanted an int") from None


def axis_of(axis: Any, rank: int) -> int:
    """A non-negative axis of a tensor of this rank."""
    number = integer(axis, "axis")
    if not -rank <= number < rank:
        within = f"wanted {-rank} to {rank - 1}" if rank else "it has none"
        raise AttributeValueError(f"axis {number} of a tensor with {rank} axes; {within}")
    return number % rank


def axes_of(axis: Any, rank: int) -> tuple[int, ...]:
    """Sorted, distinct axes: of None all, of an int one, of a tuple or list those."""
    if axis is None:
        return tuple(range(rank))
    listed = axis if isinstance(axis, tuple | list) else (axis,)
    axes = sorted(axis_of(entry, rank) for entry in listed)
    if len(set(axes)) != len(axes):
        raise AttributeValueError(f"axis {axis} names the same axis twice")
    return tuple(axes)


def shape_of(shape: Any) -> tuple[int, ...]:
    """A shape given as an int or a sequence of ints, as a tuple."""
    listed = shape if isinstance(shape, tuple | list) else (shape,)
    return tuple(integer(extent, "a size") for extent in listed)
