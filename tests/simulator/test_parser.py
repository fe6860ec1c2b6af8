"""PTX text to instructions, and text that is not PTX."""

import doctest
import re
from random import Random

import numpy as np
import pytest
from ptx_kernels import check_assembles, kernel, run

from minicomp.errors import MinicompError, PTXSyntaxError, SimulationError
from minicomp.simulator import Simulator, parser
from minicomp.simulator.parser import parse
from minicomp.simulator.syntax import Address, Guard, Immediate, Not, Pair, Sink, Special, Vector

HEADER = ".version 8.0\n.target sm_80\n.address_size 64\n"
BODY = """
  .reg .pred %p<3>; .reg .b32 %r<4>, %extra; .reg .f32 %f<3>;
  ld.param.u64 %rd0, [p0];
loop: // a comment; with a semicolon
  @!%p1 ld.global.v2.f32 {%f1, %f2}, [%rd0+-8];
  setp.lt.and.s32 %p1|%p2, %r1, -0x10, !%p0; /* two
  lines */ mov.u32 %r1, %tid.x;
  mov.f32 %f1, 0f3FC00000;
  {
    .reg .b32 %r<2>;
    mov.b32 %r1, %extra;
  }
  @%p1 bra loop;
  ret;
"""


def body(text):
    entry = (
        f".visible .entry kernel(.param .u64 p0) .maxntid 64, 2, 1 {{\n.reg .b64 %rd<2>;{text}}}"
    )
    return parse(HEADER + entry).entries["kernel"]


def test_instructions_have_their_parts_and_their_lines():
    entry = body(BODY)
    load, compare, move, constant, inner, branch, end = entry.instructions[1:]
    assert [i.name for i in entry.instructions] == [
        "ld", "ld", "setp", "mov", "mov", "mov", "bra", "ret",
    ]  # fmt: skip
    assert [i.line for i in entry.instructions] == [7, 9, 10, 11, 12, 15, 17, 18]
    predicate = load.guard.register
    assert load.guard == Guard(predicate, True) and predicate.name == "%p1"
    assert load.modifiers == ("global", "v2", "f32")
    assert isinstance(load.operands[0], Vector) and len(load.operands[0].elements) == 2
    assert isinstance(load.operands[1], Address) and load.operands[1].offset == -8
    assert isinstance(compare.operands[0], Pair) and isinstance(compare.operands[3], Not)
    assert compare.operands[2] == Immediate(-16)
    assert move.operands[1] == Special("%tid.x")
    assert constant.operands[1] == Immediate(1.5, True)
    # the inner scope's %r1 is another register
    assert inner.operands[0].name == move.operands[0].name
    assert inner.operands[0] != move.operands[0]
    assert branch.guard == Guard(predicate, False)
    assert entry.labels == {"loop": 1}
    assert entry.most_threads == (64, 2, 1)
    assert end.text == "ret"
    assert load.text == "@!%p1 ld.global.v2.f32 {%f1, %f2}, [%rd0+-8]"


def test_several_kernels_share_the_arrays_outside():
    text = HEADER + (
        ".extern .shared .align 16 .b8 dynamic[];\n.shared .align 8 .b8 tile[64];\n"
        ".visible .entry a() { ret; }\n.entry b(.param .u32 n) .reqntid 32 { ret; }"
    )
    module = parse(text)
    assert list(module.entries) == ["a", "b"]
    assert [array.name for array in module.entries["b"].shared] == ["dynamic", "tile"]
    assert module.entries["b"].threads == (32, 1, 1)


def test_labels_of_inner_scopes_are_their_own():
    text = """
      mov.u32 %r1, 0;
      { bra skip; mov.u32 %r1, 1; skip: }
      { bra skip; mov.u32 %r1, 2; skip: add.u32 %r1, %r1, 4; }
      st.global.u32 [%rd0], %r1;
      ret;"""
    _, (out,) = run(text, None, block=1)
    assert out[0] == 4


def test_numbers_in_every_base():
    assert Sink() == body("mov.u32 _, 5;").instructions[0].operands[0]
    values = ["10", "0x1F", "017", "0b101", "12U", "-3", "1.5", "1e3", "0d3FF8000000000000"]
    for text, value in zip(values, [10, 31, 15, 5, 12, -3, 1.5, 1000.0, 1.5]):
        (instruction,) = body(f"mov.u32 _, {text};").instructions
        assert instruction.operands[1].value == value


def module(text):
    return HEADER + f".visible .entry kernel(.param .u64 p0) {{\n{REGISTERS}\n{text}\n}}"


