"""Arrays of which equal ones are kept once."""

import gc
import weakref

import numpy as np
import pytest

from minicomp.interning import interned


def test_equal_arrays_become_one_copy_that_nobody_writes_to():
    array = np.arange(5)
    constant = interned(array)
    assert interned(array.copy()) is constant
    assert not constant.flags.writeable
    array[0] = 7
    np.testing.assert_array_equal(constant, [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(interned(array), [7, 1, 2, 3, 4])


@pytest.mark.parametrize(
    "other",
    [
        np.arange(5, dtype=np.int32),
        np.arange(6.0),
        np.array([0.0, 1, 2, 3, -4]),
        np.arange(5.0).reshape(5, 1),
        np.array([-0.0, 1, 2, 3, 4]),
    ],
)
def test_arrays_that_differ_anywhere_stay_apart(other):
    constant = interned(np.arange(5.0))
    assert interned(other) is not constant
    np.testing.assert_array_equal(interned(other), other)


def test_bits_count_and_not_values():
    nan = interned(np.array([np.nan]))
    assert interned(np.array([np.nan])) is nan
    assert interned(np.array([-np.nan])) is not nan


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (2, 3)])
@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "float16"])
def test_a_constant_is_contiguous_and_begins_on_a_cache_line(shape, dtype):
    array = np.ones(shape, dtype).T
    constant = interned(array)
    assert (constant.shape, constant.dtype) == (array.shape, array.dtype)
    assert constant.flags.c_contiguous
    assert not constant.size or constant.ctypes.data % 64 == 0
    np.testing.assert_array_equal(constant, array)


def test_nothing_is_kept_that_nobody_holds():
    constant = interned(np.arange(100, 107))
    gone = weakref.ref(constant)
    del constant
    gc.collect()
    assert gone() is None
