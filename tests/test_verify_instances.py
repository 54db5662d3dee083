"""Lower bounds at instances: an infimum is refuted where a loss stays above it, and nowhere else."""

import random
from fractions import Fraction

import pytest

from lossdsl.diagnostics import Source
from lossdsl.ir.nodes import Compare, Const, Param
from lossdsl.pipeline import analyse
from lossdsl.verify import instances, shapes
from lossdsl.verify.context import Context
from lossdsl.verify.refute import counts, value
from lossdsl.verify.verdict import Proved, Refuted
from lossdsl.verify.work import deadline

LOGITS = "    input x: real[n, c]\n"
LABEL = "    input t: class[n] of c\n"
GROUPS = "    input x: real[n, d] in [-1, 1]\n    input g: int[n]\n    axis m = n\n"


def context(lines: str, body: str) -> tuple[Context, str]:
    text = f"loss l:\n{lines}    per[n] = {body}\n    return sum(per)\n"
    built = analyse(Source("x.loss", text)).losses[0]
    return Context(built.program, seconds=0.1), built.tensors["per"]


def infimum(lines: str, body: str):
    return shapes.infimum(*context(lines, body), Const(0))


SMOOTHED = "logsumexp(x over c) - (1 - s) * x[c = t] - s * mean(x over c)"


@pytest.mark.parametrize(
    ("lines", "body"),
    [
        (LOGITS + LABEL + "    param s: real in [0, 1] = 0\n", SMOOTHED),
        (
            LOGITS + "    input q: simplex[n, c] over c\n",
            "-sum((0.9 * q + 0.1 / size(c)) * log_softmax(x over c) over c)",
        ),
        (
            "    input a, b: real[n]\n    param e: real in [0, 1/2] = 0\n",
            "(1 - e) * softplus(b - a) + e * softplus(a - b)",
        ),
        (
            GROUPS,
            "softplus(logsumexp(-x[n, 0] * x[m, 0] over m where g[n] == g[m] and n != m))"
            " + softplus(logsumexp(x[n, 0] * x[m, 0] over m where g[n] != g[m]))",
        ),
        ("    input x: real[n, d]\n    param eps: real > 0 = 1\n", "(1 - sum((x - mean(x over n))^2 over d) / eps)^2"),
        (LOGITS, "exp(max(x over c) - min(x over c))"),
        ("    input x: real[n]\n    input w: real[n] > 0 = 1\n", "w * (x^2 + 1)"),
    ],
)
def test_what_stays_above_a_bound_somewhere_does_not_have_it_as_its_infimum(lines, body):
    assert isinstance(infimum(lines, body), Refuted)


@pytest.mark.parametrize(
    ("lines", "body"),
    [
        (LOGITS + LABEL, "logsumexp(x over c) - x[c = t]"),
        (LOGITS, "logsumexp(x over c) - max(x over c)"),
        (LOGITS + LABEL + "    param s: real in [0, 1] = 0\n", "(1 + s) * (logsumexp(x over c) - x[c = t])"),
        ("    input a, b: real[n]\n", "softplus(b - a) + softplus(a - b) - 2 * log(2)"),
        ("    input x: real[n]\n    input w: real[n] >= 0\n", "w * (x^2 + 1)"),
        ("    input x: real[n]\n    input b: bool[n]\n", "x^2 + 1 if b else exp(x)"),
        ("    input x: real[n]\n    input y: sign[n]\n", "relu(1 + y - x^2)"),
        (GROUPS, "sum(relu(1 + x[n, 0] * x[m, 0]) over m where g[n] != g[m])"),
        ("    input x: real[n]\n    input k: class[n] of 3\n", "1 + x^2 if k == 0 else x^2"),
    ],
)
def test_what_comes_to_its_bound_is_not_refuted(lines, body):
    assert not isinstance(infimum(lines, body), Refuted)


def test_a_parameter_that_the_conditions_leave_out_is_no_witness():
    ctx, target = context("    input x: real[n]\n    param a: real >= 0 = 1\n", "x^2 + a")
    at = ctx.narrowed(Compare("<=", Param("a"), Const(0)))
    assert isinstance(shapes.infimum(ctx, target, Const(0)), Refuted)
    assert isinstance(shapes.infimum(at, target, Const(0)), Proved)


def _random_body(rng: random.Random) -> str:
    atoms = ["x[c = 0]", "mean(x over c)", "logsumexp(x over c)", "max(x over c)", "s", "1"]
    parts = []
    for _ in range(rng.randint(1, 2)):
        a, b = rng.sample(atoms, 2)
        word = rng.choice(["softplus({} - {})", "({} - {})^2", "relu({} - {})", "abs({} - {})", "exp({} - {})"])
        parts.append(rng.choice(["", "s * ", "(1 - s) * "]) + word.format(a, b))
    return " + ".join(parts)


@pytest.mark.parametrize("seed", range(8))
def test_no_value_lies_below_a_bound_of_an_instance(seed):
    rng = random.Random(seed)
    ctx, target = context(LOGITS + "    param s: real in [0, 1] = 1/2\n", _random_body(rng))
    at = ctx.at_defaults()
    found = instances.above(at, target, Fraction(0), deadline(2))
    if found is None:
        return
    sampler = at.sampler(seed)
    for k in range(150):
        point = sampler.point(spread=(1.0, 4.0, 30.0)[k % 3], sizes=found.extents or {})
        assert point is not None
        for i in range(point.extents["n"]):
            if counts(at, point, target, (i,)):
                least = value(at, point, target, (i,))
                assert least is None or least.hi >= found.bound
