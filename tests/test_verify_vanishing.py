"""Zero gradients under a condition: each verdict is held against difference quotients at random points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.test_verify_decision import P, R, relu, verdicts

Array = Any
INPUTS = """
input p, t, w: real[n]
input m: bool[n]
input y: binary[n]
param c: real > 0 = 1
"""
CASES: list[tuple[str, Callable[..., Array], str, Callable[..., Array], str]] = [
    # element, the same in numpy, condition, the same in numpy, status
    ("relu(c - p)^2", lambda p, c, **_: relu(c - p) ** 2, "p > c", lambda p, c, **_: p > c, P),
    ("relu(c - p)^2", lambda p, c, **_: relu(c - p) ** 2, "p >= c", lambda p, c, **_: p >= c, P),
    ("relu(c - p)^2", lambda p, c, **_: relu(c - p) ** 2, "p > c - 0.5", lambda p, c, **_: p > c - 0.5, R),
    ("relu(c - p)", lambda p, c, **_: relu(c - p), "p > c + 1", lambda p, c, **_: p > c + 1, P),
    (
        "min((p - t)^2, c)",
        lambda p, t, c, **_: np.minimum((p - t) ** 2, c),
        "(p - t)^2 > c",
        lambda p, t, c, **_: (p - t) ** 2 > c,
        P,
    ),
    (
        "1 - (1 - ((p - t) / c)^2)^3 if abs(p - t) <= c else 1",
        lambda p, t, c, **_: np.where(abs(p - t) <= c, 1 - (1 - ((p - t) / c) ** 2) ** 3, 1),
        "abs(p - t) > c",
        lambda p, t, c, **_: abs(p - t) > c,
        P,
    ),
    (
        "1 - (1 - ((p - t) / c)^2)^3 if abs(p - t) <= c else 1",
        lambda p, t, c, **_: np.where(abs(p - t) <= c, 1 - (1 - ((p - t) / c) ** 2) ** 3, 1),
        "abs(p - t) > 0.5 * c",
        lambda p, t, c, **_: abs(p - t) > 0.5 * c,
        R,
    ),
    ("(p - t)^2 if m else 0", lambda p, t, m, **_: np.where(m, (p - t) ** 2, 0), "not m", lambda m, **_: ~m, P),
    ("(p - t)^2 if m else 0", lambda p, t, m, **_: np.where(m, (p - t) ** 2, 0), "m", lambda m, **_: m, R),
    ("y * (p - t)^2", lambda p, t, y, **_: y * (p - t) ** 2, "y == 0", lambda y, **_: y == 0, P),
    ("y * (p - t)^2", lambda p, t, y, **_: y * (p - t) ** 2, "y == 1", lambda y, **_: y == 1, R),
    (
        "w * (p - t)^2",
        lambda p, t, w, **_: w * (p - t) ** 2,
        "w == 0 and t > 0",
        lambda w, t, **_: (w == 0) & (t > 0),
        P,
    ),
    ("w * (p - t)^2", lambda p, t, w, **_: w * (p - t) ** 2, "w <= 0", lambda w, **_: w <= 0, R),
    # what holds at single values of the input says nothing of the slope there
    ("(p - t)^2", lambda p, t, **_: (p - t) ** 2, "p == 0", lambda p, **_: p == 0, R),
    ("p", lambda p, **_: p, "p == 0", lambda p, **_: p == 0, R),
    ("clamp(p, -1, 1) * t", lambda p, t, **_: np.clip(p, -1, 1) * t, "abs(p) > 1", lambda p, **_: abs(p) > 1, P),
    ("clamp(p, -1, 1) * t", lambda p, t, **_: np.clip(p, -1, 1) * t, "p > -1", lambda p, **_: p > -1, R),
    (
        "relu(abs(p - t) - c)",
        lambda p, t, c, **_: relu(abs(p - t) - c),
        "abs(p - t) < c",
        lambda p, t, c, **_: abs(p - t) < c,
        P,
    ),
    (
        "y * relu(1 - p) + (1 - y) * relu(1 + p)",
        lambda p, y, **_: y * relu(1 - p) + (1 - y) * relu(1 + p),
        "y == 1 and p > 1",
        lambda p, y, **_: (y == 1) & (p > 1),
        P,
    ),
    (
        "y * relu(1 - p) + (1 - y) * relu(1 + p)",
        lambda p, y, **_: y * relu(1 - p) + (1 - y) * relu(1 + p),
        "p > 1",
        lambda p, **_: p > 1,
        R,
    ),
]


@pytest.mark.parametrize(
    ("per", "loss", "condition", "holds", "status"), CASES, ids=[f"{c[0]} | {c[2]}" for c in CASES]
)
def test_zero_gradient(
    per: str, loss: Callable[..., Array], condition: str, holds: Callable[..., Array], status: str
) -> None:
    [result] = verdicts(INPUTS, f"{per} + 0 * t", [f"zero gradient in p where {condition}"])
    assert result.status == status, result.verdict
    rng = np.random.default_rng(5)
    at = {k: rng.normal(0, 2, 40_000) for k in ("p", "t")}
    at["p"] = np.where(rng.random(40_000) < 0.1, 0, at["p"])
    at["w"] = rng.normal(size=40_000) * (rng.random(40_000) < 0.7)
    at["m"], at["y"], at["c"] = rng.random(40_000) < 0.5, rng.integers(0, 2, 40_000), np.array(1.0)
    step, taken = 1e-6, np.broadcast_to(holds(**at), (40_000,))
    assert taken.sum() > 50
    low, high = ({**at, "p": at["p"] + d} for d in (-step, step))
    inside = taken & holds(**low) & holds(**high) if "p ==" not in condition else taken
    slope = (loss(**high) - loss(**low)) / (2 * step)
    assert (abs(slope[inside]).max() < 1e-6) == (status == P)


def test_what_other_entries_have_a_part_in_stays_open() -> None:
    claims = ["zero gradient in p where not m", "zero gradient in p where m"]
    found = verdicts(INPUTS, "(p - mean(p over n))^2 if m else 0", claims)
    assert [r.status for r in found] == [P, "unknown"]
    [stopped] = verdicts(INPUTS, "w * stop(p) * t", ["zero gradient in p where t > 0"])
    assert stopped.status == "unknown"
