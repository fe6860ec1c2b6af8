"""The pieces of tests/benchmarks/cpu.py, on tiny workloads and with NumPy as the only peer. No
test here looks at how long anything takes."""

import json
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from benchmarks import contestants, report, timing
from benchmarks.bars import BARE, Either, Extra, Ratio, Seconds, Share
from benchmarks.contestants import Contestant, NumPy
from benchmarks.cpu import BARS, CASES, joined, main
from benchmarks.measure import Session, measure
from benchmarks.neighbours import STATISTICS, Watch, foreign_seconds
from benchmarks.roofline import ROOFS
from benchmarks.selection_rows import SelectionCheck, measure_selection
from benchmarks.timing import race
from benchmarks.workloads import WORKLOADS, Workload

SQUARE = Workload(
    "tiny", "matmul-nn", "matmul", [(8, 8), (8, 8)], [Ratio(1.0)],
    work={"fma": 1024.0, "copy": 1e5}, has_products=True,
)  # fmt: skip

#: Small arrays, and parameters, for each function that the workloads name.
SMALL = {
    "matmul": ([(5, 6), (6, 7)], []),
    "matmul_nt": ([(5, 6), (7, 6)], []),
    "matmul_tn": ([(6, 5), (6, 7)], []),
    "relu_linear": ([(5, 6)], [(6, 7), (7,)]),
    "gelu_linear": ([(5, 6)], [(6, 7), (7,)]),
    "mlp": ([(3, 6)], [(7, 6), (7,), (5, 7), (5,), (4, 5), (4,)]),
    "softmax": ([(5, 6)], []),
    "layer_norm": ([(5, 6)], [(6,), (6,)]),
    "layer_norm_gelu": ([(5, 6)], [(6,), (6,)]),
    "rms_norm": ([(5, 6)], [(6,)]),
    "logsumexp": ([(5, 6)], []),
    "chain5": ([(11,), (11,)], []),
    "chain10": ([(11,), (11,)], []),
    "chain15": ([(11,), (11,)], []),
    "total": ([(11,)], []),
    "greatest": ([(11,)], []),
    "argmax": ([(11,)], []),
    "conv3x3": ([(2, 3, 5, 6)], [(4, 3, 3, 3)]),
    "block": ([(2, 3, 24)], [
        (24,), (24,), (72, 24), (72,), (24, 24), (24,), (24,), (24,), (96, 24), (96,), (24, 96),
        (24,),
    ]),
}  # fmt: skip


class Wrong(Contestant):
    """Adds where it should multiply."""

    name, module, requires = "wrong", "benchmarks.with_numpy", "numpy"

    def function(self, workload):
        return np.add


class Raising(Wrong):
    name = "raising"

    def function(self, workload):
        raise NotImplementedError("not today")


def session(*peers, threads=1):
    return Session(threads, 0.0, peers, lambda text: None)


@pytest.fixture
def in_haste(monkeypatch):
    """Nobody is waited for, and nothing is warmed up: times are measured, and mean nothing."""
    monkeypatch.setattr(timing, "WARM_UP_SECONDS", 0.0)
    for module in (timing, contestants):
        monkeypatch.setattr(module, "settle", lambda: None)


def made_up(threads=1, **seconds):
    """A row as `measure` makes it, from seconds by name."""
    return {
        "name": "tiny", "group": "matmul-nn", "threads": threads, "failures": {}, "chosen": [],
        "times": {name: {"median": time} for name, time in seconds.items()},
        "peers": [name for name in ("numpy", "torch") if name in seconds],
        "work": {"copy": 100.0}, "roof_work": {"copy": 200.0},
    }  # fmt: skip


def test_a_row_has_the_times_of_all_who_were_right_and_becomes_a_report():
    row = measure(SQUARE, session(NumPy(), Wrong(), Raising()))
    assert set(row["times"]) == {"minicomp", "numpy", "fma", "copy"}
    assert row["peers"] == ["numpy"] and len(row["chosen"]) == 1
    assert set(row["failures"]) == {"wrong", "raising"}
    assert row["failures"]["wrong"].startswith("ArithmeticError: wrong: 64 of 64 elements")
    assert row["failures"]["raising"] == "NotImplementedError: not today"
    assert all(time["median"] > 0 for time in row["times"].values())
    machine = {"cpu": "a CPU", "cpus": 2, "versions": {"numpy": "2"}}
    document = {"date": "today", "machine": machine, "rows": [json.loads(json.dumps(row))]}
    text = report.text(document, {"tiny": SQUARE.bar}, {"matmul-nn": 0.0})
    assert "1 thread; roofline: fma" in text
    assert "matmul-nn: geometric mean" in text
    assert "tiny: wrong: ArithmeticError" in text


