"""How far a right answer may be from the interpreter's: running error analysis.

In: a graph and its arrays. Out: for each output the interpreter's array and, per element, a
bound on how far a correctly compiled graph may be from it.

Errors are followed from op to op (Wilkinson's running error analysis; Higham, "Accuracy and
Stability of Numerical Algorithms", 2nd ed., section 3.3). Each value has an array of bounds `e`:

- Ops that IEEE 754 rounds correctly (+, -, *, /, sqrt), comparisons, integers and everything that
  only moves elements add nothing: on exact operands the result has to be exact.
- Elementary functions may be some ulps off, on both sides.
- Sums, products and matmuls may add up in any order: 4 sqrt(n) eps sum|x|, the size of a random
  walk of rounding errors.
- Errors of operands are carried on by what the op does to them: x * y turns e into
  |x| e(y) + |y| e(x) + e(x) e(y). For a monotone function it is what it does to x - e and x + e,
  so that a floor or a comparison near its step has the whole step as bound.

A bound of inf means that nothing can be said about the element: `assert_close` skips it.
"""

from __future__ import annotations

import warnings
from math import prod

import numpy as np

from minicomp.ir.interpreter import evaluate
from minicomp.ir.ops import OPS, kind

#: ulps by which one implementation of an elementary function may differ from another
ULPS = 8
#: pow, where |y log x| is great, loses what its logarithm had no bits for
POW_ULPS = 64
#: rounding errors of n additions are taken as a random walk, of this many standard steps
WALK = 4

