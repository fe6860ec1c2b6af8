"""Values that no output needs."""

from minicomp.ir.text import parse
from minicomp.passes.dead_code import dead_code


def test_unused_values_and_parameters_go_and_inputs_stay():
    graph = parse(
        "graph f(%x: f32[8], %unused: f32[2], %w: f32[8] parameter, %v: f32[8] parameter) {"
        "  %0 = exp(%x) : f32[8]"
        "  %1 = mul(%0, %w) : f32[8]"
        "  %2 = add(%0, %v) : f32[8]"
        "  %3 = neg(%1) : f32[8]"
        "  return %2, %x }"
    )
    assert str(dead_code(graph)) == (
        "graph f(%x: f32[8], %unused: f32[2], %v: f32[8] parameter) {\n"
        "  %0 = exp(%x) : f32[8]\n"
        "  %1 = add(%0, %v) : f32[8]\n"
        "  return %1, %x\n"
        "}"
    )


def test_a_long_chain_is_no_trouble():
    lines = "".join(f"%{i} = neg(%{i - 1}) : f32[]\n" for i in range(1, 5000))
    graph = parse(f"graph f(%x: f32[]) {{ %0 = neg(%x) : f32[] {lines} return %4999 }}")
    assert len(dead_code(graph)) == 5001


def test_bindings_and_the_output_tree_stay():
    graph = parse("graph f(%w: f32[] parameter) { return %w }")
    bound = type(graph)(graph.name, graph.values, graph.outputs, {"w": 1}, "tree")
    assert dead_code(bound).bindings == {"w": 1}
    assert dead_code(bound).output_tree == "tree"
