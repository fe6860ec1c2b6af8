"""What every driver does: on the GPU where there is one, else in the simulator."""

import threading

import numpy as np
import pytest
from hand_written_ptx import ADD, add_kernel, shared_kernel

import minicomp
from minicomp.codegen.ptx_kernel import PTXKernel
from minicomp.errors import CudaError, DTypeError, MinicompError, ShapeError
from minicomp.ir import ITEMSIZE, Location
from minicomp.runtime.cuda.driver import driver

DTYPES = ["float32", "float64", "float16", "int32", "int64", "bool"]


def numbers(*shape, dtype=np.float32):
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


# --- which driver ---


def test_without_gpu_or_simulator_the_error_says_what_to_do(without_gpu):
    with pytest.raises(CudaError, match="no CUDA device: pycuda is not installed; .*"
                       r"pip install 'minicomp\[cuda\]'.*MINICOMP_CUDA_SIM=1"):  # fmt: skip
        driver()
    with pytest.raises(CudaError, match="no CUDA device: pycuda is not installed"):
        driver()  # and again, from memory


def test_the_simulator_is_asked_for_by_the_environment(without_gpu, monkeypatch):
    monkeypatch.setenv("MINICOMP_CUDA_SIM", "1")
    assert driver().is_simulator
    monkeypatch.setenv("MINICOMP_CUDA_SIM", "0")
    with pytest.raises(CudaError):
        driver()
    monkeypatch.setenv("MINICOMP_CUDA_SIM", "yes")
    with pytest.raises(CudaError, match="MINICOMP_CUDA_SIM is 'yes'; wanted 1"):
        driver()


def test_the_simulator_is_asked_for_by_the_config(without_gpu):
    with minicomp.config.patch(cuda_simulator=True):
        assert driver().is_simulator
    with pytest.raises(CudaError):
        driver()


@pytest.mark.cuda
def test_there_is_one_driver_and_it_says_who_it_is():
    device = driver()
    assert device is driver()
    assert device.identity
    assert device.target.startswith("sm_")
    assert device.multiprocessors > 0 and device.l2_bytes > 0
    assert device.shared_bytes >= 48 * 1024


# --- arrays ---


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (2, 0, 3)])
def test_arrays_come_back_as_they_went(dtype, shape):
    array = (10 * numbers(*shape)).astype(dtype)
    device = driver()
    moved = device.to_device(array)
    assert (moved.shape, moved.dtype) == (shape, np.dtype(dtype))
    back = device.to_host(moved)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@pytest.mark.cuda
def test_bfloat16_keeps_its_bits():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    array = numbers(33).astype(ml_dtypes.bfloat16)
    moved = driver().to_device(array)
    assert moved.__cuda_array_interface__["typestr"] == "<V2"
    assert driver().argument(moved).dtype == "bfloat16"
    back = driver().to_host(moved)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back.view(np.uint16), array.view(np.uint16))


@pytest.mark.cuda
@pytest.mark.parametrize("view", ["x.T", "x[::-1]", "x[:, 1:5:2]", "x[::2, ::-1]", "x[2]"])
def test_strided_host_arrays_become_contiguous(view):
    array = eval(view, {"x": numbers(6, 7)})
    moved = driver().to_device(array)
    assert moved.strides == np.ascontiguousarray(array).strides
    np.testing.assert_array_equal(driver().to_host(moved), array)


@pytest.mark.cuda
def test_big_endian_arrays_are_turned_round():
    array = numbers(5).astype(">f4")
    np.testing.assert_array_equal(driver().to_host(driver().to_device(array)), array)


@pytest.mark.cuda
def test_dtypes_that_minicomp_lacks_are_refused():
    with pytest.raises(DTypeError, match="complex64 is not supported"):
        driver().to_device(np.zeros(3, np.complex64))


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", DTYPES)
def test_new_arrays_are_contiguous_and_aligned(dtype):
    device = driver()
    arrays = [device.empty((3, 5), dtype) for _ in range(3)]
    arguments = [device.argument(array) for array in arrays]
    for argument in arguments:
        assert argument.pointer % 256 == 0
        assert argument.strides == (5 * ITEMSIZE[dtype], ITEMSIZE[dtype])
        assert (argument.dtype, argument.readonly) == (dtype, False)
    assert len({argument.pointer for argument in arguments}) == 3


@pytest.mark.cuda
def test_views_share_memory_and_keep_it_alive():
    device = driver()
    array = numbers(4, 6)
    owner = device.to_device(array)
    start = device.argument(owner).pointer
    view = device.view(owner, start + 8, (4, 2), "float32", (24, 8))  # [:, 2:6:2]
    np.testing.assert_array_equal(device.to_host(view), array[:, 2:6:2])
    device.fill(view, np.zeros((4, 2), np.float32))
    array[:, 2:6:2] = 0
    np.testing.assert_array_equal(device.to_host(owner), array)
    del owner
    others = [device.to_device(np.full((4, 6), 9, np.float32)) for _ in range(4)]
    np.testing.assert_array_equal(device.to_host(view), array[:, 2:6:2])
    assert len(others) == 4


