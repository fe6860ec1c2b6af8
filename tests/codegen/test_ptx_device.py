"""A driver as a device for tests of kernels; here that of the simulator, since no GPU is needed."""

import numpy as np
import pytest
from ptx_device import DriverDevice, new_device

from minicomp import cuda
from minicomp.codegen.ptx_builder import PTXBuilder
from minicomp.runtime.cuda import driver as drivers
from minicomp.simulator import Simulator


def doubling():
    """The text of a kernel by which each of 32 threads doubles its int32."""
    builder = PTXBuilder("double", ["x"], block=(32, 1, 1))
    address = builder.mad_wide(builder.special("tid.x"), 4, builder.pointers[0])
    value = builder.load("global", "s32", address)
    builder.store("global", "s32", address, builder.add(value, value))
    return builder.text()


@pytest.mark.parametrize("kind", ["simulator", "driver"])
@pytest.mark.parametrize("displaced", [0, 4])
def test_kernels_run_on_what_was_written_and_are_read_back(simulator, kind, displaced):
    device = Simulator() if kind == "simulator" else DriverDevice(simulator)
    numbers = np.arange(-16, 16, dtype=np.int32)  # their bytes are of all kinds
    pointer = device.allocate(numbers.nbytes + displaced) + displaced
    device.write(pointer, numbers[:10])
    device.write(pointer + 40, numbers[10:])
    device.launch(device.load(doubling()), "double", (1, 1, 1), (32, 1, 1), [pointer])
    result = device.read(pointer, numbers.nbytes).view(np.int32)
    np.testing.assert_array_equal(result, 2 * numbers)


def test_the_gpu_is_used_where_there_is_one_unless_the_simulator_is_asked_for(
    simulator, monkeypatch
):
    assert isinstance(new_device(), Simulator)
    monkeypatch.delenv(drivers.VARIABLE)
    monkeypatch.setattr(cuda, "driver", lambda: simulator)  # as if it were a GPU
    monkeypatch.setattr("ptx_device.driver", lambda: simulator)
    assert isinstance(new_device(), DriverDevice)
