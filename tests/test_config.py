"""Options, modes and the process-wide config."""

import asyncio
import json
import threading

import numpy as np
import pytest

from minicomp import config
from minicomp.config import list_mode_options, list_options, resolve_options
from minicomp.errors import ConfigError, MinicompError, OptionError
from minicomp.options import OPTIONS, Options


@pytest.fixture(autouse=True)
def untouched_config():
    before = config.get_config_copy()
    yield
    config.load_config(before)


def matmul_cpu(a, b, out):
    out[...] = a @ b


# --- the table and compile()'s arguments --------------------------------------------------------


def test_every_default_passes_its_own_check():
    for option in OPTIONS.values():
        assert option.coerce(option.default) == option.default
        assert option.doc


def test_without_arguments_the_options_are_the_defaults():
    assert resolve_options() == Options()
    assert resolve_options("default") == Options()


@pytest.mark.parametrize("mode", ["max-autotune", "max-autotune-no-cudagraphs"])
def test_the_max_autotune_modes_set_max_autotune(mode):
    assert resolve_options(mode).max_autotune is True
    assert list_mode_options(mode) == {"max_autotune": True}


def test_modes_and_options_are_listed():
    assert list(list_mode_options()) == [
        "default",
        "reduce-overhead",
        "max-autotune-no-cudagraphs",
        "max-autotune",
    ]
    assert "external_matmul" in list_options()


def test_what_list_mode_options_returns_is_a_copy():
    list_mode_options()["default"]["max_autotune"] = True
    assert list_mode_options("default") == {}


def test_a_dash_in_an_options_name_reads_as_an_underscore():
    assert resolve_options(options={"max-autotune": True}).max_autotune is True


def test_options_do_not_leak_into_the_config():
    resolve_options(options={"max_autotune": True, "num_threads": 3})
    assert config.max_autotune is False and config.num_threads is None


def test_options_start_from_the_config_and_override_it():
    config.autotune_tie_tolerance = 0.5
    config.num_threads = 2
    options = resolve_options(options={"num_threads": 1})
    assert (options.autotune_tie_tolerance, options.num_threads) == (0.5, 1)


def test_resolved_options_cannot_be_changed():
    with pytest.raises(AttributeError):
        resolve_options().max_autotune = True


def test_mode_and_options_together_are_an_error():
    with pytest.raises(OptionError) as caught:
        resolve_options("default", {})
    assert str(caught.value) == (
        "Either mode or options can be specified, but both can't be specified at the same time."
    )
    assert isinstance(caught.value, RuntimeError)


def test_an_unknown_mode_is_an_error_that_lists_the_modes():
    with pytest.raises(OptionError) as caught:
        resolve_options("fastest")
    assert str(caught.value) == (
        "Unrecognized mode=fastest, should be one of: "
        "default, reduce-overhead, max-autotune-no-cudagraphs, max-autotune"
    )


def test_an_unknown_option_is_an_error_that_lists_the_options():
    with pytest.raises(OptionError) as caught:
        resolve_options(options={"max_autotun": True})
    assert str(caught.value) == (
        f"Unexpected optimization option max_autotun, known options are {list_options()}"
        "; did you mean 'max_autotune'?"
    )


