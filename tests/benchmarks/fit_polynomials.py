"""Fits the polynomials of `minicomp.codegen.math_*`. Run by hand; needs the package mpmath.

    python tests/benchmarks/fit_polynomials.py              # all of them
    python tests/benchmarks/fit_polynomials.py exp sin      # some

In: for each polynomial the function it stands for, the interval, the powers and how an error in
it weighs in the result. Out: its coefficients, from the constant term up, rounded to the format,
and the largest weighted error in ulp (2**-24 or 2**-53) before the rounding of the arithmetic.
For erf by pieces it is one table for each power, of the pieces' coefficients.

The method is Remez's exchange in 50-digit arithmetic. Coefficients are rounded one after the
other from the lowest power up, and the remaining ones are fitted again after each, so that they
make up for its rounding error.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass

from mpmath import (
    atanh,
    cos,
    erf,
    erfc,
    expm1,
    log,
    log1p,
    lu_solve,
    matrix,
    mp,
    mpf,
    nstr,
    pi,
    sin,
    sqrt,
    tanh,
)
from mpmath import exp as exponential

mp.dps = 50
Function = Callable[[mpf], mpf]


def round_to(precision: int, value: mpf) -> mpf:
    """The nearest float32 (precision 24) or float64 (53)."""
    rounded = float(value)
    if precision == 24:
        # By way of float64, which may end one unit off; the later coefficients make up for it.
        rounded = struct.unpack("f", struct.pack("f", rounded))[0]
    return mpf(rounded)


@dataclass
class Problem:
    """Minimise max |weight(x) * (target(x) - sum of c[k] * x**k)| over low <= x <= high."""

    target: Function
    weight: Function
    low: mpf
    high: mpf

    def points(self, count: int) -> list[mpf]:
        """Chebyshev points, which crowd where a best approximation's error does."""
        middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        return [middle - half * cos(pi * i / (count - 1)) for i in range(count)]


def remez(samples: list[tuple[mpf, mpf, mpf]], degree: int) -> list[mpf]:
    """The best coefficients of powers 0..degree for (x, target, weight) samples.

    Samples that weigh next to nothing are left out: there any polynomial does.
    """
    heaviest = max(abs(weight) for _, _, weight in samples)
    samples = [(x, t, abs(w)) for x, t, w in samples if abs(w) > heaviest * mpf("1e-9")]
    count = degree + 2
    step = (len(samples) - 1) / (count - 1)
    chosen = [round(i * step) for i in range(count)]
    for _ in range(40):
        system = matrix(count, count)
        right = matrix(count, 1)
        for row, index in enumerate(chosen):
            x, target, weight = samples[index]
            for power in range(degree + 1):
                system[row, power] = x**power
            system[row, degree + 1] = (-1) ** row / weight
            right[row] = target
        solution = list(lu_solve(system, right))
        coefficients, level = solution[:-1], abs(solution[-1])
        errors = [w * (t - evaluate(coefficients, x)) for x, t, w in samples]
        chosen = alternation(errors, count)
        if max(map(abs, errors)) <= level * mpf("1.0001"):
            break
    return coefficients


def alternation(errors: list[mpf], count: int) -> list[int]:
    """`count` indices at which the error has its largest values of alternating sign."""
    peaks: list[int] = []
    for index, error in enumerate(errors):
        if peaks and (errors[peaks[-1]] > 0) == (error > 0):
            if abs(error) > abs(errors[peaks[-1]]):
                peaks[-1] = index
        else:
            peaks.append(index)
    while len(peaks) > count:
        least = min(range(len(peaks)), key=lambda i: abs(errors[peaks[i]]))
        inner = 0 < least < len(peaks) - 1
        if inner and len(peaks) > count + 1:
            # Its neighbours have one sign and are now next to each other: keep the larger.
            del peaks[least]
            before, after = abs(errors[peaks[least - 1]]), abs(errors[peaks[least]])
            del peaks[least - 1 if before < after else least]
        else:
            del peaks[0 if abs(errors[peaks[0]]) < abs(errors[peaks[-1]]) else -1]
    if len(peaks) < count:
        raise ArithmeticError("the error has too few sign changes; the degree is too high")
    return peaks


def evaluate(coefficients: list[mpf], x: mpf) -> mpf:
    total = mpf(0)
    for coefficient in reversed(coefficients):
        total = total * x + coefficient
    return total


def fit(problem: Problem, degree: int, precision: int) -> tuple[list[mpf], mpf]:
    """Coefficients rounded to the format, and the largest weighted error they leave."""
    points = problem.points(24 * (degree + 2) + 1)
    samples = [(x, problem.target(x), problem.weight(x)) for x in points]
    rounded: list[mpf] = []
    rest = samples
    for remaining in range(degree, -1, -1):
        best = remez(rest, remaining)[0]
        rounded.append(round_to(precision, best))
        # With c[0] fixed, what is left is x times a polynomial of one degree less.
        rest = [((x, (t - rounded[-1]) / x, w * x)) for x, t, w in rest if x != 0]
    error = max(abs(w * (t - evaluate(rounded, x))) for x, t, w in samples)
    return rounded, error


def odd(function: Function, first: int = 1) -> Function:
    """(function(x) / x - first) / x**2 as a function of x**2, for an odd function."""
    return lambda s: (function(sqrt(s)) / sqrt(s) - first) / s


