"""Recording: `apply` adds an op to the graph being traced, or computes it at once.

In: the name of an op of the table, operands and attributes. Out, while a `Recorder` is active in
this thread: a symbolic tensor whose value stands in the recorder's graph. Out, otherwise: the
NumPy array that the interpreter gives this op. Every function on tensors ends in `apply`, so the
same code serves arrays and traces.

>>> apply("exp", np.zeros(2))
array([1., 1.])
>>> with Recorder(wrap=Tensor) as recorder:
...     x = recorder.input("x", TensorType((2,), "float64"))
...     apply("exp", x)
Tensor(f64[2] = exp)
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar, Token
from typing import Any

import numpy as np

from minicomp.errors import DeviceError, InputError, TraceError
from minicomp.ir import Location, TensorType, Value, dtype_name, numpy_dtype
from minicomp.ir.interpreter import evaluate
from minicomp.ir.ops import make


class Symbolic:
    """A tensor of a graph being traced: it has a type, and no numbers yet."""

    def __init__(self, value: Value, recorder: Recorder):
        self.value = value
        self.recorder = recorder

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def dtype(self) -> np.dtype:
        return numpy_dtype(self.value.dtype)

    @property
    def device(self) -> str:
        return self.value.device

    @property
    def ndim(self) -> int:
        return len(self.value.shape)


class Cell:
    """Something that holds an array in `data` and may be given another one: an `nn.Parameter`."""

    data: Any


def array_type(array: Any) -> TensorType | None:
    """The type of an array, a GPU array, a cell, or a spec with `shape` and `dtype`; None for
    anything else. Raises DTypeError for a dtype that the IR lacks, InputError for arrays of other
    libraries that NumPy cannot read as they are."""
    if type(array) is np.ndarray or isinstance(array, np.generic):
        return TensorType(array.shape, dtype_name(array.dtype))
    if isinstance(array, TensorType):
        return array
    if isinstance(array, Cell):
        return array_type(array.data)
    if isinstance(array, np.matrix | np.ma.MaskedArray):
        raise InputError(
            f"a {type(array).__name__} has rules of its own; pass a plain array, np.asarray(x)"
        )
    if hasattr(array, "__cuda_array_interface__"):
        from minicomp.runtime.cuda.interface import read_interface  # most programs have no GPU

        found = read_interface(array)
        return TensorType(found.shape, found.dtype, "cuda")
    if hasattr(array, "shape") and hasattr(array, "dtype"):
        _check_readable(array)
        device = "cuda" if "cuda" in str(getattr(array, "device", "cpu")) else "cpu"
        return TensorType(tuple(array.shape), dtype_name(array.dtype), device)
    return None


def _check_readable(array: Any) -> None:
    """InputError for a tensor of another library with dtypes of its own, as torch has them. Told by
    what it has, since importing torch to ask would take seconds."""
    if isinstance(array.dtype, str | type | np.dtype):
        return
    place = str(getattr(array, "device", "cpu"))
    if hasattr(array, "detach"):
        advice = f"x.detach(){'' if place == 'cpu' else '.cpu()'}.numpy()"
    elif hasattr(array, "__dlpack__"):
        advice = "np.from_dlpack(x)"
    else:
        return
    library = type(array).__module__.partition(".")[0]
    raise InputError(
        f"got a {library} tensor of {array.dtype} on {place.replace('cpu', 'the CPU')}; "
        f"wanted an array of NumPy: pass {advice}"
    )


def type_of(operand: Any) -> TensorType:
    """The type of an operand of `apply`: a symbolic tensor or an array."""
    if isinstance(operand, Symbolic):
        return operand.value.type
    found = array_type(operand)
    if found is None:
        raise TraceError(f"a {type(operand).__name__} is not a tensor; wanted an array")
    return found


#: The trace that is being made by this thread or task.
RECORDER: ContextVar[Recorder | None] = ContextVar("minicomp_recorder", default=None)


def current() -> Recorder | None:
    """The recorder of the trace under way in this thread, if there is one."""
    return RECORDER.get()


def is_tracing() -> bool:
    """Whether a trace is under way. A compiled module that is called in one steps aside: it calls
    the function it was compiled from, which so becomes part of the caller's graph."""
    return RECORDER.get() is not None