@pytest.mark.cuda
def test_filling_copies_bits_and_checks_its_arguments():
    device = driver()
    array = device.empty((2, 3), "float32")
    values = np.array([[np.nan, -0.0, 1], [np.inf, 1e-45, 2]], np.float32)
    values.view(np.uint32)[0, 0] |= 7  # a NaN with a payload
    device.fill(array, values)
    np.testing.assert_array_equal(device.to_host(array).view(np.uint32), values.view(np.uint32))
    with pytest.raises(ShapeError, match=r"values have shape \(3, 2\), the array \(2, 3\)"):
        device.fill(array, values.T)
    with pytest.raises(DTypeError, match="values are float64, the array float32"):
        device.fill(array, values.astype(np.float64))


@pytest.mark.cuda
def test_memory_is_counted_and_comes_back():
    device = driver()
    before = device.memory().in_use
    array = device.empty((1000, 1000), "float32")
    held = device.memory()
    assert 4_000_000 <= held.in_use - before <= 5_000_000
    assert held.peak >= held.in_use
    del array
    assert device.memory().in_use == before
    device.empty_cache()
    assert device.memory().cached == 0


# --- kernels ---


@pytest.mark.cuda
def test_a_kernel_runs_on_the_arrays_whose_pointers_it_gets():
    device = driver()
    x, y = numbers(512), numbers(512)[::-1].copy()
    arrays = [device.to_device(x), device.to_device(y), device.empty((512,), "float32")]
    function = device.load(add_kernel(512), Location("model.py", 12))
    pointers = [device.argument(array).pointer for array in arrays]
    device.launch(function, pointers, device.current_stream())
    device.synchronize()
    np.testing.assert_array_equal(device.to_host(arrays[2]), x + y)
    assert function.location == Location("model.py", 12)


@pytest.mark.cuda
def test_an_empty_grid_is_no_launch():
    device = driver()
    function = device.load(add_kernel(0))
    device.launch(function, [0, 0, 0], 0)
    device.synchronize()


@pytest.mark.cuda
@pytest.mark.parametrize("shared_bytes", [4096, 48 * 1024, 100 * 1024])
def test_shared_memory_beyond_48_kib_is_asked_for(shared_bytes):
    device = driver()
    x, out = device.to_device(numbers(256)), device.empty((256,), "float32")
    function = device.load(shared_kernel(256, shared_bytes))
    device.launch(function, [device.argument(a).pointer for a in (x, out)], 0)
    np.testing.assert_array_equal(device.to_host(out), device.to_host(x))


@pytest.mark.cuda
def test_one_text_with_several_grids_is_several_functions():
    device = driver()
    small, large = device.load(add_kernel(128)), device.load(add_kernel(256))
    x, out = device.to_device(np.ones(256, np.float32)), device.to_device(np.zeros(256, "f"))
    pointers = [device.argument(array).pointer for array in (x, x, out)]
    device.launch(small, pointers, 0)
    assert device.to_host(out).sum() == 256
    device.launch(large, pointers, 0)
    assert device.to_host(out).sum() == 512


@pytest.mark.cuda
def test_ptx_that_is_wrong_names_kernel_and_line():
    wrong = PTXKernel(ADD.replace("add.rn.f32", "addd.rn.f32"), "add", (1, 1, 1), (1, 1, 1))
    with pytest.raises(MinicompError, match=r"kernel add at model.py:7(.|\n)*addd"):
        driver().load(wrong, Location("model.py", 7))


@pytest.mark.cuda
def test_threads_may_load_and_launch_at_once():
    device, failures = driver(), []

    def work(seed):
        try:
            x = np.full(1024, seed, np.float32)
            function = device.load(add_kernel(1024))
            for _ in range(20):
                a, out = device.to_device(x), device.empty((1024,), "float32")
                pointers = [device.argument(array).pointer for array in (a, a, out)]
                device.launch(function, pointers, device.current_stream())
                assert (device.to_host(out) == 2 * seed).all()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# --- time ---


@pytest.mark.cuda
def test_the_clock_times_a_run_and_tells_a_failed_one():
    device = driver()
    arrays = [device.to_device(numbers(1 << 12)) for _ in range(3)]
    pointers = [device.argument(array).pointer for array in arrays]
    function, clock = device.load(add_kernel(1 << 12)), device.clock()
    before = clock.now()
    samples = [
        clock.sample("add", lambda: device.launch(function, pointers, device.current_stream()))
        for _ in range(3)
    ]
    assert all(0 < sample < 1 for sample in samples)
    assert clock.now() > before

    def broken():
        raise ValueError("no")

    with pytest.raises(minicomp.selection.timing.RunFailed) as failed:
        clock.sample("broken", broken)
    assert isinstance(failed.value.__cause__, ValueError)
