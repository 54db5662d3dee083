"""Points of a question: what a document says of them, and that they lie in every declared domain."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from math import prod
from typing import Any

from lossdsl.certificate.points import Place, Undecided, Values, ball, certain, sign
from lossdsl.certificate.question import Question
from lossdsl.certificate.rules import Stuck
from lossdsl.certificate.series import Point
from lossdsl.ir.extents import symbols_of
from lossdsl.ir.nodes import REAL, Input, Range
from lossdsl.ir.rewrite import free_indices

_FRACTION = re.compile(r"-?[0-9]+(/[1-9][0-9]*)?")
_PLACE = re.compile(r"[0-9]+(, ?[0-9]+)*\]")
_ENTRIES = 100_000


def point_of(q: Question, entry: Mapping[str, Any], k: int, said: Mapping[str, int] | None = None) -> Point:
    """Extents (those that are said, if no entry tells them), parameters and entries of the k-th point; what a later point does
    not name is as in the first, and an axis of which nothing has an entry is empty. Raises Stuck, also for a place that is
    none of the target's."""
    given = {**entry["points"][0], **entry["points"][k]}
    inputs: dict[str, dict[Place, Fraction]] = {i.name: {} for i in q.program.inputs}
    parameters: dict[str, Fraction] = dict(q.fixed)
    for name, text in given.items():
        tensor, _, rest = name.partition("[")
        value = fraction(text)
        if tensor in inputs:
            if rest and not _PLACE.fullmatch(rest):
                raise Stuck(f"{name} is no entry")
            inputs[tensor][tuple(int(p) for p in rest.rstrip("]").split(",")) if rest else ()] = value
        else:
            parameters[name] = value
    extents: dict[str, int] = {}
    for i in q.program.inputs:
        for axis, dim in enumerate(i.dims):
            names = list(dim.symbols())
            if len(names) == 1 and str(dim) == names[0] and inputs[i.name]:
                extents[names[0]] = 1 + max(place[axis] for place in inputs[i.name])
    extents |= {p.name: int(parameters[p.name]) for p in q.program.parameters if p.name in symbols_of(q.program)}
    if any(p.name not in parameters for p in q.program.parameters):
        raise Stuck("the point does not say every parameter")
    extents = {**dict.fromkeys(symbols_of(q.program), 0), **(said or {}), **extents}
    for i in q.program.inputs:
        sizes = [d.evaluate(extents) for d in i.dims]
        if len(inputs[i.name]) != prod(sizes) and i.name not in q.fixed:
            raise Stuck(f"the point does not say every entry of {i.name}")
        if prod(sizes) > _ENTRIES:
            raise Stuck(f"{i.name} is too large")
        full = set(itertools.product(*map(range, sizes)))
        if set(inputs[i.name]) != full and i.name not in q.fixed:
            raise Stuck(f"the point does not say every entry of {i.name}")
        if i.name in q.fixed:
            inputs[i.name] = dict.fromkeys(full, q.fixed[i.name])
    if "place" in entry and tuple(int(p) for p in entry["place"]) not in set(places(q, extents)):
        raise Stuck(f"there is no element at {entry['place']}")
    return extents, parameters, inputs


def fraction(text: str) -> Fraction:
    if len(text) > 5000 or not _FRACTION.fullmatch(text):
        raise Stuck("a number that is no fraction")
    return Fraction(text)


def places(q: Question, extents: Mapping[str, int]) -> Iterator[Place]:
    d = q.program.definition(q.of)
    if d is None:
        raise Stuck(f"there is no {q.of}")
    return itertools.product(*(range(i.dim.evaluate(extents)) for i in d.formals))


def same_but_for(names: tuple[str, ...], points: list[Point]) -> None:
    """Raise Stuck unless two points differ in some of these inputs and in nothing else."""
    if len(points) != 2:
        raise Stuck("not two points")
    (extents, parameters, first), (others, again, second) = points
    if (extents, parameters) != (others, again):
        raise Stuck("the points differ in more than the inputs")
    for name in first:
        if name not in names and first[name] != second[name]:
            raise Stuck(f"{name} differs, and is no input of the property")
    if first == second:
        raise Stuck("the points are one")


