"""Signs that the checker sees at the ends of intervals, of sums element by element, and of terms in both cases of a condition:
statements that are true have a certificate, near misses have none, and random sums that are certified are nowhere negative."""

from __future__ import annotations

import random

import numpy as np
import pytest

from lossdsl import pipeline
from lossdsl.certificate.document import ENCLOSURES, _derived
from lossdsl.certificate.question import of_claim
from lossdsl.certificate.rules import Stuck
from lossdsl.diagnostics import Source
from lossdsl.ir.interpret import interpret
from lossdsl.ir.nodes import Program

HEAD = """loss l:
    input x: real[n, c]
    input p, t: real[n, c] in [0, 1]
    input s: simplex[n, c] over c
    input k: class[n] of c
    input m: bool[n, c]
    input b: bool[n]
    input z, v: real[n]
    input y, w: real[n] in [0, 1]
    param low, high: real > 0
    param g: real >= -1
    param e: real in (0, 1)
"""


def certified(lines: str, claim: str = "per >= 0") -> tuple[Program, bool]:
    """Whether the checker derives the claim by enclosures, whatever the provers say."""
    source = (
        HEAD + "".join(f"    {line}\n" for line in lines.split("; ")) + f"    return mean(per)\n    claim {claim}\n"
    )
    (built,) = pipeline.analyse(Source("<test>", source)).losses
    try:
        for question in of_claim(built, built.claims[0]):
            _derived(ENCLOSURES, question)
    except Stuck:
        return built.program, False
    return built.program, True


TRUE = [
    # a mixture of two numbers
    "per = 1 / (low + (high - low) * (1 + cos(z)) / 2)",
    "per = y * z^2 + (1 - y) * abs(z)",
    "per = y + w - 2 * y * w",
    "per = 1 - y * w",
    "u[n] = sum(x over c); per = softplus(u) - y * u",
    "u[n] = sum(x over c); per = y * softplus(u) + (1 - y) * softplus(-u) - y * u",
    # from one number on
    "l[n] = -softplus(z); per = -l - g * expm1(l)",
    "per = (g + 1) * y",
    # element by element
    "per[n] = 1 - (2 * sum(p * t over c) + low) / (sum(p + t over c) + low)",
    "per[n] = 1 - (sum(p * t over c) + low) / (sum(p + t - p * t over c) + low)",
    "per[n] = sum(p over c) - sum(p * t over c)",
    "per[n] = 1 + sum(p over c) / (sum(p + 1 over c) + low) - 1/2",
    # relative entropy
    "per = e * (log(e) - log(y)) + (1 - e) * (log(1 - e) - log(1 - y))",
    "per = (y + low) * (log(y + low) - log(high)) - y - low + high",
    # cases, and what is known in them
    "per[n] = logsumexp(x over c) - (x[n, k[n]] if b else logsumexp(x over c) - 1)",
    "per = (z if z > v else v) - v",
    "per = y - (w if w < y else 0)",
    # increasing functions, parts of folds
    "per[n] = softplus(logsumexp(x over c)) - softplus(x[n, k[n]])",
    "per[n] = logaddexp(logsumexp(x over c), z) - logaddexp(logsumexp(x over c where m), z)",
    "per[n] = exp(max(x over c)) - exp(x[n, k[n]])",
    # what is infinite upwards
    "per[n] = max(x[n, k[n]] - max(x over c where c != k else -inf), -low) + low",
    "per = y * 0 - log(y)",
    # rows of a norm
    "per[n] = 1 - sum((x / max(norm(x over c), low)) * (p / max(norm(p over c), high)) over c)",
    "per[n] = 1 - s[n, k[n]] / norm(s over c)",
    "per[n] = 1 - norm(s over c)",
    "per[n] = 1 - norm(softmax(x over c) over c)",
    # a share of a term
    "per = z - v + 2 / e * (relu(v - w) + relu(w - z))",
    "per = z - v + (1 + low) * (relu(v - w) + relu(w - z))",
    "per = 3 * abs(z) - 2 * z + z",
    "per = 2 * softplus(z) - z",
    "per = z - 3 * min(z, v) + 2 * min(z, v)",
    "per = exp(v - 1) + exp(z - 1) - v - z + 1/4",  # a tangent without a constant
]
FALSE = [
    "per = exp(v - 1) + exp(z - 1) - v - z - 1/4",
    "per = exp(z - 1) - v + (z - 1)",
    "per = z - v + e * (relu(v - w) + relu(w - z))",
    "per = z - v + 2 / e * relu(v - w)",
    "per = v - z + 2 / e * (relu(v - w) + relu(w - z))",
    "per = z - v + 2 * relu(v - w) + relu(w - y)",
    "per = 2 * softplus(z) - 3 * z",
    "per = 2 * abs(z) - 3 * z",
    "per = relu(z) / 2 - z",
    "per = z - min(z, v) / 2",
    "per = -2 * relu(z) + z",
    "per = logsumexp(x over c where m) * 2 - x[n, k[n]]",
    "per = 1 / (low + (high - low) * (2 + cos(z)) / 2)",
    "per = y * z^2 + (1 - y) * z",
    "per = y + w - 3 * y * w",
    "per = 1 - 2 * y * w",
    "u[n] = sum(x over c); per = softplus(u) - 2 * y * u",
    "per = y - y * y * 2",
    "per = (y - 1/4) * (y - 3/4)",  # not affine: positive at both ends
    "per = y * w - 2 * y^2 * w",
    "per = cos(8 * y)",
    "l[n] = softplus(z); per = -l - g * expm1(l)",
    "per = (g + 1) * (y - 1/2)",
    "per = g * y",
    "per[n] = 1 - (3 * sum(p * t over c) + low) / (sum(p + t over c) + low)",
    "per[n] = 1 - (2 * sum(p * t over c) + high) / (sum(p + t over c) + low)",
    "per[n] = 1 - (2 * sum(p * t over c) + low) / (sum(p + t over c where m) + low)",
    "per[n] = sum(p over c where m) - sum(p * t over c)",
    "per[n, c] = sum(p over c) - sum(p over n)",
    "per = e * (log(e) - log(y)) + (1 - e) * (log(1 - e) - log(1 - w))",
    "per = (y + low) * (log(y + low) - log(high)) - y - low",
    "per = (y + low) * (log(y + high) - log(high)) - y - low + high",
    "per[n] = logsumexp(x over c) - (x[n, k[n]] if b else logsumexp(x over c) + 1)",
    "per = (z if z < v else v) - v",
    "per = y - (w if w > y else 0)",
    "per = y - (w if b else 0)",
    "per[n] = softplus(-logsumexp(x over c)) - softplus(-x[n, k[n]])",
    "per[n] = logaddexp(logsumexp(x over c where m), z) - logaddexp(logsumexp(x over c), z)",
    "per[n] = logaddexp(logsumexp(x over c), z) - logaddexp(logsumexp(p over c where m), z)",
    "per[n] = sin(max(x over c)) - sin(x[n, k[n]])",
    "per[n] = logsumexp(x over c where m) - logsumexp(x over c where m and b)",  # -inf less -inf
    "per[n] = max(x[n, k[n]] - max(x over c where c != k else -inf), -high) + low",
    "per = log(y)",
    "per[n] = 1 - sum((x / max(norm(x over c), low)) * (2 * p / max(norm(p over c), high)) over c)",
    "per[n] = 1 - sum((x / max(norm(p over c), low)) * (p / max(norm(x over c), high)) over c)",
    "per[n] = 1 - sum((x / max(norm(x over c where m), low)) * (p / max(norm(p over c), high)) over c)",
    "per[n] = 1 - sum((x / norm(x over c)) * (p / norm(p over c)) over c)",  # 0/0
    "per[n] = 1 - s[n, k[n]] / norm(p over c)",
    "per[n] = 1 - 1 / norm(s over c where m)",
    "per[n] = 1 - norm(2 * s over c)",
    "per[c] = 1 - norm(s over n)",
]


