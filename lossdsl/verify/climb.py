"""Climbing to steep places: from a point by small changes of anything (entries, labels, parameters), each of which is kept
if the gradient of the target is larger there. Nothing that is found here is evidence, the caller certifies it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from fractions import Fraction

from lossdsl.ir.nodes import REAL, Input, Parameter
from lossdsl.verify.ascent import Ascent, Steep, reflected
from lossdsl.verify.context import Context
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.points import Place, Point, elements, rows, within
from lossdsl.verify.work import deadline, passed

_ROUNDS = (12, 8, 4, 2)  # starts that go on, those at the steepest places: each round takes as long
_SPREADS = (2.0, 0.5, 8.0, 40.0)
_NEAR_END = Fraction(1, 64)


def climbed(
    ctx: Context, found: Ascent, starts: Iterator[Point], inputs: tuple[str, ...], norm: str, seconds: float
) -> Iterator[Steep]:
    """Points on the ways up from the starts, until the time is up."""
    changes = _Changes(ctx, inputs)
    pool = list[Steep]()
    for start in itertools.islice(starts, _ROUNDS[0]):
        here = (found.steep(start, place, norm) for place in elements(ctx.program, found.target, start))
        pool += sorted((s for s in here if s is not None), key=_size)[-1:]
    yield from pool
    for most in _ROUNDS:
        pool = sorted(pool, key=_size, reverse=True)[:most]
        for k, best in enumerate(pool):
            end = deadline(seconds / len(_ROUNDS) / len(pool))
            while not passed(end):
                point = changes.of(best.point)
                near = found.steep(point, best.place, norm) if point is not None and ctx.admits(point) else None
                if near is not None and near.size > best.size:
                    best = pool[k] = near
                    yield best


def _size(steep: Steep) -> float:
    return steep.size


class _Changes:
    """Random changes of one input or one parameter of a point."""

    def __init__(self, ctx: Context, inputs: tuple[str, ...]) -> None:
        self.ctx, self.random = ctx, random.Random(41)
        self.sampler = ctx.sampler(42, inputs)
        ranges = ctx.ranges(inputs)
        self.boxes = {i.name: ranges.input(i.name) for i in ctx.program.inputs}
        self.ranges = {p.name: ranges.parameter(p.name) for p in ctx.program.parameters}
        self.inputs = [i for i in ctx.program.inputs if i.name not in ctx.fixed]
        self.parameters = [p for p in ctx.program.parameters if p.name not in ctx.fixed]

    def of(self, point: Point) -> Point | None:
        parameters = [p for p in self.parameters if p.name not in point.extents]
        if parameters and self.random.random() < 0.3:
            p = self.random.choice(parameters)
            value = self._parameter(p, point.parameters[p.name])
            return None if value is None else Point(point.extents, {**point.parameters, p.name: value}, point.inputs)
        i = self.random.choice(self.inputs)
        entries = self._entries(i, point)
        return None if entries is None else point.with_inputs({i.name: entries})

    def _parameter(self, p: Parameter, value: Fraction) -> Fraction | None:
        """Another value: nearer to an end of its range or further from it, or any."""
        box = self.ranges[p.name]
        if p.kind != "real" or self.random.random() < 0.3:
            return self.sampler.number(box, self.random.choice(_SPREADS), whole=p.kind != "real")
        end = self.random.choice([Fraction(x) for x in (box.lo, box.hi) if abs(x) < INF] or [Fraction(0)])
        moved = end + (value - end) * self.random.choice((0, Fraction(1, 8), Fraction(1, 2), 2, 8))
        return moved if within(moved, box) else None

    def _entries(self, i: Input, point: Point) -> dict[Place, Fraction] | None:
        entries = dict(point.inputs[i.name])
        if not entries:
            return None
        if i.kind == "simplex":
            return entries | self._row(entries, i)
        if i.kind == "unit":
            return entries | self._direction(entries, i)
        if i.dtype is REAL and self.random.random() < 0.6:
            return self._moved(entries, self.boxes[i.name])
        drawn = self.sampler.entries(i, point.extents, self.random.choice(_SPREADS), point.parameters)
        if drawn is None:
            return None
        one = self.random.choice(list(entries))
        return {p: drawn[p] if p == one or self.random.random() < 0.3 else v for p, v in entries.items()}

    def _moved(self, entries: dict[Place, Fraction], box: Enclosure) -> dict[Place, Fraction]:
        """Some entries a little further, or next to an end of the domain."""
        ends = [(Fraction(x), inward) for x, inward in ((box.lo, 1), (box.hi, -1)) if abs(x) < INF]
        scale, share = self.random.choice((0.05, 0.5, 4.0)), self.random.choice((0.2, 0.7))
        one = self.random.choice(list(entries))
        for p, v in entries.items():
            if p != one and self.random.random() > share:
                continue
            moved = v + Fraction(round(self.random.gauss(0, scale) * 256), 256)
            if ends and self.random.random() < 0.5:
                end, inward = self.random.choice(ends)
                moved = end + inward * _NEAR_END
            entries[p] = moved if within(moved, box) else v
        return entries

    def _row(self, entries: dict[Place, Fraction], i: Input) -> dict[Place, Fraction]:
        """One row of a simplex, near to a corner or in between."""
        row = self.random.choice(rows(i, entries))
        corner, share = self.random.choice(row), self.random.choice((Fraction(1), Fraction(1, 2), Fraction(1, 64)))
        if i.name not in self.sampler.interior and self.random.random() < 0.5:
            share = Fraction(0)
        return {p: share / len(row) + (1 - share) * (p == corner) for p in row}

    def _direction(self, entries: dict[Place, Fraction], i: Input) -> dict[Place, Fraction]:
        """One row of a sphere, by a reflection: so it stays rational."""
        row = self.random.choice(rows(i, entries))
        mirror = {p: Fraction(self.random.randrange(-4, 5)) for p in row}
        return reflected({p: entries[p] for p in row}, mirror)


__all__ = ["climbed"]
