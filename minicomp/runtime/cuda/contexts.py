"""The device's primary context, made current on whichever thread needs it.

In: the number of a device. Out: `PrimaryContext`, whose `enter()` is called before CUDA is. The
primary context is the one that torch, cupy and CUDA's runtime use, so memory, streams and events
are theirs and ours alike.

pycuda keeps a stack of contexts per thread, needs one on it to make anything, and aborts the
process if a thread ends with something on it: what is pushed here is popped as the thread ends,
and for the main thread at exit.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from ctypes import byref, c_void_p
from typing import Any

from minicomp.errors import CudaError
from minicomp.runtime.cuda.libcuda import CudaLibrary
from minicomp.runtime.lifetime import keep_forever

_was_forked = False


def _note_fork() -> None:
    global _was_forked
    _was_forked = True


class PrimaryContext:
    """The primary context of `device`, a pycuda Device."""

    def __init__(self, device: Any, library: CudaLibrary):
        self._library = library
        self._context = device.retain_primary_context()
        self._threads = threading.local()
        found = current_context(library)
        self._threads.pushed = _Pushed(self._context)
        self.handle = current_context(library)
        if found not in (None, self.handle):
            self._threads.pushed.pop()
            raise CudaError(
                "another CUDA context than the device's primary one is current, as "
                "pycuda.autoinit makes it; arrays of one are not readable in the other. "
                "Use pycuda.autoprimaryctx instead"
            )
        self._has_ended = False
        atexit.register(self._end)
        if hasattr(os, "register_at_fork"):
            # The child cannot pop anything any more, so there must be nothing on its stack.
            os.register_at_fork(
                before=self._leave, after_in_parent=self.enter, after_in_child=self._abandon
            )

    def enter(self) -> None:
        """Make the context current on this thread. CudaError in a forked child, and where arrays
        and modules go as the interpreter ends, after what is popped at exit."""
        check_not_forked()
        if self._has_ended:
            raise CudaError("the interpreter is shutting down: CUDA can no longer be used")
        if not hasattr(self._threads, "pushed"):
            self._threads.pushed = _Pushed(self._context)
        elif current_context(self._library) != self.handle:  # somebody has set another since
            self._library.cuCtxSetCurrent(self.handle)

    def _abandon(self) -> None:
        """In a forked child: CUDA is out of reach, also for what pycuda does as objects go."""
        _note_fork()
        keep_forever(self._context)

    def _end(self) -> None:
        self._has_ended = True
        self._leave()

    def _leave(self) -> None:
        pushed = self._threads.__dict__.pop("pushed", None)
        if pushed is not None:
            pushed.pop()


class _Pushed:
    """A context on pycuda's stack of this thread, until the thread's locals go."""

    def __init__(self, context: Any):
        self.context: Any = None  # what `pop` sees if pushing fails
        context.push()
        self.context = context

    def pop(self) -> None:
        context, self.context = self.context, None
        if context is not None:
            with contextlib.suppress(Exception):  # the device may be lost: nothing to be done
                context.pop()

    __del__ = pop


def check_not_forked() -> None:
    """CudaError where CUDA was started before this process was forked off: it does not work in
    the child."""
    if _was_forked:
        raise CudaError(
            "CUDA was in use when this process was forked off, and cannot be used in the child; "
            "start processes with multiprocessing's 'spawn', or fork before the first use of CUDA"
        )


def current_context(library: CudaLibrary) -> int | None:
    """The handle of the context that is current on this thread, if one is."""
    handle = c_void_p()
    library.cuCtxGetCurrent(byref(handle))
    return handle.value