class Recorder:
    """The graph under construction, as a context manager: active within its `with` block.

    `wrap` makes the symbolic tensor of a value. `names` gives, by `id`, the name of each array or
    cell that the traced module owns; others are called captured_0, captured_1 and so on.
    `device` is where tensors made from nothing (`zeros`, `arange`) live.
    """

    def __init__(
        self,
        wrap: Callable[[Value, Recorder], Any],
        names: Mapping[int, str] | None = None,
        device: str = "cpu",
    ):
        self.wrap = wrap
        self.names = names or {}
        self.device = device
        self.values: list[Value] = []
        self.bindings: dict[str, Any] = {}
        self.called: list[Any] = []  # the modules that were called, outer ones before inner ones
        # Symbolic tensors of what is already in the graph, by id. `_kept` holds on to the arrays
        # themselves, since an id may be used again once its object is gone.
        self._lifted: dict[int, Any] = {}
        self._kept: list[Any] = []
        self._token: Token | None = None

    def __enter__(self) -> Recorder:
        self._token = RECORDER.set(self)
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._token is not None
        RECORDER.reset(self._token)
        # Tensors refer to their recorder: what it knew of them would keep all of them, and the
        # memory of the arrays, until the next collection of garbage.
        self._lifted.clear()
        self._kept.clear()

    def input(self, name: str, type: TensorType) -> Any:
        """A new argument of the graph."""
        return self.record("input", (), {"name": name, "type": type})

    def constant(self, array: np.ndarray) -> Any:
        """An array baked into the graph: a copy, so that nobody can change it later."""
        value = np.array(array)
        value.flags.writeable = False
        attributes: dict[str, Any] = {"value": value}
        return self.record("constant", (), attributes | device_attribute(self.device))

    def captured(self, holder: Any) -> Any:
        """An array or a cell used by reference: the graph reads it at each call. The same holder
        twice, or a cell and its array, is one value."""
        known = self._lifted.get(id(holder))
        if known is not None:
            return known
        found = type_of(holder)
        name = self.names.get(id(holder)) or self._fresh_name()
        tensor = self.record("parameter", (), {"name": name, "type": found})
        self.bindings[name] = holder
        self._remember(holder, tensor)
        if isinstance(holder, Cell):
            self._remember(holder.data, tensor)
        return tensor

    def _remember(self, holder: Any, tensor: Any) -> None:
        self._kept.append(holder)
        self._lifted[id(holder)] = tensor

    def _fresh_name(self) -> str:
        taken = {*self.names.values(), *self.bindings}
        taken |= {value.attributes["name"] for value in self.values if value.op == "input"}
        count = 0
        while f"captured_{count}" in taken:
            count += 1
        return f"captured_{count}"

    def record(self, op: str, operands: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
        """Append `op` of symbolic tensors or arrays to the graph; its symbolic tensor."""
        values = [self._value(operand) for operand in operands]
        value = make(op, values, dict(attributes), user_location())
        self.values.append(value)
        return self.wrap(value, self)

    def _value(self, operand: Any) -> Value:
        if not isinstance(operand, Symbolic):
            operand = self.captured(operand)
        check_belongs(operand, self)
        return operand.value


def check_belongs(tensor: Symbolic, recorder: Recorder | None) -> None:
    """Raise TraceError if `tensor` has left the trace that it is a part of."""
    if tensor.recorder is not recorder:
        raise TraceError(
            f"a traced tensor ({tensor.value.type}) is used outside the trace that made it; "
            f"return it from the traced function instead of keeping it in an attribute, a global "
            f"or another thread"
        )


def device_attribute(device: str) -> dict[str, str]:
    """The attribute `device` of a leaf op; the CPU goes without saying."""
    return {} if device == "cpu" else {"device": device}


def apply(op: str, *operands: Any, **attributes: Any) -> Any:
    """`op` of the table on symbolic tensors and arrays: recorded while tracing, else computed.

    Raises ShapeError, DTypeError, DeviceError or AttributeValueError as the table's type rule
    does, naming the op and the user's line.
    """
    recorder = RECORDER.get()
    if recorder is not None:
        return recorder.record(op, operands, attributes)
    leaves = []
    for operand in operands:
        if isinstance(operand, Symbolic):
            check_belongs(operand, None)
        leaves.append(Value("input", (), {}, type_of(operand)))
    value = make(op, leaves, attributes, user_location())
    if value.device != "cpu":
        raise DeviceError(
            "arrays on the GPU are computed on by compiled functions alone; "
            "use minicomp.compile, or minicomp.cuda.to_host",
            what=op,
            location=value.location,
        )
    with np.errstate(all="ignore"):
        return evaluate(value, list(operands))


#: code that is never "the user's line"
_LIBRARIES = ("minicomp", "numpy")


def user_location() -> Location | None:
    """The innermost line of the call stack that is neither minicomp's nor NumPy's.

    Told by module name, not by path, so that a program inside the package that is run with
    `python -m` counts as the user's.
    """
    frame = sys._getframe(1)
    while frame is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package not in _LIBRARIES:
            return Location(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back  # type: ignore[assignment]
    return None
