"""The options of `compile()`: one table, and the modes that are names for some of their values.

In: what a user wrote. Out: checked values, or an error that names the option, what it got and
what it wanted. The table is the frozen dataclass `Options` itself: a field's annotation is the
type, its metadata the check and the documentation, and an instance is what the rest of the
compiler reads.

>>> OPTIONS["max_autotune"].coerce(1)
Traceback (most recent call last):
minicomp.errors.OptionError: Unexpected type of attr max_autotune, got int should be bool

Option names and error texts are `torch.compile`'s where it has the same thing, so that its users
feel at home. Where an option is set for the whole process is `config`'s business.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from minicomp.errors import OptionError, nearest

# --- checks -------------------------------------------------------------------------------------
# A check takes the option's name and a value, and returns the value as the compiler will read it.

Check = Callable[[str, Any], Any]


def wrong_type(name: str, value: Any, wanted: str, advice: str = "") -> OptionError:
    kind = type(value)
    # NumPy calls its bool `bool`, too.
    got = f"numpy.{kind.__name__}" if kind.__module__ == "numpy" else kind.__name__
    hint = f"; {advice}" if advice else ""
    return OptionError(f"Unexpected type of attr {name}, got {got} should be {wanted}{hint}")


def wrong_value(name: str, value: Any, wanted: str) -> OptionError:
    return OptionError(f"Unexpected value of attr {name}, got {value!r} should be {wanted}")


def boolean(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise wrong_type(name, value, "bool")
    return value


def number(least: float, *, exclusive: bool = False) -> Check:
    """A finite number of at least `least` (more than it if `exclusive`); becomes a float."""
    wanted = f"a finite number {'above' if exclusive else 'of at least'} {least:g}"

    def check(name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong_type(name, value, "float")
        fits = math.isfinite(value) and (value > least if exclusive else value >= least)
        if not fits:
            raise wrong_value(name, value, wanted)
        return float(value)

    return check


def count(least: int, *, optional: bool = False) -> Check:
    """A whole number of at least `least`, or None where that is allowed."""

    def check(name: str, value: Any) -> int | None:
        if value is None and optional:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong_type(name, value, "int or None" if optional else "int")
        if value < least:
            raise wrong_value(name, value, f"at least {least}")
        return value

    return check


def one_of(*allowed: str) -> Check:
    def check(name: str, value: Any) -> str:
        if not isinstance(value, str):
            raise wrong_type(name, value, "str")
        if value not in allowed:
            raise wrong_value(name, value, f"one of: {', '.join(allowed)}")
        return value

    return check


def callables(name: str, value: Any) -> tuple[Callable, ...]:
    """A list or tuple of callables; a bare function is the mistake everybody makes once."""
    if not isinstance(value, list | tuple):
        what = getattr(value, "__name__", repr(value))
        advice = f"write {name}=[{what}]" if callable(value) else f"got {value!r}"
        raise wrong_type(name, value, "list", advice)
    for position, element in enumerate(value):
        if not callable(element):
            wanted = "a callable fn(a, b, out)"
            raise wrong_value(f"{name}[{position}]", element, wanted)
    return tuple(value)


def saved_choices(name: str, value: Any) -> str | Mapping | None:
    """A path to saved choices or their content; reading them is `selection.replay`'s work."""
    if value is not None and not isinstance(value, str | os.PathLike | Mapping):
        raise wrong_type(name, value, "a path, a dict or None")
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def forking(name: str, value: Any) -> bool:
    if boolean(name, value) and not hasattr(os, "fork"):
        raise OptionError(f"{name} needs os.fork, which this platform lacks; set it to False")
    return value


# --- the table ----------------------------------------------------------------------------------


def option(default: Any, check: Check, doc: str, *, saved: bool = True) -> Any:
    """One row. `saved` is False for values that have no form in JSON."""
    return field(default=default, metadata={"check": check, "doc": doc, "saved": saved})


