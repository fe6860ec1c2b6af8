"""Every error a user can meet.

Each says what went wrong, where (file and line of the user's code, where there is one), what was
got, what was wanted, and what to do. All inherit `MinicompError` and the builtin that fits, so
`except ValueError` works as it would with NumPy.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class MinicompError(Exception):
    """The base of all errors raised by minicomp.

    `location` is the `ir.Location` of the user's line where one is known, else None; `what` names
    the op or call. Both come first in the message: `matmul at model.py:12: inner sizes differ`.
    """

    def __init__(self, message: str, *, what: str | None = None, location: Any = None):
        self.message, self.what, self.location = message, what, location
        where = f"at {location}" if location is not None else ""
        prefix = " ".join(part for part in (what, where) if part)
        super().__init__(f"{prefix}: {message}" if prefix else message)

    def placed(self, what: str, location: Any) -> MinicompError:
        """The same error, said to be about `what` at `location` unless it already says so."""
        if self.what is not None or self.location is not None:
            return self
        return type(self)(self.message, what=what, location=location)


def nearest(name: Any, known: Iterable[str]) -> str:
    """What to add to the error about an unknown name: `; did you mean 'relu'?` for Relu, and
    nothing where no known name is like it."""
    from difflib import get_close_matches  # when something is wrong already

    spelled = {each.lower(): each for each in known}
    # sort and sqrt are 0.75 alike, threads and num_threads 0.78
    near = get_close_matches(str(name).lower(), spelled, n=1, cutoff=0.76)
    return f"; did you mean {spelled[near[0]]!r}?" if near else ""


class ShapeError(MinicompError, ValueError):
    """Shapes do not fit an operation."""


class DTypeError(MinicompError, TypeError):
    """A dtype is not supported, or does not fit an operation."""


class DeviceError(MinicompError, ValueError):
    """Tensors on the wrong device, or devices mixed."""


class AttributeValueError(MinicompError, ValueError):
    """An op's argument (an axis, a stride, a width ...) has a value that it cannot have."""


class MissingNameError(MinicompError, AttributeError):
    """A layer, function or method that minicomp does not have."""


class UnsupportedError(MinicompError, NotImplementedError):
    """Something that exists in NumPy or PyTorch and not in minicomp."""


class TraceError(MinicompError, TypeError):
    """A function could not be traced: an untraceable call, argument or return value."""


class ControlFlowError(TraceError):
    """Python control flow (if, while, int(), float() ...) on a traced value."""


class ModuleError(MinicompError, TypeError):
    """A module was put together wrongly: an attribute set too early, or of the wrong kind."""


class StateDictError(MinicompError, RuntimeError):
    """A state dict does not fit the module: missing or unexpected names, wrong shapes."""


class GraphError(MinicompError, ValueError):
    """The verifier found a graph that breaks a rule of the IR."""


class ParseError(MinicompError, ValueError):
    """Text that is not a graph; the message has the line and column."""


class OptionError(MinicompError, RuntimeError):
    """A wrong argument to compile(): mode, options, or their values."""


class ConfigError(MinicompError, AttributeError):
    """An unknown or ill-typed attribute of minicomp.config."""


class InputError(MinicompError, ValueError):
    """A compiled module was called with inputs it cannot take."""


class IndexOutOfRangeError(MinicompError, IndexError):
    """A gather or take met an index outside its axis."""


class ExternalCallError(MinicompError, RuntimeError):
    """A chosen external matmul raised at run time; the cause is chained."""


class ChoicesError(MinicompError, ValueError):
    """Saved choices that cannot be read, or that lack a call site."""


class CacheWarning(UserWarning):
    """The disk cache could not be used; work goes on without it."""


class SelectionWarning(UserWarning):
    """A candidate was chosen under a caveat that the user should know of."""


class CudaError(MinicompError, RuntimeError):
    """CUDA is missing, or a CUDA call failed."""


class PTXSyntaxError(MinicompError, ValueError):
    """PTX that the simulator does not know, or that breaks a rule of the language."""


class SimulationError(MinicompError, RuntimeError):
    """A kernel did in the simulator what it must not: the message has the line, thread, address."""


class InternalError(MinicompError, RuntimeError):
    """minicomp generated code that cannot be compiled or linked: a bug of its own."""
