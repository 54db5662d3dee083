"""The explanation of one verdict: which proof or counterexample it is decides how it is told.

Every telling asks the engine that found the proof once more; where that does not lead to the same end (a budget ran out
meanwhile), the steps that the verdict carries are told instead. So an explanation never says more than was proved.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from lossdsl.diagnostics import Diagnostic, Severity, Source
from lossdsl.explain import floats, pieces, rules, symmetries, walks, witness
from lossdsl.explain.question import Question, ask
from lossdsl.explain.sentence import Line, line, numbered_latex, numbered_text, words
from lossdsl.ir.nodes import Apply, Compare, Const, Input, Read, Scalar
from lossdsl.ir.rewrite import substitute
from lossdsl.pipeline import analyse
from lossdsl.syntax.tree import Axis
from lossdsl.verify import labels, properties
from lossdsl.verify.algebra import TooLarge
from lossdsl.verify.claims import Blocked, Claims
from lossdsl.verify.context import Context
from lossdsl.verify.curvature import Curvatures
from lossdsl.verify.pieces import NotScalar, View, contains, dependents, fold, inline
from lossdsl.verify.scalar import Stuck
from lossdsl.verify.show import text
from lossdsl.verify.trends import METHOD as MONOTONE
from lossdsl.verify.trends import Trend, Trends
from lossdsl.verify.verdict import ERRORS, QUANTITIES, Proved, Refuted, Unknown, Verdict


@dataclass(frozen=True)
class Explanation:
    """A question of one loss, its verdict, and the lines that show it."""

    loss: str
    title: str
    verdict: Verdict
    lines: tuple[Line, ...]
    conclusion: Line
    meaningless: bool = False

    @property
    def status(self) -> str:
        return {Proved: "proved", Refuted: "refuted", Unknown: "unknown"}[type(self.verdict)]

    def text(self) -> str:
        head = f"{self.loss}: {self.title}"
        body = numbered_text(self.lines)
        return "\n".join(part for part in (head, body, f"  {self.conclusion.text()}") if part)

    def latex(self) -> str:
        head = rf"\paragraph{{{words(f'{self.loss}: {self.title}')}.}}"
        body = numbered_latex(self.lines) if self.lines else ""
        return "\n".join(part for part in (head, body, self.conclusion.latex()) if part) + "\n"


@dataclass(frozen=True)
class Explained:
    """All explanations, or what is wrong with the file or the words; `source` is what the diagnostics are about."""

    explanations: tuple[Explanation, ...]
    diagnostics: tuple[Diagnostic, ...]
    source: Source


def explain(source: Source, question: str, *, only: str | None = None, effort: float = 1.0) -> Explained:
    """Why each loss of the file has the property, or has it not."""
    analysis = analyse(source, only)
    if analysis.failed or not analysis.losses:
        return Explained((), analysis.diagnostics, source)
    found: list[Explanation] = []
    wrong: Explained | None = None
    for built in analysis.losses:
        asked = ask(built, question, effort=effort)
        if any(d.severity is Severity.ERROR for d in asked.diagnostics):
            wrong = Explained((), asked.diagnostics, asked.source)
            continue
        found += [explained(q) for q in asked.questions]
    if wrong is not None and not found:
        return wrong
    return Explained(tuple(found), (), source)


def explained(q: Question) -> Explanation:
    """The explanation of one question."""
    reason = _no_sense(q)
    if reason:
        end = line(f"This question makes no sense here: {reason}.")
        return Explanation(q.built.program.name, q.title, Unknown(reason), (), end, meaningless=True)
    verdict = q.verdict()
    match verdict:
        case Proved():
            lines = _once(_tell(lambda: proof(q, verdict)) or rules.told(verdict.steps))
        case Refuted():
            numbers = _tell(lambda: counterexample(q, verdict))
            lines = [*witness.points(verdict.witness), *numbers]
            if not numbers or verdict.method not in _SHOWN:
                where = "There" if any(verdict.witness.points) else "Everywhere"
                lines.append(line(f"{where}, {_POINT.sub(lambda m: m[1], verdict.witness.violation)}."))
        case Unknown():
            lines = [line(f"Tried: {t}.") for t in dict.fromkeys(verdict.tried)]
            lines.append(line(f"What no rule gets past: {verdict.blocker}."))
    if len(lines) > _MOST_LINES:
        left = len(lines) - _MOST_LINES
        lines = [*lines[:_MOST_LINES], line(f"and {left} more lines of the same kind.")]
    return Explanation(q.built.program.name, q.title, verdict, tuple(lines), _conclusion(q, verdict))


def _tell(how: Callable[[], list[Line]]) -> list[Line]:
    try:
        return how()
    except (Stuck, NotScalar, TooLarge, Blocked, RecursionError, OverflowError, ZeroDivisionError, AssertionError):
        return []


_MOST_LINES = 400
_SHOWN = ("chord", "difference quotient", "one-sided derivatives", "transformed point")  # the numbers say all of it
_POINT = re.compile(r"\[(-?[0-9.]+(?:e[+-]?[0-9]+)?), \1\]")  # an interval of one number


def _once(lines: list[Line]) -> list[Line]:
    """Without steps that have been told already, parts included."""
    blocks: dict[tuple[str, ...], list[Line]] = {}
    block: list[Line] = []
    for item in [*lines, line("")]:
        if item.depth == 0 and block:
            blocks.setdefault(tuple(part.text() for part in block), block)
            block = []
        block.append(item)
    return [item for block in blocks.values() for item in block]


def _conclusion(q: Question, verdict: Verdict) -> Line:
    plain = q.title.removeprefix("not ")
    match verdict:
        case Proved():
            value = verdict.value.exact if verdict.value is not None and verdict.value.exact else ""
            end = f"Hence it is proved: {plain}."
            if value and q.kind == "range":
                end = f"Hence every value is in {value}."
            elif q.kind in ERRORS:
                end = f"Hence the {plain} is at most {value}."
            elif q.kind in QUANTITIES and q.kind != "range" and verdict.value is not None:
                end = f"Hence the {plain} is {value or f'in {verdict.value.text()}'}."
            elif value and q.kind == "lipschitz" and q.claim is not None and q.claim.bound is None:
                end = f"Hence it is proved: {plain}, with the constant {value}."
        case Refuted():
            end = f"Hence it is refuted: {plain}."
        case Unknown():
            end = f"Nothing is proved or refuted of: {plain}. More time: --effort."
    if q.negated and not isinstance(verdict, Unknown):
        end += f" The claim `{q.title}` is {'refuted' if isinstance(verdict, Proved) else 'proved'}."
    return line(end)


def _no_sense(q: Question) -> str:
    """Why a question cannot be asked of this loss; empty if it can."""
    if q.why_not:
        return q.why_not
    # a regression's score may be proper for a density; only of a label is there a likelier one, and noise
    if q.claim is not None and q.claim.kind == "word" and q.claim.word in ("calibrated", "noise symmetric"):
        try:
            labels.problem(q.ctx, q.target, None)
        except labels.NoProblem as reason:
            if "no input is a label" in str(reason):
                return (
                    f"`{q.claim.word}` is about the loss of one label and one prediction, and {reason} "
                    "(a label is an input of kind sign, binary or class, or a real in [0, 1])"
                )
    return ""


# ------------------------------------------------------------------------------------------------- proofs


def proof(q: Question, verdict: Proved) -> list[Line]:
    """A proof, told by the engine that found it; empty if it is only known by its steps."""
    for ctx, target in _contexts(q):
        lines = _proof(q, ctx, target, verdict)
        if lines:
            return lines
    return []


def _contexts(q: Question) -> list[tuple[Context, str]]:
    """The question as it is put, then in stable primitives."""
    asked = [(q.ctx, q.target)]
    if q.claim is not None and q.claim.kind in ("bound", "equal"):
        asked = [(ctx, target) for ctx, target, _ in Claims(q.built, q.ctx).gaps(q.claim, q.ctx)]
    return asked + [(s, target) for ctx, target in asked if (s := ctx.stable()) is not None]


def _above_least(q: Question, ctx: Context, target: str) -> tuple[Context, list[Line]] | None:
    """For a minimum at a place: the difference to the value there, which is to be >= 0."""
    condition = q.condition
    definition = ctx.program.definition(target)
    if not isinstance(condition, Compare) or definition is None or definition.head != "map":
        return None
    for a, b in ((condition.a, condition.b), (condition.b, condition.a)):
        if isinstance(a, Read) and ctx.program.input(a.tensor) is not None and not contains(b, a):
            body = inline(ctx.program, definition.body)
            least = fold(substitute(body, {a: b}))
            wider = properties.with_difference(ctx, "$gap", least, body)
            opening = line("To be shown: nowhere is ", body, " less than where ", condition, ". The difference:")
            return wider, [opening]
    return None


def _proof(q: Question, ctx: Context, target: str, verdict: Proved) -> list[Line]:
    opening: list[Line] = []
    if q.kind.startswith(("minimum", "unique minimum")):
        found = _above_least(q, ctx, target)
        if found is None:
            return []
        ctx, opening = found
        target = "$gap"
        if getattr(properties.nonnegative(ctx, target), "method", None) != verdict.method:
            return []
    elif q.kind in ("infimum", "zero gradient"):
        return []
    cases = _views(ctx, target, q.inputs)
    bound = _bound(q)
    strict = q.kind == "positive" or (q.claim is not None and (q.claim.op in ("<", ">")))
    match verdict.method:
        case "composition rules" | "convex and concave":
            return _composition(q, ctx, target)
        case "second derivative, piece by piece" if cases:
            sharp = [s for s in verdict.steps if s.rule == "second derivative"]  # 0 at single points at most
            return [*pieces.curved(cases, ctx.budget, concave="concave" in q.title), *rules.told(sharp)]
        case "derivative, piece by piece" if cases:
            return _derivative(q, ctx, cases, verdict, bound)
        case "value, piece by piece":
            for i in ctx.program.inputs:
                cases = _views(ctx, target, (i.name,), interior=False) if i.differentiable else []
                if cases:
                    return [*opening, *pieces.between(cases, Const(0), None, ctx.budget, order=0, strict=strict)]
            return []
        case "joins of smooth pieces" if cases:
            return pieces.classes(cases, ctx.budget, _class_order(q))
        case "shift response" | "scale response":
            entry, along = _along(q, ctx)
            return symmetries.invariance(ctx, target, verdict.method.split(" ")[0], entry, along)
        case "permutation":
            return symmetries.permutation(ctx, target, *_along(q, ctx))
        case "canonical form" if "exchange" in q.title:
            names = q.inputs if len(q.inputs) == 2 else (*q.inputs, q.other)
            return symmetries.exchanged(ctx, target, *names)
        case "canonical form":
            return symmetries.negated(ctx, target, q.inputs)
        case "composition":
            varying = frozenset().union(*(dependents(ctx.program, x) for x in q.inputs))
            return walks.smooth(ctx.program, ctx.ranges(q.inputs), target, varying)
        case "interval enclosure":
            return [*opening, *walks.enclosures(ctx.ranges(), target)]
        case _ if q.kind in ERRORS:
            return floats.rounding(ctx, target, q.kind.rpartition(" ")[2], *q.inputs)
        case method if method == MONOTONE:
            return _monotone(q, ctx, target)
        case method if method.startswith("float ranges"):
            return floats.ranges(ctx, target, (q.claim.word if q.claim is not None else None) or "float32")
    return []


def _along(q: Question, ctx: Context) -> tuple[Input, frozenset[int]]:
    """The input of an invariance, and the positions of its axes."""
    entry = next(i for i in ctx.program.inputs if i.name == q.inputs[0])
    if q.claim is not None:
        axes = None if q.claim.over is None else [a.name if isinstance(a, Axis) else "..." for a in q.claim.over]
    else:
        axes = list(q.axes) or None
    return entry, frozenset(k for k, a in enumerate(entry.axes) if axes is None or a in axes)


def _composition(q: Question, ctx: Context, target: str) -> list[Line]:
    """Curvature node by node: both, for what is affine."""
    for deep in (False, True):
        found = Curvatures(ctx.program, ctx.ranges(q.inputs), q.inputs, ctx.budget, deep=deep)
        shape = found.tensor(target)
        if shape.concave if "concave" in q.title and "strictly" not in q.title else shape.convex:
            if q.claim is None or q.claim.word != "affine" or shape.affine:
                return walks.curvature(found, target)
    return []


def _derivative(q: Question, ctx: Context, cases: list[View], verdict: Proved, bound: Scalar | None) -> list[Line]:
    claim = q.claim
    if claim is None:
        return []
    strict = (claim.word or "").startswith("strictly")
    match claim.kind:
        case "monotone":
            up = (claim.word or "").endswith("increasing")
            low, high = (Const(0), None) if up else (None, Const(0))
            return pieces.between(cases, low, high, ctx.budget, order=1, strict=strict)
        case "lipschitz":
            if bound is None:
                shown = verdict.value.exact if verdict.value is not None else None
                bound = next((b for b in properties.candidates(ctx.program) if text(b) == shown), None)
            if bound is None:
                return []
            return pieces.between(cases, fold(Apply("neg", (bound,))), bound, ctx.budget, order=1)
        case "gradient lipschitz" if bound is not None:
            return pieces.between(cases, fold(Apply("neg", (bound,))), bound, ctx.budget, order=2)
        case "strongly convex" if bound is not None:
            return pieces.between(cases, bound, None, ctx.budget, order=2)
    return []


def _monotone(q: Question, ctx: Context, target: str) -> list[Line]:
    entry = q.inputs[0]

    def by_slope(name: str) -> Trend:
        found = [properties._slope_sign(ctx, name, entry, increasing=up, strict=False) for up in (True, False)]
        rises, falls = (isinstance(v, Proved) for v in found)
        return Trend(rises, falls)

    return walks.trend(Trends(ctx.program, ctx.ranges(q.inputs), entry, by_slope), target)


def _views(ctx: Context, target: str, inputs: tuple[str, ...], *, interior: bool = True) -> list[View]:
    if len(inputs) != 1:
        return []
    found = properties.scalar_views(ctx, target, inputs[0], interior=interior)
    return [] if isinstance(found, str) else found


def _bound(q: Question) -> Scalar | None:
    if q.claim is None or q.claim.bound is None:
        return None
    return Claims(q.built, q.ctx).constant(q.claim.bound)


def _class_order(q: Question) -> int:
    word = q.claim.word if q.claim is not None else q.kind
    return {"C0": 0, "C1": 1, "differentiable": 1, "C2": 2, "smooth": 3}.get(word or "", 1)


# ---------------------------------------------------------------------------------------- counterexamples


def counterexample(q: Question, verdict: Refuted) -> list[Line]:
    """The numbers behind a counterexample."""
    program = q.ctx.program
    found = verdict.witness
    if verdict.method.startswith("float ranges"):
        return floats.overflow(q.ctx, q.target, (q.claim.word if q.claim is not None else None) or "float32", found)
    if verdict.method == "one-sided derivatives" and (cases := _views(q.ctx, q.target, q.inputs)):
        order = next((k for k in range(4) if pieces.kink(cases, q.ctx.budget, k)), 0)
        return pieces.kink(cases, q.ctx.budget, order)
    if verdict.method == "chord":
        return witness.chord(program, q.target, q.inputs, found, concave="concave" in q.title)
    bound = _bound(q)
    if q.kind == "lipschitz" and bound is not None and len(found.points) == 2:
        norm = (q.claim.norm if q.claim is not None else None) or "l2"
        return witness.steep(program, q.target, q.inputs, found, bound, norm)
    if len(found.points) <= 2 and q.kind not in ("word",):
        ctx, target = _contexts(q)[0]
        return witness.moved(ctx.program, target, found)
    return []


__all__ = ["Explained", "Explanation", "explain", "explained"]
