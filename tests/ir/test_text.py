"""The printer and the parser: prints, round trips, and an error for everything else."""

import base64
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_graphs import graphs

from minicomp.errors import ParseError
from minicomp.ir import Graph, Location, TensorType
from minicomp.ir.ops import make
from minicomp.ir.text import graph_text, parse


def constant(*elements, dtype=np.float32):
    value = make("constant", (), {"value": np.array(elements, dtype)})
    return Graph("f", (value,), (value,))


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def test_print_of_a_small_graph():
    x = make("input", (), {"name": "x", "type": TensorType((8, 16), "float32")})
    weight = make("parameter", (), {"name": "weight", "type": TensorType((16, 4), "float32")})
    product = make("matmul", (x, weight))
    half = make("full", (), {"shape": (8, 4), "value": 0.5, "dtype": "float32"})
    scaled = make("mul", (product, half))
    best = make("argmax", (scaled,), {"axes": (1,), "keepdims": False}, Location("a/model.py", 12))
    graph = Graph("classify", (x, weight, product, half, scaled, best), (best, scaled))
    assert graph_text(graph, locations=True) == (
        "graph classify(%x: f32[8,16], %weight: f32[16,4] parameter) {\n"
        "  %0 = matmul(%x, %weight) : f32[8,4]\n"
        "  %1 = full() {shape=[8,4], value=0.5, dtype=f32} : f32[8,4]\n"
        "  %2 = mul(%0, %1) : f32[8,4]\n"
        "  %3 = argmax(%2) {axes=[1], keepdims=false} : i64[8]  # model.py:12\n"
        "  return %3, %2\n"
        "}"
    )
    assert "#" not in str(graph)
    assert parse(graph_text(graph, locations=True)) == graph


def test_every_form_of_attribute_reads_back():
    text = (
        "graph f(%x: f64[4,6], %i: i32[2], %b: bool[3]) {\n"
        "  %0 = transpose(%x) {permutation=[1,0]} : f64[6,4]\n"
        "  %1 = cast(%0) {dtype=bf16} : bf16[6,4]\n"
        "  %2 = slice(%x) {starts=[3,0], sizes=[4,2], steps=[-1,3]} : f64[4,2]\n"
        "  %3 = windows(%x) {axes=[1], sizes=[2], strides=[1], dilations=[3]} : f64[4,3,2]\n"
        "  %4 = pad(%x) {low=[0,1], high=[0,0], value=-inf} : f64[4,7]\n"
        "  %5 = pad(%b) {low=[1], high=[0], value=true} : bool[4]\n"
        "  %6 = take(%x, %i) {axis=1} : f64[4,2]\n"
        "  %7 = full() {shape=[], value=-9223372036854775808, dtype=i64} : i64[]\n"
        "  %8 = sum(%i) {axes=[], keepdims=true} : i64[2]\n"
        "  %9 = constant() {value=[0.5,nan,-0.0]} : f32[3]\n"
        "  %10 = constant() {value=[]} : i32[0,3]\n"
        "  return\n"
        "}"
    )
    assert str(parse(text)) == text


def test_devices_read_back():
    text = (
        'graph "on a gpu"(%x: f32[2]@cuda) {\n'
        "  %0 = full() {shape=[2], value=1.0, dtype=f32, device=cuda} : f32[2]@cuda\n"
        "  %1 = add(%x, %0) : f32[2]@cuda\n"
        "  return %1\n"
        "}"
    )
    assert str(parse(text)) == text


def test_odd_names_are_quoted_and_plain_ones_with_dots_are_not():
    for name, printed in [
        ("layers.0.weight", "%layers.0.weight"),
        ("0", '%"0"'),
        ('a "b"\n#%', '%"a \\"b\\"\\n#%"'),
        ("größe", '%"gr\\u00f6\\u00dfe"'),
    ]:
        x = make("input", (), {"name": name, "type": TensorType((), "bool")})
        y = make("logical_not", (x,))
        graph = Graph("f", (x, y), (y,))
        assert printed in str(graph)
        assert parse(str(graph)).inputs[0].attributes["name"] == name
        assert parse(str(graph)) == graph


def test_small_constants_print_their_elements_and_keep_their_bits():
    graph = constant(0.1, -0.0, np.inf, np.nan, 1e-45)
    assert "value=[0.10000000149011612,-0.0,inf,nan,1.401298464324817e-45]" in str(graph)
    read = parse(str(graph)).values[0].attributes["value"]
    assert same_bits(read, graph.values[0].attributes["value"])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int32, np.int64, bool])
