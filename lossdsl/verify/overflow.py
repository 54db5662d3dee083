"""Counterexamples to finiteness where entries are coupled: points whose exact value no number of the type comes near.

Entries of real inputs are drawn from the ends of what the type represents, from 0 and from small numbers. A value or a
gradient element counts if it is certainly more than 3/2 of the largest number: whatever the plan returns for it is then
infinite, or wrong by more than a third.
"""

from __future__ import annotations

import itertools
import math
import random
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from lossdsl.ir.nodes import Input, Parameter, Program
from lossdsl.verify.context import Context
from lossdsl.verify.corners import Numbers, as_type, corners, long_ones
from lossdsl.verify.enclosure import Enclosure
from lossdsl.verify.float_values import Float
from lossdsl.verify.floats import Floats
from lossdsl.verify.points import Evaluator, Place, Point, TooManySteps, Undecided, elements, within
from lossdsl.verify.refute import _points
from lossdsl.verify.verdict import Witness
from lossdsl.verify.work import deadline, passed

_MOST, _MORE = 60, 12  # points; elements at each
_NEARER = 10  # bisections of how large the entries of a counterexample are
_FAR = 1.5
_ROUNDS_UP = 1.003  # beyond the largest number by as much, nothing rounds back to it
_NORMAL = Fraction(1, 2**126)


@dataclass(frozen=True)
class Broken:
    """A point at which a tensor is not finite, or beyond its limit; `where` adds to the violation what the point leaves
    out, `long` has the extents of axes whose elements are alike."""

    point: Point
    violation: str
    where: str = ""
    long: Mapping[str, int] = field(default_factory=dict)

    @property
    def witness(self) -> Witness:
        empty = 0 in self.point.extents.values()
        return Witness(
            (self.point.flat(),),
            self.violation + self.where,
            extents={**self.point.extents, **self.long} if self.long or empty else {},
        )

    def size(self, names: Sequence[str]) -> Fraction:
        """The largest entry of the inputs."""
        return max((abs(v) for name in names for v in self.point.inputs[name].values()), default=Fraction(0))


def overflowing(
    ctx: Context,
    programs: Sequence[tuple[Program, Sequence[str], float]],
    numbers: Numbers,
    cotangent: str,
) -> Broken | None:
    """A point at which one of the tensors is far beyond its limit. `programs`: each with tensors and their limit; `numbers`:
    what the type represents of real inputs and parameters; `cotangent`: the input that is 1 in gradient programs."""
    generator = random.Random(23)
    for low in itertools.islice(_points(ctx, 21), _MOST):
        point = _extreme(ctx.program, low, numbers, generator)
        found = None if point is None or not ctx.admits(point) else _beyond(programs, cotangent, point)
        if point is not None and found is not None:
            return Broken(point, found)
    return None


def _beyond(programs: Sequence[tuple[Program, Sequence[str], float]], cotangent: str, point: Point) -> str | None:
    """Which tensor is far beyond its limit at a point, in exact arithmetic."""
    ones = {cotangent: _ones(programs, cotangent, point)}
    for program, names, limit in programs:
        evaluator = Evaluator(program, point.with_inputs(ones))
        for name in names:
            for place in elements(program, name, point):
                try:
                    value = evaluator.element(name, place)
                except (TooManySteps, Undecided, ValueError, OverflowError, ZeroDivisionError):
                    break
                if not value.nan and (value.lo / _FAR > limit or value.hi / _FAR < -limit):
                    return f"{name} is in {value}, outside of the type"
    return None


def nearer(
    ctx: Context,
    programs: Sequence[tuple[Program, Sequence[str], float]],
    numbers: Numbers,
    cotangent: str,
    found: Broken,
    names: Sequence[str],
    safe: float,
) -> Broken:
    """The counterexample with entries of the inputs made smaller in proportion, as far as it remains one: none is where all
    of them are within `safe`. By bisection, within the time of a search."""
    end, low = deadline(ctx.seconds), max(Fraction(safe), numbers.least)
    for _ in range(_NEARER):
        size = found.size(names)
        if passed(end) or size <= low:
            break
        wanted = Fraction(math.sqrt(low)) * Fraction(math.sqrt(size))
        point = _scaled(found.point, wanted / size, numbers, names)
        said = broken(ctx, programs, cotangent, point, _MORE, found.long)
        if said is None and not found.long and ctx.admits(point):
            said = _beyond(programs, cotangent, point)
        if said is None:
            low = wanted
        else:
            found = replace(found, point=point, violation=said)
    return found


