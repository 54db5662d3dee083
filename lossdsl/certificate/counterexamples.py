"""Counterexamples at points: what they have to show for each property, and that they do.

chord              two points and one between them: curvature
value at a point   a bound
pair of points     order, a Lipschitz bound, a symmetry: the second is a step up from the first, or is made from it by what
                   is said to change nothing
two values         of an entry, in which the loss is convex (or concave): its derivative does not go to 0 on both sides
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from math import prod
from typing import Any

from lossdsl.certificate.points import Place, Undecided, Values, ball, certain, sign
from lossdsl.certificate.question import Question
from lossdsl.certificate.rules import Stuck
from lossdsl.ir.extents import symbols_of
from lossdsl.ir.nodes import Input, Range
from lossdsl.ir.rewrite import free_indices
from lossdsl.verify.verdict import Refuted

CHORD, VALUE, PAIR, BENT = "chord", "value at a point", "pair of points", "two values of an entry"
_FRACTION = re.compile(r"-?[0-9]+(/[1-9][0-9]*)?")
_ENTRIES = 100_000

# what the gap between the chord and the value under it has to be for each property to fail
_CHORDS: dict[str, frozenset[int]] = {
    "convex": frozenset({-1}),
    "concave": frozenset({1}),
    "affine": frozenset({-1, 1}),
    "strictly convex": frozenset({-1, 0}),
    "strictly concave": frozenset({0, 1}),
    "quasiconvex": frozenset({-1}),  # the gap to the larger end
}
_ORDERS = {
    "increasing": frozenset({-1}),
    "strictly increasing": frozenset({-1, 0}),
    "decreasing": frozenset({1}),
    "strictly decreasing": frozenset({0, 1}),
}
_INVARIANCES = ("invariant under shift", "invariant under scale", "invariant under permutation", "even", "odd")


def rule_of(q: Question) -> str:
    """The kind of counterexample to a property. Raises Stuck if it has none."""
    if q.property in _CHORDS:
        return CHORD
    if q.property in ("non-negative", "positive"):
        return VALUE
    if q.property in (*_ORDERS, *_INVARIANCES, "exchange symmetric") or q.bound is not None:
        return PAIR
    if q.property == "redescending":
        return BENT
    raise Stuck("no certificate of this kind of counterexample yet")


_SHOWN = frozenset(
    {
        *("chord", "midpoint", "transformed point", "two points in order", "difference quotient", "second difference"),
        *("search, interval evaluation", "convex and not constant", "concave and not constant"),
    }
)


def counterexample(q: Question, refuted: Refuted) -> dict[str, Any]:
    """The entry for a witness. Raises Stuck if it is of another kind, or the values do not show it."""
    rule, witness = rule_of(q), refuted.witness
    if refuted.method not in _SHOWN:  # others are limits, of which points are an illustration
        raise Stuck("no certificate of this kind of counterexample yet")
    points = [{name: str(value) for name, value in point.items()} for point in witness.points]
    if len(points) != (1 if rule == VALUE else 2) or (rule == CHORD) != (witness.t is not None):
        raise Stuck("no certificate of this kind of counterexample yet")
    made = {"rule": rule, "points": points, "t": str(witness.t) if witness.t is not None else None}
    extents, _, _ = _point(q, made, 0)
    unseen = Stuck("the checker does not see the violation")
    for place in _places(q, extents):
        for entry in ({**made, "points": p, "place": list(place)} for p in _told_apart(rule, points)):
            try:
                holds, values = violates(q, entry)
            except Stuck as reason:  # at an element that it cannot evaluate
                unseen = reason
                continue
            if holds:
                return {**entry, "values": values}
    raise unseen


def _told_apart(rule: str, points: list[dict[str, str]]) -> list[list[dict[str, str]]]:
    """The points; for a statement about one entry, with one entry of the second at a time."""
    if rule != BENT:
        return [points]
    first, second = points
    return [[first, {name: value}] for name, value in second.items() if first.get(name) != value]


Point = tuple[dict[str, int], dict[str, Fraction], dict[str, dict[Place, Fraction]]]


def _point(q: Question, entry: Mapping[str, Any], k: int) -> Point:
    """Extents, parameters and entries of the k-th point; what a later point does not name is as in the first."""
    given = {**entry["points"][0], **entry["points"][k]}
    inputs: dict[str, dict[Place, Fraction]] = {i.name: {} for i in q.program.inputs}
    parameters: dict[str, Fraction] = dict(q.fixed)
    for name, text in given.items():
        tensor, _, rest = name.partition("[")
        value = _fraction(text)
        if tensor in inputs:
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
    missing = symbols_of(q.program) - set(extents)
    if missing or any(p.name not in parameters for p in q.program.parameters):
        raise Stuck("the point does not say every extent and parameter")
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
    return extents, parameters, inputs


def _fraction(text: str) -> Fraction:
    if len(text) > 5000 or not _FRACTION.fullmatch(text):
        raise Stuck("a number that is no fraction")
    return Fraction(text)


def _places(q: Question, extents: Mapping[str, int]) -> Iterator[Place]:
    d = q.program.definition(q.of)
    if d is None:
        raise Stuck(f"there is no {q.of}")
    return itertools.product(*(range(i.dim.evaluate(extents)) for i in d.formals))


def violates(q: Question, entry: Mapping[str, Any]) -> tuple[bool, list[str]]:
    """Whether the points, all in the domain, violate the property at the place; the values there, to 30 digits."""
    points = [_point(q, entry, k) for k in range(len(entry["points"]))]
    place = tuple(int(p) for p in entry["place"])
    if entry["rule"] == VALUE:
        fails = _below(q, points)
    elif entry["rule"] == CHORD:
        t = _fraction(entry["t"])
        points.append(_between(q, points, t))
        fails = _bent(q, t)
    else:
        _same_but_for(q.inputs, points)
        fails = (
            _order(q, points)
            if q.property in _ORDERS
            else _steep(q, points)
            if q.bound is not None
            else _apart(points)
            if entry["rule"] == BENT
            else _moved(q, points)
        )
    for point in points:
        _admit(q, point)
    shown: list[str] = []

    def question(_: Values) -> bool | None:
        at = [Values(q.program, *p) for p in points]
        values = [v.element(q.of, place) for v in at]
        shown[:] = [ball(v).str(30, radius=False) for v in values]
        moves = entry["rule"] == VALUE or any(points[0][2][n][p] != points[1][2][n][p] for v in at for n, p in v.read)
        return fails(values) if moves else False  # an element is about the entries that it reads

    return certain(question, lambda: Values(q.program, *points[0])), shown


Fails = Callable[[list[Any]], "bool | None"]


def _below(q: Question, points: list[Point]) -> Fails:
    if len(points) != 1:
        raise Stuck("a bound fails at one point")

    def fails(values: list[Any]) -> bool:
        s = sign(values[0])
        return s < 0 or (s == 0 and q.property == "positive")

    return fails


def _same_but_for(names: tuple[str, ...], points: list[Point]) -> None:
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


def _between(q: Question, points: list[Point], t: Fraction) -> Point:
    if not 0 < t < 1:
        raise Stuck("a chord has two points and t between 0 and 1")
    _same_but_for(q.inputs, points)
    (extents, parameters, first), (_, _, second) = points
    return extents, parameters, {n: {p: t * second[n][p] + (1 - t) * v for p, v in first[n].items()} for n in first}


def _bent(q: Question, t: Fraction) -> Fails:
    def fails(values: list[Any]) -> bool:
        if not all(ball(v).is_finite() for v in values):
            raise Undecided
        a, b, m = values
        if q.property == "quasiconvex":
            return sign(_minus(a, m)) == -1 and sign(_minus(b, m)) == -1
        exact = all(isinstance(v, Fraction) for v in values)
        chord = (1 - t) * a + t * b if exact else ball(1 - t) * ball(a) + ball(t) * ball(b)
        return sign(_minus(chord, m)) in _CHORDS[q.property]

    return fails


def _minus(a: Any, b: Any) -> Any:
    """a - b: a fraction, if both are."""
    return a - b if isinstance(a, Fraction) and isinstance(b, Fraction) else ball(a) - ball(b)


def _order(q: Question, points: list[Point]) -> Fails:
    (_, _, first), (_, _, second) = points
    steps = [second[n][p] - v for n in q.inputs for p, v in first[n].items()]
    if min(steps) < 0 < max(steps):
        raise Stuck("neither point is above the other")
    up = max(steps) > 0
    raised = (
        not q.property.startswith("strictly") or 0 not in steps
    )  # strict order speaks of points apart in every entry

    def fails(values: list[Any]) -> bool:
        low, high = values if up else values[::-1]
        return raised and sign(_minus(high, low)) in _ORDERS[q.property]

    return fails


def _steep(q: Question, points: list[Point]) -> Fails:
    (extents, parameters, first), (_, _, second) = points
    steps = [abs(second[n][p] - v) for n in q.inputs for p, v in first[n].items()]

    def fails(values: list[Any]) -> bool:
        assert q.bound is not None
        bound = ball(Values(q.program, extents, parameters, first).scalar(q.bound, {}, {}))
        far = {
            "l1": lambda: ball(sum(steps, Fraction(0))),
            "linf": lambda: ball(max(steps)),
            "l2": lambda: ball(sum((s * s for s in steps), Fraction(0))).sqrt(),
        }[q.norm]()
        return sign(bound * far - abs(ball(values[0]) - ball(values[1]))) == -1

    return fails


def _apart(points: list[Point]) -> Fails:
    (_, _, first), (_, _, second) = points
    if sum(v != second[n][p] for n in first for p, v in first[n].items()) != 1:
        raise Stuck("the points differ in more than one entry")
    return lambda values: _unequal(values[0], values[1])


def _unequal(first: Any, second: Any, negated: bool = False) -> bool:
    """Whether two finite values (one and the negative of the other) differ."""
    a, b = ball(first), ball(second)
    if not (a.is_finite() and b.is_finite()):
        raise Undecided
    return sign(a + b if negated else a - b) != 0


def _moved(q: Question, points: list[Point]) -> Fails:
    """The second point is the first, changed as the property says; the value changes all the same."""
    first, second = points[0][2], points[1][2]
    if q.property == "exchange symmetric":
        a, b = q.inputs
        if second[a] != first[b] or second[b] != first[a]:
            raise Stuck("the second point is not the first with its inputs exchanged")
    else:
        (name,) = q.inputs
        _check_move(q, first[name], second[name])
    return lambda values: _unequal(values[0], values[1], negated=q.property == "odd")


def _check_move(q: Question, before: Mapping[Place, Fraction], after: Mapping[Place, Fraction]) -> None:
    """Raise Stuck unless `after` is `before` negated, shifted, scaled or permuted along the axes of the property."""
    lines: dict[Place, list[Place]] = {}
    for p in before:
        lines.setdefault(tuple(v for k, v in enumerate(p) if k not in q.along), []).append(p)
    match q.property:
        case "even" | "odd":
            fits = all(after[p] == -v for p, v in before.items())
        case "invariant under shift":
            fits = all(len({after[p] - before[p] for p in line}) == 1 for line in lines.values())
        case "invariant under scale":
            fits = all(_scaled([(before[p], after[p]) for p in line]) for line in lines.values())
        case _:
            fits = len(q.along) == 1 and _permuted(next(iter(q.along)), before, after)
    if not fits:
        raise Stuck(f"the second point is not the first under what `{q.property}` says")


def _scaled(pairs: list[tuple[Fraction, Fraction]]) -> bool:
    factors = {b / a for a, b in pairs if a != 0}
    return all(b == 0 for a, b in pairs if a == 0) and len(factors) <= 1 and all(f > 0 for f in factors)


def _permuted(along: int, before: Mapping[Place, Fraction], after: Mapping[Place, Fraction]) -> bool:
    def slices(values: Mapping[Place, Fraction]) -> list[list[Fraction]]:
        parts: dict[int, list[Fraction]] = {}
        for p in sorted(values):
            parts.setdefault(p[along], []).append(values[p])
        return sorted(parts.values())

    return slices(before) == slices(after)


def _admit(q: Question, point: Point) -> None:
    """Raise Stuck unless the point lies in every declared domain and meets every condition."""
    extents, parameters, inputs = point

    def values() -> Values:
        return Values(q.program, extents, parameters, inputs)

    for p in q.program.parameters:
        value = parameters[p.name]
        if (p.kind != "real" and value.denominator != 1) or (p.kind == "bool" and value not in (0, 1)):
            raise Stuck(f"{p.name} = {value}")
        _obey(q, values, p.name, value, p.range)
    for i in q.program.inputs:
        for value in inputs[i.name].values():
            if not _of_kind(i, value, extents, parameters):
                raise Stuck(f"{i.name} = {value} is no {i.kind}")
            _obey(q, values, i.name, value, i.range)
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


__all__ = ["CHORD", "PAIR", "VALUE", "counterexample", "rule_of", "violates"]
