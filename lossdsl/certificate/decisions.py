"""Decisions about a label of two values: margin losses that are calibrated.

Let the loss of one label be the mirror image of that of the other, phi, at the threshold 0, and phi continuous, bounded from
below, nowhere rising, with phi'(0+) < 0 and phi'(0+) <= phi'(0-). A prediction on the wrong side of 0 is then no better than its
mirror image, and predictions whose expected loss goes to the least one go to 0, where the slope of the expected loss is not
0: the likelier label has a strictly better prediction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

from lossdsl.certificate.bounds import Bounds, Case
from lossdsl.certificate.boxes import of_bound, of_order
from lossdsl.certificate.coverings import Curve, text
from lossdsl.certificate.labels import TWO_VALUED, label_of_two
from lossdsl.certificate.question import Question
from lossdsl.certificate.rules import Rules, Stuck
from lossdsl.certificate.symmetries import Forms
from lossdsl.ir.nodes import INT, TRUE, Apply, Compare, Const, Input, Read, Scalar, postorder
from lossdsl.ir.rewrite import substitute, transform
from lossdsl.verify.enclosure import INF


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

    @property
    def bodies(self) -> tuple[Scalar, Scalar]:
        """Of the positive and the negative label."""
        found = [q.program.definition(q.of) for q in (self.rises, self.falls)]
        return tuple(d.body for d in found if d is not None)  # type: ignore[return-value]


def two_losses(q: Question) -> TwoLosses:
    """Raises Stuck where the element is not, or not seen to be, the loss of a label of two values and of any real number."""
    label, prediction = label_of_two(q)
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


__all__ = ["TwoLosses", "folded", "of_calibration", "opened", "two_losses"]
