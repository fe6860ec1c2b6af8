"""Options for the whole process: `minicomp.config.max_autotune = True`.

In: assignments, `patch(...)`, `load_config(...)`. Out: the values that `compile()` starts from;
its own `mode=` and `options=` go on top for that compilation and never come back here.

    minicomp.config.num_threads = 1
    with minicomp.config.patch(max_autotune=True):      # this thread only, until the block ends
        compiled = minicomp.compile(model)
    saved = minicomp.config.save_config()               # bytes: JSON
    minicomp.config.load_config(saved)

The table of options is in `options`. A value is read from the innermost `patch` that sets it,
else from what the process set, else it is the default.
"""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from types import ModuleType
from typing import Any

from minicomp.errors import ConfigError, OptionError, nearest
from minicomp.options import MODES, OPTIONS, Options, coerce_options, mode_options

_process_values: dict[str, Any] = {}

# A context variable, not a global: another thread, or another asyncio task, starts without it.
_patched_values: ContextVar[dict[str, Any] | None] = ContextVar("minicomp patches", default=None)


def _patches() -> dict[str, Any]:
    return _patched_values.get() or {}


def current(name: str) -> Any:
    """The value of option `name` here and now: this is what `config.name` reads."""
    for values in (_patches(), _process_values):
        if name in values:
            return values[name]
    return OPTIONS[name].default


class _OptionAttribute:
    """`config.name`, read and assigned. A descriptor, as an option is no entry of `__dict__`."""

    def __init__(self, name: str):
        self.name = name

    def __get__(self, config: ModuleType | None, owner: type) -> Any:
        return current(self.name)

    def __set__(self, config: ModuleType, value: Any) -> None:
        checked = _checked({self.name: value})
        # Inside a patch of this option the assignment belongs to the patch and ends with it.
        (_patches() if self.name in _patches() else _process_values).update(checked)


class _Config(ModuleType):
    """This module's class: it gives the module one checked attribute per option."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in OPTIONS and not name.startswith("__"):  # dunders: the import system's
            raise _unknown(name)
        super().__setattr__(name, value)


for _name in OPTIONS:
    setattr(_Config, _name, _OptionAttribute(_name))
sys.modules[__name__].__class__ = _Config


def __getattr__(name: str) -> Any:
    raise _unknown(name)


def _unknown(name: str) -> ConfigError:
    return ConfigError(
        f"config has no option {name!r}; known options are {list(OPTIONS)}{nearest(name, OPTIONS)}"
    )


def _checked(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` as the compiler reads them; ConfigError, with nothing changed, if one is wrong."""
    for name in values:
        if name not in OPTIONS:
            raise _unknown(name)
    try:
        return coerce_options(values)
    except OptionError as error:
        raise ConfigError(error.message) from None


def get_config_copy() -> dict[str, Any]:
    """Every option's current value."""
    return {name: current(name) for name in OPTIONS}


def save_config() -> bytes:
    """The current values as JSON, but for those that have no form in JSON (callables)."""
    import json  # here and below: few programs save or load, and all import this module

    values = {name: value for name, value in get_config_copy().items() if OPTIONS[name].saved}
    return json.dumps(values, indent=1).encode()


def load_config(saved: bytes | Mapping[str, Any]) -> None:
    """Set the options that `saved` (from `save_config`, or a dict) names; leave the others.

    Warns of a name that is no option, since another version may have had it. Raises ConfigError,
    with nothing changed, if `saved` cannot be read or a value does not fit.
    """
    if not isinstance(saved, Mapping):
        import json

        try:
            saved = json.loads(saved)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"not a saved config: {error}; wanted bytes of save_config(), or a dict"
            ) from None
        if not isinstance(saved, Mapping):
            raise ConfigError(f"not a saved config: wanted a JSON object, got {saved!r}")
    for name in saved:
        if name not in OPTIONS:
            warnings.warn(f"load_config: no option is called {name!r}; ignored", stacklevel=2)
    known = _checked({name: value for name, value in saved.items() if name in OPTIONS})
    for name, value in known.items():
        setattr(sys.modules[__name__], name, value)


def patch(name: str | Mapping[str, Any] | None = None, value: Any = None, /, **values: Any) -> Any:
    """Options changed for a `with` block or, as a decorator, for each call of a function.

    `patch("name", value)`, `patch(name=value, ...)` or `patch({"name": value, ...})`. All names
    and values are checked here, before anything changes. Other threads do not see the change,
    and it ends with the block, whether by an exception or not.
    """
    if isinstance(name, str):
        values = {name: value, **values}
    elif name is not None:
        values = {**name, **values}
    return _Patch(_checked(values))


class _Patch:
    """Checked values that hold within a `with` block, or during each call of a function. May be
    used again, also within itself."""

    def __init__(self, values: dict[str, Any]):
        self._values = values
        self._tokens: list[Token] = []

    def __enter__(self) -> None:
        self._tokens.append(_patched_values.set({**_patches(), **self._values}))

    def __exit__(self, *exception: object) -> None:
        _patched_values.reset(self._tokens.pop())

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        import inspect

        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigError(
                f"patch cannot decorate the generator {function.__name__}, whose body runs after "
                f"the call; use `with patch(...)` inside"
            )

        @functools.wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            with _Patch(self._values):
                return await function(*args, **kwargs)

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            with _Patch(self._values):  # one of its own, as threads may call it at once
                return function(*args, **kwargs)

        return awaited if inspect.iscoroutinefunction(function) else called


def resolve_options(mode: str | None = None, options: Mapping[str, Any] | None = None) -> Options:
    """The options of one compilation: the config, and `mode` or `options` on top.

    Raises OptionError where both are given, for an unknown mode or option, and for a value that
    does not fit.
    """
    if mode is not None and options is not None:
        raise OptionError(
            "Either mode or options can be specified, but both can't be specified at the same time."
        )
    values = get_config_copy()
    if mode is not None:
        values |= mode_options(mode)
    if options is not None:
        values |= coerce_options(options)
    return Options(**values)


def list_options() -> list[str]:
    """The names of all options that `compile(options=...)` and `config` take."""
    return list(OPTIONS)


def list_mode_options(mode: str | None = None) -> dict[str, Any]:
    """The options that `mode` sets; without one, those of every mode, by name."""
    if mode is not None:
        return mode_options(mode)
    return {name: mode_options(name) for name in MODES}
