"""A class whose instances are called by native code (see `codegen.llvm_dispatch`).

In: a class with `_fast_calls`, a tuple of callables, and a method that does the whole work in
Python. Out: the class with a `__call__` of its own that tries the tuple first.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any

from minicomp.codegen import generators
from minicomp.codegen.generated import Generated
from minicomp.runtime.entry import METH_FASTCALL, MethodDefinition, is_supported, python_address
from minicomp.runtime.jit import compile_ir
from minicomp.runtime.lifetime import keep_forever
from minicomp.tracing.record import RECORDER

METH_KEYWORDS = 0x02
PYTHON_FUNCTIONS = (
    *("Py_DecRef", "PyContextVar_Get", "PyObject_GenericGetAttr", "PyObject_Vectorcall"),
)


def native_call(call_in_python: Callable[..., Any], use_disk_cache: bool = True) -> Any:
    """What to assign to a class's `__call__`; `call_in_python` itself where Python's objects are
    not laid out as the generated code expects."""
    if not is_supported():
        return call_in_python
    name = sys.intern("_fast_calls")
    objects = {
        "call_in_python": call_in_python,
        "fast_calls": name,
        "recorder": RECORDER,
        "none": None,
    }
    library = compile_ir(
        Generated(generators.dispatch),
        ["dispatch"],
        imports={
            **{name: python_address(name) for name in PYTHON_FUNCTIONS},
            **{name: id(thing) for name, thing in objects.items()},
        },
        use_disk_cache=use_disk_cache,
    )
    flags = METH_FASTCALL | METH_KEYWORDS
    definition = MethodDefinition(b"__call__", library.address("dispatch"), flags, None)
    keep_forever((library, definition, objects))  # as long as the class, which is for ever
    new = ctypes.PYFUNCTYPE(
        ctypes.py_object, ctypes.POINTER(MethodDefinition), ctypes.c_void_p, ctypes.c_void_p
    )(("PyCFunction_NewEx", ctypes.pythonapi))
    bind = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(
        ("PyInstanceMethod_New", ctypes.pythonapi)
    )
    return bind(new(ctypes.byref(definition), None, None))
