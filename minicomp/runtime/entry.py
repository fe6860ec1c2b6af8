"""Native entry points: Python callables whose code is generated (see `codegen.llvm_entry`).

In: a `CpuExecutable` whose steps are all kernels, and its arrays. Out: an `Entry`: a builtin
function that takes arrays and returns new ones, or None where the call has to go the way through
Python. `arm` says which arrays parameters hold at present, and in which epoch that was found out.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from minicomp.codegen import generators
from minicomp.codegen.generated import Generated
from minicomp.codegen.native_plan import ARENA, BUSY, EPOCH, ArrayKind, EntryPlan
from minicomp.ir import ITEMSIZE
from minicomp.kernels.program import Buffer
from minicomp.runtime import epoch
from minicomp.runtime.cpu import CpuExecutable, NativeSegment, address_of
from minicomp.runtime.forking import watch_forks
from minicomp.runtime.jit import compile_ir

#: Seconds of work from which the interpreter lock is worth releasing: it costs about 50 ns, and
#: taking it back may mean waiting for another thread to give it up.
WORTH_RELEASING = 10e-6

METH_FASTCALL = 0x80
PYTHON_FUNCTIONS = (
    *("Py_IncRef", "Py_DecRef", "PyEval_SaveThread", "PyEval_RestoreThread"),
    *("PyTuple_New", "PyTuple_SetItem"),
)
#: Places in NumPy's table of C functions (numpy/_core/code_generators/numpy_api.py)
NUMPY_FUNCTIONS = {
    "PyArray_NewFromDescr": 94,
    "PyArray_Empty": 184,
    "PyArray_SetBaseObject": 282,
}


class MethodDefinition(ctypes.Structure):
    """CPython's `PyMethodDef`."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


def is_supported() -> bool:
    """Whether objects are laid out as the generated code expects: CPython with its lock, 64 bits,
    little-endian."""
    return (
        sys.implementation.name == "cpython"
        and sys.maxsize > 2**32
        and sys.byteorder == "little"
        and getattr(sys, "_is_gil_enabled", lambda: True)()
        and not hasattr(sys, "gettotalrefcount")  # a debug build puts more into each object
    )


class Entry:
    """The native entry point of an executable, and the memory that its code refers to."""

    def __init__(self, executable: CpuExecutable):
        (main,) = executable.segments
        assert isinstance(main, NativeSegment)
        self.plan = _plan(executable, main.seconds)
        self._executable = executable  # its constants are read, also by calls that outlive it
        self._arming = threading.Lock()
        self.context = (ctypes.c_int64 * self.plan.slots)()
        self.context[EPOCH] = -1
        self._arena, self.context[ARENA] = executable.new_arena()
        for position, number in enumerate(self.plan.constants):
            array = executable.buffers[number].array
            assert array is not None
            self.context[self.plan.constant_slot(position)] = address_of(array)
        self._library = compile_ir(
            Generated(generators.entry, self.plan),
            ["entry"],
            imports={**self._imports(), "main": main.library.address("main")},
            needs=[main.library],
            use_disk_cache=main.use_disk_cache,
        )
        self._definition = MethodDefinition(
            b"entry", self._library.address("entry"), METH_FASTCALL, None
        )
        self._held: list[np.ndarray] = []
        self._kept = range(self.plan.first_kept, self.plan.slots)
        weakref.finalize(self, _release, self.context, self._kept).atexit = False
        watch_forks(self)

    def fast_call(
        self, args: Sequence[Any], parameters: Sequence[Any], at_epoch: int
    ) -> Callable[..., Any] | None:
        """The native function, armed; None where arguments are nested or static, or parameters
        had to be copied."""
        if [*map(type, args)] != [np.ndarray] * len(self.plan.inputs):
            return None
        if any(type(array) is not np.ndarray for array in parameters):
            return None
        self.arm(parameters, at_epoch)
        return self.function()

    def function(self) -> Callable[..., Any]:
        """A builtin function of arrays that gives the output, or a tuple of outputs, or None for
        "go through Python"; so does every call before `arm`. It keeps this object alive."""
        return new_function()(ctypes.byref(self._definition), self, None)

    def arm(self, parameters: Sequence[np.ndarray], at_epoch: int) -> None:
        """Let calls through as long as the epoch is `at_epoch`, read before `parameters` were."""
        with self._arming:  # one thread's addresses with another's arrays held would dangle
            self.context[EPOCH] = -1  # nobody gets in while the addresses change
            for position, array in enumerate(parameters):
                self.context[self.plan.parameter_slot(position)] = id(array)
            self._held = list(parameters)
            self.context[EPOCH] = at_epoch

    def release(self) -> None:
        """Let go of the memory that is kept for outputs; calls go through Python until `arm`."""
        with self._arming:
            self.context[EPOCH] = -1  # who is in a call has what it needs, and nobody else gets in
            kept = _taken(self.context, self._kept)
        _drop(kept)

    def after_fork(self) -> None:
        """In the child: nobody is in a call, or arming it, whoever was when the parent forked."""
        self._arming = threading.Lock()
        self.context[BUSY] = 0

    def _imports(self) -> dict[str, int]:
        dtypes = {kind.dtype for _, kind in (*self.plan.inputs, *self.plan.parameters)}
        dtypes |= {"uint8", *(kind.dtype for _, kind in self.plan.outputs)}
        return {
            **_python_symbols(),
            **{f"dtype_{dtype}": id(np.dtype(dtype)) for dtype in dtypes},
            "context": ctypes.addressof(self.context),
        }


