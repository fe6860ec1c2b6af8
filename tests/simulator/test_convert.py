"""cvt between all widths and kinds, with rounding, clamping and NaN."""

from fractions import Fraction

import numpy as np
import pytest
from ptx_kernels import floats, integers, result_of, run, same

from minicomp.simulator.formats import decode, encode, narrow

INTEGERS = {f"{k}{w}": np.dtype(f"{'iu'[k == 'u']}{w // 8}") for k in "us" for w in (16, 32, 64)}
FLOATS = {"f32": np.dtype(np.float32), "f64": np.dtype(np.float64)}
WHOLE = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


def wrapped(values, dtype):
    bits = np.dtype(dtype).itemsize * 8
    return np.array([int(value) % 2**bits for value in values], f"u{bits // 8}").view(dtype)


@pytest.mark.parametrize("source", INTEGERS)
@pytest.mark.parametrize("result", INTEGERS)
def test_integers_are_extended_or_cut(result, source):
    a = integers(INTEGERS[source])
    got = result_of(f"cvt.{result}.{source}", INTEGERS[result], a)
    np.testing.assert_array_equal(got, wrapped(a, INTEGERS[result]))


@pytest.mark.parametrize("source", INTEGERS)
@pytest.mark.parametrize("result", ["u16", "s16", "s32", "u32"])
def test_saturating_integer_conversions_clamp(result, source):
    a = integers(INTEGERS[source])
    limits, own = np.iinfo(INTEGERS[result]), np.iinfo(INTEGERS[source])
    if limits.min <= own.min and own.max <= limits.max:
        return  # nothing to clamp: not an instruction
    got = result_of(f"cvt.sat.{result}.{source}", INTEGERS[result], a)
    clamped = [min(max(int(value), limits.min), limits.max) for value in a]
    np.testing.assert_array_equal(got, np.array(clamped, INTEGERS[result]))


def test_bytes_are_cut_from_and_extended_to_wider_registers():
    a = np.array([0x1280, 0x00FF, 0x007F], np.uint32)
    got = result_of("cvt.s32.s8", np.int32, a)
    np.testing.assert_array_equal(got, [-128, -1, 127])
    got = result_of("cvt.u32.u8", np.uint32, a)
    np.testing.assert_array_equal(got, [128, 255, 127])
    got = result_of("cvt.s8.s32", np.int32, a.view(np.int32))
    np.testing.assert_array_equal(got, [-128, -1, 127])
    got = result_of("cvt.sat.u8.s32", np.uint32, np.array([-5, 300, 77], np.int32))
    np.testing.assert_array_equal(got, [0, 255, 77])


@pytest.mark.parametrize("mode", WHOLE)
@pytest.mark.parametrize("source", FLOATS)
@pytest.mark.parametrize("result", INTEGERS)
def test_floats_to_integers_round_and_clamp(result, source, mode):
    limits = np.iinfo(INTEGERS[result])
    edges = np.array([float(limits.min), float(limits.max), 2.0**31, 2.0**63, 2.0**64])
    halves = np.arange(-4.5, 5, 0.5)
    a = np.concatenate([edges, -edges, edges - 0.5, halves, floats(np.float64)])
    with np.errstate(over="ignore"):
        a = a.astype(FLOATS[source])
    a = a[~np.isnan(a)]
    got = result_of(f"cvt.{mode}.{result}.{source}", INTEGERS[result], a)
    expected = []
    for value in WHOLE[mode](a):
        value = float(value)
        clamped = max(min(value, 2.0**70), -(2.0**70))
        expected.append(min(max(int(clamped), limits.min), limits.max))
    np.testing.assert_array_equal(got, np.array(expected, INTEGERS[result]))


def test_nan_becomes_zero_or_with_64_bits_the_top_bit_alone():
    for source, dtype in FLOATS.items():
        nan = np.array([np.nan], dtype)
        for result, kind in INTEGERS.items():
            got = result_of(f"cvt.rzi.{result}.{source}", kind, nan)
            wide = source == "f64" or kind.itemsize == 8
            bits = 8 * kind.itemsize
            assert int(got[0]) % 2**bits == (2 ** (bits - 1) if wide else 0), (source, result)


def exact(value):
    return Fraction(float(value))


def nearest_ok(value, wanted, dtype, mode):
    """Whether `value` is `wanted`, a rational, rounded to a float dtype in a direction."""
    below, above = np.nextafter(value, dtype(-np.inf)), np.nextafter(value, dtype(np.inf))
    error = exact(value) - wanted
    if mode == "rn":
        return abs(error) <= min(abs(exact(x) - wanted) for x in (below, above) if np.isfinite(x))
    downward = mode == "rm" or (mode == "rz" and wanted > 0)
    if downward:
        return error <= 0 and (np.isinf(above) or exact(above) > wanted)
    return error >= 0 and (np.isinf(below) or exact(below) < wanted)


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
@pytest.mark.parametrize("source", ["s32", "u32", "s64", "u64", "s16"])
def test_integers_to_float32_round_in_every_direction(source, mode):
    a = np.concatenate([integers(INTEGERS[source], 60), integers(INTEGERS[source], 60, seed=2)])
    if a.dtype.itemsize == 8:  # what rounding to float64 first would get wrong
        a = np.append(a, np.array([(1 << 62) + (1 << 38) + 1, (1 << 62) + (1 << 38)], a.dtype))
    got = result_of(f"cvt.{mode}.f32.{source}", np.float32, a)
    for value, result in zip(a, got):
        assert nearest_ok(result, Fraction(int(value)), np.float32, mode), (value, result)


