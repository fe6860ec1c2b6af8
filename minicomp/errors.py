"""Every error a user can meet.

Each says what went wrong, where (file and line of the user's code, where there is one), what was
got, what was wanted, and what to do. All inherit `MinicompError` and the builtin that fits, so
`except ValueError` works as it would with NumPy.
"""

from __future__ import annotations

from typing import Any


class MinicompError(Exception):
    """The base of all errors raised by minicomp. `location` is a `file:line` or None."""

    def __init__(self, message: str, location: Any = None):
        self.location = location
        super().__init__(f"{message} (at {location})" if location is not None else message)


class ShapeError(MinicompError, ValueError):
    """Shapes do not fit an operation."""


class DTypeError(MinicompError, TypeError):
    """A dtype is not supported, or does not fit an operation."""


class DeviceError(MinicompError, ValueError):
    """Tensors on the wrong device, or devices mixed."""


class AttributeValueError(MinicompError, ValueError):
    """An op's argument (an axis, a stride, a width ...) has a value that it cannot have."""


class UnsupportedError(MinicompError, NotImplementedError):
    """Something that exists in NumPy or PyTorch and not in minicomp."""


class TraceError(MinicompError, TypeError):
    """A function could not be traced: an untraceable call, argument or return value."""


class ControlFlowError(TraceError):
    """Python control flow (if, while, int(), float() ...) on a traced value."""


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
