"""Counterexamples of decision theory: at a point of everything but the label and the prediction, expected losses that are wrong.

one loss for all labels       the label is in no part of the element once numbers are put in. Each prediction has a class on top;
                              one class is on top of some that go to the least loss, and any other one may be the likelier
a row and equal scores        of two classes: the expected loss is convex, does not answer to a shift of both scores, and is
                              larger at equal scores than at a row with the less likely class on top. So it is larger, too, at
                              all rows with the likelier one on top: equal scores are between those and that row
one side, on boxes            of a label of two values: on the right side of 0 it is nowhere less than at a wrong prediction
two predictions               of proper losses: with the probability that the first stands for, the second has less
one prediction for two        probabilities: for both it falls up to the prediction, and rises from there on, so that no link
                              gives both
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from lossdsl.certificate.bounds import Bounds
from lossdsl.certificate.boxes import of_order
from lossdsl.certificate.coverings import Curve, text
from lossdsl.certificate.decisions import folded, opened, two_losses
from lossdsl.certificate.domain import Point, admit, fraction, places, point_of
from lossdsl.certificate.labels import TWO_VALUED, Problem, label_of_two, problem_of
from lossdsl.certificate.points import Place, Values, ball, certain, sign
from lossdsl.certificate.question import CALIBRATED, Question
from lossdsl.certificate.rules import AFFINE, CONSTANT, CONVEX, Rules, Stuck
from lossdsl.certificate.series import box_of
from lossdsl.certificate.shifts import Shifts
from lossdsl.ir.nodes import TRUE, Apply, Compare, Const, Definition, Input, Range, Scalar
from lossdsl.ir.rewrite import free_indices, with_numbers
from lossdsl.verify.enclosure import INF, Enclosure

ALIKE, LEVEL, SIDE = (
    "one loss for all labels",
    "expected losses of a row and of equal scores",
    "expected loss on one side",
)
BETTER, STANDS = "expected losses of two predictions", "one prediction for two probabilities"
_SHARES = tuple(Fraction(k, 100) for k in (75, 60, 95, 55, 51, 25, 40, 5, 45, 49))
_TWO = (Fraction(3, 5), Fraction(7, 10))
_HALF = Fraction(1, 2)
Entry = Mapping[str, Any]


def rules_of_decisions(q: Question) -> tuple[str, ...]:
    """The kinds of counterexample."""
    if q.property == CALIBRATED:
        return ALIKE, LEVEL, SIDE
    return (STANDS,) if q.link is None else (BETTER,)


def candidates(q: Question, points: Sequence[Mapping[str, str]]) -> Iterator[dict[str, Any]]:
    """Entries that may be counterexamples, at the first element."""
    for rule in rules_of_decisions(q):
        if len(points) != (2 if rule == BETTER else 1):
            continue
        for shares in _shares(rule):
            made = {"rule": rule, "points": [dict(p) for p in points], "t": None, "shares": [str(s) for s in shares]}
            with contextlib.suppress(Stuck):
                extents, _, _ = _pointed(q, {**made}, 0, Fraction(1))
                yield from ({**made, "place": list(place)} for place in list(places(q, extents))[:1])


def _shares(rule: str) -> Iterator[tuple[Fraction, ...]]:
    if rule in (LEVEL, SIDE):
        yield from ((s,) for s in _SHARES)
    else:
        yield _TWO if rule == STANDS else ()


# ---------------------------------------------------------------------------------------------------- points


def _label_and_prediction(q: Question) -> tuple[Input, Input]:
    with contextlib.suppress(Stuck):
        return label_of_two(q)
    p = problem_of(q)
    label = q.program.input(p.label.tensor)
    assert label is not None
    return label, p.prediction


def _pointed(q: Question, entry: Entry, k: int, value: Fraction) -> Point:
    """The k-th point, in its domain, with a value for each label. Raises Stuck."""
    label, prediction = _label_and_prediction(q)
    given = {**entry["points"][0], **entry["points"][k]}
    if any(name.partition("[")[0] == label.name for name in given):
        raise Stuck("a point that says what the label is")
    for name in list(given):
        tensor, _, rest = name.partition("[")
        if tensor == prediction.name:
            place = rest.rstrip("]").split(",") if rest else []
            own = ", ".join(place[prediction.dims.index(d)].strip() for d in label.dims)
            given[f"{label.name}[{own}]" if own else label.name] = str(value)
    asked = {"points": [given], **({"place": entry["place"]} if "place" in entry else {})}
    point = point_of(q, asked, 0)
    admit(q, point)
    return point


def _numbers(q: Question, point: Point, apart: set[str]) -> dict[str, Fraction]:
    """The parameters, and the inputs that have one number everywhere."""
    _, parameters, inputs = point
    found = {p.name: parameters[p.name] for p in q.program.parameters}
    for name, entries in inputs.items():
        if name not in apart and len(set(entries.values())) == 1:
            found[name] = next(iter(entries.values()))
    return found


def _fixed(q: Question, numbers: Mapping[str, Fraction]) -> Question:
    return replace(q, program=with_numbers(q.program, numbers), fixed={**q.fixed, **numbers})


def _losses(q: Question, points: Sequence[Point], place: Place) -> Callable[[], list[Any]]:
    """The elements at a place of some points. They are real numbers, or Undecided is raised."""
    return lambda: [_number(Values(q.program, *point).element(q.of, place)) for point in points]


def _number(value: Any) -> Any:
    if not ball(value).is_finite():
        raise Stuck("a loss that is no real number")
    return value


def _expected(share: Any, first: Any, second: Any) -> Any:
    return ball(share) * ball(first) + ball(1 - share) * ball(second)


def _told(value: Any) -> str:
    found: str = ball(value).str(30, radius=False)
    return found


def _decided(q: Question, question: Callable[[], bool], point: Point) -> bool:
    return certain(lambda _: question(), lambda: Values(q.program, *point))


def _place(entry: Entry) -> Place:
    return tuple(int(p) for p in entry["place"])


def _share(entry: Entry) -> Fraction:
    (found,) = (fraction(s) for s in entry["shares"])
    if not 0 < found < 1 or found == _HALF:
        raise Stuck("a probability that decides nothing")
    return found


# --------------------------------------------------------------------------------------------------- classes


def _counted(p: Problem, point: Point, place: Place) -> None:
    """Raise Stuck if the element is left out."""
    d = p.element
    at: dict[Scalar, int] = {**dict(zip(d.formals, place, strict=True))}

    def holds(v: Values) -> bool:
        return bool(v.scalar(d.support, at, {}))

    if d.support is not TRUE and not certain(holds, lambda: Values(p.question.program, *point)):
        raise Stuck("an element that is left out")


def _alike(q: Question, entry: Entry) -> list[str]:
    """Raises Stuck unless the element is the same for all labels, wherever the prediction is."""
    p, place = problem_of(q), _place(entry)
    point = _pointed(q, entry, 0, Fraction(0))
    count = p.classes.evaluate(point[0])
    if len(entry["points"]) != 1 or count < 2 or entry["shares"]:
        raise Stuck("not one point with two classes")
    for k in range(count):
        _counted(p, _pointed(q, entry, 0, Fraction(k)), place)
    asked = _fixed(q, _numbers(q, point, {p.label.tensor, p.prediction.name}))
    bounds = Bounds(asked.program, q.assume)
    element = bounds.definitions[q.of]
    body = folded(opened(bounds, element.body, p.label.tensor), bounds.body(element))
    if not Rules(bounds, (p.label.tensor,)).moving.isdisjoint(body.tensors):
        raise Stuck("the loss depends on the label")
    shown: list[str] = []

    def question() -> bool:
        shown[:] = map(_told, _losses(q, [point], place)())
        return True

    _decided(q, question, point)
    return shown


def _level(q: Question, entry: Entry) -> list[str]:
    """Raises Stuck unless the row is better than equal scores, and the expected loss is convex in their difference."""
    p, place, share = problem_of(q), _place(entry), _share(entry)
    if p.prediction.kind != "real" or p.prediction.range != Range() or len(entry["points"]) != 1:
        raise Stuck("scores that are not any real numbers")
    points = [_pointed(q, entry, 0, Fraction(k)) for k in (0, 1)]
    if p.classes.evaluate(points[0][0]) != 2:
        raise Stuck("not two classes")
    _check_bowl(_fixed(q, points[0][1]), p)
    at = dict(zip(p.element.formals, place, strict=True))
    here = [at[i] for i in p.row]  # type: ignore[index]
    row = [(*here[: p.along], k, *here[p.along :]) for k in (0, 1)]
    first, second = (points[0][2][p.prediction.name][r] for r in row)
    if (first - second) * (share - _HALF) >= 0:
        raise Stuck("the likelier class is on top")
    level = [_with(point, p.prediction.name, dict.fromkeys(row, Fraction(0))) for point in points]
    for point in points:
        _counted(p, point, place)
    shown: list[str] = []

    def question() -> bool:
        there, equal = (_expected(share, *_losses(q, two, place)()) for two in (points, level))
        shown[:] = [_told(there), _told(equal)]
        return sign(equal - there) > 0

    if not _decided(q, question, points[0]):
        raise Stuck("equal scores are no worse")
    return shown


def _with(point: Point, name: str, entries: Mapping[Place, Fraction]) -> Point:
    extents, parameters, inputs = point
    return extents, parameters, {**inputs, name: {**inputs[name], **entries}}


def _check_bowl(q: Question, p: Problem) -> None:
    """Raise Stuck unless the loss is convex in the scores, and does not answer to a shift of all scores of a row."""
    name = p.prediction.name
    bounds = Bounds(q.program, q.assume, frozenset({name}))
    if bounds.tensor(q.of).nan or Rules(bounds, (name,)).curvature(q.of) not in (CONSTANT, AFFINE, CONVEX):
        raise Stuck("a loss that is not convex")
    if Shifts(Bounds(q.program, q.assume), name, frozenset({p.along})).tensor(q.of) != {}:
        raise Stuck("a loss that answers to a shift of the scores")


# ------------------------------------------------------------------------------------------------ two labels


def _mixed(share: Fraction, bodies: tuple[Scalar, Scalar]) -> Scalar:
    """The expected loss with the positive label of the probability."""
    first, second = (Apply("mul", (Const(s), body)) for s, body in zip((share, 1 - share), bodies, strict=True))
    return Apply("add", (first, second))


def _everywhere(q: Question, entry: Entry, k: int, prediction: Input) -> Fraction:
    """The number that a point predicts."""
    label, _ = label_of_two(q)
    _, _, inputs = _pointed(q, entry, k, Fraction(TWO_VALUED.get(label.kind, (0, 1))[1]))
    found = set(inputs[prediction.name].values())
    if len(found) != 1:
        raise Stuck("predictions that are not one number")
    return next(iter(found))


def _ends(q: Question, entry: Entry, k: int) -> list[Point]:
    """The point with the positive label, and with the negative one."""
    label, _ = label_of_two(q)
    low, high = TWO_VALUED.get(label.kind, (0, 1))
    return [_pointed(q, entry, k, Fraction(v)) for v in (high, low)]


def _on_one_side(q: Question, entry: Entry) -> list[str]:
    """Raises Stuck unless no prediction on the right side has a lower expected loss than the point's, on the wrong one."""
    share, points = _share(entry), _ends(q, entry, 0)
    _, prediction = label_of_two(q)
    at = _everywhere(q, entry, 0, prediction)
    if len(entry["points"]) != 1 or at * (share - _HALF) >= 0:
        raise Stuck("the prediction is on the right side")
    two = two_losses(replace(_fixed(q, _numbers(q, points[0], _apart(q))), conditions=()))
    least: list[Enclosure] = []

    def question() -> bool:
        least[:] = [box_of(_expected(share, *_losses(q, points, _place(entry))()))]
        return True

    _decided(q, question, points[0])
    (most,) = least
    if most.hi == INF:
        raise Stuck("an expected loss that is too large")
    gap = Apply("sub", (_mixed(share, two.bodies), Const(Fraction(most.hi))))
    side = Compare(">=" if share > _HALF else "<=", two.entry, Const(Fraction(0)))
    curve = Curve(two.about(gap, "non-negative", side))
    try:
        leaves = curve.values(lambda box: box.nonnegative)
    except Stuck:
        leaves = curve.covering(0, lambda box: box.nonnegative)
        curve.joined(leaves, 0)
    lines = [" ".join([*map(text, leaf.box.sides), text(leaf.found)]) for leaf in leaves]
    return [text(most), *lines]


