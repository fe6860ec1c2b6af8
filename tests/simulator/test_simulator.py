"""Launches: what they are given, what they refuse, and whole kernels."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from ptx_kernels import INDEX, check_assembles, kernel, run

from minicomp.errors import MinicompError, SimulationError
from minicomp.simulator import Report, Simulator

NOTHING = kernel("ret;")


def launched(*arguments, text=NOTHING, **options):
    device = Simulator()
    return device.launch(device.load(text), *arguments, **options)


def test_a_launch_gives_a_report():
    report = launched("kernel", (2, 3), (4, 4, 4), [0])
    assert isinstance(report, Report)
    assert (report.entry, report.grid, report.block) == ("kernel", (2, 3, 1), (4, 4, 4))
    assert report.instructions == 2 * 2 * 6  # ld.param and ret, in two warps of six blocks


TOO_MUCH = ".shared .b8 a[40000]; .shared .b8 b[10000];"


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("other", 1, 1, [0]), {}, "no kernel other; it has kernel"),
        (("kernel", 0, 1, [0]), {}, "grid (0, 1, 1)"),
        (("kernel", (1, 70000), 1, [0]), {}, "grid (1, 70000, 1)"),
        (("kernel", 1, 1025, [0]), {}, "at most 1024 threads"),
        (("kernel", 1, (1, 1, 65), [0]), {}, "64 in z"),
        (("kernel", 1, 1, []), {}, "0 arguments, wanted 1"),
        (("kernel", 1, 1, [0, 0]), {}, "2 arguments, wanted 1"),
        (("kernel", 1, 1, [0]), {"shared_bytes": 300000}, "300000 bytes of dynamic shared memory"),
        (("kernel", 1, 1, [0]), {"text": kernel("ret;", shared=TOO_MUCH)}, "50000 bytes of shared"),
        (("kernel", 1, 64, [0]), {"text": kernel("ret;", directives=".reqntid 32")}, ".reqntid"),
        (("kernel", 1, 64, [0]), {"text": kernel("ret;", directives=".maxntid 32")}, ".maxntid"),
    ],
)
def test_launches_that_a_driver_would_refuse(arguments, options, message):
    with pytest.raises(SimulationError) as caught:
        launched(*arguments, **options)
    assert message in str(caught.value)


def test_errors_are_minicomps_and_pythons():
    assert issubclass(SimulationError, MinicompError) and issubclass(SimulationError, RuntimeError)


def test_parameters_of_other_types():
    text = kernel("", 0).replace(
        ".entry kernel()",
        ".entry kernel(.param .u64 p, .param .u32 n, .param .f32 x, .param .s16 s)",
    )
    text = text.replace(
        "}",
        """ld.param.u64 %rd1, [p]; ld.param.u32 %r1, [n]; ld.param.f32 %f1, [x];
        ld.param.s16 %r2, [s];
        st.global.u32 [%rd1], %r1; st.global.f32 [%rd1+4], %f1; st.global.s32 [%rd1+8], %r2;
        ret; }""",
    )
    check_assembles(text)
    device = Simulator()
    pointer = device.allocate(12)
    device.launch(device.load(text), "kernel", 1, 1, [pointer, 7, 2.5, -3])
    out = device.read(pointer, 12)
    assert out[:4].view(np.uint32)[0] == 7 and out[4:8].view(np.float32)[0] == 2.5
    assert out[8:].view(np.int32)[0] == -3


def test_loading_is_remembered_by_text():
    assert Simulator().load(NOTHING) is Simulator().load(NOTHING)


def test_a_launch_after_an_error_starts_afresh():
    body = "st.shared.u32 [tile], 1; ld.global.u32 %r1, [%rd0]; ret;"
    shared = ".shared .align 4 .b8 tile[16];"
    with pytest.raises(SimulationError, match="never written"):
        run(body, None, shared=shared, block=1)
    run(body, np.zeros(4, np.uint32), shared=shared, block=1)


def test_nothing_of_the_simulator_is_imported_with_minicomp():
    code = "import minicomp, sys; assert not [m for m in sys.modules if 'minicomp.simulator' in m]"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_python_threads_may_launch_at_once():
    """While one launches, another allocates so much that all memory moves."""
    device = Simulator()
    module = device.load(kernel(ADD_ONE))
    failures = []

    def work():
        try:
            for _ in range(20):
                pointer = device.allocate(1 << 16)
                device.write(pointer, np.zeros(1 << 14, np.uint32))
                device.launch(module, "kernel", 128, 128, [pointer])
                assert (device.read(pointer, 1 << 16).view(np.uint32) == 1).all()
        except Exception as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


ADD_ONE = f"""{INDEX}
  add.u64 %rd31, %rd0, %rd30; ld.global.u32 %r1, [%rd31]; add.u32 %r1, %r1, 1;
  st.global.u32 [%rd31], %r1; ret;"""

MATMUL = """
  mov.u32 %r1, %tid.x; mov.u32 %r2, %tid.y; mov.u32 %r3, %ctaid.x; mov.u32 %r4, %ctaid.y;
  mad.lo.u32 %r5, %r4, 16, %r2;  // this thread's row of c
  mad.lo.u32 %r6, %r3, 16, %r1;  // and its column
  mad.lo.u32 %r7, %r5, {n}, %r1; mul.wide.u32 %rd4, %r7, 4; add.u64 %rd4, %rd4, %rd0;
  mad.lo.u32 %r8, %r2, {n}, %r6; mul.wide.u32 %rd5, %r8, 4; add.u64 %rd5, %rd5, %rd1;
  mov.u32 %r9, a_tile; mad.lo.u32 %r10, %r2, 64, %r9; mad.lo.u32 %r13, %r1, 4, %r10;
  mov.u32 %r14, b_tile; mad.lo.u32 %r11, %r1, 4, %r14; mad.lo.u32 %r15, %r2, 64, %r11;
  mov.f32 %f3, 0f00000000; mov.u32 %r20, 0;
