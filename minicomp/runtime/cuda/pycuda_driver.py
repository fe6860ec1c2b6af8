"""The `Driver` of a real GPU: pycuda's context and arrays, CUDA's own library for the rest.

In: what `driver.Driver` says. Out: the same, on the first GPU that CUDA shows (which
CUDA_VISIBLE_DEVICES chooses), or on that of the context that is current at the first use.
"""

from __future__ import annotations

import contextlib
import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from ctypes import addressof, byref, c_int, c_size_t, c_void_p
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import pycuda.driver as cuda

from minicomp.codegen.ptx_kernel import PTXKernel
from minicomp.errors import CudaError
from minicomp.ir import Location, dtype_name, numpy_dtype
from minicomp.runtime.cuda.assembling import assemble, cached_cubin, keep_cubin
from minicomp.runtime.cuda.contexts import PrimaryContext, current_context
from minicomp.runtime.cuda.event_clock import EventClock
from minicomp.runtime.cuda.interface import DeviceArgument, read_interface
from minicomp.runtime.cuda.launching import (
    LOCAL_BYTES,
    MOST_DYNAMIC_SHARED_BYTES,
    ORDINARY_SHARED_BYTES,
    REGISTERS,
    STATIC_SHARED_BYTES,
    Launcher,
    LoadedFunction,
    late_error,
)
from minicomp.runtime.cuda.libcuda import OUT_OF_MEMORY, CudaCallError, CudaLibrary, libcuda
from minicomp.runtime.cuda.memory_pool import (
    Allocation,
    MemoryPool,
    OutOfDeviceMemory,
    memory_of,
)
from minicomp.runtime.cuda.pooled_driver import PooledDriver
from minicomp.runtime.cuda.pycuda_array import DeviceArray, Layout
from minicomp.runtime.cuda.streams import DEFAULT, current_stream

OLDEST = (8, 0)  # compute capability: what PTX is emitted for at least
EVENT_WITHOUT_TIME = 2  # CU_EVENT_DISABLE_TIMING
TYPE_OF_MEMORY = 2  # CU_POINTER_ATTRIBUTE_MEMORY_TYPE
DEVICE_OF_POINTER = 9  # CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
#: The pool holds at most this part of the device's memory for later.
CACHED_PART = 0.5