def _scaled(point: Point, by: Fraction, numbers: Numbers, names: Sequence[str]) -> Point:
    return point.with_inputs(
        {
            name: {
                p: as_type(v * by, numbers.boxes[name], numbers.bits, numbers.least)
                for p, v in point.inputs[name].items()
            }
            for name in names
        }
    )


def _extreme(program: Program, low: Point, numbers: Numbers, generator: random.Random) -> Point | None:
    """The point with some entries of its real inputs at the ends of their boxes, its parameters as the type has them, those at
    their default as float32 has it."""
    share = generator.choice((0.2, 0.6, 1.0))
    inputs = {i.name: _drawn(i, low.inputs[i.name], numbers.boxes, generator, share) for i in program.inputs}
    parameters = {p.name: _as_passed(p, low.parameters[p.name], numbers) for p in program.parameters}
    return Point(low.extents, parameters, inputs)


def _as_passed(p: Parameter, value: Fraction, numbers: Numbers) -> Fraction:
    """A parameter as the type has it; its default as float32 has it."""
    box = numbers.boxes.get(p.name)
    if p.default is not None and p.default.value == value:
        return Fraction(struct.unpack("f", struct.pack("f", float(value)))[0])
    return value if box is None or not box.bounded else as_type(value, box, numbers.bits, numbers.least)


def _drawn(
    i: Input, entries: dict[Place, Fraction], boxes: Mapping[str, Enclosure], generator: random.Random, share: float
) -> dict[Place, Fraction]:
    box = boxes.get(i.name)
    if box is None or i.kind not in ("real", "prob") or not box.bounded:
        return entries
    ends = [v for v in (Fraction(box.lo), Fraction(box.hi)) if within(v, box)]
    return {p: generator.choice(ends) if ends and generator.random() < share else v for p, v in entries.items()}


def breaking(
    ctx: Context,
    programs: Sequence[tuple[Program, Sequence[str], float]],
    boxes: Mapping[str, Enclosure],
    bits: int,
    least: Fraction,
    cotangent: str,
    seconds: float,
) -> Broken | None:
    """A point at which float32 arithmetic certainly makes an infinity or NaN of one of the tensors, or a number beyond its
    limit. `bits`: of the mantissa of the type of the inputs; `least`: its smallest number."""
    generator = random.Random(29)
    for k, low in enumerate(_samples(ctx, deadline(seconds))):
        point = _rounded_point(ctx.program, low, boxes, generator, bits, least, k)
        found = broken(ctx, programs, cotangent, point)
        if found is not None:
            return Broken(point, found)
    numbers = Numbers(boxes, bits, Fraction(1, 2 ** (125 + bits)) if least == _NORMAL else least)
    for point in corners(ctx, numbers, deadline(seconds / 2)):
        found = broken(ctx, programs, cotangent, point, _MORE)
        if found is not None:
            return Broken(point, found)
    for point, long in long_ones(ctx, numbers, deadline(seconds / 4)):
        found = broken(ctx, programs, cotangent, point, _MORE, long)
        if found is not None:
            alike = ", ".join(
                f"{name} is {n}, its elements alike from {point.extents[name] - 1} on" for name, n in long.items()
            )
            return Broken(point, found, f" where {alike}", long)
    for low in _without(ctx):
        point = _rounded_point(ctx.program, low, boxes, generator, bits, least, 0)
        found = broken(ctx, programs, cotangent, point)
        if found is not None:
            empty = ", ".join(f"the extent of {name} is 0" for name, n in point.extents.items() if n == 0)
            return Broken(point, found, f" where {empty}")
    return None


def _samples(ctx: Context, end: int) -> Iterator[Point]:
    """Admissible points until the time is up, some of them with longer axes."""
    sampler = ctx.sampler(22)
    misses = 0
    for k in itertools.count():
        if passed(end) or misses > 60:
            return
        extent = (2, 2, 3, 1, 2, 5, 2, 8)[k % 8]
        point = sampler.point(spread=(2.0, 8.0, 0.5, 40.0, 300.0)[k % 5], extent=extent, defaults=k % 3 != 2)
        if point is None or not ctx.admits(point):
            misses += 1
            continue
        yield point


def _without(ctx: Context) -> Iterator[Point]:
    """Points at which one axis has no element, all others have."""
    sampler = ctx.sampler(24)
    base = sampler.point(spread=2.0, extent=2)
    for name in base.extents if base is not None else ():
        if base is None or any(p.name == name for p in ctx.program.parameters):
            continue
        extents = {**base.extents, name: 0}
        inputs = {i.name: sampler.entries(i, extents, 2.0, base.parameters) for i in ctx.program.inputs}
        yield Point(extents, base.parameters, {n: found or {} for n, found in inputs.items()})