def sixty_four():
    return 64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_autotune": "yes"}, "Unexpected type of attr max_autotune, got str should be bool"),
        ({"max_autotune": 1}, "Unexpected type of attr max_autotune, got int should be bool"),
        ({"max_autotune": np.True_}, "max_autotune, got numpy.bool"),
        ({"num_threads": np.int64(2)}, "num_threads, got numpy.int64 should be int or None"),
        ({"autotune_tie_tolerance": "3%"}, "autotune_tie_tolerance, got str should be float"),
        ({"autotune_tie_tolerance": True}, "got bool should be float"),
        ({"autotune_tie_tolerance": float("nan")}, "got nan should be a finite number"),
        ({"autotune_budget_seconds": float("inf")}, "got inf should be a finite number above 0"),
        ({"autotune_budget_seconds": 0}, "got 0 should be a finite number above 0"),
        ({"autotune_tie_tolerance": -0.1}, "got -0.1 should be a finite number of at least 0"),
        ({"num_threads": 0}, "num_threads, got 0 should be at least 1"),
        ({"num_threads": 2.0}, "num_threads, got float should be int or None"),
        ({"num_threads": True}, "got bool should be int or None"),
        ({"cache_size_limit": None}, "cache_size_limit, got NoneType should be int"),
        ({"autotune_num_choices_displayed": -1}, "got -1 should be at least 0"),
        ({"external_check": "no"}, "got 'no' should be one of: inputs, strict, off"),
        ({"external_check": False}, "external_check, got bool should be str"),
        ({"matmul_precision": "low"}, "got 'low' should be one of: highest, high, medium"),
        ({"choices": 3}, "choices, got int should be a path, a dict or None"),
        (
            {"external_matmul": matmul_cpu},
            "Unexpected type of attr external_matmul, got function should be list; "
            "write external_matmul=[matmul_cpu]",
        ),
        ({"external_matmul": "matmul_cpu"}, "got str should be list; got 'matmul_cpu'"),
        ({"external_matmul": {matmul_cpu}}, "external_matmul, got set should be list; got {"),
        ({"external_matmul": None}, "external_matmul, got NoneType should be list; got None"),
        (
            {"external_matmul": [matmul_cpu, 3]},
            "external_matmul[1], got 3 should be a callable fn(a, b, out)",
        ),
        ([("max_autotune", True)], "Unexpected type of attr options, got list should be dict"),
        ({3: True}, "Unexpected optimization option 3, known options are"),
    ],
)
def test_a_wrong_option_is_an_error_that_says_what_was_wanted(options, message):
    with pytest.raises(OptionError) as caught:
        resolve_options(options=options)
    assert message in str(caught.value)


def test_external_matmul_takes_a_list_or_a_tuple():
    for given in ([matmul_cpu, matmul_cpu], (matmul_cpu, matmul_cpu)):
        options = resolve_options(options={"external_matmul": given})
        assert options.external_matmul == (matmul_cpu, matmul_cpu)


def test_a_whole_number_is_taken_where_a_float_is_wanted():
    budget = resolve_options(options={"autotune_budget_seconds": 2}).autotune_budget_seconds
    assert budget == 2.0 and isinstance(budget, float)


def test_choices_may_be_a_path_object(tmp_path):
    path = tmp_path / "choices.json"
    assert resolve_options(options={"choices": path}).choices == str(path)


def test_running_in_a_child_is_an_error_where_there_is_no_fork(monkeypatch):
    monkeypatch.delattr("os.fork")
    with pytest.raises(OptionError, match=r"autotune_in_subproc needs os\.fork"):
        resolve_options(options={"autotune_in_subproc": True})
    assert resolve_options(options={"autotune_in_subproc": False}).autotune_in_subproc is False


# --- config -------------------------------------------------------------------------------------


def test_an_attribute_is_read_and_set():
    config.max_autotune = True
    assert config.max_autotune is True
    assert config.get_config_copy()["max_autotune"] is True


def test_an_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"no option 'max_autotun'.*mean 'max_autotune'"):
        config.max_autotun = True
    with pytest.raises(ConfigError, match="no option 'max_autotun'"):
        _ = config.max_autotun
    assert not hasattr(config, "max_autotun")


def test_the_functions_of_config_are_not_options():
    with pytest.raises(ConfigError, match="no option 'patch'"):
        config.patch = None


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_autotune", "yes"), ("autotune_budget_seconds", float("inf")), ("num_threads", 0)],
)
def test_an_ill_typed_value_is_a_config_error_and_changes_nothing(name, value):
    before = config.get_config_copy()
    with pytest.raises(ConfigError, match=name) as caught:
        setattr(config, name, value)
    assert isinstance(caught.value, MinicompError)
    assert config.get_config_copy() == before


