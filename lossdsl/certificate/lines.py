"""Counterexamples that are found again when they are replayed: points without a value, and what a line through two points
shows. What is found is compared with what the document says.

no value            a point at which it is no real number: nothing that is said of all points holds there
bend along a ray    from a point through another one: the second derivative stays away from 0, so that no slope is the largest
jump                of a derivative (the 0th is the value) close to a point, along the line through another: on both sides of
                    it, it is further apart than the next derivative of every piece in between allows (mean value theorem)
flat between points the second derivative is 0 from one to the other
growth far out      on the ray from a point through another one: the value grows faster than any multiple of the way (`paths`)
growth like a line  of one entry: the value grows as fast as a multiple of the way, and its derivative does not go to 0
two sides of a point     of which the value, or a derivative, is another one on each
growth towards a point   on the way to the first point, at an end of the domain perhaps: it has no limit, or comes to it slowly
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from math import prod
from typing import Any

from flint import arb

from lossdsl.certificate.domain import Point, admit, point_of, same_but_for
from lossdsl.certificate.paths import FAR, NEAR, growth, sides
from lossdsl.certificate.points import Extended, NoValue, Place, Undecided, Values, certain, infinite
from lossdsl.certificate.question import Question
from lossdsl.certificate.rules import Stuck
from lossdsl.certificate.series import Along, Comparison, Fork, Series
from lossdsl.ir.extents import symbols_of
from lossdsl.ir.nodes import REAL, Const, Input, Range, tensors_of
from lossdsl.verify import enclosure as e
from lossdsl.verify.enclosure import INF, Enclosure

NOWHERE, RAY, JUMP, FLAT = "no value", "bend along a ray", "jump", "flat between points"
OUTWARD, INWARD, STEEP = "growth far out", "growth towards a point", "growth like a line"
SIDES = "two sides of a point"
_STARTS = tuple(Fraction(2) ** k for k in (0, 3, 6, 12, 24))  # of a ray: 0 is its first point, 1 the second
_STEPS = tuple(Fraction(1, 2**k) for k in (4, 8, 16, 24, 36, 48, 60))  # to either side of the first point
_INNER = 1 - 2.0**-20  # from there to the step, but for finitely many places
_CASES = 32
_NUMBERED = re.compile(r"\w+(\[[0-9, ]*\])?")
_NUMBERS = (Fraction(1), Fraction(1, 2), Fraction(0))
_TINY = Fraction(1, 2**20)


def _nowhere(q: Question, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Raises Stuck where there is a value."""
    point = point_of(q, entry, 0)
    if len(entry["points"]) != 1:
        raise Stuck("not one point")
    admit(q, point, inside=True)
    place = tuple(int(p) for p in entry["place"])

    bound = q.property in ("non-negative", "positive")  # which an infinity may meet

    def question(v: Values) -> bool:
        try:
            value = v.element(q.of, place)
        except NoValue:
            return True
        if isinstance(value, arb) and not value.is_finite() and not infinite(value):
            raise Undecided
        return infinite(value, -1 if bound else 0)

    for way in (1, -1):
        if not certain(question, lambda way=way: Extended(q.program, *point, way)):  # type: ignore[misc]
            raise Stuck("there is a value at the point")
    return {"asked": [q.property, q.order, *place], "values": ["none"]}


def line_of(q: Question, entry: Mapping[str, Any]) -> tuple[Point, dict[tuple[str, Place], Fraction]]:
    """The first point, and the step from it to the second one. Raises Stuck."""
    points = [point_of(q, entry, k) for k in range(len(entry["points"]))]
    same_but_for(q.inputs, points)
    if any(t in q.inputs for t in tensors_of(q.conditions)):
        raise Stuck("a condition on what moves")
    (_, _, first), (_, _, second) = points
    return points[0], {(n, p): second[n][p] - v for n in first for p, v in first[n].items() if second[n][p] != v}


def moved_along(point: Point, steps: Mapping[tuple[str, Place], Fraction], t: Fraction) -> Point:
    extents, parameters, inputs = point
    moved = {
        n: {p: v + t * steps.get((n, p), Fraction(0)) for p, v in entries.items()} for n, entries in inputs.items()
    }
    return extents, parameters, moved


