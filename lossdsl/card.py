"""The report card: what was found about a loss, for a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lossdsl.diagnostics import Diagnostic, printable
from lossdsl.verify.verdict import Bracket, Finding, Proved, Refuted, Report, Unknown, Verdict, Witness

CRITERIA = (
    "task alignment",
    "learning behaviour",
    "stability and convergence",
    "computational efficiency",
    "differentiability",
    "noise sensitivity",
    "scalability",
    "interpretability",
    "provision for regularisation",
)

_STYLE = {"proved": "green", "refuted": "red", "unknown": "yellow"}
_MARK = {"proved": "yes", "refuted": "no", "unknown": "?"}


def status(verdict: Verdict) -> str:
    return {Proved: "proved", Refuted: "refuted", Unknown: "unknown"}[type(verdict)]


def exact(value: Fraction) -> str:
    """A rational as a person writes it: a short decimal where that is exact, else a fraction."""
    decimal = f"{float(value):.6g}"
    if Fraction(decimal) == value:
        return decimal
    text = str(value)
    return text if len(text) <= 24 else f"~{decimal}"


def bracket(value: Bracket | None) -> str:
    if value is None:
        return ""
    if value.exact is not None:
        return value.exact
    if value.lower is not None and value.lower == value.upper:
        return f"{value.lower:.6g}"
    low = "-inf" if value.lower is None else f"{value.lower:.6g}"
    high = "inf" if value.upper is None else f"{value.upper:.6g}"
    return f"[{low}, {high}]"


def witness_text(witness: Witness) -> str:
    points = "; ".join(
        ", ".join(f"{name} = {exact(value)}" for name, value in point.items()) for point in witness.points
    )
    middle = f", t = {exact(witness.t)}" if witness.t is not None else ""
    return f"{witness.violation}{' at ' + points if points else ''}{middle}"


def reason(verdict: Verdict) -> str:
    """One line of evidence."""
    if isinstance(verdict, Proved):
        return verdict.method
    if isinstance(verdict, Refuted):
        return witness_text(verdict.witness)
    tried = f" (tried {', '.join(verdict.tried)})" if verdict.tried else ""
    return f"not decided: {verdict.blocker}{tried}"


def print_card(console: Console, report: Report, path: str) -> None:
    """Print the findings under the nine criteria, then the claims with their lines."""
    console.print(Text(f"{report.loss}", style="bold") + Text(f"  {printable(path)}", style="dim"))
    for criterion in CRITERIA:
        findings = [f for f in report.findings if f.criterion == criterion]
        if not findings:
            continue
        console.print(Text(f"  {criterion}", style="bold cyan"))
        grid = Table.grid(padding=(0, 2))
        grid.add_column(width=3)
        grid.add_column()
        grid.add_column()
        grid.add_column(ratio=1)
        for finding in findings:
            grid.add_row(*_row(finding))
        console.print(_indented(grid))
    if report.claims:
        console.print(Text("  claims", style="bold cyan"))
    for claim in report.claims:
        style = _STYLE[claim.status]
        line = Text(f"    {claim.status:<8}", style=style) + Text(f" line {claim.line}: {printable(claim.text)}")
        console.print(line)
        if claim.status != "proved" or claim.negated:
            console.print(Text(f"             {printable(reason(claim.verdict))}", style="dim"), soft_wrap=True)
    console.print()


def _indented(grid: Table) -> Any:
    from rich.padding import Padding

    return Padding(grid, (0, 0, 0, 4))


def _row(finding: Finding) -> tuple[Text, Text, Text, Text]:
    mark = status(finding.verdict)
    style = _STYLE[mark]
    subject = f" in {', '.join(finding.wrt)}" if finding.wrt else ""
    when = f" when {finding.when}" if finding.when else ""
    value = finding.detail or bracket(finding.verdict.value)
    return (
        Text(_MARK[mark], style=style),
        Text(printable(f"{finding.property} of {finding.of}{subject}{when}" if finding.of else finding.property)),
        Text(printable(value), style="bold"),
        Text(printable(reason(finding.verdict)), style="dim"),
    )


def file_json(path: str, diagnostics: Sequence[Diagnostic], reports: Sequence[Report]) -> dict[str, Any]:
    """One entry of `check --json`; keys are only ever added."""
    return {
        "path": path,
        "diagnostics": [
            {
                "code": d.code,
                "severity": d.severity.value,
                "message": d.message,
                "span": {
                    "line": d.span.line,
                    "column": d.span.column,
                    "end_line": d.span.end_line,
                    "end_column": d.span.end_column,
                },
                "help": d.help,
            }
            for d in diagnostics
        ],
        "losses": [
            {
                "name": r.loss,
                "verdicts": [_finding_json(f) for f in r.findings],
                "claims": [
                    {"text": c.text, "status": c.status, "verdict": verdict_json(c.verdict), "line": c.line}
                    for c in r.claims
                ],
            }
            for r in reports
        ],
    }


def _finding_json(f: Finding) -> dict[str, Any]:
    return {
        "property": f.property,
        "of": f.of,
        "in": list(f.wrt),
        "when": f.when,
        **verdict_json(f.verdict),
        "detail": f.detail,
        "criterion": f.criterion,
        "seconds": round(f.seconds, 4),
    }


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    value = verdict.value
    entry: dict[str, Any] = {
        "status": status(verdict),
        "value": None if value is None else {"lower": value.lower, "upper": value.upper, "exact": value.exact},
        "method": None if isinstance(verdict, Unknown) else verdict.method,
        "witness": None,
        "blocker": verdict.blocker if isinstance(verdict, Unknown) else None,
    }
    if isinstance(verdict, Refuted):
        entry["witness"] = {
            "points": [{name: str(v) for name, v in point.items()} for point in verdict.witness.points],
            "t": None if verdict.witness.t is None else str(verdict.witness.t),
            "violation": verdict.witness.violation,
        }
    if isinstance(verdict, Proved):
        entry["steps"] = [{"rule": s.rule, "subject": s.subject, "conclusion": s.conclusion} for s in verdict.steps]
    return entry
