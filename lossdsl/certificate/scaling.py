"""A statement about one entry in units of positive numbers, by the rules for boxes.

Let f(x) = p g(t) with t = (a x + b) / q, where p and q are positive: f is convex, smooth, non-negative ... if g is, rises in x
if g does in t and a > 0, and |f'| = p |a| / q |g'|. What is shown of g at every real t holds for all x.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from lossdsl.certificate.bounds import Bounds
from lossdsl.certificate.boxes import (
    Trace,
    of_bound,
    of_convexity,
    of_lipschitz,
    of_order,
    of_side,
    of_smoothness,
    of_valley,
)
from lossdsl.certificate.coverings import Curve
from lossdsl.certificate.question import MINIMUM, UNIQUE, Question, sides_of_minimum
from lossdsl.certificate.rules import Stuck
from lossdsl.certificate.units import Scaled, Units, powers, product
from lossdsl.ir.nodes import (
    ONE,
    REAL,
    TRUE,
    Apply,
    Const,
    Definition,
    Input,
    Param,
    Read,
    Scalar,
    postorder,
    tensors_of,
)
from lossdsl.ir.rewrite import free_indices, substitute
from lossdsl.verify.enclosure import INF, REALS, Enclosure

ELEMENT, VARIABLE = "$element", "$variable"
_DEGREES = (Fraction(1), Fraction(-1), Fraction(1, 2))  # of the variable
_TRIED = 3
_NODES = 2000
_FLIPPED = {"increasing": "decreasing", "decreasing": "increasing"}
Unit = Read | Param
_BOXES: dict[str, Callable[[Question], Trace]] = {
    **dict.fromkeys(("convex", "concave", "strictly convex", "strictly concave"), of_convexity),
    **dict.fromkeys(("increasing", "decreasing", "strictly increasing", "strictly decreasing"), of_order),
    **dict.fromkeys(("non-negative", "positive"), of_bound),
    **dict.fromkeys(("smooth", "C0"), of_smoothness),
    "lipschitz": of_lipschitz,
}


def of_units(q: Question) -> Trace:
    """The first unit in which boxes show it. Raises Stuck."""
    if q.property in (MINIMUM, UNIQUE):
        return [line for side in sides_of_minimum(q) for line in _shown(side, of_side)]
    if q.property == "quasiconvex":
        return of_valley(q, lambda side: _shown(side, of_order))
    return _shown(q, _BOXES[q.property])


def _shown(q: Question, rule: Callable[[Question], Trace]) -> Trace:
    reason = Stuck("no positive number is a unit")
    for asked in _asked(q):
        for wide in (False, True):
            try:
                curve = Curve(asked, terms=rule in (of_convexity, of_smoothness), wide=wide)
            except Stuck as stuck:
                reason = stuck
                continue
            if wide and curve.unbounded:
                break
            if q.property in ("strictly convex", "strictly concave"):
                curve.whole_row()
            for line, scaled in _ways(curve):
                if rule is of_side and scaled.assume.get(VARIABLE, REALS) != curve.domain:
                    reason = Stuck("a place that moves with the unit")
                    continue
                try:
                    return [line, *rule(scaled)]
                except Stuck as stuck:
                    reason = stuck
    raise reason


def _asked(q: Question) -> Iterator[Question]:
    """The question about one input; a bound may be seen as one of any that its element reads."""
    if q.property not in ("non-negative", "positive"):
        yield q
        return
    read = {t for d in Bounds(q.program).needed(q.of) for t in tensors_of(d.scalars())}
    for i in q.program.inputs:
        if i.differentiable and i.kind != "unit" and i.name in read and i.name not in q.fixed:
            yield replace(q, inputs=(i.name,))


def _ways(curve: Curve) -> Iterator[tuple[list[str], Question]]:
    """How it is written in units, and the question there: first those in which fewest of them are left."""
    whole = curve.whole()
    units = [n for n in curve.others if n.dtype is REAL and whole[n].positive and whole[n].finite]
    ways: list[tuple[int, list[str], Question]] = []
    for n, degree in [*((n, Fraction(0)) for n in units[:1]), *((n, k) for n in units for k in _DEGREES)]:
        with contextlib.suppress(Stuck):
            line, asked = _written(curve, units, {n: degree} if degree else {})
            element = asked.program.definition(ELEMENT)
            assert element is not None
            ways.append((len(set(units) & set(postorder(element.body))), line, asked))
    for _, line, asked in sorted(ways, key=lambda way: way[0])[:_TRIED]:
        yield line, asked


def _written(curve: Curve, all_: Sequence[Unit], degrees: Mapping[Scalar, Fraction]) -> tuple[list[str], Question]:
    """With the variable as one of these degrees. Raises Stuck."""
    q = curve.question
    (name,) = q.inputs
    (entry,) = {n for n in postorder(curve.variable) if isinstance(n, Read) and n.tensor == name}
    variable = Read(VARIABLE, entry.indices, REAL)
    own = Scaled(variable, degrees=degrees)
    units = Units(all_, {variable: own})
    element = units.of(_inlined(curve.bounds, substitute(curve.body, {curve.variable: variable}), all_))
    if name in element.rest.tensors:
        raise Stuck("an entry that is read beside the variable")
    word, bound, body = q.property, q.bound, element.rest
    if q.property == "lipschitz" and bound is not None:
        body, bound = _steep(curve, units, all_, element.over(own))
    elif q.property == "lipschitz":
        curve.slope(curve.whole())
    elif word.removeprefix("strictly ") in _FLIPPED or word.startswith("strictly"):
        word = _turned(curve, word)
    line = ["in units", _told(own), _told(element)]
    d = Definition(ELEMENT, free_indices(body), "map", (), TRUE, body)
    declared = curve.bounds.inputs[name]
    moved = Input(VARIABLE, declared.dims, declared.axes, "real")
    program = replace(q.program, inputs=(*q.program.inputs, moved), body=(*q.program.body, d), target=ELEMENT)
    assume = dict(q.assume)
    over = _cone(curve.domain) if degrees else curve.domain
    if over != REALS:
        assume[VARIABLE] = over
    asked = replace(q, program=program, property=word, of=ELEMENT, inputs=(VARIABLE,), bound=bound, assume=assume)
    return line, replace(asked, conditions=(), place=None)


def _told(s: Scaled) -> str:
    names = {n: n.name if isinstance(n, Param) else n.tensor for n in s.degrees if isinstance(n, (Param, Read))}
    return " ".join([str(s.factor), *(f"{name}^{s.degrees[n]}" for n, name in names.items())])


def _cone(domain: Enclosure) -> Enclosure:
    """All positive multiples of numbers of the domain."""
    if domain.lo >= 0:
        return Enclosure(0.0, INF, domain.lo_open or domain.lo > 0, True)
    if domain.hi <= 0:
        return Enclosure(-INF, 0.0, True, domain.hi_open or domain.hi < 0)
    return REALS


def _turned(curve: Curve, word: str) -> str:
    """The property in the variable. Raises Stuck if it may not move with the entry."""
    slope = curve.slope(curve.whole())
    kind = word.removeprefix("strictly ")
    if not slope.nonzero and (word != kind or not (slope.nonnegative or slope.nonpositive)):
        raise Stuck("the variable may not move with the entry")
    if kind in _FLIPPED and slope.nonpositive:
        return word.replace(kind, _FLIPPED[kind])
    return word


def _steep(curve: Curve, units: Units, all_: Sequence[Unit], element: Scaled) -> tuple[Scalar, Scalar]:
    """An element, and the number by which its derivative has to be bounded so that the bound is one of |f'|; `element` is in
    units of the variable."""
    bound = curve.question.bound
    assert bound is not None
    most = units.of(_inlined(curve.bounds, bound, all_))
    if not curve.whole()[most.rest].positive:
        raise Stuck("a bound that may not be positive")
    slope: Scalar = ONE
    for factor, divides in curve.factors:
        if factor is not None:
            by = _inlined(curve.bounds, factor, all_)
            slope = Apply("div", (slope, by)) if divides else product(slope, by)
    found = units.of(slope)
    inverse = Scaled(ONE).over(element)
    left = found.over(most).over(inverse)
    body = powers(left.degrees, product(found.rest, element.rest))
    return body if most.rest is ONE else Apply("div", (body, most.rest)), Const(1 / left.factor)


def _inlined(bounds: Bounds, body: Scalar, all_: Sequence[Unit]) -> Scalar:
    """The scalar, with the elements put in that units are in."""
    reached = {n.tensor for n in all_ if isinstance(n, Read)}
    for name, made in bounds.definitions.items():
        if any(n in all_ or (isinstance(n, Read) and n.tensor in reached) for n in postorder(*made.scalars())):
            reached.add(name)
    while True:
        put: dict[Scalar, Scalar] = {}
        nodes = list(postorder(body))
        if len(nodes) > _NODES:
            raise Stuck("an element that is too large")
        for n in nodes:
            d = bounds.definitions.get(n.tensor) if isinstance(n, Read) and n.tensor in reached else None
            if d is not None and d.head == "map" and d.support is TRUE and d.tensor not in bounds.recurrent:
                assert isinstance(n, Read)
                put[n] = substitute(d.body, dict(zip(d.formals, n.indices, strict=True)))
        if not put:
            return body
        body = substitute(body, put)


__all__ = ["of_units"]
