"""The short way into an executable on CUDA: what is the same in each call is found out before.

In: a `CudaExecutable`, and the arrays that parameters hold in some epoch. Out: a function that
takes device arrays and returns new ones, or None where the call has to go the long way: another
number of arguments, another layout, no device array at all, or the epoch has moved on.

What is left to do per call is to look at the arguments and to queue the kernels. Parameters'
addresses are found out once, which holds while the epoch does; but where an array was written on
another stream than the one in use, the latter must wait for it, at each call. For programs of
kernels alone that is generated code (see `native_entry`), for others the function in Python here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from minicomp.ir import ITEMSIZE
from minicomp.runtime import epoch
from minicomp.runtime.cuda.executable import WIDEST_ACCESS, CudaExecutable, own_type
from minicomp.runtime.cuda.interface import LEGACY_DEFAULT_STREAM
from minicomp.runtime.cuda.memory_pool import memory_of
from minicomp.runtime.cuda.native_entry import (
    Expected,
    NativeEntry,
    Parameters,
    has_native_entry,
)
from minicomp.runtime.cuda.streams import DEFAULT


class CudaEntry:
    """See the module's docstring."""

    def __init__(self, executable: CudaExecutable):
        self.executable = executable
        self._own_type = own_type(executable.driver)
        roles: dict[str, list[int]] = {}
        for number, buffer in enumerate(executable.buffers):
            roles.setdefault(buffer.role, []).append(number)
        self._parameters = roles.get("parameter", [])
        inputs = sorted(roles.get("input", []), key=lambda n: executable.buffers[n].position)
        self._inputs = [self._expected(number) for number in inputs]
        self._native = None
        if has_native_entry(executable):
            held = [*self._parameters, *executable.constants]
            self._native = NativeEntry(executable, self._inputs, held)

    def _expected(self, number: int) -> Expected:
        buffer = self.executable.buffers[number]
        places = self.executable.program.placements.values()
        place = next(place for place in places if place.buffer == number)
        itemsize = ITEMSIZE[buffer.dtype]
        strides = tuple(stride * itemsize for stride in place.strides)
        # Code for the most that is ever known of an address needs no more than that; other code
        # is for this alignment exactly, so that a better aligned array gets the better code.
        mask, bits = 2 * place.alignment - 1, place.alignment
        if place.alignment == WIDEST_ACCESS:
            mask, bits = WIDEST_ACCESS - 1, 0
        return Expected(number, buffer.shape, strides, buffer.dtype, mask, bits)

    def fast_call(
        self, args: Sequence[Any], parameters: Sequence[Any], at_epoch: int
    ) -> Callable[..., Any] | None:
        """See `backend.Entry`."""
        if len(args) != len(self._inputs):
            return None
        held = [*zip(self._parameters, parameters, strict=True), *self.executable.constants.items()]
        arrays = [array for _, array in held]
        arguments = self.executable.driver.arguments
        addresses = [int(argument.pointer) for argument in arguments(arrays)]
        elsewhere = [item for item in held if not is_in_order(item[1], self._own_type)]
        call = self._in_python(held, addresses, elsewhere, at_epoch)
        if self._native is None:
            return call

        def order(*inputs: Any) -> object:
            return arguments((*inputs, *arrays))

        return self._native.armed(
            Parameters(arrays, addresses, order, bool(elsewhere)), at_epoch, call
        )

    def release(self) -> None:
        """See `backend.Entry`. Nothing is kept here: all entry points share the driver's pool."""

    def _in_python(
        self,
        held: Sequence[tuple[int, Any]],
        addresses: Sequence[int],
        elsewhere: Sequence[tuple[int, Any]],
        at_epoch: int,
    ) -> Callable[..., Any]:
        """The function in Python. `held` are buffers with their arrays, at these addresses;
        those `elsewhere` the default stream must wait for."""
        driver, run = self.executable.driver, self.executable.run
        arguments, current_stream = driver.arguments, driver.current_stream
        current_epoch = epoch.current
        table = [0] * len(self.executable.buffers)
        for (number, _), address in zip(held, addresses):
            table[number] = address
        wanted = [(x.buffer, x[1:4], x.mask, x.bits) for x in self._inputs]
        count = len(wanted)
        is_single = len(self.executable.program.outputs) == 1

        def call(*arrays: Any) -> Any:
            if current_epoch() != at_epoch or len(arrays) != count:
                return None
            full, stream = table.copy(), current_stream()
            in_question = held if stream else elsewhere
            try:
                found = arguments((*arrays, *(array for _, array in in_question)))
            except Exception:  # whatever it is, the long way says it in words
                return None
            for (number, layout, mask, bits), argument in zip(wanted, found):
                address = argument[0]
                if argument[1:4] != layout or address & mask != bits:
                    return None
                full[number] = address
            outputs = run(full, (arrays, held), stream)
            return outputs[0] if is_single else tuple(outputs)

        return call


def is_in_order(array: Any, own: type) -> bool:
    """Whether what is queued on the default stream finds an array as it was last written. One of
    another library may be written on another stream each time."""
    memory = memory_of(array)
    if memory is not None:
        return memory.stream == DEFAULT
    stream = array.__cuda_array_interface__.get("stream")
    return stream is None or (stream == LEGACY_DEFAULT_STREAM and type(array) is own)