def odd_weight(function: Function) -> Function:
    """How an error in `odd` shows in function(x), relatively."""
    return lambda s: s * sqrt(s) / function(sqrt(s))


SMALL = mpf("1e-10")  # instead of 0, where the targets are 0 / 0
HALF_LOG_2 = log(mpf(2)) / 2 * mpf("1.0005")  # the margin is for the rounding of x / log(2)
QUARTER_PI = (pi / 4 + mpf("0.006")) ** 2  # the margin is for the rounding of x / (pi/2)
ATANH = ((sqrt(mpf(2)) - 1) / (sqrt(mpf(2)) + 1)) ** 2


def erf_pieces(split: str, end: str) -> tuple[Problem, Problem]:
    """erf(x) = x + x P(x**2) up to `split`, 1 - P(x - middle) from there to `end`."""
    low, high = mpf(split), mpf(end)
    middle = (low + high) / 2
    return (
        Problem(
            lambda s: erf(sqrt(s)) / sqrt(s) - 1,
            lambda s: sqrt(s) / erf(sqrt(s)),
            SMALL,
            low**2,
        ),
        Problem(lambda u: erfc(u + middle), lambda u: 1 / erf(u + middle), low - middle,
                high - middle),
    )  # fmt: skip


ERF32, ERFC32 = erf_pieces("1.2", "3.95")
ERF64, ERFC64 = erf_pieces("1.25", "5.93")
EXP = Problem(
    lambda r: (expm1(r) - r) / r**2 if r else mpf("0.5"),
    lambda r: r**2 / exponential(r),
    -HALF_LOG_2,
    HALF_LOG_2,
)
LOG1P = Problem(
    lambda f: (log1p(f) - f + f**2 / 2) / f**3 if abs(f) > SMALL else mpf(1) / 3,
    lambda f: f**3 / log1p(f) if f else mpf(0),
    sqrt(mpf("0.5")) - 1,
    sqrt(mpf(2)) - 1,
)
SIN = Problem(odd(sin), odd_weight(sin), SMALL, QUARTER_PI)
COS = Problem(
    lambda s: (cos(sqrt(s)) - 1 + s / 2) / s**2,
    lambda s: s**2 / cos(sqrt(s)),
    SMALL,
    QUARTER_PI,
)
TANH = Problem(odd(tanh), odd_weight(tanh), SMALL, mpf("0.6") ** 2)
POW = Problem(
    lambda z: (2 * atanh(sqrt(z)) / sqrt(z) - 2 - 2 * z / 3) / z**2,
    lambda z: z**2 * sqrt(z) / (2 * atanh(sqrt(z))),
    SMALL,
    ATANH,
)

#: Pieces of erf are 1 / ERF_SCALE wide. With this one of about a thousand scales tried, the first
#: coefficients of the pieces near zero, which weigh most, happen to lie close to float32 numbers.
ERF_PIECES, ERF_SCALE = 16, mpf("3.8974609375")


def erf_piece(number: int) -> Problem:
    """erf((number + r) / ERF_SCALE) in r for |r| <= 1/2; over r in the first piece."""

    def along(r: mpf) -> mpf:
        return erf((number + r) / ERF_SCALE)

    half = mpf("0.5")
    if number:
        return Problem(along, lambda r: 1 / along(r), -half, half)
    return Problem(lambda r: along(r) / r, lambda r: r / along(r), SMALL, half)


def fit_erf_pieces(degree: int) -> tuple[list[list[mpf]], mpf]:
    """For each power the coefficients of all pieces, and the largest error."""
    first, error = fit(erf_piece(0), degree - 1, 24)
    pieces = [[mpf(0), *first]]
    for number in range(1, ERF_PIECES):
        coefficients, largest = fit(erf_piece(number), degree, 24)
        pieces.append(coefficients)
        error = max(error, largest)
    return [list(power) for power in zip(*pieces, strict=True)], error


#: name -> (degree, precision, what to fit)
POLYNOMIALS = {
    "exp32": (4, 24, EXP),
    "exp64": (9, 53, EXP),
    "log32": (7, 24, LOG1P),
    "log64": (18, 53, LOG1P),
    "sin32": (2, 24, SIN),
    "sin64": (5, 53, SIN),
    "cos32": (2, 24, COS),
    "cos64": (5, 53, COS),
    "tanh32": (4, 24, TANH),
    "tanh64": (10, 53, TANH),
    "erf32": (6, 24, ERF32),
    "erfc32": (13, 24, ERFC32),
    "erf64": (13, 53, ERF64),
    "erfc64": (33, 53, ERFC64),
    "pow32": (2, 24, POW),
    "pow64": (6, 53, POW),
}


def main(names: list[str]) -> None:
    for name, (degree, precision, problem) in POLYNOMIALS.items():
        if names and not any(name.startswith(wanted) for wanted in names):
            continue
        coefficients, error = fit(problem, degree, precision)
        print(f"{name}: error {nstr(error * 2**precision, 3)} ulp")
        for coefficient in coefficients:
            print(f"    {nstr(coefficient, 9 if precision == 24 else 17)},")
    if not names or "erf_pieces" in names:
        tables, error = fit_erf_pieces(degree=5)
        print(f"erf_pieces: error {nstr(error * 2**24, 3)} ulp")
        for table in tables:
            print(f"    ({', '.join(nstr(coefficient, 9) for coefficient in table)}),")


if __name__ == "__main__":
    main(sys.argv[1:])
