"""Losses whose entries are coupled: certified values of orders, matrices and folds over nothing, and what is refuted and
proved of such losses."""

from __future__ import annotations

import numpy as np
import pytest

from lossdsl.ir.interpret import interpret
from lossdsl.verify.context import Context
from lossdsl.verify.points import Evaluator, Undecided, elements
from tests.test_verify import built
from tests.test_verify_attack import status

ROW = "input z: real[n, c]\n"
FOLDS = [
    "sum(r * sorted over c)\n    place = argsort(z over c)\n    sorted = z[c = place]\n    r[c] = 1 + c",
    "sum(r * sorted over c)\n    place = argsort(-z^2 over c where c > 0)\n    sorted = z[c = place]\n    r[c] = 1 + c",
    "argmax(z over c) * 1.0",
    "argmin(z + c over c) * 1.0",
    "logsumexp(z over c where z > 100)",
    "logsumexp(z over c where z > 0)",
    "logdet(m over c, d)\n    axis d = c\n    m = (z + 3 if c == d else 1/4)",
    "sum(inverse(m over c, d) * z over c, d)\n    axis d = c\n    m = (z^2 + 3 if c == d else z * 1/4)",
]


def _loss(per: str) -> str:
    first, *rest = per.split("\n")
    lines = [line.strip() for line in rest]
    return "\n".join([*lines, f"per = {first}"])


@pytest.mark.parametrize("per", FOLDS)
def test_certified_values_hold_what_the_program_computes(per: str) -> None:
    lines = "".join(f"    {line}\n" for line in (ROW + _loss(per)).splitlines())
    program = built(f"loss t:\n{lines}    return mean(per)\n").program
    sampler = Context(program).sampler(3)
    seen = 0
    for k in range(40):
        point = sampler.point(spread=4.0, extent=(2, 3, 1)[k % 3])
        assert point is not None
        z = np.zeros((point.extents["n"], point.extents["c"]))
        for place, v in point.inputs["z"].items():
            z[place] = float(v)
        computed = interpret(program, {"z": z}, outputs=["per"])["per"]
        for place in elements(program, "per", point):
            try:
                box = Evaluator(program, point).element("per", place)
            except (Undecided, ValueError):
                continue
            if np.isfinite(computed[place]):
                assert box.lo - 1e-9 <= computed[place] <= box.hi + 1e-9, (per, point)
                seen += box.hi - box.lo < 1e-9
            else:
                assert box.lo == box.hi == computed[place]
    assert seen > 20 or "100" in per


def test_equal_entries_are_sorted_by_place() -> None:
    program = built(f"loss t:\n    {ROW}    per = argsort(z over c) * 1.0\n    return mean(per)\n").program
    point = Context(program).sampler(1).point(spread=1.0, extent=3)
    assert point is not None
    point.inputs["z"] = dict.fromkeys(point.inputs["z"], point.inputs["z"][0, 0])
    assert [Evaluator(program, point).element("per", (0, r)).lo for r in range(3)] == [0, 1, 2]


def test_what_cannot_be_told_apart_has_no_order() -> None:
    program = built(
        f"loss t:\n    {ROW}    per = argsort(exp(z)^2 - exp(2 * z) over c) * 1.0\n    return mean(per)\n"
    ).program
    point = Context(program).sampler(1).point(spread=1.0, extent=2)
    assert point is not None
    point.inputs["z"] = {p: v + k + 1 for k, (p, v) in enumerate(point.inputs["z"].items())}
    with pytest.raises(Undecided):
        Evaluator(program, point).element("per", (0, 0))


SORTED = "place = argsort(z over c)\nranked = z[c = place]\n"
TRUE_OR_FALSE = [
    (ROW + SORTED + "per = sum(ranked * c over c)", "concave in z", False),
    (ROW + SORTED + "per = sum(ranked * c over c)", "affine in z", False),
    (ROW + "per = max(z over c) - 3 * min(z over c)", "affine in z", False),
    (ROW + "per = sum(tanh(z) over c)", "affine in z", False),
    ("input z: real[n, a, b]\nper = sum(z^2 over a, b)", "invariant under permutation of z over a, b", True),
    ("input z: real[n, a, b]\nper = max(sum(z over a) over b)", "invariant under permutation of z over a, b", True),
    ("input z: real[n, a, b]\nper = sum(z * (1 + a) over a, b)", "invariant under permutation of z over b", True),
    ("input z: real[n, a, b]\nper = sum(z * (1 + a) over a, b)", "invariant under permutation of z over a, b", False),
    ("input x: real[...]\nper = x^2 - abs(x)", "even in x", True),
    ("input x: real[...] in [-2, 2]\nper = x^2", "even in x", True),
    ("input x: real[...] >= 0\nper = x^2", "even in x", False),  # on half a line
    ("input x: prob[...]\nper = (x - x)^2", "odd in x", False),
    ("input x: real[...] in [-1, 2]\nper = abs(x)", "even in x", False),
    (
        "input z: real[n, d]\nper = sum(z / max(norm(z over d), 1e-12) over d)",
        "invariant under scale of z over d",
        False,
    ),
    ("input z: real[n, d]\nper = sum(z over d) / (norm(z over d) + 1e-9)", "invariant under scale of z over d", False),
    ("input z: real[n, d] > 0\nper = sum(z over d) / max(z over d)", "invariant under scale of z over d", True),
    ("input x, y: real[...]\nper = (x - y)^2", "invariant under permutation of x", False),
]


@pytest.mark.parametrize(
    ("body", "claim", "true"), TRUE_OR_FALSE, ids=[f"{c} of {b[-30:]}" for b, c, _ in TRUE_OR_FALSE]
)
def test_of_coupled_entries(body: str, claim: str, true: bool) -> None:
    assert status(body, claim) == ("proved" if true else "refuted")
