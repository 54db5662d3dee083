"""Chords and midpoints: one search of a target in some inputs for what is not convex, not concave, not quasiconvex.

All questions about chords look at the same triples (two points and their midpoint), so the search of one input is kept in
the context: it goes on where the last question left it, and each finds what was seen before.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from lossdsl.ir.nodes import Input, Program
from lossdsl.verify import enclosure as e
from lossdsl.verify.bends import bends
from lossdsl.verify.context import Context
from lossdsl.verify.descent import Objective, descend
from lossdsl.verify.enclosure import Enclosure
from lossdsl.verify.points import Place, Point, elements, within
from lossdsl.verify.refute import DESCENTS, SPREADS, Lowest, points, value, values
from lossdsl.verify.verdict import Refuted, Witness
from lossdsl.verify.work import deadline, passed

ABOVE, BELOW, HUMP = "above", "below", "hump"  # of the midpoint: the chord, the chord, both ends
_LONGER = {HUMP: 3.0, ABOVE: 1.0, BELOW: 1.0}  # a hump is rarer than a chord that fails
_BENDS = {HUMP: 8.0, ABOVE: 2.0, BELOW: 2.0}  # times the time for drawn chords
_NEAR = Fraction(1, 2**40)
_TWO = Enclosure(2.0, 2.0)
Three = tuple[Enclosure, Enclosure, Enclosure]


@dataclass
class Chords:
    """The search in some inputs: what was found, the best candidates of each kind, and the triples still to come."""

    triples: Iterator[tuple[Point, Point, Point]]
    found: dict[str, Refuted] = field(default_factory=dict)
    best: dict[str, Lowest] = field(default_factory=dict)
    descended: dict[str, float] = field(default_factory=dict)  # for how many seconds, at the most


def chord(ctx: Context, target: str, inputs: tuple[str, ...], *, concave: bool = False) -> Refuted | None:
    """Two points whose midpoint lies above the chord (below it, for concave)."""
    return _search(ctx, target, inputs, BELOW if concave else ABOVE)


def hump(ctx: Context, target: str, inputs: tuple[str, ...]) -> Refuted | None:
    """Two points whose midpoint lies above both."""
    return _search(ctx, target, inputs, HUMP)


def _search(ctx: Context, target: str, inputs: tuple[str, ...], kind: str) -> Refuted | None:
    if any(i.kind == "unit" and i.name in inputs for i in ctx.program.inputs):
        return None  # a midpoint of unit vectors is none
    key = ("chords", target, inputs)
    if key not in ctx.memo:
        ctx.memo[key] = Chords(_triples(ctx, inputs))
    known: Chords = ctx.memo[key]
    end = deadline(_LONGER[kind] * ctx.seconds)
    while kind not in known.found and not passed(end):
        triple = next(known.triples, None)
        if triple is None:
            break
        for place in elements(ctx.program, target, triple[0]):
            three = values(ctx, triple, target, place)
            if three is not None:
                _look(known, triple, inputs, place, (three[0], three[1], three[2]))
    if kind not in known.found and known.descended.get(kind, 0.0) < ctx.seconds:
        known.descended[kind] = ctx.seconds
        _descend(ctx, target, inputs, kind, known)
        if kind not in known.found:
            _bend(ctx, target, inputs, kind, known)
    return known.found.get(kind)


def _look(
    known: Chords, triple: tuple[Point, Point, Point], inputs: tuple[str, ...], place: Place, three: Three
) -> None:
    """Keep what the values show, and how near they come to showing the rest."""
    low, high, _ = triple
    gap = _gap(three)
    square = _square(low, high, inputs)
    for kind in (ABOVE, BELOW, HUMP):
        if kind in known.found:
            continue
        if _shows(kind, three):
            known.found[kind] = _witness(kind, (low, high), inputs, three)
        elif square >= _NEAR:
            room = _hump_room(three) if kind == HUMP else gap if kind == ABOVE else e.neg(gap)
            known.best.setdefault(kind, Lowest()).add(e.div(room, e.exact(square)), (low, high), place)


def _gap(three: Three) -> Enclosure:
    """How far the midpoint lies below the chord, twice."""
    a, b, m = three
    return e.sub(e.add(a, b), e.mul(_TWO, m))


def _hump_room(three: Three) -> Enclosure:
    a, b, m = three
    return e.sub(Enclosure(max(a.lo, b.lo), max(a.hi, b.hi)), m)


def _shows(kind: str, three: Three) -> bool:
    a, b, m = three
    if kind == HUMP:
        return e.sub(m, a).positive and e.sub(m, b).positive
    gap = _gap(three)
    return gap.negative if kind == ABOVE else gap.positive


def _witness(kind: str, ends: tuple[Point, Point], inputs: tuple[str, ...], three: Three) -> Refuted:
    a, b, m = three
    flat = (ends[0].flat(), ends[1].flat(*inputs))
    if kind == HUMP:
        found = f"the value at the midpoint is {m}, above those at the ends, {a} and {b}"
        return Refuted("midpoint", Witness(flat, found, Fraction(1, 2)))
    found = f"the value at the midpoint is {m}, {kind} the chord between {a} and {b}"
    return Refuted("chord", Witness(flat, found, Fraction(1, 2)))


def _descend(ctx: Context, target: str, inputs: tuple[str, ...], kind: str, known: Chords) -> None:
    """From the best candidates downhill."""
    starts = known.best[kind].best if kind in known.best else []
    for ends, place in starts:

        def room(pair: tuple[Point, ...], place: Place = place) -> Enclosure | None:
            low, high = pair
            square = _square(low, high, inputs)
            three = values(ctx, (low, high, middle(low, high, inputs)), target, place)
            if three is None or square < _NEAR:  # digits are lost
                return None
            found = (three[0], three[1], three[2])
            left = _hump_room(found) if kind == HUMP else _gap(found)
            return e.div(e.neg(left) if kind == BELOW else left, e.exact(square))

        objective: Objective = room
        pair = descend(ctx, ends, inputs, objective, DESCENTS * ctx.seconds / len(starts), inputs)
        if pair is None:
            continue
        centre = middle(pair[0], pair[1], inputs)
        three = values(ctx, (*pair, centre), target, place) if ctx.admits(centre) else None
        if three is not None and _shows(kind, (three[0], three[1], three[2])):
            known.found[kind] = _witness(kind, (pair[0], pair[1]), inputs, (three[0], three[1], three[2]))
            return


def _bend(ctx: Context, target: str, inputs: tuple[str, ...], kind: str, known: Chords) -> None:
    """From points where the compiled gradient bends the wrong way."""
    candidates = bends(ctx, target, inputs, _BENDS[kind] * ctx.seconds, down=kind != BELOW, level=kind == HUMP)
    for (low, high), place in candidates:
        centre = middle(low, high, inputs)
        three = values(ctx, (low, high, centre), target, place)
        if three is None or not (ctx.admits(low) and ctx.admits(high) and ctx.admits(centre)):
            continue
        if _shows(kind, (three[0], three[1], three[2])):
            known.found[kind] = _witness(kind, (low, high), inputs, (three[0], three[1], three[2]))
            return


def middle(low: Point, high: Point, inputs: tuple[str, ...]) -> Point:
    return low.with_inputs({n: {p: (low.inputs[n][p] + v) / 2 for p, v in high.inputs[n].items()} for n in inputs})


def _square(low: Point, high: Point, inputs: tuple[str, ...]) -> Fraction:
    return sum(((high.inputs[n][p] - v) ** 2 for n in inputs for p, v in low.inputs[n].items()), Fraction(0))


# --------------------------------------------------------------------------------------------------- triples


def _triples(ctx: Context, inputs: tuple[str, ...]) -> Iterator[tuple[Point, Point, Point]]:
    """Admissible points, others that differ in the inputs (anywhere, near, in one entry, mirrored), and their midpoints."""
    generator = random.Random(5)
    resample = ctx.sampler(5, inputs)
    ranges = ctx.ranges(inputs)
    varied = [i for i in ctx.program.inputs if i.name in inputs]
    for k, low in enumerate(points(ctx, 2, inputs, endless=True)):
        moved = _mirrored(ctx.program, low, inputs) if k % 4 == 1 else {}
        for i in varied:
            if i.name in moved:
                continue
            entries = resample.entries(i, low.extents, SPREADS[(k // 2) % 5], low.parameters)
            if entries is None:
                return
            if k % 4 == 2:
                entries = _nearer(low.inputs[i.name], entries, Fraction(1, generator.choice((4, 16, 64))))
            if k % 4 == 3 and i.kind not in ("simplex", "unit"):
                entries = _one_of(low.inputs[i.name], entries, generator)
            moved[i.name] = entries
        high = low.with_inputs(moved)
        inside = all(within(v, ranges.input(i.name)) for i in varied for v in high.inputs[i.name].values())
        centre = middle(low, high, inputs)
        if inside and ctx.admits(high) and ctx.admits(centre):
            yield low, high, centre


def _nearer(here: dict[Place, Fraction], there: dict[Place, Fraction], share: Fraction) -> dict[Place, Fraction]:
    return {p: v + share * (there[p] - v) for p, v in here.items()}


def _one_of(
    here: dict[Place, Fraction], there: dict[Place, Fraction], generator: random.Random
) -> dict[Place, Fraction]:
    place = generator.choice(list(here)) if here else None
    return {p: there[p] if p == place else v for p, v in here.items()}


def _mirrored(program: Program, low: Point, inputs: tuple[str, ...]) -> dict[str, dict[Place, Fraction]]:
    """One of the inputs reflected in another of its shape: what depends on their distance is often extreme there."""
    varied: list[Input] = [i for i in program.inputs if i.name in inputs and i.kind == "real"]
    for name, other in itertools.product((i.name for i in varied), program.inputs):
        centre = low.inputs[other.name]
        if other.name not in inputs and centre.keys() == low.inputs[name].keys() and other.kind == "real":
            return {name: {p: 2 * centre[p] - v for p, v in low.inputs[name].items()}}
    return {}


__all__ = ["chord", "hump", "middle", "value"]
