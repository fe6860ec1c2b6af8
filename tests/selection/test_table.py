"""The table that the logger `minicomp.autotune` gets."""

import logging

import pytest
from selection_fakes import Bench, random_operands, right, wrong

from minicomp.selection.table import duration

TIMES = {"right": 9.9e-6, "default": 33e-6}


@pytest.fixture
def table(caplog):
    def of(**options):
        with caplog.at_level(logging.INFO, "minicomp.autotune"):
            Bench(*random_operands(128, 128, 128), right, wrong, **options).select(TIMES)
        return [record.getMessage() for record in caplog.records]

    return of


def test_the_table_lists_every_candidate_with_the_fastest_first(table):
    (text,) = table()
    lines = text.splitlines()
    assert lines[:5] == [
        "AUTOTUNE matmul(128x128, 128x128) at model.py:12",
        "strides: [128, 1], [128, 1]",
        "dtypes: float32, float32",
        "  right    0.0099 ms 100.0%",
        "  default  0.0330 ms  30.0%  given up after 3 rounds",
    ]
    assert lines[5].startswith("  wrong    rejected          wrong: 16383 of 16384 elements")
    assert lines[6].startswith("AUTOTUNE took ") and lines[6].endswith("checking 3 choices")


def test_the_number_of_rows_is_an_option(table):
    (text,) = table(autotune_num_choices_displayed=1)
    assert text.splitlines()[3:5] == ["  right  0.0099 ms 100.0%", "  and 2 more"]


def test_none_displays_all(table):
    assert "wrong" in table(autotune_num_choices_displayed=None)[0]


def test_zero_displays_no_table(table):
    assert table(autotune_num_choices_displayed=0) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.00 ns"),
        (2.5e-8, "25.0 ns"),
        (9.9e-6, "9.90 us"),
        (4.12e-4, "412 us"),
        (1.234e-3, "1.23 ms"),
        (12.34, "12.3 s"),
    ],
)
def test_durations_have_three_digits(seconds, text):
    assert duration(seconds) == text
