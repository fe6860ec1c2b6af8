"""What only a real GPU has: pycuda's arrays, other libraries, streams, cubins, failures."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hand_written_ptx import ADD, HEADER, add_kernel, shared_kernel

import minicomp
from minicomp.codegen.ptx_kernel import PTXKernel
from minicomp.disk_cache import DiskCache
from minicomp.errors import CacheWarning, CudaError
from minicomp.runtime.cuda.assembling import cache_key

pytestmark = pytest.mark.usefixtures("gpu")

# Spins for about `CYCLES` cycles, then writes 1: something for a stream to be busy with.
SLOW = (
    HEADER
    + """
.visible .entry slow(.param .u64 out)
{
    .reg .pred %p;
    .reg .b32 %r;
    .reg .b64 %rd<5>;
    ld.param.u64 %rd1, [out];
    mov.u64 %rd2, %clock64;
loop:
    mov.u64 %rd3, %clock64;
    sub.s64 %rd4, %rd3, %rd2;
    setp.lt.s64 %p, %rd4, CYCLES;
    @%p bra loop;
    mov.u32 %r, 1065353216;
    st.global.u32 [%rd1], %r;
    ret;
}
"""
)


def slow_kernel(cycles=20_000_000):
    return PTXKernel(SLOW.replace("CYCLES", str(cycles)), "slow", (1, 1, 1), (1, 1, 1))


def numbers(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def run_alone(code, **environment):
    """Python in a process of its own, with the tests' directory to import from."""
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": path, **environment},
    )


# --- arrays ---


def test_pinned_memory_may_change_as_soon_as_it_is_copied(gpu):
    from pycuda.driver import pagelocked_empty

    pinned = pagelocked_empty(1 << 20, np.float32)
    pinned[:] = 1
    flag = gpu.to_device(np.zeros(1, np.float32))
    gpu.launch(gpu.load(slow_kernel()), [gpu.argument(flag).pointer], gpu.current_stream())
    copy = gpu.to_device(pinned)  # is queued after the slow kernel
    pinned[:] = 2
    assert (gpu.to_host(copy) == 1).all()


def test_outputs_are_pycudas_gpuarrays(gpu):
    from pycuda.gpuarray import GPUArray

    array = gpu.to_device(numbers(3, 4))
    ordinary = GPUArray((3, 4), np.float32, gpudata=int(array.gpudata))
    assert isinstance(array, GPUArray)
    assert vars(array).keys() == vars(ordinary).keys()
    for name in ("shape", "dtype", "strides", "size", "mem_size", "nbytes", "itemsize", "_grid"):
        assert getattr(array, name) == getattr(ordinary, name)
    assert array.flags.c_contiguous
    np.testing.assert_array_equal(array.get(), numbers(3, 4))
    np.testing.assert_array_equal(array[1:, ::2].get(), numbers(3, 4)[1:, ::2])
    np.testing.assert_array_equal(gpu.to_host(array[1:, ::2]), numbers(3, 4)[1:, ::2])
    array.set(np.zeros((3, 4), np.float32))
    assert not gpu.to_host(array).any()


def test_memory_of_the_pool_is_used_again_on_its_stream_only(gpu):
    import pycuda.driver

    gpu.empty_cache()
    address = int(gpu.empty((1000,), "float32").gpudata)
    stream = pycuda.driver.Stream()
    with minicomp.cuda.stream(stream):
        elsewhere = gpu.empty((1000,), "float32")
        assert int(elsewhere.gpudata) != address
    assert int(gpu.empty((1000,), "float32").gpudata) == address


def test_more_than_there_is_says_what_is_in_use(gpu):
    with pytest.raises(CudaError, match=r"out of device memory: 4,\d{3},\d{3},\d{3},\d{3} bytes"):
        gpu.empty((1 << 40,), "float32")
    assert gpu.to_host(gpu.to_device(numbers(3))).shape == (3,)  # and life goes on


