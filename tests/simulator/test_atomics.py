"""Atomics: as if one thread came after another."""

import numpy as np
import pytest
from ptx_kernels import INDEX, run

from minicomp.errors import SimulationError

CASES = {
    "add.u32": (np.uint32, lambda old, x: old + x),
    "add.s32": (np.int32, lambda old, x: np.array([old]) + x),
    "add.u64": (np.uint64, lambda old, x: old + x),
    "min.u32": (np.uint32, min),
    "max.s32": (np.int32, max),
    "min.s64": (np.int64, min),
    "max.u64": (np.uint64, max),
    "and.b32": (np.uint32, lambda old, x: old & x),
    "or.b32": (np.uint32, lambda old, x: old | x),
    "xor.b64": (np.uint64, lambda old, x: old ^ x),
    "exch.b32": (np.uint32, lambda old, x: x),
    "inc.u32": (np.uint32, lambda old, x: 0 if old >= x else old + 1),
    "dec.u32": (np.uint32, lambda old, x: x if old == 0 or old > x else old - 1),
    "add.f32": (np.float32, lambda old, x: old + x),
    "add.f64": (np.float64, lambda old, x: old + x),
}
PLACES = np.random.default_rng(0).integers(0, 5, 96)


def body(instruction, width, register, space):
    """Each thread applies it to one of five places with its own operand; then both are stored."""
    address = "add.u64 %rd33, %rd0, %rd31;"
    place, before, after = "[%rd33]", "", ""
    if space == "shared":
        address = "cvt.u32.u64 %r20, %rd31; mov.u32 %r21, tile; add.u32 %r22, %r21, %r20;"
        copy = "add.u64 %rd33, %rd0, %rd35; cvt.u32.u64 %r23, %rd35; add.u32 %r24, %r21, %r23;"
        place = "[%r22]"
        before = f"""mul.wide.u32 %rd35, %r50, {width}; {copy} setp.lt.u32 %p1, %r50, 5;
          @%p1 ld.global.b{8 * width} {register}7, [%rd33];
          @%p1 st.shared.b{8 * width} [%r24], {register}7; bar.sync 0;"""
        after = f"""bar.sync 0; @%p1 ld.shared.b{8 * width} {register}7, [%r24];
          @%p1 st.global.b{8 * width} [%rd33], {register}7;"""
    return f"""{INDEX}
      add.u64 %rd31, %rd1, %rd30; ld.global.u32 %r10, [%rd31];
      mul.wide.u32 %rd31, %r10, {width}; {address}
      mul.wide.u32 %rd32, %r50, {width};
      add.u64 %rd34, %rd2, %rd32; ld.global.b{8 * width} {register}5, [%rd34];
      {before}
      {instruction.format(place=place, register=register)}
      st.global.b{8 * width} [%rd34], {register}6;
      {after}
      ret;"""


@pytest.mark.parametrize("space", ["global", "shared"])
@pytest.mark.parametrize("name", CASES)
def test_every_thread_finds_what_the_ones_before_it_left(name, space):
    dtype, change = CASES[name]
    random = np.random.default_rng(1)
    if np.dtype(dtype).kind == "f":
        start, operands = (
            random.standard_normal(5).astype(dtype),
            random.standard_normal(96).astype(dtype),
        )
    else:
        size = 20 if name.startswith(("inc", "dec")) else 2**30
        start, operands = (
            random.integers(0, size, 5).astype(dtype),
            random.integers(0, size, 96).astype(dtype),
        )
    register = {"f4": "%f", "f8": "%fd", "u4": "%r", "i4": "%r", "u8": "%rd1", "i8": "%rd1"}[
        np.dtype(dtype).str[1:]
    ]
    text = body(
        f"atom.{space}.{name} {{register}}6, {{place}}, {{register}}5;",
        start.itemsize,
        register,
        space,
    )
    _, (left, _, found) = run(
        text,
        start,
        PLACES.astype(np.uint32),
        operands,
        block=96,
        shared=".shared .align 8 .b8 tile[64];",
    )
    state, expected = start.copy(), []
    with np.errstate(over="ignore"):
        for place, operand in zip(PLACES, operands):
            expected.append(state[place])
            state[place] = np.asarray(change(state[place], operand)).astype(dtype).item()
    np.testing.assert_array_equal(left, state)
    np.testing.assert_array_equal(found, np.array(expected, dtype))


def test_reductions_are_atomics_without_an_answer():
    text = f"""{INDEX}
      red.global.add.u32 [%rd0], 1; red.relaxed.gpu.global.max.u32 [%rd0+4], %r50;
      red.global.add.f32 [%rd0+8], 0f3F000000; ret;"""
    _, (out,) = run(text, np.zeros(3, np.uint32), grid=3, block=64)
    assert out[0] == 192 and out[1] == 191 and out[2:].view(np.float32)[0] == 96.0


def test_compare_and_swap_lets_one_thread_win():
    text = f"""{INDEX}
      add.u32 %r2, %r50, 10; atom.global.cas.b32 %r1, [%rd0], 0, %r2;
      add.u64 %rd31, %rd1, %rd30; st.global.u32 [%rd31], %r1; ret;"""
    _, (place, found) = run(text, np.zeros(1, np.uint32), np.zeros(64, np.uint32), block=64)
    assert place[0] == 10
    np.testing.assert_array_equal(found, [0] + [10] * 63)


def test_the_last_block_to_finish_sees_what_the_others_wrote():
    text = f"""{INDEX}
      setp.ne.u32 %p1, %r53, 0; @%p1 ret;
      mul.wide.u32 %rd31, %r51, 4; add.u64 %rd32, %rd1, %rd31; add.u32 %r2, %r51, 1;
      st.global.u32 [%rd32], %r2; membar.gl;
      mov.u32 %r3, %nctaid.x; sub.u32 %r4, %r3, 1;
      atom.global.inc.u32 %r5, [%rd0], %r4;
      setp.ne.u32 %p2, %r5, %r4; @%p2 ret;
      mov.u32 %r6, 0; mov.u32 %r7, 0; mov.u64 %rd33, %rd1;
    sum:
      ld.global.u32 %r8, [%rd33]; add.u32 %r6, %r6, %r8; add.u64 %rd33, %rd33, 4;
      add.u32 %r7, %r7, 1; setp.lt.u32 %p3, %r7, %r3; @%p3 bra sum;
      st.global.u32 [%rd2], %r6; ret;"""
    _, (count, _, total) = run(
        text, np.zeros(1, np.uint32), None, np.zeros(1, np.uint32), grid=900, block=64
    )
    assert count[0] == 0 and total[0] == 900 * 901 // 2


def test_atomics_are_checked_as_other_accesses_are():
    text = f"{INDEX} add.u64 %rd31, %rd0, %rd30; atom.global.add.u32 %r1, [%rd31+OFFSET], 1; ret;"
    data = np.zeros(32, np.uint32)
    with pytest.raises(SimulationError, match=r"out of bounds.*thread \(31, 0, 0\)"):
        run(text.replace("OFFSET", "4"), data)
    with pytest.raises(SimulationError, match="not aligned to 4 bytes"):
        run(text.replace("OFFSET", "2"), data)
    with pytest.raises(SimulationError, match="never written"):
        run(text.replace("OFFSET", "0"), None)
    run(text.replace("OFFSET", "0"), data)
