"""Native entry points: what they take, what they turn away, and that they hold on to nothing."""

import ctypes
import gc
import os
import sys
import threading
import tracemalloc

import numpy as np
import pytest

import minicomp
from minicomp import nn
from minicomp.codegen.native_plan import KEPT, MOST_KEPT_BYTES
from minicomp.compiler import MOST_FAST_CALLS
from minicomp.runtime.entry import Entry, is_supported

pytestmark = pytest.mark.skipif(not is_supported(), reason="objects are laid out differently here")


def floats(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def entered(model, *args):
    """The compiled model after a call with `args`, and its native function."""
    compiled = minicomp.compile(model)
    compiled(*args)
    (function,) = compiled._fast_calls
    return compiled, function


def test_it_computes_what_the_way_through_python_does():
    x, y = floats(5, 7), floats(7, 3)

    def model(x, y):
        return minicomp.softmax(x @ y, -1), x.sum(1)

    compiled, function = entered(model, x, y)
    for native, wanted in zip(function(x, y), compiled._call((x, y), {}), strict=True):
        assert type(native) is np.ndarray
        np.testing.assert_array_equal(native, wanted)


OTHERS = {
    "another shape": lambda x: floats(5, 8),
    "another rank": lambda x: floats(5),
    "other strides": lambda x: floats(7, 5).T,
    "another dtype": lambda x: x.astype(np.float64),
    "another byte order": lambda x: x.astype(">f4"),
    "an unaligned array": lambda x: np.frombuffer(b"x" * 141, "<f4", 35, 1).reshape(5, 7),
    "a subclass": lambda x: x.view(type("Mine", (np.ndarray,), {})),
    "a list": lambda x: x.tolist(),
    "None": lambda x: None,
    "a type": lambda x: np.ndarray,
    "an integer": lambda x: 1 << 70,
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_it_turns_away_whatever_it_was_not_made_for(other):
    x = floats(5, 7)
    _, function = entered(lambda x: x * 2, x)
    assert function(x) is not None
    assert function(other(x)) is None
    assert function(x) is not None


def test_it_wants_the_right_number_of_arguments():
    x = floats(5, 7)
    _, function = entered(lambda x: x * 2, x)
    assert function() is None
    assert function(x, x) is None


def test_strides_along_axes_of_one_entry_do_not_matter():
    x = floats(1, 7)
    _, function = entered(lambda x: x * 2, x)
    same = np.lib.stride_tricks.as_strided(x, (1, 7), (400, 4))
    np.testing.assert_array_equal(function(same), x * 2)


def test_it_turns_calls_away_once_a_module_or_parameter_has_changed():
    module = nn.Linear(7, 3)
    x = floats(5, 7)
    compiled, function = entered(module, x)
    assert function(x) is not None
    module.weight[...] = 0  # contents are read at each call
    np.testing.assert_allclose(function(x), np.broadcast_to(module.bias.data, (5, 3)))
    module.weight.data = floats(3, 7)
    assert function(x) is None
    np.testing.assert_allclose(compiled(x), x @ module.weight.data.T + module.bias.data, atol=1e-5)
    assert compiled._fast_calls[0](x) is not None  # armed again
    module.eval()
    assert compiled._fast_calls[0](x) is None


def test_before_it_knows_any_parameters_it_turns_calls_away():
    x = floats(5, 7)
    compiled, armed = entered(nn.Linear(7, 3), x)
    assert armed(x) is not None
    assert Entry(compiled._last.executable).function()(x) is None


def test_an_index_out_of_range_is_left_to_the_way_through_python():
    table, good, bad = floats(10, 4), np.array([1, -1]), np.array([1, 10])
    _, function = entered(lambda i: minicomp.take(table, i, axis=0), good)
    np.testing.assert_array_equal(function(good), table[good])
    assert function(bad) is None
    np.testing.assert_array_equal(function(good), table[good])


def test_results_are_nested_as_the_function_nests_them():
    x = floats(3)
    _, function = entered(lambda x: {"a": [x + 1], "b": (x, None)}, x)
    result = function(x)
    assert list(result) == ["a", "b"]
    np.testing.assert_array_equal(result["a"][0], x + 1)
    assert result["b"][1] is None
    _, function = entered(lambda x: [x + 1], x)
    assert isinstance(function(x), list)


def test_zero_rank_and_empty_results():
    x = floats(3)
    _, function = entered(lambda x: (x.sum(), x[:0]), x)
    total, empty = function(x)
    assert total.shape == ()
    assert empty.shape == (0,)


def test_no_reference_is_taken_or_lost():
    x = floats(5, 7)
    dtype = np.dtype(np.float32)
    _, function = entered(lambda x: (x * 2, x.sum(0)), x)
    function(x)
    before = sys.getrefcount(x), sys.getrefcount(dtype), sys.getrefcount(None)
    for _ in range(1000):
        function(x)
        function(3)
    after = sys.getrefcount(x), sys.getrefcount(dtype), sys.getrefcount(None)
    assert np.abs(np.subtract(after, before)).max() < 100


def test_memory_does_not_grow():
    x = floats(64, 64)
    _, function = entered(nn.Sequential(nn.Linear(64, 64), nn.GELU()), x)
    function(x)
    tracemalloc.start()
    try:
        for _ in range(100):
            function(x)
        first = tracemalloc.get_traced_memory()[0]
        for _ in range(2000):
            function(x)
        assert tracemalloc.get_traced_memory()[0] - first < 50_000
    finally:
        tracemalloc.stop()


def test_a_function_outlives_what_made_it():
    x = floats(4)
    compiled, function = entered(lambda x: x * 3, x)
    del compiled
    gc.collect()
    np.testing.assert_array_equal(function(x), x * 3)


def test_its_constants_outlive_what_made_it():
    x, weight = floats(1000), np.arange(1000, dtype=np.float32)
    compiled = minicomp.compile(lambda x: x + weight, options={"freeze": True})
    wanted = compiled(x)
    (function,) = compiled._fast_calls
    del compiled
    gc.collect()
    others = [np.full(1000, -7, np.float32) for _ in range(50)]  # where the constant was, if freed
    np.testing.assert_array_equal(function(x), wanted)
    del others


def test_weights_given_away_while_another_thread_computes_with_them_stay_alive():
    module = nn.Linear(512, 512)
    x = floats(256, 512)
    compiled, _ = entered(module, x)
    stop = threading.Event()
    failures = []

    def work():
        while not stop.is_set():
            if not np.isfinite(compiled(x)).all():
                failures.append("not finite")

    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(100):
        module.weight.data = floats(512, 512)
    stop.set()
    thread.join()
    assert failures == []


# --- the memory of large outputs ---

LARGE = (512, 512)  # LARGE_BYTES of float32, exactly


def address(array):
    return array.__array_interface__["data"][0]


def test_a_large_output_begins_on_a_cache_line_either_way():
    x = floats(*LARGE)
    compiled, function = entered(lambda x: x * 2, x)
    for result in (function(x), compiled._call((x,), {})):
        assert address(result) % 64 == 0
        assert result.flags.c_contiguous
        assert result.flags.writeable
        assert result.flags.aligned
        np.testing.assert_array_equal(result, x * 2)


def test_the_memory_of_a_result_is_used_again_once_nobody_holds_it():
    x = floats(*LARGE)
    _, function = entered(lambda x: x * 2, x)
    result, seen = None, set()
    for _ in range(10):
        result = function(x)  # while the last one is still there
        seen.add(address(result))
    assert len(seen) == 2


class Interface:
    """Knows an array by its `__array_interface__` and its owner, as other libraries do."""

    def __init__(self, array):
        self.owner, self.__array_interface__ = array, array.__array_interface__


HOLDERS = {
    "itself": lambda y: y,
    "a view": lambda y: y[1:],
    "a view of a view": lambda y: y[1:].T[2:].T.view(np.int32).view(np.float32)[:, ::2],
    "memoryview": memoryview,
    "base": lambda y: y.base,
    "DLPack": lambda y: np.from_dlpack(y),
    "a capsule": lambda y: y.__dlpack__(),
    "ctypes": lambda y: y.ctypes.data_as(ctypes.POINTER(ctypes.c_float)),
    "a ctypes array": lambda y: (ctypes.c_float * y.size).from_buffer(y),
    "bytes": lambda y: np.frombuffer(y, np.uint8),
    "an interface": lambda y: np.asarray(Interface(y)),
    "an iterator": lambda y: y.flat,
    "a cycle": lambda y: (cycle := [y], cycle.append(cycle))[0],
}


@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS)
def test_memory_in_use_is_left_alone(hold):
    x = floats(*LARGE)
    _, function = entered(lambda x: x * 2, x)
    wanted = x * 2
    held = []
    for _ in range(5):
        result = function(x)
        held.append((address(result), hold(result)))
        del result
    assert len({place for place, _ in held}) == 5
    for _ in range(5):
        function(-x)
    for place, _ in held:
        array = np.ctypeslib.as_array((ctypes.c_float * x.size).from_address(place))
        np.testing.assert_array_equal(array.reshape(x.shape), wanted)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="wants fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python 3.12 on: forking beside threads
def test_a_child_has_its_arena_though_a_thread_of_its_parent_was_using_it():
    x = floats(700, 700)
    _, function = entered(lambda x: minicomp.softmax(minicomp.exp(x) @ x @ x, -1), x)
    wanted, ending = function(x), threading.Event()

    def work():
        while not ending.is_set():
            function(x)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        while function(x) is not None:  # until the thread is in it: then its arena is taken
            pass
        child = os.fork()
        if child == 0:
            result = function(x)
            os._exit(0 if result is not None and np.array_equal(result, wanted) else 1)
        assert os.waitpid(child, 0)[1] == 0
    finally:
        ending.set()
        thread.join()


def test_large_outputs_each_have_memory_of_their_own():
    x = floats(*LARGE)
    _, function = entered(lambda x: (x + 1, x.sum(), x - 1), x)
    for _ in range(5):
        up, total, down = function(x)
        np.testing.assert_array_equal(up, x + 1)
        np.testing.assert_array_equal(down, x - 1)
        np.testing.assert_allclose(total, x.sum(), rtol=1e-4)


def test_kept_memory_goes_with_the_compiled_module():
    x = floats(1024, 1024)
    tracemalloc.start()
    try:
        compiled, function = entered(lambda x: x * 2, x)
        first, second = function(x), function(x)
        del first, second
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] > 2 * x.nbytes
        del compiled, function
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < x.nbytes
    finally:
        tracemalloc.stop()