def test_big_constants_keep_their_bits(dtype):
    bits = np.random.default_rng(0).bytes(24 * np.dtype(dtype).itemsize)
    array = np.frombuffer(bits, dtype) if dtype is not bool else np.arange(24) % 3 == 0
    value = make("constant", (), {"value": array.reshape(2, 12).T})
    graph = Graph("f", (value,), (value,))
    assert "value=@c0" in str(graph)
    assert "data" not in graph_text(graph, data=False)
    assert same_bits(parse(str(graph)).values[0].attributes["value"], array.reshape(2, 12).T.copy())
    assert parse(str(graph)) == graph


def test_bfloat16_constants_keep_their_bits():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    graph = constant(*range(20), dtype=ml_dtypes.bfloat16)
    assert same_bits(
        parse(str(graph)).values[0].attributes["value"], graph.values[0].attributes["value"]
    )


def test_a_nan_with_a_payload_keeps_its_bits():
    payload = np.array([0x7FC12345, 0xFFC00000], np.uint32).view(np.float32)
    graph = constant(*payload)
    assert "value=@c0" in str(graph)
    assert same_bits(parse(str(graph)).values[0].attributes["value"], payload)


def test_graphs_that_differ_in_a_constant_differ():
    assert constant(*range(20)) != constant(*range(19), 5)
    assert constant(0.0) != constant(-0.0)


BLOB = base64.b64encode(zlib.compress(bytes(80))).decode()
BOMB = base64.b64encode(zlib.compress(bytes(10_000_000))).decode()


def with_data(type, *entries, uses=1):
    lines = [f"%{i} = constant() {{value=@c0}} : {type}" for i in range(uses)]
    data = " ".join(f'@c0 = "{entry}"' for entry in entries)
    return f"graph f() {{ {' '.join(lines)} return %0 }} data {{ {data} }}"


def body(line, inputs="%x: f32[2]"):
    return f"graph f({inputs}) {{\n  {line}\n  return %0\n}}"


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("", "line 1, column 1", "found the end of the text, wanted 'graph'"),
        ("grph f", "line 1, column 1", "found grph, wanted 'graph'"),
        ("graph f(%x: f32[2]) { return %y }", "line 1, column 30", "found %y, which is not"),
        ("graph f(%x: f32[2])", "line 1, column 20", "wanted '{'"),
        ("graph f(%x: f32[2]) {", "line 1, column 22", "a statement such as"),
        ("graph f() { return } more", "line 1, column 22", "wanted the end of the text"),
        ("graph f(%x: f33[2]) { return }", "line 1, column 13", "found f33, wanted a dtype"),
        ("graph f(%x: f32[-2]) { return }", "line 1, column 13", "sizes of 0 or more"),
        ("graph f(%x: f32[2]@tpu) { return }", "line 1, column 20", "wanted a device"),
        ("graph f(%x: f32[2] %y: f32[2]) { return }", "line 1, column 20", "wanted ',' or ')'"),
        ("graph f(%x: f32[], %x: f32[]) { return }", "line 1, column 20", "defined already"),
        ('graph f(%"": f32[]) { return }', "line 1, column 1", "a string that is not empty"),
        ('graph f(%"\\q": f32[]) { return }', "line 1, column 10", "not a JSON string"),
        ('graph f(%"abc', "line 1, column 10", "starts nothing known"),
        ("graph f(%x: f32[], %y: f32[]@cuda) { return }", "line 1", "is on cuda, others on cpu"),
        (body("%0 = exq(%x) : f32[2]"), "line 2, column 8", "found exq, which is not an op"),
        (body("%0 = input() : f32[2]"), "line 2, column 8", "found input, which is not an op"),
        (body("%0 = exp(%z) : f32[2]"), "line 2, column 12", "found %z, which is not defined"),
        (body("%0 = exp(%x, %x) : f32[2]"), "line 2, column 3", "exp takes 1 operands, got 2"),
        (body("%0 = exp(%x) : f32[3]"), "line 2, column 3", "declared as f32[3], wanted f32[2]"),
        (body("%0 = exp(%x) {axis=1} : f32[2]"), "line 2, column 17", "exp has the attributes no"),
        (body("%0 = cumsum(%x) : f32[2]"), "line 2, column 3", "has the attributes axis; got none"),
        (body("%0 = cumsum(%x) {axis=0, axis=0} : f32[2]"), "line 2, column 28", "second time"),
        (body("%0 = cumsum(%x) {axis=0.5} : f32[2]"), "line 2, column 28", "an integer before"),
        (
            body("%0 = cumsum(%x) {axis=7} : f32[2]"),
            "line 2, column 3",
            "axis 7 is not within 0..0",
        ),
        (body("%0 = reshape(%x) {shape=[[1]]} : f32[2]"), "line 2, column 28", "found [, wanted a"),
        (body("%0 = reshape(%x) {shape=[3]} : f32[3]"), "line 2, column 3", "cannot reshape"),
        (body("%0 = sum(%x) {axes=[0], keepdims=0} : f32[]"), "line 2", "wanted true or false"),
        (body("%0 = constant() {value=[1.0]} : f32[2]"), "line 2", "found 1 elements, wanted 2"),
        (body("%0 = constant() {value=[1.5]} : i32[1]"), "line 2", "not an element of int32"),
        (body("%0 = constant() {value=[3000000000]} : i32[1]"), "line 2", "not an element of int"),
        (
            body("%0 = constant() {value=@c3} : f32[2]"),
            "line 2",
            "found @c3, wanted it in the data",
        ),
        (body("%0 = full() {shape=[2], value=true, dtype=f32} : f32[2]"), "line 2", "of float32"),
        (body("%0 = full() {shape=[2], value=1} : f32[2]"), "line 2, column 3", "full has the att"),
        (body("%0 = pad() {value=1} : f32[2]"), "line 2, column 3", "pad takes 1 operands, got 0"),
        (with_data("f32[20]"), "line 1", "found @c0, wanted it in the data"),
        (with_data("f32[20]", BLOB, BLOB), "line 1", "found @c0 a second time"),
        (with_data("f32[20]", BLOB, uses=2), "line 1", "wanted it in the data, once"),
        (with_data("f32[20]", "????"), "line 1, column 76", "not zlib in base64"),
        (with_data("f32[20]", "AAAA"), "line 1, column 76", "not zlib in base64"),
        (with_data("f32[20]", BLOB[:-8]), "line 1, column 76", "another size, wanted 80 bytes"),
        (with_data("f32[21]", BLOB), "line 1, column 76", "another size, wanted 84 bytes"),
        (with_data("f32[19]", BLOB), "line 1, column 76", "another size, wanted 76 bytes"),
    ],
)
def test_bad_text_is_an_error_that_says_where_and_what(text, place, message):
    with pytest.raises(ParseError) as caught:
        parse(text)
    assert str(caught.value).startswith(place)
    assert message in str(caught.value)


