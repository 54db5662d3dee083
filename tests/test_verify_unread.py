"""Strict claims about rows of which an element reads one entry: along the others it is constant."""

from __future__ import annotations

import pytest

from lossdsl import pipeline
from lossdsl.diagnostics import Source
from lossdsl.verify.verdict import Proved, Refuted

CASES = [  # (declarations, what is written, the claim, whether it holds)
    ("input x: real[n, 2]", "x[n, 0]^2", "strictly convex in x", False),
    ("input x: real[n, 2]", "-x[n, 1]^2", "strictly concave in x", False),
    ("input x: real[n, 2]", "x[n, 0]^2", "strongly convex in x >= 1", False),
    ("input x: real[n, c]\n    input y: class[n] of c", "x[n, y[n]]^2", "strictly convex in x", False),
    ("input x: real[n, c]\n    input y: class[n] of c", "x[n, y[n]]^2", "strongly convex in x >= 2", False),
    ("input x: real[n, 2]", "x[n, 0]^2", "convex in x", True),
    ("input x: real[n, 2]", "x[n, 0]^2", "strongly convex in x >= 0", True),
    ("input x: real[n, 2]", "x[n, 0]^2", "gradient lipschitz in x <= 2", True),
    ("input x: real[n, 1]", "x[n, 0]^2", "strictly convex in x", True),
    ("input x: real[n, c]", "x^2", "strictly convex in x", True),
    ("input x: real[n, c]", "x^2", "strongly convex in x >= 2", True),
]


@pytest.mark.parametrize(("declared", "body", "claim", "holds"), CASES)
def test_an_entry_that_is_not_read(declared: str, body: str, claim: str, holds: bool) -> None:
    text = f"loss l:\n    {declared}\n    per = {body}\n    return mean(per)\n    claim {claim}\n"
    (report,) = pipeline.check(Source("<test>", text)).reports
    verdict = report.claims[0].verdict
    assert isinstance(verdict, Proved if holds else Refuted), verdict
    if isinstance(verdict, Refuted):
        first, second = verdict.witness.points
        (moved,) = [name for name in second if first[name] != second[name]]
        assert moved in verdict.witness.violation


@pytest.mark.parametrize(
    ("declared", "body", "holds"), [(d, b, h) for d, b, c, h in CASES if c.startswith("strictly convex")]
)
def test_the_modulus_is_that_of_all_entries(declared: str, body: str, holds: bool) -> None:
    text = f"loss l:\n    {declared}\n    per = {body}\n    return mean(per)\n"
    (report,) = pipeline.check(Source("<test>", text)).reports
    found = [f.verdict.value for f in report.findings if f.property == "strong convexity modulus"]
    lower = [b.lower for b in found if b is not None and b.lower]
    assert lower == ([2.0] if holds else [])
