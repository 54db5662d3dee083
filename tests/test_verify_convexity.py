"""Convexity beside CVXPY: what its rules certify is proved here, and the convex spellings that they do not see through.

Its verdicts are data (`libraries/convexity.py` makes them)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lossdsl.verify import verify_program
from tests.test_verify import built

ROWS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "libraries" / "convexity.json").read_text(encoding="utf-8")
)["rows"]
CLAIMS = {"CONVEX": ["convex"], "CONCAVE": ["concave"], "AFFINE": ["convex", "concave", "affine"]}
CERTIFIED = [r for r in ROWS if r["curvature"] in CLAIMS]
# convex, and beyond the composition rules of CVXPY
BEYOND = [
    "log(1 + exp(x))",
    "log(sum(exp(z) over c)) - z[n, 0]",
    "sqrt(1 + x^2)",
    "log((exp(x) + exp(-x)) / 2)",
    "abs(x) - log(1 + abs(x))",
    "x^2 / (1 + abs(x))",
    "p * log(p / q)",
    "p * (log(p) - log(q))",
    "x^2 / q",
    "log(exp(x) + exp(y))",
    "-log(1 / (1 + exp(-x)))",
    "x^2 + 2 * x * y + y^2",
    "q * softplus(x / q)",
    "-(1 - p)^2 * log(p)",
]
OTHERS = [r for r in ROWS if r["curvature"] not in CLAIMS and r["per"] not in BEYOND]


def statuses(row: dict[str, Any], claims: list[str]) -> list[str]:
    declared = row["inputs"].split("; ")
    names = [n.strip() for d in declared for n in d.removeprefix("input").partition(":")[0].split(",")]
    lines = [*declared, f"per{'[n]' if 'z' in names else ''} = {row['per']}", "return mean(per)"]
    lines += [f"claim {c} in {', '.join(names)}" for c in claims]
    text = "loss t:\n" + "".join(f"    {line}\n" for line in lines)
    report = verify_program(built(text), searching=False)  # the claims alone
    return [c.status for c in report.claims]


@pytest.mark.parametrize("row", CERTIFIED, ids=[r["per"] for r in CERTIFIED])
def test_what_cvxpy_certifies_is_proved(row: dict[str, Any]) -> None:
    claims = CLAIMS[row["curvature"]]
    assert statuses(row, claims) == ["proved"] * len(claims)


@pytest.mark.parametrize("per", BEYOND)
def test_convex_spellings_beyond_composition_rules_are_proved(per: str) -> None:
    (row,) = [r for r in ROWS if r["per"] == per and r["curvature"] not in CLAIMS]
    assert statuses(row, ["convex"]) == ["proved"]


@pytest.mark.parametrize("row", OTHERS, ids=[r["per"] for r in OTHERS])
def test_what_is_neither_is_refuted(row: dict[str, Any]) -> None:
    assert statuses(row, ["convex", "concave"]) == ["refuted", "refuted"]


def test_the_data_are_of_these_rows() -> None:
    assert len(CERTIFIED) >= 50
    assert len(OTHERS) >= 7
