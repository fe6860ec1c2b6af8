"""Modules: trees of layers that own parameters, as in PyTorch.

In: attributes set in `__init__`. Out: names for all that is below (`encoder.0.weight`), state
dicts, moves between devices and dtypes, and a `forward` that runs at once on arrays and is traced
by `minicomp.trace` and `minicomp.compile`.

>>> class Scale(Module):
...     def __init__(self):
...         super().__init__()
...         self.factor = Parameter(np.float32(3))
...     def forward(self, x):
...         return x * self.factor
>>> Scale()(np.ones(2, np.float32))
array([3., 3.], dtype=float32)
>>> list(Scale().state_dict())
['factor']
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Self

import numpy as np

from minicomp.errors import DTypeError, ModuleError, StateDictError, UnsupportedError
from minicomp.ir import FLOATS, dtype_name
from minicomp.nn.initialisation import cast, moved
from minicomp.nn.parameter import Parameter, latest_version, mark_changed
from minicomp.tracing.record import current


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict(strict=False)` passed over."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """The base of all layers and models: define `__init__` and `forward`."""

    training: bool
    _version: int
    _checked: tuple[int, int]
    _unsaved: set[str]
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Any]
    _modules: dict[str, Module | None]

    def __init__(self) -> None:
        for table in ("_parameters", "_buffers", "_modules"):
            object.__setattr__(self, table, {})
        object.__setattr__(self, "_unsaved", set())  # names of buffers kept out of state dicts
        object.__setattr__(self, "training", True)
        object.__setattr__(self, "_checked", (0, 0))  # see structure_version
        mark_changed(self)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; every module defines its own."""
        raise UnsupportedError(f"{type(self).__name__} has no forward(); define what it computes")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        recorder = current()
        if recorder is not None:
            recorder.called.append(self)
        return self.forward(*args, **kwargs)

    # --- attributes: parameters, buffers and modules are kept by kind ---

    def __setattr__(self, name: str, value: Any) -> None:
        if "_modules" not in self.__dict__:
            raise ModuleError(
                f"{name!r} is set before super().__init__(); call that first in "
                f"{type(self).__name__}.__init__"
            )
        if not self._has(name, value):  # it has after `self.weight += 1`
            self._assign(name, value)
            mark_changed(self)

    def _assign(self, name: str, value: Any) -> None:
        kinds: list[tuple[dict[str, Any], bool, str]] = [
            (self._parameters, isinstance(value, Parameter), "a Parameter"),
            (self._modules, _module_in(value) is not None, "a Module"),
        ]
        for table, is_of_kind, described in kinds:
            if is_of_kind:
                self._forget(name, keep=table)
                table[name] = value
                return
            if name in table and value is not None:
                raise ModuleError(
                    f"{name!r} is {described} of {type(self).__name__} and cannot become a "
                    f"{type(value).__name__}; wanted {described} or None (or set its .data)"
                )
            if name in table:
                table[name] = None
                return
        if name in self._buffers:
            self._buffers[name] = value
        else:
            object.__setattr__(self, name, value)

    def _has(self, name: str, value: Any) -> bool:
        tables = (self.__dict__, self._parameters, self._buffers, self._modules)
        return any(name in table and table[name] is value for table in tables)

    def structure_version(self) -> int:
        """A number that changes when a trace of this module may no longer hold: an attribute here
        or below has been set, or a parameter has been given an array of another type. What is in
        the arrays does not count: it is read at each call. Nor does what lists and dicts hold.
        """
        latest = latest_version()
        if self._checked[0] != latest:
            below: list[Any] = [*self.modules(), *self.parameters()]
            version = max(item._version for item in below)
            object.__setattr__(self, "_checked", (latest, version))
        return self._checked[1]

    def _forget(self, name: str, keep: Any = None) -> None:
        for table in (self._parameters, self._buffers, self._modules, self.__dict__):
            if table is not keep:
                table.pop(name, None)

    def __getattr__(self, name: str) -> Any:
        # Called only where the usual look-up fails; __dict__ may be empty while unpickling.
        for table in ("_parameters", "_buffers", "_modules"):
            if name in self.__dict__.get(table, ()):
                return self.__dict__[table][name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __delattr__(self, name: str) -> None:
        getattr(self, name)  # AttributeError if there is none
        self._forget(name)
        mark_changed(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _checked=(0, 0))
        mark_changed(self)  # versions of the process that pickled it mean nothing here

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._parameters, *self._buffers, *self._modules]

    def _check_name(self, name: str) -> None:
        """A name is part of the dotted names in state dicts."""
        if not isinstance(name, str) or not name or "." in name:
            raise ModuleError(
                f"{name!r} cannot name a part of {type(self).__name__}; wanted a str without dots"
            )

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter, or None for one that this module goes without."""
        self._check_name(name)
        if param is None:
            self._forget(name)
            self._parameters[name] = None
            mark_changed(self)
        else:
            setattr(self, name, param)

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Add an array that is state but not trained; in the state dict if `persistent`."""
        self._check_name(name)
        self._forget(name)
        self._buffers[name] = None if tensor is None else Parameter(tensor).data
        (self._unsaved.discard if persistent else self._unsaved.add)(name)
        mark_changed(self)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a module under a name that need not be an identifier."""
        self._check_name(name)
        if module is not None and _module_in(module) is None:
            raise ModuleError(f"{name!r} is a {type(module).__name__}, wanted a Module or None")
        self._forget(name, keep=self._modules)
        self._modules[name] = module
        mark_changed(self)

    register_module = add_module

    # --- what is below ---

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules that are attributes of this one; of a compiled one, what it compiles."""
        found = ((name, _module_in(module)) for name, module in self._modules.items())
        return ((name, module) for name, module in found if module is not None)

    def children(self) -> Iterator[Module]:
        """The modules that are attributes of this one."""
        return (module for _, module in self.named_children())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below it, each once, with their dotted names."""
        seen: set[int] = set()
        for name, module in self._walk(prefix):
            if id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def _walk(self, prefix: str) -> Iterator[tuple[str, Module]]:
        """As named_modules, with a module that is in several places in each of them."""
        yield prefix, self
        for name, child in self.named_children():
            yield from child._walk(f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """All parameters with their dotted names; one in several places by its first name."""
        yield from self._named("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters, each once."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Any]]:
        """All buffers with their dotted names."""
        yield from self._named("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Any]:
        """All buffers, each once."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def _named(self, table: str, prefix: str, recurse: bool, once: bool) -> Iterator[Any]:
        seen: set[int] = set()
        for path, module in self._walk(prefix) if recurse else [(prefix, self)]:
            for name, item in getattr(module, table).items():
                if item is not None and not (once and id(item) in seen):
                    seen.add(id(item))
                    yield (f"{path}.{name}" if path else name), item

    def named_holders(self) -> Iterator[tuple[str, Any]]:
        """All that a trace refers to by name: parameters, buffers, and arrays that are plain
        attributes."""
        yield from self.named_parameters()
        yield from self.named_buffers()
        for path, module in self.named_modules():
            for name, item in vars(module).items():
                if isinstance(item, np.ndarray):
                    yield (f"{path}.{name}" if path else name), item

    def get_submodule(self, target: str) -> Module:
        """The module of a dotted name."""
        found = dict(self._walk("")).get(target)
        if found is None:
            raise AttributeError(f"{type(self).__name__} has no submodule {target!r}")
        return found

    def apply(self, function: Callable[[Module], Any]) -> Module:
        """Call `function` on every module below, then on this one."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    # --- state ---

    def _state(self) -> Iterator[tuple[str, Module, dict[str, Any], str]]:
        """Each parameter and persistent buffer: its full name, its module, and the table and key
        that it is at."""
        for path, module in self._walk(""):
            saved = [name for name in module._buffers if name not in module._unsaved]
            for table, names in ((module._parameters, list(module._parameters)),
                                 (module._buffers, saved)):  # fmt: skip
                for name in names:
                    if table[name] is not None:
                        yield (f"{path}.{name}" if path else name), module, table, name

    def state_dict(self) -> dict[str, Any]:
        """The arrays of all parameters and persistent buffers by name: the arrays themselves, not
        copies, as in PyTorch. A parameter in several places has several names."""
        return {name: _array(table[key]) for name, _, table, key in self._state()}

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True
    ) -> IncompatibleKeys:
        """Copy arrays into the parameters and buffers of the same names, converting dtypes.

        Raises StateDictError, and changes nothing, for shapes that differ and, if `strict`, for
        names that are missing or unexpected.
        """
        places = {name: (module, table, key) for name, module, table, key in self._state()}
        missing = [name for name in places if name not in state_dict]
        unexpected = [name for name in state_dict if name not in places]
        arrays = {name: _host_array(state_dict[name]) for name in places if name in state_dict}
        problems = []
        if strict and missing:
            problems.append(f"missing names: {', '.join(missing)}")
        if strict and unexpected:
            problems.append(f"unexpected names: {', '.join(unexpected)}")
        for name, array in arrays.items():
            _, table, key = places[name]
            wanted = tuple(_array(table[key]).shape)
            if array.shape != wanted:
                problems.append(f"{name} has shape {array.shape}, the module wants {wanted}")
        if problems:
            raise StateDictError(
                f"the state dict does not fit {type(self).__name__}:\n  " + "\n  ".join(problems)
            )
        for name, array in arrays.items():
            _store(*places[name], array)
        return IncompatibleKeys(missing, unexpected)

    # --- mode, device, dtype ---

    def train(self, mode: bool = True) -> Self:
        """Set training mode, which Dropout looks at, here and below."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Set evaluation mode here and below: what compiled modules are for."""
        return self.train(False)

    def to(self, *targets: Any, device: Any = None, dtype: Any = None) -> Self:
        """Move all parameters and buffers to a device ("cpu", "cuda"), and those that are floats
        to a dtype; in place. `to("cuda")`, `to(np.float64)` or both at once."""
        for target in targets:
            if str(target).partition(":")[0] in ("cpu", "cuda"):
                device = target
            else:
                dtype = target
        name = None if dtype is None else dtype_name(dtype)
        if name is not None and name not in FLOATS:
            raise DTypeError(f"parameters are floats; got dtype {name}")

        def converted(array: Any) -> Any:
            if name is not None and dtype_name(array.dtype) in FLOATS:
                array = cast(array, name)
            return array if device is None else moved(array, device)

        for parameter in self.parameters():
            parameter.data = converted(parameter.data)
        for module in self.modules():
            for key, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[key] = converted(buffer)
                    mark_changed(module)
        return self

    def float(self) -> Self:
        """All floats to float32."""
        return self.to("float32")

    def double(self) -> Self:
        """All floats to float64."""
        return self.to("float64")

    def half(self) -> Self:
        """All floats to float16."""
        return self.to("float16")

    def bfloat16(self) -> Self:
        """All floats to bfloat16, which needs the package ml_dtypes."""
        return self.to("bfloat16")

    def cpu(self) -> Self:
        """Everything to the host."""
        return self.to("cpu")

    def cuda(self) -> Self:
        """Everything to the GPU."""
        return self.to("cuda")

    # --- text ---

    def extra_repr(self) -> str:
        """The arguments that a layer shows in its repr."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = [
            f"({name}): " + repr(child).replace("\n", "\n  ")
            for name, child in self._modules.items()
        ]
        if not lines:
            return f"{type(self).__name__}({extra})"
        inside = [*extra.split("\n"), *lines] if extra else lines
        return f"{type(self).__name__}(\n  " + "\n  ".join(inside) + "\n)"


def _module_in(item: Any) -> Module | None:
    """The module that `item` is, or that it is the compiled form of, as `compile` makes it."""
    original = getattr(item, "__minicomp_original__", item)
    return original if isinstance(original, Module) else None


def _array(item: Any) -> Any:
    return item.data if isinstance(item, Parameter) else item


def _host_array(item: Any) -> np.ndarray:
    return np.asarray(moved(_array(item), "cpu"))


def _store(module: Module, table: dict[str, Any], key: str, array: np.ndarray) -> None:
    """Copy into the array that is there; one on the GPU is replaced."""
    target = _array(table[key])
    if isinstance(target, np.ndarray):
        target[...] = array
        return
    replacement = moved(array.astype(target.dtype, copy=False), "cuda")
    if isinstance(table[key], Parameter):
        table[key].data = replacement
    else:
        table[key] = replacement
        mark_changed(module)


#: What tells itself from others by type and text, also inside tuples.
_PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic)

#: A module's own bookkeeping: what a trace reads of it is looked at through the tables below.
_OWN_ATTRIBUTES = {"_version", "_checked", "_unsaved", "_parameters", "_buffers", "_modules"}


class _Same:
    """An object as part of a key: equal to itself alone. It is kept, since the id of one that is
    gone may be given to another."""

    __slots__ = ("thing",)

    def __init__(self, thing: Any):
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.thing is other.thing

    def __hash__(self) -> int:
        return id(self.thing)


def state_key(modules: Iterable[Module]) -> Any:
    """A hashable account of what a trace reads off modules besides the contents of arrays: modes,
    attributes, and which modules and parameters there are. Modules whose `structure_version` has
    changed and changed back, as by `eval()` and `train()`, have the same key again."""
    return tuple(
        (path, _Same(module), *_attributes(module))
        for owner in modules
        for path, module in owner.named_modules()
    )


def _attributes(module: Module) -> Iterator[Any]:
    for name, item in vars(module).items():
        if name in _OWN_ATTRIBUTES:
            continue
        # As text, since 1, 1.0 and True are equal, and so are 0.0 and -0.0.
        yield name, (type(item), repr(item)) if _is_plain(item) else _Same(item)
    for name, holder in (*module._parameters.items(), *module._buffers.items()):
        yield name, _Same(holder)


def _is_plain(item: Any) -> bool:
    if type(item) is tuple:
        return all(map(_is_plain, item))
    return isinstance(item, _PLAIN)
