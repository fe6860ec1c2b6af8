"""The elementary functions as machine code: their errors in ulp over samples of all arguments.

What `test_elementary_functions` measures on NumPy arrays is measured here after LLVM has had its
hands on it, and with the overrides of the LLVM emitter.
"""

import math

import numpy as np
import pytest
from op_graphs import OpGraph
from ulp_error import REFERENCES, ulp_error

import minicomp

LIMITS = {"float32": 2.0, "float64": 4.0}
FUNCTIONS = [*REFERENCES, "sqrt"]
#: a prime near 2**12: about a million float32 arguments, of all exponents and many fractions
STRIDE = 4099
SAMPLES = 2**19

# The x87 format and binary128 are wider than float64; elsewhere long double is float64 itself.
needs_long_double = pytest.mark.skipif(
    np.finfo(np.longdouble).nmant < 63, reason="no format wider than float64 to measure against"
)


def compiled(op, *arguments):
    graph = OpGraph()
    graph.output(op, *map(graph.input, arguments))
    return minicomp.compile(graph.graph)(*arguments)


def truth(op, *arguments):
    """The function on float64 for float32 arguments, on long double for float64 ones."""
    wide = np.float64 if arguments[0].dtype == np.float32 else np.longdouble
    function = {**REFERENCES, "sqrt": np.sqrt, "pow": np.power}[op]
    with np.errstate(all="ignore"):
        return function(*(x.astype(wide) for x in arguments))


def worst(op, *arguments):
    errors = ulp_error(compiled(op, *arguments), truth(op, *arguments))
    place = int(np.argmax(errors))
    return errors[place], [x[place] for x in arguments]


def float64_sample(seed):
    """Random bits, which are all exponents alike, and random numbers of ordinary size."""
    random = np.random.default_rng(seed)
    bits = random.integers(-(2**63), 2**63, SAMPLES // 2, np.int64, endpoint=False)
    ordinary = random.normal(0, 1, SAMPLES // 2) * 10.0 ** random.uniform(-3, 3, SAMPLES // 2)
    return np.concatenate([bits.view(np.float64), ordinary])


@pytest.mark.parametrize("op", FUNCTIONS)
def test_float32_functions_are_within_2_ulp(op):
    x = np.arange(0, 2**32, STRIDE, dtype=np.uint32).view(np.float32)
    error, argument = worst(op, x)
    assert error <= LIMITS["float32"], f"{error} ulp at {argument}"


@needs_long_double
@pytest.mark.parametrize("op", FUNCTIONS)
def test_float64_functions_are_within_4_ulp(op):
    error, argument = worst(op, float64_sample(1))
    assert error <= LIMITS["float64"], f"{error} ulp at {argument}"


def powers(dtype):
    """Bases and exponents of which most powers are ordinary numbers."""
    random = np.random.default_rng(2)
    x = np.exp(random.uniform(-20, 20, SAMPLES // 4))
    p = random.uniform(-1, 1, len(x)) * np.log(np.finfo(dtype).max) / np.abs(np.log(x))
    whole = np.round(random.uniform(-9, 9, len(x)))
    bases = np.concatenate([x, x, -x, x])
    return bases.astype(dtype), np.concatenate([p, whole, whole, p * 1.1]).astype(dtype)


def test_float32_powers_are_within_2_ulp():
    error, arguments = worst("pow", *powers(np.float32))
    assert error <= LIMITS["float32"], f"{error} ulp at {arguments}"


@needs_long_double
def test_float64_powers_are_within_4_ulp():
    error, arguments = worst("pow", *powers(np.float64))
    assert error <= LIMITS["float64"], f"{error} ulp at {arguments}"


INF, NAN = math.inf, math.nan
SPECIAL = {
    "exp": [(0.0, 1), (-0.0, 1), (INF, INF), (-INF, 0.0), (NAN, NAN), (1e4, INF), (-1e4, 0.0)],
    "expm1": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -1), (NAN, NAN), (-1e4, -1)],
    "log": [(0.0, -INF), (-0.0, -INF), (1, 0.0), (-1, NAN), (INF, INF), (-INF, NAN), (NAN, NAN)],
    "log1p": [(0.0, 0.0), (-0.0, -0.0), (-1, -INF), (-2, NAN), (INF, INF), (NAN, NAN)],
    "sqrt": [(0.0, 0.0), (-0.0, -0.0), (-1, NAN), (INF, INF), (NAN, NAN), (4, 2)],
    "rsqrt": [(0.0, INF), (-0.0, -INF), (-1, NAN), (INF, 0.0), (NAN, NAN), (4, 0.5)],
    "sin": [(0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN), (NAN, NAN)],
    "cos": [(0.0, 1), (-0.0, 1), (INF, NAN), (-INF, NAN), (NAN, NAN)],
    "tanh": [(0.0, 0.0), (-0.0, -0.0), (INF, 1), (-INF, -1), (NAN, NAN), (100, 1)],
    "erf": [(0.0, 0.0), (-0.0, -0.0), (INF, 1), (-INF, -1), (NAN, NAN), (-30, -1)],
    "sigmoid": [(0.0, 0.5), (INF, 1), (-INF, 0.0), (NAN, NAN), (1e4, 1), (-1e4, 0.0)],
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("op", FUNCTIONS)
def test_special_values(op, dtype):
    x, expected = np.array(SPECIAL[op], dtype).T
    results = compiled(op, np.ascontiguousarray(x))
    for argument, result, wanted in zip(x, results, expected, strict=True):
        same = result == wanted and math.copysign(1, result) == math.copysign(1, wanted)
        assert same or (np.isnan(result) and np.isnan(wanted)), f"{op}({argument}) is {result}"
