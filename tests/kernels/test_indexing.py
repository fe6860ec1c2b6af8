"""Index expressions: every rewriting keeps the value at every point of the iteration space."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicomp.kernels.indexing import (
    Atom,
    Index,
    LoopVariable,
    Quotient,
    Remainder,
    index_variables,
    ravel,
    row_major_strides,
    unravel,
)

ROW, COLUMN = LoopVariable("i", 6), LoopVariable("j", 4)


def value_at(index: Index, point: dict[LoopVariable, int]) -> int:
    """The index as a number: the definition that everything is compared with."""

    def atom(a: Atom) -> int:
        if isinstance(a, LoopVariable):
            return point[a]
        if isinstance(a, Quotient):
            return value_at(a.numerator, point) // a.divisor
        assert isinstance(a, Remainder)
        return value_at(a.numerator, point) % a.divisor

    return index.constant + sum(c * atom(a) for a, c in index.terms)


def test_a_number_split_in_several_steps_and_joined_again_is_itself():
    k = Index.of(LoopVariable("k", 45))
    for shape in ((45,), (5, 3, 3), (3, 5, 3), (3, 15)):
        assert ravel(unravel(k, shape), shape) == k
    assert str(k // 3 // 3) == "k // 9"
    assert (k // 9) * 9 + (k // 3 % 3) * 3 + k % 3 == k


POINTS = [{ROW: i, COLUMN: j} for i, j in itertools.product(range(6), range(4))]


@st.composite
def expressions(draw, depth=3):
    """(Index, plain Python function) pairs built by the same operations."""
    kind = draw(
        st.sampled_from(["i", "j", "constant"] if depth == 0 else ["add", "mul", "div", "mod"])
    )
    if kind == "i":
        return Index.of(ROW), lambda p: p[ROW]
    if kind == "j":
        return Index.of(COLUMN), lambda p: p[COLUMN]
    if kind == "constant":
        number = draw(st.integers(-5, 20))
        return Index((), number), lambda p: number
    left, left_value = draw(expressions(depth=depth - 1))
    if kind == "add":
        right, right_value = draw(expressions(depth=depth - 1))
        return left + right, lambda p: left_value(p) + right_value(p)
    number = draw(st.integers(1, 12))
    if kind == "mul":
        factor = draw(st.integers(-3, 7))
        return left * factor, lambda p: left_value(p) * factor
    if kind == "div":
        return left // number, lambda p: left_value(p) // number
    return left % number, lambda p: left_value(p) % number


@settings(max_examples=300, deadline=None)
@given(expressions())
def test_operations_have_their_arithmetic_meaning_at_every_point(pair):
    index, meaning = pair
    low, high = index.bounds
    for point in POINTS:
        assert value_at(index, point) == meaning(point)
        assert low <= meaning(point) <= high


@settings(max_examples=100, deadline=None)
@given(expressions())
def test_substitution_moves_the_point(pair):
    index, meaning = pair
    shifted = index.substitute(lambda a: Index.of(COLUMN) + 1 if a == ROW else None)
    for point in POINTS:
        assert value_at(shifted, point) == meaning({ROW: point[COLUMN] + 1, COLUMN: point[COLUMN]})


@settings(max_examples=200, deadline=None)
@given(expressions(), st.sampled_from([ROW, COLUMN]))
def test_coefficient_is_the_step_of_the_variable_wherever_it_is_given(pair, variable):
    index, meaning = pair
    step = index.coefficient(variable)
    if step is None:
        return
    for point in POINTS:
        following = {**point, variable: point[variable] + 1}
        if following[variable] < variable.extent:
            assert meaning(following) - meaning(point) == step


@pytest.mark.parametrize(
    "shape, other",
    [
        ((6, 4), (24,)),
        ((6, 4), (2, 12)),
        ((6, 4), (3, 2, 4)),
        ((6, 4), (4, 6)),
        ((6, 4), (1, 24, 1)),
    ],
)
def test_a_reshape_there_and_back_vanishes(shape, other):
    here = (Index.of(ROW), Index.of(COLUMN))
    there = unravel(ravel(here, shape), other)
    assert unravel(ravel(there, other), shape) == here


def test_splitting_an_axis_gives_divisions_and_merging_one_gives_none():
    split = unravel(Index.of(LoopVariable("k", 24)), (6, 4))
    assert [str(index) for index in split] == ["k // 4", "k % 4"]
    merged = unravel(ravel((Index.of(ROW), Index.of(COLUMN)), (6, 4)), (24,))
    assert [str(index) for index in merged] == ["4*i + j"]


def test_a_loop_that_runs_once_is_the_constant_zero():
    assert Index.of(LoopVariable("one", 1)) == Index()


def test_variables_are_found_inside_divisions():
    index = Index.of(ROW) // 4 + Index.of(COLUMN)
    assert set(index_variables(index)) == {ROW, COLUMN}


def test_row_major_strides_of_empty_axes_stay_positive():
    assert row_major_strides((2, 0, 3)) == (3, 3, 1)
    assert row_major_strides(()) == ()
