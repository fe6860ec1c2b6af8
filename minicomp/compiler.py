"""`minicomp.compile`: the whole pipeline, one line a stage, and the callable it gives.

In: a module, a function on tensors, or a graph. Out: a `CompiledModule`, which is called like it.
The work is done at the first call with new input shapes, strides, dtypes or static arguments; the
result, a `Specialization`, serves every later call of that kind.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from minicomp.assemble import Assembler
from minicomp.config import resolve_options
from minicomp.debug import remark, show
from minicomp.disk_cache import DiskCache
from minicomp.errors import (
    DeviceError,
    InputError,
    MinicompError,
    OptionError,
    UnsupportedError,
    nearest,
)
from minicomp.ir import Graph
from minicomp.ir.interpreter import check_types
from minicomp.ir.verifier import check_dtypes, verify
from minicomp.kernels.program import Alignments, Program, arguments_of, build_program, strides_of
from minicomp.nn.module import state_key
from minicomp.options import OPTIONS, Options
from minicomp.passes import optimize, unchanged
from minicomp.passes.freeze import freeze
from minicomp.passes.fuse import fuse
from minicomp.passes.materialize import materialize
from minicomp.passes.read_windows import read_windows
from minicomp.passes.split_reductions import split_reductions
from minicomp.runtime import epoch
from minicomp.runtime.backend import Backend, backend_for, device_of
from minicomp.runtime.dispatch import native_call
from minicomp.runtime.specialization import (
    Specialization,
    StaleError,
    argument_sources,
    holder_array,
)
from minicomp.selection.candidates import Choice
from minicomp.selection.choose import Selector
from minicomp.selection.externals import External, register
from minicomp.tracing.record import is_tracing
from minicomp.tracing.tracer import (
    Signature,
    about_argument,
    flatten_arguments,
    modules_of,
    trace_call,
)

if TYPE_CHECKING:
    from minicomp.explain import Explanation

#: How many native entry points are tried before a call goes the way through Python. Each tells
#: within a few nanoseconds whether it is the one.
MOST_FAST_CALLS = 4


def compile_graph(
    graph: Graph,
    inputs: Sequence[Any],
    externals: Sequence[External],
    selector: Selector,
    backend: Backend,
) -> Specialization:
    """The pipeline after tracing, for inputs like these: from a graph to something that runs."""
    options = selector.options
    traced = show("graph", check_dtypes(verify(graph), backend.dtypes))
    graph = verify(frozen(traced, backend)) if options.freeze else traced
    graph = optimize(graph, trace=pass_printer(graph))
    graph = verify(split_reductions(graph))
    arrays = arrays_of(graph, inputs, backend)
    if backend.reads_windows:
        graph = verify(read_windows(graph))
    graph = verify(materialize(graph, strides_of(graph, arrays)))
    clusters = fuse(graph, epilogues=options.epilogue_fusion)
    alignments = alignments_of(graph, arrays, backend)
    program = show("kernels", build_program(graph, clusters, arrays, alignments), kernels_text)
    assembler = Assembler(program, arrays, externals, selector, backend)
    executable = assembler.assemble()
    specialization = Specialization(traced, program, backend, executable, assembler.choices)
    show("select", specialization, lambda s: str(s.explain(graph.name)))
    show("llvm", specialization, lambda s: s.text("LLVM IR"))
    show("ptx", specialization, lambda s: s.text("PTX"))
    show("asm", specialization, Specialization.assembly)
    return specialization


def graph_device(graph: Graph) -> str:
    """Where a graph runs. DeviceError where its inputs and parameters are not all there."""
    devices = {value.device: value for value in arguments_of(graph)}
    if len(devices) < 2:
        return graph.values[0].device if graph.values else "cpu"
    names = {device: value.attributes["name"] for device, value in devices.items()}
    raise DeviceError(
        f"{names['cpu']!r} is on the CPU and {names['cuda']!r} on the GPU; move the module with "
        f".to('cuda') or .to('cpu'), or an array with minicomp.cuda.to_device / to_host",
        what=graph.name,
    )


def frozen(graph: Graph, backend: Backend) -> Graph:
    """The graph with its parameters' present values baked in."""
    arrays = {
        name: backend.device.to_host(backend.prepared(holder_array(holder)))
        for name, holder in graph.bindings.items()
    }
    return freeze(graph, arrays)


def arrays_of(graph: Graph, inputs: Sequence[Any], backend: Backend) -> list[Any]:
    """The arrays of a call, parameters included, in the order of the graph's values."""
    return [
        inputs[source] if isinstance(source, int) else backend.prepared(holder_array(source))
        for source in argument_sources(graph)
    ]


