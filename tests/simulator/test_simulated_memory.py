"""Loads and stores of every width and space, and each thing that must not be done to memory."""

import numpy as np
import pytest
from ptx_kernels import INDEX, kernel, run

from minicomp.errors import SimulationError
from minicomp.simulator import Simulator

TILE = ".shared .align 16 .b8 tile[256];"


def error(body, *arrays, **options):
    with pytest.raises(SimulationError) as caught:
        run(body, *arrays, **options)
    return str(caught.value)


def test_loads_extend_by_the_type():
    data = np.array([0x80, 0xFF, 0x00, 0x80, 0x01, 0x80, 0xFF, 0xFF], np.uint8)
    body = """
      ld.global.u8 %r1, [%rd0]; ld.global.s8 %r2, [%rd0]; ld.global.u16 %r3, [%rd0+4];
      ld.global.s16 %r4, [%rd0+4]; ld.global.s32 %rd5, [%rd0+4]; ld.global.u32 %rd6, [%rd0+4];
      ld.global.s8 %h1, [%rd0+1]; ld.global.b64 %rd7, [%rd0]; ld.global.s8 %rd8, [%rd0+1];
      st.global.u32 [%rd1], %r1; st.global.u32 [%rd1+4], %r2; st.global.u32 [%rd1+8], %r3;
      st.global.u32 [%rd1+12], %r4; st.global.u64 [%rd1+16], %rd5; st.global.u64 [%rd1+24], %rd6;
      st.global.u16 [%rd1+32], %h1; st.global.u64 [%rd1+40], %rd7; st.global.u64 [%rd1+48], %rd8;
      ret;"""
    _, (_, out) = run(body, data, np.zeros(14, np.uint32), block=1)
    assert list(out[:4]) == [0x80, 0xFFFFFF80, 0x8001, 0xFFFF8001]
    wide = out.view(np.uint64)
    assert list(wide[2:4]) == [0xFFFFFFFFFFFF8001, 0xFFFF8001]
    assert out[8] == 0xFFFF
    assert wide[5] == data.view(np.uint64)[0] and wide[6] == 2**64 - 1


def test_stores_cut_to_the_type():
    body = """
      mov.u32 %r1, 0x12345678; mov.u64 %rd5, 0x1122334455667788;
      st.global.u8 [%rd0], %r1; st.global.u16 [%rd0+2], %r1; st.global.u32 [%rd0+4], %rd5;
      st.global.v2.u8 [%rd0+8], {%r1, 7}; st.global.f32 [%rd0+12], 0f40490FDB; ret;"""
    _, (out,) = run(body, np.zeros(16, np.uint8), block=1)
    expected = [0x78, 0, 0x78, 0x56, 0x88, 0x77, 0x66, 0x55, 0x78, 7, 0, 0, 0xDB, 0x0F, 0x49, 0x40]
    assert list(out) == expected


@pytest.mark.parametrize("space", ["global", "shared"])
@pytest.mark.parametrize(("type", "count"), [("f32", 2), ("f32", 4), ("b64", 2), ("u16", 4)])
def test_vectors_move_neighbours(space, type, count):
    width = int(type[1:]) // 8
    registers = {"f32": "%f", "b64": "%rd1", "u16": "%h"}[type]
    names = ", ".join(f"{registers}{i + 1}" for i in range(count))
    through = (
        ""
        if space == "global"
        else f"""
      mul.lo.u32 %r2, %r53, {width * count}; mov.u32 %r3, tile; add.u32 %r4, %r3, %r2;
      st.shared.v{count}.{type} [%r4], {{{names}}};
      ld.shared.v{count}.{type} {{{names}}}, [%r4];"""
    )
    body = f"""{INDEX}
      mul.wide.u32 %rd30, %r50, {width * count};
      add.u64 %rd31, %rd0, %rd30; add.u64 %rd32, %rd1, %rd30;
      ld.global.v{count}.{type} {{{names}}}, [%rd31]; {through}
      st.global.v{count}.{type} [%rd32], {{{names}}}; ret;"""
    data = np.random.default_rng(0).integers(0, 256, 16 * width * count).astype(np.uint8)
    _, (_, out) = run(body, data, np.zeros_like(data), block=16, shared=TILE)
    np.testing.assert_array_equal(out, data)


def test_dynamic_shared_memory_lies_behind_the_static_arrays():
    body = f"""{INDEX}
      mov.u32 %r2, dynamic; mad.lo.u32 %r3, %r53, 4, %r2;
      mov.u32 %r4, tile; mad.lo.u32 %r5, %r53, 4, %r4;
      st.shared.u32 [%r3], %r50; st.shared.u32 [%r5], 9;
      ld.shared.u32 %r1, [%r3];
      mov.u32 %r6, %dynamic_smem_size; add.u32 %r1, %r1, %r6;
      add.u64 %rd31, %rd0, %rd30; st.global.u32 [%rd31], %r1; ret;"""
    extern = ".extern .shared .align 16 .b8 dynamic[];"
    _, (out,) = run(
        body, np.zeros(64, np.uint32), block=64, shared_bytes=256, shared=TILE, before=extern
    )
    np.testing.assert_array_equal(out, np.arange(64) + 256)
    message = error(
        body, np.zeros(64, np.uint32), block=64, shared_bytes=128, shared=TILE, before=extern
    )
    assert "0 bytes past the end of dynamic (128 bytes of shared memory)" in message
    assert "thread (32, 0, 0)" in message


