"""Fingerprints: what differs anywhere has another one, what is equal the same in every process."""

import math
import os
import struct
import subprocess
import sys
from dataclasses import dataclass, fields, is_dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from random_graphs import graphs

from minicomp import fingerprint as module
from minicomp.fingerprint import fingerprint, source_digest
from minicomp.ir import Location
from minicomp.kernels import Apply, Literal, Load, LoopKernel, LoopSchedule
from minicomp.kernels.indexing import Index, LoopVariable
from minicomp.kernels.program import build_program
from minicomp.passes import optimize
from minicomp.passes.fuse import fuse
from minicomp.passes.materialize import materialize


def kernels_of(graph):
    graph = materialize(optimize(graph))
    return [call.kernel for call in build_program(graph, fuse(graph)).calls]


def changed_value(value):
    """Another value of the same type."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():  # its last bit, so that nan and zero change too
            (bits,) = struct.unpack("<q", struct.pack("<d", value))
            return struct.unpack("<d", struct.pack("<q", bits ^ 1))[0]
        case str():
            return value + "_"
    raise TypeError(type(value))


def variants(structure):
    """The structure with one thing changed: a plain value in it, or the length of a tuple."""
    if isinstance(structure, tuple):
        yield (*structure, 0)
        for position, element in enumerate(structure):
            for variant in variants(element):
                yield (*structure[:position], variant, *structure[position + 1 :])
    elif is_dataclass(structure):
        for field in fields(structure):
            if field.compare:
                for variant in variants(getattr(structure, field.name)):
                    yield replace(structure, **{field.name: variant})
    else:
        yield changed_value(structure)


@settings(max_examples=60, deadline=None)
@given(graphs(max_ops=4))
def test_kernels_that_differ_anywhere_have_other_fingerprints(graph):
    for kernel in kernels_of(graph):
        all_of_them = [fingerprint(kernel), *map(fingerprint, variants(kernel))]
        assert len(set(all_of_them)) == len(all_of_them)


@settings(max_examples=60, deadline=None)
@given(graphs(max_ops=8))
def test_kernels_lowered_anew_have_the_same_fingerprints(graph):
    first, second = kernels_of(graph), kernels_of(graph)
    assert list(map(fingerprint, first)) == list(map(fingerprint, second))
    assert all(a is not b for a, b in zip(first, second, strict=True))


def test_what_is_only_for_people_does_not_count():
    kernel = LoopKernel("neg", (), (), (), ())
    located = replace(kernel, operations=("neg",), locations=(Location("model.py", 3),))
    assert fingerprint(located) == fingerprint(kernel)


def test_numbers_count_bit_by_bit():
    payload = struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000001))[0]
    values = [0, 0.0, -0.0, False, 1, 1.0, True, math.nan, payload, math.inf, -math.inf, 5e-324]
    values += [2**53, 2.0**53, 2**53 + 1, "", "0", None, (), (0,), ((),)]
    assert len({fingerprint(value) for value in values}) == len(values)
    literals = {fingerprint(Literal("float32", value)) for value in values[:12]}
    assert len(literals) == 12


def test_texts_cannot_pass_for_a_structure():
    assert fingerprint("a", "b") != fingerprint("a\ns1:b")
    assert fingerprint(("a",), "b") != fingerprint(("a", "b"))
    assert fingerprint("1") != fingerprint(1)
    assert fingerprint("None") != fingerprint(None)


def test_dataclasses_with_equal_fields_are_told_apart_by_their_class():
    @dataclass(frozen=True)
    class Other:
        name: str
        extent: int

    assert fingerprint(Other("i", 8)) != fingerprint(LoopVariable("i", 8))


def sum_of(left, right):
    return Apply("float32", "add", (left, right))


def test_sharing_counts():
    def load():
        return Load("float32", 0, Index.of(LoopVariable("i", 8)))

    one = load()
    assert fingerprint(sum_of(one, one)) != fingerprint(sum_of(load(), load()))
    other = load()
    a = Apply("float32", "where", (one, other, one))
    b = Apply("float32", "where", (one, other, other))
    assert fingerprint(a) != fingerprint(b)


def test_expressions_with_exponentially_long_texts_are_told_apart_to_the_last_leaf():
    def doubled(value):
        scalar = Literal("float32", value)
        for _ in range(200):
            scalar = sum_of(scalar, scalar)
        return scalar

    assert str(doubled(1.0)) == str(doubled(2.0))
    assert fingerprint(doubled(1.0)) != fingerprint(doubled(2.0))


@pytest.mark.parametrize("thing", [[1], {1: 2}, np.float32(1), np.zeros(1), object(), 1j, b"x"])
def test_what_is_no_plain_value_is_refused(thing):
    with pytest.raises(TypeError, match="no fingerprint"):
        fingerprint((1, thing))


PROGRAM = """
import minicomp
from minicomp.fingerprint import fingerprint, source_digest
from minicomp.ir.text import parse
from minicomp.kernels.program import build_program
from minicomp.passes.fuse import fuse
graph = parse("graph f(%x: f32[8,4]) { %0 = exp(%x) : f32[8,4] return %0 }")
(call,) = build_program(graph, fuse(graph)).calls
print(fingerprint(call.kernel), source_digest())
"""


def test_another_process_finds_the_same():
    def run(seed):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", PROGRAM]
        return subprocess.run(command, env=environment, capture_output=True, check=True).stdout

    assert run("1") == run("2") != b""


# --- the source's ---


@pytest.fixture
def digest_of(tmp_path, monkeypatch):
    """The digest of a package of these files, by path."""

    def digest(files):
        for path in tmp_path.rglob("*.py"):
            path.unlink()
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        monkeypatch.setattr(module, "__file__", str(tmp_path / "fingerprint.py"))
        return source_digest.__wrapped__()

    return digest


def test_the_source_counts_by_name_and_content(digest_of):
    files = {"a.py": "x = 1\n", "inner/b.py": ""}
    base = digest_of(files)
    assert digest_of(files) == base
    assert digest_of({**files, "notes.txt": "text"}) == base
    others = [
        {"a.py": "x = 2\n", "inner/b.py": ""},
        {"c.py": "x = 1\n", "inner/b.py": ""},
        {"a.py": "x = 1\n", "b.py": ""},
        {**files, "inner/c.py": ""},
        {"a.py": "", "inner/b.py": "x = 1\n"},
    ]
    assert len({base, *map(digest_of, others)}) == 6


def test_schedules_count():
    assert fingerprint(LoopSchedule(unroll=4)) != fingerprint(LoopSchedule(unroll=2))
