"""Counterexamples to order and to bounds: pairs against monotonicity, second differences against bounds of the second
derivative, rays along which a loss outgrows every bound."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from fractions import Fraction

from lossdsl.ir.nodes import Index, Scalar
from lossdsl.verify import enclosure as e
from lossdsl.verify.context import Context
from lossdsl.verify.descent import descend
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.pieces import dependents, reads_any
from lossdsl.verify.points import Evaluator, Place, Point, Undecided, elements, within
from lossdsl.verify.refute import Lowest, _counts, _points, _value, _values
from lossdsl.verify.show import text
from lossdsl.verify.verdict import Refuted, Witness

_DESCENTS = 4  # times the time for drawn pairs, from each of the best: parameters move, too
_STEPS = (Fraction(1), Fraction(1, 64), Fraction(5), Fraction(1, 4096), Fraction(100))


def disordered(ctx: Context, target: str, entry: str, *, increasing: bool, strict: bool) -> Refuted | None:
    """Two points, the second nowhere below the first in the entries of the input, at which the target falls (for
    `increasing`; `strict`: does not rise, all entries being raised)."""
    for low, high in _raised(ctx, entry, every=strict):
        for place in elements(ctx.program, target, low):
            values = _values(ctx, (low, high), target, place)
            if values is None or not all(_counts(ctx, p, target, place) for p in (low, high)):
                continue
            a, b = values
            gap = e.sub(b, a) if increasing else e.sub(a, b)
            if gap.negative or (strict and gap.nonpositive):
                wanted = f"{'strictly ' if strict else ''}{'increasing' if increasing else 'decreasing'}"
                found = f"the value goes from {a} to {b}, which is not {wanted}"
                return Refuted("two points in order", Witness((low.flat(), high.flat(entry)), found))
    return None


def bent(
    ctx: Context,
    target: str,
    entry: str,
    low: Scalar | None,
    high: Scalar | None,
    pairs: Iterable[tuple[Point, Point]] | None = None,
) -> Refuted | None:
    """Three points in a row between which the second difference is below `low`, or above `high`, times the square of
    their distance: the second derivative is so somewhere between. For a target that reads one entry of the input. The
    ends are random ones unless `pairs` are given."""
    above = dependents(ctx.program, entry)
    bounds = [b for b in (low, high) if b is not None]
    if any(reads_any(above, b) for b in bounds):
        return None
    best = Lowest()
    for pair in _raised(ctx, entry, every=True, alike=True) if pairs is None else pairs:
        for place in elements(ctx.program, target, pair[0]):
            for bound in bounds:
                sign = 1 if bound is low else -1
                room = _bend(ctx, pair, entry, target, place, bound, sign)
                if room is not None and room.negative:
                    return _too_bent(ctx, pair, entry, target, place, bound, sign)
                if len(pair[0].inputs[entry]) == 1:
                    best.add(room, pair, (*place, sign))
    for start, marked in best.best:
        place, sign = marked[:-1], marked[-1]
        bound = next(b for b in bounds if (b is low) == (sign > 0))

        def left(
            points: tuple[Point, ...], place: Place = place, bound: Scalar = bound, sign: int = sign
        ) -> Enclosure | None:
            return _bend(ctx, points, entry, target, place, bound, sign)

        lowest = descend(ctx, start, (entry,), left, _DESCENTS * ctx.seconds, (entry,))
        if lowest is not None:
            return _too_bent(ctx, lowest, entry, target, place, bound, sign)
    return None


def _bend(
    ctx: Context, pair: tuple[Point, ...], entry: str, target: str, place: Place, bound: Scalar, sign: int
) -> Enclosure | None:
    """How far the second difference by the square of the distance is above the bound (below it, for a sign of -1)."""
    trio = _trio(ctx, pair, entry)
    definition = ctx.program.definition(target)
    found = None if trio is None else _values(ctx, trio, target, place)
    if trio is None or found is None or definition is None:
        return None
    if not all(_counts(ctx, p, target, place) for p in trio):
        return None
    env: dict[Index, int] = dict(zip(definition.formals, place, strict=True))
    try:
        limit = Evaluator(ctx.program, pair[0]).scalar(bound, env)
    except (Undecided, KeyError):
        return None
    step = _step(pair, entry)
    rate = e.div(_second(found), e.exact(step * step / 4))
    return e.sub(rate, limit) if sign > 0 else e.sub(limit, rate)


def _step(pair: tuple[Point, ...], entry: str) -> Fraction:
    first, last = pair
    return next((v - first.inputs[entry][p] for p, v in last.inputs[entry].items()), Fraction(0))


def _trio(ctx: Context, pair: tuple[Point, ...], entry: str) -> list[Point] | None:
    """The points and the one in the middle, if there is one."""
    step = _step(pair, entry)
    first, last = pair
    middle = first.with_inputs({entry: {p: v + step / 2 for p, v in first.inputs[entry].items()}})
    return [first, last, middle] if step != 0 and ctx.admits(middle) else None


def _second(found: list[Enclosure]) -> Enclosure:
    a, b, m = found
    return e.sub(e.add(a, b), e.mul(Enclosure(2.0, 2.0), m))


def _too_bent(
    ctx: Context, pair: tuple[Point, ...], entry: str, target: str, place: Place, bound: Scalar, sign: int
) -> Refuted:
    trio = _trio(ctx, pair, entry)
    second = _second((_values(ctx, trio, target, place) if trio is not None else None) or [e.ANYTHING] * 3)
    sense = "below" if sign > 0 else "above"
    found = f"the second difference {second} is {sense} {text(bound)} times the square of the distance"
    points = (pair[0].flat(), pair[1].flat(entry))
    return Refuted("second difference", Witness(points, found, Fraction(1, 2)))


def infinite(ctx: Context, target: str) -> Refuted | None:
    """A point at which the value is certainly infinite."""
    definition = ctx.program.definition(target)
    if definition is None:
        return None
    for point in _points(ctx, 8):
        for place in elements(ctx.program, target, point):
            value = _value(ctx, point, target, place)
            if value is not None and (value.lo == INF or value.hi == -INF):
                return Refuted("search, interval evaluation", Witness((point.flat(),), f"the value is {value}"))
    return None


def outgrows(ctx: Context, target: str, entry: str, *, concave: bool) -> Refuted | None:
    """Two points of a convex (concave) target, at the second of which it is higher (lower): on the ray from the first
    through the second, all of it in the domain, no bound holds."""
    declared = ctx.program.input(entry)
    if declared is None or declared.kind != "real" or ctx.cuts_through(entry) or ctx.symbolic(entry):
        return None
    box = ctx.ranges((entry,)).input(entry)
    if box.hi < INF or _support_moves(ctx, target, entry):
        return None
    mirrored = box.lo == -INF
    for low, high in _raised(ctx, entry):
        for a, b in ((low, high), (high, low)) if mirrored else ((low, high),):
            for place in elements(ctx.program, target, a):
                values = _values(ctx, (a, b), target, place)
                if values is None or not _counts(ctx, a, target, place):
                    continue
                gap = e.sub(values[1], values[0])
                if gap.negative if concave else gap.positive:
                    word = "concave" if concave else "convex"
                    found = f"the loss is {word} in {entry} and goes from {values[0]} to {values[1]}: no bound holds further on"
                    return Refuted(f"{word}, along a ray", Witness((a.flat(), b.flat(entry)), found))
    return None


def _raised(ctx: Context, entry: str, *, every: bool = False, alike: bool = False) -> Iterator[tuple[Point, Point]]:
    """Admitted points, and those with entries of the input raised: some or `every` one, by numbers of their own or all
    `alike`."""
    generator = random.Random(17)
    declared = ctx.program.input(entry)
    if declared is None or declared.kind not in ("real", "prob"):
        return
    box = ctx.ranges((entry,)).input(entry)
    beside = [i.name for i in ctx.program.inputs if i.kind == "real" and i.dims == declared.dims and i.name != entry]
    for k, low in enumerate(_points(ctx, 9, (entry,))):
        scale = _STEPS[k % 5]
        common = scale * generator.randint(1, 16) / 4
        steps = {
            p: common if alike else scale * generator.randint(1 if every else 0, 16) / 4 for p in low.inputs[entry]
        }
        if beside and k % 2:  # around another input's entries: losses of a difference bend there
            other, share = low.inputs[beside[k // 2 % len(beside)]], Fraction(generator.randint(0, 4), 4)
            low = low.with_inputs({entry: {p: other[p] - share * steps[p] for p in low.inputs[entry]}})
            if not all(within(v, box) for v in low.inputs[entry].values()) or not ctx.admits(low):
                continue
        high = low.with_inputs({entry: {p: v + steps[p] for p, v in low.inputs[entry].items()}})
        if any(steps.values()) and all(within(v, box) for v in high.inputs[entry].values()) and ctx.admits(high):
            yield low, high


def _support_moves(ctx: Context, target: str, entry: str) -> bool:
    """Whether an element may be left out at one value of the input and not at another."""
    definition = ctx.program.definition(target)
    return definition is None or reads_any(dependents(ctx.program, entry), definition.support)


__all__ = ["bent", "disordered", "infinite", "outgrows"]