# --- other libraries ---


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int64", "bool"])
def test_torchs_tensors_are_arguments(gpu, dtype):
    torch = pytest.importorskip("torch")
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    tensor = (torch.randn(4, 6, device="cuda") * 4).to(getattr(torch, dtype))
    for view in (tensor, tensor.T, tensor[:, 1:4], tensor[::2]):
        argument = gpu.argument(view)
        assert (argument.pointer, argument.dtype) == (view.data_ptr(), dtype)
        assert argument.shape == tuple(view.shape)
        itemsize = view.element_size()
        assert argument.strides == tuple(stride * itemsize for stride in view.stride())
        expected = view.float().cpu().numpy()
        np.testing.assert_array_equal(gpu.to_host(view).astype(np.float32), expected)


def test_torch_takes_outputs_without_a_copy(gpu):
    torch = pytest.importorskip("torch")
    array = gpu.to_device(numbers(3, 4))
    for tensor in (torch.as_tensor(array, device="cuda"), torch.from_dlpack(array)):
        assert tensor.data_ptr() == int(array.gpudata)
        np.testing.assert_array_equal(tensor.cpu().numpy(), numbers(3, 4))


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "int32", "bool"])
def test_dlpack_keeps_dtype_shape_and_the_array_alive(gpu, dtype):
    torch = pytest.importorskip("torch")
    from minicomp.ir import numpy_dtype

    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    values = (numbers(5, 3) * 3).astype(numpy_dtype(dtype))
    before = gpu.memory().in_use
    tensor = torch.from_dlpack(gpu.to_device(values))
    assert tensor.dtype == getattr(torch, dtype)
    assert gpu.memory().in_use > before
    np.testing.assert_array_equal(tensor.float().cpu().numpy(), values.astype(np.float32))
    del tensor
    assert gpu.memory().in_use == before
    gpu.to_device(values).__dlpack__()  # a capsule that nobody takes
    assert gpu.memory().in_use == before


def test_cupys_arrays_are_arguments_and_it_takes_outputs(gpu):
    cupy = pytest.importorskip("cupy")
    x = cupy.asarray(numbers(4, 6))
    np.testing.assert_array_equal(gpu.to_host(x.T[1:]), numbers(4, 6).T[1:])
    with cupy.cuda.Stream() as stream:
        y = x * 2
        assert y.__cuda_array_interface__["stream"] == stream.ptr
    np.testing.assert_array_equal(gpu.to_host(y), 2 * numbers(4, 6))
    array = gpu.to_device(numbers(4, 6))
    np.testing.assert_array_equal(cupy.asnumpy(cupy.asarray(array)), numbers(4, 6))
    np.testing.assert_array_equal(cupy.asnumpy(cupy.from_dlpack(array)), numbers(4, 6))


def test_arrays_of_another_gpu_are_not_for_this_one(gpu):
    torch = pytest.importorskip("torch")
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    x = torch.ones(3, device="cuda:1")
    for use in (gpu.argument, minicomp.compile(lambda x: x + 1)):
        with pytest.raises(CudaError, match=r"a Tensor is on GPU 1, and minicomp uses GPU 0"):
            use(x)
    compiled = minicomp.compile(lambda x: x + 1)
    for _ in range(2):
        assert gpu.to_host(compiled(x.to("cuda:0"))).tolist() == [2, 2, 2]
    with pytest.raises(CudaError, match="is on GPU 1"):
        compiled(x)


def test_where_an_array_is_is_looked_at_if_there_are_several_gpus(gpu, monkeypatch):
    torch = pytest.importorskip("torch")
    x = torch.ones(3, device="cuda")
    monkeypatch.setattr(gpu, "_is_one_of_several", True)
    assert gpu.argument(x).pointer == x.data_ptr()
    assert gpu.argument(x[:0]).shape == (0,)
    monkeypatch.setattr("minicomp.runtime.cuda.pycuda_array.DeviceArray.device_number", 1)
    with pytest.raises(CudaError, match=r"on GPU 0, .* uses GPU 1, .*CUDA_VISIBLE_DEVICES=0"):
        gpu.argument(x)


def test_simulated_arrays_are_not_for_the_gpu(gpu, simulator):
    array = simulator.to_device(numbers(3))
    with pytest.raises(CudaError, match="in the simulator's memory and the GPU is in use"):
        gpu.argument(array)


