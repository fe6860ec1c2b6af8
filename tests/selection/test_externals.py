"""Registering callables: names, duplicates, limits, and how they are called."""

import functools

import numpy as np
import pytest
from selection_fakes import add, also_right, random_operands, right, site_of, wrong

from minicomp.errors import OptionError
from minicomp.externals import numpy_matmul
from minicomp.selection import External, call_external, external, register


def names(*callables):
    return [record.name for record in register(callables)]


class Multiplier:
    """A callable object."""

    def __call__(self, a, b, out):
        np.matmul(a, b, out=out)

    def method(self, a, b, out):
        np.matmul(a, b, out=out)


def keyword_only(a, b, *, out):
    np.matmul(a, b, out=out)


def another_name_for_out(a, b, result):
    np.matmul(a, b, out=result)


def keywords(a, b, **arguments):
    np.matmul(a, b, **arguments)


def positional_only(a, b, out, /):
    np.matmul(a, b, out=out)


def anything(*arguments, **more):
    np.matmul(*arguments, **more)


@pytest.mark.parametrize(
    "fn",
    [
        right,
        lambda a, b, out: np.matmul(a, b, out=out),
        functools.partial(right),
        functools.partial(lambda flag, a, b, out: np.matmul(a, b, out=out), True),
        Multiplier(),
        Multiplier().method,
        np.matmul,
        np.dot,
        keyword_only,
        another_name_for_out,
        keywords,
        positional_only,
        anything,
        numpy_matmul,
        external(right, name="mine"),
    ],
)
def test_any_kind_of_callable_works(fn):
    a, b = random_operands()
    (record,) = register([fn])
    out = np.empty((8, 4), np.float32)
    assert record(a, b, out) is None
    assert np.array_equal(out, a @ b)


def test_names_are_what_people_call_the_callable():
    partial = functools.partial(right)
    given = (right, lambda a, b, out: None, partial, Multiplier(), np.dot, numpy_matmul)
    assert names(*given) == [
        "right",
        "lambda",
        "partial(right)",
        "Multiplier",
        "dot",
        "numpy_matmul",
    ]


def test_equal_names_get_numbers_and_a_number_that_is_taken_is_passed_over():
    assert names(lambda: 0, lambda: 0, external(right, name="lambda_2"), lambda: 0) == [
        "lambda",
        "lambda_2",
        "lambda_2_2",
        "lambda_3",
    ]


def test_the_same_callable_counts_once_however_it_is_wrapped():
    multiplier = Multiplier()
    assert names(right, right, external(right, name="again")) == ["right"]
    assert names(multiplier.method, multiplier.method) == ["method"]
    assert names(Multiplier().method, Multiplier().method) == ["method", "method_2"]
    assert names(right, also_right) == ["right", "also_right"]


def test_the_decorator_works_bare_and_with_arguments():
    @external
    def plain(a, b, out):
        np.matmul(a, b, out=out)

    @external(name="named", devices=["cpu", "cuda"], dtypes=[np.float32, "float64"], batched=True)
    def limited(a, b, out):
        np.matmul(a, b, out=out)

    assert isinstance(plain, External) and plain.name == "plain"
    assert limited.name == "named" and limited.devices == ("cpu", "cuda")
    assert limited.dtypes == ("float32", "float64") and limited.batched
    assert external(right, devices="cpu", dtypes="float32").dtypes == ("float32",)
    assert external(right, dtypes=np.float32).dtypes == ("float32",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fn": 3}, r"a callable fn\(a, b, out\), got 3"),
        ({"fn": right, "name": ""}, "a name of printable characters, got ''"),
        ({"fn": right, "name": "two\nlines"}, "printable"),
        ({"fn": right, "devices": "tpu"}, "knows the devices cpu, cuda, got 'tpu'"),
        ({"fn": right, "dtypes": ["bool"]}, "dtypes that can be multiplied, got bool"),
        ({"fn": right, "devices": 3}, "wants a list of devices, got 3"),
        ({"fn": right, "dtypes": 3}, "wants a list of dtypes, got 3"),
        ({"fn": right, "dtypes": []}, "got no dtypes: it would never be offered"),
        ({"fn": right, "devices": ()}, "got no devices"),
        ({"fn": right, "batched": "yes"}, "batched=True or False, got 'yes'"),
    ],
)
def test_wrong_arguments_of_the_decorator_are_errors(arguments, message):
    with pytest.raises(OptionError, match=message):
        external(**arguments)


