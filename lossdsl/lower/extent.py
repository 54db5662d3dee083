"""Affine positions, their ranges, and the one fixed order in which symbolic extents are compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from lossdsl.dim import Dim
from lossdsl.ir.nodes import INT, Apply, Const, Index, Program, Scalar, Size
from lossdsl.ir.rewrite import free_indices

Weight = tuple[int, int, int]  # other symbols, class or feature symbols, constant factor: compared in this order

_OTHER, _FEATURE = 1024, 64  # stand-ins for symbols where sizes must be added up (never compared with each other)


@dataclass(frozen=True)
class Form:
    """sum of coefficient * index, plus an offset in extents, plus terms that are not affine ("data")."""

    axes: tuple[tuple[Index, int], ...]
    offset: Dim
    data: tuple[Scalar, ...]

    @property
    def plain(self) -> Index | None:
        """The index, if the form is nothing but one index."""
        if len(self.axes) == 1 and self.axes[0][1] == 1 and not self.offset.terms and not self.data:
            return self.axes[0][0]
        return None


@lru_cache(maxsize=65536)
def form(node: Scalar) -> Form:
    """The affine form of an INT expression."""
    axes: dict[Index, int] = {}
    data: list[Scalar] = []
    offset = Dim(())

    def walk(n: Scalar, sign: int) -> None:
        nonlocal offset
        if isinstance(n, Index):
            axes[n] = axes.get(n, 0) + sign
        elif isinstance(n, Const) and isinstance(n.value, Fraction):
            offset = offset + Dim.const(int(n.value)) * sign
        elif isinstance(n, Size) and _exact(n.dim):
            offset = offset + n.dim * sign
        elif isinstance(n, Apply) and n.dtype is INT and n.name in ("add", "sub"):
            walk(n.args[0], sign)
            walk(n.args[1], -sign if n.name == "sub" else sign)
        elif isinstance(n, Apply) and n.dtype is INT and n.name == "neg":
            walk(n.args[0], -sign)
        elif isinstance(n, Apply) and n.dtype is INT and n.name == "mul" and _whole(n.args[0]) is not None:
            walk(n.args[1], sign * (_whole(n.args[0]) or 0))
        elif isinstance(n, Apply) and n.dtype is INT and n.name == "mul" and _whole(n.args[1]) is not None:
            walk(n.args[0], sign * (_whole(n.args[1]) or 0))
        else:
            data.append(n if sign == 1 else Apply("mul", (Const(sign, INT), n)))

    walk(node, 1)
    return Form(tuple((a, c) for a, c in axes.items() if c), offset, tuple(data))


def _exact(dim: Dim) -> bool:
    """The polynomial is the extent: its floor at 0 changes nothing."""
    return all(c >= 0 for _, c in dim.terms)


def _whole(node: Scalar) -> int | None:
    return int(node.value) if isinstance(node, Const) and isinstance(node.value, Fraction) else None


@lru_cache(maxsize=65536)
def in_range(node: Scalar, dim: Dim) -> bool:
    """True if `0 <= node < dim` follows from the ranges of the indices in it (all of which have a value)."""
    f = form(node)
    if f.data:
        return False
    low, high = f.offset, f.offset
    for index, c in f.axes:
        if c > 0:
            high = high + (index.dim - 1) * c
        else:
            low = low + (index.dim - 1) * c
    present = {index.dim for index, _ in f.axes}
    return _at_least_zero(low, present) and _at_least_zero(dim - 1 - high, present)


def _at_least_zero(bound: Dim, present: set[Dim]) -> bool:
    """No coefficient is negative, once the extents of axes that have a value are written as 1 + something."""
    names = {str(d) for d in present if d == Dim.symbol(str(d))}
    total = Dim(())
    for monomial, c in bound.terms:
        product = Dim.const(c) if c >= 0 else -Dim.const(-c)
        for atom in monomial:
            one = Dim((((atom,), 1),))
            product = product * (one + 1 if isinstance(atom, str) and atom in names else one)
        total = total + product
    return all(c >= 0 for _, c in total.terms)


@dataclass(frozen=True)
class Sizes:
    """The fixed order: constant < class or feature axis < any other."""

    features: frozenset[str]

    def weight(self, dims: Iterable[Dim]) -> Weight:
        other, feature, constant = 0, 0, 1
        for dim in dims:
            symbols, factor = leading(dim)
            constant *= max(1, factor)
            for s in symbols:
                if s in self.features:
                    feature += 1
                else:
                    other += 1
        return (other, feature, constant)

    def rough(self, dims: Iterable[Dim]) -> int:
        """A number for sums of sizes in heuristics; only its order of magnitude is used."""
        other, feature, constant = self.weight(dims)
        return int(_OTHER**other * _FEATURE**feature * constant)


def leading(dim: Dim) -> tuple[tuple[str, ...], int]:
    """The symbols of the monomial of highest degree, and its coefficient (a constant has no symbols)."""
    if not dim.terms:
        return (), 0
    monomial, c = dim.terms[0]
    return tuple(str(a) for a in monomial), abs(c)


def symbols(dims: Iterable[Dim]) -> Counter[str]:
    """The growth of an array of these extents: how often each symbol is a factor of its size."""
    return Counter(s for dim in dims for s in leading(dim)[0])


def sizes(program: Program) -> Sizes:
    """Class and feature extents: those of `class of`, of `over` positions, and those that never lead an input."""
    found: set[str] = set()
    leads: set[str] = set()
    every: set[str] = set()
    for i in program.inputs:
        if i.classes is not None:
            found.update(i.classes.symbols())
        for p in i.over:
            found.update(i.dims[p].symbols())
        if i.dims:
            leads.update(i.dims[0].symbols())
        for d in i.dims:
            every.update(d.symbols())
    for definition in program.definitions():
        if definition.head != "map" and definition.formals:
            found.update(s for b in definition.bound for s in b.dim.symbols())
    return Sizes(frozenset(s for s in found if s != "..." and (s not in leads or _only_class(program, s))))


def _only_class(program: Program, symbol: str) -> bool:
    """A class extent stays one although some input is led by it (one weight for each class)."""
    return any(i.classes is not None and symbol in i.classes.symbols() for i in program.inputs)


def index(name: str, dim: Dim) -> Index:
    """The index variable of a name and an extent."""
    made = Index(name, dim)
    assert isinstance(made, Index)
    return made


def axes_of(*nodes: Scalar) -> frozenset[str]:
    """Names of the index variables that expressions depend on."""
    return frozenset(i.name for i in free_indices(*nodes))
