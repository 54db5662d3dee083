"""Bounds that rest on Gibbs' inequality or on a maximum that dominates its elements, and near misses."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lossdsl.ir.interpret import interpret
from lossdsl.ir.nodes import Apply, Param
from lossdsl.verify.enclosure import Enclosure
from lossdsl.verify.operations import transfer
from tests.test_verify_symmetry import built, status

LOGITS = (
    "input x, y: real[n, c]\ninput t: class[n] of c\ninput p, q: simplex[n, c] over c\ninput k: real[n, c] >= 0\n"
    "input a, b: real[n] in (0, 1)\nparam w: real in (0, 1) = 1/2\nparam h: real > 0 = 1\n"
    "logp = log_softmax(x over c)\nlogq = log_softmax(y over c)\n"
)
MEAN = "\nreturn mean(per)"

TRUE = [
    "per = sum(exp(logp) * (logp - logq) over c)",
    "per = sum((logp - logq) * exp(logp) over c) * h^2",
    "per = sum(softmax(x over c) * (log_softmax(x over c) - logq) over c)",
    "u = log_softmax(x / h over c)\nv = stop(log_softmax(y / h over c))\nper = sum(exp(v) * (v - u) over c)",
    "per = sum(xlogy(p, p) - p * logq over c)",
    "m = logaddexp(logp + log(w), logq + log1p(-w))\nper = sum(exp(logp) * (logp - m) over c)",
    "m = logaddexp(logp + log(w), logq + log(1 - w))\nper = w * sum(exp(logp) * (logp - m) over c)",
    "per = a * (log(a) - log(b)) + (1 - a) * (log(1 - a) - log(1 - b))",
    "per = max(x + k over c) - x[c = t]",
    "per = logsumexp(x + k over c) - x[c = t]",
    "per = max(x + (1 if c != t else 0) over c) - x[c = t]",
    "per = 2 * logsumexp(x over c) - x[c = t] - x[c = argmax(y over c)]",
    "per = logsumexp(0, logsumexp(x over c)) - (x[c = t] if a > w else 0)",
    "per = -log_softmax(x over c)[c = argmax(y over c)]",
    "per = sum(x^2 + expm1(y) - y over c) / 2",
    "per = sum(exp(logp) * logp - exp(logp) * logq over c)",
    "per = sum(softplus(x) over c) - logsumexp(x over c)",
    "per = logaddexp(logsumexp(x over c), 0) - logaddexp(logsumexp(x over c where c > t), 0)",
    "per = 1 - (sum(p * q over c) + h) / (sum(p + q - p * q over c) + h)",
    "per = mean(softplus(x) - p * x over c)",
    "per = -logp[c = t] - (w - 1) * expm1(logp[c = t])",
    "per = a - log(1 + a)",
    "per = logsumexp(x over c where c >= c) - x[c = t]",
]


@pytest.mark.parametrize("body", TRUE)
def test_bounds_are_proved(body: str) -> None:
    assert status(LOGITS + body + MEAN, "per >= 0") == "proved"


FALSE = [
    "per = sum(x^2 + expm1(y) - 1.01 * y over c) / 2",
    "per = sum(exp(logp) * logp - exp(logq) * logq over c)",
    "per = sum(softplus(x) over c) - 1.2 * logsumexp(x over c)",
    "per = logaddexp(logsumexp(x over c where c > t), 0) - logaddexp(logsumexp(x over c), 0)",
    "per = logsumexp(x over c where c > t) - logsumexp(x over c)",
    "per = 1 - (sum(p * p over c) + h) / (sum(p * q over c) + h)",
    "per = mean(softplus(x) - 1.1 * p * x over c)",
    "per = -logp[c = t] + (1 + w) * expm1(logp[c = t])",
    "per = a - 1.1 * log(1 + a)",
    "per = logsumexp(x over c where c > t) - x[c = t]",
    "per = sum(softplus(x) - 1 over c) - logsumexp(x over c)",
    "per = sum(exp(logp) * (logq - logp) over c)",
    "per = sum(exp(logp) * (logq - logp) over c) + 1",
    "per = sum(exp(logq) * (logp - logq) over c where c != t)",
    "per = sum(exp(logp) * (logp - logq - 0.001) over c)",
    "per = sum(exp(logp) * (logp - 0.9 * logq) over c) - 1",
    "per = sum(exp(x) * (x - logq) over c)",
    "per = sum(exp(logp) * (logp - y) over c)",
    "per = exp(logp) * (logp - logq)",
    "u = log_softmax(x over n)\nper = sum(exp(logp) * (logp - u) over c)",
    "u = log_softmax(x over n)\nper = sum(exp(u) * (u - logq) over c)",
    "u = x / h - logsumexp(x over c)\nper = sum(exp(logp) * (logp - u) over c)",
    "m = logaddexp(logp + log(w), logq + log1p(w))\nper = sum(exp(logp) * (logp - m) over c)",
    "m = logaddexp(logp, logq)\nper = sum(exp(logp) * (logp - m) over c)",
    "m = logaddexp(logp, logq) - w\nper = sum(exp(logp) * (logp - m) over c) + 0.01",
    "per = sum(xlogy(p, p) - q * logq over c)",
    "per = sum(xlogy(k, k) - k * logq over c)",
    "per = a * (log(a) - log(b)) + (1 - b) * (log(1 - b) - log(1 - a)) - 0.1",
    "per = a * (log(a) - log(b))",
    "per = a * (log(a) - log(b)) - (1 - a) * (log(1 - a) - log(1 - b))",
    "per = max(x - k over c) - x[c = t]",
    "per = max(x over c where c != t else 0) - x[c = t]",
    "per = logsumexp(x over c where c != t) - x[c = t]",
    "per = min(x + k over c) - x[c = t]",
    "per = max(x over c) - 2 * x[c = t]",
    "per = max(x over c) - y[c = t]",
    "per = max(x over n) - x[0, t[n]]",
    "per = logsumexp(x over c) - x[c = t] - 1e-3",
    "per = logsumexp(x / h over c) - x[c = t]",
    "per = max(x over c) - (x[c = t] if a > w else y[c = t])",
]


@pytest.mark.parametrize("body", FALSE)
def test_near_misses_are_not_proved(body: str) -> None:
    assert status(LOGITS + body + MEAN, "per >= 0") != "proved"


def test_what_is_least_is_not_above() -> None:
    """Gibbs' inequality is one that holds with equality: it proves nothing strict."""
    assert status(LOGITS + "per = sum(exp(logp) * (logp - logq) over c)" + MEAN, "per > 0") != "proved"


