"""Reports as plain data (`lossdsl check --json`)."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from lossdsl.verify.verdict import Bracket, ClaimResult, Finding, Proved, Refuted, Report, Unknown, Verdict, Witness

_STATUS = {Proved: "proved", Refuted: "refuted", Unknown: "unknown"}


def report_json(report: Report) -> dict[str, Any]:
    """One loss: `name`, `verdicts` and `claims`, with keys that are only ever added."""
    return {
        "name": report.loss,
        "verdicts": [_finding(f) for f in report.findings],
        "claims": [_claim(c) for c in report.claims],
    }


def _finding(f: Finding) -> dict[str, Any]:
    return {
        "property": f.property,
        "of": f.of,
        "in": list(f.wrt),
        "when": f.when,
        "criterion": f.criterion,
        "detail": f.detail,
        **_verdict(f.verdict),
        "seconds": round(f.seconds, 6),
    }


def _claim(c: ClaimResult) -> dict[str, Any]:
    return {"text": c.text, "status": c.status, "verdict": _verdict(c.verdict), "line": c.line}


def _verdict(v: Verdict) -> dict[str, Any]:
    common: dict[str, Any] = {
        "status": _STATUS[type(v)],
        "value": _bracket(v.value),
        "method": None,
        "witness": None,
        "blocker": None,
    }
    match v:
        case Proved(method, steps):
            common["method"] = method
            common["steps"] = [{"rule": s.rule, "subject": s.subject, "conclusion": s.conclusion} for s in steps]
        case Refuted(method, witness):
            common["method"] = method
            common["witness"] = _witness(witness)
        case Unknown(blocker, tried):
            common["blocker"] = blocker
            common["tried"] = list(tried)
    return common


def _bracket(b: Bracket | None) -> dict[str, Any] | None:
    return None if b is None else {"lower": b.lower, "upper": b.upper, "exact": b.exact}


def _witness(w: Witness) -> dict[str, Any]:
    return {
        "points": [{name: _number(value) for name, value in point.items()} for point in w.points],
        "t": None if w.t is None else _number(w.t),
        "violation": w.violation,
    }


def _number(value: Fraction) -> str:
    """Exact: an integer or a quotient of two."""
    return str(value)
