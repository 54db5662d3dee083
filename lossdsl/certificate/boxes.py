"""What derivatives on boxes prove: curvature, order, Lipschitz bounds, and both ends of a number."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

from lossdsl.certificate.bounds import Bounds
from lossdsl.certificate.coverings import Curve, Leaf, text
from lossdsl.certificate.question import RADIUS, Question, sides_of_minimum, valleys
from lossdsl.certificate.rules import AFFINE, CONSTANT, CONVEX, Rules, Stuck
from lossdsl.ir.nodes import TRUE, Apply, Const, Read, Scalar, tensors_of
from lossdsl.verify.enclosure import INF, Enclosure, exact

Trace = list[list[str]]
TINY = 5e-324  # more than 0


def _told(leaves: Sequence[Leaf]) -> Trace:
    return [[*(text(side) for side in leaf.box.sides), text(leaf.found)] for leaf in leaves]


def _bend(q: Question, accept: Callable[[Enclosure], bool]) -> tuple[Curve, list[Leaf], Trace]:
    """Boxes on which the second derivative in the variable is accepted, and places where the first one rises."""
    curve = Curve(q, inner=True, terms=True)
    leaves = curve.covering(2, accept)
    return curve, leaves, [*_told(leaves), *curve.joined(leaves, 1, rises=True)]


def of_convexity(q: Question) -> Trace:
    """A continuous function whose derivative does not fall, or rises, is convex, or strictly so."""
    strict, word = q.property.startswith("strictly "), q.property.removeprefix("strictly ")
    if word == "concave":
        return of_convexity(_negated(q, "convex"))
    try:
        return _bent(q, strict=strict)
    except Stuck:
        for first, second in _summands(q) if strict else ():
            with contextlib.suppress(Stuck):
                return [*of_convexity(first), *_convex(second)]
        raise


def _bent(q: Question, *, strict: bool) -> Trace:
    curve, leaves, trace = _bend(q, lambda box: box.positive if strict else box.nonnegative)
    if strict:
        curve.whole_row()
    if strict and not curve.moves(leaves):
        raise Stuck("the variable may not move with the entry")
    return trace


def _summands(q: Question) -> Iterator[tuple[Question, Question]]:
    """Of a sum of two, either of them with the other one: what is strictly convex and what is convex add up to what is strictly
    convex."""
    bounds = Bounds(q.program)
    d = q.program.definition(q.of)
    while d is not None and d.head == "map" and d.support is TRUE and d.tensor not in bounds.recurrent:
        if isinstance(d.body, Apply) and d.body.name == "add":
            parts = [replace(d, tensor=f"{q.of}${k}", body=a) for k, a in enumerate(d.body.args)]
            program = q.program.with_body((*q.program.body, *parts))
            a, b = (replace(q, program=program, of=part.tensor) for part in parts)
            yield from ((a, b), (b, a))
        same = isinstance(d.body, Read) and d.body.indices == d.formals
        d = q.program.definition(d.body.tensor) if same and isinstance(d.body, Read) else None


def _convex(q: Question) -> Trace:
    """By composition. Raises Stuck."""
    bounds = Bounds(q.program, q.assume, frozenset(q.inputs))
    shape = Rules(bounds, q.inputs).curvature(q.of)
    if shape not in (CONSTANT, AFFINE, CONVEX) or not bounds.tensor(q.of).finite:
        raise Stuck(f"{q.of} is {shape}")
    return [[q.of, shape]]


def _negated(q: Question, word: str) -> Question:
    """The question about minus the element."""
    d = q.program.definition(q.of)
    if d is None or d.head != "map" or not any(i is d for i in q.program.body):
        raise Stuck("an element that folds an axis")
    items = tuple(replace(d, body=Apply("neg", (d.body,))) if i is d else i for i in q.program.body)
    strict = "strictly " if q.property.startswith("strictly ") else ""
    return replace(q, program=q.program.with_body(items), property=strict + word)


def of_smoothness(q: Question) -> Trace:
    """Smooth on every box; where two meet there are as many derivatives as are asked for. A sum is as smooth as its terms."""
    curve = Curve(q, terms=True)
    leaves = curve.covering(1, lambda box: True)
    most = 0 if q.property == "C0" else q.order
    joins = curve.joined(leaves, 0 if most is None else most)
    if most is None and joins:
        raise Stuck("pieces that meet")
    return [*_told(leaves), *joins]


def of_order(q: Question) -> Trace:
    """A continuous function rises where its derivative is not negative; strictly, where it is positive but at ends."""
    strict, rises = q.property.startswith("strictly "), q.property.endswith("increasing")
    curve = Curve(q)

    def accept(box: Enclosure) -> bool:
        if strict:
            return box.positive if rises else box.negative
        return box.nonnegative if rises else box.nonpositive

    leaves = curve.covering(1, accept)
    return [*_told(leaves), *curve.joined(leaves, 0)]


def of_bound(q: Question) -> Trace:
    """A continuous function that is not negative on open boxes is not at their ends."""
    read = {t for d in Bounds(q.program).needed(q.of) for t in tensors_of(d.scalars())}
    for i in q.program.inputs:
        if i.differentiable and i.kind != "unit" and i.name in read and i.name not in q.fixed:
            with contextlib.suppress(Stuck):
                curve = Curve(replace(q, inputs=(i.name,)))
                leaves = curve.covering(0, lambda box: box.positive if q.property == "positive" else box.nonnegative)
                if q.property == "positive" and not all(v.positive for leaf in leaves for v in curve.ends(leaf.box)):
                    raise Stuck("the value may be 0 where two boxes meet")
                return [[i.name], *_told(leaves), *curve.joined(leaves, 0)]
    raise Stuck("no input of which it is an element")


def of_minimum(q: Question) -> Trace:
    """What falls before the place and rises after it is least there."""
    return [line for side in sides_of_minimum(q) for line in of_side(side)]


def of_side(q: Question) -> Trace:
    """For a unique minimum the value needs to rise beside the place alone, and not to fall afterwards."""
    rises, curve = q.property.endswith("increasing"), Curve(q)
    places = [end for end in (curve.domain.lo, curve.domain.hi) if abs(end) < INF]
    if not q.property.startswith("strictly ") or len(places) != 1:
        return of_order(q)

    def moves(box: Enclosure) -> bool:
        return box.positive if rises else box.negative

    leaves = curve.covering(1, lambda box: moves(box) or box.zero)
    if any(leaf.found.zero for leaf in leaves if places[0] in (leaf.box.over.lo, leaf.box.over.hi)):
        raise Stuck("the value may not move beside the place")
    return [*_told(leaves), *curve.joined(leaves, 0)]


def of_valley(q: Question, rule: Callable[[Question], Trace] = of_order) -> Trace:
    """What falls, rises, or falls before a place and rises after it is quasiconvex. Raises Stuck."""
    for sides in valleys(q):
        with contextlib.suppress(Stuck):
            return [line for side in sides for line in ([side.property], *rule(side))]
    raise Stuck("no place before which it falls, and after which it rises")


def of_lipschitz(q: Question) -> Trace:
    """A continuous function is Lipschitz with the largest size of its derivative (the mean value theorem)."""
    curve = Curve(q)
    bound = INF if q.bound is None else number(q.bound)
    leaves = curve.covering(1, lambda box: box.bounded and size(box)[1] <= bound)
    return [*_told(leaves), *curve.joined(leaves, 0)]


def number(bound: Scalar) -> float:
    """The bound, or a number that is less."""
    if isinstance(bound, Apply) and bound.name == "real":
        return number(bound.args[0])
    if isinstance(bound, Const) and isinstance(bound.value, Fraction):
        return exact(bound.value).lo
    raise Stuck("a bound that is no number")


def of_bracket(q: Question) -> Trace:
    """One end by all boxes, the other by a place."""
    low, high = q.bracket
    ends = ["between", *("nothing" if end is None else end.hex() for end in q.bracket)]
    if q.property == RADIUS:
        return [ends, *_of_radius(q, low, high)]
    if q.property == "strong convexity modulus":
        if low is None:
            raise Stuck("no number that it is not below")
        curve = Curve(q)
        if low > 0:
            curve.whole_row()
        leaves = curve.covering(2, lambda box: box.lo >= low)
        trace = [*_told(leaves), *curve.joined(leaves, 1, rises=True)]
        found = [] if high is None else [curve.place(2, leaves, lambda box: (-box.hi, -box.lo), -high)]
        return [ends, *trace, *found]
    if high is None:
        raise Stuck("no number that it is not above")
    if low:
        return [ends, *_at_most(q, high, low=low)]
    try:
        return [ends, *_at_most(q, high)]
    except Stuck:  # over all real numbers what is affine in the entry is a variable
        return [ends, ["everywhere"], *_at_most(q, high, wide=True)]


def _at_most(q: Question, high: float, *, low: float | None = None, wide: bool = False) -> Trace:
    order = 1 if q.property == "lipschitz constant" else 2
    curve = Curve(q, wide=wide)
    leaves = curve.covering(order, lambda box: size(box)[1] <= high)
    trace = [*_told(leaves), *curve.joined(leaves, order - 1)]
    return [*trace, *([] if not low else [curve.place(order, leaves, size, low)])]


def _of_radius(q: Question, low: float | None, high: float | None) -> Trace:
    """Convex where the variable is at most as large as it is at the distance `low`, and somewhere before `high` it bends down."""
    if low is None:
        raise Stuck("no number that it is not below")
    near = Curve(q)
    near.limit_to(low, outward=True)
    leaves = near.covering(2, lambda box: box.nonnegative)
    trace = [*_told(leaves), *near.joined(leaves, 1, rises=True)]
    if high is None:
        return trace
    far = Curve(q)
    far.limit_to(high, outward=False)
    return [*trace, far.place(2, far.covering(2, lambda box: True), lambda box: (-box.hi, -box.lo), TINY)]


def size(box: Enclosure) -> tuple[float, float]:
    """The least and the largest absolute value."""
    return max(box.lo, -box.hi, 0.0), max(abs(box.lo), abs(box.hi))


__all__ = [
    "number",
    "of_bound",
    "of_bracket",
    "of_convexity",
    "of_lipschitz",
    "of_minimum",
    "of_order",
    "of_side",
    "of_smoothness",
    "of_valley",
]
