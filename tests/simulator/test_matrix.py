"""mma.sync against a product in float64, with operands through ldmatrix and by the ISA's maps."""

import numpy as np
import pytest
from ptx_kernels import run

from minicomp.errors import SimulationError
from minicomp.simulator.formats import decode, encode

LANE = np.arange(32)
GROUP, TURN = LANE // 4, LANE % 4
RANDOM = np.random.default_rng(0)

#: by shape and type: for each register of a and b, its row and its column or k, element 0
A_MAPS = {
    ("m16n8k4", "tf32"): [(0, 0), (8, 0)],
    ("m16n8k8", "tf32"): [(0, 0), (8, 0), (0, 4), (8, 4)],
    ("m16n8k8", "f16"): [(0, 0), (8, 0)],
    ("m16n8k8", "bf16"): [(0, 0), (8, 0)],
    ("m16n8k16", "f16"): [(0, 0), (8, 0), (0, 8), (8, 8)],
    ("m16n8k16", "bf16"): [(0, 0), (8, 0), (0, 8), (8, 8)],
}


def values(shape, form):
    """Random numbers that the format holds exactly, and their bits."""
    x = RANDOM.standard_normal(shape)
    bits = encode(x, form)
    if form == "tf32":
        return bits.view(np.float32).astype(np.float64), bits
    return decode(bits, form), bits


def registers_of_a(bits, maps, per):
    """(lanes, registers) of uint32: in each, `per` neighbours along k."""
    columns = []
    for row, k in maps:
        parts = [bits[GROUP + row, TURN * per + k + i].astype(np.uint32) for i in range(per)]
        columns.append(parts[0] if per == 1 else parts[0] | parts[1] << 16)
    return np.stack(columns, axis=1)


def registers_of_b(bits, maps, per):
    columns = []
    for k in sorted({k for _, k in maps}):
        parts = [bits[TURN * per + k + i, GROUP].astype(np.uint32) for i in range(per)]
        columns.append(parts[0] if per == 1 else parts[0] | parts[1] << 16)
    return np.stack(columns, axis=1)


def body(shape, form, a, b):
    loads = [f"ld.global.b32 %r{i + 1}, [%rd10+{4 * i}];" for i in range(a)]
    loads += [f"ld.global.b32 %r{i + 11}, [%rd11+{4 * i}];" for i in range(b)]
    loads += [f"ld.global.f32 %f{i + 1}, [%rd12+{4 * i}];" for i in range(4)]
    stores = [f"st.global.f32 [%rd12+{4 * i}], %f{i + 11};" for i in range(4)]
    left = ", ".join(f"%r{i + 1}" for i in range(a))
    right = ", ".join(f"%r{i + 11}" for i in range(b))
    return f"""
      mov.u32 %r50, %tid.x;
      mul.wide.u32 %rd5, %r50, {4 * a}; add.u64 %rd10, %rd0, %rd5;
      mul.wide.u32 %rd5, %r50, {4 * b}; add.u64 %rd11, %rd1, %rd5;
      mul.wide.u32 %rd5, %r50, 16; add.u64 %rd12, %rd2, %rd5;
      {" ".join(loads)}
      mma.sync.aligned.{shape}.row.col.f32.{form}.{form}.f32
        {{%f11, %f12, %f13, %f14}}, {{{left}}}, {{{right}}}, {{%f1, %f2, %f3, %f4}};
      {" ".join(stores)} ret;"""


def accumulator(matrix):
    """(lanes, 4): two neighbours of a row, and the same eight rows below."""
    places = [(GROUP + row, 2 * TURN + i) for row in (0, 8) for i in (0, 1)]
    return np.stack([matrix[place] for place in places], axis=1)