@pytest.mark.parametrize("x", [-math.inf, -3.0, 0.0, 700.0, math.inf])
@pytest.mark.parametrize("y", [-math.inf, 0.0, 1e300, math.inf])
def test_log_sums_of_infinities_are_enclosed(x: float, y: float) -> None:
    node = Apply("logaddexp", (Param("x"), Param("y")))
    value = float(np.logaddexp(x, y))
    for a in (Enclosure(x, x), Enclosure(-math.inf, x), Enclosure(min(x, 0.0), math.inf)):
        for b in (Enclosure(y, y), Enclosure(-math.inf, y)):
            box = transfer(node, [a, b])
            assert not box.nan
            assert box.lo <= value <= box.hi
            assert not (box.lo_open and value == box.lo)
            assert not (box.hi_open and value == box.hi)
    assert transfer(node, [Enclosure(x, x, nan=True), Enclosure(-math.inf, y)]).nan


@pytest.mark.parametrize("body", TRUE)
def test_no_drawn_point_is_below_a_proved_bound(body: str) -> None:
    lines = "".join(f"    {line}\n" for line in (LOGITS + body + MEAN).split("\n") if line.strip())
    loss = built(f"loss t:\n{lines}")
    rng = np.random.default_rng(5)
    with np.errstate(all="ignore"):
        for k in range(150):
            n, c = 2, int(rng.integers(1, 5))
            scale = float(rng.choice([0.1, 1.0, 10.0, 50.0]))
            rows = rng.dirichlet(np.full(c, float(rng.choice([0.1, 1.0]))), size=(2, n))
            inputs = {
                "x": rng.normal(size=(n, c)) * scale,
                "y": rng.normal(size=(n, c)) * (scale if k % 2 else 1e-2),
                "t": rng.integers(0, c, size=n),
                "p": rows[0],
                "q": rows[1],
                "k": rng.exponential(size=(n, c)),
                "a": rng.uniform(1e-6, 1 - 1e-6, size=n),
                "b": rng.uniform(1e-6, 1 - 1e-6, size=n),
            }
            parameters = {"w": float(rng.uniform(0.001, 0.999)), "h": float(rng.exponential())}
            used = {i.name for i in loss.program.inputs}
            known = {p.name for p in loss.program.parameters}
            found = interpret(
                loss.program,
                {name: v for name, v in inputs.items() if name in used},
                {name: v for name, v in parameters.items() if name in known},
                outputs=[loss.tensors["per"]],
            )
            for value in np.asarray(found[loss.tensors["per"]]).flat:
                assert not value < -1e-9 * (1 + scale)
