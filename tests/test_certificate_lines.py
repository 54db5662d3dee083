"""Certificates by lines, order and form: what is enclosed holds against mpmath, what is forged is rejected."""

from __future__ import annotations

import json
import random
from fractions import Fraction
from typing import Any

import mpmath as mp
import pytest

from lossdsl import pipeline
from lossdsl.certificate import question
from lossdsl.certificate.document import Rejected, certify, sealed, verify
from lossdsl.certificate.lines import FOUND
from lossdsl.certificate.points import Undecided
from lossdsl.certificate.rules import Stuck
from lossdsl.certificate.series import Along, Series
from lossdsl.diagnostics import Source
from lossdsl.verify import judged
from lossdsl.verify.enclosure import Enclosure
from lossdsl.verify.verdict import Report
from tests.test_verify import built

FUNCTIONS: dict[str, Any] = {
    "exp(x)": mp.exp,
    "expm1(x)": mp.expm1,
    "log(x)": mp.log,
    "log1p(x)": mp.log1p,
    "sqrt(x)": mp.sqrt,
    "sin(x)": mp.sin,
    "cos(x)": mp.cos,
    "sinh(x)": mp.sinh,
    "cosh(x)": mp.cosh,
    "tanh(x)": mp.tanh,
    "sigmoid(x)": lambda t: 1 / (1 + mp.exp(-t)),
    "softplus(x)": lambda t: mp.log1p(mp.exp(t)),
    "logsigmoid(x)": lambda t: -mp.log1p(mp.exp(-t)),
    "logcosh(x)": lambda t: mp.log(mp.cosh(t)),
    "atan(x)": mp.atan,
    "erf(x)": mp.erf,
    "erfc(x)": mp.erfc,
    "normal_cdf(x)": mp.ncdf,
    "log_normal_cdf(x)": lambda t: mp.log(mp.ncdf(t)),
    "abs(x - 1/3)": lambda t: abs(t - mp.mpf(1) / 3),
    "relu(x - 1/2) * x": lambda t: max(t - mp.mpf(1) / 2, mp.mpf(0)) * t,
    "min(x^2, 1/4)": lambda t: min(t**2, mp.mpf(1) / 4),
    "clamp(x, 1/4, 3/4)^3": lambda t: min(max(t, mp.mpf(1) / 4), mp.mpf(3) / 4) ** 3,
    "x^3 - 2 * x^2 + x / 3": lambda t: t**3 - 2 * t**2 + t / 3,
    "abs(x)^(3/2)": lambda t: t ** (mp.mpf(3) / 2),
    "1 / (1 + x^2)": lambda t: 1 / (1 + t**2),
    "logaddexp(x, 1 - 2 * x)": lambda t: mp.log(mp.exp(t) + mp.exp(1 - 2 * t)),
    "(x^2 if x < 1/2 else 1 - x)": lambda t: t**2 if t < 0.5 else 1 - t,
    "xlogy(2, x) + exp(-x^2)": lambda t: 2 * mp.log(t) + mp.exp(-(t**2)),
}
KINKS = (Fraction(1, 4), Fraction(1, 3), Fraction(1, 2), Fraction(3, 4))


def series(body: str, over: Enclosure, count: int, joined: bool) -> Series:
    program = built(f"loss f:\n    input x: real[n]\n    per = {body}\n    return mean(per)\n").program
    inputs = {"x": {(0,): Fraction(0)}}
    found = Along(program, ({"n": 1}, {}, inputs), {("x", (0,)): Fraction(1)}, over, count, joined=joined).element(
        "per", (0,)
    )
    assert isinstance(found, Series)
    return found


@pytest.mark.parametrize("body", FUNCTIONS)
def test_coefficients_are_enclosed(body: str) -> None:
    """At places of intervals of every width, but for the places where pieces meet."""
    rng, seen = random.Random(5), 0
    for _ in range(40):
        lo = rng.uniform(0.02, 2.0)
        over = Enclosure(lo, lo + rng.choice((0.0, 1e-6, 0.1, 1.0)))
        joined = rng.random() < 0.5
        try:
            found = series(body, over, 4, joined)
        except Undecided:
            assert any(over.lo <= k <= over.hi for k in KINKS)
            assert not joined
            continue
        for at in (over.lo, over.hi, rng.uniform(over.lo, over.hi)):
            if any(abs(at - k) < 1e-4 for k in KINKS):
                continue
            with mp.workdps(60):
                expected = mp.taylor(FUNCTIONS[body], mp.mpf(at), 3)
                for box, value in zip(found.terms, expected, strict=True):
                    slack = mp.mpf(10) ** -12 * (1 + abs(value))  # of the differences that mpmath takes
                    assert box.lo - slack <= value <= box.hi + slack, (body, over, at)
                    seen += 1
    assert seen > 100


