"""Counterexamples to order, to bounds of the second derivative, to boundedness, to finiteness of rows; joint convexity by
minors. Every false claim has a true neighbour that stays."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from lossdsl.verify import verify_program
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.points import within
from lossdsl.verify.questions import QUESTIONS, answers
from lossdsl.verify.verdict import Refuted
from tests.test_verify import EXAMPLES, built, losses_of
from tests.test_verify_attack import status

X, ROW = "input x: real[...]", "input x: real[n, c]"
BELL = "input x, y: real[...]\nparam c: real > 0 = 1\nper = -expm1(-(x - y)^2 / (2 * c^2))"


@pytest.mark.parametrize(
    ("body", "claim", "wanted"),
    [
        (f"{X}\nper = x^2", "increasing in x", "refuted"),
        (f"{X} >= 0\nper = x^2", "increasing in x", "proved"),
        (f"{X}\nper = -x", "decreasing in x", "proved"),
        (f"{X}\nper = -x", "increasing in x", "refuted"),
        (f"{X}\nper = relu(x)", "strictly increasing in x", "refuted"),
        (f"{X}\nper = x + relu(x)", "strictly increasing in x", "proved"),
        (f"{X}\nparam a: real in [0, 1] = 1\nper = a * x", "strictly increasing in x", "refuted"),
        (f"{X}\nparam a: real in [0, 1] = 1\nper = a * x", "strictly increasing in x when a == 1", "proved"),
        (f"{ROW}\nper[n] = logsumexp(x over c)", "increasing in x", "proved"),
        (f"{ROW}\nper[n] = logsumexp(x over c)", "decreasing in x", "refuted"),
        (f"{X}\nper = x^2 / 2", "strongly convex in x >= 2", "refuted"),
        (f"{X}\nper = x^2 / 2", "strongly convex in x >= 1", "proved"),
        (f"{X}\nper = x^4", "gradient lipschitz in x <= 5", "refuted"),
        (f"{X}\nper = logcosh(x)", "gradient lipschitz in x <= 1", "proved"),
        (f"{X}\nper = logcosh(x)", "gradient lipschitz in x <= 0.9", "refuted"),
        (f"{X}\nper = abs(x)", "gradient lipschitz in x <= 1", "refuted"),
        (f"{BELL}", "lipschitz in x <= 0.6066 / c", "proved"),  # exp(-1/2) = 0.60653...
        (f"{BELL}", "lipschitz in x <= 0.6065 / c", "refuted"),
        (f"{BELL}", "gradient lipschitz in x <= 1 / c^2", "proved"),
        (f"{BELL}", "gradient lipschitz in x <= 0.999 / c^2", "refuted"),
        (f"{BELL}", "gradient lipschitz in x <= 1", "refuted"),
        (f"{BELL}", "gradient lipschitz in x <= 1 when c == 1", "proved"),
        (f"{X}\nper = abs(x)", "bounded", "refuted"),
        (f"{X} in [-1, 1]\nper = abs(x)", "bounded", "proved"),
        (f"{X}\nper = softplus(x)", "bounded", "refuted"),
        (f"{X} <= 0\nper = softplus(x)", "bounded", "proved"),
        (f"{X} >= 0\nper = x - log1p(x)", "bounded", "refuted"),
        (f"{ROW}\nper[n] = logsumexp(x over c) - mean(x over c)", "bounded", "refuted"),
        ("input p: prob[...]\nper = -log(p)", "bounded", "refuted"),
        (f"{ROW}\nper[n] = sum(x^2 over c)", "finite in float32", "refuted"),
        (f"{ROW}\nper[n] = logsumexp(x over c) - min(x over c)", "finite in float32", "refuted"),
        ("input x, y: real[...]\nper = (x - y)^2 + x * y", "convex in x, y", "proved"),
        ("input x, y: real[...]\nper = x^2 + y^2 + 3 * x * y", "convex in x, y", "refuted"),
        ("input x, y: real[...]\nper = -(x^2)", "convex in x, y", "refuted"),
        # leading minors 0 and 0, a later one negative
        ("input x, y: real[...]\nper = -y^2 + 0 * x", "convex in x, y", "refuted"),
        ("input x, y, z: real[...]\nper = (x + y + z)^2 + x * x - z^2 / 100", "convex in x, y, z", "refuted"),
        ("input x, y, z: real[...]\nper = x * x + y * y + z * z + x * y + y * z", "convex in x, y, z", "proved"),
        ("input x, y: real[...]\nper = log(exp(x) + 2 * exp(y) + 3)", "convex in x, y", "proved"),
        ("input x, y: real[...]\nper = log(exp(x + abs(y)) + exp(y^2))", "convex in x, y", "proved"),
        ("input x, y: real[...]\nper = log(exp(-abs(x)) + exp(y))", "convex in x, y", "refuted"),
    ],
)
def test_claims_and_their_neighbours(body: str, claim: str, wanted: str) -> None:
    assert status(body, claim) == wanted


@pytest.mark.parametrize(
    ("body", "claim", "wrong"),
    [
        # a ray leaves the domain, or the region
        (f"{X} <= 3\nper = softplus(x)", "bounded", "refuted"),
        (f"{X}\nper = x^2", "bounded on abs(x) <= 2", "refuted"),
        (f"{X}\nper = x^2", "increasing in x on x >= 1", "refuted"),
        (f"{X}\nper = abs(x)^3", "strongly convex in x >= 1 on x >= 1", "refuted"),
        # it is the value that counts, whatever derivative is declared
        (f"{X}\nper = stop(x) * x", "convex in x", "refuted"),
        (f"{X}\nper = stop(-x) * x", "convex in x", "proved"),
        # what is undefined somewhere is no convex function
        ("input x, y: real[...]\nper = x^2 / y", "convex in x, y", "proved"),
        ("input x, y: real[...]\nper = log(exp(x) - exp(y))", "convex in x, y", "proved"),
        # joins of two quadratics
        ("input x, y: real[...]\nper = x * x if x > y else y * y", "convex in x, y", "proved"),
    ],
)
def test_what_is_never_said(body: str, claim: str, wrong: str) -> None:
    assert status(body, claim) != wrong


@pytest.mark.parametrize(
    ("per", "claim", "refuted"),
    [
        ("logsumexp(x over c) - x[c = t]", "increasing in x", True),
        ("logsumexp(x over c) - x[c = t]", "decreasing in x", True),
        ("x[c = t] + max(x over c)", "bounded", True),
        # the 0 of an element that is left out does not rise
        ("x[c = t] + max(x over c)", "strictly increasing in x", False),
    ],
)
def test_only_elements_that_count_are_out_of_order(per: str, claim: str, refuted: bool) -> None:
    source = f"""