def _terms(q: Question, entry: Mapping[str, Any], line: Any, over: Enclosure, count: int, joined: bool) -> Any:
    """The coefficients of the element along the line. Raises Stuck."""
    along = Along(q.program, line[0], line[1], over, count, joined=joined)
    terms = _evaluated(q, entry, along, count, joined)
    if not along.moved:
        raise Stuck("the element is of nothing that moves")
    return terms


def _evaluated(q: Question, entry: Mapping[str, Any], along: Along, count: int, joined: bool) -> Any:
    """Raises Stuck, and Fork."""
    try:
        found = along.element(q.of, tuple(int(p) for p in entry["place"]))
    except (Undecided, ZeroDivisionError, OverflowError, RecursionError) as reason:
        raise Stuck(f"no series there ({type(reason).__name__})") from reason
    terms = Series((Enclosure(0.0, 0.0),) * count, joined).like(found).terms
    if not all(t.finite for t in terms):
        raise Stuck("the element may be infinite on the line")
    return terms


def _pieces(q: Question, entry: Mapping[str, Any], line: Any, over: Enclosure, count: int) -> Any:
    """What holds the coefficients of every piece that the line may have a part in; case by case, if a piece is of what
    another one has no value of. Raises Stuck."""
    try:
        return _terms(q, entry, line, over, count, True)
    except Stuck as reason:
        stuck = reason
    todo: list[dict[Comparison, bool]] = [{}]
    found: list[Any] = []
    for _ in range(_CASES):
        if not todo:
            return [functools.reduce(e.hull, some) for some in zip(*found, strict=True)]
        cases = todo.pop()
        along = Along(q.program, line[0], line[1], over, count, joined=True, cases=cases)
        try:
            found.append(_evaluated(q, entry, along, count, True))
        except Fork as fork:
            todo += [{**cases, fork.comparison: holds} for holds in (True, False)]
    raise stuck


def _endless(q: Question, entry: Mapping[str, Any]) -> tuple[Point, dict[tuple[str, Place], Fraction]]:
    """The line of a ray. Raises Stuck if it leaves the domain."""
    line = line_of(q, entry)
    for name, place in line[1]:
        declared = q.program.input(name)
        end = None if declared is None else declared.range.upper if line[1][name, place] > 0 else declared.range.lower
        if declared is None or declared.kind != "real" or end is not None:
            raise Stuck(f"the ray leaves the domain of {name}")
    return line


def _ray(q: Question, entry: Mapping[str, Any]) -> dict[str, Any]:
    """The first start from which the second derivative stays away from 0."""
    line = _endless(q, entry)
    for start in _STARTS:
        with contextlib.suppress(Stuck):
            _, _, bend = _terms(q, entry, line, Enclosure(float(start), INF, False, True), 3, False)
            least = max(bend.lo, -bend.hi)
            if least > 0:
                admit(q, moved_along(*line, start), inside=True)
                return {"start": str(start), "values": [least.hex()]}
    raise Stuck("no bend along the ray")


def _jump(q: Question, entry: Mapping[str, Any]) -> dict[str, Any]:
    """The first derivative that jumps, and the first step to either side of the point that shows it."""
    line = line_of(q, entry)
    for order in range(_most(q) + 1):
        for step in _STEPS:
            with contextlib.suppress(Stuck):
                h = float(step)
                ends = Enclosure(-h, -h * _INNER), Enclosure(h * _INNER, h)
                low, high = (_pieces(q, entry, line, end, order + 1)[order] for end in ends)
                next_ = _pieces(q, entry, line, Enclosure(-h, h), order + 2)[order + 1]
                room = e.mul(Enclosure(2 * h * (order + 1), 2 * h * (order + 1)), e.absolute(next_))
                gap = e.sub(e.absolute(e.sub(high, low)), room)
                if gap.positive:
                    for t in (-step, step):
                        admit(q, moved_along(*line, t), inside=True)
                    return {"asked": q.order, "order": order, "step": str(step), "values": [gap.lo.hex()]}
    raise Stuck("no jump along the line")


