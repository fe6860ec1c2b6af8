"""The real clock, and the order and number of samples."""

import threading
import time
from itertools import pairwise
from types import SimpleNamespace

import pytest

from minicomp.selection import timing
from minicomp.selection.timing import (
    ROUNDS,
    SAMPLE_SECONDS,
    TIE_ROUNDS,
    Contender,
    HostClock,
    InjectedClock,
    Race,
    RunFailed,
    current_clock,
    use_timer,
)


def raced(times, deadline=float("inf"), again=False):
    """Race contenders whose samples are given; the order of samples, and the contenders."""
    order = []

    def timer(name, run):
        order.append(name)
        return times[name]

    contenders = [Contender(name, lambda: None) for name in times]
    race = Race(contenders, InjectedClock(timer), deadline, lambda text: None)
    if again:
        race.run_again(contenders)
    else:
        race.run()
    return order, contenders


def test_every_round_has_all_candidates_in_an_order_of_its_own():
    order, _ = raced({"a": 1e-3, "b": 1e-3, "c": 1e-3})
    assert len(order) == ROUNDS * 3
    rounds = [tuple(order[start : start + 3]) for start in range(0, len(order), 3)]
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds)
    successions = {pair for names in rounds for pair in pairwise(names)}
    assert len(successions) == 6  # each follows each other one at some time
    assert raced({"a": 1e-3, "b": 1e-3, "c": 1e-3})[0] == order


def test_the_first_round_goes_in_order_and_in_the_others_externals_come_first():
    order = []
    clock = InjectedClock(lambda name, run: order.append(name) or 1e-3)
    contenders = [Contender(name, lambda: None, name in "xy") for name in "xayb"]
    Race(contenders, clock, float("inf"), lambda text: None).run()
    rounds = [tuple(order[start : start + 4]) for start in range(0, len(order), 4)]
    assert rounds[0] == tuple("xayb")
    assert {"".join(sorted(names[2:])) for names in rounds[1:]} == {"ab"}
    assert {names[:2] for names in rounds[1:]} == {("x", "y"), ("y", "x")}


def test_slow_candidates_get_fewer_rounds():
    order, _ = raced({"a": 0.04, "b": 0.05})
    assert 3 * 2 <= len(order) < ROUNDS * 2
    order, _ = raced({"a": 10.0, "b": 10.0})
    assert len(order) == 3 * 2


def test_a_budget_is_not_overdrawn_by_more_than_one_sample():
    order, _ = raced({"a": 1.0, "b": 1.0}, deadline=4.5)
    assert len(order) == 5


def test_a_hopeless_candidate_leaves_after_three_rounds_and_a_lone_survivor_is_timed_no_further():
    order, contenders = raced({"a": 1e-3, "b": 4e-3})
    assert order.count("b") == 3 and order.count("a") == 3
    assert contenders[0].dropped is None
    assert contenders[1].dropped == "given up after 3 rounds"


def test_a_candidate_that_takes_for_ever_leaves_after_one_round():
    order, contenders = raced({"a": 1e-3, "b": 1.0, "c": 1e-3})
    assert order.count("b") == 1
    assert contenders[1].dropped == "given up after 1 round"


def test_a_hiccup_does_not_drop_a_candidate():
    slow = iter([0.09, 0.09])
    times = {"a": lambda: 1e-3, "b": lambda: next(slow, 1.1e-3)}
    contenders = [Contender(name, lambda: None) for name in times]
    clock = InjectedClock(lambda name, run: times[name]())
    Race(contenders, clock, float("inf"), lambda text: None).run()
    assert contenders[1].dropped is None
    assert contenders[1].median == 1.1e-3 and len(contenders[1].samples) == ROUNDS


def test_candidates_that_take_no_time_at_all_stay():
    order, _ = raced({"a": 0.0, "b": 0.0})
    assert len(order) == ROUNDS * 2


def test_a_near_tie_gets_its_own_rounds():
    order, _ = raced({"a": 1e-3, "b": 1e-3}, again=True)
    assert len(order) == TIE_ROUNDS * 2