HUGE = "9" * 5000


@pytest.mark.parametrize(
    "text",
    [
        body(f"%0 = reshape(%x) {{shape=[{HUGE}]}} : f32[2]"),
        body(f"%0 = broadcast(%x) {{shape=[{','.join(['1'] * 99)},2]}} : f32[2]"),
        body("%0 = broadcast(%x) {shape=[4000000000,4000000000,2]} : f32[4000000000,4000000000,2]"),
        body("%0 = full() {shape=[2], value=1e9999999, dtype=i32} : i32[2]"),
        body("%0 = reshape(%x) {shape=" + "[" * 100_000),
        "graph f(" * 10_000,
        'graph "' + "\\" * 100_001,
        with_data("f32[20]", BOMB),
        with_data("f32[1000000000000,1000]", BOMB),
        "graph f() { return } # \x00\ud800 \U0001f600\n\x00",
    ],
)
def test_hostile_text_is_an_error_and_neither_crashes_nor_fills_the_memory(text):
    with pytest.raises(ParseError):
        parse(text)


def test_cutting_or_changing_text_anywhere_gives_a_graph_or_a_parse_error():
    text = with_data("f32[20]", BLOB).replace("return", "%1 = exp(%0) : f32[20] return")
    parse(text)
    for position in range(len(text)):
        for changed in (text[:position], text[:position] + "[" + text[position + 1 :]):
            try:
                parse(changed)
            except ParseError:
                continue


def test_names_of_values_are_free():
    graph = parse("graph f(%x: f32[2]) { %y = exp(%x) : f32[2]  # why not\n return %y, %x }")
    assert str(graph) == "graph f(%x: f32[2]) {\n  %0 = exp(%x) : f32[2]\n  return %0, %x\n}"


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(graphs())
def test_random_graphs_read_back_equal(graph):
    read = parse(str(graph))
    assert read == graph
    for ours, theirs in zip(read.values, parse(str(read)).values, strict=True):
        assert (ours.op, ours.type) == (theirs.op, theirs.type)
        for name, attribute in ours.attributes.items():
            other = theirs.attributes[name]
            same = (
                same_bits if isinstance(attribute, np.ndarray) else lambda a, b: repr(a) == repr(b)
            )
            assert same(attribute, other)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(graphs(max_ops=4), st.integers(0, 10**6), st.sampled_from('%@{}[](),:="#\\ 0-9aé\n'))
def test_random_text_gives_a_graph_or_a_parse_error(graph, position, character):
    text = str(graph)
    position %= len(text)
    for changed in (
        text[:position] + character + text[position:],
        text[:position] + character + text[position + 1 :],
    ):
        try:
            parse(changed)
        except ParseError as error:
            assert str(error).startswith("line ")
