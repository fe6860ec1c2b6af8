"""Bit operations against Python's integers."""

import numpy as np
import pytest
from ptx_kernels import integers, pairs, result_of

UNSIGNED = {16: np.uint16, 32: np.uint32, 64: np.uint64}


def cut(values, dtype):
    bits = np.dtype(dtype).itemsize * 8
    return np.array([int(value) % 2**bits for value in values], f"u{bits // 8}").view(dtype)


def python(function, *arrays):
    return [function(*[int(value) for value in values]) for values in zip(*arrays)]


@pytest.mark.parametrize("width", UNSIGNED)
def test_logic(width):
    a, b = pairs(integers(UNSIGNED[width]))
    for name, function in (("and", np.bitwise_and), ("or", np.bitwise_or), ("xor", np.bitwise_xor)):
        got = result_of(f"{name}.b{width}", a.dtype, a, b)
        np.testing.assert_array_equal(got, function(a, b))
    np.testing.assert_array_equal(result_of(f"not.b{width}", a.dtype, a), ~a)
    np.testing.assert_array_equal(result_of(f"cnot.b{width}", a.dtype, a), (a == 0).astype(a.dtype))


def test_logic_of_predicates():
    a, b = pairs(np.array([False, True]))
    for name, function in (("and", np.bitwise_and), ("or", np.bitwise_or), ("xor", np.bitwise_xor)):
        np.testing.assert_array_equal(result_of(f"{name}.pred", bool, a, b), function(a, b))
    np.testing.assert_array_equal(result_of("not.pred", bool, a), ~a)


@pytest.mark.parametrize("width", UNSIGNED)
def test_shifts_by_more_than_the_width_shift_everything_out(width):
    amounts = np.array([0, 1, 5, width - 1, width, width + 1, 255, 2**32 - 1], np.uint32)
    a, amount = pairs(integers(UNSIGNED[width]), amounts)
    left = result_of(f"shl.b{width}", a.dtype, a, amount)
    np.testing.assert_array_equal(
        left, cut(python(lambda x, n: x << min(n, width), a, amount), a.dtype)
    )
    right = result_of(f"shr.u{width}", a.dtype, a, amount)
    np.testing.assert_array_equal(
        right, cut(python(lambda x, n: x >> min(n, width), a, amount), a.dtype)
    )
    signed = a.view(f"i{width // 8}")
    right = result_of(f"shr.s{width}", signed.dtype, signed, amount)
    expected = cut(python(lambda x, n: x >> min(n, width), signed, amount), signed.dtype)
    np.testing.assert_array_equal(right, expected)


def test_funnel_shifts_clamp_or_wrap():
    a, b = pairs(integers(np.uint32, 8))
    for mode in ("clamp", "wrap"):
        for amount in (0, 1, 31, 32, 33, 40):
            shift = min(amount, 32) if mode == "clamp" else amount % 32
            count = np.full(len(a), amount, np.uint32)
            left = python(lambda x, y, s=shift: ((y << 32 | x) << s) >> 32, a, b)
            got = result_of(f"shf.l.{mode}.b32", np.uint32, a, b, count)
            np.testing.assert_array_equal(got, cut(left, np.uint32))
            right = python(lambda x, y, s=shift: (y << 32 | x) >> s, a, b)
            got = result_of(f"shf.r.{mode}.b32", np.uint32, a, b, count)
            np.testing.assert_array_equal(got, cut(right, np.uint32))


@pytest.mark.parametrize("table", [0x00, 0xFF, 0x80, 0xFE, 0x96, 0xE8, 0xCA, 0x2A])
def test_logic_of_three_operands_is_its_table(table):
    a, b = pairs(integers(np.uint32, 8))
    c = np.resize(integers(np.uint32, seed=1), len(a))
    got = result_of("lop3.b32", np.uint32, a, b, c, f"{table:#x}")

    def expected(x, y, z):
        bits = 0
        for i in range(32):
            place = (x >> i & 1) << 2 | (y >> i & 1) << 1 | (z >> i & 1)
            bits |= (table >> place & 1) << i
        return bits

    np.testing.assert_array_equal(got, cut(python(expected, a, b, c), np.uint32))