REGISTERS = ".reg .b64 %rd<5>; .reg .b32 %r<5>; .reg .pred %p<3>; .reg .f32 %f<5>; .reg .b16 %h<3>;"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "wanted '.version'"),
        (".version 8.0\n.target sm_80\n.address_size 32\n", 3, "64 bits"),
        (".version 8.0\n.target texas\n", 2, "wanted one such as sm_80"),
        (HEADER + "hello", 4, "wanted '.visible .entry'"),
        (HEADER + ".visible .func f() { ret; }", 4, "wanted '.visible .entry'"),
        (HEADER + ".visible .entry k(.param .u99 p) { ret; }", 4, ".u99, which is not a type"),
        (HEADER + ".visible .entry k() .maxwell 3 { ret; }", 4, ".maxwell"),
        (HEADER + ".visible .entry k() { ret; } .visible .entry k() { ret; }", 4, "second entry k"),
        (HEADER + ".shared .align 3 .b8 a[4];", 4, "alignment 3"),
        (HEADER + ".shared .align 4 .b8 a[];", 4, "others have one"),
        (HEADER + ".shared .align 4 .b8 a[300000];", 4, "300000 bytes"),
        (module("add.u32 %r1, %r2, %r3"), 7, "found }, wanted ','"),
        (module("add.u32 %r1, %r2, $;"), 6, "$ is not declared"),
        (module("add.u32 %r1, %r2, ^;"), 6, "'^', which starts nothing"),
        (module("add.u32 %r1, %r2, %r9;"), 6, "%r9, which is neither declared"),
        (module("add.u32 %r1, %r2, %r01;"), 6, "%r01, which is neither declared"),
        (module("mov.u32 %r1, %tid.w;"), 6, "%tid.w, which is neither declared"),
        (module("@%r1 ret;"), 6, "wanted a predicate register"),
        (module("@%q1 ret;"), 6, "wanted a predicate register"),
        (module("bra nowhere;"), 6, "there is no label nowhere"),
        (module("{ inner: } bra inner;"), 6, "there is no label inner"),
        (module("bra %r1;"), 6, "bra takes a label"),
        (module("a: a: ret;"), 6, "a second label a"),
        (module(".reg .b32 %r1;"), 6, "a second register"),
        (module(".reg .b32 %x<0>;"), 6, "0 registers"),
        (module("ld.global.u32 %r1, [5+%rd1];"), 6, "found %rd1"),
        (module("mov.u32 %r1, 089;"), 6, "089"),
        (module("mov.u32 %r1, 99999999999999999999999999999;"), 6, "does not fit"),
        (module("ret; /* no end"), 6, "'/', which starts nothing"),
    ],
)
def test_bad_text_is_an_error_that_names_the_line(text, line, message):
    with pytest.raises(PTXSyntaxError) as caught:
        Simulator().load(text)
    assert str(caught.value).startswith(f"line {line}:")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("frobnicate.u32 %r1, %r2;", "not an instruction"),
        ("add.u33 %r1, %r2, %r3;", "wanted 1 type, found 0"),
        ("add.wide.u32 %r1, %r2, %r3;", ".wide is not known"),
        ("add.u32 %r1, %r2;", "wanted 3 operands, found 2"),
        ("add.u32 %rd1, %r2, %r3;", "%rd1 is .b64"),
        ("add.f32 %f1, %f2, %p1;", "%p1 is .pred"),
        ("add.u32 %f1, %r2, %r3;", "%f1 is .f32"),
        ("add.u32 %r1, %r2, 4294967296;", "4294967296 does not fit"),
        ("add.u32 %r1, %r2, 1.5;", "1.5 is not a constant"),
        ("add.f32 %f1, %f2, 1;", "1 is not a constant"),
        ("mul.u32 %r1, %r2, %r3;", "wanted one of .lo, .hi, .wide"),
        ("setp.ltu.u32 %p1, %r1, %r2;", ".ltu is not a comparison"),
        ("setp.lt.b32 %p1, %r1, %r2;", ".lt is not a comparison"),
        ("cvt.f32.u32 %f1, %r1;", "rounding unsaid"),
        ("cvt.u32.f32 %r1, %f1;", "rounding unsaid"),
        ("cvt.rn.u32.f32 %r1, %f1;", "rounding rn"),
        ("cvt.rn.f64.f32 %rd1, %f1;", "rounding rn"),
        ("ld.u32 %r1, [%rd1];", "wanted a state space"),
        ("ld.local.u32 %r1, [%rd1];", "wanted a state space"),
        ("ld.global.u32 %r1, [%r2];", "%r2 is .b32"),
        ("ld.global.u32 %r1, %rd1;", "an address in brackets"),
        ("ld.global.v4.b64 {%rd1, %rd2, %rd3, %rd4}, [%rd1];", "at most 16 bytes"),
        ("ld.global.v2.u32 {%r1, %r2, %r3}, [%rd1];", "wanted 2 elements, found 3"),
        ("ld.param.u64 %rd1, [q];", "no parameter q"),
        ("ld.param.u32 %r1, [p0];", "parameter p0 is one .u64"),
        ("st.shared.u32 [tile], %r1;", "tile is not declared"),
        ("st.global.u32 [%rd1], _;", "wanted a register or a number"),
        ("mov.b32 %r1, {%h1, %h2, %h1};", "3 elements do not make up"),
        ("bar.sync 16;", "there are 0 to 15"),
        ("bar.sync 0, 33;", "a multiple of 32"),
        ("shfl.sync.left.b32 %r1, %r2, 1, 31, -1;", "wanted one of .up"),
        ("cp.async.cg.shared.global [%r1], [%rd1], 8;", "(16,)"),
        ("lop3.b32 %r1, %r2, %r3, %r4, 256;", "from 0 to 255"),
        ("mma.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32 {%f1}, {%r1}, {%r1}, {%f1};", "m16n8"),
        ("atom.global.mul.u32 %r1, [%rd1], %r2;", "wanted one of .add"),
        ("ret 5;", "wanted 0 operands"),
    ],
)
def test_instructions_that_are_not_are_errors_at_load(line, message):
    with pytest.raises(PTXSyntaxError) as caught:
        Simulator().load(module(line + " ret;"))
    assert str(caught.value).startswith(f"line 6: {line[:5]}")
    assert message in str(caught.value)


