"""Which candidate is chosen, and what is said of the others."""

import re
import warnings
from dataclasses import replace
from itertools import cycle

import numpy as np
import pytest
from selection_fakes import (
    Bench,
    add,
    also_right,
    random_operands,
    report_on,
    right,
    site_of,
    wrong,
)

from minicomp.errors import CudaError, ExternalCallError, SelectionWarning
from minicomp.selection import Candidate, HostDevice, Operands, Selector, external, use_timer
from minicomp.selection.timing import ROUNDS, TIE_ROUNDS, InjectedClock


def outcomes(choice):
    return {report.name: report.status for report in choice.candidates}


@pytest.mark.parametrize("winner", ["default", "tile 4x4", "right", "also_right"])
def test_the_fastest_candidate_is_chosen(winner):
    bench = Bench(*random_operands(), right, also_right, kernels={"tile 4x4": np.matmul})
    choice = bench.select({winner: 1e-3}, default_time=2e-3)
    assert choice.chosen == winner
    assert bench.candidates[choice.index].name == winner
    assert choice.source == "timed"
    assert choice.reason.startswith("fastest: 1.00 ms, 2.00 times as fast as ")
    assert set(outcomes(choice).values()) == {"ok"}
    assert report_on(choice, winner).seconds == 1e-3


def test_every_candidate_is_sampled_in_every_round():
    bench = Bench(*random_operands(), right)
    bench.select({"right": 1e-3, "default": 2e-3})
    assert bench.timed.count("right") == bench.timed.count("default") == ROUNDS
    assert {*bench.timed[:2]} == {*bench.timed[2:4]} == {"default", "right"}


def test_median_and_spread_come_from_the_samples():
    samples = {"default": cycle([4e-3, 1e-3, 2e-3]), "right": cycle([3e-3])}
    bench = Bench(*random_operands(), right)
    operands = Operands(bench.a, bench.b, bench.output)
    with use_timer(lambda name, run: next(samples[name])):
        choice = bench.selector.select(bench.site, operands, bench.candidates)
    report = report_on(choice, "default")
    assert report.seconds == 2e-3
    assert report.spread == pytest.approx(3e-3)  # from 1 to 4 ms


def test_a_neighbour_that_is_busy_during_most_of_the_samples_does_not_change_the_choice():
    samples = {"default": cycle([1.2e-3]), "tile 4x4": cycle([2e-3, 2e-3, 1e-3])}
    bench = Bench(*random_operands(), kernels={"tile 4x4": np.matmul})
    operands = Operands(bench.a, bench.b, bench.output)
    with use_timer(lambda name, run: next(samples[name])):
        choice = bench.selector.select(bench.site, operands, bench.candidates)
    assert choice.chosen == "tile 4x4"
    assert choice.reason == (
        "fastest: 1.00 ms when undisturbed (lower quartile), 1.20 times as fast as default"
    )


def test_those_within_twice_the_tolerance_are_timed_again():
    bench = Bench(*random_operands(), right, kernels={"slow": np.matmul})
    bench.select({"default": 1e-3, "right": 1.05e-3, "slow": 1.07e-3})
    counts = [bench.timed.count(name) for name in ("default", "right", "slow")]
    assert counts == [ROUNDS + TIE_ROUNDS, ROUNDS + TIE_ROUNDS, ROUNDS]


def test_a_tie_is_timed_again_and_goes_to_minicomps_own_kernel():
    bench = Bench(*random_operands(), right, kernels={"slow": np.matmul})
    choice = bench.select({"right": 0.99e-3, "default": 1e-3, "slow": 1.5e-3})
    assert choice.chosen == "default"
    assert "within 3% of right" in choice.reason and "tie" in choice.reason
    assert bench.timed.count("default") == bench.timed.count("right") == ROUNDS + TIE_ROUNDS
    assert bench.timed.count("slow") == ROUNDS


def test_of_minicomps_own_kernels_the_faster_wins_within_the_tolerance_of_an_external():
    bench = Bench(*random_operands(), right, kernels={"tile 4x4": np.matmul})
    choice = bench.select({"right": 0.98e-3, "tile 4x4": 0.99e-3}, default_time=1.005e-3)
    assert choice.chosen == "tile 4x4"
    assert "within 3% of right; ties" in choice.reason


