"""Sums along axes by norms and weights: bounds that hold however long an axis is, near misses, and drawn points."""

from __future__ import annotations

import numpy as np
import pytest

from lossdsl.diagnostics import Source
from lossdsl.ir.interpret import interpret
from lossdsl.ir.nodes import Const
from lossdsl.pipeline import analyse
from lossdsl.verify import shapes
from lossdsl.verify.context import Context
from lossdsl.verify.verdict import Refuted

INPUTS = (
    "    input x, y: real[n, c]\n    input t: class[n] of c\n    input p, q: simplex[n, c] over c\n"
    "    input u, v: unit[n, c] over c\n    param eps: real > 0 = 0.1\n    param s: real in [0, 2] = 1\n"
)

# body of per[n], and the interval that encloses it
BOUNDED = [
    ("sum(u * v over c)", -1, 1),
    ("sum(x / max(norm(x over c), 1e-12) * v over c)", -1, 1),
    ("sum(x / sqrt(sum(x^2 over c) + eps) * (y / (norm(y over c) + eps)) over c)", -1, 1),
    ("sum(x * y over c) / sqrt((sum(x^2 over c) + eps) * (sum(y^2 over c) + eps))", -1, 1),
    ("sum(x * y over c) / sqrt(sum(x^2 over c) * sum(y^2 over c) + eps)", -1, 1),
    ("sum(x * y over c) / (max(norm(x over c), eps) * max(norm(y over c), eps))", -1, 1),
    ("p[c = t] / norm(p over c)", 0, 1),
    ("x[c = t] / (norm(x over c) + eps)", -1, 1),
    ("sum((p - q)^2 over c)", 0, 2),
    ("sum((p - (c == t))^2 over c)", 0, 2),
    ("sum((softmax(x over c) - p)^2 over c)", 0, 2),
    ("sum((u - v)^2 over c)", 0, 4),
    ("sum(u * p over c)", -1, 1),
    ("sum(p * tanh(x) over c)", -1, 1),
    ("sum(s * p * tanh(x) over c)", -2, 2),
    ("sum(p * q over c)", 0, 1),
    ("1 - sum(stop(u) * v over c)", 0, 2),
    ("sum((u - s * v)^2 over c)", 0, 9),
]
NOT = [
    "sum(u * v over n)",
    "sum(x / max(norm(x over c), 1e-12) * y over c)",
    "sum(x / max(norm(y over c), eps) * v over c)",
    "sum(x * y over c) / sqrt((sum(x^2 over c) + eps) * (sum(x^2 over c) + eps))",
    "sum(x * y over c) / (sum(x^2 over c) + eps)",
    "x[c = t] / (norm(y over c) + eps)",
    "x[c = t] / (norm(y over n)[c = t] + eps)",
    "sum((p - x)^2 over c)",
    "sum((p - (c >= t))^2 over c)",
    "sum(p[n, c] * tanh(x[n, c]) over n)",
    "sum((c == t) * x over c)",
]


def ranges(body: str):
    lhs = "per[c]" if ("over n)" in body and "[n, c]" in body) or body == "sum(u * v over n)" else "per[n]"
    text = f"loss l:\n{INPUTS}    {lhs} = {body}\n    return sum(per)\n"
    analysis = analyse(Source("x.loss", text))
    assert analysis.losses, analysis.diagnostics
    built = analysis.losses[0]
    return built, Context(built.program).ranges().tensor(built.tensors["per"])


@pytest.mark.parametrize(("body", "low", "high"), BOUNDED)
def test_sums_are_enclosed(body, low, high):
    _, box = ranges(body)
    assert not box.nan
    assert box.lo >= low - 1e-9
    assert box.hi <= high + 1e-9


@pytest.mark.parametrize("body", NOT)
def test_near_misses_are_not(body):
    _, box = ranges(body)
    assert box.nan or box.hi == np.inf


@pytest.mark.parametrize(("body", "low", "high"), BOUNDED)
def test_drawn_points_are_inside(body, low, high):
    built, box = ranges(body)
    rng = np.random.default_rng(3)
    used, known = {i.name for i in built.program.inputs}, {p.name for p in built.program.parameters}
    most = []
    for k in range(200):
        n, c = 2, int(rng.integers(1, 6))
        p = rng.dirichlet(np.full(c, 0.2), size=(2, n))
        u = rng.normal(size=(2, n, c))
        u /= np.sqrt((u**2).sum(-1, keepdims=True))
        x = rng.normal(size=(n, c)) * rng.choice([1e-3, 1.0, 100.0])
        inputs = {
            "x": x,
            "y": rng.choice([1.0, -1.0]) * x * 3 if k % 3 == 0 else rng.normal(size=(n, c)),
            "t": rng.integers(0, c, size=n),
            "p": np.eye(c)[rng.integers(0, c, size=n)] if k % 4 == 0 else p[0],
            "q": np.eye(c)[rng.integers(0, c, size=n)] if k % 4 == 0 else p[1],
            "u": u[0],
            "v": u[0] * rng.choice([1.0, -1.0]) if k % 3 == 0 else u[1],
        }
        parameters = {"eps": float(rng.choice([1e-6, 0.1, 5.0])), "s": float(rng.uniform(0, 2))}
        values = interpret(
            built.program,
            {a: b for a, b in inputs.items() if a in used},
            {a: b for a, b in parameters.items() if a in known},
            outputs=[built.tensors["per"]],
        )[built.tensors["per"]]
        most += [float(v) for v in np.asarray(values).flat]
    assert min(most) >= box.lo - 1e-9
    assert max(most) <= box.hi + 1e-9
    assert max(most) - min(most) > 0.2 * (min(high, 2) - max(low, -2))  # what is drawn comes near both ends


# ----------------------------------------------------------------------------------- log-sum-exps of bounded rows


def infimum(body: str):
    text = f"loss l:\n    input x: real[n, c] in [-1, 1]\n    input t: class[n] of c\n    per[n] = {body}\n    return sum(per)\n"
    analysis = analyse(Source("x.loss", text))
    built = analysis.losses[0]
    return shapes.infimum(Context(built.program, seconds=0.2), built.tensors["per"], Const(0))


def test_a_log_sum_exp_of_a_bounded_row_stays_above_its_entries():
    found = infimum("logsumexp(x over c) - x[c = t]")
    assert isinstance(found, Refuted)
    assert "2 entries or more" in found.witness.violation


@pytest.mark.parametrize("body", ["max(x over c) - x[c = t]", "relu(x[c = t])", "sum(relu(x) over c where c != t)"])
def test_what_comes_to_its_bound_is_not_refuted(body):
    assert not isinstance(infimum(body), Refuted)
