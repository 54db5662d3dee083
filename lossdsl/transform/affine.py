"""Affine forms of integer index expressions, and proofs that one stays in its range.

A form is a sum of `coefficient * atom` plus an offset, where coefficients and offset are polynomials in extents (`Dim`
without its floor at 0) and atoms are index variables or opaque integer expressions (a read, a floor division).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from lossdsl.dim import Atom, Dim
from lossdsl.ir.nodes import INT, Apply, Const, Index, Read, Scalar, Size
from lossdsl.transform.arithmetic import add, mul, neg, sub

NOTHING = Dim.const(0)
UNIT = Dim.const(1)


def sign_known(dim: Dim) -> bool:
    """True if the polynomial is at least 0 for all extents, because no coefficient is negative."""
    return all(c >= 0 and all(_atom_known(a) for a in m) for m, c in dim.terms)


def _atom_known(atom: Atom) -> bool:
    return isinstance(atom, str) or sign_known(atom.numerator)


@dataclass
class Affine:
    """sum of coefficient * atom, plus offset."""

    atoms: dict[Scalar, Dim] = field(default_factory=dict)
    offset: Dim = NOTHING

    def __add__(self, other: Affine) -> Affine:
        atoms = dict(self.atoms)
        for atom, c in other.atoms.items():
            both = atoms.get(atom, NOTHING) + c
            if both.terms:
                atoms[atom] = both
            else:
                atoms.pop(atom, None)
        return Affine(atoms, self.offset + other.offset)

    def times(self, factor: Dim) -> Affine:
        if not factor.terms:
            return Affine()
        return Affine({a: c * factor for a, c in self.atoms.items()}, self.offset * factor)

    def __neg__(self) -> Affine:
        return self.times(Dim.const(-1))

    def __sub__(self, other: Affine) -> Affine:
        return self + (-other)


def affine(node: Scalar) -> Affine:
    """The form of an INT expression; what is not affine becomes an opaque atom."""
    if isinstance(node, Const) and isinstance(node.value, Fraction):
        return Affine({}, Dim.const(int(node.value)))
    if isinstance(node, Size) and (sign_known(node.dim) or node.dim.constant is not None):
        return Affine({}, Dim.const(node.dim.constant) if node.dim.constant is not None else node.dim)
    if isinstance(node, Apply) and node.dtype is INT:
        if node.name == "add":
            return affine(node.args[0]) + affine(node.args[1])
        if node.name == "sub":
            return affine(node.args[0]) - affine(node.args[1])
        if node.name == "neg":
            return -affine(node.args[0])
        if node.name == "mul":
            left, right = affine(node.args[0]), affine(node.args[1])
            if not left.atoms:
                return right.times(left.offset)
            if not right.atoms:
                return left.times(right.offset)
    return Affine({node: UNIT})


def extent(dim: Dim) -> Scalar:
    """A polynomial in extents as an INT expression (without the floor at 0 that `Size` of the whole would have)."""
    known = dim.number
    if known is not None:
        return Const(known, INT)
    if sign_known(dim):
        return Size(dim)
    result: Scalar | None = None
    for monomial, c in sorted(dim.terms, key=lambda t: t[1] < 0):
        size = Size(Dim(((monomial, 1),))) if monomial else Const(1, INT)
        term = mul(Const(abs(c), INT), size)
        if result is None:
            result = term if c > 0 else neg(term)
        else:
            result = add(result, term) if c > 0 else sub(result, term)
    assert result is not None
    return result


def expression(form: Affine) -> Scalar:
    """The form as an INT expression, positive terms first."""
    result: Scalar | None = None
    terms = [(c, a) for a, c in form.atoms.items()]
    terms.sort(key=lambda t: (t[0].number or 0) < 0)
    for c, atom in terms:
        known = c.number
        if known is not None and known < 0:
            term = mul(Const(-known, INT), atom)
            result = neg(term) if result is None else sub(result, term)
        else:
            term = mul(atom, extent(c)) if known is None else mul(Const(known, INT), atom)
            result = term if result is None else add(result, term)
    if form.offset.terms or result is None:
        known = form.offset.number
        if result is None:
            return extent(form.offset)
        if known is not None and known < 0:
            return sub(result, Const(-known, INT))
        return add(result, extent(form.offset))
    return result


def _least(form: Affine, known: dict[str, Dim]) -> Dim | None:
    """A lower bound of the form as a polynomial in extents, given that every index in it has a value."""
    bound = form.offset
    for atom, c in form.atoms.items():
        if isinstance(atom, Index):
            top = atom.dim - 1
        elif isinstance(atom, Read) and atom.tensor in known:
            top = known[atom.tensor] - 1
        elif isinstance(atom, Apply) and atom.name == "mod" and isinstance(atom.args[1], Const | Size):
            divisor = affine(atom.args[1]).offset
            top = divisor - 1
        else:
            return None
        if sign_known(c):
            continue
        if not sign_known(-c):
            return None
        bound = bound + c * top
    return bound


def never_negative(form: Affine, known: dict[str, Dim] | None = None) -> bool:
    """True if the form is at least 0 wherever its indices have values.

    `known` gives, for INT tensors, an extent below which their values are known to lie.
    """
    bound = _least(form, known or {})
    if bound is None:
        return False
    if sign_known(bound):
        return True
    # An index that has a value proves its extent to be at least 1: raise symbols that are extents of indices to 1 + s.
    lifted = {a.dim for a in form.atoms if isinstance(a, Index)}
    names = {d.terms[0][0][0] for d in lifted if len(d.terms) == 1 and len(d.terms[0][0]) == 1 and d.terms[0][1] == 1}
    total = NOTHING
    for monomial, c in bound.terms:
        product = Dim.const(c)
        for factor in monomial:
            symbol = Dim((((factor,), 1),))
            product = product * (symbol + 1 if isinstance(factor, str) and factor in names else symbol)
        total = total + product
    return sign_known(total)


def in_range(node: Scalar, dim: Dim, known: dict[str, Dim] | None = None) -> bool:
    """True if `0 <= node < dim` is proved from the ranges of the indices in it alone."""
    form = affine(node)
    return never_negative(form, known) and never_negative(Affine({}, dim - 1) - form, known)