def test_integers_to_float64():
    a = integers(np.int64, 50)
    np.testing.assert_array_equal(result_of("cvt.rn.f64.s64", np.float64, a), a.astype(np.float64))
    b = integers(np.int32, 50)
    np.testing.assert_array_equal(result_of("cvt.rn.f64.s32", np.float64, b), b.astype(np.float64))


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
def test_float64_to_float32_rounds_in_every_direction(mode):
    a = floats(np.float64)
    a = a[np.isfinite(a) & (np.abs(a) < 3e38)]
    a = np.append(a, [1 + 2.0**-24, 1 + 2.0**-25, 3 * 2.0**-151, -(2.0**-150)])
    got = result_of(f"cvt.{mode}.f32.f64", np.float32, a)
    for value, result in zip(a, got):
        assert nearest_ok(result, exact(value), np.float32, mode), (value, result)


def test_overflow_goes_to_infinity_or_the_largest_number_by_the_mode():
    a = np.array([1e300, -1e300, np.inf, -np.inf])
    largest = np.finfo(np.float32).max
    expected = {
        "rn": [np.inf, -np.inf, np.inf, -np.inf],
        "rz": [largest, -largest, np.inf, -np.inf],
        "rm": [largest, -np.inf, np.inf, -np.inf],
        "rp": [np.inf, -largest, np.inf, -np.inf],
    }
    for mode, answer in expected.items():
        got = result_of(f"cvt.{mode}.f32.f64", np.float32, a)
        assert same(got, np.array(answer, np.float32)), mode


def test_widening_is_exact():
    a = floats(np.float32)
    assert same(result_of("cvt.f64.f32", np.float64, a), a.astype(np.float64))
    halves = np.arange(1 << 16, dtype=np.uint16)
    got = result_of("cvt.f32.f16", np.float32, halves)
    assert same(got, halves.view(np.float16).astype(np.float32))
    # cvt.f32.bf16 needs sm_90; the value is that of the upper half of a float32
    got = result_of("cvt.f32.bf16", np.float32, halves, target="sm_90", version="7.8")
    assert same(got, (halves.astype(np.uint32) << 16).view(np.float32))


@pytest.mark.parametrize("mode", WHOLE)
def test_floats_to_whole_floats(mode):
    a = np.concatenate([floats(np.float32), np.arange(-4.5, 5, 0.5, np.float32)])
    assert same(result_of(f"cvt.{mode}.f32.f32", np.float32, a), WHOLE[mode](a))
    b = a.astype(np.float64)
    assert same(result_of(f"cvt.{mode}.f64.f64", np.float64, b), WHOLE[mode](b))


def test_saturation_and_flushing():
    a = np.array([-1.0, 0.25, 7.0, np.nan, 1e-40], np.float32)
    got = result_of("cvt.sat.f32.f32", np.float32, a)
    assert same(got, np.array([0.0, 0.25, 1.0, 0.0, 1e-40], np.float32))
    got = result_of("cvt.rpi.ftz.f32.f32", np.float32, a)
    assert same(got, np.array([-1.0, 1.0, 7.0, np.nan, 0.0], np.float32))
    assert result_of("cvt.rpi.f32.f32", np.float32, a)[-1] == 1.0


def test_float16_rounds_to_nearest_as_numpy_does():
    a = np.concatenate([floats(np.float32), np.float32([65504, 65519, 65520, 1 + 2**-11, 2**-25])])
    got = result_of("cvt.rn.f16.f32", np.uint16, a)
    with np.errstate(over="ignore"):
        expected = a.astype(np.float16)
    assert same(got.view(np.float16), expected)
    assert set(got[np.isnan(expected)]) == {0x7FFF}
    with np.errstate(over="ignore"):
        got = result_of("cvt.rn.f16.f64", np.uint16, a.astype(np.float64))
    assert same(got.view(np.float16), expected)


def test_float16_rounds_to_zero():
    a = np.float32([1 + 2**-11 + 2**-20, -(1 + 2**-11), 1e9, -1e9, 2**-25, np.inf])
    got = result_of("cvt.rz.f16.f32", np.uint16, a).view(np.float16)
    assert same(got, np.float16([1, -1, 65504, -65504, 0, np.inf]))


def bfloat16(values):
    """Rounded to nearest even, by the carry of an addition."""
    bits = values.view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(values), 0x7FFF, rounded).astype(np.uint16)


