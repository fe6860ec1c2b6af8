"""A compiled module for one kind of call: certain shapes, strides, dtypes and static arguments.

In: arrays among the arguments of a call. Out: what the user's function returns, nested as there.
Parameters are read from their holders at each call, so a weight changed in place, or given a new
array of the same type, shows in the next result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from minicomp import tree
from minicomp.errors import UnsupportedError
from minicomp.ir import Graph, Value, numpy_dtype
from minicomp.kernels.program import Program, arguments_of
from minicomp.runtime.backend import Backend, Executable, Layout, device_of
from minicomp.runtime.steps import CompiledKernel, KernelStep
from minicomp.selection.candidates import Choice
from minicomp.tracing.record import Cell

if TYPE_CHECKING:
    from minicomp.explain import Explanation

#: language -> the method that shows it, and where code in that language runs
LANGUAGES = {"LLVM IR": ("llvm_ir()", "the CPU"), "PTX": ("ptx()", "CUDA")}


class StaleError(Exception):
    """A parameter no longer has the type that was compiled for. Internal: compile again."""


class Specialization:
    """See the module's docstring. Made by `compiler.compile_graph`."""

    def __init__(
        self,
        traced: Graph,
        program: Program,
        backend: Backend,
        executable: Executable,
        choices: Sequence[Choice],
    ):
        self.traced, self.program = traced, program
        self.backend, self.executable = backend, executable
        self.choices = tuple(choices)
        self.output_tree = traced.output_tree
        self.entry = backend.entry(executable)
        self._sources = argument_sources(program.graph)
        self._layouts = [self._layout(value) for value in arguments_of(program.graph)]

    def _layout(self, value: Value) -> Layout:
        place = self.program.placements[value]
        return Layout(value.shape, place.strides, numpy_dtype(value.dtype), place.alignment)

    def __call__(self, inputs: Sequence[Any]) -> Any:
        """Run on prepared arrays, one per input of the graph. StaleError where a parameter has
        become another kind of array."""
        outputs = self.executable(self.arrays(inputs))
        if self.output_tree is None:
            return outputs[0] if len(outputs) == 1 else tuple(outputs)
        return tree.unflatten(self.output_tree, outputs)

    def fast_call(self, args: Sequence[Any], at_epoch: int) -> Callable[..., Any] | None:
        """A function that does what `self` does for arguments like `args`, in less time, and
        gives None for others and once the epoch has moved on. None where there is none."""
        if self.entry is None:
            return None
        held = [holder_array(source) for source in self._sources if not isinstance(source, int)]
        function = self.entry.fast_call(args, held, at_epoch)
        return function if function is None or self._is_flat() else self._nesting(function)

    def release(self) -> None:
        """Let go of memory that is only kept for the next call."""
        if self.entry is not None:
            self.entry.release()

    def _is_flat(self) -> bool:
        """Whether results are an array, or a tuple of several, as the native code gives them."""
        structure = self.output_tree
        return structure is None or structure == tree.LEAF or (
            structure == tree.flatten((0,) * len(self.program.outputs))[1]
            and len(self.program.outputs) > 1
        )  # fmt: skip

    def _nesting(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The native call with its flat results nested as the user's function nests them."""
        single = len(self.program.outputs) == 1

        def nested(*args: Any) -> Any:
            result = call(*args)
            if result is None:
                return None
            return tree.unflatten(self.output_tree, (result,) if single else result)

        return nested

    def arrays(self, inputs: Sequence[Any]) -> list[Any]:
        """The arrays of a call, parameters included, in the order the executable wants them."""
        arrays = []
        for source, layout in zip(self._sources, self._layouts, strict=True):
            if isinstance(source, int):
                arrays.append(inputs[source])
                continue
            held = holder_array(source)
            if device_of(held) != self.backend.name:
                raise StaleError
            array = self.backend.prepared(held)
            if self.backend.layout(array) != layout:
                raise StaleError
            arrays.append(array)
        return arrays

    # --- looking inside ---

    def explain(self, name: str) -> Explanation:
        """What was compiled, and why each matmul is done the way it is."""
        from minicomp.explain import explanation  # which is not asked for in every program

        return explanation(name, self.choices, self.executable)

    def kernels(self) -> list[CompiledKernel]:
        """The kernels, of equal ones the last."""
        steps = [step for step in self.executable.steps if isinstance(step, KernelStep)]
        return list({step.kernel.text: step.kernel for step in steps}.values())

    def text(self, language: str) -> str:
        """The code of every kernel as generated, comments and names included. UnsupportedError
        where the code is in another language ("LLVM IR" or "PTX")."""
        if language != self.backend.language:
            method, place = LANGUAGES[self.backend.language]
            raise UnsupportedError(
                f"this module runs on {place}: it has {self.backend.language}, see {method}"
            )
        return "\n".join(kernel.text for kernel in self.kernels())

    def assembly(self) -> str:
        """The machine code of every kernel, as assembly text."""
        return "\n".join(kernel.assembly() for kernel in self.kernels())


def argument_sources(graph: Graph) -> list[Any]:
    """For each argument the number of its input, or the holder of its parameter."""
    inputs = {value: number for number, value in enumerate(graph.inputs)}
    return [
        inputs[value] if value.op == "input" else graph.bindings[value.attributes["name"]]
        for value in arguments_of(graph)
    ]


def holder_array(holder: Any) -> Any:
    """The array that a parameter, or an array found by the traced function, is at present."""
    return holder.data if isinstance(holder, Cell) else holder
