"""Verdicts say what they mean: numbers that differ look different, what was not bounded is named, extents are extents."""

from __future__ import annotations

from lossdsl import pipeline
from lossdsl.card import reason
from lossdsl.diagnostics import Source


def evidence(text: str) -> dict[str, str]:
    """What is said of each property and claim."""
    [report] = pipeline.check(Source("a", text)).reports
    said = {f"{f.property} in {', '.join(f.wrt)}": reason(f.verdict) for f in report.findings}
    return {**said, **{c.text: reason(c.verdict) for c in report.claims}}


def test_values_that_differ_are_shown_with_the_digits_in_which_they_do() -> None:
    text = """
loss a:
    input x: real[n]
    claim invariant under scale of x
    return 236.834 * sum(x^2) / (sum(x^2) + 1e-9)
"""
    words = evidence(text)["invariant under scale of x"]
    before, _, after = words.partition(" at ")[0].removeprefix("the value ").partition(" becomes ")
    assert before.startswith("[236.8339999")
    assert before != after


def test_what_has_no_bound_is_named() -> None:
    text = """
loss a:
    input x, y: real[n, d]
    dist = norm(x - y over d)
    per = sqrt(7 - dist)
    claim bounded
    claim per >= 0
    return mean(per)
"""
    said = evidence(text)
    for claim in ("bounded", "per >= 0"):
        assert said[claim].startswith(
            "not decided: all that is known of sqrt(7 - dist[n]) is that it is undefined or in "
        )
        assert "it reads dist[n] (no bound from above)" in said[claim]


def test_an_extent_of_0_is_said_to_be_an_extent() -> None:
    text = """
loss a:
    input x: real[n, t]
    per = sum(x over t) + 1 / size(t)
    return sum(per)
"""
    words = " ".join(evidence(text).values())
    assert "where the extent of t is 0" in words
