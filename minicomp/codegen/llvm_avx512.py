"""What AVX-512 does in one instruction and LLVM IR has no operation for: scaling by 2**n, and
looking up each lane's entry of a table of sixteen.

In: an emitter's vectors. Out: calls of `llvm.x86.avx512.mask.scalef` and `.permvar`, on targets
that have them; elsewhere what `math_basics` and `math_erf` do by arithmetic on exponent fields
(for scalars too) and by longer polynomials.

    exp(x) = scale(polynomial, n)       seven instructions, most of them waiting for the last;
                                        here one, which overflows and underflows by itself
    erf(x) = polynomial(r, lookup(..))  of degree 5 instead of 6 and 13
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from minicomp.codegen.llvm_intrinsics import call_intrinsic
from minicomp.codegen.llvm_types import (
    LiteralVector,
    f32,
    i8,
    i32,
    lanes_of,
    literal,
    poison,
    widen,
)
from minicomp.codegen.math import ElementaryFunctions
from minicomp.ir import ITEMSIZE

REGISTER_BYTES = 64
#: dtype -> the intrinsic on a whole register, and the type of its mask, a bit a lane
SCALEF = {
    "float32": ("llvm.x86.avx512.mask.scalef.ps.512", ir.IntType(16)),
    "float64": ("llvm.x86.avx512.mask.scalef.pd.512", i8),
}
#: <16 x float>: lane i is the entry of the first operand that the low bits of the second's lane say
PERMUTE = "llvm.x86.avx512.permvar.sf.512"
CURRENT_ROUNDING = 4  # _MM_FROUND_CUR_DIRECTION


class Avx512(ElementaryFunctions):
    """A mixin that an emitter inherits before the elementary functions; it sets `has_avx512`."""

    builder: ir.IRBuilder
    has_avx512: bool

    def scale(self, x: ir.Value, n: ir.Value) -> ir.Value:
        return self._scalef(x, n) if self._is_vector(n) else super().scale(x, n)

    def scale_down(self, x: ir.Value, n: ir.Value) -> ir.Value:
        return self._scalef(x, n) if self._is_vector(n) else super().scale_down(x, n)

    def power_of_two(self, n: ir.Value, offset: int = 0) -> ir.Value:
        if not self._is_vector(n):
            return super().power_of_two(n, offset)
        return self._scalef(literal(n.type.element, 2.0**offset, lanes_of(n)), n)

    def erf(self, x: ir.Value) -> ir.Value:
        """By pieces in scalars too: an element's result does not depend on its place."""
        has_lookup = self.has_avx512 and self.dtype(x) == "float32"
        return self.erf_by_pieces(x) if has_lookup else super().erf(x)

    def lookup(self, table: Sequence[float], index: ir.Value) -> ir.Value:
        lanes, whole = lanes_of(index), REGISTER_BYTES // ITEMSIZE["float32"]
        if not self.has_avx512 or len(table) != whole or lanes > whole:
            return super().lookup(table, index)
        entries, index = LiteralVector(f32, table), self._resized(index, whole)
        return self._resized(
            call_intrinsic(self.builder, PERMUTE, entries.type, [entries, index]), lanes
        )

    def _is_vector(self, n: ir.Value) -> bool:
        """Whether it is lanes of a register; a remainder of fewer lanes is padded to one."""
        nbytes = lanes_of(n) * ITEMSIZE[self.dtype(n)]
        return self.has_avx512 and lanes_of(n) > 1 and nbytes <= REGISTER_BYTES

    def _scalef(self, x: ir.Value, n: ir.Value) -> ir.Value:
        """x * 2**n, rounded once; both are vectors."""
        dtype, lanes = self.dtype(n), lanes_of(n)
        whole = REGISTER_BYTES // ITEMSIZE[dtype]
        x, n = self._resized(x, whole), self._resized(n, whole)
        name, mask = SCALEF[dtype]
        operands = [x, n, poison(n.type), literal(mask, -1), literal(i32, CURRENT_ROUNDING)]
        return self._resized(call_intrinsic(self.builder, name, n.type, operands), lanes)

    def _resized(self, x: ir.Value, lanes: int) -> ir.Value:
        """The first `lanes` lanes, or as many more that hold nothing; a scalar for one lane."""
        present = lanes_of(x)
        if present == lanes:
            return x
        first = ir.Constant(i32, 0)
        if present == 1:
            return self.builder.insert_element(poison(widen(x.type, lanes)), x, first)
        if lanes == 1:
            return self.builder.extract_element(x, first)
        # Lanes from `present` on are the second operand's, of which none has a value.
        picks = [min(lane, present) for lane in range(lanes)]
        mask = ir.Constant(ir.VectorType(i32, lanes), picks)
        return self.builder.shuffle_vector(x, poison(x.type), mask)
