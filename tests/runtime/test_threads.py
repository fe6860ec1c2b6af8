"""The thread pool: every unit once, whoever calls, and no trouble at a fork or at the end."""

import ctypes
import os
import random
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from minicomp.codegen.llvm_threads import CHUNKS_PER_THREAD
from minicomp.codegen.native_plan import MAX_THREADS
from minicomp.errors import OptionError
from minicomp.runtime import threads
from minicomp.runtime.jit import compile_ir
from minicomp.runtime.threads import default_num_threads, parallel_for, parallel_for_address, start

# The kernels' args: 0 calls so far, 1 threads inside, 2 most threads inside at once, 3 delay,
# 4 where `mark` counts each unit, 5 where `record` writes (begin, end) of each call.
KERNELS = """
define void @mark(ptr %args, i64 %begin, i64 %end) {
entry:
  %there = getelementptr ptr, ptr %args, i64 4
  %counts = load ptr, ptr %there
  br label %loop
loop:
  %i = phi i64 [%begin, %entry], [%next, %loop]
  %p = getelementptr i64, ptr %counts, i64 %i
  %old = atomicrmw add ptr %p, i64 1 monotonic
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %end
  br i1 %more, label %loop, label %done
done:
  ret void
}

define void @record(ptr %args, i64 %begin, i64 %end) {
  %inside = getelementptr i64, ptr %args, i64 1
  %most = getelementptr i64, ptr %args, i64 2
  %before = atomicrmw add ptr %inside, i64 1 monotonic
  %now = add i64 %before, 1
  %max = atomicrmw max ptr %most, i64 %now monotonic
  call void @delay(ptr %args)
  %number = atomicrmw add ptr %args, i64 1 monotonic
  %there = getelementptr ptr, ptr %args, i64 5
  %records = load ptr, ptr %there
  %at = mul i64 %number, 2
  %p = getelementptr i64, ptr %records, i64 %at
  %q = getelementptr i64, ptr %p, i64 1
  store i64 %begin, ptr %p
  store i64 %end, ptr %q
  %left = atomicrmw sub ptr %inside, i64 1 monotonic
  ret void
}

define internal void @delay(ptr %args) {
entry:
  %there = getelementptr i64, ptr %args, i64 3
  %rounds = load i64, ptr %there
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%next, %loop]
  call void asm sideeffect "", ""()
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %rounds
  br i1 %more, label %loop, label %done
done:
  ret void
}

; Returns once a second thread has come in: it proves that two threads are at work.
define void @meet(ptr %args, i64 %begin, i64 %end) {
entry:
  %old = atomicrmw add ptr %args, i64 1 acq_rel
  %before = and i64 %old, -2
  %goal = add i64 %before, 2
  br label %loop
loop:
  %now = load atomic i64, ptr %args acquire, align 8
  %met = icmp sge i64 %now, %goal
  br i1 %met, label %done, label %loop
done:
  ret void
}

; Shares its units again, by marking them.
define void @nest(ptr %args, i64 %begin, i64 %end) {
entry:
  br label %loop
loop:
  %i = phi i64 [%begin, %entry], [%next, %loop]
  call void @minicomp_parallel_for(ptr @mark, ptr %args, i64 100, i64 1, i64 4)
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %end
  br i1 %more, label %loop, label %done
done:
  ret void
}
declare void @minicomp_parallel_for(ptr, ptr, i64, i64, i64)
"""


class Run:
    """The kernels, and memory for them to work on."""

    def __init__(self, units=1):
        names = ["mark", "record", "meet", "nest"]
        imports = {"minicomp_parallel_for": parallel_for_address()}
        self.library = compile_ir(KERNELS, names, imports=imports)
        self.counts = np.zeros(units, np.int64)
        self.records = np.full((MAX_THREADS * CHUNKS_PER_THREAD + 1, 2), -1, np.int64)
        self.args = np.zeros(6, np.int64)
        self.args[4:] = self.counts.ctypes.data, self.records.ctypes.data

    def __call__(self, name, units, grain, number):
        parallel_for(self.library.address(name), self.args.ctypes.data, units, grain, number)

    def ranges(self):
        return sorted(map(tuple, self.records[: self.args[0]].tolist()))


