"""Values that grow with an extent: germs in the number of entries of an axis, against values at extents."""

import random
from fractions import Fraction

import mpmath as mp
import pytest

from lossdsl.diagnostics import Source
from lossdsl.pipeline import analyse
from lossdsl.verify import crowds, properties
from lossdsl.verify import germs as g
from lossdsl.verify.context import Context
from lossdsl.verify.germs import Germ, Unsettled
from lossdsl.verify.points import Evaluator
from lossdsl.verify.refute import points
from lossdsl.verify.verdict import Refuted

X = "    input x: real[n, c]\n"


def context(lines: str, body: str, seconds: float = 0.1) -> tuple[Context, str]:
    text = f"loss l:\n{lines}    per[n] = {body}\n    return sum(per)\n"
    built = analyse(Source("x.loss", text)).losses[0]
    return Context(built.program, seconds=seconds), built.tensors["per"]


@pytest.mark.parametrize(
    ("lines", "body"),
    [
        (X, "-sum(softmax(x over c) * log_softmax(x over c) over c)"),
        ("    input p: simplex[n, c] over c\n", "-sum(xlogy(p, p) over c)"),
        ("    input x: real[n, c] in [-1, 1]\n    input t: class[n] of c\n", "logsumexp(x over c) - x[c = t]"),
        ("    input x: real[n, c] in [0, 1]\n", "sum(x over c)"),
        ("    input x: real[n, c] in [0, 1]\n", "count(x > 1/2 over c)"),
        ("    input x: real[n] in [0, 1]\n    axis m = n\n", "sum((x[n] - x[m])^2 over m)"),
        ("    input x: real[n] in [-1, 1]\n    axis m = n\n", "logsumexp(x[n] * x[m] over m where m != n)"),
    ],
)
def test_values_grow_with_an_extent(lines, body):
    ctx, target = context(lines, body)
    found = crowds.unbounded(ctx, target)
    assert isinstance(found, Refuted)
    assert isinstance(properties.bounded(ctx, target), Refuted)


@pytest.mark.parametrize(
    ("lines", "body"),
    [
        (X, "sum(softmax(x over c)^2 over c)"),
        ("    input x: real[n, c] in [0, 1]\n", "mean(x over c)"),
        ("    input p: simplex[n, c] over c\n", "sum(p^2 over c)"),
        ("    input p: simplex[n, c] over c\n", "max(p over c)"),
        ("    input x: real[n, c] in [0, 1]\n", "sum(x over c where c == 0)"),
        ("    input x: real[n, c] in [0, 1]\n", "sum(x over c where c < 2)"),
        ("    input x: real[n] in [-1, 1]\n    axis m = n\n", "sum(x[m] over m where m == n)"),
        ("    input x: real[n, c] in [-1, 1]\n", "logsumexp(x over c) - log(size(c))"),
        ("    input x: real[n, c] in [0, 1]\n    input k: class[n] of c\n", "sum(x over c where c == k)"),
    ],
)
def test_what_one_bound_holds_for_is_not_refuted(lines, body):
    assert crowds.unbounded(*context(lines, body, 0.03)) is None


def _value(germ: Germ, t: int) -> tuple[float, float]:
    """The sum of the terms and the size of the rest, at t."""

    def monomial(m: g.Monomial) -> float:
        return float(mp.e ** (float(m[0]) * t) * t ** float(m[1]) * mp.log(t) ** int(m[2]))

    known = sum(monomial(m) * (float(c) if isinstance(c, Fraction) else (c.lo + c.hi) / 2) for m, c in germ.terms)
    return known, 0.0 if germ.rest is None else monomial(germ.rest)


BODIES = [
    "logsumexp(s * x over c) - x[c = 0]",
    "mean(x^2 over c) + max(x over c)",
    "-sum(softmax(x over c) * x over c)",
    "sum(exp(-x^2) over c where c != 0) / (size(c) + 1)",
    "log(sum(1 + x^2 over c)) - sqrt(sum(x^2 over c) + 1)",
    "count(x > 0 over c where c > 0) * min(x over c) - size(c)^2 / 8",
]


@pytest.mark.parametrize("body", BODIES)
def test_a_germ_in_an_extent_is_what_values_come_to(body):
    ctx, target = context("    input x: real[n, c] in [-1, 1]\n    param s: real in [1/2, 2] = 1\n", body)
    generator, seen, extent = random.Random(5), 0, 400
    for base in points(ctx, 5, endless=True):
        drawn = crowds._alike(ctx, base, "c", generator)
        if drawn is None:
            continue
        point, moving = drawn
        try:
            germ = crowds.Crowd(ctx.program, point, "c", moving).element(target, (0,))
        except Unsettled:
            continue
        row = {
            (i, min(k, 1)): point.inputs["x"][i, min(k, 1)] for i in range(point.extents["n"]) for k in range(extent)
        }
        far = {(i, k): row[i, min(k, 1)] for i in range(point.extents["n"]) for k in range(extent)}
        large = type(point)({**point.extents, "c": extent}, point.parameters, {"x": far})
        exact = Evaluator(ctx.program, large).element(target, (0,))
        known, rest = _value(germ, extent)
        assert abs((exact.lo + exact.hi) / 2 - known) <= 1e-6 * (1 + abs(known)) + 50 * rest
        seen += 1
        if seen == 6:
            return
