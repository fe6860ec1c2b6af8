"""What the machine can do at most: fused multiply-adds, reading and copying memory.

In: a number of threads, and what a workload does. Out: `Roof`s, each a callable and the work that a
call of it does, to be timed among the contestants of a row, so that a share of the peak is a ratio
like any other.

    roof = ROOFS["fma"](threads=1, work=2e9, arrays=[a, b])
    roof.work / seconds(roof.run)      # floating-point operations a second

The kernels are generated like minicomp's own. Copying goes through stores that bypass the caches:
others first read what they will overwrite, which makes three transfers of a copy's two.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from minicomp.runtime.jit import compile_ir
from minicomp.runtime.target import host_target
from minicomp.runtime.threads import parallel_for

#: Independent sums in flight: more than latency times throughput of an FMA, few enough to stay
#: in registers on every machine with 16 of them.
CHAINS = 12
#: Steps of each chain in one unit of work: about a tenth of a millisecond.
STEPS = 1 << 13
#: Units of work in a call, per thread.
FMA_UNITS = 24
#: Bytes of a piece of an array, a unit of work of the memory kernels, and of a cache line.
PIECE_BYTES, LINE_BYTES = 1 << 18, 64
#: Vectors that a memory kernel moves in one step of its loop, and how far ahead it asks for memory.
#: Reading 40 MB to 128 MB on a Zen 4, that gains 3 to 7%; twice or four times as far gains less.
VECTORS, AHEAD = 8, 512


@dataclass(frozen=True, eq=False)
class Roof:
    """A kernel at the machine's limit: `work` is its operations, or its bytes, in one `run`."""

    work: float
    run: Callable[[], None]


