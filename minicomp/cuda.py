"""CUDA: the names that modules and users need, and for now the error that says what is missing.

Code generation for CUDA is not there yet: `is_available()` is False everywhere, and moving
anything to the GPU raises CudaError.
"""

from __future__ import annotations

from typing import Any, NoReturn

from minicomp.errors import CudaError


def is_available() -> bool:
    """Whether compiled modules can run on a CUDA device here."""
    return False


def to_device(array: Any) -> NoReturn:
    """Copy an array to the GPU. Raises CudaError: there is no code generation for it yet."""
    raise CudaError(
        "this version of minicomp generates code for the CPU only; "
        "leave modules and arrays on the CPU"
    )


def to_host(array: Any) -> NoReturn:
    """Copy a GPU array to the host. Raises CudaError: there is no code generation for it yet."""
    to_device(array)
