"""Remembered choices: when they hold, when they do not, and what damage does to them."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from selection_fakes import (
    Bench,
    FakeDisk,
    add,
    also_right,
    random_operands,
    report_on,
    right,
    wrong,
)

from minicomp.errors import CacheWarning, SelectionWarning

FAST = {"right": 1e-4, "default": 1e-3}


@pytest.fixture
def disk():
    return FakeDisk()


def test_another_process_takes_the_remembered_choice_without_timing(disk):
    first = Bench(*random_operands(), right, disk=disk).select(FAST)
    second = Bench(*random_operands(), right, disk=disk)
    choice = second.select({"right": 9.0})
    assert (choice.chosen, choice.source) == ("right", "remembered")
    assert choice.reason == f"remembered: {first.reason}"
    assert choice.candidates == first.candidates
    assert second.timed == []
    assert second.prepared == []  # a losing kernel is not even compiled


def test_a_remembered_kernel_is_the_only_one_prepared(disk):
    Bench(*random_operands(), kernels={"tile": np.matmul}, disk=disk).select({"tile": 1e-4})
    second = Bench(*random_operands(), kernels={"tile": np.matmul}, disk=disk)
    assert second.select().chosen == "tile"
    assert second.prepared == ["tile"] and second.runs == {} and second.timed == []


def test_equal_call_sites_of_one_module_are_tuned_once():
    bench = Bench(*random_operands(), right)
    bench.select(FAST)
    choice = bench.select({"right": 9.0})
    assert (choice.chosen, choice.source) == ("right", "remembered")
    assert choice.reason.startswith("as at an equal call site: fastest")
    assert bench.timed == []


@pytest.mark.parametrize(
    "change",
    [
        {"operands": random_operands(9)},
        {"operands": random_operands(dtype=np.float64)},
        {"operands": (random_operands()[0], np.asfortranarray(random_operands()[1]))},
        {"externals": [also_right]},
        {"externals": [right, also_right]},
        {"kernels": {"tile": np.matmul}},
        {"epilogue": np.tanh},
        {"external_check": "strict"},
        {"matmul_precision": "high"},
        {"autotune_budget_seconds": 1e6},
        {"autotune_tie_tolerance": 0.0},
    ],
)
def test_a_change_of_what_the_choice_depends_on_is_tuned_anew(disk, change):
    Bench(*random_operands(), right, disk=disk).select(FAST)
    operands = change.pop("operands", random_operands())
    externals = change.pop("externals", [right])
    other = Bench(*operands, *externals, disk=disk, **change)
    assert other.select(FAST).source == "timed"


def test_another_device_is_tuned_anew(disk, monkeypatch):
    Bench(*random_operands(), right, disk=disk).select(FAST)
    other = Bench(*random_operands(), right, disk=disk)
    other.selector.device.threads = 64
    assert other.select(FAST).source == "timed"


def test_other_numbers_in_the_operands_are_not_tuned_for_anew(disk):
    Bench(*random_operands(), right, disk=disk).select(FAST)
    other = Bench(*random_operands(seed=5), right, disk=disk)
    assert other.select().source == "remembered"


@pytest.mark.parametrize("off", [{"autotune_local_cache": False}, {"force_disable_caches": True}])
def test_with_caches_off_the_disk_is_neither_read_nor_written(disk, off):
    Bench(*random_operands(), right, disk=disk).select(FAST)
    before = dict(disk)
    choice = Bench(*random_operands(), right, disk=disk, **off).select(FAST)
    assert choice.source == "timed" and disk == before
    empty = FakeDisk()
    Bench(*random_operands(), right, disk=empty, **off).select(FAST)
    assert empty == {}


def test_a_remembered_external_that_is_wrong_here_is_tuned_anew(disk, monkeypatch):
    monkeypatch.setenv("MATMUL_SCALE", "1")
    assert Bench(*random_operands(), scaled, disk=disk).select({"scaled": 1e-4}).chosen == "scaled"
    monkeypatch.setenv("MATMUL_SCALE", "2")
    choice = Bench(*random_operands(), scaled, disk=disk).select({"scaled": 1e-4})
    assert (choice.chosen, choice.source) == ("default", "timed")
    assert report_on(choice, "scaled").status == "rejected"


def scaled(a, b, out):
    """Its code stays the same, its environment does not."""
    np.multiply(a @ b, float(os.environ["MATMUL_SCALE"]), out=out)


def test_a_choice_of_what_is_right_by_luck_is_not_remembered(disk):
    twice = np.eye(16, dtype=np.float32) * 2
    bench = Bench(twice, twice, add, disk=disk)
    for _ in range(2):
        with pytest.warns(SelectionWarning):
            choice = bench.select({"add": 1e-6})
        assert (choice.chosen, choice.source) == ("add", "timed")
    assert disk == {}


def test_a_remembered_external_that_is_right_here_by_luck_alone_is_tuned_anew(disk):
    twice = np.eye(16, dtype=np.float32) * 2
    with pytest.warns(SelectionWarning):
        Bench(twice, twice, add, disk=disk).select({"add": 2e-3})  # slow: the kernel is remembered
    (name,) = disk
    disk[name] = damaged(lambda content: content.update(chosen="add"))(disk[name])
    with pytest.warns(SelectionWarning):
        choice = Bench(twice, twice, add, disk=disk).select({"add": 2e-3})
    assert (choice.chosen, choice.source) == ("default", "timed")


def test_an_external_that_cannot_be_identified_is_remembered_in_its_process_only(disk):
    table = np.zeros(3)

    def opaque(a, b, out):
        np.matmul(a, b, out=out)
        out += table[0]

    bench = Bench(*random_operands(), opaque, disk=disk)
    assert bench.select({"opaque": 1e-4}).source == "timed"
    assert bench.select().source == "remembered"
    assert disk == {}


def flaky(a, b, out):
    if "MATMUL_BROKEN" in os.environ:
        raise OSError("no such device")
    np.matmul(a, b, out=out)


def test_a_failure_is_tried_again_by_the_next_process(disk, monkeypatch):
    monkeypatch.setenv("MATMUL_BROKEN", "1")
    first = Bench(*random_operands(), flaky, disk=disk).select({"flaky": 1e-6})
    assert report_on(first, "flaky").status == "rejected" and len(disk) == 1
    still = Bench(*random_operands(), flaky, disk=disk)
    choice = still.select({"flaky": 1e-6})
    assert (choice.chosen, choice.source) == ("default", "remembered")
    assert still.timed == []
    monkeypatch.delenv("MATMUL_BROKEN")
    choice = Bench(*random_operands(), flaky, disk=disk).select({"flaky": 1e-6})
    assert (choice.chosen, choice.source) == ("flaky", "timed")


def test_a_failing_external_is_not_tried_again_at_an_equal_site_of_the_same_module():
    calls = []

    def raising(a, b, out):
        calls.append(1)
        raise ValueError

    bench = Bench(*random_operands(), raising, kernels={"tile": np.matmul})
    bench.select({"tile": 1e-4})
    assert bench.select().source == "remembered"
    assert len(calls) == 1


def damaged(change):
    def damage(data):
        content = json.loads(data)
        change(content)
        return json.dumps(content).encode()

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-20],
        lambda data: b"\xff\xfe\x00",
        lambda data: b"null",
        lambda data: b"[]",
        lambda data: b"{}",
        damaged(lambda content: content.update(key="another")),
        damaged(lambda content: content.update(chosen="missing")),
        damaged(lambda content: content.update(reason=3)),
        damaged(lambda content: content.update(candidates=None)),
        damaged(lambda content: content["candidates"].pop()),
        damaged(lambda content: content["candidates"][0].update(status="fine")),
        damaged(lambda content: content["candidates"][1].update(status="rejected")),
        damaged(lambda content: content["candidates"][0].update(seconds=float("nan"))),
        damaged(lambda content: content["candidates"][0].update(seconds="fast")),
        damaged(lambda content: content["candidates"][0].update(spread=-1.0)),
        damaged(lambda content: content["candidates"][0].update(unknown=1)),
        damaged(lambda content: content["candidates"][0].update(reason=None)),
    ],
)
def test_a_damaged_record_is_a_miss_with_a_warning_and_is_replaced(disk, damage):
    Bench(*random_operands(), right, disk=disk).select(FAST)
    (name,) = disk
    intact = disk[name]
    disk[name] = damage(intact)
    with pytest.warns(CacheWarning, match="damaged and was ignored"):
        choice = Bench(*random_operands(), right, disk=disk).select(FAST)
    assert (choice.chosen, choice.source) == ("right", "timed")
    assert disk[name] == intact


def test_a_rejected_external_and_a_skipped_one_survive_the_disk(disk):
    times = {"right": 1e-4}
    first = Bench(*random_operands(), right, wrong, disk=disk).select(times)
    second = Bench(*random_operands(), right, wrong, disk=disk).select(times)
    assert second.candidates == first.candidates
    assert report_on(second, "wrong").status == "rejected"


def test_a_kernel_that_no_longer_compiles_is_tuned_anew(disk):
    Bench(*random_operands(), kernels={"tile": np.matmul}, disk=disk).select({"tile": 1e-4})
    bench = Bench(*random_operands(), kernels={"tile": np.matmul}, disk=disk)

    def fail():
        raise RuntimeError

    bench.candidates[1] = replace(bench.candidates[1], prepare=fail)
    choice = bench.select()
    assert (choice.chosen, choice.source) == ("default", "timed")


PROGRAM = """
import numpy as np
from selection_fakes import Bench, random_operands
from minicomp.disk_cache import DiskCache

def matmul(a, b, out):
    np.matmul(a, b, out=out)

def broken(a, b, out):
    raise ValueError("no")

bench = Bench(*random_operands(), matmul, broken, disk=DiskCache("choices"))
print(bench.select({"matmul": 1e-6}).source)
"""


def test_a_second_process_takes_what_the_first_remembered_on_disk(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = {
        **os.environ,
        "MINICOMP_CACHE_DIR": str(tmp_path / "cache"),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
        "PYTHONHASHSEED": "random",
    }
    sources = [
        subprocess.run(
            [sys.executable, program], env=environment, capture_output=True, text=True, check=True
        ).stdout.strip()
        for _ in range(3)
    ]
    assert sources == ["timed", "remembered", "remembered"]