def test_a_close_tie_between_minicomps_own_kernels_goes_to_the_first_listed():
    def chosen(default_time):
        bench = Bench(*random_operands(), kernels={"tile 4x4": np.matmul})
        return bench.select({"tile 4x4": 1e-3}, default_time=default_time)

    assert chosen(1.009e-3).chosen == "default"
    assert "within 1% of tile 4x4; ties" in chosen(1.009e-3).reason
    assert chosen(1.011e-3).chosen == "tile 4x4"
    assert chosen(1.011e-3).reason == "fastest: 1.00 ms, 1.01 times as fast as default"


def test_a_narrow_tolerance_is_told_as_it_is():
    bench = Bench(*random_operands(), kernels={"tile 4x4": np.matmul}, autotune_tie_tolerance=0.01)
    choice = bench.select({"tile 4x4": 1e-3}, default_time=1.003e-3)
    assert choice.chosen == "default"
    assert "within 0.33% of tile 4x4; ties" in choice.reason


def test_no_choice_is_slower_than_the_fastest_by_more_than_the_tolerance():
    bench = Bench(*random_operands(), right, kernels={"tile 4x4": np.matmul})
    choice = bench.select({"right": 1e-3, "tile 4x4": 1.029e-3}, default_time=1.035e-3)
    assert choice.chosen == "tile 4x4"  # although it is close to the default, which comes first


def test_a_tie_between_externals_goes_to_the_first_listed():
    times = {"right": 1e-3, "also_right": 1e-3, "default": 2e-3}
    for listed in ([right, also_right], [also_right, right]):
        choice = Bench(*random_operands(), *listed).select(times)
        assert choice.chosen == listed[0].__name__


def test_the_tolerance_of_a_tie_is_an_option():
    times = {"right": 0.99e-3, "default": 1e-3}
    assert Bench(*random_operands(), right, autotune_tie_tolerance=0.0).select(times).chosen == (
        "right"
    )


def test_a_hopeless_candidate_leaves_early_and_says_so():
    bench = Bench(*random_operands(), right, also_right)
    choice = bench.select({"default": 1e-3, "right": 4e-3, "also_right": 2.0})
    assert bench.timed.count("right") == 3
    assert bench.timed.count("also_right") == 1
    report = report_on(choice, "right")
    assert report.status == "ok" and report.seconds == 4e-3
    assert "given up after 3 rounds" in report.reason


def test_a_budget_ends_the_timing():
    bench = Bench(*random_operands(), right, autotune_budget_seconds=10.0)
    choice = bench.select({"default": 3.0, "right": 2.0})
    assert len(bench.timed) == 4
    assert choice.chosen == "right"


def test_a_candidate_that_the_budget_left_untimed_is_skipped():
    bench = Bench(*random_operands(), right, autotune_budget_seconds=1.0)
    choice = bench.select(default_time=3.0)
    assert bench.timed == ["default"]  # what nothing was compared with is not chosen before it
    assert choice.chosen == "default"
    assert choice.reason == "fastest: 3.00 s, the only one timed"
    report = report_on(choice, "right")
    assert report.status == "skipped"
    assert report.reason == "the budget of 1 s was used up before it was timed"


def checked_for(monkeypatch, default_seconds, seconds):
    """The choice, and what is said of the candidates, where the check of the default and those of
    the others take so long of a budget of one second."""
    bench = Bench(*random_operands(), right, kernels={"slow": np.matmul, "late": np.matmul},
                  autotune_budget_seconds=1.0)  # fmt: skip
    now = 0.0

    def prepare():
        nonlocal now
        now += seconds if now else default_seconds

    monkeypatch.setattr(InjectedClock, "now", lambda clock: now)
    candidates = [replace(candidate, prepare=prepare) for candidate in bench.candidates]
    operands = Operands(bench.a, bench.b, bench.output)
    with use_timer(lambda name, run: {"right": 1e-3}.get(name, 2e-3)):
        choice = bench.selector.select(bench.site, operands, candidates)
    return choice, {report.name: report.reason for report in choice.candidates}


def test_checks_leave_half_of_the_budget_to_timing(monkeypatch):
    choice, reports = checked_for(monkeypatch, 0.3, 0.3)
    assert choice.chosen == "right"
    wanted = "50% of the budget of 1 s was used up before its turn"
    assert (reports["slow"], reports["late"]) == (wanted, wanted)


def test_a_slow_check_of_the_default_leaves_somebody_to_compare_it_with(monkeypatch):
    choice, reports = checked_for(monkeypatch, 0.6, 0.1)
    assert choice.chosen == "right"
    assert reports["slow"] == "50% of the budget of 1 s was used up before its turn"


