"""Choices saved by the user and replayed: no timing, and clear words about what is missing."""

import json

import numpy as np
import pytest
from selection_fakes import Bench, add, random_operands, report_on, right, site_of, wrong

import minicomp
from minicomp.errors import ChoicesError, SelectionWarning
from minicomp.ir import Location
from minicomp.selection import Choice
from minicomp.selection.candidates import CandidateReport
from minicomp.selection.replay import choices_document, load_choices, save_choices

FAST = {"right": 1e-4, "default": 1e-3}


@pytest.fixture
def saved():
    return choices_document([Bench(*random_operands(), right).select(FAST)])


def test_what_is_saved_is_readable_json(tmp_path, saved):
    path = tmp_path / "choices.json"
    save_choices(path, [Bench(*random_operands(), right).select(FAST)])
    assert json.loads(path.read_text()) == saved
    assert saved["minicomp_choices"] == 1
    (entry,) = saved["sites"]
    assert entry == {
        "site": "matmul f32[8,16]{16,1} @ f32[16,4]{4,1} on cpu",
        "location": "model.py:12",
        "chosen": "right",
        "kind": "external",
        "reason": entry["reason"],
    }
    assert [file.name for file in tmp_path.iterdir()] == ["choices.json"]


@pytest.mark.parametrize("autotune", [True, False])
def test_a_saved_choice_is_replayed_without_timing(tmp_path, autotune):
    path = tmp_path / "choices.json"
    save_choices(path, [Bench(*random_operands(), right).select(FAST)])
    bench = Bench(*random_operands(), right, choices=path, max_autotune=autotune)
    choice = bench.select({"right": 9.0})
    assert (choice.chosen, choice.source) == ("right", "replayed")
    assert choice.reason == f"replayed from {path}"
    assert bench.timed == [] and bench.runs == {"right": 1}
    assert report_on(choice, "default").status == "skipped"


def test_a_dict_is_replayed_as_a_file_is(saved):
    assert Bench(*random_operands(), right, choices=saved).select().chosen == "right"


def test_a_replayed_kernel_is_prepared_and_no_external_is_called():
    document = choices_document(
        [Bench(*random_operands(), kernels={"tile": np.matmul}).select({"tile": 1e-4})]
    )
    bench = Bench(*random_operands(), wrong, kernels={"tile": np.matmul}, choices=document)
    assert bench.select().chosen == "tile"
    assert bench.prepared == ["tile"] and bench.runs == {}


def test_a_site_that_was_not_saved_is_named(saved):
    bench = Bench(*random_operands(9), right, choices=saved)
    with pytest.raises(ChoicesError) as caught:
        bench.select()
    text = str(caught.value)
    assert text.startswith("matmul at model.py:12: the dict of choices has no choice for the call")
    assert "[matmul f32[9,16]{16,1} @ f32[16,4]{4,1} on cpu]" in text
    assert "it has 1: [matmul f32[8,16]{16,1} @ f32[16,4]{4,1} on cpu]" in text
    assert isinstance(caught.value, ValueError)


def test_a_candidate_that_is_no_longer_offered_is_named(saved):
    with pytest.raises(ChoicesError) as caught:
        Bench(*random_operands(), choices=saved).select()
    assert "chose 'right', which is not among the candidates here: default" in str(caught.value)
    assert "must be listed in external_matmul" in str(caught.value)


def test_of_several_choices_for_equal_sites_the_one_at_the_same_line_counts(saved):
    (entry,) = saved["sites"]
    elsewhere = {**entry, "location": "model.py:99", "chosen": "default"}
    saved["sites"] = [elsewhere, entry]
    choices = load_choices(saved)
    a, b = random_operands()
    assert choices.find(site_of(a, b)).chosen == "right"
    assert choices.find(site_of(a, b, Location("model.py", 99))).chosen == "default"
    assert choices.find(site_of(a, b, Location("other.py", 1))).chosen == "default"


def test_equal_sites_at_several_lines_are_all_saved():
    a, b = random_operands()
    reports = (CandidateReport("x", "codegen"), CandidateReport("y", "codegen"))
    choices = [
        Choice(site_of(a, b, Location("model.py", line)), index, "timed", "", reports)
        for index, line in ((0, 1), (1, 2), (1, 2))
    ]
    entries = choices_document(choices)["sites"]
    assert [(entry["location"], entry["chosen"]) for entry in entries] == [
        ("model.py:1", "x"),
        ("model.py:2", "y"),
    ]


def test_a_saved_external_that_is_wrong_gives_way_to_the_default_with_a_warning(saved):
    saved["sites"][0]["chosen"] = "wrong"
    bench = Bench(*random_operands(), wrong, choices=saved)
    with pytest.warns(SelectionWarning, match="'wrong', chosen by the dict of choices, is not fit"):
        choice = bench.select()
    assert choice.chosen == "default"
    assert report_on(choice, "wrong").status == "rejected"
    assert bench.prepared == ["default"]


def test_a_saved_external_that_is_right_by_luck_is_warned_of():
    twice = np.eye(16, dtype=np.float32) * 2
    with pytest.warns(SelectionWarning):
        document = choices_document([Bench(twice, twice, add).select({"add": 1e-6})])
    with pytest.warns(SelectionWarning, match="'add' is right on this call's operands"):
        assert Bench(twice, twice, add, choices=document).select().chosen == "add"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ('{"minicomp_choices": 1, "sites": [', "is not JSON"),
        ("[]", "holds no saved choices"),
        ('{"sites": []}', "holds no saved choices"),
        ('{"minicomp_choices": 2, "sites": []}', "has version 2 of saved choices"),
        ('{"minicomp_choices": 1}', "is damaged: wanted a list of sites"),
        ('{"minicomp_choices": 1, "sites": [3]}', "is damaged: wanted a site"),
        ('{"minicomp_choices": 1, "sites": [{"site": "x"}]}', "is damaged: wanted a site"),
        (
            '{"minicomp_choices": 1, "sites": [{"site": "x", "chosen": "y", "location": 3}]}',
            "is damaged: wanted a site",
        ),
    ],
)
def test_a_damaged_file_is_an_error_when_it_is_given(tmp_path, text, message):
    path = tmp_path / "choices.json"
    path.write_text(text)
    with pytest.raises(ChoicesError, match=message) as caught:
        Bench(*random_operands(), choices=path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_an_error_when_it_is_given(tmp_path):
    with pytest.raises(ChoicesError, match=r"cannot read the choices: .*nowhere"):
        Bench(*random_operands(), choices=tmp_path / "nowhere.json")


def test_a_file_that_cannot_be_written_leaves_no_draft_behind(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(ChoicesError, match=r"cannot save choices to .*taken: Is a directory"):
        save_choices(tmp_path / "taken", [])
    assert [file.name for file in tmp_path.iterdir()] == ["taken"]


def test_saving_to_a_folder_that_is_not_there_names_it(tmp_path):
    with pytest.raises(ChoicesError, match=r"there is no folder .*missing"):
        save_choices(tmp_path / "missing" / "choices.json", [])


def test_compile_reads_the_choices_before_anything_is_called(tmp_path, saved):
    with pytest.raises(ChoicesError, match=r"cannot read the choices: .*nowhere"):
        minicomp.compile(np.matmul, options={"choices": tmp_path / "nowhere.json"})
    read = load_choices(saved)
    assert load_choices(read) is read
