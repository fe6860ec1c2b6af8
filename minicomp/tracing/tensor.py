"""The tensors that traced functions work on, with the operators and methods of NumPy's arrays.

In: a value of the graph under construction. Out of each operator, method or NumPy function: a new
tensor, whose value has been recorded. `nn.Parameter` shares `TensorOperators`, so that
`self.weight.T * 2` is written alike inside and outside a trace.

>>> def scaled(x):
...     print(x + 1)
...     return np.exp(x + 1)
>>> graph = trace(scaled, np.zeros(3, np.float32))
Tensor(f32[3] = add)

A traced tensor has no numbers yet. Whatever asks for them (an `if`, `float(x)`, `np.asarray(x)`)
gets an error that names the user's line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from minicomp import functional as F
from minicomp.errors import (
    AttributeValueError,
    ControlFlowError,
    TraceError,
    UnsupportedError,
)
from minicomp.missing import missing
from minicomp.tracing import numpy_protocol
from minicomp.tracing.record import Symbolic, user_location


class Size(int):
    """The number of elements, as NumPy's `x.size`; called, the shape, as PyTorch's `x.size()`."""

    shape: tuple[int, ...]

    def __new__(cls, shape: tuple[int, ...]) -> Size:
        size = super().__new__(cls, math.prod(shape))
        size.shape = shape
        return size

    def __call__(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]


def _operator(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda self, other: function(self, other)


def _reflected(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda self, other: function(other, self)


def _refused_in_place(symbol: str) -> Callable[[Any, Any], NoReturn]:
    def refuse(self: Any, other: Any) -> NoReturn:
        raise TraceError(
            f"a traced tensor cannot be changed in place: other names and views of it would not "
            f"see the change; write x = x {symbol} y instead of x {symbol}= y",
            what=f"{symbol}=",
            location=user_location(),
        )

    return refuse


def _cast_to(dtype: str) -> Callable[[Any], Any]:
    return lambda self: F.astype(self, dtype)


class TensorOperators:
    """Python's operators and the methods of NumPy's arrays and PyTorch's tensors.

    Where the two libraries disagree, NumPy is followed: `transpose`, `split`, `var`, `repeat`.
    """

    shape: Any
    dtype: Any
    device: Any

    # NumPy's functions and operators with an array on the left arrive here.
    __array_ufunc__ = numpy_protocol.array_ufunc
    __array_function__ = numpy_protocol.array_function

    # --- operators ---

    __add__, __radd__ = _operator(F.add), _reflected(F.add)
    __sub__, __rsub__ = _operator(F.subtract), _reflected(F.subtract)
    __mul__, __rmul__ = _operator(F.multiply), _reflected(F.multiply)
    __truediv__, __rtruediv__ = _operator(F.divide), _reflected(F.divide)
    __floordiv__, __rfloordiv__ = _operator(F.floor_divide), _reflected(F.floor_divide)
    __mod__, __rmod__ = _operator(F.remainder), _reflected(F.remainder)
    __pow__, __rpow__ = _operator(F.power), _reflected(F.power)
    __matmul__, __rmatmul__ = _operator(F.matmul), _reflected(F.matmul)
    __and__, __rand__ = _operator(F.bitwise_and), _reflected(F.bitwise_and)
    __or__, __ror__ = _operator(F.bitwise_or), _reflected(F.bitwise_or)
    __xor__, __rxor__ = _operator(F.bitwise_xor), _reflected(F.bitwise_xor)
    __lt__, __le__ = _operator(F.less), _operator(F.less_equal)
    __gt__, __ge__ = _operator(F.greater), _operator(F.greater_equal)
    __eq__ = _operator(F.equal)
    __ne__ = _operator(F.not_equal)
    __neg__, __pos__, __abs__, __invert__ = F.negative, F.positive, F.abs, F.bitwise_not
    __round__, __floor__, __ceil__, __trunc__ = F.round, F.floor, F.ceil, F.trunc
    __getitem__ = F.getitem

    def __hash__(self) -> int:
        return id(self)  # by identity: == compares elements

    def __divmod__(self, other: Any) -> tuple[Any, Any]:
        return F.floor_divide(self, other), F.remainder(self, other)

    def __rdivmod__(self, other: Any) -> tuple[Any, Any]:
        return F.floor_divide(other, self), F.remainder(other, self)

    def _refuse_shift(self, other: Any) -> NoReturn:
        raise UnsupportedError("shifts are not supported; multiply by a power of two, or divide "
                               "with //", what="<< or >>", location=user_location())  # fmt: skip

    __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = _refuse_shift

    def __len__(self) -> int:
        if not self.shape:
            raise TraceError("a tensor without axes has no length", what="len()",
                             location=user_location())  # fmt: skip
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        """The rows; in a trace, a loop over them is unrolled."""
        if not self.shape:
            raise TraceError("a tensor without axes has nothing to iterate over", what="iter()",
                             location=user_location())  # fmt: skip
        return (self[row] for row in range(self.shape[0]))

    # --- methods that are functions ---

    exp, log, sqrt, rsqrt, sin, cos, tanh = F.exp, F.log, F.sqrt, F.rsqrt, F.sin, F.cos, F.tanh
    exp2, log2, log10, expm1, log1p, erf = F.exp2, F.log2, F.log10, F.expm1, F.log1p, F.erf
    abs, sign, square, reciprocal, neg = F.abs, F.sign, F.square, F.reciprocal, F.negative
    floor, ceil, trunc, round, clip, clamp = F.floor, F.ceil, F.trunc, F.round, F.clip, F.clamp
    add, sub, mul, div, pow = F.add, F.subtract, F.multiply, F.divide, F.power
    eq, ne, lt, le, gt, ge = (F.equal, F.not_equal, F.less, F.less_equal, F.greater,
                              F.greater_equal)  # fmt: skip
    maximum, minimum = F.maximum, F.minimum
    isnan, isinf, isfinite = F.isnan, F.isinf, F.isfinite
    logical_and, logical_or, logical_not = F.logical_and, F.logical_or, F.logical_not
    sigmoid, relu, softmax, log_softmax = F.sigmoid, F.relu, F.softmax, F.log_softmax
    logsumexp = F.logsumexp
    sum, prod, mean, var, std, cumsum = F.sum, F.prod, F.mean, F.var, F.std, F.cumsum
    max, min, amax, amin, any, all = F.max, F.min, F.amax, F.amin, F.any, F.all
    argmax, argmin = F.argmax, F.argmin
    matmul, mm, bmm, dot = F.matmul, F.matmul, F.matmul, F.dot
    squeeze, unsqueeze, swapaxes, moveaxis = F.squeeze, F.unsqueeze, F.swapaxes, F.moveaxis
    ravel, flatten, flip, roll, repeat = F.ravel, F.flatten, F.flip, F.roll, F.repeat
    repeat_interleave, tile, tril, triu = F.repeat_interleave, F.tile, F.tril, F.triu
    split, chunk, take, gather = F.split, F.chunk, F.take, F.gather

    # --- methods with a signature of their own ---

    def reshape(self, *shape: Any) -> Any:
        """x.reshape(2, -1) or x.reshape((2, -1))."""
        return F.reshape(self, _unpacked(shape))

    view = reshape

    def transpose(self, *axes: Any) -> Any:
        """NumPy's: x.transpose(2, 0, 1), or all axes reversed. Two axes swap by `swapaxes`."""
        return F.transpose(self, _unpacked(axes) if axes else None)

    def permute(self, *dims: Any) -> Any:
        """x with its axes in the given order."""
        return F.transpose(self, _unpacked(dims))

    def expand(self, *sizes: Any) -> Any:
        """PyTorch's: broadcast to these sizes, -1 being the size that is there."""
        wanted = list(_unpacked(sizes))
        added = len(wanted) - len(self.shape)
        for axis, size in enumerate(wanted):
            if size == -1 and axis >= added:
                wanted[axis] = self.shape[axis - added]
        return F.broadcast_to(self, tuple(wanted))

    def astype(self, dtype: Any, copy: bool = True) -> Any:
        """x with another dtype."""
        return F.astype(self, dtype)

    def to(self, target: Any) -> Any:
        """x with another dtype, or on the device where it is already."""
        if str(target).partition(":")[0] not in ("cpu", "cuda"):
            return F.astype(self, target)
        if str(target).partition(":")[0] == self.device:
            return self
        raise UnsupportedError(
            f"a tensor stays on its device, {self.device}, within a function; move inputs and "
            f"modules instead",
            what="to()",
            location=user_location(),
        )

    float, double, half = _cast_to("float32"), _cast_to("float64"), _cast_to("float16")
    bfloat16 = _cast_to("bfloat16")
    int, long, bool = _cast_to("int32"), _cast_to("int64"), _cast_to("bool")

    def masked_fill(self, mask: Any, value: Any) -> Any:
        """x with `value` where the mask holds, in x's dtype."""
        return F.where(mask, F.astype(value, self.dtype), self)

    def t(self) -> Any:
        """A matrix with rows and columns swapped."""
        if len(self.shape) > 2:
            raise AttributeValueError("t() takes 2 axes at most; use swapaxes", what="t()",
                                      location=user_location())  # fmt: skip
        return F.transpose(self)

    def contiguous(self) -> Any:
        """x itself: layouts are the compiler's affair. So for `copy`, `clone` and `detach`."""
        return F.positive(self)

    copy = clone = detach = contiguous

    @property
    def T(self) -> Any:
        """x with all axes reversed."""
        return F.transpose(self)

    @property
    def mT(self) -> Any:
        """x with its last two axes swapped."""
        return F.matrix_transpose(self)

    @property
    def ndim(self) -> Any:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> Size:
        """The number of elements; `x.size()` and `x.size(0)` are the shape and one of its sizes."""
        return Size(tuple(self.shape))

    def dim(self) -> Any:
        """The number of axes."""
        return len(self.shape)

    def numel(self) -> Any:
        """The number of elements."""
        return math.prod(self.shape)


