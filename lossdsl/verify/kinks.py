"""Where a loss is not smooth: a point of a line at which the value or a derivative jumps, certified by one-sided jets.

Two kinds of lines are tried at small extents. Through a *special point* (zeros, entries that are equal, an input equal to
another): there roots of squares and ties meet exactly, and a value may be undefined. Between two points that take
different *branches* somewhere: the place where the branch changes is enclosed in a tiny interval, which has to hold
exactly one crossing of one surface. What counts is the jet of the whole value on both sides, so that corners which what is
around them smooths out are none.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from math import factorial
from typing import Any

import flint

from lossdsl.ir.nodes import Compare, Input
from lossdsl.verify import enclosure as e
from lossdsl.verify import jets
from lossdsl.verify.context import Context
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.jets import Undecided, Undefined
from lossdsl.verify.lines import Direction, Line, Site, Value
from lossdsl.verify.points import Place, Point, elements, within
from lossdsl.verify.verdict import NO_VALUE, Refuted, Witness
from lossdsl.verify.work import deadline, passed

_PRECISIONS = (128, 512)
_NARROW = Fraction(1, 2**44)  # of the part of the line in which a surface is crossed
_NEAR = Fraction(1, 2**56)  # where the first point is itself close to a surface
_SPREADS = (2.0, 8.0, 0.5, 40.0, 300.0)
_SITES = 6  # branches of one pair of points


@dataclass(frozen=True)
class Jump:
    """The derivative of `order` (0: the value) jumps, or, for order 0, the value is undefined."""

    order: int
    refuted: Refuted
    surface: str


def jump(ctx: Context, target: str, inputs: tuple[str, ...], least: int, seconds: float) -> Jump | None:
    """A certified jump of the lowest order that is found in the time, at best `least`."""
    declared = [i for i in ctx.program.inputs if i.name in inputs]
    if any(i.kind == "unit" or ctx.symbolic(i.name) or ctx.cuts_through(i.name) for i in declared):
        return None
    return _Search(ctx, target, declared, least, deadline(seconds)).run()


class _Search:
    def __init__(self, ctx: Context, target: str, declared: list[Input], least: int, end: int) -> None:
        self.ctx, self.target, self.declared, self.least, self.end = ctx, target, declared, least, end
        self.names = tuple(i.name for i in declared)
        self.ranges = ctx.ranges(self.names)
        self.boxes = {n: self.ranges.input(n) for n in self.names}
        self.random = random.Random(31)
        self.sampler = ctx.sampler(32, self.names)
        self.best: Jump | None = None
        self.tried: dict[tuple[Any, ...], int] = {}

    def run(self) -> Jump | None:
        for k, base in enumerate(self._points()):
            for place in elements(self.ctx.program, self.target, base, 1):
                for found in itertools.chain(self._special(base, place), self._between(base, place, k)):
                    if self.best is None or found.order < self.best.order:
                        self.best = found
                    if self.best.order <= self.least:
                        return self.best
        return self._without() if self.least == 0 else self.best

    def _without(self) -> Jump | None:
        """Where an axis that the inputs do not have is empty, the value may be undefined."""
        base = self.sampler.point(spread=2.0, extent=2)
        own = {s for i in self.declared for d in i.dims for s in d.symbols()}
        fixed = {p.name for p in self.ctx.program.parameters}
        for name in base.extents if base is not None else ():
            if base is None or name in own | fixed:
                continue
            extents = {**base.extents, name: 0}
            entries = {i.name: self.sampler.entries(i, extents, 2.0, base.parameters) for i in self.ctx.program.inputs}
            point = Point(extents, base.parameters, {n: found or {} for n, found in entries.items()})
            if not self.ctx.admits(point) or not self._inside(point):
                continue
            for place in elements(self.ctx.program, self.target, point, 1):
                with precision(_PRECISIONS[0]):
                    try:
                        reason = "infinite" if self._value(point, {}, 0, None, place).infinite else ""
                    except Undefined as why:
                        reason = str(why)
                    except _FAILURES:
                        reason = ""
                if reason:
                    return self._undefined(point, f"{reason} where the extent of {name} is 0")
        return self.best

    def _points(self) -> Iterator[Point]:
        """Admissible points, until the time is up; exponents are often whole numbers."""
        misses = 0
        for k in itertools.count():
            if passed(self.end) or misses > 60:
                return
            point = self.sampler.point(spread=_SPREADS[k % 5], extent=(2, 1, 2, 3)[k % 4], defaults=k % 3 != 2)
            if point is not None and k % 3 == 2 and k % 2:
                point = Point(point.extents, self._whole(point.parameters), point.inputs)
            if point is None or not self.ctx.admits(point):
                misses += 1
                continue
            yield point

    def _whole(self, parameters: Mapping[str, Fraction]) -> dict[str, Fraction]:
        """The real parameters at whole numbers of their ranges."""
        out = dict(parameters)
        for p in self.ctx.program.parameters:
            value = Fraction(self.random.choice((0, 1, 1, 2, 3)))
            if p.kind == "real" and p.name not in self.ctx.fixed and within(value, self.ranges.parameter(p.name)):
                out[p.name] = value
        return out

    # --------------------------------------------------------------------------------- through special points

    def _special(self, base: Point, place: Place) -> Iterator[Jump]:
        for kind in range(7):
            point = self._moved(base if kind < 5 else self._level(base), kind % 5)
            if passed(self.end):
                return
            if point is None or not self._inside(point):
                continue
            direction = self._direction(point)
            found = None if direction is None else self._at(point, direction, place)
            if found is not None:
                yield found

    def _level(self, base: Point) -> Point:
        """The point with all entries of each other real input equal."""
        inputs = {}
        for i in self.ctx.program.inputs:
            level = Fraction(self.random.choice((0, 0, 1)))
            if i.kind in ("real", "prob") and i.name not in self.names:
                inputs[i.name] = dict.fromkeys(base.inputs[i.name], level)
        return base.with_inputs(inputs)

    def _moved(self, base: Point, kind: int) -> Point | None:
        """A point with ties: its entries 0, or equal, or equal to another input, all of them or of some."""
        if kind == 0:
            return base if self.ctx.admits(base) else None
        inputs: dict[str, dict[Place, Fraction]] = {}
        for i in self.declared:
            if i.kind == "simplex":
                inputs[i.name] = {p: Fraction(1, self._row(i, base)) for p in base.inputs[i.name]}
                continue
            entries = base.inputs[i.name]
            other = self._like(i, base) if kind == 3 else None
            level = Fraction(0) if kind in (1, 3) else Fraction(self.random.randint(-4, 8), 4)
            share = 1.0 if kind < 4 else 0.5
            inputs[i.name] = {
                p: (level if other is None else other[p]) if self.random.random() < share else v
                for p, v in entries.items()
            }
        point = base.with_inputs(inputs)
        return point if self.ctx.admits(point) else None

    def _row(self, i: Input, base: Point) -> int:
        size = 1
        for k in i.over:
            size *= i.dims[k].evaluate(base.extents)
        return size

    def _like(self, i: Input, base: Point) -> dict[Place, Fraction] | None:
        """The entries of another input of the same places."""
        for name, entries in base.inputs.items():
            if name != i.name and entries.keys() == base.inputs[i.name].keys():
                return entries
        return None

    def _inside(self, point: Point) -> bool:
        """Whether the point is in the interior, relative to a simplex, of the domain of the inputs."""
        for i in self.declared:
            box = self.boxes[i.name]
            for v in point.inputs[i.name].values():
                if i.kind == "simplex":
                    if v <= 0:
                        return False
                elif not _strictly(v, box):
                    return False
        return True

    def _direction(self, point: Point) -> Direction | None:
        """Small whole numbers, of sum 0 along the rows of a simplex."""
        out: dict[str, dict[Place, Fraction]] = {}
        for i in self.declared:
            steps = {p: Fraction(self.random.randint(-3, 3)) for p in point.inputs[i.name]}
            if i.kind == "simplex":
                rows: dict[Place, list[Place]] = {}
                for p in steps:
                    rows.setdefault(tuple(v for k, v in enumerate(p) if k not in i.over), []).append(p)
                for row in rows.values():
                    mean = sum((steps[p] for p in row), Fraction(0)) / len(row)
                    steps |= {p: steps[p] - mean for p in row}
            out[i.name] = steps
        return out if any(v for steps in out.values() for v in steps.values()) else None

    def _at(self, point: Point, direction: Direction, place: Place) -> Jump | None:
        for bits in _PRECISIONS:
            with precision(bits):
                try:
                    here = self._value(point, direction, 0, None, place)
                except Undefined as reason:
                    return self._undefined(point, str(reason))
                except _FAILURES:
                    continue
                if here.infinite:
                    return self._undefined(point, "infinite")
                try:
                    left, right = (self._value(point, direction, s, None, place) for s in (-1, 1))
                except (Undefined, *_FAILURES):
                    continue
                found = self._differ(left, right, point, direction, "at the first point")
                if found is not None:
                    return found
                if not left.infinite and not right.infinite and _apart(here.jet[0], right.jet[0]) is not None:
                    gap = _shown(jets.ball(right.jet[0]) - jets.ball(here.jet[0]))
                    words = f"the value jumps by {gap} from the value at the first point to those beside it"
                    return Jump(0, self._refuted(point, direction, words), "a point")
                return None
        return None

    def _undefined(self, point: Point, reason: str) -> Jump:
        words = f"{NO_VALUE}: {reason}"
        return Jump(0, Refuted("undefined inside of the domain", Witness((point.flat(),), words)), reason)

    # ------------------------------------------------------------------------------------- between two branches

    def _between(self, base: Point, place: Place, k: int) -> Iterator[Jump]:
        far = self._other(base)
        start = self._moved(base, 1) if k % 2 else base
        base = start if start is not None and self._inside(start) else base
        if far is None or not self._inside(base) or not self._inside(far):
            return
        direction = {n: {p: far.inputs[n][p] - v for p, v in base.inputs[n].items()} for n in self.names}
        with precision(_PRECISIONS[0]):
            states = [self._states(base, direction, t, place) for t in (Fraction(0), Fraction(1))]
            if states[0] is None or states[1] is None:
                return
            sites = [s for s, state in states[0].items() if states[1].get(s, state) != state]
        self.random.shuffle(sites)
        # where nothing is known of the value, branches that may make it jump come first
        sites.sort(key=lambda s: (self.tried.get(_kind(s), 0), self.least == 0 and not isinstance(s[-1], Compare)))
        seen: set[tuple[Any, ...]] = set()
        for site in sites:
            if _kind(site) in seen:
                continue
            seen.add(_kind(site))
            if len(seen) > _SITES or passed(self.end):
                return
            self.tried[_kind(site)] = self.tried.get(_kind(site), 0) + 1
            with precision(_PRECISIONS[0]):
                low, high = self._bisected(base, direction, site, states[0][site], place)
            found = self._crossing(base, direction, low, high, place)
            if found is not None:
                yield found

    def _other(self, base: Point) -> Point | None:
        inputs = {}
        for i in self.declared:
            entries = self.sampler.entries(i, base.extents, self.random.choice((2.0, 4.0, 12.0)), base.parameters)
            if entries is None:
                return None
            inputs[i.name] = entries
        far = base.with_inputs(inputs)
        return far if self.ctx.admits(far) else None

    def _states(self, base: Point, direction: Direction, t: Fraction, place: Place) -> dict[Site, int] | None:
        line = Line(self.ctx.program, base, direction, 0, jets.ball(t))
        try:
            line.element(self.target, place)
        except (Undefined, *_FAILURES):
            return None
        return line.states

    def _bisected(
        self, base: Point, direction: Direction, site: Site, state: int, place: Place
    ) -> tuple[Fraction, Fraction]:
        """A narrow part of the line at whose ends the site has different states."""
        low, high = Fraction(0), Fraction(1)
        tensor, at = site[0], site[1]
        assert isinstance(tensor, str)
        assert isinstance(at, tuple)
        while high - low > _NARROW * max(high, _NEAR) and not passed(self.end):
            middle = (low + high) / 2
            line = Line(self.ctx.program, base, direction, 0, jets.ball(middle))
            try:
                line.element(tensor, at)
            except (Undefined, *_FAILURES):
                # exactly on it: a little apart
                apart = _NARROW * max(high, _NEAR) / 3
                return middle - apart, middle + apart
            if line.states.get(site) == state:
                low = middle
            else:
                high = middle
        return low, high

    def _crossing(self, base: Point, direction: Direction, low: Fraction, high: Fraction, place: Place) -> Jump | None:
        for bits in _PRECISIONS:
            with precision(bits):
                whole = jets.ball(low).union(jets.ball(high))
                try:
                    lines = [Line(self.ctx.program, base, direction, s, whole) for s in (-1, 1)]
                    left, right = (_real(line.element(self.target, place)) for line in lines)
                    first = lines[0].crossing
                    if first is None or first != lines[1].crossing:
                        return None
                    signs = [self._sign_at(base, direction, t, first, place) for t in (low, high)]
                except (Undefined, *_FAILURES):
                    continue
                if not signs[0] or not signs[1] or signs[0] == signs[1]:
                    return None  # nothing is crossed
                middle = (low + high) / 2
                at = base.with_inputs(
                    {n: {p: v + middle * direction[n][p] for p, v in base.inputs[n].items()} for n in self.names}
                )
                return self._differ(left, right, at, direction, "close to the first point")
        return None

    def _sign_at(self, base: Point, direction: Direction, t: Fraction, which: int, place: Place) -> int | None:
        line = Line(self.ctx.program, base, direction, 0, jets.ball(t))
        line.watched = {which: None}
        try:
            line.element(self.target, place)
        except (Undefined, *_FAILURES):
            if line.watched[which] is None:
                raise
        return line.watched[which]

    # -------------------------------------------------------------------------------------------- verdicts

    def _value(self, point: Point, direction: Direction, side: int, at: Any, place: Place) -> Value:
        return _real(Line(self.ctx.program, point, direction, side, at).element(self.target, place))

    def _differ(self, left: Value, right: Value, point: Point, direction: Direction, where: str) -> Jump | None:
        if left.infinite or right.infinite:
            return None
        for k in range(min(left.jet.known, right.jet.known)):
            gap = _apart(left.jet[k], right.jet[k])
            if gap is None:
                continue
            what = ("the value", "the slope")[k] if k < 2 else f"the derivative of order {k}"
            scale = self._scale(point, direction)
            size = _shown(gap * factorial(k) * jets.ball(scale) ** k)
            words = f"{what} jumps by {size} {where}, along the line through the second"
            return Jump(k, self._refuted(point, direction, words), "a point")
        return None

    def _scale(self, point: Point, direction: Direction) -> Fraction:
        """How far along the direction the second point is, inside of the domain."""
        scale = Fraction(1)
        while not self._inside(self._ahead(point, direction, scale)):
            scale /= 2
        return scale

    def _ahead(self, point: Point, direction: Direction, scale: Fraction) -> Point:
        return point.with_inputs(
            {n: {p: v + scale * direction[n][p] for p, v in point.inputs[n].items()} for n in self.names}
        )

    def _refuted(self, point: Point, direction: Direction, words: str) -> Refuted:
        second = self._ahead(point, direction, self._scale(point, direction))
        return Refuted("one-sided jets along a line", Witness((point.flat(), second.flat(*self.names)), words))


_FAILURES = (Undecided, RecursionError, ValueError, ZeroDivisionError, OverflowError)


def _real(value: Any) -> Value:
    """The value of an element, a whole number too."""
    return value if isinstance(value, Value) else Value(jets.constant(Fraction(value)), -1)


def _kind(site: Site) -> tuple[Any, ...]:
    """The branch of a site, wherever it is."""
    return (site[0], *(part for part in site[2:] if not isinstance(part, tuple)))


def _strictly(v: Fraction, box: Enclosure) -> bool:
    return (box.lo == -INF or v > Fraction(box.lo)) and (box.hi == INF or v < Fraction(box.hi))


def _apart(left: Any, right: Any) -> Any:
    """right - left as a ball, if it is certainly not 0."""
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        return jets.ball(right - left) if left != right else None
    gap = jets.ball(right) - jets.ball(left)
    return gap if gap > 0 or gap < 0 else None


def _shown(gap: Any) -> Enclosure:
    """Floats around the ball."""
    low, high = float(gap.lower()), float(gap.upper())
    return Enclosure(e.down(e.down(low)), e.up(e.up(high)))


@contextmanager
def precision(bits: int) -> Iterator[None]:
    before = flint.ctx.prec
    flint.ctx.prec = bits
    try:
        yield
    finally:
        flint.ctx.prec = before


__all__ = ["Jump", "jump", "precision"]
