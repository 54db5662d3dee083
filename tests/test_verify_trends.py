"""Monotonicity through reductions: what is proved is true of random programs, and what is known is proved."""

from __future__ import annotations

import random

import numpy as np
import pytest

from lossdsl.diagnostics import Source
from lossdsl.ir.build import BuiltLoss, build
from lossdsl.ir.interpret import interpret
from lossdsl.syntax.parser import parse
from lossdsl.verify import judged

INPUTS = "input x: real[n, c]\ninput w: real[c] >= 0\ninput v: real[c]\ninput t: class[n] of c"


def built(body: str, inputs: str = INPUTS) -> BuiltLoss:
    lines = [f"    {line}" for line in f"{inputs}\n{body}".splitlines()]
    file = Source("test.loss", "loss test:\n" + "\n".join(lines) + "\n")
    module, problems = parse(file)
    losses, found = build(module, file)
    assert losses, [d.message for d in (*problems, *found)]
    return losses[0]


def status(body: str, claim: str, inputs: str = INPUTS) -> str:
    return next(judged(built(f"{body}\nclaim {claim}", inputs))).status


@pytest.mark.parametrize(
    ("body", "up", "down"),
    [
        ("return mean(logsumexp(x over c))", True, False),
        ("return -sum(max(w * x over c else 0))", False, True),
        ("return sum(v * x)", False, False),
        ("return mean(x[c = t])", True, False),
        ("return mean(min(x over c where c != t else 0))", True, False),
        ("return mean(max(x over c else 0) - min(x over c else 0))", False, False),
        ("return sum((x - mean(x over c))^2)", False, False),
        ("cost = x^2 if x > 0 else 0\nreturn sum(w * cost)", True, False),
        ("cost = 1 / (1 + exp(x))\nreturn prod(sum(cost over c) over n)", False, True),
        ("return mean(sum(w * softmax(x over c) over c))", False, False),
        ("return mean(x[c = argmax(x over c else 0)])", False, False),
        ("return 1 + sum(relu(1 - x) where x > 0)", False, False),
        ("return mean(stop(x))", False, False),
        ("return mean(v)", True, True),
    ],
)
def test_known_trends(body: str, up: bool, down: bool) -> None:
    program = body if "x" in body else f"{body[:-1]} + 0 * x)"
    assert (status(program, "increasing in x") == "proved") == up
    assert (status(program, "decreasing in x") == "proved") == down


def test_what_is_strict_and_what_is_on_a_simplex_is_unknown() -> None:
    assert status("return sum(exp(x)) + 1", "strictly increasing in x") == "unknown"
    assert status("return exp(sum(p^2))", "increasing in p", "input p: simplex[n, c] over c") == "unknown"


def _expression(rng: random.Random, depth: int) -> str:
    if depth == 0:
        return rng.choice(["x", "x", "w", "v", "(w * x)", "(x - v)", "2"])
    a = _expression(rng, depth - 1)
    unary = [
        "exp({} / 4)",
        "softplus({})",
        "relu({})",
        "-({})",
        "sigmoid({})",
        "({})^3",
        "tanh({})",
        "abs({})",
        "({})^2",
    ]
    binary = ["({} + {})", "({} - {})", "(w * {} + {})", "max({}, {})", "min({}, {})", "(sigmoid({}) * softplus({}))"]
    if rng.random() < 0.5:
        return rng.choice(unary).format(a)
    return rng.choice(binary).format(a, _expression(rng, depth - 1))


def test_what_is_proved_of_random_programs_is_true() -> None:
    """Each proved trend against steps of single entries; enough must be proved for the test to mean something."""
    rng, g = random.Random(7), np.random.default_rng(7)
    proved = 0
    for _ in range(20):
        fold = rng.choice(["sum", "max", "min", "logsumexp", "mean"])
        rest = "" if fold in ("sum", "logsumexp", "mean") else " else 0"
        outer = rng.choice(["sum", "mean", "-sum", "2 * mean"])
        body = f"row = {fold}({_expression(rng, 2)} + 0 * x over c{rest})\nreturn {outer}({rng.choice(['row', 'exp(row / 9)', 'relu(row)'])})"
        claims = "\nclaim increasing in x\nclaim decreasing in x"
        loss = built(body + claims)
        verdicts = [c.status for c in judged(loss)]
        proved += verdicts.count("proved")
        for _ in range(12):
            arrays = {
                "x": g.normal(size=(2, 3)) * 2,
                "w": g.random(3) * 2,
                "v": g.normal(size=3) * 2,
                "t": g.integers(0, 3, size=2),
            }
            used = {i.name for i in loss.program.inputs}
            before = interpret(loss.program, {k: a for k, a in arrays.items() if k in used})["return"]
            arrays["x"] = arrays["x"].copy()
            arrays["x"][g.integers(2), g.integers(3)] += g.exponential() * 2
            after = interpret(loss.program, {k: a for k, a in arrays.items() if k in used})["return"]
            slack = 1e-9 * (1 + abs(float(before)))
            assert verdicts[0] != "proved" or after >= before - slack, body
            assert verdicts[1] != "proved" or after <= before + slack, body
    assert proved >= 5
