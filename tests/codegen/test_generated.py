"""Generated modules: the key stands for the text, without which it can be had."""

import numpy as np
import pytest

import minicomp
from minicomp.codegen.generated import Generated
from minicomp.codegen.llvm_emitter import LLVMEmitter
from minicomp.ir import FLOATS, type_rules
from minicomp.ir.ops import OPS, Op
from minicomp.tracing.record import apply


def emit_constant(number: int) -> str:
    return f"@v = global i64 {number}"


def emit_other(number: int) -> str:
    return f"@w = global i64 {number}"


def emit_nothing(number: int) -> str:
    raise AssertionError(f"somebody wants the text of {number}")


def test_the_text_is_what_the_generator_makes_of_the_arguments():
    assert Generated(emit_constant, 3).text == "@v = global i64 3"


def test_the_key_needs_no_text():
    assert Generated(emit_nothing, 3).key == Generated(emit_nothing, 3).key


def test_the_key_depends_on_the_arguments_and_on_the_generator():
    modules = [(emit_constant, 3), (emit_constant, 4), (emit_other, 3)]
    assert len({Generated(*module).key for module in modules}) == 3


def test_the_key_depends_on_the_source(monkeypatch):
    before = Generated(emit_constant, 3).key
    monkeypatch.setattr("minicomp.codegen.generated.source_digest", lambda: "another")
    assert Generated(emit_constant, 3).key != before


@pytest.mark.parametrize("name", ["softplus", "exp", "like"])
def test_with_a_method_of_somebody_elses_the_text_stands_for_itself(monkeypatch, name):
    monkeypatch.setattr(LLVMEmitter, name, lambda self, x: x, raising=False)
    with pytest.raises(AssertionError, match="somebody wants the text of 3"):
        _ = Generated(emit_nothing, 3).key


def test_an_op_that_is_changed_while_the_program_runs_is_compiled_anew(monkeypatch):
    def meaning(x):
        return x + 1

    row = Op("bump", "pointwise", 1, (), type_rules.pointwise(FLOATS), meaning)
    monkeypatch.setitem(OPS, "bump", row)
    x = np.arange(5, dtype=np.float32)

    def result_with(amount):
        def code(self, value):
            return self.add(value, self.constant(self.dtype(value), amount))

        monkeypatch.setattr(LLVMEmitter, "bump", code, raising=False)
        return minicomp.compile(lambda x: apply("bump", x))(x)

    for amount in (1.0, 2.0, 1.0):
        np.testing.assert_array_equal(result_with(amount), x + np.float32(amount))
