"""Where gradients vanish and explode: verdicts and regions against the definition on a dense grid of numbers."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from lossdsl import pipeline
from lossdsl.diagnostics import Source
from lossdsl.explain import explain
from lossdsl.verify import profile
from lossdsl.verify.context import Context
from lossdsl.verify.signs import Budget
from lossdsl.verify.verdict import Proved, Refuted, Unknown, Verdict
from tests.profile_formulas import GRID, distances, formula
from tests.profile_formulas import truth as formulas_truth

Function = Callable[[np.ndarray], np.ndarray]

# What is written, the same in numpy, whether its gradient vanishes, whether it explodes. None: where it is at its edge.
LOSSES: dict[str, tuple[Function, bool, bool]] = {
    "x^2": (lambda x: x**2, False, True),
    "x^2 / 1000": (lambda x: x**2 / 1000, False, True),
    "abs(x)": (np.abs, False, False),
    "max(abs(x) - 2, 0)": (lambda x: np.maximum(np.abs(x) - 2, 0), False, False),
    "huber(x, 1)": (lambda x: np.where(np.abs(x) < 1, x**2 / 2, np.abs(x) - 0.5), False, False),
    "log1p(x^2)": (lambda x: np.log1p(x**2), True, False),
    "x^2 / (1 + x^2)": (lambda x: x**2 / (1 + x**2), True, False),
    "-expm1(-x^2 / 8)": (lambda x: -np.expm1(-(x**2) / 8), True, False),
    "exp(x) + exp(-x)": (lambda x: np.exp(x) + np.exp(-x), False, True),
    "softplus(-x)": (lambda x: np.logaddexp(0, -x), False, False),
    "exp(-x)": (lambda x: np.exp(-x), False, True),
    "exp(1 - x)": (lambda x: np.exp(1 - x), False, True),
    "sigmoid(-x)": (lambda x: 1 / (1 + np.exp(x)), True, False),
    "sigmoid(-x)^2": (lambda x: 1 / (1 + np.exp(x)) ** 2, True, False),
    "log1p(-sigmoid(x))": (lambda x: -np.logaddexp(0, x), True, False),
    "relu(1 - x)": (lambda x: np.maximum(1 - x, 0), False, False),
    "relu(1 - x)^2": (lambda x: np.maximum(1 - x, 0) ** 2, False, True),
    "min(x^2, 4)": (lambda x: np.minimum(x**2, 4), True, False),
    "sqrt(1 + x^2)": (lambda x: np.sqrt(1 + x**2), False, False),
    "logcosh(x - 3)": (lambda x: np.logaddexp(x - 3, 3 - x), False, False),
    "x^2 / (1 + sqrt(1 + x^2))": (lambda x: np.sqrt(1 + x**2) - 1, False, False),
    "exp(x) - x": (lambda x: np.exp(x) - x, True, True),
    "softplus(x) - softplus(x - 1)": (lambda x: np.logaddexp(0, x) - np.logaddexp(0, x - 1), True, False),
    "sigmoid(x)^2 * softplus(x)": (lambda x: np.logaddexp(0, x) / (1 + np.exp(-x)) ** 2, False, False),
    "(x - 20)^4": (lambda x: (x - 20) ** 4, False, True),
}


def verdicts(body: str, lines: str = "") -> tuple[Verdict, Verdict]:
    text = f"loss l:\n    input x: real[n]\n{lines}    per[n] = {body.replace('huber(x, 1)', '(x^2 / 2 if abs(x) < 1 else abs(x) - 0.5)')}\n    return mean(per)\n"
    analysis = pipeline.analyse(Source("<test>", text))
    (built,) = analysis.losses
    ctx = Context(built.program, budget=Budget.of(1), seconds=0.2)
    return profile.vanishing(ctx, "per", ("x",)), profile.exploding(ctx, "per", ("x",))


def truth(f: Function) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A grid, and at each point of it by how much the gradient is too small (large) there: above 1 where it vanishes
    (explodes), from the definition and differences."""
    side = np.concatenate([np.linspace(0, 60, 12001), np.geomspace(60, 700, 400)])
    x = np.unique(np.concatenate([-side, side]))
    with np.errstate(all="ignore"):
        value, h = f(x), 1e-5
        slope = np.abs(f(x + h) - f(x - h)) / (2 * h)
        least, most = value.min(), value.max()
        inner, outer = value[np.abs(x) < 300].min(), f(np.array([1e8, -1e8])).min()
        near = x[(value <= least + 1e-9) & (np.abs(x) < 300)] if inner <= outer else np.array([])
        distance = distances(x, near) if near.size else np.abs(x)
        bounded = f(np.array([1e8, -1e8])).max() < 2 * abs(most) + 1
        high = (value >= (least + most) / 2) & bounded | (distance >= 10) & (near.size > 0)
        large = slope[distance <= 10].max()
        usual = slope[np.abs(distance - 1) < 0.003].max()
        return x, np.where(high, large / 1000 / np.maximum(slope, 1e-300), 0), slope / (1000 * usual)


