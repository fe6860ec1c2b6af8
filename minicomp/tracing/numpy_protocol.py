"""NumPy's own functions on traced tensors: `np.exp(x)`, `np.where(c, x, y)`, `array @ x`.

NumPy asks its arguments first: a ufunc calls `__array_ufunc__`, most other functions call
`__array_function__`. In: NumPy's function and its arguments. Out: what minicomp's function of the
same meaning makes of them. A function without an equivalent is a TraceError that names it.

>>> graph = trace(lambda x: np.concatenate([np.exp(x), x]), np.zeros(2))
>>> [value.op for value in graph]
['input', 'exp', 'concatenate']
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from minicomp import functional as F
from minicomp import tree
from minicomp.errors import TraceError
from minicomp.tracing import numpy_functions
from minicomp.tracing.record import Cell, Symbolic, is_tracing, user_location

Table = dict[Callable[..., Any], Callable[..., Any]]

#: NumPy's names of arguments -> ours
KEYWORDS = {"a": "x", "A": "x", "m": "x", "arr": "x", "array": "x", "ary": "x", "a_min": "min",
            "a_max": "max", "arrays": "tensors", "newshape": "shape"}  # fmt: skip


def _table(functions: Mapping[str, Callable[..., Any]]) -> Table:
    """NumPy's function -> ours, for those names that the installed NumPy has."""
    return {getattr(np, name): ours for name, ours in functions.items() if hasattr(np, name)}


def _same_names(names: str) -> dict[str, Callable[..., Any]]:
    return {name: getattr(F, name) for name in names.split()}


UFUNCS = _table(
    _same_names(
        "add subtract multiply divide floor_divide remainder power negative positive absolute sign "
        "square reciprocal exp exp2 expm1 log log2 log10 log1p sqrt sin cos tan tanh floor ceil "
        "trunc minimum maximum less less_equal greater greater_equal equal not_equal logical_and "
        "logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor invert isnan isinf "
        "isfinite matmul"
    )
    | {"rint": F.round}
    | {name: getattr(numpy_functions, name) for name in ("fabs", "divmod", "logaddexp")}
)

#: ufunc -> the operator that is written for it: `array += x` calls np.add with out=array
OPERATORS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "floor_divide": "//",
             "remainder": "%", "power": "**", "matmul": "@", "bitwise_and": "&",
             "bitwise_or": "|", "bitwise_xor": "^"}  # fmt: skip

#: what ufunc.reduce means, e.g. np.add.reduce
REDUCTIONS = _table(
    {
        "add": F.sum,
        "multiply": F.prod,
        "maximum": F.amax,
        "minimum": F.amin,
        "logical_and": F.all,
        "logical_or": F.any,
    }
)


def _split_unevenly(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """np.array_split: the first parts are one longer where the sections do not come out even."""
    if not isinstance(indices_or_sections, int):
        return F.split(x, indices_or_sections, axis)
    size, longer = divmod(x.shape[axis], indices_or_sections)
    sizes = [size + 1] * longer + [size] * (indices_or_sections - longer)
    return F.split(x, np.cumsum(sizes)[:-1].tolist(), axis)


def _copied(x: Any, order: str = "K") -> Any:
    return F.positive(x)


def _raveled(x: Any, order: str = "C") -> Any:
    return F.ravel(x)


FUNCTIONS = _table(
    _same_names(
        "sum prod mean var std max min amax amin argmax argmin any all cumsum reshape transpose "
        "permute_dims matrix_transpose swapaxes moveaxis squeeze expand_dims broadcast_to "
        "broadcast_arrays concatenate concat stack split pad flip roll repeat tile take "
        "take_along_axis where clip round full_like zeros_like ones_like tril triu dot outer einsum"
    )
    | {
        "around": F.round,
        "array_split": _split_unevenly,
        "copy": _copied,
        "ravel": _raveled,
        "shape": lambda x: tuple(x.shape),
        "ndim": lambda x: len(x.shape),
        "size": lambda x, axis=None: x.size if axis is None else x.shape[axis],
    }
    | {
        name: getattr(numpy_functions, name)
        for name in ("vstack", "hstack", "column_stack", "inner", "diff", "ptp", "count_nonzero")
    }
)


def array_ufunc(self: Any, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
    """`__array_ufunc__`: a call, or a reduction such as np.add.reduce."""
    if not _is_traced((inputs, kwargs)):
        inputs, kwargs = _unwrapped((inputs, kwargs))
        return getattr(ufunc, method)(*inputs, **kwargs)
    operator = OPERATORS.get(ufunc.__name__)
    if operator is not None and kwargs.get("out", (None,))[0] is inputs[0]:
        raise TraceError(
            f"an array of NumPy cannot be changed by a traced tensor, which has no numbers yet; "
            f"write acc = acc {operator} x instead of acc {operator}= x",
            what=f"{operator}=",
            location=user_location(),
        )
    name = f"np.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}")
    if method == "reduce":
        ours = REDUCTIONS.get(ufunc)
        kwargs.setdefault("axis", 0)  # NumPy's default for ufunc.reduce
    else:
        ours = UFUNCS.get(ufunc) if method == "__call__" else None
    return _call(ours, name, inputs, kwargs)


def array_function(
    self: Any, function: Callable[..., Any], types: Any, args: Any, kwargs: Any
) -> Any:
    """`__array_function__`: np.where, np.concatenate, np.mean and their like."""
    if not _is_traced((args, kwargs)):
        args, kwargs = _unwrapped((args, kwargs))
        return function(*args, **kwargs)
    module = getattr(function, "__module__", "numpy").replace("numpy", "np")
    return _call(FUNCTIONS.get(function), f"{module}.{function.__name__}", args, kwargs)


def _is_traced(arguments: Any) -> bool:
    """Whether a trace is under way; a tensor that has left its trace counts too, so that it gets
    its error from the function called."""
    leaves, _ = tree.flatten(arguments)
    return is_tracing() or any(isinstance(leaf, Symbolic) for leaf in leaves)


def _unwrapped(arguments: Any) -> Any:
    """The arguments with parameters replaced by their arrays."""
    leaves, structure = tree.flatten(arguments)
    arrays = [leaf.data if isinstance(leaf, Cell) else leaf for leaf in leaves]
    return tree.unflatten(structure, arrays)


def _call(
    ours: Callable[..., Any] | None, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    if ours is None:
        raise TraceError(
            "NumPy's function has no equivalent for traced tensors; write it with functions that "
            "have one (see minicomp.functional), or apply it to arrays outside the function",
            what=name,
            location=user_location(),
        )
    for argument in ("out", "where"):
        if argument in kwargs:
            raise TraceError(
                f"the argument {argument}= changes arrays in place, which a traced function "
                f"cannot; use the result, with minicomp.where to choose",
                what=name,
                location=user_location(),
            )
    given = {KEYWORDS.get(key, key): value for key, value in kwargs.items()}
    try:
        inspect.signature(ours).bind(*args, **given)
    except TypeError as error:
        raise TraceError(
            f"{error}: traced tensors take the arguments {inspect.signature(ours)}",
            what=name,
            location=user_location(),
        ) from None
    return ours(*args, **given)