def test_the_clock_repeats_short_runs_until_they_fill_a_sample():
    calls = []
    clock = HostClock()
    assert 0 < clock.sample("empty", lambda: calls.append(1)) < SAMPLE_SECONDS
    before, best = len(calls), clock.best["empty"]
    clock.sample("empty", lambda: calls.append(1))
    runs = round(SAMPLE_SECONDS / best)
    assert len(calls) - before == runs + runs // 2 > 100  # a third of them untimed


def test_a_slow_start_does_not_make_later_samples_short():
    calls = []

    def run():
        if not calls:
            time.sleep(0.01)
        calls.append(1)

    clock = HostClock()
    for _ in range(4):
        clock.sample("x", run)
    before = len(calls)
    clock.sample("x", run)
    assert len(calls) - before > 10


def test_what_the_previous_candidate_left_running_is_ended_before_each_sample():
    events = []
    clock = HostClock(park=lambda: events.append("park"))
    for _ in range(2):
        clock.sample("x", lambda: time.sleep(0.06) or events.append("run"))
    assert events == ["park", "run", "park", "run"]


def test_a_race_settles_at_its_start_and_after_each_external():
    events = []

    class Clock(InjectedClock):
        def settle(self):
            events.append("settle")

    clock = Clock(lambda name, run: events.append(name) or 1.0)
    contenders = [Contender(name, lambda: None, name in "xy") for name in "abxy"]
    race = Race(contenders, clock, 8.0, lambda text: None)
    race.run()
    assert events.count("settle") == 5 and len(events) == 8 + 5
    for before, after in pairwise(events):
        assert (after == "settle") == (before in "xy")
    assert events[0] == "settle"


def samples_of_a_run(monkeypatch, *seconds):
    """Two samples of a run that takes so long the first, second, ... time after the workers were
    parked, and from then on as long as the last time; and how often it was run for the second."""
    now, position, calls = 0.0, 0, 0

    def park():
        nonlocal position
        position = 0

    def run():
        nonlocal now, position, calls
        now += seconds[min(position, len(seconds) - 1)]
        position += 1
        calls += 1

    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now))
    clock = HostClock(park)
    first = clock.sample("x", run)
    calls = 0
    return first, clock.sample("x", run), calls


def test_what_the_first_two_runs_after_another_candidate_cost_more_is_not_measured(monkeypatch):
    assert samples_of_a_run(monkeypatch, 9e-3, 7e-3, 6e-3) == pytest.approx((6e-3, 6e-3, 3))


def test_the_warm_up_of_a_slower_run_is_one_and_that_of_a_long_run_none(monkeypatch):
    assert samples_of_a_run(monkeypatch, 0.031, 0.030)[1:] == pytest.approx((0.030, 2))
    assert samples_of_a_run(monkeypatch, 0.061, 0.060)[1:] == pytest.approx((0.061, 1))


def test_the_clock_measures_long_runs_one_at_a_time():
    calls = []

    def run():
        calls.append(1)
        time.sleep(0.06)

    clock = HostClock()
    assert clock.sample("long", run) >= 0.06 and len(calls) == 1
    assert clock.sample("long", run) >= 0.06 and len(calls) == 2


def test_a_run_that_raises_is_a_failed_run_on_every_clock():
    def fail():
        raise SystemExit(1)

    for clock in (HostClock(), InjectedClock(lambda name, run: run())):
        with pytest.raises(RunFailed) as caught:
            clock.sample("x", fail)
        assert isinstance(caught.value.__cause__, SystemExit)


def test_an_interrupt_goes_through_every_clock():
    def interrupt():
        raise KeyboardInterrupt

    for clock in (HostClock(), InjectedClock(lambda name, run: run())):
        with pytest.raises(KeyboardInterrupt):
            clock.sample("x", interrupt)


def test_a_timer_is_in_use_within_its_block_and_thread_only():
    seen = []
    with use_timer(lambda name, run: 1.0):
        assert isinstance(current_clock(HostClock), InjectedClock)
        thread = threading.Thread(target=lambda: seen.append(current_clock(HostClock)))
        thread.start()
        thread.join()
    assert isinstance(seen[0], HostClock)
    assert isinstance(current_clock(HostClock), HostClock)