def test_a_ready_external_is_fit_for_batched_products_on_the_cpu_only():
    a, b = np.zeros((2, 3, 4), np.float32), np.zeros((4, 5), np.float32)
    assert numpy_matmul.unfit(site_of(a, b)) is None
    assert "cuda" in numpy_matmul.unfit(site_of(a, b, device="cuda"))


def test_operands_are_read_only_at_run_time_and_stay_writable_for_the_user():
    a, b = random_operands()
    seen = []

    def look(a, b, out):
        seen.append((a.flags.writeable, b.flags.writeable, out.flags.writeable))
        np.matmul(a, b, out=out)

    call_external(external(look), site_of(a, b), a, b, np.empty((8, 4), np.float32))
    assert seen == [(False, False, True)]
    assert a.flags.writeable and b.flags.writeable


# --- identity -----------------------------------------------------------------------------------


def made(source, **names):
    """The function `matmul` that `source` defines, as a module of the user's would."""
    namespace = {"np": np, "__name__": "model", **names}
    exec(source, namespace)
    return namespace["matmul"]


def identity(fn):
    return external(fn, name="x").identity


PRODUCT = "def matmul(a, b, out):\n    np.matmul(a, b, out=out)"


def test_equal_functions_have_one_identity_wherever_they_stand():
    assert identity(made(PRODUCT)) == identity(made("\n\n" + PRODUCT)) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (made(PRODUCT), made(PRODUCT.replace("np.matmul", "np.dot"))),
        (
            made("def matmul(a, b, out): helper(a, b, out)", helper=right),
            made("def matmul(a, b, out): helper(a, b, out)", helper=wrong),
        ),
        (
            made("def matmul(a, b, out): out[...] = size", size=1),
            made("def matmul(a, b, out): out[...] = size", size=2),
        ),
        (functools.partial(right, 1), functools.partial(right, 2)),
        (functools.partial(right), functools.partial(wrong)),
        (np.matmul, np.add),
        (np.dot, np.einsum),
        (lambda a, b, out, k=1: k, lambda a, b, out, k=2: k),
    ],
)
def test_what_differs_in_code_or_values_has_another_identity(one, other):
    assert identity(one) is not None and identity(other) is not None
    assert identity(one) != identity(other)


def closing_over(value):
    def matmul(a, b, out):
        out[...] = value

    return matmul


class Scaled:
    """A callable object whose attributes are part of what it does."""

    def __init__(self, scale):
        self.scale = scale

    def __call__(self, a, b, out):
        out[...] = self.scale


@pytest.mark.parametrize("make", [closing_over, Scaled, lambda v: Scaled(v).__call__])
def test_closed_over_values_and_attributes_count(make):
    assert identity(make(1)) == identity(make(1)) is not None
    assert identity(make(1)) != identity(make(2))
    assert identity(make(1)) != identity(make(1.0)) != identity(make(True))


class WithSlots:
    __slots__ = ("state",)

    def __call__(self, a, b, out):
        pass


class ExtendedList(list):
    def __call__(self, a, b, out):
        pass


@pytest.mark.parametrize(
    "fn",
    [
        closing_over(np.zeros(3)),
        closing_over(object()),
        Scaled(np.zeros(3)),
        WithSlots(),
        ExtendedList(),
        np.frompyfunc(add, 3, 1),
        functools.lru_cache(right),
        made("def matmul(a, b, out): handle(a)", handle=np.zeros(3)),
    ],
)
def test_what_has_hidden_or_opaque_state_has_no_identity(fn):
    assert identity(fn) is None


def test_functions_that_refer_to_each_other_have_an_identity():
    source = "def helper(a): return matmul(a, a, a)\ndef matmul(a, b, out): helper(a)"
    assert identity(made(source)) == identity(made(source)) is not None