@pytest.fixture(autouse=True, scope="module")
def fresh_cache(tmp_path_factory):
    before = os.environ.get("MINICOMP_CACHE_DIR")
    os.environ["MINICOMP_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["MINICOMP_CACHE_DIR"]
    else:
        os.environ["MINICOMP_CACHE_DIR"] = before


# --- sharing ---


@pytest.mark.parametrize("number", [1, 2, 3, 5, 16])
@pytest.mark.parametrize("grain", [0, 1, 2, 7, 100, 10**9])
@pytest.mark.parametrize("units", [0, 1, 2, 3, 13, 100, 1001])
def test_every_unit_is_done_once(units, grain, number):
    run = Run(units)
    run("mark" if units else "record", units, grain, number)  # `mark` wants a unit at least
    assert np.all(run.counts == 1)
    assert run.args[0] == 0


@pytest.mark.parametrize("number", [2, 3, 8])
@pytest.mark.parametrize("grain", [1, 3, 10])
@pytest.mark.parametrize("units", [2, 7, 40, 1000])
def test_chunks_are_contiguous_and_no_smaller_than_the_grain(units, grain, number):
    run = Run()
    run("record", units, grain, number)
    ranges = run.ranges()
    assert [begin for begin, _ in ranges] == [0, *(end for _, end in ranges[:-1])]
    assert ranges[-1][1] == units
    assert len(ranges) <= number * CHUNKS_PER_THREAD
    assert len(ranges) == 1 or min(end - begin for begin, end in ranges) >= grain
    if units >= grain * number * CHUNKS_PER_THREAD:
        assert len(ranges) == number * CHUNKS_PER_THREAD


def test_a_bound_job_is_done_at_each_call_and_keeps_its_arguments_alive():
    run = Run(10)
    arguments = (ctypes.c_int64 * 6)(*run.args)
    alive = weakref.ref(arguments)
    call = threads.bound_parallel_for(run.library.address("mark"), arguments, 10, 1, 2)
    del arguments
    for _ in range(3):
        call()
    assert (run.counts == 3).all() and alive() is not None
    del call
    assert alive() is None


def test_less_than_two_grains_are_not_shared():
    for units, grain, number in ((19, 10, 4), (1, 1, 4), (100, 10, 1), (100, 10, 0)):
        run = Run()
        run("record", units, grain, number)
        assert run.ranges() == [(0, units)]


def test_two_threads_do_work_at_once():
    run = Run()
    for _ in range(10):
        run("meet", 2, 1, 2)
    assert run.args[0] == 20


def test_no_more_threads_than_asked_for():
    start(6)
    for number in (2, 3):
        run = Run()
        run.args[3] = 20_000  # long enough for all to come
        for _ in range(20):
            run.args[0] = 0
            run("record", 100, 1, number)
        assert 1 <= run.args[2] <= number


def test_workers_are_started_as_jobs_want_them():
    program = """
    run = Run(100)
    assert threading.active_count() == 1
    run("mark", 100, 1, 1)
    assert threading.active_count() == 1
    run("mark", 100, 1, 3)
    assert threading.active_count() == 3
    run("mark", 100, 1, 2)
    assert threading.active_count() == 3
    assert start(4) == 4 and threading.active_count() == 4
    assert (run.counts == 3).all()
    """
    in_a_new_process(program)


def test_random_jobs_back_to_back():
    random.seed(1)
    run = Run(3000)
    for _ in range(10_000):
        units = random.randrange(1, 60)
        run.counts[:units] = 0
        run("mark", units, random.randrange(1, 5), random.randrange(1, 5))
        assert np.all(run.counts[:units] == 1)


def test_random_pauses_between_jobs():
    random.seed(2)
    run = Run(50)
    for turn in range(200):
        time.sleep(random.choice([0, 1e-5, 6e-5, 2e-4, 2e-3]))
        run("mark", 50, 1, 3)
        assert np.all(run.counts == turn + 1)


# --- several callers ---


def test_several_python_threads_call_at_once():
    barrier = threading.Barrier(4)

    def work(_):
        run = Run(200)
        barrier.wait()
        for turn in range(1000):
            run("mark", 200, 3, 3)
            if not np.all(run.counts == turn + 1):
                return False
        return True

    with ThreadPoolExecutor(4) as executor:
        assert all(executor.map(work, range(4)))


def test_a_nested_job_is_done_where_it_is():
    run = Run(100)
    run("nest", 50, 1, 4)
    assert np.all(run.counts == 50)


# --- parking, forks, the end ---


def in_a_new_process(program, *options, **environment):
    """Run a program that has this module's names; its exit status is 0, its stderr empty."""
    head = f"""
import sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
from test_threads import *
"""
    result = subprocess.run(
        [sys.executable, *options, "-c", head + textwrap.dedent(program)],
        capture_output=True,
        timeout=60,
        env={**os.environ, **environment},
    )
    assert (result.returncode, result.stderr.decode()) == (0, "")
    return result.stdout.decode()


def test_parked_workers_come_back():
    run = Run(10)
    for turn in range(100):
        run("mark", 10, 1, 2)
        threads.park()
        assert np.all(run.counts == turn + 1)
    for _ in range(10):
        run.args[0] = 0
        run("meet", 2, 1, 2)
        threads.park()


PLACING = """
everywhere = os.sched_getaffinity(0)
assert start(2) == 2
(worker,) = (thread for thread in threading.enumerate() if "worker" in thread.name)
run = Run()
for here in (*everywhere, *everywhere):
    os.sched_setaffinity(0, {here})     # of this thread alone
    threads.park()
    time.sleep(0.01)                    # the worker sleeps
    run.args[0] = 0
    run("meet", 2, 1, 2)
    assert os.sched_getaffinity(worker.native_id) == everywhere - {here}
"""


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or len(os.sched_getaffinity(0)) < 2,
    reason="wants Linux and two CPUs",
)
def test_a_worker_wakes_up_elsewhere_than_its_caller():
    in_a_new_process(PLACING)


