"""The emitter protocol in LLVM IR, on scalars and vectors alike.

In: an IRBuilder and the kernel's buffers. Out: instructions, through one method per operation of
`codegen.emitter.Arithmetic`; `ElementaryFunctions` adds exp, tanh and the rest. A handle is an
llvmlite value, a scalar or a vector: a scalar operand is splat when it meets a vector, so what
does not depend on the vector loop stays scalar and is computed once.

    emitter.at({row: i, column: j}, vector=column, width=16)
    x = emitter.load(0, index)        # 1000*row + column: one <16 x float> load
    emitter.store(1, index, emitter.exp(x))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from llvmlite import ir

from minicomp.codegen.llvm_avx512 import Avx512
from minicomp.codegen.llvm_intrinsics import call_intrinsic
from minicomp.codegen.llvm_memory import Memory
from minicomp.codegen.llvm_types import (
    REGISTER,
    Literal,
    dtype_of,
    element_type,
    i32,
    lanes_of,
    literal,
    poison,
    widen,
)
from minicomp.kernels.indexing import LoopVariable

FLOATING = ("float32", "float64")


class LLVMEmitter(Memory, Avx512):
    """See the module's docstring. `buffers` are (pointer, dtype), numbered as the kernel's; a
    `target` tells what its CPU can do beyond what every CPU can."""

    def __init__(
        self,
        builder: ir.IRBuilder,
        buffers: Sequence[tuple[ir.Value, str]],
        status: ir.Value | None = None,
        target: object = None,
    ):
        self.builder = builder
        self.buffers = list(buffers)
        self.status = status  # int32*, set to 1 by a gather that meets an index out of range
        self.streamed: dict[int, int] = {}  # see `llvm_memory`
        self.has_avx512 = getattr(target, "vector_bits", 0) == 512
        self.at({}, None, 1)

    def at(
        self, values: Mapping[LoopVariable, ir.Value], vector: LoopVariable | None, width: int
    ) -> None:
        """Move to a point of the loop nest: `values` are the loop variables (i64), that of
        `vector` for the first of `width` lanes along it."""
        self.values, self.vector, self.width = dict(values), vector, width

    # --- plumbing ---

    def dtype(self, x: ir.Value) -> str:
        return dtype_of(x)

    def constant(self, dtype: str, value: bool | int | float) -> ir.Value:
        return literal(REGISTER[dtype], value)

    def splat(self, x: ir.Value, lanes: int) -> ir.Value:
        """x in every lane; a vector of that many lanes is returned as it is."""
        if lanes_of(x) == lanes:
            return x
        if isinstance(x, Literal):
            return x.splat(lanes)
        undefined = poison(widen(x.type, lanes))
        first = self.builder.insert_element(undefined, x, ir.Constant(i32, 0))
        zeros = ir.Constant(ir.VectorType(i32, lanes), None)
        return self.builder.shuffle_vector(first, undefined, zeros, name="splat")

    def _together(self, *operands: ir.Value) -> list[ir.Value]:
        """The operands with scalars splat to the widest."""
        lanes = max(map(lanes_of, operands))
        return [self.splat(operand, lanes) for operand in operands]

    def _intrinsic(
        self,
        name: str,
        *operands: ir.Value,
        flags: Sequence[ir.Value] = (),
        fastmath: Sequence[str] = (),
    ) -> ir.Value:
        """Call `llvm.<name>` overloaded on the operands' type; `flags` are plain i1 operands."""
        kind = operands[0].type
        suffix = f"v{lanes_of(operands[0])}" if lanes_of(operands[0]) > 1 else ""
        letter = {"float": "f32", "double": "f64"}.get(
            str(element_type(operands[0])), str(element_type(operands[0]))
        )
        full_name = f"llvm.{name}.{suffix}{letter}"
        return call_intrinsic(self.builder, full_name, kind, (*operands, *flags), fastmath)

    def _is_float(self, x: ir.Value) -> bool:
        return dtype_of(x) in FLOATING

    # --- arithmetic ---

    def add(self, a: ir.Value, b: ir.Value) -> ir.Value:
        a, b = self._together(a, b)
        return self.builder.fadd(a, b) if self._is_float(a) else self.builder.add(a, b)

    def sub(self, a: ir.Value, b: ir.Value) -> ir.Value:
        a, b = self._together(a, b)
        return self.builder.fsub(a, b) if self._is_float(a) else self.builder.sub(a, b)

    def mul(self, a: ir.Value, b: ir.Value) -> ir.Value:
        a, b = self._together(a, b)
        return self.builder.fmul(a, b) if self._is_float(a) else self.builder.mul(a, b)

    def neg(self, a: ir.Value) -> ir.Value:
        return self.builder.fneg(a) if self._is_float(a) else self.builder.neg(a)

    def abs(self, a: ir.Value) -> ir.Value:
        if self._is_float(a):
            return self._intrinsic("fabs", a)
        # The flag says that the least integer wraps rather than being undefined.
        return self._intrinsic("abs", a, flags=[literal(ir.IntType(1), False)])

    def div(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.fdiv(*self._together(a, b))

    def fma(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        return self._intrinsic("fma", *self._together(a, b, c))

    def sqrt(self, a: ir.Value) -> ir.Value:
        return self._intrinsic("sqrt", a)

    def floor(self, a: ir.Value) -> ir.Value:
        return self._intrinsic("floor", a)

    def ceil(self, a: ir.Value) -> ir.Value:
        return self._intrinsic("ceil", a)

    def trunc(self, a: ir.Value) -> ir.Value:
        return self._intrinsic("trunc", a)

    def round(self, a: ir.Value) -> ir.Value:
        return self._intrinsic("roundeven", a)

    def copysign(self, magnitude: ir.Value, sign: ir.Value) -> ir.Value:
        return self._intrinsic("copysign", *self._together(magnitude, sign))

    def minimum(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self._extremum(a, b, "<", "minimum", "smin")

    def maximum(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self._extremum(a, b, ">", "maximum", "smax")

    def _extremum(
        self, a: ir.Value, b: ir.Value, order: str, float_name: str, int_name: str
    ) -> ir.Value:
        if isinstance(a, Literal):
            a, b = b, a
        a, b_wide = self._together(a, b)
        if not self._is_float(a):
            return self._intrinsic(int_name, a, b_wide)
        if isinstance(b, Literal) and not b.is_nan:
            # Against a number one unordered compare keeps a NaN in `a`: a single max instruction,
            # where llvm.maximum needs three.
            keep = self.builder.fcmp_unordered(order, a, b_wide)
            return self.builder.select(keep, a, b_wide)
        # NumPy does not say which of two zeros is the larger; telling them apart doubles the work.
        return self._intrinsic(float_name, a, b_wide, fastmath=("nsz",))

    # --- comparisons ---

    def _compare(self, order: str, a: ir.Value, b: ir.Value) -> ir.Value:
        a, b = self._together(a, b)
        if self._is_float(a):
            if order == "!=":  # the one comparison that holds for NaN
                return self.builder.fcmp_unordered(order, a, b)
            return self.builder.fcmp_ordered(order, a, b)
        if dtype_of(a) == "bool":
            return self.builder.icmp_unsigned(order, a, b)
        return self.builder.icmp_signed(order, a, b)

    def lt(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self._compare("<", a, b)

    def le(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self._compare("<=", a, b)

    def gt(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self._compare(">", a, b)

    def ge(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self._compare(">=", a, b)

    def eq(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self._compare("==", a, b)

    def ne(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self._compare("!=", a, b)

    def where(self, condition: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.select(*self._together(condition, a, b))

    def any_lane(self, condition: ir.Value) -> ir.Value:
        """An i1: whether the condition holds in some lane."""
        if lanes_of(condition) == 1:
            return condition
        name = f"llvm.vector.reduce.or.v{lanes_of(condition)}i1"
        return call_intrinsic(self.builder, name, ir.IntType(1), [condition])

    def rare(
        self, condition: ir.Value, usual: ir.Value, compute: Callable[[], ir.Value]
    ) -> ir.Value:
        """`usual`, but `compute()` in the lanes where the condition holds: behind a branch, so
        that it costs a test and a jump where no lane needs it."""
        before = self.builder.block
        with self.builder.if_then(self.any_lane(condition), likely=False):
            condition_wide, usual_wide, special = self._together(condition, usual, compute())
            mended = self.builder.select(condition_wide, special, usual_wide)
            inside = self.builder.block
        result = self.builder.phi(mended.type)
        # Splat before the branch, where the phi's other edge comes from.
        with self.builder.goto_block(before):
            usual = self.splat(usual, lanes_of(mended))
        result.add_incoming(usual, before)
        result.add_incoming(mended, inside)
        return result

    # --- bools and integers ---

    def logical_and(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.and_(*self._together(a, b))

    def logical_or(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.or_(*self._together(a, b))

    def logical_xor(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.xor(*self._together(a, b))

    def logical_not(self, a: ir.Value) -> ir.Value:
        return self.builder.xor(*self._together(a, literal(ir.IntType(1), True)))

    bit_and, bit_or, bit_xor = logical_and, logical_or, logical_xor

    def int_div(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.sdiv(*self._together(a, b))

    def int_rem(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.srem(*self._together(a, b))

    def shift_left(self, a: ir.Value, bits: int) -> ir.Value:
        return self.builder.shl(*self._together(a, literal(element_type(a), bits)))

    def shift_right(self, a: ir.Value, bits: int) -> ir.Value:
        return self.builder.ashr(*self._together(a, literal(element_type(a), bits)))

    def shift_right_logical(self, a: ir.Value, bits: int) -> ir.Value:
        return self.builder.lshr(*self._together(a, literal(element_type(a), bits)))

    # --- conversions ---

    def bitcast(self, a: ir.Value, dtype: str) -> ir.Value:
        return self.builder.bitcast(a, widen(REGISTER[dtype], lanes_of(a)))

    def convert(self, a: ir.Value, dtype: str) -> ir.Value:
        source = dtype_of(a)
        if source == dtype:
            return a
        if dtype == "bool":
            return self.ne(a, self.constant(source, 0))
        target = widen(REGISTER[dtype], lanes_of(a))
        builder = self.builder
        if source == "bool":
            return builder.uitofp(a, target) if dtype in FLOATING else builder.zext(a, target)
        if source in FLOATING and dtype in FLOATING:
            return builder.fpext(a, target) if dtype == "float64" else builder.fptrunc(a, target)
        if source in FLOATING:
            return builder.fptosi(a, target)
        if dtype in FLOATING:
            return builder.sitofp(a, target)
        return builder.sext(a, target) if dtype == "int64" else builder.trunc(a, target)
