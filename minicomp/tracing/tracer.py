"""Tracing: a module's `forward`, or a plain function, run once on symbolic tensors.

In: the function and example arguments, of which shapes, dtypes and devices count. Out: a `Graph`.

>>> graph = trace(lambda x, scale: {"y": x * scale}, np.zeros(3, np.float32), 2.0)
>>> [str(value.type) for value in graph]
['f32[3]', 'f32[3]', 'f32[3]']
>>> interpret(graph, np.ones(3, np.float32))
{'y': array([2., 2., 2.], dtype=float32)}

What is an array among the arguments, however nested, becomes an input of the graph; Python
numbers, strings and None are constants of the trace, and another value of theirs needs another
trace. Parameters, and arrays that the function finds elsewhere, are read at each call, so that
changing them in place shows; what NumPy computes from them during the trace is not. NumPy scalars
and arrays without axes that the function finds are baked in.
"""

from __future__ import annotations

import enum
import functools
import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minicomp import tree
from minicomp.errors import ControlFlowError, MinicompError, TraceError
from minicomp.functional.operands import tensor
from minicomp.ir import Graph, TensorType
from minicomp.tracing.record import (
    Cell,
    Recorder,
    Symbolic,
    array_type,
    check_belongs,
    user_location,
)
from minicomp.tracing.tensor import Tensor

#: what may stand among arguments as a constant of the trace
STATIC_TYPES = (type(None), bool, int, float, complex, str, bytes, enum.Enum, type, np.dtype,
                type(Ellipsis), range)  # fmt: skip


@dataclass(frozen=True)
class Signature:
    """What a trace depends on: how the arguments nest, with their constants, and the types of
    the arrays among them. Hashable: calls of one signature share a graph."""

    structure: tree.Structure
    types: tuple[TensorType, ...]


@dataclass(frozen=True)
class Traced:
    """A graph, and the signature of the calls that it is for. Inputs are in the signature's
    order. `called` are the modules that were called on the way."""

    graph: Graph
    signature: Signature
    called: tuple[Any, ...] = ()


def trace(model: Any, *example_inputs: Any, **example_keywords: Any) -> Graph:
    """The graph of `model`, an `nn.Module` or a function on tensors, for arguments like these.

    Raises ControlFlowError where Python asks for the numbers of a traced tensor, TraceError for
    what cannot be traced, ShapeError and the like for ops that do not fit; all name the line.
    """
    return trace_call(model, example_inputs, example_keywords).graph


