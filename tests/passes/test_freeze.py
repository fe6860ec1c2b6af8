"""Parameters become constants."""

import numpy as np
import pytest

from minicomp.errors import InputError
from minicomp.ir.interpreter import interpret
from minicomp.ir.text import parse
from minicomp.ir.verifier import verify
from minicomp.passes import freeze

GRAPH = parse(
    "graph f(%x: f32[2], %w: f32[2] parameter) { %0 = mul(%x, %w) : f32[2] return %0, %w }"
)


def test_parameters_become_constants_of_their_arrays():
    frozen = verify(freeze(GRAPH, {"w": np.array([3, 4], np.float32), "other": None}))
    assert str(frozen) == (
        "graph f(%x: f32[2]) {\n"
        "  %0 = constant() {value=[3.0,4.0]} : f32[2]\n"
        "  %1 = mul(%x, %0) : f32[2]\n"
        "  return %1, %0\n"
        "}"
    )
    assert not frozen.bindings


def test_what_was_frozen_does_not_change_with_the_weight():
    weight = np.array([3, 4], np.float32)
    frozen = freeze(GRAPH, {"w": weight})
    weight[:] = 0
    assert interpret(frozen, np.ones(2, np.float32))[0].tolist() == [3, 4]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "no array for parameter 'w'"),
        ({"w": np.zeros(3, np.float32)}, r"'w' is f32\[3\], the graph wants f32\[2\]"),
        ({"w": np.zeros(2)}, r"'w' is f64\[2\], the graph wants f32\[2\]"),
    ],
)
def test_an_array_that_does_not_fit_is_an_error(arrays, message):
    with pytest.raises(InputError, match=message):
        freeze(GRAPH, arrays)
