"""What happens at the ends of a domain, and on regions that bind an input together with another one."""

from __future__ import annotations

import pytest

from tests.test_verify_attack import status

STEP = "1 if x <= 0 else 2"


# (Curvature, Lipschitz constants and classes are about the inside of a domain; order is about all of it.)
@pytest.mark.parametrize(
    ("declared", "body", "claim"),
    [
        ("input x: real[...] >= 0", STEP, "decreasing in x"),
        ("input x: real[...] >= 0", f"-({STEP})", "increasing in x"),
        ("input x: real[...] in [0, 1]", "floor(x)", "decreasing in x"),
        ("input x: prob[...]", "(0 if x >= 1 else x)", "increasing in x"),
        ("input x: real[n, c] >= 0", f"sum(({STEP}) over c)", "decreasing in x"),
        # the end is reached for one value of a parameter only
        ("input x: real[...] >= 0\nparam a: real = 0", "((1 if x <= a else 2) if a <= 0 else 0)", "decreasing in x"),
        # decision theory: the least expected loss is at the end
        ("input x: prob[n]\ninput t: binary[n]", "(-1 if x <= 0 else (x - t)^2)", "proper"),
        ("input x, y: real[...]", "(1 if x <= y else 2)", "decreasing in x on x >= y"),
        ("input x, y: real[...]", "(1 if x <= y else 2)", "convex in x on x >= y"),
        ("input x, y: real[...]", "(1 if x <= y else 2)", "lipschitz in x <= 1 on x >= y"),
    ],
)
def test_a_jump_at_an_end_is_seen(declared: str, body: str, claim: str) -> None:
    assert status(f"{declared}\nper = {body}", claim) != "proved"


XY = "input x, y: real[...]"


@pytest.mark.parametrize(
    ("declared", "body", "claim"),
    [
        (XY, "(x - y)^2", "increasing in x on x >= y"),
        (XY, "(x - y)^2", "decreasing in x on y >= x"),
        (XY, "abs(y - x)", "decreasing in x on x <= y"),
        (XY, "max(x - y, 3 * -(x - y))", "increasing in x on x >= y"),
        (XY, "log1p((x - y)^2)", "increasing in x on x >= y"),
        (XY, "log1p((x - y)^2)", "convex in x on abs(x - y) <= 1"),
        (XY, "log1p((x - y)^2)", "concave in x on x >= y + 1"),
        (f"{XY}\nparam s: real > 0 = 1", "((x - y) / s)^2", "increasing in x on y <= x"),
        (XY, "(x - y)^4", "gradient lipschitz in x <= 12 on abs(x - y) <= 1"),
    ],
)
def test_regions_of_the_residual(declared: str, body: str, claim: str) -> None:
    assert status(f"{declared}\nper = {body}", claim) == "proved"


@pytest.mark.parametrize(
    ("body", "claim"),
    [
        ("(x - y)^2", "increasing in x on x <= y"),
        ("(x - y)^2", "increasing in x on x >= y - 1"),
        ("log1p((x - y)^2)", "convex in x on abs(x - y) <= 1.01"),
        ("log1p((x - y)^2)", "convex in x on abs(x - 2 * y) <= 1"),
        # two parts, between which the value falls
        ("(x - y)^3 - 3 * (x - y)", "increasing in x on abs(x - y) >= 1"),
        ("(x - y)^2", "increasing in x on x != y"),
        ("(x - y)^2", "increasing in x on x * y >= 0"),
    ],
)
def test_other_regions_are_not_mistaken_for_them(body: str, claim: str) -> None:
    assert status(f"{XY}\nper = {body}", claim) != "proved"