def test_where_only_one_was_checked_in_time_that_is_said(monkeypatch):
    choice, reports = checked_for(monkeypatch, 1.1, 0.1)
    assert (choice.chosen, choice.reason) == (
        "default", "the only candidate of those checked in time that is fit"
    )  # fmt: skip
    assert reports["right"] == "the budget of 1 s was used up before its turn"


def test_the_same_callable_twice_counts_once():
    bench = Bench(*random_operands(), right, right)
    choice = bench.select({"right": 1e-3, "default": 2e-3})
    assert [report.name for report in choice.candidates] == ["default", "right"]
    assert bench.timed.count("right") == ROUNDS


def test_an_external_named_like_a_kernel_gets_a_name_of_its_own():
    bench = Bench(*random_operands(), external(right, name="default"))
    choice = bench.select({"default": 2e-3, "default_2": 1e-3})
    assert choice.chosen == "default_2" and choice.index == 1
    assert bench.candidates[choice.index].external.callable is right


# --- when nothing is compared -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"max_autotune": False}, "max_autotune is off: nothing is timed"),
        ({"deterministic": True}, "deterministic is on: nothing is timed"),
    ],
)
def test_without_timing_the_default_runs_and_no_external_is_called(options, reason):
    calls = []
    bench = Bench(*random_operands(), lambda a, b, out: calls.append(1), **options)
    choice = bench.select()
    assert choice.chosen == "default" and choice.source == "default" and choice.reason == reason
    assert outcomes(choice) == {"default": "ok", "lambda": "skipped"}
    assert bench.prepared == ["default"] and bench.timed == [] == calls and bench.runs == {}


def test_a_single_candidate_is_not_timed():
    bench = Bench(*random_operands())
    assert bench.select().reason == "the only candidate"
    assert bench.prepared == ["default"] and bench.timed == []


def test_a_product_without_elements_is_not_timed():
    bench = Bench(np.zeros((0, 4), np.float32), np.zeros((4, 3), np.float32), right)
    choice = bench.select()
    assert choice.chosen == "default" and choice.reason == "the product has no elements"


def test_a_product_over_no_terms_is_zero_and_is_checked():
    bench = Bench(np.zeros((2, 0), np.float32), np.zeros((0, 3), np.float32), right, wrong)
    choice = bench.select({"right": 1e-4})
    assert choice.chosen == "right"
    assert outcomes(choice)["wrong"] == "rejected"


def test_the_first_candidate_must_be_a_kernel():
    bench = Bench(*random_operands(), right)
    with pytest.raises(ValueError, match="first candidate"):
        bench.selector.select(bench.site, Operands(bench.a, bench.b), bench.candidates[1:])


# --- rejections ---------------------------------------------------------------------------------


def raising(error):
    def matmul(a, b, out):
        raise error

    return matmul


class Unprintable(Exception):
    def __str__(self):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("no such\nshape"), "raised ValueError: no such"),
        (NotImplementedError(), "raised NotImplementedError"),
        (SystemExit(3), "raised SystemExit: 3"),
        (GeneratorExit(), "raised GeneratorExit"),
        (MemoryError(), "raised MemoryError"),
        (Unprintable(), "raised Unprintable"),
        (BaseException("odd"), "raised BaseException: odd"),
    ],
)
def test_an_external_that_raises_anything_is_rejected_with_what_it_raised(error, reason):
    choice = Bench(*random_operands(), raising(error)).select({"matmul": 1e-6})
    assert choice.chosen == "default" and choice.reason == "the only candidate that is fit"
    assert report_on(choice, "matmul").status == "rejected"
    assert report_on(choice, "matmul").reason == reason


