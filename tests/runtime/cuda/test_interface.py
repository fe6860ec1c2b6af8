import numpy as np
import pytest

import minicomp
from minicomp.errors import DTypeError, InputError
from minicomp.runtime.cuda.interface import contiguous_strides, read_interface


class Array:
    """An array of some library's."""

    def __init__(self, **entries):
        self.__cuda_array_interface__ = {
            "shape": (2, 3), "typestr": "<f4", "data": (0x1000, False), "version": 3, **entries,
        }  # fmt: skip


def test_an_array_without_strides_is_contiguous():
    argument = read_interface(Array())
    assert (argument.pointer, argument.shape, argument.strides) == (0x1000, (2, 3), (12, 4))
    assert (argument.dtype, argument.readonly, argument.stream) == ("float32", False, None)
    assert not argument.is_simulated
    assert read_interface(Array(strides=None)).strides == (12, 4)


def test_strides_are_bytes_as_they_are():
    assert read_interface(Array(strides=(4, -8))).strides == (4, -8)


def test_read_only_arrays_say_so():
    assert read_interface(Array(data=(0x1000, True))).readonly


@pytest.mark.parametrize(("written", "handle"), [(None, None), (1, 0), (2, 2), (0x77, 0x77)])
def test_the_stream_is_a_handle_and_the_default_one_is_0(written, handle):
    assert read_interface(Array(stream=written)).stream == handle


def test_stream_0_is_ambiguous():
    with pytest.raises(InputError, match="stream is 0, which the interface leaves undefined"):
        read_interface(Array(stream=0))


def test_arrays_without_elements_may_have_no_pointer():
    argument = read_interface(Array(shape=(0, 3), data=(None, False)))
    assert (argument.pointer, argument.shape) == (0, (0, 3))


@pytest.mark.parametrize(
    ("typestr", "dtype"),
    [("<f8", "float64"), ("<f2", "float16"), ("<V2", "bfloat16"), ("|b1", "bool"),
     ("<i4", "int32"), ("<i8", "int64")],
)  # fmt: skip
def test_dtypes(typestr, dtype):
    assert read_interface(Array(typestr=typestr)).dtype == dtype


@pytest.mark.parametrize(
    ("typestr", "message"), [(">f4", "big-endian"), ("<c8", "complex64"), ("|V4", "not supported")]
)
def test_dtypes_that_minicomp_lacks(typestr, message):
    with pytest.raises(DTypeError, match=message):
        read_interface(Array(typestr=typestr))


def test_masked_arrays_are_refused():
    with pytest.raises(InputError, match="masked"):
        read_interface(Array(mask=Array()))


def test_what_an_array_says_of_why_it_has_no_interface_is_passed_on():
    class RequiresGradients:
        @property
        def __cuda_array_interface__(self):
            raise RuntimeError("use tensor.detach()")

    with pytest.raises(InputError, match=r"RequiresGradients is no device array: use tensor"):
        read_interface(RequiresGradients())


def test_numbers_of_numpys_become_pythons():
    """Generated code reads the pointer, and takes ints alone for one."""
    numbers = read_interface(
        Array(
            data=(np.uint64(0x1000), False), shape=[*np.array([2, 3])],
            strides=(np.int64(12), 4), stream=np.int64(7),
        )
    )  # fmt: skip
    assert numbers[:3] == (0x1000, (2, 3), (12, 4))
    assert numbers.stream == 7
    found = [numbers.pointer, *numbers.shape, *numbers.strides, numbers.stream]
    assert {type(number) for number in found} == {int}


@pytest.mark.parametrize(
    "interface",
    [
        None,
        5,
        {"shape": (2, 3), "typestr": "<f4"},
        Array(data=5).__cuda_array_interface__,
        Array(data=(1.5, False)).__cuda_array_interface__,
        Array(data=(-4, False)).__cuda_array_interface__,
        Array(data=(None, False)).__cuda_array_interface__,
        Array(shape=(2, -3)).__cuda_array_interface__,
        Array(shape=6).__cuda_array_interface__,
        Array(strides=(4,)).__cuda_array_interface__,
        Array(typestr=None).__cuda_array_interface__,
        Array(stream="1").__cuda_array_interface__,
    ],
    ids=str,
)
def test_an_interface_that_breaks_the_rules_is_an_error_that_shows_it(interface):
    array = Array()
    array.__cuda_array_interface__ = interface
    with pytest.raises(InputError, match=r"interface__ of a Array cannot be read \(\w+Error: "):
        read_interface(array)
    with pytest.raises(InputError, match=r"interface__ of a Array cannot be read \(\w+Error: "):
        minicomp.compile(lambda x: x + 1)(array)


@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (2, 3, 4)])
def test_contiguous_strides_are_numpys(shape):
    assert contiguous_strides(shape, 8) == np.empty(shape).strides