loss t:
    input x: real[n, c]
    input t: class[n] of c or ignored
    param ignored: int = -100
    per[n] = {per}
    return sum(per over n where t != ignored)
    claim {claim}
"""
    (found,) = verify_program(built(source), searching=False).claims
    assert (found.status == "refuted") == refuted, found.verdict


def test_a_row_overflows_at_representable_numbers() -> None:
    source = f"loss t:\n    {ROW}\n    per[n] = max(x over c) - min(x over c)\n    return mean(per)\n"
    report = verify_program(built(source + "    claim finite in bfloat16\n    claim finite in float32\n"))
    for claim, largest in zip(report.claims, ((2 - 2**-7) * 2.0**127, (2 - 2**-23) * 2.0**127), strict=True):
        assert isinstance(claim.verdict, Refuted)
        values = list(claim.verdict.witness.points[0].values())
        assert max(map(abs, values)) <= largest
        assert max(values) - min(values) > largest


# ---------------------------------------------------------------------------------------------- the questions


def test_every_kind_of_loss_is_asked_enough() -> None:
    kinds = {"elementwise": 24, "row": 16}
    names = [q.property for q in QUESTIONS]
    assert len(set(names)) == len(names)
    for kind, least in kinds.items():
        assert sum(q.kind in ("any", kind) for q in QUESTIONS) >= least


@pytest.mark.parametrize(("name", "share"), [("huber", 0.95), ("log_cosh", 0.85), ("hinge", 0.9)])
def test_most_questions_of_common_losses_are_decided(name: str, share: float) -> None:
    (path,) = EXAMPLES.glob(f"*/{name}.loss")
    for loss in losses_of(path):
        found = list(answers(loss))
        assert sum(isinstance(v, Refuted) or hasattr(v, "steps") for _, _, v, _ in found) >= share * len(found)


@pytest.mark.parametrize("seed", range(4))
def test_numbers_are_held_to_the_ends_of_intervals_exactly(seed: int) -> None:
    """Also those that are a float's neighbour in no float, and those that no float is near to."""
    rng = random.Random(seed)
    tiny = Fraction(1, 10**40)
    for _ in range(2000):
        lo, hi = sorted(rng.choice((0.0, 0.1, 1.0, -2.5, 1e308, -1e308, 5e-324, rng.gauss(0, 3))) for _ in range(2))
        box = Enclosure(rng.choice((lo, -INF)), rng.choice((hi, INF)), rng.random() < 0.5, rng.random() < 0.5)
        for value in (
            Fraction(lo),
            Fraction(hi) + tiny,
            Fraction(lo) - tiny,
            Fraction(10) ** 400,
            -(Fraction(10) ** 400),
            tiny,
        ):
            above = box.lo == -INF or value > Fraction(box.lo) or (value == Fraction(box.lo) and not box.lo_open)
            below = box.hi == INF or value < Fraction(box.hi) or (value == Fraction(box.hi) and not box.hi_open)
            assert within(value, box) is (above and below), (value, box)
