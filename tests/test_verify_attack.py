"""The verifier under attack: random losses with an independent evaluator, and verdicts that were once wrong."""

from __future__ import annotations

from fractions import Fraction

import pytest

from lossdsl.diagnostics import Source
from lossdsl.pipeline import analyse
from lossdsl.verify import judged
from lossdsl.verify.context import Context
from lossdsl.verify.points import Point
from tests.test_verify import built
from tests.verify_attack import wrong_verdicts

# (declarations and body, claim, the verdict that is wrong)
ONCE_WRONG = [
    ("input z: real[n, c]\ninput t: class[n] of c\nper = z", "per >= 0 on z[c = t] >= 0", "proved"),
    ("input z: real[n, c]\ninput t: class[n] of c\nper = z", "per >= 0 on z[c = t] == 3", "proved"),
    (
        "input x: real[...]\nparam a: real in [0, 1] = 0\ng = 2 * (x if 3 * a != 1 else -abs(x))\n"
        "per = log(1 + exp(g)) if 3 * a != 1 else log(2 + exp(g))",
        "convex in x",
        "proved",
    ),
    ("input x: real[...]\nparam a: real in [0, 1] = 1\nper = x^2 / (1 + a * x^2)", "lipschitz in x", "proved"),
    ("input x: real[...] in [0, b]\nparam b: real in [0, 10] = 1\nper = b - x", "per >= 0", "refuted"),
    ("input x: real[...] in [0, 1]\nper = (x - 5)^2", "minimum of per at x == 5", "proved"),
    ("input p: simplex[n, c] over c\ns = sum(p over c)\nper = log(s)", "finite in float32", "refuted"),
    ("input p: simplex[n, c] over c\ns = sum(p over c)\nper = log(s)", "C0 in p", "refuted"),
    ("input p: simplex[n, c] over c\nper = sum(p over c)", "per > 0", "refuted"),
    ("input u: unit[n, c] over c\nper = log(sum(u^2 over c))", "bounded", "refuted"),
    ("input x: real[...]\nper = i0e(x)", "C1 in x", "proved"),
    ("input x: real[...]\nparam a: real in [0, 1] = 1\nper = x^2", "lipschitz in x when a > 3", "refuted"),
    ("input x: real[b, n]\nper = count(x > 5 and x < 3 over n) * 1.0", "per <= 0", "refuted"),
    ("input x: real[b, n]\nper = argmax(x over n where n > 0 else 1) * 1.0", "per >= 1", "refuted"),
    ("input x, y: real[...]\nper = x + log(y)", "convex in x", "proved"),
    ("input x, y: real[...]\nper = x + log(y)", "lipschitz in x <= 1", "proved"),
    ("input x: real[...]\nparam a: real = 1\nper = x if a > 0 else nan", "smooth in x", "proved"),
    ("input x: real[...]\nper = inf - inf + x", "affine in x", "proved"),
]


@pytest.mark.parametrize(("body", "claim", "wrong"), ONCE_WRONG, ids=[c for _, c, _ in ONCE_WRONG])
def test_what_was_once_wrong(body: str, claim: str, wrong: str) -> None:
    assert status(body, claim) != wrong


def status(body: str, claim: str) -> str:
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return next(judged(built(f"loss t:\n{lines}    return mean(per)\n    claim {claim}\n"))).status


def test_a_region_that_is_empty_is_no_crash() -> None:
    assert status("input x: real[...]\nper = abs(x)", "per <= -1 on abs(x) <= -1") != "refuted"


def test_claims_in_an_input_are_about_entries_that_exist() -> None:
    assert status("input x: real[b, n]\nper = logsumexp(x over n)", "smooth in x") == "proved"
    assert status("input x: real[b, n]\nper = logsumexp(x over n)", "lipschitz in x <= 1") == "proved"
    assert status("input x: real[b, n]\nper = logsumexp(x over n)", "per >= -1e9") != "proved"


def test_the_entropy_term() -> None:
    body = "input x: real[...] in [0, 1]\nper = xlogy(x, x)"
    assert [status(body, c) for c in ("convex in x", "per <= 0", "per >= -0.368")] == ["proved"] * 3
    assert status(body, "per >= -0.3") == "refuted"
    assert status("input x: real[...] in [0, 2]\nper = xlogy(x, x)", "per <= 1.38") != "proved"


@pytest.mark.parametrize("seed", range(12))
def test_random_losses(seed: int) -> None:
    assert wrong_verdicts(seed)[1] == []


@pytest.mark.slow
@pytest.mark.parametrize("block", range(20))
def test_random_losses_at_length(block: int) -> None:
    for seed in range(1000 + 50 * block, 1050 + 50 * block):
        assert wrong_verdicts(seed)[1] == []


