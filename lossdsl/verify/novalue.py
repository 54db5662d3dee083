"""Points at which a loss has no value: `0 / 0`, `inf - inf`, a root of a negative number.

A bound (`per >= 0`, `bounded`) is about values: where there is none, it does not hold. Such points are special, so that
they are sought where losses divide by 0: at extents of 1 and 0, parameters at the closed ends of their ranges, entries that are
0, or alike, or those of another input. That the value is none is certified in exact numbers and Arb balls (`lines`),
infinities being values; so is that a value is exactly 0 (that of a sum over nothing, say). What has no value over an axis
without entries is left out: bounds are about the entries of a row, if it has any.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from fractions import Fraction

from lossdsl.ir.nodes import Input
from lossdsl.verify.context import Context
from lossdsl.verify.enclosure import INF
from lossdsl.verify.jets import Undecided, Undefined
from lossdsl.verify.kinks import precision
from lossdsl.verify.lines import Line, Value
from lossdsl.verify.points import Place, Point, Sampler, elements
from lossdsl.verify.refute import counts
from lossdsl.verify.verdict import Refuted, Witness
from lossdsl.verify.work import deadline, passed

_BITS = 128
_MISSES = 80


def undefined(ctx: Context, target: str) -> Refuted | None:
    """An admissible point at which an element of the target has certainly no value, infinities included."""
    if not ctx.ranges().tensor(target).nan:
        return None
    for point in _admitted(ctx, 1):
        for place in elements(ctx.program, target, point, 2):
            reason = _why(ctx, target, point, place)
            if reason:
                words = f"there is no value: {reason}{_lengths(point)}"
                return Refuted("undefined inside of the domain", Witness((point.flat(),), words))
    return None


def zero(ctx: Context, target: str) -> Refuted | None:
    """An admissible point at which an element of the target that counts is exactly 0, so that it is not positive."""
    for point in _admitted(ctx, 0):
        for place in elements(ctx.program, target, point, 2):
            if _is_zero(ctx, target, point, place) and counts(ctx, point, target, place):
                return Refuted("exact value at a point", Witness((point.flat(),), f"the value is 0{_lengths(point)}"))
    return None


def _is_zero(ctx: Context, target: str, point: Point, place: Place) -> bool:
    with precision(_BITS):
        try:
            value = Line(ctx.program, point, {}, 0, None).element(target, place)
        except (Undefined, Undecided, ValueError, OverflowError, ZeroDivisionError, KeyError):
            return False
    return not value.infinite and value.jet.nothing if isinstance(value, Value) else value == 0


def _admitted(ctx: Context, least: int) -> Iterator[Point]:
    """Special points that are admissible, of extents of at least `least`, until the time is up."""
    end, misses = deadline(2 * ctx.seconds), 0
    for point in _special(ctx, least):
        if passed(end) or misses > _MISSES:
            return
        if point is None or not ctx.admits(point):
            misses += 1
            continue
        yield point


def _why(ctx: Context, target: str, point: Point, place: Place) -> str:
    """What is undefined at the point; "" if the element has a value or that is not known."""
    with precision(_BITS):
        try:
            Line(ctx.program, point, {}, 0, None).element(target, place)
        except Undefined as reason:
            return "" if "over nothing" in str(reason) else str(reason)
        except (Undecided, ValueError, OverflowError, ZeroDivisionError, KeyError):
            return ""
    return ""


def _lengths(point: Point) -> str:
    small = [f"the extent of {name} is {n}" for name, n in point.extents.items() if n < 2]
    return f", where {', '.join(small)}" if small else ""


def _special(ctx: Context, least: int) -> Iterator[Point | None]:
    """Points where losses divide by 0; None where none could be drawn. Extents are only 0 where 1 and 2 do not do."""
    sampler, generator = ctx.sampler(47), random.Random(47)
    fixed = {p.name for p in ctx.program.parameters}
    for k in itertools.count():
        base = sampler.point(spread=2.0, extent=(2, 1, 3)[k % 3], defaults=k % 2 == 0)
        if base is None:
            yield None
            continue
        extents = dict(base.extents)
        for name in extents:
            if name not in fixed and generator.random() < 0.4:
                extents[name] = 1 if k < 24 or generator.random() < 0.5 else least
        parameters = _ends(ctx, base) if k % 4 == 3 else base.parameters
        drawn: dict[str, dict[Place, Fraction]] = {}
        for i in ctx.program.inputs:
            drawn[i.name] = _entries(ctx, i, sampler, extents, parameters, generator, drawn) or {}
        yield Point(extents, parameters, drawn)


def _ends(ctx: Context, base: Point) -> dict[str, Fraction]:
    """The real parameters at the closed ends of their ranges, where they have any."""
    out = dict(base.parameters)
    for p in ctx.program.parameters:
        box = ctx.ranges().parameter(p.name)
        if p.kind == "real" and p.name not in ctx.fixed and box.lo > -INF and not box.lo_open:
            out[p.name] = Fraction(box.lo)
    return out


def _entries(
    ctx: Context,
    i: Input,
    sampler: Sampler,
    extents: dict[str, int],
    parameters: dict[str, Fraction],
    generator: random.Random,
    before: dict[str, dict[Place, Fraction]],
) -> dict[Place, Fraction] | None:
    """Entries as they are drawn, or all 0, or all 1, or those of an input before."""
    entries = sampler.entries(i, extents, 2.0, parameters)
    if not entries or i.kind not in ("real", "prob") or i.name in ctx.fixed:
        return entries
    match generator.randrange(5):
        case 0:
            return dict.fromkeys(entries, Fraction(0))
        case 1:
            return dict.fromkeys(entries, Fraction(1))
        case 2 | 3:
            for other in before.values():
                if other.keys() == entries.keys():
                    return dict(other)
    return entries


__all__ = ["undefined", "zero"]
