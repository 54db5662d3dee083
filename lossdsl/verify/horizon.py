"""What a normal form in one variable is beyond a number, uniformly: a power and an exponential of the size of the variable,
times a factor in an enclosure.

    f(u) = |u|^degree e^(rate |u|) c,  c in `factor`,  for every u of one sign with |u| >= start

Of the terms of a sum the largest is taken out: with d = a' - a and r = b - b' > 0, |u|^d e^(-r |u|) falls where |u| >= d / r,
so that the other terms are at most what they are at the start. log(1 + e^x) is between x and x + e^-x for x > 0, and
between e^x - e^(2x) / 2 and e^x for x < 0; log |u| / sqrt(|u|) falls from e^2 on. What grows faster than 4 |u| has an exponential above
e^(4 |u|). So `u / sqrt(1 + u^2)` is near 1 and
`u e^-u` near 0, where enclosures alone have inf / inf and inf * 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from lossdsl.verify import enclosure as e
from lossdsl.verify.algebra import SLOTS, Field, Form, TooLarge, plus, quotient, slots_of, stand_in, times
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.operations import transfer

LEAST_START = 8.0  # above e^2
_ONE = Enclosure(1.0, 1.0)
_STEEP = 4


class Unsettled(Exception):
    """No rule says what a quantity is far out."""


@dataclass(frozen=True)
class Scaled:
    """|u|^degree e^(rate |u|) times a factor in an enclosure."""

    degree: Fraction
    rate: Fraction
    factor: Enclosure

    @property
    def order(self) -> tuple[Fraction, Fraction]:
        return self.rate, self.degree


class Horizon:
    """The field's generators where its leaf `slot` is at least `start` (`direction` 1) or at most `-start` (-1)."""

    def __init__(self, field: Field, slot: int, direction: int, start: float) -> None:
        if not LEAST_START <= start < INF:
            raise Unsettled
        self._field, self._direction, self._start = field, direction, start
        self._slot = slot
        variable = Scaled(Fraction(1), Fraction(0), Enclosure(float(direction), float(direction)))
        self._known: dict[int, Scaled] = {slot: variable}

    def value(self, f: Form) -> Enclosure:
        """An enclosure of the form there. Raises Unsettled."""
        try:
            return self._box(self._form(mirrored(self._field, f, self._rising)))
        except TooLarge:
            raise Unsettled from None

    # ------------------------------------------------------------------------------------------------ forms

    def _form(self, f: Form) -> Scaled:
        if f.zero:
            return _level(Enclosure(0.0, 0.0))
        below = list(f.den.terms())
        if len(below) == 1:  # what cancels in a term is seen in the term
            return self._polynomial(f.num, *below[0])
        found = _level(_ONE)
        for p, side in ((f.num, 1), (f.den, -1)):
            content, factors = p.factor()
            found = _times(found, _power(_level(_exact(content)), side))
            for factor, k in factors:
                found = _times(found, _power(self._polynomial(factor), side * int(k)))
        return found

    def _polynomial(self, p: Any, below: Iterable[Any] = (), over: Any = 1) -> Scaled:
        """A polynomial, over a monomial of powers `below` and the coefficient `over`."""
        terms, less = [], _degrees(below)
        for powers, coefficient in p.terms():
            term, degrees = _level(_exact(coefficient / over)), _degrees(powers)
            for slot in sorted({*degrees, *less}):
                k = degrees.get(slot, 0) - less.get(slot, 0)
                if k:
                    term = _times(term, _power(self._generator(slot), k))
            terms.append(term)
        return self._sum(terms)

    def _sum(self, terms: Iterable[Scaled]) -> Scaled:
        every = list(terms)
        rate, degree = max(t.order for t in every)
        total = Enclosure(0.0, 0.0)
        for t in every:
            total = e.add(total, e.mul(t.factor, self._size(t.degree - degree, t.rate - rate)))
        return Scaled(degree, rate, total)

    def _size(self, degree: Fraction, rate: Fraction) -> Enclosure:
        """An enclosure of |u|^degree e^(rate |u|). Raises Unsettled where it is not monotone."""
        if not degree and not rate:
            return _ONE
        rises = rate > 0 or (rate == 0 and degree > 0)
        if degree * rate < 0 and Fraction(self._start) < -degree / rate:
            raise Unsettled
        first = Enclosure(self._start, self._start)
        exponent = e.add(e.mul(e.exact(degree), _of("log", first)), e.mul(e.exact(rate), first))
        there = _of("exp", exponent)
        return Enclosure(there.lo, INF, there.lo_open, True) if rises else Enclosure(0.0, there.hi, True, there.hi_open)

    def _box(self, s: Scaled) -> Enclosure:
        return e.mul(self._size(s.degree, s.rate), s.factor)

    # ------------------------------------------------------------------------------------------- generators

    def _generator(self, slot: int) -> Scaled:
        if slot not in self._known:
            g = self._field.generators[slot]
            rule = {"exp": self._exp, "sqrt": self._root, "log": self._log, "softplus": self._softplus}.get(g.name)
            found = rule(g.arguments[0]) if rule is not None else None
            if found is None:
                boxes = [self._box(self._form(a)) for a in g.arguments]
                found = _level(transfer(stand_in(g.name, len(boxes)), boxes) if boxes else g.enclosure)
            self._known[slot] = found
        return self._known[slot]

    def _rising(self, f: Form) -> bool:
        """Whether the form goes to infinity, as an affine one."""
        affine = _affine(f, self._slot)
        return affine is not None and affine[0] * self._direction > 0

    def _exp(self, f: Form) -> Scaled | None:
        affine = _affine(f, self._slot)
        if affine is not None:
            rate, offset = affine
            return Scaled(Fraction(0), rate * self._direction, _of("exp", e.exact(offset)))
        whole = self._form(f)
        if (
            whole.order >= (Fraction(0), Fraction(1)) and whole.factor.nonzero
        ):  # beyond e^(r |u|), with a rate that it has at the start
            box = e.mul(whole.factor, self._size(whole.degree - 1, whole.rate))
            if box.lo >= _STEEP:
                return Scaled(Fraction(0), Fraction(_STEEP), Enclosure(1.0, INF, False, True))
            if box.hi <= -_STEEP:
                return Scaled(Fraction(0), -Fraction(_STEEP), Enclosure(0.0, 1.0, True))
        terms = [(powers, c) for powers, c in f.num.terms()] if f.den.is_constant() else []
        if len(terms) != 1:
            return self._split(f)
        slots = [s for s, k in enumerate(terms[0][0]) if k]
        g = self._field.generators[slots[0]]
        if len(slots) > 1 or int(terms[0][0][slots[0]]) != 1 or g.name != "log":
            return None
        c = terms[0][1] / f.den.leading_coefficient()
        k = Fraction(int(c.p), int(c.q))  # exp(k log f) is f^k
        base = self._form(g.arguments[0])
        if not base.factor.positive:
            return None
        factor = _of("exp", e.mul(e.exact(k), _of("log", base.factor)))
        return Scaled(k * base.degree, k * base.rate, factor)

    def _split(self, f: Form) -> Scaled | None:
        """exp of what is affine in the variable, times exp of the bounded rest."""
        f = mirrored(self._field, f, self._rising)
        if not f.den.is_constant():
            return None
        over, straight = f.den.leading_coefficient(), self._field.monomial(self._slot, 1)
        slopes = [c / over for powers, c in f.num.terms() if _degrees(powers) == {self._slot: 1}]
        number = Fraction(int(slopes[0].p), int(slopes[0].q)) if slopes else Fraction(0)
        rest = self._box(self._form(plus(f, times(straight, self._field.number(-number)))))
        return Scaled(Fraction(0), number * self._direction, _of("exp", rest)) if rest.bounded else None

    def _root(self, f: Form) -> Scaled | None:
        base = self._form(f)
        half = Fraction(1, 2)
        return Scaled(half * base.degree, half * base.rate, _of("sqrt", base.factor)) if base.factor.positive else None

    def _log(self, f: Form) -> Scaled | None:
        base = self._form(f)
        if not base.factor.positive or not (base.degree or base.rate):
            return None
        first = Enclosure(self._start, self._start)
        most = e.div(_of("log", first), _of("sqrt", first))
        power = Scaled(Fraction(1, 2), Fraction(0), e.mul(e.exact(base.degree), Enclosure(0.0, most.hi, True)))
        linear = Scaled(Fraction(1), Fraction(0), e.exact(base.rate))
        parts = [_level(_of("log", base.factor)), *([power] if base.degree else []), *([linear] if base.rate else [])]
        return self._sum(parts)

    def _softplus(self, f: Form) -> Scaled | None:
        base = self._form(f)
        box = self._box(base)
        if not box.nan and box.lo >= 1.0:
            least = Enclosure(box.lo, box.lo)
            share = e.div(_of("exp", e.neg(least)), least)
            return Scaled(base.degree, base.rate, e.mul(base.factor, Enclosure(1.0, e.add_up(1.0, share.hi))))
        affine = _affine(f, self._slot)
        if affine is None or box.nan or box.hi > -1.0:
            return None
        rate, offset = affine
        short = _of("exp", Enclosure(box.hi, box.hi)).hi / 2
        factor = e.mul(_of("exp", e.exact(offset)), Enclosure(e.add_down(1.0, -short), 1.0))
        return Scaled(Fraction(0), rate * self._direction, factor)