def trace_call(model: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Traced:
    """As `trace`, with the signature that says which calls the graph is for."""
    signature, _ = flatten_arguments(args, kwargs, model)
    # A compiled module stands for what it was compiled from.
    model = getattr(model, "__minicomp_original__", model)
    holders = _named_holders(model)
    names = {id(holder): name for name, holder in holders.items()}
    recorder = Recorder(Tensor, names, _device(signature.types, holders.values()))
    with recorder:
        input_names = _input_names(model, signature.structure, taken=set(holders))
        inputs = [
            recorder.input(name, type)
            for name, type in zip(input_names, signature.types, strict=True)
        ]
        args, kwargs = tree.unflatten(signature.structure, inputs)
        outputs, output_tree = _outputs(_called(model, args, kwargs), recorder)
    values = tuple(recorder.values)
    graph = Graph(_graph_name(model), values, outputs, recorder.bindings, output_tree)
    return Traced(graph, signature, tuple(recorder.called))


def _called(model: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What the model returns. Where an element of an array is set to a tensor, NumPy hides the
    tensor's error behind one of its own about sequences; this says instead what to do. A list is
    no tensor, which the errors of who takes it for one do not say."""
    try:
        return model(*args, **kwargs)
    except (AttributeError, TypeError) as error:
        if not isinstance(error, MinicompError):
            for name in _lists(model, args, kwargs):
                error.add_note(
                    f"The argument {name} is a list of numbers, which stays one in a traced "
                    f"function; if it is meant to be a tensor, pass np.array({name})."
                )
        raise
    except ValueError as error:
        cause = error.__cause__
        if not isinstance(cause, ControlFlowError) or "array element" not in str(error):
            raise
        raise TraceError(
            "an array of NumPy cannot hold a traced tensor, which has no numbers yet; collect "
            "tensors in a list and join them with minicomp.stack or concatenate, or choose with "
            "minicomp.where",
            what="assignment to an item of an array",
            location=cause.location,
        ).with_traceback(error.__traceback__) from None


def _lists(model: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[str]:
    """The parameters whose arguments are lists of numbers, or lists of such lists."""
    given = {**dict(zip(_declared_names(model), args, strict=False)), **kwargs}
    return [
        name
        for name, argument in given.items()
        if isinstance(argument, list)
        and all(isinstance(leaf, int | float) for leaf in tree.flatten(argument)[0])
    ]


# --- arguments ---


def flatten_arguments(
    args: Sequence[Any], kwargs: Mapping[str, Any], model: Any = None
) -> tuple[Signature, list[Any]]:
    """The signature of a call, and the arrays among its arguments in the order of inputs. Errors
    name an argument as `model` does, or by its number."""
    arrays, structure = tree.flatten((tuple(args), dict(kwargs)), _is_static)
    types = []
    for number, array in enumerate(arrays):
        try:
            types.append(_argument_type(array))
        except MinicompError as error:
            raise about_argument(error, model, structure, number) from None
    return Signature(structure, tuple(types)), arrays


def about_argument(
    error: MinicompError, model: Any, structure: tree.Structure, number: int
) -> MinicompError:
    """The error, said to be about the array of this number among the arguments of a call."""
    steps = _steps(tree.paths(structure)[number], _declared_names(model))
    return error.placed(f"argument {_dotted(steps)}", user_location())


def _dotted(path: Sequence[Any]) -> str:
    return ".".join(str(step) for step in path)


def _steps(path: Sequence[Any], declared: Sequence[str]) -> list[Any]:
    """The way to an array from the parameter of the function that it is in."""
    kind, first, *rest = path
    is_named = kind == 0 and first < len(declared)
    return [declared[first] if is_named else first, *rest]


def _is_static(leaf: Any) -> bool:
    return isinstance(leaf, STATIC_TYPES) and not isinstance(leaf, np.generic)


def _argument_type(leaf: Any) -> TensorType:
    if isinstance(leaf, Symbolic):
        raise TraceError("got a traced tensor; to trace a function within a function, call it")
    found = array_type(leaf)
    if found is None:
        raise TraceError(
            f"got a {type(leaf).__name__}; wanted an array, a number, a string or None, or a "
            f"tuple, list or dict of them"
        )
    return found


def _input_names(model: Any, structure: tree.Structure, taken: set[str]) -> list[str]:
    """Names of the inputs: the parameter's name and the way from there, as in `batch.image`."""
    declared = _declared_names(model)
    names = []
    for path in tree.paths(structure):
        first, *rest = _steps(path, declared)
        steps = [f"arg{first}" if isinstance(first, int) else first, *rest]
        name = re.sub(r"[^\w.]", "_", _dotted(steps))
        names.append(_unique(name, taken))
    return names


def _unique(name: str, taken: set[str]) -> str:
    """The name, numbered if there is such a one already."""
    candidate, count = name, 0
    while candidate in taken:
        count += 1
        candidate = f"{name}_{count}"
    taken.add(candidate)
    return candidate


def _declared_names(model: Any) -> list[str]:
    """The names of a function's positional parameters; none for a builtin that hides them."""
    try:
        signature = inspect.signature(getattr(model, "forward", model))
    except (TypeError, ValueError):
        return []
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in signature.parameters.values() if p.kind in positional]


# --- the module ---


def _named_holders(model: Any) -> dict[str, Any]:
    """The arrays and parameters that belong to a module (or to the module of a method)."""
    owner = model if hasattr(model, "named_holders") else getattr(model, "__self__", None)
    named_holders = getattr(owner, "named_holders", dict)
    return dict(named_holders())


def _device(types: Iterable[TensorType], holders: Iterable[Any]) -> str:
    """Where tensors made from nothing belong: on the GPU if anything is there."""
    found = [*types, *(array_type(holder) for holder in holders if isinstance(holder, Cell))]
    return "cuda" if any(t is not None and t.device == "cuda" for t in found) else "cpu"


def _graph_name(model: Any) -> str:
    while isinstance(model, functools.partial):
        model = model.func
    name = getattr(model, "__name__", type(model).__name__)
    return re.sub(r"\W+", "_", name).strip("_") or "function"


def modules_of(model: Any) -> list[Any]:
    """The modules that a trace of `model` depends on: it may no longer hold once the
    `structure_version` of one has changed. For a function, those that it refers to itself, by its
    closure, its global names, or as a method.
    """
    if hasattr(model, "structure_version"):
        return [model]
    while isinstance(model, functools.partial):
        model = model.func
    found = [model, getattr(model, "__self__", None)]
    function = getattr(model, "__func__", model)
    if inspect.isfunction(function):
        scope = inspect.getclosurevars(function)
        found += [*scope.nonlocals.values(), *scope.globals.values()]
    return [item for item in found if hasattr(item, "structure_version")]


# --- outputs ---


def _outputs(result: Any, recorder: Recorder) -> tuple[tuple[Any, ...], tree.Structure]:
    """The values that a function returned, and how they nest. What is no array is a constant of
    the structure; arrays are read at each call."""
    leaves, structure = tree.flatten(result, _is_static)
    values = []
    for leaf in leaves:
        if not isinstance(leaf, Symbolic) and array_type(leaf) is None:
            raise TraceError(
                f"the function returned a {type(leaf).__name__}; wanted tensors, numbers, strings "
                f"or None, or tuples, lists and dicts of them",
                location=user_location(),
            )
        leaf = tensor(leaf)
        check_belongs(leaf, recorder)
        values.append(leaf.value)
    return tuple(values), structure