def test_a_users_interrupt_is_not_taken_for_a_failure():
    bench = Bench(*random_operands(), raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        bench.select()
    bench.candidates[1:] = []
    assert bench.select().chosen == "default"  # and the selector is usable


def writes_half(a, b, out):
    out[: len(out) // 2] = (a @ b)[: len(out) // 2]


def adds_to_out(a, b, out):
    out += a @ b


def changes_a(a, b, out):
    np.matmul(a, b, out=out)
    a[...] = 0


def changes_b_behind_the_flag(a, b, out):
    np.matmul(a, b, out=out)
    b.base[...] = 0


def takes_two(a, b):
    return a @ b


@pytest.mark.parametrize(
    ("fn", "reason"),
    [
        (wrong, r"wrong: 32 of 32 elements, the worst at \[\d, \d\]: got 1, wanted "),
        (writes_half, "left 16 of 32 elements of out unwritten"),
        (adds_to_out, "left 32 of 32 elements of out unwritten, or added to what it held"),
        (changes_a, "raised ValueError: assignment destination is read-only"),
        (changes_b_behind_the_flag, "changed its input b"),
        (takes_two, "raised TypeError: takes_two() takes 2 positional arguments"),
        (lambda a, b, out: a @ b, "left 32 of 32 elements of out unwritten"),
    ],
)
def test_a_faulty_external_is_rejected_with_a_reason(fn, reason):
    a, b = random_operands()
    before = a.copy(), b.copy()
    bench = Bench(a, b, fn)
    choice = bench.select({bench.candidates[1].name: 1e-6})
    report = choice.candidates[1]
    assert choice.chosen == "default" and report.status == "rejected"
    assert report.seconds is None
    assert re.match(reason.replace("()", r"\(\)"), report.reason)
    assert np.array_equal(a, before[0]) and np.array_equal(b, before[1])


def transposes_its_out(a, b, out):
    np.matmul(a, b, out=out)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        out.shape = out.shape[::-1]


def views_its_out_as_integers(a, b, out):
    np.matmul(a, b, out=out)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        out.dtype = np.int32


@pytest.mark.parametrize("fn", [transposes_its_out, views_its_out_as_integers])
def test_what_an_external_does_to_the_array_object_of_out_is_its_own_affair(fn):
    choice = Bench(*random_operands(), fn).select({fn.__name__: 1e-6})
    assert choice.chosen == fn.__name__


def test_an_external_that_resizes_out_is_rejected():
    def resizes(a, b, out):
        out.resize((1, 1), refcheck=False)

    choice = Bench(*random_operands(), resizes).select({"resizes": 1e-6})
    assert choice.chosen == "default"
    assert "does not own its data" in report_on(choice, "resizes").reason


def test_an_external_that_fails_while_it_is_timed_is_rejected():
    calls = []

    def tires(a, b, out):
        calls.append(1)
        if len(calls) > 5:
            raise RuntimeError("tired")
        np.matmul(a, b, out=out)

    bench = Bench(*random_operands(), tires)

    def timer(name, run):
        run()
        return 1e-3

    with use_timer(timer):
        choice = bench.selector.select(
            bench.site, Operands(bench.a, bench.b, bench.output), bench.candidates
        )
    assert choice.chosen == "default"
    report = report_on(choice, "tires")
    assert report.status == "rejected"
    assert report.reason == "raised RuntimeError: tired while being timed"


def test_an_error_of_the_timer_is_not_blamed_on_a_candidate():
    bench = Bench(*random_operands(), right)

    def timer(name, run):
        raise LookupError(name)

    with use_timer(timer), pytest.raises(LookupError):
        bench.selector.select(bench.site, Operands(bench.a, bench.b), bench.candidates)


def test_a_kernel_that_does_not_compile_is_rejected_and_the_others_run():
    bench = Bench(*random_operands(), kernels={"tile 4x4": np.matmul})

    def fail():
        raise RuntimeError("no registers left")

    bench.candidates[1] = Candidate("tile 4x4", bench.candidates[1].run, fail)
    choice = bench.select()
    assert choice.chosen == "default"
    assert (
        report_on(choice, "tile 4x4").reason == "did not compile: RuntimeError: no registers left"
    )


def test_a_kernel_with_a_wrong_output_is_rejected():
    def slightly_off(a, b):
        return a @ b + 1.0

    bench = Bench(*random_operands(), kernels={"off": slightly_off})
    choice = bench.select({"off": 1e-6})
    assert choice.chosen == "default"
    assert report_on(choice, "off").reason.startswith("wrong: 32 of 32 elements")


def test_where_no_candidate_is_fit_the_default_runs_with_a_warning():
    bench = Bench(*random_operands(), wrong)
    bench.candidates[0] = bench.kernel("default", lambda a, b: a @ b + 1.0)
    with pytest.warns(SelectionWarning, match="no candidate is fit"):
        choice = bench.select()
    assert choice.chosen == "default"
    assert outcomes(choice) == {"default": "rejected", "wrong": "rejected"}


def test_where_the_default_does_not_compile_and_nothing_else_is_fit_its_error_comes_through():
    bench = Bench(*random_operands(), wrong)

    def fail():
        raise RuntimeError("no target")

    bench.candidates[0] = Candidate("default", bench.candidates[0].run, fail)
    with pytest.raises(RuntimeError, match="no target"):
        bench.select()


def test_a_fit_external_runs_where_the_default_does_not_compile():
    bench = Bench(*random_operands(), right)

    def fail():
        raise RuntimeError("no target")

    bench.candidates[0] = Candidate("default", bench.candidates[0].run, fail)
    assert bench.select().chosen == "right"


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"devices": "cuda"}, "registered for cuda, the site is on cpu"),
        ({"dtypes": [np.float64]}, "registered for float64, the site has float32"),
    ],
)
def test_an_external_is_skipped_where_its_limits_exclude_it(limits, reason):
    bench = Bench(*random_operands(), external(right, **limits))
    choice = bench.select({"right": 1e-6})
    assert choice.chosen == "default"
    assert (report_on(choice, "right").status, report_on(choice, "right").reason) == (
        "skipped",
        reason,
    )
    assert bench.runs.get("right") is None


