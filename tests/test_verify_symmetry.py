"""Symmetries: what is proved, what is refuted, and near misses that must not be proved."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import pytest

from lossdsl.diagnostics import Source
from lossdsl.ir.build import build
from lossdsl.ir.interpret import interpret
from lossdsl.ir.nodes import Program
from lossdsl.syntax.parser import parse
from lossdsl.verify import judged, symmetry, verify_program
from lossdsl.verify.context import Context
from lossdsl.verify.permute import Permutation
from lossdsl.verify.responses import NoResponse, Scale, Shift
from lossdsl.verify.verdict import Proved, Refuted
from tests.test_verify import built

LOGITS = "input x: real[n, c]\ninput t: class[n] of c\nparam a: real in [1, 2] = 1\nparam e: real = 0\n"
SHIFT = "invariant under shift of x over c"
SCALE = "invariant under scale of x over c"
POINTS = "input x, y: real[n, d]\ninput w: real[n]\nparam p: real >= 1 = 2\naxis m = n\n"
PERMUTED = "invariant under permutation of x over n"
PAIR = "input a, b: real[n, d]\ninput u: real[n]\naxis m = n\n"
EXCHANGED = "exchange symmetric in a, b"


def status(body: str, claim: str) -> str:
    lines = "".join(f"    {line}\n" for line in (*body.split("\n"), f"claim {claim}") if line.strip())
    return next(judged(built(f"loss t:\n{lines}"), effort=0.4)).status


TRUE = [
    (LOGITS + "per = -log_softmax(x over c)[c = t]\nreturn mean(per)", SHIFT),
    (LOGITS + "per = logsumexp(x / a over c) - x[c = t] / a\nreturn mean(per)", SHIFT),
    (LOGITS + "per = max(x over c) - min(x over c)\nreturn mean(per)", SHIFT),
    (LOGITS + "per = sum((x - mean(x over c))^2 over c)\nreturn mean(per)", SHIFT),
    (LOGITS + "per = std(x over c)\nreturn mean(per)", SHIFT),
    (LOGITS + "axis j = c\nper = sum(relu(1 + x[n, j] - x[n, t]) over j where j != t)\nreturn mean(per)", SHIFT),
    (LOGITS + "per = sum(softmax(x over c)^2 over c)\nreturn mean(per)", SHIFT),
    (LOGITS + "per = 1.0 * argmax(x over c)\nreturn mean(per)", SHIFT),
    (LOGITS + "s[n, c] = sort(x over c)\nper = s[n, last] - s[n, 0]\nreturn mean(per)", SHIFT),
    (LOGITS + "per = median(x over c) - x[c = t]\nreturn mean(per)", SHIFT),
    (LOGITS + "per = x[c = t] - (max(x over c) if x[c = t] > min(x over c) else x[c = t])\nreturn mean(per)", SHIFT),
    (LOGITS + "input q: simplex[n, c] over c\nper = logsumexp(x over c) - sum(q * x over c)\nreturn mean(per)", SHIFT),
    (LOGITS + "per = logsumexp(x over c where c != t) - x[c = t]\nreturn mean(per)", SHIFT),
    (LOGITS + "per = logsumexp(x[c = t], x[c = t] - 1) - stop(x[c = t])\nreturn mean(per)", SHIFT),
    (LOGITS + "per = logsumexp(x over c) * e - e * x[c = t]\nreturn mean(per)", SHIFT),
    (POINTS + "per = norm(x - x[m, d] over d)\nreturn mean(per over n, m)", "invariant under shift of x over n"),
    (LOGITS + "per = x / norm(x over c)\nreturn mean(per)", SCALE),
    (LOGITS + "per = sum(abs(x) over c) / max(abs(x) over c)\nreturn mean(per)", SCALE),
    (LOGITS + "per = sqrt(sum(x^2 over c)) / sum(abs(x) over c)\nreturn mean(per)", SCALE),
    (LOGITS + "per = relu(x[c = t]) / max(x over c)\nreturn mean(per)", SCALE),
    (LOGITS + "per = 1 if x[c = t] > 0 else 0\nreturn mean(per)", SCALE),
    (LOGITS + "per = sum(x over c)^2 / sum(x^2 over c)\nreturn mean(per)", SCALE),
    (POINTS + "per = sum(x over n, d) + max(y)\nreturn per", PERMUTED),
    (POINTS + "per = abs(sort(x over n) - sort(y over n))\nreturn mean(per)", PERMUTED),
    (
        POINTS + "k[n, m] = exp(-sum((x - x[m, d])^2 over d))\nper = mean(k over n, m where n != m)\nreturn per",
        PERMUTED,
    ),
    (POINTS + "mu[d] = mean(x over n)\nper = sum((y - mu)^2 over d)\nreturn mean(per)", PERMUTED),
    (POINTS + "per = max(x over n)\nreturn mean(per)", PERMUTED),
    (POINTS + "near[n] = min(norm(x - y[m, d] over d) over m)\nper = sum(near)\nreturn per", PERMUTED),
    (PAIR + "per = norm(a - b over d)\nreturn mean(per)", EXCHANGED),
    (PAIR + "per = sum((a - b)^2 over d) + sum((b - a)^2 over d) * 2\nreturn mean(per)", EXCHANGED),
    (PAIR + "per = sum(a * b over d) / (norm(a over d) * norm(b over d))\nreturn mean(per)", EXCHANGED),
    (PAIR + "k[n, m] = exp(sum(a[n, d] * b[m, d] over d))\nper = sum(k over n, m)\nreturn per", EXCHANGED),
    (PAIR + "per = max(a, b) - min(b, a)\nreturn mean(per)", EXCHANGED),
    (PAIR + "per = (a if a > 0 else -a) + (b if b > 0 else -b)\nreturn mean(per)", EXCHANGED),
    (PAIR + "per = (a + b) / 2 - logsumexp(u, a, b)\nreturn mean(per)", EXCHANGED),
    (PAIR + "per = 1 if a == b else 0\nreturn mean(per)", EXCHANGED),
    ("input r: real[n]\nper = log(1 + r^2)\nreturn mean(per)", "even in r"),
    ("input r: real[n]\nper = max(r, -r)\nreturn mean(per)", "even in r"),
    ("input r: real[n]\nper = r^2 / 2 if abs(r) <= 1 else abs(r) - 1 / 2\nreturn mean(per)", "even in r"),
    ("input r: real[n]\nper = r * sin(r) + cos(r)\nreturn mean(per)", "even in r"),
    ("input r: real[n]\nper = relu(r) + relu(-r)\nreturn mean(per)", "even in r"),
    # NaN outside of the signal
    ("input r: real[n]\naxis i = 4\nper[i] = r[n = reflect(i - 2)]^2\nreturn mean(per)", "even in r"),
    ("input r: real[n]\nper = r^3 / (1 + r^2) - tanh(2 * r)\nreturn mean(per)", "odd in r"),
]


@pytest.mark.parametrize(("body", "claim"), TRUE, ids=[f"{k}" for k in range(len(TRUE))])
def test_symmetries_are_proved(body: str, claim: str) -> None:
    assert status(body, claim) == "proved"


FALSE = [
    (LOGITS + "per = logsumexp(x over c)\nreturn mean(per)", SHIFT),
    (LOGITS + "per = logsumexp(x over c) - x[c = t] / a\nreturn mean(per)", SHIFT),
    (LOGITS + "per = logsumexp(x over c) / a - x[c = t]\nreturn mean(per)", SHIFT),
    (LOGITS + "per = a * logsumexp(x / a over c) - x[c = t] / a\nreturn mean(per)", SHIFT),
    (LOGITS + "per = logsumexp(x over c) - (x[c = t] if t > 0 else 0)\nreturn mean(per)", SHIFT),
    (LOGITS + "per = max(x over c where c != t else 0) - x[c = t]\nreturn mean(per)", SHIFT),
    (LOGITS + "per = logsumexp(x over c where x > 0) - x[c = t]\nreturn mean(per)", SHIFT),
    (LOGITS + "per = logsumexp(x over c) - sum(x over c)\nreturn mean(per)", SHIFT),
    (LOGITS + "per = logsumexp(x over c) - 0.9 * x[c = t] - 0.05 * sum(x over c)\nreturn mean(per)", SHIFT),
    (LOGITS + "input q: real[n, c] in [0, 1]\nper = logsumexp(x over c) - sum(q * x over c)\nreturn mean(per)", SHIFT),
    (
        LOGITS + "input q: simplex[n, c] over c\nper = logsumexp(x over c) - sum(q * x over c where c != t)\n"
        "return mean(per)",
        SHIFT,
    ),
    (
        LOGITS + "input q: simplex[n, c] over n\nper = logsumexp(x over c) - sum(q * x over c)\nreturn mean(per)",
        SHIFT,
    ),
    (LOGITS + "per = logsumexp(x over c) * e - x[c = t]\nreturn mean(per)", SHIFT),
    (LOGITS + "per = logsumexp(0, logsumexp(x over c)) - x[c = t]\nreturn mean(per)", SHIFT),
    (LOGITS + "per = clamp(logsumexp(x over c) - x[c = t], 0, x[c = t])\nreturn mean(per)", SHIFT),
    (LOGITS + "per = softplus(x[c = t]) - logsumexp(x over c)\nreturn mean(per)", SHIFT),
    (LOGITS + "per = 1 if x[c = t] > 0 else 0\nreturn mean(per)", SHIFT),
    (LOGITS + "per = 1.0 * argmax(x * (1 + c) over c)\nreturn mean(per)", SHIFT),
    (LOGITS + "per = 1.0 * argmax(relu(x) over c)\nreturn mean(per)", SHIFT),
    (LOGITS + "per = count(x > 0 over c) * 1.0\nreturn mean(per)", SHIFT),
    (LOGITS + "per = logsumexp(x over n, c) - x[c = t]\nreturn mean(per)", SHIFT),
    (LOGITS + "axis m = n\nper[n, m] = x[n, t[n]] - x[m, t[m]]\nreturn mean(per)", SHIFT),
    (LOGITS + "per = max(x over n)\nreturn mean(per)", SHIFT),
    (LOGITS + "per = prod(softmax(x over c) + x over c)\nreturn mean(per)", SHIFT),
    (LOGITS + "per = x[c = t] - mean(x over c where c != t)\nreturn mean(per)", "invariant under shift of x over n"),
    (LOGITS + "per[n] = x[n, t[n]] - stop(x[0, t[n]])\nreturn mean(per)", SHIFT),
    (LOGITS + "f[n, c] = x[n, c] + (f[n, c - 1] if c > 0 else 0)\nper = f[c = last]\nreturn mean(per)", SHIFT),
    (LOGITS + "per = (x - x[c = t]) / (max(x over c) * 0.0)\nreturn mean(per)", SHIFT),
    (LOGITS + "per = sum(x over c) / size(n)\nper2 = per - x[c = t]\nreturn mean(per2)", SHIFT),
    (LOGITS + "per = x / (norm(x over c) + 1)\nreturn mean(per)", SCALE),
    (LOGITS + "per = x / max(norm(x over c), 0.001)\nreturn mean(per)", SCALE),
    (LOGITS + "per = abs(x[c = t]) / sum(x^2 over c)\nreturn mean(per)", SCALE),
    (LOGITS + "per = prod(x over c)\nreturn mean(per)", SCALE),
    (LOGITS + "per = sigmoid(x[c = t])\nreturn mean(per)", SCALE),
    (LOGITS + "per = 1 if x[c = t] > 1 else 0\nreturn mean(per)", SCALE),
    (LOGITS + "per = logsumexp(x over c) / max(x over c)\nreturn mean(per)", SCALE),
    (LOGITS + "per = x[c = t]^0 + max(x over c) - max(x over c) + x[c = t]\nreturn mean(per)", SCALE),
    (POINTS + "per = sum(x over d)\nreturn mean(per)", PERMUTED),
    (POINTS + "per = sum(w[n] * x[n, d] over n, d)\nreturn per", PERMUTED),
    (POINTS + "per = sum(x * y over n, d)\nreturn per", PERMUTED),
    (POINTS + "per = sum((n + 1) * x over n, d)\nreturn per", PERMUTED),
    (POINTS + "per = sum(abs(x[n + 1, d] - x) over n, d)\nreturn per", PERMUTED),
    (POINTS + "per[d] = x[0, d]\nreturn sum(per)", PERMUTED),
    (
        POINTS
        + "per = sum(x[n, d] * x[m, d] over n, m, d where n < m) + sum(x[n, d] * (w[n] if n > 0 else 1))\nreturn per",
        PERMUTED,
    ),
    (POINTS + "k[n, m] = sum(x[n, d] * y[m, d] over d)\nper = sum(k over n, m where n == m)\nreturn per", PERMUTED),
    (POINTS + "o = argsort(x over n)\nper = sum(y[n = o])\nreturn per", PERMUTED),
    (POINTS + "o[d] = argmax(x over n)\nper = sum(1.0 * o)\nreturn per", PERMUTED),
    (POINTS + "o[d] = argmax(x over n)\nper = sum(y[n = o])\nreturn per", PERMUTED),
    (POINTS + "s[n, d] = cumsum(x over n)\nper = max(s)\nreturn per", PERMUTED),
    (POINTS + "k = sort(x over n) - y\nper = sum(k over n, d where x > 0)\nreturn per", PERMUTED),
    (PAIR + "per = a - b\nreturn mean(per)", EXCHANGED),
    (PAIR + "per = sum((a - b)^3 over d)\nreturn mean(per)", EXCHANGED),
    (PAIR + "per = sum(a * log(a / b) over d)\nreturn mean(per)", EXCHANGED),
    (PAIR + "per = norm(a - b over d) / norm(a over d)\nreturn mean(per)", EXCHANGED),
    (PAIR + "k[n, m] = sum(a[n, d] * b[m, d] over d)\nper = logsumexp(k over m)\nreturn mean(per)", EXCHANGED),
    (PAIR + "k[n, m] = sum(a[n, d] * b[m, d] over d)\nper = sum(k over n, m where n < m)\nreturn per", EXCHANGED),
    (PAIR + "per = a if a > b else a\nreturn mean(per)", EXCHANGED),
    (PAIR + "per = (a if a > b else b) + (u if a >= b else 0)\nreturn mean(per)", EXCHANGED),
    (
        PAIR + "o = argsort(a over n)\np = argsort(b over n)\nper = abs(a[n = p]) + abs(b[n = p])\nreturn mean(per)",
        EXCHANGED,
    ),
    (PAIR + "per = abs(a) + abs(b)^2\nreturn mean(per)", EXCHANGED),
    (PAIR + "per = 1.0 * argmax(sum(a[n, d] * b[m, d] over d) over n, m)\nreturn per", EXCHANGED),
    ("input r: real[n]\nper = relu(r)\nreturn mean(per)", "even in r"),
    ("input r: real[n]\nper = abs(r) + 1e-9 * r\nreturn mean(per)", "even in r"),
    ("input r: real[n]\nper = r^2 if r > -1 else abs(r)\nreturn mean(per)", "even in r"),
    ("input r: real[n]\nper = r^3\nreturn mean(per)", "even in r"),
    ("input r: real[n]\nper = abs(r - 1)\nreturn mean(per)", "even in r"),
    ("input r: real[n]\nper = i0e(r) * atan(r)\nreturn mean(per)", "even in r"),
    ("input r: real[n]\nper = r + 1\nreturn mean(per)", "odd in r"),
    ("input r: real[n]\nper = r^2\nreturn mean(per)", "odd in r"),
]


@pytest.mark.parametrize(("body", "claim"), FALSE, ids=[f"{k}" for k in range(len(FALSE))])
def test_near_misses_are_not_proved(body: str, claim: str) -> None:
    assert status(body, claim) != "proved"


@pytest.mark.parametrize(
    ("body", "claim"),
    [(b, c) for b, c in FALSE if "sum(x over c)" in b or "per = a - b" in b or "relu(r)" in b or "sum(x * y" in b],
)
def test_plain_failures_are_refuted_with_a_point(body: str, claim: str) -> None:
    assert status(body, claim) == "refuted"


def test_a_counterexample_is_a_pair_of_points() -> None:
    report = verify_program(
        built("loss t:\n    input r: real[n]\n    per = relu(r)\n    return mean(per)\n    claim even in r\n")
    )
    verdict = report.claims[0].verdict
    assert isinstance(verdict, Refuted)
    low, high = verdict.witness.points
    assert all(high[name] == -value for name, value in low.items() if name.startswith("r["))
    assert any(max(v, Fraction(0)) != max(-v, Fraction(0)) for v in low.values())


def test_a_domain_that_differs_is_no_exchange() -> None:
    body = "input a: real[n]\ninput b: real[n] >= 0\nper = abs(a - b)\nreturn mean(per)"
    assert status(body, EXCHANGED) == "unknown"


def test_a_temperature_that_may_be_zero_blocks_a_shift() -> None:
    body = "input x: real[n, c]\ninput t: class[n] of c\nparam a: real in [0, 1] = 1\n"
    body += "per = logsumexp(x / a over c) - x[c = t] / a\nreturn mean(per)"
    assert status(body, SHIFT) == "unknown"


def test_only_the_named_axes_share_the_number() -> None:
    body = "input x: real[n, c]\nper = x - mean(x over n, c)\nreturn mean(per)"
    assert status(body, SHIFT) != "proved"
    assert status(body, "invariant under shift of x over n, c") == "proved"
    assert status(body, "invariant under shift of x") == "proved"


PIECES = (
    "x[n, c]", "x[n, t[n]]", "logsumexp(x over c)", "max(x over c)", "mean(x over c)", "sum(x over c)", "norm(x over c)",
    "abs(x)", "relu(x[n, t[n]])", "softplus(x)", "w", "q", "1", "0", "-inf", "sum(q * x over c)", "max(x over n)",
    "sort(x over c)", "logsumexp(x over c where w > 0)", "min(x over c where c != t else inf)", "sum(x^2 over c)",
)  # fmt: skip


FORMS = (
    "({a} - {b})", "({a} + {b})", "({a} * {b})", "({a} / {b})", "max({a}, {b})", "logsumexp({a}, {b})", "abs({a})",
    "({a} if {b} > {a} else {b})", "({a})^2", "clamp({a}, 0, {b})", "({a} / 2)", "exp({a})", "-({a})", "(x / {a})",
)  # fmt: skip


def _random_body(rng: random.Random, depth: int) -> str:
    if depth == 0:
        return rng.choice(PIECES)
    a, b = (_random_body(rng, depth - 1) for _ in range(2))
    return rng.choice(FORMS).format(a=a, b=b)


def _random_program(rng: random.Random) -> Program:
    while True:
        body = _random_body(rng, rng.choice((1, 2, 2, 3)))
        text = (
            "loss t:\n    input x: real[n, c]\n    input w: real[n]\n    input t: class[n] of c\n"
            f"    input q: simplex[n, c] over c\n    per[n, c] = {body} + 0 * w\n    return mean(per)\n"
        )
        file = Source("test.loss", text)
        losses, _ = build(parse(file)[0], file)  # a constant division by zero is refused
        if losses:
            return losses[0].program


@pytest.mark.parametrize("seed", range(8))
def test_what_is_proved_holds_at_random_points(seed: int) -> None:
    """Whatever is proved of random compositions holds where the reference interpreter evaluates them."""
    rng = random.Random(seed)
    proved = 0
    for _ in range(60):
        program = _random_program(rng)
        for claim in (SHIFT, SCALE, "invariant under permutation of x over c", "even in x"):
            found = _holds(program, claim, rng)
            assert found is not False, (claim, program)
            proved += found is True
    assert proved >= 4


def _holds(program: Program, claim: str, rng: random.Random) -> bool | None:
    """Whether a claim that is proved stands at several moved points; None if it is not proved."""
    kind = next(w for w in ("shift", "scale", "permutation", "even") if w in claim)
    axes = ("c",) if kind != "even" else None
    if not isinstance(symmetry.decide(Context(program, seconds=0.0), "per", kind, ("x",), axes), Proved):
        return None
    generator = np.random.default_rng(rng.randrange(1000))
    for _ in range(3):
        x, w = generator.normal(size=(2, 3)), generator.normal(size=2)
        t, q = generator.integers(0, 3, 2), generator.dirichlet(np.ones(3), 2)
        s = generator.uniform(0.5, 2, (2, 1))
        moved = {"shift": x + s, "scale": x * s, "permutation": x[:, [1, 2, 0]], "even": -x}[kind]
        low, high = (interpret(program, {"x": v, "w": w, "t": t, "q": q}, outputs=["per"])["per"] for v in (x, moved))
        if not np.allclose(low, high, rtol=1e-6, atol=1e-6, equal_nan=True):
            return False
    return True


def test_unknown_heads_and_nodes_raise() -> None:
    program = built("loss t:\n    input x: real[n, c]\n    per = sum(exp(x) over c)\n    return mean(per)\n").program
    entry = program.inputs[0]
    for engine in (Shift, Scale):
        with pytest.raises(NoResponse, match="exp"):
            engine(Context(program), entry, frozenset({1})).tensor("per")
    assert Permutation(program, entry, 1).stays("per")
    assert not Permutation(program, entry, 0).stays("per")