def alignments_of(graph: Graph, arrays: Sequence[Any], backend: Backend) -> Alignments:
    """What is known of where buffers begin."""
    outside = {
        value: backend.layout(array).alignment
        for value, array in zip(arguments_of(graph), arrays, strict=True)
    }
    return Alignments(backend.alignment, backend.large_alignment, outside)


def pass_printer(before: Graph) -> Callable[[str, Graph], None]:
    """`MINICOMP_DEBUG=passes`: what prints the graph after each pass, from `before` on, or one line
    where the pass has changed nothing."""

    def show_pass(name: str, after: Graph) -> None:
        nonlocal before
        if unchanged(before, after):
            remark("passes", f"{name} changed nothing")
        else:
            show("passes", after, title=name)
        before = after

    return show_pass


def kernels_text(program: Program) -> str:
    """`MINICOMP_DEBUG=kernels`: the program, and the loops of each kernel that it calls."""
    kernels = dict.fromkeys(str(call.kernel) for call in program.calls)
    return "\n\n".join([str(program), *kernels])


# --- the public function ------------------------------------------------------------------------


def compile(
    model: Any = None,
    *,
    fullgraph: bool = False,
    dynamic: bool | None = None,
    mode: str | None = None,
    options: dict[str, Any] | None = None,
    name: str | None = None,
    disable: bool = False,
    **unknown: Any,
) -> Any:
    """Compile `model`, an `nn.Module`, a function on tensors or a `Graph`.

    `model=None` returns a decorator. `mode` names a set of options (`list_mode_options()`),
    `options` sets them one by one (`list_options()`); not both. `name` is what messages call the
    result. `disable=True` gives the model back as it is. `fullgraph` is accepted for
    torch.compile's sake: there are no graph breaks here. `dynamic=True` is not supported: each
    new input shape is compiled for, which takes milliseconds.

    The first `compile` of a process imports the compiler and starts LLVM, which takes some tens
    of milliseconds; the first call with new shapes only compiles.

    Raises OptionError for wrong or unknown arguments, before anything is compiled. The compiled
    module raises TraceError, ShapeError, DTypeError and their like at its first call.
    """
    if unknown:
        raise _no_argument(next(iter(unknown)))
    if model is None:
        return functools.partial(
            compile, fullgraph=fullgraph, dynamic=dynamic, mode=mode, options=options, name=name,
            disable=disable,
        )  # fmt: skip
    if dynamic:
        raise UnsupportedError(
            "dynamic=True is not supported: minicomp compiles for the shapes it meets, "
            "once for each; leave it out"
        )
    resolved = resolve_options(mode, options)
    if isinstance(model, type):
        raise OptionError(
            f"compile() wants a module, got the class {model.__name__}; call it first"
        )
    if not callable(model) and not isinstance(model, Graph):
        raise OptionError(
            f"compile() wants a module, a function or a graph, got {type(model).__name__}"
        )
    if any(kind.__module__.partition(".")[0] == "torch" for kind in type(model).__mro__):
        raise OptionError(
            f"compile() does not understand modules of torch, got a {type(model).__name__}; build "
            f"it from layers of minicomp.nn, which have the same names, and copy the weights with "
            f"load_state_dict(model.state_dict())"
        )
    if name is not None and not isinstance(name, str):
        raise OptionError(f"compile() wants name to be a str, got {name!r}")
    if disable:
        return model
    return CompiledModule(model, resolved, name)


def _no_argument(name: str) -> OptionError:
    """The error about an argument that `compile` does not take."""
    if name in OPTIONS:
        return OptionError(
            f"compile() has no argument {name!r}, which is an option; "
            f"write options={{{name!r}: ...}}"
        )
    arguments = list(inspect.signature(compile).parameters)[1:-1]
    return OptionError(
        f"compile() has no argument {name!r}; it takes {', '.join(arguments)}, and in options= "
        f"what list_options() lists{nearest(name, [*arguments, *OPTIONS])}"
    )