@pytest.mark.parametrize("body", sorted(LOSSES))
def test_verdicts(body: str) -> None:
    _, *wanted = LOSSES[body]
    for verdict, true in zip(verdicts(body), wanted, strict=True):
        assert isinstance(verdict, Proved if true else Refuted), (body, verdict)


def regions(verdict: Proved) -> list[tuple[float, float]]:
    found = []
    for step in verdict.steps:
        number = r"(-?[\d.]+(?:e[+-]?\d+)?)"
        text = step.conclusion.partition(" for ")[2]
        if m := re.fullmatch(rf"x\[n\] >= {number}", text):
            found.append((float(m[1]), np.inf))
        elif m := re.fullmatch(rf"x\[n\] <= {number}", text):
            found.append((-np.inf, float(m[1])))
        else:
            m = re.fullmatch(rf"x\[n\] in \[{number}, {number}\]", text)
            assert m, text
            found.append((float(m[1]), float(m[2])))
    return found


@pytest.mark.parametrize("body", sorted(b for b, (_, *w) in LOSSES.items() if any(w)))
def test_regions_are_where_it_is_true_and_nearly_all_of_that(body: str) -> None:
    function, *_ = LOSSES[body]
    x, *degrees = truth(function)
    for verdict, degree in zip(verdicts(body), degrees, strict=True):
        if isinstance(verdict, Proved):
            inside = np.zeros(x.shape, bool)
            for lo, hi in regions(verdict):
                inside |= (lo <= x) & (x <= hi)
            assert (degree[inside] > 0.98).all(), (body, x[inside & (degree <= 0.98)])
            assert (inside | (degree < 1.3)).mean() > 0.98, (body, x[~inside & (degree >= 1.3)])


@pytest.mark.parametrize("seed", [1, *(pytest.param(s, marks=pytest.mark.slow) for s in range(2, 10))])
def test_random_losses_are_never_judged_wrongly(seed: int) -> None:
    """What is refuted is nowhere certainly true on a grid; what is proved may be true on all of its regions."""
    rng = np.random.default_rng(seed)
    decided, count = 0, 12 if seed == 1 else 100
    for _ in range(count):
        body, function = formula(rng, int(rng.choice([1, 2, 2, 3, 3])))
        known = formulas_truth(function)
        if known is None:
            continue
        sure = (known.vanishes, known.explodes)
        possible = (known.may_vanish, known.may_explode)
        for verdict, true, maybe in zip(verdicts(body), sure, possible, strict=True):
            decided += not isinstance(verdict, Unknown)
            if isinstance(verdict, Refuted):
                assert not true.any(), (body, verdict, GRID[true][:3])
            elif isinstance(verdict, Proved):
                for lo, hi in regions(verdict):
                    wrong = (lo <= GRID) & (hi >= GRID) & ~maybe
                    assert not wrong.any(), (body, (lo, hi), GRID[wrong][:3])
    assert decided > count / 2


# What else is read only scales and lifts the loss: the verdicts for one value are those for all.
ALIKE: dict[str, tuple[str, Function, bool, bool]] = {
    "x^2 / (2 * w) + log(w) / 2": ("input w: real[n] > 0", lambda x: x**2, False, True),
    "w * log1p(x^2)": ("input w: real[n] in [0.5, 2]", lambda x: np.log1p(x**2), True, False),
    "a * log1p(x^2) + w": ("param a: real > 0 = 1\n    input w: real[n]", lambda x: np.log1p(x**2), True, False),
    "exp(w) * (abs(x) if x < 1 else 2 * x - 1)": ("input w: real[n]", np.abs, False, False),
    "-w * exp(-x^2 / 8) + w * exp(w)": ("input w: real[n] >= 1", lambda x: -np.exp(-(x**2) / 8), True, False),
    "abs(x) + relu(w) + min(w, 1)": ("input w: real[n]", np.abs, False, False),
    "2 * relu(x - w) - x + relu(w)": ("input w: real[n]", np.abs, False, False),
    "exp(w) * x / 2 + abs(w)": ("input w: real[n]", lambda x: x, False, False),
    "(x - 3)^2 / (1 + exp(w))": ("input w: real[n]", lambda x: (x - 3) ** 2, False, True),
}


@pytest.mark.parametrize("body", sorted(ALIKE))
def test_what_scales_and_lifts_may_be_open(body: str) -> None:
    lines, _, *wanted = ALIKE[body]
    for verdict, true in zip(verdicts(body, f"    {lines}\n"), wanted, strict=True):
        assert isinstance(verdict, Proved if true else Refuted), (body, verdict)
        assert "w[n]" not in str(verdict)


