"""Counterexamples at points: what they have to show for each property, and that they do.

chord              two points and one between them: curvature
value at a point   a bound
pair of points     order, a Lipschitz bound, a symmetry: the second is a step up from the first, or is made from it by what
                   is said to change nothing
derivative on boxes, everywhere: nothing of what is said to be somewhere is anywhere (`profiles`)
and those that are found again when they are replayed (`lines`, `straight`), or are about expected losses (`risks`)
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any

from lossdsl.certificate.domain import Point, admit, fraction, places, point_of, same_but_for
from lossdsl.certificate.lines import FLAT, FOUND, INWARD, JUMP, NOWHERE, OUTWARD, RAY, SIDES, STEEP, lines
from lossdsl.certificate.points import Place, Undecided, Values, ball, certain, sign
from lossdsl.certificate.profiles import of_calm
from lossdsl.certificate.question import CALIBRATED, EXPLODING, FINITE, MINIMUM, PROPER, UNIQUE, VANISHING, Question
from lossdsl.certificate.risks import DECISIONS, candidates, rules_of_decisions
from lossdsl.certificate.rules import Stuck
from lossdsl.certificate.safety import BEYOND, COMPUTED, of_point, of_value, sized
from lossdsl.certificate.straight import STRAIGHT, segments
from lossdsl.ir.nodes import Read, Scalar
from lossdsl.verify.verdict import Refuted

CHORD, VALUE, PAIR = "chord", "value at a point", "pair of points"
CALM = "derivative on boxes, everywhere"

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


def rules_of(q: Question) -> tuple[str, ...]:
    """The kinds of counterexample to a property. Raises Stuck if it has none."""
    if q.property in ("strictly convex", "strictly concave"):
        return CHORD, FLAT, *STRAIGHT
    if q.property in _CHORDS:
        return (CHORD,)
    if q.property in ("non-negative", "positive"):
        return VALUE, NOWHERE
    if q.property == "lipschitz":
        return (*((PAIR,) if q.bound is not None else ()), RAY, OUTWARD, INWARD, JUMP, SIDES, NOWHERE)
    if q.property in (*_ORDERS, *_INVARIANCES, "exchange symmetric", MINIMUM, UNIQUE):
        return (PAIR,)
    if q.property == "redescending":
        return (STEEP,)
    if q.property in ("C0", "smooth"):
        return JUMP, SIDES, NOWHERE
    if q.property in (EXPLODING, VANISHING):
        return (CALM,)
    if q.property in (CALIBRATED, *PROPER):
        return rules_of_decisions(q)
    if q.property.startswith(FINITE):
        return COMPUTED, BEYOND
    raise Stuck("no certificate of this kind of counterexample yet")


_SEEN = frozenset(  # others may be limits, of which points are an illustration
    {
        *("chord", "midpoint", "second difference", "transformed point", "two points in order", "difference quotient"),
        *("search, interval evaluation", "convex and not constant", "concave and not constant"),
    }
)


def counterexample(q: Question, refuted: Refuted) -> dict[str, Any]:
    """The entry for a witness. Raises Stuck if it is of another kind, or the values do not show it."""
    witness = refuted.witness
    points = [{name: str(value) for name, value in point.items()} for point in witness.points]
    t = str(witness.t) if witness.t is not None else None
    reason = Stuck("the checker does not see the violation")
    for entry in _candidates(q, points, t, dict(witness.extents)):
        try:
            if entry["rule"] in _AGAIN:
                return {**entry, **_AGAIN[entry["rule"]](q, entry)}
            holds, values = violates(q, entry)
        except Stuck as unseen:  # at an element that it cannot evaluate
            reason = unseen
            continue
        if holds:
            return {**entry, "values": values}
    if refuted.method in _SEEN or q.property.startswith(FINITE):
        raise reason
    raise Stuck("no certificate of this kind of counterexample yet")


def _candidates(
    q: Question, points: list[dict[str, str]], t: str | None, extents: Mapping[str, int]
) -> Iterator[dict[str, Any]]:
    """Entries that may be counterexamples."""
    if CALM in rules_of(q):
        yield {"rule": CALM, "points": [], "t": None, "place": []}
        return
    if q.property in (CALIBRATED, *PROPER):
        yield from candidates(q, points)
        return
    if q.property.startswith(FINITE):
        yield from ({"rule": rule, "points": sized(points, extents)} for rule in rules_of(q))
        return
    if q.place is not None and len(points) == 1:
        yield from _beside_the_place(q, points[0])
    for rule in rules_of(q):
        for found in _between_points(q, rule, points, t):
            made = {"rule": rule, **found, "t": t if rule == CHORD else None}
            with contextlib.suppress(Stuck):
                shown, _, _ = point_of(q, made, 0)
                yield from ({**made, "place": list(place)} for place in places(q, shown))


def _beside_the_place(q: Question, point: dict[str, str]) -> Iterator[dict[str, Any]]:
    """The point, after the same one with an entry at the place of the minimum."""
    made = {"rule": PAIR, "points": [point], "t": None}
    d = q.program.definition(q.of)
    with contextlib.suppress(Stuck, Undecided):
        whole = point_of(q, made, 0)
        for place in places(q, whole[0]):
            if d is None or q.place is None or not isinstance(q.place.a, Read):
                return
            at: dict[Scalar, int] = {**dict(zip(d.formals, place, strict=True))}
            v = Values(q.program, *whole)
            entry = [str(v.scalar(i, at, {})) for i in q.place.a.indices]
            wanted = v.scalar(q.place.b, at, {})
            name = f"{q.place.a.tensor}[{', '.join(entry)}]" if entry else q.place.a.tensor
            if name in point and isinstance(wanted, Fraction):
                yield {**made, "points": [{**point, name: str(wanted)}, {name: point[name]}], "place": list(place)}


def _calm(q: Question, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Raises Stuck where it is not seen."""
    if entry["points"] or entry["place"]:
        raise Stuck("it is about all points")
    return {"values": [" ".join(line) for line in of_calm(q)]}


