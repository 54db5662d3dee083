"""Redescending losses: the derivative in a residual goes to 0 on both sides (Hampel, Ronchetti, Rousseeuw, Stahel, 1986).

Proved by the growth of the derivative along the tails of each piece, for each value of everything else. Refuted where
the loss is convex (or concave) and not constant, or where the derivative stays away from 0 beyond some point.
"""

from __future__ import annotations

import itertools
from fractions import Fraction

from lossdsl.verify import properties, refute
from lossdsl.verify.algebra import TooLarge, minus, plus, times
from lossdsl.verify.boxes import At
from lossdsl.verify.context import Context
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.growth import Tail
from lossdsl.verify.labels import NoProblem
from lossdsl.verify.pieces import View
from lossdsl.verify.points import Point
from lossdsl.verify.refute import _points
from lossdsl.verify.regret import fixed_view
from lossdsl.verify.risk import vanishes
from lossdsl.verify.scalar import Smooth, Stuck, smooth_pieces
from lossdsl.verify.show import text
from lossdsl.verify.signs import prove
from lossdsl.verify.verdict import Proved, Refuted, Step, Unknown, Verdict, Witness

_FAR = 64.0
_TRIED = ("growth along the tails",)


def redescending(ctx: Context, target: str, inputs: tuple[str, ...]) -> Verdict:
    """Whether the derivative of an element in the input goes to 0 far out, on both sides."""
    if len(inputs) != 1:
        return Unknown("an influence of several inputs at once", _TRIED)
    box = ctx.ranges().input(inputs[0])
    if box.lo > -INF or box.hi < INF or ctx.symbolic(inputs[0]) or ctx.cuts_through(inputs[0]):
        return Unknown(f"{inputs[0]} does not go to infinity on both sides", _TRIED)
    cases = properties.scalar_views(ctx, target, inputs[0])
    if isinstance(cases, str):
        return Unknown(cases, _TRIED)
    found = _proved(cases)
    if isinstance(found, Proved):
        return found
    return _bowl(ctx, target, inputs[0]) or _away(ctx, target, cases) or found


def _proved(cases: list[View]) -> Proved | Unknown:
    steps: list[Step] = []
    for view in cases:
        note = f" where {view.case_text}" if view.case else ""
        try:
            for smooth in smooth_pieces(view):
                slope, variable = smooth.order(1), smooth.field.form(view.variable)
                shown = f"{view.shown(smooth.piece.body)}{note}"
                for direction in (1, -1):
                    tail = Tail(smooth.field, smooth.slot, direction)
                    if any(tail.outside(c) for c in smooth.constraints):
                        continue
                    if not vanishes(tail, variable, slope):
                        return Unknown(f"the derivative of {shown} far out", _TRIED)
                    end = "inf" if direction > 0 else "-inf"
                    steps.append(Step("growth along the tails", shown, f"the derivative goes to 0 at {end}"))
        except Stuck as reason:
            return Unknown(f"{reason}{note}", _TRIED)
        except TooLarge:
            return Unknown(f"the normal form of the derivative is too large{note}", _TRIED)
    return Proved("growth along the tails", tuple(steps)) if steps else Unknown("no piece", _TRIED)


def _bowl(ctx: Context, target: str, entry: str) -> Refuted | None:
    """A convex loss with two values: its derivative is monotone, so 0 far out on both sides only if it is 0."""
    sampler, declared = ctx.sampler(31), ctx.program.input(entry)
    if declared is None or ctx.of_values() is not ctx:  # another derivative is declared
        return None

    def move(low: Point) -> Point | None:
        entries = sampler.entries(declared, low.extents, 8.0, low.parameters)
        return None if entries is None else low.with_inputs({entry: entries})

    for concave in (False, True):
        if isinstance(properties.convexity(ctx, target, (entry,), concave=concave), Proved):
            found = refute.changed(ctx, target, (entry,), move)
            if found is not None:
                word = "concave" if concave else "convex"
                violation = f"the loss is {word} and not constant: {found.witness.violation}"
                return Refuted(f"{word} and not constant", Witness(found.witness.points, violation))
    return None


def _away(ctx: Context, target: str, cases: list[View]) -> Refuted | None:
    """A point of everything else at which the derivative stays away from 0 beyond some value of the input."""
    definition = ctx.program.definition(target)
    if definition is None:
        return None
    for point in itertools.islice(_points(ctx, 32), 4):
        for view in cases:
            try:
                fixed = fixed_view(view, point)
                pieces = smooth_pieces(fixed) if fixed is not None else []
            except (NoProblem, Stuck, TooLarge):
                continue
            for direction in (1, -1):
                level = _level(ctx, pieces, direction)
                if level is not None:
                    shown = f"{text(view.inner)} goes to {'inf' if direction > 0 else '-inf'}"
                    name = f"{view.entry.tensor}["
                    flat = {k: v for k, v in point.flat().items() if k != view.entry.tensor and not k.startswith(name)}
                    found = f"the size of the derivative in {text(view.inner)} stays above {level} as {shown}"
                    return Refuted("derivative along a tail", Witness((flat,), found))
    return None


def _level(ctx: Context, pieces: list[Smooth], direction: int) -> Fraction | None:
    """A number below which the size of the derivative does not fall far out, on every piece that may hold there."""
    outer = []
    for smooth in pieces:
        tail = Tail(smooth.field, smooth.slot, direction)
        if not any(tail.outside(c) for c in smooth.constraints):
            outer.append(smooth)
    lowest: Fraction | None = None
    for smooth in outer:
        try:
            field, slope = smooth.field, smooth.order(1)
        except (Stuck, TooLarge):
            return None
        variable = field.monomial(smooth.slot, 1)
        ends = [At(field, {smooth.slot: Enclosure(u, u)}).value(slope) for u in (direction * 1e6, direction * _FAR)]
        if not all(at.nonzero and at.bounded and at.positive == ends[0].positive for at in ends):
            return None
        level = Fraction(min(min(abs(at.lo), abs(at.hi)) for at in ends)) / 2
        sign = 1 if ends[0].positive else -1
        gap = plus(times(slope, field.number(sign)), minus(field.number(level)))
        beyond = plus(times(variable, field.number(direction)), field.number(-Fraction(_FAR)))
        if level == 0 or prove(field, gap, [*smooth.constraints, beyond], ctx.budget) is None:
            return None
        lowest = level if lowest is None else min(lowest, level)
    return lowest


__all__ = ["redescending"]
