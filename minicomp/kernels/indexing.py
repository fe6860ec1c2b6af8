"""Symbolic index arithmetic: where in a buffer an element lies, in terms of the loop variables.

In: shapes and loop variables. Out: `Index` values such as `o0*1000 + i0`, from which the back
ends read everything they need to know about an access: the coefficient of the vector loop is 1
for a contiguous load, 0 for a broadcast, anything else for a gather.

>>> i, j = LoopVariable("i", 8), LoopVariable("j", 16)
>>> flat = ravel((Index.of(i), Index.of(j)), (8, 16))
>>> str(flat)
'16*i + j'
>>> [str(x) for x in unravel(flat, (4, 2, 16))]
['i // 2', 'i % 2', 'j']

A reshape is `unravel(ravel(index, shape), new_shape)`. The division and remainder rules below
make most of them vanish, which is why reshapes cost nothing in a fused kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import gcd
from typing import Any


@dataclass(frozen=True)
class LoopVariable:
    """One loop: it counts 0, 1, ..., extent - 1."""

    name: str
    extent: int

    def __str__(self) -> str:
        return self.name

    @property
    def bounds(self) -> tuple[int, int]:
        return 0, max(self.extent - 1, 0)


@dataclass(frozen=True)
class Quotient:
    """floor(numerator / divisor), kept as an atom because no rule could simplify it."""

    numerator: Index
    divisor: int

    def __str__(self) -> str:
        return f"{_parenthesised(self.numerator)} // {self.divisor}"

    @property
    def bounds(self) -> tuple[int, int]:
        low, high = self.numerator.bounds
        return low // self.divisor, high // self.divisor


@dataclass(frozen=True)
class Remainder:
    """numerator mod divisor, in [0, divisor)."""

    numerator: Index
    divisor: int

    def __str__(self) -> str:
        return f"{_parenthesised(self.numerator)} % {self.divisor}"

    @property
    def bounds(self) -> tuple[int, int]:
        return 0, self.divisor - 1


@dataclass(frozen=True)
class Element:
    """An index that is itself data: an entry of an index tensor.

    `scalar` is a `kernels.Scalar` of an integer dtype; the back end wraps negative entries,
    checks the range and clamps (see `codegen`), so that no index can leave its buffer. There is
    no need to where the entry `is_in_range` by the way it is computed: what argmax gives, say.
    """

    scalar: Any
    extent: int
    is_in_range: bool = False

    def __str__(self) -> str:
        return f"[{self.scalar}]"

    @property
    def bounds(self) -> tuple[int, int]:
        return 0, max(self.extent - 1, 0)


Atom = LoopVariable | Quotient | Remainder | Element


@dataclass(frozen=True)
class Index:
    """A sum of atoms times integer coefficients, plus a constant."""

    terms: tuple[tuple[Atom, int], ...] = ()
    constant: int = 0

    @staticmethod
    def of(atom: Atom) -> Index:
        """The atom itself; a loop that runs once is the constant 0."""
        if isinstance(atom, LoopVariable | Element) and atom.extent == 1:
            return Index()
        return Index(((atom, 1),))

    def __add__(self, other: Index | int) -> Index:
        if isinstance(other, int):
            return Index(self.terms, self.constant + other)
        merged: dict[Atom, int] = dict(self.terms)
        for atom, coefficient in other.terms:
            merged[atom] = merged.get(atom, 0) + coefficient
        constant = self.constant + other.constant
        terms = tuple((atom, c) for atom, c in merged.items() if c != 0)
        return _rejoined(Index(_ordered(terms), constant))

    def __mul__(self, factor: int) -> Index:
        if factor == 0:
            return Index()
        return Index(tuple((a, c * factor) for a, c in self.terms), self.constant * factor)

    def __sub__(self, other: Index | int) -> Index:
        return self + other * -1

    def __floordiv__(self, divisor: int) -> Index:
        """floor(self / divisor), split so that the multiples of `divisor` leave the division."""
        whole, rest = self._split(divisor)
        low, high = rest.bounds
        if low // divisor == high // divisor:
            return whole + low // divisor
        unit = rest._unit(divisor)
        if unit > 1:  # (4*i + j) // 8 is i // 2 for 0 <= j < 4
            return whole + rest._split(unit)[0] // (divisor // unit)
        match rest:
            case Index(((Quotient(numerator, before), 1),), 0):  # n // 3 // 3 is n // 9
                return whole + numerator // (before * divisor)
        return whole + Index.of(Quotient(rest, divisor))

    def __mod__(self, divisor: int) -> Index:
        """self mod divisor, in [0, divisor)."""
        _, rest = self._split(divisor)
        low, high = rest.bounds
        if low // divisor == high // divisor:
            return rest - (low // divisor) * divisor
        unit = rest._unit(divisor)
        if unit > 1:  # (4*i + j) % 8 is 4*(i % 2) + j for 0 <= j < 4
            coarse, fine = rest._split(unit)
            return (coarse % (divisor // unit)) * unit + fine
        return Index.of(Remainder(rest, divisor))

    def _split(self, divisor: int) -> tuple[Index, Index]:
        """(whole, rest) with self = whole * divisor + rest and rest as simple as it gets."""
        whole: list[tuple[Atom, int]] = []
        rest: list[tuple[Atom, int]] = []
        for atom, coefficient in self.terms:
            if coefficient % divisor == 0:
                whole.append((atom, coefficient // divisor))
            else:
                rest.append((atom, coefficient))
        quotient, remainder = divmod(self.constant, divisor)
        return Index(tuple(whole), quotient), Index(tuple(rest), remainder)

    def _unit(self, divisor: int) -> int:
        """The largest factor of `divisor` such that what is no multiple of it in self stays
        within [0, factor): the division then sees multiples of the factor alone."""
        for factor in sorted({gcd(c, divisor) for _, c in self.terms}, reverse=True):
            low, high = self._split(factor)[1].bounds
            if low >= 0 and high < factor:
                return factor
        return 1

    @cached_property
    def bounds(self) -> tuple[int, int]:
        """The least and the greatest value over all iterations."""
        low = high = self.constant
        for atom, coefficient in self.terms:
            a, b = (bound * coefficient for bound in atom.bounds)
            low, high = low + min(a, b), high + max(a, b)
        return low, high

    @cached_property
    def atoms(self) -> int:
        """How many atoms there are, those inside divisions counted: what it costs to compute."""
        return sum(
            1 + (atom.numerator.atoms if isinstance(atom, Quotient | Remainder) else 0)
            for atom, _ in self.terms
        )

    def coefficient(self, variable: LoopVariable) -> int | None:
        """How far one step of `variable` moves the index; None where that is not a constant."""
        step = 0
        for atom, coefficient in self.terms:
            if atom == variable:
                step = coefficient
            elif not isinstance(atom, LoopVariable) and variable in variables_of(atom):
                return None
        return step

    @property
    def is_affine(self) -> bool:
        """Whether every atom is a loop variable."""
        return all(isinstance(atom, LoopVariable) for atom, _ in self.terms)

    def substitute(self, replace: Callable[[Atom], Index | None]) -> Index:
        """The index with atoms replaced; inner atoms first, simplified again on the way."""
        result = Index((), self.constant)
        for atom, coefficient in self.terms:
            new = replace(atom)
            if new is None:
                if isinstance(atom, Quotient):
                    new = atom.numerator.substitute(replace) // atom.divisor
                elif isinstance(atom, Remainder):
                    new = atom.numerator.substitute(replace) % atom.divisor
                else:
                    new = Index.of(atom)
            result = result + new * coefficient
        return result

    def __str__(self) -> str:
        parts = []
        for atom, coefficient in self.terms:
            text = str(atom)
            if coefficient != 1:
                inner = text if isinstance(atom, LoopVariable | Element) else f"({text})"
                text = f"{coefficient}*{inner}"
            parts.append(text)
        if self.constant or not parts:
            parts.append(str(self.constant))
        return " + ".join(parts).replace("+ -", "- ")


def variables_of(atom: Atom) -> Iterator[LoopVariable]:
    """The loop variables that an atom depends on."""
    if isinstance(atom, LoopVariable):
        yield atom
    elif isinstance(atom, Element):
        for index in atom.scalar.indices():
            yield from index_variables(index)
    else:
        yield from index_variables(atom.numerator)


def entries_of(index: Index) -> Iterator[Element]:
    """The entries of index tensors in an index, those inside divisions included."""
    for atom, _ in index.terms:
        if isinstance(atom, Element):
            yield atom
        elif isinstance(atom, Quotient | Remainder):
            yield from entries_of(atom.numerator)


def index_variables(index: Index) -> Iterator[LoopVariable]:
    """The loop variables that an index depends on."""
    for atom, _ in index.terms:
        yield from variables_of(atom)


def row_major_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides, in elements, of a contiguous array of this shape."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * max(shape[axis + 1], 1)
    return tuple(strides)


def ravel(indices: Sequence[Index], shape: Sequence[int]) -> Index:
    """The position in row-major order of the element at `indices`."""
    return offset_of(indices, row_major_strides(shape))


def offset_of(indices: Sequence[Index], strides: Sequence[int], start: int = 0) -> Index:
    """start + sum of index times stride, in elements."""
    total = Index((), start)
    for index, stride in zip(indices, strides, strict=True):
        total = total + index * stride
    return total


def unravel(flat: Index, shape: Sequence[int]) -> tuple[Index, ...]:
    """The indices, one per axis of `shape`, of the element at row-major position `flat`."""
    indices = []
    for axis, stride in enumerate(row_major_strides(shape)):
        position = flat // stride
        # The leading axis needs no remainder: flat is within bounds by construction.
        indices.append(position if axis == 0 else position % max(shape[axis], 1))
    return tuple(indices)


def _rejoined(index: Index) -> Index:
    """n // d * d + n % d is n: what a reshape to another shape and back leaves behind."""
    for atom, coefficient in index.terms:
        if isinstance(atom, Remainder):
            whole = atom.numerator // atom.divisor * (coefficient * atom.divisor)
            gone = {(atom, coefficient), *whole.terms}
            if whole.terms and gone <= {*index.terms}:
                rest = tuple(term for term in index.terms if term not in gone)
                constant = index.constant - whole.constant
                return Index(rest, constant) + atom.numerator * coefficient
    return index


def _ordered(terms: tuple[tuple[Atom, int], ...]) -> tuple[tuple[Atom, int], ...]:
    """Terms by falling coefficient, so that equal sums are equal values and print alike."""
    return tuple(sorted(terms, key=lambda term: (-abs(term[1]), str(term[0]))))


def _parenthesised(index: Index) -> str:
    text = str(index)
    return f"({text})" if len(index.terms) > 1 or index.constant else text