class PycudaDriver(PooledDriver):
    """See `driver.Driver`."""

    is_simulator = False

    def __init__(self) -> None:
        self._library = libcuda()
        device = _device(self._library)
        attribute = device.get_attribute
        names = cuda.device_attribute
        self.target = target_of(device.compute_capability(), device.name())
        self.multiprocessors: int = attribute(names.MULTIPROCESSOR_COUNT)
        self.l2_bytes: int = attribute(names.L2_CACHE_SIZE)
        self.shared_bytes: int = attribute(names.MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)
        major, minor = device.compute_capability()
        self.identity = f"{device.name()} ({major}.{minor}), CUDA driver {_driver_version()}"
        self._context = PrimaryContext(device, self._library)
        number = c_int()
        self._library.cuCtxGetDevice(byref(number))
        DeviceArray.device_number = number.value
        self._launcher = Launcher(self._library, self._context.enter)
        self.launch_address = self._library.address("cuLaunchKernel")
        self.launched = self._launcher.recent.append
        self._events: deque[c_void_p] = deque()  # nobody's at present
        self._is_one_of_several = cuda.Device.count() > 1
        limit = int(device.total_memory() * CACHED_PART)
        self._pool = MemoryPool(self._allocate, self._release, self._order, limit)
        self._modules: WeakValueDictionary[str, _Module] = WeakValueDictionary()
        # Kept per driver, as layouts hold on to its allocator.
        self._layout = functools.lru_cache(maxsize=1024)(self._new_layout)
        self._name_of = functools.lru_cache(maxsize=64)(dtype_name)

    # --- arrays ---

    def empty(self, shape: tuple[int, ...], dtype: str) -> DeviceArray:
        layout = self._layout(shape, dtype)
        if not layout.nbytes:
            return layout.array(0)
        return layout.array(self._pool.take(layout.nbytes, current_stream()))

    def maker(self, shape: tuple[int, ...], dtype: str) -> Callable[[int], DeviceArray]:
        layout, pool = self._layout(shape, dtype), self._pool
        if not layout.nbytes:
            return lambda stream: layout.array(0)
        new, nbytes, take = layout.array, layout.nbytes, pool.shelf(layout.nbytes, DEFAULT).take
        return lambda stream: new(pool.take(nbytes, stream) if stream else take(DEFAULT))

    def view(
        self,
        owner: Any,
        pointer: int,
        shape: tuple[int, ...],
        dtype: str,
        strides: tuple[int, ...],
    ) -> DeviceArray:
        return self._layout(shape, dtype, strides).array(pointer, base=owner)

    def _new_layout(
        self, shape: tuple[int, ...], dtype: str, strides: tuple[int, ...] | None = None
    ) -> Layout:
        self._context.enter()  # pycuda asks the context for its device
        return Layout(shape, numpy_dtype(dtype), self._allocator, strides)

    def _allocator(self, nbytes: int) -> Allocation:
        """What pycuda takes memory from for results of its own."""
        return self._pool.take(nbytes, current_stream())

    def argument(self, array: Any) -> DeviceArgument:
        return self._argument(array, current_stream(), set())

    def arguments(self, arrays: Iterable[Any]) -> list[DeviceArgument]:
        stream, awaited = current_stream(), set[int]()
        return [self._argument(array, stream, awaited) for array in arrays]

    def _argument(self, array: Any, stream: int, awaited: set[int]) -> DeviceArgument:
        """`argument`, for a stream that waits for those `awaited`, to which others are added."""
        if type(array) is DeviceArray:
            pointer = array.gpudata
            memory = pointer if type(pointer) is Allocation else memory_of(array)
            if memory is not None and memory.stream != stream:
                self._pool.hand_over(memory, stream, awaited)
            name = self._name_of(array.dtype)
            return DeviceArgument(pointer, array.shape, array.strides, name, False, None, False)
        argument = read_interface(array)
        if argument.is_simulated:
            raise CudaError(
                "the array is in the simulator's memory and the GPU is in use; make it with "
                "minicomp.cuda.to_device while the GPU is in use"
            )
        if self._is_one_of_several:
            self._check_place(array, argument.pointer)
        memory = memory_of(array)  # pycuda's views of our arrays say nothing of a stream
        if memory is not None:
            self._pool.hand_over(memory, stream, awaited)
        elif argument.stream is not None and argument.stream not in (stream, *awaited):
            self._order(stream, argument.stream)
            awaited.add(argument.stream)
        return argument

    def _check_place(self, array: Any, pointer: int) -> None:
        """CudaError for memory of another GPU, which kernels could not read."""
        number = c_int()
        try:
            self._library.cuPointerGetAttribute(byref(number), DEVICE_OF_POINTER, pointer)
        except CudaCallError:  # no memory of CUDA's, or none at all: an empty array
            return
        if number.value != DeviceArray.device_number:
            raise CudaError(
                f"a {type(array).__name__} is on GPU {number.value}, and minicomp uses GPU "
                f"{DeviceArray.device_number}, the first that it sees; copy the array there, or "
                f"start with CUDA_VISIBLE_DEVICES={number.value} in the environment"
            )

    # --- memory ---

    def _allocate(self, nbytes: int) -> int:
        self._context.enter()
        address = c_size_t()
        try:
            self._library.cuMemAlloc_v2(byref(address), nbytes)
        except CudaCallError as error:
            if error.code == OUT_OF_MEMORY:
                raise OutOfDeviceMemory(error.message) from error
            raise self._named(error) from error
        return address.value

    def _release(self, addresses: list[int]) -> None:
        with contextlib.suppress(CudaError):  # at exit, in a forked child, or the device is lost
            self._context.enter()
            self._library.cuCtxSynchronize()
            for address in addresses:
                self._library.cuMemFree_v2(address)

    def _order(self, stream: int, other: int) -> None:
        """What is queued on `stream` from now on waits for what is queued on `other` now."""
        self._context.enter()
        try:
            event = self._idle_event()
            self._library.cuEventRecord(event, other)
            # CUDA looks at the record as it is now: the event may serve another one after this.
            self._library.cuStreamWaitEvent(stream, event, 0)
        except CudaCallError as error:
            raise self._named(error) from error
        self._events.append(event)

    def _idle_event(self) -> c_void_p:
        try:
            return self._events.pop()  # which no other thread gets meanwhile
        except IndexError:
            event = c_void_p()
        self._library.cuEventCreate(byref(event), EVENT_WITHOUT_TIME)
        return event

    def _read(self, address: int, nbytes: int) -> np.ndarray:
        memory, stream = np.empty(nbytes, np.uint8), current_stream()
        with self._failures_named():
            self._library.cuMemcpyDtoHAsync_v2(memory.ctypes.data, address, nbytes, stream)
            self._library.cuStreamSynchronize(stream)
        return memory

    def _write(self, address: int, values: np.ndarray) -> None:
        source, stream = values.ctypes.data, current_stream()
        with self._failures_named():
            self._library.cuMemcpyHtoDAsync_v2(address, source, values.nbytes, stream)
            # Of memory that is not pinned, CUDA has read all when the copy's call returns.
            if self._is_pinned(source):
                self._library.cuStreamSynchronize(stream)

    def _is_pinned(self, address: int) -> bool:
        """Whether CUDA knows the host's memory there, and so reads it when it comes to it."""
        kind = c_int()  # stays 0 for memory that CUDA does not know, which is no error here
        place = c_void_p(addressof(kind))
        self._library.cuPointerGetAttributes(1, byref(c_int(TYPE_OF_MEMORY)), byref(place), address)
        return kind.value != 0

    # --- kernels ---

    def load(
        self, kernel: PTXKernel, location: Location | None = None, use_disk_cache: bool = True
    ) -> LoadedFunction:
        self._context.enter()
        module = self._modules.get(kernel.text)
        try:
            if module is None:
                module = self._modules[kernel.text] = self._new_module(kernel, use_disk_cache)
            handle = module.function(kernel.name)
            self._allow_shared(handle, kernel.shared_bytes)
        except CudaCallError as error:
            text = "" if error.is_sticky else f" (it asks for {kernel.shared_bytes} bytes of " \
                f"shared memory; the GPU has {self.shared_bytes} a block)"  # fmt: skip
            named = self._named(error)
            raise CudaError(f"{named.message}{text}", what=f"kernel {kernel.name}",
                            location=location) from error  # fmt: skip
        except CudaError as error:
            raise error.placed(f"kernel {kernel.name}", location) from error.__cause__
        return LoadedFunction(kernel, location, handle, module, self._launcher)

    def _new_module(self, kernel: PTXKernel, use_disk_cache: bool) -> _Module:
        cubin = cached_cubin(kernel, self.identity) if use_disk_cache else None
        if cubin is not None:
            try:
                return _Module(cubin, self._library)
            except CudaCallError as error:
                if error.is_sticky:
                    raise
                # Of another device or driver in spite of its key: as good as none.
        cubin = assemble(kernel, self._library)
        if use_disk_cache:
            keep_cubin(kernel, self.identity, cubin)
        return _Module(cubin, self._library)

    def _allow_shared(self, handle: int, shared_bytes: int) -> None:
        """Beyond 48 KiB, shared memory has to be asked for."""
        static = self._attribute(handle, STATIC_SHARED_BYTES)
        allowed = self._attribute(handle, MOST_DYNAMIC_SHARED_BYTES)
        if shared_bytes > max(allowed, ORDINARY_SHARED_BYTES - static):
            self._library.cuFuncSetAttribute(handle, MOST_DYNAMIC_SHARED_BYTES, shared_bytes)

    def _attribute(self, handle: int, attribute: int) -> int:
        value = c_int()
        self._library.cuFuncGetAttribute(byref(value), attribute, handle)
        return value.value

    def registers(self, function: LoadedFunction) -> tuple[int, int]:
        """Registers of a thread, and the bytes per thread that did not fit into them."""
        return (
            self._attribute(function.handle, REGISTERS),
            self._attribute(function.handle, LOCAL_BYTES),
        )

    def launch(self, function: LoadedFunction, pointers: Sequence[int], stream: int) -> None:
        function.launch(pointers, stream)

    # --- streams and time ---

    def synchronize(self) -> None:
        with self._failures_named():
            self._library.cuCtxSynchronize()

    def clock(self) -> EventClock:
        self._context.enter()
        return EventClock(self._library, self.l2_bytes, self._pool.take)

    def enter(self) -> None:
        """Make the device's context current on this thread, for libraries that expect it."""
        self._context.enter()

    # --- errors ---

    @contextlib.contextmanager
    def _failures_named(self) -> Iterator[None]:
        """Around calls of CUDA's: the context is current, and a kernel's failure that one of
        them finds out is said to be that."""
        self._context.enter()
        try:
            yield
        except CudaCallError as error:
            raise self._named(error) from error

    def _named(self, error: CudaCallError) -> CudaError:
        return late_error(error, self._launcher.recent) if error.is_sticky else error


