"""Advice for a file: which identities apply, which of them are proved for this loss, and what each one gains.

A rewrite is offered only if the losses of the file are proved equal with it and without it, and if it gains something: the
compiled loss is finite for more inputs (`MENDS`), or only what is written would be, while the compiler does this by itself
(`SPELLED`), or digits are kept that cancel as it is written (`DIGITS`). Nothing may lose by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lossdsl.advice.edit import Edit, edited
from lossdsl.advice.equality import equal
from lossdsl.advice.identities import DIGITS
from lossdsl.advice.match import CannotWrite, Match, matches, slice_of, written
from lossdsl.advice.measure import Measured, Reach, threshold
from lossdsl.diagnostics import Severity, Source, Span
from lossdsl.ir.build import BuiltLoss
from lossdsl.pipeline import Analysis, analyse
from lossdsl.syntax.parser import parse
from lossdsl.syntax.tree import Definition, Loss

MENDS, SPELLED = "mends", "spelled"
_ROUNDS = 8
_MOST = 40  # places of one file that are looked at


@dataclass(frozen=True)
class Rewrite:
    """A place of the file, what to write there instead, and why.

    kind    "mends", "spelled" or "digits"
    losses  the losses that it is about
    line    the line of the text as it was given
    """

    kind: str
    losses: tuple[str, ...]
    line: int
    before: str
    after: str
    why: str
    compiled: bool  # the compiler makes the same of both


@dataclass(frozen=True)
class Advice:
    """The rewrites, in the order of the file, and the text with all of them."""

    rewrites: tuple[Rewrite, ...]
    text: str


def advise(source: Source, analysis: Analysis | None = None) -> Advice:
    """What to write instead in a file without errors; nothing for any other."""
    found: list[Rewrite] = []
    text = source.text
    lines = list(range(1, text.count("\n") + 2))  # of each line now, the line that it was
    current = analysis or analyse(source)
    for _ in range(_ROUNDS):
        chosen = _round(Source(source.path, text), current)
        if not chosen:
            break
        for c in chosen:
            found.append(_reported(c, Source(source.path, text), lines[c.match.span.line - 1]))
        for c in sorted(chosen, key=lambda c: c.match.span, reverse=True):
            span = c.match.span
            kept = c.edit.text.count("\n") + 1
            lines[span.line - 1 : span.end_line] = [lines[span.line - 1]] * kept
        text = edited(text, [c.edit for c in chosen])
        current = analyse(Source(source.path, text))
    if found:
        text = _without_unused(source, Source(source.path, text))
    return Advice(tuple(sorted(found, key=lambda r: r.line)), text)


def _without_unused(before: Source, source: Source) -> str:
    """The text without definitions of one line and no comment that the rewrites have left without use."""
    old = {d.message for d in analyse(before).diagnostics if d.code == "W1004"}
    while True:
        module, _ = parse(source)
        unused = {d.span for d in analyse(source).diagnostics if d.code == "W1004" and d.message not in old}
        statements = [s for item in module.items if isinstance(item, Loss) for s in item.body]
        gone = next((s for s in statements if isinstance(s, Definition) and s.names[0].span in unused), None)
        if gone is None or gone.leading or gone.trailing or gone.detached or gone.span.line != gone.span.end_line:
            return source.text
        whole = Span(gone.span.line, 1, gone.span.line + 1, 1)
        text = edited(source.text, [Edit(whole, "")])
        if analyse(Source(source.path, text)).failed:
            return source.text
        source = Source(source.path, text)


@dataclass
class _Candidate:
    match: Match
    before: str
    edit: Edit
    kind: str = ""
    losses: tuple[str, ...] = ()
    compiled: bool = False
    gained: str = ""


def _round(source: Source, before: Analysis) -> list[_Candidate]:
    """The rewrites of one text that are proved and gain something."""
    if before.failed or not before.losses:
        return []
    module, _ = parse(source)
    proved: list[_Candidate] = []
    for place in matches(module)[:_MOST]:
        try:
            candidate = _Candidate(place, slice_of(source, place.span), Edit(place.span, written(place, source)))
        except CannotWrite:
            continue
        candidate.losses = _proved(source, before, [candidate])
        if candidate.losses:
            candidate.compiled = _compiled(before, _built(source, [candidate]))
            proved.append(candidate)
    return _gaining(source, before, proved)


def _built(source: Source, chosen: Sequence[_Candidate]) -> Analysis:
    return analyse(Source(source.path, edited(source.text, [c.edit for c in chosen])))


def _proved(source: Source, before: Analysis, chosen: Sequence[_Candidate]) -> tuple[str, ...]:
    """The losses that the edits change, if all losses of the file are proved to be the same functions with them."""
    after = _built(source, chosen)
    if after.failed or [b.name for b in after.losses] != [b.name for b in before.losses]:
        return ()
    if any(d.severity is Severity.ERROR for d in after.diagnostics):
        return ()
    pairs = list(zip(before.losses, after.losses, strict=True))
    if not all(equal(a.program, b.program) for a, b in pairs):
        return ()
    return tuple(a.name for a, b in pairs if a.program != b.program)


def _compiled(before: Analysis, after: Analysis) -> bool:
    """Whether the compiler makes the same of both, value and gradient."""
    pairs = zip(before.losses, after.losses, strict=True)
    return all(Measured(a).compiled == Measured(b).compiled for a, b in pairs)


def _gaining(source: Source, before: Analysis, proved: list[_Candidate]) -> list[_Candidate]:
    """Those that gain: of what widens the range, the better of the outermost and of the innermost that do not overlap,
    without those that nothing is lost without; then of what keeps digits, whatever does not overlap these."""
    ranged = [c for c in proved if c.match.identity.gains != DIGITS]
    kept: list[_Candidate] = []
    if ranged:
        now = _measured(before.losses)
        sets = [_apart(ranged), _apart(ranged[::-1])]
        kept = max((_needed(source, before, now, s) for s in sets), key=lambda found: found[1])[0]
    digits = [c for c in proved if c.match.identity.gains == DIGITS and not any(_overlap(c, k) for k in kept)]
    for c in _apart(digits):
        c.kind = DIGITS
        kept.append(c)
    kept.sort(key=lambda c: c.match.span)
    if len(kept) > 1 and not _proved(source, before, kept):
        kept = kept[:1]  # the others once more, in the next round
    return kept


Measures = dict[str, Measured]


def _measured(losses: Sequence[BuiltLoss]) -> Measures:
    return {b.name: Measured(b) for b in losses}


def _needed(
    source: Source, before: Analysis, now: Measures, chosen: list[_Candidate]
) -> tuple[list[_Candidate], tuple[float, ...]]:
    """What is left of a set if each that nothing is lost without is taken out, and how good it is."""
    if not _proved(source, before, chosen):
        chosen = chosen[:1]
    whole = _measured(_built(source, chosen).losses)
    asked = [(n, key) for n in {n for c in chosen for n in c.losses} for key in now[n].keys]
    at = next(
        ((n, key) for n, key in sorted(asked, key=lambda a: now[a[0]].keys.index(a[1])) if _gain(now, whole, n, key)),
        None,
    )
    if at is None:
        return [], ()
    for c in list(chosen):
        rest = [o for o in chosen if o is not c]
        without = _measured(_built(source, rest).losses) if rest else now
        c.kind = _gain(without, whole, *at)
        if not c.kind:
            chosen, whole = rest, without
    if any(whole[n][key].worse(now[n][key]) for n, key in asked):
        return [], ()
    best, was = whole[at[0]][at[1]], now[at[0]][at[1]]
    for c in chosen:
        c.gained = _gained(at[1], best, was)
    return chosen, (best.plan, best.value, best.written)


def _gained(key: str, best: Reach, was: Reach) -> str:
    """What is finite now: `finite in float32 up to 1e+38`."""
    what, bound = ("", best.plan) if best.plan > 1.02 * was.plan else ("its value is ", best.value)
    far = "" if bound == float("inf") else f" up to {bound:.3g}"
    return f"{what}{'safe' if not far and not what else 'finite'} in {key}{far}"


def _gain(before: Measures, after: Measures, name: str, key: str) -> str:
    a, b = after[name][key], before[name][key]
    if a.better(b):
        return MENDS
    return SPELLED if a.written > 1.02 * b.written else ""


def _apart(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """The first of each that overlap."""
    out: list[_Candidate] = []
    for c in candidates:
        if not any(_overlap(c, o) for o in out):
            out.append(c)
    return out


def _overlap(a: _Candidate, b: _Candidate) -> bool:
    x, y = a.match.span, b.match.span
    return (x.line, x.column) < (y.end_line, y.end_column) and (y.line, y.column) < (x.end_line, x.end_column)


def _reported(c: _Candidate, source: Source, line: int) -> Rewrite:
    return Rewrite(c.kind, c.losses, line, _one_line(c.before), _one_line(c.edit.text), _why(c, source), c.compiled)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _why(c: _Candidate, source: Source) -> str:
    identity = c.match.identity
    names = {n: _one_line(slice_of(source, c.match.bindings[n].span)) for n in identity.variables}
    said = identity.because.format(**names)
    at = threshold(identity) if identity.overflows else None
    if at is not None:
        said = f"in float32, {said} from {' = '.join(names.values())} = {at:.3g}"
    if c.compiled:
        return f"{said}; compiled, it is computed so already"
    if c.kind != MENDS:
        return f"{said}; this is the same function"
    return f"{said}; this is the same function, and {c.gained}"


__all__ = ["DIGITS", "MENDS", "SPELLED", "Advice", "Rewrite", "advise"]