ELEMENTARY = (
    *("exp", "expm1", "log", "log1p", "rsqrt", "sin", "cos", "tanh", "erf", "sigmoid", "pow"),
)
MONOTONE = (
    *("exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "tanh", "erf", "sigmoid"),
    *("floor", "ceil", "trunc", "round", "sign"),
)
EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
SMALLEST = {
    "float64": 2.0**-1074,
    "float32": 2.0**-149,
    "float16": 2.0**-24,
    "bfloat16": 2.0**-133,
}
LARGEST = {"float64": 1.7e308, "float32": 3.4e38, "float16": 65504.0, "bfloat16": 3.3e38}


def bounded_outputs(graph, inputs, parameters=None):
    """For each output (expected array, array of bounds), the latter float64 of its shape."""
    arrays, errors = {}, {}
    remaining = iter(inputs)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for value in graph.values:
            if value.op == "input":
                arrays[value] = np.asarray(next(remaining))
            elif value.op == "parameter":
                arrays[value] = np.asarray((parameters or graph.bindings)[value.attributes["name"]])
            else:
                operands = [arrays[x] for x in value.operands]
                arrays[value] = evaluate(value, operands)
                bounds = [errors[x] for x in value.operands]
                errors[value] = _bound(value, arrays[value], operands, bounds)
            errors.setdefault(value, np.zeros(value.shape))
    return [(np.array(arrays[value]), errors[value]) for value in graph.outputs]


def assert_close(actual, expected, bound=None):
    """Each element within its bound of what is expected, NaN where NaN is expected.

    Without `bound`: integers and bools equal, floats within ULPS ulps.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype, f"got {actual.dtype}, wanted {expected.dtype}"
    assert actual.shape == expected.shape, f"got {actual.shape}, wanted {expected.shape}"
    if bound is None:
        epsilon = EPSILON.get(expected.dtype.name, 0)
        with np.errstate(all="ignore"):
            bound = ULPS * epsilon * np.nan_to_num(np.abs(expected.astype(np.float64)))
    with np.errstate(all="ignore"):
        distance = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
        good = (actual == expected) | (distance <= bound) | np.isinf(bound)
        if expected.dtype.kind not in "bi":
            good |= np.isnan(actual) & np.isnan(expected)
    if not np.all(good):
        worst = np.argwhere(~good)
        lines = [
            f"  at {tuple(map(int, i))}: got {actual[tuple(i)]!r}, wanted {expected[tuple(i)]!r} "
            f"within {np.broadcast_to(bound, good.shape)[tuple(i)]:.3g}"
            for i in worst[:5]
        ]
        raise AssertionError(f"{len(worst)} of {good.size} elements differ\n" + "\n".join(lines))


def assert_computes(graph, outputs, inputs, parameters=None):
    """`outputs`, a flat list, are what `graph` gives on these arrays, within its error bounds."""
    expected = bounded_outputs(graph, inputs, parameters)
    assert len(outputs) == len(expected)
    for number, (actual, (wanted, bound)) in enumerate(zip(outputs, expected, strict=True)):
        try:
            assert_close(actual, wanted, bound)
        except AssertionError as error:
            raise AssertionError(f"output {number} of\n{graph}\n{error}") from None


def _bound(value, result, operands, errors):
    if not value.operands:
        return np.zeros(value.shape)
    wide = [np.asarray(x, np.float64) for x in operands]
    y = np.asarray(result, np.float64)
    carried = _carried(value, y, wide, errors)
    known = all(np.isfinite(e).all() for e in errors)
    # nan comes of inf - inf and 0 * inf: harmless where a NaN was certain, else unknown.
    carried = np.where(np.isnan(carried), np.where(np.isnan(y) & known, 0.0, np.inf), carried)
    return carried + _own(value, y, wide, carried)


def _own(value, y, operands, carried):
    """The error that the op itself may add."""
    if value.dtype not in EPSILON:
        return np.zeros(value.shape)
    epsilon, smallest = EPSILON[value.dtype], SMALLEST[value.dtype]
    size = np.where(np.isfinite(y), np.abs(y), 0.0)
    if value.op in ("sum", "mean", "prod", "cumsum", "matmul"):
        return _folded(value, y, operands, epsilon, smallest) + 0.0 * size
    if value.op in ELEMENTARY:
        ulps = POW_ULPS if value.op == "pow" else ULPS
        return ulps * (epsilon * size + smallest)
    if kind(value) != "pointwise":
        return np.zeros(value.shape)
    # Correctly rounded: but operands that differ may be rounded differently.
    return np.where(carried > 0, epsilon * size + smallest, 0.0)


def _folded(value, y, operands, epsilon, smallest):
    """Rounding errors of adding or multiplying up many elements."""
    magnitudes = [np.where(np.isfinite(x), np.abs(x), 0.0) for x in operands]
    odd = [~np.isfinite(x) for x in operands]
    if value.op == "matmul":
        n = operands[0].shape[-1]
        total = magnitudes[0] @ magnitudes[1]
        certain = (odd[0].any(-1)[..., :, None]) | (odd[1].any(-2)[..., None, :])
    elif value.op == "cumsum":
        n = operands[0].shape[value.attributes["axis"]]
        total = np.cumsum(magnitudes[0], **value.attributes)
        certain = np.cumsum(odd[0], **value.attributes) > 0
    else:
        n = prod(operands[0].shape[axis] for axis in value.attributes["axes"])
        total = OPS[value.op].compute(magnitudes[0], **value.attributes)
        certain = OPS["any"].compute(odd[0], **value.attributes)
    if n == 0:
        return np.zeros(value.shape)
    steps = n if value.op == "prod" else np.sqrt(n)
    error = WALK * steps * (epsilon * total + smallest) * (n > 1 or value.op == "matmul")
    # An inf or nan among the elements decides the result whatever the order; without one, sums
    # near the largest number may overflow in one order and not in another.
    overflow = ~np.isfinite(y) | (total > LARGEST[value.dtype] / 2)
    return np.where(certain, 0.0, np.where(overflow, np.inf, error))


def _carried(value, y, operands, errors):
    """What the op makes of its operands' errors."""
    if all((e == 0).all() for e in errors):
        return np.zeros(value.shape)
    op, row = value.op, OPS[value.op]
    if op in MONOTONE or (op == "cast" and value.dtype != "bool"):
        return _monotone(value, y, operands[0], errors[0])
    if row.kind in ("movement", "assembly", "gather", "patches"):
        return _moved(value, operands, errors)
    if row.kind in ("reduction", "scan"):
        return _reduced(value, y, operands[0], errors[0])
    if op == "where":
        chosen = np.where(operands[0] != 0, errors[1], errors[2])
        either = np.maximum(errors[1], errors[2]) + np.abs(operands[1] - operands[2])
        return np.where(errors[0] > 0, either, chosen)
    if op == "pow":
        return _power(y, operands, errors)
    if len(operands) == 2:
        return _binary(op, y, *operands, *errors)
    (e,) = errors
    if op == "cast":
        return np.where(np.abs(operands[0]) <= e, np.minimum(e, 1.0), 0.0)
    if op in ("sin", "cos"):
        return np.minimum(e, 2.0)
    return e  # neg, abs, logical_not


def _binary(op, y, a, b, ea, eb):
    if op in ("add", "sub"):
        return ea + eb
    if op == "mul":
        return _times(np.abs(a), eb) + _times(np.abs(b), ea) + _times(ea, eb)
    if op == "div":
        smallest_divisor = np.abs(b) - eb
        safe = np.where(smallest_divisor > 0, smallest_divisor, 1.0)
        error = (ea + _times(np.abs(y), eb)) / safe
        return np.where((smallest_divisor > 0) | (ea + eb == 0), error, np.inf)
    if op in ("minimum", "maximum", "logical_and", "logical_or", "logical_xor"):
        return np.maximum(ea, eb)
    if op in ("lt", "le", "gt", "ge", "eq", "ne"):
        certain = (np.abs(a - b) > ea + eb) | np.isnan(a) | np.isnan(b) | (ea + eb == 0)
        return np.where(certain, 0.0, 1.0)
    if op == "matmul":
        return _product(a, b, ea, eb)
    return np.where(ea + eb > 0, np.inf, 0.0)  # floor_divide, mod, bits: nothing is known


def _product(a, b, ea, eb):
    finite_a, finite_b = (np.where(np.isfinite(x), np.abs(x), 0.0) for x in (a, b))
    error = finite_a @ eb + ea @ finite_b + ea @ eb
    unknown = (~np.isfinite(a)).astype(float) @ (eb > 0) + (ea > 0).astype(float) @ ~np.isfinite(b)
    return np.where(unknown > 0, np.inf, error)


def _monotone(value, y, x, e):
    """What the function, in float64, makes of the ends of x - e ... x + e."""
    function = OPS[value.op].compute
    kept = {"dtype": value.dtype} if value.op == "cast" and value.dtype not in EPSILON else {}
    if value.op == "cast" and not kept:
        return e
    ends = [np.asarray(function(end, **kept), np.float64) for end in (x - e, x + e)]
    moved = [np.where((end == y) | (np.isnan(x)), 0.0, np.abs(end - y)) for end in ends]
    # NumPy's float32 result against float64 ends: the rounding of the result is the op's own.
    return np.where(e > 0, np.maximum(*moved), 0.0)


def _power(y, operands, errors):
    """Monotone in each operand where x > 0, so the extremes are at the corners."""
    (x, p), (ex, ep) = operands, errors
    corners = [np.power(x + sx * ex, p + sp * ep) for sx in (-1, 1) for sp in (-1, 1)]
    farthest = np.max([np.abs(corner - y) for corner in corners], axis=0)
    sure = (x - ex > 0) & np.isfinite(y)
    return np.where(ex + ep == 0, 0.0, np.where(sure, farthest, np.inf))


def _moved(value, operands, errors):
    """The bounds go where the elements go."""
    attributes = dict(value.attributes)
    if value.op == "pad":
        attributes["value"] = 0.0
    if OPS[value.op].kind != "gather":
        return OPS[value.op].compute(*errors, **attributes)
    if (errors[1] > 0).any():
        return np.full(value.shape, np.inf)
    return OPS[value.op].compute(errors[0], operands[1].astype(np.int64), **attributes)


def _reduced(value, y, x, e):
    attributes = value.attributes
    if value.op in ("sum", "mean", "cumsum"):
        return OPS[value.op].compute(e, **attributes)
    if value.op in ("argmax", "argmin"):
        return np.where(OPS["any"].compute(e > 0, **attributes), np.inf, 0.0)
    if value.op == "prod":
        size = np.abs(x)
        grown = OPS["prod"].compute(size + e, **attributes) - np.abs(y)
        return np.where(OPS["any"].compute(e > 0, **attributes), np.abs(grown), 0.0)
    return OPS["max"].compute(e, **attributes)  # max, min, any, all


def _times(a, e):
    """a * e, and 0 where there is no error, whatever a is."""
    return np.where((e == 0) | (a == 0), 0.0, a * e)
