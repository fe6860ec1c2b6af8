"""A program's `main`: its kernels in order, on the right buffers, shared where it pays."""

import ctypes
import re

import numpy as np
import pytest

from minicomp.codegen.llvm_program import emit_program
from minicomp.codegen.native_plan import Step
from minicomp.runtime.jit import assembly, compile_ir
from minicomp.runtime.threads import parallel_for_address

MAIN = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINICOMP_CACHE_DIR", str(tmp_path / "cache"))


def pointwise(instruction):
    """A kernel out[i] = a[i] `instruction` b[i] on float64; its units are elements."""
    return f"""
    define void @kernel(ptr %args, i64 %begin, i64 %end) {{
    entry:
      %p1 = getelementptr ptr, ptr %args, i64 1
      %p2 = getelementptr ptr, ptr %args, i64 2
      %a = load ptr, ptr %args
      %b = load ptr, ptr %p1
      %out = load ptr, ptr %p2
      br label %loop
    loop:
      %i = phi i64 [%begin, %entry], [%next, %loop]
      %pa = getelementptr double, ptr %a, i64 %i
      %pb = getelementptr double, ptr %b, i64 %i
      %po = getelementptr double, ptr %out, i64 %i
      %x = load double, ptr %pa
      %y = load double, ptr %pb
      %z = {instruction} double %x, %y
      store double %z, ptr %po
      %next = add i64 %i, 1
      %more = icmp slt i64 %next, %end
      br i1 %more, label %loop, label %done
    done:
      ret void
    }}"""


def run(steps, buffers, number=2):
    libraries = {name: compile_ir(pointwise(name), ["kernel"]) for name in ("fadd", "fmul", "fsub")}
    imports = {name: library.address("kernel") for name, library in libraries.items()}
    imports["minicomp_parallel_for"] = parallel_for_address()
    main = compile_ir(
        emit_program(steps), ["main"], imports=imports, needs=list(libraries.values())
    )
    table = (ctypes.c_void_p * max(len(buffers), 1))(*(b.ctypes.data for b in buffers))
    MAIN(main.address("main"))(ctypes.addressof(table), number)


def some_buffers(count, size):
    return list(np.random.default_rng(0).standard_normal((count, size)))


@pytest.mark.parametrize("number", [1, 2, 4])
@pytest.mark.parametrize("grain", [1, 10, 1000])
def test_steps_run_in_order_on_their_buffers(grain, number):
    size = 200
    a, b, c, d, out = buffers = some_buffers(5, size)
    want = (a + b) * c - d
    steps = [
        Step("fadd", (0, 1, 4), size, grain),
        Step("fmul", (4, 2, 4), size, grain),
        Step("fsub", (4, 3, 4), size, grain),
    ]
    run(steps, buffers, number)
    assert np.array_equal(out, want)


def test_one_kernel_may_serve_several_steps():
    a, b, c, out = buffers = some_buffers(4, 50)
    want = (a + b) + c
    run([Step("fadd", (0, 1, 3), 50), Step("fadd", (3, 2, 3), 50)], buffers)
    assert np.array_equal(out, want)


def test_a_long_program():
    a, b = buffers = some_buffers(2, 10)
    want = a + 500 * b
    run([Step("fadd", (0, 1, 0), 10, 10)] * 500, buffers)
    assert np.allclose(a, want, rtol=1e-12)


def test_an_empty_program_and_empty_steps_do_nothing():
    buffers = some_buffers(2, 10)
    before = [buffer.copy() for buffer in buffers]
    run([], buffers)
    run([Step("fadd", (0, 1, 0), units=0)], buffers)
    assert np.array_equal(buffers, before)


def test_programs_differing_in_their_kernels_alone_share_one_object():
    """The text is the same, so is the object; the kernel is bound when linking."""
    text = emit_program([Step("kernel", (0, 1, 2), 10, 10)])
    for instruction, meaning in (("fadd", np.add), ("fmul", np.multiply)):
        kernel = compile_ir(pointwise(instruction), ["kernel"])
        imports = {"kernel": kernel.address("kernel")}
        main = compile_ir(text, ["main"], imports=imports, needs=[kernel])
        a, b, out = buffers = some_buffers(3, 10)
        table = (ctypes.c_void_p * 3)(*(b.ctypes.data for b in buffers))
        MAIN(main.address("main"))(ctypes.addressof(table), 1)
        assert np.array_equal(out, meaning(a, b))


def test_a_small_step_is_called_directly_and_a_large_one_shared():
    text = emit_program([Step("small", (0,), units=8, grain=8), Step("large", (0,), 9, 8)])
    assert re.search(r'call void @"small"\(ptr %"args", i64 0, i64 8\)', text)
    shared = r'call void @"minicomp_parallel_for"\(.*@"large", ptr %"args", i64 9, i64 8, i64 %"thr'
    assert re.search(shared, text)
    assert [Step("k", (), 8, 8).shared, Step("k", (), 9, 8).shared] == [False, True]


def test_steps_are_explained_in_the_text():
    text = emit_program([Step("softmax", (3, 0), 64, 8), Step("relu", (1,), 0)])
    assert "; step 0: softmax(buffers 3, 0)" in text
    assert "; step 1: relu(buffers 1)\n  ; nothing to do: no units" in text


def test_a_program_is_named():
    text = emit_program([Step("relu", (0,), 1)], name="classify")
    assert 'define void @"classify"(ptr %"buffers", i64 %"threads")' in text
    assert "classify:" in assembly(text)