def test_coefficients_on_a_ray() -> None:
    ray = Enclosure(1.0, float("inf"), False, True)
    assert series("x^2 + softplus(x)", ray, 3, False).terms[2].lo >= 1.0
    assert series("exp(x / 8)", ray, 3, False).terms[2].positive
    assert not series("softplus(x)", ray, 3, False).terms[2].lo > 0
    assert not series("sqrt(x)", ray, 3, False).terms[2].lo > 0


# ------------------------------------------------------------------------------------------------ documents


def document(declared: str, body: str, claim: str) -> dict[str, Any]:
    text = f"loss f:\n    {declared}\n    per{body}\n    return mean(per)\n\n    claim {claim}\n"
    source = Source("f.loss", text)
    losses = pipeline.analyse(source).losses
    reports = [Report(b.program.name, (), tuple(judged(b))) for b in losses]  # of the claim alone
    made: dict[str, Any] = json.loads(json.dumps(certify(source, losses, reports)))
    return made


def of_claim(found: dict[str, Any]) -> dict[str, Any] | None:
    return next((x for x in found["losses"][0]["entries"] if "claim" in x), None)


ROW = "input x: real[n, c]"
PAIR = "input x, y: real[n]"
ONE = "input x: real[n]"
HELD = [
    (ONE, " = x^2", "not lipschitz in x", "bend along a ray"),
    (
        "input x: real[n]\n    param s: bool = false",
        " = x^2 if s else abs(x)",
        "not lipschitz in x",
        "bend along a ray",
    ),
    (
        "input x: real[n]\n    input a: real[n] > 1",
        " = abs(x) / 9 + a * log(log(a) + x^2)",
        "not redescending in x",
        "growth like a line",
    ),
    (ROW, "[n] = sum(exp(x / 4) over c)", "not lipschitz in x", "bend along a ray"),
    (ROW, "[n] = sum(x^4 over c) - logsumexp(x over c)", "not lipschitz in x", "bend along a ray"),
    (ONE, " = abs(x)", "not C1 in x", "jump"),
    (ONE, " = x * abs(x)", "not C2 in x", "jump"),
    (ROW, "[n] = max(x over c)", "not C1 in x", "jump"),
    (ONE, " = x if x < 1 else 2 * x", "not lipschitz in x", "jump"),
    (ONE, " = x if x < 1 else 2 * x", "not C0 in x", "jump"),
    (PAIR, " = max(x - y, 0) * 3", "not C1 in x", "jump"),
    (ONE, " = max(x, sin(1)) * exp(1)", "not strictly convex in x", "flat between points"),
    (ONE, " = log(x)", "not C0 in x", "no value"),
    (PAIR, " = x / y", "not C0 in y", "no value"),
    (ROW, "[n] = sum(softplus(x) over c) + max(x over c)", "increasing in x", "monotone composition"),
    (PAIR, " = exp(-x) + logsigmoid(-(2 * x))", "decreasing in x", "monotone composition"),
    (PAIR, " = abs(x - y) / (1 + x * y)^2", "exchange symmetric in x, y", "one form"),
    (ONE, " = logcosh(x) + cos(x) * x^2", "even in x", "one form"),
    (ONE, " = tanh(x) * abs(x)", "odd in x", "one form"),
    (ROW, "[n] = sum(x^2 over c) / max(abs(x) over c)", "invariant under permutation of x over c", None),
    (ONE, " = abs(stop(x)) + 0 * x", "C0 in x", "composition of continuous functions"),
    ("input x: real[n] >= 0\n    param g: real > 0 = 2", " = x^g", "C0 in x", "composition of continuous functions"),
]


@pytest.mark.parametrize(("declared", "body", "claim", "rule"), HELD, ids=[f"{c} of{b}" for _, b, c, _ in HELD])
def test_what_is_decided_has_a_certificate(declared: str, body: str, claim: str, rule: str | None) -> None:
    made = document(declared, body, claim)
    entry = of_claim(made)
    assert entry is not None, made["losses"][0]["without"]
    rules = [entry["rule"]] if entry["status"] == "refuted" else [p["rule"] for p in entry["parts"]]
    assert rules == [rule or "what follows a permutation"]
    verify(made)