# what is found again when it is replayed
_AGAIN = {**FOUND, **STRAIGHT, **DECISIONS, CALM: _calm, COMPUTED: of_point, BEYOND: of_value}
_MOVING = frozenset({RAY, OUTWARD, INWARD, STEEP, JUMP, SIDES, FLAT})


def _between_points(q: Question, rule: str, points: list[dict[str, str]], t: str | None) -> Iterator[dict[str, Any]]:
    if rule in STRAIGHT:
        yield from segments(q, rule, points)
        return
    yield from ({"points": two} for two in (lines(q, points) if rule in _MOVING else _given(rule, points, t)))


def _given(rule: str, points: list[dict[str, str]], t: str | None) -> Iterator[list[dict[str, str]]]:
    """The points of a witness, where they may be of the kind."""
    if len(points) != (1 if rule in (VALUE, NOWHERE) else 2) or (rule == CHORD and t is None):
        return
    yield points
    if rule == PAIR:
        yield from _alone(points)


def _alone(points: list[dict[str, str]]) -> Iterator[list[dict[str, str]]]:
    """The points with nothing but what is at the place of the one entry that moves: those of one element."""
    moved = [n for n, v in points[1].items() if points[0].get(n) != v]
    if len(moved) != 1 or "[" not in moved[0]:
        return
    tensor, place = moved[0].rstrip("]").split("[")
    here = {n: v for n, v in points[0].items() if "[" not in n or n.endswith(f"[{place}]")}
    zero = f"[{', '.join('0' for _ in place.split(','))}]"
    first = {n.replace(f"[{place}]", zero): v for n, v in here.items()}
    if len(first) < len(points[0]):
        yield [first, {tensor + zero: points[1][moved[0]]}]


def violates(q: Question, entry: Mapping[str, Any]) -> tuple[bool, list[str]]:
    """Whether the points, all in the domain, violate the property at the place; the values there, to 30 digits."""
    if entry["rule"] in _AGAIN:
        found = _AGAIN[entry["rule"]](q, entry)
        return all(entry[k] == v for k, v in found.items() if k != "values"), found["values"]
    points = [point_of(q, entry, k) for k in range(len(entry["points"]))]
    place = tuple(int(p) for p in entry["place"])
    if entry["rule"] == VALUE:
        fails = _below(q, points)
    elif entry["rule"] == CHORD:
        t = fraction(entry["t"])
        points.append(_between(q, points, t))
        fails = _bent(q, t)
    else:
        same_but_for(q.inputs, points)
        fails = (
            _order(q, points)
            if q.property in _ORDERS
            else _steep(q, points, place)
            if q.bound is not None
            else _least_elsewhere(q, points, place)
            if q.place is not None
            else _moved(q, points)
        )
    for point in points:
        admit(q, point)
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


def _between(q: Question, points: list[Point], t: Fraction) -> Point:
    if not 0 < t < 1:
        raise Stuck("a chord has two points and t between 0 and 1")
    same_but_for(q.inputs, points)
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


def _steep(q: Question, points: list[Point], place: Place) -> Fails:
    (extents, parameters, first), (_, _, second) = points
    d = q.program.definition(q.of)
    at: dict[Scalar, int] = {} if d is None else dict(zip(d.formals, place))
    steps = [abs(second[n][p] - v) for n in q.inputs for p, v in first[n].items()]

    def fails(values: list[Any]) -> bool:
        assert q.bound is not None
        bound = ball(Values(q.program, extents, parameters, first).scalar(q.bound, at, {}))
        far = {
            "l1": lambda: ball(sum(steps, Fraction(0))),
            "linf": lambda: ball(max(steps)),
            "l2": lambda: ball(sum((s * s for s in steps), Fraction(0))).sqrt(),
        }[q.norm]()
        return sign(bound * far - abs(ball(values[0]) - ball(values[1]))) == -1

    return fails


def _least_elsewhere(q: Question, points: list[Point], place: Place) -> Fails:
    """The first point is at the place of the minimum, the second beside it in the same entry."""
    d, where = q.program.definition(q.of), q.place
    if d is None or where is None or not isinstance(where.a, Read):
        raise Stuck("no place of a minimum")
    at: dict[Scalar, int] = {**dict(zip(d.formals, place, strict=True))}
    holds, place_of = where, where.a

    def there(v: Values) -> bool:
        entry = tuple(int(v.scalar(i, at, {})) for i in place_of.indices)
        moved = {(n, p) for n in points[0][2] for p, x in points[0][2][n].items() if points[1][2][n][p] != x}
        return moved == {(place_of.tensor, entry)} and bool(v.scalar(holds, at, {}))

    if not certain(there, lambda: Values(q.program, *points[0])):
        raise Stuck("the first point is not at the place of the minimum")

    def fails(values: list[Any]) -> bool:
        if not all(ball(v).is_finite() for v in values):
            raise Undecided
        s = sign(_minus(values[1], values[0]))
        return s < 0 or (s == 0 and q.property == UNIQUE)

    return fails


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


__all__ = ["CHORD", "PAIR", "VALUE", "counterexample", "rules_of", "violates"]