@pytest.mark.parametrize("lines", TRUE)
def test_what_is_true_is_seen(lines: str) -> None:
    assert certified(lines)[1]


@pytest.mark.parametrize("lines", FALSE)
def test_what_is_false_is_not_seen(lines: str) -> None:
    assert not certified(lines)[1]


def _drawn(rng: random.Random) -> str:
    """A random sum, of which many are nowhere negative by little."""
    atoms = [
        "y",
        "w",
        "z",
        "softplus(z)",
        "abs(z)",
        "(1 - y)",
        "(1 - w)",
        "e",
        "exp(z)",
        "max(z, v)",
        "v",
        "(y if z > v else w)",
    ]
    terms = []
    for _ in range(rng.choice((2, 3, 4))):
        factors = [rng.choice(atoms) for _ in range(rng.choice((1, 1, 2, 3)))]
        terms.append(f"{rng.choice(('+', '-', '+'))} {rng.choice((1, 1, 2))} * {' * '.join(factors)}")
    return f"{rng.choice((0, 1, 2))} {' '.join(terms)}"


def _row(rng: random.Random) -> str:
    body = [
        rng.choice(("p", "t", "p * t", "p^2", "1 - p", "p * (1 - t)", "abs(x)", "softplus(x)", "x * p"))
        for _ in range(3)
    ]
    a, b, c = (f"sum({part} over c)" for part in body)
    return f"{rng.choice((1, 2))} * {a} {rng.choice('+-')} {b} {rng.choice(('', f'- {c}', f'+ y * {c}'))}"


def attacked(sums: int, seed: int) -> int:
    """How many random sums were certified; each is looked at at many places, corners among them."""
    rng, drawn, seen = random.Random(seed), np.random.default_rng(seed), 0
    for k in range(sums):
        lines = f"per[n] = {(_drawn if k % 2 else _row)(rng)}"
        program, held = certified(lines)
        if not held:
            continue
        seen += 1
        n, c = 400, 3
        given = {
            "x": drawn.normal(size=(n, c)) * 3,
            "z": drawn.normal(size=n) * 4,
            "v": drawn.normal(size=n) * 4,
            **{name: _corner(drawn, (n, c)) for name in "pt"},
            **{name: _corner(drawn, (n,)) for name in "yw"},
            "s": np.full((n, c), 1 / c),
            "k": np.zeros(n, dtype=int),
            "m": np.ones((n, c), dtype=bool),
            "b": np.ones(n, dtype=bool),
        }
        numbers = {"low": 0.5, "high": 2.0, "g": -1.0, "e": rng.choice((1e-3, 0.5, 1 - 1e-3))}
        used = {i.name for i in program.inputs}
        found = interpret(program, {k: v for k, v in given.items() if k in used}, numbers, outputs=["per"])["per"]
        assert np.all(found >= -1e-9 * (1 + np.abs(found))), lines
    return seen


def _corner(drawn: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.where(drawn.random(shape) < 0.5, drawn.integers(0, 2, shape), drawn.random(shape))


def test_random_sums_that_are_certified_are_nowhere_negative() -> None:
    assert attacked(120, 1) >= 20


@pytest.mark.slow
def test_many_random_sums() -> None:
    assert sum(attacked(400, seed) for seed in range(2, 8)) >= 400
