"""Self-concordance: each verdict is held against derivatives by differences in mpmath, on a grid of the domain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath as mp
import pytest

from tests.test_verify_attack import status

LINE = [mp.mpf(k) / 4 for k in range(-40, 41) if k]
POSITIVE = [mp.mpf(k) / 8 for k in range(1, 81)]
UNIT = [mp.mpf(k) / 32 for k in range(1, 32)]
X, ABOVE, PROB = "input x: real[...]\n", "input x: real[...] > 0\n", "input x: prob[...]\n"

Function = Callable[[Any], Any]
CASES: list[tuple[str, Function, list[Any], bool]] = [
    (X + "per = x^2", lambda x: x**2, LINE, True),
    (X + "per = 2 * x + 1", lambda x: 2 * x + 1, LINE, True),
    (X + "input y: real[...]\nper = 3 * (x - y)^2 + y", lambda x: 3 * (x - 1) ** 2 + 1, LINE, True),
    (ABOVE + "per = -log(x)", lambda x: -mp.log(x), POSITIVE, True),
    (ABOVE + "per = x - 2 * log(x)", lambda x: x - 2 * mp.log(x), POSITIVE, True),
    (ABOVE + "param m: real > 0 = 1\nper = m - log(3 * x)", lambda x: 1 - mp.log(3 * x), POSITIVE, True),
    (ABOVE + "per = x * log(x) - log(x)", lambda x: x * mp.log(x) - mp.log(x), POSITIVE, True),
    (PROB + "per = -log(x) - log(1 - x)", lambda x: -mp.log(x) - mp.log(1 - x), UNIT, True),
    (ABOVE + "param t: real >= 1 = 2\nper = -t * log(x)", lambda x: -2 * mp.log(x), POSITIVE, True),
    (ABOVE + "param t: real > 0 = 2\nper = -t * log(x)", lambda x: -mp.log(x) / 8, POSITIVE, False),
    (ABOVE + "per = -log(x) / 2", lambda x: -mp.log(x) / 2, POSITIVE, False),
    (ABOVE + "per = -0.999 * log(x)", lambda x: -0.999 * mp.log(x), POSITIVE, False),
    (ABOVE + "per = 1 / x", lambda x: 1 / x, POSITIVE, False),
    (X + "per = softplus(x)", lambda x: mp.log1p(mp.exp(x)), LINE, False),
    (X + "per = exp(x)", mp.exp, LINE, False),
    (X + "per = logcosh(x)", lambda x: mp.log(mp.cosh(x)), LINE, False),
    (X + "per = x^4", lambda x: x**4, LINE, False),
    (X + "per = -x^2", lambda x: -(x**2), LINE, False),
    (X + "per = sigmoid(x)", lambda x: 1 / (1 + mp.exp(-x)), LINE, False),
    (X + "per = sqrt(1 + x^2)", lambda x: mp.sqrt(1 + x**2), LINE, False),
]


@pytest.mark.parametrize(("body", "f", "grid", "wanted"), CASES, ids=[c[0].splitlines()[-1] for c in CASES])
def test_verdicts_are_those_of_differences(body: str, f: Function, grid: list[Any], wanted: bool) -> None:
    with mp.workdps(40):
        found = []
        for x in grid:
            second, third = mp.diff(f, x, 2), mp.diff(f, x, 3)
            found.append(second >= -1e-12 and third**2 <= 4 * second**3 * (1 + mp.mpf("1e-12")) + 1e-12)
    assert all(found) == wanted
    assert status(body, "self-concordant in x") == ("proved" if wanted else "refuted")


@pytest.mark.parametrize(
    "body",
    [
        X + "per = abs(x)",
        X + "input y: real[...]\nper = (x - y)^2 / 2 if abs(x - y) <= 1 else abs(x - y) - 1 / 2",
        X + "per = relu(x)^3",  # its third derivative jumps
        ABOVE + "per = -log(x) if x <= 1 else (x - 2)^2 / 2 - 1 / 2",
    ],
)
def test_what_is_not_three_times_differentiable_is_not(body: str) -> None:
    assert status(body, "self-concordant in x") == "refuted"


def test_rows_stay_open() -> None:
    assert status("input x: real[n, c]\nper = logsumexp(x over c)", "self-concordant in x") != "proved"
