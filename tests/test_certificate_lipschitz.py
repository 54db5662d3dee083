"""Certificates of Lipschitz continuity and of its constants: near misses have none, and no difference is larger."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import mpmath
import pytest

from lossdsl import pipeline
from lossdsl.certificate.document import REACH, Rejected, certify, sealed, verify
from lossdsl.certificate.orders import of_slopes
from lossdsl.certificate.question import Question, of_claim
from lossdsl.certificate.rules import Stuck
from lossdsl.diagnostics import Source
from tests.test_certificate_growth import written
from tests.test_verify import built

HEAD = (
    "    input y: real[n]\n    input s: sign[n]\n    input i: binary[n]\n    input b: bool[n]\n    input t: real[n] in [0, 1]\n"
    "    param k: real > 0 = 1\n    param z: real >= 0 = 1\n    param w: real = 1\n"
)


def reaches(body: str, declared: str = "real[n]", claim: str = "lipschitz in x") -> bool:
    """Whether the rule of bounded sets and orders beyond shows it; the body may be of several lines."""
    *lines, last = body.split("; ")
    text = f"loss f:\n    input x: {declared}\n{HEAD}" + "".join(f"    {line}\n" for line in lines)
    loss = built(f"{text}    per[n] = {last}\n    return mean(per)\n    claim {claim}\n")
    (q,) = of_claim(loss, loss.claims[0])
    return shown(of_slopes, q)


def shown(rule: Callable[[Question], list[list[str]]], q: Question) -> bool:
    try:
        return bool(rule(q))
    except Stuck:
        return False


@pytest.mark.parametrize(
    ("body", "true"),
    [
        ("log1p((x - y)^2 / k)", True),
        ("log1p((x - y)^2 / z)", False),  # z may be 0
        ("log((x - y)^2 + z)", False),
        ("log((x - y)^2 + k) * w", True),
        ("1 - exp(-(x - y)^2 / (2 * k^2))", True),
        ("1 - exp(-z * (x - y)^2)", False),  # true, but for z = 0 by another reason
        ("1 - exp(-w * (x - y)^2)", False),
        ("(x - y)^2", False),
        ("(x - y)^2 / (k + abs(x - y))", True),
        ("(x - y)^2 / (z + abs(x - y))", False),
        ("(x - y)^3 / (k + (x - y)^2)", True),
        ("(x - y)^3 / (k + abs(x - y))", False),
        ("x * log1p(x^2)", False),
        ("x * log1p(x^2) / (1 + log1p(x^2))", True),
        ("x * sqrt(1 + log1p(x^2))", False),
        ("sqrt(k + x^2)", True),
        ("sqrt(abs(x))", False),
        ("sqrt(abs(x) + k)", True),
        ("abs(x)^1.5", False),
        ("x * exp(-x^2)", True),
        ("x * exp(-x)", False),
        ("x * exp(-k * abs(x))", True),
        ("x^3 * exp(-k * abs(x))", True),
        ("x^3 * exp(-z * abs(x))", False),
        ("x * exp(-z * abs(x))", False),  # true, but not seen where z is 0
        ("exp(-s * x) * x", False),
        ("exp(z * logsigmoid(-s * x)) * logsigmoid(s * x)", True),
        ("exp(w * logsigmoid(-s * x)) * logsigmoid(s * x)", False),
        ("exp(z * logsigmoid(s * x)) * logsigmoid(s * x)", False),  # true, but for z = 0 by another reason
        ("exp(z * logsigmoid(-s * x)) * logsigmoid(s * x)^2", False),
        ("exp(k * logsigmoid(-x)) * logsigmoid(-x)^2", True),
        ("r = 2 * i - 1; exp(z * logsigmoid(-r * x)) * logsigmoid(r * x)", True),
        ("r = 2 * i; exp(z * logsigmoid(-r * x)) * logsigmoid(r * x)", True),
        ("r = i - 1; exp(z * softplus(r * x)) * softplus(x)", False),
        ("g = z + (k - z) * t; exp(g * logsigmoid(-s * x)) * logsigmoid(s * x)", True),
        ("g = z + (k - z) * (t + 1); exp(g * logsigmoid(-s * x)) * logsigmoid(s * x)", False),
        ("g = z - (k - z) * t; exp(g * logsigmoid(-s * x)) * logsigmoid(s * x)", False),
        ("g = k + (z - w) * t; exp(g * logsigmoid(-s * x)) * logsigmoid(s * x)", False),
        ("logaddexp(x * tanh(x), y)", True),
        ("logaddexp(x^2, y)", False),
        ("logaddexp(x, y) * atan(x)", True),
        ("logaddexp(x, y)^2", False),
        ("sin(x^2)", False),
        ("x * sin(x)", False),
        ("sin(x) / (1 + x^2) * x", True),
        ("(x^2 if b else x)", False),
        ("(log1p(x^2) if b else x * tanh(x))", True),
        ("floor(x) / (1 + x^2)", False),
        ("1 / x", False),
        ("x / (1 + y * x^2)", False),
        ("min(x^2, k)", True),
        ("max(x^2, k)", False),
        ("tanh(x / y)", False),
    ],
)
def test_reach(body: str, true: bool) -> None:
    assert reaches(body) is true


@pytest.mark.parametrize(
    ("body", "declared", "claim", "true"),
    [
        ("(log1p(x) - log1p(t))^2", "real[n] >= 0", "lipschitz in x", True),
        ("(log1p(x) - log1p(t))^2", "real[n] > -1", "lipschitz in x", False),
        ("(log1p(x) - y)^2", "real[n] >= 0", "lipschitz in x", True),
        ("log(x)^2", "real[n] >= 1", "lipschitz in x", True),
        ("log(x)^2", "real[n] > 0", "lipschitz in x", False),
        ("x * log(x)", "real[n] in [1, 2]", "lipschitz in x", True),
        ("xlogy(x, x)", "real[n] >= 0", "lipschitz in x", False),
        ("exp(-x) * x", "real[n] >= 0", "lipschitz in x", True),
        ("exp(-x) * x", "real[n] <= 0", "lipschitz in x", False),
        ("exp(x) * x", "real[n] <= 0", "lipschitz in x", True),
        ("x^2", "real[n] in [-3, 3]", "lipschitz in x", True),
        ("x^2", "real[n] <= w", "lipschitz in x", False),
        ("x^2", "real[n] in [-1, k]", "lipschitz in x", False),  # true, but how far it is at most is not known
        ("x^2", "real[n]", "lipschitz in x on x >= 0", False),
        ("(exp(-w * x) * x)", "real[n] >= 0", "lipschitz in x when w >= 1", True),
        ("(exp(-w * x) * x^2)", "real[n] >= 0", "lipschitz in x when w >= 0", False),
        ("log1p(x^2)", "real[n]", "lipschitz in x <= 1", False),
        ("log1p(x^2) * x", "real[n]", "lipschitz in x, y", False),
    ],
)
def test_reach_in_domains(body: str, declared: str, claim: str, true: bool) -> None:
    assert reaches(body, declared, claim) is true


def test_what_two_terms_read_is_no_entry_of_its_own() -> None:
    text = "loss f:\n    input x: real[n]\n    per = log1p(x^2) + {}\n    return sum(per)\n    claim lipschitz in x\n"
    for more, true in (("atan(x)", True), ("x[0]^2", False), ("x[0] * x", False), ("sum(x)^2", False)):
        loss = built(text.format(more))
        (q,) = (replace(q, of="return.total") for q in of_claim(loss, loss.claims[0]))
        assert shown(of_slopes, q) is true, more


@pytest.mark.parametrize(
    "seed", [0, 1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]
)
def test_random_elements_have_no_steep_place(seed: int) -> None:
    """Slopes of one that is proved to be Lipschitz are bounded, far out and near 0; half of those that look so are proved."""
    rng = random.Random(seed)
    proved = looked = 0
    with mpmath.workprec(4_000):
        places = [s * mpmath.mpf(10) ** k for s in (1, -1) for k in (-40, -9, -1, 0, 1, 5, 40)]
        while looked < 60:
            body, f = written(rng, rng.choice([1, 2, 3]))
            if "x" not in body.replace("exp", "").replace("max", ""):
                continue
            h = mpmath.mpf(2) ** -1500
            largest = max(abs((f(x + h) - f(x)) / h) for x in places)
            found = reaches(body)
            assert not found or largest < 1e6, (body, largest)
            if largest < 1e6:
                looked += 1
                proved += found
    assert proved >= 0.3 * looked, (proved, looked)


SOURCE = (
    "loss f:\n    input x: real[n]\n    input y: sign[n]\n    param g: real >= 0 = 2\n"
    "    per = exp(g * logsigmoid(-y * x)) * logsigmoid(y * x)\n    return mean(per)\n    claim lipschitz in x\n"
)


def test_forged_reaches_are_rejected() -> None:
    source = Source("f.loss", SOURCE)
    checked = pipeline.check(source)
    made: dict[str, Any] = json.loads(json.dumps(certify(source, checked.analysis.losses, checked.reports)))
    (loss,) = made["losses"]
    (found,) = (e for e in loss["entries"] if e.get("claim") and e["parts"][0]["rule"] == REACH)
    assert verify(sealed({**made, "losses": [{**loss, "entries": [found]}]})).entries == 1
    trace = found["parts"][0]["trace"]
    assert len(trace) == 5
    changed = [[*trace[:k], [*trace[k][:-1], trace[k][-1] + "1"], *trace[k + 1 :]] for k in range(5)]
    for other in (*changed, trace[1:], trace[:-1], [*trace, trace[-1]]):
        part = {"rule": REACH, "trace": other}
        with pytest.raises(Rejected):
            verify(sealed({**made, "losses": [{**loss, "entries": [{**found, "parts": [part]}]}]}))
