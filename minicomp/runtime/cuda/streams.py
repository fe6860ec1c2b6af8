"""The stream in use: the queue on the device that kernels and copies go to.

In: `with use_stream(stream):`, a stream of pycuda, torch, cupy or numba, or a handle. Out:
`current_stream()` gives its handle, in this thread and within the block; outside, 0, the default
stream, which torch and cupy use as well, so that everything is in order without a word.

A library ends a stream when its object goes, and CUDA crashes when it is asked to wait for one
that has ended. So a handle keeps the object, and memory keeps the handles of the streams that it
has been used on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from minicomp.errors import InputError

DEFAULT = 0
_LEGACY = 1  # another name of the default stream: CU_STREAM_LEGACY


class StreamHandle(int):
    """A CUstream, and the object that keeps it."""

    owner: Any


# A context variable: another thread, or another asyncio task, starts with the default stream.
stream_variable: ContextVar[int] = ContextVar("minicomp stream", default=DEFAULT)

#: The handle of the stream in use. A builtin, as each call of a compiled module asks for it.
current_stream = stream_variable.get


@contextmanager
def use_stream(stream: Any) -> Iterator[int]:
    """Within the block, `stream` is in use; its handle is what `as` gives."""
    handle = stream_handle(stream)
    token = stream_variable.set(handle)
    try:
        yield handle
    finally:
        stream_variable.reset(token)


def stream_handle(stream: Any) -> int:
    """The CUstream handle of a stream of any library; InputError for anything else.

    A handle given as an int has no owner: its stream has to outlive the arrays made on it.
    """
    if stream is None:
        return DEFAULT
    if isinstance(stream, int) and not isinstance(stream, bool):
        handle = stream
    elif hasattr(stream, "__cuda_stream__"):  # the protocol that cuda.core, cupy and torch share
        protocol = stream.__cuda_stream__
        handle = (protocol() if callable(protocol) else protocol)[1]
    else:
        for name in ("cuda_stream", "handle", "ptr"):  # torch; pycuda and numba; older cupy
            if hasattr(stream, name):
                handle = getattr(stream, name)
                break
        else:
            raise InputError(
                f"a {type(stream).__name__} is no stream; wanted one of pycuda, torch or cupy, "
                "or its handle as an int"
            )
    number = getattr(handle, "value", handle) or DEFAULT
    if not isinstance(number, int) or not 0 <= number < 1 << 64:
        raise InputError(f"{number!r} is no handle of a stream; wanted an unsigned int of 64 bits")
    if number in (DEFAULT, _LEGACY):
        return DEFAULT
    owned = StreamHandle(number)
    owned.owner = stream
    return owned
