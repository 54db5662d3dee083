"""Enclosures of recurrences: invariants by induction, against the interpreter, and what they decide."""

from __future__ import annotations

import numpy as np
import pytest
from recurrences import NAMED, TEXTS, arguments, program

from lossdsl.diagnostics import Source
from lossdsl.ir.interpret import interpret
from lossdsl.ir.nodes import REAL, Apply, Group, Program, Read
from lossdsl.ir.text import parse_ir
from lossdsl.pipeline import analyse
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.operations import transfer
from lossdsl.verify.ranges import Ranges
from tests.test_verify_attack import status


@pytest.mark.parametrize("name", [*TEXTS, *NAMED])
def test_values_are_in_their_enclosures(name: str) -> None:
    p = program(name)
    ranges = Ranges(p)
    for seed in range(3):
        arrays, parameters = arguments(p, seed)
        tensors = [d.tensor for d in p.definitions()]
        for tensor, value in interpret(p, arrays, parameters, outputs=tensors).items():
            box, v = ranges.tensor(tensor), np.asarray(value, dtype=np.float64)
            assert box.nan or not np.isnan(v).any(), tensor
            slack = 1e-12 * np.abs(np.where(np.isfinite(v), v, 0.0))
            assert (v[~np.isnan(v)] >= (box.lo - slack)[~np.isnan(v)]).all(), (tensor, box)
            assert (v[~np.isnan(v)] <= (box.hi + slack)[~np.isnan(v)]).all(), (tensor, box)


def recurrence(body: str, start: str = "x[t]", kind: str = "real[t]") -> Program:
    text = f"loss l:\n    input x: {kind}\n    s[t] = ({body}) if t >= 1 else {start}\n    return mean(s over t)\n"
    analysis = analyse(Source("r.loss", text))
    assert analysis.losses, analysis.diagnostics
    return analysis.losses[0].program


def enclosure(p: Program) -> str:
    group = next(i for i in p.body if isinstance(i, Group))
    return str(Ranges(p).tensor(group.definitions[0].tensor))


@pytest.mark.parametrize(
    ("body", "start", "kind", "wanted"),
    [
        ("s[t - 1] + x[t]^2", "x[t]^2", "real[t]", "[0, inf)"),
        ("s[t - 1] + exp(x[t])", "exp(x[t])", "real[t]", "(0, inf)"),
        ("s[t - 1] * x[t]", "x[t]", "prob[t]", "[0, 1]"),
        ("0.9 * s[t - 1] + 0.1 * x[t]", "x[t]", "prob[t]", "[0, inf)"),
        ("s[t - 1] + x[t]", "x[t]", "real[t]", "(-inf, inf)"),
        ("max(s[t - 1], x[t])", "x[t]", "prob[t]", "[0, 1]"),
        ("s[t - 1] - x[t]^2", "-(x[t]^2)", "real[t]", "(-inf, 0]"),
        ("logaddexp(s[t - 1], x[t])", "x[t]", "real[t]", "(-inf, inf)"),
        ("sqrt(s[t - 1])", "x[t]", "real[t]", "[-inf, inf] or undefined"),
        ("1 / s[t - 1]", "1 + x[t]^2", "real[t]", "[-inf, inf] or undefined"),
        ("log(s[t - 1])", "x[t]", "prob[t]", "[-inf, inf] or undefined"),
    ],
)
def test_invariants(body: str, start: str, kind: str, wanted: str) -> None:
    assert enclosure(recurrence(body, start, kind)) == wanted


def test_an_invariant_holds_for_all_definitions_of_a_group() -> None:
    """One that flips signs in turn is not taken for non-negative."""
    p = parse_ir(
        """
program flip
  input x: real[t]
  group t forward
    a[t] = map . b[t - 1] if t >= 1 else 1.0
    b[t] = map . -1.0 * a[t]
  value = sum t . a[t] * x[t]
  output return = value
"""
    )
    assert str(Ranges(p).tensor("a")) == "(-inf, inf)"
    assert str(Ranges(p).tensor("b")) == "(-inf, inf)"


X = "input x: real[b, t]\n"
SHAPES = [  # the body, then convex and concave of the sum over time: True proved, False not so (and not proved)
    ("s[t] = x[t]^2 + (s[t - 1] if t >= 1 else 0)", True, False),
    ("s[t] = x[t] - 2 * s[t - 1 else 0]", True, True),
    ("s[t] = max(x[t] + s[t - 1 else 0], 0)", True, False),
    ("s[t] = min(x[t] + s[t - 1 else 0], 1)", False, True),
    ("s[t] = logaddexp(s[t - 1 else 0], x[t])", True, False),
    ("s[t] = x[t]^2 - r[t - 1 else 0]\nr[t] = -(x[t]^2) - s[t - 1 else 0]", True, False),
    ("s[t] = x[t]^2 - s[t - 1 else 0]", False, False),  # every second one is concave
    ("s[t] = x[t]^2 - r[t - 1 else 0]\nr[t] = x[t]^2 - s[t - 1 else 0]", False, False),
    ("s[t] = x[t] * s[t - 1 else 1]", False, False),
    ("s[t] = x[t] + s[t - 1 else 0]^2", False, False),  # the square of what is convex and may be negative
    ("s[t] = -abs(x[t]) if t == 0 else s[t - 1] + x[t]^2", False, False),
    ("s[t] = abs(x[t]) if t == 0 else x[t] - s[t - 1]", False, False),
    ("s[t] = x[t] if t == 0 else relu(s[t - 1] - relu(x[t]))", False, False),
    ("w[t] = x[t]^2\ns[t] = w[t] - w[t - 1 else 0] + s[t - 1 else 0]", False, False),
]


@pytest.mark.parametrize(("body", "convex", "concave"), SHAPES)
def test_curvature_goes_by_induction_over_the_rounds(body: str, convex: bool, concave: bool) -> None:
    for word, wanted in (("convex", convex), ("concave", concave)):
        lines = body.replace("[t", "[b, t")
        found = status(f"{X}{lines}\nper = sum(s over t where t <= 2)", f"{word} in x")
        assert found == "proved" if wanted else found != "proved", (word, found)


def test_a_loss_over_a_recurrence_is_decided() -> None:
    from lossdsl import api

    report = api.check("gae")
    found = {f.property: type(f.verdict).__name__ for f in report.findings if f.of == "per"}
    assert found["non-negative"] == "Proved"


def test_nothing_is_added_to_a_number_in_the_logarithm() -> None:
    a, b = (Read(name, (), REAL) for name in "ab")
    nothing, box = Enclosure(-INF, -INF), Enclosure(-2.0, 3.0, True)
    for args in ([nothing, box], [box, nothing]):
        assert transfer(Apply("logaddexp", (a, b)), args) == box
    assert transfer(Apply("logaddexp", (a, b)), [nothing, nothing]) == nothing
