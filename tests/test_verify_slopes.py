"""Slopes: what is proved of entries of a softmax, of shares and of terms that exclude each other, and their neighbours."""

from __future__ import annotations

import numpy as np
import pytest

from lossdsl.verify import judged
from tests.test_verify import built
from tests.test_verify_attack import status

ROW = "input z: real[n, c]\n"
LABELLED = ROW + "input t: class[n] of c\n"
WEIGHTED = ROW + "input a: real[n, c] >= 0\n"
SURVIVAL = "input z, time: real[n]\naxis m = n\n"
BETWEEN = "input x: real[n]\ninput s: real[n] in [0, 1]\nparam low, high: real > 0 = 1, 2\n"
PLACES = "input x: real[n, i]\ninput y: real[n]\n"
PAD = "input z: real[n, c]\ninput t: class[n] of c or pad\nparam pad: int = -100\n"

PROVED = [
    # an entry of a softmax is the sigmoid of a logit
    (LABELLED + "per[n] = 2 - 2 * softmax(z over c)[c = t]", "lipschitz in z <= 0.70711"),
    (LABELLED + "per[n] = 2 - 2 * softmax(z over c)[c = t]", "lipschitz in z <= 1/2 in l1"),
    (LABELLED + "per[n] = 2 - 2 * softmax(z over c)[c = t]", "lipschitz in z <= 1 in linf"),
    (LABELLED + "param h: real > 0 = 1\nper[n] = h * softmax(z / h over c)[c = t]", "lipschitz in z <= 1/4 in l1"),
    (ROW + "input q: prob[n, c]\nper[n, c] = (softmax(z over c) - q)^2", "lipschitz in z <= 0.3 in l1"),
    (LABELLED + "param g: real >= 0 = 2\nl = log_softmax(z over c)[c = t]\nper = -relu(-expm1(l))^g * l", "lipschitz in z"),
    # shares of a sum, terms that exclude each other, what takes its own place
    (WEIGHTED + "per[n] = sum(a * abs(z) over c) / sum(a over c)", "lipschitz in z <= 1 in l1"),
    (LABELLED + "per[n] = sum(softplus(z) over c where c < t) + softplus(-z[c = t])", "lipschitz in z <= 1 in l1"),
    (LABELLED + "param s: bool = true\nper[n] = (z[c = t] if s else 0) + (0 if s else -z[c = t])", "lipschitz in z <= 1"),
    (SURVIVAL + "per[n] = logsumexp(z[m] over m where time[m] >= time[n]) - z[n]", "lipschitz in z <= 1 in l1"),
    # between two numbers; numbers that are computed from other things
    (BETWEEN + "per = x / (low + (high - low) * s)", "C0 in x"),
    (BETWEEN + "per = x / ((high - low) * (1 + cos(5 * s)) / 2 + low)", "C0 in x"),
    (PLACES + "tau[i] = (i + 1/2) / size(i)\nd[n, i] = y[n] - x\nper[n, i] = (1 - tau if d < 0 else tau) * d^2", "convex in x"),
    # along tails, and up to the ends of a domain
    ("input x, y: real[n] >= 0\nper = (log1p(x) - log1p(y))^2", "lipschitz in x"),
    ("input x: real[n]\nper = log1p(exp(x)) * log(2 + x^2)^0", "lipschitz in x"),
    # values, whatever is declared of derivatives
    ("input x, y: real[n]\nper = (stop(x) - y)^2", "convex in x"),
    ("input x, y: real[n]\nper = (clip_gradient(x, 1) - y)^2", "strictly convex in x"),
    ("input x: real[n]\nper = softplus(reverse_gradient(x, 2))", "quasiconvex in x"),
]  # fmt: skip
NEVER_PROVED = [
    (LABELLED + "per[n] = 2 - 2 * softmax(z over c)[c = t]", "lipschitz in z <= 0.707"),
    (LABELLED + "per[n] = softmax((1 + c) * z over c)[c = t]", "lipschitz in z <= 1/4 in l1"),  # a mass of its own
    (LABELLED + "per[n] = softmax(z over c)[c = t] + z[c = t]", "lipschitz in z <= 1 in l1"),
    (LABELLED + "per[n] = exp(z[c = t] - logsumexp(z over c where c > 0))", "lipschitz in z"),
    (ROW + "input q: prob[n, c]\nper[n, c] = (softmax(z over c) - q)^2", "lipschitz in z <= 0.29 in l1"),
    (WEIGHTED + "per[n] = sum(2 * a * abs(z) over c) / sum(a over c)", "lipschitz in z <= 1 in l1"),
    (WEIGHTED + "per[n] = sum((a + 1) * abs(z) over c) / (sum(a over c) + 1)", "lipschitz in z <= 1 in l1"),
    (LABELLED + "per[n] = sum(softplus(z) over c where c <= t) + softplus(z[c = t])", "lipschitz in z <= 1 in l1"),
    (SURVIVAL + "per[n] = logsumexp(z[m] over m where time[m] > time[n]) - z[n]", "lipschitz in z <= 1 in l1"),
    (BETWEEN + "per = x / (low + (high - low) * 3 * s)", "C0 in x"),
    (BETWEEN + "per = x / (low + (low - high) * s)", "C0 in x"),
    (PLACES + "tau[i] = (i + 2) / size(i)\nd[n, i] = y[n] - x\nper[n, i] = (1 - tau if d < 0 else tau) * d^2", "convex in x"),
    ("input x: real[n] > 0\nper = log(x)^2", "lipschitz in x"),
    ("input x: real[n] >= 0\nper = x * log1p(x)", "lipschitz in x"),
    ("input x: real[n]\nper = x * stop(-x)", "convex in x"),
]  # fmt: skip
REFUTED = [
    (
        "input x: real[...]\nparam g: real >= 0 = 2\nper = exp(g * logsigmoid(x)) * softplus(x)",
        "gradient lipschitz in x <= 1",
    ),
    ("input x: real[...]\nparam c: real > 0 = 1\nper = 2 * x^2 / (x^2 + 4 * c^2)", "gradient lipschitz in x <= 1"),
    (LABELLED + "per[n] = sum(exp(z) over c where c <= t)", "strictly convex in z"),  # some entries are not read
    (PAD + "per = logsumexp(z over c)^2 + z[c = t]\nreturn sum(per over n where t != pad)", "lipschitz in z"),
    ("input u, v: real[n] > 0\nper = lgamma(u + v) - lgamma(u)", "lipschitz in u"),
    ("input u: real[n] > 0\nper = u * digamma(u)^2", "lipschitz in u"),
]
NEVER_REFUTED = [
    ("input x: real[...]\nparam g: real in [0, 2] = 2\nper = exp(g * logsigmoid(x)) * softplus(x)", "gradient lipschitz in x <= 4"),
    (LABELLED + "per[n] = sum(exp(z) over c) + z[c = t]", "strictly convex in z"),
    (PAD + "per = logsumexp(z over c) + z[c = t]\nreturn sum(per over n where t != pad)", "lipschitz in z"),
    ("input u: real[n] > 0\nper = u * digamma(u) - u * log(u + 1)", "lipschitz in u"),
]  # fmt: skip