# --- streams ---


def test_a_stream_waits_for_the_stream_an_argument_is_written_on(gpu):
    import pycuda.driver

    writer, reader = pycuda.driver.Stream(), pycuda.driver.Stream()
    slow = gpu.load(slow_kernel())
    with minicomp.cuda.stream(writer):
        out = gpu.to_device(np.zeros(1, np.float32))
        gpu.launch(slow, [gpu.argument(out).pointer], gpu.current_stream())
    with minicomp.cuda.stream(reader):
        assert gpu.to_host(out) == 1


def test_a_view_waits_for_the_stream_its_array_is_written_on_and_its_memory_for_the_view(gpu):
    import pycuda.driver

    writer, reader = pycuda.driver.Stream(), pycuda.driver.Stream()
    slow = gpu.load(slow_kernel())
    with minicomp.cuda.stream(writer):
        out = gpu.to_device(np.zeros(2, np.float32))
        gpu.launch(slow, [gpu.argument(out).pointer], gpu.current_stream())
    for view in (out[:1], gpu.view(out, int(out.gpudata), (1,), "float32", (4,))):
        out.gpudata.others = None
        with minicomp.cuda.stream(reader):
            assert gpu.to_host(view) == 1
        assert out.gpudata.others == {reader.handle}


def test_a_stream_may_go_before_the_arrays_made_on_it(gpu):
    import pycuda.driver

    first, second = pycuda.driver.Stream(), pycuda.driver.Stream()
    with minicomp.cuda.stream(first):
        x = gpu.to_device(numbers(1000))
    with minicomp.cuda.stream(second):
        gpu.argument(x)
    del first, second
    np.testing.assert_array_equal(gpu.to_host(x), numbers(1000))


def test_work_is_queued_and_waited_for(gpu):
    out, slow = gpu.to_device(np.zeros(1, np.float32)), gpu.load(slow_kernel(100_000_000))
    gpu.synchronize()
    start = time.perf_counter()
    gpu.launch(slow, [int(out.gpudata)], gpu.current_stream())
    queued = time.perf_counter() - start
    minicomp.cuda.synchronize()
    assert queued < 0.02 < time.perf_counter() - start


def test_torchs_stream_can_be_in_use(gpu):
    torch = pytest.importorskip("torch")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream), minicomp.cuda.stream(stream):
        assert gpu.current_stream() == stream.cuda_stream
        x = torch.full((1024,), 3.0, device="cuda")
        out = gpu.empty((1024,), "float32")
        pointers = [gpu.argument(array).pointer for array in (x, x, out)]
        gpu.launch(gpu.load(add_kernel(1024)), pointers, gpu.current_stream())
        assert (torch.as_tensor(out, device="cuda") == 6).all()


# --- kernels ---


def test_a_cubin_is_kept_on_disk_and_a_damaged_one_is_made_anew(gpu):
    kernel = PTXKernel(f"{ADD}\n// {time.time()}\n", "add", (1, 1, 1), (128, 1, 1))
    cache, key = DiskCache("cubin"), cache_key(kernel, gpu.identity)
    gpu.load(kernel)
    cubin = cache.get(key)
    assert cubin.startswith(b"\x7fELF")
    cache.put(key, b"no cubin")  # whole, and wrong: of another driver, say
    gpu.load(kernel)
    assert cache.get(key) == cubin
    cache.path(key).write_bytes(b"damaged")
    with pytest.warns(CacheWarning, match="damaged"):
        gpu.load(kernel)
    assert cache.get(key) == cubin


def test_too_much_shared_memory_is_said_to_be_that(gpu):
    kernel = shared_kernel(64, gpu.shared_bytes + 4096)
    with pytest.raises(CudaError, match=r"kernel through_shared: .*asks for \d+ bytes of shared"):
        gpu.load(kernel)


