"""Elements in memory and in registers: two-byte floats, bools, and several to a word.

In: the registers that one access fills. Out: a register per element, as it is computed with; and
back. Two-byte floats are computed as float32, a bool as a predicate.

    bfloat16: ld.v4.b32 {r1, r2, r3, r4}  ->  eight f32: shl r1, 16; and r1, 0xFFFF0000; ...
    bool:     ld.b32 r1                   ->  four predicates: (r1 & 0xFF) != 0, ...
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from minicomp.codegen.ptx_builder import PTXBuilder
from minicomp.codegen.ptx_types import Operand, Register, text_of

_HALVES = {1: ("b16", 1), 2: ("b32", 1), 4: ("b32", 2), 8: ("b32", 4)}

#: dtype -> {elements of one access: (type of a word, words)}
MEMORY_ACCESS: dict[str, dict[int, tuple[str, int]]] = {
    "float32": {1: ("f32", 1), 2: ("f32", 2), 4: ("f32", 4)},
    "int32": {1: ("s32", 1), 2: ("s32", 2), 4: ("s32", 4)},
    "float64": {1: ("f64", 1), 2: ("f64", 2)},
    "int64": {1: ("s64", 1), 2: ("s64", 2)},
    "float16": _HALVES,
    "bfloat16": _HALVES,
    "bool": {1: ("u8", 1), 2: ("u8", 2), 4: ("b32", 1), 8: ("b32", 2), 16: ("b32", 4)},
}


def unpack(
    builder: PTXBuilder, dtype: str, words: Sequence[Register], count: int
) -> Iterator[Register]:
    """The `count` elements in the words of one access."""
    if dtype == "bool":
        yield from _bools(builder, words)
    elif dtype in ("float16", "bfloat16"):
        for word in words:
            halves = widen_float16 if dtype == "float16" else widen_bfloat16
            yield from halves(builder, word)
    else:
        yield from words


def pack(builder: PTXBuilder, dtype: str, values: Sequence[Operand]) -> list[Operand]:
    """The words of one access that stores these elements."""
    if dtype == "bool":
        return _bytes(builder, values)
    if dtype not in ("float16", "bfloat16"):
        return list(values)
    kind = "f16" if dtype == "float16" else "bf16"
    if len(values) == 1:
        return [narrow(builder, values[0], kind)]
    pairs = [(values[n], values[n + 1]) for n in range(0, len(values), 2)]
    # The first operand goes to the upper half.
    return [
        builder.instruction(f"cvt.rn.{kind}x2.f32", "b32", text_of(b, "f32"), text_of(a, "f32"))
        for a, b in pairs
    ]


def narrow(builder: PTXBuilder, value: Operand, kind: str) -> Register:
    """A float32 as "f16" or "bf16", rounded to nearest even."""
    return builder.instruction(f"cvt.rn.{kind}.f32", "b16", text_of(value, "f32"))


def widen_float16(builder: PTXBuilder, word: Register) -> list[Register]:
    """The one or two float16 in a word as float32."""
    halves = [word]
    if word.bits == 32:
        halves = [builder.register("b16"), builder.register("b16")]
        builder.emit(f"mov.b32 {{{halves[0]}, {halves[1]}}}, {word}")
    return [builder.instruction("cvt.f32.f16", "f32", half) for half in halves]


def widen_bfloat16(builder: PTXBuilder, word: Register) -> list[Register]:
    """The one or two bfloat16 in a word as float32, whose upper half they are."""
    if word.bits == 16:
        low = builder.instruction("cvt.u32.u16", "b32", word)
        return [builder.bitcast(builder.shl(low, 16), "f32")]
    upper = builder.and_(word, 0xFFFF0000)
    return [builder.bitcast(builder.shl(word, 16), "f32"), builder.bitcast(upper, "f32")]


def _bools(builder: PTXBuilder, words: Sequence[Register]) -> Iterator[Register]:
    """Any byte but 0 is true: a view of another dtype as bool may hold more than 1."""
    for word in words:
        if word.bits == 16:
            yield builder.setp("ne", word.as_type("u16"), 0)
            continue
        for place in range(4):
            byte = builder.and_(word, 0xFF << (8 * place))
            yield builder.setp("ne", byte.as_type("u32"), 0)


def _bytes(builder: PTXBuilder, values: Sequence[Operand]) -> list[Operand]:
    """Bools as bytes of 0 or 1; four to a word where there are as many."""

    def byte(value: Operand, weight: int, kind: str) -> Register:
        if not isinstance(value, Register):
            return builder.mov(weight * bool(value), kind)
        return builder.instruction(f"selp.{kind}", kind, str(weight), "0", str(value))

    if len(values) < 4:
        return [byte(value, 1, "u16") for value in values]
    words: list[Operand] = []
    for start in range(0, len(values), 4):
        word, *others = (byte(values[start + n], 1 << (8 * n), "b32") for n in range(4))
        for other in others:
            word = builder.or_(word, other)
        words.append(word)
    return words
