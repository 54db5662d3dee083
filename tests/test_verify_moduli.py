"""Lipschitz by composition: what is proved of coupled losses, and what must not be."""

from __future__ import annotations

import random

import mpmath as mp
import pytest

from lossdsl.verify import moduli, rays
from lossdsl.verify.context import Context
from lossdsl.verify.curvature import Curvatures
from lossdsl.verify.hessian import semidefinite
from lossdsl.verify.verdict import Proved
from tests.fuzz_attacks import Region, row_lines, unbounded
from tests.fuzz_losses import row as random_row
from tests.test_verify import built
from tests.test_verify_attack import status

ROW = "input z: real[n, c]\n"
TARGET = "input t: class[n] of c\n"
PROB = "input z: prob[n, c]\n"
VECTORS = "input z, w: real[n, d]\n"
SIMPLEX = "input z: simplex[n, c] over c\n"
SPHERE = "input z: unit[n, d] over d\n"

TRUE = [
    ROW + TARGET + "per = logsumexp(z over c) - z[c = t]",
    ROW + "p = softmax(z over c)\nper = sum(p^2 over c)",
    ROW + "p = softmax(z over c)\nper = -sum(xlogy(p, p) over c)",
    ROW + TARGET + "p = softmax(z over c)\nper = 1 - p[c = t]^(3/2)",
    ROW + TARGET + "lp = log_softmax(z over c)\nper = sum(exp(lp) * stop(lp) over c)",
    ROW + "place = argsort(z over c)\nranked = z[c = place]\nper = sum(ranked * (1 + c) over c)",
    ROW + "place = argsort(-z over c)\nranked = z[c = place]\nper = sum(sigmoid(ranked) over c)",
    ROW + "per = z[c = argmax(z over c)]",
    ROW + "per = sqrt(1 + sum(z^2 over c))",
    ROW + "per = softplus(logsumexp(z over c where c > 5))",  # over nothing where the axis is short
    VECTORS + "per = sum(z / max(norm(z over d), 1/1000) * w over d)",
    VECTORS + "per = sum(z * w over d) / (norm(z over d) * norm(w over d) + 1)",
    VECTORS + "per = norm(z - w over d)",
    VECTORS + "param e: real > 0 = 1\nper = sum(z * w over d) / sqrt((sum(z^2 over d) + e) * (sum(w^2 over d) + e))",
    ROW + "param q: real in [1/2, 2] = 1\nper = (1 + sum(sigmoid(z) over c))^q",
    ROW + "param s: bool = true\nper = sum(abs(z) over c) if s else max(z over c)",
    PROB + "per = sum(z^3 over c) / (1 + sum(z over c))",
    PROB + "input y: prob[n, c]\nper = sum(z * y over c) / (sum(z over c) + sum(y over c) + 1)",
    ROW + "a[n, c] = z + (0 if c == 0 else sigmoid(a[n, c - 1]))\nper = sum(a over c)",
    # through the square of a length; the logarithm of a quotient; what is less than the root of a variance
    ROW + "per = log(sum(z^2 over c) + 1)",
    ROW + "per = exp(-sum(z^2 over c))",
    VECTORS + "per = log10((sum(z * w over d)^2 + 1/10) / (sum((z - w)^2 over d) + 1/10))",
    ROW + "u[n, c] = (z - mean(z over c)) / sqrt(var(z over c) + 1/100)\nper[n] = sum(u^2 over c)",
    # on a compact domain what is nowhere 0 is away from 0
    SIMPLEX + TARGET + "per = -z[c = t] / norm(z over c)",
    SIMPLEX + "per = 1 / sum(z^2 over c)",
    PROB + "per = log(exp(sum(z over c)) + sum(z^2 over c)) * sum(z^3 over c)",
    SPHERE + "input w: unit[m, d] over d\nper = sum(sum(z * w over d)^3 over m)",
    "input z: real[n, c] in [-2, 5]\nper = sum(z^2 over c) / (1 + sum(exp(z) over c))",
]
FALSE = [
    ROW + "per = log(sum(z^2 over c))",
    ROW + "per = exp(sum(z^2 over c))",
    ROW + "per = log(sum(z^2 over c) / (1 + sum(z^2 over c)))",
    ROW + "u[n, c] = z / sqrt(var(z over c) + 1/100)\nper[n] = sum(u^2 over c)",
    ROW + "per = sum(z over c) * max(z over c)",
    ROW + "per = softplus(logsumexp(z over c)^2)",
    ROW + "param s: bool = true\nper = sum(abs(z) over c) if s else max(z over c)^2",
    ROW + "param s: bool = true\nu = relu(sum(z over c))\nper = u^2 if s else u",
    ROW + "param q: real in [1/2, 2] = 1\nper = sum(relu(z) over c)^q",
    ROW + "param q: real in [0, 1] = 1\nper = sum(abs(z) over c)^q",  # at 0 alone
    ROW + "per = sqrt(abs(sum(z over c)))",
    VECTORS + "param e: real >= 0 = 1\nper = sum(z * w over d) / sqrt((sum(z^2 over d) + e) * (sum(w^2 over d) + e))",
    VECTORS + "param e: real > 0 = 1\nper = sum(z^2 * w over d) / sqrt((sum(z^2 over d) + e) * (sum(w^2 over d) + e))",
    ROW + "place = argsort(z over c)\nranked = z[c = place]\nper = sum(ranked^2 over c)",
    ROW + "w[c] = 1 + c\nper = sum(w * z over c) if max(z over c) > 0 else 0",  # jumps
    ROW
    + "input y: real[n, c]\nper = sum(y[c = argmax(z over c)] over c) * 1.0 + sum(z over c)".replace(
        "sum(y", "(y"
    ).replace(")] over c)", ")])"),  # jumps
    VECTORS + "per = sum(z / norm(z over d) * w over d) if norm(z over d) > 0 else 0",
    VECTORS + "per = sum(z * w over d) / max(norm(w over d)^2, 1/2) * norm(z over d)",
    PROB + "per = sum(sqrt(z) over c)",
    PROB + "per = -log(max(z over c))",
    PROB + "per = sum(z over c) / max(sum(z^2 over c), 1/1000000)^2 * sum(sqrt(z) over c)",
    ROW + "a[n, c] = z * (1 if c == 0 else a[n, c - 1])\nper = sum(a over c)",
    ROW + "per = logsumexp(z over c where c > 5)",  # -inf where the axis is short: no real loss
    ROW + "per = count(z > 0 over c) * 1.0",
    ROW + "per = floor(sum(z over c))",
    SIMPLEX + "per = sum(sqrt(z) over c)",
    SIMPLEX + TARGET + "per = -log(z[c = t])",
    SIMPLEX + TARGET + "per = 1 / z[c = t]",
    PROB + "per = 1 / sum(z over c)",
    SPHERE + "per = 1 / sum(z over d)",
    "input z: real[n, c] in (0, 5]\nper = sum(1 / z over c)",
    "input z: real[n, c] >= 0\nper = sum(z^2 over c) / (1 + sum(z over c))^(1/2)",
    PROB + "param e: real >= 0 = 1\nper = log(e + sum(z over c))",
]


