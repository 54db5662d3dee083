"""The compiler on one screen: text -> tree -> IR -> [report] -> derivative -> stable form -> Plan -> text.

Plain functions, each stage with its own type, no globals; the well-formedness check runs after each pass.
Parts that need torch, triton or SymPy are imported by the stage that needs them, so that `check` stays light.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches

from lossdsl.assemble import assembled, cost_findings, differentiable, gradient_program, loss_spec, plans
from lossdsl.diagnostics import NOWHERE, Diagnostic, LossError, Severity, Source, in_order
from lossdsl.ir.build import BuiltLoss, build
from lossdsl.ir.check import check as well_formed
from lossdsl.ir.latex import latex
from lossdsl.ir.nodes import Program
from lossdsl.ir.text import print_ir
from lossdsl.lower.prepare import LoweringError
from lossdsl.lower.text import print_plan
from lossdsl.syntax.dump import dump, formula
from lossdsl.syntax.parser import parse, readable_part, sound_parts
from lossdsl.syntax.tree import Loss
from lossdsl.transform.arithmetic import NotYetError
from lossdsl.verify import Interrupted, verify_program
from lossdsl.verify.verdict import Report
from lossdsl.view import sympy_text

TARGETS = ("torch", "triton")


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
    """What `check` gives: one report for each loss that could be built; `broken_off` says what was being decided when the
    user interrupted it, if that was so: then the last report has what was decided until then."""

    analysis: Analysis
    reports: tuple[Report, ...]
    broken_off: str = ""

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
    """Parse and build; never raises for anything that a user wrote. `only` selects one loss by name: E0807 if the file
    has none of it."""
    module, problems = parse(source)
    losses, found = build(readable_part(module), source)
    apart = sound_parts(module) if problems else None
    if apart is not None:
        more = build(apart, source)[1]
        found += [d for d in more if d.severity is Severity.ERROR and d.code != "E0413" and d not in found]
    diagnostics = sorted([*problems, *found], key=lambda d: (in_order(d.span), d.code))
    chosen = tuple(b for b in losses if only is None or b.program.name == only)
    written = [item.name.name for item in module.items if isinstance(item, Loss)]
    if only is not None and only not in written:
        close = get_close_matches(only, written, n=1) or written[:1]
        help = f"did you mean `{close[0]}`?" if close else ""
        diagnostics.append(Diagnostic("E0807", f"there is no loss `{only}` in this file", NOWHERE, help))
    for built in chosen:
        well_formed(built.program)
    return Analysis(source, chosen, tuple(diagnostics))


def check(
    source: Source, *, effort: float = 1.0, only: str | None = None, watch: Callable[[str], None] | None = None
) -> Checked:
    """Analyse, and decide properties and claims of every loss; `effort` multiplies the verifier's budgets; `watch` is told
    what is decided next. A KeyboardInterrupt ends it: `broken_off` then says at what."""
    return _checked(source, only, lambda b: report(b, effort=effort, watch=watch))


def _checked(source: Source, only: str | None, verified: Callable[[BuiltLoss], Report]) -> Checked:
    analysis = analyse(source, only)
    reports: list[Report] = []
    for b in () if analysis.failed else analysis.losses:
        try:
            reports.append(verified(b))
        except Interrupted as stopped:
            return Checked(analysis, (*reports, stopped.report), f"{b.name}: {stopped.asked}")
    return Checked(analysis, tuple(reports))


def spec_hash(source: Source, programs: Sequence[Program] = ()) -> str:
    """The hash that the header of an emitted module pins: of the source text, and of what it means, since the meaning
    of a `use`d loss is not in the text."""
    meaning = "".join(print_ir(p) for p in programs)
    return hashlib.sha256((source.text + meaning).encode()).hexdigest()[:16]


def report(built: BuiltLoss, *, effort: float = 1.0, watch: Callable[[str], None] | None = None) -> Report:
    """The report of one loss: what is proved of it, what it costs, and its claims decided. Raises Interrupted."""
    told = watch or (lambda asked: None)
    verified = verify_program(built, effort=effort, watch=lambda asked: told(f"{built.name}: {asked}"))
    return replace(verified, findings=(*verified.findings, *cost_findings(built.program)))


@dataclass(frozen=True)
class Emitted:
    text: str
    notes: tuple[str, ...]


def emit(
    source: Source,
    losses: Sequence[BuiltLoss | Program],
    target: str,
    reports: Sequence[Report] = (),
    *,
    native: bool = False,
) -> Emitted:
    """The text of a module with these losses, and notes on what fell back to torch operations. native: with C++ for
    tensors on a CPU, which the module builds when it is first used.

    Raises LossError where a loss has a construct that this version can check but not compile, and ValueError for a
    target that there is not.
    """
    if target not in TARGETS:
        raise ValueError(f"a target is {' or '.join(TARGETS)}, not {target!r}")
    if native and target != "torch":
        raise ValueError(f"compiled CPU kernels belong to the target torch, not to {target}")
    with _uncollected():
        return _emitted(source, losses, target, reports, native)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without garbage collection meanwhile: nearly all that the compiler makes is free of cycles and stays in use."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _emitted(
    source: Source, losses: Sequence[BuiltLoss | Program], target: str, reports: Sequence[Report], native: bool
) -> Emitted:
    known = {r.loss: r for r in reports}
    specs = []
    for loss in losses:
        program = loss if isinstance(loss, Program) else loss.program
        lines = () if isinstance(loss, Program) else formula(loss.statement)
        with _placed(source, program):
            specs.append(loss_spec(program, target, known.get(program.name), lines))
    programs = [loss if isinstance(loss, Program) else loss.program for loss in losses]
    spec = assembled(source, specs, spec_hash(source, programs))
    emitter = importlib.import_module(f"lossdsl.backends.emit_{'native' if native else target}")
    try:
        text, notes = emitter.emitted(spec)
    except NotImplementedError as problem:
        message = f"`{problem}` cannot be written for {target} yet"
        raise LossError(source, [Diagnostic("E0501", message, NOWHERE)]) from problem
    return Emitted(text, tuple(notes))


@contextmanager
def _placed(source: Source, program: Program) -> Iterator[None]:
    """What a pass cannot do yet becomes E0501 at the definition that asks for it."""
    try:
        yield
    except (LoweringError, NotYetError) as problem:
        tensor = problem.tensor.rstrip("'")
        while tensor and program.definition(tensor) is None:
            tensor = tensor.rpartition(".")[0]
        found = program.definition(tensor) or program.input(problem.tensor)
        help = "`lossdsl check` and `lossdsl show --emit ir` take it all the same"
        place = found.origin if found else NOWHERE
        raise LossError(source, [Diagnostic("E0501", str(problem), place, help)]) from problem


def compile(
    source: Source, *, target: str, only: str | None = None, effort: float = 1.0, native: bool = False
) -> CompileResult:
    """Emit, after deciding claims and proving what a docstring says; nothing else is searched for counterexamples. A
    refuted claim is in the reports; whether that stops a build is the caller's decision."""
    with _uncollected():
        checked = _checked(source, only, lambda b: verify_program(b, effort=effort, searching=False))
    if checked.broken_off:
        raise KeyboardInterrupt
    losses = checked.analysis.losses
    if checked.analysis.failed or not losses:
        return CompileResult(None, _none_found(checked.diagnostics, losses))
    try:
        emitted = emit(source, losses, target, checked.reports, native=native)
    except LossError as refused:
        return CompileResult(None, (*checked.diagnostics, *refused.diagnostics), checked.reports)
    return CompileResult(emitted.text, checked.diagnostics, checked.reports, emitted.notes)


