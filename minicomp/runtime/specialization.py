"""A compiled module for one kind of call: certain shapes, strides, dtypes and static arguments.

In: arrays among the arguments of a call. Out: what the user's function returns, nested as there.
Parameters are read from their holders at each call, so a weight changed in place, or given a new
array of the same type, shows in the next result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minicomp import tree
from minicomp.errors import DeviceError, DTypeError
from minicomp.explain import Explanation, KernelRecord
from minicomp.ir import Graph, Value, dtype_name, numpy_dtype
from minicomp.kernels import MatmulKernel
from minicomp.kernels.program import Program
from minicomp.runtime import jit
from minicomp.runtime.cpu import CpuExecutable, ExternalStep, KernelStep, RunStep
from minicomp.runtime.cpu_kernels import CompiledKernel
from minicomp.runtime.entry import Entry, is_native
from minicomp.selection.candidates import Choice
from minicomp.tracing.record import Cell

#: What the CPU computes in. The half-width floats are for CUDA.
CPU_DTYPES = ("float32", "float64", "int32", "int64", "bool")


class StaleError(Exception):
    """A parameter no longer has the type that was compiled for. Internal: compile again."""


@dataclass(frozen=True)
class Layout:
    """Shape, strides in elements, and dtype of an array: what a specialization depends on."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype

    @staticmethod
    def of(array: np.ndarray) -> Layout:
        itemsize = array.itemsize
        return Layout(array.shape, tuple(s // itemsize for s in array.strides), array.dtype)


def prepared(array: Any) -> np.ndarray:
    """An argument as kernels can read it: a NumPy array in native byte order, aligned, with
    strides of whole elements. Nearly always the array itself, else a copy.

    Raises DTypeError for dtypes that the CPU does not compute in, DeviceError for GPU arrays.
    """
    if not isinstance(array, np.ndarray):
        if hasattr(array, "__cuda_array_interface__"):
            raise DeviceError(
                "an argument is on the GPU and the module on the CPU; "
                "move the module with .to('cuda'), or the array with minicomp.cuda.to_host"
            )
        array = np.asarray(array)
    name = dtype_name(array.dtype)
    if name not in CPU_DTYPES:
        raise DTypeError(
            f"{name} is for CUDA; on the CPU wanted one of {', '.join(CPU_DTYPES)}: "
            f"convert the argument with .astype(np.float32)"
        )
    whole = all(stride % array.itemsize == 0 for stride in array.strides)
    if array.flags.aligned and whole and array.dtype.isnative:
        return array
    return np.array(array, dtype=numpy_dtype(name), order="C")


class Specialization:
    """See the module's docstring. Made by `compiler.compile_graph`."""

    def __init__(
        self,
        traced: Graph,
        program: Program,
        executable: CpuExecutable,
        choices: Sequence[Choice],
    ):
        self.traced, self.program, self.executable = traced, program, executable
        self.choices = tuple(choices)
        self.output_tree = traced.output_tree
        self.entry = Entry(executable) if is_native(executable) else None
        self._sources = argument_sources(program.graph)
        self._layouts = [self._layout(value) for value in arguments_of(program.graph)]

    def _layout(self, value: Value) -> Layout:
        place = self.program.placements[value]
        return Layout(value.shape, place.strides, numpy_dtype(value.dtype))

    def __call__(self, inputs: Sequence[np.ndarray]) -> Any:
        """Run on prepared arrays, one per input of the graph. StaleError where a parameter has
        become another kind of array."""
        outputs = self.executable(self.arrays(inputs))
        if self.output_tree is None:
            return outputs[0] if len(outputs) == 1 else tuple(outputs)
        return tree.unflatten(self.output_tree, outputs)

    def fast_call(self, args: Sequence[Any], at_epoch: int) -> Callable[..., Any] | None:
        """A function that does what `self` does for arguments like `args`, in native code, and
        gives None for others and once the epoch has moved on. None where there is none: where
        arguments are nested or static, or parameters had to be copied."""
        if self.entry is None or [*map(type, args)] != [np.ndarray] * len(self.entry.plan.inputs):
            return None
        held = [
            holder.data if isinstance(holder, Cell) else holder
            for holder in self._sources
            if not isinstance(holder, int)
        ]
        if any(type(array) is not np.ndarray for array in held):
            return None
        self.entry.arm(held, at_epoch)
        function = self.entry.function()
        return function if self._is_flat() else self._nesting(function)

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

    def arrays(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The arrays of a call, parameters included, in the order the executable wants them."""
        arrays = []
        for source, layout in zip(self._sources, self._layouts, strict=True):
            if isinstance(source, int):
                arrays.append(inputs[source])
                continue
            array = held_array(source)
            if Layout.of(array) != layout:
                raise StaleError
            arrays.append(array)
        return arrays

    # --- looking inside ---

    def explain(self, name: str) -> Explanation:
        """What was compiled, and why each matmul is done the way it is."""
        return Explanation(name, self.choices, tuple(map(self._record, self.executable.steps)))

    def _record(self, step: RunStep) -> KernelRecord:
        buffers = tuple(self.executable.buffers[number].name for number in step.buffers)
        if isinstance(step, ExternalStep):
            return KernelRecord(step.name, "external", ("matmul",), buffers)
        kernel = step.kernel.kernel
        kind = "matmul" if isinstance(kernel, MatmulKernel) else "loop"
        return KernelRecord(kernel.name, kind, kernel.operations, buffers)

    def _compiled(self) -> list[CompiledKernel]:
        steps = [step for step in self.executable.steps if isinstance(step, KernelStep)]
        return list({step.kernel.llvm_ir: step.kernel for step in steps}.values())

    def llvm_ir(self) -> str:
        """The LLVM IR of every kernel, as generated: comments and names included."""
        return "\n".join(kernel.llvm_ir for kernel in self._compiled())

    def assembly(self) -> str:
        """The machine code of every kernel, as assembly text."""
        return "\n".join(jit.assembly(k.llvm_ir, k.target) for k in self._compiled())


def arguments_of(graph: Graph) -> list[Value]:
    """The values that arrays are passed for: inputs and parameters, in definition order."""
    return [value for value in graph.values if value.op in ("input", "parameter")]


def argument_sources(graph: Graph) -> list[Any]:
    """For each argument the number of its input, or the holder of its parameter."""
    inputs = {value: number for number, value in enumerate(graph.inputs)}
    return [
        inputs[value] if value.op == "input" else graph.bindings[value.attributes["name"]]
        for value in arguments_of(graph)
    ]


def held_array(holder: Any) -> np.ndarray:
    """The array that a parameter holds at present, as kernels can read it."""
    return prepared(holder.data if isinstance(holder, Cell) else holder)
