"""The JIT: IR text in, addresses out, compiled once in a process and once on a machine."""

import ctypes
import gc
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from minicomp import disk_cache
from minicomp.codegen.generated import Generated
from minicomp.disk_cache import cache_directory
from minicomp.errors import CacheWarning, InternalError, OptionError
from minicomp.runtime import jit
from minicomp.runtime.jit import assembly, compile_ir, optimized_ir
from minicomp.runtime.target import AARCH64_CPUS, X86_64_CPUS, Target, host_target

ON_X86 = host_target().architecture == "x86_64"
UNARY = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINICOMP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(disk_cache, "_warned", set())
    monkeypatch.setattr(disk_cache, "_unwritable", set())


@pytest.fixture
def counts():
    """The counts of compiled, loaded and reused libraries since the test began."""
    before = (jit.statistics.compiled, jit.statistics.loaded, jit.statistics.reused)

    def difference():
        now = (jit.statistics.compiled, jit.statistics.loaded, jit.statistics.reused)
        return tuple(a - b for a, b in zip(now, before, strict=True))

    return difference


_constants = iter(range(10_000))


def adder(constant, name="f"):
    """A module with `double f(double x)` that adds a constant."""
    return (
        f"define double @{name}(double %x) {{\n"
        f"  %sum = fadd double %x, {float(constant):e}\n"
        "  ret double %sum\n}\n"
    )


def new_adder():
    """One that no test has compiled, and what it adds."""
    constant = next(_constants)
    return adder(constant), constant


def call(library, x, name="f"):
    return UNARY(library.address(name))(x)


# --- compiling, once ---


def test_compiles_and_runs():
    text, constant = new_adder()
    assert call(compile_ir(text, ["f"]), 0.5) == constant + 0.5


def test_equal_modules_are_linked_once(counts):
    text, _ = new_adder()
    first, second = compile_ir(text, ["f"]), compile_ir(text, ["f"])
    assert first is second
    assert counts() == (1, 0, 1)


def test_a_library_that_nobody_holds_is_loaded_from_disk(counts):
    text, constant = new_adder()
    compile_ir(text, ["f"])
    gc.collect()
    assert call(compile_ir(text, ["f"]), 1) == constant + 1
    assert counts() == (1, 1, 0)


def test_without_the_disk_cache_nothing_is_written(counts):
    text, _ = new_adder()
    compile_ir(text, ["f"], use_disk_cache=False)
    gc.collect()
    compile_ir(text, ["f"], use_disk_cache=False)
    assert counts() == (2, 0, 0)
    assert not cache_directory().exists()


def test_a_second_process_compiles_nothing():
    program = (
        "from minicomp.runtime import jit\n"
        f"library = jit.compile_ir({adder(4711)!r}, ['f'])\n"
        "import ctypes\n"
        "f = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(library.address('f'))\n"
        "print(f(0.25), jit.statistics.compiled, jit.statistics.loaded)"
    )
    outputs = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
        for _ in range(2)
    ]
    assert outputs == [b"4711.25 1 0\n", b"4711.25 0 1\n"]


def test_a_damaged_object_is_compiled_anew(counts):
    text, constant = new_adder()
    compile_ir(text, ["f"])
    gc.collect()
    (file,) = [path for path in Path(cache_directory()).rglob("*") if path.is_file()]
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.warns(CacheWarning, match=file.name):
        assert call(compile_ir(text, ["f"]), 1) == constant + 1
    gc.collect()
    compile_ir(text, ["f"])
    assert counts() == (2, 1, 0)


def test_another_version_of_minicomp_compiles_anew(counts, monkeypatch):
    text, _ = new_adder()
    compile_ir(text, ["f"])
    gc.collect()
    monkeypatch.setattr(jit, "source_digest", lambda: "another")
    compile_ir(text, ["f"])
    assert counts() == (2, 0, 0)


# --- modules that are generated when needed ---


@pytest.fixture
def generated():
    """Makes modules that add a constant, and lists for which of them a text was generated."""

    def emit_adder(constant):
        generated.texts.append(constant)
        return adder(constant)

    def generated(constant):
        return Generated(emit_adder, constant)

    generated.texts = []
    return generated


def test_what_is_found_compiled_is_not_generated(counts, generated):
    for _ in range(3):
        assert call(compile_ir(generated(12345), ["f"]), 1) == 12346
        gc.collect()
    assert counts() == (1, 2, 0)
    assert generated.texts == [12345]


def test_a_damaged_object_is_generated_anew(counts, generated):
    compile_ir(generated(12346), ["f"])
    gc.collect()
    (file,) = [path for path in Path(cache_directory()).rglob("*") if path.is_file()]
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.warns(CacheWarning, match=file.name):
        assert call(compile_ir(generated(12346), ["f"]), 1) == 12347
    assert generated.texts == [12346, 12346]


