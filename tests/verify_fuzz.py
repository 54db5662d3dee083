"""Random scalar losses, with an evaluator of their own (mpmath), to attack the verifier's verdicts."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath as mp

Values = dict[str, Any]


@dataclass(frozen=True)
class Expression:
    """The text of a loss expression, and its value at mpmath precision."""

    text: str
    value: Callable[[Values], Any]


def _leaf(rng: random.Random) -> Expression:
    kind = rng.random()
    if kind < 0.55:
        return Expression("x", lambda v: v["x"])
    if kind < 0.75:
        return Expression("(x - y)", lambda v: v["x"] - v["y"])
    if kind < 0.83:
        return Expression("a", lambda v: v["a"])
    n, d = rng.randint(-4, 6), rng.choice((1, 1, 2, 4))
    return Expression(f"({n} / {d})", lambda v: mp.mpf(n) / d)


def _unary(name: str, e: Expression) -> Expression:
    f = e.value
    table: dict[str, tuple[str, Callable[[Values], Any]]] = {
        "abs": (f"abs({e.text})", lambda v: abs(f(v))),
        "relu": (f"relu({e.text})", lambda v: max(f(v), mp.mpf(0))),
        "square": (f"({e.text})^2", lambda v: f(v) ** 2),
        "cube": (f"({e.text})^3", lambda v: f(v) ** 3),
        "exp": (f"exp(-({e.text})^2)", lambda v: mp.exp(-(f(v) ** 2))),
        "exp2": (f"exp({e.text} / 4)", lambda v: mp.exp(f(v) / 4)),
        "log1p": (f"log1p(({e.text})^2)", lambda v: mp.log1p(f(v) ** 2)),
        "softplus": (f"softplus({e.text})", lambda v: mp.log1p(mp.exp(-abs(f(v)))) + max(f(v), mp.mpf(0))),
        "sigmoid": (f"sigmoid({e.text})", lambda v: 1 / (1 + mp.exp(-f(v)))),
        "logsigmoid": (f"logsigmoid({e.text})", lambda v: min(f(v), mp.mpf(0)) - mp.log1p(mp.exp(-abs(f(v))))),
        "tanh": (f"tanh({e.text})", lambda v: mp.tanh(f(v))),
        "root": (f"sqrt(1 + ({e.text})^2)", lambda v: mp.sqrt(1 + f(v) ** 2)),
        "logcosh": (f"logcosh({e.text})", lambda v: mp.log(mp.cosh(f(v)))),
        "sin": (f"sin({e.text})", lambda v: mp.sin(f(v))),
        "ratio": (f"({e.text}) / (1 + ({e.text})^2)", lambda v: f(v) / (1 + f(v) ** 2)),
        "neg": (f"-({e.text})", lambda v: -f(v)),
        "clamp": (f"clamp({e.text}, -1, 2)", lambda v: min(max(f(v), mp.mpf(-1)), mp.mpf(2))),
    }
    text, value = table[name]
    return Expression(text, value)


UNARY = (
    "abs",
    "relu",
    "square",
    "cube",
    "exp",
    "exp2",
    "log1p",
    "softplus",
    "sigmoid",
    "logsigmoid",
    "tanh",
    "root",
    "logcosh",
    "sin",
    "ratio",
    "neg",
    "clamp",
    "abs",
    "relu",
    "square",
    "softplus",
)


def expression(rng: random.Random, depth: int) -> Expression:
    if depth == 0:
        return _leaf(rng)
    kind = rng.random()
    if kind < 0.5:
        return _unary(rng.choice(UNARY), expression(rng, depth - 1))
    p, q = expression(rng, depth - 1), expression(rng, depth - 1)
    f, g = p.value, q.value
    if kind < 0.66:
        return Expression(f"({p.text} + {q.text})", lambda v: f(v) + g(v))
    if kind < 0.72:
        return Expression(f"({p.text} - {q.text})", lambda v: f(v) - g(v))
    if kind < 0.8:
        return Expression(f"({p.text} * {q.text})", lambda v: f(v) * g(v))
    if kind < 0.85:
        return Expression(f"max({p.text}, {q.text})", lambda v: max(f(v), g(v)))
    if kind < 0.88:
        return Expression(f"min({p.text}, {q.text})", lambda v: min(f(v), g(v)))
    if kind < 0.94:
        k = rng.choice((1, 2, 3))
        return Expression(
            f"({p.text} if abs(x - y) <= {k} else {q.text})", lambda v: f(v) if abs(v["x"] - v["y"]) <= k else g(v)
        )
    return Expression(f"({p.text} if x > a else {q.text})", lambda v: f(v) if v["x"] > v["a"] else g(v))


def source(e: Expression) -> str:
    return f"""loss fuzz:
    input x, y: real[...]
    param a: real in [1/2, 2] = 1
    per = {e.text} + 0 * x
    return mean(per)

    claim convex in x
    claim concave in x
    claim per >= 0
    claim lipschitz in x <= 1
    claim lipschitz in x <= a
    claim increasing in x
    claim C1 in x
    claim C0 in x
    claim smooth in x
"""


def points(rng: random.Random, count: int) -> list[Values]:
    out = []
    for _ in range(count):
        spread = rng.choice((0.01, 1.0, 3.0, 10.0, 60.0))
        centre = rng.choice((0.0, 0.0, 1.0, -1.0, 2.0, 3.0))
        y = rng.choice((0.0, rng.uniform(-3, 3)))
        a = rng.choice((0.5, 1.0, 2.0, rng.uniform(0.5, 2)))
        out.append({"x": mp.mpf(rng.uniform(centre - spread, centre + spread)), "y": mp.mpf(y), "a": mp.mpf(a)})
    return out


def number(q: Fraction) -> Any:
    return mp.mpf(q.numerator) / q.denominator
