"""Loop kernels as LLVM IR: pieces of loops, units of work, and how each access is made."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from minicomp.codegen.llvm_loops import emit_loop_kernel
from minicomp.codegen.llvm_memory import stream_alignment
from minicomp.codegen.loop_schedule import BLOCK, block_size, keep_rows, units
from minicomp.ir.text import parse
from minicomp.kernels import LoopSchedule
from minicomp.kernels.program import Alignments, build_program
from minicomp.passes.fuse import fuse
from minicomp.passes.materialize import materialize

TARGET = SimpleNamespace(triple="")


NOTHING_KNOWN = Alignments()


def kernel_of(arguments, *lines, arrays=None, alignments=NOTHING_KNOWN):
    last = lines[-1].split(" = ")[0]
    graph = materialize(parse(f"graph f({arguments}) {{ {' '.join(lines)} return {last} }}"))
    (call,) = build_program(graph, fuse(graph), arrays, alignments).calls
    return call.kernel


def emitted(kernel, axis="outer", width=16, unroll=1):
    return emit_loop_kernel(kernel, LoopSchedule(axis, width, unroll), TARGET)


NEG = kernel_of("%x: f32[100]", "%0 = neg(%x) : f32[100]")
ROWS = kernel_of("%x: f32[8,100]", "%0 = sum(%x) {axes=[1], keepdims=false} : f32[8]")
COLUMNS = kernel_of("%x: f32[8,100]", "%0 = sum(%x) {axes=[0], keepdims=false} : f32[100]")


def test_units_are_rows_or_blocks_of_columns():
    assert units(ROWS, LoopSchedule("inner", 16, 4)) == 8
    assert units(COLUMNS, LoopSchedule("outer", 16, 4)) == 1
    wide = kernel_of("%x: f32[3,4,5000]", "%0 = sum(%x) {axes=[1], keepdims=false} : f32[3,5000]")
    assert units(wide, LoopSchedule("outer", 16, 4)) == 3 * -(-5000 // BLOCK)
    whole = kernel_of("%x: f32[100]", "%0 = sum(%x) {axes=[0], keepdims=false} : f32[]")
    assert units(whole, LoopSchedule("outer", 16, 4)) == 1


@pytest.mark.parametrize(("width", "unroll"), [(16, 4), (8, 3), (1, 1), (16, 100)])
def test_a_block_is_a_whole_number_of_steps(width, unroll):
    size = block_size(NEG, LoopSchedule("outer", width, unroll))
    assert size % (width * unroll) == 0
    assert size == width * unroll or size <= BLOCK


def test_blocks_of_long_columns_are_narrow():
    def blocks(rows):
        kernel = kernel_of(
            f"%x: f32[{rows},1000]", "%0 = sum(%x) {axes=[0], keepdims=false} : f32[1000]"
        )
        return units(kernel, LoopSchedule("outer", 16, 4))

    assert [blocks(rows) for rows in (64, 512, 4096, 100_000)] == [1, 8, 16, 16]


def test_contiguous_elements_are_one_vector_load_at_any_alignment():
    text = emitted(NEG)
    assert "load <16 x float>, ptr" in text
    assert "store <16 x float>" in text
    assert set(re.findall(r"align (\d+)", text)) == {"4"}
    assert "masked" not in text


def test_the_rest_of_a_loop_has_exactly_its_width():
    assert "load <4 x float>" in emitted(NEG)
    widths = set(re.findall(r"load <(\d+) x float>", emitted(ROWS, "inner", 16, 4)))
    assert widths == {"16", "4"}


def test_what_all_lanes_share_is_one_scalar_load():
    kernel = kernel_of(
        "%x: f32[32,64], %y: f32[32,1]",
        "%0 = broadcast(%y) {shape=[32,64]} : f32[32,64]",
        "%1 = add(%x, %0) : f32[32,64]",
    )
    text = emitted(kernel)
    assert "load <16 x float>" in text
    assert "load float, ptr" in text
    assert "gather" not in text


def test_a_reversed_axis_is_loaded_forwards_and_turned_round():
    x = np.zeros(64, np.float32)[::-1]
    text = emitted(kernel_of("%x: f32[64]", "%0 = neg(%x) : f32[64]", arrays=[x]))
    assert "gather" not in text
    assert "shufflevector" in text


def test_other_strides_are_gathered():
    x = np.zeros((64, 3), np.float32)[:, 0]
    text = emitted(kernel_of("%x: f32[64]", "%0 = neg(%x) : f32[64]", arrays=[x]))
    assert "llvm.masked.gather.v16f32" in text


def test_a_narrow_element_is_as_many_lanes_as_the_schedule_says():
    kernel = kernel_of("%x: bool[64]", "%0 = logical_not(%x) : bool[64]")
    text = emitted(kernel)
    assert "load <16 x i8>" in text
    assert "store <16 x i8>" in text


def test_an_index_that_is_data_is_checked_and_cannot_leave_its_axis():
    kernel = kernel_of("%x: f32[7,16], %i: i32[5]", "%0 = take(%x, %i) {axis=0} : f32[5,16]")
    text = emitted(kernel)
    assert "store i32 1, ptr" in text
    assert re.search(r"icmp uge i64 .*, 7", text)


def test_the_kernel_and_its_schedule_are_in_the_text():
    text = emitted(NEG)
    schedule = (
        "vector_axis=outer vector_width=16 unroll=1 rows=1 streams=False aligns=False prefetch=0 "
        "tile= grain=1"
    )
    assert f"; LoopSchedule({schedule})" in text
    assert ";     copy" not in text
    for line in str(NEG).splitlines():
        assert f"; {line}" in text
    assert "noalias" in text
    assert 'define void @"neg"(ptr' in text


def test_unrolled_copies_have_accumulators_of_their_own():
    def slots(unroll):
        return emitted(ROWS, "inner", 16, unroll).count("alloca <16 x float>")

    assert slots(1) == 1
    assert slots(4) == 4


def test_a_scan_along_a_row_adds_up_lanes_in_as_many_steps_as_their_number_has_bits():
    kernel = kernel_of("%x: f32[8,64]", "%0 = cumsum(%x) {axis=1} : f32[8,64]")
    for width, steps in ((16, 4), (4, 2)):
        text = emitted(kernel, "inner", width)
        assert text.count(f"fadd <{width} x float>") == steps + 1  # and what came before
        assert text.count("fadd float") == 1
    assert "shufflevector" not in emitted(kernel, "inner", 1)


STREAMS = LoopSchedule("outer", 16, 1, streams=True)
ALIGNED = Alignments(own=64)


@pytest.mark.parametrize(
    ("shape", "alignments", "alignment"),
    [
        ("8,64", ALIGNED, 64),
        ("1000", ALIGNED, 64),
        ("8,64", Alignments(own=16), 16),
        ("8,64", NOTHING_KNOWN, None),
    ],
)
def test_stores_go_past_the_caches_where_the_alignment_is_known(shape, alignments, alignment):
    kernel = kernel_of(f"%x: f32[{shape}]", f"%0 = neg(%x) : f32[{shape}]", alignments=alignments)
    text = emit_loop_kernel(kernel, STREAMS, TARGET)
    stores = re.findall(r"store <\d+ x float> .*", text)
    assert stores
    for store in stores:
        assert ("!nontemporal" in store) == (alignment is not None)
        assert f"align {alignment or 4}" in store
    assert ("sfence" in text) == (alignment is not None)
    assert "!nontemporal" not in emit_loop_kernel(kernel, LoopSchedule("outer", 16, 1), TARGET)


def test_each_row_has_the_alignment_that_its_length_leaves():
    def found(columns, width=16):
        kernel = kernel_of(
            f"%x: f32[8,{columns}]",
            "%0 = sum(%x) {axes=[1], keepdims=true} : f32[8,1]",
            f"%1 = broadcast(%0) {{shape=[8,{columns}]}} : f32[8,{columns}]",
            f"%2 = sub(%x, %1) : f32[8,{columns}]",
            alignments=ALIGNED,
        )
        store = kernel.sweeps[-1].stores[0]
        return stream_alignment(store.index, kernel.arguments[-1], kernel.inner[-1], width)

    assert [found(columns) for columns in (768, 1000, 1004, 1002, 999)] == [64, 32, 16, 0, 0]
    assert [found(768, width) for width in (16, 8, 4, 1)] == [64, 32, 16, 0]


def test_what_a_kernel_reads_too_is_stored_through_the_caches():
    kernel = keep_rows(
        kernel_of(
            "%x: f32[8,64]",
            "%0 = exp(%x) : f32[8,64]",
            "%1 = sum(%0) {axes=[1], keepdims=true} : f32[8,1]",
            "%2 = broadcast(%1) {shape=[8,64]} : f32[8,64]",
            "%3 = sub(%0, %2) : f32[8,64]",
            alignments=ALIGNED,
        )
    )
    assert kernel.scratch
    text = emit_loop_kernel(kernel, LoopSchedule("inner", 16, 1, streams=True), TARGET)
    stores = [line for line in text.splitlines() if "store <16 x float> %" in line]
    assert [("nontemporal" in line) for line in stores if "row0" not in line].count(True) == 1
    assert sum("nontemporal" in line for line in text.splitlines()) == 1


def test_a_long_loop_nest_is_a_bounded_amount_of_text():
    long = kernel_of("%x: f32[100000]", "%0 = neg(%x) : f32[100000]")
    assert len(emitted(long)) < 1.5 * len(emitted(NEG))
