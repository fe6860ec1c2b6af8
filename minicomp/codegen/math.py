"""Everything in the op table that is not an operation of the machine, for every back end.

In: an emitter's handles. Out: handles, through the protocol of `codegen.emitter` alone. A back
end inherits `ElementaryFunctions` and gains, by the names of the op table, exp, log, pow, tanh,
erf, sin, mod, cast and the rest; where its hardware has better it overrides a function or one of
the hooks `rare`, `scale` and `quotient` (see `math_basics`).

    class LLVMEmitter(ElementaryFunctions): ...    # defines add, fma, where, ...
    emitter.tanh(x)                                # a handle, after some thirty instructions

The functions are accurate to 2 ulp in float32 and 4 ulp in float64 at most, for all arguments,
with subnormal results rounded gradually and with NumPy's special values. The tests measure that
through `codegen.numpy_emitter`, without compiling anything. One function family, one file:
`math_exponential`, `math_logarithm`, `math_power`, `math_trigonometry`, `math_erf`,
`math_division`.
"""

from __future__ import annotations

from minicomp.codegen.emitter import Handle
from minicomp.codegen.math_basics import FORMATS
from minicomp.codegen.math_division import Division
from minicomp.codegen.math_erf import ErrorFunction
from minicomp.codegen.math_power import Power
from minicomp.codegen.math_trigonometry import Trigonometry

INT_BITS = {"int32": 32, "int64": 64}


class ElementaryFunctions(Power, Trigonometry, ErrorFunction, Division):
    """A mixin over the protocol `Arithmetic`; see the module's docstring."""

    def rsqrt(self, x: Handle) -> Handle:
        """1 / sqrt(x), each rounded."""
        return self.div(self.like(x, 1.0), self.sqrt(x))

    def reciprocal(self, x: Handle) -> Handle:
        return self.div(self.like(x, 1.0), x)

    def sign(self, x: Handle) -> Handle:
        """-1, 0 or 1; NaN for NaN, and +0 for -0."""
        zero, one = self.like(x, 0), self.like(x, 1)
        negative = self.where(self.lt(x, zero), self.neg(one), self.add(x, zero))
        return self.where(self.gt(x, zero), one, negative)

    def cast(self, x: Handle, dtype: str) -> Handle:
        """`convert`, except that a float which an integer cannot hold, or NaN, becomes the least
        integer, as on x86; `convert` is not given such a value."""
        if self.dtype(x) not in FORMATS or dtype not in INT_BITS:
            return self.convert(x, dtype)
        limit = 2.0 ** (INT_BITS[dtype] - 1)
        fits = self.logical_and(self.ge(x, self.like(x, -limit)), self.lt(x, self.like(x, limit)))
        return self.convert(self.where(fits, x, self.like(x, -limit)), dtype)
