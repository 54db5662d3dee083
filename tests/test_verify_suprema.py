"""Numbers that are expressions in the parameters, against dense grids of derivatives at drawn parameters."""

from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction

import numpy as np
import pytest

from lossdsl import pipeline
from lossdsl.diagnostics import Source
from lossdsl.verify import brackets, properties
from lossdsl.verify.context import Context
from lossdsl.verify.questions import subject
from lossdsl.verify.signs import Budget
from lossdsl.verify.verdict import Proved, Step, Verdict

_RADIUS = "convex radius"
_LIPSCHITZ, _GRADIENT, _STRONG = "lipschitz constant", "gradient lipschitz constant", "strong convexity modulus"


def number(body: str, lines: str, name: str) -> Verdict:
    source = f"loss l:\n    input x, y: real[n]\n{lines}    per = {body}\n    return mean(per)\n"
    (built,) = pipeline.analyse(Source("<test>", source)).losses
    of = subject(built, Context(built.program, budget=Budget.of(1), seconds=0.05))
    assert of is not None
    return next(n for n in brackets.NUMBERS if n.name == name).decide(of)


def exact(body: str, lines: str, name: str) -> str | None:
    verdict = number(body, lines, name)
    return verdict.value.exact if isinstance(verdict, Proved) and verdict.value is not None else None


D, T, W, Q = (
    "    param delta: real > 0 = 1\n",
    "    param t: real in [1/10, 9/10] = 1/2\n",
    "    param w: real >= 0 = 1\n",
    "    param q: real > 1 = 2\n",
)
# (what is written, parameters, the number, its expression)
KNOWN = [
    ("(x - y)^2 / 2 if abs(x - y) <= delta else delta * (abs(x - y) - delta / 2)", D, _LIPSCHITZ, "delta"),
    ("(x - y)^2 / (2 * delta) if abs(x - y) < delta else abs(x - y) - delta / 2", D, _GRADIENT, "1 / delta"),
    ("delta^2 * (sqrt(1 + ((x - y) / delta)^2) - 1)", D, _LIPSCHITZ, "delta"),
    ("sqrt(1 + (x - y)^2)", D, _STRONG, "0"),
    ("delta * softplus((x - y) / delta)", D, _LIPSCHITZ, "1"),
    ("delta * softplus((x - y) / delta)", D, _GRADIENT, "1 / (4 * delta)"),
    ("logcosh(delta * (x - y))", D, _GRADIENT, "delta^2"),
    ("max(t * (x - y), (t - 1) * (x - y))", T, _LIPSCHITZ, "max(1 - t, t)"),
    ("(t if x > y else 1 - t) * (x - y)^2", T, _STRONG, "min(2 * t, 2 - 2 * t)"),
    ("(t if x > y else 1 - t) * (x - y)^2", T, _GRADIENT, "max(2 * t, 2 - 2 * t)"),
    ("w * (x - y)^2 + log1p(exp(x - y))", W, _STRONG, "2 * w"),
    ("w * (x - y)^2 + log1p(exp(x - y))", W, _GRADIENT, "2 * w + 1/4"),
    ("relu(x - y) + w * relu(y - x)", W, _LIPSCHITZ, "max(1, w)"),
    ("log1p((x - y)^2 / q)", Q, _GRADIENT, "2 / q"),
    ("clamp(x - y, -delta, 2 * delta) + 2 * x", D, _LIPSCHITZ, "3"),
    ("tanh(delta * x)", D, _LIPSCHITZ, "delta"),
    ("x^4 - y", D, _STRONG, "0"),
    ("softplus(x)", D, _STRONG, "0"),
    ("log1p(((x - y) / delta)^2)", D, _LIPSCHITZ, "1 / delta"),
    ("log1p((x - y)^2 / q)", Q, _LIPSCHITZ, "sqrt(q) / q"),
    ("1 / (1 + x^2)", D, _LIPSCHITZ, "3 * sqrt(3) / 8"),
    ("x^2 / (x^2 + delta^2)", D, _STRONG, "-1 / (2 * delta^2)"),
    ("log1p(((x - y) / delta)^2)", D, _RADIUS, "delta"),
    ("delta^2 * log1p(((y - x) / delta)^2 / 2)", D, _RADIUS, "sqrt(2) * delta"),
    ("-expm1(-(x - y)^2 / (2 * delta^2))", D, _RADIUS, "delta"),
    ("(x - y)^2 / (delta^2 + (x - y)^2)", D, _RADIUS, "sqrt(3) * delta / 3"),
    ("log1p((x - y)^2 / q)", Q, _RADIUS, "sqrt(q)"),
    ("log1p((1 / delta * (y - x))^2)", D, _RADIUS, "delta"),
    ("min((x - y)^2, delta)", D, _RADIUS, None),  # a corner, not a turn
    ("log1p((x - y)^2 / w)", "    param w: real >= 1 = 2\n    param v: real = 0\n", _RADIUS, "sqrt(w)"),
    ("log1p((x + v - y)^2)", "    param v: real = 0\n", _RADIUS, None),  # about another place than the equality
]


