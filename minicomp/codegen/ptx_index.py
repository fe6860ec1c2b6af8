"""Symbolic indices in PTX registers: what the threads' numbers make of an `Index`.

In: `Index` values in terms of a launch's own variables (block, thread, slice ...), each bound to
a register. Out: registers with their values, every sum computed once. The constant of an index
never is added: it becomes the immediate offset of the access.

    indices = IndexRegisters(builder)
    indices.bind(LoopVariable("thread", 256), builder.special("tid.x"))
    indices.address(x, 4, Index.of(thread) * 4 + 1024)     # (%rd1, 4096): x + 16*thread, + 4096

Loops are written in terms of the launch by substitution (`Point`), so that the rules of
`kernels.indexing` simplify them: with 256 threads of 4 elements to a row of 1024, `n // 1024` is
the block's number and no division is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from minicomp.codegen.ptx_builder import PTXBuilder
from minicomp.codegen.ptx_types import Register
from minicomp.kernels.indexing import Atom, Index, LoopVariable, Quotient, Remainder

#: What an immediate offset of an access may be, in bytes.
OFFSETS = (-(2**31), 2**31 - 1)


class IndexRegisters:
    """The registers that hold variables, sums and addresses, and what they hold."""

    def __init__(self, builder: PTXBuilder):
        self.builder = builder
        self.variables: dict[LoopVariable, Register] = {}
        self.done: dict[object, Any] = {}  # what has been computed or loaded, by what it is

    def bind(self, variable: LoopVariable, register: Register) -> Index:
        """From now on `register` (u32) holds the variable's value. Gives the variable as index."""
        self.variables[variable] = register
        return Index.of(variable)

    @contextmanager
    def scope(self) -> Iterator[None]:
        """What is computed inside is forgotten after it: inside a loop, or behind a branch."""
        before = dict(self.done)
        yield
        self.done = before

    def address(self, base: Register, itemsize: int, index: Index) -> tuple[Register, int]:
        """(register, bytes): the element at `index` of a buffer lies that far behind it."""
        offset = index.constant * itemsize
        if not OFFSETS[0] <= offset <= OFFSETS[1]:
            return self._address(base, itemsize, index), 0
        return self._address(base, itemsize, Index(index.terms)), offset

    def value(self, index: Index) -> Register:
        """The index as a signed integer: of 32 bits where it fits, else of 64."""
        kind = "s32" if _fits(index) else "s64"
        return self._sum(index, kind)

    def less(self, index: Index, limit: int) -> Register | None:
        """Whether the index is below the limit; None if that is sure."""
        if index.bounds[1] < limit:
            return None
        return self.builder.setp("lt", self.value(index), limit)

    def _address(self, base: Register, itemsize: int, index: Index) -> Register:
        if not index.terms and not index.constant:
            return base
        key = ("address", base, itemsize, index)
        if key not in self.done:
            value = self.value(index)
            if value.bits == 32:
                self.done[key] = self.builder.mad_wide(value, itemsize, base.as_type("s64"))
            else:
                self.done[key] = self.builder.mad(value, itemsize, base.as_type("s64"))
        return self.done[key]

    def _sum(self, index: Index, kind: str) -> Register:
        """The sum of the terms, the largest steps first, so that sums share their beginnings."""
        key = (kind, index)
        if key in self.done:
            return self.done[key]
        if index.constant:
            result = self.builder.add(self._sum(Index(index.terms), kind), index.constant)
        elif not index.terms:
            result = self.builder.mov(0, kind)
        else:
            *rest, (atom, coefficient) = index.terms
            value = self._atom(atom, kind)
            if not rest:
                result = self.builder.mul(value, coefficient) if coefficient != 1 else value
            elif coefficient == 1:
                result = self.builder.add(value, self._sum(Index(tuple(rest)), kind))
            else:
                result = self.builder.mad(value, coefficient, self._sum(Index(tuple(rest)), kind))
        self.done[key] = result
        return result

    def _atom(self, atom: Atom, kind: str) -> Register:
        if isinstance(atom, LoopVariable):
            return self._widened(self.variables[atom], kind)
        assert isinstance(atom, Quotient | Remainder), "entries of index tensors are variables here"
        key = (kind, atom)
        if key not in self.done:
            self.done[key] = self._divided(atom, kind)
        return self.done[key]

    def _divided(self, atom: Quotient | Remainder, kind: str) -> Register:
        """A division by a constant, unsigned: the assembler makes a multiplication of it."""
        # For a numerator that may be negative a multiple of the divisor is added.
        low = atom.numerator.bounds[0]
        lift = -(low // atom.divisor) if low < 0 else 0
        numerator = self.value(atom.numerator + lift * atom.divisor)
        unsigned = numerator.as_type(f"u{numerator.bits}")
        if isinstance(atom, Remainder):
            return self._widened(self.builder.rem(unsigned, atom.divisor), kind)
        quotient = self._widened(self.builder.div(unsigned, atom.divisor), kind)
        return self.builder.sub(quotient, lift) if lift else quotient

    def _widened(self, register: Register, kind: str) -> Register:
        """A register of non-negative values as one of `kind`."""
        if register.bits == int(kind[1:]):
            return register.as_type(kind)
        unsigned = register.as_type(f"u{register.bits}")
        key = (kind, unsigned)
        if key not in self.done:
            self.done[key] = self.builder.cvt(unsigned, f"u{kind[1:]}").as_type(kind)
        return self.done[key]


def _fits(index: Index) -> bool:
    """Whether 32 bits hold the index. Sums on the way to it may wrap and come back."""
    low, high = index.bounds
    return low >= -(2**31) and high < 2**31
