"""Who is who in a question of decision theory: the label, the prediction, and the row of predictions that goes with a class."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from lossdsl.certificate.bounds import Bounds
from lossdsl.certificate.question import Question
from lossdsl.certificate.rules import AFFINE, CONSTANT, Rules, Stuck
from lossdsl.dim import Dim
from lossdsl.ir.nodes import (
    REAL,
    Compare,
    Const,
    Definition,
    Index,
    Input,
    Param,
    Range,
    Read,
    Scalar,
    postorder,
    tensors_of,
)
from lossdsl.ir.rewrite import substitute

TWO_VALUED = {"bool": (0, 1), "binary": (0, 1), "sign": (-1, 1)}


def used_inputs(q: Question) -> list[Input]:
    """The inputs that the element is made of."""
    read = {t for d in Bounds(q.program).needed(q.of) for t in tensors_of(d.scalars())}
    return [i for i in q.program.inputs if i.name in read and i.name not in q.fixed]


def label_of_two(q: Question) -> tuple[Input, Input]:
    """The label, of two values or a mixture of them, and the prediction. Raises Stuck where that is not the only way to see
    it."""
    used = used_inputs(q)
    labels = [i for i in used if i.kind in TWO_VALUED]
    real = [i for i in used if i.dtype is REAL and i.default is None and i.role == "input"]
    if any(i.kind == "class" for i in used) or any(i.name in q.assume for i in used):
        raise Stuck("a label of more than two values, or conditions on inputs")
    if not labels:
        unit = [i for i in real if i.kind == "prob" or (i.kind, _ends(i.range)) == ("real", (0, 1))]
        labels = [i for i in unit if _is_affine(q, i.name)] if len(real) == 2 else []
    if len(labels) != 1 or labels[0].kind == "bool":
        raise Stuck("which input is the label")
    predictions = [i for i in real if i is not labels[0]]
    if len(predictions) != 1 or not set(labels[0].dims) <= set(predictions[0].dims):
        raise Stuck("which input is the prediction")
    _check_conditions(q, (labels[0].name, predictions[0].name))
    return labels[0], predictions[0]


def _check_conditions(q: Question, names: tuple[str, ...]) -> None:
    """Raise Stuck for a condition on inputs, or on what is made of them."""
    if set(names) & {*q.assume, *q.fixed} or Rules(Bounds(q.program), names).moves(*q.conditions):
        raise Stuck("a condition on the label or the prediction")


def _ends(r: Range) -> tuple[object, object]:
    return tuple(c.value if isinstance(c, Const) else None for c in (r.lower, r.upper))  # type: ignore[return-value]


def _is_affine(q: Question, name: str) -> bool:
    """Whether the loss of a label between its values, which count, is the mixture of their losses."""
    rules = Rules(Bounds(q.program, q.assume, moved=frozenset({name})), (name,))
    try:
        return rules.curvature(q.of) in (AFFINE, CONSTANT)
    except Stuck:
        return False


@dataclass(frozen=True)
class Problem:
    """One element as the loss of a class and of a row of predictions, one for each class.

    label     the read of the label, at the element's own place
    classes   their axis
    along     the position of that axis in the prediction
    row       where else the row is: the element's own place
    """

    question: Question
    element: Definition
    label: Read
    classes: Dim
    prediction: Input
    along: int
    row: tuple[Scalar, ...]

    @property
    def moving(self) -> set[str]:
        """The tensors that the label or the prediction is in."""
        names = (self.label.tensor, self.prediction.name)
        return Rules(Bounds(self.question.program, self.question.assume), names).moving

    def at(self, place: Scalar) -> Read:
        """The prediction of a class."""
        indices = (*self.row[: self.along], place, *self.row[self.along :])
        return Read(self.prediction.name, indices, REAL)

    def counts(self, condition: Scalar) -> bool:
        """Whether a condition holds wherever there is a label: that it is not the one that is ignored, or nothing."""
        declared = self.question.program.input(self.label.tensor)
        if declared is None or declared.also is None or not isinstance(condition, Compare) or condition.op != "!=":
            return False
        ignored = next((p for p in (condition.a, condition.b) if isinstance(p, Param)), None)
        return ignored is not None and ignored.name == declared.also and self.label in (condition.a, condition.b)


def problem_of(q: Question) -> Problem:
    """Raises Stuck where an element is not, or not seen to be, the loss of one class and of one row of predictions."""
    used = used_inputs(q)
    labels = [i for i in used if i.kind in ("class", "sign", "binary")]
    classes = labels[0].classes if len(labels) == 1 else None
    if classes is None:
        raise Stuck("no label of classes, or several")
    (label,) = labels
    real = [i for i in used if i.dtype is REAL and i.default is None and i.role == "input"]
    scores = [i for i in real if classes in i.dims and set(label.dims) <= set(i.dims)]
    if len(scores) != 1:
        raise Stuck("which input is the prediction")
    (prediction,), element = scores, q.program.definition(q.of)
    if element is None or element.head != "map" or not any(i is element for i in q.program.body):
        raise Stuck("an element that folds an axis")
    _check_conditions(q, (label.name, prediction.name))
    bounds = Bounds(q.program, q.assume)
    read = places(bounds, element, label.name)
    axes = [k for k, dim in enumerate(prediction.dims) if dim == classes]
    if len(read) != 1 or len(axes) != 1 or (prediction.kind == "simplex" and list(prediction.over) != axes):
        raise Stuck("an element of several labels, or of another axis than that of its classes")
    ((own,), (along,)) = read, axes
    rows = {tuple(i for k, i in enumerate(p) if k != along) for p in places(bounds, element, prediction.name)}
    if (
        len(rows) != 1
        or not _own(own, element.formals)
        or not _own(next(iter(rows)), own)
        or len(own) + 1 != len(prediction.dims)
    ):
        raise Stuck("an element of another row than that of its label")
    found = Problem(q, element, Read(label.name, own, label.dtype), classes, prediction, along, next(iter(rows)))
    if not set(tensors_of((element.support,))).isdisjoint(found.moving) and not found.counts(element.support):
        raise Stuck("which elements are left out")
    return found


def _own(indices: tuple[Scalar, ...], formals: Collection[Scalar]) -> bool:
    """Whether indices are different ones of an element's."""
    return len(set(indices)) == len(indices) and all(isinstance(i, Index) and i in formals for i in indices)


def places(bounds: Bounds, d: Definition, name: str) -> set[tuple[Scalar, ...]]:
    """Where an element reads an input, whatever it is made of; indices of folds are named apart from the element's own. Raises
    Stuck for recurrences."""
    above = Rules(bounds, (name,)).moving
    found, seen = set[tuple[Scalar, ...]](), set[Scalar]()
    stack = list(d.scalars())
    while stack:
        for n in postorder(stack.pop()):
            if not isinstance(n, Read) or n in seen or n.tensor not in above:
                continue
            seen.add(n)
            if n.tensor == name:
                found.add(n.indices)
                continue
            made = bounds.definitions[n.tensor]
            if n.tensor in bounds.recurrent:
                raise Stuck(f"{n.tensor}: a recurrence")
            at: dict[Scalar, Scalar] = {**dict(zip(made.formals, n.indices, strict=True))}
            at |= {i: Index(f"${i.name}", i.dim) for i in made.bound}
            stack += [substitute(s, at) for s in made.scalars()]
    return found


__all__ = ["TWO_VALUED", "Problem", "label_of_two", "places", "problem_of", "used_inputs"]