def test_a_derivative_without_a_normal_form_is_no_crash() -> None:
    """Found by fuzzing: `xlogy` has a branch of its own in its derivative."""
    body = "input x: real[...]\ninput y: binary[...]\nparam a: real = 1\nper = xlogy(relu(a), 1 + abs(max(x - y, x)))"
    assert status(body, "redescending in x") in ("unknown", "proved")


def test_a_descent_finds_what_is_narrow_or_far() -> None:
    for per, claim in [
        ("(x - 1/3)^2 - 1e-14", "per >= 0"),
        ("1 - x^2 / 1000000000000", "per >= 0"),
        ("sqrt(1 + x^2) - x^2 / 1000000000", "convex in x"),
        ("sqrt(1 + x^2) + x^2 / 100000000", "lipschitz in x <= 1"),
    ]:
        assert status(f"input x: real[...]\nper = {per}", claim) == "refuted"
    body = "input x: real[...]\nparam a: real in [0, 1.000001] = 1\nper = a * x"
    assert status(body, "lipschitz in x <= 1") == "refuted"
    assert status(body.replace("1.000001", "1"), "lipschitz in x <= 1") == "proved"


def test_a_kink_that_is_never_crossed_is_none() -> None:
    rows = "input z: real[b, c]\nparam a: real in [0, 1] = 1\n"
    for per, claim in [
        ("abs(sum(z^2 over c))", "smooth in z"),
        ("sqrt(1 + relu(sum(z^2 over c))^2)", "smooth in z"),
        ("max(sum(z^2 over c), -a)", "smooth in z"),
        ("min(-sum(z^2 over c), a)", "smooth in z"),
        ("clamp(mean(tanh(z) over c), -1, 1 + a)", "smooth in z"),
    ]:
        assert status(f"{rows}per = {per}", claim) == "proved"
    for per in ("abs(sum(z over c))", "relu(sum(z^2 over c) - 1)", "max(sum(z^2 over c), a)", "abs(max(z over c))"):
        assert status(f"{rows}per = {per}", "smooth in z") != "proved"
    assert status(f"{rows}per = clamp(mean(tanh(z) over c), -1, a)", "smooth in z") != "proved"


@pytest.mark.parametrize("kind", ["simplex[n, c] over c", "unit[n, c] over c", "real[n, c]"])
def test_a_point_has_all_entries_of_all_inputs(kind: str) -> None:
    """Rows of nothing have no sum of 1, and no label is of no class."""
    text = f"loss l:\n    input x: {kind}\n    input t: class[n] of c\n    return mean(x[c = t] over n)\n"
    ctx = Context(analyse(Source("l.loss", text)).losses[0].program)
    labels = {(0,): Fraction(0)}
    entries = {(0, 0): Fraction(1), (0, 1): Fraction(0)}
    assert ctx.admits(Point({"n": 1, "c": 2}, {}, {"x": entries, "t": labels}))
    assert not ctx.admits(Point({"n": 1, "c": 2}, {}, {"x": entries, "t": {}}))
    assert not ctx.admits(Point({"n": 1, "c": 0}, {}, {"x": {}, "t": labels}))
    assert not ctx.admits(Point({"n": 1, "c": 0}, {}, {"x": {}, "t": {}}))
    assert ctx.admits(Point({"n": 0, "c": 0}, {}, {"x": {}, "t": {}}))


def test_two_places_of_an_axis_need_two_elements() -> None:
    pairs = "input x: real[b, n]\naxis m = n\nper = logsumexp(x + x[n = m] over n, m where n {} m) if size(n) {} else 0"
    for op in ("<", ">", "!="):
        assert [status(pairs.format(op, "> 1"), claim) for claim in ("smooth in x", "C0 in x")] == ["proved", "proved"]
        for enough in ("> 0", ">= 1", "< 4"):  # of one element there is no pair
            assert status(pairs.format(op, enough), "C0 in x") != "proved"
    assert status(pairs.format("<", ">= 2"), "C0 in x") == "proved"
    assert status(pairs.format("<=", "> 1"), "smooth in x") == "proved"
    third = "input x: real[b, n]\naxis m, k = n\nper = logsumexp(x over n, m, k where n < m and m < k) if size(n) > 1 else 0"
    assert status(third, "C0 in x") != "proved"
    never = "input x: real[b, n]\nper = logsumexp(x over n where n < n) if size(n) > 1 else 0"
    assert status(never, "C0 in x") != "proved"
    assert status("input x: real[b, n]\nper = exp(logsumexp(x over n where n > 3))", "C0 in x") == "proved"