def _unpacked(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments, or what is in the one list or tuple among them."""
    if len(arguments) == 1 and isinstance(arguments[0], tuple | list):
        return tuple(arguments[0])
    return arguments


# What to do instead of asking a traced tensor for its numbers.
BRANCH = (
    "choose by data with minicomp.where(condition, a, b), or branch on shapes, dtypes and "
    "arguments that are not arrays; in place of `and`, `or`, `not` write &, |, ~, as in "
    "(x > 0) & (x < 1) for 0 < x < 1, in place of max() and min() minicomp.maximum and minimum"
)
NUMBER = (
    "keep it a tensor (minicomp.exp(x) for math.exp(x)), or pass it as a Python number, which is "
    "a constant of the trace; to fill an array, join a list of tensors with minicomp.stack instead"
)
SIZE = (
    "sizes and loops take numbers known before the call, such as x.shape[0]; to pick by data, "
    "use x[i] on a tensor or minicomp.take"
)
ARRAY = (
    "use functions of minicomp, or those of NumPy that minicomp knows, in their place; "
    "join a list of tensors with minicomp.stack"
)


class Tensor(TensorOperators, Symbolic):
    """A symbolic tensor: what a traced function gets for each of its arrays."""

    def __repr__(self) -> str:
        return f"Tensor({self.value.type} = {self.value.op})"

    def __getattr__(self, name: str) -> Any:
        raise missing("a traced tensor", name, dir(type(self)))

    def __bool__(self) -> NoReturn:  # noqa: PLE0304
        self._refuse("bool()", "Python cannot branch on it", BRANCH)

    def __contains__(self, item: Any) -> NoReturn:
        self._refuse("in", "Python cannot search it", "use minicomp.any(x == item)")

    def __int__(self) -> NoReturn:
        self._refuse("int()", "it is no Python number", NUMBER)

    def __float__(self) -> NoReturn:
        self._refuse("float()", "it is no Python number", NUMBER)

    def __complex__(self) -> NoReturn:
        self._refuse("complex()", "it is no Python number", NUMBER)

    def __index__(self) -> NoReturn:  # noqa: PLE0305
        self._refuse("an index, a size or range()", "it is no Python int", SIZE)

    def __format__(self, specification: str) -> str:
        if specification:
            self._refuse(f"the format {specification!r}", "it is no Python number",
                         "print the tensor itself, or the result after the call")  # fmt: skip
        return str(self)

    def item(self, *args: Any) -> NoReturn:
        self._refuse("item()", "it is no Python number", NUMBER)

    def tolist(self) -> NoReturn:
        self._refuse("tolist()", "it is no list", NUMBER)

    def numpy(self) -> NoReturn:
        self._refuse("numpy()", "it is no array", ARRAY)

    def __array__(self, dtype: Any = None, copy: Any = None) -> NoReturn:
        self._refuse("a NumPy array from it", "it is no array", ARRAY)

    # Without these Python would make `x += y` mean `x = x + y`, which NumPy does not.
    __iadd__, __isub__ = _refused_in_place("+"), _refused_in_place("-")
    __imul__, __itruediv__ = _refused_in_place("*"), _refused_in_place("/")
    __ifloordiv__, __imod__ = _refused_in_place("//"), _refused_in_place("%")
    __ipow__, __imatmul__ = _refused_in_place("**"), _refused_in_place("@")
    __iand__, __ior__ = _refused_in_place("&"), _refused_in_place("|")
    __ixor__ = _refused_in_place("^")

    def __setitem__(self, key: Any, item: Any) -> NoReturn:
        raise TraceError(
            "a traced tensor cannot be changed in place; make a new one with minicomp.where, "
            "concatenate or pad",
            what="assignment to an item",
            location=user_location(),
        )

    def _refuse(self, what: str, reason: str, advice: str) -> NoReturn:
        refuse_numbers(f"a traced tensor ({self.value.type})", what, reason, advice)


def refuse_numbers(subject: str, what: str, reason: str, advice: str) -> NoReturn:
    """Raise ControlFlowError: `what`, at the user's line, needs numbers that are not there."""
    raise ControlFlowError(
        f"{subject} has no numbers while its function is traced, so {reason}; {advice}",
        what=what,
        location=user_location(),
    )