loop:
  ld.global.f32 %f4, [%rd4]; ld.global.f32 %f5, [%rd5];
  st.shared.f32 [%r13], %f4; st.shared.f32 [%r15], %f5;
  bar.sync 0;
  {steps}
  bar.sync 0;
  add.u64 %rd4, %rd4, 64; add.u64 %rd5, %rd5, {rows};
  add.u32 %r20, %r20, 16; setp.lt.u32 %p1, %r20, {n}; @%p1 bra loop;
  mad.lo.u32 %r21, %r5, {n}, %r6; mul.wide.u32 %rd6, %r21, 4; add.u64 %rd6, %rd6, %rd2;
  st.global.f32 [%rd6], %f3; ret;"""
TILES = ".shared .align 16 .b8 a_tile[1024]; .shared .align 16 .b8 b_tile[1024];"


def matmul(n):
    steps = " ".join(
        f"ld.shared.f32 %f1, [%r10+{4 * k}]; ld.shared.f32 %f2, [%r11+{64 * k}]; "
        "fma.rn.f32 %f3, %f1, %f2, %f3;"
        for k in range(16)
    )
    return MATMUL.format(n=n, rows=64 * n, steps=steps)


def test_a_tiled_matmul():
    n = 64
    random = np.random.default_rng(0)
    a, b = random.standard_normal((2, n, n)).astype(np.float32)
    grid = (n // 16, n // 16)
    report, (_, _, c) = run(
        matmul(n), a, b, np.zeros_like(a), grid=grid, block=(16, 16), shared=TILES
    )
    np.testing.assert_allclose(c, a.astype(float) @ b, rtol=1e-5, atol=1e-5)
    # 16 blocks, 4 rounds: two tiles of 32 sectors each; and the stores
    assert report.global_transactions == 16 * 4 * 2 * 32 + 16 * 32 * 4 // 4 * 1
    assert report.bank_conflicts == 0


def test_a_matmul_of_128_takes_well_under_a_second():
    """A bound that allows for a machine many times slower and busy; it is 0.15 s on one at hand."""
    n = 128
    a = np.ones((n, n), np.float32)
    options = {"grid": (8, 8), "block": (16, 16), "shared": TILES}
    run(matmul(n), a, a, a, **options)
    start = time.perf_counter()
    _, (_, _, c) = run(matmul(n), a, a, a, **options)
    assert time.perf_counter() - start < 3
    np.testing.assert_array_equal(c, n)
