"""Certificates about growth: what is known of a quantity far out holds at points, and slopes that are bounded are never refuted."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath
import pytest

from lossdsl import pipeline
from lossdsl.certificate.counterexamples import CALM
from lossdsl.certificate.coverings import Curve
from lossdsl.certificate.document import EXPLOSION, LOSS, TAILS, Rejected, certify, sealed, verify
from lossdsl.certificate.domain import point_of
from lossdsl.certificate.expansions import function, larger, power
from lossdsl.certificate.far import falling
from lossdsl.certificate.germs import LINEAR, Germ, Power, boxed
from lossdsl.certificate.lines import FOUND, INWARD, OUTWARD, SIDES, STEEP
from lossdsl.certificate.points import Undecided
from lossdsl.certificate.profiles import of_calm, of_profile
from lossdsl.certificate.question import Question, of_claim
from lossdsl.certificate.rules import Stuck
from lossdsl.diagnostics import Source
from lossdsl.ir.nodes import Read
from tests.test_verify import built

Real = Any  # of mpmath, which has no types


def refuted(body: str, kind: str, x: str, step: str, declared: str = "real[n]", claim: str = "lipschitz in x") -> bool:
    """Whether growth on the way to x + step (far), or from there to x (near), is seen."""
    text = f"loss f:\n    input x: {declared}\n    input y: real[n]\n    param k: real > 0 = 1\n    per = {body}\n    return mean(per)\n"
    loss = built(f"{text}    claim {claim}\n")
    (q,) = of_claim(loss, loss.claims[0])
    first = {"x[0]": x, "y[0]": "2", "k": "3"}
    entry = {"points": [first, {"x[0]": str(Fraction(x) + Fraction(step))}], "place": [0], "t": None}
    point_of(q, entry, 0)
    try:
        return bool(FOUND[kind](q, entry))
    except Stuck:
        return False


@pytest.mark.parametrize(
    ("body", "kind", "true"),
    [
        ("x^2", OUTWARD, True),
        ("-k * x^2 + y", OUTWARD, True),
        ("exp(x)", OUTWARD, True),
        ("exp(x) + exp(-x)", OUTWARD, True),
        ("x * tanh(x) * log1p(x^2)", OUTWARD, True),
        ("x * softplus(x)", OUTWARD, True),
        ("abs(x)^3 / (1 + x^2) + x^2 / (1 + abs(x))", OUTWARD, False),
        ("log1p(exp(x))", OUTWARD, False),
        ("log1p(exp(x^2))", OUTWARD, False),  # true, but that it is x^2 is not seen
        ("exp(exp(x))", OUTWARD, True),
        ("x + sin(x)", OUTWARD, False),
        ("x * sin(x)", OUTWARD, False),  # true, but it comes back to 0 again and again
        ("x^2 * sin(x)", OUTWARD, False),
        ("sqrt(1 + x^2)", OUTWARD, False),
        ("atan(x)", OUTWARD, False),
        ("atan(1000000 * x)", OUTWARD, False),
        ("1e300 * x", OUTWARD, False),
        ("1e300 * atan(x)", OUTWARD, False),
        ("1e-300 * x^2", OUTWARD, True),
        ("x * log1p(x^2) / (1 + log1p(x^2))", OUTWARD, False),
        ("x^2 * exp(-x)", OUTWARD, False),
        ("logcosh(x)", OUTWARD, False),
        ("x^2 - x * sqrt(x^2 + 1)", OUTWARD, False),
        ("sqrt(x^4 + x^3) - x^2", OUTWARD, False),
        ("sqrt(1 + x^4 + x^2) - x^2", OUTWARD, False),
        ("(x + 1)^3 - x^3 - 3 * x^2", OUTWARD, False),
        ("(x + 1)^3 - x^3", OUTWARD, True),
        ("softplus(x)^2 - x^2", OUTWARD, False),
        ("(x^2 if x < 1e9 else 1e9 * x)", OUTWARD, False),
        ("(x if x < 1e9 else x^2)", OUTWARD, True),
        ("min(x^2, 1e12)", OUTWARD, False),
        ("y * x", OUTWARD, False),
        ("0 * x^2", OUTWARD, False),
        ("k * (y - 2) * x^2", OUTWARD, False),  # 0 at the point
        ("log(x)", INWARD, True),
        ("-log(x)", INWARD, True),
        ("x * log(x)", INWARD, True),
        ("x^2 * log(x)", INWARD, False),
        ("sqrt(x)", INWARD, True),
        ("x * sqrt(x)", INWARD, False),
        ("1 / x", INWARD, True),
        ("1 / (x + 1e-12)", INWARD, False),
        ("log(x + 1e-12)", INWARD, False),
        ("log(1 + x)", INWARD, False),
        ("log(x) - log(2 * x)", INWARD, False),
        ("log(x) + 1 / x", INWARD, True),
        ("exp(-1 / x)", INWARD, False),
        ("sin(1 / x)", INWARD, False),  # true, but it comes back again and again
        ("x * sin(1 / x)", INWARD, False),
        ("lgamma(x)", INWARD, True),
        ("lgamma(x + 1)", INWARD, False),
        ("lgamma(x) + log(x)", INWARD, False),
        ("xlogy(x, x)", INWARD, True),
        ("log(softplus(log(x)))", INWARD, True),
        ("x^2", INWARD, False),
        ("max(log(x), -1e9)", INWARD, False),
        ("(sqrt(x) if x > 1e-12 else 1000000 * x)", INWARD, False),
        ("(sqrt(x) if y > 3 else x)", INWARD, False),  # y is 2
        ("(sqrt(x) if y < 3 else x)", INWARD, True),
        ("abs(log(x)) + log(x)", INWARD, False),
        ("atan(1 / x)", INWARD, False),
        ("x * atan(1 / x)", INWARD, False),
        ("sqrt(x) * atan(1 / x)", INWARD, True),
    ],
)
def test_growth(body: str, kind: str, true: bool) -> None:
    declared = "real[n]" if kind == OUTWARD else "real[n] > 0"
    assert refuted(body, kind, "0", "1", declared) is true


@pytest.mark.parametrize(
    ("body", "kind", "x", "step", "declared", "claim", "true"),
    [
        ("log(x)", INWARD, "0", "1", "real[n] > 0", "lipschitz in x", True),
        ("log(x)", INWARD, "0", "1", "real[n] > 0", "lipschitz in x on x >= 1/1000", False),  # 0 is not reached
        ("log(x)", INWARD, "0", "1", "real[n] > 0", "lipschitz in x when k >= 2", True),  # k is 3
        ("log(x)", INWARD, "0", "1", "real[n] > 0", "lipschitz in x when k >= 4", False),
        ("log(x)", INWARD, "0", "1", "real[n] > 1/100", "lipschitz in x", False),
        ("log(x - 1/100)", INWARD, "1/100", "1", "real[n] > 1/100", "lipschitz in x", True),
        ("log(x)", INWARD, "0", "-1", "real[n] > 0", "lipschitz in x", False),
        ("log(1 - x)", INWARD, "1", "-1", "prob[n]", "lipschitz in x", True),  # its other end is not on the way
        ("log(1 - x)", INWARD, "1", "-1/2", "prob[n]", "lipschitz in x", True),
        ("log(x)", INWARD, "0", "1", "real[n] > 0", "lipschitz in x <= 7", True),
        ("x^2", OUTWARD, "0", "1", "real[n]", "lipschitz in x <= 7", True),
        ("x^2", OUTWARD, "0", "1", "real[n] <= 1e9", "lipschitz in x", False),
        ("x^2", OUTWARD, "0", "-1", "real[n] <= 1e9", "lipschitz in x", True),
        ("x^2", OUTWARD, "0", "1", "prob[n]", "lipschitz in x", False),
        ("x^2", OUTWARD, "0", "1", "real[n]", "lipschitz in x on x <= 5", False),
        ("relu(x)^2", OUTWARD, "0", "-1", "real[n]", "lipschitz in x", False),
        ("relu(x)^2", OUTWARD, "0", "1", "real[n]", "lipschitz in x", True),
        ("x^2 * y", OUTWARD, "0", "1", "real[n]", "lipschitz in x on y == 0", False),
        ("sqrt(abs(x))", INWARD, "0", "1", "real[n]", "lipschitz in x", True),  # inside of the domain
        ("x^2", INWARD, "0", "1", "real[n]", "lipschitz in x", False),
    ],
)
def test_growth_where_it_is_asked_of(
    body: str, kind: str, x: str, step: str, declared: str, claim: str, true: bool
) -> None:
    assert refuted(body, kind, x, step, declared, claim) is true


@pytest.mark.parametrize(
    ("body", "claim", "true"),
    [
        ("abs(x - 1)", "C0", False),
        ("abs(x - 1)", "C1", True),
        ("abs(x - 1)", "smooth", True),
        ("(x - 1) * abs(x - 1)", "C1", False),
        ("(x - 1) * abs(x - 1)", "C2", True),
        ("abs(x - 1)^3", "C2", False),
        ("sqrt((x - 1)^2)", "C1", True),
        ("sqrt((x - 1)^4)", "C2", False),
        ("sqrt(1 + (x - 1)^2)", "C2", False),
        ("sqrt((x - 1)^2 + (x - 1)^4)", "C1", True),
        ("exp(-abs(x - 1))", "C0", False),
        ("exp(-abs(x - 1))", "C1", True),
        ("cosh(sqrt(abs(x - 1)))", "C1", True),  # 1 + abs(x - 1) / 2 + ...
        ("cos(abs(x - 1))", "C2", False),
        ("abs(x - 1) + abs(1 - x) - 2 * sqrt((1 - x)^2)", "C2", False),  # it is 0
        ("sqrt(abs(x - 1))", "C0", False),
        ("sqrt(abs(x - 1))", "C1", False),  # true, but it is no other root on the other side
        ("relu(x - 1)^2", "C1", False),
        ("relu(x - 1)^2", "C2", True),
        ("max(x, 1)", "C1", True),
        ("max(x, 2)", "C1", False),  # elsewhere
        ("0 if x < 1 else 1", "C0", True),
        ("0 if x < 1 else 1", "lipschitz", True),
        ("0 if x <= 1 else x - 1", "C0", False),
        ("x^2 if x < 1 else 2 * x - 1", "C1", False),
        ("x^2 if x < 1 else 2 * x - 1", "C2", True),
        ("x if x != 1 else 5", "C0", False),  # true, but both sides agree
        ("log1p(exp(-1 / abs(x - 1)))", "C2", False),  # smooth
        ("1 / (1 + exp(-1 / (x - 1)))", "C0", True),
        ("stop(abs(x - 1))", "C1", True),  # about values
    ],
)
def test_two_sides_of_a_point(body: str, claim: str, true: bool) -> None:
    assert refuted(body, SIDES, "1", "1/2", claim=f"{claim} in x") == true


@pytest.mark.parametrize(
    ("body", "true"),
    [
        ("x^2", True),
        ("abs(x)", True),
        ("sqrt(1 + x^2)", True),
        ("x + sin(x)", True),
        ("1e-300 * x", True),
        ("(x if x < 1e9 else 1e9)", False),
        ("x / (1 + log1p(x^2))", False),
        ("log1p(x^2)", False),
        ("sqrt(1 + abs(x))", False),
        ("atan(x)", False),
        ("exp(-x)", False),
        ("x * exp(-x)", False),
        ("1e300 * tanh(x)", False),
        ("x * tanh(x) - x", False),
        ("floor(x)", False),  # a value like a line, and the derivative is 0
        ("x - (x - floor(x))", False),
        ("stop(x)", False),
        ("x * stop(tanh(x))", False),  # its derivative is another one
        ("y * x - stop(y * x)", False),
        ("straight_through(x, tanh(x))", False),
        ("abs(x) + stop(y)", True),
    ],
)
def test_growth_like_a_line(body: str, true: bool) -> None:
    assert refuted(body, STEEP, "0", "1", claim="redescending in x") is true


# -------------------------------------------------------------------------------------------------- redescending


def redescends(body: str, declared: str = "real[n]", claim: str = "redescending in x") -> bool:
    text = f"loss f:\n    input x: {declared}\n    input y: real[n]\n    input s: sign[n]\n    input t: real[n] in [0, 1]\n    input b: bool[n]\n"
    text += "    param k: real > 0 = 1\n    param z: real >= 0 = 1\n"
    loss = built(f"{text}    per = {body}\n    return mean(per)\n    claim {claim}\n")
    (q,) = of_claim(loss, loss.claims[0])
    try:
        return bool(falling(Curve(q)))
    except Stuck:
        return False


@pytest.mark.parametrize(
    ("body", "true"),
    [
        ("log1p((x - y)^2 / k)", True),
        ("log1p((x - y)^2 / z)", False),  # z may be 0
        ("z * log1p((x - y)^2)", True),
        ("sqrt(k + abs(x - y))", True),
        ("(x - y)^2 / (k + (x - y)^2)", True),
        ("(x - y)^2 / (z + (x - y)^2)", True),
        ("(x - y)^3 / (k + (x - y)^2)", False),
        ("1 - exp(-(x - y)^2 / k)", True),
        ("1 - exp(-z * (x - y)^2)", False),  # true, but for z = 0 by another reason
        ("exp(-x)", False),
        ("x * exp(-abs(x))", True),
        ("x * exp(-x)", False),
        ("exp(x - abs(x))", False),
        ("sigmoid(s * x)^2", True),
        ("sigmoid(s * x) * x", False),
        ("softplus(-s * x)", False),
        ("tanh(y * x)", True),  # where y is 0, too
        ("tanh(k * x)", True),
        ("x * tanh(k * x)", False),
        ("x * (1 - tanh(k * x)^2)", False),  # true, but what cancels is not seen
        ("atan(x / k)", True),
        ("atan(x) * x", False),
        ("sin(x)", False),
        ("sin(x) / (1 + x^2)", True),
        ("sin(x^2)", False),
        ("sin(x^2) / (1 + x^2)", True),
        ("sin(x^3) / (1 + x^2)", False),
        ("sin(x^2) / (1 + x^4)", True),
        ("log1p(x^2) * sin(log1p(x^2))", True),
        ("(x^2 if abs(x) < k else k^2)", True),
        ("(k^2 if abs(x) < k else x^2)", False),
        ("(x if b else 0)", False),
        ("(log1p(x^2) if b else atan(x))", True),
        ("min(x^2, k)", True),
        ("max(x^2, k)", False),
        ("min(x^2, y)", True),
        ("clamp(x, -1, 1)", True),
        ("clamp(x, -1, x + 1)", False),
        ("relu(k - abs(x - y))", True),
        ("relu(abs(x - y) - k)", False),
        ("abs(x - y) - sqrt(1 + (x - y)^2)", False),  # true, but what cancels is not seen
        ("t * atan(x) + (1 - t) * log1p(x^2)", True),
        ("t * atan(x) + (1 - t) * x", False),
        ("x / (1 + log1p(x^2))", True),
        ("x / sqrt(1 + log1p(x^2))", True),
        ("x * sqrt(1 + log1p(x^2))", False),
        ("floor(x)", False),
        ("stop(x) * atan(x)", False),
        ("log1p(x^2) + stop(x)", False),
        ("log1p(exp(x)) - relu(x)", False),  # true, but what cancels is not seen
        ("1e300 * log1p(x^2)", True),
        ("1e-300 * x", False),
        ("y * x", False),
        ("x^2 / (1 + y * x^2)", False),
        ("x / log1p(y^2 + x^2)", True),
        ("log(abs(x) + k)", True),
    ],
)
def test_redescending(body: str, true: bool) -> None:
    assert redescends(body) is true


def test_redescending_is_about_both_sides() -> None:
    assert not redescends("log1p(x^2)", "real[n] >= 0")
    assert not redescends("log1p(x^2)", claim="redescending in x on x >= 0")
    assert not redescends("log1p(x^2)", "prob[n]")
    assert redescends("(x^2 if k > 1 else log1p(x^2))", claim="redescending in x when k <= 1")
    assert not redescends("(x^2 if k > 1 else log1p(x^2))", claim="redescending in x when k <= 2")


WRITTEN: list[tuple[str, Callable[[Real], Real]]] = [
    ("tanh({})", lambda v: mpmath.tanh(v) if abs(v) < 10**5 else mpmath.sign(v)),
    ("softplus({})", lambda v: _softplus(v) if abs(v) < 10**5 else max(v, mpmath.mpf(0))),
    ("abs({})", abs),
    ("relu({})", lambda v: max(v, mpmath.mpf(0))),
    ("({})^2", lambda v: v * v),
    ("exp(-({})^2)", lambda v: _exp(-v * v) if abs(v) < 300 else mpmath.mpf(0)),
    ("sqrt(1 + ({})^2)", lambda v: mpmath.sqrt(1 + v * v)),
    ("log1p(({})^2)", lambda v: mpmath.log(1 + v * v)),
    ("1 / (2 + ({})^2)", lambda v: 1 / (2 + v * v)),
    ("atan({})", mpmath.atan),
    ("sqrt(1/2 + abs({}))", lambda v: mpmath.sqrt(mpmath.mpf(1) / 2 + abs(v))),
    ("clamp({}, -1, 1/2)", lambda v: min(max(v, mpmath.mpf(-1)), mpmath.mpf(1) / 2)),
]


def written(rng: random.Random, depth: int) -> tuple[str, Callable[[Real], Real]]:
    if depth == 0 or rng.random() < 0.1:
        k = rng.choice(["1", "2", "1/2", "3/4"])
        return rng.choice(
            [(f"({k} * x)", lambda t: _mpf(Fraction(k)) * t), ("x", lambda t: t), (k, lambda t: _mpf(Fraction(k)))]
        )
    a, f = written(rng, depth - 1)
    if rng.random() < 0.55:
        name, of = rng.choice(WRITTEN)
        return name.format(a), lambda t: of(f(t))
    b, h = written(rng, depth - 1)
    name, both = rng.choice(
        [
            ("({} + {})", lambda u, v: u + v),
            ("({} - {})", lambda u, v: u - v),
            ("({} * {})", lambda u, v: u * v),
            ("max({}, {})", max),
        ]
    )
    return name.format(a, b), lambda t: both(f(t), h(t))


@pytest.mark.parametrize(
    "seed", [0, 3, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)]
)
def test_random_elements_that_redescend(seed: int) -> None:
    """The derivative of one that is proved to is small far out, and of one that is not, half of the time, it is not."""
    rng = random.Random(seed)
    proved = falls = 0
    with mpmath.workprec(20_000):
        h = mpmath.mpf(2) ** -5000
        while falls < 60:
            body, f = written(rng, rng.choice([1, 2, 3]))
            if "x" not in body.replace("exp", "").replace("max", ""):
                continue
            slopes = [abs((f(s * t + h) - f(s * t)) / h) for s in (1, -1) for t in (mpmath.mpf(10) ** 300,)]
            found = redescends(body)
            if found:
                assert max(slopes) < 0.05, (body, slopes)
            if max(slopes) < 1e-3:
                falls += 1
                proved += found
    assert proved >= 0.5 * falls, (proved, falls)


# -------------------------------------------------------------------------------- exploding, vanishing gradients


def _asked(body: str, word: str, head: str, more: str) -> Question:
    text = f"loss f:\n    input x, y: real[n]\n    input s: sign[n]\n    input p: prob[n]\n    param k: real > 0 = 1\n{head}"
    loss = built(f"{text}    per = {body}\n    return mean(per)\n    claim {word} gradient in x{more}\n")
    (q,) = of_claim(loss, loss.claims[0])
    return q


def profiled(body: str, word: str, head: str = "", more: str = " at defaults") -> bool:
    try:
        return bool(of_profile(_asked(body, word, head, more)))
    except Stuck:
        return False


@pytest.mark.parametrize(
    ("body", "word", "true"),
    [
        ("(x - y)^2", "exploding", True),
        ("1e-300 * (x - y)^2", "exploding", True),
        ("(x - y)^2 if abs(x - y) <= 999 else 1998 * abs(x - y) - 998001", "exploding", False),  # 999 times that at 1
        ("(x - y)^2 if abs(x - y) <= 1001 else 2002 * abs(x - y) - 1002001", "exploding", True),
        ("(x - y)^2 / 2 if abs(x - y) <= k else k * abs(x - y) - k^2 / 2", "exploding", False),
        ("abs(x - y)", "exploding", False),
        ("logcosh(x - y)", "exploding", False),
        ("exp(s * x)", "exploding", True),  # distances are from 0
        ("softplus(s * x)", "exploding", False),
        ("exp(x) - y * x", "exploding", True),
        ("softplus(x) - p * x", "exploding", True),  # for a small p, which is near 0 at distance 1
        ("softplus(2 * x) - x", "exploding", False),
        ("x^2 + 1e4 * relu(abs(x) - 100)", "exploding", True),
        ("x^2 + 1e3 * relu(abs(x) - 100)", "exploding", True),  # the parabola itself
        ("-(x - y)^2", "exploding", False),  # it is least nowhere
        ("-(y - x)^2", "exploding", False),  # nor where its difference falls with x
        ("(x - y)^2 if x < y else 0 * x", "exploding", True),
        ("(x - y)^2 if x < y else 1000 * (x - y)", "exploding", True),
        ("(1000000 if x > y + 2000 else 0) + (x - y)^2", "exploding", False),  # a jump
        ("x^2 * (x - 3)^2", "exploding", False),  # least at two places
        ("log1p((x - y)^2)", "vanishing", True),
        ("1 - exp(-(x - y)^2)", "vanishing", True),
        ("(x - y)^2", "vanishing", False),
        ("abs(x - y)", "vanishing", False),
        ("min((x - y)^2, 4)", "vanishing", True),
        ("max(min((x - y)^2, 4), abs(x - y) / 100)", "vanishing", False),
        ("max(min((x - y)^2, 4), abs(x - y) / 8192)", "vanishing", False),  # true, but where they meet is not told
        ("sqrt(1 + abs(x - y))", "vanishing", True),
        ("softplus(s * x)", "vanishing", False),  # where it is small, the loss is
        ("(x - y)^2 if abs(x - y) < 9 else 81", "vanishing", True),
        ("-(x - y)^2", "vanishing", False),
        ("relu(abs(x - y) - 20)", "vanishing", False),  # flat where it is least
        ("relu(1 - s * x)", "vanishing", False),
        ("min(relu(abs(x - y) - 20), 100)", "vanishing", True),
        ("tanh(x)", "vanishing", True),  # where the loss is largest, and least nowhere
        ("atan(s * x)", "vanishing", True),
        ("-softplus(x)", "vanishing", True),  # without a bound below
        ("sigmoid(x) + x / 64", "vanishing", False),
        ("softplus(x) + tanh(x)", "vanishing", False),
        ("exp(x) / (1 + exp(x))^2", "vanishing", False),
        ("0 * x", "vanishing", False),
        ("exp(-abs(x - y))", "vanishing", False),  # least far out
        ("min(abs(x - y), 1/10)", "vanishing", True),  # kinks at what floats do not have
        ("min(abs(x - y), 937/200)", "vanishing", True),
        ("abs(x - y) if abs(x - y) <= 11/10 else 1100 * abs(x - y) - 1208.9", "exploding", True),
        ("abs(x - y) if abs(x - y) <= 9/10 else 1100 * abs(x - y) - 989.1", "exploding", False),  # so steep at 1
        ("abs(x - y) if abs(x - y) <= 11/10 else 900 * abs(x - y) - 988.9", "exploding", False),
        ("abs(x) + 2000 * relu(abs(x) - 98/10) - 2000 * relu(abs(x) - 999/100)", "vanishing", True),
        ("abs(x) + 2000 * relu(abs(x) - 1001/100) - 2000 * relu(abs(x) - 102/10)", "vanishing", False),  # too far out
        ("10000 * relu(x - y) - x", "vanishing", True),  # a kink at another input
        ("900 * relu(x - y) - x", "vanishing", False),
        ("softplus(x) - logaddexp(x, -1)", "vanishing", True),  # what cancels far out
        ("softplus(x) - softplus(x - 1)", "vanishing", True),
        ("softplus(x - 1) - softplus(x)", "vanishing", True),
        ("sigmoid(x)^2 * softplus(x)", "vanishing", False),
        ("softplus(x) - softplus(x - 1) + x / 64", "vanishing", False),
    ],
)
def test_gradients_that_explode_or_vanish(body: str, word: str, true: bool) -> None:
    assert profiled(body, word) is true


def calm(body: str, word: str, more: str = " at defaults", head: str = "") -> bool:
    try:
        return bool(of_calm(_asked(body, word, head, more)))
    except Stuck:
        return False


@pytest.mark.parametrize(
    ("body", "word", "true"),
    [
        ("(x - y)^2", "exploding", False),
        ("1e-300 * (y - x)^2", "exploding", False),
        ("(x - y)^2 if abs(x - y) <= 499 else 998 * abs(x - y) - 249001", "exploding", True),
        ("(x - y)^2 if abs(x - y) <= 999 else 1998 * abs(x - y) - 998001", "exploding", True),
        ("(x - y)^2 if abs(x - y) <= 1001 else 2002 * abs(x - y) - 1002001", "exploding", False),
        ("(x - y)^2 / 2 if abs(x - y) <= k else k * abs(x - y) - k^2 / 2", "exploding", True),
        ("abs(x - y)", "exploding", True),
        ("logcosh(y - x)", "exploding", True),
        ("softplus(s * x)", "exploding", True),
        ("softplus(1000 * s * x)", "exploding", True),
        ("exp(s * x)", "exploding", False),
        ("-abs(y - x)", "exploding", True),  # it is least nowhere
        ("softplus(y - x)", "exploding", True),
        ("exp(y - x)", "exploding", False),
        ("relu(y - x)^2", "exploding", False),
        ("x^2 + 1e4 * relu(abs(x) - 100)", "exploding", False),
        ("abs(x) + 990 * relu(abs(x) - 100)", "exploding", True),
        ("abs(x) + 1001 * relu(abs(x) - 100)", "exploding", False),
        ("relu(1 - s * x)", "exploding", True),
        ("relu(abs(x - y) - 1/2)", "exploding", True),
        ("relu(abs(x - y) - 1/2)^2", "exploding", False),
        ("relu(abs(x - y) - 20)", "vanishing", True),
        ("0 * x", "exploding", True),
        ("(x - y)^2", "vanishing", True),
        ("abs(x - y)", "vanishing", True),
        ("logcosh(y - x)", "vanishing", True),
        ("softplus(s * x)", "vanishing", True),  # where it is small, the loss is
        ("exp(s * x)", "vanishing", True),
        ("log1p((x - y)^2)", "vanishing", False),
        ("1 - exp(-(x - y)^2)", "vanishing", False),
        ("min((x - y)^2, 4)", "vanishing", False),
        ("max(min((x - y)^2, 4), abs(x - y) - 4)", "vanishing", True),
        ("max(min((x - y)^2, 4), abs(x - y) / 512)", "vanishing", False),  # 4 at 2, and 1/512 beyond
        ("1000 * abs(x) if abs(x) <= 20 else 1.0625 * abs(x) + 19978.75", "vanishing", True),
        ("1000 * abs(x) if abs(x) <= 20 else 0.9375 * abs(x) + 19981.25", "vanishing", False),
        ("1000 * abs(x) if abs(x) <= 5 else 0.5 * abs(x) + 4997.5", "vanishing", False),  # far out
        ("abs(x) if abs(x) <= 2 else 2 if abs(x) <= 4 else abs(x) - 2", "vanishing", True),
        ("min(abs(x), 2)", "vanishing", False),
        ("tanh(x)", "vanishing", False),
        ("x^2 * (x - 3)^2", "vanishing", False),  # least at two places
        ("-x", "vanishing", True),  # least nowhere
        ("x + tanh(x) * 100 - y", "vanishing", True),
        ("x + tanh(x) * 1100", "vanishing", False),
        ("-softplus(x)", "vanishing", False),
        ("relu(x) - y", "vanishing", True),
        ("(x - y)^2 / (1 + y^2) + log(1 + y^2)", "vanishing", True),
        ("exp(y) * abs(x) - y", "exploding", True),
        ("p * abs(x)", "vanishing", False),  # 0, perhaps
        ("y * (x - 1)^2", "vanishing", False),
        ("exp(y) * min(abs(x), 2)", "vanishing", False),
        ("exp(y) * x^2", "exploding", False),
        ("expm1(log1p((x - y)^2) / 2)", "vanishing", True),
        ("expm1(log1p((x - y)^2) / 3)", "vanishing", False),
        ("expm1(log1p((x - y)^2) / 2)", "exploding", True),
        ("expm1(2 / 3 * log1p((x - y)^2))", "exploding", False),
        ("softplus(y - x)", "vanishing", True),
        ("sigmoid(y - x)", "vanishing", False),
        ("(x - y)^2 + y^2", "vanishing", True),  # what is added may be anything
        ("logcosh(x) + exp(y)", "vanishing", True),
        ("min((x - y)^2, 4) + y", "vanishing", False),
        ("max(min((x - y)^2, 4), abs(x - y) / 512) + y^2", "vanishing", False),
        ("1000 * abs(x) + y if abs(x) <= 5 else 0.5 * abs(x) + 4997.5 + y", "vanishing", False),
        ("1000 * abs(x) + y if abs(x) <= 20 else 1.0625 * abs(x) + 19978.75 + y", "vanishing", True),
        ("(1000000 if x > y + 2000 else 0) + abs(x - y)", "exploding", False),  # a jump
        ("relu(abs(x - y) - 1/10)", "exploding", True),  # kinks at what floats do not have
        ("relu(abs(x - y) - 1/10)", "vanishing", True),
        ("min(abs(x - y), 937/200)", "exploding", True),
        ("min(abs(x - y), 937/200)", "vanishing", False),
        ("abs(x - y) if abs(x - y) <= 11/10 else 1100 * abs(x - y) - 1208.9", "exploding", False),
        ("abs(x - y) if abs(x - y) <= 9/10 else 1100 * abs(x - y) - 989.1", "exploding", True),
        ("abs(x - y) if abs(x - y) <= 11/10 else 900 * abs(x - y) - 988.9", "exploding", True),
        ("abs(x) + 2000 * relu(abs(x) - 98/10) - 2000 * relu(abs(x) - 999/100)", "vanishing", False),
        ("(2000000 if x > y + 99/10 else 0) + abs(x - y)", "exploding", False),  # a jump
        ("y - x + 20 * (relu(x - y) + relu(y - 1))", "exploding", True),  # a kink at another input
        ("y - x + 20 * (relu(x - y) + relu(y - 1))", "vanishing", True),
        ("10000 * relu(x - y) - x", "vanishing", False),
        ("2 * relu(x - y) - y * x", "exploding", False),
        ("2 * relu(x - y) - x + relu(x - 1)", "exploding", False),
        ("sigmoid(x)^2 * softplus(x)", "exploding", True),  # an exponential times what has no bound
        ("sigmoid(x)^2 * softplus(x)", "vanishing", True),
        ("exp(2 * logsigmoid(-x)) * logsigmoid(x)", "exploding", True),
        ("exp(x) * softplus(x)", "exploding", False),
        ("softplus(x) - logaddexp(x, -1)", "vanishing", False),
    ],
)
def test_gradients_that_explode_or_vanish_nowhere(body: str, word: str, true: bool) -> None:
    assert calm(body, word) is true
    assert not (true and profiled(body, word))


def test_gradients_are_calm_for_all_numbers_and_known_parameters() -> None:
    assert not calm("abs(x - y)", "exploding", more=" on x >= 0")
    huber = "(x - y)^2 if abs(x - y) <= k else 2 * k * abs(x - y) - k^2"
    assert calm(huber, "exploding")
    assert not calm(huber, "exploding", more="")
    two = "    input w: real[n] in [1, 2]\n"
    assert calm("logcosh(x) * w", "exploding", head=two)
    assert not calm("logcosh(x) * w + w * x^2", "exploding", head=two)
    assert not calm("abs(x) if w < 2 else x^2", "exploding", head=two)  # at one of its ends alone
    for word in ("exploding", "vanishing"):
        assert calm("w * x", word, head=two)
        assert calm("w * x", word, head="    input w: real[n] in [-1, 2]\n") is (
            word == "exploding"
        )  # constant, perhaps
        assert not calm("w * x + tanh(1000 * w * x)", word, head=two)


def test_distances_are_from_where_all_that_is_read_is_0() -> None:
    """Where the loss is least far out alone: of a difference from where both are equal, whatever the other one is."""
    near, away, four = (f"    input w: real[n] in [{ends}]\n" for ends in ("0, 1", "4, 5", "4, 4"))
    for head in (near, away, four):
        step = "x - w + 5000 * sigmoid(4 * (x - w + 4))"  # steep at a distance of 4
        assert profiled(step, "exploding", head=head)
        assert not calm(step, "exploding", head=head)
        step = "x - w + 5000 * sigmoid(4 * (x - w + 1))"  # at 1
        assert not profiled(step, "exploding", head=head)
        assert calm(step, "exploding", head=head)
    assert profiled("sigmoid(x - y)", "vanishing")
    assert profiled("sigmoid(x - y) * (1 + y^2)", "vanishing")  # whatever it is scaled by
    assert profiled("max(sigmoid(x - y) * (1 + y^2), -1)", "vanishing")
    for word in ("exploding", "vanishing"):
        for body in ("x", "-s * x", "x - y", "y - x", "2 * (x - y)", "(y - x) / 3"):
            assert calm(f"softplus({body})", word)
            assert not profiled(f"softplus({body})", word)


def test_distances_are_not_from_where_a_number_is_equal() -> None:
    for body in ("x - 20", "x - y - 20", "x - w"):
        assert not calm(f"softplus({body})", "exploding", head="    w = y^2 + 20\n")
    assert profiled("softplus(x - 20)", "exploding")
    assert profiled("softplus(x - y - 20)", "exploding")
    for body in ("x - y + 4", "x - (y - 4)", "x - cos(y)", "x - w"):  # that is another place than where both are equal
        assert not calm(f"softplus({body})", "exploding", head="    w = y - 4\n")


def test_gradients_explode_for_numbers_of_what_definitions_are_made_of() -> None:
    made = "    input w: real[n]\n    input v: real[n] >= 1\n    t = w^2 + 1\n    u = sum(w^2)\n"
    assert profiled("t * (x - y)^2", "exploding", head=made)
    assert profiled("(x - y)^2 + u", "exploding", head=made)
    assert profiled("v * log1p((x - y)^2) + log(t)", "vanishing", head=made)
    assert not profiled("t * abs(x - y)", "exploding", head=made)
    assert not profiled("u * (x - y)^2", "exploding", head=f"{made}    q = size(n)\n")  # how many there are is not told
    assert not profiled("(x - y)^2 if t < 1 else abs(x - y)", "exploding", head=made)
    assert profiled("(x - y)^2 if t > 1 else abs(x - y)", "exploding", head=made)
    assert not calm("abs(x) if s > 0 else x^2", "exploding")
    source = "loss t:\n    input x, y: real[n]\n    per = {}\n    return mean(per)\n\n    claim not exploding gradient in x\n"
    written = Source("t.loss", source.format("abs(x - y)"))
    checked = pipeline.check(written)
    document = certify(written, checked.analysis.losses, checked.reports)
    entries = document["losses"][0]["entries"]
    assert {e["rule"] for e in entries if e["status"] == "refuted"} >= {CALM}
    verify(document)
    claimed_calm = [e for e in entries if e.get("rule") == CALM and "claim" in e]
    forged = {**document, "source": source.format("(x - y)^2")}
    forged["losses"] = [{"name": "t", "entries": claimed_calm, "without": []}]
    with pytest.raises(Rejected):
        verify(sealed(forged))
    (entry,) = claimed_calm
    for change in ({"points": [{"x[0]": "1"}]}, {"place": [0]}, {"values": entry["values"][:-1]}):
        document["losses"][0]["entries"] = [{**entry, **change}]
        with pytest.raises(Rejected):
            verify(sealed(document))


def test_gradients_explode_for_admissible_numbers_and_known_parameters() -> None:
    assert not profiled("(x - y)^2", "exploding", more=" on x >= 0")
    assert profiled("k * (x - y)^2", "exploding", more="")  # whatever it is scaled by
    assert not profiled("k * (x - y)^2 + (x - y)^4", "exploding", more="")
    assert not profiled("(k - 1) * (x - y)^2", "exploding", more="")
    assert profiled("k * (x - y)^2", "exploding")
    small = "(x - y)^2 if abs(x - y) <= k else 2 * k * abs(x - y) - k^2"
    assert not profiled(small, "exploding")  # 1 at defaults
    assert profiled("w * x^2 + x^4", "exploding", "    input w: real[n] in [1, 2]\n")
    assert not profiled("logcosh(w * x)", "exploding", "    input w: real[n] in [1, 2]\n")
    assert not profiled("x^2 if w > 2 else abs(x)", "exploding", "    input w: real[n] in [1, 2]\n")
    assert profiled("x^2 if w > 1 else abs(x)", "exploding", "    input w: real[n] in [1, 2]\n")


def _profile(body: str, word: str, rule: Callable[[Question], list[list[str]]] = of_profile) -> list[list[str]] | None:
    loss = built(
        f"loss f:\n    input x: real[n]\n    per = {body}\n    return mean(per)\n    claim {word} gradient in x\n"
    )
    (q,) = of_claim(loss, loss.claims[0])
    try:
        return rule(q) if isinstance(Curve(q).variable, Read) else None  # so that places are those of x
    except Stuck:
        return None


@pytest.mark.parametrize("seed", [1, pytest.param(0, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_random_gradients_that_explode_or_vanish(seed: int) -> None:
    """What is proved of them is true at points: where the loss is least, and how large its derivative is."""
    rng = random.Random(seed)
    grid = [mpmath.mpf(s) * 2**k for k in (*range(-8, 40), mpmath.mpf("0.3"), mpmath.mpf("2.7")) for s in (1, -1)]
    found = 0
    with mpmath.workprec(2000):
        h = mpmath.mpf(2) ** -700
        while found < 5:
            body, f = written(rng, rng.choice([1, 2, 3]))
            if "x" not in body.replace("exp", "").replace("max", ""):
                continue

            def slope(x: Real, f: Callable[[Real], Real] = f) -> Real:
                return max(abs(f(x + h) - f(x)), abs(f(x) - f(x - h))) / h if abs(x) < mpmath.inf else mpmath.mpf(0)

            for word in ("exploding", "vanishing"):
                trace = _profile(body, word)
                if trace is None:
                    continue
                found += 1
                lo, hi = _told(trace[0])
                nowhere = trace[0][0] in ("rises", "falls")
                if not nowhere:
                    least = min(f(x) for x in (lo, hi) if abs(x) < mpmath.inf)
                    assert all(f(x) > least for x in grid if not lo <= x <= hi), (body, trace)
                r = mpmath.mpf(float.fromhex(trace[-1][1]))
                if word == "exploding":
                    assert slope(r) > 999.99 * max(slope(lo - 1), slope(hi + 1)), (body, trace)
                else:
                    s = mpmath.mpf(float.fromhex(trace[1][3]))
                    assert slope(r) <= slope(s) / 999.99, (body, trace)
                    assert max(lo - s, s - hi) < 10
                    if nowhere:
                        assert 2 * f(r) >= min(map(f, grid)) + max(map(f, grid)), (body, trace)
                    else:
                        assert max(lo - r, r - hi) > 10


def _told(line: list[str]) -> tuple[Real, Real]:
    if line[0] in ("rises", "falls"):
        return mpmath.mpf(float.fromhex(line[2])), mpmath.mpf(float.fromhex(line[2]))
    return mpmath.mpf(float.fromhex(line[1])), mpmath.mpf(float.fromhex(line[3]))


@pytest.mark.parametrize("seed", [3, pytest.param(4, marks=pytest.mark.slow), pytest.param(5, marks=pytest.mark.slow)])
def test_random_gradients_that_explode_or_vanish_nowhere(seed: int) -> None:
    """What is proved of all of the line is true on a grid."""
    rng = random.Random(seed)
    grid = [mpmath.mpf(s) * 2**k for k in (*range(-8, 40), mpmath.mpf("0.3"), mpmath.mpf("3.3")) for s in (1, -1)]
    found = 0
    with mpmath.workprec(2000):
        h = mpmath.mpf(2) ** -700
        while found < 8:
            body, f = written(rng, rng.choice([1, 2, 3]))
            if "x" not in body.replace("exp", "").replace("max", ""):
                continue

            def slopes(x: Real, f: Callable[[Real], Real] = f) -> list[Real]:
                return [abs(f(x + h) - f(x)) / h, abs(f(x) - f(x - h)) / h] if abs(x) < mpmath.inf else [mpmath.mpf(0)]

            for word in ("exploding", "vanishing"):
                trace = _profile(body, word, of_calm)
                if trace is None:
                    continue
                found += 1
                if trace[1][-1] == "everywhere":  # wherever it is least
                    large = max(max(slopes(x)) for x in grid)
                    assert all(min(slopes(x)) > large / 1000.01 for x in grid), (body, trace)
                    continue
                lo, hi = _told(trace[1])
                if word == "exploding":
                    usual = max(*slopes(lo - 1), *slopes(hi + 1))
                    assert all(max(slopes(x)) <= 1000.01 * usual for x in grid), (body, trace)
                    continue
                close = [x for x in grid if lo - 10 < x < hi + 10]
                large = max(max(slopes(x)) for x in close)
                nowhere = trace[1][0] in ("rises", "falls")
                least = min(f(x) for x in (grid if nowhere else (lo, hi)) if abs(x) < mpmath.inf)
                most = max(f(x) for x in grid)
                for x in grid:
                    away = not nowhere and not lo - 10 <= x <= hi + 10
                    if away or f(x) > least + 0.51 * (most - least):
                        assert min(slopes(x)) > large / 1000.01, (body, trace, x)


# ------------------------------------------------------------------------------------------------- random germs


def _exp(x: Real) -> Real:
    if abs(x) > 10**5:
        raise OverflowError
    return mpmath.exp(x)


def _softplus(x: Real) -> Real:
    return mpmath.log1p(_exp(-abs(x))) + max(x, mpmath.mpf(0))


def _small(of: Callable[[Real], Real]) -> Callable[[Real], Real]:
    def here(x: Real) -> Real:
        if abs(x) > 10**9:
            raise OverflowError
        return of(x)

    return here


FUNCTIONS: dict[str, Callable[[Real], Real]] = {
    "exp": _exp,
    "expm1": lambda x: _exp(x) - 1,
    "log": mpmath.log,
    "log1p": mpmath.log1p,
    "log2": lambda x: mpmath.log(x, 2),
    "sqrt": mpmath.sqrt,
    "softplus": _softplus,
    "logsigmoid": lambda x: -_softplus(-x),
    "sigmoid": lambda x: 1 / (1 + _exp(-x)),
    "tanh": lambda x: 2 / (1 + _exp(-2 * x)) - 1,
    "logcosh": lambda x: abs(x) + mpmath.log1p(_exp(-2 * abs(x))) - mpmath.log(2),
    "sinh": lambda x: (_exp(x) - _exp(-x)) / 2,
    "cosh": lambda x: (_exp(x) + _exp(-x)) / 2,
    "atan": mpmath.atan,
    "sin": _small(mpmath.sin),
    "erf": _small(mpmath.erf),
    "lgamma": _small(mpmath.loggamma),
    "digamma": _small(mpmath.digamma),
    "log1mexp": lambda x: mpmath.log(1 - _exp(x)),
}
NUMBERS = [Fraction(1), Fraction(-1), Fraction(2), Fraction(1, 3), Fraction(-5, 2), Fraction(1, 1000), Fraction(50)]
Made = tuple[Germ, Callable[[Real], Real]]


def drawn(rng: random.Random, start: int, depth: int) -> Made:
    """A germ, and the function that it is of."""
    if depth == 0:
        k, d = rng.choice(NUMBERS), rng.choice([Fraction(1), Fraction(-1), Fraction(1), Fraction(0)])
        c = rng.choice([Fraction(0), Fraction(0), *NUMBERS])
        p = Power(degree=d)
        return Germ(start, ((p, k),)) + c, lambda t: _mpf(k) * t ** int(d) + _mpf(c)
    a, f = drawn(rng, start, depth - 1)
    choice = rng.random()
    if choice < 0.5:
        name = rng.choice(list(FUNCTIONS))
        return function(name, a), lambda t: FUNCTIONS[name](f(t))
    if choice < 0.6:
        k = rng.choice([Fraction(2), Fraction(-1), Fraction(3), Fraction(1, 2), Fraction(-3, 2), Fraction(-2)])
        return power(a, k), lambda t: f(t) ** int(k) if k.denominator == 1 else _real(f(t)) ** _mpf(k)
    b, h = drawn(rng, start, rng.randrange(depth))
    kind = rng.choice(["add", "sub", "mul", "div", "max"])
    match kind:
        case "add":
            return a + b, lambda t: f(t) + h(t)
        case "sub":
            return a - b, lambda t: f(t) - h(t)
        case "mul":
            return a * b, lambda t: f(t) * h(t)
        case "div":
            return a * power(b, Fraction(-1)), lambda t: f(t) / h(t)
    return larger(a, b), lambda t: max(f(t), h(t))


def _mpf(k: Fraction) -> Real:
    return mpmath.mpf(k.numerator) / k.denominator


def _real(x: Real) -> Real:
    assert x >= 0
    return x


def _raised(p: Power, t: Real) -> Real:
    return _exp(_mpf(p.rate) * t) * t ** _mpf(p.degree) * mpmath.log(t) ** _mpf(p.logs)


def _ends(g: Germ, t: Real) -> tuple[Real, Real]:
    low = high = mpmath.mpf(0)
    for p, c in (*g.terms, *(() if g.rest is None else (g.rest,))):
        m, box = _raised(p, t), boxed(c)
        if isinstance(c, Fraction):
            low, high = low + _mpf(c) * m, high + _mpf(c) * m
        else:
            low, high = low + mpmath.mpf(box.lo) * m, high + mpmath.mpf(box.hi) * m
    return low, high


@pytest.mark.parametrize("seed", range(8))
def test_random_germs_enclose(seed: int) -> None:
    """At the start and far beyond it, with a thousand bits."""
    rng = random.Random(seed)
    compared = 0
    with mpmath.workprec(1000):
        while compared < 300:
            start = rng.choice([8, 64, 4096])
            try:
                g, f = drawn(rng, start, rng.choice([1, 2, 3, 4]))
            except (Undecided, Stuck):
                continue
            for t in (mpmath.mpf(start), start * mpmath.mpf("1.37"), start * mpmath.mpf(20), mpmath.mpf(10) ** 5):
                try:
                    value = f(t)
                    low, high = _ends(g, t)
                except OverflowError:
                    continue
                if not mpmath.isfinite(value):
                    continue  # 1 - 1, with a thousand bits
                slack = mpmath.mpf(2) ** -700 * (1 + abs(value))
                if any(abs(p.rate * start) > 10**4 for p, _ in g.terms):
                    continue  # a thousand bits do not tell what cancels
                assert mpmath.im(value) == 0, (g, t, value)
                assert low - slack <= value <= high + slack, (g, t, value, low, high)
                compared += 1


@pytest.mark.parametrize(
    "seed",
    [
        0,
        pytest.param(1, marks=pytest.mark.slow),
        pytest.param(2, marks=pytest.mark.slow),
        pytest.param(3, marks=pytest.mark.slow),
    ],
)
def test_what_random_germs_are_in_comparison(seed: int) -> None:
    """A dominant power, and the sign, are those of the function."""
    rng = random.Random(1000 + seed)
    compared, places = 0, (64, 100, 200)
    with mpmath.workprec(4000):
        while compared < 150:
            try:
                g, f = drawn(rng, 64, rng.choice([1, 2, 3]))
                p, box = g.dominant()
                values = [f(mpmath.mpf(t)) for t in places]
                scales = [_raised(p, mpmath.mpf(t)) for t in places]
            except (Undecided, Stuck, OverflowError):
                continue
            for t, value, scale in zip(places, values, scales, strict=True):
                share = value / scale
                if not mpmath.isfinite(share) or abs(share) < mpmath.mpf(2) ** -3000:
                    continue  # all that is left of what cancels
                assert box.lo - 1e-12 * abs(box.lo) <= share <= box.hi + 1e-12 * abs(box.hi), (g, t, share)
                assert (g > 0) == (value > 0)
                assert (g < 0) == (value < 0)
            compared += 1


def test_powers_are_ordered_by_growth() -> None:
    half = Fraction(1, 2)
    ordered = [Power(-half, Fraction(9)), Power(degree=-half), Power(logs=-half), Power(), Power(logs=half)]
    ordered += [Power(degree=half), LINEAR, Power(Fraction(0), Fraction(1), half), Power(half, Fraction(-9))]
    assert sorted(ordered) == ordered
    g = Germ(4096, tuple((p, Fraction(1)) for p in reversed(ordered)))
    assert (g - g).is_zero()
    assert (g * g).largest == Power(Fraction(1), Fraction(-18))


# ----------------------------------------------------------------------------------------------------- documents


SOURCE = (
    "loss f:\n    input x: real[n] > 0\n    input y: real[n]\n    per = x * log(x) + exp(y - 1) * y\n    return mean(per)\n"
    "    claim not lipschitz in x\n    claim not lipschitz in y <= 5\n    claim not redescending in y\n"
    "loss g:\n    input x: real[n]\n    per = log1p(x^2)\n    return mean(per)\n"
    "    claim redescending in x\n    claim vanishing gradient in x\n"
    "loss h:\n    input x: real[n]\n    per = x^2\n    return mean(per)\n    claim exploding gradient in x\n"
)


def test_forged_growth_is_rejected() -> None:
    source = Source("f.loss", SOURCE)
    checked = pipeline.check(source)
    made = json.loads(json.dumps(certify(source, checked.analysis.losses, checked.reports)))
    names = {id(e): loss["name"] for loss in made["losses"] for e in loss["entries"]}
    entries = [e for loss in made["losses"] for e in loss["entries"]]
    grown = [e for e in entries if e.get("rule") in (INWARD, OUTWARD, STEEP)]
    assert verify(made).entries == len(entries)
    assert len(grown) >= 2
    told = [e for e in entries if any(p["rule"] in (TAILS, EXPLOSION, LOSS) for p in e.get("parts", ()))]
    assert len(told) >= 3
    forged: list[tuple[str, dict[str, Any]]] = []
    for e in told:
        name = names[id(e)]
        part = e["parts"][0]
        for k, line in enumerate(part["trace"]):
            for changed in ([line[0] + "x", *line[1:]], [*line[:-1], line[-1] + "1"]):
                forged.append(
                    (name, {**e, "parts": [{**part, "trace": [*part["trace"][:k], changed, *part["trace"][k + 1 :]]}]})
                )
        forged.append((name, {**e, "parts": [{**part, "trace": part["trace"][1:]}]}))
        forged.append((name, {**e, "status": "refuted", "part": 0, "rule": STEEP}))
    for e in grown:
        power_, low, high = e["values"]
        changes: list[dict[str, Any]] = [{"start": "64"}, {"rule": INWARD if e["rule"] == OUTWARD else OUTWARD}]
        changes += [{"place": [1]}, {"points": e["points"][:1]}, {"values": e["values"][:2]}]
        changes += [{"values": [power_ + "1", low, high]}, {"values": [power_, high, low + "1"]}]
        forged += [(names[id(e)], {**e, **change}) for change in changes]
    for name, after in forged:
        losses = [{"name": name, "entries": [after], "without": []}]
        with pytest.raises(Rejected):
            verify(sealed({**made, "losses": losses}))


def test_forged_sides_are_rejected() -> None:
    source = Source("f.loss", "loss f:\n    input x: real[n, d]\n    return sum(sqrt(sum(x^2 over d)) over n)\n")
    checked = pipeline.check(source)
    made = json.loads(json.dumps(certify(source, checked.analysis.losses, checked.reports)))
    (loss,) = made["losses"]
    (found,) = (e for e in loss["entries"] if e.get("rule") == SIDES)
    assert verify(sealed({**made, "losses": [{**loss, "entries": [found]}]})).entries == 1
    values = found["values"]
    changes: list[dict[str, Any]] = [{"order": 0}, {"order": 2}, {"asked": 0}, {"start": "64"}, {"rule": INWARD}]
    changes += [{"values": [*values[:k], values[k] + "1", *values[k + 1 :]]} for k in range(4)]
    changes += [{"points": found["points"][:1]}, {"place": [1]}]
    for change in changes:
        with pytest.raises(Rejected):
            verify(sealed({**made, "losses": [{**loss, "entries": [{**found, **change}]}]}))
