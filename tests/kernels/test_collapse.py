"""Loops are joined where every access walks them as one, and what is stored stays the same."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_meaning import run_kernel

from minicomp.kernels import (
    Apply,
    Argument,
    Load,
    LoopKernel,
    Position,
    Reduced,
    Reduction,
    Store,
    Sweep,
)
from minicomp.kernels.collapse import collapse
from minicomp.kernels.indexing import Element, Index, LoopVariable, offset_of, row_major_strides


def loops(prefix, *extents):
    return tuple(LoopVariable(f"{prefix}{n}", extent) for n, extent in enumerate(extents))


def at(variables, strides):
    return offset_of([Index.of(variable) for variable in variables], strides)


def copying(outer, load_index, store_index=None):
    """out[row-major position] = x[load_index]."""
    if store_index is None:
        store_index = at(outer, row_major_strides([v.extent for v in outer]))
    load = Load("int64", 0, load_index, "x")
    arguments = (Argument("x", "int64", 1000), Argument("out", "int64", 1000, written=True))
    store = Store(1, store_index, Apply("int64", "neg", (load,)))
    return LoopKernel("k", arguments, outer, (), (), (store,))


def meaning(kernel, *, extra=()):
    buffers = [np.arange(1000) * 3, np.zeros(1000, np.int64), *extra]
    run_kernel(kernel, buffers)
    return buffers[1]


def assert_same_meaning(before, after, **options):
    np.testing.assert_array_equal(meaning(after, **options), meaning(before, **options))


def extents(variables):
    return [variable.extent for variable in variables]


def test_contiguous_loops_become_one():
    outer = loops("o", 4, 5, 6)
    kernel = copying(outer, at(outer, (30, 6, 1)))
    assert [line.strip() for line in str(collapse(kernel)).splitlines()[1:]] == [
        "for o0 in 120:  # parallel",
        "out[o0] = neg(x[o0])",
    ]
    assert_same_meaning(kernel, collapse(kernel))


@pytest.mark.parametrize(
    ("strides", "joined"),
    [
        ((30, 6, 1), [120]),
        ((1, 4, 20), [4, 5, 6]),
        ((60, 12, 2), [120]),
        ((0, 0, 0), [120]),
        ((100, 6, 1), [4, 30]),
        ((5, 1, 20), [20, 6]),
        ((0, 6, 1), [4, 30]),
        ((30, 6, 0), [20, 6]),
        ((1, 6, 0), [4, 5, 6]),
        ((-30, -6, -1), [120]),
    ],
)
def test_loops_are_joined_where_a_step_of_one_is_all_steps_of_the_next(strides, joined):
    outer = loops("o", 4, 5, 6)
    kernel = copying(outer, at(outer, strides) + (119 if strides[0] < 0 else 0))
    assert extents(collapse(kernel).outer) == joined
    assert_same_meaning(kernel, collapse(kernel))


def test_every_access_has_a_say():
    outer = loops("o", 4, 5)
    kernel = copying(outer, at(outer, (5, 1)), store_index=at(outer, (1, 4)))
    assert extents(collapse(kernel).outer) == [4, 5]


def test_loops_that_run_once_go():
    outer = loops("o", 1, 4, 1, 6, 1)
    kernel = copying(outer, at(outer, (0, 1, 7, 10, 9)))
    assert [str(v) for v in collapse(kernel).outer] == ["o1", "o3"]
    assert_same_meaning(kernel, collapse(kernel))
    once = copying(loops("o", 1, 1), Index((), 5))
    assert collapse(once).outer == ()
    assert_same_meaning(once, collapse(once))


def test_a_variable_inside_a_division_is_left_alone():
    outer = loops("o", 4, 6)
    flat = at(outer, (6, 1))
    kernel = copying(outer, (flat + 1) // 5)
    assert extents(collapse(kernel).outer) == [4, 6]
    assert_same_meaning(kernel, collapse(kernel))


def test_loops_beside_an_index_that_is_data_are_joined():
    outer = loops("o", 3, 4, 6)
    pick = Load("int64", 2, Index.of(outer[0]), "i")
    kernel = copying(outer, Index(((Element(pick, 20), 24),)) + at(outer[1:], (6, 1)))
    joined = collapse(kernel)
    assert extents(joined.outer) == [3, 24]
    assert_same_meaning(kernel, joined, extra=[np.array([7, -20, 19])])


def test_inner_loops_are_joined_apart_from_outer_ones():
    outer, inner = loops("o", 2, 3), loops("i", 4, 5)
    load = Load("int64", 0, at((*outer, *inner), (60, 20, 5, 1)), "x")
    reduction = Reduction(0, "sum", load, "int64")
    position = Position("int64", at(inner, (5, 1)))
    full = Apply("int64", "add", (load, position))
    kernel = LoopKernel(
        "k",
        (Argument("x", "int64", 1000), Argument("out", "int64", 1000, written=True)),
        outer,
        inner,
        (Sweep((reduction,), (Store(1, at((*outer, *inner), (60, 20, 5, 1)), full),)),),
        (Store(1, at(outer, (3, 1)) + 500, Reduced("int64", 0)),),
    )
    joined = collapse(kernel)
    assert extents(joined.outer) == [6]
    assert extents(joined.inner) == [20]
    assert_same_meaning(kernel, joined)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_strides_keep_their_meaning(data):
    shape = data.draw(st.lists(st.sampled_from([1, 2, 3, 4]), min_size=1, max_size=4))
    outer = loops("o", *shape)
    natural = row_major_strides(shape)
    strides = [data.draw(st.sampled_from([s, s, s, 0, 1, 7])) for s in natural]
    index = at(outer, strides)
    if data.draw(st.booleans()):
        divisor = data.draw(st.sampled_from([2, 3, 4]))
        index = index // divisor + (index % divisor) * 5
    kernel = copying(outer, index)
    assert_same_meaning(kernel, collapse(kernel))