def test_a_block_that_is_too_large_names_the_kernel(gpu):
    function = gpu.load(PTXKernel(ADD, "add", (1, 1, 1), (2048, 1, 1)))
    with pytest.raises(CudaError, match=r"kernel add: the launch failed: CUDA_ERROR.*2048"):
        gpu.launch(function, [0, 0, 0], 0)


def test_registers_are_told(gpu):
    registers, spilled = gpu.registers(gpu.load(add_kernel(128)))
    assert 4 <= registers <= 64
    assert spilled == 0


# --- threads and processes ---


def test_threads_that_end_leave_no_context_behind(gpu):
    results = []

    def work():
        x = gpu.to_device(numbers(128))
        results.append((x.get() == numbers(128)).all())

    for _ in range(3):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert results == [True] * 3


@pytest.mark.parametrize("first", ["", "import torch; torch.ones(1).cuda()",
                                   "import pycuda.autoprimaryctx"])  # fmt: skip
def test_a_process_ends_cleanly(first):
    done = run_alone(
        f"{first}\n"
        "import minicomp, numpy as np, threading\n"
        "from hand_written_ptx import add_kernel\n"
        "from minicomp.runtime.cuda.driver import driver\n"
        "def work():\n"
        "    x = minicomp.cuda.to_device(np.ones(128, np.float32))\n"
        "    minicomp.externals.cublas_matmul(*[x.reshape(1, 128), x.reshape(128, 1)], "
        "driver().empty((1, 1), 'float32'))\n"
        "    driver().launch(driver().load(add_kernel(128)), [x.ptr] * 3, 0)\n"
        "    return x\n"
        "thread = threading.Thread(target=work); thread.start(); thread.join()\n"
        "held = work(); print(minicomp.cuda.to_host(held).sum())\n"
        "import pycuda.driver\n"
        "stream = pycuda.driver.Stream()\n"
        "with minicomp.cuda.stream(stream.handle): driver().argument(held)\n"
        "del stream\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "256.0\n", "")


def test_a_forked_child_is_told_and_ends_cleanly():
    done = run_alone(
        "import minicomp, numpy as np, os, sys, warnings\n"
        "x = minicomp.cuda.to_device(np.ones(3, np.float32))\n"
        "warnings.simplefilter('ignore', DeprecationWarning)  # of forks with threads\n"
        "if os.fork() == 0:\n"
        "    try: minicomp.cuda.to_host(x)\n"
        "    except minicomp.errors.CudaError as error: print(error)\n"
        "    sys.exit(0)\n"
        "print('child', os.wait()[1])\n"
    )
    assert "when this process was forked off" in done.stdout
    assert "child 0" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")


def test_another_context_than_the_primary_one_is_refused():
    done = run_alone(
        "import pycuda.autoinit, minicomp\n"
        "try: minicomp.cuda.to_device([1.0])\n"
        "except minicomp.errors.CudaError as error: print(error)\n"
    )
    assert "Use pycuda.autoprimaryctx instead" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")


def test_a_kernel_that_fails_is_told_by_the_next_call():
    done = run_alone(
        "import minicomp\n"
        "from hand_written_ptx import add_kernel\n"
        "from minicomp.ir import Location\n"
        "from minicomp.runtime.cuda.driver import driver\n"
        "gpu = driver()\n"
        "gpu.launch(gpu.load(add_kernel(128), Location('model.py', 3)), [16, 16, 16], 0)\n"
        "try: minicomp.cuda.synchronize()\n"
        "except minicomp.errors.CudaError as error: print(error)\n"
    )
    assert "a kernel failed on the GPU: cuCtxSynchronize failed: CUDA_ERROR" in done.stdout
    assert "launched last: kernel add at model.py:3" in done.stdout
    assert done.returncode == 0


def test_without_a_visible_gpu_the_error_says_what_to_do():
    done = run_alone(
        "import minicomp\n"
        "try: minicomp.cuda.to_device([1.0])\n"
        "except minicomp.errors.CudaError as error: print(error)\n",
        CUDA_VISIBLE_DEVICES="",
    )
    assert "no CUDA device" in done.stdout and "MINICOMP_CUDA_SIM=1" in done.stdout
    assert done.returncode == 0
