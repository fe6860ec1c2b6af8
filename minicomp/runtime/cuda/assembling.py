"""From PTX text to a cubin, by the assembler in CUDA's driver, and kept on disk.

In: a kernel and what identifies device and driver. Out: the cubin's bytes: machine code that
another process on such a device loads without assembling it again.

    cubin = assemble(kernel, library)
    keep_cubin(kernel, "NVIDIA H200, 9.0, driver 13000", cubin)

A cubin from the disk cache that cannot be loaded counts as a miss (see `pycuda_driver`).
"""

from __future__ import annotations

import ctypes
from ctypes import byref, c_int, c_size_t, c_void_p

from minicomp.codegen.ptx_kernel import PTXKernel
from minicomp.disk_cache import DiskCache
from minicomp.errors import CudaError
from minicomp.runtime.cuda.libcuda import CudaCallError, CudaLibrary

PTX_INPUT = 1  # CU_JIT_INPUT_PTX
# CUjit_option: where the assembler writes its errors, and how many bytes fit there.
ERROR_LOG_BUFFER, ERROR_LOG_BYTES = 5, 6
LOG_BYTES = 16 * 1024

_cache = DiskCache("cubin")


def cache_key(kernel: PTXKernel, identity: str) -> str:
    """What a cubin depends on."""
    return f"{identity}\n{kernel.text}"


def cached_cubin(kernel: PTXKernel, identity: str) -> bytes | None:
    """The cubin that this or another process has kept."""
    return _cache.get(cache_key(kernel, identity))


def keep_cubin(kernel: PTXKernel, identity: str, cubin: bytes) -> None:
    """Keep a cubin for this and other processes."""
    _cache.put(cache_key(kernel, identity), cubin)


def assemble(kernel: PTXKernel, library: CudaLibrary) -> bytes:
    """The kernel's cubin, for the device whose context is current. CudaError, with the assembler's
    words and the numbered lines that they are about, where the text is not right."""
    log = ctypes.create_string_buffer(LOG_BYTES)
    options = (c_int * 2)(ERROR_LOG_BUFFER, ERROR_LOG_BYTES)
    # An option's value is itself in the place of the pointer, if it is a number.
    values = (c_void_p * 2)(ctypes.addressof(log), LOG_BYTES)
    linker = c_void_p()
    library.cuLinkCreate_v2(2, options, values, byref(linker))
    try:
        text = kernel.text.encode() + b"\0"
        library.cuLinkAddData_v2(
            linker, PTX_INPUT, text, len(text), kernel.name.encode(), 0, None, None
        )
        image, size = c_void_p(), c_size_t()
        library.cuLinkComplete(linker, byref(image), byref(size))
        assert image.value is not None
        cubin = ctypes.string_at(image.value, size.value)
    except CudaCallError as error:
        raise CudaError(
            f"the PTX of kernel {kernel.name!r} cannot be assembled: {error.message}\n"
            f"{log.value.decode(errors='replace').strip()}"
        ) from error
    finally:
        library.cuLinkDestroy(linker)
    return cubin