def test_without_the_disk_cache_the_text_is_what_counts(counts, generated):
    held = [compile_ir(generated(n), ["f"], use_disk_cache=False) for n in (12347, 12348, 12347)]
    assert [call(library, 0) for library in held] == [12347, 12348, 12347]
    assert counts() == (2, 0, 1)
    assert generated.texts == [12347, 12348, 12347]


@pytest.mark.skipif(not ON_X86, reason="names x86-64 CPUs")
def test_another_target_compiles_anew(counts):
    text, constant = new_adder()
    compile_ir(text, ["f"])
    library = compile_ir(text, ["f"], Target.for_cpu("x86-64"))
    assert call(library, 1) == constant + 1
    assert counts() == (2, 0, 0)


def test_several_threads_compile_at_once():
    texts = [new_adder() for _ in range(8)]
    start = threading.Barrier(8)

    def work(item):
        text, constant = item
        start.wait()
        return all(call(compile_ir(text, ["f"]), x) == constant + x for x in range(20))

    with ThreadPoolExecutor(8) as executor:
        assert all(executor.map(work, texts))


# --- linking ---


def test_libraries_may_export_the_same_name():
    (one, a), (two, b) = new_adder(), new_adder()
    first, second = compile_ir(one, ["f"]), compile_ir(two, ["f"])
    assert (call(first, 0), call(second, 0)) == (a, b)


CALLER = """
declare double @inner(double)
define double @f(double %x) {
  %once = call double @inner(double %x)
  %twice = call double @inner(double %once)
  ret double %twice
}
"""


def test_a_cached_object_holds_no_addresses(counts):
    (one, a), (two, b) = new_adder(), new_adder()
    results = []
    for text in (one, two):
        inner = compile_ir(text, ["f"])
        outer = compile_ir(CALLER, ["f"], imports={"inner": inner.address("f")}, needs=[inner])
        results.append(call(outer, 0))
    assert results == [2 * a, 2 * b]
    assert counts() == (3, 1, 0)


def test_a_library_keeps_those_it_needs():
    text, constant = new_adder()
    inner = compile_ir(text, ["f"])
    outer = compile_ir(CALLER, ["f"], imports={"inner": inner.address("f")}, needs=[inner])
    del inner
    gc.collect()
    for _ in range(20):  # would reuse the memory of a library that was freed
        compile_ir(new_adder()[0], ["f"])
    assert call(outer, 0) == 2 * constant


def test_addresses_of_functions_can_be_imported():
    callback = UNARY(lambda x: 10 * x)
    address = ctypes.cast(callback, ctypes.c_void_p).value
    assert call(compile_ir(CALLER, ["f"], imports={"inner": address}), 1) == 100


def test_what_llvm_calls_by_itself_is_found():
    text = """
    define double @f(double %x) {
      %r = frem double %x, 3.0
      ret double %r
    }
    define void @copy(ptr %to, ptr %from, i64 %n) {
      call void @llvm.memcpy.p0.p0.i64(ptr %to, ptr %from, i64 %n, i1 false)
      ret void
    }
    declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
    """
    library = compile_ir(text, ["f", "copy"])
    assert call(library, 7.5) == 1.5
    source, target = np.arange(1000.0), np.zeros(1000)
    copy = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, ctypes.c_int64)(library.address("copy"))
    copy(target.ctypes.data, source.ctypes.data, source.nbytes)
    assert np.array_equal(source, target)


def test_variables_can_be_exported():
    library = compile_ir("@v = global i64 42, align 128", ["v"])
    assert library.address("v") % 128 == 0
    assert ctypes.c_int64.from_address(library.address("v")).value == 42


def test_vector_constants_are_aligned():
    lanes = ", ".join(f"float {float(n):e}" for n in range(16))
    text = f"""
    define void @f(ptr %p) {{
      %x = load <16 x float>, ptr %p, align 4
      %y = fadd <16 x float> %x, <{lanes}>
      store <16 x float> %y, ptr %p, align 4
      ret void
    }}"""
    libraries = [compile_ir(text + f"\n; {n}", ["f"]) for n in range(10)]
    for library in libraries:
        values = np.ones(17, np.float32)[1:]
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(library.address("f"))(values.ctypes.data)
        assert np.array_equal(values, 1 + np.arange(16, dtype=np.float32))


# --- mistakes of the generators ---


def test_a_syntax_error_names_the_line():
    text = "define i32 @f() {\n  %x = add i32 %y, 1\n  ret i32 %x\n}"
    with pytest.raises(InternalError, match=r"(?s):2:.*undefined value '%y'.*%x = add i32 %y"):
        compile_ir(text, ["f"])