def _sides(q: Question, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Raises Stuck unless the value or a derivative is another one on each side of the first point."""
    line = line_of(q, entry)
    start, order, values = sides(q.program, line, q.of, tuple(int(p) for p in entry["place"]), _most(q))
    for t in (-1, 1):
        admit(q, moved_along(*line, Fraction(t, start)), inside=True)
    return {"asked": q.order, "order": order, "start": str(start), "values": values}


def _most(q: Question) -> int:
    """The order of the last derivative that may jump."""
    return 0 if q.property in ("C0", "lipschitz") else 4 if q.order is None else q.order


def _flat(q: Question, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Raises Stuck where the loss bends."""
    line = line_of(q, entry)
    _, _, bend = _terms(q, entry, line, Enclosure(0.0, 1.0), 3, False)
    if not bend.zero:
        raise Stuck("the loss bends between the points")
    for t in (0, 1):
        admit(q, moved_along(*line, Fraction(t)), inside=True)
    return {"values": ["flat"]}


def _outward(q: Question, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Raises Stuck unless the value outgrows every multiple of the way."""
    line = _endless(q, entry)
    start, values = growth(q.program, line, q.of, tuple(int(p) for p in entry["place"]), FAR)
    admit(q, moved_along(*line, Fraction(start)), inside=True)
    return {"start": str(start), "values": values}


def _steep(q: Question, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Raises Stuck unless the value grows at least as fast as a multiple of the way of one entry."""
    line = _endless(q, entry)
    if len(line[1]) != 1:
        raise Stuck("more than one entry moves")
    for name, _ in line[1]:
        declared = q.program.input(name)
        if declared is None or declared.range != Range() or name in q.assume:
            raise Stuck(f"{name} is not any real number")
    place = tuple(int(p) for p in entry["place"])
    start, values = growth(q.program, line, q.of, place, FAR, like_a_line=True)
    admit(q, moved_along(*line, Fraction(start)), inside=True)
    return {"start": str(start), "values": values}


def _inward(q: Question, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Raises Stuck unless the value goes off, or comes to its limit more slowly than the point to the first one."""
    line = line_of(q, entry)
    if any(declared is None or declared.kind == "unit" for declared in (q.program.input(n) for n, _ in line[1])):
        raise Stuck("a domain that is not convex")
    start, values = growth(q.program, line, q.of, tuple(int(p) for p in entry["place"]), NEAR)
    admit(q, line[0], closed=True)
    admit(q, moved_along(*line, Fraction(1, start)), inside=True)
    return {"start": str(start), "values": values}


FOUND: dict[str, Callable[[Question, Mapping[str, Any]], dict[str, Any]]] = {
    NOWHERE: _nowhere,
    RAY: _ray,
    JUMP: _jump,
    SIDES: _sides,
    FLAT: _flat,
    OUTWARD: _outward,
    INWARD: _inward,
    STEEP: _steep,
}


# ---------------------------------------------------------------------------------------- where they may be


def lines(q: Question, points: list[dict[str, str]]) -> Iterator[list[dict[str, str]]]:
    """Two points to try: those of a witness, also with numbers in place of parameters that are next to 0, or one of it and one
    that is above it; and simple ones."""
    if len(points) == 2:
        yield points
        if tiny := _tiny(q, points[0]):
            yield [{**points[0], **dict.fromkeys(tiny, "1")}, {n: v for n, v in points[1].items() if n not in tiny}]
    if len(points) == 1:
        whole = _entries(q, points[0])
        yield from ([whole, step] for step in _steps(q, whole))
    for number in _NUMBERS:
        for point in _switched(q, simple(q, number)):
            yield from ([point, step] for step in _steps(q, point))


def _tiny(q: Question, point: Mapping[str, str]) -> list[str]:
    """The real parameters at whose size no step to either side of a point is a small one."""
    names = [p.name for p in q.program.parameters if p.kind == "real" and p.name not in q.fixed and p.name in point]
    return [n for n in names if 0 < abs(Fraction(point[n])) < _TINY]


def _switched(q: Question, point: dict[str, str]) -> Iterator[dict[str, str]]:
    """The point, and those with one switch the other way."""
    yield point
    for p in q.program.parameters:
        if p.kind == "bool" and p.name not in q.fixed:
            yield {**point, p.name: str(1 - int(point[p.name]))}


def _entries(q: Question, point: Mapping[str, str]) -> dict[str, str]:
    """The point with all entries of a tensor of which any is meant (`x[...]`, `x[n]`)."""
    found = {name: value for name, value in point.items() if _NUMBERED.fullmatch(name)}
    sizes = dict.fromkeys(symbols_of(q.program), 1)
    for i in q.program.inputs:
        read = [n.partition("[")[2].rstrip("]").split(",") for n in found if n.partition("[")[0] == i.name and i.dims]
        for k, dim in enumerate(i.dims):
            names = list(dim.symbols())
            if read and len(names) == 1 and str(dim) == names[0]:
                sizes[names[0]] = 1 + max(int(place[k]) for place in read)
    for name, value in point.items():
        declared = q.program.input(name.partition("[")[0])
        if name not in found and declared is not None:
            for place in _places(declared, sizes):
                found.setdefault(_named(declared, place), value)
    return found


def _named(i: Input, place: Place) -> str:
    return f"{i.name}[{', '.join(map(str, place))}]" if place else i.name


def _steps(q: Question, point: Mapping[str, str]) -> Iterator[dict[str, str]]:
    for step in (1, -1):
        moved = {n: str(Fraction(v) + step) for n, v in point.items() if n.partition("[")[0] in q.inputs}
        if moved:
            yield moved


def simple(q: Question, number: Fraction, size: int = 1) -> dict[str, str]:
    """A point with real entries that are all one number, at the parameters' defaults, with so many elements along each axis."""
    sizes = dict.fromkeys(symbols_of(q.program), size)
    point: dict[str, str] = {}
    for p in q.program.parameters:
        value = p.default.value if p.default is not None else Fraction(1)
        value = Fraction(sizes[p.name]) if p.name in sizes else value
        point[p.name] = str(q.fixed.get(p.name, value if isinstance(value, Fraction) else Fraction(1)))
    for i in q.program.inputs:
        if i.name not in q.fixed:
            value = _of_kind(i, number, sizes)
            for place in _places(i, sizes):
                point[_named(i, place)] = str(value if i.name in q.inputs else _within(i.range, value, i.dtype is REAL))
    return point


def _within(declared: Range, number: Fraction, real: bool) -> Fraction:
    """The number, or one that is between the ends of a range or above its lower one, where those are numbers; at an end that
    belongs to it only if it is of whole numbers."""
    low, high = (
        end.value if isinstance(end, Const) and isinstance(end.value, Fraction) else None
        for end in (declared.lower, declared.upper)
    )
    if (low is None or number > low or (number == low and not real)) and (
        high is None or number < high or (number == high and not real)
    ):
        return number
    if low is None:
        return number if high is None else high - real
    return low + real if high is None else (low + high) / 2 if real else low


def _places(i: Input, sizes: Mapping[str, int]) -> Iterator[Place]:
    return itertools.product(*(range(d.evaluate(sizes)) for d in i.dims))


def _of_kind(i: Input, number: Fraction, sizes: Mapping[str, int]) -> Fraction:
    match i.kind:
        case "simplex":
            return Fraction(1, prod(i.dims[k].evaluate(sizes) for k in i.over))
        case "prob":
            return Fraction(1, 2)
        case "class" | "int":
            return Fraction(0)
        case "bool" | "binary" | "sign":
            return Fraction(1)
    return number


__all__ = [
    "FLAT",
    "FOUND",
    "INWARD",
    "JUMP",
    "NOWHERE",
    "OUTWARD",
    "RAY",
    "SIDES",
    "STEEP",
    "line_of",
    "lines",
    "moved_along",
    "simple",
]
