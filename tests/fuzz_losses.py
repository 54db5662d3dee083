"""Random losses with an evaluator of their own in mpmath: one entry at a time (in `x`, with `y` and a parameter `a`), and
rows (`z` along an axis `c`, with a class or a distribution beside it). Nothing here knows of the verifier.

A value where a function is undefined is NaN; numbers that are too large to evaluate raise `TooFar`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import mpmath as mp

Env = dict[str, Any]
Value = Callable[[Env], Any]


class TooFar(Exception):
    """The value needs more digits than there are."""


@dataclass(frozen=True)
class Expr:
    """The text of an expression, its value, and the numbers that it compares with or shifts by."""

    text: str
    value: Value
    numbers: tuple[Fraction, ...] = ()
    partial: bool = False  # whether it may be undefined somewhere


# ------------------------------------------------------------------------------------------------ functions


def _near(t: Any, most: float = 1e4) -> Any:
    if mp.isfinite(t) and abs(t) > most:
        raise TooFar
    return t


def _sat(f: Callable[[Any], Any], low: Any, high: Any, most: float = 1e4) -> Callable[[Any], Any]:
    """A function with limits at -inf and inf."""

    def at(t: Any) -> Any:
        if mp.isnan(t):
            return mp.nan
        if mp.isinf(t):
            limit = low if t < 0 else high
            if limit is None:
                raise TooFar
            return mp.mpf(limit)
        return f(_near(t, most))

    return at


def _on(f: Callable[[Any], Any], inside: Callable[[Any], bool], most: float = 1e4) -> Callable[[Any], Any]:
    """A function that is undefined elsewhere."""
    return lambda t: f(_near(t, most)) if not mp.isnan(t) and inside(t) else mp.nan


def _log(t: Any) -> Any:
    if mp.isnan(t) or t < 0:
        return mp.nan
    return -mp.inf if t == 0 else mp.log(t)


def _softplus(t: Any) -> Any:
    return max(t, mp.mpf(0)) + mp.log1p(mp.exp(-abs(t)))


def _gamma(f: Callable[[Any], Any], t: Any) -> Any:
    """A function of the gamma family: at thousands of digits a single value takes seconds."""
    if mp.mp.dps > 150:
        raise TooFar
    return f(_near(t))


def _lgamma(t: Any) -> Any:
    return mp.nan if mp.isnan(t) or t < 0 else mp.inf if t == 0 else _gamma(mp.loggamma, t)


def _cdf(t: Any) -> Any:
    return mp.erfc(-t / mp.sqrt(2)) / 2


def _bessel(order: int) -> Callable[[Any], Any]:
    return _sat(lambda t: mp.besseli(order, t) * mp.exp(-abs(t)), 0, 0, 300)


INF = "inf"
ONE: dict[str, Callable[[Any], Any]] = {
    "abs({})": abs,
    "relu({})": lambda t: mp.nan if mp.isnan(t) else max(t, mp.mpf(0)),
    "sign({})": mp.sign,
    "-({})": lambda t: -t,
    "({})^2": lambda t: t**2,
    "({})^3": lambda t: t**3,
    "({})^4": lambda t: t**4,
    "abs({})^(3/2)": lambda t: abs(t) ** mp.mpf("1.5"),
    "sqrt(abs({}))": lambda t: mp.sqrt(abs(t)),
    "sqrt(1 + ({})^2)": lambda t: mp.sqrt(1 + t**2),
    "exp({} / 4)": _sat(lambda t: mp.exp(t / 4), 0, INF),
    "exp(-({})^2)": _sat(lambda t: mp.exp(-(t**2)), 0, 0, 100),
    "exp(-abs({}))": _sat(lambda t: mp.exp(-abs(t)), 0, 0),
    "expm1({})": _sat(mp.expm1, -1, INF),
    "log(1 + exp({}))": _sat(_softplus, 0, INF),
    "log(1 + ({})^2)": lambda t: mp.log1p(t**2),
    "log1p(abs({}))": lambda t: mp.log1p(abs(t)),
    "log2(1 + abs({}))": lambda t: mp.log1p(abs(t)) / mp.log(2),
    "log10(2 + abs({}))": lambda t: mp.log(2 + abs(t)) / mp.log(10),
    "log1mexp(-1/2 - abs({}))": _sat(lambda t: mp.log1p(-mp.exp(-mp.mpf(1) / 2 - abs(t))), 0, 0),
    "sigmoid({})": _sat(lambda t: 1 / (1 + mp.exp(-t)), 0, 1),
    "1 / (1 + exp(-({})))": _sat(lambda t: 1 / (1 + mp.exp(-t)), 0, 1),
    "logsigmoid({})": _sat(lambda t: -_softplus(-t), "-inf", 0),
    "softplus({})": _sat(_softplus, 0, INF),
    "tanh({})": _sat(mp.tanh, -1, 1),
    "sinh({} / 4)": _sat(lambda t: mp.sinh(t / 4), "-inf", INF),
    "cosh({} / 4)": _sat(lambda t: mp.cosh(t / 4), INF, INF),
    "logcosh({})": _sat(lambda t: abs(t) + mp.log1p(mp.exp(-2 * abs(t))) - mp.log(2), INF, INF),
    "sin({})": _sat(mp.sin, "nan", "nan", 1e8),
    "cos({})": _sat(mp.cos, "nan", "nan", 1e8),
    "sin(1000 * ({})) / 1000000": _sat(lambda t: mp.sin(1000 * t) / 1000000, "nan", "nan", 1e8),
    "tan(atan({}) / 2)": _sat(lambda t: mp.tan(mp.atan(t) / 2), -1, 1, 1e8),
    "asin(tanh({}))": _sat(lambda t: mp.asin(mp.tanh(t)), None, None, 40),
    "acos(clamp({}, -1, 1))": lambda t: mp.acos(min(max(t, mp.mpf(-1)), mp.mpf(1))),
    "atan({})": _sat(mp.atan, None, None, 1e30),
    "atan2({}, 2)": _sat(lambda t: mp.atan2(t, 2), None, None, 1e30),
    "erf({})": _sat(mp.erf, -1, 1, 100),
    "erfc({})": _sat(mp.erfc, 2, 0, 100),
    "normal_cdf({})": _sat(_cdf, 0, 1, 100),
    "log_normal_cdf({})": _sat(lambda t: mp.log1p(-_cdf(-t)) if t > 0 else mp.log(_cdf(t)), "-inf", 0, 100),
    "i0e({})": _bessel(0),
    "lgamma(1/2 + abs({}))": lambda t: _gamma(mp.loggamma, mp.mpf(1) / 2 + abs(t)),
    "digamma(1 + abs({}))": lambda t: _gamma(mp.digamma, 1 + abs(t)),
    "clamp({}, -1/2, 1)": lambda t: min(max(t, mp.mpf(-1) / 2), mp.mpf(1)),
    "floor({})": lambda t: t if not mp.isfinite(t) else mp.floor(t),
    "ceil({})": lambda t: t if not mp.isfinite(t) else mp.ceil(t),
    "({}) / (1 + ({})^2)": lambda t: t / (1 + t**2),
    "1 / (1 + abs({}))": lambda t: 1 / (1 + abs(t)),
    "xlogy(relu({}), relu({}))": lambda t: mp.mpf(0) if t <= 0 else t * mp.log(t),
    "stop({})": lambda t: t,
}
PARTIAL: dict[str, Callable[[Any], Any]] = {
    "log({})": _log,
    "log1p({})": lambda t: _log(1 + t),
    "sqrt({})": lambda t: mp.sqrt(t) if not mp.isnan(t) and t >= 0 else mp.nan,
    "1 / ({})": lambda t: _divide(mp.mpf(1), t),
    "({}) / ({})": lambda t: _divide(t, t),
    "({})^(-2)": lambda t: _divide(mp.mpf(1), t**2),
    "log1mexp({})": lambda t: mp.nan if mp.isnan(t) or t > 0 else _log(-mp.expm1(_near(t))),
    "lgamma({})": _lgamma,
    "digamma({})": _on(lambda t: _gamma(mp.digamma, t), lambda t: t > 0),
    "asin({})": _on(mp.asin, lambda t: abs(t) <= 1),
    "acos({})": _on(mp.acos, lambda t: abs(t) <= 1),
    "tan({})": _sat(mp.tan, "nan", "nan", 1e8),
    "({}) * log({})": lambda t: t * _log(t),
    "xlogy({}, {})": lambda t: mp.mpf(0) if t == 0 else t * _log(t),
}
STEADY = (
    "abs({})",
    "relu({})",
    "({})^2",
    "softplus({})",
    "log(1 + exp({}))",
    "sqrt(1 + ({})^2)",
    "logcosh({})",
    "exp({} / 4)",
    "-({})",
)


def _divide(a: Any, b: Any) -> Any:
    if mp.isnan(a) or mp.isnan(b):
        return mp.nan
    if b == 0:
        return mp.nan if a == 0 else mp.sign(a) * mp.inf
    return a / b


def _power(a: Any, b: Any) -> Any:
    if mp.isnan(a) or mp.isnan(b) or a < 0:
        return mp.nan
    if a == 0:
        return mp.mpf(1) if b == 0 else mp.mpf(0) if b > 0 else mp.inf
    return mp.power(a, b)


def _logaddexp(p: Any, q: Any) -> Any:
    top = max(p, q)
    return top + mp.log1p(mp.exp(-abs(p - q))) if mp.isfinite(top) and mp.isfinite(min(p, q)) else top


def _xlogy(p: Any, q: Any) -> Any:
    return mp.mpf(0) if p == 0 and not mp.isnan(q) else p * _log(q)


TWO: dict[str, Callable[[Any, Any], Any]] = {
    "({} + {})": lambda p, q: p + q,
    "({} - {})": lambda p, q: p - q,
    "({} * {})": lambda p, q: p * q,
    "max({}, {})": lambda p, q: mp.nan if mp.isnan(p) or mp.isnan(q) else max(p, q),
    "min({}, {})": lambda p, q: mp.nan if mp.isnan(p) or mp.isnan(q) else min(p, q),
    "logaddexp({}, {})": _logaddexp,
    "({}) / (1 + abs({}))": lambda p, q: p / (1 + abs(q)),
    "({})^2 / (1/2 + ({})^2)": lambda p, q: p**2 / (mp.mpf(1) / 2 + q**2),
}
_TWO_WEIGHTS = (6, 3, 4, 2, 2, 1, 1, 1)
_CONDITIONS: tuple[tuple[str, Callable[[Any, Any], bool]], ...] = (
    ("{} > {}", lambda p, q: p > q),
    ("{} <= {}", lambda p, q: p <= q),
    ("abs({}) <= {}", lambda p, q: abs(p) <= q),
    ("{} == {}", lambda p, q: p == q),
)


def _unary(rng: random.Random, e: Expr, partial: float) -> Expr:
    kind = rng.random()
    table = PARTIAL if kind < partial else ONE
    template = rng.choice(STEADY) if partial <= kind < 0.45 else rng.choice(list(table))
    f, g = {**ONE, **PARTIAL}[template], e.value
    return Expr(template.replace("{}", e.text), lambda v: f(g(v)), e.numbers, e.partial or template in PARTIAL)


def number(rng: random.Random) -> Expr:
    q = Fraction(rng.randint(-4, 6), rng.choice((1, 1, 2, 3, 4)))
    return Expr(f"({q})", lambda v: mp.mpf(q.numerator) / q.denominator, (q,))


def grow(rng: random.Random, depth: int, leaf: Callable[[], Expr], partial: float) -> Expr:
    """An expression over the leaves."""
    if depth == 0:
        return leaf()
    kind = rng.random()
    if kind < 0.5:
        return _unary(rng, grow(rng, depth - 1, leaf, partial), partial)
    p, q = grow(rng, depth - 1, leaf, partial), grow(rng, depth - 1, leaf, partial)
    f, g, numbers = p.value, q.value, p.numbers + q.numbers
    either = p.partial or q.partial
    if kind < 0.85:
        ((template, two),) = rng.choices(list(TWO.items()), _TWO_WEIGHTS)
        left, right = template.split("{}", 1)[0], template.split("{}", 1)[1]
        text = left + p.text + right.replace("{}", q.text)
        return Expr(text, lambda v: two(f(v), g(v)), numbers, either)
    if kind < 0.88:
        k = rng.choice((Fraction(1, 2), Fraction(4, 3), Fraction(3)))
        return Expr(f"abs({p.text})^({k})", lambda v: _power(abs(f(v)), mp.mpf(k.numerator) / k.denominator), p.numbers)
    if kind < 0.9:
        return Expr(f"xlogy(relu({p.text}), 1 + abs({q.text}))", lambda v: _xlogy(max(f(v), 0), 1 + abs(g(v))), numbers)
    words, holds = rng.choice(_CONDITIONS)
    a, b = leaf(), number(rng) if rng.random() < 0.6 else leaf()
    c, d = a.value, b.value
    text = f"({p.text} if {words.format(a.text, b.text)} else {q.text})"
    return Expr(text, lambda v: f(v) if holds(c(v), d(v)) else g(v), numbers + b.numbers + a.numbers, either)


# ---------------------------------------------------------------------------------------------- one entry


@dataclass(frozen=True)
class Domain:
    """Of a real number: its text, its ends (None is none), and whether they belong to it."""

    text: str
    lo: Fraction | None = None
    hi: Fraction | None = None
    open: tuple[bool, bool] = (False, False)
    values: tuple[int, ...] = ()

    @property
    def ends(self) -> tuple[Fraction | None, Fraction | None]:
        return self.lo, self.hi

    def holds(self, t: Any) -> bool:
        if self.values:
            return any(t == v for v in self.values)
        lo, hi = (e if e is None or isinstance(t, Fraction) else mp.mpf(e.numerator) / e.denominator for e in self.ends)
        above = lo is None or t > lo or (t == lo and not self.open[0])
        below = hi is None or t < hi or (t == hi and not self.open[1])
        return above and below


F = Fraction
X_DOMAINS = (
    Domain("real[...]"),
    Domain("real[...]"),
    Domain("real[...]"),
    Domain("real[...] > 0", F(0), None, (True, False)),
    Domain("real[...] >= 0", F(0)),
    Domain("real[...] <= 0", None, F(0)),
    Domain("real[...] in [0, 1]", F(0), F(1)),
    Domain("real[...] in (0, 1]", F(0), F(1), (True, False)),
    Domain("prob[...]", F(0), F(1)),
    Domain("real[...] in [-2, 3]", F(-2), F(3)),
    Domain("real[...] >= -1/3", F(-1, 3)),
)
Y_DOMAINS = (
    Domain("real[...]"),
    Domain("real[...]"),
    Domain("real[...] in [-2, 2]", F(-2), F(2)),
    Domain("real[...] in [0, 1]", F(0), F(1)),
    Domain("real[...] > 0", F(0), None, (True, False)),
    Domain("binary[...]", values=(0, 1)),
    Domain("sign[...]", values=(-1, 1)),
)
A_DOMAINS = (
    Domain("real in [0, 2] = 1", F(0), F(2)),
    Domain("real in [1/2, 2] = 1", F(1, 2), F(2)),
    Domain("real > 0 = 1", F(0), None, (True, False)),
    Domain("real = 1"),
    Domain("real in [-1, 1] = 1", F(-1), F(1)),
    Domain("real in (0, 1) = 1/2", F(0), F(1), (True, True)),
)


@dataclass(frozen=True)
class Entry:
    """A loss of one entry `x`, with `y` and `a` beside it."""

    per: Expr
    x: Domain
    y: Domain
    a: Domain
    default: Fraction

    def value(self, x: Any, y: Any, a: Any) -> Any:
        try:
            found = self.per.value({"x": x, "y": y, "a": a})
        except (ZeroDivisionError, OverflowError, ValueError) as problem:
            raise TooFar from problem
        return mp.nan if isinstance(found, mp.mpc) else mp.mpf(found)

    def source(self, claims: list[str]) -> str:
        lines = [f"input x: {self.x.text}", f"input y: {self.y.text}", f"param a: {self.a.text}"]
        lines += [f"per = {self.per.text} + 0 * x + 0 * y + 0 * a", "return mean(per)"]
        return "loss fuzz:\n" + "".join(f"    {line}\n" for line in lines + [f"claim {c}" for c in claims])


def entry(rng: random.Random) -> Entry:
    x, y, a = rng.choice(X_DOMAINS), rng.choice(Y_DOMAINS), rng.choice(A_DOMAINS)

    def leaf() -> Expr:
        kind = rng.random()
        if kind < 0.4:
            return Expr("x", lambda v: v["x"])
        if kind < 0.6:
            return Expr("(x - y)", lambda v: v["x"] - v["y"])
        if kind < 0.68:
            return Expr("(a * x)", lambda v: v["a"] * v["x"])
        if kind < 0.74:
            return Expr("(y * x)", lambda v: v["y"] * v["x"])
        if kind < 0.8:
            return Expr("(x - a)", lambda v: v["x"] - v["a"])
        if kind < 0.86:
            return Expr("a", lambda v: v["a"])
        return Expr("y", lambda v: v["y"]) if kind < 0.9 else number(rng)

    per = grow(rng, rng.choice((1, 2, 2, 3, 3)), leaf, 0.08)
    return Entry(per, x, y, a, Fraction(a.text.split("= ")[-1]))


# ----------------------------------------------------------------------------------------------------- rows


@dataclass(frozen=True)
class Row:
    """A loss of a row `z` along `c`, beside it a class `t` or a distribution `p`, and a parameter `a`."""

    per: Expr
    z: str  # "real" or "simplex" or "prob"
    label: str  # "class" or "simplex"
    a: Domain = field(default=A_DOMAINS[1])
    default: Fraction = Fraction(1)

    def value(self, z: list[Any], label: Any, a: Any) -> Any:
        try:
            found = self.per.value({"z": z, "t": label, "p": label, "a": a, "k": 0})
        except (ZeroDivisionError, OverflowError, ValueError) as problem:
            raise TooFar from problem
        return mp.nan if isinstance(found, mp.mpc) else mp.mpf(found)

    def source(self, claims: list[str]) -> str:
        kinds = {"real": "real[n, c]", "simplex": "simplex[n, c] over c", "prob": "prob[n, c]"}
        label = "input t: class[n] of c" if self.label == "class" else "input p: simplex[n, c] over c"
        lines = [f"input z: {kinds[self.z]}", label, f"param a: {self.a.text}"]
        lines += [f"per = {self.per.text} + 0 * sum(z over c)", "return mean(per)"]
        return "loss fuzz:\n" + "".join(f"    {line}\n" for line in lines + [f"claim {c}" for c in claims])


def _logsumexp(values: list[Any]) -> Any:
    top = max(values)
    return top + mp.log(mp.fsum(mp.exp(v - top) for v in values)) if mp.isfinite(top) else top


HEADS: dict[str, Callable[[list[Any]], Any]] = {
    "sum({} over c)": mp.fsum,
    "mean({} over c)": lambda w: mp.fsum(w) / len(w),
    "max({} over c)": max,
    "min({} over c)": min,
    "logsumexp({} over c)": _logsumexp,
    "log(sum(exp({}) over c))": _logsumexp,
    "norm({} over c)": lambda w: mp.sqrt(mp.fsum(t**2 for t in w)),
    "sum(abs({}) over c)": lambda w: mp.fsum(abs(t) for t in w),
    "sum(({})^2 over c)": lambda w: mp.fsum(t**2 for t in w),
}


def _head(rng: random.Random, e: Expr) -> Expr:
    template = rng.choice(list(HEADS))
    f, g = HEADS[template], e.value
    text = template.replace("{}", e.text)
    return Expr(text, lambda v: f([_near(g({**v, "k": k})) for k in range(len(v["z"]))]), e.numbers)


def row(rng: random.Random) -> Row:
    kind, label = rng.choice(("real", "real", "real", "simplex", "prob")), rng.choice(("class", "class", "simplex"))

    def inner() -> Expr:
        drawn = rng.random()
        if drawn < 0.7:
            return Expr("z", lambda v: v["z"][v["k"]])
        if drawn < 0.8:
            return Expr("(a * z)", lambda v: v["a"] * v["z"][v["k"]])
        if label == "simplex":
            if drawn < 0.9:
                return Expr("(p * z)", lambda v: v["p"][v["k"]] * v["z"][v["k"]])
            return Expr("(z - p)", lambda v: v["z"][v["k"]] - v["p"][v["k"]])
        if drawn < 0.9:
            return Expr("(z - z[c = t])", lambda v: v["z"][v["k"]] - v["z"][v["t"]])
        return Expr("z / a", lambda v: v["z"][v["k"]] / v["a"])

    def outer() -> Expr:
        drawn = rng.random()
        if drawn < 0.65:
            return _head(rng, grow(rng, rng.choice((0, 0, 1, 1, 2)), inner, 0.04))
        if drawn < 0.8 and label == "class":
            return Expr("z[c = t]", lambda v: v["z"][v["t"]])
        if drawn < 0.92 and label == "class":
            return Expr("(logsumexp(z over c) - z[c = t])", lambda v: _logsumexp(v["z"]) - v["z"][v["t"]])
        if drawn < 0.95:
            return Expr("a", lambda v: v["a"])
        return number(rng)

    per = grow(rng, rng.choice((0, 0, 1, 1, 2)), outer, 0.04)
    return Row(per, kind, label)