# Otherwise only what is found for one value is said: something that is true of it. (Proved or not to be decided, of both.)
OTHERS = {
    "exp(x) - w * x": ("input w: real[n] >= 0", True, True),
    "w * x^2": ("input w: real[n]", False, True),
    "log1p((x * w)^2)": ("input w: real[n]", True, True),
    "log1p((x / c)^2)": ("param c: real > 0 = 1", False, False),
    "c * x^2": ("param c: real = 1", False, False),
    "x^2 + w if x > 0 else x^2": ("input w: real[n]", False, True),
    "(x^2 if w > 0 else abs(x))": ("input w: real[n]", False, True),
    "x^2 if x > w else abs(x)": ("input w: real[n]", False, True),
    "w * softplus(x)": ("input w: real[n]", False, False),
    "min((x - w)^2, 4) + w": ("input w: real[n]", True, False),
    "mean(w * log1p(x^2) over n)": ("input w: real[n]", False, False),
}


@pytest.mark.parametrize("body", sorted(OTHERS))
def test_one_value_refutes_nothing(body: str) -> None:
    lines, *wanted = OTHERS[body]
    for verdict, true in zip(verdicts(body, f"    {lines}\n"), wanted, strict=True):
        assert isinstance(verdict, Proved if true else Unknown), (body, verdict)


def test_a_factor_that_may_be_0_explodes_nowhere() -> None:
    lost, large = verdicts("w * abs(x)", "    input w: real[n] in [0, 2]\n")
    assert isinstance(large, Refuted)
    assert isinstance(lost, Unknown)


@pytest.mark.parametrize(
    "body",
    [
        "x^2 if w > 0 else abs(x)",
        "max(x^2, w)",
        "(x^2 if x < w else abs(x))",
        "2 * relu(x - w) - x * w",
        "2 * relu(x - w) - x + relu(x - 1)",
        "w * abs(x) + relu(w)",
        "relu(x) + (relu(-x) if w > 0 else 2000 * relu(-x))",
    ],
)
def test_losses_of_several_shapes_are_not_refuted_by_one(body: str) -> None:
    assert not any(isinstance(v, Refuted) for v in verdicts(body, "    input w: real[n]\n"))


@pytest.mark.parametrize(("condition", "occurs"), [("w == 0", True), ("w == 1/3", False), ("w == -v", False)])
def test_a_case_has_to_occur(condition: str, occurs: bool) -> None:
    lines = "    input w: real[n] >= 0\n    input v: real[n] > 0\n"
    lost, _ = verdicts(f"log1p(x^2) if {condition} else abs(x)", lines)
    assert isinstance(lost, Proved) or not occurs
    assert not isinstance(verdicts(f"log1p(x^2) if {condition} else abs(x)", lines.replace(">= 0", "> 0"))[0], Proved)


def test_claims() -> None:
    text = """loss l:
    input score: real[n]
    input y: sign[n]
    param scale: real > 0 = 1
    per = sigmoid(-scale * y * score)
    return mean(per)
    claim vanishing gradient in score at defaults
    claim vanishing gradient in score when scale == 2
    claim not exploding gradient in score at defaults
    claim vanishing gradient in score
"""
    (report,) = pipeline.check(Source("<test>", text)).reports
    found = [type(c.verdict) for c in report.claims]
    assert found == [Proved, Proved, Refuted, Unknown]
    (line,) = [f for f in report.findings if f.property == "vanishing gradient"]
    assert isinstance(line.verdict, Proved)
    assert "score[n] <= -8" in line.verdict.method


def test_a_jump_before_an_infimum_far_out_is_not_judged() -> None:
    assert all(isinstance(v, Unknown) for v in verdicts("(exp(-x) + 1 if x < 100 else exp(-x))"))


def test_between_two_minimisers_is_not_near_one() -> None:
    """The derivative of (x^2 - 4096)^2 vanishes at 0, which is 64 away from either minimiser."""
    lost, large = verdicts("(x^2 - 4096)^2")
    assert not isinstance(lost, Refuted)
    assert isinstance(large, Proved)


def test_what_explains_that_there_is_no_such_place() -> None:
    source = Source("<test>", "loss l:\n    input r: real[n]\n    return mean(abs(r))\n")
    (shown,) = explain(source, "exploding gradient in r").explanations
    assert "Everywhere, the derivative is nowhere more than 1000 times" in str(shown.lines)


def test_a_condition_on_a_logarithm_is_not_one_on_the_variable() -> None:
    """The line is above the logarithm from 6.6 on, not from where it is above 0."""
    lost, large = verdicts("max(log1p((x - 28)^2 / 4), 11 * x / 10 - 13 / 5)")
    assert not isinstance(lost, Refuted)  # at -2000
    assert not isinstance(large, Proved)