TAKEN_ELSEWHERE = """
first, second, *_ = os.sched_getaffinity(0)
assert start(2) == 2
(worker,) = (thread for thread in threading.enumerate() if "worker" in thread.name)
run = Run()

def meet_from(cpu):
    os.sched_setaffinity(0, {cpu})      # of this thread alone
    threads.park()
    time.sleep(0.01)                    # the worker sleeps
    run.args[0] = 0
    run("meet", 2, 1, 2)
    return os.sched_getaffinity(worker.native_id)

assert first not in meet_from(first)
os.sched_setaffinity(worker.native_id, {first})
assert meet_from(second) == {first}
assert meet_from(first) == {first}      # the only one it has now
os.sched_setaffinity(worker.native_id, {first, second})
assert meet_from(second) == {first}
assert meet_from(first) == {second}
"""


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or len(os.sched_getaffinity(0)) < 2,
    reason="wants Linux and two CPUs",
)
def test_a_worker_keeps_to_the_cpus_that_somebody_else_gives_it():
    in_a_new_process(TAKEN_ELSEWHERE)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="wants Linux")
def test_a_worker_wakes_up_where_there_is_one_cpu_alone():
    in_a_new_process("""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    run = Run()
    for turn in range(10):
        run.args[0] = 0
        run("meet", 2, 1, 2)
        threads.park()
        time.sleep(0.001)
    assert run.args[0] == 2
    """)


def test_parking_without_a_pool_makes_none():
    in_a_new_process("threads.park(); assert not threads._made")


