import numpy as np
import pytest

import minicomp
from minicomp.errors import CudaError, UnsupportedError

pytestmark = pytest.mark.usefixtures("simulator")


def array(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    "expression",
    ["x + y", "x - y", "x * y", "x / y", "x + 2", "2 - x", "2 / x", "-x", "x * 0.5 + y"],
)
def test_arithmetic_is_numpys(expression):
    x, y = array(3, 4), array(3, 4) + 5
    moved = eval(expression, {"x": minicomp.cuda.to_device(x), "y": minicomp.cuda.to_device(y)})
    assert hasattr(moved, "__cuda_array_interface__")
    expected = eval(expression, {"x": x, "y": y})
    assert moved.dtype == expected.dtype
    np.testing.assert_array_equal(moved.get(), expected)


@pytest.mark.parametrize(
    "view",
    ["x[1]", "x[1:3]", "x[:, ::2]", "x[::-1, 1]", "x[..., -1]", "x[None, 2]", "x.T", "x[1:3].T",
     "x.transpose(1, 0)", "x.reshape(2, 10)", "x.ravel()", "x[:, 1:].ravel()", "x[2:2]"],
)  # fmt: skip
def test_views_are_numpys(view):
    x = array(4, 5)
    moved = eval(view, {"x": minicomp.cuda.to_device(x)})
    expected = eval(view, {"x": x})
    assert moved.shape == expected.shape
    np.testing.assert_array_equal(moved.get(), expected)


def test_assigning_changes_the_array_itself():
    x = array(4, 5)
    moved = minicomp.cuda.to_device(x)
    moved[1:3, ::2] = 7
    x[1:3, ::2] = 7
    moved[0] = array(5)
    x[0] = array(5)
    moved[...] = moved * 2
    x *= 2
    np.testing.assert_array_equal(moved.get(), x)


def test_operators_in_place_keep_the_memory():
    x = array(6)
    moved = before = minicomp.cuda.to_device(x)
    moved += 1
    moved *= minicomp.cuda.to_device(x)
    assert moved is before
    np.testing.assert_array_equal(moved.get(), (x + 1) * x)


def test_attributes():
    moved = minicomp.cuda.to_device(array(4, 5))
    assert (moved.shape, moved.ndim, moved.size, moved.nbytes) == ((4, 5), 2, 20, 80)
    assert (moved.strides, moved.itemsize, len(moved)) == ((20, 4), 4, 4)
    assert moved.ptr == int(moved.gpudata) == moved.__cuda_array_interface__["data"][0]
    assert moved.T.ptr == moved.ptr
    assert moved[1:].ptr == moved.ptr + 20
    assert "array(" in repr(moved)


def test_copies_and_casts_are_new_arrays():
    x = array(4)
    moved = minicomp.cuda.to_device(x)
    copied, cast = moved.copy(), moved.astype(np.float64)
    moved.set(np.zeros(4, np.float32))
    np.testing.assert_array_equal(copied.get(), x)
    np.testing.assert_array_equal(cast.get(), x.astype(np.float64))


def test_picking_by_arrays_is_refused():
    moved = minicomp.cuda.to_device(array(4))
    with pytest.raises(UnsupportedError, match="device arrays are sliced"):
        moved[np.array([0, 1])]


def test_a_gpus_array_is_not_the_simulators():
    class OnGpu:
        def __init__(self):
            self.__cuda_array_interface__ = {
                "shape": (2,), "typestr": "<f4", "data": (0x7F0000000000, False), "version": 3,
            }  # fmt: skip

    with pytest.raises(CudaError, match="OnGpu in a GPU's memory cannot be read"):
        minicomp.cuda.to_host(OnGpu())


def test_what_a_kernel_does_wrong_names_kernel_and_ptx_line(simulator):
    from hand_written_ptx import add_kernel

    from minicomp.errors import SimulationError
    from minicomp.ir import Location

    x = minicomp.cuda.to_device(array(128))
    function = simulator.load(add_kernel(256), Location("model.py", 3))
    with pytest.raises(SimulationError, match=r"kernel add at model.py:3: .*line 21"):
        simulator.launch(function, [x.ptr, x.ptr, x.ptr], 0)


def test_a_kernel_that_writes_one_element_too_many_is_found_out(simulator):
    from hand_written_ptx import add_kernel

    from minicomp.errors import SimulationError

    x, out = minicomp.cuda.to_device(array(128)), simulator.empty((127,), "float32")
    function = simulator.load(add_kernel(128))
    with pytest.raises(SimulationError, match=r"st\.global.*out of bounds: .* 0 bytes past"):
        simulator.launch(function, [x.ptr, x.ptr, out.ptr], 0)
