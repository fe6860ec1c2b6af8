"""CUDA's driver library by ctypes: the calls that pycuda lacks, or makes slowly.

In: `libcuda().cuMemFree_v2(pointer)`. Out: nothing, or a CudaError with CUDA's own words for it.
The context of the device has to be current on the calling thread (see `contexts`).

pycuda holds the context and the arrays; it has no way to the linker's output (the cubin), and a
prepared launch of its costs 6 us of Python where the parameter blocks of `launching` cost 3.

The calls: https://docs.nvidia.com/cuda/cuda-driver-api/
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from ctypes import POINTER, c_char_p, c_float, c_int, c_size_t, c_ubyte, c_uint, c_void_p
from typing import Any

from minicomp.errors import CudaError

Address = c_size_t  # a CUdeviceptr is an integer
Handle = c_void_p

#: name -> argument types, as in cuda.h; all return a CUresult. Those that may take long let other
#: threads of Python run meanwhile.
WAITING: dict[str, tuple[Any, ...]] = {
    "cuCtxSynchronize": (),
    "cuStreamSynchronize": (Handle,),
    "cuEventSynchronize": (Handle,),
    "cuMemAlloc_v2": (POINTER(Address), c_size_t),
    "cuMemFree_v2": (Address,),
    "cuMemcpyHtoDAsync_v2": (Address, c_void_p, c_size_t, Handle),
    "cuMemcpyDtoHAsync_v2": (c_void_p, Address, c_size_t, Handle),
    "cuModuleLoadData": (POINTER(Handle), c_void_p),
    "cuModuleUnload": (Handle,),
    "cuLinkCreate_v2": (c_uint, POINTER(c_int), POINTER(c_void_p), POINTER(Handle)),
    "cuLinkAddData_v2": (Handle, c_int, c_char_p, c_size_t, c_char_p, c_uint, POINTER(c_int),
                         POINTER(c_void_p)),
    "cuLinkComplete": (Handle, POINTER(c_void_p), POINTER(c_size_t)),
    "cuLinkDestroy": (Handle,),
}  # fmt: skip
#: Those that only queue something, or look something up.
QUICK: dict[str, tuple[Any, ...]] = {
    "cuCtxGetCurrent": (POINTER(Handle),),
    "cuCtxSetCurrent": (Handle,),
    "cuCtxGetDevice": (POINTER(c_int),),
    "cuMemsetD8Async": (Address, c_ubyte, c_size_t, Handle),
    "cuMemGetInfo_v2": (POINTER(c_size_t), POINTER(c_size_t)),
    "cuPointerGetAttribute": (c_void_p, c_int, Address),
    "cuPointerGetAttributes": (c_uint, POINTER(c_int), POINTER(c_void_p), Address),
    "cuStreamWaitEvent": (Handle, Handle, c_uint),
    "cuEventCreate": (POINTER(Handle), c_uint),
    "cuEventRecord": (Handle, Handle),
    "cuEventElapsedTime": (POINTER(c_float), Handle, Handle),
    "cuEventDestroy_v2": (Handle,),
    "cuModuleGetFunction": (POINTER(Handle), Handle, c_char_p),
    "cuFuncGetAttribute": (POINTER(c_int), c_int, Handle),
    "cuFuncSetAttribute": (Handle, c_int, c_int),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
}

#: CUresult: errors that something can be done about.
OUT_OF_MEMORY = 2
NOT_INITIALIZED, DEINITIALIZED = 3, 4
INVALID_CONTEXT = 201
INVALID_HANDLE = 400
#: From here on (CUDA_ERROR_ILLEGAL_ADDRESS and its like) a kernel has failed while it ran: every
#: later call fails in the same way.
FIRST_STICKY, LAST_STICKY = 700, 719


class CudaCallError(CudaError):
    """A call of CUDA's that failed; `code` is its CUresult."""

    code: int = 0

    @property
    def is_sticky(self) -> bool:
        """Whether a kernel has failed, and with it the context."""
        return FIRST_STICKY <= self.code <= LAST_STICKY


class CudaLibrary:
    """The library: each call of the tables is a method that raises CudaCallError if it fails."""

    def __init__(self, name: str):
        try:
            # Under PyDLL a call keeps the interpreter's lock: letting go of it and waiting for
            # its return can take longer than these calls do.
            libraries = [(ctypes.CDLL(name), WAITING), (ctypes.PyDLL(name), QUICK)]
        except OSError as error:
            raise CudaError(
                f"no CUDA device: CUDA's driver library cannot be loaded ({error}); "
                f"install NVIDIA's driver"
            ) from error
        self._library = libraries[1][0]
        for library, signatures in libraries:
            for call, argument_types in signatures.items():
                function = getattr(library, call)
                function.argtypes, function.restype = argument_types, c_int
                setattr(self, call, self._checked(function, call))

    def __getattr__(self, name: str) -> Callable[..., None]:
        raise AttributeError(f"{name} is not in the tables of {__name__}")

    def _checked(self, function: Callable[..., int], name: str) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            code = function(*arguments)
            if code:
                raise self.error(code, name)

        return call

    def raw(self, name: str) -> Callable[..., int]:
        """A call without argument types or check, for who prepares its arguments as ctypes objects
        and looks at the code that it returns; the interpreter's lock is kept."""
        # A copy of the function object: the library's own is shared by all who ask for it.
        prototype = ctypes.PYFUNCTYPE(c_int)
        return prototype((name, self._library))

    def address(self, name: str) -> int:
        """Where a call is, for generated code."""
        return ctypes.cast(self._library[name], c_void_p).value or 0

    def error(self, code: int, what: str) -> CudaCallError:
        """CUDA's name and description of an error, as an exception."""
        error = CudaCallError(f"{what} failed: {self._text(code)}")
        error.code = code
        return error

    def _text(self, code: int) -> str:
        texts = []
        for call in ("cuGetErrorName", "cuGetErrorString"):
            text = c_char_p()
            # Not through the checked method, which would come back here.
            if getattr(self._library, call)(code, ctypes.byref(text)) == 0 and text.value:
                texts.append(text.value.decode(errors="replace"))
        return ": ".join(texts) or f"error {code}"


@functools.cache
def libcuda() -> CudaLibrary:
    """CUDA's driver library of this machine; CudaError where there is none."""
    return CudaLibrary("libcuda.so.1")