class CompiledModule:
    """What `compile` returns. Called like the model; other attributes are the model's own.

    Calls from several threads at once are fine; each kind of call is compiled once. A copy, by
    `copy.deepcopy` or pickle, compiles for itself.
    """

    #: names of attributes that are not the model's; none while they are still being set
    _own: frozenset[str] = frozenset()

    def __init__(self, model: Any, options: Options, name: str | None = None):
        original = getattr(model, "__minicomp_original__", model)
        self.__minicomp_original__ = original
        if options.choices is not None:  # what cannot be read is an error here, not at a call
            from minicomp.selection.replay import load_choices

            options = replace(options, choices=load_choices(options.choices))
        self._options = options
        self._externals = register(options.external_matmul)
        self._lock = threading.RLock()
        self._devices: dict[str, tuple[Backend, Selector]] = {}
        self._on("cpu")  # starts LLVM and the thread pool: no first call should take the time
        self._name: str = name or str(getattr(original, "__name__", type(original).__name__))
        self._specializations: OrderedDict[Any, Specialization] = OrderedDict()
        self._last: Specialization | None = None
        self._recent: list[tuple[Specialization, Callable[..., Any]]] = []
        self._fast_calls: tuple[Callable[..., Any], ...] = ()
        self._modules: list[Any] | None = None  # those whose attributes a trace depends on
        self._state: tuple[Any, Any] | None = None
        if not isinstance(original, Graph):
            functools.update_wrapper(self, original, updated=())
        self._own = frozenset(vars(self))
        _use_native_calls(use_disk_cache=not options.force_disable_caches)

    def _call_in_python(self, *args: Any, **kwargs: Any) -> Any:
        if is_tracing():  # inside another trace: become a part of it
            return self.__minicomp_original__(*args, **kwargs)
        if not kwargs:
            for fast_call in self._fast_calls:
                result = fast_call(*args)
                if result is not None:
                    return result
        return self._call(args, kwargs)

    __call__ = _call_in_python  # until `_use_native_calls`

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The way through Python: find or make the specialization, and run it."""
        at_epoch = epoch.current()
        signature, leaves = flatten_arguments(args, kwargs, self.__minicomp_original__)
        inputs = self._prepared(signature, leaves)
        specialization = self._specialization(signature, args, kwargs, inputs)
        try:
            result = specialization(inputs)
        except StaleError:
            with self._lock:
                self._specializations.clear()
            specialization = self._specialization(signature, args, kwargs, inputs)
            result = specialization(inputs)
        fast_call = None if kwargs else specialization.fast_call(args, at_epoch)
        if fast_call is not None:
            self._remember(specialization, fast_call)
        return result

    def _remember(self, specialization: Specialization, fast_call: Callable[..., Any]) -> None:
        """Try this fast call first from now on, and a few that came before it after it."""
        with self._lock:
            others = [(s, call) for s, call in self._recent if s is not specialization]
            self._recent = [(specialization, fast_call), *others[: MOST_FAST_CALLS - 1]]
            self._fast_calls = tuple(call for _, call in self._recent)
        for left, _ in others[MOST_FAST_CALLS - 1 :]:
            left.release()  # with many shapes, what each of them keeps would add up

    def _on(self, device: str) -> tuple[Backend, Selector]:
        """The back end of a device, and the selector for it, made when first asked for."""
        found = self._devices.get(device)
        if found is not None:
            return found
        backend = backend_for(device, self._options)
        selector = Selector(self._options, backend.device, DiskCache("choices"))
        with self._lock:  # another thread may have been faster; all must use one selector
            return self._devices.setdefault(device, (backend, selector))

    def _prepared(self, signature: Signature, leaves: Sequence[Any]) -> list[Any]:
        """The arrays of a call as kernels can read them, each on its own device."""
        prepared: list[Any] = []
        try:
            for leaf in leaves:
                prepared.append(self._on(device_of(leaf))[0].prepared(leaf))
        except MinicompError as error:
            raise about_argument(
                error, self.__minicomp_original__, signature.structure, len(prepared)
            ) from error.__cause__
        return prepared

    def _specialization(
        self, signature: Signature, args: Any, kwargs: Any, inputs: Sequence[Any]
    ) -> Specialization:
        """The specialization for a call, compiled if it is the first of its kind."""
        layouts = [self._on(device_of(array))[0].layout(array) for array in inputs]
        key = (signature, *layouts, self._module_state())
        with self._lock:
            found = self._specializations.get(key)
            if found is None:
                found = self._compiled(signature, args, kwargs, inputs)
                key = (signature, *layouts, self._module_state())  # of more modules, perhaps
                self._specializations[key] = found
                while len(self._specializations) > self._options.cache_size_limit:
                    self._forget(self._specializations.popitem(last=False)[1])
            if found is not self._last:
                self._specializations.move_to_end(key)
        self._last = found
        return found

    def _forget(self, specialization: Specialization) -> None:
        self._recent = [(s, call) for s, call in self._recent if s is not specialization]
        self._fast_calls = tuple(call for _, call in self._recent)

    def _module_state(self) -> Any:
        """What a trace read off the module besides arrays: flags, sizes, which parameters. Looked
        at again only when something about some module has changed."""
        if self._modules is None:
            self._modules = modules_of(self.__minicomp_original__)
        versions = tuple(module.structure_version() for module in self._modules)
        if self._state is None or self._state[0] != versions:
            self._state = (versions, state_key(self._modules))
        return self._state[1]

    def _watch(self, called: Sequence[Any]) -> None:
        """Look from now on also at modules that the trace called and nobody knew of: those that a
        function finds in an object, or a module in a list."""
        modules = self._modules or []
        known = {id(module) for owner in modules for module in owner.modules()}
        for module in called:
            if id(module) not in known:
                modules = [*modules, module]
                known.update(id(inner) for inner in module.modules())
        self._modules = modules

    def _compiled(
        self, signature: Signature, args: Any, kwargs: Any, inputs: Sequence[Any]
    ) -> Specialization:
        graph = self.__minicomp_original__
        if isinstance(graph, Graph):
            check_types(graph, signature.types)
        else:
            traced = trace_call(graph, args, kwargs)
            self._watch(traced.called)
            graph = traced.graph
        backend, selector = self._on(graph_device(graph))
        return compile_graph(graph, inputs, self._externals, selector, backend)

    # --- looking inside ---

    def explain(self, *args: Any, **kwargs: Any) -> Explanation:
        """What was compiled, and why each candidate was chosen or not: for a call with these
        arguments, or for the last one."""
        return self._inspected(args, kwargs).explain(self._name)

    def graph(self, *args: Any, **kwargs: Any) -> Graph:
        """The graph as it was traced, for a call with these arguments, or for the last one."""
        return self._inspected(args, kwargs).traced

    def llvm_ir(self, *args: Any, **kwargs: Any) -> str:
        """The generated LLVM IR of all kernels of a module on the CPU, before LLVM's own passes."""
        return self._inspected(args, kwargs).text("LLVM IR")

    def assembly(self, *args: Any, **kwargs: Any) -> str:
        """The machine code of all kernels, as assembly text. On CUDA that takes NVIDIA's ptxas and
        a disassembler; CudaError where they are missing."""
        return self._inspected(args, kwargs).assembly()

    def ptx(self, *args: Any, **kwargs: Any) -> str:
        """The generated PTX of all kernels of a module on CUDA."""
        return self._inspected(args, kwargs).text("PTX")

    def choices(self, *args: Any, **kwargs: Any) -> tuple[Choice, ...]:
        """The choice made at each matmul call site, in program order."""
        return self._inspected(args, kwargs).choices

    def save_choices(self, path: Any) -> None:
        """Write the choices of all calls so far as JSON, for `options={"choices": path}`."""
        from minicomp.selection.replay import save_choices

        choices = [c for s in self._specializations.values() for c in s.choices]
        save_choices(path, choices)

    def _inspected(self, args: Any, kwargs: Any) -> Specialization:
        if args or kwargs:
            signature, leaves = flatten_arguments(args, kwargs, self.__minicomp_original__)
            inputs = self._prepared(signature, leaves)
            return self._specialization(signature, args, kwargs, inputs)
        if self._last is None:
            raise InputError(
                f"{self._name} has not been compiled yet: call it first, or pass example inputs"
            )
        return self._last

    # --- attributes: the model's ---

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_specializations":
            raise AttributeError(name)
        found = getattr(self.__minicomp_original__, name)
        if inspect.ismethod(found) and found.__self__ is self.__minicomp_original__:
            return self._chaining(found)
        return found

    def _chaining(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """A method of the model's; where it gives back the model, as `eval()` does, it gives the
        compiled one."""

        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            return self if result is self.__minicomp_original__ else result

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        if self._is_own(name):
            super().__setattr__(name, value)
        else:
            setattr(self.__minicomp_original__, name, value)

    def __delattr__(self, name: str) -> None:
        if self._is_own(name):
            super().__delattr__(name)
        else:
            delattr(self.__minicomp_original__, name)

    def _is_own(self, name: str) -> bool:
        return not self._own or name in self._own or name.startswith("__")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(self.__minicomp_original__)})

    def __reduce__(self) -> tuple[Any, ...]:
        return CompiledModule, (self.__minicomp_original__, self._options, self._name)

    def __repr__(self) -> str:
        return f"<compiled {self._name}>"


def _use_native_calls(use_disk_cache: bool) -> None:
    """From now on a call looks for its entry point in native code, which takes a fraction of the
    time that Python takes to enter a method."""
    in_python = CompiledModule._call_in_python
    if CompiledModule.__call__ is in_python:
        CompiledModule.__call__ = native_call(in_python, use_disk_cache)  # type: ignore[method-assign]
