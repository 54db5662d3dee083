"""Extents of axes, in a normal form in which equality is identity of meaning.

A `Dim` is a polynomial with integer coefficients over *atoms*: a named extent (`n`, `...`), an integer parameter, or
the floor division of a Dim by a positive constant. Its value is never below 0. This module is a leaf: the IR, the Plan
and the emitters all speak of extents with it, and none of them needs another of them for that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, total_ordering


@dataclass(frozen=True, order=True)
class FloorDiv:
    """The atom `numerator // denominator`, with a positive constant denominator."""

    numerator: Dim
    denominator: int

    def __str__(self) -> str:
        return f"({self.numerator}) // {self.denominator}"


Atom = str | FloorDiv
Monomial = tuple[Atom, ...]  # sorted product of atoms; () is the constant term


@lru_cache(maxsize=1 << 12)
def _atom_key(atom: Atom) -> tuple[int, str]:
    return (0, atom) if isinstance(atom, str) else (1, str(atom))


@total_ordering
@dataclass(frozen=True)
class Dim:
    """An extent in normal form: `terms` maps each monomial to its non-zero coefficient, sorted."""

    terms: tuple[tuple[Monomial, int], ...]

    @staticmethod
    def const(value: int) -> Dim:
        return Dim((((), value),)) if value else Dim(())

    @staticmethod
    def symbol(name: str) -> Dim:
        """A named extent: an axis name, `...` (the packed rest axes), or an integer parameter."""
        return Dim((((name,), 1),))

    @staticmethod
    def _of(terms: Mapping[Monomial, int]) -> Dim:
        kept = [(m, c) for m, c in terms.items() if c]
        if len(kept) > 1:
            kept.sort(key=lambda item: (-len(item[0]), [_atom_key(a) for a in item[0]]))
        return Dim(tuple(kept))

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Dim) and self.terms == other.terms)

    def __add__(self, other: Dim | int) -> Dim:
        return _sum(self.terms, _dim(other).terms)

    def __neg__(self) -> Dim:
        return Dim(tuple((m, -c) for m, c in self.terms))

    def __sub__(self, other: Dim | int) -> Dim:
        return self + (-_dim(other))

    def __mul__(self, other: Dim | int) -> Dim:
        return _product(self.terms, _dim(other).terms)

    def __floordiv__(self, denominator: int) -> Dim:
        if denominator <= 0:
            raise ValueError("an extent is divided by a positive constant only")
        # (d*a + r) // d is a + r // d exactly, and (n // a + r) // d is (n + r*a) // (a*d).
        whole = Dim._of({m: c // denominator for m, c in self.terms if not m or c % denominator == 0})
        rest = self - whole * denominator
        if not any(m for m, _ in rest.terms):
            return whole
        floors = [(m[0], c) for m, c in rest.terms if m]
        if len(floors) == 1 and floors[0][1] == 1:
            (atom, _), monomial = floors[0], next(m for m, _ in rest.terms if m)
            if isinstance(atom, FloorDiv) and len(monomial) == 1:
                constant = next((c for m, c in rest.terms if not m), 0)
                return whole + (atom.numerator + constant * atom.denominator) // (atom.denominator * denominator)
        return whole + Dim((((FloorDiv(rest, denominator),), 1),))

    def __lt__(self, other: Dim) -> bool:
        return str(self) < str(other)

    @property
    def constant(self) -> int | None:
        """The value if it is known now, else None; never below 0, as an extent."""
        number = self.number
        return None if number is None else max(0, number)

    @property
    def number(self) -> int | None:
        """The value of the polynomial, which may be negative, if it is known now, else None."""
        if not self.terms:
            return 0
        return self.terms[0][1] if len(self.terms) == 1 and self.terms[0][0] == () else None

    def symbols(self) -> Iterator[str]:
        """Names that the value depends on, each once, in order of appearance."""
        seen: set[str] = set()
        for monomial, _ in self.terms:
            for atom in monomial:
                names = [atom] if isinstance(atom, str) else list(atom.numerator.symbols())
                for name in names:
                    if name not in seen:
                        seen.add(name)
                        yield name

    def evaluate(self, extents: Mapping[str, int]) -> int:
        """The value for given extents of the symbols; never below 0."""
        return max(0, self._raw(extents))

    def _raw(self, extents: Mapping[str, int]) -> int:
        total = 0
        for monomial, coefficient in self.terms:
            product = coefficient
            for atom in monomial:
                product *= extents[atom] if isinstance(atom, str) else atom.numerator._raw(extents) // atom.denominator
            total += product
        return total

    def __str__(self) -> str:
        parts: list[str] = []
        for monomial, coefficient in self.terms:
            factors = [str(a) for a in monomial]
            size = abs(coefficient)
            body = "*".join(([str(size)] if size != 1 or not factors else []) + factors)
            sign = "-" if coefficient < 0 else "+"
            parts.append((f" {sign} " if parts else ("-" if sign == "-" else "")) + body)
        return "".join(parts) or "0"

    def __repr__(self) -> str:
        return f"Dim({self})"


_Terms = tuple[tuple[Monomial, int], ...]


@lru_cache(maxsize=1 << 14)
def _sum(a: _Terms, b: _Terms) -> Dim:
    total = dict(a)
    for monomial, coefficient in b:
        total[monomial] = total.get(monomial, 0) + coefficient
    return Dim._of(total)


@lru_cache(maxsize=1 << 14)
def _product(a: _Terms, b: _Terms) -> Dim:
    total: dict[Monomial, int] = {}
    for m1, c1 in a:
        for m2, c2 in b:
            monomial = tuple(sorted(m1 + m2, key=_atom_key)) if m1 and m2 else m1 or m2
            total[monomial] = total.get(monomial, 0) + c1 * c2
    return Dim._of(total)


def _dim(value: Dim | int) -> Dim:
    return Dim.const(value) if isinstance(value, int) else value


def parse_dim(text: str) -> Dim:
    """Read a Dim back from its own text (`str(dim)`); raises ValueError for anything else."""
    parser = _DimParser(text)
    value = parser.sum()
    if parser.rest():
        raise ValueError(f"not an extent: {text!r}")
    return value


class _DimParser:
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def rest(self) -> str:
        while self.at < len(self.text) and self.text[self.at] == " ":
            self.at += 1
        return self.text[self.at :]

    def take(self, token: str) -> bool:
        if self.rest().startswith(token) and not (token == "*" and self.rest().startswith("**")):
            self.at += len(token)
            return True
        return False

    def sum(self) -> Dim:
        value = -self.product() if self.take("-") else self.product()
        while True:
            if self.take("+"):
                value = value + self.product()
            elif self.take("-"):
                value = value - self.product()
            else:
                return value

    def product(self) -> Dim:
        value = self.atom()
        while self.take("*"):
            value = value * self.atom()
        return value

    def atom(self) -> Dim:
        if self.take("("):
            inner = self.sum()
            if not self.take(")") or not self.take("//"):
                raise ValueError(f"not an extent: {self.text!r}")
            return inner // self.number()
        if self.take("..."):
            return Dim.symbol("...")
        rest = self.rest()
        size = 0
        while size < len(rest) and (rest[size].isalnum() or rest[size] == "_"):
            size += 1
        if size == 0:
            raise ValueError(f"not an extent: {self.text!r}")
        self.at += size
        word = rest[:size]
        return Dim.const(int(word)) if word.isdigit() else Dim.symbol(word)

    def number(self) -> int:
        rest = self.rest()
        size = len(rest) - len(rest.lstrip("0123456789"))
        self.at += size
        return int(rest[:size])