def broken(
    ctx: Context,
    programs: Sequence[tuple[Program, Sequence[str], float]],
    cotangent: str,
    point: Point,
    most: int = 4,
    long: Mapping[str, int] | None = None,
) -> str | None:
    """What is certainly not finite at a point, or beyond its limit."""
    if not ctx.admits(point):
        return None
    ones = point.with_inputs({cotangent: _ones(programs, cotangent, point)})
    given = itertools.chain(point.parameters.values(), *(entries.values() for entries in point.inputs.values()))
    either = (False, True) if any(0 < abs(v) < _NORMAL for v in given) else (False,)  # flushed to 0 or not
    for program, names, limit in programs:
        ways = [Floats(program, ones, long=long, flushed=flushed) for flushed in either]
        for name in names:
            for place in elements(program, name, point, most):
                found = [_wrong(floats, name, place, limit) for floats in ways]
                if None not in found:
                    return f"{name} is {found[0]} in this arithmetic"
    return None


def _wrong(floats: Floats, name: str, place: Place, limit: float) -> str | None:
    try:
        value = floats.element(name, place)
    except (Undecided, ValueError, OverflowError, ZeroDivisionError, RecursionError, KeyError):
        return None
    out = not value.finite or value.box.lo > limit * _ROUNDS_UP or value.box.hi < -limit * _ROUNDS_UP
    return _said(value) if out else None


def _said(value: Float) -> str:
    return (
        "an infinity or NaN" if value.bad else "inf" if value.sign > 0 else "-inf" if value.sign else f"in {value.box}"
    )


def _rounded_point(
    program: Program,
    low: Point,
    boxes: Mapping[str, Enclosure],
    generator: random.Random,
    bits: int,
    least: Fraction,
    k: int,
) -> Point:
    """The point with its real numbers as the type has them, some of them very large, small or at the ends of their boxes."""
    share = (0.0, 0.3, 0.6, 1.0)[k % 4]
    kinds = (_MIXED, _TINY, _HUGE, _MIXED, _HUGE)[k % 5]
    scale = 1.5 * 2.0 ** generator.choice((127, 127, 127, 100, 64, 40, 20, 15, 10, 7, 4)) if k % 3 else None
    inputs = {}
    for i in program.inputs:
        entries = low.inputs[i.name]
        box = boxes.get(i.name)
        if box is not None and i.kind in ("real", "prob") and box.bounded:
            entries = {
                p: as_type(_spread(v, box, generator, share, scale, least, kinds), box, bits, least)
                for p, v in entries.items()
            }
        inputs[i.name] = entries
    parameters = {}
    numbers, share = Numbers(boxes, bits, least), 0.5 if k % 2 == 1 else 0.0
    for p in program.parameters:
        value, box = low.parameters[p.name], boxes.get(p.name)
        if p.kind == "real" and box is not None and box.bounded:
            value = _as_passed(p, _spread(value, box, generator, share, None, least, _MIXED), numbers)
        parameters[p.name] = value
    return Point(low.extents, parameters, inputs)


_MIXED, _TINY, _HUGE = (0.0, 1.0), (0.25, 0.5), (0.55, 1.0)  # ends, 0, tiny numbers, their kin, huge numbers


def _spread(
    v: Fraction,
    box: Enclosure,
    generator: random.Random,
    share: float,
    scale: float | None,
    least: Fraction,
    kinds: tuple[float, float],
) -> Fraction:
    if generator.random() >= share:
        return v
    kind = generator.uniform(*kinds)
    if kind < 0.25:
        return Fraction(generator.choice((box.lo, box.hi)))
    if kind < 0.35:
        return Fraction(0)
    sign = generator.choice((-1, 1))
    if kind < 0.5:
        return least * (sign << generator.randint(0, 12))
    size = scale if scale is not None else 1.5 * 2.0 ** generator.randint(-30, 127)
    return Fraction(sign * (1 / size if kind < 0.55 else size))


def _ones(programs: Sequence[tuple[Program, Sequence[str], float]], name: str, point: Point) -> dict[Place, Fraction]:
    declared = next((found for p, _, _ in programs if (found := p.input(name)) is not None), None)
    if declared is None:
        return {}
    places = itertools.product(*(range(d.evaluate(point.extents)) for d in declared.dims))
    return dict.fromkeys(places, Fraction(1))


__all__ = ["Broken", "breaking", "broken", "nearer", "overflowing"]