@pytest.mark.parametrize(("body", "lines", "name", "expression"), KNOWN)
def test_an_expression_is_found(body: str, lines: str, name: str, expression: str | None) -> None:
    assert exact(body, lines, name) == expression


@pytest.mark.parametrize(
    ("body", "lines", "name"),
    [
        ("y * abs(x)", D, _LIPSCHITZ),  # another input in it
        ("x^2", D, _LIPSCHITZ),  # there is none
        ("(abs(x) if delta > 5 else 2 * abs(x))", D, _LIPSCHITZ),  # parameters decide
        ("tanh(x)^2", D, _LIPSCHITZ),  # taken at no place that is looked at
        ("(3 * x if x > delta and x < delta / 2 else x)", D, _LIPSCHITZ),  # the steep piece is nowhere
    ],
)
def test_none_is_made_up(body: str, lines: str, name: str) -> None:
    assert exact(body, lines, name) in (None, "1")


def test_a_steep_piece_that_is_nowhere_is_not_counted() -> None:
    body = "(3 * (x - y) if abs(x - y) <= -delta else x - y)"
    assert exact(body, D, _LIPSCHITZ) in (None, "1")


def test_a_switch_that_changes_the_number_leaves_none_for_all_parameters() -> None:
    source = "loss l:\n    input x: real[n]\n    param twice: bool = false\n    per = 2 * abs(x) if twice else abs(x)\n    return mean(per)\n"
    (built,) = pipeline.analyse(Source("<test>", source)).losses
    found = properties.lipschitz(Context(built.program), "per", ("x",), None)
    assert isinstance(found, Proved)
    assert found.value is not None
    assert found.value.exact is None
    assert found.value.upper is None or found.value.upper >= 2


def test_a_domain_ends_before_the_steepest_place() -> None:
    source = "loss l:\n    input p: prob[n]\n    param k: real > 0 = 1\n    per = k * p^2\n    return mean(per)\n"
    (built,) = pipeline.analyse(Source("<test>", source)).losses
    found = properties.lipschitz(Context(built.program), "per", ("p",), None)
    assert isinstance(found, Proved)
    assert found.value is not None
    assert found.value.exact in (None, "2 * k")
    inside = source.replace("prob[n]", "real[n] in [-1, 1]").replace("k * p^2", "k * sqrt(9 + p^2)")
    (built,) = pipeline.analyse(Source("<test>", inside)).losses
    found = properties.lipschitz(Context(built.program), "per", ("p",), None)
    assert isinstance(found, Proved)
    assert found.value is not None
    assert found.value.exact != "k"  # what it goes to beyond the domain


_BOWLS = [
    "log1p(({})^2)",
    "({})^2 / (1 + ({})^2)",
    "-expm1(-({})^2)",
    "softplus({}) + log1p(({})^2)",
    "cos(min(abs({}), 3)) * -1",
    "(({})^2 if abs({}) <= 1 else sqrt(abs({})))",
    "log1p(({})^2) + b * ({})^2 / 50",
    "1 - exp(-abs({})) - exp(-({})^2)",
]


def turned(body: str) -> bool:
    """Whether there is an expression of a random loss's convex radius; it is compared with second differences on a grid."""
    verdict = number(body, "    param a: real > 0 = 1\n    param b: real > 0 = 2\n", _RADIUS)
    if not isinstance(verdict, Proved) or verdict.value is None or verdict.value.exact is None:
        return False
    for a, b in itertools.product((0.5, 1.0, 7.0), (0.2, 2.0)):
        r = float(value_of(verdict.value.exact, a, b))
        x = np.concatenate(
            [np.linspace(-r, r, 4001), r * np.linspace(1.02, 1.05, 31), -r * np.linspace(1.02, 1.05, 31)]
        )
        h = 1e-3 * r
        left, middle, right = (value_of(body.replace("y", "0"), a, b, x + d) for d in (-h, 0.0, h))
        bends = right - 2 * middle + left
        assert bends[1:4000].min() >= -1e-9 * (1 + np.abs(middle).max()), (body, verdict.value.exact, a, b)
        assert bends[4001:].min() < 0, (body, verdict.value.exact, a, b)
    return True


