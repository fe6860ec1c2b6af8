"""DLPack capsules that nobody takes; what other libraries make of one is tested on a GPU."""

import ctypes
import gc
import weakref

import numpy as np

import minicomp
from minicomp.runtime.cuda import dlpack
from minicomp.runtime.cuda.interface import DeviceArgument


class Owner:
    pass


def test_a_capsule_that_nobody_takes_lets_the_array_go():
    minicomp.compile(lambda x: x + 1)(np.ones(3))  # the CPU's entry points use capsules too
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    before, prototype = len(dlpack._exported), get_pointer.argtypes
    try:
        # Whatever others say that Python's functions take is theirs to say.
        get_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
        owner = Owner()
        gone = weakref.ref(owner)
        argument = DeviceArgument(4096, (2, 3), (12, 4), "float32", False, None, False)
        capsule = dlpack.capsule(argument, owner, 0)
        del owner
        assert gone() is not None and len(dlpack._exported) == before + 1
        del capsule
        gc.collect()
        assert gone() is None and len(dlpack._exported) == before
    finally:
        get_pointer.argtypes = prototype
