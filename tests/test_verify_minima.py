"""Minima where an input equals something: unique ones, gradients towards them, and points that are as low elsewhere."""

import pytest

from lossdsl.diagnostics import Source
from lossdsl.pipeline import analyse
from lossdsl.verify import minima, questions
from lossdsl.verify.context import Context
from lossdsl.verify.verdict import Proved, Refuted, Unknown

ANYTHING, UNIT, BELOW = "real[n]", "prob[n]", "real[n] <= 0"
P, R, U = Proved, Refuted, Unknown


def subject(inputs: str, body: str, more: str = "") -> questions.Subject:
    text = f"loss l:\n    input p, t: {inputs}\n{more}    per = {body}\n    return sum(per)\n"
    built = analyse(Source("x.loss", text)).losses[0]
    found = questions.subject(built, Context(built.program, seconds=0.1))
    assert found is not None
    return found


def decided(of: questions.Subject) -> tuple[type, type, type]:
    """Unique minimum at equality, gradient towards it, strictly."""
    at = questions.at_other(of)
    unique = minima.unique_minimum(of.ctx, of.target, at)
    return type(unique), *(type(minima.towards(of.ctx, of.target, at, strict=strict)) for strict in (False, True))


@pytest.mark.parametrize(
    ("inputs", "body", "expected"),
    [
        (ANYTHING, "(p - t)^2", (P, P, P)),
        (ANYTHING, "logcosh(p - t)", (P, P, P)),
        ("real[n] >= 0", "(log1p(p) - log1p(t))^2", (P, P, P)),
        (ANYTHING, "(exp(p) - exp(t))^2", (P, P, P)),
        (ANYTHING, "(1/4 if p > t else 3/4) * (p - t)^2", (P, P, P)),
        (ANYTHING, "(p - t)^2 if abs(p - t) <= 1 else 1", (P, P, R)),
        (ANYTHING, "relu(abs(p - t) - 1)", (R, P, R)),
        (ANYTHING, "(p - t)^2 * t^2", (R, P, R)),
        (ANYTHING, "(p - t)^2 if abs(p - t) < 1 else 0", (R, R, R)),
        (UNIT, "(p - t)^2 if p < 1 else 0", (R, U, R)),
        (UNIT, "(p - t)^2 if p > 0 else 1", (R, R, R)),
        (BELOW, "softplus(t - p)", (R, R, R)),
        (ANYTHING, "(p - t)^3", (R, R, R)),
    ],
)
def test_what_is_least_where_two_inputs_are_equal(inputs, body, expected):
    assert decided(subject(inputs, body)) == expected


def test_in_a_part_of_the_line_a_lower_point_is_found_inside_of_it():
    of = subject(BELOW, "softplus(t - p)")
    found = minima.minimum_at(of.ctx, of.target, questions.at_other(of))
    assert isinstance(found, Refuted)
    at, off = found.witness.points
    assert at["p[0]"] == at["t[0]"] <= 0
    assert off["p[0]"] <= 0


def test_a_jump_to_the_least_value_at_an_end_of_the_domain_makes_a_minimum_not_unique():
    of = subject(UNIT, "(p - t)^2 if p < 1 else 0")
    of.ctx.seconds = 0.0  # no search
    assert isinstance(minima.unique_minimum(of.ctx, of.target, questions.at_other(of)), Unknown)


def test_nothing_is_asked_of_equality_where_an_element_has_no_place_of_its_own():
    text = """loss l:
    input p, t: real[n, c]
    input k: class[n] of c
    per = (p[c = k] - max(t over c))^2
    return sum(per)
"""
    built = analyse(Source("x.loss", text)).losses[0]
    of = questions.subject(built, Context(built.program))
    assert of is not None
    asked = [q.property for q in questions.asked(of)]
    assert "exchange symmetric" in asked
    assert not any("equality" in q for q in asked)
