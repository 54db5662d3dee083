"""Certificates by derivatives on boxes: what is proved holds at points, and what is not true is not proved."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from lossdsl import pipeline
from lossdsl.certificate.boxes import (
    of_bound,
    of_bracket,
    of_convexity,
    of_lipschitz,
    of_minimum,
    of_order,
    of_smoothness,
)
from lossdsl.certificate.coverings import Box, Curve
from lossdsl.certificate.document import Rejected, certify, sealed, verify
from lossdsl.certificate.points import Undecided
from lossdsl.certificate.question import Question, of_claim
from lossdsl.certificate.rules import Stuck
from lossdsl.certificate.scaling import of_units
from lossdsl.diagnostics import Source
from lossdsl.ir.nodes import Read
from lossdsl.verify.enclosure import Enclosure
from tests.test_verify import built

HEAD = "    input x, y: real[n]\n    input s: sign[n]\n    input p: prob[n]\n    input w: real[n] >= 0\n    input t: real[n] in [0, 1]\n"
RULES: dict[str, Callable[[Question], object]] = {
    "convex": of_convexity,
    "concave": of_convexity,
    "strictly convex": of_convexity,
    "strictly concave": of_convexity,
    "increasing": of_order,
    "decreasing": of_order,
    "strictly increasing": of_order,
    "strictly decreasing": of_order,
    "lipschitz": of_lipschitz,
    "non-negative": of_bound,
    "positive": of_bound,
    "minimum": of_minimum,
    "unique minimum": of_minimum,
    "smooth": of_smoothness,
    "C0": of_smoothness,
}


def proved(body: str, claim: str) -> bool:
    loss = built(f"loss f:\n{HEAD}    per = {body}\n    return mean(per)\n    claim {claim}\n")
    questions = of_claim(loss, loss.claims[0])
    try:
        for q in questions:
            RULES[q.property](q)
    except Stuck:
        return False
    return True


@pytest.mark.parametrize(
    ("body", "claim", "true"),
    [
        ("logcosh(x - y)", "strictly convex in x", True),
        ("w * logcosh(x - y)", "convex in x", True),
        ("w * logcosh(x - y)", "strictly convex in x", False),  # w may be 0
        ("abs(x - y)", "convex in x", True),
        ("-abs(x - y)", "convex in x", False),
        ("-abs(x - y)", "concave in x", True),
        ("abs(1 - x) + x", "convex in x", True),
        ("-3 * abs(y - x) + 3 * x^2", "convex in x", False),  # a corner that points up between two convex pieces
        ("(0 if x < 0 else 1)", "increasing in x", False),  # a jump: the derivative is 0 on both sides
        ("(0 if x < 0 else 1)", "lipschitz in x", False),
        ("(x if x <= 0 else x + 1)", "strictly increasing in x", False),
        ("(x if x < 1 else 2 * x - 1)", "strictly increasing in x", True),
        ("(x if x < 1 else 2 * x - 1)", "convex in x", True),
        ("(2 * x if x < 1 else x + 1)", "convex in x", False),
        ("(2 * x if x < 1 else x + 1)", "concave in x", True),
        ("(2 * x if -x > -1 else x + 1)", "convex in x", False),  # the same one, the condition turned
        ("x^4", "strictly convex in x", True),  # the second derivative is 0 at one place
        ("x^3", "strictly increasing in x", True),
        ("x^3", "convex in x", False),
        ("s * x", "increasing in x", False),
        ("s * x", "lipschitz in x <= 1", True),
        ("s * x", "lipschitz in x <= 0.99", False),
        ("softplus(-s * x)", "lipschitz in x <= 1", True),
        ("softplus(-2 * s * x)", "lipschitz in x <= 1", False),
        ("t * softplus(x) + (1 - t) * softplus(-x)", "lipschitz in x <= 1", True),
        ("(4 * t * (1 - t)) * x", "lipschitz in x <= 0.9", False),  # largest inside: not affine in t
        ("(x if t > 0.5 else 3 * x)", "lipschitz in x <= 1", False),
        ("(x if t > 0.5 else 3 * x)", "lipschitz in x <= 3", True),
        ("relu(1 - s * x)^2", "convex in x", True),
        ("sin(x)", "lipschitz in x <= 1", True),
        ("sin(x)", "convex in x", False),
        ("atan(x)", "strictly increasing in x", True),
        ("xlogy(p, p) + xlogy(1 - p, 1 - p)", "strictly convex in p", True),
        ("sqrt(p)", "lipschitz in p", False),
        ("p^2", "lipschitz in p <= 2", True),
        ("p^2", "lipschitz in p <= 1.9", False),
        ("(p if p > 0 else 5)", "increasing in p", False),  # a jump at the end of the domain
        ("(x - 1)^3", "increasing in x on x >= 1", True),
        ("(x - 1)^2", "increasing in x on x >= 1", True),
        ("(x - 1)^2", "increasing in x on x >= 0", False),
        ("(x - 1)^2", "decreasing in x on x <= 1", True),
        ("(x - y)^2", "strictly increasing in x on x >= y", True),
        ("(x - y)^2", "strictly decreasing in x on x >= y", False),
        ("(y - x)^3", "decreasing in x on x >= y", True),
        ("exp(x)", "per > 0", True),
        ("x^2", "per >= 0", True),
        ("x^2", "per > 0", False),
        ("x^2 - 1/1000000", "per >= 0", False),
        ("exp(x - y) - (x - y) - 1", "per >= 0", True),
        ("(x - y)^2 / 2 if abs(x - y) <= 1 else abs(x - y) - 1/2", "unique minimum of per at x == y", True),
        ("logcosh(x - y)", "unique minimum of per at x == y", True),
        ("relu(abs(x - y) - 1)", "minimum of per at x == y", True),
        ("relu(abs(x - y) - 1)", "unique minimum of per at x == y", False),
        ("logcosh(x - y + 1/1024)", "minimum of per at x == y", False),
        ("(x - y)^2 if x >= y else 0", "unique minimum of per at x == y", False),
        ("abs(x - y)", "C0 in x", True),
        ("abs(x - y)", "C1 in x", False),
        ("(x - y)^2 / 2 if abs(x - y) <= 1 else abs(x - y) - 1/2", "C1 in x", True),
        ("(x - y)^2 / 2 if abs(x - y) <= 1 else abs(x - y) - 1/2", "C2 in x", False),
        ("(2 * x^3 if x > y else x)", "C0 in x", False),
        ("(0 if x < 1 else 1e-9)", "C0 in x", False),
        ("relu(x)^3", "C2 in x", True),
        ("relu(x)^3", "smooth in x", False),
        ("softplus(x) if x > -x else softplus(x)", "smooth in x", False),  # true, but no box says so
        ("x * abs(x)", "C1 in x", True),
        ("(5 if x == 0 else x^2)", "C0 in x", False),  # a value of its own where two boxes meet
        ("(-1 if x == 0 else x^2)", "per >= 0", False),
        ("(-1 if x == 0 else abs(x))", "per >= 0", False),
        ("(5 if x == 1 else x)", "increasing in x", False),
        ("(9 if x == y else (x - y)^2)", "minimum of per at x == y", False),
        ("(1 if t == 0.5 else 0) * x", "lipschitz in x <= 1/2", False),
        ("floor(x)", "C0 in x", False),
        ("floor(x) + abs(x)", "C0 in x", False),
        ("floor(x)", "lipschitz in x", False),
        ("-floor(x) * abs(sign(x))", "per >= 0", False),
        ("x * abs(x - 1)", "C1 in x", False),
        ("exp(y - x) - (y - x)", "minimum of per at x == y", True),
        ("exp(log(w) - x)", "per > 0", False),  # nothing is said where there is no value: w may be 0
        ("softplus(x - log(w))", "increasing in x", False),
        ("(x - 1 / w)^2", "convex in x", False),
        ("softplus(x - log(t - 1/2))", "lipschitz in x <= 1", False),
        ("(x - y)^2 / (1 + sqrt(1 + (x - y)^2))", "strictly convex in x", True),  # up to infinity
        ("(x - y)^2 / (1 + sqrt(1 + (x - y)^2))", "lipschitz in x <= 1", True),
        ("(x - y)^2 / (1 + sqrt(1 + (x - y)^2))", "lipschitz in x <= 0.99", False),
        ("sqrt(1 + x^2)", "lipschitz in x <= 1", True),
        ("sqrt(1 + x^2)", "strictly convex in x", True),
        ("sqrt(1 + x^2) - x", "strictly decreasing in x", True),
        ("sqrt(1 + x^2) - 0.999 * x", "decreasing in x", False),
        ("x^2 / (1 + abs(x))", "lipschitz in x <= 1", True),
        ("x^2 / (1 + x)", "lipschitz in x <= 1", False),
        ("2 * (x - y)^2 / ((x - y)^2 + 4)", "lipschitz in x <= 0.65", True),
        ("2 * (x - y)^2 / ((x - y)^2 + 4)", "lipschitz in x <= 0.64", False),
        ("2 * (x - y)^2 / ((x - y)^2 + 4)", "unique minimum of per at x == y", True),
        ("2 * (x - y)^2 / ((x - y)^2 + 4)", "convex in x", False),
        ("log1p((x - y)^2)", "lipschitz in x <= 1.01", True),
        ("log1p((x - y)^2)", "lipschitz in x <= 0.99", False),
        ("log1p((x - y)^2) * x", "lipschitz in x", False),
        ("x^3 / (1 + x^2) + x", "strictly increasing in x", True),
        ("x^3 / (1 + x^2) - x", "increasing in x", False),
        ("min((x - y)^2, 1)", "unique minimum of per at x == y", True),  # it does not move far from the place
        ("min((x - y)^2, 1)", "strictly increasing in x on x >= y", False),
        ("(0 if abs(x - y) < 1/1024 else abs(x - y) - 1/1024)", "unique minimum of per at x == y", False),
        ("(t if x - y >= 0 else 1 - t) * (x - y)^2", "minimum of per at x == y", True),
        ("(2 if x - y >= 0 else -1) * (x - y)^2", "minimum of per at x == y", False),
        ("(x - y)^2 + (1 if x == y else 0)", "minimum of per at x == y", False),
        ("(x - y)^2 + (1 if x == y else 0)", "increasing in x on x >= y", False),
        ("(t * x^2 if t > 1/2 else -t * x^2)", "convex in x", False),
        ("(t * x^2 if t > 1/2 else logcosh(t * x))", "convex in x", True),
        ("(x^2 if t <= 1 else -x^2)", "convex in x", True),
        ("(x^2 if t < 1 else -x^2)", "convex in x", False),
        ("(-x^2 if t == 1/2 else x^2)", "convex in x", False),
        ("(-x^2 if p == 1/3 else x^2)", "convex in x", False),
        ("relu(x - 1/10) + relu(x - 1/3)", "convex in x", True),
        ("relu(x - 1/10) - relu(x - 1/3)", "convex in x", False),
        ("relu(x - y) - x * t / 3", "convex in x", True),
        ("2 * relu(y - x) - x", "decreasing in x", True),
        ("2 * relu(y - x) + x", "increasing in x", False),
        ("relu(x - y) / 2 - x", "strictly decreasing in x", True),
        ("relu(x - y) - x", "strictly decreasing in x", False),
        ("softplus(x) - softplus(x - 1)", "strictly increasing in x", True),
        ("softplus(x) - softplus(x - 1)", "convex in x", False),
        ("exp(x) * x - exp(x)", "increasing in x", False),
        ("exp(2 * logsigmoid(x)) * softplus(x)", "lipschitz in x <= 6/5", True),
        ("exp(2 * logsigmoid(x)) * softplus(x)", "lipschitz in x <= 1", False),
    ],
)
def test_statements(body: str, claim: str, true: bool) -> None:
    assert proved(body, claim) is true


@pytest.mark.parametrize("claim", ["convex in x", "increasing in x on x >= 0", "per >= 0", "per > 0 on x > 1"])
@pytest.mark.parametrize("over", ["[0, 1)", "(0, 1]", "(0, 1)", "[0, 1]"])
@pytest.mark.parametrize(
    ("body", "true"), [("(1 - 2 * u) * x^2", False), ("(2 * u - 1) * x^2", False), ("(1 + u) * x^2", True)]
)
def test_no_end_of_a_range_stands_for_all_of_it(claim: str, over: str, body: str, true: bool) -> None:
    """An element that is affine in a number is looked at at both ends of its range, whichever of them belong to it."""
    loss = built(
        f"loss f:\n    input x: real[n]\n    param u: real in {over}\n    per = {body}\n    return mean(per)\n    claim {claim}\n"
    )
    holds = True
    for q in of_claim(loss, loss.claims[0]):
        try:
            RULES[q.property](q)
        except Stuck:
            holds = False
    assert holds <= true
    assert holds or not true or " on " in claim


@pytest.mark.parametrize(
    ("body", "claim", "true"),
    [
        ("sum(z^2 over c)", "strictly convex in z", True),
        ("sum(z^2 over c) / size(c) + 3", "strictly convex in z", True),
        ("3 - sum(z^2 over c)", "strictly convex in z", False),
        ("-2 * sum(z^2 over c)", "strictly convex in z", False),
        ("sum(z^2 over c where c != 1)", "strictly convex in z", False),
        ("sum((z[c = 0] + 0 * z)^2 over c)", "strictly convex in z", False),
        ("sum(logcosh(z - v[n]) over c)", "strictly convex in z", True),
        ("sum((z - z[c = 0])^2 over c)", "strictly convex in z", False),
        ("sum(v * z^2 over c)", "strictly convex in z", False),
        ("0 * sum(z^2 over c)", "strictly convex in z", False),
        ("sum(z^2 over c) * sum(z^2 over c)", "convex in z", False),
        ("sum((v[n] - v[i])^2 over i)", "strictly convex in v", False),
        ("sum(logcosh(z - v[n]) over c) + logsumexp(z over c)", "strictly convex in z", True),
        ("sum(abs(z) over c) + (1 + sum(z^2 over c))", "strictly convex in z", True),
        ("mean(softplus(-z) over c) + mean(softplus(mean(z over c) - v[i]) over i)", "strictly convex in z", True),
        ("logsumexp(z over c) + sum(abs(z) over c)", "strictly convex in z", False),
        ("sum(z^2 over c where c != 1) + logsumexp(z over c)", "strictly convex in z", False),
        ("sum(z^2 over c) - logsumexp(z over c)", "strictly convex in z", False),
        ("sum(z^2 over c) + -sum(z^2 over c)", "strictly convex in z", False),
        ("sum(z^2 over c) + v * sum(abs(z) over c)", "strictly convex in z", False),
        ("z[n, 0]^2 + logsumexp(z over c)", "strictly convex in z", False),
        ("v^2 + sum(abs(z) over c)", "strictly convex in z", False),
    ],
)
def test_sums_of_what_is_convex_in_an_entry_of_its_own(body: str, claim: str, true: bool) -> None:
    head = "    input z: real[n, c]\n    input v: real[n]\n    axis i = n\n"
    loss = built(f"loss f:\n{head}    per[n] = {body}\n    return mean(per)\n    claim {claim}\n")
    (q,) = of_claim(loss, loss.claims[0])
    if true:
        assert of_convexity(q)
        return
    with pytest.raises(Stuck):
        of_convexity(q)


@pytest.mark.parametrize(
    ("body", "claim", "true"),
    [
        ("sum(relu(z)^2 over c)", "C1 in z", True),
        ("sum(relu(z)^2 over c)", "C2 in z", False),
        ("3 + sum(relu(z) over c) / 2", "C0 in z", True),
        ("sum(relu(z) over c)", "C1 in z", False),
        ("sum(relu(z) * z[c = 0] over c)", "C1 in z", False),
        ("sum(relu(z)^2 over c where z > 1)", "C1 in z", False),
        ("sum((0 if z < 1 else 1) over c)", "C0 in z", False),
    ],
)
def test_sums_are_as_smooth_as_their_terms(body: str, claim: str, true: bool) -> None:
    loss = built(f"loss f:\n    input z: real[n, c]\n    per[n] = {body}\n    return mean(per)\n    claim {claim}\n")
    (q,) = of_claim(loss, loss.claims[0])
    if true:
        assert of_smoothness(q)
        return
    with pytest.raises(Stuck):
        of_smoothness(q)


def bracketed(body: str, property_: str, low: float | None, high: float | None, wrt: str = "x") -> bool:
    program = built(f"loss f:\n{HEAD}    per = {body}\n    return mean(per)\n").program
    try:
        of_bracket(Question(program, property_, "per", (wrt,), bracket=(low, high)))
    except Stuck:
        return False
    return True


@pytest.mark.parametrize(
    ("body", "property_", "number"),
    [
        ("softplus(x)", "lipschitz constant", 1.0),
        ("softplus(x)", "gradient lipschitz constant", 0.25),
        ("3 * logcosh(x - y)", "gradient lipschitz constant", 3.0),
        ("logcosh(2 * (y - x))", "gradient lipschitz constant", 4.0),
        ("t * x^2 + (1 - t) * x^2 / 2", "gradient lipschitz constant", 2.0),
        ("tanh(x)^2", "lipschitz constant", 4 / 27**0.5),
        ("exp(-p^2)", "gradient lipschitz constant", 2.0),
        ("x^2 + logcosh(x)", "strong convexity modulus", 2.0),
        ("x^2 / 2 if abs(x) <= 1 else abs(x) - 1/2", "gradient lipschitz constant", 1.0),
        ("min(x^2, 1)", "lipschitz constant", 2.0),
        ("1 - p * p / 4", "lipschitz constant", 0.5),
        ("exp(-(x - y)^2 / 2)", "lipschitz constant", 0.6065306597),
        ("sqrt((x - y)^2 + 1/1000000)", "lipschitz constant", 1.0),
        ("expm1(1/2 * log1p((x - y)^2))", "gradient lipschitz constant", 1.0),
        ("relu(abs(x - y) - 1/10)", "lipschitz constant", 1.0),
        ("x^2 / 2 if abs(x) <= 1/10 else abs(x) / 10 - 1/200", "gradient lipschitz constant", 1.0),
        ("1 - (1 - ((x - y) / 4.7)^2)^3 if abs(x - y) <= 4.7 else 1", "lipschitz constant", 1.7173002 / 4.7),
        ("y - x + 20 * (relu(x - y) + relu(y - 1))", "lipschitz constant", 19.0),
        ("abs(x - y) - 3 * x + x * t", "lipschitz constant", 4.0),
    ],
)
def test_numbers_between_ends(body: str, property_: str, number: float) -> None:
    wrt = "x" if "x" in body.replace("exp", "") else "p"
    low, high = number * (1 - 1e-3), number * (1 + 1e-3)
    assert bracketed(body, property_, low, high, wrt)
    if property_ != "strong convexity modulus":
        assert not bracketed(body, property_, low, low, wrt)  # too small
        assert not bracketed(body, property_, high, high, wrt)  # it is nowhere so large
    else:
        assert not bracketed(body, property_, high, high, wrt)
        assert not bracketed(body, property_, low, low, wrt)


@pytest.mark.parametrize(
    ("body", "radius"),
    [
        ("log1p(x^2)", 1.0),
        ("log1p((3 * (x - y))^2)", 1 / 3),
        ("2 - 2 * exp(-((y - x) / 4)^2 / 2)", 4.0),
        ("(y - x)^2 / (1 + (y - x)^2)", 3**-0.5),
        ("(t * logcosh(x) if t > 0 else log1p(x^2))", 1.0),  # for a number that is another case
        ("sigmoid(-2 * s * x)^2", 0.5 * 0.6931471805599453),  # where it is sigmoid(u) = 1 / 3
    ],
)
def test_a_radius_of_convexity(body: str, radius: float) -> None:
    low, high = radius * (1 - 1e-3), radius * (1 + 1e-3)
    assert bracketed(body, "convex radius", low, high)
    assert bracketed(body, "convex radius", low, None)
    assert not bracketed(body, "convex radius", low, low)
    assert not bracketed(body, "convex radius", high, high)
    assert not bracketed(body, "convex radius", None, high)


@pytest.mark.parametrize(
    "body",
    [
        "log1p((x - y - 1)^2)",  # about another place than the distance
        "log1p((x + y)^2)",
        "log1p((t * (x - y))^2)",  # of no one scale
        "min((x - y)^2, 1/4)",  # a corner ends it before
        "abs((x - y)^2 - 1/4)",
    ],
)
def test_no_radius_of_another_distance(body: str) -> None:
    assert not bracketed(body, "convex radius", 0.9, 1.1)


@pytest.mark.parametrize(("high", "true"), [(0.0963, True), (0.0962, False)])
@pytest.mark.parametrize("body", ["sigmoid(u - y - x)", "sigmoid(x - y - u)", "1 - sigmoid(u - y - x)"])
def test_upper_ends_over_all_real_numbers(body: str, high: float, true: bool) -> None:
    program = built(f"loss f:\n    input u: real[n] <= 0\n{HEAD}    per = {body}\n    return mean(per)\n").program
    asked = Question(program, "gradient lipschitz constant", "per", ("u",), bracket=(None, high))
    if true:
        assert of_bracket(asked)[1] == ["everywhere"]
    else:
        with pytest.raises(Stuck):
            of_bracket(asked)


@pytest.mark.parametrize(
    "body", ["abs(x)", "relu(x)", "(x^2 if x < 0 else x)", "relu(x - 1/10)", "relu(x - y) - x", "min(x^2, 1/100 * x)"]
)
def test_a_gradient_that_jumps_has_no_lipschitz_constant(body: str) -> None:
    assert not bracketed(body, "gradient lipschitz constant", None, 1e6)


def test_what_an_entry_on_a_simplex_cannot_reach_is_no_lower_end() -> None:
    program = built(
        "loss f:\n    input q: simplex[n, c] over c\n    per = sum(q over c)\n    return mean(per)\n"
    ).program
    with pytest.raises(Stuck):
        of_bracket(Question(program, "lipschitz constant", "per", ("q",), bracket=(0.5, 2.0)))


@pytest.mark.parametrize(
    ("declared", "body", "property_", "low", "high"),
    [
        ("x: real[n]", "x * relu(f[n, 0] - f[n, argmax(f over c)])", "lipschitz constant", 0.5, 1.0),  # it is 0
        ("x: real[n]", "(atan(x) if b else 2 * atan(x))", "lipschitz constant", 1.9, 2.0),  # b is left out
        ("x: real[n, 2]", "x[n, 0]^2", "strong convexity modulus", 2.0, None),  # constant in x[n, 1]
        ("x: real[n, c]", "x[n, k[n]]^2", "strong convexity modulus", 1.9, 2.1),
    ],
)
def test_ends_that_are_none(declared: str, body: str, property_: str, low: float, high: float | None) -> None:
    head = f"input {declared}\n    input f: real[n, c] in [0, 1]\n    input k: class[n] of c\n    input b: bool[n] = true\n"
    program = built(f"loss f:\n    {head}    per[n] = {body}\n    return mean(per)\n").program
    with pytest.raises(Stuck):
        of_bracket(Question(program, property_, "per", ("x",), bracket=(low, high)))


@pytest.mark.parametrize(
    "body",
    ["z[n, 0, 0]^2", "z[n, k[n], 0]^2", "sum(z[n, c, 0]^2 over c)", "sqrt(q^2 + z[n, 0, 0]^2)", "z[n, 0, 1]^4"],
)
def test_entries_of_the_row_that_are_not_read(body: str) -> None:
    head = "    input z: real[n, c, 2]\n    input k: class[n] of c\n    param q: real > 0\n"
    loss = built(f"loss f:\n{head}    per[n] = {body}\n    return mean(per)\n    claim strictly convex in z\n")
    (q,) = of_claim(loss, loss.claims[0])
    for rule in (of_convexity, of_units):
        with pytest.raises(Stuck):
            rule(q)


# ---------------------------------------------------------------------------------------------- random elements

Body = tuple[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]


def drawn(rng: random.Random, depth: int) -> Body:
    """An element of u and t, as it is written and as it is computed."""
    if depth == 0 or rng.random() < 0.15:
        k = rng.choice(["1", "2", "1/2", "-1", "3/4"])
        return rng.choice(
            [
                ("(x - y)", lambda u, t: u),
                (f"({k} * (x - y))", lambda u, t: _number(k) * u),
                ("t", lambda u, t: t + 0 * u),
                (k if k != "-1" else "(-1)", lambda u, t: _number(k) + 0 * u),
            ]
        )
    a, f = drawn(rng, depth - 1)
    if rng.random() < 0.5:
        name, g = rng.choice(UNARY)
        return name.format(a), lambda u, t: g(f(u, t))
    b, h = drawn(rng, depth - 1)
    name, binary = rng.choice(BINARY)
    return name.format(a, b), lambda u, t: binary(f(u, t), h(u, t))


def _number(k: str) -> float:
    top, _, bottom = k.partition("/")
    return float(top) / float(bottom or 1)


UNARY: list[tuple[str, Callable[[np.ndarray], np.ndarray]]] = [
    ("tanh({})", np.tanh),
    ("softplus({})", lambda v: np.logaddexp(0, v)),
    ("abs({})", np.abs),
    ("relu({})", lambda v: np.maximum(v, 0)),
    ("({})^2", lambda v: v * v),
    ("exp(-({})^2)", lambda v: np.exp(-v * v)),
    ("sqrt(1 + ({})^2)", lambda v: np.sqrt(1 + v * v)),
    ("log1p(({})^2)", lambda v: np.log1p(v * v)),
    ("atan({})", np.arctan),
    ("clamp({}, -1, 1/2)", lambda v: np.clip(v, -1, 0.5)),
]
BINARY: list[tuple[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]] = [
    ("({} + {})", np.add),
    ("({} - {})", np.subtract),
    ("({} * {})", np.multiply),
    ("max({}, {})", np.maximum),
    ("min({}, {})", np.minimum),
]
GRID = np.unique(np.concatenate([np.linspace(-8, 8, 4001), np.linspace(-60, 60, 301), [-1e3, 1e3]]))
PLACES = np.linspace(0, 1, 9)[:, None]


def values(f: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    with np.errstate(over="ignore"):
        return f(GRID[None, :] + 0 * PLACES, PLACES + 0 * GRID[None, :])


def holds(claim: str, v: np.ndarray) -> bool:
    """Whether a statement is true at the points of a grid, but for rounding."""
    size = 1e-9 * (1 + np.abs(v))
    step, rise = np.diff(GRID), np.diff(v, axis=1)
    room = size[:, 1:] + size[:, :-1]
    if claim == "increasing in x":
        return bool(np.all(rise >= -room))
    if claim.startswith("lipschitz"):
        return bool(np.all(np.abs(rise) <= float(claim.split("<= ")[1]) * step + room))
    if claim == "convex in x":
        slope, error = rise / step, room / step
        return bool(np.all(np.diff(slope, axis=1) >= -(error[:, 1:] + error[:, :-1])))
    if claim == "minimum of per at x == y":
        return bool(np.all(v >= v[:, np.searchsorted(GRID, 0.0), None] - 2 * size.max(axis=1, initial=0)[:, None]))
    return bool(np.all(v >= -size))


CLAIMS = (
    *("convex in x", "increasing in x", "lipschitz in x <= 1", "lipschitz in x <= 2", "per >= 0"),
    "minimum of per at x == y",
)


@pytest.mark.parametrize("seed", range(8))
def test_random_elements(seed: int) -> None:
    """What is proved is true on a grid; half of what is true is proved."""
    rng = random.Random(seed)
    true = found = 0
    for _ in range(12):
        body, f = drawn(rng, 3)
        if "x" not in body.replace("exp", "").replace("max", ""):
            continue
        v = values(f)
        for claim in CLAIMS:
            if not holds(claim, v):
                assert not proved(body, claim), (body, claim)
                continue
            true += 1
            found += proved(body, claim)
    assert found >= 0.3 * true, (found, true)


@pytest.mark.parametrize("seed", range(4))
def test_derivatives_on_boxes_enclose(seed: int) -> None:
    """Differences of values, where the element is smooth, lie in the enclosures of the derivative."""
    rng = random.Random(100 + seed)
    compared = 0
    while compared < 40:
        body, f = drawn(rng, 3)
        if "x" not in body.replace("exp", "").replace("max", ""):
            continue
        program = built(f"loss f:\n{HEAD}    per = {body}\n    return mean(per)\n").program
        try:
            curve = Curve(Question(program, "lipschitz", "per", ("x",), {"x": Enclosure(-1e9, 1e9)}))
        except Stuck:
            continue
        for _ in range(6):
            a, b = sorted(rng.uniform(-3, 3) for _ in range(2))
            sides = {"y": Enclosure(0.0, 0.0), "t": Enclosure(*sorted(rng.random() for _ in range(2)))}
            others = [sides[n.tensor] for n in curve.others if isinstance(n, Read)]
            box = Box(Enclosure(a, b, True, True), tuple(others))
            for order in (0, 1, 2):
                try:
                    found = curve.closer(order, box, curve.derivative(order, box))
                except (Undecided, Stuck, ZeroDivisionError):
                    continue
                u, h = rng.uniform(a, b), min(1e-4, (b - a) / 8)
                u = min(max(u, a + 2 * h), b - 2 * h)
                at = [float(f(np.array(u + k * h), np.array(sides["t"].lo))) for k in (-1, 0, 1)]
                value = (at[1], (at[2] - at[0]) / (2 * h), (at[2] - 2 * at[1] + at[0]) / h**2)[order]
                slack = (1e-9, 1e-5, 1e-4)[order] * (1 + abs(value))
                assert found.lo - slack <= value <= found.hi + slack, (body, order, u, sides, str(found))
                compared += 1


FAR = ["(({})^2 + 1) / (1 + abs({}))", "({}) / sqrt(1 + ({})^2)", "({})^3 / (2 + ({})^2)", "relu({}) - log1p(abs({}))"]
FAR += ["1 - exp(-({})^2 / 2)", "({}) * exp(-abs({}))", "expm1(1/2 * log1p(({})^2))", "exp(1/4 * log1p(({})^2))"]


@pytest.mark.parametrize("seed", range(4))
def test_derivatives_far_out_enclose(seed: int) -> None:
    """Those at single places lie in those up to infinity."""
    rng = random.Random(200 + seed)
    compared = 0
    while compared < 60:
        body, _ = drawn(rng, 2)
        body = rng.choice([*FAR, "({}) + {}"]).replace("{}", body)
        if "x" not in body.replace("exp", "").replace("max", ""):
            continue
        program = built(f"loss f:\n{HEAD}    per = {body}\n    return mean(per)\n").program
        try:
            curve = Curve(Question(program, "lipschitz", "per", ("x",)))
        except Stuck:
            continue
        lo, sign = rng.choice([0.5, 1.0, 3.0, 8.0]), rng.choice([-1, 1])
        numbers = [rng.random() for _ in curve.others]
        others = tuple(Enclosure(v, v) for v in numbers)
        for order in (0, 1, 2):
            try:
                far = Enclosure(lo, float("inf"), True, True) if sign > 0 else Enclosure(float("-inf"), -lo, True, True)
                found = curve.derivative(order, Box(far, others))
            except (Undecided, Stuck, ZeroDivisionError):
                continue
            for _ in range(5):
                x = sign * lo * 2 ** (rng.random() * rng.choice([1, 20]))
                try:
                    here = curve.derivative(order, Box(Enclosure(x, x), others))
                except (Undecided, Stuck, ZeroDivisionError):
                    continue
                assert found.lo <= here.hi, (body, order, x)
                assert here.lo <= found.hi, (body, order, x)
                compared += found.bounded


# ------------------------------------------------------------------------------------------------- documents


SOURCE = (
    "loss f:\n    input x, y: real[n]\n    per = softplus(x - y) + logcosh(x - y)\n    return mean(per)\n"
    "    claim lipschitz in x <= 2\n    claim per > 0\n    claim strictly convex in x\n"
)


def test_forged_brackets_and_boxes_are_rejected() -> None:
    source = Source("f.loss", SOURCE)
    checked = pipeline.check(source)
    made = json.loads(json.dumps(certify(source, checked.analysis.losses, checked.reports)))
    assert verify(made).entries >= 8
    entries = made["losses"][0]["entries"]
    numbers = [e for e in entries if "bracket" in e]
    assert {e["finding"] for e in numbers} >= {"lipschitz constant", "gradient lipschitz constant"}
    boxed = [e for e in entries if "error" not in e and any("boxes" in p["rule"] for p in e.get("parts", ()))]
    assert len(boxed) >= 5
    forged = []
    for e in numbers:
        for k, factor in ((0, 1.01), (1, 0.99)):
            end = float.fromhex(e["bracket"][k])
            moved = (end * factor if end else -0.01).hex()
            forged.append((e, {**e, "bracket": [*e["bracket"][:k], moved, *e["bracket"][k + 1 :]]}))
    for e in boxed:
        part = e["parts"][0]
        without = {**part, "trace": part["trace"][1:]}
        forged.append((e, {**e, "parts": [without, *e["parts"][1:]]}))
        line = part["trace"][0]
        moved = {**part, "trace": [[*line[:-1], line[-1].replace("p", "q", 1)], *part["trace"][1:]]}
        forged.append((e, {**e, "parts": [moved, *e["parts"][1:]]}))
    for before, after in forged:
        losses = [{**made["losses"][0], "entries": [after if e is before else e for e in entries]}]
        with pytest.raises(Rejected):
            verify(sealed({**made, "losses": losses}))


def test_a_place_of_a_minimum_is_looked_at_from_both_sides() -> None:
    """That the value rises on one side says nothing of the other."""
    loss = built(f"loss f:\n{HEAD}    per = exp(x - y)\n    return mean(per)\n    claim minimum of per at x == y\n")
    (q,) = of_claim(loss, loss.claims[0])
    with pytest.raises(Stuck):
        of_minimum(q)
    assert q.place is not None
    assert of_order(replace(q, property="strictly increasing", place=None))
