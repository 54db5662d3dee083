"""The report card: what was found about a loss, for a terminal and as JSON."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

from rich.console import Console
from rich.text import Text

from lossdsl.diagnostics import Diagnostic, printable
from lossdsl.verify.verdict import (
    COST,
    CRITERIA,
    QUANTITIES,
    SCALABILITY,
    Bracket,
    Finding,
    Proved,
    Refuted,
    Report,
    Unknown,
    Verdict,
    Witness,
)

_STYLE = {"proved": "green", "refuted": "red", "unknown": "yellow"}
_ENTRIES = 12  # of a tensor, shown of a counterexample
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
    return "" if value is None or value == Bracket(None, None) else value.text()


def _listed(point: Mapping[str, Fraction]) -> str:
    """`x[0] = 1, delta = 2`; of a large tensor the first entries (the JSON report has all of them)."""
    tensors: dict[str, list[str]] = {}
    for name, value in point.items():
        tensors.setdefault(name.partition("[")[0], []).append(f"{name} = {exact(value)}")
    shown = [
        entries if len(entries) <= _ENTRIES else [*entries[:3], f"... ({len(entries)} entries of {tensor})"]
        for tensor, entries in tensors.items()
    ]
    return ", ".join(entry for entries in shown for entry in entries)


def witness_text(witness: Witness) -> str:
    points = "; ".join(_listed(point) for point in witness.points)
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


class Rewritten(Protocol):
    """What the card says of a rewrite (`lossdsl.advice.Rewrite`)."""

    @property
    def kind(self) -> str: ...
    @property
    def compiled(self) -> bool: ...
    @property
    def losses(self) -> tuple[str, ...]: ...
    @property
    def line(self) -> int: ...
    @property
    def before(self) -> str: ...
    @property
    def after(self) -> str: ...
    @property
    def why(self) -> str: ...


_ADVICE = (("advice: `lossdsl fix` writes this", True), ("as written; `lossdsl fix` writes this, too", False))


def print_advice(console: Console, loss: str, rewrites: Sequence[Rewritten], width: int) -> None:
    """What to write instead; then what the compiler does by itself."""
    for title, gains in _ADVICE:
        chosen = [r for r in rewrites if loss in r.losses and _gains(r) == gains]
        if chosen:
            console.print(Text(f"  {title}", style="bold cyan"))
        for r in chosen:
            console.print(Text(f"    line {r.line}: {printable(r.before)}  ->  {printable(r.after)}"), soft_wrap=True)
            for part in _wrapped(printable(r.why), 13, width):
                console.print(part, soft_wrap=True)


def _gains(rewrite: Rewritten) -> bool:
    """Whether the compiled loss is any better with it."""
    return rewrite.kind == "mends" or (rewrite.kind == "digits" and not rewrite.compiled)


def print_card(console: Console, report: Report, path: str, rewrites: Sequence[Rewritten] = ()) -> None:
    """Print the findings under the nine criteria, then the claims with their lines, then advice.

    On a terminal the evidence is wrapped to its width; else every finding is one line, however long.
    """
    width = max(60, min(console.width, 120)) if console.is_terminal else 0
    console.print(Text.assemble((report.loss, "bold"), (f"  {printable(path)}", "dim")), soft_wrap=True)
    rows = {c: [_row(f) for f in report.findings if f.criterion == c] for c in CRITERIA}
    names = max((len(r.name) for part in rows.values() for r in part), default=0)
    values = max((len(r.value) for part in rows.values() for r in part if len(r.value) <= _SHORT), default=0)
    for criterion in CRITERIA:
        if rows[criterion]:
            console.print(Text(f"  {criterion}", style="bold cyan"))
        for row in rows[criterion]:
            for line in _lines(row, min(names, 44), values, width):
                console.print(line, soft_wrap=True)
    if report.claims:
        console.print(Text("  claims", style="bold cyan"))
    for claim in report.claims:
        words = f" line {claim.line}: {printable(claim.text)}"
        text = Text.assemble((f"    {claim.status:<8}", _STYLE[claim.status]), words)
        console.print(text, soft_wrap=True)
        if claim.status != "proved" or claim.negated:
            for part in _wrapped(short(reason(claim.verdict)), 13, width):
                console.print(part, soft_wrap=True)
    print_advice(console, report.loss, rewrites, width)
    empty = [c for c in CRITERIA if not rows[c]]
    if empty:
        console.print(Text(f"  not examined yet: {', '.join(empty)}", style="dim"), soft_wrap=True)
    console.print()


_SHORT = 20  # values up to this length stand in a column
_PAIR = re.compile(r"(?<![A-Za-z0-9_\]])\[(-?[0-9.]+(?:e[+-]?[0-9]+)?), \1\]")
_COUNTED = (COST, SCALABILITY)


def short(text: str) -> str:
    """Evidence for reading: an interval of one number is the number."""
    return printable(_PAIR.sub(r"\1", text))


@dataclass(frozen=True)
class _Row:
    mark: str
    style: str
    name: str
    value: str
    evidence: str


def _row(finding: Finding) -> _Row:
    found = status(finding.verdict)
    subject = f" in {', '.join(finding.wrt)}" if finding.wrt else ""
    when = f" when {finding.when}" if finding.when else ""
    counted = finding.criterion in _COUNTED and found == "proved"
    quantity = counted or (finding.property in QUANTITIES and found == "proved")  # neither yes nor no
    of = f" of {finding.of}" if finding.of and not counted else ""
    value = finding.detail or ("" if finding.property.startswith("finite") else bracket(finding.verdict.value))
    evidence = "" if counted else reason(finding.verdict)
    mark = "=" if quantity else _MARK[found]
    return _Row(mark, _STYLE[found], printable(f"{finding.property}{of}{subject}{when}"), short(value), short(evidence))


def _lines(row: _Row, names: int, values: int, width: int) -> list[Text]:
    """`mark  property  value  evidence`; what does not fit the width stands below, indented."""
    head = Text.assemble((f"    {row.mark:<3}", row.style), f"  {row.name:<{names}}")
    in_column = len(row.value) <= _SHORT
    if in_column:
        head.append(f"  {row.value:<{values}}", style="bold")
    rest = row.evidence if in_column else "; ".join(w for w in (row.value, row.evidence) if w)
    if not rest:
        head.rstrip()
        return [head]
    if not width or len(head) + 2 + len(rest) <= width:
        return [head.append(f"  {rest}", style="dim")]
    head.rstrip()
    return [head, *_wrapped(rest, 13, width)]


def _wrapped(text: str, indent: int, width: int) -> list[Text]:
    pad = " " * indent
    lines = textwrap.wrap(text, width - indent, break_long_words=False) if width else [text]
    return [Text(f"{pad}{line}", style="dim") for line in lines]


def file_json(
    path: str, diagnostics: Sequence[Diagnostic], reports: Sequence[Report], rewrites: Sequence[Rewritten] = ()
) -> dict[str, Any]:
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
                    "path": d.span.used[-1].source.path if d.span.used else path,
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
        "advice": [
            {
                "kind": r.kind,
                "losses": list(r.losses),
                "line": r.line,
                "written": r.before,
                "instead": r.after,
                "why": r.why,
                "compiled": r.compiled,
            }
            for r in rewrites
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