def asked(body: str, claim: str) -> str:
    if "return" not in body:
        return status(body, claim)
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return next(judged(built(f"loss t:\n{lines}    claim {claim}\n"))).status


@pytest.mark.parametrize(("body", "claim"), PROVED)
def test_what_is_proved(body: str, claim: str) -> None:
    assert asked(body, claim) == "proved"


@pytest.mark.parametrize(("body", "claim"), NEVER_PROVED)
def test_what_is_not(body: str, claim: str) -> None:
    assert asked(body, claim) != "proved"


@pytest.mark.parametrize(("body", "claim"), REFUTED)
def test_what_is_refuted(body: str, claim: str) -> None:
    assert asked(body, claim) == "refuted"


@pytest.mark.parametrize(("body", "claim"), NEVER_REFUTED)
def test_what_is_never_refuted(body: str, claim: str) -> None:
    assert asked(body, claim) != "refuted"


def test_no_pair_is_steeper_than_the_slope_in_one_logit() -> None:
    rng = np.random.default_rng(3)
    for _ in range(2000):
        z = rng.normal(size=rng.integers(1, 6)) * rng.choice([0.3, 3.0])
        y = z + rng.normal(size=z.shape) * rng.choice([1e-3, 1.0])
        q = rng.random()
        p, r = (np.exp(v - v.max()) / np.exp(v - v.max()).sum() for v in (z, y))
        for value, least in ((lambda v, q=q: (v[0] - q) ** 2, 8 / 27), (lambda v: 2 * v[0], 1 / 2)):
            change = abs(value(p) - value(r))
            for distance, factor in ((1, 1.0), (2, np.sqrt(2)), (np.inf, 2.0)):
                assert change <= factor * least * np.linalg.norm(z - y, distance) * (1 + 1e-9) + 1e-12