def _proved(body: str) -> bool:
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    program = built(f"loss t:\n{lines}    return mean(per)\n").program
    return isinstance(moduli.lipschitz(Context(program), "per", "z"), Proved)


@pytest.mark.parametrize("body", TRUE, ids=[b[-50:] for b in TRUE])
def test_what_is_lipschitz(body: str) -> None:
    assert status(body, "lipschitz in z") == "proved"


@pytest.mark.parametrize("body", FALSE, ids=[b[-50:] for b in FALSE])
def test_what_is_not(body: str) -> None:
    assert not _proved(body)
    assert status(body, "lipschitz in z") != "proved"


def test_what_is_proved_of_random_rows_stands() -> None:
    """By the search for steep places, which knows of no rules; and the two engines never contradict one another."""
    proved = refuted = 0
    for seed in range(36):
        rng = random.Random(seed)
        loss = random_row(rng)
        program = built(loss.source([])).program
        ctx = Context(program, seconds=0.01)
        verdict = moduli.lipschitz(ctx, "per", "z")
        steep = rays.unbounded_slope(ctx, "per", ("z",))
        assert not (isinstance(verdict, Proved) and steep), (loss.per.text, steep)
        refuted += steep is not None
        if not isinstance(verdict, Proved):
            continue
        proved += 1
        with mp.workdps(30):
            for line in row_lines(loss, rng, Region(), 2):
                assert unbounded(line, rng) is None, (loss.per.text, line)
    assert proved > 11
    assert refuted > 1


# ------------------------------------------------------------------------------- branches on a switch, once unsound

SWITCHES = [
    "u = sum(z over c)\nper = -(u^2) if s else u^2",
    "u = sum(z over c)\nper = u * (-u if s else u)",
    "u = sum(z over c)\nper = exp(u) * (-exp(u) if s else 1)",
]


@pytest.mark.parametrize("body", SWITCHES)
def test_a_branch_on_a_switch_is_no_constant(body: str) -> None:
    """Its derivative was taken as 0."""
    lines = "".join(f"    {line}\n" for line in f"{ROW}param s: bool = true\n{body}".splitlines())
    program = built(f"loss t:\n{lines}    return mean(per)\n").program
    ctx = Context(program)
    for concave in (False, True):
        found = Curvatures(program, ctx.ranges(("z",)), ("z",), ctx.budget).verdict("per", concave=concave)
        assert not isinstance(found, Proved)


def test_nor_is_it_in_two_entries() -> None:
    source = "input x, y: real[n]\n    param s: bool = true\n    per = -(x - y)^2 if s else (x - y)^2"
    program = built(f"loss t:\n    {source}\n    return mean(per)\n").program
    for concave in (False, True):
        assert semidefinite(Context(program), "per", ("x", "y"), concave=concave) is None


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (ROW + "per = sum(z over c) if max(z over c) < 1 else 0", "refuted"),  # jumps
        (ROW + "per = sum(z over c) if max(z over c) < 1 else sum(z over c)", "proved"),
        (ROW + "per = log(sum(softplus(z) over c where c > 0))", "refuted"),  # -inf where there is one entry alone
    ],
)
def test_what_is_not_continuous_is_not_lipschitz(body: str, wanted: str) -> None:
    assert status(body, "lipschitz in z") in (wanted, "unknown" if wanted == "proved" else wanted)
