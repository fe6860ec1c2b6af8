"""Nested arguments, flattened and put back."""

from collections import namedtuple

import pytest

from minicomp.tree import flatten, paths, unflatten

Pair = namedtuple("Pair", "left right")

NESTED = [1, (1, 2), [1, [2, []]], {"a": 1, "b": (2, {"c": 3})}, Pair(1, [2, 3]), ((),), {}]


@pytest.mark.parametrize("nested", NESTED, ids=str)
def test_unflatten_is_the_inverse_of_flatten(nested):
    leaves, structure = flatten(nested)
    again = unflatten(structure, leaves)
    assert again == nested
    assert type(again) is type(nested)


def test_structures_are_equal_where_nesting_is():
    assert flatten((1, [2]))[1] == flatten((3, [4]))[1]
    assert hash(flatten({"a": 1})[1]) == hash(flatten({"a": 2})[1])
    assert len({flatten(nested)[1] for nested in NESTED}) == len(NESTED)


def test_what_is_static_belongs_to_the_structure():
    def static(leaf):
        return not isinstance(leaf, float)

    leaves, structure = flatten((1.5, "mean", None, [2, 2.5]), static)
    assert leaves == [1.5, 2.5]
    assert unflatten(structure, [3.5, 4.5]) == (3.5, "mean", None, [2, 4.5])
    assert structure != flatten((1.5, "sum", None, [2, 2.5]), static)[1]


def test_statics_of_different_types_differ():
    structures = {flatten(value, lambda leaf: True)[1] for value in (1, 1.0, True, 0.0, -0.0)}
    assert len(structures) == 5
    nan = float("nan")
    assert flatten(nan, lambda leaf: True)[1] == flatten(float("nan"), lambda leaf: True)[1]


def test_paths_lead_to_the_leaves():
    nested = {"a": [1, Pair(2, 3)], "b": (), "c": 4}
    assert paths(flatten(nested)[1]) == [
        ("a", 0), ("a", 1, "left"), ("a", 1, "right"), ("c",),
    ]  # fmt: skip
    assert paths(flatten(1)[1]) == [()]
