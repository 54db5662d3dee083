"""Normal forms as scalars, so that a derivative or a jump can be shown in the loss's own words."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from lossdsl.ir.nodes import Apply, Const, Scalar
from lossdsl.ir.rewrite import substitute
from lossdsl.verify.algebra import Field, Form
from lossdsl.verify.enclosure import Enclosure
from lossdsl.verify.pieces import View, fold

ONE = Const(1)


def scalar_of(field: Field, form: Form) -> Scalar:
    """The form as a quotient of factored polynomials."""
    top, bottom = _factored(field, form.num), _factored(field, form.den)
    return top if bottom is ONE else fold(Apply("div", (top, bottom)))


def shown(view: View, field: Field, form: Form) -> Scalar:
    """The form in the entry of the input."""
    return substitute(scalar_of(field, form), {view.variable: view.inner})


def factors(field: Field, form: Form) -> list[tuple[Scalar, int, Enclosure]]:
    """What the numerator and the denominator are products of, with powers (negative below) and enclosures."""
    found: list[tuple[Scalar, int, Enclosure]] = []
    for polynomial, sign in ((form.num, 1), (form.den, -1)):
        _, parts = polynomial.factor()
        found += [(_sum(field, p), sign * int(k), field.polynomial(p)) for p, k in parts]
    return found


def _factored(field: Field, polynomial: Any) -> Scalar:
    if polynomial.is_zero():
        return Const(0)
    content, parts = polynomial.factor()
    value = Fraction(int(content.p), int(content.q))
    result: Scalar | None = None
    for p, k in parts:
        part = _power(_sum(field, p), int(k))
        result = part if result is None else Apply("mul", (result, part))
    if result is None:
        return Const(value)
    if value == 1:
        return result
    if value == -1:
        return Apply("neg", (result,))
    return Apply("mul", (Const(value), result))


def _sum(field: Field, polynomial: Any) -> Scalar:
    """A polynomial as a sum of monomials, one that is not negative first."""
    terms = []
    for exponents, coefficient in polynomial.terms():
        value = Fraction(int(coefficient.p), int(coefficient.q))
        monomial: Scalar | None = None
        for slot, k in enumerate(exponents):
            if k:
                part = _power(_generator(field, slot), int(k))
                monomial = part if monomial is None else Apply("mul", (monomial, part))
        terms.append((value, monomial))
    terms.sort(key=lambda t: t[0] < 0)
    result: Scalar | None = None
    for value, monomial in terms:
        size = abs(value)
        term = Const(size) if monomial is None else monomial if size == 1 else Apply("mul", (Const(size), monomial))
        if result is None:
            result = Apply("neg", (term,)) if value < 0 else term
        else:
            result = Apply("sub" if value < 0 else "add", (result, term))
    return Const(0) if result is None else result


def _power(base: Scalar, k: int) -> Scalar:
    return base if k == 1 else Apply("powi", (base, Const(k)))


def _generator(field: Field, slot: int) -> Scalar:
    g = field.generators[slot]
    if g.leaf is not None:
        return g.leaf
    return Apply(g.name, tuple(scalar_of(field, a) for a in g.arguments))
