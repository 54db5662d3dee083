"""Who is who in a claim of decision theory: the label, the prediction, and the loss of each label.

A loss is a decision problem where one element of the target reads one label and one prediction. The label is the only
input of kind `sign`, `binary` or `class`; where there is none, a real input in [0, 1] in which the loss is affine, so
that it is taken at its ends 0 and 1. The prediction is the real input that the link names; without a link the only
other one without a default (an optional input is a weight) that each label has its own of, for classes a score of each.
The ignored value of a label is taken to be none of the classes. Everything else has any value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from lossdsl.dim import Dim
from lossdsl.ir.nodes import REAL, TRUE, Compare, Const, Group, Index, Input, Param, Program, Read, Scalar, postorder
from lossdsl.ir.rewrite import substitute
from lossdsl.verify import properties
from lossdsl.verify.context import Context
from lossdsl.verify.enclosure import INF, Enclosure
from lossdsl.verify.operations import NO, YES, truth
from lossdsl.verify.pieces import NotScalar, dependents, fold, inline, reads_any
from lossdsl.verify.points import Evaluator, Point, Undecided
from lossdsl.verify.ranges import Scope
from lossdsl.verify.verdict import Proved

TWO_VALUED = {"sign": (-1, 1), "binary": (0, 1)}


class NoProblem(Exception):
    """The target is not a loss of one label and one prediction; the message says why."""


@dataclass(frozen=True)
class Problem:
    """One element of the target as a loss of a label and a prediction.

    label    the read of the label, at the element's own indices
    values   the two values of the label, the negative one first; None for classes
    classes  the axis of the classes, if the label is one
    """

    ctx: Context
    target: str
    label: Read
    values: tuple[Fraction, Fraction] | None
    classes: Dim | None
    prediction: Input

    @property
    def element(self) -> Scalar:
        """The element, in inputs, parameters and reductions; one that is counted, if some are left out. Raises
        NoProblem."""
        definition = self.ctx.program.definition(self.target)
        if definition is None or definition.head != "map":
            raise NoProblem(f"{self.target} is a reduction")
        try:
            body = inline(self.ctx.program, definition.body)
            return fold(substitute(body, {inline(self.ctx.program, definition.support): TRUE}))
        except NotScalar as reason:
            raise NoProblem(str(reason)) from None

    def at(self, value: Fraction) -> Scalar:
        """The element where the label has the value. Raises NoProblem."""
        return fold(substitute(self.element, {self.label: Const(value, self.label.dtype)}))

    @property
    def whole_line(self) -> bool:
        """Whether the prediction is any real number."""
        box = self.domain
        return self.prediction.kind == "real" and box.lo == -INF and box.hi == INF

    @property
    def probability(self) -> bool:
        """Whether the prediction is a number in [0, 1]."""
        box = self.domain
        return self.prediction.kind in ("real", "prob") and (box.lo, box.hi) == (0.0, 1.0)

    @property
    def domain(self) -> Enclosure:
        return self.ctx.ranges().input(self.prediction.name)


def problem(ctx: Context, target: str, link: Scalar | None) -> Problem:
    """The decision problem that the target is. Raises NoProblem."""
    program = ctx.program
    definition = program.definition(target)
    if definition is None:
        raise NoProblem(f"`{target}` is an input")
    used = [i for i in program.inputs if target in dependents(program, i.name)]
    discrete = [i for i in used if i.kind in TWO_VALUED or i.kind == "class"]
    real = [i for i in used if i.dtype is REAL and i.default is None and i.role == "input"]
    named = {*link.tensors} if link is not None else {i.name for i in real}
    if len(discrete) > 1:
        raise NoProblem(f"{discrete[0].name} and {discrete[1].name} may both be the label")
    label = discrete[0] if discrete else _unit_label(ctx, real, named if link is not None else set())
    candidates = [i for i in real if i is not label and i.name in named]
    if link is None and label.kind == "class":
        scores = [i for i in candidates if label.classes in i.dims and set(label.dims) <= set(i.dims)]
        if candidates and not scores:
            raise NoProblem(f"no input has a score for each class of {label.name}")
        candidates = scores
    elif link is None:
        candidates = [i for i in candidates if set(label.dims) <= set(i.dims)] or candidates
    if len(candidates) != 1:
        names = ", ".join(i.name for i in candidates)
        raise NoProblem(f"which of {names} is the prediction" if names else "no prediction beside the label")
    prediction = candidates[0]
    for name in (label.name, prediction.name):
        if _conditioned(ctx, name):
            raise NoProblem(f"a condition on {name}")
    if ctx.symbolic(prediction.name):
        raise NoProblem(f"the domain of {prediction.name} depends on other names")
    found = set(reads(program, Read(target, definition.formals, definition.dtype), label.name))
    if len(found) != 1:
        raise NoProblem(f"one element reads {label.name} at {len(found)} places")
    read = next(iter(found))
    if any(not isinstance(i, Index) or i not in definition.formals for i in read.indices):
        raise NoProblem(f"one element reads {label.name} at a place of its own")
    _counted(ctx, target, read, prediction.name)
    if not discrete:
        _mixture(ctx, target, label.name, prediction.name if link is None else None)
    if label.kind == "class":
        return Problem(ctx, target, read, None, label.classes, prediction)
    low, high = TWO_VALUED.get(label.kind, (0, 1))
    return Problem(ctx, target, read, (Fraction(low), Fraction(high)), None, prediction)


def _unit_label(ctx: Context, real: list[Input], named: set[str]) -> Input:
    """A real input in [0, 1] that is no prediction."""
    ranges = ctx.ranges()
    unit = [
        i for i in real if i.kind in ("real", "prob") and (ranges.input(i.name).lo, ranges.input(i.name).hi) == (0, 1)
    ]
    unit = [i for i in unit if i.name not in named]
    if len(unit) != 1 or len(real) < 2:
        names = " and ".join(i.name for i in unit)
        raise NoProblem(f"which of {names} is the label" if len(unit) > 1 else "no input is a label")
    return unit[0]


def _mixture(ctx: Context, target: str, label: str, prediction: str | None) -> None:
    """A label in [0, 1] is a mixture of its ends if the loss is affine in it; the prediction is told from it by not being
    so, unless a link names it."""
    if not isinstance(properties.affine(ctx, target, (label,)), Proved):
        raise NoProblem(f"{target} is not proved to be affine in {label}, so that its ends do not decide")
    if ctx.jumps_at_ends(frozenset({label})):
        raise NoProblem(f"{target} may jump where {label} is 0 or 1, so that its ends do not decide")
    if prediction is not None and isinstance(properties.affine(ctx, target, (prediction,)), Proved):
        raise NoProblem(f"which of {prediction} and {label} is the label")


def _counted(ctx: Context, target: str, label: Read, prediction: str) -> None:
    """Whether an element is left out does not depend on the label (as long as it is one) and on the prediction."""
    definition = ctx.program.definition(target)
    if definition is None or definition.support is TRUE:
        return
    moving = dependents(ctx.program, label.tensor) | dependents(ctx.program, prediction)
    if not reads_any(moving, definition.support):
        return
    declared = ctx.program.input(label.tensor)
    box = Enclosure(0.0, INF, False, True) if declared is not None and declared.kind == "class" else None
    known: dict[Scalar, Enclosure] = {label: box} if box is not None else {}
    for n in postorder(definition.support):
        if isinstance(n, Compare) and declared is not None and declared.also is not None:
            ignored = {type(a): a for a in (n.a, n.b)}.get(Param)
            if label in (n.a, n.b) and isinstance(ignored, Param) and ignored.name == declared.also:
                known[n] = YES if n.op == "!=" else NO
    if truth(Scope(ctx.ranges(), frozenset(definition.dims), known)[definition.support]) is not True:
        raise NoProblem(f"which elements of {target} are left out depends on {label.tensor} or {prediction}")


def _conditioned(ctx: Context, name: str) -> bool:
    """Whether a condition of the claim bears on the input."""
    above = dependents(ctx.program, name)
    bound = reads_any(above, *ctx.conditions)
    return bound or name in ctx.assume or name in ctx.fixed


def reads(program: Program, node: Scalar, name: str) -> Iterator[Read]:
    """The reads of an input below a scalar, definitions looked through; a read inside of a recurrence is yielded as it
    stands there."""
    above = dependents(program, name)
    plain = {d.tensor: d for item in program.body if not isinstance(item, Group) for d in (item,)}
    seen: set[Scalar] = set()
    todo = [node]
    while todo:
        for n in postorder(todo.pop()):
            if not isinstance(n, Read) or n in seen or n.tensor not in above:
                continue
            seen.add(n)
            if n.tensor == name:
                yield n
                continue
            d = plain.get(n.tensor)
            if d is None:
                raise NoProblem(f"{n.tensor}: a recurrence")
            mapping: dict[Scalar, Scalar] = dict(zip(d.formals, n.indices, strict=True))
            mapping |= {i: Index(f"${i.name}", i.dim) for i in d.bound}  # never one of the element's own
            todo.extend(substitute(s, mapping) for s in d.scalars())


# --------------------------------------------------------------------------------------------- certified values


@dataclass
class Sample:
    """A decision problem at one admissible point: certified losses of predictions and labels, at the first element."""

    problem: Problem
    point: Point

    def __post_init__(self) -> None:
        definition = self.problem.ctx.program.definition(self.problem.target)
        assert definition is not None
        self.formals = definition.formals
        self.place = (0,) * len(definition.formals)

    @property
    def count(self) -> int:
        """How many labels there are."""
        p = self.problem
        return 2 if p.classes is None else p.classes.evaluate(self.point.extents)

    @property
    def counted(self) -> bool:
        """Whether the element is certainly not left out, whatever its label is."""
        definition = self.problem.ctx.program.definition(self.problem.target)
        assert definition is not None
        env: dict[Index, int] = dict(zip(self.formals, self.place, strict=True))
        try:
            evaluators = (Evaluator(self.problem.ctx.program, self.labelled(k)) for k in range(self.count))
            return all(truth(v.scalar(definition.support, env)) is True for v in evaluators)
        except (Undecided, ValueError, OverflowError, ZeroDivisionError, KeyError):
            return False

    def labelled(self, label: int, prediction: dict[tuple[int, ...], Fraction] | None = None) -> Point:
        p = self.problem
        value = Fraction(label) if p.values is None else p.values[label]
        inputs = {p.label.tensor: dict.fromkeys(self.point.inputs[p.label.tensor], value)}
        if prediction is not None:
            inputs[p.prediction.name] = prediction
        return self.point.with_inputs(inputs)

    def loss(self, label: int, prediction: dict[tuple[int, ...], Fraction]) -> Enclosure | None:
        """The loss of the label (a class, or 0 and 1 for the negative and the positive one)."""
        try:
            evaluator = Evaluator(self.problem.ctx.program, self.labelled(label, prediction))
            value = evaluator.element(self.problem.target, self.place)
        except (Undecided, ValueError, OverflowError, ZeroDivisionError, KeyError):
            return None
        return value if value.bounded else None

    def losses(self, prediction: dict[tuple[int, ...], Fraction]) -> list[Enclosure] | None:
        found = [self.loss(k, prediction) for k in range(self.count)]
        return None if any(v is None for v in found) else [v for v in found if v is not None]

    def scalar(self, node: Scalar, prediction: dict[tuple[int, ...], Fraction], **indices: int) -> Enclosure | None:
        """A scalar of the claim (a link) at a prediction."""
        env: dict[Index, int] = dict(zip(self.formals, self.place, strict=True))
        env |= {i: indices.get(i.name, 0) for i in postorder(node) if isinstance(i, Index) and i not in env}
        try:
            value = Evaluator(self.problem.ctx.program, self.labelled(0, prediction)).scalar(node, env)
        except (Undecided, ValueError, OverflowError, ZeroDivisionError, KeyError):
            return None
        return value if value.bounded else None

    def everywhere(self, value: Fraction) -> dict[tuple[int, ...], Fraction]:
        """A prediction that is one number."""
        return dict.fromkeys(self.point.inputs[self.problem.prediction.name], value)

    def shown(self, prediction: dict[tuple[int, ...], Fraction]) -> dict[str, Fraction]:
        """The point with the prediction and without the label, which takes all values."""
        p = self.problem
        flat = self.point.with_inputs({p.prediction.name: prediction}).flat()
        return {k: v for k, v in flat.items() if k != p.label.tensor and not k.startswith(f"{p.label.tensor}[")}


__all__ = ["NoProblem", "Problem", "Sample", "problem"]
