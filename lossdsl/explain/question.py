"""From the words of `--explain` to questions: a claim of the language, a row of the table of questions, the range, or a
number of the card.

The words are read by the parser of claims in the scope of the loss, as one more claim of the file would be; so all of
its diagnostics, suggestions included, hold here too. Where a claim would name an input and the words do not, the
question is asked for each real input that the target depends on, as the report card does.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial

from lossdsl.diagnostics import Diagnostic, Severity, Source, Span
from lossdsl.ir.build import BuiltLoss
from lossdsl.ir.nodes import Scalar
from lossdsl.pipeline import analyse
from lossdsl.syntax import tree
from lossdsl.syntax.explain import PROPERTIES
from lossdsl.verify.brackets import NUMBERS, known, settings
from lossdsl.verify.check import value_range
from lossdsl.verify.claims import Blocked, Claims
from lossdsl.verify.context import Context
from lossdsl.verify.guard import guarded
from lossdsl.verify.pieces import dependents
from lossdsl.verify.questions import Subject, asked, at_other, subject
from lossdsl.verify.signs import Budget
from lossdsl.verify.verdict import Verdict

OPTION = "--explain"
_PER_INPUT = (
    "strictly convex", "convex", "strictly concave", "concave", "quasiconvex", "affine", "redescending", "vanishing gradient", "exploding gradient", "differentiable",
    "C0", "C1", "C2", "smooth", "self-concordant", "gradient lipschitz", "lipschitz", "strongly convex", "strictly increasing", "increasing",
    "strictly decreasing", "decreasing", "even", "odd",
)  # fmt: skip
_HEAD = re.compile(rf"^(not )?({'|'.join(_PER_INPUT)})( of [A-Za-z_]\w*)?(?= |$)(?! in )(?! of )")
_PLACE = re.compile(r"\b\w+ == \w+$")  # in the words of the report card
_OF_TARGET = {"non-negative": ">= 0", "nonnegative": ">= 0", "positive": "> 0"}


@dataclass(frozen=True)
class Question:
    """What is asked of a loss: the words, what they mean, and how they are decided."""

    title: str
    built: BuiltLoss
    ctx: Context
    target: str
    inputs: tuple[str, ...]
    kind: str  # as in `tree.Claim.kind`, "range", the name of a number, or the property of a row of the table of questions
    claim: tree.Claim | None
    decide: Callable[[], Verdict]
    condition: Scalar | None = None  # the place of a minimum
    other: str = ""  # a second input of the same domain
    axes: tuple[str, ...] = ()  # those of an invariance that the words do not name
    why_not: str = ""  # why the words make no sense for this loss

    @property
    def negated(self) -> bool:
        return self.claim is not None and self.claim.negated

    def verdict(self) -> Verdict:
        return guarded(self.decide)[0]


@dataclass(frozen=True)
class Asked:
    """The questions, or what is wrong with the words; `source` is what the diagnostics are about."""

    questions: tuple[Question, ...]
    diagnostics: tuple[Diagnostic, ...]
    source: Source


def ask(built: BuiltLoss, words: str, *, effort: float = 1.0) -> Asked:
    """The questions that the words put to the loss."""
    words = " ".join(words.split())
    own = Source(OPTION, words)
    base = base_context(built, effort)
    rows = table(built, base, words)
    if rows:
        return Asked(tuple(rows), (), own)
    found: list[Question] = []
    for variant in variants(built, words):
        questions, problems = claimed(built, variant, effort)
        if problems:
            return Asked((), tuple(problems), Source(OPTION, variant))
        found += questions
    return Asked(tuple(found), (), own)


def base_context(built: BuiltLoss, effort: float) -> Context:
    return Context(built.program, budget=Budget.of(effort), seconds=0.1 * effort)


def variants(built: BuiltLoss, words: str) -> list[str]:
    """The words, with each real input in turn where they name none."""
    match = _HEAD.match(words)
    if match is None:
        return [words]
    program = built.program
    known = {tensor: name for name, tensor in built.tensors.items()}
    of = (match[3] or "").removeprefix(" of ")
    target = built.tensors.get(of) or program.target or program.outputs[0].tensor
    names = [
        known.get(i.name, i.name) for i in program.inputs if i.differentiable and target in dependents(program, i.name)
    ]
    return [f"{match[0]} in {n}{words[match.end() :]}" for n in names] or [words]


def table(built: BuiltLoss, base: Context, words: str) -> list[Question]:
    """What is asked of every loss under a name of its own: the range, numbers, and rows of the table that are no claims."""
    target = built.program.target or built.program.outputs[0].tensor
    if words == "range":
        return [Question(words, built, base, target, (), "range", None, lambda: value_range(base, target))]
    number = next((n for n in NUMBERS if n.name == words), None)
    of = subject(built, base) if number is not None else None
    if number is not None and of is not None and number.kind in of.kinds:
        decide, inputs = partial(number.decide, of), number.wrt(of)
        verdict, _ = guarded(decide)
        when = settings(of, verdict)
        title = f"{words}{f' in {inputs[0]}' if inputs else ''}{f' when {when}' if when else ''}"
        return [Question(title, built, known(of, verdict), target, inputs, words, None, decide)]
    name = _PLACE.sub("equality", {"nonnegative": "non-negative"}.get(words, words))
    if name in _OF_TARGET or name.endswith(" equality") or name in ("exchange symmetric", "jointly convex"):
        pass
    elif not name.startswith("invariant under ") or " of " in name:
        return []
    of = subject(built, base)
    if of is None:
        return []
    for q in asked(of):
        if q.property == name:
            return [_row(built, of, name, q.decide)]
    return []


def _row(built: BuiltLoss, of: Subject, name: str, decide: Callable[[Subject], Verdict]) -> Question:
    inputs = () if name in _OF_TARGET else of.wrt
    if name in ("exchange symmetric", "jointly convex") and of.other is not None:
        inputs = (*of.wrt, of.other.name)
    title = f"{name} in {', '.join(inputs)}" if inputs else name
    place = at_other(of) if name.endswith(" equality") else None
    other = of.other.name if of.other is not None else ""
    return Question(title, built, of.ctx, of.target, inputs, name, None, lambda: decide(of), place, other, of.axes)


def claimed(built: BuiltLoss, words: str, effort: float) -> tuple[list[Question], list[Diagnostic]]:
    """The words as one more claim at the end of the loss."""
    statement = built.statement
    last = statement.body[-1].span
    lines = built.source.text.split("\n")
    column = statement.body[0].span.column
    lead = " " * (column - 1) + "claim "
    row = last.end_line
    text = "\n".join([*lines[:row], lead + words, *lines[row:]])
    analysis = analyse(Source(built.source.path, text), built.program.name)
    errors = [d for d in analysis.diagnostics if d.severity is Severity.ERROR]
    if errors:
        return [], [_placed(d, row + 1, len(lead), words) for d in errors]
    again = analysis.losses[0]
    claim = next(c for c in reversed(again.claims) if c.span.line == row + 1)
    claims = Claims(again, base_context(again, effort))
    why_not = ""
    target = claims.target(claim)
    inputs: tuple[str, ...] = ()
    place: Scalar | None = None
    try:
        ctx = claims.context(claim)
        inputs = claims.inputs(claim, target) if claim.inputs else ()
        place = claims.condition(claim.at) if claim.at is not None else None
    except Blocked as reason:
        ctx, why_not = claims.base, str(reason)
    question = Question(
        claim.text, again, ctx, target, inputs, claim.kind, claim, lambda: claims.decide(claim), place, why_not=why_not
    )
    return [question], []


def _placed(d: Diagnostic, line: int, shift: int, words: str) -> Diagnostic:
    """The diagnostic, in the words alone."""
    if d.span.line != line or d.span.used:
        return replace(d, span=Span(1, 1, 1, len(words) + 1))
    start = max(1, d.span.column - shift)
    end = max(start + 1, d.span.end_column - shift) if d.span.end_line == line else len(words) + 1
    help = d.help.replace("for instance `claim ", "for instance `")
    if d.code == "E0114" and "did you mean" not in help:
        first = words.removeprefix("not ").split(" ")[0]
        close = get_close_matches(first, known_words(), n=1, cutoff=0.6)
        help = f"did you mean `{close[0]}`?" if close else f"properties are {', '.join(known_words())}"
    return replace(d, span=Span(1, start, 1, end), help=help)


def known_words() -> list[str]:
    return [*PROPERTIES, "non-negative", "positive", "range", *(n.name for n in NUMBERS)]


__all__ = ["Asked", "Question", "ask", "known_words"]