def _release(context: Any, slots: Iterable[int]) -> None:
    """Let go of the memory that is kept for outputs."""
    _drop(_taken(context, slots))


def _taken(context: Any, slots: Iterable[int]) -> list[int]:
    """The arrays in some slots, which are empty then; nobody may be looking for one meanwhile."""
    taken = [context[slot] for slot in slots if context[slot]]
    for slot in slots:
        context[slot] = 0
    return taken


def _drop(arrays: Iterable[int]) -> None:
    for array in arrays:
        ctypes.pythonapi.Py_DecRef(ctypes.c_void_p(array))


def _plan(executable: CpuExecutable, seconds: float) -> EntryPlan:
    buffers, program = executable.buffers, executable.program
    roles: dict[str, list[int]] = {}
    for number, buffer in enumerate(buffers):
        roles.setdefault(buffer.role, []).append(number)
    strides = {place.buffer: place.strides for place in program.placements.values()}

    def kinds(role: str) -> tuple[tuple[int, ArrayKind], ...]:
        return tuple((n, _kind(buffers[n], strides[n])) for n in roles.get(role, ()))

    inputs = sorted(kinds("input"), key=lambda pair: buffers[pair[0]].position)
    return EntryPlan(
        buffers=len(buffers),
        inputs=tuple(inputs),
        parameters=kinds("parameter"),
        constants=tuple(roles.get("constant", ())),
        arena=tuple(executable.arena_offsets),
        status=tuple(roles.get("status", ())),
        outputs=tuple((n, _kind(buffers[n], ())) for n in program.outputs),
        threads=executable.threads,
        releases_lock=seconds > WORTH_RELEASING,
    )


def _kind(buffer: Buffer, strides: Sequence[int]) -> ArrayKind:
    itemsize = ITEMSIZE[buffer.dtype]
    return ArrayKind(buffer.dtype, buffer.shape, tuple(stride * itemsize for stride in strides))


def is_native(executable: CpuExecutable) -> bool:
    """Whether an executable is one native function: it has kernels, and no external between."""
    return is_supported() and [type(part) for part in executable.segments] == [NativeSegment]


def python_address(name: str) -> int:
    """Where a function of Python's C API is."""
    return ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value or 0


@lru_cache
def _python_symbols() -> dict[str, int]:
    """Addresses of what the generated code uses of Python and NumPy."""
    addresses = {name: python_address(name) for name in PYTHON_FUNCTIONS}
    addresses |= {name: _numpy_function(place) for name, place in NUMPY_FUNCTIONS.items()}
    addresses["ndarray_type"], addresses["none"] = id(np.ndarray), id(None)
    addresses["epoch"] = epoch.address()
    return addresses


def _numpy_function(position: int) -> int:
    """An entry of NumPy's C API, which is a table of pointers in a capsule."""
    from numpy._core import _multiarray_umath  # type: ignore[attr-defined]

    # A prototype of our own: those of ctypes.pythonapi's attributes are everybody's.
    get_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi)
    )
    table = get_pointer(_multiarray_umath._ARRAY_API, None)
    return ctypes.cast(table, ctypes.POINTER(ctypes.c_void_p))[position] or 0


@lru_cache
def new_function() -> Callable[..., Any]:
    """`PyCFunction_NewEx(definition, self, module)`: a builtin function."""
    prototype = ctypes.PYFUNCTYPE(
        ctypes.py_object, ctypes.POINTER(MethodDefinition), ctypes.py_object, ctypes.c_void_p
    )
    return prototype(("PyCFunction_NewEx", ctypes.pythonapi))