FORGED = [  # what is false of a loss of the same inputs, with the entry of one for which it is true
    (ONE, " = x^2", " = softplus(x) + abs(x)", "not lipschitz in x"),
    (ONE, " = x^2", " = sqrt(1 + x^2)", "not lipschitz in x"),
    (ONE, " = x^2", " = tanh(x^2)", "not lipschitz in x"),
    (ROW, "[n] = sum(x^2 over c)", "[n] = logsumexp(x over c)", "not lipschitz in x"),
    (ONE, " = abs(x)", " = softplus(1000000 * x) / 1000000", "not C1 in x"),
    (ONE, " = abs(x)", " = x * abs(x)", "not C1 in x"),
    (ONE, " = abs(x)", " = x^2 if x < 0 else x^3", "not C1 in x"),
    (ONE, " = x if x < 1 else 2 * x", " = x if x < 1 else 2 * x - 1", "not C0 in x"),
    (ONE, " = x * abs(x)", " = x^2 * abs(x)", "not C2 in x"),
    (ONE, " = relu(x)", " = x^4", "not strictly convex in x"),
    (ONE, " = relu(x)", " = softplus(x)", "not strictly convex in x"),
    (ONE, " = log(x)", " = log(1 + x^2)", "not C0 in x"),
    (ONE, " = x^3", " = x^2", "increasing in x"),
    (ONE, " = exp(x)", " = x * exp(x)", "increasing in x"),
    (ONE, " = exp(x)", " = x * x * x - x", "increasing in x"),
    (PAIR, " = x * y", " = x * y + x", "exchange symmetric in x, y"),
    (PAIR, " = abs(x - y)", " = x - y", "exchange symmetric in x, y"),
    (ONE, " = x^2", " = x^2 + x", "even in x"),
    (ONE, " = x^3", " = x^2", "odd in x"),
    (ONE, " = sin(x)", " = cos(x)", "odd in x"),
    (ROW, "[n] = sum(x over c)", "[n] = sum(x * c over c)", "invariant under permutation of x over c"),
    (ROW, "[n] = max(x over c)", "[n] = argmax(x over c)", "invariant under permutation of x over c"),
    (ROW, "[n] = sum(x over c)", "[n] = sum(x[n, c] over c where c > 0)", "invariant under permutation of x over c"),
    (ROW, "[n] = sum(x over c)", "[n] = x[n, 0]", "invariant under permutation of x over c"),
]


@pytest.mark.parametrize(("declared", "true", "false", "claim"), FORGED, ids=[f"{c} of{f}" for _, _, f, c in FORGED])
def test_the_entry_of_another_loss_is_rejected(declared: str, true: str, false: str, claim: str) -> None:
    made = document(declared, true, claim)
    entry = of_claim(made)
    assert entry is not None, made["losses"][0]["without"]
    made["source"] = made["source"].replace(f"per{true}", f"per{false}")
    made["losses"][0]["entries"] = [entry]
    with pytest.raises(Rejected):
        verify(sealed(made))
    other = of_claim(document(declared, false, claim))
    assert other is None or other["status"] != entry["status"]


def test_a_ray_stays_in_the_domain() -> None:
    made = document(ONE, " = x^2", "not lipschitz in x")
    made["source"] = made["source"].replace("real[n]", "real[n] in [-9, 9]")
    made["losses"][0]["entries"] = [of_claim(made)]
    with pytest.raises(Rejected, match="leaves the domain"):
        verify(sealed(made))


def test_a_series_of_an_unknown_function_is_refused() -> None:
    with pytest.raises(Stuck, match="no derivative"):
        series("floor(x)", Enclosure(0.25, 0.5), 3, True)


NOWHERE = [  # an element, a place, and whether it is seen to have no value there
    ("abs(atan(x))^(3/2)", "0", False),
    ("abs(atan(x))^g", "0", False),
    ("x^101", "-1", False),
    ("(x^2)^(0 - 101)", "-1", False),
    ("x^101 / x^100", "0", True),
    ("exp(log(abs(x)))", "0", False),
    ("max(x, log(abs(x)))", "0", False),
    ("1 / (1 + 1 / x^2)", "0", False),
    ("atan(1 / x)", "0", False),
    ("xlogy(sin(abs(x)), abs(x))", "0", False),
    ("xlogy(x, x - 1)", "0", False),
    ("xlogy(x, x - 1)", "1/2", True),
    ("exp(-(1 / x))", "0", False),  # 0 or infinity
    ("exp(1 / x^2)", "0", False),  # so is this to the checker, as 0 has no sign
    ("log(abs(x)) + 1 / x^2", "0", True),
    ("x / x", "0", True),
    ("x * log(abs(x))", "0", True),
    ("sqrt(x)", "-1", True),
    ("sqrt(log(1 + x) - x)", "0", False),
    ("log(x)", "-1", True),
    ("1 / x", "0", True),
    ("lgamma(x)", "-1/2", False),
    ("3 if x / x > 1 else 2", "0", False),  # 2: a comparison with what has no value fails
    ("(x / x)^0", "0", False),  # 1
    ("(x / x)^2", "0", True),
]


