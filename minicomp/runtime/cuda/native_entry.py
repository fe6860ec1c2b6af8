"""The short way into a program on CUDA as generated code (see `codegen.llvm_cuda_entry`).

In: a `CudaExecutable` whose steps are all kernels, and what arguments must be. Out: a
`NativeEntry`, whose `armed` gives a builtin function for the addresses that parameters have in
some epoch.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from minicomp.codegen.generated import Generated
from minicomp.codegen.llvm_cuda_entry import (
    ALWAYS_ORDER,
    EPOCH,
    FIRST_PARAMETER,
    MEMORY,
    ORDER,
    OTHER,
    CudaEntryPlan,
    EntryInput,
    EntryLaunch,
    emit_cuda_entry,
)
from minicomp.ir import numpy_dtype
from minicomp.runtime import epoch
from minicomp.runtime.cuda.executable import CudaExecutable, own_type
from minicomp.runtime.cuda.memory_pool import Allocation
from minicomp.runtime.cuda.streams import DEFAULT, stream_variable
from minicomp.runtime.entry import (
    METH_FASTCALL,
    MethodDefinition,
    is_supported,
    new_function,
    python_address,
)
from minicomp.runtime.forking import watch_forks
from minicomp.runtime.jit import compile_ir
from minicomp.runtime.steps import KernelStep

PYTHON_FUNCTIONS = (
    *("Py_IncRef", "Py_DecRef", "PyContextVar_Get", "PyErr_Clear", "PyLong_AsUnsignedLongLong"),
    *("PyObject_GetAttr", "PyObject_RichCompareBool", "PyObject_CallOneArg"),
    *("PyObject_Vectorcall", "PyTuple_New", "PyTuple_SetItem"),
)
ATTRIBUTES = ("gpudata", "stream", "shape", "strides", "dtype")


class Expected(NamedTuple):
    """What an input must be: the buffer it is, shape, strides in bytes, dtype, and bits of its
    address: `address & mask == bits`."""

    buffer: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    mask: int
    bits: int


@dataclass(frozen=True)
class Parameters:
    """What parameters, and constants, are at present: their memory, its addresses, and a function
    of a call's arguments that makes the stream in use wait for those that these and parameters
    were written on. `always_order` says that it has to be called on the default stream too."""

    memory: Any
    addresses: Sequence[int]
    order: Callable[..., object]
    always_order: bool


def has_native_entry(executable: CudaExecutable) -> bool:
    """Whether all that a call does is to queue kernels: no external, no wait for a gather."""
    return (
        is_supported()
        and all(isinstance(step, KernelStep) for step in executable.steps)
        and not any(buffer.role == "status" for buffer in executable.buffers)
    )


class NativeEntry:
    """The generated code of an executable, and the memory and objects that it refers to.
    `parameters` are the numbers of buffers whose addresses are given to `armed`."""

    def __init__(
        self, executable: CudaExecutable, inputs: Sequence[Expected], parameters: Sequence[int]
    ):
        self._executable = executable  # keeps its kernels on the device
        self._arming = threading.Lock()
        kernels = [step for step in executable.steps if isinstance(step, KernelStep)]
        steps = [step for step in kernels if step.kernel.ptx.blocks]  # the rest launch nothing
        plan = _plan(executable, inputs, parameters, steps)
        self._context = (ctypes.c_int64 * plan.slots)()
        self._context[EPOCH] = -1
        self._objects = _objects(executable, inputs, steps)  # by name; code has their addresses
        self._held: Any = None
        functions = {f"function{n}": step.kernel.function.handle for n, step in enumerate(steps)}
        self._library = compile_ir(
            Generated(emit_cuda_entry, plan),
            ["entry"],
            imports={
                **{name: python_address(name) for name in PYTHON_FUNCTIONS},
                **{name: id(thing) for name, thing in self._objects.items()},
                **functions,
                "launch": executable.driver.launch_address,
                "context": ctypes.addressof(self._context),
                "epoch": epoch.address(),
            },
            use_disk_cache=all(step.kernel.use_disk_cache for step in steps),
        )
        address = self._library.address("entry")
        self._definition = MethodDefinition(b"entry", address, METH_FASTCALL, None)
        watch_forks(self)

    def after_fork(self) -> None:
        """In the child: no other thread is arming it."""
        self._arming = threading.Lock()

    def armed(self, parameters: Parameters, at_epoch: int, other: Any) -> Callable[..., Any]:
        """A function of arrays that gives the output, or a tuple of outputs, or None for "go the
        slow way", which everything is that comes once the epoch is no longer `at_epoch`. Where a
        launch is refused, it calls `other`, which finds out why."""
        with self._arming:
            self._context[EPOCH] = -1  # nobody gets in while the addresses change
            for position, address in enumerate(parameters.addresses):
                self._context[FIRST_PARAMETER + position] = address
            self._context[OTHER], self._context[ORDER] = id(other), id(parameters.order)
            self._context[ALWAYS_ORDER] = parameters.always_order
            self._context[MEMORY] = id(parameters.memory)
            self._held = parameters, other
            self._context[EPOCH] = at_epoch
        return new_function()(ctypes.byref(self._definition), self, None)


def _plan(
    executable: CudaExecutable,
    inputs: Sequence[Expected],
    parameters: Sequence[int],
    steps: Sequence[KernelStep],
) -> CudaEntryPlan:
    shapes = [step.kernel.ptx for step in steps]
    return CudaEntryPlan(
        buffers=len(executable.buffers),
        inputs=tuple(EntryInput(x.buffer, x.mask, x.bits) for x in inputs),
        parameters=tuple(parameters),
        outputs=tuple(executable.program.outputs),
        arena=tuple(executable.arena_offsets),
        launches=tuple(
            EntryLaunch(step.buffers, ptx.grid, ptx.block, ptx.shared_bytes)
            for step, ptx in zip(steps, shapes)
        ),
    )


def _objects(
    executable: CudaExecutable, inputs: Sequence[Expected], steps: Sequence[KernelStep]
) -> dict[str, Any]:
    """The objects that the code refers to."""
    driver, buffers = executable.driver, executable.buffers
    objects: dict[str, Any] = {
        "own_type": own_type(driver),
        "memory_type": Allocation,
        "stream_variable": stream_variable,
        "default_stream": DEFAULT,
        "launched": driver.launched,
        "none": None,
        "maker_arena": driver.maker((executable.arena_bytes,), "bool"),
        **{f"name_{name}": name for name in ATTRIBUTES},
    }
    for position, expected in enumerate(inputs):
        objects[f"shape{position}"] = expected.shape
        objects[f"strides{position}"] = expected.strides
        objects[f"dtype{position}"] = numpy_dtype(expected.dtype)
        objects[f"address{position}"] = address_finder(driver, expected)
    for position, number in enumerate(executable.program.outputs):
        objects[f"maker{position}"] = driver.maker(buffers[number].shape, buffers[number].dtype)
    for position, step in enumerate(steps):
        objects[f"kernel{position}"] = step.kernel.function.description
    return objects


def address_finder(driver: Any, expected: Expected) -> Callable[[Any], int | None]:
    """A function that gives the address of any library's array, in order on the stream in use, or
    None where it is not what is expected."""
    argument, layout = driver.argument, expected[1:4]
    mask, bits = expected.mask, expected.bits

    def address_of(array: Any) -> int | None:
        try:
            found = argument(array)
        except Exception:  # whatever it is, the slow way says it in words
            return None
        address = found[0]
        return address if found[1:4] == layout and address & mask == bits else None

    return address_of