def admit(q: Question, point: Point, *, inside: bool = False, closed: bool = False) -> None:
    """Raise Stuck unless the point lies in every declared domain and meets every condition; `inside`: at no end of those of
    the inputs that the property is about (of all of them, if it is about none); `closed`: at an end of those, perhaps, that
    does not belong to it."""
    extents, parameters, inputs = point
    names = (q.inputs or tuple(inputs)) if inside else ()
    closing = q.inputs if closed else ()

    def values() -> Values:
        return Values(q.program, extents, parameters, inputs)

    for p in q.program.parameters:
        value = parameters[p.name]
        if (p.kind != "real" and value.denominator != 1) or (p.kind == "bool" and value not in (0, 1)):
            raise Stuck(f"{p.name} = {value}")
        _obey(q, values, p.name, value, p.range)
    for i in q.program.inputs:
        open_ = i.name in names and i.dtype is REAL
        ends = open_ if open_ or i.name in closing else None
        declared = i.range if ends is None else replace(i.range, lower_open=ends, upper_open=ends)
        for value in inputs[i.name].values():
            if not _of_kind(i, value, extents, parameters):
                raise Stuck(f"{i.name} = {value} is no {i.kind}")
            if open_ and ((i.kind in ("prob", "simplex") and value == 0) or (i.kind == "prob" and value == 1)):
                raise Stuck(f"{i.name} = {value} is an end of its domain")
            _obey(q, values, i.name, value, declared)
        if i.kind in ("simplex", "unit"):
            rows: dict[Place, Fraction] = {}
            for at, value in inputs[i.name].items():
                row = tuple(v for k, v in enumerate(at) if k not in i.over)
                rows[row] = rows.get(row, Fraction(0)) + (value if i.kind == "simplex" else value**2)
            if any(total != 1 for total in rows.values()):
                raise Stuck(f"{i.name} is not in its {i.kind}")
    for condition in q.conditions:
        indices = free_indices(condition)
        for at in itertools.product(*(range(i.dim.evaluate(extents)) for i in indices)):
            here: dict[Any, int] = dict(zip(indices, at, strict=True))
            if not certain(lambda v, c=condition, h=here: bool(v.scalar(c, h, {})), values):  # type: ignore[misc]
                raise Stuck("a condition does not hold at the point")


def _of_kind(i: Input, value: Fraction, extents: Mapping[str, int], parameters: Mapping[str, Fraction]) -> bool:
    match i.kind:
        case "prob" | "simplex":
            return 0 <= value <= 1
        case "bool" | "binary":
            return value in (0, 1)
        case "sign":
            return value in (-1, 1)
        case "class":
            also = i.also is not None and value == parameters[i.also]
            return also or (
                value.denominator == 1 and i.classes is not None and 0 <= value < i.classes.evaluate(extents)
            )
        case "int":
            return value.denominator == 1
    return True


def _obey(q: Question, values: Callable[[], Values], name: str, value: Fraction, declared: Range) -> None:
    for bound, is_open, side in (
        (declared.lower, declared.lower_open, 1),
        (declared.upper, declared.upper_open, -1),
    ):
        if bound is None:
            continue

        def inside(v: Values, bound: Any = bound, is_open: bool = is_open, side: int = side) -> bool:
            s = side * sign(ball(value) - ball(v.scalar(bound, {}, {})))
            return s > 0 or (s == 0 and not is_open)

        exact = _rational(values, bound)
        ok = _inside(value, exact, is_open, side) if exact is not None else certain(inside, values)
        if not ok:
            raise Stuck(f"{name} = {value} is outside of its range")


def _inside(value: Fraction, end: Fraction, is_open: bool, side: int) -> bool:
    gap = side * (value - end)
    return gap > 0 or (gap == 0 and not is_open)


def _rational(values: Callable[[], Values], bound: Any) -> Fraction | None:
    try:
        found = values().scalar(bound, {}, {})
    except Undecided:
        return None
    return found if isinstance(found, Fraction) else None


__all__ = ["Point", "admit", "fraction", "places", "point_of", "same_but_for"]
