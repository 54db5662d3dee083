"""Values without a bound along paths on which parameters move: what leaves every bound, and what only seems to."""

from __future__ import annotations

import pytest
from verify_losses import asked, loss

from lossdsl.verify import escape
from lossdsl.verify.points import Evaluator
from lossdsl.verify.verdict import Refuted


def param(*lines: str) -> str:
    return "".join(f"    param {line}\n" for line in lines)


@pytest.mark.parametrize(
    "text",
    [
        loss("w * sigmoid(x[n])", more=param("w: real >= 0 = 1")),
        loss("min(x[n]^2, w^2)", more=param("w: real > 0 = 1")),  # both at once
        loss("x[n]^2 if abs(x[n]) <= w else w^2", more=param("w: real > 0 = 1")),
        loss("tanh(x[n]) / a", more=param("a: real in (0, 1] = 1")),
        loss("-log(max(sigmoid(x[n]), eps))", more=param("eps: real in (0, 1) = 0.1")),
        loss("tanh(x[n]) / (2 - a)", more=param("a: real in [0, 2) = 1")),
        loss("(1 - a^b) / b", more=param("a: real in (0, 1) = 0.5", "b: real in (0, 1] = 1")),
        loss(
            "sum(x[n, c] over c) / max(sqrt(sum(x[n, c]^2 over c)), 1) * s", x="real[n, c]", more=param("s: real = 1")
        ),
    ],
)
def test_no_bound_holds_for_all_parameters(text):
    ctx, target = asked(text)
    found = escape.unbounded(ctx, target)
    assert isinstance(found, Refuted)
    assert len(found.witness.points) == 3


HOLD = [
    loss("min(x[n]^2, w^2) / (1 + w^2)", more=param("w: real > 0 = 1")),
    loss("x[n]^2 / (x[n]^2 + w^2)", more=param("w: real > 0 = 1")),
    loss("tanh(x[n]) / a", more=param("a: real in [1/4, 1] = 1")),
    loss("-log(max(sigmoid(x[n]), eps))", more=param("eps: real in [0.001, 1) = 0.1")),
    loss("(1 - a^b)", more=param("a: real in (0, 1) = 0.5", "b: real in (0, 1] = 1")),
    loss("w * sigmoid(x[n])", more=param("w: real in [0, 1000] = 1")),
    loss("sigmoid(w * x[n]) * exp(-w) * w", more=param("w: real > 0 = 1")),
    loss("x[n] / w", more=param("w: real > 0 = 1"), x="real[n] in [0, w]"),  # the domain moves with the parameter
    loss("w * sigmoid(x[n]) if w < 1 else 0", more=param("w: real >= 0 = 1")),
    loss("1 / (w - 0.333333333333333314829616256247390992939472198486328125)", more=param("w: real in (1/3, 1] = 1")),
]
# A search that finds nothing takes all of its budget.
FEW = [t if k in (6, 9) else pytest.param(t, marks=pytest.mark.slow) for k, t in enumerate(HOLD)]


@pytest.mark.parametrize("text", FEW)
def test_a_bound_that_holds_is_not_denied(text):
    ctx, target = asked(text)
    assert escape.unbounded(ctx, target) is None


def test_members_of_the_sequence_are_further_and_further_out():
    ctx, target = asked(loss("x[n]^2 if abs(x[n]) <= w else w^2", more=param("w: real > 0 = 1")))
    values = []
    for path in escape._paths(ctx, target):
        germs_moving = {n: m.germ for n, m in path.parameters.items()}
        try:
            germ = escape.Along(ctx.program, path.base, path.moving, germs_moving).element(target, (0,))
            leading, _ = germ.lead()
        except (escape.Unsettled, KeyError):
            continue
        if leading > escape.CONSTANT and ctx.admits(path.at(8)):
            values.append([Evaluator(ctx.program, path.at(t)).element(target, (0,)).lo for t in (8, 512, 2**15)])
    assert len(values) > 3
    assert [v for v in values if not (v[1] < v[2] and v[0] < v[2])] == []