def test_shared_addresses_convert_to_generic_ones_and_back():
    body = """
      mov.u64 %rd5, tile; cvta.shared.u64 %rd6, %rd5; cvta.to.shared.u64 %rd7, %rd6;
      cvt.u32.u64 %r1, %rd7; mov.u32 %r2, tile; sub.u32 %r3, %r1, %r2;
      st.shared.u32 [tile+8], 5; ld.shared.u32 %r4, [%rd7+8]; add.u32 %r3, %r3, %r4;
      cvta.to.global.u64 %rd8, %rd0; st.global.u32 [%rd8], %r3; ret;"""
    _, (out,) = run(body, None, block=1, shared=TILE)
    assert out[0] == 5


COPY = f"""{INDEX}
      add.u64 %rd31, %rd0, %rd30; add.u64 %rd32, %rd1, %rd30;
      ld.global.f32 %f1, [%rd31+OFFSET];
      st.global.f32 [%rd32], %f1; ret;"""


def test_reading_past_the_end_is_reported():
    data = np.zeros(32, np.float32)
    message = error(COPY.replace("OFFSET", "4"), data, data)
    assert message.startswith(
        "line 14: ld.global.f32 %f1, [%rd31+4]: out of bounds: global address"
    )
    assert "0 bytes past the end of buffer 0 (128 bytes at 0x" in message
    assert message.endswith("thread (31, 0, 0) of block (0, 0, 0)")
    run(COPY.replace("OFFSET", "0"), data, data)


def test_reading_before_the_start_is_reported():
    data = np.zeros(32, np.float32)
    message = error(COPY.replace("OFFSET", "-8"), data, data)
    assert "8 bytes before buffer 0" in message and "thread (0, 0, 0)" in message


def test_writing_past_the_end_is_reported():
    data = np.zeros(32, np.float32)
    message = error(COPY.replace("OFFSET", "0"), data, np.zeros(31, np.float32))
    assert message.startswith("line 15: st.global.f32 [%rd32], %f1: out of bounds")
    assert (
        "0 bytes past the end of buffer 1 (124 bytes" in message and "thread (31, 0, 0)" in message
    )


def test_a_pointer_to_nowhere_is_reported():
    body = "mov.u64 %rd5, {}; ld.global.u32 %r1, [%rd5]; ret;"
    for address in ("0", "0x123456789abc", "0xFFFFFFFFFFFFFFF0"):
        assert "out of bounds" in error(body.format(address), np.zeros(4, np.uint32))


def test_an_index_off_by_a_row_falls_into_the_red_zone():
    data = np.zeros((16, 16), np.float32)
    message = error(COPY.replace("OFFSET", "64"), data, data, block=256)
    assert "out of bounds" in message and "thread (240, 0, 0)" in message


def test_misaligned_accesses_are_reported():
    data = np.zeros(64, np.float32)
    message = error(COPY.replace("OFFSET", "2"), data, data)
    assert "not aligned to 4 bytes" in message and "byte 2 of buffer 0" in message
    body = "ld.global.v4.f32 {%f1, %f2, %f3, %f4}, [%rd0+OFFSET]; ret;"
    assert "not aligned to 16 bytes" in error(body.replace("OFFSET", "8"), data)
    run(body.replace("OFFSET", "16"), data)
    body = "st.shared.b64 [tile+OFFSET], %rd0; ret;"
    assert "not aligned to 8 bytes" in error(body.replace("OFFSET", "4"), data, shared=TILE)
    run(body.replace("OFFSET", "8"), data, shared=TILE)


def test_reading_what_was_never_written_is_reported():
    data = np.zeros(32, np.float32)
    message = error(COPY.replace("OFFSET", "0"), None, data)
    assert "read, but never written: global address" in message and "byte 0 of buffer 0" in message
    # one byte of four is enough
    body = (
        "st.global.u8 [%rd0], 1; st.global.u16 [%rd0+2], 1; WRITE ld.global.u32 %r1, [%rd0]; ret;"
    )
    assert "byte 1 of buffer 0" in error(body.replace("WRITE", ""), None, block=1)
    run(body.replace("WRITE", "st.global.u8 [%rd0+1], 1;"), None, block=1)


def test_reading_shared_memory_never_written_is_reported():
    body = "WRITE ld.shared.u32 %r1, [tile+4]; ret;"
    message = error(body.replace("WRITE", ""), np.zeros(1), block=1, shared=TILE)
    assert "read, but never written: shared address" in message
    assert "byte 4 of tile (256 bytes of shared memory)" in message
    run(body.replace("WRITE", "st.shared.u32 [tile+4], 1;"), np.zeros(1), block=1, shared=TILE)