def test_a_broken_rule_names_the_line():
    text = """define i32 @"f"(i1 %"c") {
    entry:
      br i1 %"c", label %"a", label %"b"
    a:
      %"x" = add i32 1, 2
      br label %"b"
    b:
      ret i32 %"x"
    }"""
    with pytest.raises(InternalError, match=r"(?s)does not dominate.*line 5 of the IR"):
        compile_ir(text, ["f"])


@pytest.mark.parametrize("name", ["no_such_function", "cbrt"])
def test_functions_from_elsewhere_must_be_imported(name):
    with pytest.raises(InternalError, match=f"calls {name}, .*imports \\(none\\)"):
        compile_ir(CALLER.replace("inner", name), ["f"])


def test_an_export_that_the_module_lacks_is_an_error(capfd):
    with pytest.raises(InternalError, match="cannot link"):
        compile_ir(new_adder()[0], ["g"])
    capfd.readouterr()


# --- the code ---

SUM = """
define void @kernel(ptr %args, i64 %begin, i64 %end) {
entry:
  %sum = alloca <16 x float>
  %i = alloca i64
  store <16 x float> zeroinitializer, ptr %sum
  store i64 %begin, ptr %i
  br label %head
head:
  %at = load i64, ptr %i
  %more = icmp slt i64 %at, %end
  br i1 %more, label %body, label %done
body:
  ; the accumulator is a variable; it must become a register
  %p = getelementptr <16 x float>, ptr %args, i64 %at
  %x = load <16 x float>, ptr %p, align 4
  %old = load <16 x float>, ptr %sum
  %new = fadd <16 x float> %old, %x
  store <16 x float> %new, ptr %sum
  %next = add i64 %at, 1
  store i64 %next, ptr %i
  br label %head
done:
  %total = load <16 x float>, ptr %sum
  store <16 x float> %total, ptr %args, align 4
  ret void
}
"""


def test_variables_become_registers():
    text = optimized_ir(SUM)
    assert "alloca" not in text and "phi <16 x float>" in text


@pytest.mark.parametrize(
    ("cpu", "register", "wider"),
    [
        ("x86-64", "xmm", "ymm"),
        ("haswell", "ymm", "zmm"),
        ("znver3", "ymm", "zmm"),
        ("znver4", "zmm", None),
        # These prefer 256 bits where LLVM may choose; explicit vectors stay whole.
        ("skylake-avx512", "zmm", "ymm"),
        ("icelake-server", "zmm", "ymm"),
    ],
)
def test_vectors_fill_the_targets_registers(cpu, register, wider):
    text = assembly(SUM, Target.for_cpu(cpu))
    assert register in text
    assert wider is None or wider not in text.replace("vzeroupper", "")


@pytest.mark.parametrize("cpu", ["neoverse-n1", "apple-m1"])
def test_assembly_for_aarch64(cpu):
    text = assembly(SUM, Target.for_cpu(cpu))
    assert re.search(r"fadd(\.4s)?\s+v\d+", text)


@pytest.mark.parametrize("cpu", [*X86_64_CPUS, *AARCH64_CPUS])
def test_every_named_cpu_is_known_to_llvm(cpu, capfd):
    target = Target.for_cpu(cpu)
    text = assembly(SUM, target)
    assert capfd.readouterr().err == ""
    if target.architecture == "x86_64":
        widest = {128: "xmm", 256: "ymm", 512: "zmm"}[target.vector_bits]
        assert widest in text


def test_assembly_is_of_the_host_by_default():
    assert assembly(SUM) == assembly(SUM, host_target())


# --- targets ---


def test_the_host_is_described():
    target = host_target()
    assert target.triple and target.cpu and target.vector_bits in (128, 256, 512)
    assert target is host_target()


@pytest.mark.skipif(not ON_X86, reason="names x86-64 CPUs")
def test_an_older_cpu_can_stand_in_for_the_host(monkeypatch):
    monkeypatch.setenv("MINICOMP_CPU", "x86-64")
    assert host_target() == Target.for_cpu("x86-64")
    assert "ymm" not in assembly(SUM)
    monkeypatch.delenv("MINICOMP_CPU")
    assert host_target().cpu != "x86-64"


def test_an_unknown_cpu_is_refused_with_the_known_ones(monkeypatch):
    with pytest.raises(OptionError, match=r"unknown CPU 'hasswell'.*haswell"):
        Target.for_cpu("hasswell")
    monkeypatch.setenv("MINICOMP_CPU", "hasswell")
    with pytest.raises(OptionError, match="hasswell"):
        host_target()


def test_a_cpu_of_another_kind_cannot_stand_in(monkeypatch):
    monkeypatch.setenv("MINICOMP_CPU", "neoverse-n1" if ON_X86 else "haswell")
    with pytest.raises(OptionError, match="MINICOMP_CPU"):
        host_target()