FORK = """
import os, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on: forking beside threads
run = Run(100)
run("meet", 2, 1, 2)
for turn in range(4):
    child = os.fork()
    if child == 0:
        run("mark", 100, 1, 3)
        assert (run.counts == 1).all()
        run.args[0] = 0
        run("meet", 2, 1, 2)            # the child has workers of its own
        if turn % 2:
            sys.exit(0)                 # through atexit
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    run.args[0] = 0
    run("meet", 2, 1, 2)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="wants fork")
def test_parent_and_child_go_on_after_a_fork():
    in_a_new_process(FORK)


FORK_AMID_WORK = """
import os, warnings
warnings.simplefilter("ignore", DeprecationWarning)
run = Run(100)
run.args[3] = 2000
over = False
def work():
    while not over:
        run.args[0] = 0
        run("record", 100, 1, 3)
worker = threading.Thread(target=work)
worker.start()
children = []
for turn in range(30):
    child = os.fork()
    if child == 0:
        mine = Run(100)
        mine("mark", 100, 1, 3)
        mine("meet", 2, 1, 2)
        os._exit(0 if (mine.counts == 1).all() else 1)
    children.append(child)
    time.sleep(0.001)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
over = True
worker.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="wants fork")
def test_a_fork_while_another_thread_is_at_work():
    in_a_new_process(FORK_AMID_WORK)


ENDS = {
    "spinning": "run('meet', 2, 1, 2)",
    "asleep": "run('meet', 2, 1, 2); time.sleep(0.01)",
    "parked": "run('meet', 2, 1, 2); threads.park()",
    "many": "run('mark', 100, 1, 9)",
    "just started": "start(5)",
    "while a thread works": """
def work():
    while True:
        run("mark", 100, 1, 3)
threading.Thread(target=work, daemon=True).start()
time.sleep(0.05)
""",
    "with a later atexit": """
import atexit
run("mark", 100, 1, 2)
atexit.register(run, "mark", 100, 1, 2)
""",
    "with an earlier atexit": """
import atexit
atexit.unregister(threads._pool().stop)
atexit.register(run, "mark", 100, 1, 3)
atexit.register(threads._pool().stop)
run("mark", 100, 1, 2)
""",
}


@pytest.mark.parametrize("program", ENDS.values(), ids=ENDS.keys())
def test_the_process_ends_cleanly(program):
    in_a_new_process("run = Run(100)\n" + program, "-X", "dev")


def test_the_process_ends_cleanly_time_and_again():
    program = "run = Run(100)\nfor _ in range(50): run('mark', 100, 1, 4)"
    for _ in range(5):
        in_a_new_process(program)


def test_a_system_without_threads_to_give():
    program = """
    def refuse(*_, **__):
        raise RuntimeError("can't start new thread")
    threading.Thread.start = refuse
    run = Run(100)
    for turn in range(5):
        run("mark", 100, 1, 4)
        assert (run.counts == turn + 1).all()
    assert start(4) == 1
    """
    in_a_new_process(program)


# --- how many ---


def test_the_default_is_the_cpus_of_this_process(monkeypatch):
    monkeypatch.delenv("MINICOMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert default_num_threads() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert default_num_threads() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert default_num_threads() == 1


def test_the_environment_overrides_it(monkeypatch):
    monkeypatch.setenv("MINICOMP_NUM_THREADS", " 5 ")
    assert default_num_threads() == 5
    monkeypatch.setenv("MINICOMP_NUM_THREADS", "100000")
    assert default_num_threads() == MAX_THREADS


@pytest.mark.parametrize("text", ["0", "-2", "two", "1.5", "4,4", "٣", "1e3"])
def test_a_number_of_threads_that_is_none(monkeypatch, text):
    monkeypatch.setenv("MINICOMP_NUM_THREADS", text)
    with pytest.raises(OptionError, match=r"MINICOMP_NUM_THREADS is .*positive integer"):
        default_num_threads()