def _apart(q: Question) -> set[str]:
    return {i.name for i in label_of_two(q)}


def _better(q: Question, entry: Entry) -> list[str]:
    """Raises Stuck unless the second prediction is better, with the probability that the first one stands for."""
    link, element = q.link, q.program.definition(q.of)
    _, prediction = label_of_two(q)
    if link is None or element is None or set(link.tensors) != {prediction.name} or len(entry["points"]) != 2:
        raise Stuck("no link of the prediction alone")
    if entry["shares"] or not set(free_indices(link)) <= set(element.formals):
        raise Stuck("a link of another place")
    two_losses(replace(q, conditions=()))
    first, second = (_ends(q, entry, k) for k in (0, 1))
    if {**first[0][2], prediction.name: {}} != {**second[0][2], prediction.name: {}} or first[0][:2] != second[0][:2]:
        raise Stuck("the points differ in more than the prediction")
    for k in (0, 1):
        _everywhere(q, entry, k, prediction)
    place = _place(entry)
    return _compared(q, link, element, (first, second), place)


def _compared(
    q: Question, link: Scalar, element: Definition, points: tuple[list[Point], list[Point]], place: Place
) -> list[str]:
    """The probability, and the expected losses of two predictions. Raises Stuck unless the second has the lower one."""
    at: dict[Scalar, int] = {**dict(zip(element.formals, place, strict=True))}
    shown: list[str] = []

    def question() -> bool:
        share = Values(q.program, *points[0][0]).scalar(link, at, {})
        if sign(share) <= 0 or sign(1 - share) <= 0:
            raise Stuck("no probability")
        own, other = (_expected(share, *_losses(q, two, place)()) for two in points)
        shown[:] = [_told(share), _told(own), _told(other)]
        return sign(own - other) > 0

    if not _decided(q, question, points[0][0]):
        raise Stuck("the second prediction is not better")
    return shown