def test_a_radius_is_where_second_differences_turn() -> None:
    bodies = [
        f"{factor} * ({bowl.replace('{}', inner)})"
        for bowl in _BOWLS
        for inner, factor in (("(x - y) / a", "1"), ("a * (y - x)", "b"), ("(x - y) / (a * b)", "1"))
    ]
    assert sum(map(turned, bodies)) >= 6


_UNARY = [
    "abs({})",
    "softplus({})",
    "tanh({})",
    "logcosh({})",
    "sqrt(1 + ({})^2)",
    "relu({})",
    "({})^2",
    "atan({})",
    "{}",
]
_NUMPY = {
    "abs": np.abs,
    "softplus": lambda v: np.logaddexp(0, v),
    "tanh": np.tanh,
    "logcosh": lambda v: np.logaddexp(v, -v) - math.log(2),
    "sqrt": np.sqrt,
    "relu": lambda v: np.maximum(v, 0),
    "atan": np.arctan,
    "exp": np.exp,
    "expm1": np.expm1,
    "log1p": np.log1p,
    "cos": np.cos,
    "min": np.minimum,
    "max": np.maximum,
    "clamp": lambda v, low, high: np.clip(v, low, high),
}


def drawn(rng: random.Random) -> str:
    """A random elementwise loss with parameters a > 0 and b > 0."""
    scale = rng.choice(["1", "a", "b", "1 / a", "a * b", "a + b", "2"])
    shift = rng.choice(["0", "a", "-b"])
    first = rng.choice(_UNARY).format(f"({scale}) * x + {shift}")
    second = rng.choice(_UNARY).format(rng.choice(["x / a", "b * x", "x"]))
    return rng.choice(
        [
            f"{rng.choice(['a', 'b', '3'])} * {first}",
            f"{first} + {rng.choice(['a', 'b'])} * {second}",
            f"max({first}, {second})",
            f"min({first}, b * abs(x))",
            f"clamp({first}, -a, b)",
            f"({first} if abs(x) <= a else {second})",
        ]
    )


def value_of(text: str, a: float, b: float, x: np.ndarray | None = None) -> np.ndarray:
    """A loss in the language's spelling, by numpy."""
    text = text.replace("^", "**")
    if " if " in text:
        body = text[1:-1]
        then, rest = body.split(" if ")
        condition, other = rest.split(" else ")
        chosen = np.where(*(eval(t, {**_NUMPY, "a": a, "b": b, "x": x}) for t in (condition, then, other)))
        return np.asarray(chosen)
    return np.asarray(eval(text, {**_NUMPY, "a": a, "b": b, "x": x}))


def attacked(rng: random.Random) -> int:
    """How many numbers were expressions, of a random loss; each is compared with differences on a grid."""
    body = drawn(rng)
    source = (
        "loss l:\n    input x: real[n]\n    param a: real > 0 = 1\n    param b: real > 0 = 2\n"
        f"    per = {body}\n    return mean(per)\n"
    )
    (built,) = pipeline.analyse(Source("<test>", source)).losses
    of = subject(built, Context(built.program, budget=Budget.of(0.5), seconds=0.05))
    assert of is not None
    found = 0
    for name, order in ((_LIPSCHITZ, 1), (_GRADIENT, 2), (_STRONG, 2)):
        ctx = brackets.known(of, Proved(brackets.suprema.METHOD, (Step("", "", ""),)))
        cases = properties.scalar_views(ctx, of.target, "x")
        if isinstance(cases, str):
            continue
        extremum = brackets.suprema.least if name == _STRONG else brackets.suprema.largest
        verdict = extremum(ctx, cases, order)
        if verdict is None or verdict.value is None or verdict.value.exact is None:
            continue
        found += 1
        for _ in range(4):
            a, b = (float(Fraction(rng.choice([1, 2, 3, 7, 20]), rng.choice([1, 2, 5]))) for _ in range(2))
            said = float(value_of(verdict.value.exact, a, b))
            x = np.sinh(np.linspace(-8, 8, 120_001))
            h = 1e-3 * (1 + np.abs(x))
            left, middle, right = (value_of(body, a, b, x + d) for d in (-h, 0 * h, h))
            slopes = (right - left) / (2 * h) if order == 1 else (right - 2 * middle + left) / h**2
            seen = slopes.min() if name == _STRONG else np.abs(slopes).max()
            noise = 1e-2 * (1 + abs(said))
            assert abs(seen - said) <= noise, (body, name, verdict.value.exact, a, b, seen)
    return found


def test_expressions_of_random_losses_are_the_extrema_that_are_seen() -> None:
    rng = random.Random(11)
    found = sum(attacked(rng) for _ in range(25))
    assert found >= 9, found


@pytest.mark.slow
def test_expressions_of_many_random_losses() -> None:
    rng = random.Random(12)
    assert sum(attacked(rng) for _ in range(600)) >= 200
