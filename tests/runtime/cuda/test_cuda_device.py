"""A GPU as selection sees it."""

import numpy as np
import pytest

from minicomp.runtime.cuda.device import CudaDevice
from minicomp.selection.checking import same_bits

pytestmark = pytest.mark.cuda

VIEWS = {
    "whole": lambda x: x,
    "transposed": lambda x: x.T,
    "sliced": lambda x: x[2:5, 1:],
    "a row": lambda x: x[2],
    "nothing": lambda x: x[:, :0],
}


@pytest.fixture
def device(driver):
    return CudaDevice(driver)


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_an_array_like_another_has_its_layout_and_none_of_its_memory(device, driver, view):
    host = np.arange(48, dtype=np.float32).reshape(6, 8)
    original = view(driver.to_device(host))
    copy = device.like(original)
    assert (copy.shape, copy.strides, copy.dtype) == (
        original.shape,
        original.strides,
        original.dtype,
    )
    device.fill(copy, view(host))
    np.testing.assert_array_equal(device.to_host(copy), view(host))
    device.fill(copy, np.full_like(view(host), -1))
    np.testing.assert_array_equal(device.to_host(original), view(host))


def test_an_array_that_repeats_a_row_has_its_like(device, driver):
    row = driver.to_device(np.arange(4, dtype=np.float32))
    original = driver.view(row, row.ptr, (3, 4), "float32", (0, 4))
    copy = device.like(original)
    assert copy.strides == (0, 4)
    device.fill(copy, np.full((3, 4), 7, np.float32))
    np.testing.assert_array_equal(device.to_host(copy), np.full((3, 4), 7))


def test_values_are_copied_bit_by_bit(device):
    values = np.array([0x7FC0_BEEF, 0x8000_0000], np.uint32).view(np.float32)
    array = device.empty((2,), "float32")
    device.fill(array, values)
    assert same_bits(device.to_host(array), values)


def test_the_identity_is_the_drivers(device, driver):
    assert device.identity == driver.identity
    assert not device.works_in_forks
    assert device.is_usable()
