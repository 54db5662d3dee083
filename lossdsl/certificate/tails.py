"""An element far out, where intervals of it are unbounded: written in powers of the variable.

With f(u) = u^m g(1/u) for u > 0 and s = 1/u, the n-th derivative is u^(m - n) times the sum over j of
(-1)^j C(n, j) (m - j)(m - j - 1) ... (m - n + 1) s^j g^(j)(s), by induction. And with f(w / s) = s^k h(w), s fixed, it is
s^(n + k) h^(n)(1). At -u there is a sign of (-1)^n more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import comb, factorial

from lossdsl.certificate.points import Undecided
from lossdsl.certificate.rules import Stuck
from lossdsl.certificate.units import Scaled, Units
from lossdsl.ir.nodes import ONE, Apply, Param, Scalar
from lossdsl.verify import enclosure as e
from lossdsl.verify.enclosure import INF, Enclosure

SMALL = Param("$small")
Known = dict[Scalar, Enclosure]
Terms = Callable[[Scalar, Known, Enclosure, int], Sequence[Enclosure]]  # by what is known, at values of the variable


class Tail:
    """One element beyond all places, above or below 0."""

    def __init__(self, body: Scalar, variable: Scalar, *, above: bool) -> None:
        self._above, self._variable = above, variable
        one = ONE if above else Apply("neg", (ONE,))
        inverse = {variable: Fraction(-1)}
        self._inverse = Units((), {variable: Scaled(one, degrees=inverse)}).of(body)
        moved = variable if above else Apply("neg", (variable,))
        known = {variable: Scaled(moved, degrees={SMALL: Fraction(-1)})}
        self._moved = Units((), known, apart=True).of(body)
        self._degree = -_whole(self._inverse.degrees.get(variable, Fraction(0)))
        self._small = _whole(self._moved.degrees.get(SMALL, Fraction(0)))

    def inverted(self, order: int, far: Enclosure, terms: Terms) -> Enclosure:
        """A derivative on an interval from what is above 0 to infinity, by the coefficients of g; `far`: of |u|."""
        degree, near = self._degree, e.reciprocal(far)
        known = {self._variable: near}
        numbers = [(-1) ** j * comb(order, j) * _falling(degree - j, order - j) for j in range(order + 1)]
        around = terms(self._inverse.rest, known, near, order + 2)
        found = _combined(numbers, near, around)
        beyond = self._monotone(numbers, near, terms)
        if beyond is not None:
            found = e.meet(found, beyond) or found
        return self._signed(
            order, e.mul(e.mul(e.exact(self._inverse.factor), e.integer_power(far, degree - order)), found)
        )

    def _monotone(self, numbers: Sequence[int], near: Enclosure, terms: Terms) -> Enclosure | None:
        """What the sum is beyond its value at 0, if it rises or falls from there on; 0 is in the interval, so that no branch is
        another one there."""
        closed, order = Enclosure(0.0, near.hi, False, near.hi_open), len(numbers) - 1
        try:
            around = terms(self._inverse.rest, {self._variable: closed}, closed, order + 2)
            at = Enclosure(0.0, 0.0)
            first = _combined(numbers, at, terms(self._inverse.rest, {self._variable: closed}, at, order + 2))
        except (Undecided, ZeroDivisionError, OverflowError):
            return None
        rises = [c + (j + 1) * d for j, (c, d) in enumerate(zip(numbers, [*numbers[1:], 0]))]
        bent = _combined(rises, near, around[1:], shift=1)  # the derivative of the sum in s
        if bent.nonnegative:
            return Enclosure(first.lo, INF, bent.nonzero, True)
        return Enclosure(-INF, first.hi, True, bent.nonzero) if bent.nonpositive else None

    def relative(self, order: int, far: Enclosure, terms: Terms) -> Enclosure:
        """The same by the coefficients of h."""
        at = Enclosure(1.0, 1.0)
        known = {self._variable: at, SMALL: e.reciprocal(far)}
        term = terms(self._moved.rest, known, at, order + 1)[order]
        found = e.mul(e.exact(self._moved.factor * factorial(order)), term)
        return self._signed(order, e.mul(e.integer_power(far, -order - self._small), found))

    def _signed(self, order: int, found: Enclosure) -> Enclosure:
        return found if self._above or order % 2 == 0 else e.neg(found)


def _whole(degree: Fraction) -> int:
    if degree.denominator != 1:
        raise Stuck("a root of the variable")
    return int(degree)


def _falling(top: int, count: int) -> int:
    found = 1
    for k in range(count):
        found *= top - k
    return found


def _combined(numbers: Sequence[int], s: Enclosure, terms: Sequence[Enclosure], shift: int = 0) -> Enclosure:
    """The sum of c_j s^j g^(j + shift), by the coefficients from that of the first one on."""
    total = Enclosure(0.0, 0.0)
    for j, c in enumerate(numbers):
        if c:
            weight = e.mul(e.exact(c * factorial(j + shift)), e.integer_power(s, j))
            total = e.add(total, e.mul(weight, terms[j]))
    return total


__all__ = ["Tail", "Terms"]
