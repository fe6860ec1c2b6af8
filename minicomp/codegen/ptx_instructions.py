"""The instructions of PTX as methods, for `ptx_builder.PTXBuilder`.

In: registers and Python numbers. Out: the register that holds the result. The names are those of
the PTX ISA; a suffix that an instruction's meaning needs is an argument or follows from the types.
What is not here is written with `instruction(opcode, result type, operands)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from minicomp.codegen.ptx_types import FLOATING, Operand, Register, bits_of, text_of

ALL_LANES = 0xFFFFFFFF  # the mask of a warp's 32 threads


def _type_of(*operands: Operand) -> str:
    """The type of the first operand that is a register; of literals alone, f32 or s32."""
    literal = "f32" if any(isinstance(x, float) for x in operands) else "s32"
    return next((x.type for x in operands if isinstance(x, Register)), literal)


class Instructions:
    """Mixed into `PTXBuilder`, which turns each call into a line of text."""

    if TYPE_CHECKING:

        def instruction(
            self, opcode: str, result: str | None, *operands: Operand | str, name: str = ""
        ) -> Register: ...
        def register(self, kind: str, name: str = "") -> Register: ...
        def emit(self, text: str) -> None: ...
        def require(self, version: tuple[int, int], target: str = "sm_80") -> None: ...

    # --- arithmetic; for integers the low half, wrapping ---

    def _binary(self, opcode: str, a: Operand, b: Operand, name: str) -> Register:
        kind = _type_of(a, b)
        return self.instruction(f"{opcode}.{kind}", kind, a, b, name=name)

    def _rounded(self, opcode: str, a: Operand, b: Operand, name: str) -> Register:
        kind = _type_of(a, b)
        return self._binary(f"{opcode}.rn" if kind in FLOATING else opcode, a, b, name)

    def add(self, a: Operand, b: Operand, name: str = "") -> Register:
        return self._rounded("add", a, b, name)

    def sub(self, a: Operand, b: Operand, name: str = "") -> Register:
        return self._rounded("sub", a, b, name)

    def mul(self, a: Operand, b: Operand, name: str = "") -> Register:
        return self._binary("mul.rn" if _type_of(a, b) in FLOATING else "mul.lo", a, b, name)

    def div(self, a: Operand, b: Operand, name: str = "") -> Register:
        """Floats: correctly rounded. Integers: towards zero."""
        return self._rounded("div", a, b, name)

    def rem(self, a: Operand, b: Operand, name: str = "") -> Register:
        return self._binary("rem", a, b, name)

    def min(self, a: Operand, b: Operand, name: str = "") -> Register:
        return self._binary("min", a, b, name)

    def max(self, a: Operand, b: Operand, name: str = "") -> Register:
        return self._binary("max", a, b, name)

    def fma(self, a: Operand, b: Operand, c: Operand, name: str = "") -> Register:
        """a * b + c, rounded once."""
        kind = _type_of(a, b, c)
        return self.instruction(f"fma.rn.{kind}", kind, a, b, c, name=name)

    def accumulate(self, total: Register, a: Operand, b: Operand) -> None:
        """total += a * b, in the same register, rounded once; integers wrap."""
        operation = "fma.rn" if total.type in FLOATING else "mad.lo"
        texts = [text_of(x, total.type) for x in (total, a, b, total)]
        self.emit(f"{operation}.{total.type} {', '.join(texts)}")

    def mad(self, a: Operand, b: Operand, c: Operand, name: str = "") -> Register:
        """a * b + c on integers, wrapping."""
        kind = _type_of(a, b, c)
        return self.instruction(f"mad.lo.{kind}", kind, a, b, c, name=name)

    def mad_wide(self, a: Register, b: Operand, c: Operand, name: str = "") -> Register:
        """a * b + c with a of 32 bits and the result of 64: an address from an index."""
        wide = f"{a.type[0]}64"
        texts = [text_of(a, a.type), text_of(b, a.type), text_of(c, wide)]
        return self.instruction(f"mad.wide.{a.type}", wide, *texts, name=name)

    def neg(self, a: Register) -> Register:
        return self.instruction(f"neg.{a.type}", a.type, a)

    def abs(self, a: Register) -> Register:
        return self.instruction(f"abs.{a.type}", a.type, a)

    def sqrt(self, a: Register) -> Register:
        """Correctly rounded."""
        return self.instruction(f"sqrt.rn.{a.type}", a.type, a)

    # --- bits ---

    def _bits(self, opcode: str, a: Operand, b: Operand) -> Register:
        kind = _type_of(a, b)
        suffix = "pred" if kind == "pred" else f"b{bits_of(kind)}"
        return self.instruction(f"{opcode}.{suffix}", kind, a, b)

    def and_(self, a: Operand, b: Operand) -> Register:
        return self._bits("and", a, b)

    def or_(self, a: Operand, b: Operand) -> Register:
        return self._bits("or", a, b)

    def xor(self, a: Operand, b: Operand) -> Register:
        return self._bits("xor", a, b)

    def both(self, a: Register | None, b: Register | None) -> Register | None:
        """A predicate that holds where both do; None holds everywhere."""
        return a or b if a is None or b is None else self.and_(a, b)

    def not_(self, a: Register) -> Register:
        suffix = "pred" if a.type == "pred" else f"b{a.bits}"
        return self.instruction(f"not.{suffix}", a.type, a)

    def shl(self, a: Register, count: Operand) -> Register:
        return self.instruction(f"shl.b{a.bits}", a.type, a, count)

    def shr(self, a: Register, count: Operand) -> Register:
        """Arithmetic for signed types, logical for the others."""
        return self.instruction(f"shr.{a.type}", a.type, a, count)

    # --- comparisons, choices, moves, conversions ---

    def setp(self, comparison: str, a: Operand, b: Operand, name: str = "") -> Register:
        """A predicate: `comparison` is lt, le, gt, ge, eq, ne, or for floats the unordered ltu
        ... neu, which hold where an operand is NaN."""
        kind = _type_of(a, b)
        texts = [text_of(a, kind), text_of(b, kind)]
        return self.instruction(f"setp.{comparison}.{kind}", "pred", *texts, name=name)

    def selp(self, a: Operand, b: Operand, condition: Register) -> Register:
        """a where the condition holds, else b."""
        kind = _type_of(a, b)
        opcode = f"selp.{kind if kind in FLOATING else f'b{bits_of(kind)}'}"
        texts = [text_of(a, kind), text_of(b, kind), str(condition)]
        return self.instruction(opcode, kind, *texts)

    def mov(self, value: Operand | str, kind: str, name: str = "") -> Register:
        """A new register of type `kind` with the value, which may be a symbol's address."""
        return self.instruction(f"mov.{kind}", kind, value, name=name)

    def assign(self, register: Register, value: Operand) -> None:
        """Write `value` to a register that exists."""
        self.emit(f"mov.{register.type} {register}, {text_of(value, register.type)}")

    def special(self, name: str) -> Register:
        """A special register, such as tid.x or ctaid.y, as u32."""
        return self.instruction("mov.u32", "u32", f"%{name}", name=name.replace(".", "_"))

    def cvt(self, a: Register, kind: str, rounding: str = "") -> Register:
        """Numeric conversion; `rounding` is rn, rz, rni, rzi ... where the types ask for one."""
        middle = f".{rounding}" if rounding else ""
        return self.instruction(f"cvt{middle}.{kind}.{a.type}", kind, a)

    def bitcast(self, a: Register, kind: str) -> Register:
        """The same bits as another type of the same width."""
        return self.instruction(f"mov.b{a.bits}", kind, a)

    def split_words(self, a: Register) -> list[Register]:
        """The low and the high 32 bits of a register of 64."""
        words = [self.register("b32"), self.register("b32")]
        self.emit(f"mov.b64 {_braced_always(words)}, {a}")
        return words

    def join_words(self, words: Sequence[Register], kind: str) -> Register:
        """The register of 64 bits that has these low and high 32 bits."""
        return self.instruction("mov.b64", kind, _braced_always(words))

    # --- memory ---

    def load(
        self, space: str, kind: str, address: Register | str, offset: int = 0, *, cache: str = ""
    ) -> Register:
        """One element from `space` ("global", "shared"), `offset` bytes behind the address. An
        8-bit element comes in a register of 16. `cache`: "nc" for memory that nobody writes
        meanwhile, or another cache operator."""
        return self.load_vector(space, kind, 1, address, offset, cache=cache)[0]

    def load_vector(
        self,
        space: str,
        kind: str,
        count: int,
        address: Register | str,
        offset: int = 0,
        *,
        cache: str = "",
    ) -> list[Register]:
        """1, 2 or 4 adjacent elements by one access, whose address is a multiple of its size."""
        register_type = "u16" if bits_of(kind) == 8 else kind
        results = [self.register(register_type) for _ in range(count)]
        self.load_into(results, space, kind, address, offset, cache=cache)
        return results

    def load_into(
        self,
        results: Sequence[Register],
        space: str,
        kind: str,
        address: Register | str,
        offset: int = 0,
        *,
        cache: str = "",
    ) -> None:
        """`load_vector` into registers that exist: under a guard those keep what they held."""
        middle = f".{cache}" if cache else ""
        vector = f".v{len(results)}" if len(results) > 1 else ""
        target = _braced(results)
        self.emit(f"ld.{space}{middle}{vector}.{kind} {target}, {_address(address, offset)}")

    def store(
        self,
        space: str,
        kind: str,
        address: Register | str,
        value: Operand | Sequence[Operand],
        offset: int = 0,
        *,
        cache: str = "",
    ) -> None:
        """One element, or 2 or 4 adjacent ones by one access."""
        values = list(value) if isinstance(value, Sequence) else [value]
        middle = f".{cache}" if cache else ""
        vector = f".v{len(values)}" if len(values) > 1 else ""
        source = _braced([text_of(v, kind) for v in values])
        self.emit(f"st.{space}{middle}{vector}.{kind} {_address(address, offset)}, {source}")

    def cp_async(
        self,
        shared: Register,
        source: Register,
        nbytes: int,
        source_bytes: Operand | None = None,
        *,
        shared_offset: int = 0,
        source_offset: int = 0,
    ) -> None:
        """Copy 4, 8 or 16 bytes from global to shared memory without waiting. Of `source_bytes`
        (default: all) the rest is filled with zeros, and with 0 nothing is read."""
        # 16 bytes go past the first-level cache, which would gain nothing from them.
        level = "cg" if nbytes == 16 else "ca"
        texts = [_address(shared, shared_offset), _address(source, source_offset), str(nbytes)]
        if source_bytes is not None:
            texts.append(text_of(source_bytes, "u32"))
        self.emit(f"cp.async.{level}.shared.global {', '.join(texts)}")

    def cp_async_commit(self) -> None:
        """The copies since the last commit are a group."""
        self.emit("cp.async.commit_group")

    def cp_async_wait(self, pending: int) -> None:
        """Wait until at most `pending` of this thread's latest groups are under way."""
        self.emit(f"cp.async.wait_group {pending}")

    # --- control and the warp ---

    def bra(self, label: str, condition: Register | None = None, *, unless: bool = False) -> None:
        """Jump, if there is a condition where it holds (with `unless`: does not)."""
        guard = "" if condition is None else f"@{'!' if unless else ''}{condition} "
        self.emit(f"{guard}bra {label}")

    def barrier(self) -> None:
        """Wait for all threads of the block; what they wrote to shared memory is seen by all."""
        self.emit("bar.sync 0")

    def shuffle(self, mode: str, value: Register, lane: Operand, clamp: int = 31) -> Register:
        """The value of another lane of the warp. `mode`: "bfly" (own lane xor `lane`), "up", "down"
        or "idx". `value` has 32 bits; all lanes take part."""
        result = value.type if value.type == "f32" else "b32"
        register = self.register(result if result == "f32" else value.type)
        source = text_of(lane, "u32")
        self.emit(f"shfl.sync.{mode}.b32 {register}, {value}, {source}, {clamp}, 0x{ALL_LANES:X}")
        return register

    def vote(self, mode: str, condition: Register) -> Register:
        """ "any" or "all" of the warp's lanes, as a predicate."""
        text = f"vote.sync.{mode}.pred"
        return self.instruction(text, "pred", str(condition), f"0x{ALL_LANES:X}")

    # --- matrices held by a warp ---

    def ldmatrix(
        self, address: Register, count: int, offset: int = 0, *, transposed: bool = False
    ) -> list[Register]:
        """1, 2 or 4 matrices of 8x8 16-bit elements from shared memory, a register of two elements
        each. Lane i gives the address of row i % 8 of matrix i // 8."""
        results = [self.register("b32") for _ in range(count)]
        self.ldmatrix_into(results, address, offset, transposed=transposed)
        return results

    def ldmatrix_into(
        self,
        results: Sequence[Register],
        address: Register,
        offset: int = 0,
        *,
        transposed: bool = False,
    ) -> None:
        """`ldmatrix` into registers that exist."""
        middle = ".trans" if transposed else ""
        self.emit(
            f"ldmatrix.sync.aligned.m8n8.x{len(results)}{middle}.shared.b16 "
            f"{_braced_always(results)}, {_address(address, offset)}"
        )

    def mma(
        self,
        shape: str,
        kind: str,
        a: Sequence[Register],
        b: Sequence[Register],
        total: Sequence[Register],
    ) -> None:
        """total += a @ b on fragments held by the warp, accumulated in float32. `shape` is
        "m16n8k16" or the like, `kind` the operands' "f16", "bf16" or "tf32"."""
        groups = [_braced_always(group) for group in (total, a, b, total)]
        opcode = f"mma.sync.aligned.{shape}.row.col.f32.{kind}.{kind}.f32"
        self.emit(f"{opcode} {', '.join(groups)}")


def _braced(items: Sequence[Register | str]) -> str:
    return str(items[0]) if len(items) == 1 else _braced_always(items)


def _braced_always(items: Sequence[Register | str]) -> str:
    return "{" + ", ".join(map(str, items)) + "}"


def _address(base: Register | str, offset: int) -> str:
    return f"[{base}+{offset}]" if offset else f"[{base}]"
