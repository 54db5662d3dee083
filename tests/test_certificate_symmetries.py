"""Symmetries that the checker sees by form: true statements have a certificate, false ones have none, and of random losses
those that are certified keep their value."""

from __future__ import annotations

import random

import numpy as np
import pytest

from lossdsl import pipeline
from lossdsl.certificate.document import _form
from lossdsl.certificate.question import of_claim
from lossdsl.certificate.rules import Stuck
from lossdsl.diagnostics import Source
from lossdsl.ir.interpret import interpret
from lossdsl.ir.nodes import Program

HEAD = "    input x, y: real[n, d]\n    axis m = n\n"


def asked(lines: str, claim: str) -> tuple[Program, bool]:
    """The program, and whether the forms show the claim. Raises ValueError for what is no loss."""
    text = "".join(f"    {line}\n" for line in lines.split("; "))
    source = f"loss l:\n{HEAD}{text}    return mean(per)\n    claim {claim}\n"
    found = pipeline.analyse(Source("<test>", source)).losses
    if not found:
        raise ValueError(source)
    try:
        for question in of_claim(found[0], found[0].claims[0]):
            _form(question)
    except Stuck:
        return found[0].program, False
    return found[0].program, True


TRUE = [
    ("s[n, d] = sort(x over d); u[n, d] = sort(y over d); per[n] = s[d = 0] + u[d = 0]", "exchange symmetric in x, y"),
    ("per[n] = sum(2 * x * y over d)", "exchange symmetric in x, y"),
    ("per[n] = sum(x + 1 + y over d)", "exchange symmetric in x, y"),
    ("per = sum(stop(x - y)^2 + (x - stop(y))^2 over d)", "exchange symmetric in x, y"),
    ("s[n, m] = sum(x[n, d] * y[m, d] over d); per = (logsumexp(s over m) + logsumexp(s[m, n] over m)) / 2",
     "exchange symmetric in x, y"),
    ("s[n, m] = sum(x[n, d] * y[m, d] over d); t = sum(s over n, m); per[n] = t", "exchange symmetric in x, y"),
    ("s[n, m] = sum(x[n, d] * y[m, d] over d); t = sum(s[n, m]^3 * n * m over n, m); per[n] = t",
     "exchange symmetric in x, y"),
    ("per[n] = sum(x if n > 0 else 0 over d)", "odd in x"),
    ("per[n] = sum((x if n > 0 else 0)^2 over d)", "even in x"),
    ("per[n] = sum((-x if n > 0 else 2 * x) * y over d)", "odd in x"),
]  # fmt: skip
FALSE = [
    ("axis e = d; s[n, d] = sort(x over d); u[n, d] = sort(y over d); per[n] = sum(s[n, d] * u[n, e] * d over d, e)",
     "exchange symmetric in x, y"),
    ("per[n] = sum(2 * x * y * x over d)", "exchange symmetric in x, y"),
    ("per[n] = sum(x + 1 + 2 * y over d)", "exchange symmetric in x, y"),
    ("s[n, m] = sum(x[n, d] * y[m, d] over d); per = logsumexp(s over m)", "exchange symmetric in x, y"),
    ("s[n, m] = sum(x[n, d] * y[m, d] over d); per[n] = sum(s over m)", "exchange symmetric in x, y"),
    ("s[n, m] = sum(x[n, d] * y[m, d] over d); t = sum(s[n, m] * n over n, m); per[n] = t", "exchange symmetric in x, y"),
    ("per[n] = sum(x[n, d] * y[m, d] * m over m, d)", "exchange symmetric in x, y"),
    ("per[n] = sum(x if n > 0 else 1 over d)", "odd in x"),
    ("per[n] = sum(x if n > 0 else -x over d)", "even in x"),
    ("per[n] = sum((x if n > 0 else 1)^2 * x over d)", "even in x"),
    ("per[n] = sum(x if x > 0 else 0 over d)", "odd in x"),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "claim"), TRUE, ids=[f"{c} of {t}" for t, c in TRUE])
def test_what_is_true_is_seen(lines: str, claim: str) -> None:
    assert asked(lines, claim)[1]


@pytest.mark.parametrize(("lines", "claim"), FALSE, ids=[f"{c} of {t}" for t, c in FALSE])
def test_what_is_false_is_not_seen(lines: str, claim: str) -> None:
    assert not asked(lines, claim)[1]


def _element(rng: random.Random, depth: int, places: tuple[str, ...]) -> str:
    """A random element over d, at places n and m."""
    if depth == 0:
        leaf = rng.choice(("x", "y", "x", "y", "s", "z", "2", "0"))
        p, q = rng.choice(places), rng.choice(places)
        return {"s": f"s[{p}, {q}]", "z": f"z[{p}, d]"}.get(leaf, f"{leaf}[{p}, d]" if leaf in "xy" else leaf)
    a, b = (_element(rng, depth - 1, places) for _ in range(2))
    form = rng.choice(("{} + {}", "{} - {}", "{} * {}", "max({}, {})", "tanh({})", "({})^2", "abs({})", "{} / (2 + abs({}))",
                       "({} if {p} > 0 else {})", "({} if {p} == {q} else {})", "stop({})"))  # fmt: skip
    return f"({form.format(a, b, p=rng.choice(places), q=rng.choice(places))})"


def _loss(rng: random.Random) -> str:
    """One half, or both, of what is made of the inputs and of the exchanged inputs, so that many are symmetric."""
    lines = [f"s[n, m] = sum({'x[n, d] * y[m, d]' if rng.random() < 0.7 else 'x[n, d] - y[m, d]'} over d)"]
    lines += [f"z[n, d] = {rng.choice(('x * y', 'x - y', 'x + y - 1', 'x / (1 + y^2)'))}"]
    head = rng.choice(("sum({} over d)", "sum({} over m, d)", "max({} over m, d)", "logsumexp({} over m, d)"))
    places = ("n", "m") if "m, d" in head else ("n",)
    body = _element(rng, rng.choice((1, 2)), places)
    other = body.replace("x[", "#[").replace("y[", "x[").replace("#[", "y[")
    kind = rng.choice(("{a}", "{a} + {b}", "{a} * {b}", "{a} - {b}", "abs({a} - {b})"))
    lines += [f"per[n] = {kind.format(a=head.format(body), b=head.format(other))}"]
    return "; ".join(lines)


@pytest.mark.parametrize("seed", range(6))
def test_what_is_certified_of_random_losses_keeps_its_value(seed: int) -> None:
    rng, drawn, seen = random.Random(seed), np.random.default_rng(seed), 0
    for _ in range(60):
        lines = _loss(rng)
        for claim in ("exchange symmetric in x, y", "even in x", "odd in x", "even in y", "odd in y"):
            try:
                program, held = asked(lines, claim)
            except ValueError:  # a constant, say
                continue
            if not held:
                continue
            seen += 1
            for _ in range(3):
                x, y = drawn.normal(size=(2, 3, 2))
                name = claim.split()[2]
                changed = (
                    {"x": y, "y": x} if "exchange" in claim else {"x": x, "y": y} | {name: -(x if name == "x" else y)}
                )
                before, after = (
                    interpret(program, given, outputs=["per"])["per"] for given in ({"x": x, "y": y}, changed)
                )
                assert np.allclose(after, -before if "odd" in claim else before, equal_nan=True), (lines, claim)
    assert seen > 20
