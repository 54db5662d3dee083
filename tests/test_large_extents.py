"""Axes of very many entries, written as a number: what is asked of a loss ends all the same."""

from __future__ import annotations

import time

import pytest

import lossdsl
from lossdsl.diagnostics import Source
from lossdsl.verify.folds import every_place
from lossdsl.verify.verdict import Proved

LARGE = {
    "window": """
loss window:
    input x: real[n]
    axis i = 1000000
    return sum(mean(x[n + i] over i)^2)
    claim convex in x
""",
    "vocabulary": """
loss vocabulary:
    input x: real[n, c]
    input target: class[n] of c
    axis c = 1000000
    return mean(logsumexp(x over c) - x[c = target])
    claim convex in x
""",
    "table": """
loss table:
    input x: real[n]
    axis i, j = 3000
    w[i, j] = cos(i * j / 3000)
    return mean(x^2) * sum(w^2)
    claim x^2 >= 0
""",
}


@pytest.mark.parametrize("name", LARGE)
def test_a_check_ends(name: str) -> None:
    """Each search gives a point up that is too large for it, before it is listed."""
    start = time.process_time()
    report = lossdsl.check(Source(name, LARGE[name]))
    assert time.process_time() - start < 15
    assert isinstance(report.claims[0].verdict, Proved)


def test_places_are_made_one_at_a_time() -> None:
    assert list(every_place([2, 3])) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert list(every_place([])) == [()]
    assert list(every_place([2, 0])) == []
    assert next(every_place([10**12, 10**12])) == (0, 0)
