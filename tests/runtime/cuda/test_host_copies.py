import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp.runtime.cuda.host_copies import read_array, span_of, write_array
from minicomp.runtime.cuda.interface import DeviceArgument

START = 1000  # where the "device" memory of these tests begins


class Memory:
    """Device memory, as bytes on the host."""

    def __init__(self, array):
        self.bytes = np.frombuffer(array.tobytes(), np.uint8).copy()

    def read(self, address, nbytes):
        assert 0 <= address - START <= len(self.bytes) - nbytes
        return self.bytes[address - START : address - START + nbytes].copy()

    def write(self, address, values):
        data = np.frombuffer(values.tobytes(), np.uint8)
        assert 0 <= address - START <= len(self.bytes) - len(data)
        self.bytes[address - START : address - START + len(data)] = data


def described(view, whole):
    offset = view.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    return DeviceArgument(
        START + offset, view.shape, view.strides, view.dtype.name, False, None, False
    )


KEYS = st.tuples(*[
    st.one_of(
        st.builds(slice, st.none() | st.integers(-5, 5), st.none() | st.integers(-5, 5),
                  st.sampled_from([None, 1, 2, -1, -3])),
        st.integers(0, 2),
    )
    for _ in range(3)
])  # fmt: skip


@given(KEYS, st.permutations(range(3)))
def test_strided_arrays_are_read_and_written_as_numpy_would(key, order):
    whole = np.arange(4 * 5 * 3, dtype=np.int32).reshape(4, 5, 3)
    view = whole.transpose(order)[(*key, ...)]  # a view even where all keys are integers
    memory, argument = Memory(whole), described(view, whole)
    np.testing.assert_array_equal(read_array(argument, memory.read), view)
    values = -1 - np.arange(view.size, dtype=np.int32).reshape(view.shape)
    write_array(argument, values, memory.read, memory.write)
    expected = whole.copy()
    expected.transpose(order)[key] = values
    np.testing.assert_array_equal(memory.bytes.view(np.int32).reshape(whole.shape), expected)


def test_repeated_elements_are_read_once_each():
    whole = np.arange(3, dtype=np.float32)
    view = np.broadcast_to(whole, (4, 3))
    np.testing.assert_array_equal(read_array(described(view, whole), Memory(whole).read), view)


@pytest.mark.parametrize(
    ("shape", "strides", "span"),
    [
        ((3, 2), (4, 12), (0, 24)),
        ((3,), (-4,), (-8, 12)),
        ((2, 2), (100, -4), (-4, 108)),
        ((), (), (0, 4)),
        ((5, 0), (4, 4), (0, 0)),
        ((5,), (0,), (0, 4)),
    ],
)
def test_spans(shape, strides, span):
    assert span_of(shape, strides, 4) == span
