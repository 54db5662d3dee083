"""Points without a value: bounds do not hold there, and the interpreter says the same of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from verify_losses import asked, loss

from lossdsl.ir.interpret import interpret
from lossdsl.verify import judged, novalue, properties
from lossdsl.verify.points import Point
from lossdsl.verify.verdict import Refuted
from tests.test_verify import built

Y = "    input y: real[n]\n"
WITHOUT = [
    loss("(x[n] - y[n])^2 / (x[n] - y[n])^2", more=Y),
    loss("x[n]^2 / (abs(x[n]) + eps)", more="    param eps: real >= 0 = 1\n"),
    loss("sum((x[n, c] - mean(x[n, c] over c))^2 over c) / (size(c) - 1)", x="real[n, c]"),
    loss("sqrt(x[n])^2"),
    loss("log(x[n])^2"),
    loss("1 + x[n] * log(x[n])", x="prob[n]"),  # 0 * -inf, but for xlogy
    loss("x[n] * (1 / x[n])", x="real[n] >= 0"),  # 0 * inf
]
WITH = [
    loss("-log(x[n])", x="prob[n]"),  # inf at 0, which is a value
    loss("1 / x[n]^2"),
    loss("xlogy(x[n], x[n]) + 1", x="prob[n]"),
    loss("1 / (1 / x[n]^2)"),  # 1 / inf
    loss("x[n]^2 / (x[n]^2 + eps)", more="    param eps: real > 0 = 1\n"),
    loss("(x[n]^2 / x[n]^2 if x[n] > 0 else 0)"),
    loss("mean(x[n, c]^2 over c)", x="real[n, c]"),  # over no class, too
    loss("sqrt(max(x[n, c]^2 over c)) / (1 + sqrt(relu(max(x[n, c] over c))))", x="real[n, c]"),
    loss("sum(x[n, c]^2 over c) / sum(x[n, c] over c)", x="simplex[n, c] over c"),
]


# Each asks several engines, some of which search to the end of their budgets.
FEW = [t if k == 1 else pytest.param(t, marks=pytest.mark.slow) for k, t in enumerate(WITHOUT)]


@pytest.mark.parametrize("text", FEW)
def test_a_bound_does_not_hold_where_there_is_no_value(text):
    ctx, target = asked(text)
    found = novalue.undefined(ctx, target)
    assert isinstance(found, Refuted)
    assert "no value" in found.witness.violation
    assert isinstance(properties.nonnegative(ctx, target), Refuted)
    assert isinstance(properties.bounded(ctx, target), Refuted)


@pytest.mark.parametrize("text", WITHOUT)
def test_the_interpreter_has_no_value_there_either(monkeypatch, text):
    ctx, target = asked(text)
    seen: list[Point] = []
    real = novalue._why

    def remembered(c, t, point, place):
        seen.append(point)
        return real(c, t, point, place)

    monkeypatch.setattr(novalue, "_why", remembered)
    assert novalue.undefined(ctx, target) is not None
    point = seen[-1]
    arrays = {}
    for i in ctx.program.inputs:
        array = np.zeros(tuple(d.evaluate(point.extents) for d in i.dims))
        for place, v in point.inputs[i.name].items():
            array[place] = float(v)
        arrays[i.name] = array
    parameters = {n: float(v) for n, v in point.parameters.items()}
    with np.errstate(all="ignore"):
        value = interpret(ctx.program, arrays, parameters, outputs=[target])[target]
    assert any(math.isnan(v) for v in np.asarray(value).flat)


@pytest.mark.parametrize("text", WITH)
def test_infinities_and_what_is_not_taken_are_values(text):
    ctx, target = asked(text)
    assert novalue.undefined(ctx, target) is None


@pytest.mark.parametrize(
    "text",
    [
        loss("(x[n] - y[n])^2 * exp(x[n])", more=Y),
        loss("sum(softplus(x[n, c]) over c)", x="real[n, c]"),  # over no class
        loss("softplus(logsumexp(x[n, c] over c))", x="real[n, c]"),
        loss("logsumexp(x[n, c] over c) - x[n, t[n]]", x="real[n, c]", more="    input t: class[n] of c\n"),  # of one
    ],
)
def test_a_value_of_0_is_not_positive(text):
    ctx, target = asked(text)
    found = novalue.zero(ctx, target)
    assert isinstance(found, Refuted)
    assert isinstance(properties.nonnegative(ctx, target, strict=True), Refuted)
    assert not isinstance(properties.nonnegative(ctx, target), Refuted)


@pytest.mark.parametrize(
    "text",
    [
        loss("softplus(x[n])"),
        loss("x[n]^2 + eps", more="    param eps: real > 0 = 1\n"),
        loss("1 - tanh(x[n])"),
        loss("sum(softplus(x[n, c]) over c)", x="real[n, c]", more="    input t: class[n] of c\n"),
        loss("abs(x[n] - sqrt(2)) + abs(x[n]^2 - 2) + exp(-x[n])"),
        loss("x[n] if x[n] > 0 else 1"),
    ],
)
def test_a_value_that_is_not_0_is_not_said_to_be(text):
    ctx, target = asked(text)
    assert novalue.zero(ctx, target) is None


@pytest.mark.parametrize(
    ("declaration", "per", "proved"),
    [
        ("input p: simplex[n, c] over c", "sum(log(1 - p) over c)", False),  # of one class it is 1
        ("input p: simplex[n, c] over c", "sum(log(2 - p) over c)", True),
        ("param a: real in [0, 1] = 0\n    input x: real[n] in [a, 1]", "log(1 - x)", False),  # 1, for a == 1
        ("param a: real in [0, 1/2] = 0\n    input x: real[n] in [a, 1]", "log(1 - x)", True),
        ("input x: real[n] in [0, 1]", "log(1 - x)", True),
    ],
)
def test_a_domain_of_one_point_has_no_inside(declaration: str, per: str, proved: bool) -> None:
    name = "p" if "simplex" in declaration else "x"
    text = f"loss l:\n    {declaration}\n    per = {per}\n    return mean(per)\n    claim C0 in {name}\n"
    (found,) = judged(built(text))
    assert (found.status == "proved") is proved
