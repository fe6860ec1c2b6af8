"""The emitter protocol in PTX, on the lanes of a thread.

In: a PTXBuilder, the kernel's buffers, and a point of the loop nest. Out: instructions, through
one method per operation of `codegen.emitter.Arithmetic`, one instruction per lane;
`ElementaryFunctions` adds exp, tanh and the rest, of which `ptx_math` has some by hardware
approximations. A handle is a `ptx_lanes.Lanes`.

    emitter = PTXEmitter(builder, indices, buffers)
    here = emitter.at(Point({column: thread * 4}, vector=column, width=4))
    x = here.load(0, Index.of(column))                   # ld.global.nc.v4.f32
    here.store(1, Index.of(column), here.exp(x))         # four lanes, then one st.global.v4.f32
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy

from minicomp.codegen.math import ElementaryFunctions
from minicomp.codegen.ptx_builder import PTXBuilder
from minicomp.codegen.ptx_index import IndexRegisters
from minicomp.codegen.ptx_lanes import COMPUTED, Lanes, rounded_literal, width_of
from minicomp.codegen.ptx_math import ApproximateFunctions
from minicomp.codegen.ptx_memory import GlobalBuffer, Memory, Point
from minicomp.codegen.ptx_packing import narrow, widen_bfloat16, widen_float16
from minicomp.codegen.ptx_types import REGISTER, Operand, Register, bits_of, text_of

FLOATING = ("float32", "float64")


class PTXEmitter(Memory, ApproximateFunctions, ElementaryFunctions):
    """See the module's docstring. `status` is the address of the status word, if there is one."""

    def __init__(
        self,
        builder: PTXBuilder,
        indices: IndexRegisters,
        buffers: Sequence[GlobalBuffer],
        status: Register | None = None,
    ):
        self.builder, self.indices, self.buffers = builder, indices, buffers
        self.status = status
        self.point, self.visitor, self.elements = Point({}), None, {}

    def at(self, point: Point) -> PTXEmitter:
        """An emitter that loads and stores at another point."""
        moved = copy(self)
        moved.point, moved.visitor, moved.elements = point, None, {}
        return moved

    # --- plumbing ---

    def dtype(self, x: Lanes) -> str:
        return x.dtype

    def constant(self, dtype: str, value: bool | int | float) -> Lanes:
        return Lanes.of_dtype(dtype, (rounded_literal(value, dtype),))

    def _each(self, function: Callable[..., Operand], dtype: str, *operands: Lanes) -> Lanes:
        """`function` of the operands in each lane."""
        lanes = range(width_of(*operands))
        return Lanes(dtype, tuple(function(*(x.lane(lane) for x in operands)) for lane in lanes))

    def _instruction(self, opcode: str, a: Lanes, *others: Lanes) -> Lanes:
        """An instruction on operands and a result of one type, which ends its opcode."""
        kind = REGISTER[a.dtype]

        def emit(*operands: Operand) -> Register:
            texts = [text_of(operand, kind) for operand in operands]
            return self.builder.instruction(f"{opcode}.{kind}", kind, *texts)

        return self._each(emit, a.dtype, a, *others)

    def _rounded(self, opcode: str, a: Lanes, *others: Lanes) -> Lanes:
        """The same; floats are rounded to nearest."""
        return self._instruction(f"{opcode}.rn" if a.dtype in FLOATING else opcode, a, *others)

    # --- arithmetic ---

    def add(self, a: Lanes, b: Lanes) -> Lanes:
        return self._rounded("add", a, b)

    def sub(self, a: Lanes, b: Lanes) -> Lanes:
        return self._rounded("sub", a, b)

    def mul(self, a: Lanes, b: Lanes) -> Lanes:
        return self._instruction("mul.rn" if a.dtype in FLOATING else "mul.lo", a, b)

    def neg(self, a: Lanes) -> Lanes:
        return self._instruction("neg", a)

    def abs(self, a: Lanes) -> Lanes:
        return self._instruction("abs", a)

    def div(self, a: Lanes, b: Lanes) -> Lanes:
        return self._instruction("div.rn", a, b)

    def fma(self, a: Lanes, b: Lanes, c: Lanes) -> Lanes:
        return self._instruction("fma.rn", a, b, c)

    def sqrt(self, a: Lanes) -> Lanes:
        return self._instruction("sqrt.rn", a)

    def _integral(self, rounding: str, a: Lanes) -> Lanes:
        return self._instruction(f"cvt.{rounding}.{REGISTER[a.dtype]}", a)

    def floor(self, a: Lanes) -> Lanes:
        return self._integral("rmi", a)

    def ceil(self, a: Lanes) -> Lanes:
        return self._integral("rpi", a)

    def trunc(self, a: Lanes) -> Lanes:
        return self._integral("rzi", a)

    def round(self, a: Lanes) -> Lanes:
        return self._integral("rni", a)

    def copysign(self, magnitude: Lanes, sign: Lanes) -> Lanes:
        return self._instruction("copysign", sign, magnitude)

    def minimum(self, a: Lanes, b: Lanes) -> Lanes:
        return self.logical_and(a, b) if a.dtype == "bool" else self._extremum("min", a, b)

    def maximum(self, a: Lanes, b: Lanes) -> Lanes:
        return self.logical_or(a, b) if a.dtype == "bool" else self._extremum("max", a, b)

    def _extremum(self, opcode: str, a: Lanes, b: Lanes) -> Lanes:
        if a.dtype == "float32":
            return self._instruction(f"{opcode}.NaN", a, b)
        plain = self._instruction(opcode, a, b)
        if a.dtype != "float64":
            return plain
        # The instruction for float64 takes the number of a number and a NaN; a sum is NaN.
        return self.where(self._compare("nan", a, b), self.add(a, b), plain)

    def at_most(self, x: Lanes, limit: float) -> Lanes:
        return self.minimum(x, self.like(x, limit))

    def at_least(self, x: Lanes, limit: float) -> Lanes:
        return self.maximum(x, self.like(x, limit))

    # --- comparisons ---

    def _compare(self, comparison: str, a: Lanes, b: Lanes) -> Lanes:
        kind = REGISTER[a.dtype]

        def compare(x: Operand, y: Operand) -> Register:
            texts = text_of(x, kind), text_of(y, kind)
            return self.builder.instruction(f"setp.{comparison}.{kind}", "pred", *texts)

        return self._each(compare, "bool", a, b)

    def lt(self, a: Lanes, b: Lanes) -> Lanes:
        if a.dtype == "bool":
            return self.logical_and(self.logical_not(a), b)
        return self._compare("lt", a, b)

    def le(self, a: Lanes, b: Lanes) -> Lanes:
        if a.dtype == "bool":
            return self.logical_or(self.logical_not(a), b)
        return self._compare("le", a, b)

    def gt(self, a: Lanes, b: Lanes) -> Lanes:
        return self.lt(b, a)

    def ge(self, a: Lanes, b: Lanes) -> Lanes:
        return self.le(b, a)

    def eq(self, a: Lanes, b: Lanes) -> Lanes:
        if a.dtype == "bool":
            return self.logical_not(self.logical_xor(a, b))
        return self._compare("eq", a, b)

    def ne(self, a: Lanes, b: Lanes) -> Lanes:
        if a.dtype == "bool":
            return self.logical_xor(a, b)
        return self._compare("neu" if a.dtype in FLOATING else "ne", a, b)

    def where(self, condition: Lanes, a: Lanes, b: Lanes) -> Lanes:
        if a.dtype == "bool":
            chosen = self.logical_and(condition, a)
            return self.logical_or(chosen, self.logical_and(self.logical_not(condition), b))
        kind = REGISTER[a.dtype]
        opcode = f"selp.{kind if kind in ('f32', 'f64') else f'b{bits_of(kind)}'}"

        def select(p: Operand, x: Operand, y: Operand) -> Register:
            texts = text_of(x, kind), text_of(y, kind), str(self._predicate(p))
            return self.builder.instruction(opcode, kind, *texts)

        return self._each(select, a.dtype, condition, a, b)

    def any_lane(self, condition: Lanes) -> Register:
        """A predicate: whether the condition holds in some lane of this thread."""
        first, *others = map(self._predicate, condition.values)
        for other in others:
            first = self.builder.or_(first, other)
        return first

    def rare(self, condition: Lanes, usual: Lanes, compute: Callable[[], Lanes]) -> Lanes:
        """`usual`, but `compute()` in the lanes where the condition holds: behind a branch, so
        that it costs a test and a jump where no lane of the warp needs it."""
        builder, kind = self.builder, REGISTER[usual.dtype]
        width = width_of(condition, usual)
        results = [builder.mov(x, kind) for x in usual.wide(width).values]
        with builder.if_then(self.any_lane(condition)), self.indices.scope():
            special = compute()
            for lane, result in enumerate(results):
                with builder.when(self._predicate(condition.lane(lane))):
                    builder.assign(result, special.lane(lane))
        return Lanes(usual.dtype, tuple(results))

    # --- bools and integers ---

    def _predicate(self, x: Operand) -> Register:
        """A bool as a register; predicates have no literals."""
        if isinstance(x, Register):
            return x
        return self.builder.setp("ne", self.builder.mov(int(x), "u32"), 0)

    def _bitwise(self, opcode: str, *operands: Lanes) -> Lanes:
        dtype = operands[0].dtype
        if dtype == "bool":
            return self._each(
                lambda *x: self.builder.instruction(
                    f"{opcode}.pred", "pred", *(str(self._predicate(p)) for p in x)
                ),
                dtype,
                *operands,
            )
        kind = REGISTER[dtype]
        suffix = f"b{bits_of(kind)}"
        return self._each(
            lambda *x: self.builder.instruction(
                f"{opcode}.{suffix}", kind, *(text_of(operand, kind) for operand in x)
            ),
            dtype,
            *operands,
        )

    def logical_and(self, a: Lanes, b: Lanes) -> Lanes:
        return self._bitwise("and", a, b)

    def logical_or(self, a: Lanes, b: Lanes) -> Lanes:
        return self._bitwise("or", a, b)

    def logical_xor(self, a: Lanes, b: Lanes) -> Lanes:
        return self._bitwise("xor", a, b)

    def logical_not(self, a: Lanes) -> Lanes:
        return self._bitwise("not", a)

    bit_and, bit_or, bit_xor = logical_and, logical_or, logical_xor

    def int_div(self, a: Lanes, b: Lanes) -> Lanes:
        return self._instruction("div", a, b)

    def int_rem(self, a: Lanes, b: Lanes) -> Lanes:
        return self._instruction("rem", a, b)

    def _shift(self, opcode: str, a: Lanes, bits: int) -> Lanes:
        kind = REGISTER[a.dtype]
        return self._each(
            lambda x: self.builder.instruction(opcode, kind, text_of(x, kind), str(bits)),
            a.dtype,
            a,
        )

    def shift_left(self, a: Lanes, bits: int) -> Lanes:
        return self._shift(f"shl.b{bits_of(REGISTER[a.dtype])}", a, bits)

    def shift_right(self, a: Lanes, bits: int) -> Lanes:
        return self._shift(f"shr.{REGISTER[a.dtype]}", a, bits)

    def shift_right_logical(self, a: Lanes, bits: int) -> Lanes:
        return self._shift(f"shr.u{bits_of(REGISTER[a.dtype])}", a, bits)

    # --- conversions ---

    def bitcast(self, a: Lanes, dtype: str) -> Lanes:
        source, target = REGISTER[a.dtype], REGISTER[dtype]

        def move(x: Operand) -> Register:
            register = x if isinstance(x, Register) else self.builder.mov(x, source)
            return self.builder.bitcast(register, target)

        return self._each(move, dtype, a)

    def convert(self, a: Lanes, dtype: str) -> Lanes:
        if a.dtype == dtype:
            return a
        if dtype == "bool":
            return self.ne(a, self.like(a, 0))
        if a.dtype == "bool":
            return self.where(a, self.constant(dtype, 1), self.constant(dtype, 0))
        source, target = REGISTER[a.dtype], REGISTER[dtype]
        opcode = f"cvt{_rounding(a.dtype, dtype)}.{target}.{source}"
        return self._each(
            lambda x: self.builder.instruction(opcode, target, text_of(x, source)), dtype, a
        )

    def cast(self, x: Lanes, dtype: str) -> Lanes:
        """`ElementaryFunctions.cast`; a two-byte float is a float32 that has been rounded."""
        if dtype not in COMPUTED:
            return super().cast(x, dtype)
        if x.dtype == "float64" and dtype == "float16":
            return self._each(self._rounded_to_float16, "float32", x)
        widen, kind = (widen_float16, "f16") if dtype == "float16" else (widen_bfloat16, "bf16")
        return self._each(
            lambda value: widen(self.builder, narrow(self.builder, value, kind))[0],
            "float32",
            self.convert(x, "float32"),
        )

    def _rounded_to_float16(self, x: Operand) -> Register:
        """By one rounding: by way of float32 there would be two."""
        half = self.builder.instruction("cvt.rn.f16.f64", "b16", text_of(x, "f64"))
        return widen_float16(self.builder, half)[0]


def _rounding(source: str, target: str) -> str:
    """What a conversion names as its rounding: towards zero to an integer, else to nearest;
    nothing where it is exact."""
    if target not in FLOATING:
        return ".rzi" if source in FLOATING else ""
    return "" if (source, target) == ("float32", "float64") else ".rn"