@pytest.mark.parametrize(("body", "at", "none"), NOWHERE, ids=[f"{b} at {at}" for b, at, _ in NOWHERE])
def test_only_what_has_no_value_is_said_to_have_none(body: str, at: str, none: bool) -> None:
    text = f"loss f:\n    input x: real[n]\n    param g: real > 0 = 3/2\n    per = {body}\n    return mean(per)\n\n    "
    loss = pipeline.analyse(Source("f.loss", text.replace("3/2", "1.5", 1) + "claim not C0 in x\n")).losses[0]
    (q,) = question.of_claim(loss, loss.claims[0])
    entry = {"rule": "no value", "points": [{"x[0]": at, "g": "3/2"}], "t": None, "place": [0]}
    if none:
        assert FOUND["no value"](q, entry)["values"] == ["none"]
    else:
        with pytest.raises(Stuck):
            FOUND["no value"](q, entry)


def test_an_infinity_is_no_violation_of_a_bound_that_it_meets() -> None:
    for body, fails in (("1 / x^2", False), ("log(abs(x))", True), ("x / abs(x)", True), ("-log(abs(x))", False)):
        text = f"loss f:\n    input x: real[n]\n    per = {body}\n    return mean(per)\n\n    claim per >= 0\n"
        loss = pipeline.analyse(Source("f.loss", text)).losses[0]
        (q,) = question.of_claim(loss, loss.claims[0])
        entry = {"rule": "no value", "points": [{"x[0]": "0"}], "t": None, "place": [0]}
        if fails:
            assert FOUND["no value"](q, entry)
        else:
            with pytest.raises(Stuck):
                FOUND["no value"](q, entry)


@pytest.mark.parametrize(
    ("body", "jumps"),
    [
        ("5 + x if x < 0 else 5", False),
        ("5 if x < 0 else exp(x) + 4", False),
        ("sin(1) if x < 0 else sin(1) + x^2", False),
        ("5 + x if x < 0 else 4", True),
        ("5 if x < 0 else 4 + x", True),
    ],
)
def test_a_value_that_stays_is_what_it_is(body: str, jumps: bool) -> None:
    """On the side of a point on which the element does not vary."""
    text = f"loss f:\n    input x: real[n]\n    per = {body}\n    return mean(per)\n\n    claim not C0 in x\n"
    loss = pipeline.analyse(Source("f.loss", text)).losses[0]
    (q,) = question.of_claim(loss, loss.claims[0])
    entry = {"rule": "jump", "points": [{"x[0]": "0"}, {"x[0]": "1"}], "t": None, "place": [0]}
    if jumps:
        assert FOUND["jump"](q, entry)["order"] == 0
    else:
        with pytest.raises(Stuck, match="no jump"):
            FOUND["jump"](q, entry)


@pytest.mark.parametrize(
    ("declared", "body", "claim", "points"),
    [
        ("input x: real[n] >= 0", " = log(x)", "not C0 in x", [{"x[0]": "0"}]),
        ("input x: prob[n]", " = log(1 - x)", "not C0 in x", [{"x[0]": "1"}]),
        ("input x, y: real[n] >= 0", " = abs(x - 1) if y == 0 else x", "not C1 in x, y", None),
    ],
)
def test_an_end_of_the_domain_says_nothing_of_its_inside(
    declared: str, body: str, claim: str, points: list[dict[str, str]] | None
) -> None:
    """Continuity is about the relative interior of a domain."""
    rule = "no value" if points else "jump"
    given = points or [{"x[0]": "1", "y[0]": "0"}, {"x[0]": "2", "y[0]": "0"}]
    entry = {"claim": 6, "text": claim, "status": "refuted", "part": 0, "rule": rule, "points": given, "t": None}
    entry |= {"place": [0], "values": ["none"], "order": 1, "step": "1/16"}
    text = f"loss f:\n    {declared}\n    per{body}\n    return mean(per)\n\n    claim {claim}\n"
    whole = {
        "version": 1,
        "path": "f.loss",
        "source": text,
        "losses": [{"name": "f", "entries": [entry], "without": []}],
    }
    with pytest.raises(Rejected, match=r"end of its domain|outside of its range|no jump"):
        verify(sealed(whole))
