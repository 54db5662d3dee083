"""Numbers of losses: brackets against what is known of them, and against dense grids of numbers."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from lossdsl import pipeline
from lossdsl.diagnostics import Source
from lossdsl.explain import explain
from lossdsl.verify import brackets
from lossdsl.verify.context import Context
from lossdsl.verify.questions import subject
from lossdsl.verify.signs import Budget
from lossdsl.verify.verdict import QUANTITIES, Proved, Refuted, Step, Unknown, Verdict, Witness
from tests.profile_formulas import GRID, formula

WIDTH = 1.002  # how far apart two ends of four digits may be


def number(source: str, name: str) -> Verdict:
    (built,) = pipeline.analyse(Source("<test>", source)).losses
    of = subject(built, Context(built.program, budget=Budget.of(1), seconds=0.05))  # as the card asks
    assert of is not None
    return next(n for n in brackets.NUMBERS if n.name == name).decide(of)


def line(body: str, lines: str = "") -> str:
    return f"loss l:\n    input x: real[n]\n{lines}    per = {body}\n    return mean(per)\n"


def rows(body: str) -> str:
    return f"loss l:\n    input x: real[n, c]\n    per = {body}\n    return mean(per)\n"


# (what is written, the number, its value)
KNOWN = [
    (line("sqrt(1 + x^2)"), "lipschitz constant", 1.0),
    (line("log1p(x^2)"), "lipschitz constant", 1.0),
    (line("-expm1(-x^2 / 2)"), "lipschitz constant", math.exp(-0.5)),
    (line("max(3 * x, -x / 2)"), "lipschitz constant", 3.0),
    (line("1 / (1 + x^2)"), "lipschitz constant", 3 * math.sqrt(3) / 8),
    (line("softplus(s * x)", "    param s: real > 0 = 5\n"), "lipschitz constant", 5.0),
    (line("w * abs(x)", "    input w: real[n] in [0, 4] = 3\n"), "lipschitz constant", 3.0),
    (rows("logsumexp(x over c)"), "lipschitz constant", 1.0),
    (line("3 * x"), "gradient lipschitz constant", 0.0),
    (line("softplus(x)"), "gradient lipschitz constant", 0.25),
    (line("log1p(x^2)"), "gradient lipschitz constant", 2.0),
    (line("logcosh(3 * x)"), "gradient lipschitz constant", 9.0),
    (line("x^2 / 2 if abs(x) < 2 else 2 * abs(x) - 2"), "gradient lipschitz constant", 1.0),
    (line("7 * x^2 + x^4"), "strong convexity modulus", 14.0),
    (line("0.01 * x^2 + softplus(x)"), "strong convexity modulus", 0.02),
    (line("log1p(x^2)"), "convex radius", 1.0),
    (line("log1p((x / 20)^2)"), "convex radius", 20.0),
    (line("-expm1(-x^2 / 2)"), "convex radius", 1.0),
]


@pytest.mark.parametrize(("source", "name", "value"), KNOWN)
def test_a_known_number_is_enclosed_to_four_digits(source: str, name: str, value: float) -> None:
    verdict = number(source, name)
    assert isinstance(verdict, Proved), verdict
    assert verdict.value is not None
    low, high = verdict.value.lower, verdict.value.upper
    assert low is not None
    assert high is not None
    assert low <= value * (1 + 1e-12)
    assert value <= high * (1 + 1e-12)
    assert high <= WIDTH * low, (low, high)


def test_the_radius_is_that_of_the_residual() -> None:
    source = "loss l:\n    input a, b: real[n]\n    per = log1p((a - b)^2)\n    return mean(per)\n"
    verdict = number(source, "convex radius")
    assert verdict.value is not None
    assert verdict.value.lower == 1.0


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ("x^2", "lipschitz constant"),
        ("abs(x)", "gradient lipschitz constant"),
        ("x^4", "gradient lipschitz constant"),
        ("-x^2", "convex radius"),
    ],
)
def test_there_is_no_number_where_there_is_none(body: str, name: str) -> None:
    verdict = number(line(body), name)
    assert isinstance(verdict, Unknown), verdict


@pytest.mark.parametrize(("body", "radius"), [("min(x^2, 4)", 2.0), ("(x^2 if abs(x) < 1 else abs(x))", 1.0)])
def test_a_corner_ends_convexity(body: str, radius: float) -> None:
    verdict = number(line(body), "convex radius")
    assert isinstance(verdict, Proved), verdict
    assert verdict.value is not None
    low, high = verdict.value.lower, verdict.value.upper
    assert low is not None
    assert high is not None
    assert 0.9 * radius <= low <= radius <= high <= 1.2 * radius


def verdicts(truth: Fraction, open_: tuple[Fraction, Fraction]) -> brackets.Decide:
    """What is true from a number on, and not decided in an interval."""

    def decide(bound: Fraction) -> Verdict:
        if open_[0] <= bound <= open_[1]:
            return Unknown("open")
        if bound >= truth:
            return Proved("", (Step("", "", ""),))
        return Refuted("", Witness(({},), ""))

    return decide


@pytest.mark.parametrize("truth", [Fraction(1), Fraction(3, 7), Fraction(12345, 7), Fraction(1, 900)])
def test_bisection_comes_to_what_is_open_from_both_sides(truth: Fraction) -> None:
    found = brackets.Threshold(verdicts(truth, (truth * 9 / 10, truth * 11 / 10)), up=True)
    low, high = found.ends
    assert low is not None
    assert high is not None
    assert truth * 8 / 10 < low < truth < high < truth * 12 / 10
    exact = brackets.Threshold(verdicts(truth, (Fraction(-1), Fraction(-1))), up=True).ends
    assert exact[0] is not None
    assert exact[1] is not None
    assert exact[0] < truth <= exact[1] < WIDTH * exact[0]


@pytest.mark.parametrize("seed", [1, *(pytest.param(s, marks=pytest.mark.slow) for s in range(2, 8))])
def test_no_slope_on_a_grid_is_outside_of_its_bracket(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = 0
    for _ in range(6 if seed == 1 else 60):
        body, function = formula(rng, int(rng.choice([1, 2, 2, 3])))
        verdict = number(line(body), "lipschitz constant")
        with np.errstate(all="ignore"):
            slopes = np.abs(function(GRID)[1])
        steepest = float(slopes[np.isfinite(slopes)].max())
        if isinstance(verdict, Proved) and verdict.value is not None:
            found += 1
            assert verdict.value.upper is not None
            assert steepest <= verdict.value.upper * (1 + 1e-9), (body, verdict.value, steepest)
            if verdict.value.lower is not None:
                assert verdict.value.lower <= 1.01 * steepest, (body, verdict.value, steepest)
    assert found >= (1 if seed == 1 else 15)


def test_the_card_knows_all_numbers() -> None:
    assert set(QUANTITIES) == {"range", *(n.name for n in brackets.NUMBERS)}


def test_the_card_and_its_explanation() -> None:
    source = Source("<test>", line("log1p((x / s)^2)", "    param s: real > 0 = 2\n"))
    (report,) = pipeline.check(source).reports
    shown = {f.property: f for f in report.findings if f.property in {n.name for n in brackets.NUMBERS}}
    errors = {"error in float32", "gradient error in float32"}
    assert set(shown) == {"lipschitz constant", "gradient lipschitz constant", "convex radius", *errors}
    assert {n for n, f in shown.items() if f.when} == errors  # the others are expressions in s
    assert {f.when for f in shown.values()} == {"s == 2", ""}
    (told,) = explain(source, "convex radius").explanations
    assert told.status == "proved"
    assert "the convex radius in x is s." in told.conclusion.text()
    (told,) = explain(source, "gradient error in float16").explanations
    assert told.status == "proved"
    assert "the gradient error in float16 in x when s == 2 is at most 0.00049 * abs(exact) +" in told.conclusion.text()
    assert len(told.lines) > 3  # node by node