class _Module:
    """A cubin on the device, until nothing refers to it."""

    def __init__(self, cubin: bytes, library: CudaLibrary):
        self._library = library
        self._handle = c_void_p()
        library.cuModuleLoadData(byref(self._handle), cubin)

    def function(self, name: str) -> int:
        handle = c_void_p()
        self._library.cuModuleGetFunction(byref(handle), self._handle, name.encode())
        assert handle.value is not None
        return handle.value

    # At exit the context may be gone before, and so may this module's names: hence the defaults.
    def __del__(self, suppress: Any = contextlib.suppress, errors: Any = CudaError) -> None:
        if self._handle:
            with suppress(errors):
                self._library.cuModuleUnload(self._handle)


def _device(library: CudaLibrary) -> Any:
    """The GPU to use; CudaError where CUDA finds none."""
    try:
        cuda.init()
        if current_context(library) is not None:  # torch's, say
            return cuda.Context.get_device()
        return cuda.Device(0)
    except cuda.Error as error:
        from minicomp.runtime.cuda.driver import ADVICE

        raise CudaError(f"no CUDA device: {error}; {ADVICE}") from error


def _driver_version() -> str:
    """`13.0`: the newest CUDA that the driver knows, which also names its assembler."""
    version = cuda.get_driver_version()
    return f"{version // 1000}.{version % 1000 // 10}"


def target_of(capability: tuple[int, int], name: str) -> str:
    """What PTX may be emitted for. `sm_90a` has instructions that no later GPU has."""
    if capability < OLDEST:
        raise CudaError(
            f"no CUDA device: {name} has compute capability {capability[0]}.{capability[1]}; "
            f"wanted {OLDEST[0]}.{OLDEST[1]} or later"
        )
    if capability == (9, 0):
        return "sm_90a"
    return "sm_90" if capability > (9, 0) else f"sm_{capability[0]}{capability[1]}"