@pytest.mark.parametrize(("shape", "form"), A_MAPS)
def test_products_of_fragments_are_matrix_products(shape, form):
    k, per = int(shape.split("k")[1]), 1 if form == "tf32" else 2
    warps, maps = 2, A_MAPS[shape, form]
    pieces = []
    for _ in range(warps):
        (a, a_bits), (b, b_bits) = values((16, k), form), values((k, 8), form)
        c = RANDOM.standard_normal((16, 8)).astype(np.float32)
        fragments = registers_of_a(a_bits, maps, per), registers_of_b(b_bits, maps, per)
        pieces.append((*fragments, accumulator(c), accumulator((a @ b + c).astype(np.float32))))
    a, b, c, expected = (np.stack(parts) for parts in zip(*pieces))
    text = body(shape, form, a.shape[2], b.shape[2])
    _, (_, _, out) = run(text, a, b, c, block=32 * warps)
    np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-6)


def test_tf32_ignores_the_low_bits():
    ones = np.full((16, 4), 0x3F801FFF, np.uint32)
    maps = A_MAPS["m16n8k4", "tf32"]
    a = registers_of_a(ones, maps, 1)
    b = registers_of_b(np.full((4, 8), 0x3F800000, np.uint32), maps, 1)
    _, (_, _, out) = run(body("m16n8k4", "tf32", 2, 1), a, b, np.zeros((32, 4), np.float32))
    np.testing.assert_array_equal(out, 4.0)


def test_products_pass_infinities_and_nan_on():
    bits = np.full((16, 8), 0x3C00, np.uint16)
    bits[3, 0] = 0x7C00
    bits[5, 1] = 0x7E00
    maps = A_MAPS["m16n8k8", "f16"]
    a = registers_of_a(bits, maps, 2)
    b = registers_of_b(np.full((8, 8), 0x3C00, np.uint16), maps, 2)
    _, (_, _, out) = run(body("m16n8k8", "f16", 2, 1), a, b, np.zeros((32, 4), np.float32))
    expected = np.full((16, 8), 8.0)
    expected[3], expected[5] = np.inf, np.nan
    np.testing.assert_array_equal(out, accumulator(expected))


def test_a_product_needs_the_whole_warp():
    text = """
      mov.u32 %r50, %tid.x; setp.lt.u32 %p1, %r50, LIMIT; mov.b32 %r1, 0; mov.f32 %f1, 0f00000000;
      @%p1 bra skip;
      mma.sync.aligned.m16n8k4.row.col.f32.tf32.tf32.f32
        {%f2, %f3, %f4, %f5}, {%r1, %r1}, {%r1}, {%f1, %f1, %f1, %f1};
    skip: ret;"""
    with pytest.raises(
        SimulationError, match=r"for lane 0 of its warp, which has returned at line"
    ):
        run(text.replace("LIMIT", "40"), np.zeros(1), block=64)
    run(text.replace("LIMIT", "32"), np.zeros(1), block=64)
    with pytest.raises(
        SimulationError, match=r"for lane 16 of its warp, which is not in the block"
    ):
        run(text.replace("LIMIT", "32"), np.zeros(1), block=48)


MATRICES = """
  mov.u32 %r50, %tid.x;
  mov.u32 %r3, tile; mad.lo.u32 %r4, %r50, 16, %r3;
  mul.wide.u32 %rd5, %r50, 16; add.u64 %rd10, %rd0, %rd5; add.u64 %rd11, %rd1, %rd5;
  ld.global.v4.f32 {%f1, %f2, %f3, %f4}, [%rd10];
  st.shared.v4.f32 [%r4], {%f1, %f2, %f3, %f4};
  bar.sync 0;
  LOAD
  st.global.v4.b32 [%rd11], {%r10, %r11, %r12, %r13}; ret;"""
