"""Strict convexity of rows: what is proved is below its chords everywhere, and near misses are not proved."""

from __future__ import annotations

import numpy as np
import pytest

from lossdsl.ir.interpret import interpret
from lossdsl.verify import judged
from tests.test_verify import built

ROW = "input x, y: real[n, c]\ninput w: real[n] >= 0\n"
TRUE = [
    "per[n] = sum((x - y)^2 over c)",
    "per[n] = mean(softplus(x) - x * y over c) + max(x over c)",
    "per[n] = (1 + w) * sum(cosh(x) over c) / 3 - sum(y over c)",
    "s[n] = sum(x over c)\nper[n] = sum(exp(x) over c) + s^2",
    "per[n] = sum(x^2 over c) - min(x over c)",
    "per = sum((x - y)^2 over n, c)",
    "per[n] = sum(x^4 over c)",  # the second derivative is 0 at 0 alone
]
FALSE = [
    "per[n] = w * sum(x^2 over c)",  # w may be 0
    "per[n] = sum(x over c)^2",
    "per[n] = sum(x^2 over c where y > 0)",
    "per[n] = sum(relu(x)^2 over c)",
    "per[n] = sum((x - x[c = c - 1 else 0])^2 over c)",
    "per[n] = sum(x[c = 0]^2 + 0 * y over c) + max(x over c)",
    "per[n] = sum(x^2 over c) - x[c = 0]^2 / 2 - x[c = 0]^2 / 2",
    "per[n] = sum((x - y)^2 over c) + max(x[n = 0] over c)",  # another row, in which it is not strictly convex
    "per[n] = logsumexp(x over c) - x[c = 0]",
    "per[n] = norm(x over c)",
    "axis m = n\nper[n] = sum((x[n, c] - x[m, c])^2 over m, c)",
    "per = sum(x[n = 0]^2 over c) + max(x)",
]


def status(per: str) -> str:
    lines = "".join(f"    {line}\n" for line in (ROW + per).split("\n"))
    total = "per" if "per = sum(" in per else "mean(per)"
    return next(judged(built(f"loss t:\n{lines}    return {total}\n    claim strictly convex in x\n"))).status


@pytest.mark.parametrize("per", TRUE)
def test_strictly_convex_rows_are_proved(per: str) -> None:
    assert status(per) == "proved"
    assert strict_where_looked(per)


@pytest.mark.parametrize("per", FALSE)
def test_near_misses_are_not_proved(per: str) -> None:
    assert status(per) != "proved"


def strict_where_looked(per: str) -> bool:
    """Chords between random rows, also such that differ in one entry, are above the midpoint's value."""
    lines = "".join(f"    {line}\n" for line in (ROW + per).split("\n"))
    total = "per" if "per = sum(" in per else "mean(per)"
    program = built(f"loss t:\n{lines}    return {total}\n").program
    generator = np.random.default_rng(4)

    def value(x: np.ndarray) -> np.ndarray:
        found = interpret(program, {"x": x, "y": y, "w": w}, outputs=["per"])["per"]
        return np.atleast_1d(found)

    for _ in range(200):
        shape = (2, int(generator.integers(1, 4)))
        x, y, step = (generator.normal(size=shape) * 2 for _ in range(3))
        w = np.abs(generator.normal(size=2))
        step *= generator.random(shape) < 0.5
        moved = (step != 0).any(axis=1) if "n, c" not in per else np.array([(step != 0).any()])
        gap = (value(x) + value(x + step)) / 2 - value(x + step / 2)
        if not (gap[moved] > 0).all():
            return False
    return True
