"""Local search for counterexamples at many scales: from a point towards where an inequality fails.

The coordinates are the real entries of inputs and the real parameters of an admissible point, exact rationals. Each is
moved alone, by a step that doubles while it helps and is halved while it does not, so that narrow dips (down to 2^-40) and
far tails (up to 2^60) are both reached. What is found is only a candidate: the caller certifies it by enclosures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction

from lossdsl.verify.context import Context
from lossdsl.verify.enclosure import Enclosure
from lossdsl.verify.points import Place, Point, within
from lossdsl.verify.work import deadline, passed

Coordinate = tuple[int, str, Place | None]  # of which point, the input and its place, or (None) a parameter
Objective = Callable[[tuple[Point, ...]], Enclosure | None]

_FIRST, _SMALLEST, _LARGEST = Fraction(1), Fraction(1, 2**40), Fraction(2**60)


def descend(
    ctx: Context,
    start: tuple[Point, ...],
    inputs: tuple[str, ...] | None,
    objective: Objective,
    seconds: float,
    interior: tuple[str, ...] = (),
) -> tuple[Point, ...] | None:
    """Points at which the objective is certainly negative, from `start` downhill; None if there are none in time.

    inputs     what the points may differ in; everything else moves in all of them together. None: there is one point
    interior   inputs that stay inside of their domain
    """
    end = deadline(seconds)
    boxes = _Boxes(ctx, interior)
    coordinates = list(_coordinates(ctx, start, inputs))
    best, value = start, objective(start)
    if value is None:
        return None
    if value.negative:
        return start
    steps = dict.fromkeys(coordinates, _FIRST)
    while steps:
        for coordinate in list(steps):
            step = steps[coordinate]
            for signed in (step, -step):
                if passed(end):
                    return None
                moved = _moved(best, coordinate, signed, inputs)
                if not boxes.hold(moved, coordinate, inputs):
                    continue
                found = objective(moved)
                if found is None or _middle(found) >= _middle(value) or not all(ctx.admits(p) for p in moved):
                    continue
                if found.negative:
                    return moved
                best, value = moved, found
                steps[coordinate] = min(2 * step, _LARGEST)
                break
            else:
                steps[coordinate] = step / 4
                if steps[coordinate] < _SMALLEST:
                    del steps[coordinate]
    return None


def _middle(box: Enclosure) -> float:
    return box.lo / 2 + box.hi / 2


def _coordinates(ctx: Context, points: tuple[Point, ...], inputs: tuple[str, ...] | None) -> Iterator[Coordinate]:
    for i in ctx.program.inputs:
        if i.kind not in ("real", "prob") or i.name in ctx.fixed:
            continue
        for k in range(len(points) if inputs is not None and i.name in inputs else 1):
            for place in points[k].inputs[i.name]:
                yield k, i.name, place
    extents = {name for point in points for name in point.extents}
    for p in ctx.program.parameters:
        if p.kind == "real" and p.name not in ctx.fixed and p.name not in extents:
            yield 0, p.name, None


def _moved(
    points: tuple[Point, ...], coordinate: Coordinate, step: Fraction, inputs: tuple[str, ...] | None
) -> tuple[Point, ...]:
    k, name, place = coordinate
    own = place is not None and inputs is not None and name in inputs
    out = []
    for j, point in enumerate(points):
        if own and j != k:
            out.append(point)
        elif place is None:
            parameters = {**point.parameters, name: point.parameters[name] + step}
            out.append(Point(point.extents, parameters, point.inputs))
        else:
            entries = {**point.inputs[name], place: point.inputs[name][place] + step}
            out.append(point.with_inputs({name: entries}))
    return tuple(out)


class _Boxes:
    """The intervals of inputs and parameters."""

    def __init__(self, ctx: Context, interior: tuple[str, ...]) -> None:
        self._ranges = ctx.ranges(interior)

    def hold(self, points: tuple[Point, ...], coordinate: Coordinate, inputs: tuple[str, ...] | None) -> bool:
        k, name, place = coordinate
        if place is None:
            return within(points[0].parameters[name], self._ranges.parameter(name))
        at = points[k] if inputs is not None and name in inputs else points[0]
        return within(at.inputs[name][place], self._ranges.input(name))


__all__ = ["Objective", "descend"]