def test_only_an_external_marked_batched_is_offered_for_a_batched_product():
    a = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)
    b = np.random.default_rng(1).standard_normal((5, 2)).astype(np.float32)
    bench = Bench(a, b, right, external(also_right, batched=True))
    choice = bench.select({"right": 1e-6, "also_right": 1e-4})
    assert choice.chosen == "also_right"
    assert "the site is batched" in report_on(choice, "right").reason


# --- right by luck ------------------------------------------------------------------------------


def doubled_identity(n=128):
    return np.eye(n, dtype=np.float32) * 2


def test_adding_where_it_equals_multiplying_is_chosen_with_a_warning_if_it_is_fastest():
    bench = Bench(doubled_identity(), doubled_identity(), add)
    with pytest.warns(SelectionWarning) as caught:
        choice = bench.select({"add": 1e-6})
    assert choice.chosen == "add"
    (warning,) = caught
    text = str(warning.message)
    assert text.startswith(
        "matmul at model.py:12: the external 'add' is right on this call's operands, "
        "but on random ones: wrong: "
    )
    assert "It was chosen" in text
    assert (warning.filename, warning.lineno) == ("model.py", 12)
    assert "on random ones" in report_on(choice, "add").reason


def test_an_external_that_is_right_by_luck_and_slow_is_warned_of_too():
    bench = Bench(doubled_identity(), doubled_identity(), add)
    with pytest.warns(SelectionWarning, match="'add'.*Not chosen"):
        assert bench.select({"add": 2e-3}).chosen == "default"


def test_strict_checking_rejects_what_is_right_by_luck():
    bench = Bench(doubled_identity(), doubled_identity(), add, external_check="strict")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        choice = bench.select({"add": 1e-6})
    assert choice.chosen == "default"
    assert report_on(choice, "add").reason.startswith("on random operands: wrong")


@pytest.mark.parametrize("check", ["inputs", "strict"])
def test_adding_is_rejected_on_other_operands(check):
    bench = Bench(*random_operands(8, 8, 8), add, external_check=check)
    choice = bench.select({"add": 1e-6})
    assert choice.chosen == "default"
    assert report_on(choice, "add").reason.startswith("wrong: ")


def test_without_checking_a_wrong_external_is_trusted_but_a_raising_one_is_not():
    bench = Bench(*random_operands(), wrong, raising(ValueError("no")), external_check="off")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        choice = bench.select({"wrong": 1e-6})
    assert choice.chosen == "wrong"
    assert report_on(choice, "matmul").reason == "raised ValueError: no"


def test_a_correct_external_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Bench(doubled_identity(), doubled_identity(), right).select({"right": 1e-6})


# --- operands as they come ----------------------------------------------------------------------


def test_transposed_and_sliced_operands_are_handed_over_as_views():
    seen = []

    def look(a, b, out):
        seen.append((a.strides, b.strides, out.flags.c_contiguous, a.flags.writeable))
        np.matmul(a, b, out=out)

    base = np.random.default_rng(0).standard_normal((16, 9)).astype(np.float32)
    a, b = base[::2, 1:], base[::-1, :8].T
    choice = Bench(a, b, look).select({"look": 1e-6})
    assert choice.chosen == "look"
    assert set(seen) == {(a.strides, b.strides, True, False)}