def test_bfloat16_rounds_to_nearest():
    random = np.random.default_rng(0).integers(0, 2**32, 5000).astype(np.uint32)
    a = np.concatenate([floats(np.float32), random.view(np.float32)])
    ties = np.uint32([0x3F808000, 0x3F818000, 0x3F808001, 0x7F7FFFFF]).view(np.float32)
    a = np.concatenate([a, ties])
    np.testing.assert_array_equal(result_of("cvt.rn.bf16.f32", np.uint16, a), bfloat16(a))


@pytest.mark.parametrize("form", ["f16", "bf16"])
def test_two_floats_pack_with_the_first_on_top(form):
    a = floats(np.float32)
    b = a[::-1].copy()
    got = result_of(f"cvt.rn.{form}x2.f32", np.uint32, a, b)
    upper = result_of(f"cvt.rn.{form}.f32", np.uint16, a)
    lower = result_of(f"cvt.rn.{form}.f32", np.uint16, b)
    np.testing.assert_array_equal(got >> 16, upper)
    np.testing.assert_array_equal(got & 0xFFFF, lower)
    got = result_of(f"cvt.rn.relu.{form}x2.f32", np.uint32, a, b)
    np.testing.assert_array_equal(got >> 16, np.where((a < 0) | (a == 0), 0, upper))


def test_tf32_rounds_ties_away_from_zero():
    bits = np.uint32([0x3F801000, 0x3F800FFF, 0x3F803000, 0xBF801000, 0x7F7FF000, 0x7FC00000])
    got = result_of("cvt.rna.tf32.f32", np.uint32, bits.view(np.float32))
    wanted = [0x3F802000, 0x3F800000, 0x3F804000, 0xBF802000, 0x7F800000, 0x7FFFFFFF]
    np.testing.assert_array_equal(got & 0xFFFFE000, np.uint32(wanted) & 0xFFFFE000)


def test_halves_to_integers_and_back():
    values = np.float16([0, 1.5, -2.5, 65504, np.inf, np.nan])
    got = result_of("cvt.rni.s32.f16", np.int32, values.view(np.uint16))
    np.testing.assert_array_equal(got, [0, 2, -2, 65504, 2**31 - 1, 0])
    a = np.int32([0, 7, -2049, 70000, 2**31 - 1])
    got = result_of("cvt.rn.f16.s32", np.uint16, a).view(np.float16)
    assert same(got, np.float16([0, 7, -2048, np.inf, np.inf]))


def test_encoding_is_the_inverse_of_decoding():
    bits = np.arange(1 << 16, dtype=np.uint16)
    for form, nan in (("f16", 0x7C00), ("bf16", 0x7F80)):
        numbers = bits[(bits & 0x7FFF) <= nan]
        for mode in ("rn", "rz", "rm", "rp"):
            np.testing.assert_array_equal(encode(decode(numbers, form), form, mode), numbers)


def test_rounding_modes_bracket_a_value():
    x = np.random.default_rng(0).standard_normal(1000) * np.exp2(np.linspace(-160, 126, 1000))
    for form in ("f32", "f16", "bf16", "tf32"):
        down, up = narrow(x, form, "rm"), narrow(x, form, "rp")
        assert (down <= x).all() and (x <= up).all()
        zero = narrow(x, form, "rz")
        np.testing.assert_array_equal(zero, np.where(x > 0, down, up))
        near = narrow(x, form, "rn")
        assert ((near == down) | (near == up)).all()
        closer = np.abs(near - x) <= np.minimum(np.abs(up - x), np.abs(x - down))
        assert closer[np.isfinite(up) & np.isfinite(down)].all()


def test_moves_pack_and_unpack():
    body = """
      ld.global.b32 %r1, [%rd0];
      ld.global.b64 %rd5, [%rd0+8];
      mov.b32 {%h1, %h2}, %r1;
      mov.b32 %r2, {%h2, %h1};
      mov.b64 {%r3, %r4}, %rd5;
      mov.b64 %rd6, {%r4, %r3};
      mov.b64 {%h3, %h4, %h5, %h6}, %rd5;
      mov.b64 %rd7, {%h6, %h5, %h4, %h3};
      mov.b32 %f1, %r1;
      mov.b32 %r5, %f1;
      mov.b32 {%h1, %h7}, %r1;
      st.global.b32 [%rd0], %r2;
      st.global.b32 [%rd0+4], %r5;
      st.global.b64 [%rd0+8], %rd6;
      st.global.b64 [%rd0+16], %rd7;
      ret;"""
    data = np.array([0x11112222, 0, 0x33334444, 0x55556666, 0, 0], np.uint32)
    _, (out,) = run(body, data, block=1)
    np.testing.assert_array_equal(out[:4], [0x22221111, 0x11112222, 0x55556666, 0x33334444])
    np.testing.assert_array_equal(out.view(np.uint16)[8:12], [0x5555, 0x6666, 0x3333, 0x4444])
