import threading
import weakref

import pytest

import minicomp
from minicomp.errors import InputError
from minicomp.runtime.cuda.streams import current_stream, stream_handle, use_stream


class WithAttribute:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


class WithProtocol:
    def __cuda_stream__(self):
        return (0, 0x50)


class Boxed:
    value = 0x60


@pytest.mark.parametrize(
    ("stream", "handle"),
    [
        (None, 0),
        (0, 0),
        (1, 0),  # CU_STREAM_LEGACY: the default stream under its other name
        (2, 2),
        (0x40, 0x40),
        (WithProtocol(), 0x50),
        (WithAttribute(cuda_stream=0x51), 0x51),  # torch
        (WithAttribute(handle=0x52), 0x52),  # pycuda
        (WithAttribute(handle=Boxed()), 0x60),  # numba
        (WithAttribute(ptr=0x53), 0x53),  # cupy
    ],
)
def test_streams_of_all_libraries_have_handles(stream, handle):
    assert stream_handle(stream) == handle


@pytest.mark.parametrize("thing", [object(), "stream", 1.5, True])
def test_what_is_no_stream_is_refused(thing):
    with pytest.raises(InputError, match="is no stream; wanted one of pycuda, torch or cupy"):
        stream_handle(thing)


@pytest.mark.parametrize("handle", [-1, 1 << 64, WithAttribute(ptr="0x40"), WithAttribute(ptr=-8)])
def test_what_is_no_handle_is_refused(handle):
    with pytest.raises(
        InputError, match="is no handle of a stream; wanted an unsigned int of 64 bits"
    ):
        stream_handle(handle)


def test_a_handle_keeps_the_stream():
    stream = WithAttribute(handle=0x52)
    gone = weakref.ref(stream)
    with use_stream(stream):
        handle = current_stream()
    del stream
    assert gone() is not None
    del handle
    assert gone() is None


def test_a_stream_is_in_use_within_its_block():
    assert current_stream() == 0
    with use_stream(0x40) as handle:
        assert current_stream() == handle == 0x40
        with minicomp.cuda.stream(None):
            assert current_stream() == 0
        assert current_stream() == 0x40
    assert current_stream() == 0


def test_a_block_left_by_an_exception_leaves_no_stream_behind():
    with pytest.raises(ValueError), use_stream(0x40):
        raise ValueError
    assert current_stream() == 0


def test_other_threads_keep_the_default_stream():
    seen = []
    with use_stream(0x40):
        thread = threading.Thread(target=lambda: seen.append(current_stream()))
        thread.start()
        thread.join()
    assert seen == [0]
