"""Scalars in units of positive numbers: what is written `factor * unit^degree * ... * rest`, so that places which move with
a parameter are numbers again (Huber's loss of `delta t` is `delta^2` times the one whose kink is at 1).

Each step is an identity of real numbers for all positive values of the units, and defines neither more nor less: a positive
power of one passes through sums, products, extrema, absolute values, powers, comparisons and selections, and is put back
where it does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import gcd, isqrt, lcm

from lossdsl.certificate.rules import Stuck
from lossdsl.ir.nodes import INT, ONE, REAL, ZERO, Apply, Compare, Const, Scalar, Select, postorder

_EVEN = frozenset({"neg", "abs", "relu"})  # f(c x) = c f(x) for c > 0
_JOINED = frozenset({"add", "sub", "max2", "min2", "clamp"})  # so in all arguments at once
_LARGE = 2**200
_MOST = 16  # an exponent


@dataclass(frozen=True)
class Scaled:
    """The scalar `factor * rest` times powers of units; factor > 0, and no degree is 0."""

    rest: Scalar
    factor: Fraction = Fraction(1)
    degrees: Mapping[Scalar, Fraction] = field(default_factory=dict)

    def over(self, other: Scaled) -> Scaled:
        """Divided by the powers and the factor of another one."""
        return Scaled(self.rest, self.factor / other.factor, _sum(self.degrees, other.degrees, -1))


def _sum(a: Mapping[Scalar, Fraction], b: Mapping[Scalar, Fraction], times: int = 1) -> dict[Scalar, Fraction]:
    both = {n: a.get(n, Fraction(0)) + times * b.get(n, Fraction(0)) for n in (*a, *b)}
    return {n: k for n, k in both.items() if k}


class Units:
    """Scalars in some units; `known`: how some are written, the variable among them; `apart`: logarithms of products as
    sums."""

    def __init__(self, units: Iterable[Scalar], known: Mapping[Scalar, Scaled], *, apart: bool = False) -> None:
        self._apart = apart
        self._known = {n: Scaled(ONE, degrees={n: Fraction(1)}) for n in units} | {**known}

    def of(self, root: Scalar) -> Scaled:
        """Raises Stuck for a number that is too large."""
        for n in postorder(root):
            if n not in self._known:
                found = self._node(n)
                if max(found.factor.numerator, found.factor.denominator) > _LARGE:
                    raise Stuck("a number that is too large")
                self._known[n] = found
        return self._known[root]

    def _node(self, n: Scalar) -> Scaled:
        parts = [self._known[c] for c in n.children]
        if isinstance(n, Const):
            return _constant(n)
        if isinstance(n, Select) and n.dtype is REAL:
            common, (a, b) = self._common(parts[1:])
            return Scaled(Select(parts[0].rest, a, b), common.factor, common.degrees)
        if isinstance(n, Compare):
            return Scaled(Compare(n.op, *self._common(parts)[1]))
        found = self._apply(n, parts) if isinstance(n, Apply) and n.args and n.dtype is REAL else None
        return found or Scaled(n.rebuild(tuple(whole(p) for p in parts)))

    def _apply(self, n: Apply, parts: list[Scaled]) -> Scaled | None:
        a = parts[0]
        if n.name in _EVEN:
            return Scaled(Apply(n.name, (a.rest,)), a.factor, a.degrees)
        if n.name in _JOINED:
            common, rests = self._common(parts)
            return Scaled(Apply(n.name, rests), common.factor, common.degrees)
        if n.name == "mul":
            b = parts[1]
            return Scaled(product(a.rest, b.rest), a.factor * b.factor, _sum(a.degrees, b.degrees))
        if n.name == "div":
            b = parts[1]
            rest = a.rest if b.rest is ONE else Apply("div", (a.rest, b.rest))
            return Scaled(rest, a.factor / b.factor, _sum(a.degrees, b.degrees, -1))
        if n.name == "sqrt":
            root = _root(a.factor)
            inside = a.rest if root is not None else product(Const(a.factor), a.rest)
            return Scaled(Apply("sqrt", (inside,)), root or Fraction(1), _times(a.degrees, Fraction(1, 2)))
        if n.name in ("log", "log1p") and self._apart:
            return _logarithm(n.name, a)
        return self._power(n, a) if n.name in ("pow", "powi") else None

    def _power(self, n: Apply, a: Scaled) -> Scaled | None:
        exponent = n.args[1]
        k = exponent.value if isinstance(exponent, Const) else None
        if not isinstance(k, Fraction) or abs(k) > _MOST:
            return None
        if k.denominator == 1:
            rest = ONE if a.rest is ONE else Apply(n.name, (a.rest, exponent))
            return Scaled(rest, a.factor ** int(k), _times(a.degrees, k))
        inside = a.rest if a.factor == 1 else product(Const(a.factor), a.rest)
        return Scaled(Apply(n.name, (inside, exponent)), degrees=_times(a.degrees, k))

    def _common(self, parts: list[Scaled]) -> tuple[Scaled, tuple[Scalar, ...]]:
        """What is taken out of several scalars, and what is left of each."""
        some = [p for p in parts if p.rest is not ZERO and p.rest.dtype is REAL]
        if len(some) < sum(p.rest is not ZERO for p in parts) or not some:
            return Scaled(ONE), tuple(whole(p) for p in parts)
        bottom = lcm(*(p.factor.denominator for p in some))
        factor = Fraction(gcd(*(int(p.factor * bottom) for p in some)), bottom)
        least = {n: min(p.degrees.get(n, Fraction(0)) for p in some) for p in some for n in p.degrees}
        common = Scaled(ONE, factor, {n: k for n, k in least.items() if k})
        return common, tuple(whole(p.over(common)) for p in parts)


def _logarithm(name: str, a: Scaled) -> Scaled:
    """log(u^k x) = k log u + log x, and 1 + u^-k x = u^-k (u^k + x)."""
    out = {n: k for n, k in a.degrees.items() if k < 0 or name == "log"}
    left = whole(a.over(Scaled(ONE, degrees=out)))
    inside = left if name == "log" else Apply("add", (powers(_times(out, Fraction(-1)), ONE), left))
    found: Scalar = Apply("log" if out else name, (inside if out else whole(a),))
    for n, k in out.items():
        found = Apply("add", (product(Const(k), Apply("log", (n,))), found))
    return Scaled(found)


def _times(degrees: Mapping[Scalar, Fraction], k: Fraction) -> dict[Scalar, Fraction]:
    return {n: k * d for n, d in degrees.items() if k}


def whole(s: Scaled) -> Scalar:
    """The scalar itself."""
    if s.rest is ZERO or s.rest.dtype is not REAL:
        return s.rest
    found = powers(s.degrees, s.rest)
    return found if s.factor == 1 else product(Const(s.factor), found)


def powers(degrees: Mapping[Scalar, Fraction], rest: Scalar) -> Scalar:
    """A scalar times powers of units."""
    for unit, k in degrees.items():
        power = Apply("powi", (unit, Const(k, INT))) if k.denominator == 1 else Apply("pow", (unit, Const(k)))
        rest = product(unit if k == 1 else power, rest)
    return rest


def product(a: Scalar, b: Scalar) -> Scalar:
    """The product, without a factor of 1."""
    return b if a is ONE else a if b is ONE else Apply("mul", (a, b))


def _constant(n: Const) -> Scaled:
    if isinstance(n.value, str):
        raise Stuck(f"the number {n.value}")
    if n.dtype is not REAL or n.value == 0:
        return Scaled(n)
    return Scaled(ONE if n.value > 0 else Apply("neg", (ONE,)), abs(n.value))


def _root(x: Fraction) -> Fraction | None:
    """The square root, if it is rational."""
    top, bottom = isqrt(x.numerator), isqrt(x.denominator)
    return Fraction(top, bottom) if Fraction(top**2, bottom**2) == x else None


__all__ = ["Scaled", "Units", "powers", "product", "whole"]