def test_saving_and_loading_restores_every_value():
    config.max_autotune, config.num_threads = True, 2
    saved = config.save_config()
    assert isinstance(saved, bytes) and json.loads(saved)["num_threads"] == 2
    config.max_autotune, config.num_threads = False, None
    config.load_config(saved)
    assert config.max_autotune is True and config.num_threads == 2


def test_externals_are_set_process_wide_but_not_saved():
    config.external_matmul = [matmul_cpu]
    assert config.external_matmul == (matmul_cpu,)
    assert b"external_matmul" not in config.save_config()


def test_loading_warns_of_an_unknown_name_and_loads_the_rest():
    with pytest.warns(UserWarning, match="no option is called 'speed'"):
        config.load_config({"speed": 11, "max_autotune": True})
    assert config.max_autotune is True


@pytest.mark.parametrize("saved", [b"", b"\x80\x04pickle", b"[1]", b"3", None, 7])
def test_loading_what_is_no_saved_config_is_a_config_error(saved):
    with pytest.raises(ConfigError, match="not a saved config"):
        config.load_config(saved)


def test_loading_a_wrong_value_changes_nothing():
    with pytest.raises(ConfigError, match="num_threads"):
        config.load_config({"max_autotune": True, "num_threads": -1})
    assert config.max_autotune is False


@pytest.mark.parametrize(
    "arguments",
    [
        (("max_autotune", True), {}),
        (({"max_autotune": True},), {}),
        ((), {"max_autotune": True}),
    ],
)
def test_a_patch_lasts_as_long_as_its_block(arguments):
    positional, named = arguments
    with config.patch(*positional, **named):
        assert config.max_autotune is True
        assert resolve_options().max_autotune is True
    assert config.max_autotune is False


def test_a_patch_is_undone_on_an_exception():
    with pytest.raises(ZeroDivisionError), config.patch(max_autotune=True):
        raise ZeroDivisionError
    assert config.max_autotune is False


def test_patches_nest():
    with config.patch(num_threads=2), config.patch(num_threads=3, max_autotune=True):
        assert (config.num_threads, config.max_autotune) == (3, True)
    with config.patch(num_threads=2):
        with config.patch(num_threads=3):
            pass
        assert config.num_threads == 2


def test_a_patch_checks_all_before_it_changes_any():
    for wrong in ({"max_autotune": True, "speed": 11}, {"max_autotune": True, "num_threads": 0}):
        with pytest.raises(ConfigError):
            config.patch(wrong)
        assert config.max_autotune is False


def test_a_patch_decorates_a_function_that_may_call_itself():
    @config.patch("num_threads", 2)
    def countdown(n):
        assert config.num_threads == 2
        return n if n == 0 else countdown(n - 1)

    assert countdown(3) == 0 == countdown(1)
    assert config.num_threads is None


def test_a_patch_lasts_until_a_coroutine_is_done():
    @config.patch(num_threads=2)
    async def nested():
        await asyncio.sleep(0)
        return config.num_threads

    assert asyncio.run(nested()) == 2 and config.num_threads is None


def test_a_patch_of_a_generator_is_refused_since_it_would_have_no_effect():
    with pytest.raises(ConfigError, match="cannot decorate the generator rows"):

        @config.patch(num_threads=2)
        def rows():
            yield config.num_threads


def test_a_patch_may_be_used_again():
    patch = config.patch(num_threads=2)
    for _ in range(2):
        with patch, patch:
            assert config.num_threads == 2
        assert config.num_threads is None


def test_another_thread_does_not_see_a_patch():
    seen = []
    with config.patch(num_threads=2):
        thread = threading.Thread(target=lambda: seen.append(config.num_threads))
        thread.start()
        thread.join()
    assert seen == [None]


def test_an_assignment_inside_a_patch_of_the_same_option_ends_with_it():
    with config.patch(num_threads=2):
        config.num_threads = 3
        config.max_autotune = True
        assert config.num_threads == 3
    assert config.num_threads is None and config.max_autotune is True


def test_pytests_own_monkeypatch_works_on_config(monkeypatch):
    with monkeypatch.context() as context:
        context.setattr(config, "num_threads", 4)
        assert resolve_options().num_threads == 4
    assert config.num_threads is None
