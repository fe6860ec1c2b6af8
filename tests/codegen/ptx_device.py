"""What kernels under test run on: the simulator, or a GPU behind the same methods.

Tests marked `cuda` that take a `new_device()` make the same assertions on both. A GPU says nothing
of accesses out of bounds or of transactions: its launches have no report.

    device = new_device()
    x = device.allocate(64)
    device.write(x, np.arange(16, dtype=np.float32))
    device.launch(device.load(kernel.text), kernel.name, kernel.grid, kernel.block, [x])
    device.read(x, 64).view(np.float32)
"""

import numpy as np

from minicomp import cuda
from minicomp.codegen.ptx_kernel import PTXKernel
from minicomp.runtime.cuda.driver import driver, is_simulator_wanted
from minicomp.simulator import Simulator


def new_device():
    """A device without any memory in use. The GPU only where nobody asks for the simulator."""
    on_gpu = not is_simulator_wanted() and cuda.is_available()
    return DriverDevice(driver()) if on_gpu else Simulator()


class DriverDevice:
    """A `Driver` with the methods of `minicomp.simulator.Simulator` that tests of kernels use."""

    def __init__(self, driver):
        self.driver = driver
        self.memory = []  # arrays, which live as long as the device

    def allocate(self, size):
        array = self.driver.empty((max(size, 1),), "bool")
        self.memory.append(array)
        return int(self.driver.argument(array).pointer)

    def _bytes(self, pointer, size):
        return self.driver.view(self, pointer, (size,), "bool", (1,))

    def write(self, pointer, array):
        raw = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        if raw.size:
            self.driver.fill(self._bytes(pointer, raw.size), raw.view(np.bool_))

    def read(self, pointer, size):
        return self.driver.to_host(self._bytes(pointer, size)).view(np.uint8)

    def load(self, text):
        return text

    def launch(self, text, name, grid, block, pointers, shared_bytes=0):
        function = self.driver.load(PTXKernel(text, name, grid, block, shared_bytes))
        self.driver.launch(function, pointers, self.driver.current_stream())
        self.driver.synchronize()