def fma(threads: int, work: float, arrays: Sequence[np.ndarray]) -> Roof:
    """Multiply-adds of float32 vectors in registers; as many whatever the workload needs."""
    data = np.full(64, 0.5, np.float32)
    units = FMA_UNITS * threads
    operations = 2.0 * (host_target().vector_bits // 32) * CHAINS * STEPS * units
    return Roof(operations, _parallel(_fma_text(), [data], units, threads))


def read(threads: int, work: float, arrays: Sequence[np.ndarray]) -> Roof:
    """The sum of the workload's largest array: the caches hold as much of it as for the others."""
    largest = max(arrays, key=lambda array: array.nbytes)
    pieces = (largest.nbytes - LINE_BYTES) // PIECE_BYTES
    source = _pieces(largest.reshape(-1).view(np.float32), pieces)
    run = _parallel(_read_text(), [source, np.zeros(64, np.float32)], pieces, threads)
    return Roof(float(source.nbytes), run)


def copy(threads: int, work: float, arrays: Sequence[np.ndarray]) -> Roof:
    """An array copied to memory that is there already, `work` bytes read and written together."""
    pieces = math.ceil(work / 2 / PIECE_BYTES)
    count = (pieces * PIECE_BYTES + LINE_BYTES) // 4
    source, target = (_pieces(np.ones(count, np.float32), pieces) for _ in range(2))
    return Roof(2.0 * source.nbytes, _parallel(_copy_text(), [source, target], pieces, threads))


#: By name: from a number of threads, a workload's operations or bytes, and its arrays to a roof.
ROOFS: dict[str, Callable[[int, float, Sequence[np.ndarray]], Roof]] = {
    "fma": fma,
    "read": read,
    "copy": copy,
}


def _pieces(array: np.ndarray, pieces: int) -> np.ndarray:
    """So many pieces of a float32 array that is a cache line longer, from its first line on."""
    first = -array.ctypes.data % LINE_BYTES // 4
    return array[first : first + pieces * PIECE_BYTES // 4]


def _parallel(text: str, arrays: list[np.ndarray], units: int, threads: int) -> Callable[[], None]:
    library = compile_ir(text, ["kernel"])
    address = library.address("kernel")
    pointers = (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))

    def run(alive: tuple = (library, arrays)) -> None:  # what the addresses point into
        parallel_for(address, ctypes.addressof(pointers), units, 1, threads)

    return run


# --- the kernels, as LLVM IR ----------------------------------------------------------------------


def _vector() -> str:
    return f"<{host_target().vector_bits // 32} x float>"


def _bytes() -> int:
    return host_target().vector_bits // 8


def _lines(template: str, count: int = VECTORS) -> str:
    return "\n".join(template.format(n=n) for n in range(count))


def _fma_text() -> str:
    vector = _vector()
    name = f"llvm.fma.v{_bytes() // 4}f32"
    sums = _lines(f"  %sum{{n}} = phi {vector} [ %start, %entry ], [ %next{{n}}, %loop ]", CHAINS)
    steps = _lines(
        f"  %next{{n}} = call {vector} @{name}({vector} %sum{{n}}, {vector} %x, {vector} %x)",
        CHAINS,
    )
    totals = "\n".join(
        f"  %total{n} = fadd {vector} %{f'total{n - 1}' if n > 1 else 'next0'}, %next{n}"
        for n in range(1, CHAINS)
    )
    return f"""
declare {vector} @{name}({vector}, {vector}, {vector})
define void @kernel(ptr %args, i64 %begin, i64 %end) {{
entry:
  %data = load ptr, ptr %args
  %x = load {vector}, ptr %data, align 4
  %number = load float, ptr %data, align 4
  %first = insertelement {vector} zeroinitializer, float %number, i32 0
  %start = fadd {vector} %first, %x
  %units = sub i64 %end, %begin
  %count = mul i64 %units, {STEPS}
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %following, %loop ]
{sums}
{steps}
  %following = add i64 %i, 1
  %more = icmp ult i64 %following, %count
  br i1 %more, label %loop, label %done
done:
{totals}
  %aside = getelementptr i8, ptr %data, i64 128
  store {vector} %total{CHAINS - 1}, ptr %aside, align 4
  ret void
}}
"""


def _memory_loop(header: str, phis: str, body: str, footer: str, metadata: str = "") -> str:
    """A kernel whose loop goes through bytes [begin, end) of the pieces, `%i` its position."""
    return f"""
declare void @llvm.prefetch.p0(ptr, i32, i32, i32)
define void @kernel(ptr %args, i64 %begin, i64 %end) {{
entry:
  %source = load ptr, ptr %args
  %second = getelementptr ptr, ptr %args, i64 1
  %target = load ptr, ptr %second
{header}
  %first = mul i64 %begin, {PIECE_BYTES}
  %last = mul i64 %end, {PIECE_BYTES}
  br label %loop
loop:
  %i = phi i64 [ %first, %entry ], [ %following, %loop ]
{phis}
{body}
  %following = add i64 %i, {VECTORS * _bytes()}
  %more = icmp ult i64 %following, %last
  br i1 %more, label %loop, label %done
done:
{footer}
  ret void
}}
{metadata}"""


def _load(n: int) -> str:
    return (
        f"  %at{n} = add i64 %i, {n * _bytes()}\n"
        f"  %from{n} = getelementptr i8, ptr %source, i64 %at{n}\n"
        f"  %value{n} = load {_vector()}, ptr %from{n}, align 64\n"
        f"  %ahead{n} = getelementptr i8, ptr %from{n}, i64 {AHEAD}\n"
        f"  call void @llvm.prefetch.p0(ptr %ahead{n}, i32 0, i32 3, i32 1)"
    )


def _copy_text() -> str:
    stores = _lines(
        "  %to{n} = getelementptr i8, ptr %target, i64 %at{n}\n"
        f"  store {_vector()} %value{{n}}, ptr %to{{n}}, align 64, !nontemporal !0"
    )
    loads = "\n".join(map(_load, range(VECTORS)))
    return _memory_loop("", "", f"{loads}\n{stores}", "", "!0 = !{i32 1}\n")


def _read_text() -> str:
    vector = _vector()
    phis = _lines(f"  %sum{{n}} = phi {vector} [ zeroinitializer, %entry ], [ %next{{n}}, %loop ]")
    adds = _lines(f"  %next{{n}} = fadd {vector} %sum{{n}}, %value{{n}}")
    totals = "\n".join(
        f"  %total{n} = fadd {vector} %{f'total{n - 1}' if n > 1 else 'next0'}, %next{n}"
        for n in range(1, VECTORS)
    )
    footer = f"{totals}\n  store {vector} %total{VECTORS - 1}, ptr %target, align 4"
    loads = "\n".join(map(_load, range(VECTORS)))
    return _memory_loop("", phis, f"{loads}\n{adds}", footer)
