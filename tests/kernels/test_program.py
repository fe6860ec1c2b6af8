"""Programs: which buffers there are, and which kernels work on them."""

import numpy as np
import pytest

from minicomp.ir import Graph
from minicomp.ir.ops import make
from minicomp.ir.text import parse
from minicomp.kernels.program import Alignments, build_program, kernel_name
from minicomp.passes.fuse import fuse
from minicomp.passes.materialize import materialize


def program_of(text, arrays=None):
    graph = materialize(parse(text))
    return build_program(graph, fuse(graph), arrays)


def roles(program):
    return [buffer.role for buffer in program.buffers]


def calls(program):
    return [str(call) for call in program.calls]


def test_a_program_by_print():
    program = program_of(
        """graph f(%x: f32[8,16], %w: f32[16,4] parameter) {
          %0 = exp(%x) : f32[8,16]
          %1 = matmul(%0, %w) : f32[8,4]
          %2 = neg(%1) : f32[8,4]
          return %2
        }"""
    )
    assert str(program).splitlines() == [
        "  0 x                input      f32[8,16]",
        "  1 w                parameter  f32[16,4]",
        "  2 exp              temporary  f32[8,16]",
        "  3 out              output     f32[8,4]",
        "exp(0, 2)",
        "matmul_neg(2, 1, 3)",
    ]


def test_buffers_have_the_strides_of_the_arrays():
    x = np.zeros((4, 8), np.float32)[::2, ::-2]
    program = program_of("graph f(%x: f32[2,4]) { %0 = neg(%x) : f32[2,4] return %0 }", [x])
    assert "x[16*o0 - 2*o1]" in str(program.calls[0].kernel)


def test_inputs_count_from_the_caller_and_outputs_in_order():
    program = program_of(
        """graph f(%a: f32[2], %p: f32[2] parameter, %b: f32[2]) {
          %0 = neg(%a) : f32[2]
          %1 = abs(%b) : f32[2]
          return %1, %0
        }"""
    )
    found = {b.name: b.position for b in program.buffers if b.role in ("input", "output")}
    assert found == {"a": 0, "b": 1, "out": 1, "out1": 0}
    assert [program.buffers[number].position for number in program.outputs] == [0, 1]


def test_parts_are_computed_in_place_and_an_assembled_part_is_copied():
    program = program_of(
        """graph f(%x: f32[2,3], %y: f32[2,5]) {
          %0 = exp(%x) : f32[2,3]
          %1 = concatenate(%0, %y) {axis=1} : f32[2,8]
          %2 = neg(%x) : f32[2,3]
          %3 = concatenate(%2, %1) {axis=1} : f32[2,11]
          return %3
        }"""
    )
    stores = {str(call.kernel).splitlines()[-1].strip() for call in program.calls}
    assert stores == {
        "concatenate[8*o0 + o1] = exp(x[3*o0 + o1])",
        "concatenate[8*o0 + o1 + 3] = y[5*o0 + o1]",
        "concatenate[11*o0 + o1] = neg(x[3*o0 + o1])",
        "concatenate1[11*o0 + o1 + 3] = concatenate[8*o0 + o1]",
    }


def test_a_padding_is_filled_before_its_inside_is_written():
    program = program_of(
        """graph f(%x: f32[3]) {
          %0 = exp(%x) : f32[3]
          %1 = pad(%0) {low=[2], high=[1], value=-1.5} : f32[6]
          return %1
        }"""
    )
    assert calls(program) == ["fill(1)", "exp(0, 1)"]
    fill, inside = (str(call.kernel).splitlines()[-1].strip() for call in program.calls)
    assert fill == "pad[o0] = -1.5"
    assert inside == "pad[o0 + 2] = exp(x[o0])"


def test_each_gather_has_a_status_word_of_its_own():
    program = program_of(
        """graph f(%x: f32[4], %i: i32[3], %j: i32[3]) {
          %0 = take(%x, %i) {axis=0} : f32[3]
          %1 = cumsum(%0) {axis=0} : f32[3]
          %2 = take(%1, %j) {axis=0} : f32[3]
          return %2
        }"""
    )
    words = [n for n, buffer in enumerate(program.buffers) if buffer.role == "status"]
    assert len(words) == 2
    assert [sum(n in call.buffers for n in words) for call in program.calls] == [1, 1]


def test_what_has_no_elements_is_not_computed():
    program = program_of("graph f(%x: f32[0,3]) { %0 = neg(%x) : f32[0,3] return %0 }")
    assert roles(program) == ["input", "output"]
    assert not program.calls


def test_constants_are_contiguous_arrays():
    graph = parse("graph f(%x: f32[2,3]) { %0 = neg(%x) : f32[2,3] return %0 }")
    constant = make("constant", [], {"value": np.arange(6, dtype=np.float32).reshape(3, 2).T})
    total = make("add", [graph.outputs[0], constant])
    whole = materialize(Graph("f", (*graph.values, constant, total), (total,)))
    program = build_program(whole, fuse(whole))
    (buffer,) = (b for b in program.buffers if b.role == "constant")
    assert buffer.array.flags.c_contiguous
    np.testing.assert_array_equal(buffer.array, constant.attributes["value"])


@pytest.mark.parametrize("outputs", ["%x", "%x, %x", "%0, %0", "%0, %x, %0"])
def test_every_output_has_a_buffer_of_its_own(outputs):
    program = program_of(f"graph f(%x: f32[4]) {{ %0 = neg(%x) : f32[4] return {outputs} }}")
    assert len(set(program.outputs)) == outputs.count("%")
    assert all(program.buffers[number].role == "output" for number in program.outputs)


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        (["%0 = exp(%x) : f32[4]", "%1 = mul(%0, %x) : f32[4]"], "exp_mul"),
        (["%0 = neg(%x) : f32[4]", "%1 = neg(%0) : f32[4]"], "neg"),
        (["%0 = cast(%x) {dtype=f64} : f64[4]", "%1 = exp(%0) : f64[4]"], "exp"),
        (["%0 = cast(%x) {dtype=f64} : f64[4]"], "cast"),
        (
            ["%0 = neg(%x) : f32[4]", "%1 = abs(%0) : f32[4]", "%2 = exp(%1) : f32[4]",
             "%3 = tanh(%2) : f32[4]", "%4 = sin(%3) : f32[4]", "%5 = log(%4) : f32[4]"],
            "neg_abs_exp_tanh_and2more",
        ),
    ],
)  # fmt: skip
def test_kernels_are_called_after_their_telling_ops(lines, name):
    last = lines[-1].split(" = ")[0]
    graph = materialize(parse(f"graph f(%x: f32[4]) {{ {' '.join(lines)} return {last} }}"))
    assert [kernel_name(cluster) for cluster in fuse(graph)] == [name]


def test_kernels_are_told_where_their_buffers_begin():
    graph = parse(
        "graph f(%x: f32[4,4], %w: f32[4,4] parameter) {"
        " %0 = matmul(%x, %w) : f32[4,4] %1 = matmul(%0, %w) : f32[4,4] return %1 }"
    )
    x, w = graph.values[:2]
    program = build_program(graph, fuse(graph), alignments=Alignments(256, outside={x: 4, w: 16}))
    first, second = (call.kernel.arguments for call in program.calls)
    assert [argument.alignment for argument in first] == [4, 16, 256]
    assert [argument.alignment for argument in second] == [256, 16, 256]
    plain = build_program(graph, fuse(graph))
    assert {a.alignment for call in plain.calls for a in call.kernel.arguments} == {1}
