"""Registered callables: matrix products that the user brings.

In: any callable `fn(a, b, out)`: a function, lambda, partial, callable object, bound method,
builtin or ufunc. Out: an `External` record with a unique name, its limits, how it is called and
an identity under which a choice of it may be remembered.

>>> register([np.matmul, lambda a, b, out: np.dot(a, b, out), np.matmul])
(<external matmul>, <external lambda>)

The contract with the callable: `a` and `b` are views, possibly strided, that it must not write;
`out` has the product's shape and dtype, is contiguous and holds garbage; what it returns is
ignored. `out` goes by keyword where the signature has a parameter of that name.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from types import MethodType
from typing import Any

import numpy as np

from minicomp.errors import ExternalCallError, OptionError
from minicomp.ir import FLOATS, INTEGERS, dtype_name
from minicomp.selection.identity import identify
from minicomp.selection.site import CallSite

DEVICES = ("cpu", "cuda")


@dataclass(frozen=True, eq=False)
class External:
    """A registered callable. `devices` and `dtypes` of None mean all of them.

    An External may itself be called, `external(a, b, out)`, and be listed in `external_matmul`.
    """

    callable: Callable
    name: str
    devices: tuple[str, ...] | None = None
    dtypes: tuple[str, ...] | None = None
    batched: bool = False

    def __call__(self, a: Any, b: Any, out: Any) -> None:
        if self.out_by_keyword:
            self.callable(a, b, out=out)
        else:
            self.callable(a, b, out)

    def __repr__(self) -> str:
        return f"<external {self.name}>"

    @functools.cached_property
    def out_by_keyword(self) -> bool:
        return _takes_out_by_keyword(self.callable)

    @functools.cached_property
    def identity(self) -> str | None:
        """Changes when the callable does; None where that cannot be told (see `identity`)."""
        return identify(self.callable)

    def unfit(self, site: CallSite) -> str | None:
        """Why this external is not offered at `site`, or None."""
        if self.devices is not None and site.device not in self.devices:
            return f"registered for {', '.join(self.devices)}, the site is on {site.device}"
        if self.dtypes is not None and site.product_dtype not in self.dtypes:
            return f"registered for {', '.join(self.dtypes)}, the site has {site.product_dtype}"
        if site.is_batched and not self.batched:
            return "registered for 2-D products (batched=False), the site is batched"
        return None


def external(
    fn: Callable | None = None,
    *,
    name: str | None = None,
    devices: Iterable[str] | str | None = None,
    dtypes: Iterable[Any] | None = None,
    batched: bool = False,
) -> Any:
    """Give a callable a name and limits before it is listed in `external_matmul`. A decorator.

    `devices` are of "cpu" and "cuda", `dtypes` anything that names a dtype; None means all.
    `batched=True` offers it for products of more than two dimensions as well. Raises OptionError
    for a wrong argument.

        @minicomp.external(name="blas", dtypes=["float32"])
        def matmul(a, b, out): ...
    """
    if fn is None:
        return functools.partial(
            external, name=name, devices=devices, dtypes=dtypes, batched=batched
        )
    if not callable(fn):
        raise OptionError(f"external() wants a callable fn(a, b, out), got {fn!r}")
    if name is not None and (not isinstance(name, str) or not name.isprintable() or not name):
        raise OptionError(f"external() wants a name of printable characters, got {name!r}")
    if not isinstance(batched, bool):
        raise OptionError(f"external() wants batched=True or False, got {batched!r}")
    return External(
        callable=fn.callable if isinstance(fn, External) else fn,
        name=name or _natural_name(fn),
        devices=_checked_devices(devices),
        dtypes=None if dtypes is None else _checked_dtypes(dtypes),
        batched=batched,
    )


def _checked_devices(devices: Iterable[str] | str | None) -> tuple[str, ...] | None:
    if devices is None:
        return None
    names = (devices,) if isinstance(devices, str) else _elements("devices", devices)
    for name in names:
        if name not in DEVICES:
            raise OptionError(f"external() knows the devices {', '.join(DEVICES)}, got {name!r}")
    return names


def _checked_dtypes(dtypes: Iterable[Any]) -> tuple[str, ...]:
    # A single dtype is taken for a list of one, as a type is iterable by accident only.
    is_single = isinstance(dtypes, str | type | np.dtype)
    names = tuple(map(dtype_name, (dtypes,) if is_single else _elements("dtypes", dtypes)))
    for name in names:
        if name not in FLOATS + INTEGERS:
            raise OptionError(f"external() wants dtypes that can be multiplied, got {name}")
    return names


def _elements(what: str, values: Any) -> tuple[Any, ...]:
    try:
        elements = tuple(values)
    except TypeError:
        raise OptionError(f"external() wants a list of {what}, got {values!r}") from None
    if not elements:
        raise OptionError(f"external() got no {what}: it would never be offered; None means all")
    return elements


def register(callables: Iterable[Callable]) -> tuple[External, ...]:
    """Externals for what `external_matmul` lists: each callable once, each with a name of its own.

    The first of several mentions of one callable counts. A name that is taken gets a number:
    `matmul`, `matmul_2`.
    """
    externals: list[External] = []
    for fn in callables:
        record = fn if isinstance(fn, External) else external(fn)
        if not any(_same_callable(record.callable, other.callable) for other in externals):
            externals.append(record)
    names = unique_names([record.name for record in externals])
    return tuple(
        record if record.name == name else replace(record, name=name)
        for record, name in zip(externals, names, strict=True)
    )


def unique_names(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """The names, with `_2`, `_3`, ... after those that occur earlier or are `taken`."""
    used, unique = set(taken), []
    for name in names:
        number, candidate = 1, name
        while candidate in used:
            number += 1
            candidate = f"{name}_{number}"
        used.add(candidate)
        unique.append(candidate)
    return unique


def call_external(external: External, site: CallSite, a: Any, b: Any, out: Any) -> None:
    """The call of a chosen external at run time: operands read-only, errors said to be its own.

    Raises ExternalCallError, with what the callable raised as its cause; a user's
    KeyboardInterrupt goes through as it is.
    """
    try:
        external(read_only(a), read_only(b), out)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise ExternalCallError(
            f"the external {external.name!r} chosen here raised {error_text(error)}; "
            f"its inputs are as they were. Leave it out of external_matmul to do without it",
            what=site.op,
            location=site.location,
        ) from error


def read_only(array: Any) -> Any:
    """A view of a NumPy array that refuses to be written; any other array as it is."""
    if not isinstance(array, np.ndarray) or not array.flags.writeable:
        return array
    view = array.view()
    view.setflags(write=False)  # half the time of `flags.writeable = False`
    return view


def error_text(error: BaseException) -> str:
    """`ValueError: shapes differ`: one line, bounded, whatever the exception's own text does."""
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # an exception's __str__ is the external's code too
        lines = []
    name = type(error).__name__
    return f"{name}: {lines[0][:200]}" if lines else name


def cause_text(error: BaseException) -> str:
    """`error_text` of what a callable raised, beneath the ExternalCallError on top of it."""
    if isinstance(error, ExternalCallError) and error.__cause__ is not None:
        error = error.__cause__
    return error_text(error)


def _same_callable(f: Callable, g: Callable) -> bool:
    # A bound method is made anew at each access; == compares its parts. For anything else == may
    # be the object's own and mean anything.
    return f is g or (isinstance(f, MethodType) and isinstance(g, MethodType) and f == g)


def _natural_name(fn: Callable) -> str:
    if isinstance(fn, External):
        return fn.name
    if isinstance(fn, functools.partial):
        return f"partial({_natural_name(fn.func)})"
    name = getattr(fn, "__name__", None)
    if not isinstance(name, str) or not name.isprintable():
        name = type(fn).__name__
    return name.strip("<>") or "external"


def _takes_out_by_keyword(fn: Callable) -> bool:
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):  # a builtin that does not tell
        return isinstance(fn, np.ufunc)
    parameter = signature.parameters.get("out")
    if parameter is not None:
        return parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    if any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
        try:
            signature.bind("a", "b", "out")
        except TypeError:
            return True  # fn(a, b, **keywords)
    return False
