"""Quasiconvexity by composition: what is proved of rows and entries, and what must not be."""

from __future__ import annotations

import random

import mpmath as mp
import pytest

from lossdsl.verify.context import Context
from lossdsl.verify.quasi import quasiconvex
from lossdsl.verify.verdict import Proved
from tests.fuzz_attacks import Region, hump, row_lines
from tests.fuzz_losses import row as random_row
from tests.test_verify import built
from tests.test_verify_attack import status

ROW = "input z: real[n, c]\n"
TARGET = "input t: class[n] of c\n"
PROB = "input z: prob[n, c]\ninput y: prob[n, c]\n"
SIMPLEX = "input z: simplex[n, c] over c\n"
X = "input x: real[...]\n"

TRUE = [
    (ROW + TARGET + "per = 1 - softmax(z over c)[c = t]", "z"),
    (ROW + TARGET + "lp = log_softmax(z over c)\nper = (1 - exp(lp[c = t])) - 3 * lp[c = t]", "z"),
    (ROW + "per = sqrt(norm(z over c))", "z"),
    (ROW + "per = log(1 + sum(z^2 over c))", "z"),
    (ROW + "per = sum(z over c)^2 if 1 > 2 else tanh(logsumexp(z over c))", "z"),
    (ROW + "per = abs(tanh(sum(z over c)))", "z"),
    (ROW + "per = max(atan(logsumexp(z over c)), tanh(max(z over c)))", "z"),
    (ROW + "per = exp(sum(z^2 over c)) / 2 + 1", "z"),
    (PROB + "per = 1 - (2 * sum(z * y over c) + 1) / (sum(z over c) + sum(y over c) + 1)", "z"),
    (PROB + "per = relu(1 - sum(z * y over c) / (sum(z over c) + 1))^(3/4)", "z"),
    (SIMPLEX + TARGET + "per = -z[c = t] / norm(z over c)", "z"),
    (X + "per = sigmoid(x)^2", "x"),
    (X + "per = sigmoid(x) * softplus(x)", "x"),
    (X + "input y: binary[...]\nper = sigmoid(x) * softplus(x) if y == 1 else tanh(-x) * 2", "x"),
    (X + "input r: real[...] > 0\nper = softplus(x) - logaddexp(x, -r)", "x"),
    (X + "input r: real[...] > 0\nper = softplus(x + r) - softplus(x)", "x"),
    ("input x, y: real[...] >= 0\nper = (log1p(x) - log1p(y))^2", "x"),
]
FALSE = [
    (ROW + "per = min(norm(z over c), 1 + norm(z - 5 over c))", "z"),
    (ROW + "per = sum(sqrt(abs(z)) over c)", "z"),  # of each entry it is
    (ROW + "per = sum(tanh(z) over c)", "z"),
    (ROW + "per = -sum(z^2 over c)", "z"),
    (ROW + "per = sigmoid(-sum(z^2 over c))", "z"),
    (ROW + "per = sum(z over c) / (1 + sum(z^2 over c))", "z"),
    (ROW + "per = (sum(z^2 over c) - 1)^2", "z"),
    (ROW + TARGET + "per = abs(softmax(z over c)[c = t] - 1/2)", "z"),
    (PROB + "per = (1 + sum(z * y over c)) / (2 - sum(z^2 over c) + size(c))  - 3 * max(z over c)", "z"),
    (ROW + "param s: bool = true\nper = norm(z over c) if s else -norm(z over c)", "z"),
    (ROW + "param a: real in [-1/100, 1] = 1\nper = a * log(1 + sum(z^2 over c))", "z"),
    (X + "per = sin(x)", "x"),
    (X + "input y: real[...]\nper = sigmoid(x) * softplus(x) if y > 0 else exp(-x^2)", "x"),
    (X + "input r: real[...]\nper = (softplus(x + r) - softplus(x)) * x", "x"),
    (X + "per = exp(-x^2)", "x"),
    (X + "per = x^2 + 8 * relu(1e-6 - abs(x - 1/3))", "x"),
    ("input x: real[...]\ninput y: real[...]\nper = (x^2 - y)^2", "x"),
]


BENT = [  # with a level set that bends the wrong way, which no chord among a few random ones shows
    ROW + "input y: simplex[n, c] over c\np = softmax(z over c)\nper = sum(xlogy(p, p) - xlogy(p, y + 1/16) over c)",
    ROW + "input y: simplex[n, c] over c\nper = sum((softmax(z over c) - y)^2 over c)",
    "input z, y: real[n, d]\nper = 1 - sum(z * y over d) / sqrt((sum(z^2 over d) + 1) * (sum(y^2 over d) + 1))",
    "input z: real[n, d]\ninput y: real[n, d]\nper = sum(abs(z - y) over d) - sqrt(1 + sum((z + y)^2 over d)) / 2",
]


@pytest.mark.parametrize("body", BENT)
def test_a_level_set_that_bends_the_wrong_way_is_found(body: str) -> None:
    assert status(body, "quasiconvex in z") == "refuted"


def _proved(body: str, wrt: str) -> bool:
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    program = built(f"loss t:\n{lines}    return mean(per)\n").program
    return isinstance(quasiconvex(Context(program), "per", (wrt,)), Proved)


@pytest.mark.parametrize(("body", "wrt"), TRUE, ids=[b[-50:] for b, _ in TRUE])
def test_what_is_quasiconvex(body: str, wrt: str) -> None:
    assert status(body, f"quasiconvex in {wrt}") == "proved"


@pytest.mark.parametrize(("body", "wrt"), FALSE, ids=[b[-50:] for b, _ in FALSE])
def test_what_is_not(body: str, wrt: str) -> None:
    assert not _proved(body, wrt)
    assert status(body, f"quasiconvex in {wrt}") != "proved"


def test_what_is_proved_of_random_rows_stands() -> None:
    proved = 0
    for seed in range(900, 980):
        rng = random.Random(seed)
        loss = random_row(rng)
        if not isinstance(quasiconvex(Context(built(loss.source([])).program), "per", ("z",)), Proved):
            continue
        proved += 1
        with mp.workdps(30):
            for line in row_lines(loss, rng, Region(), 4):
                found = hump(line, rng)
                assert found is None or "undefined" in found.what, (loss.per.text, found)
    assert proved > 30
