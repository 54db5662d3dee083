"""Strict convexity, quasiconvexity, infima, unique minima: each verdict is held against a search on a grid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.test_verify_decision import P, R, relu, sp, verdicts

Array = Any
STRICT, QUASI, LEAST, ONLY = (
    "strictly convex in p",
    "quasiconvex in p",
    "infimum of per == 0",
    "unique minimum of per at p == t",
)
INPUTS = "input p, t: real[...]\nparam c: real > 0 = 1\nr = p - t"

CASES: list[tuple[str, Callable[[Array], Array], dict[str, str]]] = [  # of r, at c = 1
    ("r^2", lambda r: r**2, {STRICT: P, QUASI: P, LEAST: P, ONLY: P}),
    ("r^4", lambda r: r**4, {STRICT: P, ONLY: P}),
    ("abs(r)", abs, {STRICT: R, QUASI: P, LEAST: P, ONLY: P}),
    (
        "r^2 / 2 if abs(r) <= c else c * abs(r) - c^2 / 2",
        lambda r: np.where(abs(r) <= 1, r**2 / 2, abs(r) - 0.5),
        {STRICT: R, ONLY: P},
    ),
    ("sqrt(1 + r^2)", lambda r: np.sqrt(1 + r**2), {STRICT: P, QUASI: P, ONLY: P}),
    ("abs(r) - log1p(abs(r))", lambda r: abs(r) - np.log1p(abs(r)), {STRICT: P, QUASI: P}),
    ("log1p(r^2)", lambda r: np.log1p(r**2), {STRICT: R, QUASI: P, LEAST: P, ONLY: P}),
    ("-expm1(-r^2 / (2 * c^2))", lambda r: -np.expm1(-(r**2) / 2), {STRICT: R, QUASI: P, LEAST: P, ONLY: P}),
    (
        "1 - (1 - (r / c)^2)^3 if abs(r) <= c else 1",
        lambda r: np.where(abs(r) <= 1, 1 - (1 - r**2) ** 3, 1),
        {QUASI: P, LEAST: P},
    ),
    ("relu(r)^2", lambda r: relu(r) ** 2, {STRICT: R, QUASI: P, LEAST: P}),
    ("exp(-r)", lambda r: np.exp(-r), {STRICT: P, QUASI: P, LEAST: P, ONLY: R}),
    ("softplus(r)", sp, {STRICT: P, QUASI: P, LEAST: P, ONLY: R}),
    ("exp(r) + exp(-2 * r)", lambda r: np.exp(r) + np.exp(-2 * r), {STRICT: P, ONLY: R}),
    ("r^3", lambda r: r**3, {STRICT: R, QUASI: P, LEAST: R, ONLY: R}),
    ("-r^2", lambda r: -(r**2), {STRICT: R, QUASI: R, LEAST: R, ONLY: R}),
    ("(r^2 - 1)^2", lambda r: (r**2 - 1) ** 2, {STRICT: R, QUASI: R, LEAST: P, ONLY: R}),
    ("sin(r)^2", lambda r: np.sin(r) ** 2, {STRICT: R, QUASI: R}),
    # convex, strictly so but for a piece of length 1
    ("relu(abs(r) - 1 / 2)^2", lambda r: relu(abs(r) - 0.5) ** 2, {STRICT: R, QUASI: P, LEAST: P}),
    ("r^2 + 1", lambda r: r**2 + 1, {STRICT: P, ONLY: P}),
    ("0 * r", lambda r: 0 * r, {STRICT: R, QUASI: P, LEAST: P}),
]
GRID = np.linspace(-12, 12, 4801)


def holds(f: Callable[[Array], Array], claim: str) -> bool:
    v = np.broadcast_to(f(GRID), GRID.shape)
    if claim == STRICT:
        return all((v[: -2 * k] + v[2 * k :] - 2 * v[k:-k] > 1e-13).all() for k in (80, 400))
    if claim == QUASI:
        return all((v[k:-k] <= np.maximum(v[: -2 * k], v[2 * k :]) + 1e-12).all() for k in (40, 200, 900))
    if claim == LEAST:
        return bool(-1e-12 < v.min() < 1e-4)
    return bool(v[2400] == v.min() and (np.delete(v, 2400) > v.min()).all())


@pytest.mark.parametrize(("per", "f", "expected"), CASES, ids=[c[0] for c in CASES])
def test_shapes(per: str, f: Callable[[Array], Array], expected: dict[str, str]) -> None:
    claims = (STRICT, QUASI, LEAST, ONLY)
    for claim, result in zip(claims, verdicts(INPUTS, per, claims), strict=True):
        assert result.status == expected.get(claim, result.status), (claim, result.verdict)
        if result.status != "unknown":
            assert holds(f, claim) == (result.status == P), (claim, result.verdict)


def test_concave_and_others() -> None:
    assert [r.status for r in verdicts(INPUTS, "log(c + exp(0 * r)) - r^2", ["strictly concave in p"])] == [P]
    inputs = "input a, b: real[n] >= 0\ninput z: real[n, k]"
    found = verdicts(inputs, "a * b", ["quasiconvex in a, b", "strictly convex in a", "quasiconvex in a"])
    assert [r.status for r in found] == [R, R, P]
    # of several entries, a monotone function need not be quasiconvex
    [several] = verdicts(inputs, "-logsumexp(-z over k)", ["quasiconvex in z"])
    assert several.status != P
    bounded = "input p: real[...] in [1, 2]\ninput t: real[...]"  # the bound is not reached in the domain
    assert verdicts(bounded, "p^2 + 0 * t", ["infimum of per == 0"])[0].status != P


def test_an_infimum_depends_on_no_input() -> None:
    [result] = verdicts("input p, t: real[...]", "(p - t)^2 + t", ["infimum of per == t"])
    assert result.status == "unknown"


def test_an_infimum_holds_for_every_value_of_a_switch() -> None:
    switched = INPUTS + "\nparam lifted: bool = false"
    [lifted] = verdicts(switched, "r^2 + (1 if lifted else 0)", [LEAST])
    assert lifted.status != P  # 1 where it is true
    [either] = verdicts(switched, "r^2 if lifted else abs(r)", [LEAST])
    assert either.status == P


ALPHA = INPUTS + "\nparam a: real = 1"
BARRON = "r^2 / 2 if a == 2 else log1p(r^2 / 2) if a == 0 else abs(a - 2) / a * expm1(a / 2 * log1p(r^2 / abs(a - 2)))"


def test_numbers_that_differ_do_so_one_way_or_the_other() -> None:
    claims = ["C2 in p", "quasiconvex in p", "per >= 0", LEAST, ONLY, "convex in p"]
    assert [v.status for v in verdicts(ALPHA, BARRON, claims)] == [P, P, P, P, P, R]
    [pole] = verdicts(ALPHA, "r^2 if a == 1 else r^2 / a", ["C0 in p"])  # a != 1 does not keep it from 0
    assert pole.status != P
    [kink] = verdicts(ALPHA, "abs(r) / a if a != 0 else r^2", ["C1 in p"])
    assert kink.status != P
    [falls] = verdicts(ALPHA, "r^2 / a if a != 0 else r^2", ["per >= 0"])
    assert falls.status != P


def test_values_of_one_increasing_function_are_told_apart_by_their_arguments() -> None:
    inputs = INPUTS + "\nparam a, b: real > 0 = 1, 2"
    rises, falls = "a * (log(r^2 + b) - log(b)) + c * abs(r)", "a * (log(b) - log(r^2 + b)) + c * abs(r)"
    assert [verdicts(inputs, body, ["per >= 0"])[0].status for body in (rises, falls)] == [P, R]
    nested = "exp(log(r^2 + b) - log(b)) - log(r^2 + b) + log(b) - 1"  # exp(u) - u - 1, in which both occur twice
    assert verdicts(inputs, nested, ["per >= 0"])[0].status != R
    assert verdicts(inputs, f"-({nested})", ["per >= 0"])[0].status != P


def test_a_convex_loss_is_positive_and_least_at_one_place_if_it_is_so_where_it_is_flat() -> None:
    inputs = f"{INPUTS}\nz = r / c\nu = z / sqrt(2)"
    crps = "c * (z * erf(u) + sqrt(2 / pi) * exp(-u^2) - 1 / sqrt(pi))"
    assert [v.status for v in verdicts(inputs, crps, ["per > 0", "minimum of per at p == t", ONLY])] == [P, P, P]
    lower = crps.replace("1 / sqrt(pi)", "1")
    assert [v.status for v in verdicts(inputs, lower, ["per > 0", ONLY])] == [R, P]