def test_what_one_launch_or_block_left_in_shared_memory_is_not_there_for_the_next():
    body = f"""{INDEX}
      setp.ne.u32 %p1, %r51, 0; @%p1 bra read;
      st.shared.u32 [tile], 1;
    read:
      ld.shared.u32 %r1, [tile]; ret;"""
    message = error(body, np.zeros(1), block=1, grid=2, shared=TILE)
    assert "thread (0, 0, 0) of block (1, 0, 0)" in message


def test_shared_arrays_do_not_run_into_each_other():
    two = TILE + " .shared .align 4 .b8 other[64];"
    body = "st.shared.u32 [tile+OFFSET], 1; ret;"
    message = error(body.replace("OFFSET", "256"), np.zeros(1), block=1, shared=two)
    assert "0 bytes past the end of tile" in message
    run(body.replace("OFFSET", "252"), np.zeros(1), block=1, shared=two)
    message = error(body.replace("OFFSET", "100000"), np.zeros(1), block=1, shared=two)
    assert "past the end of other" in message


def test_using_a_register_never_written_is_reported():
    body = f"""{INDEX}
      setp.lt.u32 %p1, %r50, 20;
      @%p1 mov.u32 %r1, 5;
      WRITE
      add.u32 %r2, %r1, 1;
      ret;"""
    message = error(body.replace("WRITE", ""), np.zeros(1))
    assert message.startswith("line 16: add.u32 %r2, %r1, 1: %r1 is read, but never written")
    assert "thread (20, 0, 0)" in message
    run(body.replace("WRITE", "@!%p1 mov.u32 %r1, 6;"), np.zeros(1))


def test_registers_written_on_one_path_only_are_watched():
    body = f"""{INDEX}
      setp.lt.u32 %p1, %r50, LIMIT;
      @%p1 bra skip;
      mov.f32 %f1, 0f3F800000;
    skip:
      add.f32 %f2, %f1, %f1;
      ret;"""
    message = error(body.replace("LIMIT", "1"), np.zeros(1))
    assert "%f1 is read, but never written; thread (0, 0, 0)" in message
    run(body.replace("LIMIT", "0"), np.zeros(1))


@pytest.mark.parametrize("use", ["@%p1 bra end;", "@%p1 ret;", "@%p1 mov.u32 %r2, 1;"])
def test_guards_never_written_are_reported(use):
    body = f"{INDEX} setp.eq.u32 %p2, %r50, 0; @%p2 setp.eq.u32 %p1, %r50, 0; {use} end: ret;"
    assert "%p1 is read, but never written; thread (1, 0, 0)" in error(body, np.zeros(1))
    run(body, np.zeros(1), block=1)


def test_memory_is_allocated_apart_and_reads_back():
    device = Simulator()
    pointers = [device.allocate(size) for size in (0, 1, 1000, 3_000_000)]
    assert all(pointer % 256 == 0 for pointer in pointers)
    assert len(set(pointers)) == 4
    data = np.random.default_rng(0).integers(0, 256, 3_000_000).astype(np.uint8)
    device.write(pointers[3], data)
    device.write(pointers[2] + 8, np.arange(10.0))
    np.testing.assert_array_equal(device.read(pointers[3], data.size), data)
    np.testing.assert_array_equal(device.read(pointers[2] + 8, 80).view(float), np.arange(10.0))


def test_host_accesses_out_of_bounds_are_errors():
    device = Simulator()
    with pytest.raises(SimulationError, match="not within a buffer"):
        device.read(0x7000_0000_0000, 4)
    pointer = device.allocate(100)
    with pytest.raises(SimulationError, match=r"read.*101 bytes is not within.*buffer 0"):
        device.read(pointer, 101)
    with pytest.raises(SimulationError, match="write"):
        device.write(pointer + 96, np.zeros(2, np.float32))
    with pytest.raises(SimulationError, match="no buffer starts there"):
        device.free(pointer + 4)
    with pytest.raises(SimulationError, match="cannot allocate"):
        device.allocate(1 << 50)


def test_freed_memory_is_gone_and_is_used_again():
    device = Simulator()
    pointer = device.allocate(4096)
    device.write(pointer, np.ones(1024, np.float32))
    device.free(pointer)
    with pytest.raises(SimulationError, match="freed buffer 0"):
        device.read(pointer, 4)
    with pytest.raises(SimulationError, match="no buffer starts there"):
        device.free(pointer)
    size = device.memory.size
    for _ in range(1000):
        device.free(device.allocate(4096))
    assert device.memory.size == size
    again = device.allocate(4096)
    module = device.load(kernel("ld.global.u32 %r1, [%rd0]; ret;"))
    with pytest.raises(SimulationError, match="never written"):
        device.launch(module, "kernel", 1, 1, [again])
