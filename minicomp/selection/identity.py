"""Who a callable is, across processes: a hash that changes when what it does may have changed.

In: a callable. Out: a hex digest, or None where it cannot be told, in which case nothing about it
is remembered. Conservative on purpose: bytecode, constants, defaults, closed-over values and the
globals it reads all count, and anything without a value of its own (an open handle, an array, an
object of an extension type) makes the whole callable unidentifiable.

>>> identify(lambda a, b, out: np.matmul(a, b, out)) == identify(lambda a, b, out: np.dot(a, b))
False

A choice that was remembered under a stale identity could cost time, never a wrong result, since a
remembered external is checked again before it is used.
"""

from __future__ import annotations

import functools
import hashlib
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

#: A callable made of more parts than this is given up on; a plain function has a few dozen.
MOST_PARTS = 5000


_ATOMS = (bool, int, float, complex, str, bytes)


class _Unidentifiable(Exception):
    """Something was met that has no identity beyond this process."""


class _Plain:
    """Its instances are a `__dict__` and nothing else: the measure of what can be identified."""


def identify(fn: Callable) -> str | None:
    """A digest of everything that `fn` is made of, or None if some part cannot be identified."""
    digest = hashlib.sha256(repr(sys.version_info[:2]).encode())
    try:
        for part in _Walk().parts(fn):
            digest.update(part.encode() + b"\0")
    except (_Unidentifiable, RecursionError):
        return None
    return digest.hexdigest()


class _Walk:
    """A walk over the objects that a callable consists of; each object once."""

    def __init__(self) -> None:
        self.seen: dict[int, Any] = {}  # id -> the object, kept so that no id is used again

    def parts(self, thing: Any) -> Iterator[str]:
        """Texts that together say what `thing` is."""
        if type(thing) in _ATOMS or isinstance(thing, np.generic | np.dtype):
            yield f"{type(thing).__name__} {thing!r}"
            return
        if thing is None or thing is Ellipsis:
            yield repr(thing)
            return
        if id(thing) in self.seen:
            yield f"as part {list(self.seen).index(id(thing))}"
            return
        if len(self.seen) >= MOST_PARTS:
            raise _Unidentifiable("too large")
        self.seen[id(thing)] = thing
        yield from self.compound(thing)

    def compound(self, thing: Any) -> Iterator[str]:
        if installed := _installed_name(thing):
            yield installed
            return
        match thing:
            case tuple() | list() if type(thing) in (tuple, list):
                yield f"{type(thing).__name__} of {len(thing)}"
                for element in thing:
                    yield from self.parts(element)
            case dict() if type(thing) is dict:
                yield f"dict of {len(thing)}"
                for key, value in thing.items():
                    yield from self.parts(key)
                    yield from self.parts(value)
            case frozenset() | set() if type(thing) in (frozenset, set):
                # Their order differs between processes.
                yield f"set {sorted(' '.join(self.parts(element)) for element in thing)}"
            case ModuleType():
                yield f"module {thing.__name__} {_version(thing.__name__) or _file_digest(thing)}"
            case FunctionType():
                yield from self.function(thing)
            case CodeType():
                yield from self.code(thing)
            case MethodType():
                yield from self.parts(thing.__func__)
                yield from self.parts(thing.__self__)
            case functools.partial():
                yield "partial"
                for part in (thing.func, thing.args, thing.keywords):
                    yield from self.parts(part)
            case type():
                yield from self.a_class(thing)
            case _:
                yield from self.instance(thing)

    def function(self, function: FunctionType) -> Iterator[str]:
        yield f"function {function.__module__}.{function.__qualname__}"
        yield from self.parts(function.__code__)
        yield from self.parts(function.__defaults__)
        yield from self.parts(function.__kwdefaults__)
        yield from self.parts(vars(function))
        for cell in function.__closure__ or ():
            try:
                content = cell.cell_contents
            except ValueError:
                raise _Unidentifiable("an empty cell") from None
            yield from self.parts(content)
        if _version(function.__module__):
            return  # an installed package: its version stands for the globals that it reads
        for name in sorted(_names(function.__code__)):
            if name in function.__globals__:
                yield f"global {name}"
                yield from self.parts(function.__globals__[name])

    def code(self, code: CodeType) -> Iterator[str]:
        # Neither file nor line numbers: moving a function does not change it.
        yield f"code {code.co_code.hex()} {code.co_names} {code.co_varnames} {code.co_freevars}"
        yield f"{code.co_flags} {code.co_argcount} {code.co_kwonlyargcount}"
        for constant in code.co_consts:
            yield from self.parts(constant)

    def a_class(self, cls: type) -> Iterator[str]:
        yield f"class {cls.__module__}.{cls.__qualname__}"
        yield from self.parts(cls.__mro__[1:])
        for name, value in vars(cls).items():
            if isinstance(value, staticmethod | classmethod):
                value = value.__func__
            if not name.startswith("__") or isinstance(value, FunctionType):
                yield f"attribute {name}"
                yield from self.parts(value)

    def instance(self, thing: Any) -> Iterator[str]:
        """An object that consists of its class and its attributes, and of nothing hidden in C."""
        cls = type(thing)
        if (cls.__basicsize__, cls.__itemsize__) != (_Plain.__basicsize__, _Plain.__itemsize__):
            raise _Unidentifiable(cls.__qualname__)
        if not hasattr(thing, "__dict__"):
            raise _Unidentifiable(cls.__qualname__)
        yield "instance"
        yield from self.parts(cls)
        yield from self.parts(vars(thing))


def _installed_name(thing: Any) -> str:
    """`numpy.dot 2.4.1` for what an installed package has under that very name, else empty."""
    name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", None)
    module_name = getattr(thing, "__module__", None) or ("numpy" if type(thing) is np.ufunc else "")
    if not isinstance(name, str) or not isinstance(module_name, str):
        return ""
    version = _version(module_name)
    found = getattr(sys.modules.get(module_name), name, None)
    return f"{module_name}.{name} {version}" if version and found is thing else ""


def _names(code: CodeType) -> set[str]:
    """Names that the code, or a function defined in it, may look up in its globals."""
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*map(_names, inner))


def _version(module_name: str | None) -> str:
    """The version of the installed package that a module belongs to; empty for a user's own."""
    package = (module_name or "").partition(".")[0]
    if package == "__main__":
        return ""
    if package in sys.stdlib_module_names:
        return f"python {sys.version_info[:3]}"
    module = sys.modules.get(package)
    version = getattr(module, "__version__", "")
    file = getattr(module, "__file__", None)
    is_installed = isinstance(file, str) and file.startswith(_package_directories())
    return version if is_installed and isinstance(version, str) else ""


@functools.cache
def _package_directories() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple(paths[kind] for kind in ("purelib", "platlib"))


def _file_digest(module: ModuleType) -> str:
    """A user's own module, reached as a global: the content of its file."""
    try:
        return hashlib.sha256(Path(module.__file__ or "").read_bytes()).hexdigest()
    except OSError:
        raise _Unidentifiable(module.__name__) from None
