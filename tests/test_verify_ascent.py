"""Steep places that a gradient points to: what is found is certified, and what is less steep stays."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from lossdsl.ir.nodes import Const
from lossdsl.verify.ascent import Ascent, reflected
from lossdsl.verify.context import Context
from lossdsl.verify.points import Point
from lossdsl.verify.refute import steep
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
        30,  # it grows with the logarithm of g
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
    found = Ascent(ctx, "per", ("z",)).steep(point, (1,), norm)
    assert found is not None

    def value(z: np.ndarray) -> float:
        return float(np.log(np.exp(z[1]).sum()) * z[1, 0])

    z = array(point)
    wanted = np.zeros_like(z)
    for place in np.ndindex(*z.shape):
        step = np.zeros_like(z)
        step[place] = 1e-6
        wanted[place] = (value(z + step) - value(z - step)) / 2e-6
    np.testing.assert_allclose(found.gradient["z"], wanted, atol=1e-6)
    order = {"l1": np.inf, "l2": 2, "linf": 1}[norm]
    assert found.size == pytest.approx(np.linalg.norm(wanted.ravel(), order), abs=1e-6)


SPHERE = "input z, w: unit[n, d] over d"
SIMPLEX = "input p, q: simplex[n, c] over c"
HALVES = f"{SIMPLEX}\nper[n] = 3 * abs(p[c = 0] - q[c = 0])"
SURFACES = [  # the loss, the norm, and the least constant or one below it
    (f"{SPHERE}\nper[n] = 1.5 * sum(z * w over d)", "l2", 1.5),
    (f"{SPHERE}\nparam k: real > 0 = 1\nper[n] = k * sum(z * w over d)", "l1", 1000),
    (f"{SIMPLEX}\nper[n] = sum((p - q)^2 over c)", "l1", 2),
    (HALVES, "l1", 1.5),
    (HALVES, "l2", 2.1),  # the root of 9 / 2 with two classes, 3 with many
    (HALVES, "linf", 3),
]


def found(body: str, bound: float, norm: str) -> bool:
    lines = "".join(f"    {line}\n" for line in body.split("\n"))
    last = "" if "return" in body else "    return mean(per)\n"
    program = built(f"loss t:\n{lines}{last}").program
    name = program.inputs[0].name
    witness = steep(Context(program, seconds=0.05), "per", (name,), Const(Fraction(bound)), norm)
    if witness is not None:
        assert witness.method == "difference quotient"
    return witness is not None


@pytest.mark.parametrize(("body", "norm", "least"), SURFACES)
def test_steps_on_spheres_and_simplexes(body: str, norm: str, least: float) -> None:
    assert found(body, 0.95 * least, norm)


@pytest.mark.parametrize(("body", "norm", "least"), [SURFACES[k] for k in (0, 2, 3, 5)])
def test_no_steps_on_them_are_steeper(body: str, norm: str, least: float) -> None:
    assert not found(body, least, norm)


CHANGES = [  # a label, a parameter, an extent makes it steep
    (
        "input x: real[n] in [-1, 1]\ninput g: bool[n]\nper = (mean(x over n where g) - mean(x over n))^2\nreturn per",
        1.2,
    ),
    ("input x: real[...]\nparam c: real > 0 = 1\nper = c^2 * x^2 / (x^2 + c^2)", 20),
    (
        "input x: real[n, c]\ninput t: class[n] of c\nparam q: real in (0, 1] = 0.7\n"
        "per[n] = -expm1(q * log_softmax(x over c)[c = t]) / q",
        1,
    ),
]


@pytest.mark.parametrize(("body", "bound"), CHANGES, ids=["labels", "a scale", "an exponent"])
def test_steep_places_are_climbed_to(body: str, bound: float) -> None:
    assert found(body, bound, "l2")


def test_a_reflection_keeps_the_length_exactly() -> None:
    row = {(0,): Fraction(3, 5), (1,): Fraction(0), (2,): Fraction(-4, 5)}
    for mirror in ((1, 2, 3), (Fraction(1, 7), 0, 0), (0, 0, 0)):
        moved = reflected(row, {p: Fraction(m) for p, m in zip(row, mirror, strict=True)})
        assert sum(v * v for v in moved.values()) == 1


def array(point: Point) -> np.ndarray:
    entries = point.inputs["z"]
    out = np.zeros([1 + max(p[k] for p in entries) for k in range(2)])
    for place, v in entries.items():
        out[place] = float(v)
    return out
