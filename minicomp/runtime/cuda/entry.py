"""The short way into an executable on CUDA: a closure over all that is the same in each call.

In: a `CudaExecutable`, and the arrays that parameters hold in some epoch. Out: a function that
takes device arrays and returns new ones, or None where the call has to go the long way: another
number of arguments, another layout, no device array at all, or the epoch has moved on.

What is left to do per call is to look at the arguments and to queue the kernels. Parameters'
addresses are found out once, which holds while the epoch does; but where an array was written on
another stream than the one in use, the latter must wait for it, at each call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from minicomp.ir import ITEMSIZE
from minicomp.runtime import epoch
from minicomp.runtime.cuda.executable import WIDEST_ACCESS, CudaExecutable, own_type
from minicomp.runtime.cuda.interface import LEGACY_DEFAULT_STREAM
from minicomp.runtime.cuda.memory_pool import memory_of
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
        self._inputs = [(number, *self._expected(number)) for number in inputs]

    def _expected(self, number: int) -> tuple[tuple[Any, ...], int, int]:
        """What an input must be: (shape, strides, dtype) as a `DeviceArgument` has them, and
        bits of its address: `address & mask == bits`."""
        buffer = self.executable.buffers[number]
        places = self.executable.program.placements.values()
        place = next(place for place in places if place.buffer == number)
        itemsize = ITEMSIZE[buffer.dtype]
        strides = tuple(stride * itemsize for stride in place.strides)
        # Code for the most that is ever known of an address needs no more than that; other code
        # is for this alignment exactly, so that a better aligned array gets the better code.
        layout, alignment = (buffer.shape, strides, buffer.dtype), place.alignment
        if alignment == WIDEST_ACCESS:
            return layout, alignment - 1, 0
        return layout, 2 * alignment - 1, alignment

    def fast_call(
        self, args: Sequence[Any], parameters: Sequence[Any], at_epoch: int
    ) -> Callable[..., Any] | None:
        """See `backend.Entry`."""
        if len(args) != len(self._inputs):
            return None
        driver, run = self.executable.driver, self.executable.run
        argument, current_stream = driver.argument, driver.current_stream
        current_epoch = epoch.current
        held = [*zip(self._parameters, parameters, strict=True), *self.executable.constants.items()]
        table = [0] * len(self.executable.buffers)
        for number, array in held:
            table[number] = argument(array).pointer
        elsewhere = [item for item in held if not is_in_order(item[1], self._own_type)]
        inputs, count = self._inputs, len(args)
        is_single = len(self.executable.program.outputs) == 1

        def call(*arrays: Any) -> Any:
            if current_epoch() != at_epoch or len(arrays) != count:
                return None
            addresses, stream = table.copy(), current_stream()
            try:
                for (number, layout, mask, bits), array in zip(inputs, arrays):
                    found = argument(array)
                    address = found[0]
                    if found[1:4] != layout or address & mask != bits:
                        return None
                    addresses[number] = address
                for number, array in held if stream else elsewhere:
                    addresses[number] = argument(array)[0]
            except Exception:  # whatever it is, the long way says it in words
                return None
            outputs = run(addresses, (arrays, held), stream)
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