def _stands(q: Question, entry: Entry) -> list[str]:
    """Raises Stuck unless the prediction is the only best one for two probabilities, so that no link gives both."""
    shares, points = [fraction(s) for s in entry["shares"]], _ends(q, entry, 0)
    _, prediction = label_of_two(q)
    at = _everywhere(q, entry, 0, prediction)
    if q.link is not None or len(entry["points"]) != 1 or len(set(shares)) != 2 or not all(0 < s < 1 for s in shares):
        raise Stuck("not two probabilities and a prediction")
    two = two_losses(replace(_fixed(q, _numbers(q, points[0], _apart(q))), conditions=()))
    lines = [str(at)]
    for share in shares:
        for op, word in ((">=", "strictly increasing"), ("<=", "strictly decreasing")):
            asked = two.about(_mixed(share, two.bodies), word, Compare(op, two.entry, Const(at)))
            lines += [" ".join(line) for line in of_order(asked)]
    return lines


def _placed(rule: Callable[[Question, Entry], list[str]]) -> Callable[[Question, Entry], dict[str, Any]]:
    """With the place of the element, of which others may have the same losses."""
    return lambda q, entry: {"values": [f"element {list(_place(entry))}", *rule(q, entry)]}


DECISIONS: dict[str, Callable[[Question, Entry], dict[str, Any]]] = {
    ALIKE: _placed(_alike),
    LEVEL: _placed(_level),
    SIDE: _placed(_on_one_side),
    BETTER: _placed(_better),
    STANDS: _placed(_stands),
}

__all__ = ["ALIKE", "BETTER", "DECISIONS", "LEVEL", "SIDE", "STANDS", "candidates", "rules_of_decisions"]