def fields(width):
    places = [0, 1, 5, width - 1, width, 200, 255, 256 + 3]
    start, length = pairs(np.array(places, np.uint32))
    values = integers(UNSIGNED[width], 6)
    a = np.repeat(values, len(start))
    return a, np.tile(start, len(values)), np.tile(length, len(values))


def extracted(a, start, length, width, signed):
    """The ISA's definition, bit by bit."""
    start, length = start & 255, length & 255
    bit = lambda i: a >> i & 1  # noqa: E731
    sign = bit(min(start + length - 1, width - 1)) if signed and length else 0
    bits = [bit(start + i) if i < length and start + i < width else sign for i in range(width)]
    return sum(b << i for i, b in enumerate(bits))


@pytest.mark.parametrize("width", [32, 64])
def test_extracting_a_field(width):
    a, start, length = fields(width)
    for kind in "us":
        got = result_of(f"bfe.{kind}{width}", a.dtype, a, start, length)
        expected = python(
            lambda x, s, n, k=kind: extracted(x, s, n, width, k == "s"), a, start, length
        )
        np.testing.assert_array_equal(got, cut(expected, a.dtype), err_msg=kind)


@pytest.mark.parametrize("width", [32, 64])
def test_inserting_a_field(width):
    b, start, length = fields(width)
    a = np.resize(integers(UNSIGNED[width], seed=1), len(b))

    def inserted(x, y, s, n):
        s, n = s & 255, n & 255
        for i in range(n):
            if s + i < width:
                y = y & ~(1 << (s + i)) | (x >> i & 1 if i < width else 0) << (s + i)
        return y

    got = result_of(f"bfi.b{width}", a.dtype, a, b, start, length)
    np.testing.assert_array_equal(got, cut(python(inserted, a, b, start, length), a.dtype))


def test_permuting_bytes():
    random = np.random.default_rng(0)
    a, b, selector = random.integers(0, 2**32, (3, 300)).astype(np.uint32)

    def permuted(x, y, s):
        data = x.to_bytes(4, "little") + y.to_bytes(4, "little")
        result = 0
        for i in range(4):
            nibble = s >> 4 * i & 15
            byte = data[nibble & 7]
            byte = (255 if byte >= 128 else 0) if nibble & 8 else byte
            result |= byte << 8 * i
        return result

    got = result_of("prmt.b32", np.uint32, a, b, selector)
    np.testing.assert_array_equal(got, cut(python(permuted, a, b, selector), np.uint32))


@pytest.mark.parametrize("width", [32, 64])
def test_counting_and_reversing(width):
    a = integers(UNSIGNED[width], 60)
    assert 0 in a
    reverse = python(lambda x: int(f"{x:0{width}b}"[::-1], 2), a)
    np.testing.assert_array_equal(result_of(f"brev.b{width}", a.dtype, a), cut(reverse, a.dtype))
    ones = python(int.bit_count, a)
    np.testing.assert_array_equal(result_of(f"popc.b{width}", np.uint32, a), ones)
    zeros = python(lambda x: width - x.bit_length(), a)
    np.testing.assert_array_equal(result_of(f"clz.b{width}", np.uint32, a), zeros)
    highest = python(lambda x: x.bit_length() - 1, a)
    np.testing.assert_array_equal(
        result_of(f"bfind.u{width}", np.uint32, a), cut(highest, np.uint32)
    )
    highest = python(lambda x: (~x if x < 0 else x).bit_length() - 1, a.view(f"i{width // 8}"))
    np.testing.assert_array_equal(
        result_of(f"bfind.s{width}", np.uint32, a), cut(highest, np.uint32)
    )
    amount = python(lambda x: -1 if x == 0 else width - x.bit_length(), a)
    np.testing.assert_array_equal(
        result_of(f"bfind.shiftamt.u{width}", np.uint32, a), cut(amount, np.uint32)
    )
