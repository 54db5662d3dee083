"""Derivatives of an element of a curve far out, as germs: what cancels in sums of them cancels, and what has no bound may be
multiplied with an exponential that falls.

Coefficients of Taylor series about every place from a start on are germs; those of functions follow by the chain rule, as in
`series`.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import factorial, floor
from typing import TYPE_CHECKING, Any

from lossdsl.certificate.bounds import Case
from lossdsl.certificate.expansions import function, larger, power
from lossdsl.certificate.germs import LEAST_START, LINEAR, ONE, Germ, size, told
from lossdsl.certificate.points import Undecided
from lossdsl.certificate.rules import Stuck
from lossdsl.certificate.series import ordered
from lossdsl.ir.nodes import INT, Apply, Const, Scalar, Select
from lossdsl.verify import enclosure as e
from lossdsl.verify import operations as o
from lossdsl.verify.enclosure import INF, Enclosure

if TYPE_CHECKING:
    from lossdsl.certificate.coverings import Curve

_LAST_START = 4096  # what is not told from there on is not told farther out
_MOST = 16  # a power by multiplication
_MINUS_ONE = Fraction(-1)


@dataclass(frozen=True)
class Jet:
    """Germs of the coefficients."""

    terms: tuple[Germ, ...]

    def like(self, number: Any) -> Jet:
        if isinstance(number, Jet):
            return number
        zero = self.terms[0].like(0)
        return Jet((zero.like(number), *[zero] * (len(self.terms) - 1)))

    def first(self, count: int) -> Jet:
        return Jet(self.terms[:count])

    def __add__(self, other: Any) -> Jet:
        return Jet(tuple(a + b for a, b in zip(self.terms, self.like(other).terms)))

    def __neg__(self) -> Jet:
        return Jet(tuple(-a for a in self.terms))

    def __sub__(self, other: Any) -> Jet:
        return self + -self.like(other)

    def __mul__(self, other: Any) -> Jet:
        a, b = self.terms, self.like(other).terms
        return Jet(tuple(_sum(a[j] * b[k - j] for j in range(k + 1)) for k in range(len(a))))

    def to(self, k: Fraction) -> Jet:
        """A power. Raises Undecided."""
        if k.denominator == 1 and 0 <= k <= _MOST:
            return functools.reduce(operator.mul, [self] * int(k), self.like(1))
        x, found = self.terms, [power(self.terms[0], k)]
        for n in range(1, len(x)):
            known = _sum(x[j] * found[n - j] * (k * j - (n - j)) for j in range(1, n + 1))
            found.append(known * power(x[0], _MINUS_ONE) * Fraction(1, n))
        return Jet(tuple(found))

    def under(self, name: str) -> Jet:
        """A function of it. Raises Undecided, Stuck."""
        x, found = self.terms, [function(name, self.terms[0])]
        for n in range(1, len(x)):
            if name not in _SLOPES:
                raise Stuck(f"no derivative of {name} far out")
            slope = _SLOPES[name](self.first(n), Jet(tuple(found))).terms
            found.append(_sum(x[j] * slope[n - j] * j for j in range(1, n + 1)) * Fraction(1, n))
        return Jet(tuple(found))


def _sum(terms: Any) -> Germ:
    found: Germ = functools.reduce(operator.add, terms)
    return found


_SLOPES: dict[str, Callable[[Jet, Jet], Jet]] = {  # of the argument, and of the value
    "exp": lambda x, y: y,
    "expm1": lambda x, y: y + 1,
    "log": lambda x, y: x.to(_MINUS_ONE),
    "log1p": lambda x, y: (x + 1).to(_MINUS_ONE),
    "sqrt": lambda x, y: (y * 2).to(_MINUS_ONE),
    "sigmoid": lambda x, y: y * (-x).under("sigmoid"),
    "softplus": lambda x, y: x.under("sigmoid"),
    "logsigmoid": lambda x, y: (-x).under("sigmoid"),
    "tanh": lambda x, y: (x * 2).under("sigmoid") * (x * -2).under("sigmoid") * 4,
    "logcosh": lambda x, y: x.under("tanh"),
    "atan": lambda x, y: (x * x + 1).to(_MINUS_ONE),
}


class _Jets:
    """Scalars of a curve, where its variable is `side` times t for t from a start on, by the branches taken in a case."""

    def __init__(self, curve: Curve, case: Case, side: int, start: int, count: int) -> None:
        self._moves, self._case = curve.rules.moves, case
        zero = Germ(start)
        own = (Germ(start, ((LINEAR, Fraction(side)),)), zero.like(1), *[zero] * count)
        self._known: dict[Scalar, Jet] = {curve.variable: Jet(own[:count])}
        self._zero = Jet((zero,) * count)

    def of(self, node: Scalar) -> Jet:
        found = self._known.get(node)
        if found is None:
            found = self._known[node] = self._jet(node)
        return found

    def _jet(self, n: Scalar) -> Jet:
        if not self._moves(n):
            box = self._case[n]
            if not box.finite:
                raise Undecided
            return self._zero.like(n.value if isinstance(n, Const) else told(box))
        if isinstance(n, Select):
            holds = o.truth(self._case[n.condition])
            if holds is None:
                raise Undecided
            return self.of(n.a if holds else n.b)
        if not isinstance(n, Apply) or n.dtype is INT:
            raise Stuck(f"{type(n).__name__} has no germ")
        args = [self.of(a) for a in n.args]
        found = ordered(n.name, args, _larger)
        return found if isinstance(found, Jet) else _operation(n, args)


def _operation(n: Apply, args: list[Jet]) -> Jet:
    x = args[0]
    match n.name:
        case "mul":
            return x * args[1]
        case "div":
            return x * args[1].to(_MINUS_ONE)
        case "pow" | "powi":
            k = n.args[1]
            if not isinstance(k, Const) or not isinstance(k.value, Fraction):
                raise Stuck("an exponent that is no number")
            return x.to(k.value)
        case "expdiff":
            return (x - args[1]).under("exp")
        case "logaddexp":
            return x + (args[1] - x).under("softplus")
    if len(args) != 1:
        raise Stuck(f"no derivative of {n.name} far out")
    return x.under(n.name)


def _larger(x: Jet, y: Jet) -> Jet:
    return x if larger(x.terms[0], y.terms[0]) is x.terms[0] else y


def far_out(curve: Curve, case: Case, over: Enclosure, order: int) -> Enclosure:
    """A derivative of the element in the variable, up to an infinite end. Raises Undecided, Stuck."""
    side = 1 if over.hi == INF else -1
    near = over.lo if side > 0 else -over.hi
    if (over.lo > -INF) == (over.hi < INF) or not LEAST_START <= near < _LAST_START:
        raise Undecided
    found = _Jets(curve, case, side, floor(near), order + 1).of(curve.body).terms[order] * factorial(order)
    top = found.largest
    if top is None:
        return Enclosure(0.0, 0.0)
    alone = e.mul(found.against(top), size(top, found.start))
    return alone if top > ONE else e.meet(alone, found.box()) or alone


__all__ = ["far_out"]