def test_an_epilogue_is_part_of_what_is_checked():
    def relu(x):
        return np.maximum(x, 0)

    kernels = {"without it": lambda a, b: np.where(a @ b < 0, 1, a @ b)}
    bench = Bench(*random_operands(), right, epilogue=relu, kernels=kernels)
    choice = bench.select({"without it": 1e-6, "right": 1e-4})
    assert choice.chosen == "right"
    assert report_on(choice, "without it").reason.startswith("wrong after the epilogue: ")


def test_an_output_of_another_shape_is_compared_element_by_element():
    bench = Bench(*random_operands(), kernels={"off": lambda a, b: a @ b + 1})
    operands = Operands(bench.a, bench.b, bench.output.reshape(2, 4, 4))
    with use_timer(lambda name, run: 1e-3):
        choice = bench.selector.select(bench.site, operands, bench.candidates)
    assert outcomes(choice) == {"default": "ok", "off": "rejected"}


def test_what_follows_a_wrong_external_is_not_compiled():
    bench = Bench(*random_operands(), wrong)
    prepared = []
    bench.candidates[1] = replace(bench.candidates[1], prepare=lambda: prepared.append(1))
    bench.select()
    assert prepared == []


def test_an_epilogue_that_jumps_does_not_reject_a_kernel_for_a_rounding_error():
    def sign_of_rounding(x):
        return x > 0

    n = 64
    a = np.random.default_rng(0).standard_normal((n, n)).astype(np.float32)
    b = np.linalg.inv(a).astype(np.float32)  # off the diagonal the product is rounding errors
    reordered = {"reordered": lambda a, b: a[:, ::-1] @ b[::-1]}
    bench = Bench(a, b, epilogue=sign_of_rounding, kernels=reordered)
    assert (sign_of_rounding(a @ b) != sign_of_rounding(a[:, ::-1] @ b[::-1])).any()
    assert set(outcomes(bench.select()).values()) == {"ok"}


# --- a chosen external at run time --------------------------------------------------------------


def test_a_chosen_external_that_raises_later_names_the_call_site_and_keeps_the_cause():
    broken = []

    def moody(a, b, out):
        if broken:
            a[0, 0] = 7  # its inputs are out of reach
        np.matmul(a, b, out=out)

    a, b = random_operands()
    before = a.copy()
    bench = Bench(a, b, moody)
    choice = bench.select({"moody": 1e-6})
    broken.append(True)
    with pytest.raises(ExternalCallError) as caught:
        bench.candidates[choice.index].run()
    assert str(caught.value).startswith(
        "matmul at model.py:12: the external 'moody' chosen here raised ValueError: assignment"
    )
    assert isinstance(caught.value.__cause__, ValueError)
    assert isinstance(caught.value, RuntimeError)
    assert np.array_equal(a, before)
    broken.clear()
    bench.candidates[choice.index].run()
    assert np.allclose(bench.output, a @ b)


def test_an_interrupt_during_an_external_stays_an_interrupt():
    bench = Bench(*random_operands(), raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        bench.candidates[1].run()


def test_the_real_clock_finds_a_candidate_that_is_much_slower():
    def slow(a, b):
        for _ in range(50):
            product = a @ b
        return product

    a, b = random_operands()
    bench = Bench(a, b, kernels={"slow": slow})
    selector = Selector(bench.options, HostDevice())
    choice = selector.select(site_of(a, b), Operands(a, b, bench.output), bench.candidates)
    assert choice.chosen == "default"
    assert report_on(choice, "slow").seconds > report_on(choice, "default").seconds > 0


class BreakableDevice(HostDevice):
    """A device that a candidate may take with it."""

    is_broken = False

    def is_usable(self):
        return not self.is_broken


@pytest.mark.parametrize("culprit", ["external", "kernel"])
def test_a_candidate_that_takes_the_device_with_it_is_named_and_nothing_goes_on(culprit):
    device = BreakableDevice()

    def crash(a, b, out=None):
        device.is_broken = True
        raise ValueError("illegal address")

    if culprit == "external":
        bench = Bench(*random_operands(), crash, right)
    else:
        bench = Bench(*random_operands(), right, kernels={"crash": crash})
    bench.selector = Selector(bench.options, device)
    message = "candidate 'crash' crashed .*illegal address.*cannot be repaired: start the process"
    with pytest.raises(CudaError, match=message) as caught:
        bench.select()
    assert str(caught.value).startswith("matmul at model.py:12: ")
    assert isinstance(caught.value.__cause__, ValueError)
