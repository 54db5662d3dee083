"""What a quantity is for all t from a start on: finitely many powers with fixed coefficients, and a rest that is enclosed.

    g(t) = c_1 m_1(t) + ... + c_k m_k(t) + m(t) r(t),    m(t) = e^(rate t) t^degree (log t)^logs,    r(t) in an interval

Each c is one number, known exactly or to lie in an interval, so that what cancels does so exactly. Powers are ordered by how
fast they grow (Hardy, *Orders of Infinity*, 1910); a quotient of two that falls to 0 does so monotonically where
`degree + max(logs, 0) / log t + rate t <= 0`, and is between 0 and what it is at the start.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

from flint import arb, fmpq

from lossdsl.certificate.points import Undecided
from lossdsl.certificate.series import box_of
from lossdsl.verify import enclosure as e
from lossdsl.verify.enclosure import INF, Enclosure

LEAST_START = 8
_TERMS = 8  # that are kept apart from the rest
_ZERO = Fraction(0)

Coefficient = Fraction | Enclosure  # the enclosure is of one number


class Power(NamedTuple):
    """e^(rate t) t^degree (log t)^logs; the larger one grows faster."""

    rate: Fraction = _ZERO
    degree: Fraction = _ZERO
    logs: Fraction = _ZERO

    def times(self, other: Power) -> Power:
        return Power(*(a + b for a, b in zip(self, other)))

    def over(self, other: Power) -> Power:
        return Power(*(a - b for a, b in zip(self, other)))

    def to(self, k: Fraction) -> Power:
        return Power(*(k * a for a in self))

    def __str__(self) -> str:
        parts = zip(("e^({} t)", "t^({})", "log(t)^({})"), self)
        return " ".join(form.format(k) for form, k in parts if k) or "1"


ONE, LINEAR, LOG = Power(), Power(degree=Fraction(1)), Power(logs=Fraction(1))


@dataclass(frozen=True)
class Germ:
    """Terms from the largest power to the smallest; the rest is None if there is none."""

    start: int
    terms: tuple[tuple[Power, Coefficient], ...] = ()
    rest: tuple[Power, Enclosure] | None = None

    # --------------------------------------------------------------------------------------------- what it is

    @property
    def largest(self) -> Power | None:
        """The fastest power in it; None for 0."""
        powers = [p for p, _ in self.terms[:1]] + ([self.rest[0]] if self.rest is not None else [])
        return max(powers, default=None)

    def against(self, power: Power) -> Enclosure:
        """An enclosure of the germ over a power, for all t. Raises Undecided."""
        total = Enclosure(0.0, 0.0)
        for p, c in (*self.terms, *(() if self.rest is None else (self.rest,))):
            total = e.add(total, e.mul(boxed(c), size(p.over(power), self.start)))
        if not total.finite:
            raise Undecided
        return total

    def box(self) -> Enclosure:
        return self.against(ONE)

    def dominant(self) -> tuple[Power, Enclosure]:
        """A power, and an enclosure of the germ over it that does not have 0 in it. Raises Undecided."""
        top = self.largest
        if top is None:
            raise Undecided
        found = self.against(top)
        if not found.nonzero:
            raise Undecided
        return top, found

    def split(self) -> tuple[Power, Coefficient, Germ]:
        """m, c and d of the germ c m (1 + d), where d goes to 0. Raises Undecided."""
        if not self.terms or (self.rest is not None and self.rest[0] >= self.terms[0][0]):
            raise Undecided
        (m, c), *others = self.terms
        if isinstance(c, Enclosure) and not c.nonzero:
            raise Undecided
        inverse = 1 / c if isinstance(c, Fraction) else e.reciprocal(c)
        return m, c, Germ(self.start, tuple(others), self.rest) * Germ(self.start, ((ONE.over(m), inverse),))

    def parts(self) -> tuple[tuple[tuple[Power, Coefficient], ...], Coefficient, Germ]:
        """The terms without bound, the constant, and what goes to 0 or is in the rest. Raises Undecided if that has no bound."""
        if self.rest is not None and self.rest[0] > ONE:
            raise Undecided
        unbounded = tuple((p, c) for p, c in self.terms if p > ONE)
        constant = next((c for p, c in self.terms if p == ONE), _ZERO)
        return unbounded, constant, Germ(self.start, tuple((p, c) for p, c in self.terms if p < ONE), self.rest)

    def is_zero(self) -> bool:
        return not self.terms and self.rest is None

    def __gt__(self, other: int) -> bool:
        g = self - other
        return not g.is_zero() and g._settled().positive

    def __lt__(self, other: int) -> bool:
        g = self - other
        return not g.is_zero() and g._settled().negative

    def _settled(self) -> Enclosure:
        try:
            return self.dominant()[1]
        except Undecided:
            return Enclosure(-INF, INF, True, True)

    # --------------------------------------------------------------------------------------------- arithmetic

    def like(self, value: Any) -> Germ:
        """A number, as a germ from the same start."""
        if isinstance(value, Germ):
            return value
        if isinstance(value, (bool, int)):
            value = Fraction(value)
        return made(self.start, [(ONE, value if isinstance(value, (Fraction, Enclosure)) else box_of(value))], [])

    def __add__(self, other: Any) -> Germ:
        b = self.like(other)
        return made(self.start, [*self.terms, *b.terms], [r for r in (self.rest, b.rest) if r is not None])

    def __neg__(self) -> Germ:
        rest = None if self.rest is None else (self.rest[0], e.neg(self.rest[1]))
        return Germ(self.start, tuple((p, _negative(c)) for p, c in self.terms), rest)

    def __sub__(self, other: Any) -> Germ:
        return self + -self.like(other)

    def __rsub__(self, other: Any) -> Germ:
        return self.like(other) - self

    def __mul__(self, other: Any) -> Germ:
        b = self.like(other)
        if self.is_zero() or b.is_zero():
            return Germ(self.start)
        terms = [(p.times(q), _product(c, d)) for p, c in self.terms for q, d in b.terms]
        rests = []
        if self.rest is not None and b.largest is not None:
            rests.append((self.rest[0].times(b.largest), e.mul(self.rest[1], b.against(b.largest))))
        if b.rest is not None and self.terms:
            top = self.terms[0][0]
            rests.append((b.rest[0].times(top), e.mul(b.rest[1], Germ(self.start, self.terms).against(top))))
        return made(self.start, terms, rests)

    __radd__, __rmul__ = __add__, __mul__


def made(start: int, terms: Iterable[tuple[Power, Coefficient]], rests: Iterable[tuple[Power, Enclosure]]) -> Germ:
    """The sum of terms and rests. Raises Undecided."""
    total: dict[Power, Coefficient] = {}
    for p, c in terms:
        total[p] = _sum(total[p], c) if p in total else c
    kept = sorted(((p, c) for p, c in total.items() if not _is_zero(c)), reverse=True, key=lambda term: term[0])
    left = [*rests, *((p, boxed(c)) for p, c in kept[_TERMS:])]
    if not left:
        return Germ(start, tuple(kept))
    top = max(p for p, _ in left)
    left += [(p, boxed(c)) for p, c in kept[:_TERMS] if p < top]
    kept = [(p, c) for p, c in kept[:_TERMS] if p >= top]
    rest = Enclosure(0.0, 0.0)
    for p, box in left:
        rest = e.add(rest, e.mul(box, size(p.over(top), start)))
    if not rest.finite:
        raise Undecided
    return Germ(start, tuple(kept), None if rest.zero else (top, rest))


def size(power: Power, start: int) -> Enclosure:
    """An enclosure of a power for all t from the start on. Raises Undecided where it is not seen to be monotone."""
    if power == ONE:
        return Enclosure(1.0, 1.0)
    rate, degree, logs = (_ball(k if power < ONE else -k) for k in power)
    t = arb(start)
    if not degree + max(logs, arb(0)) / t.log() + rate * t <= 0:
        raise Undecided
    exponent = rate * t + degree * t.log() + logs * t.log().log()
    if power < ONE:
        return Enclosure(0.0, box_of(exponent.exp()).hi, True, False)
    return Enclosure(box_of((-exponent).exp()).lo, INF, False, True)


def _ball(k: Fraction) -> Any:
    return arb(fmpq(k.numerator, k.denominator))


def boxed(c: Coefficient) -> Enclosure:
    return c if isinstance(c, Enclosure) else e.exact(c)


def told(box: Enclosure) -> Coefficient:
    """The one number that an enclosure is of, exactly if it has one."""
    return Fraction(box.lo) if box.lo == box.hi and box.bounded else box


def _is_zero(c: Coefficient) -> bool:
    return c == 0 if isinstance(c, Fraction) else c.zero


def _negative(c: Coefficient) -> Coefficient:
    return -c if isinstance(c, Fraction) else e.neg(c)


def _sum(a: Coefficient, b: Coefficient) -> Coefficient:
    return a + b if isinstance(a, Fraction) and isinstance(b, Fraction) else e.add(boxed(a), boxed(b))


def _product(a: Coefficient, b: Coefficient) -> Coefficient:
    return a * b if isinstance(a, Fraction) and isinstance(b, Fraction) else e.mul(boxed(a), boxed(b))


__all__ = ["LEAST_START", "LINEAR", "LOG", "ONE", "Coefficient", "Germ", "Power", "boxed", "made", "size", "told"]