def show(source: Source, stage: str, *, only: str | None = None, why: bool = False, target: str = "torch") -> Shown:
    """The text of a stage: tree ir grad plan sympy latex torch triton."""
    if stage == "tree":
        module, problems = parse(source)
        return Shown(None if _fatal(problems) else dump(module), tuple(problems))
    analysis = analyse(source, only)
    if analysis.failed or not analysis.losses:
        return Shown(None, _none_found(analysis.diagnostics, analysis.losses))
    try:
        if stage in ("torch", "triton"):
            return Shown(emit(source, analysis.losses, stage).text, analysis.diagnostics)
        texts = []
        for built in analysis.losses:
            with _placed(source, built.program):
                texts.append(_stage(built.program, stage, why, target))
    except LossError as refused:
        return Shown(None, (*analysis.diagnostics, *refused.diagnostics))
    return Shown("\n".join(texts), analysis.diagnostics)


def _stage(program: Program, stage: str, why: bool, target: str) -> str:
    match stage:
        case "ir":
            return print_ir(program)
        case "grad":
            return print_ir(gradient_program(program, program.outputs[0].tensor, differentiable(program)))
        case "plan":
            shown = [*plans(program, "torch" if target == "native" else target).values()]
            if target == "native":
                from lossdsl.backends.native_function import native_plan

                shown = [native_plan(p) for p in shown]
            return "\n".join(print_plan(p if why else replace(p, why=())) for p in shown)
        case "latex":
            return latex(program)
    return sympy_text(program)


def _fatal(diagnostics: Sequence[Diagnostic]) -> bool:
    return any(d.severity is Severity.ERROR for d in diagnostics)


def _none_found(diagnostics: tuple[Diagnostic, ...], losses: Sequence[BuiltLoss]) -> tuple[Diagnostic, ...]:
    if losses or _fatal(diagnostics):
        return diagnostics
    return (
        *diagnostics,
        Diagnostic("E0807", "there is no loss in this file", NOWHERE, "a file is compiled loss by loss"),
    )
