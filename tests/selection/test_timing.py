"""The real clock, and the order and number of samples."""

import threading
import time

import pytest

from minicomp.selection.timing import (
    SAMPLE_SECONDS,
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


def test_rounds_alternate_their_direction():
    order, _ = raced({"a": 1e-3, "b": 1e-3, "c": 1e-3})
    assert order[:9] == ["a", "b", "c", "c", "b", "a", "a", "b", "c"]
    assert len(order) == 15 * 3


def test_slow_candidates_get_fewer_rounds():
    order, _ = raced({"a": 0.04, "b": 0.05})
    assert 3 * 2 <= len(order) < 15 * 2
    order, _ = raced({"a": 10.0, "b": 10.0})
    assert len(order) == 3 * 2


def test_a_budget_is_not_overdrawn_by_more_than_one_sample():
    order, _ = raced({"a": 1.0, "b": 1.0}, deadline=4.5)
    assert len(order) == 5


def test_a_lone_survivor_is_not_timed_further():
    order, contenders = raced({"a": 1e-3, "b": 1.0})
    assert order.count("b") == 1 and order.count("a") == 3
    assert contenders[0].dropped is None
    assert contenders[1].dropped == "given up after 1 round"


def test_candidates_that_take_no_time_at_all_stay():
    order, _ = raced({"a": 0.0, "b": 0.0})
    assert len(order) == 15 * 2


def test_a_near_tie_gets_its_own_rounds():
    order, _ = raced({"a": 1e-3, "b": 1e-3}, again=True)
    assert len(order) == 30 * 2


def test_the_clock_repeats_short_runs_until_they_fill_a_sample():
    calls = []
    clock = HostClock()
    assert 0 < clock.sample("empty", lambda: calls.append(1)) < SAMPLE_SECONDS
    before = len(calls)
    clock.sample("empty", lambda: calls.append(1))
    assert len(calls) - before == clock.runs["empty"] + 1  # one of them untimed
    assert clock.runs["empty"] > 100


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