TILE = ".shared .align 16 .b8 tile[512];"


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("transposed", [False, True])
def test_ldmatrix_spreads_rows_of_eight_over_a_warp(count, transposed):
    matrices = RANDOM.integers(0, 1 << 16, (4, 8, 8)).astype(np.uint16)
    names = ["%r10", "%r11", "%r12", "%r13"]
    trans = ".trans" if transposed else ""
    targets = ", ".join(names[:count])
    load = f"ldmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 {{{targets}}}, [%r4];"
    load = " ".join(f"mov.b32 {name}, 0;" for name in names) + load
    _, (_, out) = run(
        MATRICES.replace("LOAD", load), matrices, np.zeros((32, 4), np.uint32), shared=TILE
    )
    for i in range(count):
        m = matrices[i].T if transposed else matrices[i]
        pairs = (
            m[GROUP, 2 * TURN].astype(np.uint32) | m[GROUP, 2 * TURN + 1].astype(np.uint32) << 16
        )
        np.testing.assert_array_equal(out[:, i], pairs)
    np.testing.assert_array_equal(out[:, count:], 0)


def test_ldmatrix_checks_the_rows_that_it_reads():
    load = """setp.eq.u32 %p1, %r50, LANE; @%p1 add.u32 %r4, %r4, 8; mov.b32 %r11, 0;
      mov.b32 %r12, 0; mov.b32 %r13, 0;
      ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r10}, [%r4];"""
    text = MATRICES.replace("LOAD", load)
    data = np.zeros((32, 4), np.uint32)
    with pytest.raises(SimulationError, match=r"ldmatrix.*not aligned to 16.*thread \(5, 0, 0\)"):
        run(text.replace("LANE", "5"), data, data, shared=TILE)
    run(text.replace("LANE", "8"), data, data, shared=TILE)


def test_a_product_through_ldmatrix():
    """a (16 x 16, rows) and b (16 x 8, rows, transposed on the way) as a kernel would do it."""
    (a, a_bits), (b, b_bits) = values((16, 16), "bf16"), values((16, 8), "bf16")
    text = """
      mov.u32 %r50, %tid.x; mov.u32 %r3, tile; mad.lo.u32 %r4, %r50, 16, %r3;
      mul.wide.u32 %rd5, %r50, 16; add.u64 %rd10, %rd0, %rd5; add.u64 %rd11, %rd1, %rd5;
      ld.global.v4.b32 {%r5, %r6, %r7, %r8}, [%rd10];
      st.shared.v4.b32 [%r4], {%r5, %r6, %r7, %r8};
      setp.lt.u32 %p1, %r50, 16;
      @%p1 ld.global.v4.b32 {%r5, %r6, %r7, %r8}, [%rd11];
      mov.u32 %r9, other; mad.lo.u32 %r9, %r50, 16, %r9;
      @%p1 st.shared.v4.b32 [%r9], {%r5, %r6, %r7, %r8};
      bar.sync 0;
      // lanes 0-15 name rows 0-15 of a's left half, lanes 16-31 those of its right half
      and.b32 %r20, %r50, 15; shr.u32 %r21, %r50, 4;
      mad.lo.u32 %r22, %r20, 32, %r3; mad.lo.u32 %r22, %r21, 16, %r22;
      ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r30, %r31, %r32, %r33}, [%r22];
      mov.u32 %r23, other; mad.lo.u32 %r23, %r20, 16, %r23;
      ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%r34, %r35}, [%r23];
      mov.f32 %f1, 0f00000000;
      mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f11, %f12, %f13, %f14},
        {%r30, %r31, %r32, %r33}, {%r34, %r35}, {%f1, %f1, %f1, %f1};
      shr.u32 %r40, %r50, 2; and.b32 %r41, %r50, 3;
      mul.lo.u32 %r42, %r40, 32; mad.lo.u32 %r42, %r41, 8, %r42;
      cvt.u64.u32 %rd6, %r42; add.u64 %rd7, %rd2, %rd6;
      st.global.v2.f32 [%rd7], {%f11, %f12}; st.global.v2.f32 [%rd7+256], {%f13, %f14};
      ret;"""
    shared = TILE + " .shared .align 16 .b8 other[512];"
    _, (_, _, out) = run(text, a_bits, b_bits, np.zeros((16, 8), np.float32), shared=shared)
    np.testing.assert_allclose(out, a @ b, rtol=1e-6, atol=1e-6)