def test_of_many_shapes_the_memory_of_the_latest_few_is_kept():
    compiled = minicomp.compile(lambda x: x * 2)
    arrays = [floats(512, 513 + n) for n in range(3 * MOST_FAST_CALLS)]
    tracemalloc.start()
    try:
        for x in arrays:
            first, second = compiled(x), compiled(x)
            third = compiled(x)
        del first, second, third
        gc.collect()
        largest = arrays[-1].nbytes
        kept = tracemalloc.get_traced_memory()[0] / largest
        assert KEPT < kept < (MOST_FAST_CALLS + 1) * KEPT
    finally:
        tracemalloc.stop()
    for x in arrays:
        for _ in range(3):
            np.testing.assert_array_equal(compiled(x), x * 2)


def test_what_is_released_while_other_threads_compute_is_neither_lost_nor_given_twice():
    x = floats(1024, 1024)
    compiled, _ = entered(lambda x: x * 2, x)
    entry, ending, wrong = compiled._last.entry, threading.Event(), []

    def call(factor):
        mine = x * factor
        wanted, held = mine * 2, []
        while not ending.is_set():
            held = [*held[-2:], compiled(mine)]
            if not all(np.array_equal(result, wanted) for result in held):
                wrong.append(factor)

    threads = [threading.Thread(target=call, args=(n,)) for n in (1, 3)]
    for thread in threads:
        thread.start()
    for _ in range(300):
        entry.release()
        compiled(x)
    ending.set()
    for thread in threads:
        thread.join()
    assert not wrong


def test_what_would_be_much_to_keep_is_not_kept():
    x = floats(MOST_KEPT_BYTES // 4 + 1)
    tracemalloc.start()
    try:
        _, function = entered(lambda x: x * 2, x)
        result = function(x)
        assert address(result) % 64 == 0
        np.testing.assert_array_equal(result, x * 2)
        del result
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < x.nbytes
    finally:
        tracemalloc.stop()


def test_threads_that_call_at_once_do_not_share_memory():
    x = floats(1024, 1024)
    _, function = entered(lambda x: minicomp.exp(x), x)
    wanted, wrong = function(x), []

    def call(sign):
        for _ in range(20):
            result = function(x)
            if not np.array_equal(result, wanted):
                wrong.append(sign)

    threads = [threading.Thread(target=call, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
