"""The PTX builder: the text that it writes, and that the assembler takes it."""

import math

import pytest
from ptxas import assembled

from minicomp.codegen.ptx_builder import PTXBuilder
from minicomp.codegen.ptx_types import Register, text_of


def body(builder: PTXBuilder) -> list[str]:
    """The instructions after the loading of parameters, without indentation."""
    lines = builder.text().partition("{\n")[2].splitlines()
    return [
        line.strip()
        for line in lines
        if line.strip() and not line.lstrip().startswith((".reg", "ld.param", "cvta"))
    ][:-2]


@pytest.mark.parametrize(
    "value, kind, text",
    [
        (1.0, "f32", "0f3F800000"),
        (-0.0, "f32", "0f80000000"),
        (math.inf, "f32", "0f7F800000"),
        (1e39, "f32", "0f7F800000"),
        (-1e39, "f32", "0fFF800000"),
        (0.1, "f64", "0d3FB999999999999A"),
        (-7, "s32", "-7"),
        (2, "f32", "0f40000000"),
        (Register("%f1", "f32"), "f32", "%f1"),
    ],
)
def test_operands_are_written_exactly(value, kind, text):
    assert text_of(value, kind) == text


def test_a_float_is_no_integer_literal():
    with pytest.raises(TypeError, match="no literal of type s32"):
        text_of(1.5, "s32")


def test_instructions_take_their_type_from_their_operands():
    builder = PTXBuilder("kernel", ["x"])
    thread = builder.special("tid.x")
    value = builder.load("global", "f32", builder.mad_wide(thread, 4, builder.pointers[0]))
    builder.store("global", "f32", builder.pointers[0], builder.fma(value, 2.0, value), 8)
    assert body(builder) == [
        "mov.u32 %tid_x, %tid.x;",
        "mad.wide.u32 %rd2, %tid_x, 4, %x;",
        "ld.global.f32 %f1, [%rd2];",
        "fma.rn.f32 %f2, %f1, 0f40000000, %f1;",
        "st.global.f32 [%x+8], %f2;",
    ]


def test_floating_point_arithmetic_names_its_rounding():
    builder = PTXBuilder("kernel", [])
    x = builder.mov(1.0, "f32")
    builder.add(builder.mul(x, x), x)
    assert "mul.rn.f32" in builder.text()
    assert "add.rn.f32" in builder.text()


def test_a_loop_that_is_surely_entered_has_no_test_before_it():
    builder = PTXBuilder("kernel", [])
    with builder.counted_loop("k", 0, 4, 1):
        builder.barrier()
    assert body(builder) == [
        "mov.u32 %k, 0;",
        "$k_loop:",
        "bar.sync 0;",
        "add.u32 %k, %k, 1;",
        "setp.lt.u32 %p1, %k, 4;",
        "@%p1 bra $k_loop;",
    ]


def test_a_loop_with_a_bound_in_a_register_tests_first():
    builder = PTXBuilder("kernel", [])
    stop = builder.special("ntid.x")
    with builder.counted_loop("k", 0, stop, 1):
        builder.barrier()
    assert body(builder)[1:4] == [
        "mov.u32 %k, 0;",
        "setp.ge.u32 %p1, %k, %ntid_x;",
        "@%p1 bra $k_done;",
    ]


def test_guards_are_on_each_instruction_inside():
    builder = PTXBuilder("kernel", ["x"])
    condition = builder.setp("lt", builder.special("tid.x"), 3)
    with builder.when(condition):
        builder.store("global", "f32", builder.pointers[0], 1.0)
    with builder.when(condition, unless=True):
        builder.store("global", "f32", builder.pointers[0], 2.0)
    assert body(builder)[-2:] == [
        "@%p1 st.global.f32 [%x], 0f3F800000;",
        "@!%p1 st.global.f32 [%x], 0f40000000;",
    ]


def test_names_that_come_again_are_told_apart():
    builder = PTXBuilder("kernel", ["x", "x"])
    assert builder.arguments == ["x", "x_1"]
    assert [register.name for register in builder.pointers] == ["%x", "%x_1"]
    assert builder.register("f32", "a b").name == "%a_b"
    assert builder.register("f32", "a b").name == "%a_b_1"


def test_names_that_mean_something_else_are_changed():
    builder = PTXBuilder("kernel", ["p1", "tid", "0", "", "weight.0"])
    assert builder.arguments == ["v_p1", "v_tid", "v_0", "v_", "weight_0"]
    assert builder.register("f32", "f2").name == "%v_f2"


def test_the_version_and_target_are_the_lowest_that_suffice():
    builder = PTXBuilder("kernel", [])
    assert builder.text().startswith(".version 7.0\n.target sm_80\n")
    builder.require((8, 0), "sm_90a")
    builder.require((7, 8), "sm_90")
    assert builder.text().startswith(".version 8.0\n.target sm_90a\n")


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
def test_the_assembler_takes_every_kind_of_instruction(target):
    builder = PTXBuilder("kernel", ["x", "out"], block=(32, 1, 1), comment="of all kinds")
    x, out = builder.pointers
    lane = builder.special("tid.x")
    address = builder.mad_wide(lane, 16, x)
    with builder.if_then(builder.setp("lt", lane, 8)):
        builder.store("global", "f32", out, builder.load_vector("global", "f32", 4, address))
    total = builder.mov(0.0, "f32", name="total")
    builder.accumulate(total, builder.shuffle("bfly", total, 16), 2.0)
    tile = builder.mov(builder.shared_array("tile", 1024), "u32")
    builder.cp_async(
        tile, x, 16, builder.selp(16, 0, builder.vote("any", builder.setp("gt", total, 0.0)))
    )
    builder.cp_async_commit()
    builder.cp_async_wait(0)
    builder.barrier()
    a = builder.ldmatrix(tile, 4)
    b = builder.ldmatrix(tile, 2, 128, transposed=True)
    sums = [builder.mov(0.0, "f32") for _ in range(4)]
    builder.mma("m16n8k16", "bf16", a, b, sums)
    builder.store("global", "f32", out, sums)
    integer = builder.rem(builder.div(builder.cvt(total, "s32", "rzi"), 3), 5)
    shifted = builder.shr(builder.shl(builder.xor(integer, 1), 2), 1)
    is_set = builder.setp("ne", builder.load("global", "u8", x), 0)
    chosen = builder.selp(shifted, builder.bitcast(total, "s32"), is_set)
    builder.store("global", "s32", out, chosen)
    (needed,) = assembled([builder.text()], target)
    assert needed.name.startswith("kernel")


def test_no_parameter_has_the_name_of_the_entry():
    builder = PTXBuilder("div", ["x", "div"])
    assert builder.arguments == ["x", "div_1"]
    assert ".entry div(" in builder.text()


def test_names_that_are_not_ascii_stand_in_comments_as_ascii():
    builder = PTXBuilder("kernel", ["größe"], comment="größe is an argument")
    builder.comment("größe")
    text = builder.text()
    assert text.isascii()
    assert "// gr\\xf6\\xdfe is an argument" in text
    assert len(assembled([text], "sm_80")) == 1


def test_a_name_that_looks_numbered_is_told_from_one_that_was():
    builder = PTXBuilder("twice", ["x", "x", "x_1"])
    assert builder.arguments == ["x", "x_1", "x_1_1"]
    assert builder.shared_array("x_1", 4) == "x_1_2"