def test_comments_too_are_ascii():
    with pytest.raises(PTXSyntaxError, match=r"line 6: found 'ß'; PTX is ASCII"):
        Simulator().load(module("// Maß der Dinge\n ret;"))


def test_errors_are_minicomps_and_pythons():
    assert issubclass(PTXSyntaxError, MinicompError) and issubclass(PTXSyntaxError, ValueError)


def test_hints_and_directives_without_effect_are_accepted():
    text = kernel(
        """
        .pragma "nounroll";
        ld.global.nc.L1::no_allocate.L2::128B.v4.f32 {%f1, %f2, %f3, %f4}, [%rd0];
        ld.global.cg.u32 %r1, [%rd0];
        st.global.cs.u32 [%rd0], %r1;
        ld.relaxed.gpu.global.u32 %r1, [%rd0];
        fence.acq_rel.gpu; membar.gl; prefetch.global.L2 [%rd0];
        .loc 1 2 3
        ret;""",
        directives=".maxntid 128, 1, 1\n.minnctapersm 2",
        before='.file 1 "a.py"',
    )
    check_assembles(text)
    assert "kernel" in Simulator().load(text).programs


def test_the_example_of_the_docstring():
    assert doctest.testmod(parser).attempted == 1
    assert doctest.testmod(parser).failed == 0


#: a body with most forms that there are, to be damaged
DAMAGED = """
  mov.u32 %r1, %tid.x; setp.lt.and.u32 %p1|%p2, %r1, 5, !%p3; @!%p1 bra low;
  shfl.sync.bfly.b32 %r2|%p1, %r1, 1, 31, 0xFFFFFFFF; vote.sync.ballot.b32 %r2, %p1, -1;
low:
  { .reg .f32 %x<3>; ld.global.v2.f32 {%x1, %x2}, [%rd0+8]; fma.rn.f32 %f1, %x1, %x2, 0f3F800000; }
  st.shared.v4.f32 [tile+16], {%f1, %f1, %f1, %f1}; atom.global.cas.b32 %r3, [%rd0], 0, %r1;
  cvt.rn.f16x2.f32 %r4, %f1, %f1; mov.b32 {%h1, %h2}, %r4; cvt.rzi.s64.f32 %rd5, %f1;
  cp.async.cg.shared.global [tile+32], [%rd0], 16, 8; cp.async.commit_group; cp.async.wait_group 0;
  ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%r5, %r6}, [tile];
  mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%f1, %f2, %f3, %f4},
    {%r1, %r1, %r1, %r1}, {%r1, %r1}, {%f1, %f1, %f1, %f1};
  bfe.u32 %r7, %r1, 5, 6; lop3.b32 %r7, %r1, %r2, %r3, 0x96; bar.warp.sync -1; bar.sync 0, 64;
  selp.f32 %f1, %f2, %f3, %p1; rem.s32 %r1, %r1, %r7; add.u32 %r1, %r1, 1; @%p1 bra low; ret;"""


def test_damaged_text_raises_nothing_else():
    """Words are swapped for others of their kind, which makes errors of every kind, at load and
    while running, but only the simulator's."""
    text = kernel(DAMAGED, shared=".shared .align 16 .b8 tile[256];")
    word = re.compile(r"\.[A-Za-z_0-9:]+|[%A-Za-z_0-9$]+|\S")
    words = sorted(set(word.findall(text)) | {"_", "-1", "0f3F800000", ".pred", ".f64", ".bf16x2"})
    places = [match.span() for match in word.finditer(text)]
    random, kinds = Random(0), set()
    for _ in range(400):
        start, end = random.choice(places)
        kind = text[start]
        alike = [other for other in words if other[0] == kind or random.random() < 0.02]
        device = Simulator(instruction_budget=1000)
        pointer = device.allocate(64)
        device.write(pointer, np.arange(16, dtype=np.uint32))
        try:
            module = device.load(text[:start] + random.choice(alike) + text[end:])
            device.launch(module, "kernel", 1, 64, [pointer])
            kinds.add("runs")
        except (PTXSyntaxError, SimulationError) as error:
            kinds.add(type(error))
    assert {PTXSyntaxError, SimulationError} <= kinds
