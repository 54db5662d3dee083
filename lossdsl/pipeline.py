"""The compiler on one screen: text -> tree -> IR -> [report] -> derivative -> stable form -> Plan -> text.

Plain functions, each stage with its own type, no globals; the well-formedness check runs after each pass.
Parts that need torch, triton or SymPy are imported by the stage that needs them, so that `check` stays light.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from lossdsl.diagnostics import Diagnostic, Severity, Source
from lossdsl.ir.build import BuiltLoss, build
from lossdsl.ir.check import check as well_formed
from lossdsl.syntax.parser import parse, readable_part
from lossdsl.verify import verify_program
from lossdsl.verify.verdict import Report


@dataclass(frozen=True)
class Analysis:
    """A source text, understood: its losses, and everything that was found wrong with it."""

    source: Source
    losses: tuple[BuiltLoss, ...]
    diagnostics: tuple[Diagnostic, ...]

    @property
    def failed(self) -> bool:
        return any(d.severity is Severity.ERROR for d in self.diagnostics)


@dataclass(frozen=True)
class Checked:
    """What `check` gives: one report for each loss that could be built."""

    analysis: Analysis
    reports: tuple[Report, ...]

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        return self.analysis.diagnostics


@dataclass(frozen=True)
class CompileResult:
    """`text` is None if the source is wrong; `notes` say what fell back to torch operations and why."""

    text: str | None
    diagnostics: tuple[Diagnostic, ...]
    reports: tuple[Report, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shown:
    text: str | None
    diagnostics: tuple[Diagnostic, ...]


def analyse(source: Source, only: str | None = None) -> Analysis:
    """Parse and build; never raises for anything that a user wrote. `only` selects one loss by name."""
    module, problems = parse(source)
    losses, found = build(readable_part(module), source)
    diagnostics = sorted([*problems, *found], key=lambda d: (d.span, d.code))
    chosen = tuple(b for b in losses if only is None or b.program.name == only)
    for built in chosen:
        well_formed(built.program)
    return Analysis(source, chosen, tuple(diagnostics))


def check(source: Source, *, effort: float = 1.0, only: str | None = None) -> Checked:
    """Analyse, and decide properties and claims of every loss; `effort` multiplies the verifier's budgets."""
    analysis = analyse(source, only)
    reports = () if analysis.failed else tuple(verify_program(b, effort=effort) for b in analysis.losses)
    return Checked(analysis, reports)


def spec_hash(source: Source) -> str:
    """The hash of a source text that the header of an emitted module pins."""
    return hashlib.sha256(source.text.encode()).hexdigest()[:16]
