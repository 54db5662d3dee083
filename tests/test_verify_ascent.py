"""Steep places that a gradient points to: what is found is certified, and what is less steep stays."""

from __future__ import annotations

import numpy as np
import pytest

from lossdsl.verify.ascent import Ascent, dual
from lossdsl.verify.context import Context
from lossdsl.verify.points import Point
from tests.test_verify import built
from tests.test_verify_attack import status

ROW = "input z: real[n, c]"
# body, claim, the supremum of the dual norm of the gradient (by a search in numpy, rounded down; the first grows with the
# root of the number of classes), and a bound that holds (for as many as are tried)
CASES = [
    (f"{ROW}\nper[n] = sum(softplus(z) over c) - logsumexp(z over c)", "lipschitz in z", 1.35, 30),
    (
        "input z: real[...]\ninput q: prob[...]\nparam a: real in [0, 1] = 0.75\nparam g: real >= 0 = 2\n"
        "w = q if q > 0 else a * exp(g * logsigmoid(z))\nper = w * (q * softplus(-z) + (1 - q) * softplus(z))",
        "lipschitz in z",
        1.2,
        2.4,
    ),
    (f"{ROW}\nper[n] = 1.02 * norm(z - mean(z over c) over c)", "lipschitz in z", 1.0199, 1.0201),
]


@pytest.mark.parametrize(("body", "claim", "most", "bound"), CASES, ids=["exactly one", "varifocal", "distance"])
def test_a_gradient_finds_what_is_too_steep(body: str, claim: str, most: float, bound: float) -> None:
    assert status(body, f"{claim} <= {most}") == "refuted"
    assert status(body, f"{claim} <= {bound}") != "refuted"


def test_what_grows_with_an_extent_is_found_at_a_long_axis() -> None:
    entropy = f"{ROW}\np = softmax(z over c)\nper[n] = -sum(xlogy(p, p) over c)"  # a slope of log(c - 1) / 4, and more
    for norm in ("l1", "l2", "linf"):
        assert status(entropy, f"lipschitz in z <= 1 in {norm}") == "refuted"
    assert status(f"{ROW}\nper[n] = logsumexp(z over c) - mean(z over c)", "lipschitz in z <= 1 in l1") != "refuted"


def test_entries_lie_between_ends_that_are_parameters() -> None:
    program = built(
        "loss t:\n    input x: real[n] in [low, high]\n    param low, high: real = 0, 1\n    return sum(x^2 over n)\n"
    ).program
    sampler, ctx = Context(program).sampler(3), Context(program)
    points = [p for _ in range(60) if (p := sampler.point(spread=8.0, extent=3)) is not None]
    inside = sum(ctx.admits(p) for p in points)
    assert inside >= 30, f"{inside} of {len(points)}"


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_gradients_and_dual_norms_are_those_of_differences(norm: str) -> None:
    program = built(f"loss t:\n    {ROW}\n    per[n] = logsumexp(z over c) * z[c = 0]\n    return sum(per)\n").program
    ctx = Context(program)
    point = ctx.sampler(5).point(spread=2.0, extent=3)
    assert point is not None
    found = Ascent(ctx, "per", ("z",)).gradient(point, (1,))
    assert found is not None

    def value(z: np.ndarray) -> float:
        return float(np.log(np.exp(z[1]).sum()) * z[1, 0])

    z = array(point)
    wanted = np.zeros_like(z)
    for place in np.ndindex(*z.shape):
        step = np.zeros_like(z)
        step[place] = 1e-6
        wanted[place] = (value(z + step) - value(z - step)) / 2e-6
    np.testing.assert_allclose(found["z"], wanted, atol=1e-6)
    order = {"l1": np.inf, "l2": 2, "linf": 1}[norm]
    assert dual([found["z"]], norm) == pytest.approx(np.linalg.norm(wanted.ravel(), order), abs=1e-6)


def array(point: Point) -> np.ndarray:
    entries = point.inputs["z"]
    out = np.zeros([1 + max(p[k] for p in entries) for k in range(2)])
    for place, v in entries.items():
        out[place] = float(v)
    return out
