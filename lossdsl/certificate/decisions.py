"""Decisions about a label of two values: margin losses that are calibrated.

Let the loss of one label be the mirror image of that of the other, phi, at the threshold 0, and phi continuous, bounded from
below, nowhere rising, with phi'(0+) < 0 and phi'(0+) <= phi'(0-). A prediction on the wrong side of 0 is then no better than its
mirror image, and predictions whose expected loss goes to the least one go to 0, where the slope of the expected loss is not
0: the likelier label has a strictly better prediction.

A convex phi needs a derivative at 0, and a negative one (Bartlett, Jordan and McAuliffe, 2006, theorem 2): the expected loss is
convex, and falls from 0 towards the likelier label, so that nothing on the wrong side is better than 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

from lossdsl.certificate.bounds import Bounds, Case
from lossdsl.certificate.boxes import of_bound, of_order
from lossdsl.certificate.coverings import Curve, text
from lossdsl.certificate.labels import TWO_VALUED, label_of_two
from lossdsl.certificate.points import Undecided
from lossdsl.certificate.question import PROPER, Question
from lossdsl.certificate.rules import Rules, Stuck, smooth_there
from lossdsl.certificate.symmetries import Forms
from lossdsl.ir.nodes import (
    INT,
    REAL,
    TRUE,
    And,
    Apply,
    Compare,
    Const,
    Input,
    Not,
    Or,
    Read,
    Scalar,
    Select,
    postorder,
)
from lossdsl.ir.rewrite import substitute, transform
from lossdsl.verify import enclosure as e
from lossdsl.verify.enclosure import INF, REALS, Enclosure


@dataclass(frozen=True)
class TwoLosses:
    """The element where the label is the positive one (`rises`) and where it is the negative one (`falls`), as questions about
    the prediction; `entry` is the read of it."""

    label: Input
    prediction: Input
    entry: Read
    rises: Question
    falls: Question

    @property
    def line(self) -> list[str]:
        return ["label", self.label.name]

    def about(self, body: Scalar, word: str, *conditions: Scalar) -> Question:
        """A question about another scalar in the place of the element, of the same prediction."""
        return replace(_with_body(self.rises, body, self.prediction), property=word, conditions=conditions)

    def curve(self, body: Scalar) -> Curve:
        """A scalar as a function of the prediction itself. Raises Stuck."""
        asked, name = self.about(body, ""), self.prediction.name
        found = Curve(replace(asked, assume={**asked.assume, name: REALS}))
        if found.variable is not self.entry or (found.domain.lo, found.domain.hi) != (-INF, INF):
            raise Stuck(f"{name} is not any real number")
        return found

    @property
    def bodies(self) -> tuple[Scalar, Scalar]:
        """Of the positive and the negative label."""
        found = [q.program.definition(q.of) for q in (self.rises, self.falls)]
        return tuple(d.body for d in found if d is not None)  # type: ignore[return-value]


def two_losses(q: Question) -> TwoLosses:
    """Raises Stuck where the element is not, or not seen to be, the loss of a label of two values and of any real number."""
    label, prediction = label_of_two(q)
    if q.link is not None and q.property not in PROPER:
        raise Stuck("a link")
    low, high = TWO_VALUED.get(label.kind, (0, 1))
    curve = Curve(replace(q, inputs=(prediction.name,)))
    if not curve.unbounded:
        raise Stuck(f"{prediction.name} is not any real number")
    body, case = opened(curve.bounds, curve.body, label.name), curve.whole()
    (read,), (entry,) = _reads(body, label.name), _reads(curve.body, prediction.name)
    bodies = (folded(substitute(body, {read: Const(Fraction(v), read.dtype)}), case) for v in (high, low))
    return TwoLosses(label, prediction, entry, *(_with_body(q, body, prediction) for body in bodies))


def of_calibration(q: Question) -> list[list[str]]:
    """Raises Stuck unless it is such a margin loss."""
    two = two_losses(q)
    rises = two.rises
    trace = [two.line, *_mirrored(two)]
    below = Bounds(rises.program, rises.assume).tensor(q.of)
    if below.nan or below.lo == -INF:
        trace += of_bound(replace(rises, property="non-negative"))
    trace += of_order(replace(rises, property="decreasing"))
    sides = [
        list(Curve(replace(rises, conditions=(Compare(op, two.entry, Const(Fraction(0))),))).slopes_at(0.0))
        for op in (">=", "<=")
    ]
    for right, left in zip(*sides, strict=True):
        if not right.negative or not (right.hi <= left.lo or Curve(rises).smooth_at(two.entry, 0.0)):
            raise Stuck("the slope at 0")
        trace.append(["slopes", text(left), text(right)])
    return trace


Proof = Callable[[Question], list[list[str]]]
_PLACES = tuple(Fraction(k) for k in ("1", "1/2", "1/8", "1/64", "4", "32"))


def of_convex(q: Question, proof: Proof) -> list[list[str]]:
    """Raises Stuck unless it is a convex margin loss with a negative derivative at 0; `proof` is by any other rule."""
    two = two_losses(q)
    trace = [two.line, *_mirrored(two), *proof(replace(two.rises, property="convex"))]
    try:
        return [*trace, ["slope", text(_slope(two))]]
    except Stuck:
        return [*trace, _lower(two), *proof(replace(two.rises, property="smooth", order=1))]


def _slope(two: TwoLosses) -> Enclosure:
    """The derivative at 0, where no branch and no extremum is about to change sides. Raises Stuck unless it is negative."""
    curve = two.curve(two.bodies[0])
    found: Enclosure | None = None
    for box, _ in curve.everywhere():
        at = box.at(0.0)
        if not all(_steady(n, curve.case(at)) for n in postorder(curve.body) if curve.rules.moves(n)):
            raise Stuck("a branch that may change sides at 0")
        try:
            (here,) = curve.terms(at, 2, (curve.body,))
        except (Undecided, ZeroDivisionError, OverflowError):
            raise Stuck("the slope at 0") from None
        found = here[1] if found is None else e.hull(found, here[1])
    if found is None or not found.negative:
        raise Stuck("the slope at 0")
    return found


def _steady(n: Scalar, case: Case) -> bool:
    """Whether an operation that moves is smooth around a point, or a comparison is one way around it."""
    match n:
        case Read():
            return True
        case Select() | And() | Or() | Not():
            return True  # by what it is made of
        case Compare():
            return case[Apply("sub", (n.a, n.b))].nonzero
        case Apply(name="abs" | "relu"):
            return case[n.args[0]].nonzero
        case Apply(name="max2" | "min2"):
            return case[Apply("sub", n.args)].nonzero
        case Apply():
            return n.dtype is REAL and smooth_there(n, [case[a] for a in n.args])
    return False


def _lower(two: TwoLosses) -> list[str]:
    """A place above 0 at which the loss is lower than at 0. Raises Stuck."""
    curve = two.curve(two.bodies[0])
    for place in _PLACES:
        there, here = (substitute(curve.body, {two.entry: Const(x)}) for x in (place, Fraction(0)))
        gap = curve.whole()[Apply("sub", (there, here))]
        if gap.negative and gap.finite:
            return ["lower", str(place), text(gap)]
    raise Stuck("no place above 0 at which the loss is lower")


def opened(bounds: Bounds, body: Scalar, name: str) -> Scalar:
    """The element with all maps put in that the label is in."""
    varying = Rules(bounds, (name,)).moving - {name}
    while read := [n for n in postorder(body) if isinstance(n, Read) and n.tensor in varying]:
        inner = [(n, bounds.definitions[n.tensor]) for n in read]
        if any(d.head != "map" or d.support is not TRUE or d.tensor in bounds.recurrent for _, d in inner):
            raise Stuck("an element that folds an axis")
        body = substitute(body, {n: substitute(d.body, dict(zip(d.formals, n.indices, strict=True))) for n, d in inner})
    return body


def _reads(body: Scalar, name: str) -> list[Read]:
    found = {n for n in postorder(body) if isinstance(n, Read) and n.tensor == name}
    if len(found) != 1:
        raise Stuck(f"an element reads {name} at {len(found)} places")
    return list(found)


def folded(body: Scalar, case: Case) -> Scalar:
    """The scalar with what is computed of numbers as a number, and without products of a finite number and 0."""

    def step(n: Scalar) -> Scalar:
        if not isinstance(n, Apply) or n.name not in _NUMBERS:
            return n
        numbers = [a.value for a in n.args if isinstance(a, Const) and isinstance(a.value, Fraction)]
        if len(numbers) == len(n.args):
            return Const(_NUMBERS[n.name](*numbers), n.dtype)
        for a, b in (n.args, n.args[::-1]) if len(n.args) == 2 else ():
            if n.name == "mul" and a == Const(0, a.dtype) and case[b].finite:
                return Const(0, n.dtype)
            if n.name == "add" and a == Const(0, a.dtype):
                return b
        return n

    return transform(body, step)


_NUMBERS: dict[str, Callable[..., Fraction]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "neg": lambda a: -a,
    "real": lambda a: a,
}


def _with_body(q: Question, body: Scalar, prediction: Input) -> Question:
    """The question about another element in the place of the target."""
    d = q.program.definition(q.of)
    if d is None or d.head != "map" or not any(i is d for i in q.program.body) or body.dtype is INT:
        raise Stuck("an element that folds an axis")
    items = tuple(replace(d, body=body) if i is d else i for i in q.program.body)
    return replace(q, program=q.program.with_body(items), inputs=(prediction.name,), conditions=())


def _mirrored(two: TwoLosses) -> list[list[str]]:
    table, name = dict[object, int](), two.prediction.name
    rises, falls = two.rises, two.falls
    first = Forms(Bounds(rises.program, rises.assume), {name: (-1, name)}, table).tensor(rises.of)
    second = Forms(Bounds(falls.program, falls.assume), {}, table).tensor(falls.of)
    if first != second:
        raise Stuck("the losses of the two labels are no mirror images")
    return [["mirrored", f"{first[0]}"]]


__all__ = ["TwoLosses", "folded", "of_calibration", "of_convex", "opened", "two_losses"]