def _degrees(powers: Iterable[Any]) -> dict[int, int]:
    return {s: int(k) for s, k in enumerate(powers) if k}


def _affine(f: Form, slot: int) -> tuple[Fraction, Fraction] | None:
    """The rate and the offset of a form that is affine in one generator and has no other."""
    rate, offset = Fraction(0), Fraction(0)
    if not f.den.is_constant():
        return None
    over = f.den.leading_coefficient()
    for powers, c in f.num.terms():
        degrees, value = _degrees(powers), Fraction(int((c / over).p), int((c / over).q))
        if not degrees:
            offset = value
        elif degrees == {slot: 1}:
            rate = value
        else:
            return None
    return rate, offset


def mirrored(field: Field, f: Form, chosen: Callable[[Form], bool]) -> Form:
    """softplus(p), for the chosen p, as p + softplus(-p), in which what p cancels with is seen. Raises TooLarge."""
    images = {}
    for slot in sorted(slots_of(f)):
        g = field.generators[slot]
        if g.name == "softplus" and g.arguments[0].den.is_constant() and chosen(g.arguments[0]):
            image = plus(g.arguments[0], field.mirrored_softplus(g.arguments[0]))
            images[slot] = image.num * (1 / image.den.leading_coefficient())
    if not images:
        return f
    every = [images.get(s, field.monomial(s, 1).num) for s in range(SLOTS)]
    return quotient(f.num.compose(*every), f.den.compose(*every))


def spellings(field: Field, f: Form) -> list[Form]:
    """The form, and the same with every softplus(p) as p + softplus(-p), if that is another."""
    try:
        other = mirrored(field, f, lambda _: True)
    except TooLarge:
        return [f]
    return [f] if other is f else [f, other]


def _of(name: str, box: Enclosure) -> Enclosure:
    return transfer(stand_in(name, 1), [box])


def _exact(c: Any) -> Enclosure:
    return e.exact(Fraction(int(c.p), int(c.q)))


def _level(box: Enclosure) -> Scaled:
    return Scaled(Fraction(0), Fraction(0), box)


def _times(a: Scaled, b: Scaled) -> Scaled:
    return Scaled(a.degree + b.degree, a.rate + b.rate, e.mul(a.factor, b.factor))


def _power(a: Scaled, k: int) -> Scaled:
    if k < 0 and not a.factor.nonzero:
        raise Unsettled
    return Scaled(a.degree * k, a.rate * k, e.integer_power(a.factor, k))


__all__ = ["LEAST_START", "Horizon", "Unsettled", "spellings"]
