"""Certificates of decision theory: statements that are true have one, statements that are nearly true have none."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from lossdsl import pipeline
from lossdsl.certificate.document import Rejected, _part, sealed, verify
from lossdsl.certificate.question import of_claim
from lossdsl.certificate.risks import ALIKE, BETTER, DECISIONS, LEVEL, SIDE, STANDS, candidates
from lossdsl.certificate.rules import Stuck
from lossdsl.diagnostics import Source
from tests.test_certificate import EXAMPLES, document_of, mutated

SCORES = "    input s: real[n, c]\n    input k: class[n] of c\n    input w: real[c] >= 0\n    input v: real[n] >= 0\n    param a: real >= 0\n    param t: real in [0, 1]\n"
SHARES = "    input s: simplex[n, c] over c\n    input k: class[n] of c\n    input v: real[n] >= 0\n"


def source_of(head: str, lines: str, claim: str) -> str:
    body = "".join(f"    {line}\n" for line in lines.split("; "))
    return f"loss l:\n{head}{body}    return mean(per)\n    claim {claim}\n"


def certified(head: str, lines: str, claim: str) -> bool:
    """Whether the checker derives the claim, whatever the provers say."""
    analysis = pipeline.analyse(Source("<test>", source_of(head, lines, claim)))
    assert not analysis.failed, analysis.diagnostics
    (built,) = analysis.losses
    try:
        for question in of_claim(built, built.claims[0]):
            _part(question)
    except Stuck:
        return False
    return True


LOG = "h[n, c] = log_softmax(s over c); "
TRUE_OF_CLASSES = [
    (SCORES, LOG + "per = -h[c = k]", "calibrated"),
    (SCORES, LOG + "per = -h[c = k]", "strictly proper"),
    (SCORES, LOG + "per = -h[c = k]", "proper"),
    (SCORES, LOG + "per = -(1 + v) * h[c = k] + v", "strictly proper"),
    (SCORES, LOG + "per = -(1 - t) * h[c = k] - t * mean(h over c)", "calibrated when t < 1"),
    (SCORES, LOG + "per = -h[c = k] + a * sum(exp(h) * h over c)", "calibrated"),
    (SCORES, LOG + "per = -h[c = k] - a * sum(exp(h) * h over c)", "calibrated"),
    (SCORES, LOG + "per = -h[c = k] - t * expm1(h[c = k])", "calibrated"),
    (SCORES, LOG + "per = -(1 - exp(h[c = k]))^2 * h[c = k]", "calibrated"),
    (SCORES, LOG + "per = sum((exp(h) - (c == k))^2 over c)", "calibrated"),
    (SCORES, "per = 1 - softmax(s over c)[c = k]", "calibrated"),
    (SCORES, "per = 1 - softmax(s over c)[c = k]", "noise symmetric"),
    (SCORES, "per = sum(abs(softmax(s over c) - (c == k)) over c)", "calibrated"),
    (SCORES, LOG + "per = -2 * h[c = k] - sum(h over c where c != k)", "calibrated"),
    (SHARES, "per = sum(s^2 over c) - 2 * s[c = k]^2", "calibrated"),
    (SHARES, "per = sum((s - (c == k))^2 over c)", "calibrated"),
    (SHARES, "per = sum((s - (c == k))^2 over c)", "strictly proper"),
    (SHARES, "per = 3 * sum(s^2 over c) - 6 * s[c = k] + v", "strictly proper"),
    (SHARES, "per = 1 - s[c = k]", "calibrated"),
    (SHARES, "per = 1 - s[c = k]", "noise symmetric"),
    (SHARES, "per = sum(s over c) - s[c = k] / 3", "noise symmetric"),
]
FALSE_OF_CLASSES = [
    (SCORES, LOG + "per = -w[k] * h[c = k]", "calibrated"),  # weights move the threshold
    (SCORES, LOG + "per = -v * h[c = k]", "calibrated"),  # nothing counts
    (SCORES, LOG + "per = -a * h[c = k]", "strictly proper"),
    (SCORES, LOG + "per = -(1 - t) * h[c = k] - t * mean(h over c)", "calibrated"),  # t = 1
    (SCORES, LOG + "per = -(1 - t) * h[c = k] - t * mean(h over c)", "proper"),
    (SCORES, LOG + "per = -h[c = k] - 3 * t * (h[c = k] + 1)^2", "calibrated"),
    (SCORES, LOG + "per = h[c = k]", "calibrated"),
    (SCORES, LOG + "per = -h[c = k] + (1 + a) * expm1(h[c = k])", "calibrated"),  # rises at the end
    (SCORES, LOG + "per = -h[c = k] + 2 * mean(h over c)", "calibrated"),  # without bound from below
    (SCORES, LOG + "per = log(-h[c = k])", "calibrated"),
    (
        SCORES,
        LOG + "per = -(h[c = k] + 1)^3 + 40 * sum((h + 1)^2 over c)",
        "calibrated",
    ),  # flat where two scores are equal
    (SCORES, LOG + "per = -h[c = k] - (1 if h[c = k] > -1 else 0)", "calibrated"),  # a jump
    (SCORES, "h = log_softmax(-s over c); per = -h[c = k]", "calibrated"),
    (SCORES, "h = log_softmax(s + w over c); per = -h[c = k]", "calibrated"),
    (SCORES, "h = log_softmax(s * w over c); per = -h[c = k]", "calibrated"),
    (SCORES, "h[n, c] = s - logsumexp(s over c where c != k); per = -h[c = k]", "strictly proper"),
    (SCORES, LOG + "per[n] = -h[0, k[n]] if n > 0 else -h[n, k[n]]", "calibrated"),  # of another row
    (SCORES, LOG + "per[n] = -h[n, k[n - 1]] if n > 0 else -h[n, k[n]]", "calibrated"),  # of another label
    (SCORES, LOG + "per = -h[c = k] - h[c = 0]", "strictly proper"),
    (SCORES, LOG + "per = -h[c = k] if k > 0 else 0", "calibrated"),
    (SCORES, LOG + "per = -h[c = k] - t * expm1(h[c = k])", "strictly proper"),
    (SCORES, LOG + "per = -h[c = k]", "noise symmetric"),
    (SCORES, LOG + "per = exp(2 * h[c = k])", "noise symmetric"),
    (SCORES, LOG + "per = -exp(h[c = k]) - sum(exp(h)^2 over c)", "noise symmetric"),
    (SCORES, LOG + "per = -h[c = k]", "calibrated on s <= 1"),  # scores of some range have no such softmax
    (SCORES.replace("s: real[n, c]", "s: real[n, c] >= 0"), LOG + "per = -h[c = k]", "strictly proper"),
    (SHARES, "per = 1 - s[c = k]", "strictly proper"),
    (SHARES, "per = sum((s - (c == k))^2 over c) - s[c = k]", "strictly proper"),
    (SHARES, "per = sum((s - (c == k))^2 over c)", "noise symmetric"),
    (SHARES, "per = v * sum((s - (c == k))^2 over c)", "strictly proper"),
    (SHARES, "per = sum(s^2 over c) - 2 * s[c = k]^2", "strictly proper"),
    (SHARES, "per = (1 if s[c = k] == 0 else 2 - s[c = k])", "calibrated"),  # another value at the end
    (SHARES, "per = s[c = k] - 1", "calibrated"),
    (SHARES, "per = sum((s - (c == k))^2 over c where c != k)", "strictly proper"),
    (
        SCORES,
        "u = 2 * s; " + LOG + "per = -h[c = k]",
        "calibrated on u <= 1",
    ),  # a condition on what is made of the scores
    (SCORES, "u = 2 * s; " + LOG + "per = -h[c = k]", "strictly proper on u <= 1"),
]


@pytest.mark.parametrize(("head", "lines", "claim"), TRUE_OF_CLASSES)
def test_sums_over_the_classes(head: str, lines: str, claim: str) -> None:
    assert certified(head, lines, claim)


@pytest.mark.parametrize(("head", "lines", "claim"), FALSE_OF_CLASSES)
def test_what_is_no_such_sum_has_no_certificate(head: str, lines: str, claim: str) -> None:
    assert not certified(head, lines, claim)


TERMS = {  # of the logarithm of a share
    "{h}": lambda x: x,
    "exp({h})": np.exp,
    "expm1({h})": np.expm1,
    "exp(2 * {h})": lambda x: np.exp(2 * x),
    "{h}^2": lambda x: x**2,
    "exp({h}) * {h}": lambda x: x * np.exp(x),
    "relu({h} + 1)": lambda x: np.maximum(x + 1, 0),
    "relu(-1 - {h})^2": lambda x: np.maximum(-1 - x, 0) ** 2,
    "log(-{h})": lambda x: np.log(-x),
}
NUMBERS = (-3.0, -2.0, -1.0, -0.5, 0.0, 0.0, 0.5, 1.0, 2.0, 3.0)


def test_random_sums_that_are_certified_are_calibrated() -> None:
    """Of two classes: no prediction with the other one on top comes to the least expected loss."""
    assert attacked(120, 3) >= 8


@pytest.mark.slow
def test_many_random_sums() -> None:
    assert attacked(3000, 4) >= 250


def attacked(count: int, seed: int) -> int:
    rng, found = random.Random(seed), 0
    edge = np.logspace(-12, 0, 400)
    share = np.unique(np.concatenate([edge / 2, 1 - edge / 2, np.linspace(0.001, 0.999, 2001)]))
    logs = np.log(share), np.log1p(-share)
    for _ in range(count):
        own, each = ({t: rng.choice(NUMBERS) for t in rng.sample(list(TERMS), 2)} for _ in range(2))
        if rng.random() < 0.5:
            each = {}
        written = [f"({k}) * {t.format(h='h[c = k]')}" for t, k in own.items()]
        written += [f"({k}) * sum({t.format(h='h')} over c)" for t, k in each.items()]
        if not certified(SCORES, LOG + "per = " + " + ".join(written), "calibrated"):
            continue
        found += 1
        f, g = (np.array([sum(k * TERMS[t](x) for t, k in part.items()) + 0 * x for x in logs]) for part in (each, own))
        for p in (0.51, 0.6, 0.75, 0.95):
            risk = f.sum(0) + p * g[0] + (1 - p) * g[1]
            assert risk[share <= 0.5].min() > risk.min(), (own, each, p)
    return found


def test_changed_certificates_are_rejected() -> None:
    rng = random.Random(9)
    for head, lines, claim in (TRUE_OF_CLASSES[1], TRUE_OF_CLASSES[4], TRUE_OF_CLASSES[-5], TRUE_OF_CLASSES[-1]):
        refused(document_of(Source("<test>", source_of(head, lines, claim))), "claim", rng)


def refused(document: dict[str, Any], about: str, rng: random.Random, count: int = 60) -> None:
    """Entries about a claim (or a finding), of which each change is seen."""
    verify(sealed(document))
    entries = [e for e in document["losses"][0]["entries"] if about in e]
    assert entries, document["losses"][0]["without"]
    for entry in entries:
        for _ in range(count):
            changed = mutated(entry, rng)
            moved = changed.get("points") != entry.get("points") and changed.get("values") == entry.get("values")
            if changed == entry or moved:
                continue
            document["losses"][0]["entries"] = [changed]
            with pytest.raises(Rejected):
                verify(sealed(document))


# ------------------------------------------------------------------------------------------------ counterexamples

BINARY = "    input x: real[n]\n    input y: sign[n]\n    param a: real >= 0\n    param t: real in [0, 1]\n"
ROW = {"s[0, 0]": "1/4", "s[0, 1]": "0", "w[0]": "1", "w[1]": "3", "v[0]": "2", "a": "0", "t": "1/2"}
POINT = {"x[0]": "1/4", "a": "1", "t": "1/2"}


def refuting(head: str, lines: str, claim: str, *points: dict[str, str]) -> list[tuple[str, tuple[str, ...]]]:
    """The kinds of counterexample, with their probabilities, that the checker sees at the points."""
    analysis = pipeline.analyse(Source("<test>", source_of(head, lines, claim)))
    assert not analysis.failed, analysis.diagnostics
    (built,) = analysis.losses
    (question,) = of_claim(built, built.claims[0])
    found = []
    for entry in candidates(question, points):
        with contextlib.suppress(Stuck):
            DECISIONS[entry["rule"]](question, entry)
            found.append((entry["rule"], tuple(entry["shares"])))
    return found


WEIGHED = "per = 2 * softplus(-x) if y > 0 else softplus(x)"
FOUND = [
    (SCORES, LOG + "per = -a * h[c = k]", "calibrated", [ROW], ALIKE),
    (SCORES, LOG + "per = -a * h[c = k] - max(h over c)", "calibrated", [ROW], ALIKE),
    (SCORES, LOG + "per = -w[k] * h[c = k]", "calibrated", [{**ROW, "w[0]": "0", "w[1]": "0"}], ALIKE),
    (SCORES, LOG + "per = -w[k] * h[c = k]", "calibrated", [{**ROW, "s[0, 0]": "-1/4"}], LEVEL),
    (SCORES, "h[n, c] = log_softmax(s + w over c); per = -h[c = k]", "calibrated", [{**ROW, "s[0, 0]": "1/4"}], LEVEL),
    (
        SCORES,
        "per = w[k] * sum(relu(1 - s[c = k] + s) over c where c != k)",
        "calibrated",
        [{**ROW, "s[0, 0]": "-1/4"}],
        LEVEL,
    ),
    (BINARY, WEIGHED, "calibrated", [POINT], SIDE),
    (BINARY, "per = softplus(-x) if y > 0 else 0", "calibrated", [POINT], SIDE),
    (
        BINARY,
        "per = t * relu(min(1, -x) + 1) + softplus(x) if y > 0 else 2 * softplus(x)",
        "calibrated",
        [{**POINT, "x[0]": "-2"}],
        SIDE,
    ),
    (
        BINARY,
        "per = softplus(-2 * y * x)",
        "proper with link sigmoid(x)",
        [{**POINT, "x[0]": "1"}, {**POINT, "x[0]": "1/2"}],
        BETTER,
    ),
    (BINARY, "per = relu(1 - y * x)", "proper", [{**POINT, "x[0]": "1"}], STANDS),
]
NOT_FOUND = [
    (SCORES, LOG + "per = -a * h[c = k]", "calibrated", [{**ROW, "a": "1"}]),
    (SCORES, LOG + "per = -a * h[c = k]", "calibrated", [{**ROW, "a": "-1"}]),  # of no value of a
    (SCORES, LOG + "per = -a * h[c = k]", "calibrated when a > 0", [ROW]),
    (SCORES, LOG + "per = -a * h[c = k] + k", "calibrated", [ROW]),
    (SCORES, LOG + "per = -h[c = k]", "calibrated", [{**ROW, "s[0, 0]": "-1/4"}]),
    (SCORES, LOG + "per = -w[k] * h[c = k]", "calibrated", [{**ROW, "w[0]": "1", "w[1]": "1"}]),
    (SCORES, LOG + "per = -w[k] * h[c = k]", "calibrated", [{**ROW, "w[0]": "0", "w[1]": "-1"}]),  # no weights
    (SCORES, LOG + "per = -w[k] * h[c = k]", "calibrated", [{**ROW, "s[0, 0]": "0"}]),  # no class on top
    (SCORES, "per = -w[k] * s[c = k]", "calibrated", [{**ROW, "s[0, 0]": "-1/4"}]),  # answers to a shift
    (SCORES, LOG + "per = w[k] * h[c = k]", "calibrated", [{**ROW, "s[0, 0]": "-1/4"}]),  # concave
    (BINARY, "per = softplus(-y * x)", "calibrated", [POINT]),
    (BINARY, "per = softplus(-y * x)", "calibrated", [{**POINT, "x[0]": "-1/1024"}]),
    (BINARY, "per = sigmoid(-y * x)", "calibrated", [POINT]),
    (BINARY, WEIGHED, "calibrated", [{**POINT, "x[0]": "-1/4"}]),
    (BINARY, WEIGHED, "calibrated", [{**POINT, "x[0]": "0"}]),
    (BINARY, "per = softplus(-y * x)", "proper with link sigmoid(x)", [{**POINT, "x[0]": "1"}, {**POINT, "x[0]": "2"}]),
    (BINARY, "per = softplus(-y * x)", "proper with link sigmoid(x)", [{**POINT, "x[0]": "1"}, {**POINT, "x[0]": "1"}]),
    (
        BINARY,
        "per = softplus(-2 * y * x)",
        "proper with link 2 * x",
        [{**POINT, "x[0]": "1"}, {**POINT, "x[0]": "1/2"}],
    ),  # no probability
    (
        BINARY,
        "per = a * softplus(-2 * y * x)",
        "proper with link sigmoid(x)",
        [{**POINT, "x[0]": "1"}, {**POINT, "x[0]": "1/2", "a": "1/9"}],
    ),
    (BINARY, "per = relu(1 - y * x)", "proper", [{**POINT, "x[0]": "1/2"}]),
    (BINARY, "per = relu(1 - y * x)^2", "proper", [{**POINT, "x[0]": "1/5"}]),
    (BINARY, "per = relu(1 - y * x)", "proper when a < 1", [{**POINT, "x[0]": "1"}]),
    (BINARY, "per = relu(1 - y * x) + relu(-1 - y * x)", "proper", [{**POINT, "x[0]": "0"}]),
]


@pytest.mark.parametrize(("head", "lines", "claim", "points", "rule"), FOUND)
def test_counterexamples(head: str, lines: str, claim: str, points: list[dict[str, str]], rule: str) -> None:
    assert rule in {found for found, _ in refuting(head, lines, claim, *points)}


@pytest.mark.parametrize(("head", "lines", "claim", "points"), NOT_FOUND)
def test_what_is_no_counterexample(head: str, lines: str, claim: str, points: list[dict[str, str]]) -> None:
    assert not refuting(head, lines, claim, *points)


MARGINS: list[tuple[str, Callable[[Any], Any]]] = [
    ("softplus(-{m})", lambda m: np.logaddexp(0, -m)),
    ("relu(1 - {m})", lambda m: np.maximum(1 - m, 0)),
    ("exp(-{m})", lambda m: np.exp(-m)),
    ("sigmoid(-{m})", lambda m: 1 / (1 + np.exp(m))),
    ("relu(1 / 2 - {m})^2", lambda m: np.maximum(0.5 - m, 0) ** 2),
]


def test_random_losses_that_are_refuted_are_not_calibrated() -> None:
    """On a grid of the right side nothing is better than the prediction on the wrong one."""
    rng, seen, line = random.Random(4), 0, np.linspace(-30, 30, 6001)
    for _ in range(60):
        parts = [(rng.choice(MARGINS), rng.choice((0, 1, 1, 2, 3)), rng.choice((-1, 0, 0, 1))) for _ in range(2)]
        (((f, one), a, b), ((g, other), c, d)) = parts
        body = f"{a} * {f.format(m=f'(x + ({b}))')} if y > 0 else {c} * {g.format(m=f'(-x + ({d}))')}"
        at = rng.choice((-3, -1, -0.25, 0.25, 1, 3))
        for _, (share, *_rest) in refuting(BINARY, f"per = {body}", "calibrated", {**POINT, "x[0]": str(Fraction(at))}):
            eta = float(Fraction(share))
            assert at * (eta - 0.5) < 0
            risk = eta * a * one(line + b) + (1 - eta) * c * other(-line + d)
            own = eta * a * one(at + b) + (1 - eta) * c * other(-at + d)
            assert own <= risk[(line >= 0) if eta > 0.5 else (line <= 0)].min() + 1e-9, (body, at, eta)
            seen += 1
    assert seen >= 10


@pytest.mark.parametrize(
    "name",
    [
        "imbalance/ldam",
        "imbalance/class_balanced",
        "robust/symmetric_ce",
        "classification/focal",
        "sequence/smoothed_token_nll",
    ],
)
def test_changed_counterexamples_are_rejected(name: str) -> None:
    path = EXAMPLES / f"{name}.loss"
    document = document_of(Source(str(path), path.read_text()))
    document["losses"][0]["entries"] = [e for e in document["losses"][0]["entries"] if e.get("finding") == "calibrated"]
    refused(document, "finding", random.Random(11))


# -------------------------------------------------------------------------------------------- labels of two values

SOFT = "    input x: real[n]\n    input y: real[n] in [0, 1]\n    param w: real > 0\n    param a: real >= 0\n"
WIDE = "    input x: real[n]\n    input y: sign[n]\n    param w: real > 0\n"
TRUE_OF_TWO = [
    (BINARY, "per = softplus(-y * x)", "strictly proper with link sigmoid(x)"),
    (BINARY, "per = softplus(-3 * y * x / 2)", "strictly proper with link sigmoid(3 / 2 * x)"),
    (BINARY, "per = exp(-y * x)", "proper with link sigmoid(2 * x)"),
    (BINARY, "per = sigmoid(-y * x)^2", "strictly proper with link sigmoid(x)"),
    (BINARY, "per = 3 * softplus(-y * x) + softplus(-2 * y * x) / 2 + 2 * softplus(y * x)", "calibrated"),
    (BINARY, "per = softplus(-y * x)", "strictly proper"),
    (BINARY, "per = relu(1 - y * x)^2", "strictly proper"),
    (BINARY, "m = y * x; per = relu(1 - m)^2 if m >= -1 else -4 * m", "strictly proper"),
    (BINARY, "per = 2 * relu(1 - x)^2 if y > 0 else 3 * relu(1 + x)^2", "strictly proper"),
    (BINARY, "per = softplus(-y * x) + relu(-y * x)^2", "strictly proper"),
    (SOFT, "per = y * softplus(-x) + (1 - y) * softplus(x)", "strictly proper with link sigmoid(x)"),
    (SOFT, "per = w * y * softplus(-x) + (1 - y) * softplus(x)", "strictly proper"),
    (BINARY, "per = relu(1 - y * x)", "calibrated"),
    (BINARY, "per = relu(1 + a - y * x)", "calibrated"),
    (BINARY, "per = max(1 - y * x, 1 / 2 - 2 * y * x)", "calibrated"),
    (SOFT, "per = y * relu(w - x) + (1 - y) * relu(w + x)", "calibrated"),
    (WIDE, "m = 1 - y * x; per = 0 if m <= 0 else m^2 / (2 * w) if m < w else m - w / 2", "calibrated"),
    (SHARES, "per = 1 - s[c = k] / norm(s over c)", "strictly proper"),
    (SHARES, "per = v - 2 * s[c = k] / sqrt(sum(s^2 over c))", "calibrated"),
]
FALSE_OF_TWO = [
    (BINARY, "per = softplus(-y * x)", "strictly proper with link sigmoid(2 * x)"),
    (BINARY, "per = softplus(-y * x)", "proper with link sigmoid(-x)"),
    (BINARY, "per = -softplus(-y * x)", "proper with link sigmoid(x)"),  # the largest
    (BINARY, "per = softplus(-y * x) + softplus(-2 * y * x)", "proper with link sigmoid(x)"),
    (BINARY, "per = softplus(-y * x) + x", "proper with link sigmoid(x)"),
    (BINARY, "per = 2 * softplus(-x) if y > 0 else softplus(x)", "proper with link sigmoid(x)"),
    (BINARY, "per = a * softplus(-y * x)", "strictly proper with link sigmoid(x)"),  # a may be 0
    (BINARY, "per = a * softplus(-y * x)", "strictly proper"),
    (BINARY, "per = softplus(-y * x) * sigmoid(-y * x)^2", "proper with link sigmoid(x)"),
    (BINARY, "per = relu(1 - y * x)", "proper"),
    (BINARY, "per = sigmoid(-y * x)", "proper"),
    (BINARY, "per = -y * x", "proper"),
    (BINARY, "per = relu(-y * x)^2", "strictly proper"),  # at 0 for each probability
    (BINARY, "per = relu(1 - y * x)^2 + relu(-y * x)", "strictly proper"),  # a kink
    (BINARY, "per = softplus(-y * x) + relu(x) + relu(-x)", "strictly proper"),
    (BINARY, "per = softplus(-y * x) + x^2", "strictly proper"),  # the best one never is further than 1 / 2
    (
        BINARY,
        "per = relu(2 - y * x)^2 if y * x > 1 else 3 - 2 * y * x",
        "strictly proper",
    ),  # not for the probabilities near 1 / 2
    (SOFT, "per = w * y * softplus(-x) + (1 - y) * softplus(x)", "strictly proper with link sigmoid(x)"),
    (SOFT, "per = a * y * softplus(-x) + (1 - y) * softplus(x)", "strictly proper"),
    (BINARY, "per = relu(a - y * x)", "calibrated"),  # a = 0: a kink at 0
    (BINARY, "per = relu(-y * x) + softplus(-y * x)", "calibrated when a > 1"),
    (BINARY, "per = max(1 - y * x, 1 - 2 * y * x)", "calibrated"),
    (BINARY, "per = relu(1 + y * x)", "calibrated"),
    (BINARY, "per = relu(1 - y * x) + relu(1 + y * x)", "calibrated"),  # flat at 0
    (BINARY, "per = (1 - y * x if y * x <= 0 else 1 - y * x / 2) + 0 * a", "calibrated"),
    (BINARY, "per = relu(1 - x) if y > 0 else relu(1 / 2 + x)", "calibrated"),
    (BINARY, "per = softplus(-y * x)", "calibrated on abs(x) <= 1"),
    (BINARY, "per = relu(1 - y * x)", "calibrated on y * x <= 1"),
    (BINARY, "per = relu(1 - y * x)^2", "strictly proper on x <= 1 / 2"),
    (BINARY, "per = softplus(-y * x)", "strictly proper with link sigmoid(x) on y > 0"),
    (BINARY, "u = 2 * x; per = relu(1 - y * x)^2", "calibrated on u <= 1"),
    (BINARY, "m = y * x; per = relu(1 - m)^2", "strictly proper on m <= 1 / 2"),
    (BINARY, "m = y * x; per = softplus(-m)", "strictly proper with link sigmoid(x) on m <= 1 / 2"),
    (
        SOFT,
        "per = softplus(-x) if y == 1 else softplus(x) if y == 0 else 0",
        "proper with link sigmoid(x)",
    ),  # not affine
    (SOFT, "per = softplus(-x) if y >= 1 else softplus(x) if y <= 0 else y * x", "strictly proper"),
    (BINARY, "per = softplus(-y * x)", "calibrated with link sigmoid(x - 1)"),
    (BINARY.replace("sign[n]", "bool[n]"), "per = softplus(-x) if y else softplus(x)", "strictly proper"),  # no label
    (BINARY, "per = abs(y) * softplus(-y * x)", "strictly proper with link sigmoid(x)"),  # true, but not seen
    (BINARY, "per = size(n) * softplus(-y * x)", "strictly proper with link sigmoid(x)"),
    (BINARY, "per = softplus(-y * x) + clamp(-y * x, -1, 1)", "proper with link sigmoid(x)"),
    (SHARES, "per = 1 + s[c = k] / norm(s over c)", "calibrated"),
    (SHARES, "per = 1 - s[c = k] / sqrt(sum(s^2 over c) + 1)", "strictly proper"),
    (SHARES, "per = 1 - s[c = k] / sqrt(sum(s^3 over c))", "strictly proper"),
    (SHARES, "per = 1 - v * s[c = k] / norm(s over c)", "strictly proper"),
    (SHARES, "per = 1 - s[c = k]^2 / norm(s over c)", "strictly proper"),
    (SHARES, "per = s[c = k] - 2 * s[c = k] / norm(s over c)", "strictly proper"),
    (SHARES, "per = 1 - s[c = k] / sqrt(sum(s^2 over c where c != k))", "strictly proper"),
]


@pytest.mark.parametrize(("head", "lines", "claim"), TRUE_OF_TWO)
def test_losses_of_two_values(head: str, lines: str, claim: str) -> None:
    assert certified(head, lines, claim)


@pytest.mark.parametrize(("head", "lines", "claim"), FALSE_OF_TWO)
def test_near_misses_of_two_values(head: str, lines: str, claim: str) -> None:
    assert not certified(head, lines, claim)


SUMMANDS: list[tuple[str, Callable[[Any], Any]]] = [
    *MARGINS,
    ("softplus(-2 * {m})", lambda m: np.logaddexp(0, -2 * m)),
    ("sigmoid(-{m})^2", lambda m: (1 / (1 + np.exp(m))) ** 2),
    ("relu(1 - {m})^2", lambda m: np.maximum(1 - m, 0) ** 2),
    ("{m}", lambda m: m),
    ("{m}^2", lambda m: m**2),
]


def minimisers(numbers: list[int], which: list[int], share: float, line: Any) -> Any:
    """Where the expected loss is least on a grid."""
    losses = [sum(k * SUMMANDS[j][1](s * line) for k, j in zip(numbers, which)) for s in (1, -1)]
    risk = share * losses[0] + (1 - share) * losses[1]
    return line[risk <= risk.min() + 1e-13]


@pytest.mark.parametrize(
    "claim", ["strictly proper", "strictly proper with link sigmoid(x)", "strictly proper with link sigmoid(2 * x)"]
)
def test_random_losses_of_two_values(claim: str) -> None:
    """Those that are certified have one best prediction for each probability, and the link says which."""
    rng, seen, line = random.Random(5), 0, np.linspace(-12, 12, 24001)
    for _ in range(100):
        which, numbers = rng.sample(range(len(SUMMANDS)), 2), [rng.choice((1, 2, 3)), rng.choice((-1, 0, 0, 1, 2))]
        per = " + ".join(f"({k}) * {SUMMANDS[j][0].format(m='(y * x)')}" for k, j in zip(numbers, which))
        if not certified(BINARY, f"per = {per}", claim):
            continue
        seen += 1
        best = [minimisers(numbers, which, share, line) for share in (0.1, 0.3, 0.5, 0.6, 0.9)]
        assert all(b.max() - b.min() < 0.01 for b in best), per
        places = [float(b.mean()) for b in best]
        assert places == sorted(places), per
        assert min(b - a for a, b in itertools.pairwise(places)) > 0.01, per
        if "link" in claim:
            rate = 2 if "2" in claim else 1
            assert np.allclose(1 / (1 + np.exp(-rate * np.array(places))), (0.1, 0.3, 0.5, 0.6, 0.9), atol=1e-3), per
    assert seen >= 3


def test_changed_certificates_of_two_values_are_rejected() -> None:
    rng = random.Random(13)
    for k in (0, 6, 11, 12, 17):
        refused(document_of(Source("<test>", source_of(*TRUE_OF_TWO[k]))), "claim", rng, 40)


KINKS: list[tuple[str, Callable[[Any], Any]]] = [
    *SUMMANDS,
    ("relu(-{m})", lambda m: np.maximum(-m, 0)),
    ("abs({m})", np.abs),
    ("max(-{m}, -2 * {m})", lambda m: np.maximum(-m, -2 * m)),
    ("max(1 - {m}, 1 - 2 * {m} - 1 / 4)", lambda m: np.maximum(1 - m, 0.75 - 2 * m)),
    ("relu(1 / 2 + {m})", lambda m: np.maximum(0.5 + m, 0)),
    ("(1 if {m} <= 0 else 0)", lambda m: np.where(m <= 0, 1.0, 0.0)),
    ("(-{m} if {m} < 0 else -2 * {m})", lambda m: np.where(m < 0, -m, -2 * m)),
]


@pytest.mark.parametrize("count", [100, pytest.param(3000, marks=pytest.mark.slow)])
def test_random_margin_losses(count: int) -> None:
    """Of those that are certified, no prediction on the wrong side comes to the least expected loss."""
    rng, seen, line = random.Random(6), 0, np.linspace(-40, 40, 80001)
    for _ in range(count):
        which = rng.sample(range(len(KINKS)), 2)
        numbers = [rng.choice((1, 2, 3)), rng.choice((-1, 0, 0, 1, 2))]
        per = " + ".join(f"({k}) * {KINKS[j][0].format(m='(y * x)')}" for k, j in zip(numbers, which, strict=True))
        if not certified(BINARY, f"per = {per}", "calibrated"):
            continue
        seen += 1
        one, other = (sum(k * KINKS[j][1](s * line) for k, j in zip(numbers, which, strict=True)) for s in (1, -1))
        for share in (0.51, 0.6, 0.9):
            risk = share * one + (1 - share) * other
            assert risk[line <= 0].min() > risk[line > 0].min(), (per, share)
    assert seen >= count // 8
