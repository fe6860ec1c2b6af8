"""Launching, with a stand-in for CUDA's library that notes what it is called with."""

import ctypes
import gc
import weakref

import pytest

from minicomp.codegen.ptx_kernel import PTXKernel
from minicomp.errors import CudaError
from minicomp.ir import Location
from minicomp.runtime.cuda.launching import Launcher, LoadedFunction
from minicomp.runtime.cuda.libcuda import INVALID_CONTEXT, CudaCallError

KERNEL = PTXKernel("", "add", grid=(7, 2, 1), block=(64, 2, 1), shared_bytes=96)


class Library:
    """Answers launches with `codes`, one after the other, then with success."""

    def __init__(self, *codes):
        self.codes, self.calls, self.entered = [*codes], [], 0

    def raw(self, name):
        assert name == "cuLaunchKernel"
        return self.launch

    def launch(self, function, *rest):
        *numbers, stream, addresses, extra = rest
        assert extra.value is None
        pointers = [ctypes.c_uint64.from_address(address).value for address in addresses if address]
        numbers = tuple(number.value for number in numbers)
        self.calls.append((function.value, numbers, stream.value, pointers))
        return self.codes.pop(0) if self.codes else 0

    def enter(self):
        self.entered += 1

    def error(self, code, what):
        error = CudaCallError(f"{what} failed: CODE_{code}")
        error.code = code
        return error

    def function(self, kernel=KERNEL):
        launcher = Launcher(self, self.enter)
        return LoadedFunction(kernel, Location("model.py", 12), 0x99, None, launcher)


def test_a_launch_passes_grid_block_shared_memory_stream_and_pointers():
    library = Library()
    function = library.function()
    function.launch([0x1000, 0x7FFF_0000_1234, 3], 0x55)
    function.launch([1, 2, 3], 0)
    numbers = (7, 2, 1, 64, 2, 1, 96)
    assert library.calls == [
        (0x99, numbers, 0x55, [0x1000, 0x7FFF_0000_1234, 3]),
        (0x99, numbers, None, [1, 2, 3]),
    ]


def test_an_empty_grid_calls_nothing():
    library = Library()
    library.function(PTXKernel("", "add", (0, 1, 1), (64, 1, 1))).launch([1], 0)
    assert library.calls == []


def test_blocks_of_parameters_are_used_again():
    library = Library()
    function = library.function()
    for _ in range(3):
        function.launch([1, 2], 0)
    gc.collect()
    assert len(function._blocks) == 1


def test_a_thread_without_the_context_enters_it_and_launches_again():
    library = Library(INVALID_CONTEXT)
    library.function().launch([5], 0)
    assert (library.entered, len(library.calls)) == (1, 2)


def test_no_function_outlives_its_user_for_having_been_launched():
    """As one goes, CUDA waits for all that is queued: no later launch should be what it goes in."""
    function = Library().function()
    launcher = function._launcher
    function.launch([5], 0)
    gone = weakref.ref(function)
    del function
    gc.collect()
    assert gone() is None
    assert [*launcher.recent] == ["kernel add at model.py:12"]


def test_a_refused_launch_names_kernel_line_and_shape():
    library = Library(1)
    with pytest.raises(CudaError, match=r"kernel add at model.py:12: the launch failed: CODE_1 "
                       r"\(grid \(7, 2, 1\), block \(64, 2, 1\), 96 bytes"):  # fmt: skip
        library.function().launch([5], 0)
    assert library.entered == 0


def test_an_earlier_kernels_failure_is_said_to_be_that():
    library = Library(0, 700)
    function = library.function()
    function.launch([5], 0)
    with pytest.raises(CudaError, match=r"a kernel failed on the GPU: .*CODE_700; launched last: "
                       r"kernel add at model.py:12\..*CUDA_LAUNCH_BLOCKING=1"):  # fmt: skip
        function.launch([5], 0)