@dataclass(frozen=True)
class Options:
    """Every option with its value for one compilation, checked."""

    # Selection: which candidates, and when.
    max_autotune: bool = option(False, boolean, "time the candidates of each matmul call site")
    external_matmul: tuple[Callable, ...] = option(
        (), callables, "a list of callables fn(a, b, out) offered as candidates", saved=False
    )
    choices: Any = option(
        None, saved_choices, "saved choices (a path or a dict) to replay untimed", saved=False
    )
    deterministic: bool = option(False, boolean, "never time: the default schedule everywhere")

    # Selection: checking.
    external_check: str = option(
        "inputs",
        one_of("inputs", "strict", "off"),
        "inputs: reject an external that is wrong on the call's operands, warn if it is wrong on "
        "random ones; strict: reject on either; off: trust",
    )
    autotune_in_subproc: bool = option(
        False,
        forking,
        "give each external its first run in a forked child; on a GPU, out of reach there, in a "
        "new process, where it has to be importable",
    )
    max_autotune_subproc_result_timeout_seconds: float = option(
        60.0, number(0, exclusive=True), "how long that child may take"
    )

    # Selection: timing.
    autotune_tie_tolerance: float = option(
        0.03,
        number(0),
        "an external this close, relatively, is tied with minicomp's own kernels, and these with "
        "each other within a third of it; a tie is settled by a fixed order",
    )
    autotune_budget_seconds: float = option(
        10.0, number(0, exclusive=True), "what choosing may take at one call site"
    )
    autotune_num_choices_displayed: int | None = option(
        10, count(0, optional=True), "rows of the logged table; None is all, 0 no table"
    )

    # Selection: memory.
    autotune_local_cache: bool = option(True, boolean, "remember choices on disk")
    force_disable_caches: bool = option(False, boolean, "neither read nor write any disk cache")

    # Compilation.
    epilogue_fusion: bool = option(True, boolean, "fuse what follows a matmul into its kernel")
    freeze: bool = option(
        False,
        boolean,
        "bake the values that parameters and outside arrays have into the code, when a shape of "
        "inputs is first met; on the CPU weights of products are packed once, in copies: one for "
        "each size of tile that kernels use",
    )
    matmul_precision: str = option(
        "highest",
        one_of("highest", "high", "medium"),
        "what float32 products may be computed in, as PyTorch names it",
    )
    num_threads: int | None = option(
        None, count(1, optional=True), "threads of a kernel; None: the CPUs this process may use"
    )
    cache_size_limit: int = option(
        64, count(1), "compiled input shapes kept per module; the least recently used goes"
    )
    cuda_simulator: bool = option(False, boolean, "run PTX in the simulator instead of on a GPU")


@dataclass(frozen=True)
class Option:
    """A row of the table, for those who work on options by name."""

    name: str
    default: Any
    check: Check
    doc: str
    saved: bool

    def coerce(self, value: Any) -> Any:
        """`value` as the compiler reads it; OptionError where it does not fit."""
        return self.check(self.name, value)


OPTIONS: dict[str, Option] = {
    f.name: Option(f.name, f.default, f.metadata["check"], f.metadata["doc"], f.metadata["saved"])
    for f in fields(Options)
}


def coerce_options(options: Any) -> dict[str, Any]:
    """The checked form of a user's `options=`; a dash in a name reads as an underscore."""
    if not isinstance(options, Mapping):
        raise wrong_type("options", options, "dict")
    checked = {}
    for key, value in options.items():
        name = key.replace("-", "_") if isinstance(key, str) else key
        if name not in OPTIONS:
            raise OptionError(
                f"Unexpected optimization option {key}, known options are {list(OPTIONS)}"
                f"{nearest(name, OPTIONS)}"
            )
        checked[name] = OPTIONS[name].coerce(value)
    return checked


# --- modes --------------------------------------------------------------------------------------

#: mode -> the options it sets. Two pairs are equal since nothing is captured into CUDA graphs.
MODES: dict[str, dict[str, Any]] = {
    "default": {},
    "reduce-overhead": {},
    "max-autotune-no-cudagraphs": {"max_autotune": True},
    "max-autotune": {"max_autotune": True},
}


def mode_options(mode: str) -> dict[str, Any]:
    """The options that `mode` sets."""
    if not isinstance(mode, str) or mode not in MODES:
        raise OptionError(f"Unrecognized mode={mode}, should be one of: {', '.join(MODES)}")
    return dict(MODES[mode])
