"""Advice for a file: which identities apply, which of them are proved for this loss, and what each one gains.

A rewrite is offered only if the losses of the file are proved equal with it and without it, and if it gains something: the
compiled loss is finite for more inputs (`MENDS`), or only what is written would be, while the compiler does this by itself
(`SPELLED`), or digits are kept that cancel as it is written (`DIGITS`). Nothing may lose by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from lossdsl.advice.edit import Edit, edited
from lossdsl.advice.equality import equal
from lossdsl.advice.identities import DIGITS
from lossdsl.advice.match import CannotWrite, Match, matches, slice_of, written
from lossdsl.advice.measure import Measured, Reach, threshold
from lossdsl.diagnostics import Source, Span
from lossdsl.ir.nodes import Program
from lossdsl.pipeline import Analysis, analyse
from lossdsl.syntax.parser import parse
from lossdsl.syntax.tree import Definition, Loss
from lossdsl.verify.work import deadline, passed

MENDS, SPELLED = "mends", "spelled"
_ROUNDS = 12
_MOST = 200  # places of one loss that are looked at
_PRUNED = 12  # of more rewrites that belong together none is tried to be left out
_SECONDS = 5.0  # of work; what is found until then is offered


@dataclass(frozen=True)
class Rewrite:
    """A place of the file, what to write there instead, and why.

    kind      "mends", "spelled" or "digits"
    losses    the losses that it is about
    line      the line of the text as it was given
    compiled  the compiler makes the same of both
    """

    kind: str
    losses: tuple[str, ...]
    line: int
    before: str
    after: str
    why: str
    compiled: bool


@dataclass(frozen=True)
class Advice:
    """The rewrites, in the order of the file, and the text with all of them; `complete` if there was time to try all."""

    rewrites: tuple[Rewrite, ...]
    text: str
    complete: bool = True


@dataclass
class _Candidate:
    match: Match
    before: str
    edit: Edit
    kind: str = ""
    losses: tuple[str, ...] = ()
    compiled: bool = False
    gained: str = ""

    @property
    def span(self) -> Span:
        return self.match.span


class _OutOfTime(Exception):
    pass


def advise(source: Source, analysis: Analysis | None = None, *, effort: float = 1.0) -> Advice:
    """What to write instead in a file without errors; nothing for any other. `effort` multiplies the time for it."""
    end = deadline(_SECONDS * effort)
    found: list[Rewrite] = []
    complete = True
    text = source.text
    lines = list(range(1, text.count("\n") + 2))  # of each line now, the line that it was
    current = analysis or analyse(source)
    for _ in range(_ROUNDS):
        here = Source(source.path, text)
        try:
            chosen = _Search(here, current, end).chosen()
        except (RecursionError, _OutOfTime):
            complete = False
            break
        if not chosen:
            break
        found += [_reported(c, here, lines[c.span.line - 1]) for c in chosen]
        for c in sorted(chosen, key=lambda c: c.span, reverse=True):
            lines[c.span.line - 1 : c.span.end_line] = [lines[c.span.line - 1]] * (c.edit.text.count("\n") + 1)
        text = edited(text, [c.edit for c in chosen])
        current = analyse(Source(source.path, text))
    if found:
        text = _without_unused(source, Source(source.path, text))
    return Advice(tuple(sorted(found, key=lambda r: r.line)), text, complete)


def _without_unused(before: Source, source: Source) -> str:
    """The text without definitions of one line and no comment that the rewrites have left without use."""
    old = {d.message for d in analyse(before).diagnostics if d.code == "W1004"}
    while True:
        module, _ = parse(source)
        unused = {d.span for d in analyse(source).diagnostics if d.code == "W1004" and d.message not in old}
        statements = [s for item in module.items if isinstance(item, Loss) for s in item.body]
        gone = [
            s.span
            for s in statements
            if isinstance(s, Definition) and s.names[0].span in unused and s.span.line == s.span.end_line
            if not (s.leading or s.trailing or s.detached)
        ]
        if not gone:
            return source.text
        text = edited(source.text, [Edit(Span(s.line, 1, s.line + 1, 1), "") for s in gone])
        if analyse(Source(source.path, text)).failed:
            return source.text
        source = Source(source.path, text)


class _Search:
    """The rewrites of one text that are proved and gain something."""

    def __init__(self, source: Source, analysis: Analysis, end: int) -> None:
        self.source, self.analysis, self.end = source, analysis, end
        self._analyses: dict[tuple[Span, ...], Analysis] = {(): analysis}
        self._measures: dict[tuple[Span, ...], dict[str, Measured]] = {}
        self._verdicts: dict[tuple[Span, ...], bool] = {}

    def chosen(self) -> list[_Candidate]:
        """All that can be made at once, in the order of the text."""
        if self.analysis.failed or not self.analysis.losses:
            return []
        module, _ = parse(self.source)
        kept: list[_Candidate] = []
        for _, places in groupby(matches(module), key=lambda m: m.item):
            kept += self._of_one(self._candidates(list(places)[:_MOST]))
        return self._provable(sorted(kept, key=lambda c: c.span))

    def _candidates(self, places: Sequence[Match]) -> list[_Candidate]:
        found = []
        for place in places:
            try:
                after = written(place, self.source)
            except CannotWrite:
                continue
            found.append(_Candidate(place, slice_of(self.source, place.span), Edit(place.span, after)))
        return found

    def _of_one(self, candidates: list[_Candidate]) -> list[_Candidate]:
        """Of a loss: what widens the range (the better of the outermost and of the innermost places that do not overlap,
        without those that nothing is lost without), then what keeps digits."""
        ranged = [c for c in candidates if c.match.identity.gains != DIGITS]
        tried = [self._needed(self._provable(_apart(s))) for s in (ranged, ranged[::-1])]
        kept = max(tried, key=lambda found: found[1])[0]
        digits = [c for c in candidates if c.match.identity.gains == DIGITS and not any(_overlap(c, k) for k in kept)]
        for c in self._provable(_apart(digits)):
            c.kind = DIGITS
            kept.append(c)
        for c in kept:
            alone = [c] if len(kept) <= _PRUNED else kept
            c.losses = self._changed(alone)
            c.compiled = c.kind != MENDS and all(
                self._measured([])[n].compiled == self._measured(alone)[n].compiled for n in c.losses
            )
        return kept

    def _provable(self, chosen: list[_Candidate]) -> list[_Candidate]:
        """A part of the candidates that is proved together, all of them if possible."""
        if not chosen or self._proved(chosen):
            return chosen
        if len(chosen) == 1:
            return []
        half = len(chosen) // 2
        first, second = self._provable(chosen[:half]), self._provable(chosen[half:])
        return [*first, *second] if self._proved([*first, *second]) else first or second

    def _needed(self, chosen: list[_Candidate]) -> tuple[list[_Candidate], tuple[float, ...]]:
        """What is left of a set if each that nothing is lost without is taken out, and how good it is."""
        names = self._changed(chosen)
        now = self._measured([])
        asked = [(n, key) for k in range(max((len(now[n].keys) for n in names), default=0)) for n in names
                 for key in now[n].keys[k : k + 1]]  # fmt: skip
        at = next((a for a in asked if self._gain([], chosen, a)), None)
        if at is None:
            return [], ()
        if len(chosen) > _PRUNED:
            kind = self._gain([], chosen, at)
            for c in chosen:
                c.kind = kind
        else:
            for c in list(chosen):
                rest = [o for o in chosen if o is not c]
                c.kind = self._gain(rest, chosen, at)
                if not c.kind:
                    chosen = rest
        if any(self._measured(chosen)[n][key].worse(now[n][key]) for n, key in asked):
            return [], ()
        best = self._measured(chosen)[at[0]][at[1]]
        for c in chosen:
            c.gained = _gained(at[1], best, now[at[0]][at[1]])
        return chosen, (best.plan, best.value, best.written)

    def _gain(self, before: list[_Candidate], after: list[_Candidate], at: tuple[str, str]) -> str:
        """What a set gains over another one, for a loss under one key."""
        a, b = (self._measured(s)[at[0]][at[1]] for s in (after, before))
        if a.better(b):
            return MENDS
        return SPELLED if a.written > 1.02 * b.written else ""

    # ------------------------------------------------------------------------------------ what is found once

    def _with(self, chosen: Sequence[_Candidate]) -> Analysis:
        if passed(self.end):
            raise _OutOfTime
        key = _key(chosen)
        if key not in self._analyses:
            text = edited(self.source.text, [c.edit for c in chosen])
            self._analyses[key] = analyse(Source(self.source.path, text))
        return self._analyses[key]

    def _measured(self, chosen: Sequence[_Candidate]) -> dict[str, Measured]:
        key = _key(chosen)
        if key not in self._measures:
            self._measures[key] = {b.name: Measured(b) for b in self._with(chosen).losses}
        if passed(self.end):
            raise _OutOfTime
        return self._measures[key]

    def _proved(self, chosen: Sequence[_Candidate]) -> bool:
        """Whether all losses of the file are proved to be the same functions with the edits."""
        key = _key(chosen)
        if key not in self._verdicts:
            after = self._with(chosen)
            named = [b.name for b in after.losses] == [b.name for b in self.analysis.losses]
            self._verdicts[key] = named and not after.failed and all(equal(a, b) for a, b in self._pairs(after))
        return self._verdicts[key]

    def _changed(self, chosen: Sequence[_Candidate]) -> tuple[str, ...]:
        """The losses that the edits change."""
        return tuple(a.name for a, b in self._pairs(self._with(chosen)) if a != b)

    def _pairs(self, after: Analysis) -> list[tuple[Program, Program]]:
        return [(a.program, b.program) for a, b in zip(self.analysis.losses, after.losses, strict=True)]


def _key(chosen: Sequence[_Candidate]) -> tuple[Span, ...]:
    return tuple(sorted(c.span for c in chosen))


def _apart(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """The first of each that overlap."""
    out: list[_Candidate] = []
    for c in candidates:
        if not any(_overlap(c, o) for o in out):
            out.append(c)
    return out


def _overlap(a: _Candidate, b: _Candidate) -> bool:
    x, y = a.span, b.span
    return (x.line, x.column) < (y.end_line, y.end_column) and (y.line, y.column) < (x.end_line, x.end_column)


# ----------------------------------------------------------------------------------------------------- words


def _gained(key: str, best: Reach, was: Reach) -> str:
    """What is finite now: `finite in float32 up to 1e+38`."""
    what, bound = ("", best.plan) if best.plan > 1.02 * was.plan else ("its value is ", best.value)
    far = "" if bound == float("inf") else f" up to {bound:.3g}"
    return f"{what}{'safe' if not far and not what else 'finite'} in {key}{far}"


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
        where = f"{next(iter(names.values()))} = {at:.3g}" if len(names) == 1 else f"{at:.3g} in each exponent"
        said = f"in float32, {said} from {where}"
    if c.compiled:
        return f"{said}; compiled, it is computed so already"
    if c.kind == SPELLED:
        return f"{said}; compiled, it is as finite already"
    same = (
        "this is the same function" if identity.overflows or c.kind == DIGITS else "this is the same where that is one"
    )
    return f"{said}; {same}" + (f", and {c.gained}" if c.kind == MENDS else "")


__all__ = ["DIGITS", "MENDS", "SPELLED", "Advice", "Rewrite", "advise"]
