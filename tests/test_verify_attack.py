"""The verifier under attack: random losses with an independent evaluator, and verdicts that were once wrong."""

from __future__ import annotations

import pytest

from lossdsl.verify import verify_program
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
    ("input x: real[...]\nper = i0e(x)", "C1 in x", "proved"),
]


@pytest.mark.parametrize(("body", "claim", "wrong"), ONCE_WRONG, ids=[c for _, c, _ in ONCE_WRONG])
def test_what_was_once_wrong(body: str, claim: str, wrong: str, request: pytest.FixtureRequest) -> None:
    request.applymarker(pytest.mark.xfail(strict=False, reason="found by the attack; see the project's list"))
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    report = verify_program(built(f"loss t:\n{lines}    return mean(per)\n    claim {claim}\n"))
    assert report.claims[0].status != wrong


@pytest.mark.parametrize("seed", range(12))
def test_random_losses(seed: int) -> None:
    assert wrong_verdicts(seed)[1] == []


@pytest.mark.slow
@pytest.mark.parametrize("block", range(20))
def test_random_losses_at_length(block: int) -> None:
    for seed in range(1000 + 50 * block, 1050 + 50 * block):
        assert wrong_verdicts(seed)[1] == []
