"""Divisions by a sum over the row become multiplications by its reciprocal.

In: a LoopKernel. Out: the kernel with one division a row where it had one an element.

    sweep: out = div(t, r1)      ->     sweep: out = mul(mul(t, div(1.0, mul(r1, s))), s)

A division takes as long as ten multiplications. The product may be off by one ulp more than the
quotient; a sum of several floats has been rounded already, by more than that, so only divisors
made of such sums are inverted: division by a number that may be exact stays one. `s` is 1 but for
a divisor whose reciprocal would overflow or be subnormal; then it is a power of two that moves
the divisor to where that is not so.
"""

from __future__ import annotations

from dataclasses import replace

from minicomp.kernels import Apply, Literal, LoopKernel, Reduced, Scalar
from minicomp.kernels.varying import Varying
from minicomp.kernels.walk import Rebuilt

#: dtype -> (exponent of the divisors that are moved, up or down; exponent of the power of two).
#: A divisor that is moved stays on its side of 1, so that no quotient is rounded as a subnormal
#: number and scaled up afterwards.
MOVED = {"float32": (100, 64), "float64": (900, 512)}
#: Operations that keep an operand's rounding error.
ROUNDED = ("add", "mul", "div", "sqrt")


def multiply_by_reciprocals(kernel: LoopKernel) -> LoopKernel:
    """See the module's docstring."""
    reductions = [r for sweep in kernel.sweeps for r in sweep.reductions]
    varying = Varying(kernel.inner, {r.number for r in reductions if r.op == "cumsum"})
    sums = {r.number for r in reductions if r.op == "sum"} if kernel.row_size > 1 else set()
    inverted: dict[int, tuple[Scalar, Scalar]] = {}

    def change(scalar: Scalar) -> Scalar | None:
        if not isinstance(scalar, Apply) or scalar.op != "div" or scalar.dtype not in MOVED:
            return None
        dividend, divisor = scalar.operands
        if not varying(dividend) or varying(divisor) or not _is_rounded(divisor, sums):
            return None
        if id(divisor) not in inverted:
            inverted[id(divisor)] = _inverse(rebuilt(divisor))
        inverse, scale = inverted[id(divisor)]
        return _apply("mul", _apply("mul", rebuilt(dividend), inverse), scale)

    rebuilt = Rebuilt(change=change)
    sweeps = tuple(rebuilt.sweep(sweep) for sweep in kernel.sweeps)
    return replace(kernel, sweeps=sweeps) if inverted else kernel


def _is_rounded(divisor: Scalar, sums: set[int]) -> bool:
    """Whether it has the rounding error of a sum of several floats."""
    if isinstance(divisor, Reduced):
        return divisor.number in sums
    if isinstance(divisor, Apply) and divisor.op in ROUNDED:
        return any(_is_rounded(operand, sums) for operand in divisor.operands)
    return False


def _inverse(divisor: Scalar) -> tuple[Scalar, Scalar]:
    """(1 / (divisor * s), s)."""
    dtype = divisor.dtype
    limit, step = MOVED[dtype]

    def number(exponent: int) -> Scalar:
        return Literal(dtype, 2.0**exponent)

    size = _apply("abs", divisor)
    tiny, huge = _compare("lt", size, number(-limit)), _compare("gt", size, number(limit))
    down = _apply("where", huge, number(-step), number(0), dtype=dtype)
    scale = _apply("where", tiny, number(step), down, dtype=dtype)
    return _apply("div", number(0), _apply("mul", divisor, scale)), scale


def _apply(op: str, *operands: Scalar, dtype: str = "") -> Apply:
    return Apply(dtype or operands[0].dtype, op, operands)


def _compare(op: str, *operands: Scalar) -> Apply:
    return Apply("bool", op, operands)
