"""Threads that work together: which they are, and how they hand each other values.

In: values of a thread, of any dtype. Out: those of another: of the same warp from register to
register, of another warp through shared memory.

    Team(threads=256, low=0, high=5)     # eight teams, a warp each
    Team(threads=256, low=5, high=8)     # 32 teams: threads 0, 32, 64 ... are one
    shuffled(builder, x, "float64", "bfly", 1)     # two shfl.sync, of the two halves
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from math import gcd

from minicomp.codegen.ptx_builder import PTXBuilder
from minicomp.codegen.ptx_lanes import Lanes
from minicomp.codegen.ptx_types import REGISTER, Operand, Register, bits_of
from minicomp.ir import ITEMSIZE

WARP_BITS = 5


@dataclass(frozen=True)
class Team:
    """The threads that fold together: those of a block of `threads` of which the numbers differ
    in bits `low` to `high` - 1 alone. There are `threads` / 2**(high - low) such teams."""

    threads: int
    low: int
    high: int

    @property
    def size(self) -> int:
        return 1 << (self.high - self.low)

    @property
    def warps(self) -> int:
        """How many partial results of a team there are once each warp has combined its own."""
        return 1 << max(self.high - max(self.low, WARP_BITS), 0)

    @property
    def keys(self) -> int:
        """How many teams there are."""
        return (1 << self.low) * (self.threads >> self.high)


def exchanged(builder: PTXBuilder, x: Lanes, bit: int) -> Lanes:
    """The component of the thread of which the number differs in `bit`."""
    return Lanes(x.dtype, tuple(shuffled(builder, v, x.dtype, "bfly", 1 << bit) for v in x.values))


def shuffled(
    builder: PTXBuilder, value: Operand, dtype: str, mode: str, lane: int, clamp: int = 31
) -> Register:
    """`value` of another lane of the warp, of any dtype: as one or two words of 32 bits."""
    kind = REGISTER[dtype]
    if dtype == "bool":
        number = builder.selp(1, 0, value) if isinstance(value, Register) else int(value)
        word = builder.mov(number, "s32")
        return builder.setp("ne", builder.shuffle(mode, word, lane, clamp), 0)
    register = value if isinstance(value, Register) else builder.mov(value, kind)
    if bits_of(kind) == 32:
        return builder.shuffle(mode, register, lane, clamp)
    words = builder.split_words(register)
    return builder.join_words([builder.shuffle(mode, w, lane, clamp) for w in words], kind)


def shared_size(dtype: str) -> int:
    """Bytes of a value in shared memory, where a bool has a word."""
    return max(ITEMSIZE[dtype], 4)


def write_shared(
    builder: PTXBuilder,
    address: Register,
    values: Sequence[Operand],
    dtype: str,
    condition: Register | None,
) -> None:
    """Adjacent values, where the condition holds if there is one."""
    kind = REGISTER[dtype]
    if dtype == "bool":
        kind = "u32"
        values = [builder.selp(1, 0, v) if isinstance(v, Register) else int(v) for v in values]
    count, size = _at_once(len(values), dtype), shared_size(dtype)
    for start in range(0, len(values), count):
        with nullcontext() if condition is None else builder.when(condition):
            builder.store("shared", kind, address, values[start : start + count], start * size)


def read_shared(
    builder: PTXBuilder, address: Register, dtype: str, width: int, offset: int
) -> Lanes:
    """Adjacent values."""
    kind = "u32" if dtype == "bool" else REGISTER[dtype]
    count, size = _at_once(width, dtype), shared_size(dtype)
    values: list[Register] = []
    for start in range(0, width, count):
        values += builder.load_vector("shared", kind, count, address, offset + start * size)
    if dtype == "bool":
        values = [builder.setp("ne", value, 0) for value in values]
    return Lanes(dtype, tuple(values))


def _at_once(width: int, dtype: str) -> int:
    """How many of adjacent values one access to shared memory takes: up to 16 bytes."""
    return gcd(width, 16 // shared_size(dtype))