@pytest.mark.usefixtures("in_haste")
@pytest.mark.parametrize("function", sorted({workload.function for workload in WORKLOADS}))
def test_minicomp_and_numpy_agree_on_a_small_workload(function):
    arrays, parameters = SMALL[function]
    workload = Workload("tiny", "any", function, arrays, [], parameters=parameters)
    row = measure(workload, session(NumPy()))
    assert row["failures"] == {} and set(row["times"]) == {"minicomp", "numpy"}


def test_the_bare_product_is_timed_where_a_workload_asks_for_it():
    workload = Workload(
        "tiny", "any", "gelu_linear", [(4, 4)], [], parameters=[(4, 4), (4,)], has_products=True,
        has_bare=True,
    )  # fmt: skip
    assert BARE in measure(workload, session())["times"]


@pytest.mark.usefixtures("in_haste")
def test_some_rows_of_a_large_result_are_compared():
    workload = replace(SQUARE, arrays=[(1 << 21, 2), (2, 2)], work={}, has_products=False)
    row = measure(workload, session(NumPy(), Wrong()))
    assert set(row["times"]) == {"minicomp", "numpy"}
    assert "wrong" in row["failures"]


def test_requirements_tell_met_from_missed():
    row = made_up(minicomp=2.0, numpy=4.0, torch=3.0, copy=2.0, bare=1.9)
    assert Ratio(1.5).check(row).is_met and not Ratio(1.51).check(row).is_met
    assert Ratio(2.0, ("numpy",)).check(row).is_met
    assert Ratio(1.0).check(made_up(minicomp=2.0)).is_met is None
    assert Share("copy", 0.5).check(row).is_met and not Share("copy", 0.51).check(row).is_met
    assert Share("copy", 0.9, threads=2).check(row).is_met
    assert Share("fma", 0.5).check({**row, "work": {"fma": 1.0}}).is_met is None
    assert Seconds(2.1).check(row).is_met and not Seconds(2.0).check(row).is_met
    assert Extra("bare", 1.06).check(row).is_met and not Extra("bare", 1.05).check(row).is_met
    assert Either(Ratio(9.0), Share("copy", 0.5)).check(row).is_met
    assert Either(Ratio(9.0), Share("copy", 0.9)).check(row).is_met is False
    text = "1.50 times torch, wanted 9; or 50.0% of copy, wanted 50%"
    assert Either(Ratio(9.0), Share("copy", 0.5)).check(row).text == text


def test_a_failure_of_minicomp_is_no_verdict_on_its_speed():
    row = {**made_up(numpy=1.0), "failures": {"minicomp": "ArithmeticError: wrong"}}
    assert report.verdict(row, {"tiny": [Ratio(1.0)]}) == "FAILED"


def test_the_copying_roof_copies():
    roof = ROOFS["copy"](2, 1e6, [])
    _, (source, target) = roof.run.__defaults__[0]
    source[:] = np.arange(source.size)
    roof.run()
    np.testing.assert_array_equal(source, target)
    assert roof.work == 2 * source.nbytes == 2 * target.nbytes >= 1e6


def test_the_reading_roof_reads_the_largest_array():
    array = np.random.default_rng(0).random((1000, 1000), np.float32)
    roof = ROOFS["read"](1, 0.0, [np.ones(3), array])
    _, (source, result) = roof.run.__defaults__[0]
    assert np.shares_memory(source, array)
    assert source.nbytes == roof.work > 0.7 * array.nbytes
    roof.run()
    np.testing.assert_allclose(result.sum(), source.sum(), rtol=1e-4)


def test_the_roof_of_arithmetic_computes_in_all_threads():
    one, two = (ROOFS["fma"](threads, 0.0, []) for threads in (1, 2))
    assert two.work == 2 * one.work
    _, (data,) = two.run.__defaults__[0]
    two.run()
    assert data[32] > 0  # where it leaves its sums


