"""One-sided Taylor polynomials in one real t: what a value is on a line through a point, just before it and just after.

Coefficients are exact rationals where the arithmetic is, else Arb balls. With an exact leading zero the sign of a value
just beside the point, the root of a square and the quotient of two zeros are known, which no interval around the point
could tell. A jet of a *ball* of points encloses the Taylor coefficients at each of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt
from typing import Any

import flint
from flint import arb, arb_series, fmpq

LENGTH = 5  # coefficients: the value and four derivatives
_BITS = 600  # of a rational number; longer ones become balls


class Undecided(Exception):
    """The balls are too wide, or there is no rule."""


class Undefined(Exception):
    """The value is certainly no real number here; the message says why."""


Number = Any  # Fraction | arb: python-flint has no types


def ball(x: Number) -> Any:
    return arb(fmpq(x.numerator, x.denominator)) if isinstance(x, Fraction) else x


def is_zero(x: Number) -> bool:
    """Whether the number is exactly 0."""
    return x == 0 if isinstance(x, Fraction) else bool(x.is_zero())


def sign_of(x: Number) -> int | None:
    """The sign, None where the ball leaves it open."""
    if isinstance(x, Fraction):
        return int(x > 0) - int(x < 0)
    return 1 if x > 0 else -1 if x < 0 else 0 if x.is_zero() else None


def _plus(a: Number, b: Number) -> Number:
    return _short(a + b) if isinstance(a, Fraction) and isinstance(b, Fraction) else ball(a) + ball(b)


def _times(a: Number, b: Number) -> Number:
    if is_zero(a) or is_zero(b):
        return Fraction(0)
    return _short(a * b) if isinstance(a, Fraction) and isinstance(b, Fraction) else ball(a) * ball(b)


def _over(a: Number, b: Number) -> Number:
    """a / b; b is certainly not 0."""
    if is_zero(a):
        return Fraction(0)
    return _short(a / b) if isinstance(a, Fraction) and isinstance(b, Fraction) else ball(a) / ball(b)


def _short(x: Fraction) -> Number:
    return x if x.numerator.bit_length() + x.denominator.bit_length() < _BITS else ball(x)


@dataclass(frozen=True, slots=True)
class Jet:
    """`terms[k]` is the coefficient of t^k on one side of t = 0. `whole`: the value is this polynomial, all of it (terms
    that are left out are 0); else it has as many derivatives, continuous up to t = 0, as there are terms, less one."""

    terms: tuple[Number, ...]
    whole: bool = False

    @property
    def constant(self) -> bool:
        return self.whole and all(is_zero(c) for c in self.terms[1:])

    @property
    def nothing(self) -> bool:
        """Whether the value is 0 all along the line."""
        return self.whole and all(is_zero(c) for c in self.terms)

    @property
    def leading(self) -> int:
        """The number of exact zeros in front."""
        return next((k for k, c in enumerate(self.terms) if not is_zero(c)), len(self.terms))

    def __getitem__(self, k: int) -> Number:
        """A coefficient that is known."""
        return self.terms[k] if k < len(self.terms) or not self.whole else Fraction(0)

    @property
    def known(self) -> int:
        """The number of coefficients that are known, of those that are kept."""
        return LENGTH if self.whole else len(self.terms)


def constant(x: Number) -> Jet:
    return Jet((x,), True)


def line(at: Number, slope: Number) -> Jet:
    return Jet((at, slope), True)


ZERO, ONE = constant(Fraction(0)), constant(Fraction(1))


# --------------------------------------------------------------------------------------------- arithmetic


def add(a: Jet, b: Jet) -> Jet:
    n = max(len(a.terms), len(b.terms)) if a.whole and b.whole else min(a.known, b.known)
    return Jet(tuple([_plus(a[k], b[k]) for k in range(n)]), a.whole and b.whole)


def neg(a: Jet) -> Jet:
    return Jet(tuple([-x for x in a.terms]), a.whole)


def sub(a: Jet, b: Jet) -> Jet:
    return add(a, neg(b))


def mul(a: Jet, b: Jet) -> Jet:
    if a.nothing or b.nothing:
        return ZERO
    whole = a.whole and b.whole and len(a.terms) + len(b.terms) <= LENGTH + 1
    n = len(a.terms) + len(b.terms) - 1 if whole else min(a.known, b.known)
    terms = []
    for k in range(n):
        total: Number = Fraction(0)
        for j in range(k + 1):
            total = _plus(total, _times(a[j], b[k - j]))
        terms.append(total)
    return Jet(tuple(terms), whole)


def div(a: Jet, b: Jet) -> Jet:
    """a / b beside t = 0: common zeros are divided out. Raises Undecided where b may be 0 there; b is not 0 all along."""
    if b.constant and sign_of(b.terms[0]):
        return Jet(tuple([_over(x, b.terms[0]) for x in a.terms]), a.whole)
    v = b.leading
    if v == len(b.terms) or not sign_of(b.terms[v]):
        raise Undecided("a division by what may be 0")
    if a.nothing:
        return ZERO
    if a.leading < v:
        raise Undecided("a pole")
    n = min(a.known, b.known) - v
    out: list[Number] = []
    for k in range(n):
        rest = a[v + k]
        for j in range(k):
            rest = _plus(rest, -_times(out[j], b[v + k - j]))
        out.append(_over(rest, b[v]))
    return Jet(tuple(out))


def shifted(a: Jet, v: int) -> Jet:
    """a t^v, v >= 0."""
    return Jet((((Fraction(0),) * v) + tuple(a[k] for k in range(a.known)))[:LENGTH])


# ---------------------------------------------------------------------------------------------- functions


def apply(name: str, a: Jet) -> Jet:
    """A function of one argument in the inside of its domain. Raises Undecided."""
    exact = _EXACT.get(name, {}).get(a.terms[0]) if isinstance(a.terms[0], Fraction) else None
    if exact is not None and a.constant:
        return constant(exact)
    rule = _SERIES.get(name)
    if rule is None:
        raise Undecided(f"no series of {name}")
    if name in _POSITIVE_ONLY and sign_of(a.terms[0]) != 1:
        raise Undecided(f"{name} of what may not be positive")
    n = 1 if a.constant else a.known
    before = flint.ctx.cap
    flint.ctx.cap = n
    try:
        found = rule(arb_series([ball(a[k]) for k in range(n)], prec=n)).coeffs()
    finally:
        flint.ctx.cap = before
    terms = [*found, *[arb(0)] * n][:n]
    if not all(c.is_finite() for c in terms):
        raise Undecided(f"{name} of too wide a ball")
    if exact is not None:
        terms[0] = exact
    return Jet(tuple(terms), a.constant)


def _digamma(x: Any) -> Any:
    """From the derivative of the logarithm of the gamma function at the value, composed with the rest."""
    flint.ctx.cap += 1
    try:
        own = arb_series([x[0], 1], prec=flint.ctx.cap).lgamma().derivative()
    finally:
        flint.ctx.cap -= 1
    inner = x - x[0]
    total = arb_series([0])
    for c in reversed(own.coeffs()[: flint.ctx.cap]):
        total = total * inner + c
    return total


def _cdf(x: Any) -> Any:
    return (-x / arb(2).sqrt()).erfc() / 2


_SERIES: dict[str, Callable[[Any], Any]] = {
    "exp": lambda x: x.exp(),
    "expm1": lambda x: x.exp() - 1,
    "log": lambda x: x.log(),
    "log2": lambda x: x.log() / arb(2).log(),
    "log10": lambda x: x.log() / arb(10).log(),
    "sqrt": lambda x: x.sqrt(),
    "sin": lambda x: x.sin(),
    "cos": lambda x: x.cos(),
    "tan": lambda x: x.tan(),
    "asin": lambda x: x.asin(),
    "acos": lambda x: x.acos(),
    "atan": lambda x: x.atan(),
    "sinh": lambda x: (x.exp() - (-x).exp()) / 2,
    "cosh": lambda x: (x.exp() + (-x).exp()) / 2,
    "tanh": lambda x: 1 - 2 / ((2 * x).exp() + 1),
    "sigmoid": lambda x: 1 / (1 + (-x).exp()),
    "softplus": lambda x: (1 + x.exp()).log(),
    "logsigmoid": lambda x: -(1 + (-x).exp()).log(),
    "logcosh": lambda x: ((x.exp() + (-x).exp()) / 2).log(),
    "erf": lambda x: x.erf(),
    "erfc": lambda x: x.erfc(),
    "normal_cdf": _cdf,
    "log_normal_cdf": lambda x: _cdf(x).log(),
    "lgamma": lambda x: x.lgamma(),
    "digamma": _digamma,
}
_POSITIVE_ONLY = frozenset({"log", "log2", "log10", "sqrt", "lgamma", "digamma"})
_F = Fraction
_EXACT: dict[str, dict[Fraction, Fraction]] = {
    **{n: {_F(0): _F(0)} for n in ("expm1", "sin", "tan", "asin", "atan", "sinh", "tanh", "logcosh", "erf")},
    **{n: {_F(0): _F(1)} for n in ("exp", "cos", "cosh", "erfc")},
    **{n: {_F(1): _F(0)} for n in ("log", "log2", "log10")},
    **{n: {_F(0): _F(1, 2)} for n in ("sigmoid", "normal_cdf")},
}


def power(a: Jet, exponent: Fraction, side: int) -> Jet:
    """a ** exponent beside t = 0, on one side of it (`side` is 0 for the value there alone). A base that vanishes there has
    to be positive on that side. Raises Undecided."""
    if exponent.denominator == 1 and abs(exponent) <= 64:
        result = ONE
        for _ in range(abs(exponent.numerator)):
            result = mul(result, a)
        return result if exponent >= 0 else div(ONE, result)
    first = sign_of(a.terms[0])
    if first == 1:
        root = _root(a.terms[0], exponent)
        if root is not None and a.constant:
            return constant(root)
        if exponent == _HALF:
            found = apply("sqrt", a)
        else:
            found = apply("exp", mul(apply("log", a), constant(exponent)))
        return Jet((root, *found.terms[1:]), found.whole) if root is not None else found
    if a.nothing and exponent > 0:
        return ZERO
    v = a.leading
    order = v * exponent
    if first != 0 or side == 0 or v == len(a.terms) or order.denominator != 1 or order < 0:
        raise Undecided("a power of what may be 0")
    rest = Jet(tuple([a[k] * side**v for k in range(v, a.known)]))
    if sign_of(rest.terms[0]) != 1:
        raise Undecided("a power of what may be negative")
    outer = power(rest, exponent, side)
    return shifted(outer if side**order.numerator == 1 else neg(outer), order.numerator)


_HALF = Fraction(1, 2)


def _root(x: Number, exponent: Fraction) -> Fraction | None:
    """The power where it is rational and a square root is all that it takes."""
    if not isinstance(x, Fraction) or exponent.denominator != 2 or abs(exponent.numerator) > 9:
        return None
    p, q = isqrt(x.numerator), isqrt(x.denominator)
    return Fraction(p, q) ** exponent.numerator if p * p == x.numerator and q * q == x.denominator else None


__all__ = ["LENGTH", "ONE", "ZERO", "Jet", "Undecided", "Undefined"]
