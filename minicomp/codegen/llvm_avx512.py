"""What AVX-512 does in one instruction and LLVM IR has no operation for: scaling by 2**n.

In: an emitter's vectors. Out: calls of `llvm.x86.avx512.mask.scalef`, on targets that have it;
elsewhere, and on scalars, what `math_basics` does by arithmetic on exponent fields.

    exp(x) = scale(polynomial, n)       seven instructions, most of them waiting for the last;
                                        here one, which overflows and underflows by itself
"""

from __future__ import annotations

from llvmlite import ir

from minicomp.codegen.llvm_types import i8, i32, lanes_of, literal, poison
from minicomp.codegen.math import ElementaryFunctions
from minicomp.ir import ITEMSIZE

REGISTER_BYTES = 64
#: dtype -> the intrinsic on a whole register, and the type of its mask, a bit a lane
SCALEF = {
    "float32": ("llvm.x86.avx512.mask.scalef.ps.512", ir.IntType(16)),
    "float64": ("llvm.x86.avx512.mask.scalef.pd.512", i8),
}
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
        function = self.builder.module.globals.get(name)
        if function is None:
            kind = ir.FunctionType(n.type, [n.type, n.type, n.type, mask, i32])
            function = ir.Function(self.builder.module, kind, name)
        operands = [x, n, poison(n.type), literal(mask, -1), literal(i32, CURRENT_ROUNDING)]
        return self._resized(self.builder.call(function, operands), lanes)

    def _resized(self, x: ir.Value, lanes: int) -> ir.Value:
        """The first `lanes` lanes, or as many more that hold nothing."""
        present = lanes_of(x)
        if present == lanes:
            return x
        # Lanes from `present` on are the second operand's, of which none has a value.
        picks = [min(lane, present) for lane in range(lanes)]
        mask = ir.Constant(ir.VectorType(i32, lanes), picks)
        return self.builder.shuffle_vector(x, poison(x.type), mask)