def test_a_race_gives_samples_of_everyone():
    calls = {"a": 0, "b": 0}

    def run(name):
        calls[name] += 1

    times = race({name: lambda name=name: run(name) for name in calls}, 0.0)
    assert {name: len(samples.seconds) for name, samples in times.items()} == {"a": 3, "b": 3}
    assert min(calls.values()) > 100  # many calls a sample, where they are short


@pytest.mark.usefixtures("in_haste")
def test_a_disturbed_round_is_repeated_until_patience_ends(monkeypatch):
    busy = iter([True, False, True, False, False])
    monkeypatch.setattr(timing.Watch, "is_disturbed", lambda self: next(busy))
    (samples,) = race({"a": lambda: None}, 1e-9).values()
    assert samples.disturbed == 2 and len(samples.seconds) == 3  # no time to be patient with
    busy = iter([False, True, True, False, *[False] * timing.MOST_ROUNDS])
    (samples,) = race({"a": lambda: None}, 60.0).values()
    assert samples.disturbed == 0 and len(samples.seconds) == timing.MOST_ROUNDS


@pytest.mark.skipif(not STATISTICS.exists(), reason="only Linux tells")
def test_work_of_other_processes_is_noticed_and_ones_own_is_not():
    watch = Watch()
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    own = foreign_seconds() - watch.foreign
    subprocess.run([sys.executable, "-c", "sum(range(3 * 10**7))"], check=True)
    assert foreign_seconds() - watch.foreign > own + 0.1
    assert watch.is_disturbed()


def test_selection_is_compared_with_every_candidate():
    row = measure_selection(SelectionCheck(replace(SQUARE, arrays=[(64, 64)] * 2)), session())
    chosen, best = row["chosen"]
    assert {"minicomp", "best candidate", chosen, best} <= set(row["times"])
    assert len(row["times"]) > 3


def test_every_row_has_a_name_of_its_own_and_a_bar():
    assert len(BARS) == len(CASES)
    assert all(len(bar) > 0 for bar in BARS.values())


def test_the_command_lists_the_rows_that_match(capsys):
    main(["--list", "chain5-*", "import"])
    assert capsys.readouterr().out.split() == ["chain5-1e4", "chain5-1e7", "import"]


def test_the_last_of_two_runs_counts():
    documents = [
        {"date": day, "machine": {}, "rows": [made_up(threads, numpy=1.0, minicomp=speed)]}
        for day, threads, speed in (("first", 1, 3.0), ("second", 2, 4.0), ("third", 1, 5.0))
    ]
    other = {**made_up(1, minicomp=6.0), "name": "not asked for"}
    documents[0]["rows"].append(other)
    document = joined(documents, {"tiny"})
    assert {row["name"] for row in document["rows"]} == {"tiny"}
    times = {row["threads"]: row["times"]["minicomp"]["median"] for row in document["rows"]}
    assert document["date"] == "third" and times == {1: 5.0, 2: 4.0}


def test_the_markdown_table_has_the_best_peer_for_each_number_of_threads():
    rows = [made_up(1, numpy=1.5, minicomp=1.0), made_up(2, numpy=3e-6, jax=2e-6, minicomp=1e-6)]
    rows[1]["peers"] = ["numpy", "jax"]
    alone = {**made_up(2, minicomp=2e-3), "name": "alone", "peers": []}
    assert report.markdown({"rows": [*rows, alone]}).splitlines() == [
        "| workload | 1 thread | best peer | ratio | 2 threads | best peer | ratio |",
        "| --- | --: | --: | --: | --: | --: | --: |",
        "| tiny | 1 s | numpy 1.5 s | 1.50 | 1 us | jax 2 us | 2.00 |",
        "| alone |  |  |  | 2 ms |  |  |",
    ]


def test_the_plot_is_a_drawing_with_a_bar_a_row(tmp_path):
    pytest.importorskip("matplotlib")
    document = {"rows": [made_up(1, numpy=1.0, minicomp=2.0), made_up(2, numpy=3.0, minicomp=2.0)]}
    report.plot(document, str(tmp_path / "plot.svg"))
    assert "</svg>" in (tmp_path / "plot.svg").read_text()
