"""Growth along the tails of a line: whether a normal form stays bounded as one leaf goes to +inf or -inf, everything
else fixed.

A term is bounded by |u|^degree * exp(E), a monomial of the denominator from below by the same kind of product; E is a
normal form that is affine in u (or a polynomial with a certain leading coefficient), so that a certain sign of its slope
settles the quotient: exponential decay beats every power, and where E does not vary the power decides. A generator that is neither is taken by its enclosure, if bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from lossdsl.verify.algebra import Field, Form, TooLarge, minus, plus, replace, sign, times
from lossdsl.verify.derive import derivative
from lossdsl.verify.enclosure import Enclosure, neg

_SMALL = Fraction(1, 8)


class Unsettled(Exception):
    """No rule bounds this generator."""


@dataclass(frozen=True)
class Rate:
    """A bound C |u|^degree exp(exponent) on a tail."""

    degree: Fraction
    exponent: Form


class Tail:
    """The tail of a field's leaf `slot`: to +inf (`direction` 1) or -inf (-1)."""

    def __init__(self, field: Field, slot: int, direction: int) -> None:
        self.field, self.slot, self.direction = field, slot, direction
        self._known: dict[int, bool] = {}

    def bounded(self, f: Form) -> bool:
        """Whether the form is certainly bounded on the tail, for each value of the other leaves."""
        try:
            f = self._unfolded(f)
            floors = list(self._floors(f.den))
            return all(any(self._vanishes(top, low) for low in floors) for top in self._ceilings(f.num))
        except (Unsettled, TooLarge):
            return False

    def outside(self, constraint: Form) -> bool:
        """Whether `constraint >= 0` certainly fails far enough out."""
        try:
            return self.trend(self._affine(constraint)).negative
        except (Unsettled, TooLarge):
            return False

    def _vanishes(self, top: Rate, low: Rate) -> bool:
        """Whether top / low stays bounded."""
        rate = self.trend(plus(top.exponent, minus(low.exponent)))
        return rate.negative or (rate.nonpositive and top.degree <= low.degree)

    def trend(self, f: Form) -> Enclosure:
        """An enclosure of the sign of the slope outward, far out: of an affine form, or of a polynomial in the leaf whose
        leading coefficient is certainly not 0 (its slope is then not bounded). Raises Unsettled for any other."""
        slope = derivative(self.field, f, self.slot)
        if slope.zero:
            return Enclosure(0.0, 0.0)
        if self._is_affine(f):
            box = sign(self.field, slope)
            return box if self.direction > 0 else neg(box)
        box, degree = self._leading(f)
        if not box.nonzero:
            raise Unsettled  # the next power may take over
        return box if self.direction > 0 or degree % 2 == 0 else neg(box)

    def _is_affine(self, f: Form) -> bool:
        return derivative(self.field, derivative(self.field, f, self.slot), self.slot).zero

    def _leading(self, f: Form) -> tuple[Enclosure, int]:
        """The sign of the coefficient of the highest power of the leaf, and that power. Raises Unsettled."""
        terms = list(f.num.terms())
        others = {s for exponents, _ in terms for s, k in enumerate(exponents) if k and s != self.slot}
        if any(self.moves(s) for s in others | _slots(f.den)):
            raise Unsettled
        degree = max(int(exponents[self.slot]) for exponents, _ in terms)
        lead = f
        for _ in range(degree):
            lead = derivative(self.field, lead, self.slot)
        return sign(self.field, lead), degree

    def _unfolded(self, f: Form) -> Form:
        """The form with softplus(a) = a + softplus(-a) wherever a grows, so that what cancels does so exactly."""
        for s in sorted(self._slots(f), reverse=True):
            generator = self.field.generators[s]
            if generator.name != "softplus" or not self.moves(s):
                continue
            a = generator.arguments[0]
            if self.trend(self._affine(a)).positive:
                f = replace(self.field, f, s, plus(a, self.field.mirrored_softplus(a)))
        return f

    def _affine(self, f: Form) -> Form:
        """A form that has a trend and whose distance from `f` is bounded on the tail: a softplus that varies is its
        argument or 0."""
        for s in sorted(self._slots(f), reverse=True):
            generator = self.field.generators[s]
            if s == self.slot or not self.moves(s) or generator.name != "softplus":
                continue
            by = f.num.derivative(s)  # its coefficient is free of the leaf, and so of itself
            if any(self.moves(t) for p in (by, f.den) for t in _slots(p)):
                raise Unsettled
            rate = self.trend(self._affine(generator.arguments[0]))
            if not rate.nonnegative and not rate.nonpositive:
                raise Unsettled
            f = replace(self.field, f, s, generator.arguments[0] if rate.nonnegative else self.field.number(0))
        self.trend(f)  # or Unsettled
        return f

    # ------------------------------------------------------------------------------------------------ terms

    def _ceilings(self, p: Any) -> Iterator[Rate]:
        for exponents, _ in p.terms():
            yield self._product([(s, int(k), self._above(s)) for s, k in enumerate(exponents) if k])

    def _floors(self, p: Any) -> Iterator[Rate]:
        """Terms below which the polynomial does not stay in size: all of them if none is negative on the tail, else the
        leading one of a polynomial in the leaf alone."""
        terms = [(exponents, coefficient) for exponents, coefficient in p.terms()]
        signs = {self._sign(exponents) * (1 if coefficient > 0 else -1) for exponents, coefficient in terms}
        if signs not in ({1}, {-1}):
            only = all(k == 0 or s == self.slot for exponents, _ in terms for s, k in enumerate(exponents))
            if not only:
                raise Unsettled
            terms = [max(terms, key=lambda term: int(term[0][self.slot]))]
        for exponents, _ in terms:
            yield self._product([(s, int(k), self._below(s)) for s, k in enumerate(exponents) if k])

    def _product(self, factors: list[tuple[int, int, Rate]]) -> Rate:
        degree, exponent = Fraction(0), self.field.number(0)
        for _, k, rate in factors:
            degree += k * rate.degree
            exponent = plus(exponent, times(self.field.number(k), rate.exponent))
        return Rate(degree, exponent)

    def _sign(self, exponents: Any) -> int:
        """The sign of a monomial on the tail; 0 if it is not certain or may be 0."""
        result = 1
        for s, k in enumerate(exponents):
            if k and s == self.slot:
                result *= self.direction if int(k) % 2 else 1
            elif k:
                box = self.field.generators[s].enclosure
                if not box.nonzero:
                    return 0
                result *= -1 if box.negative and int(k) % 2 else 1
        return result

    # ------------------------------------------------------------------------------------------- generators

    def _above(self, s: int) -> Rate:
        """A bound on the size of a generator."""
        generator = self.field.generators[s]
        constant = Rate(Fraction(0), self.field.number(0))
        if s == self.slot:
            return Rate(Fraction(1), self.field.number(0))
        if not self.moves(s):
            return constant
        try:
            return self._exponential(s)
        except Unsettled:
            if generator.enclosure.bounded:
                return constant
            raise

    def _exponential(self, s: int) -> Rate:
        """As `_above`, for an exponential or a softplus of what is all but affine, or a logarithm of what is affine."""
        generator, flat = self.field.generators[s], self.field.number(0)
        if generator.name in ("log", "log1p"):  # of what grows linearly: less than any power
            argument = generator.arguments[0]
            if not self._is_affine(argument) or not self.trend(argument).positive:
                raise Unsettled
            return Rate(_SMALL, flat)
        if generator.name not in ("exp", "softplus"):
            raise Unsettled
        exponent = self._affine(generator.arguments[0])
        rate = self.trend(exponent)
        if generator.name == "exp":
            return Rate(Fraction(0), flat if rate.nonpositive and not rate.negative else exponent)
        if not rate.negative and not self._is_affine(exponent):
            raise Unsettled
        # at most exp(a), and at most |a| + log 2
        return Rate(Fraction(0), exponent) if rate.negative else Rate(Fraction(1), flat)

    def _below(self, s: int) -> Rate:
        """A positive lower bound on the size of a generator, far enough out."""
        flat = self.field.number(0)
        generator = self.field.generators[s]
        if s == self.slot:
            return Rate(Fraction(1), flat)
        if not self.moves(s):
            if not generator.enclosure.nonzero:
                raise Unsettled
            return Rate(Fraction(0), flat)
        if generator.name == "exp":
            return Rate(Fraction(0), self._affine(generator.arguments[0]))
        if generator.enclosure.lo > 0 and not generator.enclosure.nan:
            return Rate(Fraction(0), flat)
        raise Unsettled

    def moves(self, s: int) -> bool:
        """Whether a generator varies with the leaf."""
        if s not in self._known:
            inside = (t for a in self.field.generators[s].arguments for t in self._slots(a))
            self._known[s] = s == self.slot or any(self.moves(t) for t in inside)
        return self._known[s]

    def _slots(self, f: Form) -> set[int]:
        return _slots(f.num) | _slots(f.den)


def _slots(p: Any) -> set[int]:
    return {s for exponents, _ in p.terms() for s, k in enumerate(exponents) if k}


__all__ = ["Tail"]
